//! The OpenAPI document and the page made of it, as a client gets them. That the document has every route is tested
//! beside the table of routes.

#![expect(clippy::unwrap_used, reason = "all of this file is a test, its helpers too")]

use std::path::Path;

use hookyard_tests::{http::Client, system::System};
use serde_json::{Value, json};

async fn document(client: &Client) -> Value {
    let reply = client.get("/openapi.json").await;
    assert_eq!(reply.header("content-type"), Some("application/json"));
    reply.expect(200)
}

/// Every operation with its path and method.
fn operations(document: &Value) -> Vec<(String, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    let operations = paths.iter().flat_map(|(path, item)| {
        item.as_object()
            .unwrap()
            .iter()
            .map(move |(method, operation)| (format!("{method} {path}"), operation))
    });
    operations.collect()
}

#[tokio::test]
async fn the_document_is_openapi_3_1() {
    let system = System::start().await;
    let document = document(&system.anonymous()).await;
    assert_eq!(document["openapi"], "3.1.0");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/openapi-3.1/schema.json");
    let schema: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<String> =
        validator.iter_errors(&document).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "{errors:#?}");
    // Guards against a validator that accepts anything.
    assert!(!validator.is_valid(&json!({"openapi": "3.1.0", "info": {"title": "x"}, "paths": {}})));
}

#[tokio::test]
async fn every_reference_leads_somewhere_and_every_schema_is_one() {
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                if let Some(reference) = members.get("$ref").and_then(Value::as_str) {
                    found.push(reference.to_owned());
                }
                members.values().for_each(|member| references(member, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let system = System::start().await;
    let document = document(&system.anonymous()).await;
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > 100);
    for reference in found {
        assert!(document.pointer(reference.strip_prefix('#').unwrap()).is_some(), "{reference}");
    }
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        assert!(jsonschema::meta::is_valid(schema), "{name}: {schema}");
    }
}

#[tokio::test]
async fn every_example_fits_its_schema() {
    let system = System::start().await;
    let document = document(&system.anonymous()).await;
    let mut checked = 0;
    for (name, operation) in operations(&document) {
        let bodies = operation["responses"].as_object().unwrap().values().chain(operation.get("requestBody"));
        for content in bodies.filter_map(|body| body["content"].get("application/json")) {
            let schema = json!({"components": document["components"], "allOf": [content["schema"]]});
            let validator = jsonschema::validator_for(&schema).unwrap();
            let named = content["examples"]
                .as_object()
                .into_iter()
                .flat_map(|all| all.values().map(|one| &one["value"]));
            for example in named.chain(content.get("example")) {
                let errors: Vec<String> = validator
                    .iter_errors(example)
                    .map(|error| format!("{}: {error}", error.instance_path()))
                    .collect();
                assert!(errors.is_empty(), "{name}: {errors:#?} in {example}");
                checked += 1;
            }
        }
    }
    assert!(checked > 100, "{checked}");
}

#[tokio::test]
async fn every_error_is_told_with_an_example_in_the_contracts_shape() {
    let system = System::start().await;
    let document = document(&system.anonymous()).await;
    for (name, operation) in operations(&document) {
        if operation["tags"][0] == "Pages" {
            // People are told in HTML, and led on.
            continue;
        }
        let responses = operation["responses"].as_object().unwrap();
        // What a form of a page is answered with is another page to go to.
        assert!(responses.keys().any(|status| status.starts_with(['2', '3'])), "{name}");
        let public = operation["security"] == json!([]);
        if !public {
            for status in ["401", "403", "429", "500", "503"] {
                assert!(responses.contains_key(status), "{name} has no {status}");
            }
        }
        for (status, response) in responses.iter().filter(|(status, _)| !status.starts_with(['2', '3'])) {
            // People read pages; and OAuth has a shape of its own (RFC 6749 §5.2).
            let is_page = response["content"].get("text/html").is_some();
            if is_page || response["content"]["application/json"]["example"]["error_description"].is_string()
            {
                continue;
            }
            if public && name.ends_with("/readyz") {
                continue;
            }
            let examples = response["content"]["application/json"]["examples"].as_object().unwrap();
            assert!(!examples.is_empty(), "{name} {status}");
            for (code, example) in examples {
                let body = &example["value"];
                if name.contains(" /v2/") {
                    let error = &body["errors"][0];
                    assert_eq!((&error["code"], &error["status"]), (&json!(code), &json!(status)), "{name}");
                    assert!(error["title"].is_string() && error["detail"].is_string(), "{body}");
                    continue;
                }
                assert_eq!(body["error_code"], json!(code), "{name} {status}");
                let text = body["error"].as_str().unwrap();
                assert!(!text.is_empty() && text.chars().count() < 250, "{text}");
                assert!(body["request_id"].is_string(), "{body}");
                let members: Vec<&String> = body.as_object().unwrap().keys().collect();
                assert!(members.iter().all(|name| ["error", "error_code", "details", "request_id"].contains(&name.as_str())));
            }
        }
    }
}

