//! `/v1/hooks`: the tenant's hooks, read and switched. Subscribing is `zapier`, sending again is `replay`.

use std::mem;

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header::CACHE_CONTROL},
    web::Data,
};
use chrono::{DateTime, Utc};
use hookyard_chassis::{api_error::ApiError, request_id::RequestId};
use hookyard_domain::{
    Error,
    audit::Action,
    db::Conn,
    delivery::{self, Profile, replay},
    event::{self, Draft, EventType, Origin, Provenance},
    id::{DeliveryId, SubscriptionId, TenantId},
    subscription::{
        self, Ending, EventPattern, HookState, Kind,
        store::{self, HookQuery, HookView},
    },
    trace::TraceContext,
    wire::Object,
};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::{
    audited, endpoints,
    hook_view::View,
    recoveries::{self, EnableRequest, Enabled, EnabledHook},
    rings, samples,
};
use crate::{
    access::{
        Caller,
        idempotent::{Refusal, Reply, idempotent, key},
        visitor::accepted_locale,
    },
    body::{JsonBody, SMALL},
    context::Context,
    paging::{Id, Page, Query, invalid_parameter},
    problem,
};

/// Why a hook is disabled that its owner disabled.
const BY_OWNER: &str = "disabled by its owner";

/// List hooks
///
/// Newest first, without the deleted unless `state=deleted` asks for them.
#[utoipa::path(
    get,
    path = "/v1/hooks",
    operation_id = "list_hooks",
    tag = "Hooks",
    params(
        ("state" = Option<String>, Query, description = "Only hooks in this state: `pending`, `active`, `failing`, `disabled` or `deleted`."),
        ("event_type" = Option<String>, Query, description = "Only hooks that were subscribed with exactly this event type or pattern.", example = "order.created"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of an earlier page."),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 100, description = "Entries on a page, 1 to 100; 50 by default.")
    ),
    responses((status = 200, description = "A page of hooks.", body = inline(crate::openapi::PageOf<View>), example = json!({"data": [{"id": "hook_01hzy3v9k2s8d4f6g8h0j2k4m6", "url": "https://hooks.zapier.com/hooks/standard/1234567/abcdef0123456789/", "description": "Zapier: order.created", "event_type": "order.created", "pattern": "order.created", "filter": null, "state": "active", "state_reason": null, "delivery_count": 1042, "failure_count": 3, "consecutive_failures": 0, "last_delivered_at": "2025-11-12T15:45:00.731Z", "last_attempt_at": "2025-11-12T15:45:00.731Z", "last_status": 200, "last_reason": "delivered", "expires_at": null, "created_at": "2025-11-12T14:30:00.000Z", "updated_at": "2025-11-12T14:31:07.210Z"}], "next_cursor": null, "has_more": false})))
)]
pub(crate) async fn list(
    context: Data<Context>,
    caller: Caller,
    mut query: Query,
) -> Result<HttpResponse, ApiError> {
    let event_type = query.text("event_type");
    // Nothing else was stored, and not every text can be looked for.
    if event_type.as_ref().is_some_and(|text| text.parse::<EventPattern>().is_err()) {
        return Err(invalid_parameter(
            "event_type",
            "must be an event type or a pattern, such as order.created",
        ));
    }
    let asked = HookQuery {
        state: query.value("state", "pending, active, failing, disabled or deleted")?,
        event_type,
        before: query.cursor::<SubscriptionId>()?,
        limit: query.limit()?,
    };
    query.finish()?;
    let tenant = caller.tenant();
    let limit = asked.limit;
    let asked = HookQuery { limit: limit + 1, ..asked };
    let rows = context.db.once(move |conn| store::list(conn, tenant, &asked)).await.map_err(problem::of)?;
    Ok(Page::new(rows, limit, |hook| hook.id).map(View::from).respond())
}

/// Show a hook
///
/// With its state, its counters and what came of the last try. Deleted hooks can be shown, too: `state_reason` tells why
/// they are gone.
#[utoipa::path(
    get,
    path = "/v1/hooks/{id}",
    operation_id = "show_hook",
    tag = "Hooks",
    params(("id" = String, Path, description = "The hook's id.", example = "hook_01hzy3v9k2s8d4f6g8h0j2k4m6")),
    responses((status = 200, description = "The hook.", body = View, example = json!({"id": "hook_01hzy3v9k2s8d4f6g8h0j2k4m6", "url": "https://hooks.zapier.com/hooks/standard/1234567/abcdef0123456789/", "description": "Zapier: order.created", "event_type": "order.created", "pattern": "order.created", "filter": null, "state": "failing", "state_reason": "http_500", "delivery_count": 1042, "failure_count": 4, "consecutive_failures": 1, "last_delivered_at": "2025-11-12T15:45:00.731Z", "last_attempt_at": "2025-11-12T15:51:12.004Z", "last_status": 500, "last_reason": "http_500", "expires_at": null, "created_at": "2025-11-12T14:30:00.000Z", "updated_at": "2025-11-12T15:51:12.004Z"})))
)]
pub(crate) async fn show(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<SubscriptionId>,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    query.finish()?;
    let tenant = caller.tenant();
    let hook = context.db.once(move |conn| found(conn, tenant, id)).await.map_err(problem::of)?;
    Ok(HttpResponse::Ok().json(View::from(hook)))
}

