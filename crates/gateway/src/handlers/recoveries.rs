//! `/v1/recoveries`: sending again what did not arrive at an endpoint, as a job that goes at a pace and goes on by itself. The
//! registry works on it (`domain::recovery`).

use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        StatusCode,
        header::{CONTENT_LANGUAGE, VARY},
    },
    web::Data,
};
use chrono::{DateTime, TimeDelta, Utc};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    Error,
    audit::{Action, ActorKind},
    catalogue,
    db::Conn,
    event::wire_time,
    id::{CredentialId, RecoveryId, SubscriptionId, UserId},
    person::Locale,
    recovery::{
        Range, RecoveryState, Wanted as WantedEvents, Which,
        store::{self, NewRecovery, Recovery, RecoveryQuery},
    },
    subscription::{EventPattern, Subscription},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    audited,
    endpoints::{self, SUBSCRIBERS},
    fields::{Fields, invalid},
    replay::walk,
    zapier::Wanted,
};
use crate::{
    access::{
        Caller,
        idempotent::{Refusal, Reply, idempotent, key},
        visitor::accepted_locale,
    },
    body::{JsonBody, SMALL},
    context::Context,
    paging::{Id, Page, Query},
    problem,
    settings::GatewaySettings,
};

/// Event types of one recovery.
const MAX_TYPES: usize = 100;

/// Events that a dry run looks at.
const MAX_COUNTED: usize = 100_000;

/// Examples that a dry run shows.
const EXAMPLES: usize = 5;

/// No transaction that enables an endpoint takes longer.
const ENABLING: TimeDelta = TimeDelta::seconds(30);

/// Types as they were written, and what those stand for.
type Types = (Vec<String>, Vec<EventPattern>);

/// Which events are asked for.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    pub(super) which: Which,
    pub(super) since: Option<DateTime<Utc>>,
    until: Option<DateTime<Utc>>,
    event_types: Option<Vec<String>>,
    per_second: i32,
}

impl Wish {
    /// Reads what is asked for; `which` is what nobody has to say.
    ///
    /// # Errors
    /// 422 `INVALID_FIELD`.
    pub(super) fn parse(
        fields: &Fields,
        which: Which,
        settings: &GatewaySettings,
        now: DateTime<Utc>,
    ) -> Result<Self, ApiError> {
        let which = match fields.text("which")? {
            None => which,
            // `missed` is the word of replays.
            Some(word) => word
                .parse::<Which>()
                .ok()
                .filter(|which| *which != Which::NotArrived)
                .ok_or_else(|| invalid("which", "must be failed, missing, undelivered or all"))?,
        };
        let since = fields.time("since")?;
        let until = fields.time("until")?.map(|until| until.min(now));
        if since.is_some_and(|since| until.unwrap_or(now) <= since) {
            return Err(invalid("until", "must be after `since`, and `since` in the past"));
        }
        let event_types = fields.texts("event_types", MAX_TYPES)?;
        if event_types.as_ref().is_some_and(Vec::is_empty) {
            return Err(invalid("event_types", "must name at least one type, or be left out"));
        }
        let most = i32::try_from(settings.recovery_max_per_second).unwrap_or(i32::MAX);
        let per_second = fields.integer("per_second", 1..=most)?;
        Ok(Self {
            which,
            since,
            until,
            event_types: event_types.map(|types| types.into_iter().map(str::to_owned).collect()),
            per_second: per_second
                .unwrap_or_else(|| i32::try_from(settings.recovery_per_second).unwrap_or(i32::MAX)),
        })
    }

    /// The types, as written, and what those stand for.
    fn types(&self, conn: &mut Conn, caller: &Caller) -> Result<Option<Types>, Refusal> {
        let Some(written) = &self.event_types else { return Ok(None) };
        let catalogue = catalogue::of_tenant(conn, caller.tenant())?;
        let mut patterns = Vec::with_capacity(written.len());
        for (at, name) in written.iter().enumerate() {
            let wanted =
                Wanted::of(name, &catalogue).map_err(|error| error.field(format!("event_types[{at}]")))?;
            patterns.push(wanted.pattern);
        }
        Ok(Some((written.clone(), patterns)))
    }

    /// Starts the job.
    ///
    /// # Errors
    /// 409 `RECOVERY_RUNNING` when one of the same endpoint has not ended; 422 `INVALID_EVENT_TYPE`.
    pub(super) fn start(
        &self,
        conn: &mut Conn,
        caller: &Caller,
        (endpoint, since): (SubscriptionId, DateTime<Utc>),
        now: DateTime<Utc>,
    ) -> Result<Recovery, Refusal> {
        self.start_until(conn, caller, (endpoint, since, self.until.unwrap_or(now)), None, now)
    }

