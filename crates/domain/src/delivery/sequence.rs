//! Numbers of deliveries: to each hook and consumer its own, contiguous from 1, so that a receiver knows what it has missed.
//!
//! The counter of a subscription is a row that stays locked until the commit of whoever gives numbers: the order of numbers is that
//! of commits, and who reads on behind a number misses none. Whoever makes numbered deliveries locks counters before it writes
//! deliveries, and counters in the order of their subscriptions, so that nobody waits for each other.
//!
//! Registries do not wait for the disk (docs/decisions/0015), so a crash of Postgres can take numbers back that receivers have
//! seen. No number may mean two deliveries: [`RESERVED`] numbers ahead are on disk before the first of them is given, and after a
//! crash, told by an unlogged table that is empty then, a counter goes on behind them (docs/decisions/0048).

use std::collections::HashSet;

use diesel::{
    PgConnection, QueryableByName, RunQueryDsl,
    sql_types::{Array, BigInt, Uuid},
};

use super::store::{KeyRow, by_partition, split};
use crate::{
    Result,
    db::{partition, prepared::prepared},
    id::{DeliveryId, SubscriptionId},
};

/// Numbers that are on disk ahead of those that are given: as many are left out by a crash of Postgres at the most.
pub const RESERVED: i64 = 1_000;

/// Gives numbers, as a part of a statement: takes `(subscription, how many)` of `wanted`, a query that is in the order of
/// subscriptions, and returns `subscription_id` and `last`, the last number of each. The commit waits for the disk when numbers had
/// to be reserved.
pub(super) fn give(wanted: &str) -> String {
    format!(
        "INSERT INTO subscription_sequences AS q (subscription_id, last, reserved, generation) \
         SELECT w.s, w.n, w.n + {RESERVED}, \
            COALESCE((SELECT id FROM sequence_generation WHERE one), hookyard_sequence_generation()) FROM ({wanted}) AS w (s, n) \
         ON CONFLICT (subscription_id) DO UPDATE SET \
            last = CASE WHEN q.generation = excluded.generation THEN q.last ELSE q.reserved END + excluded.last, \
            reserved = CASE WHEN q.generation <> excluded.generation THEN q.reserved + excluded.reserved \
               WHEN q.last + excluded.last <= q.reserved THEN q.reserved ELSE q.last + excluded.reserved END, \
            void = CASE WHEN q.generation = excluded.generation THEN q.void \
               ELSE q.void + int8multirange(int8range(q.last, q.reserved, '(]')) END, \
            generation = excluded.generation \
         RETURNING subscription_id, last, \
            CASE WHEN reserved = last + {RESERVED} THEN set_config('synchronous_commit', 'on', true) END"
    )
}

/// Locks the counter of a subscription until the end of the transaction: whoever looks then which deliveries there are sees all
/// that have a number.
///
/// # Errors
/// When the database is away.
pub(super) fn lock(conn: &mut PgConnection, subscription: SubscriptionId) -> Result<()> {
    #[derive(QueryableByName)]
    struct Last {
        #[diesel(sql_type = BigInt)]
        #[expect(dead_code, reason = "it is locked, not asked")]
        last: i64,
    }
    let _row: Last = prepared(give("SELECT $1, 0")).bind::<Uuid, _>(subscription).get_result(conn)?;
    Ok(())
}

/// Those of these deliveries that are there already.
///
/// # Errors
/// When the database is away.
pub(super) fn existing(
    conn: &mut PgConnection,
    ids: impl IntoIterator<Item = DeliveryId>,
) -> Result<HashSet<DeliveryId>> {
    let mut existing = HashSet::new();
    for (table, ids) in by_partition(ids, |id| id.event) {
        let (events, subscriptions) = split(ids);
        let rows = prepared(format!(
            "SELECT d.event_id, d.subscription_id FROM unnest($1, $2) AS k (e, s) \
             JOIN {table} d ON d.event_id = k.e AND d.subscription_id = k.s"
        ))
        .bind::<Array<Uuid>, _>(events)
        .bind::<Array<Uuid>, _>(subscriptions)
        .load::<KeyRow>(conn);
        match rows {
            Ok(rows) => existing.extend(rows.into_iter().map(DeliveryId::from)),
            Err(error) if partition::is_dropped(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(existing)
}
