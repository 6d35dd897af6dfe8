//! Sending again: puts deliveries back on the schedule, or makes them where there were none. Which events these are is decided by
//! whoever asks (`crate::recovery`).
//!
//! What is under way already stays as it is, so that nothing is doubled.

use chrono::{DateTime, Utc};
use diesel::{
    PgConnection, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Array, Bool, Nullable, SmallInt, Timestamptz, Uuid},
};

use super::{Profile, sequence};
use crate::{
    Result,
    id::{DeliveryId, EventId, SubscriptionId, TenantId},
};

/// An event that is sent again, and the line that it stands in at its endpoint, if it stands in one.
pub type Again = (EventId, Option<uuid::Uuid>);

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Uuid)]
    event_id: EventId,
}

/// Puts deliveries of these events to one endpoint on the schedule, due at `now`; those with a line are held back in it, and the
/// walk through the lines lets them go one after the other. Returns which; what is under way already is not among them. What is
/// asked for by hand does not expire, and what has no payload any more is not sent. Those that are made here get numbers ([`sequence`]), the others keep theirs. Within a
/// transaction.
///
/// # Errors
/// When the database is away.
pub fn schedule(
    conn: &mut PgConnection,
    tenant: TenantId,
    subscription: SubscriptionId,
    profile: Profile,
    events: &[Again],
    now: DateTime<Utc>,
) -> Result<Vec<EventId>> {
    if events.is_empty() {
        return Ok(Vec::new());
    }
    let (ids, lines): (Vec<EventId>, Vec<Option<uuid::Uuid>>) = events.iter().copied().unzip();
    let counts = profile.is_numbered();
    if counts {
        sequence::lock(conn, subscription)?;
    }
    let rows: Vec<Row> = sql_query(format!(
        "WITH k AS MATERIALIZED (SELECT e, o, counted, row_number() OVER (PARTITION BY counted ORDER BY e DESC) - 1 AS behind \
            FROM (SELECT e, o, $6 AND NOT EXISTS (SELECT FROM deliveries d WHERE d.event_id = e AND d.subscription_id = $2) \
               AS counted FROM unnest($3, $7) AS k (e, o) \
               WHERE EXISTS (SELECT FROM events v WHERE v.tenant_id = $1 AND v.id = k.e AND v.body <> '')) AS k), \
         numbers AS ({}) \
         INSERT INTO deliveries AS d (event_id, subscription_id, tenant_id, profile, state, tries, attempts, deferrals, \
            due_at, next_attempt_at, claim, ordering, sequence) \
         SELECT e, $2, $1, $4, 0, 0, 0, 0, $5, CASE WHEN o IS NULL THEN $5 ELSE 'infinity' END, \
            '00000000-0000-0000-0000-000000000000', o, CASE WHEN counted THEN (SELECT last FROM numbers) - behind END FROM k \
         ON CONFLICT (event_id, subscription_id) DO UPDATE SET state = 0, tries = 0, deferrals = 0, \
            due_at = excluded.due_at, next_attempt_at = excluded.next_attempt_at, claim = excluded.claim, \
            ordering = COALESCE(excluded.ordering, d.ordering), settled_at = NULL, expires_at = NULL \
         WHERE d.state <> 0 AND d.tenant_id = $1 AND d.profile = excluded.profile RETURNING d.event_id",
        sequence::give("SELECT $2, count(*) FROM k WHERE counted HAVING count(*) > 0")
    ))
    .bind::<Uuid, _>(tenant)
    .bind::<Uuid, _>(subscription)
    .bind::<Array<Uuid>, _>(ids)
    .bind::<SmallInt, _>(profile)
    .bind::<Timestamptz, _>(now)
    .bind::<Bool, _>(counts)
    .bind::<Array<Nullable<Uuid>>, _>(lines)
    .load(conn)?;
    Ok(rows.into_iter().map(|row| row.event_id).collect())
}

/// Makes a delivery that waits between two tries due at `now`. Returns whether it was one: what somebody holds, or what waits for
/// the delivery before it, stays as it is.
///
/// # Errors
/// When the database is away.
pub fn hurry(conn: &mut PgConnection, tenant: TenantId, id: DeliveryId, now: DateTime<Utc>) -> Result<bool> {
    let moved = sql_query(
        "UPDATE deliveries SET next_attempt_at = $4, due_at = $4 \
         WHERE event_id = $2 AND subscription_id = $3 AND tenant_id = $1 AND state + 0 = 0 AND attempts > 0 \
           AND claim = '00000000-0000-0000-0000-000000000000' AND next_attempt_at > $4 AND next_attempt_at <> 'infinity'",
    )
    .bind::<Uuid, _>(tenant)
    .bind::<Uuid, _>(id.event)
    .bind::<Uuid, _>(id.subscription)
    .bind::<Timestamptz, _>(now)
    .execute(conn)?;
    Ok(moved == 1)
}
