//! `/events` and `/v1/events`: posting events, one or a hundred, and reading them with their deliveries.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header::CONTENT_TYPE},
    web::Data,
};
use hookyard_chassis::{
    api_error::{ApiError, Problem, Shape},
    request_id::RequestId,
};
use hookyard_domain::{
    Error,
    delivery::inspect,
    event::{
        MAX_BODY_BYTES, NewEvent,
        list::{self, EventQuery, Listed, ListedEvent, StateFilter},
        wire_time,
    },
    id::{EventId, SubscriptionId},
};
use serde::Serialize;
use serde_json::Value;

use super::delivery_view::View;
use crate::{
    access::{
        Caller,
        idempotent::{self, Reply},
    },
    body::{JsonBody, Reserved},
    context::Context,
    ingest::{self, Claim, Source, Taken, batch},
    metrics::Metrics,
    paging::{Id, Page, Query, invalid_parameter},
    problem,
    settings::MAX_BATCH_BYTES,
};

/// Bytes of bodies on a page: it ends early when they are more, and says that there is more.
const PAGE_BYTES: usize = 4 << 20;

/// Events that are read at a time while it is not known how large they are.
const FIRST_LOOK: i64 = 10;

const ACCEPTED: StatusCode = StatusCode::ACCEPTED;

/// `POST /events`: 202 when the event is committed.
#[utoipa::path(
    post,
    path = "/events",
    operation_id = "post_event",
    tag = "Events",
    summary = "Post an event",
    description = "202 means that the event is stored for good and can be read at once; its deliveries are under way. A body of at most 1 MiB. Members that are not known are ignored. Integers beyond 2^53-1 are read as JavaScript receivers will read them, as the nearest double: send identifiers as text. With the setting gateway.large_integers = refuse they are refused.",
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition of this very request give the same answer, for 48 h; 1 to 255 printable ASCII characters.")),
    request_body(content = crate::openapi::EventRequest, examples(
        ("order" = (summary = "An order", value = json!({"event_type": "order.created", "payload": {"order": 1042, "total": 99.5, "currency": "EUR"}}))),
        ("everything" = (summary = "With metadata and a time", value = json!({"event_type": "order.created", "payload": {"order": 1042}, "metadata": {"correlation_id": "corr_xyz789"}, "timestamp": "2025-11-12T15:45:00Z"})))
    )),
    responses((status = 202, description = "Accepted.", body = crate::openapi::EventAccepted, example = json!({"event_id": "evt_01hzy3v9k2s8d4f6g8h0j2k4m6", "status": "accepted", "created_at": "2025-11-12T15:45:00.250Z"}))),
    extensions(("x-errors" = json!(["INVALID_EVENT", "EVENT_TYPE_ARCHIVED", "SCHEMA_MISMATCH", "EVENT_TYPE_NOT_ALLOWED"])))
)]
pub(crate) async fn post(
    context: Data<Context>,
    caller: Caller,
    request: HttpRequest,
    request_id: RequestId,
    body: JsonBody<MAX_BODY_BYTES>,
) -> Result<Reply, ApiError> {
    let key = idempotent::key(&request, &caller, &body)?;
    let source = Source::of(&context, &request, &caller, request_id).await?;
    let (text, mut reserved) = body.into_parts();
    let taken = ingest::on_thread(&context, text.len(), move || ingest::event(&text, &source)).await?;
    let Taken { event, warnings } = taken.inspect_err(|error| context.metrics.off_schema(Some(error)))?;
    // Canonical numbers can be longer than they were posted.
    reserved.cover(event.body.len())?;
    let mut reply = format!(
        r#"{{"event_id":"{}","status":"accepted","created_at":"{}"}}"#,
        event.id,
        wire_time(event.created_at)
    );
    if !warnings.is_empty() {
        context.metrics.off_schema(None);
        let warnings: Vec<Problem> = warnings.iter().map(problem::told).collect();
        reply.pop();
        reply.push_str(",\"warnings\":");
        reply.push_str(&serde_json::to_string(&warnings).map_err(ApiError::internal)?);
        reply.push('}');
    }
    accept(&context, vec![event], key, reply.into_bytes(), reserved).await
}

