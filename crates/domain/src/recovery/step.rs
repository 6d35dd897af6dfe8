//! The steps of a recovery: whoever runs it claims it, looks at some events, and writes what came of that, or puts it off.

use chrono::{DateTime, TimeDelta, Utc};
use diesel::{
    OptionalExtension, PgConnection, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Array, BigInt, Bool, Nullable, SmallInt, Text, Timestamptz, Uuid},
};

use super::{
    RecoveryState,
    store::{COLUMNS, Recovery, find},
};
use crate::{
    Result,
    id::{ClaimId, EventId, SubscriptionId},
};

/// The longest that one step may take; then somebody else may run the recovery.
pub const LEASE: TimeDelta = TimeDelta::seconds(30);

/// Claims recoveries of whatever tenant whose next step is due and that nobody else has in hand, for [`LEASE`].
///
/// # Errors
/// When the database is away.
pub fn claim_due(
    conn: &mut PgConnection,
    now: DateTime<Utc>,
    claim: ClaimId,
    limit: i64,
) -> Result<Vec<Recovery>> {
    Ok(sql_query(format!(
        "WITH due AS MATERIALIZED (SELECT id FROM recoveries WHERE state < 2 AND due_at <= $1 AND lease_until <= $1 \
            ORDER BY due_at LIMIT $4 FOR UPDATE SKIP LOCKED) \
         UPDATE recoveries r SET claim = $3, lease_until = $2 FROM due, subscriptions s \
         WHERE r.id = due.id AND s.id = r.subscription_id RETURNING {COLUMNS}"
    ))
    .bind::<Timestamptz, _>(now)
    .bind::<Timestamptz, _>(now + LEASE)
    .bind::<Uuid, _>(claim)
    .bind::<BigInt, _>(limit)
    .load(conn)?)
}

/// Begins the writing of a step: locks the recovery, and tells whether it is still this claim's, and the endpoint, and tells whether
/// it takes events. Belongs into the transaction of [`finish_step`].
///
/// # Errors
/// When the database is away.
pub fn begin_step(conn: &mut PgConnection, recovery: &Recovery) -> Result<Option<bool>> {
    #[derive(QueryableByName)]
    struct Held {
        #[diesel(sql_type = Bool)]
        held: bool,
    }
    #[derive(QueryableByName)]
    struct Takes {
        #[diesel(sql_type = Bool)]
        takes: bool,
    }
    let held: Option<Held> =
        sql_query("SELECT claim = $2 AND state < 2 AS held FROM recoveries WHERE id = $1 FOR UPDATE")
            .bind::<Uuid, _>(recovery.id)
            .bind::<Uuid, _>(recovery.claim)
            .get_result(conn)
            .optional()?;
    if !held.is_some_and(|row| row.held) {
        return Ok(None);
    }
    // Who disables it meanwhile waits, and cancels what is written here.
    let takes: Option<Takes> =
        sql_query("SELECT state < 3 AS takes FROM subscriptions WHERE id = $1 FOR SHARE")
            .bind::<Uuid, _>(recovery.subscription_id)
            .get_result(conn)
            .optional()?;
    Ok(Some(takes.is_some_and(|row| row.takes)))
}

/// What a step has done.
#[derive(Clone, Debug)]
pub struct Step {
    /// Where the recovery stands from now on.
    pub state: RecoveryState,
    /// Why it was stopped.
    pub reason: Option<&'static str>,
    /// The last event that was counted, or looked at.
    pub cursor_at: Option<EventId>,
    /// Events that were counted, more.
    pub counted: i64,
    /// Events that were looked at, more.
    pub examined: i64,
    /// Deliveries that were put on their way, more.
    pub queued: i64,
    /// Those that have not ended.
    pub under_way: Vec<EventId>,
    /// When the next step is due.
    pub due_at: DateTime<Utc>,
}

/// Writes what a step has done, and gives the lease back. Belongs into a transaction behind [`begin_step`]. Returns the recovery as
/// it is then.
///
/// # Errors
/// When the database is away.
pub fn finish_step(
    conn: &mut PgConnection,
    recovery: &Recovery,
    step: &Step,
    now: DateTime<Utc>,
) -> Result<Option<Recovery>> {
    sql_query(
        "UPDATE recoveries SET state = $3, reason = $4, cursor_at = $5, total = total + $6, examined = examined + $7, \
            queued = queued + $8, under_way = $9, due_at = $10, lease_until = $11, updated_at = $11, \
            ended_at = CASE WHEN $3 >= 2 THEN $11 END \
         WHERE id = $1 AND claim = $2 AND state < 2",
    )
    .bind::<Uuid, _>(recovery.id)
    .bind::<Uuid, _>(recovery.claim)
    .bind::<SmallInt, _>(step.state.code())
    .bind::<Nullable<Text>, _>(step.reason)
    .bind::<Nullable<Uuid>, _>(step.cursor_at)
    .bind::<BigInt, _>(step.counted)
    .bind::<BigInt, _>(step.examined)
    .bind::<BigInt, _>(step.queued)
    .bind::<Array<Uuid>, _>(&step.under_way)
    .bind::<Timestamptz, _>(step.due_at)
    .bind::<Timestamptz, _>(now)
    .execute(conn)?;
    find(conn, recovery.tenant_id, recovery.id)
}

/// Puts a step off, and gives the lease back; everything else stays as it is. Nothing happens when the claim is somebody else's.
///
/// # Errors
/// When the database is away.
pub fn postpone(
    conn: &mut PgConnection,
    recovery: &Recovery,
    until: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<()> {
    sql_query(
        "UPDATE recoveries SET due_at = $3, lease_until = $4 WHERE id = $1 AND claim = $2 AND state < 2",
    )
    .bind::<Uuid, _>(recovery.id)
    .bind::<Uuid, _>(recovery.claim)
    .bind::<Timestamptz, _>(until)
    .bind::<Timestamptz, _>(now)
    .execute(conn)?;
    Ok(())
}

/// Those of the deliveries of these events to an endpoint that have not ended.
///
/// # Errors
/// When the database is away.
pub fn pending(
    conn: &mut PgConnection,
    endpoint: SubscriptionId,
    events: &[EventId],
) -> Result<Vec<EventId>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Uuid)]
        event_id: EventId,
    }
    if events.is_empty() {
        return Ok(Vec::new());
    }
    // `+ 0` keeps the planner from walking the index of everything that is pending instead of looking each key up.
    let rows: Vec<Row> = sql_query(
        "SELECT d.event_id FROM unnest($2) AS k (e) JOIN deliveries d ON d.event_id = k.e AND d.subscription_id = $1 \
         WHERE d.state + 0 = 0",
    )
    .bind::<Uuid, _>(endpoint)
    .bind::<Array<Uuid>, _>(events)
    .load(conn)?;
    Ok(rows.into_iter().map(|row| row.event_id).collect())
}
