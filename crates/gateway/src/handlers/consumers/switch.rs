//! Consumers tested and switched.

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web::Data};
use chrono::{DateTime, Utc};
use hookyard_chassis::{api_error::ApiError, request_id::RequestId};
use hookyard_domain::{
    Error,
    audit::Action,
    db::Conn,
    id::{EventGroupId, SubscriptionId, TenantId},
    subscription::{
        self, Ending, HookState, Kind,
        consumer::store::{BY_OWNER, ConsumerView},
    },
};

use super::{
    entry, found, is_there, locked, takes_events,
    view::{self, View},
};
use crate::{
    access::{
        Caller,
        idempotent::{Reply, idempotent, key},
        visitor::accepted_locale,
    },
    body::{JsonBody, SMALL},
    context::Context,
    handlers::{
        audited, endpoints,
        fields::Fields,
        hooks::{Queued, Tested, queue_test},
        recoveries::{self, EnableRequest, Enabled, EnabledConsumer},
        rings,
        zapier::Wanted,
    },
    paging::Id,
    problem,
};

/// Moves a consumer to where it is wanted. Returns the group of the event that tells its end.
pub(super) fn switched(
    conn: &mut Conn,
    consumer: &ConsumerView,
    disabled: Option<bool>,
    (tenant, now): (TenantId, DateTime<Utc>),
) -> Result<Option<EventGroupId>, Error> {
    let id = consumer.id;
    match (disabled, consumer.state) {
        (Some(true), HookState::Pending | HookState::Active | HookState::Failing) => {
            subscription::store::set_state(conn, tenant, id, HookState::Disabled, Some(BY_OWNER), now)?;
            let ending = (Ending::Disabled, Kind::Consumer);
            subscription::end(conn, ending, (tenant, id, &consumer.url), BY_OWNER, now).map(Some)
        }
        (Some(false), HookState::Disabled) => {
            subscription::store::set_state(conn, tenant, id, HookState::Pending, None, now)?;
            Ok(None)
        }
        (Some(_) | None, _) => Ok(None),
    }
}

/// Enable a consumer
///
/// A disabled consumer is `pending` again and takes events from now on. With `replay` a [recovery](#tag/Recoveries) of what was
/// kept is started in the same step: `true` sends what was under way when it was disabled and what has happened since, an object
/// says which events and how fast. Nothing happens to one that is not disabled, but for a `replay` with `since`.
#[utoipa::path(
    post,
    path = "/webhooks/{id}/enable",
    operation_id = "enable_consumer",
    tag = "Consumers",
    params(
        ("id" = String, Path, description = "The consumer's id.", example = "hook_01hzy3v9k2s8d4f6g8h0j2k4m6"),
        ("Accept-Language" = Option<String>, Header, description = "`en` (the default) or `fr`.")
    ),
    request_body(content = EnableRequest, description = "May be left out.", example = json!({"replay": true})),
    responses((status = 200, description = "The consumer as it is now, and the recovery if one was asked for.", body = EnabledConsumer)),
    extensions(("x-errors" = json!(["CONSUMER_DELETED", "INVALID_FIELD", "INVALID_EVENT_TYPE", "INVALID_BODY", "RECOVERY_RUNNING"])))
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
        let before = locked(conn, tenant, id)?;
        is_there(&before)?;
        let disabled_at = endpoints::found(conn, tenant, id, (&[Kind::Consumer], "consumer"))?.disabled_at;
        switched(conn, &before, Some(false), (tenant, now))?;
        let after = found(conn, tenant, id)?;
        if after.state != before.state {
            let entry = entry(&caller, Action::ConsumerEnabled, id);
            let entry = entry.before(view::told(&before)).after(view::told(&after));
            audited::record(conn, &caller, &entry, now)?;
        }
        let recovery =
            replay.map(|wish| wish.start_enabled(conn, &caller, (id, disabled_at), now)).transpose()?;
        let recovery = recovery.map(|recovery| recoveries::View::of(recovery, locale));
        Ok(Reply::json(StatusCode::OK, &Enabled { endpoint: View::of(after, now), recovery })?)
    })
    .await
}

