//! `/v1/dead-letters`: deliveries that ended without success, until somebody retries them or gives them up.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header::CONTENT_TYPE},
    web::Data,
};
use chrono::{DateTime, Utc};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    Error, Result as DomainResult,
    audit::Action,
    db::Conn,
    delivery::{
        DeliveryState,
        dead_letter::{self, MAX_AT_ONCE, Selection},
        inspect::DeliveryView,
    },
    event,
    id::{DeliveryId, TenantId},
};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{
    audited,
    deliveries::{self, Detail},
    delivery_view::View,
    event_payload,
    fields::{Fields, invalid, text_of},
};
use crate::{
    access::{
        Caller,
        idempotent::{Refusal, Reply, idempotent, key},
    },
    body::{JsonBody, SMALL},
    context::Context,
    paging::{Id, Query},
    problem,
};

/// A list of [`MAX_AT_ONCE`] ids fits, with room for blanks.
const LIST: usize = 128 << 10;

/// List dead letters
///
/// Those of the newest events first.
#[utoipa::path(
    get,
    path = "/v1/dead-letters",
    operation_id = "list_dead_letters",
    tag = "Dead letters",
    params(
        ("hook_id" = Option<String>, Query, description = "Only dead letters of this hook.", example = "hook_01hzy3v9k2s8d4f6g8h0j2k4m6"),
        ("since" = Option<String>, Query, description = "Of events accepted at or after this time: RFC 3339 with an offset."),
        ("until" = Option<String>, Query, description = "Of events accepted before this time."),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of an earlier page."),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 100, description = "Entries on a page, 1 to 100; 50 by default.")
    ),
    responses((status = 200, description = "A page of dead letters.", body = inline(crate::openapi::PageOf<View>)))
)]
pub(crate) async fn list(
    context: Data<Context>,
    caller: Caller,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    deliveries::page(&context, caller.tenant(), Some(DeliveryState::Dead), query).await
}

/// A dead letter, its tries, and the event that did not arrive.
#[derive(Serialize, ToSchema)]
pub(crate) struct DeadLetter {
    #[serde(flatten)]
    detail: Detail,
    /// The event, byte for byte as it was sent; without its payload when that was purged.
    #[schema(value_type = crate::openapi::KeptEvent)]
    event: Box<RawValue>,
}

/// Show a dead letter
///
/// With its tries and the event itself.
#[utoipa::path(
    get,
    path = "/v1/dead-letters/{id}",
    operation_id = "show_dead_letter",
    tag = "Dead letters",
    params(("id" = String, Path, description = "The delivery's id.", example = "dlv_01hzy3v9k2s8d4f6g8h0j2k4m601hzy3v9k2s8d4f6g8h0j2k4m7")),
    responses((status = 200, description = "The dead letter.", body = DeadLetter))
)]
pub(crate) async fn show(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<DeliveryId>,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    query.finish()?;
    let tenant = caller.tenant();
    let (detail, body) = context
        .db
        .run(move |conn| {
            let delivery = found(conn, tenant, id)?;
            let event =
                event::list::show(conn, tenant, id.event)?.ok_or(Error::NotFound { what: "event" })?;
            Ok((deliveries::detail(conn, delivery)?, event.shown().into_owned()))
        })
        .await
        .map_err(problem::of)?;
    let text = String::from_utf8(body).map_err(ApiError::internal)?;
    let event = RawValue::from_string(text).map_err(ApiError::internal)?;
    let letter = serde_json::to_vec(&DeadLetter { detail, event }).map_err(ApiError::internal)?;
    Ok(HttpResponse::Ok().insert_header((CONTENT_TYPE, "application/json")).body(letter))
}

/// A delivery of the tenant that is a dead letter.
fn found(conn: &mut Conn, tenant: TenantId, id: DeliveryId) -> DomainResult<DeliveryView> {
    let delivery = deliveries::found(conn, tenant, id)?;
    if delivery.delivery.state == DeliveryState::Dead {
        Ok(delivery)
    } else {
        Err(Error::NotFound { what: "dead letter" })
    }
}

