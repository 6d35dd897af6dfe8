//! Cancelling what is under way to a subscription that takes nothing any more. The first piece is cancelled at once; when there is more, a
//! registry goes on piece by piece (docs/decisions/0058), so that no statement lasts long and no transaction locks very much.
//!
//! Nobody waits for a delivery that somebody else has in hand: whatever is passed over here, or made by a fan-out that did not know
//! yet, is cancelled by the deliverer when it comes up ([`super::NOT_TAKEN`]).

use chrono::{DateTime, TimeDelta, Utc};
use diesel::{
    OptionalExtension, PgConnection, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Array, BigInt, Bool, SmallInt, Text, Timestamptz, Uuid},
};

use super::{Profile, store::by_partition};
use crate::{
    Result,
    db::prepared::{planned_for_values, prepared},
    id::{EventId, SubscriptionId, TenantId, first_uuid_at},
    subscription::HookState,
};

/// Deliveries that one piece has at the most.
pub const AT_ONCE: i64 = 5_000;

/// Whose deliveries, and why they are cancelled.
#[derive(Clone, Copy, Debug)]
struct Cancelling<'a> {
    tenant: TenantId,
    subscription: SubscriptionId,
    reason: &'a str,
}

/// What came of a piece.
struct Piece {
    cancelled: usize,
    /// Its last event, if it was full: there may be more behind it.
    full: Option<EventId>,
}

/// Cancels what is under way to a subscription: the first piece, [`AT_ONCE`] deliveries, now, and what there is besides soon. Returns how
/// many were cancelled now. Belongs into the transaction that ends the subscription, behind the change of its state.
///
/// # Errors
/// When the database is away.
pub fn begin(
    conn: &mut PgConnection,
    tenant: TenantId,
    subscription: SubscriptionId,
    now: DateTime<Utc>,
    reason: &str,
) -> Result<usize> {
    let cancelling = Cancelling { tenant, subscription, reason };
    let first = EventId::from_uuid(uuid::Uuid::nil());
    let piece = piece(conn, cancelling, (first, true), now)?;
    if let Some(after) = piece.full {
        // One that is disabled and then deleted is gone through anew.
        sql_query(
            "INSERT INTO cancellations (subscription_id, tenant_id, reason, after) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (subscription_id) DO UPDATE SET reason = excluded.reason, after = excluded.after",
        )
        .bind::<Uuid, _>(subscription)
        .bind::<Uuid, _>(tenant)
        .bind::<Text, _>(reason)
        .bind::<Uuid, _>(after)
        .execute(conn)?;
    }
    Ok(piece.cancelled)
}

/// Cancels one more piece of what [`begin`] has left: of the subscription whose next piece is the oldest, of whatever tenant. Returns
/// whether there was anything to be done. Belongs into a transaction.
///
/// # Errors
/// When the database is away.
pub fn go_on(conn: &mut PgConnection, now: DateTime<Utc>) -> Result<bool> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Uuid)]
        subscription_id: SubscriptionId,
        #[diesel(sql_type = Uuid)]
        tenant_id: TenantId,
        #[diesel(sql_type = Text)]
        reason: String,
        #[diesel(sql_type = Uuid)]
        after: EventId,
        #[diesel(sql_type = SmallInt)]
        state: HookState,
    }
    // The state stays as it is until the piece is done, so that nothing is cancelled that was made after an enabling. Who holds the
    // subscription may be about to write this row: nobody waits for the other.
    let row: Option<Row> = sql_query(
        "SELECT c.subscription_id, c.tenant_id, c.reason, c.after, s.state FROM cancellations c \
         JOIN subscriptions s ON s.id = c.subscription_id \
         ORDER BY c.after LIMIT 1 FOR UPDATE OF c SKIP LOCKED FOR SHARE OF s SKIP LOCKED",
    )
    .get_result(conn)
    .optional()?;
    let Some(row) = row else { return Ok(false) };
    // Of one that was enabled meanwhile the rest is left to be delivered: it is wanted again, and nothing tells what was made before the
    // enabling from what a recovery has put on its way since.
    let full = if row.state.takes_events() {
        None
    } else {
        let cancelling =
            Cancelling { tenant: row.tenant_id, subscription: row.subscription_id, reason: &row.reason };
        // The reverse unsubscribe was made when it was disabled, and has still to be sent.
        piece(conn, cancelling, (row.after, false), now)?.full
    };
    match full {
        Some(after) => sql_query("UPDATE cancellations SET after = $2 WHERE subscription_id = $1")
            .bind::<Uuid, _>(row.subscription_id)
            .bind::<Uuid, _>(after)
            .execute(conn)?,
        None => sql_query("DELETE FROM cancellations WHERE subscription_id = $1")
            .bind::<Uuid, _>(row.subscription_id)
            .execute(conn)?,
    };
    Ok(true)
}

