//! The operator's provider: requests pass with its key and model name, answers pass as they come, metered on the way.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::StreamExt;
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    DEFAULT_MODEL,
    error::ModelError,
    meter::{Counted, Meter},
    prompt::StreamOptions,
    sse::{self, Splitter},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Silence, not length: a model that thinks for minutes before its first word is not broken.
const READ_TIMEOUT: Duration = Duration::from_secs(600);
/// What of a provider's answer passes with it.
const PASSED: [header::HeaderName; 3] = [header::CONTENT_TYPE, header::RETRY_AFTER, header::CACHE_CONTROL];
const MAX_ANSWER_BYTES: usize = 64 << 20;
/// What of a chat request passes: what shapes the answer. Other fields may name other models (`models`, `provider`),
/// a dearer service (`service_tier`, `web_search_options`, `n`) or leave things in the operator's account (`store`,
/// `metadata`), and are left out.
const CHAT_FIELDS: [&str; 31] = [
    "messages",
    "model",
    "stream",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "max_tokens",
    "max_completion_tokens",
    "stop",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "logit_bias",
    "logprobs",
    "top_logprobs",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "functions",
    "function_call",
    "response_format",
    "reasoning_effort",
    "reasoning",
    "thinking",
    "enable_thinking",
    "chat_template_kwargs",
    "verbosity",
    "prompt_cache_key",
    "user",
];
const EMBEDDING_FIELDS: [&str; 5] = ["input", "model", "encoding_format", "dimensions", "user"];

/// An OpenAI-compatible provider.
#[derive(Debug, Clone)]
pub struct ProviderConfig {
    /// Up to and including `/v1`, without a trailing slash.
    pub base_url: String,
    /// Its key, where it wants one.
    pub api_key: Option<SecretString>,
    /// What [`DEFAULT_MODEL`] means there.
    pub model: String,
    /// The model of embeddings; none: there are no embeddings.
    pub embedding_model: Option<String>,
}

pub(crate) struct Provider {
    config: ProviderConfig,
    client: reqwest::Client,
}

/// A JSON object whose values pass byte for byte.
type Fields = BTreeMap<String, Box<RawValue>>;

impl Provider {
    pub(crate) fn new(config: ProviderConfig) -> Result<Self, reqwest::Error> {
        let mut client = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none());
        // The operator's proxy variables say how this machine reaches the world; a provider on the machine itself
        // (ollama, vLLM) is not reached through them.
        if is_loopback(&config.base_url) {
            client = client.no_proxy();
        }
        Ok(Self { config, client: client.build()? })
    }

    /// Returns the model's name at the provider.
    pub(crate) fn model(&self) -> &str {
        &self.config.model
    }

    /// Returns the name of the model of embeddings.
    pub(crate) fn embedding_model(&self) -> &str {
        self.config.embedding_model.as_deref().unwrap_or("none")
    }

    /// Passes a chat completion request on.
    pub(crate) async fn chat(&self, body: &[u8], meter: Meter) -> Result<Response, ModelError> {
        let (mut fields, meter) = fields(body, &self.config.model, meter)?;
        let is_stream = get::<bool>(&fields, "stream").unwrap_or_default();
        let asked: StreamOptions = get(&fields, "stream_options").unwrap_or_default();
        fields.retain(|name, _| CHAT_FIELDS.contains(&name.as_str()));
        if is_stream {
            let options = BTreeMap::from([("include_usage", true)]);
            fields.insert("stream_options".to_owned(), raw(&options));
        }
        let (answer, mut meter) = self.send("chat/completions", &fields, meter).await?;
        if !is_event_stream(answer.headers()) {
            return self.whole(answer, meter).await;
        }
        let (status, headers) = (answer.status(), passed(answer.headers()));
        let hides_usage = !asked.include_usage;
        let mut bytes = answer.bytes_stream();
        let events = async_stream::stream! {
            let mut splitter = Splitter::default();
            while let Some(part) = bytes.next().await {
                let part = match part {
                    Ok(part) => part,
                    Err(error) => {
                        tracing::warn!(error = &error.without_url() as &dyn std::error::Error, "provider broke off");
                        yield Err("the provider broke off");
                        return;
                    }
                };
                if splitter.push(&part).is_err() {
                    yield Err("the provider sent an endless event");
                    return;
                }
                while let Some(event) = splitter.next_event() {
                    if !(look(&event, &mut meter) && hides_usage) {
                        yield Ok(event);
                    }
                }
            }
            meter.settle();
            let rest = splitter.rest();
            if !rest.is_empty() {
                yield Ok(rest);
            }
        };
        Ok((status, headers, Body::from_stream(events)).into_response())
    }

    /// Passes an embeddings request on.
    pub(crate) async fn embeddings(&self, body: &[u8], meter: Meter) -> Result<Response, ModelError> {
        let Some(model) = &self.config.embedding_model else {
            return Err(refused(meter, ModelError::Refused("the operator offers no embedding model")));
        };
        let (mut fields, meter) = fields(body, model, meter)?;
        fields.retain(|name, _| EMBEDDING_FIELDS.contains(&name.as_str()));
        let (answer, meter) = self.send("embeddings", &fields, meter).await?;
        self.whole(answer, meter).await
    }

    /// Sends the request; an answer that is an error has cost nothing.
    async fn send(
        &self,
        path: &str,
        fields: &Fields,
        meter: Meter,
    ) -> Result<(reqwest::Response, Meter), ModelError> {
        let mut request = self.client.post(format!("{}/{path}", self.config.base_url)).json(fields);
        if let Some(key) = &self.config.api_key {
            request = request.bearer_auth(key.expose_secret());
        }
        match request.send().await {
            Ok(answer) if matches!(answer.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                tracing::error!(status = %answer.status(), "the model provider refuses the configured key");
                Err(refused(meter, ModelError::ProviderKey(answer.status())))
            }
            Ok(answer) => Ok((answer, meter)),
            Err(error) => {
                tracing::warn!(
                    error = &error.without_url() as &dyn std::error::Error,
                    "provider not reached"
                );
                Err(refused(meter, ModelError::ProviderDown))
            }
        }
    }

    /// Passes an answer that comes in one piece.
    async fn whole(&self, answer: reqwest::Response, mut meter: Meter) -> Result<Response, ModelError> {
        #[derive(Deserialize)]
        struct Whole {
            usage: Option<Counted>,
        }
        let (status, headers) = (answer.status(), passed(answer.headers()));
        let mut body = Vec::new();
        let mut parts = answer.bytes_stream();
        while let Some(part) = parts.next().await {
            let part = part.ok().filter(|part| body.len() + part.len() <= MAX_ANSWER_BYTES);
            let Some(part) = part else { return Err(ModelError::ProviderDown) };
            meter.answered(part.len());
            body.extend_from_slice(&part);
        }
        if !status.is_success() {
            meter.void();
        } else {
            if let Ok(Whole { usage: Some(counted) }) = serde_json::from_slice(&body) {
                meter.counted(counted);
            }
            meter.settle();
        }
        Ok((status, headers, Bytes::from(body)).into_response())
    }
}

