//! The browser app: built files, embedded by the composition root, and the one document that starts them.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
};

use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts};
use maud::html;
use sha2::{Digest, Sha256};

use super::page;
use crate::{ApiResult, ApiState, error::no_such_path, extract::Path};

const INDEX: &str = "index.html";
/// Files below carry a hash of their content in their name.
const ASSETS: &str = "assets";
const FOREVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
/// Asked for anew each time; the `ETag` saves the bytes.
const REVALIDATE: HeaderValue = HeaderValue::from_static("no-cache");
/// Scripts are files of ours, nothing is fetched from elsewhere. Terminal, editor and dialogs make style sheets as they
/// run, hence `unsafe-inline` for styles alone.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; \
     media-src 'self' blob:; font-src 'self'; connect-src 'self'; manifest-src 'self'; frame-src blob:; \
     form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
);
/// Paths that the app's own router knows.
const PATHS: [&str; 11] = [
    "/sign-in",
    "/sign-up",
    "/forgot-password",
    "/reset-password",
    "/verify-email",
    "/account",
    "/account/{*rest}",
    "/instances",
    "/instances/{*rest}",
    "/admin",
    "/admin/{*rest}",
];

/// The built browser app, in memory. The default is none: then a page says how to build it.
#[derive(Debug, Clone, Default)]
pub struct WebApp {
    files: HashMap<String, File>,
}

/// One file in the encodings that there are of it.
#[derive(Debug, Clone, Default)]
struct File {
    plain: Bytes,
    gzip: Option<Bytes>,
    brotli: Option<Bytes>,
    etag: String,
}

impl WebApp {
    /// Takes the files of the build by their paths; `name.br` and `name.gz` are encodings of `name`.
    pub fn new(files: impl IntoIterator<Item = (Cow<'static, str>, Cow<'static, [u8]>)>) -> Self {
        let mut given: BTreeMap<String, Bytes> = files
            .into_iter()
            .map(|(path, bytes)| {
                let bytes = match bytes {
                    Cow::Borrowed(bytes) => Bytes::from_static(bytes),
                    Cow::Owned(bytes) => Bytes::from(bytes),
                };
                (path.into_owned(), bytes)
            })
            .collect();
        let plain: Vec<_> =
            given.keys().filter(|path| !path.ends_with(".br") && !path.ends_with(".gz")).cloned().collect();
        let files = plain.into_iter().map(|path| {
            let plain = given.remove(&path).unwrap_or_default();
            let file = File {
                etag: format!("\"{}\"", hex(&Sha256::digest(&plain)[..8])),
                gzip: given.remove(&format!("{path}.gz")),
                brotli: given.remove(&format!("{path}.br")),
                plain,
            };
            (path, file)
        });
        Self { files: files.collect() }
    }

    fn answer(&self, path: &str, headers: &HeaderMap, caching: HeaderValue) -> Option<Response> {
        let file = self.files.get(path)?;
        let (encoding, body) = file.encoded(headers);
        let known =
            headers.get(header::IF_NONE_MATCH).is_some_and(|tag| tag.as_bytes() == file.etag.as_bytes());
        let mut response =
            if known { StatusCode::NOT_MODIFIED.into_response() } else { body.into_response() };
        let head = response.headers_mut();
        head.insert(header::CACHE_CONTROL, caching);
        head.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        head.insert(header::CONTENT_SECURITY_POLICY, POLICY);
        if let Ok(etag) = HeaderValue::try_from(&file.etag) {
            head.insert(header::ETAG, etag);
        }
        if !known {
            head.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type(path)));
            if let Some(encoding) = encoding {
                head.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
            }
        }
        Some(response)
    }
}

impl File {
    fn encoded(&self, headers: &HeaderMap) -> (Option<&'static str>, Bytes) {
        let accepts = headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
        let takes = |name: &str| accepts.unwrap_or_default().split(',').any(|part| is_wanted(part, name));
        match (&self.brotli, &self.gzip) {
            (Some(body), _) if takes("br") => (Some("br"), body.clone()),
            (_, Some(body)) if takes("gzip") => (Some("gzip"), body.clone()),
            _ => (None, self.plain.clone()),
        }
    }
}