/// Disable a consumer
///
/// Nothing is delivered to it until it is enabled, and what is under way is cancelled. The tenant is told with an event
/// `hook.disabled`. Events are kept meanwhile. Nothing happens to a consumer that is disabled already.
#[utoipa::path(
    post,
    path = "/webhooks/{id}/disable",
    operation_id = "disable_consumer",
    tag = "Consumers",
    params(("id" = String, Path, description = "The consumer's id.", example = "hook_01hzy3v9k2s8d4f6g8h0j2k4m6")),
    responses((status = 200, description = "The consumer as it is now.", body = View)),
    extensions(("x-errors" = json!(["CONSUMER_DELETED"])))
)]
pub(crate) async fn disable(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<SubscriptionId>,
) -> Result<HttpResponse, ApiError> {
    let now = context.clock.now();
    let (consumer, told) = context
        .db
        .run(move |conn| {
            let tenant = caller.tenant();
            let before = locked(conn, tenant, id)?;
            let told = switched(conn, &before, Some(true), (tenant, now))?;
            let after = found(conn, tenant, id)?;
            if after.state != before.state {
                let entry = entry(&caller, Action::ConsumerDisabled, id)
                    .before(view::told(&before))
                    .after(view::told(&after));
                audited::record(conn, &caller, &entry, now)?;
            }
            Ok((after, told))
        })
        .await
        .map_err(problem::of)?;
    is_there(&consumer)?;
    if let Some(group) = told {
        rings::events_accepted(&context, group);
    }
    Ok(HttpResponse::Ok().json(View::of(consumer, now)))
}

/// Send a test event to a consumer
///
/// Makes an event of the first of the consumer's types, or of the one that is asked for, like its samples, with `"test": true` in
/// its metadata, and delivers it to this consumer only. Tags, filter and order are not asked; the transformation is.
#[utoipa::path(
    post,
    path = "/webhooks/{id}/test",
    operation_id = "test_consumer",
    tag = "Consumers",
    params(
        ("id" = String, Path, description = "The consumer's id.", example = "hook_01hzy3v9k2s8d4f6g8h0j2k4m6"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition of this very request give the same answer, for 48 h; 1 to 255 printable ASCII characters.")
    ),
    request_body(content = crate::openapi::ConsumerTest, description = "May be left out.", example = json!({"eventType": "order.created"})),
    responses((status = 202, description = "On its way.", body = Queued, example = json!({"event_id": "evt_01hzy3v9k2s8d4f6g8h0j2k4m6", "delivery_id": "dlv_01hzy3v9k2s8d4f6g8h0j2k4m601hzy3v9k2s8d4f6g8h0j2k4m7", "status": "queued"}))),
    extensions(("x-errors" = json!(["INVALID_EVENT_TYPE", "INVALID_BODY", "CONSUMER_DISABLED", "CONSUMER_DELETED"])))
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
    let asked = Fields::parse(&body)?.text("eventType")?.map(str::to_owned);
    let key = key(&request, &caller, &body)?;
    idempotent(&context, key, move |conn| {
        let consumer = found(conn, caller.tenant(), id)?;
        takes_events(&consumer)?;
        let catalogue = hookyard_domain::catalogue::of_tenant(conn, caller.tenant())?;
        let asked = asked.map(|name| Wanted::of(&name, &catalogue)).transpose()?;
        let pattern = asked.map(|wanted| wanted.pattern_text).or_else(|| consumer.patterns.first().cloned());
        let tested = Tested { id, profile: Kind::Consumer.profile(), pattern: pattern.as_deref() };
        let delivery = queue_test(conn, &caller, &tested, &request_id, now)?;
        Ok(Reply::json(StatusCode::ACCEPTED, &Queued::of(delivery))?)
    })
    .await
}
