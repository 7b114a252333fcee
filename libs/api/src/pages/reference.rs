//! `/docs/reference`: every route, parameter and schema, from the document itself. A script makes its operations forms
//! that send; without it everything is there to be read.

use std::fmt::Write;

use axum::{extract::State, response::Response};
use maud::{Markup, PreEscaped, html};
use serde_json::{Map, Value};

use super::{documents, page};
use crate::{ApiState, docs};

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// One operation of the document.
struct Operation<'d> {
    method: &'static str,
    path: &'d str,
    value: &'d Value,
}

impl<'d> Operation<'d> {
    fn text(&self, name: &str) -> &'d str {
        self.value[name].as_str().unwrap_or_default()
    }

    fn tag(&self) -> &'d str {
        self.value["tags"][0].as_str().unwrap_or_default()
    }

    /// Returns scope and kind in a few words.
    fn marks(&self) -> String {
        let scope = match self.value["x-reef-scope"].as_str() {
            Some(scope) => format!("scope {scope}"),
            None if self.value["security"].as_array().is_some_and(Vec::is_empty) => {
                "no key needed".to_owned()
            }
            None => "any key".to_owned(),
        };
        let operator = if self.value["x-reef-operator"] == true { ", operator only" } else { "" };
        let wakes = if self.value["x-reef-wakes"] == true { ", wakes the instance" } else { "" };
        let kind = self.value["x-reef-kind"].as_str().map(|kind| format!(", {kind}")).unwrap_or_default();
        format!("{scope}{operator}{wakes}{kind}")
    }
}

fn operations(document: &Value) -> Vec<Operation<'_>> {
    let paths = document["paths"].as_object().into_iter().flatten();
    paths
        .flat_map(|(path, item)| {
            METHODS
                .iter()
                .filter_map(move |method| item.get(*method).map(|value| Operation { method, path, value }))
        })
        .collect()
}

fn tags(document: &Value) -> Vec<&str> {
    document["tags"].as_array().into_iter().flatten().filter_map(|tag| tag["name"].as_str()).collect()
}

/// Returns the reference as a page.
pub(super) async fn show(State(state): State<ApiState>) -> Response {
    let document: Value = serde_json::from_str(&state.rendered().json).unwrap_or_default();
    let operations = operations(&document);
    let tags = tags(&document);
    let of =
        |tag: &str| operations.iter().filter(move |operation| operation.tag() == tag).collect::<Vec<_>>();
    let schemas = document["components"]["schemas"].as_object();
    let body = html! {
        h1 { "API reference" }
        p.lead { "Base address " code { (state.origin()) } ". The same as " a href="/openapi.json" { "OpenAPI JSON" } " and " a href="/openapi.yaml" { "YAML" } "." }
        form id="key" hidden {
            label { "API key" small { "Stays in this page. What you send is done for real." }
                input type="password" name="key" autocomplete="off" spellcheck="false" placeholder="sk_live_…";
            }
        }
        div.split {
            nav aria-label="Routes" {
                @for tag in &tags {
                    strong { (tag) }
                    ul { @for operation in of(tag) {
                        li { a href={ "#" (operation.text("operationId")) } { (operation.text("operationId")) } }
                    } }
                }
                strong { a href="#schemas" { "Schemas" } }
            }
            div {
                @for tag in &tags {
                    h2 { (tag) }
                    @for operation in of(tag) { (section(operation)) }
                }
                h2 id="schemas" { "Schemas" }
                @for (name, schema) in schemas.into_iter().flatten() {
                    h3 id={ "schema-" (name) } { (name) }
                    (described(schema))
                    (properties(schema))
                }
            }
        }
    };
    page("API reference", html! { (body) script src="/assets/try.js" defer {} })
}