/// Reads the request and puts the name of the one model that it may use into it.
fn fields(body: &[u8], allowed: &str, meter: Meter) -> Result<(Fields, Meter), ModelError> {
    let mut fields = match serde_json::from_slice::<Fields>(body) {
        Ok(fields) => fields,
        Err(error) => return Err(refused(meter, ModelError::Invalid(error.to_string()))),
    };
    let model = get::<String>(&fields, "model").unwrap_or_else(|| DEFAULT_MODEL.to_owned());
    if !is_default(&model) && model != allowed {
        return Err(refused(meter, ModelError::UnknownModel));
    }
    fields.insert("model".to_owned(), raw(&allowed));
    Ok((fields, meter))
}

/// Meters one event of a stream. Returns whether it holds nothing but the usage.
fn look(event: &[u8], meter: &mut Meter) -> bool {
    #[derive(Deserialize)]
    struct Chunk<'a> {
        #[serde(borrow, default)]
        choices: Vec<Choice<'a>>,
        usage: Option<Counted>,
    }
    #[derive(Deserialize)]
    struct Choice<'a> {
        #[serde(borrow)]
        delta: Option<&'a RawValue>,
    }
    let Some(data) = sse::data(event) else { return false };
    if data == b"[DONE]" {
        meter.settle();
        return false;
    }
    let Ok(chunk) = serde_json::from_slice::<Chunk<'_>>(data) else { return false };
    for choice in &chunk.choices {
        let text = choice.delta.map_or("", RawValue::get);
        // The field names around the text are not the model's.
        meter.answered(text.len().saturating_sub(r#"{"content":""}"#.len()));
    }
    if let Some(counted) = chunk.usage {
        meter.counted(counted);
    }
    chunk.usage.is_some() && chunk.choices.is_empty()
}

fn refused(meter: Meter, error: ModelError) -> ModelError {
    meter.void();
    error
}

fn passed(headers: &HeaderMap) -> HeaderMap {
    PASSED.iter().filter_map(|name| Some((name.clone(), headers.get(name)?.clone()))).collect()
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().to_ascii_lowercase().starts_with(b"text/event-stream"))
}

fn is_default(model: &str) -> bool {
    model.strip_prefix("reef/").unwrap_or(model) == DEFAULT_MODEL
}

fn is_loopback(base_url: &str) -> bool {
    Url::parse(base_url).ok().is_some_and(|url| match url.host_str() {
        Some("localhost") => true,
        Some(host) => {
            host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        None => false,
    })
}

fn get<T: serde::de::DeserializeOwned>(fields: &Fields, name: &str) -> Option<T> {
    serde_json::from_str(fields.get(name)?.get()).ok()
}

fn raw(value: &impl serde::Serialize) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).expect("strings, booleans and maps of JSON are JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_reached_without_the_proxy() {
        for (url, expected) in [
            ("http://127.0.0.1:8000/v1", true),
            ("http://[::1]:8000/v1", true),
            ("http://localhost:11434/v1", true),
            ("https://api.openai.com/v1", false),
            ("http://10.0.0.5/v1", false),
            ("nonsense", false),
        ] {
            assert_eq!(is_loopback(url), expected, "{url}");
        }
    }
}
