//! `POST /v1/hooks/{id}/replay` and `POST /webhooks/{id}/replay`: one event, or the events of a time range, to one endpoint again,
//! within the request. What takes longer is a recovery (`recoveries`).

use std::time::{Duration, Instant};

use actix_web::{HttpRequest, http::StatusCode, web::Data};
use chrono::{DateTime, Utc};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    Result as DomainResult,
    audit::{Action, Entry, ObjectRef},
    db::Conn,
    delivery::replay,
    event::{Origin, wire_time},
    id::{EventId, SubscriptionId},
    recovery::{BODIES_AT_ONCE, Candidate, Range, Wanted, Which, candidates},
    subscription::{Kind, Subscription},
};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{
    audited, endpoints, event_payload,
    fields::{Fields, invalid},
};
use crate::{
    access::{
        Caller,
        idempotent::{Reply, idempotent, key},
    },
    body::{JsonBody, SMALL},
    context::Context,
    paging::Id,
};

/// Events that one call looks at.
const MAX_EXAMINED: usize = 10_000;

/// Events of a page that nobody reads.
const WITHOUT_BODIES: usize = 2_000;

/// After this time a call ends with what it has, so that it is answered within what clients wait.
const LONG_ENOUGH: Duration = Duration::from_secs(10);

/// What is sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Plan {
    Event(EventId),
    Range { since: DateTime<Utc>, until: DateTime<Utc>, after: Option<EventId>, which: Which, dry_run: bool },
}

impl Plan {
    fn parse(body: &[u8], now: DateTime<Utc>) -> Result<Self, ApiError> {
        let fields = Fields::parse(body)?;
        let (event, since) = (fields.id::<EventId>("event_id")?, fields.time("since")?);
        let since = match (event, since) {
            (Some(event), None) => return Ok(Self::Event(event)),
            (None, Some(since)) => since,
            (Some(_), Some(_)) => return Err(invalid("event_id", "and `since` exclude each other")),
            (None, None) => {
                let message = "neither `event_id` nor `since` is given: nothing is replayed by accident";
                return Err(ApiError::bad_request("MISSING_SELECTION", message)
                    .field("event_id")
                    .reason("is not there"));
            }
        };
        let until = fields.time("until")?.unwrap_or(now);
        if until <= since {
            return Err(invalid("until", "must be after `since`"));
        }
        let which = match fields.text("which")? {
            None | Some("missed") => Which::NotArrived,
            Some("all") => Which::All,
            Some(_) => return Err(invalid("which", "must be missed or all")),
        };
        let dry_run = fields.flag("dry_run")?.unwrap_or(false);
        Ok(Self::Range { since, until, after: fields.id("after")?, which, dry_run })
    }

    /// What the audit log is told: what was asked for, and how much it was.
    fn told(&self, answer: &ReplayAnswer) -> Value {
        match self {
            Self::Event(event) => json!({"event_id": event.to_string(), "queued": answer.queued}),
            Self::Range { since, until, after, which, dry_run: _ } => json!({
                "since": wire_time(*since),
                "until": wire_time(*until),
                "after": after.map(|event| event.to_string()),
                "which": which.as_str(),
                "queued": answer.queued,
            }),
        }
    }
}

/// What was put on its way.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct ReplayAnswer {
    /// Deliveries that are on their way now; with `dry_run`, those that would be.
    #[schema(example = 37)]
    queued: usize,
    /// Events that were looked at.
    #[schema(example = 412)]
    examined: usize,
    /// Whether there are events in the range that were not looked at.
    has_more: bool,
    /// Send this as `after` with the same range to go on; `null` when there is no more.
    #[schema(example = "evt_01hzy3v9k2s8d4f6g8h0j2k4m6")]
    resume_after: Option<String>,
    /// Whether nothing was really sent.
    dry_run: bool,
}

/// What is to be sent again.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct ReplayRequest {
    /// This one event, whatever the hook's type and filter. Excludes the other members.
    #[schema(example = "evt_01hzy3v9k2s8d4f6g8h0j2k4m6")]
    event_id: Option<String>,
    /// Events accepted at or after this time: RFC 3339 with an offset.
    #[schema(format = DateTime)]
    since: Option<String>,
    /// Events accepted before this time; now by default.
    #[schema(format = DateTime)]
    until: Option<String>,
    /// `missed` (the default): events that did not arrive here. `all`: also those that did.
    #[schema(example = "missed")]
    which: Option<String>,
    /// `resume_after` of an earlier answer.
    after: Option<String>,
    /// Only count.
    dry_run: Option<bool>,
}

