//! Lines: deliveries to one subscription that go one after the other: of a task those of a run (contract §5), of a consumer those
//! with the same key (contract §4).
//!
//! A delivery that stands in a line is written held back: pending, with `next_attempt_at` at infinity, so that no sweep takes it.
//! [`release`] lets the first of a line go; from then on it is a delivery like any other. Whoever writes deliveries into a line
//! releases it after the commit, and whoever ends one, too: of the two, the later sees what both have done. What a crash leaves
//! behind is found by [`left_behind`].
//!
//! Deliveries come into the line of a run in the order of their events' ids: its writer says so. Hence the first that is pending
//! stays the first until it ends, and a compare-and-set on its row is all the locking there is. Into the line of a key they come
//! as they are fanned out, by several registries at once: there the first goes only when no older event of the tenant still waits
//! for its fan-out, for that may belong before it ([`fanned_out_up_to`]). An older one can come all the same when another is under
//! way already: an event that was scheduled has the id of the day on which it was accepted. It waits for that other ([`let_go_alone`]).

mod foremost;

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::{
    Connection, PgConnection, QueryableByName, RunQueryDsl,
    sql_types::{Array, BigInt, SmallInt, Text, Timestamptz, Uuid},
};

pub use foremost::{TRIES_BEFORE_GIVING_WAY, left_behind};

use self::foremost::{Step, fanned_out_up_to, foremost, owners, step};
use super::store::{KeyRow, by_partition, nobody, split};
use crate::{
    Result,
    db::{partition, prepared::prepared},
    id::{ClaimId, DeliveryId, EventId, SubscriptionId},
};

/// Deliveries to one subscription that go one after the other. The second part is the run, a UUIDv7, and no event of the line is
/// older than it; or it stands for a key, a UUIDv8, which tells no time.
pub type Line = (SubscriptionId, uuid::Uuid);

fn is_of_a_key(line: &Line) -> bool {
    line.1.get_version_num() == 8
}

/// How long to wait before lines are looked at again that were [`Released::blocked`]: as a rule the older events are fanned out in
/// a moment, and what takes longer is found by the deliverers' walk.
pub const LOOKS: [Duration; 6] = [
    Duration::from_millis(15),
    Duration::from_millis(30),
    Duration::from_millis(60),
    Duration::from_millis(120),
    Duration::from_millis(240),
    Duration::from_millis(480),
];

/// Why a delivery that gave way was cancelled.
pub const SUPERSEDED: &str = "superseded";

/// What was let go, and what was not.
#[derive(Clone, Debug, Default)]
pub struct Released {
    /// These were, and are to be rung under the claim.
    pub ids: Vec<DeliveryId>,
    /// The first of these may go when the older events of their owner are fanned out: worth another look in a moment.
    pub blocked: Vec<Line>,
}

/// Lets those go that may, of these lines of runs, and claims them. Returns them: they are to be rung under that claim. Harmless
/// when repeated, or done by several at once. Not within a transaction that wrote into the lines: only what is committed counts.
///
/// # Errors
/// When the database is away; what was let go is then taken by the sweep when its lease ends.
pub fn release(
    conn: &mut PgConnection,
    lines: &[Line],
    claim: ClaimId,
    now: DateTime<Utc>,
    lease_until: DateTime<Utc>,
) -> Result<Vec<DeliveryId>> {
    Ok(release_any(conn, lines, claim, now, lease_until)?.ids)
}

