//! The end of runs: one transaction for what is at hand. What a run does within our database, and what tells of its end, is
//! written with its state, so that it happens once.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use diesel::{
    PgConnection, QueryableByName, RunQueryDsl,
    sql_types::{Array, Bool, Nullable, SmallInt, Text, Timestamptz, Uuid},
};

use super::{Outcome, RunState, callback, told};
use crate::{
    Error, Result,
    catalogue::schema::Violation,
    db::prepared::prepared,
    delivery::{self, NewDelivery, Profile},
    email::{self, Email},
    event::{self, Draft, EventType, NewEvent, Origin, Provenance, wire_time},
    id::{ActionRunId, ClaimId, DeliveryId, EventGroupId, LeaseId, SubscriptionId, TenantId},
    trace::TraceContext,
    vault::Vault,
    wire::{Json, Object, to_canonical},
};

/// How long the deliveries that are made here belong to whoever is rung for them; then the sweep takes them.
const DELIVERY_LEASE: TimeDelta = TimeDelta::seconds(30);

/// The event that tells the end of a run; its payload is the body of the callback.
const FINISHED: &str = "action_run.finished";

/// What a run does by ending.
#[derive(Clone, Debug)]
pub enum Effect {
    /// This came of it.
    Outcome(Outcome),
    /// An event; its id is the result, with what its payload breaks of its schema.
    Emit(Box<Draft>, Vec<Violation>),
    /// A mail; that it is on its way is the result.
    Mail(Email),
}

/// The end of a run that somebody holds.
#[derive(Clone, Debug)]
pub struct End {
    /// Which.
    pub run: ActionRunId,
    /// Under whose lease.
    pub lease: LeaseId,
    /// What it does.
    pub effect: Effect,
}

/// What was written, and what is to be rung after the commit.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The runs that ended, and whether well. The others were not held any more.
    pub runs: Vec<(ActionRunId, bool)>,
    /// Events: to be rung as accepted.
    pub group: Option<EventGroupId>,
    /// Callbacks: to be rung as due.
    pub callbacks: Vec<DeliveryId>,
    /// The claim under which they were made.
    pub claim: ClaimId,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Uuid)]
    id: ActionRunId,
    #[diesel(sql_type = Uuid)]
    tenant_id: TenantId,
    #[diesel(sql_type = Nullable<Uuid>)]
    endpoint_id: Option<SubscriptionId>,
    #[diesel(sql_type = Uuid)]
    trace: uuid::Uuid,
    #[diesel(sql_type = Bool)]
    sampled: bool,
}

impl Row {
    /// An event of the tenant's, or about one of its runs.
    fn event(&self, draft: Draft, origin: Origin, at: DateTime<Utc>) -> NewEvent {
        let provenance = Provenance {
            tenant: self.tenant_id,
            now: at,
            source_ip: None,
            user_agent: Some("Hookyard"),
            request_id: &self.id.to_string(),
            trace: TraceContext::of(self.trace, self.sampled),
        };
        draft.accept(origin, &provenance)
    }
}

