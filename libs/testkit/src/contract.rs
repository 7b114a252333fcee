//! The OpenAPI document as a judge of answers.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use jsonschema::Validator;
use serde_json::{Value, json};

/// Compares answers with the document that `reef-api` makes of its routes.
pub struct Contract {
    document: Value,
    validators: Mutex<HashMap<String, Arc<Validator>>>,
}

/// One method of one path of the document.
#[derive(Debug, Clone)]
pub struct Operation {
    /// The method, in capitals.
    pub method: String,
    /// The path with its `{…}`.
    pub template: String,
    /// What the document says of it.
    pub description: Value,
}

impl Default for Contract {
    fn default() -> Self {
        let document = serde_json::from_str(&reef_api::document_json()).unwrap();
        Self { document, validators: Mutex::default() }
    }
}

impl Contract {
    /// Returns the document.
    pub fn document(&self) -> &Value {
        &self.document
    }

    /// Returns every method of every path.
    pub fn operations(&self) -> Vec<Operation> {
        const METHODS: [&str; 5] = ["get", "put", "post", "patch", "delete"];
        let paths = self.document["paths"].as_object().expect("a document has paths");
        paths
            .iter()
            .flat_map(|(template, item)| {
                METHODS.into_iter().filter_map(move |method| {
                    Some(Operation {
                        method: method.to_uppercase(),
                        template: template.clone(),
                        description: item.get(method)?.clone(),
                    })
                })
            })
            .collect()
    }

    /// Fails the test where the head or the body of an answer is not in the document. `body`: none for a stream.
    pub(crate) fn check(
        &self,
        method: &str,
        path: &str,
        status: u16,
        content_type: Option<&str>,
        body: Option<&[u8]>,
    ) {
        let what = format!("{method} {path} → {status}");
        assert_ne!(status, 500, "{what}: {}", String::from_utf8_lossy(body.unwrap_or_default()));
        let Some(response) = self.response(method, path, status) else {
            // What is not in the document has no answer but our error body; pages are for people.
            let is_page = content_type.is_some_and(|kind| kind.starts_with("text/html"))
                || !(path == "/api" || path.starts_with("/api/"));
            if !is_page {
                assert!(matches!(status, 404 | 405), "{what} is not in the document");
                self.check_body(&what, &error_body(), body.expect("an error has a body"));
            }
            return;
        };
        let content = response.get("content").and_then(Value::as_object);
        let essence = content_type.map(|kind| kind.split(';').next().unwrap_or_default().trim());
        match (content, body) {
            (None, Some(body)) => assert!(body.is_empty(), "{what} has a body that is not in the document"),
            (None, None) => panic!("{what} streams what is not in the document"),
            (Some(content), body) => {
                let kind = essence.unwrap_or_default();
                let schema = content
                    .get(kind)
                    .or_else(|| content.get("*/*"))
                    .unwrap_or_else(|| panic!("{what}: {kind:?} is not in the document"));
                if let Some(body) = body.filter(|_| kind == "application/json") {
                    self.check_body(&what, &schema["schema"], body);
                }
            }
        }
    }

    /// Fails the test where the data of an event is not in the document.
    pub(crate) fn check_event(&self, method: &str, path: &str, data: &[u8]) {
        let what = format!("an event of {method} {path}");
        let response =
            self.response(method, path, 200).unwrap_or_else(|| panic!("{what} is not in the document"));
        self.check_body(&what, &response["content"]["text/event-stream"]["schema"], data);
    }

    fn check_body(&self, what: &str, schema: &Value, body: &[u8]) {
        let text = String::from_utf8_lossy(body);
        let value: Value =
            serde_json::from_slice(body).unwrap_or_else(|error| panic!("{what}: {error} in {text:?}"));
        let validator = self.validator(schema);
        let errors: Vec<String> = validator
            .iter_errors(&value)
            .map(|error| format!("at {:?}: {error}", error.instance_path().to_string()))
            .collect();
        assert!(errors.is_empty(), "{what} breaks its schema: {errors:#?} in {text}");
    }

    fn validator(&self, schema: &Value) -> Arc<Validator> {
        let mut validators = self.validators.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || {
            let whole = json!({
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                "components": self.document["components"],
                "allOf": [schema],
            });
            let options = jsonschema::options().should_validate_formats(true);
            Arc::new(
                options.build(&whole).unwrap_or_else(|error| panic!("not a schema: {error} in {schema}")),
            )
        };
        validators.entry(schema.to_string()).or_insert_with(make).clone()
    }

    /// Returns what the document says of this status of the operation that the path names.
    fn response(&self, method: &str, path: &str, status: u16) -> Option<&Value> {
        let paths = self.document["paths"].as_object()?;
        let path = path.split('?').next().unwrap_or_default();
        let path = if path.len() > 1 { path.trim_end_matches('/') } else { path };
        let (_, item) = paths
            .iter()
            .filter(|(template, _)| matches(template, path))
            .min_by_key(|(template, _)| template.matches('{').count())?;
        let operation = item.get(method.to_lowercase())?;
        let response = operation["responses"]
            .get(status.to_string())
            .unwrap_or_else(|| panic!("{method} {path}: status {status} is not in the document"));
        match response.get("$ref").and_then(Value::as_str) {
            Some(reference) => self.document.pointer(reference.trim_start_matches('#')),
            None => Some(response),
        }
    }
}

fn error_body() -> Value {
    json!({ "$ref": "#/components/schemas/ErrorBody" })
}

fn matches(template: &str, path: &str) -> bool {
    let (mut wanted, mut given) = (template.split('/'), path.split('/'));
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return true,
            (Some(wanted), Some(given))
                if wanted == given || (wanted.starts_with('{') && !given.is_empty()) => {}
            _ => return false,
        }
    }
}
