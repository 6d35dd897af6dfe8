//! Messages at the front of an inbox that nobody is given any more, because they have expired or were leased too often: they are ended
//! many at a time, so that no reader is kept from what stands behind them.

use chrono::{DateTime, Utc};
use diesel::{
    PgConnection, QueryableByName, RunQueryDsl,
    sql_types::{Array, SmallInt, Text, Timestamptz, Uuid},
};

use super::OVER_LEASED;
use crate::{
    Result,
    db::{partition, prepared::prepared},
    delivery::{
        DeliveryState, EXPIRED,
        store::{by_partition, nobody},
    },
    id::{EventId, SubscriptionId},
};

/// Finds which of the first 1,000 messages of the inbox $1 whose lease has ended at $2, and of the first 1,000 that wait, have expired or
/// were leased $3 times. Locks nothing: the others are for whoever leases them.
const FRONT: &str = "WITH lapsed AS MATERIALIZED (\
        SELECT d.event_id, d.tries, d.expires_at FROM deliveries d \
        WHERE d.subscription_id = $1 AND d.profile = 5 AND d.state IN (0, 2) AND d.state = (SELECT 0::smallint) \
           AND d.leased_until IS NOT NULL AND d.leased_until <= $2 ORDER BY d.leased_until LIMIT 1000), \
     waiting AS MATERIALIZED (\
        SELECT d.event_id, d.tries, d.expires_at FROM deliveries d \
        WHERE d.subscription_id = $1 AND d.profile = 5 AND d.state IN (0, 2) AND d.state = (SELECT 0::smallint) \
           AND d.leased_until IS NULL ORDER BY d.sequence LIMIT 1000) \
     SELECT event_id FROM (TABLE lapsed UNION ALL TABLE waiting) k WHERE expires_at <= $2 OR tries >= $3";

#[derive(QueryableByName)]
struct Key {
    #[diesel(sql_type = Uuid)]
    event_id: EventId,
}

#[derive(QueryableByName)]
struct Ended {
    #[diesel(sql_type = Uuid)]
    event_id: EventId,
    #[diesel(sql_type = SmallInt)]
    state: DeliveryState,
}

/// Ends what stands at the front and has expired, or was leased too often. What somebody else has in his hands at this moment is left to
/// him. Returns those that are quarantined now. Belongs into a transaction.
///
/// # Errors
/// When the database is away.
pub(super) fn end(
    conn: &mut PgConnection,
    inbox: SubscriptionId,
    max_leases: i16,
    now: DateTime<Utc>,
) -> Result<Vec<EventId>> {
    let front: Vec<Key> = prepared(FRONT)
        .bind::<Uuid, _>(inbox)
        .bind::<Timestamptz, _>(now)
        .bind::<SmallInt, _>(max_leases)
        .load(conn)?;
    let mut quarantined = Vec::new();
    for (table, keys) in by_partition(front.into_iter().map(|key| key.event_id), |event| *event) {
        // Retention drops days; within a transaction a statement that fails takes the others with it.
        if !partition::is_there(conn, &table)? {
            continue;
        }
        let held: Vec<Key> = prepared(format!(
            "SELECT d.event_id FROM {table} d WHERE d.event_id = ANY($1) AND d.subscription_id = $2 AND d.profile = 5 AND d.state + 0 = 0 \
               AND (d.leased_until IS NULL OR d.leased_until <= $3) AND (d.expires_at <= $3 OR d.tries >= $4) FOR UPDATE SKIP LOCKED"
        ))
        .bind::<Array<Uuid>, _>(keys)
        .bind::<Uuid, _>(inbox)
        .bind::<Timestamptz, _>(now)
        .bind::<SmallInt, _>(max_leases)
        .load(conn)?;
        // Without a join, which would be planned for a partition that was still empty.
        let ended: Vec<Ended> = prepared(format!(
            "UPDATE {table} d SET state = CASE WHEN d.expires_at <= $3 THEN 3 ELSE 2 END, settled_at = $3, \
                last_reason = CASE WHEN d.expires_at <= $3 THEN $4 WHEN d.claim <> $6 THEN $5 ELSE d.last_reason END, \
                claim = $6, leased_until = NULL \
             WHERE d.event_id = ANY($1) AND d.subscription_id = $2 AND d.state + 0 = 0 RETURNING d.event_id, d.state"
        ))
        .bind::<Array<Uuid>, _>(held.iter().map(|key| key.event_id).collect::<Vec<_>>())
        .bind::<Uuid, _>(inbox)
        .bind::<Timestamptz, _>(now)
        .bind::<Text, _>(EXPIRED)
        .bind::<Text, _>(OVER_LEASED)
        .bind::<Uuid, _>(nobody())
        .load(conn)?;
        let dead = ended.into_iter().filter(|ended| ended.state == DeliveryState::Dead);
        quarantined.extend(dead.map(|ended| ended.event_id));
    }
    Ok(quarantined)
}