    /// Starts the job for an endpoint that is enabled in this transaction: with what it lacks because it was disabled. Who asks once
    /// more, because the answer was lost, is answered with the job that is there.
    ///
    /// # Errors
    /// As [`Wish::start`]; 422 when it was not disabled, and no time is given.
    pub(super) fn start_enabled(
        &self,
        conn: &mut Conn,
        caller: &Caller,
        (endpoint, disabled_at): (SubscriptionId, Option<DateTime<Utc>>),
        now: DateTime<Utc>,
    ) -> Result<Recovery, Refusal> {
        if disabled_at.is_none() {
            let made = store::of_enabling(conn, caller.tenant(), endpoint)?;
            if let Some(made) = made.filter(|made| self.is_again(made)) {
                return Ok(made);
            }
        }
        let (since, kept_from) = match (self.since, disabled_at) {
            (Some(since), _) => (since, None),
            (None, Some(at)) => (store::kept_since(conn, caller.tenant(), endpoint, at)?, Some(at)),
            (None, None) => {
                return Err(invalid("replay", "must have `since`, as the endpoint is not disabled").into());
            }
        };
        // Events that are accepted while this commits are fanned out without it, or with it; either way they get one delivery.
        let until = self.until.unwrap_or(now + ENABLING);
        self.start_until(conn, caller, (endpoint, since, until), kept_from, now)
    }

    /// Whether this asks for the very job that was made with an enabling. One with a time that has ended may be wanted once more.
    fn is_again(&self, made: &Recovery) -> bool {
        let range = match self.since {
            None => made.kept_from.is_some(),
            Some(since) => made.since == since && !made.state.has_ended(),
        };
        range
            && self.until.is_none_or(|until| until == made.until)
            && (self.which, self.per_second) == (made.which, made.per_second)
            && self.event_types == made.event_types
    }

    fn start_until(
        &self,
        conn: &mut Conn,
        caller: &Caller,
        (endpoint, since, until): (SubscriptionId, DateTime<Utc>, DateTime<Utc>),
        kept_from: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    ) -> Result<Recovery, Refusal> {
        let types = self.types(conn, caller)?.map(|(written, patterns)| {
            (written, patterns.iter().map(|pattern| pattern.as_str().to_owned()).collect())
        });
        let new = NewRecovery {
            id: RecoveryId::new(now),
            tenant: caller.tenant(),
            endpoint,
            which: self.which,
            since,
            until,
            kept_from,
            types,
            per_second: self.per_second,
            actor: caller.actor(),
            now,
        };
        if !store::insert(conn, &new)? {
            let message = "a recovery of this endpoint is under way; wait for its end, or cancel it";
            return Err(ApiError::conflict("RECOVERY_RUNNING", message).into());
        }
        let made = store::find(conn, new.tenant, new.id)?.ok_or(Error::NotFound { what: "recovery" })?;
        audited::record(conn, caller, &made.entry(Action::RecoveryStarted), now)?;
        Ok(made)
    }

    /// Counts what the job would send, and stores nothing.
    fn count(
        &self,
        conn: &mut Conn,
        caller: &Caller,
        (endpoint, since): (&Subscription, DateTime<Utc>),
        now: DateTime<Utc>,
    ) -> Result<DryRun, Refusal> {
        let types = self.types(conn, caller)?.map(|(_, patterns)| patterns);
        let wanted = WantedEvents::new(endpoint, types.as_deref());
        let range = Range {
            tenant: endpoint.tenant,
            endpoint: endpoint.id,
            profile: endpoint.kind.profile(),
            which: self.which,
            since,
            until: self.until.unwrap_or(now),
            kept_from: None,
            types: wanted.exact_types(),
        };
        let (mut would_send, mut examples) = (0_usize, Vec::new());
        let walked = walk(conn, (&range, &wanted), None, MAX_COUNTED, |page| {
            for event in page {
                if wanted.of(event).is_none() {
                    continue;
                }
                would_send += 1;
                if examples.len() < EXAMPLES {
                    examples.push(Example {
                        event_id: event.id.to_string(),
                        event_type: event.event_type.to_string(),
                        created_at: wire_time(event.created_at),
                    });
                }
            }
        })?;
        let per_second = usize::try_from(self.per_second).unwrap_or(1).max(1);
        Ok(DryRun {
            dry_run: true,
            examined: walked.examined,
            would_send,
            complete: !walked.has_more,
            seconds: would_send.div_ceil(per_second),
            examples,
        })
    }
}