/// What was moved.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MovedDeadLetters)]
pub(crate) struct Moved {
    /// How many.
    #[schema(example = 1)]
    moved: usize,
    /// Which.
    #[schema(value_type = Vec<String>)]
    ids: Vec<DeliveryId>,
    /// Whether there may be more that match: ask again.
    has_more: bool,
}

impl Moved {
    fn of(ids: Vec<DeliveryId>, selection: &Selection) -> Self {
        let full = i64::try_from(ids.len()).is_ok_and(|moved| MAX_AT_ONCE <= moved);
        let has_more = match selection {
            Selection::Ids(_) => false,
            Selection::Matching { .. } => full,
        };
        Self { moved: ids.len(), ids, has_more }
    }
}

/// Retry a dead letter
///
/// It is due at once and has all its tries before it again.
#[utoipa::path(
    post,
    path = "/v1/dead-letters/{id}/retry",
    operation_id = "retry_dead_letter",
    tag = "Dead letters",
    params(
        ("id" = String, Path, description = "The delivery's id.", example = "dlv_01hzy3v9k2s8d4f6g8h0j2k4m601hzy3v9k2s8d4f6g8h0j2k4m7"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition of this very request give the same answer, for 48 h; 1 to 255 printable ASCII characters.")
    ),
    responses((status = 202, description = "On its way.", body = Moved, example = json!({"moved": 1, "ids": ["dlv_01hzy3v9k2s8d4f6g8h0j2k4m601hzy3v9k2s8d4f6g8h0j2k4m7"], "has_more": false}))),
    extensions(("x-errors" = json!(["HOOK_DISABLED", "HOOK_DELETED", "CONSUMER_DISABLED", "CONSUMER_DELETED", "TASK_ENDPOINT_DISABLED", "CALLBACK_ENDPOINT_GONE", "PAYLOAD_PURGED"])))
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
        deliveries::takes_deliveries(conn, tenant, &delivery)?;
        event_payload::sendable(conn, tenant, id.event)?;
        let selection = Selection::Ids(vec![id]);
        let ids = one(dead_letter::retry(conn, tenant, &selection, now)?)?;
        let entry = audited::of_delivery(&caller, Action::DeadLettersRetried, id);
        audited::record(conn, &caller, &entry, now)?;
        reply(StatusCode::ACCEPTED, ids, &selection)
    })
    .await
}

/// Discard a dead letter
///
/// It is given up; the delivery stays in the list of deliveries as `discarded`.
#[utoipa::path(
    delete,
    path = "/v1/dead-letters/{id}",
    operation_id = "discard_dead_letter",
    tag = "Dead letters",
    params(("id" = String, Path, description = "The delivery's id.", example = "dlv_01hzy3v9k2s8d4f6g8h0j2k4m601hzy3v9k2s8d4f6g8h0j2k4m7")),
    responses((status = 200, description = "It is given up.", body = Moved, example = json!({"moved": 1, "ids": ["dlv_01hzy3v9k2s8d4f6g8h0j2k4m601hzy3v9k2s8d4f6g8h0j2k4m7"], "has_more": false})))
)]
pub(crate) async fn discard(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<DeliveryId>,
) -> Result<Reply, ApiError> {
    let (tenant, now) = (caller.tenant(), context.clock.now());
    idempotent(&context, None, move |conn| {
        found(conn, tenant, id)?;
        let selection = Selection::Ids(vec![id]);
        let ids = one(dead_letter::discard(conn, tenant, &selection, now)?)?;
        let entry = audited::of_delivery(&caller, Action::DeadLettersDiscarded, id);
        audited::record(conn, &caller, &entry, now)?;
        reply(StatusCode::OK, ids, &selection)
    })
    .await
}

/// Somebody else moved it between two statements: it is no dead letter any more.
fn one(ids: Vec<DeliveryId>) -> DomainResult<Vec<DeliveryId>> {
    if ids.is_empty() { Err(Error::NotFound { what: "dead letter" }) } else { Ok(ids) }
}

