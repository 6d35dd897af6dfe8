//! Purging the payload of one event, because somebody has a right to it: the body, what transformations have made of it, the
//! replies to its tries, and what an answer kept for an `Idempotency-Key` says about it. The event, its metadata, its deliveries
//! and their tries stay.

use chrono::{DateTime, TimeDelta, Utc};
use diesel::{
    OptionalExtension, PgConnection, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Array, BigInt, Bool, Nullable, Text, Timestamptz, Uuid},
};

use super::PAYLOAD_PURGED;
use crate::{
    Error, Result,
    delivery::large,
    id::{EventId, TenantId},
    idempotency,
};

/// For so long somebody may still have had the payload in his hands when it was purged: a lease, and a try.
const LATE: TimeDelta = TimeDelta::minutes(15);

/// Events looked after in one pass.
const AT_ONCE: i64 = 1_000;

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The payload is gone.
    Purged {
        /// Since when.
        at: DateTime<Utc>,
        /// Deliveries that were under way, and were cancelled.
        cancelled: usize,
        /// Whether it was gone before.
        before: bool,
    },
    /// Somebody still has to get it, and nobody said that they need not. Nothing was changed.
    Wanted {
        /// Deliveries under way.
        deliveries: i64,
        /// Whether it waits for the time that it was posted for.
        scheduled: bool,
    },
    /// It is being fanned out at this moment. Nothing was changed.
    FanningOut,
}

#[derive(QueryableByName)]
struct Found {
    #[diesel(sql_type = Bool)]
    gone: bool,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    payload_purged_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Timestamptz)]
    created_at: DateTime<Utc>,
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// Purges the payload of an event. With `cancel`, what is under way is cancelled, and the time that it was posted for comes to
/// nothing; a try that has begun cannot be called back. Belongs into a transaction.
///
/// # Errors
/// [`Error::NotFound`] when the tenant has no such event, and when the database is away.
pub fn purge(
    conn: &mut PgConnection,
    tenant: TenantId,
    event: EventId,
    cancel: bool,
    now: DateTime<Utc>,
) -> Result<Outcome> {
    let found: Option<Found> = sql_query(
        "SELECT body = '' AS gone, payload_purged_at, created_at FROM events \
         WHERE tenant_id = $1 AND id = $2 FOR UPDATE",
    )
    .bind::<Uuid, _>(tenant)
    .bind::<Uuid, _>(event)
    .get_result(conn)
    .optional()?;
    let found = found.ok_or(Error::NotFound { what: "event" })?;
    if found.gone {
        let at = found.payload_purged_at.unwrap_or(found.created_at);
        return Ok(Outcome::Purged { at, cancelled: 0, before: true });
    }
    // In the order in which an event goes on, each in a statement of its own: what has gone on in between is seen there.
    let scheduled = is_scheduled(conn, event, cancel)?;
    if scheduled && !cancel {
        return Ok(Outcome::Wanted { deliveries: 0, scheduled });
    }
    // Of a large event no more deliveries are made; otherwise that would hold this up for as long as it takes.
    if cancel {
        large::cancel(conn, event)?;
    }
    if waits(conn, tenant, event)? {
        return Ok(Outcome::FanningOut);
    }
    let cancelled = if cancel {
        cancel_pending(conn, tenant, event, now)?
    } else {
        let deliveries = pending(conn, tenant, event)?;
        if deliveries > 0 {
            return Ok(Outcome::Wanted { deliveries, scheduled });
        }
        0
    };
    sql_query("UPDATE events SET body = '', payload_purged_at = $3 WHERE tenant_id = $1 AND id = $2")
        .bind::<Uuid, _>(tenant)
        .bind::<Uuid, _>(event)
        .bind::<Timestamptz, _>(now)
        .execute(conn)?;
    clean(conn, &[event])?;
    idempotency::forget_details(conn, tenant, &event.to_string(), found.created_at)?;
    sql_query("INSERT INTO purged_payloads (event_id, purged_at) VALUES ($1, $2) ON CONFLICT DO NOTHING")
        .bind::<Uuid, _>(event)
        .bind::<Timestamptz, _>(now)
        .execute(conn)?;
    Ok(Outcome::Purged { at: now, cancelled, before: false })
}