/// A hook of the tenant in whatever state.
pub(super) fn found(conn: &mut Conn, tenant: TenantId, id: SubscriptionId) -> Result<HookView, Error> {
    store::find(conn, tenant, id)?.ok_or(Error::NotFound { what: "hook" })
}

/// 409 for hooks that are gone.
pub(super) fn is_there(hook: &HookView) -> Result<(), ApiError> {
    if hook.state == HookState::Deleted { takes_events(hook) } else { Ok(()) }
}

/// 409 for hooks that take no deliveries.
pub(super) fn takes_events(hook: &HookView) -> Result<(), ApiError> {
    endpoints::takes_events(Kind::Hook, hook.state)
}

/// The secret of a hook.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = HookSecret)]
pub(crate) struct Secret {
    /// The hook.
    #[schema(example = "hook_01hzy3v9k2s8d4f6g8h0j2k4m6")]
    id: String,
    /// `whsec_` and the base64 of the key.
    #[schema(example = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]
    signing_secret: String,
}

/// Show the signing secret of a hook
///
/// The key with which `webhook-signature` on deliveries to this hook can be verified (Standard Webhooks). The audit log
/// remembers to whom it was shown.
#[utoipa::path(
    get,
    path = "/v1/hooks/{id}/secret",
    operation_id = "show_hook_secret",
    tag = "Hooks",
    params(("id" = String, Path, description = "The hook's id.", example = "hook_01hzy3v9k2s8d4f6g8h0j2k4m6")),
    responses((status = 200, description = "The secret. Not to be cached.", body = Secret, example = json!({"id": "hook_01hzy3v9k2s8d4f6g8h0j2k4m6", "signing_secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"})))
)]
pub(crate) async fn secret(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<SubscriptionId>,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    query.finish()?;
    let (vault, now) = (context.vault.clone(), context.clock.now());
    let shown = move |conn: &mut Conn| {
        let secret = store::signing_secret(conn, &vault, caller.tenant(), id)?;
        let secret = secret.ok_or(Error::NotFound { what: "hook" })?;
        audited::record(conn, &caller, &audited::of_hook(&caller, Action::HookSecretShown, id), now)?;
        Ok(secret)
    };
    let secret = context.db.run(shown).await.map_err(problem::of)?;
    let body = Secret { id: id.to_string(), signing_secret: secret.expose().to_owned() };
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(body))
}

/// What was put on its way.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TestQueued)]
pub(crate) struct Queued {
    /// The test event.
    #[schema(example = "evt_01hzy3v9k2s8d4f6g8h0j2k4m6")]
    event_id: String,
    /// Its delivery; ask for it with `/v1/deliveries/{id}`.
    #[schema(example = "dlv_01hzy3v9k2s8d4f6g8h0j2k4m601hzy3v9k2s8d4f6g8h0j2k4m7")]
    delivery_id: String,
    /// Always `queued`.
    #[schema(example = "queued")]
    status: &'static str,
}

/// Send a test event to a hook
///
/// Makes an event of the hook's type, like its samples, with `"test": true` in its metadata, and delivers it to this hook
/// only. The hook's filter is not asked.
#[utoipa::path(
    post,
    path = "/v1/hooks/{id}/test",
    operation_id = "test_hook",
    tag = "Hooks",
    params(
        ("id" = String, Path, description = "The hook's id.", example = "hook_01hzy3v9k2s8d4f6g8h0j2k4m6"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition of this very request give the same answer, for 48 h; 1 to 255 printable ASCII characters.")
    ),
    responses((status = 202, description = "On its way.", body = Queued, example = json!({"event_id": "evt_01hzy3v9k2s8d4f6g8h0j2k4m6", "delivery_id": "dlv_01hzy3v9k2s8d4f6g8h0j2k4m601hzy3v9k2s8d4f6g8h0j2k4m7", "status": "queued"}))),
    extensions(("x-errors" = json!(["HOOK_DISABLED", "HOOK_DELETED"])))
)]
pub(crate) async fn test(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<SubscriptionId>,
    request: HttpRequest,
    request_id: RequestId,
    body: JsonBody<SMALL>,
) -> Result<Reply, ApiError> {
    let now = context.clock.now();
    let key = key(&request, &caller, &body)?;
    idempotent(&context, key, move |conn| {
        let hook = found(conn, caller.tenant(), id)?;
        takes_events(&hook)?;
        let tested = Tested { id, profile: Profile::Hook, pattern: hook.pattern.as_deref() };
        let delivery = queue_test(conn, &caller, &tested, &request_id, now)?;
        Ok(Reply::json(StatusCode::ACCEPTED, &Queued::of(delivery))?)
    })
    .await
}