/// Tells the audit log of many dead letters at once, if there were any.
fn moved(
    conn: &mut Conn,
    caller: &Caller,
    action: Action,
    ids: &[DeliveryId],
    now: DateTime<Utc>,
) -> DomainResult<()> {
    if ids.is_empty() {
        return Ok(());
    }
    audited::record(conn, caller, &audited::of_dead_letters(caller, action, ids), now)
}

fn reply(status: StatusCode, ids: Vec<DeliveryId>, selection: &Selection) -> Result<Reply, Refusal> {
    Ok(Reply::json(status, &Moved::of(ids, selection))?)
}

/// Which dead letters.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct DeadLetterSelection {
    /// These, 1 to 1,000. Excludes the other members.
    #[schema(min_items = 1, max_items = 1000)]
    ids: Option<Vec<String>>,
    /// Must be `true` when `ids` is not given, so that nothing happens to all of them by accident.
    all: Option<bool>,
    /// Only dead letters of this hook.
    hook_id: Option<String>,
    /// Of events accepted at or after this time: RFC 3339 with an offset.
    #[schema(format = DateTime)]
    since: Option<String>,
    /// Of events accepted before this time.
    #[schema(format = DateTime)]
    until: Option<String>,
}

fn selection(body: &[u8]) -> Result<Selection, ApiError> {
    let fields = Fields::parse(body)?;
    let all = fields.flag("all")?.unwrap_or(false);
    let Some(list) = fields.get("ids") else {
        if !all {
            let message = "say which: `ids`, or `all: true` with `hook_id`, `since` and `until` as wanted";
            return Err(ApiError::bad_request("MISSING_SELECTION", message)
                .field("ids")
                .reason("is not there"));
        }
        let (since, until) = (fields.time("since")?, fields.time("until")?);
        if since.zip(until).is_some_and(|(since, until)| until < since) {
            return Err(invalid("until", "must not be before `since`"));
        }
        return Ok(Selection::Matching { subscription: fields.id("hook_id")?, since, until });
    };
    if all || ["hook_id", "since", "until"].into_iter().any(|name| fields.get(name).is_some()) {
        return Err(invalid("ids", "excludes `all`, `hook_id`, `since` and `until`"));
    }
    let list = list.as_array().ok_or_else(|| invalid("ids", "must be a list of delivery ids"))?;
    if list.is_empty() || i64::try_from(list.len()).is_ok_and(|length| MAX_AT_ONCE < length) {
        return Err(invalid("ids", &format!("must have 1 to {MAX_AT_ONCE} entries, not {}", list.len())));
    }
    let mut ids: Vec<DeliveryId> = Vec::with_capacity(list.len());
    for (at, value) in list.iter().enumerate() {
        let id = text_of(value)
            .map_err(str::to_owned)
            .and_then(|text| text.parse().map_err(|error| format!("{error}")));
        let refused = |reason| {
            problem::invalid("INVALID_FIELD", "ids", &format!("has an entry {at} that is no id: {reason}"))
                .field(format!("ids[{at}]"))
        };
        ids.push(id.map_err(refused)?);
    }
    ids.sort_unstable();
    ids.dedup();
    Ok(Selection::Ids(ids))
}

/// Retry many dead letters
///
/// Those that are named, or all that match, 1,000 at a time, oldest first. Dead letters whose hook takes no events stay, and so do
/// those whose event has no payload any more.
#[utoipa::path(
    post,
    path = "/v1/dead-letters/retry",
    operation_id = "retry_dead_letters",
    tag = "Dead letters",
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition of this very request give the same answer, for 48 h; 1 to 255 printable ASCII characters.")),
    request_body(
        content = DeadLetterSelection,
        examples(
            ("some" = (summary = "These", value = json!({"ids": ["dlv_01hzy3v9k2s8d4f6g8h0j2k4m601hzy3v9k2s8d4f6g8h0j2k4m7"]}))),
            ("all" = (summary = "All of a hook since a time", value = json!({"all": true, "hook_id": "hook_01hzy3v9k2s8d4f6g8h0j2k4m6", "since": "2025-11-12T00:00:00Z"})))
        )
    ),
    responses((status = 202, description = "On their way.", body = Moved, example = json!({"moved": 1, "ids": ["dlv_01hzy3v9k2s8d4f6g8h0j2k4m601hzy3v9k2s8d4f6g8h0j2k4m7"], "has_more": false}))),
    extensions(("x-errors" = json!(["MISSING_SELECTION", "INVALID_FIELD", "INVALID_BODY"])))
)]
pub(crate) async fn retry_many(
    context: Data<Context>,
    caller: Caller,
    request: HttpRequest,
    body: JsonBody<LIST>,
) -> Result<Reply, ApiError> {
    let (tenant, now) = (caller.tenant(), context.clock.now());
    let selection = selection(&body)?;
    let key = key(&request, &caller, &body)?;
    idempotent(&context, key, move |conn| {
        let ids = dead_letter::retry(conn, tenant, &selection, now)?;
        moved(conn, &caller, Action::DeadLettersRetried, &ids, now)?;
        reply(StatusCode::ACCEPTED, ids, &selection)
    })
    .await
}

