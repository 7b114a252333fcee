//! `GET /api/usage` and `GET /api/plans`: what was used, and what there is to have.

use std::{collections::BTreeMap, fmt::Write, time::Duration};

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode, header};
use reef_db::UsageRow;
use reef_model::{InstanceId, Limits, Plan, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    ApiError, ApiResult, ApiState,
    caller::{Account, Anyone, Caller},
    extract::{Json, Query},
};

const DAY: Duration = Duration::from_secs(24 * 3600);
const DEFAULT_DAYS: u32 = 30;
const MAX_DAYS: u32 = 366;

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(usage)).routes(routes!(plans))
}

/// What use is added up by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum GroupBy {
    /// By instance, those that are gone included.
    #[default]
    Instance,
    /// By day (UTC).
    Day,
}

/// Which use.
#[derive(Debug, Clone, Copy, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct UsageQuery {
    /// From the hour of this instant on; left out: 30 days before `to`.
    #[serde(default)]
    from: Option<Timestamp>,
    /// Hours that began before this instant, at most 366 days after `from`; left out: now.
    #[serde(default)]
    to: Option<Timestamp>,
    /// What to add up by.
    #[serde(default)]
    #[param(inline)]
    group_by: GroupBy,
}

/// Metered use of models.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Usage {
    /// From here.
    from: Timestamp,
    /// Up to here.
    to: Timestamp,
    /// What it is added up by.
    group_by: GroupBy,
    /// In order; what used nothing is left out.
    rows: Vec<UsageItem>,
    /// All rows added up.
    total: UsageSum,
}

/// Use of one instance, or of one day.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UsageItem {
    /// Which instance, where it is added up by instance.
    instance_id: Option<InstanceId>,
    /// Which day (UTC), where it is added up by day.
    #[schema(format = Date)]
    day: Option<String>,
    /// How much.
    #[serde(flatten)]
    sum: UsageSum,
}

/// Use, added up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct UsageSum {
    /// Requests to models.
    requests: i64,
    /// Those of them whose tokens were estimated: the model did not say.
    estimated_requests: i64,
    /// Tokens sent to models.
    prompt_tokens: i64,
    /// Tokens that came from models.
    completion_tokens: i64,
}

impl UsageSum {
    fn add(&mut self, row: &UsageRow) {
        self.requests += row.requests;
        self.estimated_requests += row.estimated_requests;
        self.prompt_tokens += row.prompt_tokens;
        self.completion_tokens += row.completion_tokens;
    }
}

impl Usage {
    fn of(rows: &[UsageRow], from: Timestamp, to: Timestamp, group_by: GroupBy) -> Self {
        let mut sums: BTreeMap<(Option<InstanceId>, Option<String>), UsageSum> = BTreeMap::new();
        let mut total = UsageSum::default();
        for row in rows {
            let group = match group_by {
                GroupBy::Instance => (Some(row.instance_id), None),
                GroupBy::Day => (None, Some(row.day.clone())),
            };
            sums.entry(group).or_default().add(row);
            total.add(row);
        }
        let rows = sums.into_iter().map(|((instance_id, day), sum)| UsageItem { instance_id, day, sum });
        Self { from, to, group_by, rows: rows.collect(), total }
    }

    /// Writes the rows as a table (RFC 4180); nothing in it needs quotes.
    fn csv(&self) -> String {
        let first = match self.group_by {
            GroupBy::Instance => "instance_id",
            GroupBy::Day => "day",
        };
        let mut text = format!("{first},requests,estimated_requests,prompt_tokens,completion_tokens\r\n");
        for UsageItem { instance_id, day, sum } in &self.rows {
            let group = instance_id.map(|id| id.to_string()).or_else(|| day.clone()).unwrap_or_default();
            let UsageSum { requests, estimated_requests, prompt_tokens, completion_tokens } = sum;
            let _ = write!(
                text,
                "{group},{requests},{estimated_requests},{prompt_tokens},{completion_tokens}\r\n"
            );
        }
        text
    }
}

/// Tells what the account's instances used of models, by instance or day; as a table with `Accept: text/csv`.
#[utoipa::path(
    get, path = "/api/usage", operation_id = "getUsage", tag = "Account",
    params(UsageQuery),
    responses((status = 200, description = "The use.", content((Usage = "application/json"), (String = "text/csv")))),
    extensions(("x-reef-scope" = json!("account")), ("x-reef-wakes" = json!(false))),
)]
async fn usage(
    caller: Caller<Account>,
    State(state): State<ApiState>,
    Query(query): Query<UsageQuery>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let to = query.to.unwrap_or_else(|| state.control().now());
    let from = query.from.unwrap_or(to - DAY * DEFAULT_DAYS).hour();
    if from > to || from + DAY * MAX_DAYS < to {
        let what = "give an instant that is at most 366 days after `from`, and not before it".to_owned();
        return Err(ApiError::invalid([("to", what)]).with_status(StatusCode::BAD_REQUEST));
    }
    let rows = state.control().db().list_model_usage(caller.tenant(), from, to).await?;
    let usage = Usage::of(&rows, from, to, query.group_by);
    if !wants_csv(&headers) {
        return Ok(Json(usage).into_response());
    }
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8; header=present"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"usage.csv\""),
    ];
    Ok((headers, usage.csv()).into_response())
}

/// Tells whether the first of the two forms that is named is CSV.
fn wants_csv(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut named = accept.split(',').map(|part| part.split(';').next().unwrap_or_default().trim());
    named.find(|kind| ["text/csv", "application/json"].contains(kind)) == Some("text/csv")
}

/// A plan and what each of its instances may use.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PlanView {
    /// Its name.
    plan: Plan,
    /// The limits of each instance.
    limits: Limits,
}

/// Lists the plans, the smallest first.
#[utoipa::path(
    get, path = "/api/plans", operation_id = "listPlans", tag = "Account",
    responses((status = 200, description = "All of them.", body = Vec<PlanView>)),
    extensions(("x-reef-scope" = json!(null)), ("x-reef-wakes" = json!(false))),
)]
async fn plans(_caller: Caller<Anyone>) -> Json<Vec<PlanView>> {
    Json(Plan::ALL.iter().map(|plan| PlanView { plan: *plan, limits: plan.limits() }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_is_for_those_who_name_it_first() {
        let wants = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            wants_csv(&headers)
        };
        assert!(
            wants("text/csv") && wants("text/csv;q=1, application/json") && wants("text/html, text/csv, */*")
        );
        assert!(!wants("*/*") && !wants("application/json, text/csv") && !wants_csv(&HeaderMap::new()));
    }
}
