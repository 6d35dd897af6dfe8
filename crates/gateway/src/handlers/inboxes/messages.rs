//! `GET /v1/inboxes/{id}/messages`: an inbox read in order, without leasing.

use actix_web::{HttpResponse, web::Data};
use chrono::{DateTime, Utc};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    event::wire_time,
    id::SubscriptionId,
    subscription::inbox::{
        MAX_BYTES_AT_ONCE, MessageId,
        log::{self, LoggedMessage, MessageState, Which},
    },
};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{found, view::event};
use crate::{
    access::Caller,
    context::Context,
    handlers::samples::EventBody,
    paging::{Id, Page, Query, invalid_parameter},
    problem,
};

/// A message as whoever reads in order sees it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = InboxMessage)]
pub(crate) struct MessageView {
    /// Identity: as the `webhook-id` of a delivery of this event.
    #[schema(example = "msg_01hzy3v9k2s8d4f6g8h0j2k4m6")]
    id: String,
    /// The same as a delivery, for `/v1/deliveries` and `/v1/dead-letters`.
    #[schema(example = "dlv_01hzy3v9k2s8d4f6g8h0j2k4m601hzy3v9k2s8d4f6g8h0j2k4m7")]
    delivery_id: String,
    /// Its place in the inbox: rises with every message.
    #[schema(example = 17, minimum = 1)]
    sequence: i64,
    /// `waiting`, `leased`, `delayed`, `acknowledged`, `quarantined`, `cancelled` or `discarded`.
    #[schema(example = "waiting")]
    state: &'static str,
    /// Leases so far, since it came or was requeued.
    #[schema(example = 0, minimum = 0)]
    lease_count: i16,
    /// Until when it is somebody's, or delayed.
    #[schema(format = DateTime)]
    leased_until: Option<String>,
    /// Since when it is in the inbox.
    #[schema(format = DateTime)]
    available_at: String,
    /// When it ended.
    #[schema(format = DateTime)]
    settled_at: Option<String>,
    /// What came of the last lease: a reader's words, or a word such as `released`, `lease_expired`, `over_leased`, `expired`.
    last_reason: Option<String>,
    /// The event, byte for byte as it is sent to hooks; `null` when it is not kept any more.
    #[schema(value_type = EventBody)]
    event: Option<Box<RawValue>>,
}

impl MessageView {
    pub(super) fn new(message: LoggedMessage, now: DateTime<Utc>) -> Self {
        let state = message.state(now);
        let held = matches!(state, MessageState::Leased | MessageState::Delayed);
        Self {
            id: MessageId(message.event_id).to_string(),
            delivery_id: message.delivery().to_string(),
            sequence: message.sequence,
            state: state.as_str(),
            lease_count: message.lease_count,
            leased_until: message.leased_until.filter(|_| held).map(wire_time),
            available_at: wire_time(message.available_at),
            settled_at: message.settled_at.map(wire_time),
            last_reason: message.last_reason,
            event: message.body.and_then(event),
        }
    }
}

/// Read an inbox in order
///
/// All messages after a place, whatever became of them, oldest first: nothing is leased, and nothing changes. Numbers are given in the order
/// in which messages come in, so that whoever goes on after the last number misses nothing. Pages may have fewer entries than
/// `limit` when events are large; `has_more` tells.
#[utoipa::path(
    get,
    path = "/v1/inboxes/{id}/messages",
    operation_id = "read_messages",
    tag = "Inboxes",
    params(
        ("id" = String, Path, description = "The inbox's id.", example = "hook_01hzy3v9k2s8d4f6g8h0j2k4m6"),
        ("after" = Option<i64>, Query, minimum = 0, description = "Only messages with a `sequence` above this; 0, the beginning, by default."),
        ("state" = Option<String>, Query, description = "`quarantined`: only messages that were leased too often."),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of an earlier page; the same as `after`."),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 100, description = "Entries on a page, 1 to 100; 50 by default.")
    ),
    responses((status = 200, description = "A page of messages.", body = inline(crate::openapi::PageOf<MessageView>), example = json!({"data": [{"id": "msg_01hzy3v9k2s8d4f6g8h0j2k4m6", "delivery_id": "dlv_01hzy3v9k2s8d4f6g8h0j2k4m601hzy3v9k2s8d4f6g8h0j2k4m7", "sequence": 17, "state": "waiting", "lease_count": 0, "leased_until": null, "available_at": "2025-11-12T15:45:00.731Z", "settled_at": null, "last_reason": null, "event": {"id": "evt_01hzy3v9k2s8d4f6g8h0j2k4m6", "event_id": "evt_01hzy3v9k2s8d4f6g8h0j2k4m6", "event_type": "order.created", "timestamp": "2025-11-12T15:45:00.000Z", "payload": {"order": 1042}, "metadata": {"correlation_id": "corr_xyz789", "source_ip": "203.0.113.45", "user_agent": "shop/2.1"}, "created_at": "2025-11-12T15:45:00.250Z"}}], "next_cursor": null, "has_more": false})))
)]
pub(crate) async fn list(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<SubscriptionId>,
    mut query: Query,
) -> Result<HttpResponse, ApiError> {
    let limit = query.limit()?;
    let (after, cursor) = (query.number("after", (0, i64::MAX))?, query.number("cursor", (0, i64::MAX))?);
    if after.is_some() && cursor.is_some() {
        return Err(invalid_parameter("cursor", "excludes `after`"));
    }
    let which = match query.text("state").as_deref() {
        None => Which::All,
        Some("quarantined") => Which::Quarantined,
        Some(_) => return Err(invalid_parameter("state", "must be quarantined")),
    };
    query.finish()?;
    let (tenant, now) = (caller.tenant(), context.clock.now());
    let after = after.or(cursor).unwrap_or(0);
    let (rows, has_more) = context
        .db
        .once(move |conn| {
            found(conn, tenant, id)?;
            log::after(conn, (tenant, id), which, after, (limit, MAX_BYTES_AT_ONCE))
        })
        .await
        .map_err(problem::of)?;
    let page = Page::cut(rows, has_more, |message: &LoggedMessage| message.sequence);
    Ok(page.map(|message| MessageView::new(message, now)).respond())
}
