//! `POST /v1/inboxes/{id}/messages/ack`, `…/release` and `…/extend`: what becomes of leased messages, one or many.

use actix_web::{HttpResponse, web::Data};
use chrono::TimeDelta;
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    db::Conn,
    id::{ClaimId, EventId, SubscriptionId},
    subscription::inbox::{
        DEFAULT_LEASE_S, LEASE_S, MAX_AT_ONCE, MAX_DELAY_S, MAX_REASON_CHARS, MessageId, OVER_LEASED,
        quarantine,
        settle::{self, Held, Outcome, Settlement},
    },
    wire::Json,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::live;
use crate::{
    access::Caller,
    body::{JsonBody, SMALL},
    context::Context,
    handlers::{
        fields::{Fields, invalid, text_of},
        rings,
    },
    openapi::{AckRequest, ExtendRequest, GiveBackRequest},
    paging::Id,
    problem,
};

/// What became of one message.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SettledMessage)]
pub(crate) struct SettledView {
    /// The message.
    #[schema(example = "msg_01hzy3v9k2s8d4f6g8h0j2k4m6")]
    id: String,
    /// `acknowledged`, `released`, `quarantined`, `extended`, or `gone`: the token is not the one under which it is held, and nothing was
    /// changed.
    #[schema(example = "acknowledged")]
    status: &'static str,
}

/// What became of the messages.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SettledMessages)]
pub(crate) struct SettledMessagesView {
    /// How many are not `gone`.
    #[schema(example = 1, minimum = 0)]
    settled: usize,
    /// Each of them, in the order of the request.
    messages: Vec<SettledView>,
}

/// The messages in a body, each with its token.
fn messages(fields: &Fields) -> Result<Vec<Held>, ApiError> {
    let list = fields.get("messages").ok_or_else(|| invalid("messages", "is missing"))?;
    let list = list.as_array().ok_or_else(|| invalid("messages", "must be a list"))?;
    if list.is_empty() || list.len() > MAX_AT_ONCE {
        let reason = format!("must have 1 to {MAX_AT_ONCE} entries, not {}", list.len());
        return Err(invalid("messages", &reason));
    }
    list.iter().enumerate().map(|(at, entry)| held(at, entry)).collect()
}

fn held(at: usize, entry: &Json) -> Result<Held, ApiError> {
    let wrong = |member: &str, reason: &str| {
        let field = format!("messages[{at}].{member}");
        ApiError::unprocessable("INVALID_FIELD", format!("{field} {reason}")).field(field).reason(reason)
    };
    let text = |member: &str| {
        let value = entry.get(member).ok_or_else(|| wrong(member, "is missing"))?;
        text_of(value).map_err(|reason| wrong(member, reason))
    };
    let id: MessageId =
        text("id")?.parse().map_err(|error| wrong("id", &format!("is not an id: {error}")))?;
    let token: ClaimId = text("lease_token")?
        .parse()
        .map_err(|_error| wrong("lease_token", "is not one that a lease has given"))?;
    Ok((id.0, token))
}

async fn settled(
    context: &Data<Context>,
    caller: &Caller,
    inbox: SubscriptionId,
    held: Vec<Held>,
    settlement: Settlement,
) -> Result<HttpResponse, ApiError> {
    let (tenant, now) = (caller.tenant(), context.clock.now());
    let gives_back = matches!(settlement, Settlement::Release { .. });
    let work = move |conn: &mut Conn| {
        let inbox = live(conn, tenant, inbox)?;
        let outcomes = settle::settle(conn, (tenant, inbox.id), &held, &settlement, inbox.max_leases, now)?;
        let outcomes: Vec<(EventId, Outcome)> = held.iter().map(|(event, _)| *event).zip(outcomes).collect();
        let dead = outcomes.iter().filter(|(_, outcome)| *outcome == Outcome::Quarantined);
        let dead: Vec<EventId> = dead.map(|(event, _)| *event).collect();
        let reason = match &settlement {
            Settlement::Release { reason: Some(words), .. } => words.as_str(),
            _ => OVER_LEASED,
        };
        let told = quarantine::tell(conn, tenant, &inbox, &dead, reason, now)?;
        Ok((outcomes, told))
    };
    let (outcomes, told) = context.db.run(work).await.map_err(problem::of)?;
    if let Some(group) = told {
        rings::events_accepted(context, group);
    }
    for (_, outcome) in &outcomes {
        context.metrics.inbox_messages(outcome.as_str(), 1);
    }
    if gives_back && outcomes.iter().any(|(_, outcome)| *outcome == Outcome::Released) {
        context.bus.ring_inboxes(&[inbox]);
    }
    let view = |(event, outcome): (EventId, Outcome)| SettledView {
        id: MessageId(event).to_string(),
        status: outcome.as_str(),
    };
    let settled = outcomes.iter().filter(|(_, outcome)| *outcome != Outcome::Gone).count();
    let messages = outcomes.into_iter().map(view).collect();
    Ok(HttpResponse::Ok().json(SettledMessagesView { settled, messages }))
}

