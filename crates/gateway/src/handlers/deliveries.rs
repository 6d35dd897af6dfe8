//! `/v1/deliveries`: what became of events, try by try, and sending one again. Dead letters have a place of their own.

use std::collections::HashMap;

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web::Data};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    Error, Result as DomainResult,
    audit::Action,
    db::Conn,
    delivery::{
        DeliveryState, Profile,
        inspect::{self, AttemptView, DeliveryQuery, DeliveryView},
        replay,
    },
    event::wire_time,
    id::{DeliveryId, TenantId},
    subscription::{self, endpoint},
};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::{audited, consumers, delivery_view::View, event_payload, hooks, inboxes};
use crate::{
    access::{
        Caller,
        idempotent::{Refusal, Reply, idempotent, key},
    },
    body::{JsonBody, SMALL},
    context::Context,
    paging::{Id, Page, Query, invalid_parameter},
    problem,
};

/// A delivery with its tries.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DeliveryDetail)]
pub(crate) struct Detail {
    #[serde(flatten)]
    delivery: View,
    /// The tries, first to last.
    tries: Vec<Try>,
}

/// One try.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Try {
    /// Which of the delivery's tries, from 1.
    #[schema(minimum = 1, example = 1)]
    number: i16,
    /// When it began.
    #[schema(format = DateTime)]
    started_at: String,
    /// How long it took, in milliseconds.
    #[schema(minimum = 0, example = 182)]
    latency_ms: i32,
    /// HTTP status; `null` when there was no answer.
    #[schema(example = 500)]
    status: Option<i16>,
    /// What came of it, as a word.
    reason: String,
    /// The first KiB of the answer's body as text; bytes that are not UTF-8 are shown as `U+FFFD`. `null` when it was empty.
    reply: Option<String>,
}

impl From<AttemptView> for Try {
    fn from(attempt: AttemptView) -> Self {
        Self {
            number: attempt.number,
            started_at: wire_time(attempt.started_at),
            latency_ms: attempt.latency_ms,
            status: attempt.status,
            reason: attempt.reason,
            reply: attempt.reply.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
        }
    }
}

/// List deliveries
///
/// Those of the newest events first.
#[utoipa::path(
    get,
    path = "/v1/deliveries",
    operation_id = "list_deliveries",
    tag = "Deliveries",
    params(
        ("hook_id" = Option<String>, Query, description = "Only deliveries to this hook, or this endpoint of tasks.", example = "hook_01hzy3v9k2s8d4f6g8h0j2k4m6"),
        ("state" = Option<String>, Query, description = "Only deliveries in this state: `pending`, `delivered`, `dead`, `cancelled` or `discarded`."),
        ("since" = Option<String>, Query, description = "Of events accepted at or after this time: RFC 3339 with an offset."),
        ("until" = Option<String>, Query, description = "Of events accepted before this time."),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of an earlier page."),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 100, description = "Entries on a page, 1 to 100; 50 by default.")
    ),
    responses((status = 200, description = "A page of deliveries.", body = inline(crate::openapi::PageOf<View>)))
)]
pub(crate) async fn list(
    context: Data<Context>,
    caller: Caller,
    mut query: Query,
) -> Result<HttpResponse, ApiError> {
    let state = query.value("state", "pending, delivered, dead, cancelled or discarded")?;
    page(&context, caller.tenant(), state, query).await
}

/// A page of the deliveries in this state; the query has the other conditions.
pub(super) async fn page(
    context: &Context,
    tenant: TenantId,
    state: Option<DeliveryState>,
    mut query: Query,
) -> Result<HttpResponse, ApiError> {
    let (since, until) = (query.time("since")?, query.time("until")?);
    let subscription = query.id("hook_id")?;
    let (after, limit) = (query.cursor::<DeliveryId>()?, query.limit()?);
    query.finish()?;
    if since.zip(until).is_some_and(|(since, until)| until < since) {
        return Err(invalid_parameter("until", "must not be before `since`"));
    }
    let asked = DeliveryQuery { subscription, state, since, until, after, limit: limit + 1 };
    let rows = context.db.once(move |conn| inspect::list(conn, tenant, &asked)).await.map_err(problem::of)?;
    Ok(Page::new(rows, limit, DeliveryView::id).map(View::from).respond())
}

/// Show a delivery
///
/// With all its tries: when, how long, which status, and how the answer began.
#[utoipa::path(
    get,
    path = "/v1/deliveries/{id}",
    operation_id = "show_delivery",
    tag = "Deliveries",
    params(("id" = String, Path, description = "The delivery's id.", example = "dlv_01hzy3v9k2s8d4f6g8h0j2k4m601hzy3v9k2s8d4f6g8h0j2k4m7")),
    responses((status = 200, description = "The delivery.", body = Detail))
)]
pub(crate) async fn show(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<DeliveryId>,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    query.finish()?;
    let tenant = caller.tenant();
    let work = move |conn: &mut Conn| {
        let delivery = found(conn, tenant, id)?;
        detail(conn, delivery)
    };
    let detail = context.db.run(work).await.map_err(problem::of)?;
    Ok(HttpResponse::Ok().json(detail))
}