/// Replay events to a hook
///
/// One event by its id, or the events of a time range that match the hook as it is now. With `which: missed` those that
/// did not arrive: they are in the dead letters, were cancelled or discarded, or happened before the hook existed. What is
/// under way is left alone. Replayed deliveries have all their tries before them.
///
/// One call looks at 10,000 events at most; `has_more` and `resume_after` tell how to go on.
#[utoipa::path(
    post,
    path = "/v1/hooks/{id}/replay",
    operation_id = "replay_to_hook",
    tag = "Hooks",
    params(
        ("id" = String, Path, description = "The hook's id.", example = "hook_01hzy3v9k2s8d4f6g8h0j2k4m6"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition of this very request give the same answer, for 48 h; 1 to 255 printable ASCII characters.")
    ),
    request_body(
        content = ReplayRequest,
        examples(
            ("range" = (summary = "What a hook missed since a time", value = json!({"since": "2025-11-12T00:00:00Z", "which": "missed"}))),
            ("event" = (summary = "One event", value = json!({"event_id": "evt_01hzy3v9k2s8d4f6g8h0j2k4m6"})))
        )
    ),
    responses((status = 202, description = "On their way.", body = ReplayAnswer, example = json!({"queued": 37, "examined": 412, "has_more": false, "resume_after": null, "dry_run": false}))),
    extensions(("x-errors" = json!(["MISSING_SELECTION", "INVALID_FIELD", "INVALID_BODY", "HOOK_DISABLED", "HOOK_DELETED", "PAYLOAD_PURGED"])))
)]
pub(crate) async fn replay(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<SubscriptionId>,
    request: HttpRequest,
    body: JsonBody<SMALL>,
) -> Result<Reply, ApiError> {
    go(&context, caller, (id, Kind::Hook), &request, &body).await
}

/// Replay events to a consumer
///
/// As to a hook: one event by its id, whatever the consumer wants, or the events of a time range that match the consumer as it is
/// now. For more than some thousand events start a recovery: it goes at a pace, and goes on by itself.
#[utoipa::path(
    post,
    path = "/webhooks/{id}/replay",
    operation_id = "replay_to_consumer",
    tag = "Consumers",
    params(
        ("id" = String, Path, description = "The consumer's id.", example = "hook_01hzy3v9k2s8d4f6g8h0j2k4m6"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition of this very request give the same answer, for 48 h; 1 to 255 printable ASCII characters.")
    ),
    request_body(
        content = ReplayRequest,
        examples(
            ("range" = (summary = "What a consumer missed since a time", value = json!({"since": "2025-11-12T00:00:00Z", "which": "missed"}))),
            ("event" = (summary = "One event", value = json!({"event_id": "evt_01hzy3v9k2s8d4f6g8h0j2k4m6"})))
        )
    ),
    responses((status = 202, description = "On their way.", body = ReplayAnswer, example = json!({"queued": 37, "examined": 412, "has_more": false, "resume_after": null, "dry_run": false}))),
    extensions(("x-errors" = json!(["MISSING_SELECTION", "INVALID_FIELD", "INVALID_BODY", "CONSUMER_DISABLED", "CONSUMER_DELETED", "PAYLOAD_PURGED"])))
)]
pub(crate) async fn replay_to_consumer(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<SubscriptionId>,
    request: HttpRequest,
    body: JsonBody<SMALL>,
) -> Result<Reply, ApiError> {
    go(&context, caller, (id, Kind::Consumer), &request, &body).await
}

async fn go(
    context: &Data<Context>,
    caller: Caller,
    (id, kind): (SubscriptionId, Kind),
    request: &HttpRequest,
    body: &[u8],
) -> Result<Reply, ApiError> {
    let now = context.clock.now();
    let plan = Plan::parse(body, now)?;
    let key = key(request, &caller, body)?;
    let tenant = caller.tenant();
    let (what, action) = if kind == Kind::Consumer {
        ("consumer", Action::ConsumerReplayed)
    } else {
        ("hook", Action::HookReplayed)
    };
    idempotent(context, key, move |conn| {
        let endpoint = endpoints::found(conn, tenant, id, (&[kind], what))?.subscription;
        endpoints::takes_events(endpoint.kind, endpoint.state)?;
        let answer = match plan {
            Plan::Event(event) => {
                let stored = event_payload::sendable(conn, tenant, event)?;
                if stored.origin == Origin::Test {
                    return Err(invalid("event_id", "is a test of one hook and goes nowhere else").into());
                }
                let again = [(event, None)];
                let queued = replay::schedule(conn, tenant, id, kind.profile(), &again, now)?.len();
                ReplayAnswer { queued, examined: 1, ..ReplayAnswer::default() }
            }
            Plan::Range { .. } => run(conn, &endpoint, &plan, now)?,
        };
        if !answer.dry_run && answer.queued > 0 {
            let entry = Entry::new(tenant, action, ObjectRef::new(endpoints::object(kind), id))
                .after(plan.told(&answer));
            audited::record(conn, &caller, &entry, now)?;
        }
        Ok(Reply::json(StatusCode::ACCEPTED, &answer)?)
    })
    .await
}