/// Discard many dead letters
///
/// Those that are named, or all that match, 1,000 at a time, oldest first.
#[utoipa::path(
    post,
    path = "/v1/dead-letters/discard",
    operation_id = "discard_dead_letters",
    tag = "Dead letters",
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition of this very request give the same answer, for 48 h; 1 to 255 printable ASCII characters.")),
    request_body(
        content = DeadLetterSelection,
        examples(
            ("some" = (summary = "These", value = json!({"ids": ["dlv_01hzy3v9k2s8d4f6g8h0j2k4m601hzy3v9k2s8d4f6g8h0j2k4m7"]}))),
            ("all" = (summary = "All before a time", value = json!({"all": true, "until": "2025-11-01T00:00:00Z"})))
        )
    ),
    responses((status = 200, description = "They are given up.", body = Moved, example = json!({"moved": 1, "ids": ["dlv_01hzy3v9k2s8d4f6g8h0j2k4m601hzy3v9k2s8d4f6g8h0j2k4m7"], "has_more": false}))),
    extensions(("x-errors" = json!(["MISSING_SELECTION", "INVALID_FIELD", "INVALID_BODY"])))
)]
pub(crate) async fn discard_many(
    context: Data<Context>,
    caller: Caller,
    request: HttpRequest,
    body: JsonBody<LIST>,
) -> Result<Reply, ApiError> {
    let (tenant, now) = (caller.tenant(), context.clock.now());
    let selection = selection(&body)?;
    let key = key(&request, &caller, &body)?;
    idempotent(&context, key, move |conn| {
        let ids = dead_letter::discard(conn, tenant, &selection, now)?;
        moved(conn, &caller, Action::DeadLettersDiscarded, &ids, now)?;
        reply(StatusCode::OK, ids, &selection)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_selected_by_accident() {
        let id = "dlv_00000000000000000000000001".to_owned() + "00000000000000000000000002";
        let list = |length: usize| format!(r#"{{"ids":[{}]}}"#, vec![format!("\"{id}\""); length].join(","));
        let code = |text: &str| selection(text.as_bytes()).map_err(|error| error.code()).err();
        for (text, expected) in [
            ("", Some("MISSING_SELECTION")),
            ("{}", Some("MISSING_SELECTION")),
            (r#"{"all":false}"#, Some("MISSING_SELECTION")),
            (r#"{"since":"2025-01-01T00:00:00Z"}"#, Some("MISSING_SELECTION")),
            (r#"{"ids":[]}"#, Some("INVALID_FIELD")),
            (r#"{"ids":["dlv_1"]}"#, Some("INVALID_FIELD")),
            (r#"{"ids":[5]}"#, Some("INVALID_FIELD")),
            (r#"{"ids":"all"}"#, Some("INVALID_FIELD")),
            (r#"{"all":"yes"}"#, Some("INVALID_FIELD")),
            (r#"{"all":true}"#, None),
            (&list(1000), None),
            (&list(1001), Some("INVALID_FIELD")),
            (&list(1).replace('}', r#","all":true}"#), Some("INVALID_FIELD")),
        ] {
            assert_eq!(code(text), expected, "{}", &text[..text.len().min(80)]);
        }
        assert!(list(1000).len() <= LIST);
    }
}
