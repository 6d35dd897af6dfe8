//! Which events a recovery is asked for: read from a body, made a job of, or only counted.

use chrono::{DateTime, Utc};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    Error,
    audit::Action,
    catalogue,
    db::Conn,
    event::wire_time,
    id::{RecoveryId, SubscriptionId},
    recovery::{
        Range, Wanted as WantedEvents, Which,
        store::{self, NewRecovery, Recovery},
    },
    subscription::{EventPattern, Subscription},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    access::{Caller, idempotent::Refusal},
    handlers::{
        audited,
        fields::{Fields, invalid},
        replay::walk,
        zapier::Wanted,
    },
    settings::GatewaySettings,
};

/// Event types of one recovery.
const MAX_TYPES: usize = 100;

/// Events that a dry run looks at.
const MAX_COUNTED: usize = 100_000;

/// Examples that a dry run shows.
const EXAMPLES: usize = 5;

/// Types as they were written, and what those stand for.
type Types = (Vec<String>, Vec<EventPattern>);

/// Which events are asked for.
#[derive(Clone, Debug)]
pub(in crate::handlers) struct Wish {
    pub(super) which: Which,
    pub(super) since: Option<DateTime<Utc>>,
    pub(super) until: Option<DateTime<Utc>>,
    pub(super) event_types: Option<Vec<String>>,
    pub(super) per_second: i32,
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

    /// Starts the job for these events; what `kept_from` means stands at [`NewRecovery`].
    pub(super) fn start_until(
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
    pub(super) fn count(
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