/// What is asked for with an enabling: `replay` is `true`, or says more.
///
/// # Errors
/// 422 `INVALID_FIELD`.
pub(super) fn with_enabling(
    body: &[u8],
    settings: &GatewaySettings,
    now: DateTime<Utc>,
) -> Result<Option<Wish>, ApiError> {
    let fields = Fields::parse(body)?;
    let Some(replay) = fields.get("replay") else { return Ok(None) };
    match replay.as_bool() {
        Some(false) => Ok(None),
        Some(true) => Wish::parse(&Fields::parse(b"")?, Which::Undelivered, settings, now).map(Some),
        None => match fields.object("replay") {
            Ok(Some(more)) => Wish::parse(&more, Which::Undelivered, settings, now).map(Some),
            Ok(None) | Err(_) => Err(invalid("replay", "must be true, false or an object")),
        },
    }
}

/// What may be said with an enabling.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct EnableRequest {
    /// `true`, or which events and how fast: starts a recovery of what was kept, in the same step.
    #[schema(value_type = serde_json::Value, required = false)]
    replay: Option<serde_json::Value>,
}

/// An endpoint that was enabled, and the recovery that was started with it.
#[derive(Debug, Serialize)]
pub(super) struct Enabled<T> {
    #[serde(flatten)]
    pub(super) endpoint: T,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) recovery: Option<View>,
}

/// A hook that was enabled, and the recovery that was started with it.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the answer in the OpenAPI document")]
pub(crate) struct EnabledHook {
    #[serde(flatten)]
    hook: super::hook_view::View,
    /// The recovery; missing when none was asked for.
    recovery: Option<View>,
}

/// A consumer that was enabled, and the recovery that was started with it.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the answer in the OpenAPI document")]
pub(crate) struct EnabledConsumer {
    #[serde(flatten)]
    consumer: super::consumers::view::View,
    /// The recovery; missing when none was asked for.
    recovery: Option<View>,
}

/// What is to be recovered.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct RecoveryRequest {
    /// To which hook, consumer or inbox.
    #[schema(example = "hook_01hzy3v9k2s8d4f6g8h0j2k4m6")]
    endpoint_id: String,
    #[serde(flatten)]
    selection: RecoverySelection,
    /// Only count, and show some of them; nothing is stored.
    dry_run: Option<bool>,
}

/// Which events are sent again, and how fast.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct RecoverySelection {
    /// `failed`: what ended without having arrived. `missing`: what was never on its way here. `undelivered` (the default): both.
    /// `all`: also what arrived.
    #[schema(example = "failed")]
    which: Option<String>,
    /// Events accepted at or after this time: RFC 3339 with an offset.
    #[schema(format = DateTime)]
    since: Option<String>,
    /// Events accepted before this time; now by default.
    #[schema(format = DateTime)]
    until: Option<String>,
    /// Only these types: names, aliases or patterns. All that the endpoint wants by default.
    #[schema(min_items = 1, max_items = 100, example = json!(["order.*"]))]
    event_types: Option<Vec<String>>,
    /// Deliveries per second; 50 by default, at most 1,000, unless the installation says otherwise.
    #[schema(minimum = 1, example = 25)]
    per_second: Option<i32>,
}

/// What a recovery would do.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RecoveryDryRun)]
pub(crate) struct DryRun {
    /// Always `true`: nothing was sent or stored.
    dry_run: bool,
    /// Events that were looked at.
    examined: usize,
    /// Those that would be sent.
    would_send: usize,
    /// Whether all events of the range were looked at; `false`: there are more than 100,000, or it took too long.
    complete: bool,
    /// How long that would take at the pace, in seconds.
    seconds: usize,
    /// The first of them, at most 5.
    examples: Vec<Example>,
}

/// An event that would be sent.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RecoveryExample)]
pub(crate) struct Example {
    /// The event.
    event_id: String,
    /// Its type.
    event_type: String,
    /// When it was accepted.
    #[schema(format = DateTime)]
    created_at: String,
}

