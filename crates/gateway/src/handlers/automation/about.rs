//! `/v1/automation/me` and `/v1/automation/`: who asks, and what can be asked for.

use actix_web::{HttpResponse, web::Data};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    event::wire_time,
    task::{AgentType, draft, model::ProviderKind, step},
    tenant,
};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::{
    access::{Caller, Principal},
    context::Context,
    paging::Query,
    problem,
};

/// Who asks.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AutomationMe)]
pub(crate) struct Me {
    /// For people: the tenant and the credential. What Zapier calls the connection.
    #[schema(example = "Acme (API key Zapier)")]
    label: String,
    /// The tenant.
    #[schema(example = "ten_01hzy3v9k2s8d4f6g8h0j2k4m6")]
    tenant_id: String,
    /// What it is called.
    #[schema(example = "Acme")]
    tenant_name: String,
    /// What the credential is called, or the person.
    #[schema(example = "API key Zapier")]
    name: String,
    /// `credential` or `person`.
    #[schema(example = "credential")]
    kind: &'static str,
    /// What may be done.
    #[schema(example = json!(["tasks:read", "tasks:write"]))]
    scopes: Vec<&'static str>,
    /// When the credential ends.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
}

/// Show who asks
///
/// A test of a connection: 401 for a credential that does not hold.
#[utoipa::path(
    get,
    path = "/v1/automation/me",
    operation_id = "show_automation_me",
    tag = "Automation",
    responses((status = 200, description = "Who asks.", body = Me))
)]
pub(crate) async fn me(
    context: Data<Context>,
    caller: Caller,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    query.finish()?;
    let tenant = caller.tenant();
    let found = context.db.once(move |conn| tenant::store::find(conn, tenant)).await.map_err(problem::of)?;
    let tenant_name = found.map(|tenant| tenant.name).unwrap_or_default();
    let name = caller.actor().name;
    let (kind, expires_at) = match &caller.principal {
        Principal::Credential(credential) => ("credential", credential.expires_at),
        Principal::Person(_) => ("person", None),
    };
    Ok(HttpResponse::Ok().json(Me {
        label: format!("{tenant_name} ({name})"),
        tenant_id: tenant.to_string(),
        tenant_name,
        name,
        kind,
        scopes: caller.principal.scopes().iter().map(|scope| scope.as_str()).collect(),
        expires_at: expires_at.map(wire_time),
    }))
}

/// Show what can be asked for
///
/// Types of agents, models, events of webhooks, bounds: the capability document.
#[utoipa::path(
    get,
    path = "/v1/automation",
    operation_id = "show_automation",
    tag = "Automation",
    responses((status = 200, description = "The document.", body = Object, example = json!({"agent_types": [{"name": "general", "built_in": true}, {"name": "build", "built_in": false}], "default_model": "claude-sonnet", "models": [{"name": "claude-sonnet", "stands_for": "anthropic:claude-sonnet-4-5"}], "statuses": ["queued", "running", "needs_input", "completed", "failed", "cancelled"], "webhook_signature": "X-CodeTether-Signature"})))
)]
pub(crate) async fn capabilities(
    context: Data<Context>,
    _caller: Caller,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    query.finish()?;
    Ok(HttpResponse::Ok().json(document(&context)))
}

/// Show what can be asked for, with a slash
///
/// The same as without one: clients that join a base and an empty path come here.
#[utoipa::path(
    get,
    path = "/v1/automation/",
    operation_id = "show_automation_root",
    tag = "Automation",
    responses((status = 200, description = "The document.", body = Object, example = json!({"agent_types": [{"name": "general", "built_in": true}, {"name": "build", "built_in": false}], "default_model": "claude-sonnet", "models": [{"name": "claude-sonnet", "stands_for": "anthropic:claude-sonnet-4-5"}], "statuses": ["queued", "running", "needs_input", "completed", "failed", "cancelled"], "webhook_signature": "X-CodeTether-Signature"})))
)]
pub(crate) async fn root(
    context: Data<Context>,
    _caller: Caller,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    query.finish()?;
    Ok(HttpResponse::Ok().json(document(&context)))
}

fn document(context: &Context) -> Value {
    let models: Vec<Value> = context
        .models
        .choices()
        .map(|(name, stands_for)| json!({"name": name, "stands_for": stands_for}))
        .collect();
    let providers: Vec<Value> = context
        .models
        .providers()
        .map(|provider| {
            let kind = match provider.kind {
                ProviderKind::Anthropic => "anthropic",
                ProviderKind::OpenAi => "openai",
                ProviderKind::Offline => "offline",
            };
            let ready = provider.api_key.is_some() || provider.keyless();
            json!({"name": provider.name, "kind": kind, "has_key_of_installation": ready})
        })
        .collect();
    let agents: Vec<Value> = AgentType::ALL
        .into_iter()
        .map(|agent| json!({"name": agent.as_str(), "built_in": agent.built_in()}))
        .collect();
    let (least, most, usual) = draft::TIMEOUT_S;
    json!({
        "documentation": context.link("/docs"),
        "openapi": context.link("/openapi.json"),
        "agent_types": agents,
        "default_model": context.models.default_model(),
        "models": models,
        "providers": providers,
        "statuses": ["queued", "running", "needs_input", "completed", "failed", "cancelled"],
        "webhook_events": hookyard_domain::task::webhook::Events::every(),
        "webhook_signature": "X-CodeTether-Signature",
        "authentication": ["api_key", "oauth2"],
        "limits": {
            "title_characters": draft::MAX_TITLE_CHARS,
            "description_characters": draft::MAX_DESCRIPTION_CHARS,
            "metadata_bytes": draft::MAX_METADATA_BYTES,
            "priority": [0, 100],
            "task_timeout_seconds": {"least": least, "most": most, "default": usual},
            "result_bytes": step::MAX_RESULT_BYTES,
            "concurrent_runs": context.settings.tasks.concurrency,
            "attempts": context.settings.tasks.attempts,
        },
        "endpoints": [
            "POST /v1/automation/tasks",
            "GET /v1/automation/tasks",
            "GET /v1/automation/tasks/{id}",
            "DELETE /v1/automation/tasks/{id}",
            "POST /v1/automation/tasks/{id}/cancel",
            "POST /v1/automation/tasks/{id}/input",
            "POST /v1/automation/tasks/{id}/retry",
            "GET /v1/automation/tasks/{id}/runs",
            "GET /v1/automation/tasks/{id}/deliveries",
            "GET /v1/automation/tasks/{id}/events",
            "GET /v1/automation/schedules",
            "GET /v1/automation/usage",
            "GET /v1/automation/budget",
            "GET /v1/automation/stats",
        ],
    })
}