/// As [`release`], for lines of any kind.
///
/// # Errors
/// As [`release`].
pub fn release_any(
    conn: &mut PgConnection,
    lines: &[Line],
    claim: ClaimId,
    now: DateTime<Utc>,
    lease_until: DateTime<Utc>,
) -> Result<Released> {
    let mut lines: Vec<Line> = lines.to_vec();
    lines.sort_unstable();
    lines.dedup();
    let mut released = Released::default();
    let owners = owners(conn, lines.iter().filter(|line| is_of_a_key(line)))?;
    // Each turn either ends a delivery or is the last.
    while !lines.is_empty() {
        // What is fanned out after this look belongs behind the heads that it lets go.
        let waiting = fanned_out_up_to(conn, &owners)?;
        let heads = foremost(conn, &lines, now)?;
        let (mut go, mut alone, mut end) = (Vec::new(), Vec::new(), Vec::new());
        for pair in &heads {
            match step(&pair.first, pair.second.as_ref()) {
                Step::Nothing => {}
                Step::Release
                    if is_of_a_key(&pair.line)
                        && owners
                            .get(&pair.line.0)
                            .and_then(|owner| waiting.get(owner))
                            .is_some_and(|oldest| *oldest < pair.id.event) =>
                {
                    released.blocked.push(pair.line);
                }
                Step::Release if is_of_a_key(&pair.line) => alone.push((pair.id, pair.line)),
                Step::Release => go.push(pair.id),
                Step::Supersede => end.push((pair.id, pair.line)),
            }
        }
        released.ids.extend(let_go(conn, &go, "", claim, now, lease_until)?);
        for alone in alone.chunks(LOCKED_AT_ONCE) {
            released.ids.extend(let_go_alone(conn, alone, claim, now, lease_until)?);
        }
        let ended = supersede(conn, &end.iter().map(|(id, _)| *id).collect::<Vec<_>>(), now)?;
        lines = end.into_iter().filter(|(id, _)| ended.contains(id)).map(|(_, line)| line).collect();
    }
    Ok(released)
}

