//! Queries of the delivery engine. All of them take many rows at once (invariant 5).

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashSet},
};

use chrono::{DateTime, Utc};
use diesel::{
    Connection, PgConnection, QueryableByName, RunQueryDsl,
    result::{DatabaseErrorKind, Error::DatabaseError},
    sql_query,
    sql_types::{Array, BigInt, Binary, Bool, Integer, Jsonb, Nullable, SmallInt, Text, Timestamptz, Uuid},
};

use super::{Attempt, DeliveryState, Fate, HeldDelivery, NewDelivery, Profile, Settled, sequence};
use crate::{
    Result,
    db::{partition, prepared::prepared},
    id::{ClaimId, DeliveryId, EventGroupId, EventId, SettlementId, SubscriptionId, TenantId},
    subscription::Report,
};

/// No lease: the claim of a delivery that waits for its time.
pub(crate) fn nobody() -> ClaimId {
    ClaimId::from_uuid(uuid::Uuid::nil())
}

pub(super) fn split(ids: impl IntoIterator<Item = DeliveryId>) -> (Vec<EventId>, Vec<SubscriptionId>) {
    ids.into_iter().map(|id| (id.event, id.subscription)).unzip()
}

/// Deliveries by the partition that holds them; nearly always one.
///
/// Statements on a batch name the partition. Through the parent, the planner, who knows nothing yet of a partition that
/// has been filling for an hour, reads ranges of it for every key.
pub(crate) fn by_partition<T>(
    items: impl IntoIterator<Item = T>,
    event: impl Fn(&T) -> EventId,
) -> BTreeMap<String, Vec<T>> {
    let mut partitions: BTreeMap<String, Vec<T>> = BTreeMap::new();
    for item in items {
        partitions.entry(partition::holding("deliveries", event(&item))).or_default().push(item);
    }
    partitions
}

