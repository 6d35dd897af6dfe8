//! Events that were accepted for later. They stand in a table of their own until they are due, so that those that are to be fanned out
//! at once do not queue behind them.

use chrono::{DateTime, Utc};
use diesel::{
    PgConnection, QueryableByName, RunQueryDsl,
    sql_types::{BigInt, Timestamptz, Uuid},
};

use crate::{Result, db::prepared::prepared, id::EventGroupId};

/// Puts events that are due to those that wait for their fan-out, each as a group of its own, in one statement, and notes when
/// their time came. Returns the groups: they
/// are to be fanned out. What another registry is moving is passed over. The days of the events are noted, so that
/// [`crate::db::partition::drop_older`] leaves them the time that others have from their day on.
///
/// # Errors
/// When the database is away.
pub fn bring_due(conn: &mut PgConnection, now: DateTime<Utc>, limit: i64) -> Result<Vec<EventGroupId>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Uuid)]
        id: EventGroupId,
    }
    let rows: Vec<Row> = prepared(
        "WITH due AS (DELETE FROM scheduled_events WHERE id IN \
            (SELECT id FROM scheduled_events WHERE due_at <= $1 ORDER BY due_at LIMIT $2 FOR UPDATE SKIP LOCKED) \
            RETURNING id, tenant_id, due_at), \
         days AS (INSERT INTO scheduled_days (day, fanned_out_at) \
            SELECT DISTINCT (to_timestamp(('x0000' || left(replace(id::text, '-', ''), 12))::bit(64)::bigint / 1000.0) \
                AT TIME ZONE 'UTC')::date AS day, $1 FROM due ORDER BY day \
            ON CONFLICT (day) DO UPDATE SET fanned_out_at = GREATEST(scheduled_days.fanned_out_at, excluded.fanned_out_at)), \
         past AS (INSERT INTO scheduled_past (id, tenant_id, due_at) SELECT id, tenant_id, $1 FROM due ON CONFLICT (id) DO NOTHING) \
         INSERT INTO event_groups (id, tenant_ids, event_ids, created_at) \
            SELECT id, ARRAY[tenant_id], ARRAY[id], due_at FROM due RETURNING id",
    )
    .bind::<Timestamptz, _>(now)
    .bind::<BigInt, _>(limit)
    .load(conn)?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}