/// As [`release_any`], for the lines that these deliveries stand in: one of them has ended, or failed.
///
/// # Errors
/// As [`release`].
pub fn release_behind(
    conn: &mut PgConnection,
    ids: &[DeliveryId],
    claim: ClaimId,
    now: DateTime<Utc>,
    lease_until: DateTime<Utc>,
) -> Result<Released> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Uuid)]
        subscription_id: SubscriptionId,
        #[diesel(sql_type = Uuid)]
        ordering: uuid::Uuid,
    }
    let mut lines = Vec::with_capacity(ids.len());
    for (table, ids) in by_partition(ids.iter().copied(), |id| id.event) {
        let (events, subscriptions) = split(ids);
        let rows = prepared(format!(
            "SELECT d.subscription_id, d.ordering FROM unnest($1, $2) AS k (e, s) \
             JOIN {table} d ON d.event_id = k.e AND d.subscription_id = k.s WHERE d.ordering IS NOT NULL"
        ))
        .bind::<Array<Uuid>, _>(events)
        .bind::<Array<Uuid>, _>(subscriptions)
        .load::<Row>(conn);
        match rows {
            Ok(rows) => lines.extend(rows.into_iter().map(|row| (row.subscription_id, row.ordering))),
            Err(error) if partition::is_dropped(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    release_any(conn, &lines, claim, now, lease_until)
}

/// Gives deliveries that were let go and could not be rung to the next sweep.
///
/// # Errors
/// When the database is away; their leases then end by themselves.
pub fn give_back(
    conn: &mut PgConnection,
    ids: &[DeliveryId],
    claim: ClaimId,
    now: DateTime<Utc>,
) -> Result<()> {
    for (table, ids) in by_partition(ids.iter().copied(), |id| id.event) {
        let (events, subscriptions) = split(ids);
        let changed = prepared(format!(
            "UPDATE {table} d SET next_attempt_at = $3, claim = $4 FROM unnest($1, $2) AS k (e, s) \
             WHERE d.event_id = k.e AND d.subscription_id = k.s AND d.claim = $5 AND d.state + 0 = 0"
        ))
        .bind::<Array<Uuid>, _>(events)
        .bind::<Array<Uuid>, _>(subscriptions)
        .bind::<Timestamptz, _>(now)
        .bind::<Uuid, _>(nobody())
        .bind::<Uuid, _>(claim)
        .execute(conn);
        match changed {
            Ok(_) => {}
            Err(error) if partition::is_dropped(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Lines locked in one transaction: the locks that Postgres has room for are everybody's.
const LOCKED_AT_ONCE: usize = 64;

/// No other delivery of the line is under way. A subquery, so that it is looked up in its index for each delivery.
const ALONE: &str = "AND (SELECT true FROM deliveries o WHERE o.ordering = d.ordering AND o.subscription_id = d.subscription_id \
     AND o.state = 0 AND o.ordering IS NOT NULL AND o.next_attempt_at <> 'infinity' LIMIT 1) IS NULL";

/// As [`let_go`], for deliveries that are the first of the line of a key, each of another: those whose line has none under way. The
/// one that is under way lets the first go when it ends.
fn let_go_alone(
    conn: &mut PgConnection,
    firsts: &[(DeliveryId, Line)],
    claim: ClaimId,
    now: DateTime<Utc>,
    lease_until: DateTime<Utc>,
) -> Result<Vec<DeliveryId>> {
    let mut locks: Vec<i64> = firsts.iter().map(|(_, line)| lock_of(line)).collect();
    // In one order, so that nobody waits for somebody who waits for him.
    locks.sort_unstable();
    let ids: Vec<DeliveryId> = firsts.iter().map(|(id, _)| *id).collect();
    conn.transaction(|conn| {
        // Two that let different deliveries of a line go at once would not see each other. The second statement sees what those
        // did who had the locks before.
        prepared("SELECT pg_advisory_xact_lock(k) FROM unnest($1) AS k")
            .bind::<Array<BigInt>, _>(locks)
            .execute(conn)?;
        let_go(conn, &ids, ALONE, claim, now, lease_until)
    })
}

/// The number of the advisory lock of a line. Lines that share one only wait for each other a little.
fn lock_of(line: &Line) -> i64 {
    let (high, low) = line.1.as_u64_pair();
    (high ^ low.rotate_left(1)).cast_signed()
}

/// Claims what is held back, and meets the `condition` (`AND …`); what somebody else let go meanwhile stays his.
fn let_go(
    conn: &mut PgConnection,
    ids: &[DeliveryId],
    condition: &str,
    claim: ClaimId,
    now: DateTime<Utc>,
    lease_until: DateTime<Utc>,
) -> Result<Vec<DeliveryId>> {
    change(ids, |table, events, subscriptions| {
        // `+ 0`, as in the store: by key, not through the index of everything that is pending.
        prepared(format!(
            "UPDATE {table} d SET claim = $3, next_attempt_at = $4, due_at = $5 FROM unnest($1, $2) AS k (e, s) \
             WHERE d.event_id = k.e AND d.subscription_id = k.s AND d.state + 0 = 0 AND d.next_attempt_at = 'infinity' {condition} \
             RETURNING d.event_id, d.subscription_id"
        ))
        .bind::<Array<Uuid>, _>(events)
        .bind::<Array<Uuid>, _>(subscriptions)
        .bind::<Uuid, _>(claim)
        .bind::<Timestamptz, _>(lease_until)
        .bind::<Timestamptz, _>(now)
        .load(conn)
    })
}

/// Ends what waits for its next try; not what somebody has begun to try meanwhile.
fn supersede(conn: &mut PgConnection, ids: &[DeliveryId], now: DateTime<Utc>) -> Result<Vec<DeliveryId>> {
    change(ids, |table, events, subscriptions| {
        prepared(format!(
            "UPDATE {table} d SET state = 3, settled_at = $3, last_reason = $4 FROM unnest($1, $2) AS k (e, s) \
             WHERE d.event_id = k.e AND d.subscription_id = k.s AND d.state + 0 = 0 AND d.claim = $5 AND d.tries >= $6 \
             RETURNING d.event_id, d.subscription_id"
        ))
        .bind::<Array<Uuid>, _>(events)
        .bind::<Array<Uuid>, _>(subscriptions)
        .bind::<Timestamptz, _>(now)
        .bind::<Text, _>(SUPERSEDED)
        .bind::<Uuid, _>(nobody())
        .bind::<SmallInt, _>(i16::try_from(TRIES_BEFORE_GIVING_WAY).unwrap_or(i16::MAX))
        .load(conn)
    })
}

fn change(
    ids: &[DeliveryId],
    mut statement: impl FnMut(&str, Vec<EventId>, Vec<SubscriptionId>) -> diesel::QueryResult<Vec<KeyRow>>,
) -> Result<Vec<DeliveryId>> {
    let mut changed = Vec::with_capacity(ids.len());
    for (table, ids) in by_partition(ids.iter().copied(), |id| id.event) {
        let (events, subscriptions) = split(ids);
        match statement(&table, events, subscriptions) {
            Ok(rows) => changed.extend(rows.into_iter().map(DeliveryId::from)),
            Err(error) if partition::is_dropped(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(changed)
}