/// A partition that retention has dropped holds nothing to be changed any more.
fn unless_dropped(result: diesel::QueryResult<usize>) -> Result<()> {
    match result {
        Ok(_rows) => Ok(()),
        Err(error) if partition::is_dropped(&error) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Held deliveries `d` of a list of keys `k`. `+ 0` keeps the planner from walking the index of everything that is pending
/// instead of looking each key up.
pub(super) const BY_KEY: &str =
    "d.event_id = k.e AND d.subscription_id = k.s AND d.claim = k.c AND d.state + 0 = 0";

fn small(number: u16) -> i16 {
    i16::try_from(number).unwrap_or(i16::MAX)
}

/// Makes deliveries that are of no subscription that counts, held under `claim` until `lease_until`; those that stand in a line are held back, and
/// [`super::ordered::release`] lets go those that may, after the commit. One that exists already stays as it is (invariant 3).
///
/// # Errors
/// When the database is away.
pub fn insert(
    conn: &mut PgConnection,
    deliveries: &[NewDelivery],
    claim: ClaimId,
    now: DateTime<Utc>,
    lease_until: DateTime<Utc>,
) -> Result<()> {
    if deliveries.is_empty() {
        return Ok(());
    }
    let (events, subscriptions) = split(deliveries.iter().map(|d| d.id));
    prepared(
        "INSERT INTO deliveries (event_id, subscription_id, tenant_id, profile, state, tries, attempts, deferrals, \
            due_at, next_attempt_at, claim, ordering, expires_at) \
         SELECT e, s, t, p, 0, 0, 0, 0, $5, CASE WHEN o IS NULL THEN $6 ELSE 'infinity' END, \
            CASE WHEN o IS NULL THEN $7 ELSE '00000000-0000-0000-0000-000000000000' END, o, x \
         FROM unnest($1, $2, $3, $4, $8, $9) AS new (e, s, t, p, o, x) ON CONFLICT DO NOTHING",
    )
    .bind::<Array<Uuid>, _>(events)
    .bind::<Array<Uuid>, _>(subscriptions)
    .bind::<Array<Uuid>, _>(deliveries.iter().map(|d| d.tenant).collect::<Vec<_>>())
    .bind::<Array<SmallInt>, _>(deliveries.iter().map(|d| d.profile).collect::<Vec<_>>())
    .bind::<Timestamptz, _>(now)
    .bind::<Timestamptz, _>(lease_until)
    .bind::<Uuid, _>(claim)
    .bind::<Array<Nullable<Uuid>>, _>(deliveries.iter().map(|d| d.ordering).collect::<Vec<_>>())
    .bind::<Array<Nullable<Timestamptz>>, _>(deliveries.iter().map(|d| d.expires_at).collect::<Vec<_>>())
    .execute(conn)?;
    Ok(())
}

/// Takes groups of events and makes their deliveries, numbered ([`sequence`]), in one statement: a group is gone when its deliveries
/// are there. Returns the groups that were taken; of one that somebody else has taken, or is taking, no delivery is made. Deliveries
/// that stand in a line are held back, as by [`insert`]. One that exists already stays as it is, and no number is spent on it. Not
/// within a transaction.
///
/// # Errors
/// When the database is away; nothing is taken then.
pub fn fan_out(
    conn: &mut PgConnection,
    groups: &[EventGroupId],
    deliveries: &[(EventGroupId, NewDelivery)],
    claim: ClaimId,
    now: DateTime<Utc>,
    lease_until: DateTime<Utc>,
) -> Result<HashSet<EventGroupId>> {
    let mut missing = Cow::Borrowed(deliveries);
    loop {
        match fan_out_new(conn, groups, &missing, claim, now, lease_until) {
            // Hardly ever: somebody has sent one of the events again before it was fanned out.
            Err(DatabaseError(DatabaseErrorKind::UniqueViolation, error)) => {
                let there = sequence::existing(conn, missing.iter().map(|(_, new)| new.id))?;
                if there.is_empty() {
                    return Err(DatabaseError(DatabaseErrorKind::UniqueViolation, error).into());
                }
                missing.to_mut().retain(|(_, new)| !there.contains(&new.id));
            }
            taken => return Ok(taken?),
        }
    }
}

/// As [`fan_out`], of deliveries none of which exists.
fn fan_out_new(
    conn: &mut PgConnection,
    groups: &[EventGroupId],
    deliveries: &[(EventGroupId, NewDelivery)],
    claim: ClaimId,
    now: DateTime<Utc>,
    lease_until: DateTime<Utc>,
) -> diesel::QueryResult<HashSet<EventGroupId>> {
    #[derive(QueryableByName)]
    struct Taken {
        #[diesel(sql_type = Uuid)]
        id: EventGroupId,
    }
    let (events, subscriptions) = split(deliveries.iter().map(|(_, new)| new.id));
    let news = || deliveries.iter().map(|(_, new)| new);
    // Nearly always nothing of it: those who do not wait in lines, and do not expire, need not pay for it.
    let with_options = news().any(|new| new.ordering.is_some() || new.expires_at.is_some());
    let (columns, values, parameters, names) = if with_options {
        (
            ", next_attempt_at, claim, ordering, expires_at",
            "CASE WHEN o IS NULL THEN $6 ELSE 'infinity' END, \
               CASE WHEN o IS NULL THEN $7 ELSE '00000000-0000-0000-0000-000000000000' END, o, x",
            ", $10, $11",
            ", o, x",
        )
    } else {
        (", next_attempt_at, claim", "$6, $7", "", "")
    };
    // Within one subscription numbers go by the events' ids. A full join, which has the same rows here, cannot be made by comparing
    // each of thousands of deliveries with each counter, as the planner, who expects ten, would have it.
    let statement = prepared(format!(
        "WITH taken AS (DELETE FROM event_groups WHERE id IN \
            (SELECT id FROM event_groups WHERE id = ANY($8) ORDER BY id FOR UPDATE SKIP LOCKED) RETURNING id), \
         new AS MATERIALIZED (SELECT e, s, t, p{names}, row_number() OVER (PARTITION BY s ORDER BY e DESC) - 1 AS behind \
            FROM unnest($1, $2, $3, $4, $9{parameters}) AS new (e, s, t, p, g{names}) JOIN taken ON taken.id = new.g), \
         numbers AS ({}), \
         made AS (INSERT INTO deliveries (event_id, subscription_id, tenant_id, profile, state, tries, attempts, \
               deferrals, due_at{columns}, sequence) \
            SELECT e, s, t, p, 0, 0, 0, 0, $5, {values}, numbers.last - behind \
            FROM new FULL JOIN numbers ON numbers.subscription_id = new.s) \
         SELECT id FROM taken",
        sequence::give("SELECT s, count(*) FROM new GROUP BY s ORDER BY s")
    ))
    .bind::<Array<Uuid>, _>(events)
    .bind::<Array<Uuid>, _>(subscriptions)
    .bind::<Array<Uuid>, _>(news().map(|new| new.tenant).collect::<Vec<_>>())
    .bind::<Array<SmallInt>, _>(news().map(|new| new.profile).collect::<Vec<_>>())
    .bind::<Timestamptz, _>(now)
    .bind::<Timestamptz, _>(lease_until)
    .bind::<Uuid, _>(claim)
    .bind::<Array<Uuid>, _>(groups)
    .bind::<Array<Uuid>, _>(deliveries.iter().map(|(group, _)| *group).collect::<Vec<_>>());
    let taken: Vec<Taken> = if with_options {
        statement
            .bind::<Array<Nullable<Uuid>>, _>(news().map(|new| new.ordering).collect::<Vec<_>>())
            .bind::<Array<Nullable<Timestamptz>>, _>(news().map(|new| new.expires_at).collect::<Vec<_>>())
            .load(conn)?
    } else {
        statement.load(conn)?
    };
    Ok(taken.into_iter().map(|row| row.id).collect())
}

#[derive(QueryableByName)]
pub(super) struct HeldRow {
    #[diesel(sql_type = Uuid)]
    pub(super) event_id: EventId,
    #[diesel(sql_type = Uuid)]
    subscription_id: SubscriptionId,
    #[diesel(sql_type = Uuid)]
    tenant_id: TenantId,
    #[diesel(sql_type = SmallInt)]
    profile: Profile,
    #[diesel(sql_type = SmallInt)]
    tries: i16,
    #[diesel(sql_type = SmallInt)]
    attempts: i16,
    #[diesel(sql_type = SmallInt)]
    deferrals: i16,
    #[diesel(sql_type = Timestamptz)]
    due_at: DateTime<Utc>,
    #[diesel(sql_type = Timestamptz)]
    next_attempt_at: DateTime<Utc>,
    #[diesel(sql_type = Uuid)]
    claim: ClaimId,
    #[diesel(sql_type = Bool)]
    ordered: bool,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    expires_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<BigInt>)]
    sequence: Option<i64>,
}

