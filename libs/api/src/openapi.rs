//! The document: what the routes say of themselves, and what is true of all of them.
//!
//! Errors are not written at each route: which are possible follows from the route's marks, parameters and body.

use std::collections::HashMap;

use http::Method;
use reef_door::{ErrorBody, ErrorCode};
use serde_json::{Value, json};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        Components, ContentBuilder, Info, InfoBuilder, License, Ref, RefOr, Required, Response,
        ResponseBuilder, Server, Tag,
        path::{Operation, Parameter, ParameterBuilder, ParameterIn, PathItem},
        schema::{ObjectBuilder, Type},
        security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
        tag::TagBuilder,
    },
};
use utoipa_axum::router::OpenApiRouter;

use crate::{
    caller::Need,
    idempotency::{is_remembered, is_remembered_by_doors},
};

/// The document in its two forms.
pub(crate) struct Rendered {
    /// JSON.
    pub(crate) json: String,
    /// YAML.
    pub(crate) yaml: String,
}

impl Rendered {
    /// Writes the document; the same document always as the same text.
    pub(crate) fn of(document: &utoipa::openapi::OpenApi) -> Self {
        let mut value = serde_yaml_ng::to_value(document).unwrap_or_default();
        settle(&mut value);
        Self {
            json: serde_json::to_string_pretty(&value).unwrap_or_default(),
            yaml: serde_yaml_ng::to_string(&value).unwrap_or_default(),
        }
    }
}

/// Puts the marks at the end, in order: utoipa keeps them in a hash map.
fn settle(value: &mut serde_yaml_ng::Value) {
    match value {
        serde_yaml_ng::Value::Sequence(items) => items.iter_mut().for_each(settle),
        serde_yaml_ng::Value::Mapping(entries) => {
            let is_mark = |key: &serde_yaml_ng::Value| key.as_str().is_some_and(|key| key.starts_with("x-"));
            let (mut marks, rest): (Vec<_>, Vec<_>) =
                std::mem::take(entries).into_iter().partition(|(key, _)| is_mark(key));
            marks.sort_by(|(a, _), (b, _)| a.as_str().cmp(&b.as_str()));
            for (key, mut value) in rest.into_iter().chain(marks) {
                settle(&mut value);
                entries.insert(key, value);
            }
        }
        _ => {}
    }
}

/// Returns the document as `GET /openapi.json` answers it.
pub fn document_json() -> String {
    Rendered::of(&document()).json
}

/// Returns the document as it is committed, YAML.
pub fn document_yaml() -> String {
    Rendered::of(&document()).yaml
}

/// Returns the OpenAPI 3.1 document of every mounted route; needs no database and no secret.
pub fn document() -> utoipa::openapi::OpenApi {
    let (_, mut document) = OpenApiRouter::new().merge(crate::routes::all()).split_for_parts();
    document.info = info();
    document.servers = Some(vec![Server::new("/")]);
    document.tags = Some(tags());
    let components = document.components.get_or_insert_with(Components::new);
    components.schemas.insert(ErrorBody::name().into_owned(), ErrorBody::schema());
    let mut schemas = Vec::new();
    ErrorBody::schemas(&mut schemas);
    components.schemas.extend(schemas);
    components.security_schemes.extend(security_schemes().map(|(name, scheme)| (name, RefOr::T(scheme))));
    for code in ErrorCode::ALL {
        components.responses.insert(code.as_str().to_owned(), RefOr::T(error_response(*code)));
    }
    for (path, item) in &mut document.paths.paths {
        for (method, operation) in operations(item) {
            complete(&method, path, operation);
        }
    }
    document
}

fn info() -> Info {
    InfoBuilder::new()
        .title("Reef")
        .version(crate::VERSION)
        .description(Some(
            "Hosted OpenClaw instances. Send `Authorization: Bearer sk_live_…`. Every error is an ErrorBody. \
             `x-reef-scope` says which scope a key needs (null: none), `x-reef-wakes` whether the call wakes a sleeping \
             instance, `x-reef-kind` what is special about it: `sse`, `websocket`, `passthrough` (answered by the \
             instance), `destructive`.",
        ))
        .license(Some(License::new("Apache-2.0")))
        .build()
}

