//! `POST /v1/inboxes/{id}/messages/lease`, a long poll.

use std::time::Duration;

use actix_web::{HttpResponse, web::Data};
use chrono::TimeDelta;
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    event::wire_time,
    id::{ClaimId, SubscriptionId, TenantId},
    subscription::inbox::{
        DEFAULT_LEASE_S, LEASE_S, MAX_AT_ONCE, MessageId,
        lease::{self, Leased, Taken, Wanted},
        settle::{self, Held, Settlement},
    },
};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::{sync::oneshot, time::Instant};
use utoipa::ToSchema;

use super::view::event;
use crate::{
    access::Caller,
    body::{JsonBody, SMALL},
    context::Context,
    handlers::{fields::Fields, rings, samples::EventBody},
    openapi::LeaseRequest,
    paging::Id,
    problem,
};

/// Messages that are leased when nothing is said.
const DEFAULT_LIMIT: i32 = 10;

/// What has ended and is not found is in the hands of somebody who leases it at this moment: looked for again after this.
const SHORTEST_LOOK: Duration = Duration::from_millis(20);

/// The longest wait for a message, in seconds.
const MAX_WAIT_S: i32 = 60;

/// A message that is the caller's for a while.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LeasedMessage)]
pub(crate) struct LeasedView {
    /// Identity: the same at every lease, and as the `webhook-id` of a delivery of this event.
    #[schema(example = "msg_01hzy3v9k2s8d4f6g8h0j2k4m6")]
    id: String,
    /// Its place in the inbox: rises with every message.
    #[schema(example = 17, minimum = 1)]
    sequence: i64,
    /// To be shown when the message is acknowledged, given back or kept for longer.
    #[schema(example = "clm_01hzy3v9k2s8d4f6g8h0j2k4m7")]
    lease_token: String,
    /// The how manyth lease this is, from 1.
    #[schema(example = 1, minimum = 1)]
    lease_count: u16,
    /// When the message is given to somebody else, unless it is acknowledged or extended before.
    #[schema(format = DateTime)]
    leased_until: String,
    /// Since when it is in the inbox.
    #[schema(format = DateTime)]
    available_at: String,
    /// Why it was not acknowledged before: the last reader's words, `released`, or `lease_expired`; `null` at the first lease.
    last_reason: Option<String>,
    /// The event, byte for byte as it is sent to hooks.
    #[schema(value_type = EventBody)]
    event: Option<Box<RawValue>>,
}

impl LeasedView {
    fn new(message: Leased, leased_until: &str) -> Self {
        Self {
            id: MessageId(message.event).to_string(),
            sequence: message.sequence,
            lease_token: message.token.to_string(),
            lease_count: message.lease_count,
            leased_until: leased_until.to_owned(),
            available_at: wire_time(message.available_at),
            last_reason: message.last_reason,
            event: event(message.body),
        }
    }
}

/// What was leased.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Lease)]
pub(crate) struct LeaseView {
    /// The messages, oldest first; none when there was nothing all the while.
    messages: Vec<LeasedView>,
    /// Whether the inbox is paused.
    paused: bool,
}

/// What a reader asks for.
#[derive(Clone, Copy, Debug)]
struct Asked {
    tenant: TenantId,
    inbox: SubscriptionId,
    lease: TimeDelta,
    limit: usize,
}

/// What an attempt came to. When this is dropped before the reader is told, because the connection has ended, the messages are given back
/// at once, as if they had never been leased.
struct Attempt {
    context: Data<Context>,
    asked: Asked,
    taken: Taken,
    leased_until: String,
    told: bool,
}

impl Attempt {
    /// The reader is told: the messages are his.
    fn told(mut self) -> LeaseView {
        self.told = true;
        let taken = std::mem::take(&mut self.taken);
        self.context.metrics.inbox_messages("leased", taken.messages.len());
        let view = |message| LeasedView::new(message, &self.leased_until);
        LeaseView { messages: taken.messages.into_iter().map(view).collect(), paused: taken.paused }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        // Without a runtime the gateway has stopped, and the leases end by themselves.
        if self.told || self.taken.messages.is_empty() || tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let held: Vec<Held> =
            self.taken.messages.iter().map(|message| (message.event, message.token)).collect();
        let (context, asked) = (self.context.clone(), self.asked);
        self.context.afterwards.spawn(async move {
            let now = context.clock.now();
            let (of, back) = ((asked.tenant, asked.inbox), Settlement::Untake);
            match context.db.run(move |conn| settle::settle(conn, of, &held, &back, i16::MAX, now)).await {
                Ok(_outcomes) => context.bus.ring_inboxes(&[asked.inbox]),
                Err(error) => {
                    tracing::debug!(
                        error = error.chain(),
                        "messages that nobody heard of wait for their lease"
                    );
                }
            }
        });
    }
}

