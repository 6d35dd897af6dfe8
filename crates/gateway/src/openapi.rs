//! The OpenAPI 3.1 document of this gateway, at `/openapi.json`, and the page made of it, at `/docs`.
//!
//! The document is made of what stands at the handlers (`#[utoipa::path]`) and of the table of routes: who may ask, and
//! which errors follow from that, is not written a second time.

mod automation_examples;
mod consumer_shapes;
mod errors;
mod examples;
mod inbox_shapes;
mod page;
mod shapes;
mod worker_examples;

use std::sync::LazyLock;

use actix_web::{
    HttpResponse, HttpResponseBuilder,
    http::header::{
        CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    },
};
use bytes::Bytes;
use hookyard_chassis::api_error::Shape;
use hookyard_domain::{credential::Scope, person::Role};
use serde_json::{Map, Value, json};
use utoipa::OpenApi;

pub(crate) use consumer_shapes::{ConsumerPatch, ConsumerRequest, ConsumerTest, SecretRequest};
pub(crate) use inbox_shapes::{
    AckRequest, ExtendRequest, GiveBackRequest, InboxPatch, InboxRequest, LeaseRequest,
};
pub(crate) use shapes::{
    ActionRunRequest, AnswerRequest, AuthenticationChange, AuthenticationRequest, BatchRequest,
    BudgetRequest, CancelRequest, CheckpointRequest, ClaimRequest, CompleteRequest, DrainRequest,
    EventAccepted, EventRequest, EventTypePatch, EventTypeRequest, FailRequest, HeartbeatRequest,
    InvitationRequest, KeptEvent, KeyPatch, KeyRequest, LinkAnswerRequest, LlmKeyRequest, OpenApiDocument,
    OutputRequest, PageOf, PasswordChange, PasswordProof, ProgressRequest, QuestionRequest, ReleaseRequest,
    SchedulePatch, ScheduleRequest, SchemaProblem, SessionPatch, SourceKeyRequest, StoredEvent, TaskRequest,
    TotpCode, UserPatch, WorkerTokenRequest,
};

use crate::{
    access::Access,
    handlers::{
        activity, audit, automation, consumers, dead_letters, deliveries, event_payload, event_types, events,
        gaps, health, hooks, inboxes, invitations, keys, messages, oauth, ops, pages, preview, recoveries,
        replay, samples, session, signing_keys, users, v2, zapier,
    },
    routes::{Entry, TABLE},
};

const DESCRIPTION: &str = include_str!("openapi/introduction.md");