fn section(operation: &Operation<'_>) -> Markup {
    let parameters = operation.value["parameters"].as_array();
    let body = operation.value["requestBody"]["content"]["application/json"].as_object();
    let responses = operation.value["responses"].as_object();
    html! {
        section.operation id=(operation.text("operationId")) {
            h3 { span class={ "method " (operation.method) } { (operation.method.to_uppercase()) } code { (operation.path) } }
            p { (operation.text("summary")) }
            @let description = operation.text("description");
            @if description != operation.text("summary") && !description.is_empty() { (described(operation.value)) }
            p.soft { (operation.marks()) }
            @if operation.value["x-reef-kind"] != "websocket" {
                button.quiet type="button" hidden aria-label={ "Try it: " (operation.text("operationId")) } { "Try it" }
            }
            @if let Some(parameters) = parameters {
                div.wide tabindex="0" { table {
                    thead { tr { th { "Parameter" } th { "In" } th { "Type" } th { "Meaning" } } }
                    tbody { @for parameter in parameters {
                        tr {
                            td { code { (parameter["name"].as_str().unwrap_or_default()) } @if parameter["required"] == true { " *" } }
                            td { (parameter["in"].as_str().unwrap_or_default()) }
                            td { (kind(&parameter["schema"])) }
                            td { (described(parameter)) }
                        }
                    } }
                } }
            }
            @if let Some(body) = body {
                p { "Body: " (kind(&body["schema"])) }
                @if let Some(example) = body.get("example") { pre tabindex="0" { code { (pretty(example)) } } }
            }
            details {
                summary { "Answers" }
                div.wide tabindex="0" { table { tbody { @for (status, response) in responses.into_iter().flatten() {
                    tr { td { code { (status) } } td { (answer(response)) } }
                } } } }
            }
        }
    }
}

/// Returns the description, which is Markdown (CommonMark, as OpenAPI 3.1 says).
fn described(item: &Value) -> Markup {
    PreEscaped(docs::markdown(item["description"].as_str().unwrap_or_default()))
}

fn answer(response: &Value) -> Markup {
    if let Some(code) = response["$ref"].as_str().and_then(|reference| reference.rsplit('/').next()) {
        return html! { a href={ "/docs/errors/" (code) } { (code) } };
    }
    let content = response["content"].as_object();
    html! {
        (response["description"].as_str().unwrap_or_default())
        @for (media, content) in content.into_iter().flatten() { " " (kind(&content["schema"])) " " span.soft { (media) } }
    }
}

fn properties(schema: &Value) -> Markup {
    let empty = Map::new();
    // `flatten` becomes `allOf`.
    let parts = schema["allOf"].as_array().map_or_else(|| vec![schema], |parts| parts.iter().collect());
    let words = schema["enum"].as_array();
    html! {
        @if let Some(words) = words {
            p { @for word in words { code { (word.as_str().unwrap_or_default()) } " " } }
        }
        @for part in parts {
            @if part.get("$ref").is_some() { p { "All of " (kind(part)) ", and:" } }
            @let properties = part["properties"].as_object().unwrap_or(&empty);
            @if !properties.is_empty() {
                div.wide tabindex="0" { table { tbody { @for (name, value) in properties {
                    @let is_required = part["required"].as_array().is_some_and(|names| names.iter().any(|n| n == name));
                    tr {
                        td { code { (name) } @if is_required { " *" } }
                        td { (kind(value)) }
                        td { (described(value)) }
                    }
                } } } }
            }
        }
    }
}

/// Returns a schema in a few words, with a link where it has a name.
fn kind(schema: &Value) -> Markup {
    if let Some(name) = schema["$ref"].as_str().and_then(|reference| reference.rsplit('/').next()) {
        return html! { a href={ "#schema-" (name) } { (name) } };
    }
    if let Some(parts) = schema["oneOf"].as_array().or(schema["anyOf"].as_array()) {
        return html! { @for (index, part) in parts.iter().enumerate() { @if index > 0 { " or " } (kind(part)) } };
    }
    if !schema["items"].is_null() {
        return html! { "array of " (kind(&schema["items"])) };
    }
    match &schema["type"] {
        Value::String(name) => html! { (name) },
        Value::Array(names) => {
            html! { (names.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" or ")) }
        }
        _ => html! { "any" },
    }
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

/// Returns the reference as Markdown.
pub(super) async fn markdown(State(state): State<ApiState>) -> Response {
    let document: Value = serde_json::from_str(&state.rendered().json).unwrap_or_default();
    let mut text = format!("# API reference\n\nBase address: {}\n", state.origin());
    let operations = operations(&document);
    for tag in tags(&document) {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n## {tag}\n");
        for operation in operations.iter().filter(|operation| operation.tag() == tag) {
            let _ = write!(
                text,
                "\n### {} {}\n\n{} ({})\n",
                operation.method.to_uppercase(),
                operation.path,
                operation.text("summary"),
                operation.marks()
            );
        }
    }
    documents::markdown(text)
}