/// Reads one part of `Accept-Encoding` (RFC 9110 §12.5.3): `br`, `br;q=0.5`; `q=0` is a refusal.
fn is_wanted(part: &str, name: &str) -> bool {
    let (coding, weight) = part.split_once(';').unwrap_or((part, ""));
    let weight = weight.trim().strip_prefix("q=").and_then(|weight| weight.parse::<f32>().ok());
    coding.trim().eq_ignore_ascii_case(name) && weight.is_none_or(|weight| weight > 0.0)
}

fn media_type(path: &str) -> &'static str {
    match path.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "woff2" => "font/woff2",
        "json" | "webmanifest" => "application/json",
        _ => "application/octet-stream",
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn routes() -> Router<ApiState> {
    let mut routes = Router::new().route("/assets/{name}", get(asset)).route("/favicon.svg", get(icon));
    for path in PATHS {
        routes = routes.route(path, get(index));
    }
    routes
}

async fn index(State(state): State<ApiState>, parts: Parts) -> Response {
    state.web().answer(INDEX, &parts.headers, REVALIDATE).unwrap_or_else(not_built)
}

async fn asset(State(state): State<ApiState>, name: Path<String>, parts: Parts) -> ApiResult<Response> {
    let path = format!("{ASSETS}/{}", name.0);
    match state.web().answer(&path, &parts.headers, FOREVER) {
        Some(response) => Ok(response),
        None => Err(no_such_path().await),
    }
}

async fn icon(State(state): State<ApiState>, parts: Parts) -> ApiResult<Response> {
    match state.web().answer("favicon.svg", &parts.headers, REVALIDATE) {
        Some(response) => Ok(response),
        None => Err(no_such_path().await),
    }
}

fn not_built() -> Response {
    let body = html! {
        h1 { "The browser app is not in this build" }
        p.lead { "It is built and embedded by " code { "make run" } ". Everything else works: see the " a href="/docs" { "documentation" } "." }
    };
    let mut response = page("Not built", body);
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app() -> WebApp {
        let files: [(&'static str, &'static [u8]); 5] = [
            ("index.html", b"<html>"),
            ("index.html.br", b"brotli"),
            ("assets/a-1.js", b"plain"),
            ("assets/a-1.js.gz", b"gzip"),
            ("assets/a-1.js.br", b"brotli"),
        ];
        WebApp::new(files.map(|(path, bytes)| (path.into(), bytes.into())))
    }

    fn ask(path: &str, accept: &'static str, tag: &str) -> Option<Response> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(accept));
        headers.insert(header::IF_NONE_MATCH, HeaderValue::try_from(tag).unwrap());
        app().answer(path, &headers, FOREVER)
    }

    #[test]
    fn encodings_are_chosen_by_what_the_browser_takes() {
        let encoding = |accept| {
            let response = ask("assets/a-1.js", accept, "").unwrap();
            response.headers().get(header::CONTENT_ENCODING).map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(encoding("gzip, deflate, br").as_deref(), Some("br"));
        assert_eq!(encoding("gzip, br;q=0").as_deref(), Some("gzip"));
        assert_eq!(encoding("identity"), None);
        assert_eq!(ask("index.html", "gzip", "").unwrap().headers().get(header::CONTENT_ENCODING), None);
        assert!(ask("assets/a-1.js.br", "br", "").is_none(), "an encoding is no file of its own");
    }

    #[test]
    fn what_the_browser_has_is_not_sent_again() {
        let first = ask("index.html", "br", "").unwrap();
        let tag = first.headers()[header::ETAG].to_str().unwrap().to_owned();
        assert_eq!(first.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8");
        assert!(
            first.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap().contains("script-src 'self';")
        );
        assert_eq!(ask("index.html", "br", &tag).unwrap().status(), StatusCode::NOT_MODIFIED);
        assert!(WebApp::default().answer("index.html", &HeaderMap::new(), FOREVER).is_none());
    }
}
