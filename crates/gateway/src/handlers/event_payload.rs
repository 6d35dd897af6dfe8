//! `DELETE /v1/events/{id}/payload`: what an event said is forgotten, that it happened is not.

use actix_web::{http::StatusCode, web::Data};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    Error,
    audit::{Action, Entry, ObjectKind, ObjectRef},
    db::Conn,
    event::{self, store::StoredEvent, wire_time},
    id::{EventId, TenantId},
    retention::purge::{self, Outcome},
};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::audited;
use crate::{
    access::{
        Caller,
        idempotent::{Refusal, Reply, idempotent},
    },
    context::Context,
    paging::{Id, Query},
};

/// An event of the tenant that can be sent.
///
/// # Errors
/// 404 without such an event; 409 `PAYLOAD_PURGED` when its payload is gone.
pub(super) fn sendable(conn: &mut Conn, tenant: TenantId, id: EventId) -> Result<StoredEvent, Refusal> {
    let stored = event::store::find(conn, tenant, id)?.ok_or(Error::NotFound { what: "event" })?;
    if stored.is_purged() {
        let message = "the payload of this event was purged: there is nothing left to send";
        return Err(ApiError::conflict("PAYLOAD_PURGED", message).into());
    }
    Ok(stored)
}

/// What was purged.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PurgedPayload {
    /// The event.
    #[schema(example = "evt_01hzy3v9k2s8d4f6g8h0j2k4m6")]
    event_id: String,
    /// When the payload went: now, or when it was purged before.
    #[schema(format = DateTime)]
    payload_purged_at: String,
    /// Deliveries that were under way, and were cancelled.
    #[schema(example = 0)]
    cancelled_deliveries: usize,
}

/// Purge the payload of an event
///
/// For good: the stored bytes, what transformations have made of them, the replies to the tries, and what an answer kept for an
/// Idempotency-Key says about the payload. The event stays listed, with its type, times and metadata, its deliveries and their
/// tries; nothing is sent of it any more. Repeating it changes nothing.
///
/// While a delivery is under way, or the event waits for its `deliver_at`, the answer is 409, unless `cancel_pending=true`
/// cancels them. A try that has begun cannot be called back.
#[utoipa::path(
    delete,
    path = "/v1/events/{id}/payload",
    operation_id = "purge_event_payload",
    tag = "Events",
    params(
        ("id" = String, Path, description = "The event's id.", example = "evt_01hzy3v9k2s8d4f6g8h0j2k4m6"),
        ("cancel_pending" = Option<bool>, Query, description = "Whether deliveries that are under way are cancelled; `false` by default.")
    ),
    responses((status = 200, description = "It is gone.", body = PurgedPayload, example = json!({"event_id": "evt_01hzy3v9k2s8d4f6g8h0j2k4m6", "payload_purged_at": "2025-11-12T16:00:00.000Z", "cancelled_deliveries": 0}))),
    extensions(("x-errors" = json!(["DELIVERIES_PENDING", "EVENT_SCHEDULED", "EVENT_FANNING_OUT"])))
)]
pub(crate) async fn purge(
    context: Data<Context>,
    caller: Caller,
    Id(event): Id<EventId>,
    mut query: Query,
) -> Result<Reply, ApiError> {
    let cancel = query.flag("cancel_pending")?;
    query.finish()?;
    let (tenant, now) = (caller.tenant(), context.clock.now());
    let reply = idempotent(&context, None, move |conn| {
        let (at, cancelled) = match purge::purge(conn, tenant, event, cancel, now)? {
            Outcome::Purged { at, cancelled, before } => {
                if !before {
                    let object = ObjectRef::new(ObjectKind::Event, event);
                    let entry = Entry::new(tenant, Action::EventPayloadPurged, object)
                        .after(json!({"cancelled_deliveries": cancelled}));
                    audited::record(conn, &caller, &entry, now)?;
                }
                (at, cancelled)
            }
            Outcome::Wanted { scheduled: true, .. } => {
                let message = "the event waits for its `deliver_at`; purge it with `cancel_pending=true`, and it is sent to nobody";
                return Err(ApiError::conflict("EVENT_SCHEDULED", message).into());
            }
            Outcome::Wanted { deliveries, scheduled: false } => {
                let message = format!(
                    "deliveries of the event are under way: {deliveries}; wait for them, or cancel them with `cancel_pending=true`"
                );
                return Err(ApiError::conflict("DELIVERIES_PENDING", message).into());
            }
            Outcome::FanningOut => {
                let message = "the event is being fanned out at this moment; try again in a second";
                return Err(ApiError::conflict("EVENT_FANNING_OUT", message).into());
            }
        };
        let purged = PurgedPayload {
            event_id: event.to_string(),
            payload_purged_at: wire_time(at),
            cancelled_deliveries: cancelled,
        };
        Ok(Reply::json(StatusCode::OK, &purged)?)
    })
    .await?;
    if let Some(at_hand) = context.bus.at_hand() {
        at_hand.forget(event);
    }
    Ok(reply)
}
