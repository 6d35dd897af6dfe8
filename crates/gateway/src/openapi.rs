//! The OpenAPI 3.1 document of this gateway, at `/openapi.json`, and the page made of it, at `/docs`.
//!
//! The document is made of what stands at the handlers (`#[utoipa::path]`) and of the table of routes: who may ask, and
//! which errors follow from that, is not written a second time.

mod action_shapes;
mod automation_examples;
mod caller_shapes;
mod consumer_shapes;
mod contents;
mod errors;
mod event_shapes;
mod examples;
mod inbox_shapes;
mod operations;
mod page;
mod shapes;
mod task_shapes;
mod worker_examples;
mod worker_shapes;

use std::sync::LazyLock;

use actix_web::{
    HttpResponse, HttpResponseBuilder,
    http::header::{
        CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    },
};
use bytes::Bytes;
use serde_json::Value;
use utoipa::OpenApi;

pub(crate) use action_shapes::{ActionRunRequest, AuthenticationChange, AuthenticationRequest};
pub(crate) use caller_shapes::{
    InvitationRequest, KeyPatch, KeyRequest, PasswordChange, PasswordProof, SessionPatch, SourceKeyRequest,
    TotpCode, UserPatch,
};
pub(crate) use consumer_shapes::{ConsumerPatch, ConsumerRequest, ConsumerTest, SecretRequest};
pub(crate) use event_shapes::{
    BatchRequest, EventAccepted, EventRequest, EventTypePatch, EventTypeRequest, KeptEvent, OpenApiDocument,
    SchemaProblem, StoredEvent,
};
pub(crate) use inbox_shapes::{
    AckRequest, ExtendRequest, GiveBackRequest, InboxPatch, InboxRequest, LeaseRequest,
};
pub(crate) use shapes::PageOf;
pub(crate) use task_shapes::{
    AnswerRequest, BudgetRequest, CancelRequest, LinkAnswerRequest, LlmKeyRequest, SchedulePatch,
    ScheduleRequest, TaskRequest,
};
pub(crate) use worker_shapes::{
    CheckpointRequest, ClaimRequest, CompleteRequest, DrainRequest, FailRequest, HeartbeatRequest,
    OutputRequest, ProgressRequest, QuestionRequest, ReleaseRequest, WorkerTokenRequest,
};

use self::{
    contents::Document,
    operations::{complete, headers, name_entries, security_schemes},
};
use crate::routes::TABLE;

/// The document, complete.
static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
    // Both cannot fail for what is compiled in; a test builds the document.
    let mut document = serde_json::to_value(Document::openapi()).unwrap_or_default();
    document["components"]["securitySchemes"] = security_schemes();
    document["components"]["headers"] = headers();
    let schemas = document["components"]["schemas"].clone();
    for entry in TABLE {
        let operation = &mut document["paths"][entry.path][entry.method.as_str().to_lowercase()];
        if operation.is_object() {
            name_entries(&schemas, operation);
            complete(entry, operation);
        }
    }
    document
});

static DOCUMENT_TEXT: LazyLock<Bytes> = LazyLock::new(|| DOCUMENT.to_string().into());
static PAGE: LazyLock<Bytes> = LazyLock::new(|| page::render(&DOCUMENT).into());

/// Show this document
///
/// OpenAPI 3.1.
#[utoipa::path(
    get,
    path = "/openapi.json",
    operation_id = "show_openapi",
    tag = "Operations",
    responses((status = 200, description = "The document.", body = Object, content_type = "application/json"))
)]
pub(crate) async fn document() -> HttpResponse {
    asset("application/json").body(DOCUMENT_TEXT.clone())
}

/// Show this documentation
#[utoipa::path(
    get,
    path = "/docs",
    operation_id = "show_docs",
    tag = "Operations",
    responses((status = 200, description = "The page.", body = String, content_type = "text/html"))
)]
pub(crate) async fn docs() -> HttpResponse {
    asset("text/html; charset=utf-8")
        .insert_header((CONTENT_SECURITY_POLICY, page::POLICY))
        .insert_header((REFERRER_POLICY, "no-referrer"))
        .body(PAGE.clone())
}

