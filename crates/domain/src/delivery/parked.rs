//! Deliveries that were given back to the schedule untried, for there was no room for them, and are fetched before their time when there is.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use diesel::{
    PgConnection, QueryableByName, RunQueryDsl,
    sql_types::{Array, BigInt, Timestamptz, Uuid},
};

use super::{
    HeldDelivery,
    store::{HELD, HeldRow, by_partition, nobody},
};
use crate::{
    Result,
    db::{partition, prepared::prepared},
    id::{ClaimId, EventId, SubscriptionId, TenantId},
};

/// Which are looked for.
#[derive(Clone, Copy, Debug)]
pub struct Parked {
    /// Whose they are.
    pub tenant: TenantId,
    /// To whom they go.
    pub subscription: SubscriptionId,
    /// Whether they have been tried before.
    pub tried: bool,
    /// The first event that may be theirs.
    pub from: EventId,
    /// How many at the most.
    pub at_most: usize,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Uuid)]
    event_id: EventId,
}

/// Those that are due and wait only for their place, in order of their events, as a statement; tried ones have an index of their own.
/// Whoever waits between two tries is not due, and a receiver's wish to be left alone counts as a deferral. `+ interval` keeps the planner
/// from the index of the schedule, in which everybody's are.
#[must_use]
pub fn look(tried: bool) -> String {
    let tried = if tried { "d.attempts > 0" } else { "d.attempts = 0" };
    format!(
        "SELECT d.event_id FROM deliveries d \
         WHERE d.tenant_id = $1 AND d.subscription_id = $2 AND d.event_id >= $3 AND d.state = 0 AND {tried} AND d.deferrals = 0 \
           AND d.claim = '00000000-0000-0000-0000-000000000000' AND d.due_at <= $4 \
           AND d.next_attempt_at + interval '0' > $4 AND d.next_attempt_at <> 'infinity' ORDER BY d.event_id LIMIT $5"
    )
}

/// Claims them until `lease_until`. Returns those that nobody else had meanwhile, and the event from which on there may be more.
///
/// # Errors
/// When the database is away.
pub fn claim(
    conn: &mut PgConnection,
    parked: Parked,
    now: DateTime<Utc>,
    claim: ClaimId,
    lease_until: DateTime<Utc>,
) -> Result<(Vec<HeldDelivery>, Option<EventId>)> {
    let found: Vec<Row> = prepared(look(parked.tried))
        .bind::<Uuid, _>(parked.tenant)
        .bind::<Uuid, _>(parked.subscription)
        .bind::<Uuid, _>(parked.from)
        .bind::<Timestamptz, _>(now)
        .bind::<BigInt, _>(i64::try_from(parked.at_most).unwrap_or(i64::MAX))
        .load(conn)?;
    let rest = found.last().filter(|_| found.len() >= parked.at_most).map(|row| row.event_id);
    let mut held = Vec::with_capacity(found.len());
    let tables: BTreeMap<String, Vec<EventId>> =
        by_partition(found.iter().map(|row| row.event_id), |event| *event);
    for (table, events) in tables {
        let rows = prepared(format!(
            "UPDATE {table} d SET claim = $4, next_attempt_at = $5 FROM unnest($1) AS k (e) \
             WHERE d.event_id = k.e AND d.subscription_id = $2 AND d.claim = $6 AND d.state + 0 = 0 AND d.next_attempt_at > $3 \
               AND d.next_attempt_at <> 'infinity' AND d.due_at <= $3 AND d.deferrals = 0 \
             RETURNING {HELD}"
        ))
        .bind::<Array<Uuid>, _>(events)
        .bind::<Uuid, _>(parked.subscription)
        .bind::<Timestamptz, _>(now)
        .bind::<Uuid, _>(claim)
        .bind::<Timestamptz, _>(lease_until)
        .bind::<Uuid, _>(nobody())
        .load::<HeldRow>(conn);
        match rows {
            Ok(rows) => held.extend(rows.into_iter().map(HeldDelivery::from)),
            Err(error) if partition::is_dropped(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok((held, rest))
}
