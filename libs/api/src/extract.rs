//! Bodies, queries and paths whose every failure is our error body, never axum's plain text.

use std::time::Duration;

use axum::{
    extract::{FromRequest, FromRequestParts, Request},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header, request::Parts};
use reef_door::ErrorCode;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use uuid::Uuid;

use crate::{
    ApiError, ApiResult, ApiState,
    caller::Caller,
    seats::{Kind, Seat},
};

/// How long a client may take to send a body of at most a few hundred KiB.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Waits for a body, but not for ever.
pub(crate) async fn in_time<T>(body: impl Future<Output = T>) -> ApiResult<T> {
    tokio::time::timeout(BODY_TIMEOUT, body)
        .await
        .map_err(|_| ApiError::new(ErrorCode::InvalidRequest, "The body took too long: send it again."))
}

/// A JSON body; an empty one reads as `{}`, so that bodies of optional fields may be left out.
pub(crate) struct Json<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> ApiResult<Self> {
        let is_json = is_json(request.headers());
        let bytes = in_time(Bytes::from_request(request, state)).await?.map_err(|rejection| {
            if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
                return ApiError::new(ErrorCode::PayloadTooLarge, "The body is too large for this route.");
            }
            ApiError::new(ErrorCode::InvalidRequest, "The body could not be read to its end: send it again.")
        })?;
        if bytes.is_empty() {
            return parse(b"{}").map(Self);
        }
        if !is_json {
            return Err(ApiError::new(
                ErrorCode::InvalidRequest,
                "The body must be JSON: send Content-Type: application/json.",
            )
            .with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE));
        }
        parse(&bytes).map(Self)
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> ApiResult<T> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        if inner.is_data() {
            let field = if path == "." { "body".to_owned() } else { path };
            // The position says nothing to a caller whose library wrote the text.
            let text = inner.to_string();
            let text = text.split(" at line ").next().unwrap_or_default();
            return ApiError::invalid([(field.as_str(), text.to_owned())]);
        }
        ApiError::new(ErrorCode::InvalidRequest, format!("The body is not JSON: {inner}."))
    })?;
    reader.end().map_err(|error| {
        ApiError::new(ErrorCode::InvalidRequest, format!("The body is not JSON: {error}."))
    })?;
    Ok(value)
}

/// Query parameters; those that the route does not know are ignored.
pub(crate) struct Query<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> ApiResult<Self> {
        let query = axum::extract::Query::from_request_parts(parts, state).await.map_err(|rejection| {
            let message = rejection.body_text();
            let message = message.rsplit("query string: ").next().unwrap_or_default().to_owned();
            let (field, message) = message.split_once(": ").unwrap_or(("query", message.as_str()));
            ApiError::invalid([(field, message.to_owned())]).with_status(StatusCode::BAD_REQUEST)
        })?;
        Ok(Self(query.0))
    }
}

/// An id in the path. One that cannot be an id reads as one that never existed.
pub(crate) struct Path<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> ApiResult<Self> {
        let path = axum::extract::Path::from_request_parts(parts, state).await;
        Ok(Self(path.map_err(|_| ApiError::from(reef_control::ControlError::NotFound))?.0))
    }
}

/// `?limit=` and `?cursor=` of a list.
#[derive(Debug, Clone, Default, serde::Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageQuery {
    /// Items per page, 1 to 200.
    #[serde(default)]
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// Where to go on: the `X-Next-Cursor` of the page before.
    #[serde(default)]
    cursor: Option<String>,
}

const DEFAULT_LIMIT: u32 = 50;
const MAX_LIMIT: u32 = 200;

impl PageQuery {
    /// Returns the page to ask the database for: one row more than is shown.
    pub(crate) fn page(&self) -> ApiResult<reef_db::Page> {
        let bad = |field: &str, message: &str| {
            ApiError::invalid([(field, message.to_owned())]).with_status(StatusCode::BAD_REQUEST)
        };
        let limit = self.limit.unwrap_or(DEFAULT_LIMIT);
        if !(1..=MAX_LIMIT).contains(&limit) {
            return Err(bad("limit", "give 1 to 200"));
        }
        let limit = i64::from(limit) + 1;
        match &self.cursor {
            None => Ok(reef_db::Page::first(limit)),
            Some(cursor) => {
                let last = Uuid::try_parse(cursor)
                    .map_err(|_| bad("cursor", "give the X-Next-Cursor of the page before"))?;
                Ok(reef_db::Page::after(last, limit))
            }
        }
    }