/// `POST /events/batch`: 202 when the events that are in order are committed; the others are told one by one.
#[utoipa::path(
    post,
    path = "/events/batch",
    operation_id = "post_events",
    tag = "Events",
    summary = "Post up to 100 events",
    description = "Each event is accepted or rejected by itself; `results` has one entry for each, in order. All that are accepted are stored together. A body of at most 10 MiB, an event of at most 1 MiB.",
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition of this very request give the same answer, for 48 h; 1 to 255 printable ASCII characters.")),
    request_body(content = crate::openapi::BatchRequest, example = json!({"events": [{"event_type": "order.created", "payload": {"order": 1042}}, {"event_type": "order created", "payload": {}}]})),
    responses((status = 202, description = "Looked at, one by one.", body = BatchReply, example = json!({"accepted": 1, "rejected": 1, "results": [{"status": "accepted", "index": 0, "event_id": "evt_01hzy3v9k2s8d4f6g8h0j2k4m6", "created_at": "2025-11-12T15:45:00.250Z"}, {"status": "rejected", "index": 1, "error": "event_type may have letters A-Z, digits, `_` and `-` in words separated by dots, such as `order.created`", "error_code": "INVALID_EVENT", "details": {"field": "event_type", "reason": "may have letters A-Z, digits, `_` and `-` in words separated by dots, such as `order.created`"}}]}))),
    extensions(("x-errors" = json!(["INVALID_BATCH"])))
)]
pub(crate) async fn post_batch(
    context: Data<Context>,
    caller: Caller,
    request: HttpRequest,
    request_id: RequestId,
    body: JsonBody<MAX_BATCH_BYTES>,
) -> Result<Reply, ApiError> {
    let key = idempotent::key(&request, &caller, &body)?;
    let source = Source::of(&context, &request, &caller, request_id).await?;
    let (text, mut reserved) = body.into_parts();
    let metrics = context.metrics.clone();
    let (events, results) =
        ingest::on_thread(&context, text.len(), move || parse_batch(&text, source, &metrics)).await??;
    reserved.cover(events.iter().map(|event| event.body.len()).sum())?;
    let reply = BatchReply { accepted: events.len(), rejected: results.len() - events.len(), results };
    let reply = serde_json::to_vec(&reply).map_err(ApiError::internal)?;
    if events.is_empty() && key.is_none() {
        return Ok(Reply::bytes(ACCEPTED, reply));
    }
    accept(&context, events, key, reply, reserved).await
}

async fn accept(
    context: &Context,
    events: Vec<NewEvent>,
    key: Option<hookyard_domain::idempotency::Key>,
    reply: Vec<u8>,
    reserved: Reserved,
) -> Result<Reply, ApiError> {
    let claim = key.map(|key| Claim { key, status: ACCEPTED.as_u16(), body: reply.clone() });
    match context.ingest.accept(events, claim, reserved).await? {
        None => Ok(Reply::bytes(ACCEPTED, reply)),
        Some(earlier) => Reply::again(earlier),
    }
}

#[derive(Serialize, utoipa::ToSchema)]
struct BatchReply {
    /// How many were accepted.
    accepted: usize,
    /// How many were rejected.
    rejected: usize,
    /// One for each event, in order.
    #[schema(inline)]
    results: Vec<ItemResult>,
}

#[derive(Serialize, utoipa::ToSchema)]
#[serde(tag = "status", rename_all = "snake_case")]
enum ItemResult {
    Accepted {
        index: usize,
        event_id: String,
        created_at: String,
        /// What the payload breaks of its type's schema, where that is no reason to reject it.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        #[schema(value_type = Option<Vec<crate::openapi::SchemaProblem>>)]
        warnings: Vec<Problem>,
    },
    Rejected {
        index: usize,
        error: String,
        error_code: &'static str,
        #[serde(skip_serializing_if = "Value::is_null")]
        details: Value,
    },
}

fn parse_batch(
    text: &[u8],
    mut source: Source,
    metrics: &Metrics,
) -> Result<(Vec<NewEvent>, Vec<ItemResult>), ApiError> {
    let mut events = Vec::new();
    let mut results = Vec::new();
    for (index, text) in batch::split(text)?.into_iter().enumerate() {
        match batch::check_size(text).and_then(|()| ingest::event(text.as_bytes(), &source)) {
            Ok(Taken { event, warnings }) => {
                if !warnings.is_empty() {
                    metrics.off_schema(None);
                }
                let (event_id, created_at) = (event.id.to_string(), wire_time(event.created_at));
                let warnings = warnings.iter().map(problem::told).collect();
                results.push(ItemResult::Accepted { index, event_id, created_at, warnings });
                events.push(event);
            }
            Err(error) => {
                metrics.off_schema(Some(&error));
                results.push(ItemResult::Rejected {
                    index,
                    error: error.message().to_owned(),
                    error_code: error.code(),
                    details: error.body(Shape::Native, None)["details"].take(),
                });
            }
        }
        source.next();
    }
    Ok((events, results))
}