/// A recovery: a job that sends again what did not arrive.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Recovery)]
pub(crate) struct View {
    /// Identity.
    #[schema(example = "rec_01hzy3v9k2s8d4f6g8h0j2k4m6")]
    id: String,
    /// To which hook, consumer or inbox.
    #[schema(example = "hook_01hzy3v9k2s8d4f6g8h0j2k4m6")]
    endpoint_id: String,
    /// `failed`, `missing`, `undelivered` or `all`.
    which: &'static str,
    /// `counting`, `running`, `completed`, `cancelled` or `stopped`.
    #[schema(example = "running")]
    state: &'static str,
    /// Why it was stopped.
    reason: Option<String>,
    /// How far it is, in words.
    summary: String,
    /// Events accepted at or after.
    #[schema(format = DateTime)]
    since: String,
    /// Events accepted before.
    #[schema(format = DateTime)]
    until: String,
    /// Only of these types; `null` = of all that the endpoint wants.
    event_types: Option<Vec<String>>,
    /// Deliveries per second at the most.
    #[schema(minimum = 1)]
    per_second: i32,
    /// Events to look at, as far as they are counted.
    #[schema(minimum = 0)]
    total: i64,
    /// Events that were looked at.
    #[schema(minimum = 0)]
    examined: i64,
    /// Deliveries that were put on their way.
    #[schema(minimum = 0)]
    queued: i64,
    /// Events that were looked at and not sent: not wanted, or on their way already.
    #[schema(minimum = 0)]
    skipped: i64,
    /// Deliveries of this recovery that had not ended at the last look; it waits when they are too many. 0 for an inbox.
    #[schema(minimum = 0)]
    under_way: usize,
    /// Who asked.
    requested_by: RequestedBy,
    /// When it was asked for.
    #[schema(format = DateTime)]
    created_at: String,
    /// When it last went on.
    #[schema(format = DateTime)]
    updated_at: String,
    /// When it ended.
    #[schema(format = DateTime)]
    ended_at: Option<String>,
}

/// Who asked for a recovery.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RecoveryRequestedBy)]
pub(crate) struct RequestedBy {
    /// `credential` or `person`.
    #[schema(example = "credential")]
    kind: Option<&'static str>,
    /// Which.
    #[schema(example = "key_01hzy3v9k2s8d4f6g8h0j2k4m6")]
    id: Option<String>,
    /// By name at that time.
    name: String,
}

impl View {
    pub(super) fn of(recovery: Recovery, locale: Locale) -> Self {
        let kind = ActorKind::of_code(recovery.actor_kind);
        let id = recovery.actor_id.map(|id| match kind {
            Some(ActorKind::Person) => UserId::from_uuid(id).to_string(),
            Some(ActorKind::Credential | ActorKind::System | ActorKind::Operator | ActorKind::Nobody)
            | None => CredentialId::from_uuid(id).to_string(),
        });
        Self {
            summary: summary(&recovery, locale),
            id: recovery.id.to_string(),
            endpoint_id: recovery.subscription_id.to_string(),
            which: recovery.which.as_str(),
            state: recovery.state.as_str(),
            reason: recovery.reason,
            since: wire_time(recovery.since),
            until: wire_time(recovery.until),
            event_types: recovery.event_types,
            per_second: recovery.per_second,
            total: recovery.total,
            examined: recovery.examined,
            queued: recovery.queued,
            skipped: (recovery.examined - recovery.queued).max(0),
            under_way: recovery.under_way.len(),
            requested_by: RequestedBy { kind: kind.map(ActorKind::as_str), id, name: recovery.actor_name },
            created_at: wire_time(recovery.created_at),
            updated_at: wire_time(recovery.updated_at),
            ended_at: recovery.ended_at.map(wire_time),
        }
    }
}

/// How far it is, in a sentence.
fn summary(recovery: &Recovery, locale: Locale) -> String {
    let Recovery { total, examined, queued, .. } = recovery;
    match (recovery.state, locale) {
        (RecoveryState::Counting, Locale::En) => {
            format!("It counts what there is to look at: {total} events so far.")
        }
        (RecoveryState::Counting, Locale::Fr) => {
            format!("Il compte ce qu'il y a à regarder : {total} événements jusqu'ici.")
        }
        (RecoveryState::Running, Locale::En) => {
            format!("{examined} of {total} events have been looked at, {queued} were put on their way.")
        }
        (RecoveryState::Running, Locale::Fr) => {
            format!("{examined} événements sur {total} ont été regardés, {queued} ont été mis en route.")
        }
        (RecoveryState::Completed, Locale::En) => {
            format!("All {examined} events have been looked at, {queued} were put on their way.")
        }
        (RecoveryState::Completed, Locale::Fr) => {
            format!("Les {examined} événements ont tous été regardés, {queued} ont été mis en route.")
        }
        (RecoveryState::Cancelled, Locale::En) => {
            format!("It was cancelled after {examined} of {total} events; {queued} were put on their way.")
        }
        (RecoveryState::Cancelled, Locale::Fr) => {
            format!(
                "Il a été annulé après {examined} événements sur {total} ; {queued} ont été mis en route."
            )
        }
        (RecoveryState::Stopped, Locale::En) => format!(
            "It was stopped after {examined} of {total} events, because the endpoint takes none any more; {queued} were put on their way."
        ),
        (RecoveryState::Stopped, Locale::Fr) => format!(
            "Il a été arrêté après {examined} événements sur {total}, car le destinataire n'en accepte plus ; {queued} ont été mis en route."
        ),
    }
}

