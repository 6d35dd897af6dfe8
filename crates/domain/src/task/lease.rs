//! Leases and timers of runs: keeping a run, and finding those whose time is over.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use diesel::{
    PgConnection, QueryableByName, RunQueryDsl,
    sql_types::{Array, BigInt, Nullable, SmallInt, Timestamptz, Uuid},
};

use super::{RunState, Settings};
use crate::{
    Result,
    db::prepared::prepared,
    id::{LeaseId, RunId},
};

/// What a heartbeat is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    /// Go on.
    Held {
        /// Until then.
        lease_until: DateTime<Utc>,
    },
    /// The run has ended without the holder: cancelled, or by a timer. Stop at once.
    Ended {
        /// How.
        state: RunState,
    },
    /// The lease is over or somebody else's. Stop at once.
    Stale,
    /// There is no such run.
    Unknown,
}

/// Moves the end of leases. One answer for each, in their order. What is over is not brought back.
///
/// # Errors
/// When the database is away; the leases then end by themselves.
pub fn heartbeat(
    conn: &mut PgConnection,
    settings: &Settings,
    held: &[(RunId, LeaseId)],
    now: DateTime<Utc>,
) -> Result<Vec<Beat>> {
    if held.is_empty() {
        return Ok(Vec::new());
    }
    let (runs, leases): (Vec<RunId>, Vec<LeaseId>) = held.iter().copied().unzip();
    let until = now + settings.heartbeat();
    // Sorted, so that it waits in the order in which the ledger locks. The timer of held-back progress and of the attempt may
    // be due before the lease.
    prepared(
        "WITH mine AS MATERIALIZED (SELECT r.id FROM unnest($1, $2) AS k (id, lease) JOIN task_runs r ON r.id = k.id \
            WHERE r.lease = k.lease AND r.state + 0 = 1 AND r.lease_until > $3 \
              AND (r.attempt_deadline IS NULL OR r.attempt_deadline > $3) ORDER BY r.id FOR UPDATE OF r) \
         UPDATE task_runs r SET lease_until = $4, due_at = LEAST($4, r.attempt_deadline, \
            CASE WHEN r.progress_waits THEN r.due_at END) FROM mine WHERE r.id = mine.id",
    )
    .bind::<Array<Uuid>, _>(&runs)
    .bind::<Array<Uuid>, _>(&leases)
    .bind::<Timestamptz, _>(now)
    .bind::<Timestamptz, _>(until)
    .execute(conn)?;
    look(conn, held, now)
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Uuid)]
    id: RunId,
    #[diesel(sql_type = SmallInt)]
    state: RunState,
    #[diesel(sql_type = Nullable<Uuid>)]
    lease: Option<LeaseId>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    lease_until: Option<DateTime<Utc>>,
}

/// How it stands with these runs. One answer for each, in their order; changes nothing, so that it can be asked often. For
/// whoever holds them: a named system path.
///
/// # Errors
/// When the database is away.
pub fn look(conn: &mut PgConnection, held: &[(RunId, LeaseId)], now: DateTime<Utc>) -> Result<Vec<Beat>> {
    if held.is_empty() {
        return Ok(Vec::new());
    }
    let runs: Vec<RunId> = held.iter().map(|(run, _)| *run).collect();
    let rows: Vec<Row> = prepared("SELECT id, state, lease, lease_until FROM task_runs WHERE id = ANY($1)")
        .bind::<Array<Uuid>, _>(&runs)
        .load(conn)?;
    let rows: HashMap<RunId, Row> = rows.into_iter().map(|row| (row.id, row)).collect();
    Ok(held
        .iter()
        .map(|(run, lease)| match rows.get(run) {
            None => Beat::Unknown,
            Some(row) if row.state.is_terminal() => Beat::Ended { state: row.state },
            Some(Row { state: RunState::Running, lease: Some(theirs), lease_until: Some(until), .. })
                if theirs == lease && *until > now =>
            {
                Beat::Held { lease_until: *until }
            }
            Some(_) => Beat::Stale,
        })
        .collect())
}

/// `$1` now, `$2` most runs
pub const OVERDUE: &str =
    "SELECT id FROM task_runs WHERE state < 3 AND due_at <= $1 ORDER BY due_at LIMIT $2";

/// Runs with a timer that is due, the longest overdue first. A named system path.
///
/// # Errors
/// When the database is away.
pub fn overdue(conn: &mut PgConnection, now: DateTime<Utc>, limit: u32) -> Result<Vec<RunId>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Uuid)]
        id: RunId,
    }
    let rows: Vec<Row> =
        prepared(OVERDUE).bind::<Timestamptz, _>(now).bind::<BigInt, _>(i64::from(limit)).load(conn)?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}
