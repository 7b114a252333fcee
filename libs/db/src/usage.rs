//! Metered use of models, added up per instance and hour.

use reef_model::{InstanceId, Timestamp, UserId};

use crate::{Sql, statement::statements};

/// Use to be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelUse {
    /// The tenant.
    pub user_id: UserId,
    /// The instance.
    pub instance_id: InstanceId,
    /// The beginning of the hour.
    pub hour: Timestamp,
    /// Model requests.
    pub requests: i64,
    /// Those whose tokens were estimated.
    pub estimated_requests: i64,
    /// Tokens sent.
    pub prompt_tokens: i64,
    /// Tokens received.
    pub completion_tokens: i64,
}

/// Use of one instance on one day (UTC), added up.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct UsageRow {
    /// The day, `2026-04-04`.
    pub day: String,
    /// The instance.
    pub instance_id: InstanceId,
    /// Model requests.
    pub requests: i64,
    /// Those whose tokens were estimated.
    pub estimated_requests: i64,
    /// Tokens sent.
    pub prompt_tokens: i64,
    /// Tokens received.
    pub completion_tokens: i64,
}

macro_rules! by_day {
    ($day:literal) => {
        concat!(
            "SELECT ",
            $day,
            " AS day, instance_id, CAST(SUM(requests) AS BIGINT) AS requests, \
             CAST(SUM(estimated_requests) AS BIGINT) AS estimated_requests, \
             CAST(SUM(prompt_tokens) AS BIGINT) AS prompt_tokens, \
             CAST(SUM(completion_tokens) AS BIGINT) AS completion_tokens \
             FROM model_usage WHERE user_id = $1 AND hour >= $2 AND hour < $3 \
             GROUP BY 1, instance_id ORDER BY 1, instance_id"
        )
    };
}

statements! {
    /// Returns the tenant's use in the hours that began from `from` on and before `to`, per day and instance, in order.
    pub Db.list_model_usage(tenant: UserId, from: Timestamp, to: Timestamp) -> Vec<UsageRow>
        = Sql::differing(by_day!("substr(hour, 1, 10)"), by_day!("to_char(hour AT TIME ZONE 'UTC', 'YYYY-MM-DD')")),
        [tenant, from, to];

    /// Adds use to its hour.
    pub Tx.add_model_usage(used: &ModelUse) -> Count
        = Sql::same(
            "INSERT INTO model_usage (instance_id, hour, user_id, requests, estimated_requests, prompt_tokens, \
             completion_tokens) VALUES ($1, $2, $3, $4, $5, $6, $7) \
             ON CONFLICT (instance_id, hour) DO UPDATE SET requests = model_usage.requests + excluded.requests, \
             estimated_requests = model_usage.estimated_requests + excluded.estimated_requests, \
             prompt_tokens = model_usage.prompt_tokens + excluded.prompt_tokens, \
             completion_tokens = model_usage.completion_tokens + excluded.completion_tokens"
        ),
        [used.instance_id, used.hour, used.user_id, used.requests, used.estimated_requests, used.prompt_tokens,
         used.completion_tokens];

    /// Forgets the use of an account.
    pub Tx.delete_model_usage(tenant: UserId) -> Count
        = Sql::same("DELETE FROM model_usage WHERE user_id = $1"),
        [tenant];
}