impl Queued {
    pub(super) fn of(delivery: DeliveryId) -> Self {
        Self { event_id: delivery.event.to_string(), delivery_id: delivery.to_string(), status: "queued" }
    }
}

/// What is tested.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tested<'a> {
    pub(super) id: SubscriptionId,
    pub(super) profile: Profile,
    /// What an event is made like; `None` = any.
    pub(super) pattern: Option<&'a str>,
}

/// Makes a test event and puts it on its way to one subscription.
pub(super) fn queue_test(
    conn: &mut Conn,
    caller: &Caller,
    tested: &Tested<'_>,
    request_id: &RequestId,
    now: DateTime<Utc>,
) -> Result<DeliveryId, Refusal> {
    let tenant = caller.tenant();
    let example = samples::example(conn, tenant, tested.pattern)?;
    // Examples have types that are some and payloads that are objects.
    let event_type: EventType =
        example.event_type.parse().map_err(|error| ApiError::internal(anyhow::Error::new(error)))?;
    let payload = example.payload.into_object().unwrap_or_else(|_other| Object::new());
    let source_ip = caller.peer.map(|peer| peer.to_string());
    let event = Draft::of(event_type, payload).marked_as_test().accept(
        Origin::Test,
        &Provenance {
            tenant,
            now,
            source_ip: source_ip.as_deref(),
            user_agent: Some("Hookyard"),
            request_id: request_id.as_str(),
            trace: TraceContext::fresh(),
        },
    );
    let id = DeliveryId { event: event.id, subscription: tested.id };
    event::store::insert_alone(conn, &event)?;
    // Due at once and held by nobody: the next sweep takes it.
    replay::schedule(conn, tenant, tested.id, tested.profile, &[(event.id, None)], now)?;
    Ok(id)
}

/// Enable a hook
///
/// A disabled hook is `pending` again and takes events from now on. With `replay` a [recovery](#tag/Recoveries) of what was kept
/// is started in the same step: `true` sends what was under way when it was disabled and what has happened since, an object says
/// which events and how fast. Nothing happens to a hook that is not disabled, but for a `replay` with `since`.
#[utoipa::path(
    post,
    path = "/v1/hooks/{id}/enable",
    operation_id = "enable_hook",
    tag = "Hooks",
    params(
        ("id" = String, Path, description = "The hook's id.", example = "hook_01hzy3v9k2s8d4f6g8h0j2k4m6"),
        ("Accept-Language" = Option<String>, Header, description = "`en` (the default) or `fr`.")
    ),
    request_body(content = EnableRequest, description = "May be left out.", example = json!({"replay": {"event_types": ["order.*"], "per_second": 10}})),
    responses((status = 200, description = "The hook as it is now, and the recovery if one was asked for.", body = EnabledHook)),
    extensions(("x-errors" = json!(["HOOK_DELETED", "INVALID_FIELD", "INVALID_EVENT_TYPE", "INVALID_BODY", "RECOVERY_RUNNING"])))
)]
pub(crate) async fn enable(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<SubscriptionId>,
    request: HttpRequest,
    body: JsonBody<SMALL>,
) -> Result<Reply, ApiError> {
    let (tenant, now) = (caller.tenant(), context.clock.now());
    let locale = accepted_locale(request.headers());
    let replay = recoveries::with_enabling(&body, &context.settings.gateway, now)?;
    idempotent(&context, None, move |conn| {
        let mut hook = locked(conn, tenant, id)?;
        let disabled_at = endpoints::found(conn, tenant, id, (&[Kind::Hook], "hook"))?.disabled_at;
        match hook.state {
            HookState::Pending | HookState::Active | HookState::Failing => {}
            HookState::Disabled => {
                delivery::cancelling::farewell(conn, tenant, (id, disabled_at), now)?;
                store::set_state(conn, tenant, id, HookState::Pending, None, now)?;
                let before = mem::replace(&mut hook, found(conn, tenant, id)?);
                audited::switched(conn, &caller, Action::HookEnabled, (&before, &hook), now)?;
            }
            HookState::Deleted => takes_events(&hook)?,
        }
        let recovery =
            replay.map(|wish| wish.start_enabled(conn, &caller, (id, disabled_at), now)).transpose()?;
        let recovery = recovery.map(|recovery| recoveries::View::of(recovery, locale));
        Ok(Reply::json(StatusCode::OK, &Enabled { endpoint: View::from(hook), recovery })?)
    })
    .await
}

