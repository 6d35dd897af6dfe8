//! Queries on recoveries.

use chrono::{DateTime, TimeDelta, Utc};
use diesel::{
    OptionalExtension, PgConnection, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Array, BigInt, Integer, Nullable, SmallInt, Text, Timestamptz, Uuid},
};
use serde_json::json;

use super::{RecoveryState, Which, candidates::Range};
use crate::{
    Result,
    audit::{Action, Actor, Entry, ObjectKind, ObjectRef},
    db::prepared::planned_for_values,
    event::wire_time,
    id::{ClaimId, EventId, RecoveryId, SubscriptionId, TenantId, first_uuid_at},
    subscription::{EventPattern, Kind},
};

/// A recovery to be stored.
#[derive(Clone, Debug)]
pub struct NewRecovery {
    /// Identity.
    pub id: RecoveryId,
    /// Owner.
    pub tenant: TenantId,
    /// To which endpoint.
    pub endpoint: SubscriptionId,
    /// Which events.
    pub which: Which,
    /// Accepted at or after.
    pub since: DateTime<Utc>,
    /// Accepted before.
    pub until: DateTime<Utc>,
    /// Of those accepted before only what ended, or whose time came, at or after.
    pub kept_from: Option<DateTime<Utc>>,
    /// Only these types, as written, and what those stand for.
    pub types: Option<(Vec<String>, Vec<String>)>,
    /// Deliveries per second.
    pub per_second: i32,
    /// Who asks.
    pub actor: Actor,
    /// Now.
    pub now: DateTime<Utc>,
}

/// A recovery as it stands.
#[derive(Clone, Debug, QueryableByName)]
pub struct Recovery {
    /// Identity.
    #[diesel(sql_type = Uuid)]
    pub id: RecoveryId,
    /// Owner.
    #[diesel(sql_type = Uuid)]
    pub tenant_id: TenantId,
    /// To which endpoint.
    #[diesel(sql_type = Uuid)]
    pub subscription_id: SubscriptionId,
    /// What that is.
    #[diesel(sql_type = SmallInt)]
    pub kind: Kind,
    /// Which events.
    #[diesel(sql_type = SmallInt)]
    pub which: Which,
    /// Where it stands.
    #[diesel(sql_type = SmallInt)]
    pub state: RecoveryState,
    /// Why it was stopped.
    #[diesel(sql_type = Nullable<Text>)]
    pub reason: Option<String>,
    /// Events accepted at or after.
    #[diesel(sql_type = Timestamptz)]
    pub since: DateTime<Utc>,
    /// Events accepted before.
    #[diesel(sql_type = Timestamptz)]
    pub until: DateTime<Utc>,
    /// Of those accepted before only what ended, or whose time came, at or after: what an enabling sends.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub kept_from: Option<DateTime<Utc>>,
    /// Only these types, as written.
    #[diesel(sql_type = Nullable<Array<Text>>)]
    pub event_types: Option<Vec<String>>,
    /// What those stand for.
    #[diesel(sql_type = Nullable<Array<Text>>)]
    pub patterns: Option<Vec<EventPattern>>,
    /// Deliveries per second.
    #[diesel(sql_type = Integer)]
    pub per_second: i32,
    /// The last event that was counted, or looked at.
    #[diesel(sql_type = Nullable<Uuid>)]
    pub cursor_at: Option<EventId>,
    /// Events to look at, as far as they are counted.
    #[diesel(sql_type = BigInt)]
    pub total: i64,
    /// Events that were looked at.
    #[diesel(sql_type = BigInt)]
    pub examined: i64,
    /// Deliveries that were put on their way.
    #[diesel(sql_type = BigInt)]
    pub queued: i64,
    /// Those of them that had not ended at the last look.
    #[diesel(sql_type = Array<Uuid>)]
    pub under_way: Vec<EventId>,
    /// Who asked: what kind of somebody (`audit::ActorKind`).
    #[diesel(sql_type = SmallInt)]
    pub actor_kind: i16,
    /// Which.
    #[diesel(sql_type = Nullable<Uuid>)]
    pub actor_id: Option<uuid::Uuid>,
    /// By name.
    #[diesel(sql_type = Text)]
    pub actor_name: String,
    /// When the next step is due.
    #[diesel(sql_type = Timestamptz)]
    pub due_at: DateTime<Utc>,
    /// Under whose lease.
    #[diesel(sql_type = Uuid)]
    pub claim: ClaimId,
    /// When it was asked for.
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
    /// When it last went on.
    #[diesel(sql_type = Timestamptz)]
    pub updated_at: DateTime<Utc>,
    /// When it ended.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub ended_at: Option<DateTime<Utc>>,
}

