//! Sending again: one event, or the events of a time range, to one hook.
//!
//! A replay puts the delivery back on the schedule, or makes it when the hook did not exist yet or its filter was
//! another. What is under way already stays as it is, so that a replay doubles nothing.

use chrono::{DateTime, Utc};
use diesel::{
    PgConnection, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Array, BigInt, Bool, Nullable, SmallInt, Timestamptz, Uuid},
};

use super::Profile;
use crate::{
    Result,
    db::prepared::planned_for_values,
    event::store::StoredEvent,
    id::{EventId, SubscriptionId, TenantId, first_uuid_at},
};

/// Which events of the range are sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Those that did not arrive: dead, cancelled, discarded, or never made for this hook.
    Missed,
    /// All of them, also those that arrived.
    All,
}

/// The events of a range that a replay to this hook has to look at, oldest first: those that the tenant posted. Tests are
/// left out, and so are our own events: the good-bye of a hook is one of them; and what has no payload any more.
///
/// # Errors
/// When the database is away.
pub fn candidates(
    conn: &mut PgConnection,
    tenant: TenantId,
    subscription: SubscriptionId,
    which: Which,
    (since, until): (DateTime<Utc>, DateTime<Utc>),
    after: Option<EventId>,
    limit: i64,
) -> Result<Vec<StoredEvent>> {
    planned_for_values(conn, |conn| {
        Ok(sql_query(format!(
            "SELECT {} FROM events e LEFT JOIN deliveries d ON d.event_id = e.id AND d.subscription_id = $2 \
         WHERE e.tenant_id = $1 AND e.id >= $3 AND e.id < $4 AND ($5 IS NULL OR e.id > $5) AND e.origin = 0 AND e.body <> '' \
           AND (d.state IS NULL OR d.state IN (2, 3, 4) OR ($6 AND d.state = 1)) ORDER BY e.id LIMIT $7",
            crate::event::store::STORED
        ))
        .bind::<Uuid, _>(tenant)
        .bind::<Uuid, _>(subscription)
        .bind::<Uuid, _>(first_uuid_at(since))
        .bind::<Uuid, _>(first_uuid_at(until))
        .bind::<Nullable<Uuid>, _>(after)
        .bind::<Bool, _>(which == Which::All)
        .bind::<BigInt, _>(limit)
        .load(conn)?)
    })
}

/// Puts deliveries of these events to one hook on the schedule, due at `now`. Returns how many; what is under way
/// already does not count, nor what has no payload any more. What is asked for by hand does not expire.
///
/// # Errors
/// When the database is away.
pub fn schedule(
    conn: &mut PgConnection,
    tenant: TenantId,
    subscription: SubscriptionId,
    profile: Profile,
    events: &[EventId],
    now: DateTime<Utc>,
) -> Result<usize> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Uuid)]
        #[expect(dead_code, reason = "rows are counted")]
        event_id: EventId,
    }
    let rows: Vec<Row> = sql_query(
        "INSERT INTO deliveries AS d (event_id, subscription_id, tenant_id, profile, state, tries, attempts, deferrals, \
            due_at, next_attempt_at, claim) \
         SELECT e, $2, $1, $4, 0, 0, 0, 0, $5, $5, '00000000-0000-0000-0000-000000000000' FROM unnest($3) AS k (e) \
         WHERE EXISTS (SELECT FROM events v WHERE v.tenant_id = $1 AND v.id = k.e AND v.body <> '') \
         ON CONFLICT (event_id, subscription_id) DO UPDATE SET state = 0, tries = 0, deferrals = 0, \
            due_at = excluded.due_at, next_attempt_at = excluded.next_attempt_at, claim = excluded.claim, \
            settled_at = NULL, expires_at = NULL \
         WHERE d.state <> 0 AND d.tenant_id = $1 AND d.profile = excluded.profile RETURNING d.event_id",
    )
    .bind::<Uuid, _>(tenant)
    .bind::<Uuid, _>(subscription)
    .bind::<Array<Uuid>, _>(events)
    .bind::<SmallInt, _>(profile)
    .bind::<Timestamptz, _>(now)
    .load(conn)?;
    Ok(rows.len())
}