/// Start a recovery
///
/// Sends again to a hook, a consumer or an inbox what did not arrive there since a time: what failed, what was never on its way (because the
/// endpoint was disabled, made later or wanted something else), or both. It is a job: it goes at the pace that is asked for, waits
/// while too much of it is under way, goes on after a restart, and can be cancelled. With `dry_run` it only counts.
///
/// Events are matched with the endpoint as it is now. No event is sent twice by one recovery, and what is on its way already is left
/// alone. An endpoint has one recovery at a time.
#[utoipa::path(
    post,
    path = "/v1/recoveries",
    operation_id = "start_recovery",
    tag = "Recoveries",
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition of this very request give the same answer, for 48 h; 1 to 255 printable ASCII characters."),
        ("Accept-Language" = Option<String>, Header, description = "`en` (the default) or `fr`.")
    ),
    request_body(
        content = RecoveryRequest,
        examples(
            ("failed" = (summary = "What failed since a time, slowly", value = json!({"endpoint_id": "hook_01hzy3v9k2s8d4f6g8h0j2k4m6", "which": "failed", "since": "2025-11-12T00:00:00Z", "per_second": 10}))),
            ("count" = (summary = "How much was missed", value = json!({"endpoint_id": "hook_01hzy3v9k2s8d4f6g8h0j2k4m6", "which": "missing", "since": "2025-11-12T00:00:00Z", "event_types": ["order.*"], "dry_run": true})))
        )
    ),
    responses(
        (status = 202, description = "It has begun.", body = View),
        (status = 200, description = "What it would do: with `dry_run`.", body = DryRun, example = json!({"dry_run": true, "examined": 412, "would_send": 37, "complete": true, "seconds": 1, "examples": [{"event_id": "evt_01hzy3v9k2s8d4f6g8h0j2k4m6", "event_type": "order.created", "created_at": "2025-11-12T14:30:00.000Z"}]}))
    ),
    extensions(("x-errors" = json!(["INVALID_FIELD", "INVALID_EVENT_TYPE", "INVALID_BODY", "MISSING_SELECTION", "HOOK_DISABLED", "HOOK_DELETED", "CONSUMER_DISABLED", "CONSUMER_DELETED", "RECOVERY_RUNNING"])))
)]
pub(crate) async fn create(
    context: Data<Context>,
    caller: Caller,
    request: HttpRequest,
    body: JsonBody<SMALL>,
) -> Result<Reply, ApiError> {
    let (now, locale) = (context.clock.now(), accepted_locale(request.headers()));
    let fields = Fields::parse(&body)?;
    let missing = |name: &'static str| {
        ApiError::bad_request(
            "MISSING_SELECTION",
            format!("`{name}` is not given: nothing is sent by accident"),
        )
        .field(name)
        .reason("is not there")
    };
    let id = fields.id::<SubscriptionId>("endpoint_id")?.ok_or_else(|| missing("endpoint_id"))?;
    let wish = Wish::parse(&fields, Which::Undelivered, &context.settings.gateway, now)?;
    let since = wish.since.ok_or_else(|| missing("since"))?;
    let dry_run = fields.flag("dry_run")?.unwrap_or(false);
    let key = key(&request, &caller, &body)?;
    idempotent(&context, key, move |conn| {
        let endpoint = endpoints::found(conn, caller.tenant(), id, (SUBSCRIBERS, "endpoint"))?.subscription;
        if dry_run {
            return Ok(Reply::json(StatusCode::OK, &wish.count(conn, &caller, (&endpoint, since), now)?)?);
        }
        endpoints::takes_events(endpoint.kind, endpoint.state)?;
        let made = wish.start(conn, &caller, (id, since), now)?;
        Ok(Reply::json(StatusCode::ACCEPTED, &View::of(made, locale))?)
    })
    .await
}

