//! Query strings, with errors that name the parameter.

use std::{collections::HashMap, str::FromStr};

use axum::{extract::FromRequestParts, http::request::Parts};
use reef_door::ErrorCode;
use serde_json::json;

use super::problem::Problem;

/// The parameters of a request; the last one of a name counts.
pub(super) struct Params(HashMap<String, String>);

impl Params {
    /// Returns a parameter, if it was given.
    pub(super) fn get<T: FromStr>(&self, name: &str, wanted: &str) -> Result<Option<T>, Problem> {
        self.0.get(name).map(|text| text.parse().map_err(|_| bad(name, wanted))).transpose()
    }

    /// Returns how many rows are wanted: 50 unless said, 1 to 200.
    pub(super) fn limit(&self) -> Result<u32, Problem> {
        let limit = self.get("limit", "a whole number from 1 to 200")?.unwrap_or(50);
        if (1..=200).contains(&limit) { Ok(limit) } else { Err(bad("limit", "a whole number from 1 to 200")) }
    }

    /// Returns a switch, off unless said.
    pub(super) fn switch(&self, name: &str) -> Result<bool, Problem> {
        Ok(self.get(name, "true or false")?.unwrap_or(false))
    }
}

fn bad(name: &str, wanted: &str) -> Problem {
    Problem::new(ErrorCode::InvalidRequest, format!("{name} must be {wanted}."))
        .with(json!({ "fields": [{ "field": name, "message": format!("must be {wanted}") }] }))
}

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        axum::extract::Query::try_from_uri(&parts.uri)
            .map(|axum::extract::Query(params)| Self(params))
            .map_err(|_| Problem::new(ErrorCode::InvalidRequest, "The query string cannot be read."))
    }
}