/// Show the style sheet of the documentation
#[utoipa::path(
    get,
    path = "/docs/assets/docs.css",
    operation_id = "show_docs_style",
    tag = "Operations",
    responses((status = 200, description = "The style sheet.", body = String, content_type = "text/css"))
)]
pub(crate) async fn docs_style() -> HttpResponse {
    asset("text/css; charset=utf-8").body(page::STYLE)
}

/// Show the script of the documentation
#[utoipa::path(
    get,
    path = "/docs/assets/docs.js",
    operation_id = "show_docs_script",
    tag = "Operations",
    responses((status = 200, description = "The script.", body = String, content_type = "text/javascript"))
)]
pub(crate) async fn docs_script() -> HttpResponse {
    asset("text/javascript; charset=utf-8").body(page::SCRIPT)
}

fn asset(content_type: &'static str) -> HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    response
        .insert_header((CONTENT_TYPE, content_type))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((CACHE_CONTROL, "public, max-age=300"));
    response
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use hookyard_chassis::api_error::Shape;

    use super::*;

    #[test]
    fn the_document_and_the_table_have_the_same_routes() {
        let table: BTreeSet<String> = TABLE
            .iter()
            .map(|entry| format!("{} {}", entry.method.as_str().to_lowercase(), entry.path))
            .collect();
        let mut document = BTreeSet::new();
        for (path, item) in DOCUMENT["paths"].as_object().unwrap() {
            document.extend(item.as_object().unwrap().keys().map(|method| format!("{method} {path}")));
        }
        assert_eq!(document, table);
    }

    #[test]
    fn every_code_that_a_route_names_is_known() {
        for entry in TABLE {
            let operation = &DOCUMENT["paths"][entry.path][entry.method.as_str().to_lowercase()];
            let codes: Vec<String> = serde_json::from_value(operation["x-errors"].clone()).unwrap();
            errors::responses(&codes, Shape::of_path(entry.path))
                .unwrap_or_else(|code| panic!("{}: {code}", entry.name));
        }
    }

    #[test]
    fn every_operation_is_told_completely() {
        let mut ids = BTreeSet::new();
        for entry in TABLE {
            let operation = &DOCUMENT["paths"][entry.path][entry.method.as_str().to_lowercase()];
            let text = |name: &str| operation[name].as_str().unwrap_or_default().to_owned();
            assert!(ids.insert(text("operationId")), "{}", entry.name);
            assert!(!text("summary").is_empty() && !text("summary").ends_with('.'), "{}", entry.name);
            let tag = &operation["tags"][0];
            assert!(
                DOCUMENT["tags"].as_array().unwrap().iter().any(|known| known["name"] == *tag),
                "{}",
                entry.name
            );
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                assert!(parameter["description"].is_string(), "{}: {parameter}", entry.name);
                if parameter["in"] == "path" {
                    assert!(!parameter["example"].is_null(), "{}: {parameter}", entry.name);
                }
            }
            for (status, response) in operation["responses"].as_object().unwrap() {
                let content = &response["content"]["application/json"];
                let exemplified = content.get("example").is_some() || content.get("examples").is_some();
                let itself = entry.path == "/openapi.json";
                assert!(
                    content.is_null() || exemplified || itself,
                    "{} has no example of {status}",
                    entry.name
                );
            }
            let body = &operation["requestBody"]["content"]["application/json"];
            let exemplified = body.get("example").is_some() || body.get("examples").is_some();
            assert!(body.is_null() || exemplified, "{} has no example of its body", entry.name);
        }
    }

    #[test]
    fn the_page_shows_every_operation() {
        let page = String::from_utf8(PAGE.to_vec()).unwrap();
        for entry in TABLE {
            let id = DOCUMENT["paths"][entry.path][entry.method.as_str().to_lowercase()]["operationId"]
                .as_str()
                .unwrap();
            assert!(page.contains(&format!("<article class=\"operation\" id=\"{id}\"")), "{}", entry.name);
        }
    }
}