/// List recoveries
///
/// Newest first.
#[utoipa::path(
    get,
    path = "/v1/recoveries",
    operation_id = "list_recoveries",
    tag = "Recoveries",
    params(
        ("endpoint_id" = Option<String>, Query, description = "Only recoveries of this hook, consumer or inbox.", example = "hook_01hzy3v9k2s8d4f6g8h0j2k4m6"),
        ("state" = Option<String>, Query, description = "Only recoveries in this state: `counting`, `running`, `completed`, `cancelled` or `stopped`."),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of an earlier page."),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 100, description = "Entries on a page, 1 to 100; 50 by default."),
        ("Accept-Language" = Option<String>, Header, description = "`en` (the default) or `fr`.")
    ),
    responses((status = 200, description = "A page of recoveries.", body = inline(crate::openapi::PageOf<View>)))
)]
pub(crate) async fn list(
    context: Data<Context>,
    caller: Caller,
    mut query: Query,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let limit = query.limit()?;
    let asked = RecoveryQuery {
        endpoint: query.id("endpoint_id")?,
        state: query.value("state", "counting, running, completed, cancelled or stopped")?,
        before: query.cursor::<RecoveryId>()?,
        limit: limit + 1,
    };
    query.finish()?;
    let (tenant, locale) = (caller.tenant(), accepted_locale(request.headers()));
    let rows = context.db.once(move |conn| store::list(conn, tenant, &asked)).await.map_err(problem::of)?;
    Ok(Page::new(rows, limit, |recovery| recovery.id).map(|recovery| View::of(recovery, locale)).respond())
}

/// Show a recovery
///
/// With how far it is, in numbers and in words, English or French by `Accept-Language`.
#[utoipa::path(
    get,
    path = "/v1/recoveries/{id}",
    operation_id = "show_recovery",
    tag = "Recoveries",
    params(
        ("id" = String, Path, description = "The recovery's id.", example = "rec_01hzy3v9k2s8d4f6g8h0j2k4m6"),
        ("Accept-Language" = Option<String>, Header, description = "`en` (the default) or `fr`.")
    ),
    responses((status = 200, description = "The recovery.", body = View))
)]
pub(crate) async fn show(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<RecoveryId>,
    query: Query,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    query.finish()?;
    let (tenant, locale) = (caller.tenant(), accepted_locale(request.headers()));
    let find =
        move |conn: &mut Conn| store::find(conn, tenant, id)?.ok_or(Error::NotFound { what: "recovery" });
    let recovery = context.db.once(find).await.map_err(problem::of)?;
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_LANGUAGE, locale.as_str()))
        .insert_header((VARY, "Accept-Language"))
        .json(View::of(recovery, locale)))
}

/// Cancel a recovery
///
/// It looks at no further events. What it has put on its way goes on. Cancelling it again is answered with 200, too.
#[utoipa::path(
    post,
    path = "/v1/recoveries/{id}/cancel",
    operation_id = "cancel_recovery",
    tag = "Recoveries",
    params(
        ("id" = String, Path, description = "The recovery's id.", example = "rec_01hzy3v9k2s8d4f6g8h0j2k4m6"),
        ("Accept-Language" = Option<String>, Header, description = "`en` (the default) or `fr`.")
    ),
    responses((status = 200, description = "The recovery as it is now.", body = View)),
    extensions(("x-errors" = json!(["RECOVERY_ENDED"])))
)]
pub(crate) async fn cancel(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<RecoveryId>,
    request: HttpRequest,
) -> Result<Reply, ApiError> {
    let (tenant, now) = (caller.tenant(), context.clock.now());
    let locale = accepted_locale(request.headers());
    idempotent(&context, None, move |conn| {
        let there = store::find(conn, tenant, id)?.ok_or(Error::NotFound { what: "recovery" })?;
        let ended = match store::cancel(conn, tenant, id, now)? {
            Some(ended) => {
                audited::record(conn, &caller, &ended.entry(Action::RecoveryCancelled), now)?;
                ended
            }
            None => store::find(conn, tenant, id)?.unwrap_or(there),
        };
        if ended.state != RecoveryState::Cancelled {
            return Err(ApiError::conflict("RECOVERY_ENDED", "the recovery has ended already").into());
        }
        Ok(Reply::json(StatusCode::OK, &View::of(ended, locale))?)
    })
    .await
}
