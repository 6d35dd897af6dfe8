//! `/v1/automation/tasks/{id}/deliveries` and `…/webhook`: what became of the webhooks of a task, and what they are signed with.

use actix_web::{HttpResponse, http::header::CACHE_CONTROL, web::Data};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    Error, Result as DomainResult,
    audit::{Action, Entry, ObjectKind, ObjectRef},
    db::Conn,
    delivery::inspect::{self, DeliveryView},
    id::{SubscriptionId, TaskId, TenantId},
    subscription::{endpoint, store::HookView},
    task::list,
};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::super::{
    audited,
    deliveries::{self, Detail},
};
use crate::{
    access::Caller,
    context::Context,
    paging::{Id, Query},
    problem,
};

/// Webhooks that are shown of a run at most: a run that tells its progress for days has more.
const MOST: i64 = 1_000;

/// The webhooks of the latest run of a task.
#[derive(Serialize, ToSchema)]
#[schema(as = TaskDeliveries)]
pub(crate) struct Listed {
    /// In the order in which they are sent, each with its tries.
    deliveries: Vec<Detail>,
}

/// List the webhooks of a task
///
/// Those of its latest run, in the order in which they are sent, with their tries. Each can be sent again with
/// `POST /v1/deliveries/{id}/retry`.
#[utoipa::path(
    get,
    path = "/v1/automation/tasks/{id}/deliveries",
    operation_id = "list_task_deliveries",
    tag = "Tasks",
    params(("id" = String, Path, description = "The task's id.", example = "550e8400-e29b-41d4-a716-446655440000")),
    responses((status = 200, description = "The webhooks.", body = Listed))
)]
pub(crate) async fn list(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<TaskId>,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    query.finish()?;
    let tenant = caller.tenant();
    let read = move |conn: &mut Conn| {
        list::show(conn, tenant, id)?.ok_or(Error::NotFound { what: "task" })?;
        let sent: Vec<DeliveryView> = match inspect::latest_run(conn, tenant, id)? {
            None => Vec::new(),
            Some(run) => inspect::of_run(conn, tenant, &run, MOST)?,
        };
        deliveries::details(conn, sent)
    };
    let deliveries = context.db.run(read).await.map_err(problem::of)?;
    Ok(HttpResponse::Ok().json(Listed { deliveries }))
}

/// Where the webhooks of a task go, and what they are signed with.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TaskWebhook)]
pub(crate) struct Webhook {
    /// The endpoint, shared by all tasks that name the same URL and secret: the `hook_id` of its deliveries.
    #[schema(example = "hook_01hzy3v9k2s8d4f6g8h0j2k4m6")]
    hook_id: String,
    /// Where they go.
    #[schema(example = "https://hooks.zapier.com/hooks/catch/123/abc/")]
    url: String,
    /// `pending`, `active`, `failing`, `disabled`, or `deleted` when nobody has named it for a day; it comes back when it is named.
    #[schema(example = "active")]
    state: &'static str,
    /// Why, if it is not obvious.
    state_reason: Option<String>,
    /// `whsec_` and the base64 of the key that `webhook-signature` is made with (Standard Webhooks); `null` for a deleted one.
    #[schema(example = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]
    signing_secret: Option<String>,
}

/// Show where the webhooks of a task go
///
/// With the key with which `webhook-signature` can be verified. The audit log remembers to whom it was shown.
#[utoipa::path(
    get,
    path = "/v1/automation/tasks/{id}/webhook",
    operation_id = "show_task_webhook",
    tag = "Tasks",
    params(("id" = String, Path, description = "The task's id.", example = "550e8400-e29b-41d4-a716-446655440000")),
    responses((status = 200, description = "The endpoint. Not to be cached.", body = Webhook))
)]
pub(crate) async fn show(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<TaskId>,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    query.finish()?;
    let (vault, now) = (context.vault.clone(), context.clock.now());
    let shown = move |conn: &mut Conn| {
        let tenant = caller.tenant();
        let (endpoint, found) = of_task(conn, tenant, id)?;
        let secret = endpoint::signing_secret(conn, &vault, tenant, endpoint)?;
        if secret.is_some() {
            let object = ObjectRef::new(ObjectKind::TaskEndpoint, endpoint);
            let entry = Entry::new(tenant, Action::TaskEndpointSecretShown, object)
                .after(json!({"task_id": id.to_string(), "url": found.url}));
            audited::record(conn, &caller, &entry, now)?;
        }
        Ok(Webhook {
            hook_id: endpoint.to_string(),
            url: found.url,
            state: found.state.as_str(),
            state_reason: found.state_reason,
            signing_secret: secret.map(|secret| secret.expose().to_owned()),
        })
    };
    let webhook = context.db.run(shown).await.map_err(problem::of)?;
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(webhook))
}

/// The endpoint of a task of the tenant.
fn of_task(conn: &mut Conn, tenant: TenantId, task: TaskId) -> DomainResult<(SubscriptionId, HookView)> {
    let id = endpoint::of(conn, tenant, task)?.ok_or(Error::NotFound { what: "webhook of this task" })?;
    let found = endpoint::find(conn, tenant, id)?.ok_or(Error::NotFound { what: "webhook of this task" })?;
    Ok((id, found))
}