/// A delivery of the tenant.
pub(super) fn found(conn: &mut Conn, tenant: TenantId, id: DeliveryId) -> DomainResult<DeliveryView> {
    inspect::find(conn, tenant, id)?.ok_or(Error::NotFound { what: "delivery" })
}

/// 409 for a delivery whose hook, or whose endpoint of tasks or callbacks, takes none.
pub(super) fn takes_deliveries(
    conn: &mut Conn,
    tenant: TenantId,
    delivery: &DeliveryView,
) -> Result<(), Refusal> {
    match delivery.delivery.profile {
        Profile::Hook | Profile::Farewell => {
            return Ok(hooks::takes_events(&hooks::found(conn, tenant, delivery.delivery.subscription_id)?)?);
        }
        Profile::Consumer => {
            let consumer = consumers::found(conn, tenant, delivery.delivery.subscription_id)?;
            return Ok(consumers::takes_events(&consumer)?);
        }
        Profile::Inbox => {
            inboxes::live(conn, tenant, delivery.delivery.subscription_id)?;
            return Ok(());
        }
        Profile::Task | Profile::Callback => {}
    }
    match endpoint::find(conn, tenant, delivery.delivery.subscription_id)? {
        Some(endpoint) if endpoint.state.takes_events() => Ok(()),
        Some(_) | None if delivery.delivery.profile == Profile::Callback => Err(ApiError::conflict(
            "CALLBACK_ENDPOINT_GONE",
            "the endpoint of this callback is gone; POST /v2/action-runs/{id}/callback brings it back",
        )
        .into()),
        Some(_) | None => Err(ApiError::conflict(
            "TASK_ENDPOINT_DISABLED",
            "this webhook of tasks takes no deliveries; a task that names its URL enables it again",
        )
        .into()),
    }
}

/// The delivery with its tries.
pub(super) fn detail(conn: &mut Conn, delivery: DeliveryView) -> DomainResult<Detail> {
    let tries = inspect::attempts(conn, delivery.id())?.into_iter().map(Try::from).collect();
    Ok(Detail { delivery: delivery.into(), tries })
}

/// Deliveries with their tries.
pub(super) fn details(conn: &mut Conn, sent: Vec<DeliveryView>) -> DomainResult<Vec<Detail>> {
    let ids: Vec<DeliveryId> = sent.iter().map(DeliveryView::id).collect();
    let mut tries: HashMap<DeliveryId, Vec<Try>> = HashMap::with_capacity(ids.len());
    for (id, attempt) in inspect::attempts_of(conn, &ids)? {
        tries.entry(id).or_default().push(attempt.into());
    }
    let detail = |delivery: DeliveryView| {
        let tries = tries.remove(&delivery.id()).unwrap_or_default();
        Detail { delivery: delivery.into(), tries }
    };
    Ok(sent.into_iter().map(detail).collect())
}

/// Send a delivery again
///
/// Whatever became of it, it has all its tries before it again. One that waits for its next try is tried now, with the tries
/// that it has left. Only one that is being tried, or waits for the delivery before it, is left alone.
#[utoipa::path(
    post,
    path = "/v1/deliveries/{id}/retry",
    operation_id = "retry_delivery",
    tag = "Deliveries",
    params(
        ("id" = String, Path, description = "The delivery's id.", example = "dlv_01hzy3v9k2s8d4f6g8h0j2k4m601hzy3v9k2s8d4f6g8h0j2k4m7"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition of this very request give the same answer, for 48 h; 1 to 255 printable ASCII characters.")
    ),
    responses((status = 202, description = "On its way.", body = View)),
    extensions(("x-errors" = json!(["DELIVERY_PENDING", "HOOK_DISABLED", "HOOK_DELETED", "CONSUMER_DISABLED", "CONSUMER_DELETED", "TASK_ENDPOINT_DISABLED", "CALLBACK_ENDPOINT_GONE", "PAYLOAD_PURGED"])))
)]
pub(crate) async fn retry(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<DeliveryId>,
    request: HttpRequest,
    body: JsonBody<SMALL>,
) -> Result<Reply, ApiError> {
    let (tenant, now) = (caller.tenant(), context.clock.now());
    let key = key(&request, &caller, &body)?;
    idempotent(&context, key, move |conn| {
        let delivery = found(conn, tenant, id)?;
        // A farewell goes to hooks that take nothing else any more.
        if delivery.delivery.profile != Profile::Farewell {
            subscription::store::keep_state(conn, tenant, id.subscription)?;
            takes_deliveries(conn, tenant, &delivery)?;
        }
        event_payload::sendable(conn, tenant, id.event)?;
        let again = [(id.event, None)];
        if replay::schedule(conn, tenant, id.subscription, delivery.delivery.profile, &again, now)?.is_empty()
            && !replay::hurry(conn, tenant, id, now)?
        {
            return Err(ApiError::conflict("DELIVERY_PENDING", "the delivery is still under way").into());
        }
        let again = found(conn, tenant, id)?;
        let entry = audited::of_delivery(&caller, Action::DeliveryRetried, id)
            .before(json!({"state": delivery.delivery.state.as_str()}))
            .after(json!({"state": again.delivery.state.as_str()}));
        audited::record(conn, &caller, &entry, now)?;
        Ok(Reply::json(StatusCode::ACCEPTED, &View::from(again))?)
    })
    .await
}
