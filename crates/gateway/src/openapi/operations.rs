//! What the table of routes adds to the operations of the document: who may call them, their errors, the headers of
//! their answers.

use hookyard_chassis::api_error::Shape;
use hookyard_domain::{credential::Scope, person::Role};
use serde_json::{Map, Value, json};

use super::{errors, examples};
use crate::{access::Access, routes::Entry};

/// The ways to show who calls.
pub(super) fn security_schemes() -> Value {
    json!({
        "bearer": {"type": "http", "scheme": "bearer", "description": "`Authorization: Bearer KEY`"},
        "basic": {"type": "http", "scheme": "basic", "description": "`Authorization: Basic base64(CLIENT_ID:KEY)`; the Client ID may be left out."},
        "key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "`X-API-Key: KEY`"},
        "worker": {"type": "http", "scheme": "bearer", "description": "`Authorization: Bearer TOKEN` with a worker token (`wk_…`), or one of the other two ways"},
        "session": {"type": "apiKey", "in": "cookie", "name": "hookyard-session", "description": "A person who is logged in. Behind TLS the cookie is named `__Host-hookyard-session`. Whatever changes something needs the header `X-CSRF-Token`, too."}
    })
}

/// The headers that many answers have, told once.
pub(super) fn headers() -> Value {
    let number = |description: &str, example: u64| json!({"description": description, "schema": {"type": "integer", "minimum": 0}, "example": example});
    let text = |description: &str, example: &str| json!({"description": description, "schema": {"type": "string"}, "example": example});
    json!({
        "X-Request-Id": text("The caller's own `X-Request-Id` when it is a valid one, else a new one.", "01939d2f9a7b7c4e8f1d2c3b4a596877"),
        "X-RateLimit-Limit": number("Requests in a minute.", 60),
        "X-RateLimit-Remaining": number("Requests that may still pass in this window.", 59),
        "X-RateLimit-Reset": number("When the window ends, in Unix seconds.", 1_763_720_060),
        "Retry-After": number("When to come back, in whole seconds.", 1),
        "WWW-Authenticate": text("How to show a credential (RFC 6750).", "Bearer realm=\"hookyard\""),
        "Idempotent-Replayed": text("`true` when this is the answer to an earlier request with the same Idempotency-Key.", "true")
    })
}

/// Who may call: programs with the scope, and people whose role has it (`x-role` is the least that does).
fn name_scope(operation: &mut Value, scope: Scope) {
    let scope = scope.as_str();
    operation["security"] =
        json!([{"bearer": [scope]}, {"basic": [scope]}, {"key": [scope]}, {"session": []}]);
    operation["x-scope"] = scope.into();
}

/// Adds to an operation what the table knows: who may call it, its errors, the headers of its answers.
pub(super) fn complete(entry: &Entry, operation: &mut Value) {
    match entry.access {
        Access::Public | Access::Page => operation["security"] = json!([]),
        Access::Scope(scope) => {
            name_scope(operation, scope);
            let least = Role::ALL.into_iter().find(|role| role.scopes().permit(scope));
            operation["x-role"] = least.map(Role::as_str).into();
        }
        Access::Worker => {
            operation["security"] = json!([{"worker": []}]);
            operation["x-worker"] = true.into();
        }
        Access::Managed(scope, role) => {
            name_scope(operation, scope);
            operation["x-role"] = role.as_str().into();
        }
        Access::Person(role) => {
            operation["security"] = json!([{"session": []}]);
            operation["x-role"] = role.as_str().into();
        }
    }
    let codes = errors::codes(entry, operation);
    // A code that is not known shows itself as missing; a test compares.
    let told = errors::responses(&codes, Shape::of_path(entry.path)).unwrap_or_default();
    operation["x-errors"] = codes.into();
    tidy_parameters(operation);
    if let Some(responses) = operation["responses"].as_object_mut() {
        for response in responses.values_mut() {
            add_example(response);
            response["headers"]["X-Request-Id"] = json!({"$ref": "#/components/headers/X-Request-Id"});
        }
        for (status, response) in told {
            responses.entry(status).or_insert(response);
        }
        if !entry.access.is_open() {
            for response in responses.values_mut() {
                tell_limit(response);
            }
        }
    }
    if has_key(operation) {
        let replayed = json!({"$ref": "#/components/headers/Idempotent-Replayed"});
        for response in operation["responses"].as_object_mut().into_iter().flat_map(Map::iter_mut) {
            if response.0.starts_with('2') {
                response.1["headers"]["Idempotent-Replayed"] = replayed.clone();
            }
        }
    }
}

/// The entries of pages are written out where the page is; those that have a name are told by it.
pub(super) fn name_entries(schemas: &Value, operation: &mut Value) {
    for response in operation["responses"].as_object_mut().into_iter().flat_map(Map::values_mut) {
        let items = response.pointer_mut("/content/application~1json/schema/properties/data/items");
        let Some(items) = items else { continue };
        let mut named = schemas.as_object().into_iter().flatten();
        if let Some((name, _)) = named.find(|(_, schema)| *schema == items) {
            *items = json!({"$ref": format!("#/components/schemas/{name}")});
        }
    }
}

/// A parameter that may be left out is not one that may be `null`.
fn tidy_parameters(operation: &mut Value) {
    let parameters = operation.get_mut("parameters").and_then(Value::as_array_mut);
    for parameter in parameters.into_iter().flatten() {
        let Some(kind) = parameter.pointer_mut("/schema/type") else { continue };
        if let Some(one) = kind.as_array().and_then(|kinds| kinds.iter().find(|kind| **kind != "null")) {
            *kind = one.clone();
        }
    }
}

/// An answer that has no example of its own gets that of its schema.
fn add_example(response: &mut Value) {
    let Some(content) = response.pointer_mut("/content/application~1json") else { return };
    if content.get("example").is_none()
        && content.get("examples").is_none()
        && let Some(example) = examples::of(&content["schema"])
    {
        content["example"] = example;
    }
}

fn tell_limit(response: &mut Value) {
    for name in ["X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"] {
        response["headers"][name] = json!({"$ref": format!("#/components/headers/{name}")});
    }
}

fn has_key(operation: &Value) -> bool {
    operation["parameters"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|parameter| parameter["name"] == "Idempotency-Key")
}