    /// Returns the answer: a bare array of what the caller may see, with `Link` and `X-Next-Cursor` where there is more.
    pub(crate) fn answer<R, V: Serialize>(
        &self,
        path: &str,
        mut rows: Vec<R>,
        id: impl Fn(&R) -> Uuid,
        is_shown: impl Fn(&R) -> bool,
        view: impl FnMut(R) -> V,
    ) -> Response {
        let limit = self.limit.unwrap_or(DEFAULT_LIMIT) as usize;
        let next = (rows.len() > limit).then(|| {
            rows.truncate(limit);
            rows.last().map(&id)
        });
        let mut response =
            axum::Json(rows.into_iter().filter(is_shown).map(view).collect::<Vec<_>>()).into_response();
        if let Some(cursor) = next.flatten().map(|id| id.simple().to_string()) {
            let and = if path.contains('?') { '&' } else { '?' };
            let link = format!("<{path}{and}limit={limit}&cursor={cursor}>; rel=\"next\"");
            let headers = response.headers_mut();
            for (name, value) in [("link", link), ("x-next-cursor", cursor)] {
                if let Ok(value) = value.parse() {
                    headers.insert(name, value);
                }
            }
        }
        response
    }
}

/// `?wait=` of a long verb.
#[derive(Debug, Clone, Copy, Default, serde::Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct WaitQuery {
    /// Seconds to wait for the end, at most 120; the answer is then the result itself.
    #[serde(default)]
    #[param(minimum = 0, maximum = 120)]
    wait: Option<u32>,
}

impl WaitQuery {
    /// Returns how long to wait, and the seat to wait in; `None`: do not.
    pub(crate) fn begin<R>(
        self,
        state: &ApiState,
        caller: &Caller<R>,
    ) -> ApiResult<Option<(std::time::Duration, Seat)>> {
        let Some(wait) = self.duration()? else { return Ok(None) };
        Ok(Some((wait, state.seats().take(Kind::Stream, caller, None)?)))
    }

    fn duration(self) -> ApiResult<Option<std::time::Duration>> {
        match self.wait {
            None | Some(0) => Ok(None),
            Some(seconds @ 1..=120) => Ok(Some(std::time::Duration::from_secs(u64::from(seconds)))),
            Some(_) => Err(ApiError::invalid([("wait", "give 0 to 120 seconds".to_owned())])
                .with_status(StatusCode::BAD_REQUEST)),
        }
    }
}

/// Refuses a request in whose URL a key stands: URLs end up in logs and histories.
pub(crate) fn refuse_key_in_query(parts: &Parts) -> ApiResult<()> {
    let query = parts.uri.query().unwrap_or_default();
    if query.contains("sk_live_") {
        return Err(ApiError::unauthorized(
            "A key in a URL is refused, since URLs are logged: send it as Authorization: Bearer, and rotate this one.",
        )
        .with_details(json!({ "reason": "key_in_query" })));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        #[expect(dead_code, reason = "only its parsing matters")]
        name: String,
    }

    #[test]
    fn tells_syntax_from_meaning() {
        assert_eq!(parse::<Body>(b"{").unwrap_err().into_response().status(), 400);
        assert_eq!(parse::<Body>(b"{\"name\":\"a\"} x").unwrap_err().into_response().status(), 400);
        let wrong = parse::<Body>(b"{\"name\":1}").unwrap_err();
        assert!(wrong.message().starts_with("name: invalid type"), "{}", wrong.message());
        assert_eq!(wrong.into_response().status(), 422);
        assert!(parse::<Body>(b"{}").unwrap_err().message().contains("missing field"));
        assert!(parse::<Body>(b"{\"name\":\"a\",\"nam\":1}").unwrap_err().message().contains("nam"));
    }

    #[test]
    fn pages_are_bounded() {
        let page = |limit, cursor: Option<&str>| {
            PageQuery { limit, cursor: cursor.map(str::to_owned) }.page().map_err(|error| error.to_owned())
        };
        assert_eq!(page(None, None).unwrap().limit, 51);
        assert_eq!(page(Some(200), None).unwrap().limit, 201);
        assert!(page(Some(0), None).is_err());
        assert!(page(Some(201), None).is_err());
        assert!(page(None, Some("nonsense")).is_err());
    }

    #[test]
    fn knows_json_by_its_type() {
        let headers = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, value.parse().unwrap());
            headers
        };
        assert!(is_json(&headers("application/json; charset=utf-8")));
        assert!(is_json(&headers("application/merge-patch+json")));
        assert!(!is_json(&headers("text/plain")));
        assert!(!is_json(&HeaderMap::new()));
    }
}