impl From<HeldRow> for HeldDelivery {
    fn from(row: HeldRow) -> Self {
        let count = |number: i16| u16::try_from(number).unwrap_or(0);
        Self {
            id: DeliveryId { event: row.event_id, subscription: row.subscription_id },
            tenant: row.tenant_id,
            profile: row.profile,
            tries: count(row.tries),
            attempts: count(row.attempts),
            deferrals: count(row.deferrals),
            due_at: row.due_at,
            claim: row.claim,
            lease_until: row.next_attempt_at,
            ordered: row.ordered,
            expires_at: row.expires_at,
            sequence: row.sequence,
        }
    }
}

pub(super) const HELD: &str = "d.event_id, d.subscription_id, d.tenant_id, d.profile, d.tries, d.attempts, d.deferrals, d.due_at, \
     d.next_attempt_at, d.claim, d.expires_at, d.sequence, d.ordering IS NOT NULL AS ordered";

/// Claims deliveries that are due: retries whose time has come, and those whose lease ended without an outcome.
/// Oldest first; what another sweep is claiming is passed over.
///
/// # Errors
/// When the database is away.
pub fn claim_due(
    conn: &mut PgConnection,
    now: DateTime<Utc>,
    lease_until: DateTime<Utc>,
    claim: ClaimId,
    limit: i64,
) -> Result<Vec<HeldDelivery>> {
    let rows: Vec<HeldRow> = prepared(format!("SELECT {HELD} FROM hookyard_claim_due($1, $2, $3, $4) d"))
        .bind::<Timestamptz, _>(now)
        .bind::<Timestamptz, _>(lease_until)
        .bind::<Uuid, _>(claim)
        .bind::<BigInt, _>(limit)
        .load(conn)?;
    Ok(rows.into_iter().map(Into::into).collect())
}