/// `GET /v1/events`: a page of events, newest first.
#[utoipa::path(
    get,
    path = "/v1/events",
    operation_id = "list_events",
    tag = "Events",
    summary = "List events",
    description = "Newest first. «What did not arrive since a time» is `state=undelivered` with `since`. Pages may have fewer entries than `limit`, even none, when events are large, or when what is asked for is rare: a page with `state` or `metadata` looks at 10,000 events at most. `has_more` tells. An event whose payload was purged has `payload` `null` and `payload_purged_at`.",
    params(
        ("event_type" = Option<String>, Query, description = "Only events of this type.", example = "order.created"),
        ("state" = Option<String>, Query, description = "Only events in this state: `accepted`, `unmatched`, `pending`, `dead`, `delivered`, `cancelled`, or `undelivered` (accepted, pending or dead)."),
        ("since" = Option<String>, Query, description = "Accepted at or after this time: RFC 3339 with an offset."),
        ("until" = Option<String>, Query, description = "Accepted before this time."),
        ("correlation_id" = Option<String>, Query, description = "Only events with this `correlation_id` in their metadata."),
        ("metadata.<key>" = Option<String>, Query, description = "Only events whose metadata have this text under that key, such as `metadata.shop=7`."),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of an earlier page."),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 100, description = "Entries on a page, 1 to 100; 50 by default.")
    ),
    responses((status = 200, description = "A page of events.", body = inline(crate::openapi::PageOf<crate::openapi::StoredEvent>), example = json!({"data": [{"id": "evt_01hzy3v9k2s8d4f6g8h0j2k4m6", "event_id": "evt_01hzy3v9k2s8d4f6g8h0j2k4m6", "event_type": "order.created", "timestamp": "2025-11-12T15:45:00.000Z", "payload": {"order": 1042}, "metadata": {"correlation_id": "corr_xyz789", "source_ip": "203.0.113.45", "user_agent": "shop/2.1"}, "created_at": "2025-11-12T15:45:00.250Z", "state": "delivered", "deliveries": {"pending": 0, "delivered": 2, "dead": 0, "cancelled": 0}}], "next_cursor": null, "has_more": false})))
)]
pub(crate) async fn list(
    context: Data<Context>,
    caller: Caller,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    let query = event_query(query)?;
    let tenant = caller.tenant();
    let page = context
        .db
        .once(move |conn| bounded(&query, |query| list::list(conn, tenant, query)))
        .await
        .map_err(problem::of)?;
    Ok(page.map(|row| splice(&row)).respond_spliced())
}

/// `state`, `since`, `until`, `event_type`, `correlation_id`, `metadata.<key>`, `cursor`, `limit`.
fn event_query(mut query: Query) -> Result<EventQuery, ApiError> {
    const STATES: &str = "accepted, unmatched, pending, dead, delivered, cancelled or undelivered";
    let mut metadata = serde_json::Map::new();
    for (key, value) in query.with_prefix("metadata.") {
        if key.is_empty() {
            return Err(invalid_parameter("metadata.", "needs the name of a member after the dot"));
        }
        metadata.insert(key, Value::from(value));
    }
    if let Some(value) = query.text("correlation_id") {
        metadata.insert("correlation_id".to_owned(), Value::from(value));
    }
    // jsonb and text of Postgres have no U+0000, so nothing can match it.
    if metadata
        .iter()
        .any(|(key, value)| key.contains('\0') || value.as_str().is_some_and(|text| text.contains('\0')))
    {
        return Err(invalid_parameter("metadata", "must not contain U+0000"));
    }
    let event_type = query.text("event_type");
    if event_type.as_ref().is_some_and(|text| text.parse::<hookyard_domain::event::EventType>().is_err()) {
        return Err(invalid_parameter("event_type", "must be an event type, such as order.created"));
    }
    let parsed = EventQuery {
        event_type,
        since: query.time("since")?,
        until: query.time("until")?,
        state: query.value::<StateFilter>("state", STATES)?,
        metadata: (!metadata.is_empty()).then_some(Value::Object(metadata)),
        before: query.cursor::<EventId>()?,
        limit: query.limit()?,
    };
    query.finish()?;
    if let (Some(since), Some(until)) = (parsed.since, parsed.until)
        && until < since
    {
        return Err(invalid_parameter("until", "must not be before `since`"));
    }
    Ok(parsed)
}

