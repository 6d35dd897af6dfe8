//! `/v1/messages`: the message log (contract §4): deliveries with four statuses, found by type, time, endpoint and status.

use actix_web::{HttpResponse, web::Data};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    Error,
    catalogue::{self, CatalogueEntry, former_pattern, resolve},
    db::Conn,
    delivery::{
        DeliveryState,
        inspect::{self, DeliveryView},
        log::{self, Found, LogQuery, MessageView, Status},
    },
    event::wire_time,
    id::DeliveryId,
    subscription::EventPattern,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::deliveries::Try;
use crate::{
    access::Caller,
    context::Context,
    paging::{Id, Page, Query, invalid_parameter},
    problem,
};

/// A message: an event on its way to an endpoint.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Message)]
pub(crate) struct View {
    /// Identity: that of the delivery.
    #[schema(example = "dlv_01hzy3v9k2s8d4f6g8h0j2k4m601hzy3v9k2s8d4f6g8h0j2k4m7")]
    id: String,
    /// The event.
    event_id: String,
    /// Its type.
    #[schema(example = "order.created")]
    event_type: String,
    /// To which hook, consumer, or endpoint of tasks or callbacks.
    endpoint_id: String,
    /// `hook`, `consumer`, `task`, `callback` or `farewell`.
    #[schema(example = "consumer")]
    kind: &'static str,
    /// Where it goes.
    url: String,
    /// `Sending`: on its way and not tried yet. `Attempting`: tried without success, and tried again. `Success`: arrived. `Failure`:
    /// ended without having arrived.
    #[schema(example = "Attempting")]
    status: &'static str,
    /// The state behind the status: `pending`, `delivered`, `dead`, `cancelled` or `discarded`.
    #[schema(example = "pending")]
    state: &'static str,
    /// Tries so far.
    #[schema(minimum = 0)]
    attempts: i16,
    /// HTTP status of the last try.
    last_status: Option<i16>,
    /// What came of the last try, or why there was none, as a word.
    last_reason: Option<String>,
    /// When the next try is due; `null` when there is none, or while it waits for the delivery before it.
    #[schema(format = DateTime)]
    next_attempt_at: Option<String>,
    /// When the event was accepted.
    #[schema(format = DateTime)]
    created_at: String,
    /// When it ended.
    #[schema(format = DateTime)]
    settled_at: Option<String>,
}

impl From<MessageView> for View {
    fn from(message: MessageView) -> Self {
        let MessageView { delivery: DeliveryView { delivery: row, event_type, url }, created_at } = message;
        let pending = row.state == DeliveryState::Pending;
        Self {
            id: row.id().to_string(),
            event_id: row.event_id.to_string(),
            endpoint_id: row.subscription_id.to_string(),
            kind: row.profile.as_str(),
            status: Status::of(row.state, row.attempts).as_str(),
            state: row.state.as_str(),
            attempts: row.attempts,
            last_status: row.last_status,
            last_reason: row.last_reason,
            next_attempt_at: row.next_attempt_at.filter(|_| pending).map(wire_time),
            created_at: wire_time(created_at),
            settled_at: row.settled_at.map(wire_time),
            event_type,
            url,
        }
    }
}

/// A message with its tries.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MessageDetail)]
pub(crate) struct Detail {
    #[serde(flatten)]
    message: View,
    /// The tries, first to last: when, how long, which status, and how the answer began.
    tries: Vec<Try>,
}

/// The types that a name stands for, in a query.
fn types(written: &str, catalogue: &[CatalogueEntry]) -> Result<EventPattern, ApiError> {
    let name = match (resolve(catalogue, written), former_pattern(written)) {
        (Some(entry), _) => entry.name.as_str(),
        (None, Some(pattern)) => pattern,
        (None, None) => written,
    };
    name.parse().map_err(|error| invalid_parameter("event_type", error))
}

/// List messages
///
/// The message log: what is on its way and what became of it, that of the newest events first. Where a tenant has more than 1,000 types, a
/// page by a pattern looks at 10,000 events at most: it may have fewer entries than `limit`, even none, and `has_more` tells.
#[utoipa::path(
    get,
    path = "/v1/messages",
    operation_id = "list_messages",
    tag = "Messages",
    params(
        ("endpoint_id" = Option<String>, Query, description = "Only messages to this hook, consumer or inbox.", example = "hook_01hzy3v9k2s8d4f6g8h0j2k4m6"),
        ("status" = Option<String>, Query, description = "Only messages with this status: `Sending`, `Attempting`, `Success` or `Failure`."),
        ("event_type" = Option<String>, Query, description = "Only messages of this type: a name, an alias of the catalogue, or a pattern with `*` for a word.", example = "order.*"),
        ("since" = Option<String>, Query, description = "Of events accepted at or after this time: RFC 3339 with an offset."),
        ("until" = Option<String>, Query, description = "Of events accepted before this time."),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of an earlier page."),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 100, description = "Entries on a page, 1 to 100; 50 by default.")
    ),
    responses((status = 200, description = "A page of messages.", body = inline(crate::openapi::PageOf<View>)))
)]
pub(crate) async fn list(
    context: Data<Context>,
    caller: Caller,
    mut query: Query,
) -> Result<HttpResponse, ApiError> {
    let (since, until) = (query.time("since")?, query.time("until")?);
    let endpoint = query.id("endpoint_id")?;
    let status = query.value("status", "Sending, Attempting, Success or Failure")?;
    let event_type = query.text("event_type");
    let (after, limit) = (query.cursor::<DeliveryId>()?, query.limit()?);
    query.finish()?;
    if since.zip(until).is_some_and(|(since, until)| until < since) {
        return Err(invalid_parameter("until", "must not be before `since`"));
    }
    let tenant = caller.tenant();
    let read = move |conn: &mut Conn| {
        let types = match &event_type {
            None => None,
            Some(written) => match types(written, &catalogue::of_tenant(conn, tenant)?) {
                Ok(pattern) => Some(pattern),
                Err(refused) => return Ok(Err(refused)),
            },
        };
        let asked = LogQuery { endpoint, status, types, since, until, after, limit: limit + 1 };
        log::list(conn, tenant, &asked).map(Ok)
    };
    let Found { messages, looked_up_to } = context.db.once(read).await.map_err(problem::of)??;
    let page = match looked_up_to {
        Some(place) => Page::stopped_at(messages, place),
        None => Page::new(messages, limit, |message| message.delivery.id()),
    };
    Ok(page.map(View::from).respond())
}

/// Show a message
///
/// With all its tries: when, how long, which status, and how the answer began.
#[utoipa::path(
    get,
    path = "/v1/messages/{id}",
    operation_id = "show_message",
    tag = "Messages",
    params(("id" = String, Path, description = "The message's id.", example = "dlv_01hzy3v9k2s8d4f6g8h0j2k4m601hzy3v9k2s8d4f6g8h0j2k4m7")),
    responses((status = 200, description = "The message.", body = Detail))
)]
pub(crate) async fn show(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<DeliveryId>,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    query.finish()?;
    let tenant = caller.tenant();
    let read = move |conn: &mut Conn| {
        let message = log::find(conn, tenant, id)?.ok_or(Error::NotFound { what: "message" })?;
        let tries = inspect::attempts(conn, id)?.into_iter().map(Try::from).collect();
        Ok(Detail { message: message.into(), tries })
    };
    let detail = context.db.run(read).await.map_err(problem::of)?;
    Ok(HttpResponse::Ok().json(detail))
}