/// An attempt. It is made to its end, even when the connection ends meanwhile.
async fn attempt(context: &Data<Context>, asked: Asked) -> Result<Attempt, ApiError> {
    let (answer, answered) = oneshot::channel();
    let within = context.clone();
    context.afterwards.spawn(async move {
        let context = within;
        let now = context.clock.now();
        let until = now + asked.lease;
        let tokens = (0..asked.limit).map(|_| ClaimId::new(now)).collect();
        let wanted = Wanted { tenant: asked.tenant, inbox: asked.inbox, tokens, until };
        let taken = context.db.run(move |conn| lease::lease(conn, &wanted, now)).await;
        let attempt = taken.map(|taken| {
            context.metrics.inbox_messages("quarantined", taken.quarantined);
            taken.told.iter().for_each(|group| rings::events_accepted(&context, *group));
            let leased_until = wire_time(until);
            Attempt { context: context.clone(), asked, taken, leased_until, told: false }
        });
        // Whoever does not hear it gives it back by dropping it.
        let _unheard = answer.send(attempt);
    });
    let attempt = answered
        .await
        .map_err(|_ended| ApiError::unavailable("the gateway is stopping", Duration::from_secs(1)))?;
    attempt.map_err(problem::of)
}

/// Lease messages
///
/// The oldest messages that nobody has become the caller's for `lease_seconds`, at most `lease_limit`, and of several no more than 8 MiB
/// together. With `wait_seconds` the answer waits until there is one; who closes the connection meanwhile gets none. What is not
/// acknowledged in time is given to the next reader, and quarantined after `max_leases` leases. A paused inbox answers as an empty one
/// does.
#[utoipa::path(
    post,
    path = "/v1/inboxes/{id}/messages/lease",
    operation_id = "lease_messages",
    tag = "Inboxes",
    params(("id" = String, Path, description = "The inbox's id.", example = "hook_01hzy3v9k2s8d4f6g8h0j2k4m6")),
    request_body(content = LeaseRequest, description = "May be left out.", example = json!({"lease_seconds": 300, "lease_limit": 10, "wait_seconds": 20})),
    responses((status = 200, description = "The messages, or none.", body = LeaseView)),
    extensions(("x-errors" = json!(["INVALID_FIELD", "INVALID_BODY"])))
)]
pub(crate) async fn lease(
    context: Data<Context>,
    caller: Caller,
    Id(inbox): Id<SubscriptionId>,
    body: JsonBody<SMALL>,
) -> Result<HttpResponse, ApiError> {
    let fields = Fields::parse(&body)?;
    let most = i32::try_from(MAX_AT_ONCE).unwrap_or(i32::MAX);
    let seconds = fields.integer("lease_seconds", LEASE_S)?.unwrap_or(DEFAULT_LEASE_S);
    let limit = fields.integer("lease_limit", 1..=most)?.unwrap_or(DEFAULT_LIMIT);
    let wait = fields.integer("wait_seconds", 0..=MAX_WAIT_S)?.unwrap_or(0);
    let asked = Asked {
        tenant: caller.tenant(),
        inbox,
        lease: TimeDelta::seconds(i64::from(seconds)),
        limit: usize::try_from(limit).unwrap_or(1),
    };
    if wait == 0 {
        return Ok(HttpResponse::Ok().json(attempt(&context, asked).await?.told()));
    }
    let until = Instant::now() + Duration::from_secs(u64::from(wait.unsigned_abs()));
    // In line before the first look, so that nothing falls in between.
    let place = context.inboxes.wait(inbox);
    let mut attempt = self::attempt(&context, asked).await?;
    while attempt.taken.messages.is_empty() {
        if let Some(next) = attempt.taken.next_at {
            let after = (next - context.clock.now()).to_std().unwrap_or_default();
            place.look_again(after.max(SHORTEST_LOOK));
        }
        tokio::select! {
            () = context.listeners.closing().cancelled() => break,
            () = tokio::time::sleep_until(until) => break,
            () = place.turn() => {}
        }
        attempt = self::attempt(&context, asked).await?;
    }
    if !attempt.taken.messages.is_empty() {
        place.pass_on();
    }
    Ok(HttpResponse::Ok().json(attempt.told()))
}