/// Acknowledge messages
///
/// They are done and are not given out again. The token decides, not the clock: a message whose lease has ended may be acknowledged as long
/// as nobody else has been given it. Acknowledging again with the same token gives the same answer.
#[utoipa::path(
    post,
    path = "/v1/inboxes/{id}/messages/ack",
    operation_id = "acknowledge_messages",
    tag = "Inboxes",
    params(("id" = String, Path, description = "The inbox's id.", example = "hook_01hzy3v9k2s8d4f6g8h0j2k4m6")),
    request_body(content = AckRequest, example = json!({"messages": [{"id": "msg_01hzy3v9k2s8d4f6g8h0j2k4m6", "lease_token": "clm_01hzy3v9k2s8d4f6g8h0j2k4m7"}]})),
    responses((status = 200, description = "What became of each.", body = SettledMessagesView)),
    extensions(("x-errors" = json!(["INVALID_FIELD", "INVALID_BODY"])))
)]
pub(crate) async fn ack(
    context: Data<Context>,
    caller: Caller,
    Id(inbox): Id<SubscriptionId>,
    body: JsonBody<SMALL>,
) -> Result<HttpResponse, ApiError> {
    let held = messages(&Fields::parse(&body)?)?;
    settled(&context, &caller, inbox, held, Settlement::Acknowledge).await
}

/// Give messages back
///
/// They may be leased again, at their place or after `delay_seconds`. A message that was leased `max_leases` times is quarantined instead.
/// `reason` is shown to the next reader, and with a quarantined message.
#[utoipa::path(
    post,
    path = "/v1/inboxes/{id}/messages/release",
    operation_id = "release_messages",
    tag = "Inboxes",
    params(("id" = String, Path, description = "The inbox's id.", example = "hook_01hzy3v9k2s8d4f6g8h0j2k4m6")),
    request_body(content = GiveBackRequest, example = json!({"messages": [{"id": "msg_01hzy3v9k2s8d4f6g8h0j2k4m6", "lease_token": "clm_01hzy3v9k2s8d4f6g8h0j2k4m7"}], "delay_seconds": 30, "reason": "the warehouse is closed"})),
    responses((status = 200, description = "What became of each.", body = SettledMessagesView, example = json!({"settled": 1, "messages": [{"id": "msg_01hzy3v9k2s8d4f6g8h0j2k4m6", "status": "released"}]}))),
    extensions(("x-errors" = json!(["INVALID_FIELD", "INVALID_BODY"])))
)]
pub(crate) async fn release(
    context: Data<Context>,
    caller: Caller,
    Id(inbox): Id<SubscriptionId>,
    body: JsonBody<SMALL>,
) -> Result<HttpResponse, ApiError> {
    let fields = Fields::parse(&body)?;
    let held = messages(&fields)?;
    let delay = fields.integer("delay_seconds", 0..=MAX_DELAY_S)?.filter(|seconds| *seconds > 0);
    let reason = fields.text("reason")?.filter(|text| !text.is_empty());
    if reason.is_some_and(|text| text.chars().count() > MAX_REASON_CHARS) {
        return Err(invalid("reason", &format!("must have at most {MAX_REASON_CHARS} characters")));
    }
    let at = delay.map(|seconds| context.clock.now() + TimeDelta::seconds(i64::from(seconds)));
    let settlement = Settlement::Release { at, reason: reason.map(str::to_owned) };
    settled(&context, &caller, inbox, held, settlement).await
}

/// Keep messages for longer
///
/// Their leases end `lease_seconds` from now, whatever was left of them.
#[utoipa::path(
    post,
    path = "/v1/inboxes/{id}/messages/extend",
    operation_id = "extend_leases",
    tag = "Inboxes",
    params(("id" = String, Path, description = "The inbox's id.", example = "hook_01hzy3v9k2s8d4f6g8h0j2k4m6")),
    request_body(content = ExtendRequest, example = json!({"messages": [{"id": "msg_01hzy3v9k2s8d4f6g8h0j2k4m6", "lease_token": "clm_01hzy3v9k2s8d4f6g8h0j2k4m7"}], "lease_seconds": 300})),
    responses((status = 200, description = "What became of each.", body = SettledMessagesView, example = json!({"settled": 1, "messages": [{"id": "msg_01hzy3v9k2s8d4f6g8h0j2k4m6", "status": "extended"}]}))),
    extensions(("x-errors" = json!(["INVALID_FIELD", "INVALID_BODY"])))
)]
pub(crate) async fn extend(
    context: Data<Context>,
    caller: Caller,
    Id(inbox): Id<SubscriptionId>,
    body: JsonBody<SMALL>,
) -> Result<HttpResponse, ApiError> {
    let fields = Fields::parse(&body)?;
    let held = messages(&fields)?;
    let seconds = fields.integer("lease_seconds", LEASE_S)?.unwrap_or(DEFAULT_LEASE_S);
    let until = context.clock.now() + TimeDelta::seconds(i64::from(seconds));
    settled(&context, &caller, inbox, held, Settlement::Extend { until }).await
}
