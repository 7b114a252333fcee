//! What a request used, told exactly once: by the provider's own count, or estimated where it gives none.

use std::sync::Arc;

use reef_model::InstanceId;

/// Bytes of text per token, about right for English and for JSON.
const BYTES_PER_TOKEN: u64 = 4;

/// What one request used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// The model, as the provider names it.
    pub model: String,
    /// Tokens of the request.
    pub input_tokens: u64,
    /// Tokens of the answer.
    pub output_tokens: u64,
    /// Whether the counts are estimates, the provider having given none.
    pub is_estimated: bool,
}

/// Takes what instances use.
///
/// Called before the last chunk of an answer is released, on the answer's own path: it must not block.
pub trait UsageSink: Send + Sync + 'static {
    /// Adds what one request of the instance used.
    fn record(&self, instance: InstanceId, usage: Usage);
}

/// The provider's count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
pub(crate) struct Counted {
    #[serde(default)]
    pub(crate) prompt_tokens: u64,
    #[serde(default)]
    pub(crate) completion_tokens: u64,
}

/// Meters one request. Dropped before it was settled, by a client that left for instance, it settles by estimate.
pub(crate) struct Meter {
    sink: Arc<dyn UsageSink>,
    instance: InstanceId,
    model: String,
    request_bytes: u64,
    answer_bytes: u64,
    counted: Option<Counted>,
    is_open: bool,
}

impl Meter {
    pub(crate) fn new(
        sink: Arc<dyn UsageSink>,
        instance: InstanceId,
        model: &str,
        request_bytes: usize,
    ) -> Self {
        Self {
            sink,
            instance,
            model: model.to_owned(),
            request_bytes: request_bytes as u64,
            answer_bytes: 0,
            counted: None,
            is_open: true,
        }
    }

    /// Notes text of the answer, for the estimate.
    pub(crate) fn answered(&mut self, text_bytes: usize) {
        self.answer_bytes += text_bytes as u64;
    }

    /// Notes the provider's count; a later one replaces it.
    pub(crate) fn counted(&mut self, counted: Counted) {
        self.counted = Some(counted);
    }

    /// Returns the count that will be recorded.
    pub(crate) fn count(&self) -> Counted {
        self.counted.unwrap_or(Counted {
            prompt_tokens: self.request_bytes.div_ceil(BYTES_PER_TOKEN),
            completion_tokens: self.answer_bytes.div_ceil(BYTES_PER_TOKEN),
        })
    }

    /// Records what was used; further calls do nothing.
    pub(crate) fn settle(&mut self) {
        if std::mem::take(&mut self.is_open) {
            let Counted { prompt_tokens, completion_tokens } = self.count();
            let usage = Usage {
                model: self.model.clone(),
                input_tokens: prompt_tokens,
                output_tokens: completion_tokens,
                is_estimated: self.counted.is_none(),
            };
            self.sink.record(self.instance, usage);
        }
    }

    /// Records nothing: the request was refused.
    pub(crate) fn void(mut self) {
        self.is_open = false;
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.settle();
    }
}