fn tags() -> Vec<Tag> {
    [
        ("Instances", "OpenClaw instances and what happens to them."),
        ("Chat", "Talk to an instance's agent."),
        ("Files", "The files of an instance."),
        ("Terminal", "Commands and shells in an instance."),
        ("Desktop", "The screen of an instance."),
        ("Operations", "Long verbs under way."),
        ("Keys", "API keys."),
        ("Account", "Sign-in, sessions, invite codes, the audit."),
        ("Operator", "The operator's own."),
        ("Discovery", "Health, documents, the index. No key needed."),
    ]
    .into_iter()
    .map(|(name, description)| TagBuilder::new().name(name).description(Some(description)).build())
    .collect()
}

fn security_schemes() -> [(String, SecurityScheme); 2] {
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("sk_live_…")
        .description(Some("An API key. Never in a URL."))
        .build();
    let cookie = ApiKeyValue::with_description(
        crate::session::COOKIE,
        "A signed-in browser; on https the cookie's name begins with `__Host-`. Requests that change something, and \
         WebSockets, must come from this origin.",
    );
    [
        ("bearer".to_owned(), SecurityScheme::Http(bearer)),
        ("session".to_owned(), SecurityScheme::ApiKey(ApiKey::Cookie(cookie))),
    ]
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (Method, &mut Operation)> {
    let PathItem { get, put, post, patch, delete, .. } = item;
    [
        (Method::GET, get),
        (Method::PUT, put),
        (Method::POST, post),
        (Method::PATCH, patch),
        (Method::DELETE, delete),
    ]
    .into_iter()
    .filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

/// Returns what it takes to reach the routes whose requests are remembered, by method and path.
pub(crate) fn needs(mut document: utoipa::openapi::OpenApi) -> HashMap<(Method, String), Need> {
    let mut needs = HashMap::new();
    for (path, item) in &mut document.paths.paths {
        for (method, operation) in operations(item).filter(|(method, _)| is_remembered(method, path)) {
            needs.insert((method, path.clone()), Need::from_marks(|name| mark(operation, name)));
        }
    }
    needs
}

fn mark<'o>(operation: &'o Operation, name: &str) -> Option<&'o Value> {
    operation.extensions.as_ref().and_then(|extensions| extensions.get(name))
}

/// What is asked for without credentials, since it proves who asks by its body.
const SIGNS_IN: [&str; 6] = [
    "/api/auth/signup",
    "/api/auth/login",
    "/api/auth/logout",
    "/api/auth/password/forgot",
    "/api/auth/password/reset",
    "/api/auth/email/verify",
];

/// Adds what follows from the marks: security and errors.
fn complete(method: &Method, path: &str, operation: &mut Operation) {
    use ErrorCode as C;
    let is_public = operation.tags.as_ref().is_some_and(|tags| tags.iter().any(|tag| tag == "Discovery"));
    let signs_in = SIGNS_IN.contains(&path);
    let is_for_people = mark(operation, "x-reef-session").is_some();
    let has_body = operation.request_body.is_some();
    let names_one = path.contains('{');
    let goes_to_door = mark(operation, "x-reef-kind")
        .is_some_and(|kind| kind == "passthrough" || kind == "sse" || kind == "websocket")
        || path.contains("/chat/");
    let is_on_instance = path.starts_with("/api/instances");
    let mut errors = vec![C::InternalError];
    if is_public {
        operation.security = Some(Vec::new());
    } else {
        errors.extend([C::InvalidRequest, C::Unauthorized, C::Forbidden, C::RateLimited, C::Capacity]);
        operation.security = Some(if signs_in {
            Vec::new()
        } else if is_for_people {
            vec![SecurityRequirement::new::<_, [&str; 0], &str>("session", [])]
        } else {
            [("bearer"), ("session")]
                .map(|scheme| SecurityRequirement::new::<_, [&str; 0], &str>(scheme, []))
                .into()
        });
    }
    if names_one || path == "/api/keys/current" {
        errors.push(C::NotFound);
    }
    if has_body {
        errors.push(C::PayloadTooLarge);
    }
    let is_remembered = !is_public && is_remembered(method, path);
    if is_on_instance || has_body || names_one || is_remembered {
        errors.push(C::Conflict);
    }
    if is_remembered || is_remembered_by_doors(method, path) {
        operation.parameters.get_or_insert_default().push(RefOr::T(idempotency_key()));
    }
    if is_on_instance && goes_to_door {
        errors.extend([C::UpstreamError, C::UpstreamTimeout]);
    }
    for code in errors {
        let reference = RefOr::Ref(Ref::from_response_name(code.as_str()));
        operation.responses.responses.entry(code.status().as_str().to_owned()).or_insert(reference);
    }
    if mark(operation, "x-reef-kind").is_some_and(|kind| kind == "websocket") {
        let reference = RefOr::Ref(Ref::from_response_name(C::InvalidRequest.as_str()));
        operation.responses.responses.entry("426".to_owned()).or_insert(reference);
    }
    if has_body {
        for status in ["415", "422"] {
            let reference = RefOr::Ref(Ref::from_response_name(C::InvalidRequest.as_str()));
            operation.responses.responses.entry(status.to_owned()).or_insert(reference);
        }
    }
    if goes_to_door || is_remembered {
        let reference = RefOr::Ref(Ref::from_response_name(C::InvalidRequest.as_str()));
        operation.responses.responses.entry("422".to_owned()).or_insert(reference);
    }
}