#[derive(OpenApi)]
#[openapi(
    info(title = "Hookyard", description = DESCRIPTION, license(name = "Apache-2.0", identifier = "Apache-2.0")),
    servers((url = "/", description = "This gateway")),
    tags(
        (name = "REST hooks", description = "The handshake that Zapier and other REST hook clients speak: show samples, subscribe, deliver, unsubscribe."),
        (name = "Hooks", description = "The hooks of the tenant: their state, tests, replays."),
        (name = "Consumers", description = "Webhooks with everything: several event types, tags, headers, transformations, a pace, order, rotation and certificates."),
        (name = "Inboxes", description = "Events that are fetched instead of sent: leased and acknowledged, or read in order."),
        (name = "Events", description = "Events in, and where they went."),
        (name = "Deliveries", description = "What became of an event at a hook, try by try."),
        (name = "Messages", description = "The message log: what is on its way to hooks and consumers, and what became of it."),
        (name = "Recoveries", description = "Jobs that send again what did not arrive, at a pace, and go on by themselves."),
        (name = "Dead letters", description = "Deliveries that ended without success, until they are retried or given up."),
        (name = "Tasks", description = "Work for an AI: posted, run, followed, answered, and told step by step."),
        (name = "Schedules", description = "Tasks that are made by the clock."),
        (name = "Automation", description = "Around tasks: who asks, what there is, what it uses and may use."),
        (name = "Action runs", description = "Actions that act, with their results called back and signed."),
        (name = "Workers", description = "External programs that take tasks over HTTP, do them and report: what they call, with a worker token, and what their owner sees of them."),
        (name = "Event types", description = "The catalogue: names, aliases, schemas, examples."),
        (name = "Keys", description = "Who may call: API keys, keys of services that publish, and the one that Zapier is given."),
        (name = "Audit log", description = "Who did what, when and from where."),
        (name = "People", description = "The person who is logged in, and the people of the tenant. Only with a session, never with a key."),
        (name = "Pages", description = "What people see in a browser: HTML, and forms that only these pages can send."),
        (name = "OAuth", description = "Apps that act for people: RFC 6749 with PKCE, and which apps are let in."),
        (name = "Operations", description = "For operators and tools. No credential is needed.")
    ),
    paths(
        samples::sample,
        zapier::event_types::choices,
        zapier::event_types::output_fields,
        zapier::subscribe::subscribe,
        zapier::unsubscribe::unsubscribe,
        zapier::unsubscribe::unsubscribe_by_post,
        zapier::unsubscribe::unsubscribe_by_id,
        hooks::list,
        hooks::show,
        health::show,
        hooks::secret,
        hooks::test,
        hooks::enable,
        hooks::disable,
        hooks::delete,
        replay::replay,
        consumers::create,
        consumers::list,
        consumers::show,
        health::show_consumer,
        consumers::update,
        consumers::delete,
        consumers::switch::test,
        consumers::switch::enable,
        consumers::switch::disable,
        consumers::secret::show,
        consumers::secret::rotate,
        inboxes::create,
        inboxes::list,
        inboxes::show,
        inboxes::update,
        inboxes::delete,
        inboxes::pause,
        inboxes::resume,
        inboxes::lease::lease,
        inboxes::settle::ack,
        inboxes::settle::release,
        inboxes::settle::extend,
        inboxes::messages::list,
        inboxes::stream::follow,
        activity::show,
        preview::preview_hook,
        activity::show_consumer,
        preview::preview_consumer,
        replay::replay_to_consumer,
        messages::list,
        messages::show,
        recoveries::create,
        recoveries::list,
        recoveries::show,
        recoveries::cancel,
        events::post,
        events::post_batch,
        events::list,
        events::show,
        events::deliveries,
        event_payload::purge,
        deliveries::list,
        deliveries::show,
        deliveries::retry,
        gaps::show,
        gaps::deliver::deliver,
        dead_letters::list,
        dead_letters::show,
        dead_letters::retry,
        dead_letters::discard,
        dead_letters::retry_many,
        dead_letters::discard_many,
        automation::tasks::create,
        automation::tasks::list,
        automation::tasks::show,
        automation::tasks_change::delete,
        automation::tasks_change::cancel,
        automation::tasks_change::answer,
        automation::tasks_change::retry,
        automation::tasks::runs,
        automation::webhooks::list,
        automation::webhooks::show,
        automation::stream::follow,
        pages::respond::show,
        pages::respond::answer,
        automation::schedules::list,
        automation::schedules::create,
        automation::schedules::show,
        automation::schedules::change,
        automation::schedules::delete,
        automation::schedules::run,
        automation::schedules::history,
        automation::about::capabilities,
        automation::about::root,
        automation::about::me,
        automation::stats::show,
        automation::budgets::usage,
        automation::budgets::show,
        automation::budgets::set,
        automation::llm_keys::list,
        automation::llm_keys::set,
        automation::llm_keys::remove,
        v2::runs::create,
        v2::runs::create_with_slash,
        v2::runs::list,
        v2::runs::list_with_slash,
        v2::runs::show,
        v2::runs::show_with_slash,
        v2::runs::send_again,
        v2::authentications::list,
        v2::authentications::create,
        v2::authentications::show,
        v2::authentications::delete,
        v2::authentications_change::change,
        v2::authentications_change::test,
        v2::actions::list,
        v2::actions::show,
        signing_keys::show,
        automation::worker::claim::claim,
        automation::worker::going::heartbeat,
        automation::worker::going::progress,
        automation::worker::going::output,
        automation::worker::going::checkpoint,
        automation::worker::ending::needs_input,
        automation::worker::ending::complete,
        automation::worker::ending::fail,
        automation::worker::ending::release,
        automation::worker::claim::drain,
        automation::worker::hints::follow,
        automation::workers::list,
        keys::worker::list,
        keys::worker::create,
        keys::worker::revoke,
        event_types::list,
        event_types::show,
        event_types::create,
        event_types::update,
        event_types::import::import,
        keys::api::list,
        keys::api::create,
        keys::api::show,
        keys::api::update,
        keys::api::revoke,
        keys::source::list,
        keys::source::create,
        keys::source::revoke,
        keys::integration::show,
        keys::integration::rotate,
        audit::list,
        audit::export,
        oauth::authorize::show,
        oauth::authorize::decide,
        oauth::token::exchange,
        oauth::token::revoke,
        oauth::introspect::introspect,
        oauth::metadata::show,
        oauth::clients::list,
        oauth::clients::create,
        oauth::clients::revoke,
        oauth::clients::rotate,
        oauth::grants::list,
        oauth::grants::revoke,
        ops::livez,
        ops::readyz,
        ops::metrics,
        session::show,
        session::change,
        session::log_out,
        session::list,
        session::log_out_everywhere,
        session::end,
        session::change_password,
        session::begin_totp,
        session::confirm_totp,
        session::remove_totp,
        users::list,
        users::change,
        users::remove,
        invitations::list,
        invitations::create,
        invitations::revoke,
        pages::login::show,
        pages::login::log_in,
        pages::login::show_second,
        pages::login::log_in_with_code,
        pages::oidc::begin,
        pages::oidc::end,
        pages::login::log_out,
        pages::join::show_set_up,
        pages::join::set_up,
        pages::join::show,
        pages::join::accept,
        pages::account::show,
        pages::account::switch,
        pages::account::speak,
        pages::account::password,
        pages::account::log_out_everywhere,
        pages::account::show_totp,
        pages::account::begin_totp,
        pages::account::confirm_totp,
        pages::account::remove_totp,
        pages::style,
        pages::script,
        document,
        docs,
        docs_style,
        docs_script,
    ),
    components(schemas(shapes::Error, shapes::ErrorV2))
)]
struct Document;

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

fn security_schemes() -> Value {
    json!({
        "bearer": {"type": "http", "scheme": "bearer", "description": "`Authorization: Bearer KEY`"},
        "basic": {"type": "http", "scheme": "basic", "description": "`Authorization: Basic base64(CLIENT_ID:KEY)`; the Client ID may be left out."},
        "key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "`X-API-Key: KEY`"},
        "worker": {"type": "http", "scheme": "bearer", "description": "`Authorization: Bearer TOKEN` with a worker token (`wk_…`), or one of the other two ways"},
        "session": {"type": "apiKey", "in": "cookie", "name": "hookyard-session", "description": "A person who is logged in. Behind TLS the cookie is named `__Host-hookyard-session`. Whatever changes something needs the header `X-CSRF-Token`, too."}
    })
}

fn headers() -> Value {
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
fn complete(entry: &Entry, operation: &mut Value) {
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
fn name_entries(schemas: &Value, operation: &mut Value) {
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