/// Reads a page in some steps, so that a hundred events of a megabyte are not in memory at once.
fn bounded(
    query: &EventQuery,
    mut read: impl FnMut(&EventQuery) -> Result<Listed, Error>,
) -> Result<Page<ListedEvent>, Error> {
    let mut page: Vec<ListedEvent> = Vec::new();
    let (mut bytes, mut step) = (0, query.clone());
    let cursor = |row: &ListedEvent| row.event.id;
    loop {
        let wanted = query.limit - i64::try_from(page.len()).unwrap_or(query.limit);
        let affordable = match page.len() {
            0 => FIRST_LOOK,
            read => i64::try_from((PAGE_BYTES - bytes) / (bytes / read).max(1)).unwrap_or(1),
        };
        let count = wanted.min(affordable.max(1));
        // One more tells whether there is more.
        step.limit = count + 1;
        let Listed { events: mut rows, looked_up_to } = read(&step)?;
        let has_more = i64::try_from(rows.len()).unwrap_or(0) > count;
        rows.truncate(usize::try_from(count).unwrap_or(0));
        for row in rows {
            bytes += row.event.body.len();
            page.push(row);
            if bytes > PAGE_BYTES {
                // Rows of this step may be left: whoever asks finds out.
                return Ok(Page::cut(page, true, cursor));
            }
        }
        if let Some(last) = looked_up_to.filter(|_| !has_more) {
            return Ok(Page::stopped_at(page, last));
        }
        if !has_more || count == wanted {
            return Ok(Page::cut(page, has_more, cursor));
        }
        step.before = page.last().map(cursor);
    }
}

/// `GET /v1/events/{id}`: the stored event, where it stands, and counts of its deliveries.
#[utoipa::path(
    get,
    path = "/v1/events/{id}",
    operation_id = "show_event",
    tag = "Events",
    summary = "Show an event",
    description = "The event as it is delivered, with its state and the counts of its deliveries.",
    params(("id" = String, Path, description = "The event's id.", example = "evt_01hzy3v9k2s8d4f6g8h0j2k4m6")),
    responses((status = 200, description = "The event.", body = crate::openapi::StoredEvent, example = json!({"id": "evt_01hzy3v9k2s8d4f6g8h0j2k4m6", "event_id": "evt_01hzy3v9k2s8d4f6g8h0j2k4m6", "event_type": "order.created", "timestamp": "2025-11-12T15:45:00.000Z", "payload": {"order": 1042}, "metadata": {"correlation_id": "corr_xyz789", "source_ip": "203.0.113.45", "user_agent": "shop/2.1"}, "created_at": "2025-11-12T15:45:00.250Z", "state": "delivered", "deliveries": {"pending": 0, "delivered": 2, "dead": 0, "cancelled": 0}})))
)]
pub(crate) async fn show(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<EventId>,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    query.finish()?;
    let tenant = caller.tenant();
    let found = context.db.once(move |conn| list::show(conn, tenant, id)).await.map_err(problem::of)?;
    let event = found.ok_or(Error::NotFound { what: "event" }).map_err(problem::of)?;
    Ok(HttpResponse::Ok().insert_header((CONTENT_TYPE, "application/json")).body(splice(&event)))
}

/// The stored bytes with two members more. They are never parsed again: what is shown is what is sent.
fn splice(row: &ListedEvent) -> Vec<u8> {
    let standing = format!(
        r#","state":"{}","deliveries":{{"pending":{},"delivered":{},"dead":{},"cancelled":{}}}}}"#,
        row.state().as_str(),
        row.pending,
        row.delivered,
        row.dead,
        row.cancelled
    );
    let shown = row.shown();
    let body = shown.strip_suffix(b"}").unwrap_or(&shown);
    [body, standing.as_bytes()].concat()
}

/// `GET /v1/events/{id}/deliveries`: who got it, newest hook first.
#[utoipa::path(
    get,
    path = "/v1/events/{id}/deliveries",
    operation_id = "list_event_deliveries",
    tag = "Events",
    summary = "List the deliveries of an event",
    description = "To which hooks it went and what became of it there; those to the newest hooks first.",
    params(
        ("id" = String, Path, description = "The event's id.", example = "evt_01hzy3v9k2s8d4f6g8h0j2k4m6"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of an earlier page."),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 100, description = "Entries on a page, 1 to 100; 50 by default.")
    ),
    responses((status = 200, description = "A page of deliveries.", body = inline(crate::openapi::PageOf<View>)))
)]
pub(crate) async fn deliveries(
    context: Data<Context>,
    caller: Caller,
    Id(event): Id<EventId>,
    mut query: Query,
) -> Result<HttpResponse, ApiError> {
    let (limit, after) = (query.limit()?, query.cursor::<SubscriptionId>()?);
    query.finish()?;
    let tenant = caller.tenant();
    let rows = context
        .db
        .once(move |conn| {
            hookyard_domain::event::store::find(conn, tenant, event)?
                .ok_or(Error::NotFound { what: "event" })?;
            inspect::of_event(conn, tenant, event, after, limit + 1)
        })
        .await
        .map_err(problem::of)?;
    let page = Page::new(rows, limit, |row| row.delivery.subscription_id);
    Ok(page.map(View::from).respond())
}