/// Moves the end of the leases of held deliveries. Returns those that are still held under their claim; the others were
/// taken by somebody else or have ended.
///
/// # Errors
/// When the database is away.
pub fn renew(
    conn: &mut PgConnection,
    held: &[HeldDelivery],
    lease_until: DateTime<Utc>,
) -> Result<HashSet<DeliveryId>> {
    let mut renewed = HashSet::with_capacity(held.len());
    for (table, held) in by_partition(held, |held| held.id.event) {
        let (events, subscriptions) = split(held.iter().map(|held| held.id));
        let rows = prepared(format!(
            "UPDATE {table} d SET next_attempt_at = $4 FROM unnest($1, $2, $3) AS k (e, s, c) \
             WHERE {BY_KEY} RETURNING d.event_id, d.subscription_id"
        ))
        .bind::<Array<Uuid>, _>(events)
        .bind::<Array<Uuid>, _>(subscriptions)
        .bind::<Array<Uuid>, _>(held.iter().map(|held| held.claim).collect::<Vec<_>>())
        .bind::<Timestamptz, _>(lease_until)
        .load::<KeyRow>(conn);
        match rows {
            Ok(rows) => renewed.extend(rows.into_iter().map(DeliveryId::from)),
            Err(error) if partition::is_dropped(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(renewed)
}

#[derive(QueryableByName)]
pub(super) struct KeyRow {
    #[diesel(sql_type = Uuid)]
    event_id: EventId,
    #[diesel(sql_type = Uuid)]
    subscription_id: SubscriptionId,
}

impl From<KeyRow> for DeliveryId {
    fn from(row: KeyRow) -> Self {
        Self { event: row.event_id, subscription: row.subscription_id }
    }
}

/// Gives held deliveries back to the schedule without a try: their endpoint is busy, paused or paced, or we stop.
///
/// # Errors
/// When the database is away; the leases then end by themselves.
pub fn park(conn: &mut PgConnection, parked: &[(HeldDelivery, DateTime<Utc>)]) -> Result<()> {
    for (table, parked) in by_partition(parked, |(held, _)| held.id.event) {
        let (events, subscriptions) = split(parked.iter().map(|(held, _)| held.id));
        let changed = prepared(format!(
            "UPDATE {table} d SET next_attempt_at = k.at, claim = $5 \
             FROM unnest($1, $2, $3, $4) AS k (e, s, c, at) WHERE {BY_KEY}"
        ))
        .bind::<Array<Uuid>, _>(events)
        .bind::<Array<Uuid>, _>(subscriptions)
        .bind::<Array<Uuid>, _>(parked.iter().map(|(held, _)| held.claim).collect::<Vec<_>>())
        .bind::<Array<Timestamptz>, _>(parked.iter().map(|(_, at)| *at).collect::<Vec<_>>())
        .bind::<Uuid, _>(nobody())
        .execute(conn);
        unless_dropped(changed)?;
    }
    Ok(())
}

/// Ends held deliveries without a try: their hook takes none any more.
///
/// # Errors
/// When the database is away.
pub fn cancel_held(
    conn: &mut PgConnection,
    held: &[HeldDelivery],
    now: DateTime<Utc>,
    reason: &str,
) -> Result<()> {
    for (table, held) in by_partition(held, |held| held.id.event) {
        let (events, subscriptions) = split(held.iter().map(|held| held.id));
        let changed = prepared(format!(
            "UPDATE {table} d SET state = 3, settled_at = $4, last_reason = $5 \
             FROM unnest($1, $2, $3) AS k (e, s, c) WHERE {BY_KEY}"
        ))
        .bind::<Array<Uuid>, _>(events)
        .bind::<Array<Uuid>, _>(subscriptions)
        .bind::<Array<Uuid>, _>(held.iter().map(|held| held.claim).collect::<Vec<_>>())
        .bind::<Timestamptz, _>(now)
        .bind::<Text, _>(reason)
        .execute(conn);
        unless_dropped(changed)?;
    }
    Ok(())
}

/// Ends every pending delivery of a subscription. Returns how many.
///
/// # Errors
/// When the database is away.
pub fn cancel_pending(
    conn: &mut PgConnection,
    tenant: TenantId,
    subscription: SubscriptionId,
    now: DateTime<Utc>,
    reason: &str,
) -> Result<usize> {
    Ok(sql_query(
        "UPDATE deliveries SET state = 3, settled_at = $3, last_reason = $4 \
         WHERE tenant_id = $1 AND subscription_id = $2 AND state IN (0, 2) AND state = 0",
    )
    .bind::<Uuid, _>(tenant)
    .bind::<Uuid, _>(subscription)
    .bind::<Timestamptz, _>(now)
    .bind::<Text, _>(reason)
    .execute(conn)?)
}

/// Records tries: one row in `attempts` each, the deliveries moved on, and one settlement for the registry. Deliveries
/// that are no longer held under their claim are left as they are; their tries are recorded all the same, for they
/// happened.
///
/// May be repeated when the connection broke and nobody knows whether it was done: tries that are recorded already are not
/// reported a second time.
///
/// # Errors
/// When the database is away; nothing is recorded then.
pub fn settle(
    conn: &mut PgConnection,
    settled: &[Settled],
    settlement: SettlementId,
    reports: &[Report],
    now: DateTime<Utc>,
) -> Result<()> {
    if settled.is_empty() {
        return Ok(());
    }
    let reports = serde_json::to_value(reports).map_err(|error| crate::Error::Database(Box::new(error)))?;
    let mut partitions = by_partition(settled, |settled| settled.held.id.event);
    let last = partitions.pop_last();
    if partitions.is_empty() {
        let Some((table, settled)) = last else { return Ok(()) };
        return settle_in(conn, &table, &settled, settlement, &reports, now);
    }
    // Around midnight, or with old retries: several statements, one transaction.
    conn.transaction(|conn| {
        for (table, settled) in partitions {
            let nothing = serde_json::Value::Array(Vec::new());
            settle_in(conn, &table, &settled, SettlementId::new(now), &nothing, now)?;
        }
        match last {
            Some((table, settled)) => settle_in(conn, &table, &settled, settlement, &reports, now),
            None => Ok(()),
        }
    })
}

fn settle_in(
    conn: &mut PgConnection,
    table: &str,
    settled: &[&Settled],
    settlement: SettlementId,
    reports: &serde_json::Value,
    now: DateTime<Utc>,
) -> Result<()> {
    let (events, subscriptions) = split(settled.iter().map(|s| s.held.id));
    let moved: Vec<Moved> = settled.iter().map(|s| Moved::of(s, now)).collect();
    let attempts: Vec<&Attempt> = settled.iter().map(|s| &s.attempt).collect();
    let changed = prepared(format!(
        "WITH k AS MATERIALIZED (SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) \
            AS k (e, s, c, state, tries, deferrals, due, next, settled, number, started, latency, status, reason, reply)), \
         logged AS (INSERT INTO attempts (event_id, subscription_id, number, started_at, latency_ms, status, reason, reply) \
            SELECT e, s, number, started, latency, status, reason, reply FROM k ON CONFLICT DO NOTHING RETURNING 1), \
         moved AS (UPDATE {table} d SET state = k.state, tries = k.tries, attempts = k.number, deferrals = k.deferrals, \
            due_at = k.due, next_attempt_at = k.next, claim = $19, settled_at = k.settled, last_status = k.status, \
            last_reason = k.reason FROM k WHERE {BY_KEY} RETURNING 1) \
         INSERT INTO settlements (id, reports, created_at) \
            SELECT $16, $17, $18 WHERE EXISTS (TABLE logged) OR EXISTS (TABLE moved)"
    ))
    .bind::<Array<Uuid>, _>(events)
    .bind::<Array<Uuid>, _>(subscriptions)
    .bind::<Array<Uuid>, _>(settled.iter().map(|s| s.held.claim).collect::<Vec<_>>())
    .bind::<Array<SmallInt>, _>(moved.iter().map(|m| m.state.code()).collect::<Vec<_>>())
    .bind::<Array<SmallInt>, _>(moved.iter().map(|m| m.tries).collect::<Vec<_>>())
    .bind::<Array<SmallInt>, _>(moved.iter().map(|m| m.deferrals).collect::<Vec<_>>())
    .bind::<Array<Timestamptz>, _>(moved.iter().map(|m| m.due_at).collect::<Vec<_>>())
    .bind::<Array<Timestamptz>, _>(moved.iter().map(|m| m.next_attempt_at).collect::<Vec<_>>())
    .bind::<Array<Nullable<Timestamptz>>, _>(moved.iter().map(|m| m.settled_at).collect::<Vec<_>>())
    .bind::<Array<SmallInt>, _>(attempts.iter().map(|a| small(a.number)).collect::<Vec<_>>())
    .bind::<Array<Timestamptz>, _>(attempts.iter().map(|a| a.started_at).collect::<Vec<_>>())
    .bind::<Array<Integer>, _>(
        attempts.iter().map(|a| i32::try_from(a.latency_ms).unwrap_or(i32::MAX)).collect::<Vec<_>>(),
    )
    .bind::<Array<Nullable<SmallInt>>, _>(attempts.iter().map(|a| a.status.map(small)).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(attempts.iter().map(|a| a.reason.as_str()).collect::<Vec<_>>())
    .bind::<Array<Nullable<Binary>>, _>(
        attempts.iter().map(|a| (!a.reply.is_empty()).then_some(a.reply.as_slice())).collect::<Vec<_>>(),
    )
    .bind::<Uuid, _>(settlement)
    .bind::<Jsonb, _>(reports)
    .bind::<Timestamptz, _>(now)
    .bind::<Uuid, _>(nobody())
    .execute(conn);
    unless_dropped(changed)
}

/// The columns of a delivery after a try.
struct Moved {
    state: DeliveryState,
    tries: i16,
    deferrals: i16,
    due_at: DateTime<Utc>,
    next_attempt_at: DateTime<Utc>,
    settled_at: Option<DateTime<Utc>>,
}

impl Moved {
    fn of(settled: &Settled, now: DateTime<Utc>) -> Self {
        let held = &settled.held;
        let tries = small(held.tries.saturating_add(1));
        match settled.fate {
            Fate::Ended(state) => Self {
                state,
                tries,
                deferrals: small(held.deferrals),
                due_at: held.due_at,
                next_attempt_at: now,
                settled_at: Some(now),
            },
            Fate::Retry { at } => Self {
                state: DeliveryState::Pending,
                tries,
                deferrals: 0,
                due_at: at,
                next_attempt_at: at,
                settled_at: None,
            },
            Fate::Deferred { at } => Self {
                state: DeliveryState::Pending,
                tries: small(held.tries),
                deferrals: small(held.deferrals.saturating_add(1)),
                due_at: held.due_at,
                next_attempt_at: at,
                settled_at: None,
            },
        }
    }
}

/// Takes settlements to apply them: the rows are gone when the transaction commits, and stay when it does not. One that
/// another transaction is taking, or has taken, is not returned.
///
/// # Errors
/// When the database is away.
pub fn take_settlements(conn: &mut PgConnection, settlements: &[SettlementId]) -> Result<Vec<Report>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Jsonb)]
        reports: serde_json::Value,
    }
    let rows: Vec<Row> = prepared(
        "WITH taken AS (DELETE FROM settlements WHERE id IN \
            (SELECT id FROM settlements WHERE id = ANY($1) ORDER BY id FOR UPDATE SKIP LOCKED) RETURNING id, reports) \
         SELECT reports FROM taken ORDER BY id",
    )
    .bind::<Array<Uuid>, _>(settlements)
    .load(conn)?;
    let mut reports = Vec::new();
    for row in rows {
        match serde_json::from_value::<Vec<Report>>(row.reports) {
            Ok(some) => reports.extend(some),
            Err(error) => tracing::error!(%error, "a settlement cannot be read and is left out"),
        }
    }
    Ok(reports)
}