pub(super) const COLUMNS: &str = "r.id, r.tenant_id, r.subscription_id, s.kind, r.which, r.state, r.reason, r.since, r.until, r.kept_from, r.event_types, \
     r.patterns, r.per_second, r.cursor_at, r.total, r.examined, r.queued, r.under_way, r.actor_kind, r.actor_id, r.actor_name, \
     r.due_at, r.claim, r.created_at, r.updated_at, r.ended_at";

impl Recovery {
    /// An entry of the audit log about it: which events to which endpoint, and how far it is.
    #[must_use]
    pub fn entry(&self, action: Action) -> Entry {
        let after = json!({
            "endpoint": self.subscription_id.to_string(),
            "which": self.which.as_str(),
            "since": wire_time(self.since),
            "until": wire_time(self.until),
            "event_types": self.event_types,
            "per_second": self.per_second,
            "state": self.state.as_str(),
            "reason": self.reason,
            "examined": self.examined,
            "queued": self.queued,
        });
        Entry::new(self.tenant_id, action, ObjectRef::new(ObjectKind::Recovery, self.id)).after(after)
    }

    /// The events that it looks at, for queries. `types` are those that its endpoint and its patterns name, if they can be told.
    #[must_use]
    pub fn range(&self, types: Option<Vec<String>>) -> Range {
        Range {
            tenant: self.tenant_id,
            endpoint: self.subscription_id,
            profile: self.kind.profile(),
            which: self.which,
            since: self.since,
            until: self.until,
            kept_from: self.kept_from,
            types,
        }
    }
}

/// Stores a recovery. `false` when one of the same endpoint has not ended.
///
/// # Errors
/// When the database is away.
pub fn insert(conn: &mut PgConnection, new: &NewRecovery) -> Result<bool> {
    let (written, patterns) = new.types.clone().unzip();
    let made = sql_query(
        "INSERT INTO recoveries (id, tenant_id, subscription_id, which, state, since, until, event_types, patterns, per_second, \
            actor_kind, actor_id, actor_name, due_at, claim, lease_until, created_at, updated_at, kept_from) \
         VALUES ($1, $2, $3, $4, 0, $5, $6, $7, $8, $9, $10, $11, $12, $13, '00000000-0000-0000-0000-000000000000', $13, $13, $13, $14) \
         ON CONFLICT (subscription_id) WHERE state < 2 DO NOTHING",
    )
    .bind::<Uuid, _>(new.id)
    .bind::<Uuid, _>(new.tenant)
    .bind::<Uuid, _>(new.endpoint)
    .bind::<SmallInt, _>(new.which.code())
    .bind::<Timestamptz, _>(new.since)
    .bind::<Timestamptz, _>(new.until)
    .bind::<Nullable<Array<Text>>, _>(written)
    .bind::<Nullable<Array<Text>>, _>(patterns)
    .bind::<Integer, _>(new.per_second)
    .bind::<SmallInt, _>(new.actor.kind.code())
    .bind::<Nullable<Uuid>, _>(new.actor.id)
    .bind::<Text, _>(&new.actor.name)
    .bind::<Timestamptz, _>(new.now)
    .bind::<Nullable<Timestamptz>, _>(new.kept_from)
    .execute(conn)?;
    Ok(made == 1)
}

/// A recovery of a tenant.
///
/// # Errors
/// When the database is away.
pub fn find(conn: &mut PgConnection, tenant: TenantId, id: RecoveryId) -> Result<Option<Recovery>> {
    Ok(sql_query(format!(
        "SELECT {COLUMNS} FROM recoveries r JOIN subscriptions s ON s.id = r.subscription_id WHERE r.tenant_id = $1 AND r.id = $2"
    ))
    .bind::<Uuid, _>(tenant)
    .bind::<Uuid, _>(id)
    .get_result(conn)
    .optional()?)
}

/// Which recoveries of a tenant.
#[derive(Clone, Debug, Default)]
pub struct RecoveryQuery {
    /// To this endpoint.
    pub endpoint: Option<SubscriptionId>,
    /// In this state.
    pub state: Option<RecoveryState>,
    /// Only those older than this one: the cursor.
    pub before: Option<RecoveryId>,
    /// At most so many.
    pub limit: i64,
}