fn idempotency_key() -> Parameter {
    let schema = ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).max_length(Some(255));
    ParameterBuilder::new()
        .name("Idempotency-Key")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(
            "Repeating the request with the same key within 24 h gets the first one's answer (`Idempotent-Replayed: true`), \
             without what is shown only once. Another request under it: 422; while the first one runs: 409. After an error \
             the key is free again. The answer of a command or of a file operation is kept up to 64 KiB, after which it \
             is a 409 that says so; a stream is not kept.",
        ))
        .schema(Some(schema))
        .build()
}

fn error_response(code: ErrorCode) -> Response {
    let example = ErrorBody::new(code, message_of(code), json!({}), "req_01jz5m3k8qf6x7v9r2c4t0w1ab");
    let content = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name(ErrorBody::name())))
        .example(serde_json::to_value(example).ok())
        .build();
    ResponseBuilder::new()
        .description(format!("{}: see /docs/errors/{}", message_of(code), code.as_str()))
        .content("application/json", content)
        .build()
}

fn message_of(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::Unauthorized => "No credentials, or bad ones",
        ErrorCode::Forbidden => "Known and refused",
        ErrorCode::PaymentRequired => "A subscription is needed",
        ErrorCode::NotFound => "There is nothing with this id that you may know of",
        ErrorCode::MethodNotAllowed => "The path has other methods",
        ErrorCode::Conflict => {
            "It contradicts the present state, or the instance is not ready (INSTANCE_NOT_READY)"
        }
        ErrorCode::InstanceNotReady => "The instance cannot serve this now",
        ErrorCode::PayloadTooLarge => "The body is too large",
        ErrorCode::InvalidRequest => "The request cannot be taken; error.details.fields says why",
        ErrorCode::RateLimited => "Too many requests; see Retry-After",
        ErrorCode::QuotaExceeded => "A cap is used up",
        ErrorCode::UpstreamError => "The instance or its model failed",
        ErrorCode::Capacity => "No room just now; see Retry-After",
        ErrorCode::UpstreamTimeout => "The instance did not answer in time",
        ErrorCode::InternalError => "Our fault",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The committed document is the generated one; `REEF_UPDATE_GOLDEN=1` writes it anew.
    #[test]
    fn the_document_is_committed() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../openapi.yaml");
        let generated = document_yaml();
        if std::env::var_os("REEF_UPDATE_GOLDEN").is_some() {
            std::fs::write(path, &generated).unwrap();
        }
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            committed == generated,
            "openapi.yaml is not what the routes say: type REEF_UPDATE_GOLDEN=1 cargo nextest run -p reef-api the_document"
        );
    }

    #[test]
    fn every_operation_is_marked_and_named() {
        let mut document = document();
        let mut names = std::collections::BTreeSet::new();
        for (path, item) in &mut document.paths.paths {
            for (_, operation) in operations(item) {
                let name = operation.operation_id.clone().unwrap_or_default();
                assert!(names.insert(name.clone()), "{name} twice, at {path}");
                for marked in ["x-reef-scope", "x-reef-wakes"] {
                    assert!(mark(operation, marked).is_some(), "{name} has no {marked}");
                }
                let tagged = operation.tags.as_ref().and_then(|tags| tags.first()).unwrap();
                assert!(tags().iter().any(|tag| tag.name == *tagged), "{name} has the unknown tag {tagged}");
                assert!(
                    operation.summary.as_ref().is_some_and(|text| text.ends_with('.')),
                    "{name} says nothing"
                );
            }
        }
    }
}