#[tokio::test]
async fn real_errors_are_among_those_that_are_told() {
    let system = System::start().await;
    let client = system.client().await;
    let document = document(&client).await;
    let id = "hook_01hzy3v9k2s8d4f6g8h0j2k4m6";
    for (method, path, pattern, body) in [
        ("POST", "/zapier/hook".to_owned(), "/zapier/hook", "{}"),
        ("POST", "/zapier/hook".to_owned(), "/zapier/hook", "{"),
        ("POST", "/zapier/hook".to_owned(), "/zapier/hook", r#"{"url":"x"}"#),
        ("DELETE", "/zapier/hook".to_owned(), "/zapier/hook", "[]"),
        ("GET", "/v1/hooks?x=1".to_owned(), "/v1/hooks", ""),
        ("GET", format!("/v1/hooks/{id}"), "/v1/hooks/{id}", ""),
        ("GET", "/v1/hooks/7".to_owned(), "/v1/hooks/{id}", ""),
        ("POST", format!("/v1/hooks/{id}/replay"), "/v1/hooks/{id}/replay", "{}"),
        ("POST", "/v1/dead-letters/retry".to_owned(), "/v1/dead-letters/retry", "{}"),
        ("POST", "/v1/event-types".to_owned(), "/v1/event-types", r#"{"name":"a","schema":5}"#),
        (
            "POST",
            "/v1/event-types/import/openapi".to_owned(),
            "/v1/event-types/import/openapi",
            r#"{"openapi":"2.0"}"#,
        ),
        ("GET", "/zapier/event-types/a..b/fields".to_owned(), "/zapier/event-types/{type}/fields", ""),
        ("PATCH", "/v1/event-types/nothing".to_owned(), "/v1/event-types/{name}", "{}"),
        ("POST", "/events".to_owned(), "/events", "{}"),
        ("POST", "/events/batch".to_owned(), "/events/batch", "{}"),
    ] {
        let (status, code) = client.request(method, &path).json(body).send().await.error();
        let operation = &document["paths"][pattern][method.to_lowercase()];
        let examples = &operation["responses"][status.to_string()]["content"]["application/json"]["examples"];
        assert!(examples[&code].is_object(), "{method} {path}: {status} {code} is not told");
    }
}

#[tokio::test]
async fn the_page_needs_nothing_from_elsewhere() {
    let system = System::start().await;
    let client = system.anonymous();
    let page = client.get("/docs").await;
    assert_eq!(page.status, 200);
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    let html = page.text();
    let document = document(&client).await;
    for (name, operation) in operations(&document) {
        let id = operation["operationId"].as_str().unwrap();
        assert!(html.contains(&format!("id=\"{id}\"")), "{name}");
    }
    // What is loaded is ours; other addresses stand in examples only.
    let loaded: Vec<&str> = html.match_indices("src=\"").map(|(at, _)| &html[at + 5..at + 6]).collect();
    assert_eq!(loaded, ["/"]);
    for inline in ["<style", "style=\"", "onclick", "onload", "<iframe"] {
        assert!(!html.contains(inline), "{inline}");
    }
    assert_eq!(
        html.matches("<script").count(),
        html.matches("<script src=\"/docs/assets/docs.js\" defer>").count()
    );
    for (path, kind) in [("/docs/assets/docs.css", "text/css"), ("/docs/assets/docs.js", "text/javascript")] {
        let reply = client.get(path).await;
        assert_eq!(reply.status, 200, "{path}");
        assert!(reply.header("content-type").unwrap().starts_with(kind), "{path}");
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"), "{path}");
    }
}
