//! A look at runs that somebody holds: whether he still does. It changes nothing, so that it can be taken often; the ends of
//! leases are moved by [`super::store::heartbeat`].

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use diesel::{
    PgConnection, QueryableByName, RunQueryDsl,
    sql_types::{Array, Nullable, SmallInt, Timestamptz, Uuid},
};

use super::{RunState, store::Beat};
use crate::{
    Result,
    db::prepared::prepared,
    id::{LeaseId, RunId},
};

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

/// How it stands with these runs. One answer for each, in their order. For whoever holds them: a named system path.
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