fn run(
    conn: &mut Conn,
    endpoint: &Subscription,
    plan: &Plan,
    now: DateTime<Utc>,
) -> DomainResult<ReplayAnswer> {
    let Plan::Range { since, until, after, which, dry_run } = *plan else {
        return Ok(ReplayAnswer::default());
    };
    let wanted = Wanted::new(endpoint, None);
    let range = Range {
        tenant: endpoint.tenant,
        endpoint: endpoint.id,
        profile: endpoint.kind.profile(),
        which,
        since,
        until,
        kept_from: None,
        types: wanted.exact_types(),
    };
    // Only then are any of them scheduled: that locks the counter of the endpoint, for which fan-outs wait.
    let mut again: Vec<replay::Again> = Vec::new();
    let walked = walk(conn, (&range, &wanted), after, MAX_EXAMINED, |page| {
        again.extend(page.iter().filter_map(|event| wanted.of(event)));
    })?;
    let queued = if dry_run {
        again.len()
    } else {
        replay::schedule(conn, range.tenant, range.endpoint, range.profile, &again, now)?.len()
    };
    Ok(ReplayAnswer {
        queued,
        examined: walked.examined,
        has_more: walked.has_more,
        resume_after: walked.last.filter(|_| walked.has_more).map(|event| event.to_string()),
        dry_run,
    })
}

/// How far a walk through events has come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Walked {
    /// Events that were looked at.
    pub(super) examined: usize,
    /// The last of them.
    last: Option<EventId>,
    /// Whether there may be more.
    pub(super) has_more: bool,
}

/// Goes through the events of a range page by page, at most so many and for [`LONG_ENOUGH`].
pub(super) fn walk(
    conn: &mut Conn,
    (range, wanted): (&Range, &Wanted<'_>),
    after: Option<EventId>,
    most: usize,
    mut each: impl FnMut(&[Candidate]),
) -> DomainResult<Walked> {
    let started = Instant::now();
    let mut walked = Walked { last: after, ..Walked::default() };
    let bodies = wanted.reads_content();
    let at_once = if bodies { BODIES_AT_ONCE } else { WITHOUT_BODIES };
    loop {
        let size = at_once.min(most - walked.examined);
        let page = candidates(conn, range, walked.last, bodies, size)?;
        each(&page.events);
        walked.examined += page.events.len();
        walked.last = page.up_to;
        if page.is_last {
            return Ok(walked);
        }
        if walked.examined >= most || LONG_ENOUGH < started.elapsed() {
            // There may be no more after all; then the next call says so.
            walked.has_more = true;
            return Ok(walked);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_an_event_or_a_range() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let plan = |text: &str| Plan::parse(text.as_bytes(), now).map_err(|error| error.code());
        let event = EventId::from_uuid(uuid::Uuid::from_u128(1));
        assert_eq!(plan(&format!(r#"{{"event_id":"{event}"}}"#)), Ok(Plan::Event(event)));
        let since = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        let range = |which, dry_run| Ok(Plan::Range { since, until: now, after: None, which, dry_run });
        let with = |rest: &str| plan(&format!(r#"{{"since":"2023-11-14T22:13:20Z"{rest}}}"#));
        assert_eq!(with(""), range(Which::NotArrived, false));
        assert_eq!(with(r#","which":"all","dry_run":true,"x":1"#), range(Which::All, true));
        for (text, code) in [
            ("{}", "MISSING_SELECTION"),
            ("", "MISSING_SELECTION"),
            (r#"{"until":"2023-11-14T22:13:20Z"}"#, "MISSING_SELECTION"),
            (r#"{"event_id":"evt_1"}"#, "INVALID_FIELD"),
            (r#"{"since":"yesterday"}"#, "INVALID_FIELD"),
            (r#"{"since":"2023-11-14T22:13:20Z","until":"2023-11-14T22:13:20Z"}"#, "INVALID_FIELD"),
            (r#"{"since":"2023-11-14T22:13:20Z","which":"some"}"#, "INVALID_FIELD"),
            (r#"{"since":"2023-11-14T22:13:20Z","dry_run":"yes"}"#, "INVALID_FIELD"),
            (r#"{"since":"2023-11-14T22:13:20Z","after":"hook_1"}"#, "INVALID_FIELD"),
        ] {
            assert_eq!(plan(text), Err(code), "{text}");
        }
    }
}