/// A page of recoveries, newest first.
///
/// # Errors
/// When the database is away.
pub fn list(conn: &mut PgConnection, tenant: TenantId, query: &RecoveryQuery) -> Result<Vec<Recovery>> {
    planned_for_values(conn, |conn| {
        Ok(sql_query(format!(
            "SELECT {COLUMNS} FROM recoveries r JOIN subscriptions s ON s.id = r.subscription_id \
             WHERE r.tenant_id = $1 AND ($2 IS NULL OR r.subscription_id = $2) AND ($3 IS NULL OR r.state = $3) \
               AND ($4 IS NULL OR r.id < $4) ORDER BY r.id DESC LIMIT $5"
        ))
        .bind::<Uuid, _>(tenant)
        .bind::<Nullable<Uuid>, _>(query.endpoint)
        .bind::<Nullable<SmallInt>, _>(query.state.map(RecoveryState::code))
        .bind::<Nullable<Uuid>, _>(query.before)
        .bind::<BigInt, _>(query.limit)
        .load(conn)?)
    })
}

/// Ends a recovery. Returns it as it is then; `None` when it has ended before. What it has put on its way goes on.
///
/// # Errors
/// When the database is away.
pub fn cancel(
    conn: &mut PgConnection,
    tenant: TenantId,
    id: RecoveryId,
    now: DateTime<Utc>,
) -> Result<Option<Recovery>> {
    let ended = sql_query(
        "UPDATE recoveries SET state = 3, ended_at = $3, updated_at = $3 WHERE tenant_id = $1 AND id = $2 AND state < 2",
    )
    .bind::<Uuid, _>(tenant)
    .bind::<Uuid, _>(id)
    .bind::<Timestamptz, _>(now)
    .execute(conn)?;
    if ended == 0 { Ok(None) } else { find(conn, tenant, id) }
}

/// When the first event was accepted that an endpoint disabled at `disabled_at` lacks because of it: its delivery ended from then on
/// without having arrived, however long it had been under way, or it was scheduled and its time came. `disabled_at` itself when there
/// is none. What was kept begins there.
///
/// # Errors
/// When the database is away.
pub fn kept_since(
    conn: &mut PgConnection,
    tenant: TenantId,
    endpoint: SubscriptionId,
    disabled_at: DateTime<Utc>,
) -> Result<DateTime<Utc>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Uuid)]
        id: EventId,
    }
    let first: Option<Row> = planned_for_values(conn, |conn| {
        Ok(sql_query(
            "SELECT id FROM (\
                (SELECT event_id AS id FROM deliveries WHERE subscription_id = $2 AND tenant_id = $1 AND event_id < $3 \
                    AND state IN (2, 3, 4) AND state <> 4 AND settled_at >= $4 ORDER BY event_id LIMIT 1) \
                UNION ALL \
                (SELECT id FROM scheduled_past WHERE tenant_id = $1 AND due_at >= $4 AND id < $3 ORDER BY id LIMIT 1)) AS k \
             ORDER BY id LIMIT 1",
        )
        .bind::<Uuid, _>(tenant)
        .bind::<Uuid, _>(endpoint)
        .bind::<Uuid, _>(first_uuid_at(disabled_at + TimeDelta::milliseconds(1)))
        .bind::<Timestamptz, _>(disabled_at)
        .get_result(conn)
        .optional()?)
    })?;
    Ok(first.map_or(disabled_at, |row| row.id.accepted_at().min(disabled_at)))
}

/// The recovery that was started when an endpoint was enabled last; `None` when it was enabled without one, or never disabled.
///
/// # Errors
/// When the database is away.
pub fn of_enabling(
    conn: &mut PgConnection,
    tenant: TenantId,
    endpoint: SubscriptionId,
) -> Result<Option<Recovery>> {
    Ok(sql_query(format!(
        "SELECT {COLUMNS} FROM recoveries r JOIN subscriptions s ON s.id = r.subscription_id \
         WHERE r.tenant_id = $1 AND r.subscription_id = $2 AND r.created_at = s.enabled_at ORDER BY r.id LIMIT 1"
    ))
    .bind::<Uuid, _>(tenant)
    .bind::<Uuid, _>(endpoint)
    .get_result(conn)
    .optional()?)
}

/// Forgets recoveries that ended before.
///
/// # Errors
/// When the database is away.
pub fn forget_old(conn: &mut PgConnection, before: DateTime<Utc>) -> Result<()> {
    sql_query("DELETE FROM recoveries WHERE ended_at < $1").bind::<Timestamptz, _>(before).execute(conn)?;
    Ok(())
}