/// Cancels the reverse unsubscribe of a hook that was disabled at `disabled_at` and is enabled, or subscribed, again: one that has not
/// arrived yet would pause what is wanted. Deliverers are not told: one that has it in hand asks before it sends whether the hook, as far
/// as it knows, is disabled.
///
/// # Errors
/// When the database is away.
pub fn farewell(
    conn: &mut PgConnection,
    tenant: TenantId,
    (hook, disabled_at): (SubscriptionId, Option<DateTime<Utc>>),
    now: DateTime<Utc>,
) -> Result<()> {
    let Some(at) = disabled_at else { return Ok(()) };
    // Its event was made then: what is under way besides is not looked through.
    let (from, to) = (at - TimeDelta::milliseconds(1), at + TimeDelta::milliseconds(2));
    planned_for_values(conn, |conn| {
        Ok(sql_query(
            "UPDATE deliveries SET state = 3, settled_at = $6, last_reason = 'hook enabled' \
             WHERE tenant_id = $1 AND subscription_id = $2 AND event_id >= $3 AND event_id < $4 AND profile = $5 AND state + 0 = 0",
        )
        .bind::<Uuid, _>(tenant)
        .bind::<Uuid, _>(hook)
        .bind::<Uuid, _>(first_uuid_at(from))
        .bind::<Uuid, _>(first_uuid_at(to))
        .bind::<SmallInt, _>(Profile::Farewell)
        .bind::<Timestamptz, _>(now)
        .execute(conn)?)
    })?;
    Ok(())
}

/// Cancels the next deliveries behind an event, in order, with reverse unsubscribes among them or without.
fn piece(
    conn: &mut PgConnection,
    cancelling: Cancelling<'_>,
    (after, farewells): (EventId, bool),
    now: DateTime<Utc>,
) -> Result<Piece> {
    #[derive(QueryableByName)]
    struct Key {
        #[diesel(sql_type = Uuid)]
        event_id: EventId,
    }
    // Pending, said so that the planner neither takes the index of what is due nor believes that there are few: it would then sort all
    // of them for each piece.
    let found: Vec<Key> = planned_for_values(conn, |conn| {
        Ok(sql_query(
            "SELECT event_id FROM deliveries \
             WHERE tenant_id = $1 AND subscription_id = $2 AND event_id > $3 AND state IN (0, 2) AND state <> 2 \
               AND ($4 OR profile <> $5) ORDER BY event_id LIMIT $6 FOR UPDATE SKIP LOCKED",
        )
        .bind::<Uuid, _>(cancelling.tenant)
        .bind::<Uuid, _>(cancelling.subscription)
        .bind::<Uuid, _>(after)
        .bind::<Bool, _>(farewells)
        .bind::<SmallInt, _>(Profile::Farewell)
        .bind::<BigInt, _>(AT_ONCE)
        .load(conn)?)
    })?;
    let events: Vec<EventId> = found.into_iter().map(|key| key.event_id).collect();
    let full = events.last().copied().filter(|_| i64::try_from(events.len()).is_ok_and(|n| n == AT_ONCE));
    let mut cancelled = 0;
    // The rows are locked, so that their partitions are there; and without a join, which would be planned for a partition that was
    // still empty.
    for (table, events) in by_partition(events, |event| *event) {
        cancelled += prepared(format!(
            "UPDATE {table} d SET state = 3, settled_at = $3, last_reason = $4 \
             WHERE d.event_id = ANY($1) AND d.subscription_id = $2 AND d.state + 0 = 0"
        ))
        .bind::<Array<Uuid>, _>(events)
        .bind::<Uuid, _>(cancelling.subscription)
        .bind::<Timestamptz, _>(now)
        .bind::<Text, _>(cancelling.reason)
        .execute(conn)?;
    }
    Ok(Piece { cancelled, full })
}
