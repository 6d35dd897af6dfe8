//! What is left in deleted inboxes: a large one is emptied piece by piece, and a fan-out that knew an inbox before it was deleted may put
//! messages into it afterwards.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use diesel::{
    PgConnection, QueryableByName, RunQueryDsl,
    sql_types::{Array, BigInt, Text, Timestamptz, Uuid},
};

use crate::{
    Result,
    db::{partition, prepared::prepared},
    delivery::store::by_partition,
    id::{EventId, SubscriptionId, TenantId},
};

/// Messages that one call ends at the most.
pub const AT_ONCE: i64 = 5_000;

/// For so long after its deletion an inbox is looked into: far longer than emptying one takes, and than anybody knows it.
pub const LOOKED_INTO: TimeDelta = TimeDelta::days(1);

/// The reason of a message that was cancelled with its inbox.
const REASON: &str = "inbox deleted";

#[derive(QueryableByName)]
struct Key {
    #[diesel(sql_type = Uuid)]
    event_id: EventId,
    #[diesel(sql_type = Uuid)]
    subscription_id: SubscriptionId,
}

/// Finds what has not ended in some inboxes, by the indexes of inboxes.
fn statement(inboxes: &str) -> String {
    const PENDING: &str =
        "d.subscription_id = s.id AND d.profile = 5 AND d.state IN (0, 2) AND d.state = (SELECT 0::smallint)";
    format!(
        "SELECT k.event_id, s.id AS subscription_id FROM subscriptions s CROSS JOIN LATERAL (\
            (SELECT d.event_id FROM deliveries d WHERE {PENDING} AND d.leased_until IS NULL ORDER BY d.sequence LIMIT {AT_ONCE}) \
            UNION ALL \
            (SELECT d.event_id FROM deliveries d WHERE {PENDING} AND d.leased_until IS NOT NULL ORDER BY d.leased_until LIMIT {AT_ONCE})) k \
         WHERE s.kind = 4 AND {inboxes} LIMIT $1"
    )
}

/// Cancels the first messages of an inbox of a tenant that is being deleted, [`AT_ONCE`] of them. Belongs into a transaction that has the
/// inbox locked.
///
/// # Errors
/// When the database is away.
pub fn cancel_first(
    conn: &mut PgConnection,
    tenant: TenantId,
    inbox: SubscriptionId,
    now: DateTime<Utc>,
) -> Result<usize> {
    let found: Vec<Key> = prepared(statement("s.tenant_id = $2 AND s.id = $3"))
        .bind::<BigInt, _>(AT_ONCE)
        .bind::<Uuid, _>(tenant)
        .bind::<Uuid, _>(inbox)
        .load(conn)?;
    cancel(conn, found, now)
}

/// Cancels what is left in inboxes, of whatever tenant, that were deleted within the last day ([`LOOKED_INTO`]), [`AT_ONCE`] messages at
/// the most. Returns how many; fewer than that = there is nothing left. Belongs into a transaction.
///
/// # Errors
/// When the database is away.
pub fn cancel_left(conn: &mut PgConnection, now: DateTime<Utc>) -> Result<usize> {
    let found: Vec<Key> = prepared(statement("s.state = 4 AND s.updated_at > $2"))
        .bind::<BigInt, _>(AT_ONCE)
        .bind::<Timestamptz, _>(now - LOOKED_INTO)
        .load(conn)?;
    cancel(conn, found, now)
}

fn cancel(conn: &mut PgConnection, found: Vec<Key>, now: DateTime<Utc>) -> Result<usize> {
    // In order, so that two who end the same messages do not wait for each other.
    let mut inboxes: BTreeMap<SubscriptionId, BTreeSet<EventId>> = BTreeMap::new();
    for key in found {
        inboxes.entry(key.subscription_id).or_default().insert(key.event_id);
    }
    let mut cancelled = 0;
    for (inbox, events) in inboxes {
        for (table, events) in by_partition(events, |event| *event) {
            // Retention drops days; within a transaction a statement that fails takes the others with it.
            if !partition::is_there(conn, &table)? {
                continue;
            }
            // Without a join, which would be planned for a partition that was still empty.
            cancelled += prepared(format!(
                "UPDATE {table} d SET state = 3, settled_at = $3, last_reason = $4 \
                 WHERE d.event_id = ANY($1) AND d.subscription_id = $2 AND d.profile = 5 AND d.state + 0 = 0"
            ))
            .bind::<Array<Uuid>, _>(events)
            .bind::<Uuid, _>(inbox)
            .bind::<Timestamptz, _>(now)
            .bind::<Text, _>(REASON)
            .execute(conn)?;
        }
    }
    Ok(cancelled)
}
