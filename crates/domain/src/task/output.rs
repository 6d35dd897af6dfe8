//! What listeners of runs see: lines, written by the ledger and read here.

use diesel::{
    PgConnection, QueryableByName, RunQueryDsl,
    sql_types::{Array, BigInt, SmallInt, Text, Uuid},
};

use super::told::LineKind;
use crate::{Result, db::prepared::prepared, id::RunId};

/// A line of a run.
#[derive(Clone, Debug)]
pub struct Output {
    /// The run.
    pub run: RunId,
    /// Its place.
    pub seq: i64,
    /// What kind of line.
    pub kind: LineKind,
    /// Canonical JSON.
    pub data: String,
}

/// What happened to runs since the last look of each, in order; at most so many lines of each run. For those who listen; whether
/// they may is their gateway's business.
///
/// # Errors
/// When the database is away.
pub fn after(conn: &mut PgConnection, watched: &[(RunId, i64)], limit: i64) -> Result<Vec<Output>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Uuid)]
        run_id: RunId,
        #[diesel(sql_type = BigInt)]
        seq: i64,
        #[diesel(sql_type = SmallInt)]
        kind: i16,
        #[diesel(sql_type = Text)]
        data: String,
    }
    if watched.is_empty() {
        return Ok(Vec::new());
    }
    let (runs, after): (Vec<RunId>, Vec<i64>) = watched.iter().copied().unzip();
    let rows: Vec<Row> = prepared(
        "SELECT o.run_id, o.seq, o.kind, o.data FROM unnest($1, $2) AS k (run, after) CROSS JOIN LATERAL ( \
            SELECT * FROM task_outputs o WHERE o.run_id = k.run AND o.seq > k.after ORDER BY o.seq LIMIT $3) o",
    )
    .bind::<Array<Uuid>, _>(runs)
    .bind::<Array<BigInt>, _>(after)
    .bind::<BigInt, _>(limit)
    .load(conn)?;
    Ok(rows
        .into_iter()
        .map(|row| Output {
            run: row.run_id,
            seq: row.seq,
            kind: LineKind::of_code(row.kind),
            data: row.data,
        })
        .collect())
}
