//! What instances use of models: added up in memory, written in batches.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use reef_db::{Db, DbError, ModelUse};
use reef_model::{Clock, InstanceId, SystemClock, Timestamp};
use reef_model_gateway::{Usage, UsageSink};

/// Use that is not written yet, by instance and hour.
#[derive(Default)]
pub(crate) struct Meters(Mutex<BTreeMap<(InstanceId, Timestamp), Sum>>);

#[derive(Debug, Default, Clone, Copy)]
struct Sum {
    requests: i64,
    estimated_requests: i64,
    prompt_tokens: i64,
    completion_tokens: i64,
}

impl Sum {
    fn add(&mut self, other: Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.estimated_requests = self.estimated_requests.saturating_add(other.estimated_requests);
        self.prompt_tokens = self.prompt_tokens.saturating_add(other.prompt_tokens);
        self.completion_tokens = self.completion_tokens.saturating_add(other.completion_tokens);
    }
}

impl UsageSink for Meters {
    fn record(&self, instance: InstanceId, usage: Usage) {
        let count = |tokens: u64| i64::try_from(tokens).unwrap_or(i64::MAX);
        let used = Sum {
            requests: 1,
            estimated_requests: usage.is_estimated.into(),
            prompt_tokens: count(usage.input_tokens),
            completion_tokens: count(usage.output_tokens),
        };
        metrics::counter!("reef_model_requests_total").increment(1);
        metrics::counter!("reef_model_tokens_total", "direction" => "input").increment(usage.input_tokens);
        metrics::counter!("reef_model_tokens_total", "direction" => "output").increment(usage.output_tokens);
        self.lock().entry((instance, SystemClock.now().hour())).or_default().add(used);
    }
}

impl Meters {
    /// Writes what was added up since the last time; what cannot be written is kept for the next.
    pub(crate) async fn flush(&self, db: &Db) -> Result<(), DbError> {
        let sums = std::mem::take(&mut *self.lock());
        if sums.is_empty() {
            return Ok(());
        }
        let written = write(db, &sums).await;
        if written.is_err() {
            let mut kept = self.lock();
            for (place, sum) in sums {
                kept.entry(place).or_default().add(sum);
            }
        }
        written
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(InstanceId, Timestamp), Sum>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn write(db: &Db, sums: &BTreeMap<(InstanceId, Timestamp), Sum>) -> Result<(), DbError> {
    let mut uses = Vec::with_capacity(sums.len());
    for ((instance, hour), sum) in sums {
        // An instance that is purged has nobody to whom its use belongs.
        let Some(row) = db.lookup_instance_any(*instance).await? else { continue };
        uses.push(ModelUse {
            user_id: row.user_id,
            instance_id: *instance,
            hour: *hour,
            requests: sum.requests,
            estimated_requests: sum.estimated_requests,
            prompt_tokens: sum.prompt_tokens,
            completion_tokens: sum.completion_tokens,
        });
    }
    let mut tx = db.write().await?;
    for used in &uses {
        tx.add_model_usage(used).await?;
    }
    tx.commit().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_up_by_instance() {
        let meters = Meters::default();
        let (a, b) = (InstanceId::generate(), InstanceId::generate());
        let usage = Usage { model: "m".to_owned(), input_tokens: 10, output_tokens: 2, is_estimated: true };
        for id in [a, a, b] {
            meters.record(id, usage.clone());
        }
        let sums = meters.lock();
        let of = |id: InstanceId| {
            let mut total = Sum::default();
            sums.iter().filter(|((instance, _), _)| *instance == id).for_each(|(_, sum)| total.add(*sum));
            (total.requests, total.estimated_requests, total.prompt_tokens, total.completion_tokens)
        };
        assert_eq!((of(a), of(b)), ((2, 2, 20, 4), (1, 1, 10, 2)));
    }
}