/// Ends runs. Those that are not held under their lease any more stay as they are. Belongs into a transaction.
///
/// # Errors
/// When the database is away, or a defect of ours; nothing is written then.
pub fn apply(conn: &mut PgConnection, vault: &Vault, ends: &[End], now: DateTime<Utc>) -> Result<Ended> {
    let claim = ClaimId::new(now);
    let mut ended = Ended { runs: Vec::new(), group: None, callbacks: Vec::new(), claim };
    let by_run: HashMap<ActionRunId, &End> = ends.iter().map(|end| (end.run, end)).collect();
    let rows: Vec<Row> = prepared(
        "SELECT r.id, r.tenant_id, r.endpoint_id, r.trace, r.sampled FROM unnest($1, $2) AS k (i, l) \
         JOIN action_runs r ON r.id = k.i AND r.lease = k.l AND r.state + 0 = 1 ORDER BY r.id FOR UPDATE OF r",
    )
    .bind::<Array<Uuid>, _>(ends.iter().map(|end| end.run).collect::<Vec<_>>())
    .bind::<Array<Uuid>, _>(ends.iter().map(|end| end.lease).collect::<Vec<_>>())
    .load(conn)?;
    if rows.is_empty() {
        return Ok(ended);
    }
    let finished: EventType = FINISHED.parse().map_err(|error| Error::Database(Box::new(error)))?;
    let (mut states, mut results, mut errors, mut tells) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::with_capacity(rows.len()));
    let (mut events, mut deliveries) = (Vec::with_capacity(rows.len()), Vec::new());
    for row in &rows {
        let Some(end) = by_run.get(&row.id) else { continue };
        let outcome = match &end.effect {
            Effect::Outcome(outcome) => outcome.clone(),
            Effect::Emit(draft, warnings) => {
                let event = row.event((**draft).clone(), Origin::Posted, now);
                let result = emitted(&event, warnings);
                events.push(event);
                Ok(vec![result])
            }
            Effect::Mail(mail) => {
                let id = email::store::enqueue(conn, vault, Some(row.tenant_id), mail, now)?;
                let mut result = Object::new();
                result.insert("email_id", Json::from(id.to_string()));
                result.insert("to", Json::from(mail.to.as_str()));
                result.insert("status", Json::from("queued"));
                Ok(vec![Json::Object(result)])
            }
        };
        let tell = row.event(Draft::of(finished.clone(), callback(row.id, &outcome)), Origin::System, now);
        if let Some(endpoint) = row.endpoint_id {
            let id = DeliveryId { event: tell.id, subscription: endpoint };
            deliveries.push(NewDelivery::plain(id, row.tenant_id, Profile::Callback));
        }
        let (result, error) = told(&outcome);
        states.push(if outcome.is_ok() { RunState::Success.code() } else { RunState::Error.code() });
        results.push(stored(&result));
        errors.push(stored(&error));
        tells.push(tell.id);
        events.push(tell);
        ended.runs.push((row.id, outcome.is_ok()));
    }
    prepared(
        "UPDATE action_runs r SET state = k.s, results = k.o, errors = k.f, event_id = k.e, due_at = NULL, ended_at = $6, \
            lease = '00000000-0000-0000-0000-000000000000' \
         FROM unnest($1, $2, $3, $4, $5) AS k (i, s, o, f, e) WHERE r.id = k.i",
    )
    .bind::<Array<Uuid>, _>(ended.runs.iter().map(|(run, _)| *run).collect::<Vec<_>>())
    .bind::<Array<SmallInt>, _>(states)
    .bind::<Array<Text>, _>(results)
    .bind::<Array<Text>, _>(errors)
    .bind::<Array<Uuid>, _>(tells)
    .bind::<Timestamptz, _>(now)
    .execute(conn)?;
    let group = EventGroupId::new(now);
    event::store::insert_group(conn, group, &events)?;
    delivery::store::insert(conn, &deliveries, claim, now, now + DELIVERY_LEASE)?;
    ended.group = Some(group);
    ended.callbacks = deliveries.iter().map(|delivery| delivery.id).collect();
    Ok(ended)
}

fn emitted(event: &NewEvent, warnings: &[Violation]) -> Json {
    let mut result = Object::new();
    result.insert("event_id", Json::from(event.id.to_string()));
    result.insert("event_type", Json::from(event.event_type.as_str()));
    result.insert("created_at", Json::from(wire_time(event.created_at)));
    if !warnings.is_empty() {
        let told = |warning: &Violation| {
            let members = [("path", warning.path.as_str()), ("reason", warning.reason.as_str())];
            Json::Object(Object::from_iter(members))
        };
        result.insert("warnings", Json::Array(warnings.iter().map(told).collect()));
    }
    Json::Object(result)
}

/// Postgres' text cannot hold U+0000; canonical JSON escapes it.
fn stored(json: &Json) -> String {
    String::from_utf8_lossy(&to_canonical(json)).into_owned()
}