/// Whether the event waits for its time; with `cancel` it does not any more afterwards.
fn is_scheduled(conn: &mut PgConnection, event: EventId, cancel: bool) -> Result<bool> {
    if cancel {
        let deleted =
            sql_query("DELETE FROM scheduled_events WHERE id = $1").bind::<Uuid, _>(event).execute(conn)?;
        return Ok(deleted > 0);
    }
    let row: Count = sql_query("SELECT count(*) AS count FROM scheduled_events WHERE id = $1")
        .bind::<Uuid, _>(event)
        .get_result(conn)?;
    Ok(row.count > 0)
}

/// Whether the event waits for its fan-out.
fn waits(conn: &mut PgConnection, tenant: TenantId, event: EventId) -> Result<bool> {
    let row: Count = sql_query(
        "SELECT count(*) AS count FROM event_groups WHERE tenant_ids @> ARRAY[$1] AND event_ids @> ARRAY[$2]",
    )
    .bind::<Uuid, _>(tenant)
    .bind::<Uuid, _>(event)
    .get_result(conn)?;
    Ok(row.count > 0)
}

fn pending(conn: &mut PgConnection, tenant: TenantId, event: EventId) -> Result<i64> {
    let row: Count = sql_query(
        "SELECT count(*) AS count FROM deliveries WHERE tenant_id = $1 AND event_id = $2 AND state IN (0, 2) AND state = 0",
    )
    .bind::<Uuid, _>(tenant)
    .bind::<Uuid, _>(event)
    .get_result(conn)?;
    Ok(row.count)
}

/// Ends what is under way. The outcome of a try that has begun is not written any more: the delivery is not pending.
fn cancel_pending(
    conn: &mut PgConnection,
    tenant: TenantId,
    event: EventId,
    now: DateTime<Utc>,
) -> Result<usize> {
    Ok(sql_query(
        "UPDATE deliveries SET state = 3, settled_at = $3, last_reason = $4 \
         WHERE tenant_id = $1 AND event_id = $2 AND state IN (0, 2) AND state = 0",
    )
    .bind::<Uuid, _>(tenant)
    .bind::<Uuid, _>(event)
    .bind::<Timestamptz, _>(now)
    .bind::<Text, _>(PAYLOAD_PURGED)
    .execute(conn)?)
}

/// Removes what was made of the payloads of events: transformed bodies, and replies to tries, which may repeat what was sent.
fn clean(conn: &mut PgConnection, events: &[EventId]) -> Result<()> {
    for statement in [
        "DELETE FROM delivery_bodies WHERE event_id = ANY($1)",
        "UPDATE attempts SET reply = NULL WHERE event_id = ANY($1) AND reply IS NOT NULL",
    ] {
        sql_query(statement).bind::<Array<Uuid>, _>(events).execute(conn)?;
    }
    Ok(())
}

/// Removes what was written of purged payloads after they were purged, by those who had them in their hands, and forgets events of
/// which that cannot happen any more. Returns how many events were looked at.
///
/// # Errors
/// When the database is away.
pub fn look_after(conn: &mut PgConnection, now: DateTime<Utc>) -> Result<usize> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Uuid)]
        event_id: EventId,
    }
    let rows: Vec<Row> =
        sql_query(format!("SELECT event_id FROM purged_payloads ORDER BY purged_at LIMIT {AT_ONCE}"))
            .load(conn)?;
    let events: Vec<EventId> = rows.into_iter().map(|row| row.event_id).collect();
    if events.is_empty() {
        return Ok(0);
    }
    clean(conn, &events)?;
    sql_query("DELETE FROM purged_payloads WHERE event_id = ANY($1) AND purged_at < $2")
        .bind::<Array<Uuid>, _>(&events)
        .bind::<Timestamptz, _>(now - LATE)
        .execute(conn)?;
    Ok(events.len())
}
