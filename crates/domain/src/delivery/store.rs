//! Queries of the delivery engine. All of them take many rows at once (invariant 5).

use std::collections::{BTreeMap, HashSet};

use chrono::{DateTime, Utc};
use diesel::{
    PgConnection, QueryableByName, RunQueryDsl,
    sql_types::{Array, BigInt, Bool, Nullable, SmallInt, Text, Timestamptz, Uuid},
};

use super::{HeldDelivery, NewDelivery, Profile};
use crate::{
    Result,
    db::{partition, prepared::prepared},
    id::{ClaimId, DeliveryId, EventId, SubscriptionId, TenantId},
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
pub(super) fn unless_dropped<T>(result: diesel::QueryResult<T>) -> diesel::QueryResult<()> {
    match result {
        Err(error) if !partition::is_dropped(&error) => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Held deliveries `d` of a list of keys `k`. `+ 0` keeps the planner from walking the index of everything that is pending
/// instead of looking each key up.
pub(super) const BY_KEY: &str =
    "d.event_id = k.e AND d.subscription_id = k.s AND d.claim = k.c AND d.state + 0 = 0";

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

#[derive(QueryableByName)]
pub(super) struct HeldRow {
    #[diesel(sql_type = Uuid)]
    pub(super) event_id: EventId,
    #[diesel(sql_type = Uuid)]
    subscription_id: SubscriptionId,
    #[diesel(sql_type = Uuid)]
    pub(super) tenant_id: TenantId,
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