/// Disable a hook
///
/// Nothing is delivered to it until it is enabled or subscribed again, and what is under way is cancelled. Its receiver
/// is told once with `DELETE` at the hook's URL (Zapier then pauses the Zap), the tenant with an event `hook.disabled`.
/// Nothing happens to a hook that is disabled already.
#[utoipa::path(
    post,
    path = "/v1/hooks/{id}/disable",
    operation_id = "disable_hook",
    tag = "Hooks",
    params(("id" = String, Path, description = "The hook's id.", example = "hook_01hzy3v9k2s8d4f6g8h0j2k4m6")),
    responses((status = 200, description = "The hook as it is now.", body = View)),
    extensions(("x-errors" = json!(["HOOK_DELETED"])))
)]
pub(crate) async fn disable(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<SubscriptionId>,
) -> Result<HttpResponse, ApiError> {
    let (tenant, now) = (caller.tenant(), context.clock.now());
    let (hook, told) = context
        .db
        .run(move |conn| {
            let hook = locked(conn, tenant, id)?;
            if !hook.state.takes_events() {
                return Ok((hook, None));
            }
            store::set_state(conn, tenant, id, HookState::Disabled, Some(BY_OWNER), now)?;
            let told = subscription::end(
                conn,
                (Ending::Disabled, Kind::Hook),
                (tenant, id, &hook.url),
                BY_OWNER,
                now,
            )?;
            let after = found(conn, tenant, id)?;
            audited::switched(conn, &caller, Action::HookDisabled, (&hook, &after), now)?;
            Ok((after, Some(told)))
        })
        .await
        .map_err(problem::of)?;
    if hook.state == HookState::Deleted {
        takes_events(&hook)?;
    }
    if let Some(group) = told {
        rings::events_accepted(&context, group);
    }
    Ok(HttpResponse::Ok().json(View::from(hook)))
}

/// A hook of the tenant, locked until the transaction ends: who switches it twice at the same time switches it once.
fn locked(conn: &mut Conn, tenant: TenantId, id: SubscriptionId) -> Result<HookView, Error> {
    found(conn, tenant, id)?;
    subscription::lock_health(conn, &[id])?;
    found(conn, tenant, id)
}

/// Delete a hook
///
/// The same as unsubscribing it by its id: what is under way is cancelled. The receiver is not told; disable the hook
/// first if its Zap should be paused. Deleting it again is answered with 200, too.
#[utoipa::path(
    delete,
    path = "/v1/hooks/{id}",
    operation_id = "delete_hook",
    tag = "Hooks",
    params(("id" = String, Path, description = "The hook's id.", example = "hook_01hzy3v9k2s8d4f6g8h0j2k4m6")),
    responses((status = 200, description = "It is gone.", body = inline(Deleted), example = json!({"status": "deleted", "id": "hook_01hzy3v9k2s8d4f6g8h0j2k4m6", "url": "https://hooks.zapier.com/hooks/standard/1234567/abcdef0123456789/"})))
)]
pub(crate) async fn delete(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<SubscriptionId>,
) -> Result<HttpResponse, ApiError> {
    let (tenant, now) = (caller.tenant(), context.clock.now());
    let hook = context
        .db
        .run(move |conn| {
            let hook = found(conn, tenant, id)?;
            if store::set_state(conn, tenant, id, HookState::Deleted, Some("deleted by its owner"), now)? {
                delivery::cancelling::begin(conn, tenant, id, now, "hook deleted")?;
                let entry = audited::of_hook(&caller, Action::HookRemoved, id);
                audited::record(conn, &caller, &entry.before(audited::hook(&hook)), now)?;
            }
            Ok(hook)
        })
        .await
        .map_err(problem::of)?;
    Ok(HttpResponse::Ok().json(json!({"status": "deleted", "id": id.to_string(), "url": hook.url})))
}

/// What whoever deletes a hook is told.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the answer in the OpenAPI document")]
pub(crate) struct Deleted {
    /// Always `deleted`.
    #[schema(example = "deleted")]
    status: String,
    /// The hook.
    id: String,
    /// Where its deliveries went.
    url: String,
}