/// Settlements that should have been applied by now, oldest first.
///
/// # Errors
/// When the database is away.
pub fn overdue_settlements(
    conn: &mut PgConnection,
    made_before: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<SettlementId>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Uuid)]
        id: SettlementId,
    }
    let rows: Vec<Row> = prepared("SELECT id FROM settlements WHERE created_at < $1 ORDER BY id LIMIT $2")
        .bind::<Timestamptz, _>(made_before)
        .bind::<BigInt, _>(limit)
        .load(conn)?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}

/// How much is due and how old the oldest of it is, for metrics and alerts.
///
/// # Errors
/// When the database is away.
pub fn backlog(conn: &mut PgConnection, now: DateTime<Utc>) -> Result<Backlog> {
    Ok(prepared(
        "SELECT (SELECT count(*) FROM (SELECT FROM deliveries WHERE state = 0 LIMIT 1000000) p) AS pending, \
            (SELECT next_attempt_at FROM deliveries WHERE state = 0 AND next_attempt_at <= $1 \
             ORDER BY next_attempt_at LIMIT 1) AS oldest_due",
    )
    .bind::<Timestamptz, _>(now)
    .get_result(conn)?)
}

/// What waits to be delivered.
#[derive(Clone, Copy, Debug, QueryableByName)]
pub struct Backlog {
    /// Deliveries under way, counted up to a million.
    #[diesel(sql_type = BigInt)]
    pub pending: i64,
    /// Since when the oldest of those has been waiting that may be taken now: what waits on purpose, or is being tried, does
    /// not count.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub oldest_due: Option<DateTime<Utc>>,
}
