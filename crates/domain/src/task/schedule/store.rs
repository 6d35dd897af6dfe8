//! Queries on schedules and their ticks.

use chrono::{DateTime, Utc};
use diesel::{
    OptionalExtension, PgConnection, QueryableByName, RunQueryDsl,
    sql_types::{BigInt, Bool, Nullable, SmallInt, Text, Timestamptz, Uuid},
};

pub use super::fire::{Fired, Firing};
use super::{MAX_SCHEDULES, Missed, ScheduleDraft};
use crate::{
    Error, Result,
    db::prepared::prepared,
    id::{ScheduleId, TaskId, TenantId},
};

/// A schedule.
#[derive(Clone, Debug, QueryableByName)]
#[expect(missing_docs, reason = "each is a column of schedules, which the migration explains")]
pub struct ScheduleRow {
    #[diesel(sql_type = Uuid)]
    pub id: ScheduleId,
    #[diesel(sql_type = Uuid)]
    pub tenant_id: TenantId,
    #[diesel(sql_type = Text)]
    pub name: String,
    #[diesel(sql_type = Text)]
    pub cron: String,
    #[diesel(sql_type = Text)]
    pub time_zone: String,
    #[diesel(sql_type = Bool)]
    pub enabled: bool,
    #[diesel(sql_type = SmallInt)]
    pub missed: Missed,
    #[diesel(sql_type = Text)]
    pub task: String,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub next_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Uuid>)]
    pub created_by: Option<uuid::Uuid>,
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
    #[diesel(sql_type = Timestamptz)]
    pub updated_at: DateTime<Utc>,
}

pub(super) const COLUMNS: &str = "id, tenant_id, name, cron, time_zone, enabled, missed, task, next_at, created_by, created_at, updated_at";

/// What came of a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TickOutcome {
    /// A task was made.
    Fired,
    /// It passed while nobody fired; ticks that followed it may have, too.
    Missed,
    /// No task could be made.
    Refused,
    /// Somebody wanted it now.
    ByHand,
}

impl TickOutcome {
    /// The word for it on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fired => "fired",
            Self::Missed => "missed",
            Self::Refused => "refused",
            Self::ByHand => "run_by_hand",
        }
    }

    const fn of_code(code: i16) -> Self {
        match code {
            0 => Self::Fired,
            1 => Self::Missed,
            2 => Self::Refused,
            _ => Self::ByHand,
        }
    }
}

/// A tick of a schedule.
#[derive(Clone, Debug)]
pub struct Tick {
    /// When it was due.
    pub tick: DateTime<Utc>,
    /// What came of it.
    pub outcome: TickOutcome,
    /// The task that was made.
    pub task: Option<TaskId>,
    /// Why none was.
    pub reason: Option<String>,
    /// When it was fired.
    pub fired_at: DateTime<Utc>,
}

/// Stores a schedule.
///
/// # Errors
/// A conflict when the tenant has too many; or the database is away.
pub fn create(
    conn: &mut PgConnection,
    tenant: TenantId,
    draft: &ScheduleDraft,
    created_by: Option<uuid::Uuid>,
    now: DateTime<Utc>,
) -> Result<ScheduleRow> {
    let made: Option<ScheduleRow> = prepared(format!(
        "INSERT INTO schedules ({COLUMNS}) SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11 \
         WHERE (SELECT count(*) FROM schedules WHERE tenant_id = $2) < {MAX_SCHEDULES} RETURNING {COLUMNS}"
    ))
    .bind::<Uuid, _>(ScheduleId::new(now))
    .bind::<Uuid, _>(tenant)
    .bind::<Text, _>(&draft.name)
    .bind::<Text, _>(&draft.cron)
    .bind::<Text, _>(&draft.time_zone)
    .bind::<Bool, _>(draft.enabled)
    .bind::<SmallInt, _>(draft.missed)
    .bind::<Text, _>(&draft.task)
    .bind::<Nullable<Timestamptz>, _>(draft.timetable.after(now).filter(|_| draft.enabled))
    .bind::<Nullable<Uuid>, _>(created_by)
    .bind::<Timestamptz, _>(now)
    .get_result(conn)
    .optional()?;
    made.ok_or_else(|| Error::Conflict {
        reason: format!("a tenant has at most {MAX_SCHEDULES} schedules; delete one first"),
    })
}

/// Changes a schedule; when it ticks is computed anew, from now on.
///
/// # Errors
/// When there is none, or the database is away.
pub fn update(
    conn: &mut PgConnection,
    (tenant, id): (TenantId, ScheduleId),
    draft: &ScheduleDraft,
    now: DateTime<Utc>,
) -> Result<ScheduleRow> {
    prepared(format!(
        "UPDATE schedules SET name = $3, cron = $4, time_zone = $5, enabled = $6, missed = $7, task = $8, next_at = $9, \
            updated_at = $10 WHERE tenant_id = $1 AND id = $2 RETURNING {COLUMNS}"
    ))
    .bind::<Uuid, _>(tenant)
    .bind::<Uuid, _>(id)
    .bind::<Text, _>(&draft.name)
    .bind::<Text, _>(&draft.cron)
    .bind::<Text, _>(&draft.time_zone)
    .bind::<Bool, _>(draft.enabled)
    .bind::<SmallInt, _>(draft.missed)
    .bind::<Text, _>(&draft.task)
    .bind::<Nullable<Timestamptz>, _>(draft.timetable.after(now).filter(|_| draft.enabled))
    .bind::<Timestamptz, _>(now)
    .get_result(conn)
    .optional()?
    .ok_or(Error::NotFound { what: "schedule" })
}

/// A schedule of a tenant, locked until the transaction ends.
///
/// # Errors
/// When there is none, or the database is away.
pub fn lock(conn: &mut PgConnection, tenant: TenantId, id: ScheduleId) -> Result<ScheduleRow> {
    prepared(format!("SELECT {COLUMNS} FROM schedules WHERE tenant_id = $1 AND id = $2 FOR UPDATE"))
        .bind::<Uuid, _>(tenant)
        .bind::<Uuid, _>(id)
        .get_result(conn)
        .optional()?
        .ok_or(Error::NotFound { what: "schedule" })
}

/// A schedule of a tenant.
///
/// # Errors
/// When there is none, or the database is away.
pub fn find(conn: &mut PgConnection, tenant: TenantId, id: ScheduleId) -> Result<ScheduleRow> {
    prepared(format!("SELECT {COLUMNS} FROM schedules WHERE tenant_id = $1 AND id = $2"))
        .bind::<Uuid, _>(tenant)
        .bind::<Uuid, _>(id)
        .get_result(conn)
        .optional()?
        .ok_or(Error::NotFound { what: "schedule" })
}

/// The schedules of a tenant, newest first.
///
/// # Errors
/// When the database is away.
pub fn list(conn: &mut PgConnection, tenant: TenantId) -> Result<Vec<ScheduleRow>> {
    Ok(prepared(format!(
        "SELECT {COLUMNS} FROM schedules WHERE tenant_id = $1 ORDER BY id DESC LIMIT {MAX_SCHEDULES}"
    ))
    .bind::<Uuid, _>(tenant)
    .load(conn)?)
}

/// Removes a schedule and its history; the tasks that it made stay.
///
/// # Errors
/// When the database is away.
pub fn delete(conn: &mut PgConnection, tenant: TenantId, id: ScheduleId) -> Result<Option<ScheduleRow>> {
    Ok(prepared(format!("DELETE FROM schedules WHERE tenant_id = $1 AND id = $2 RETURNING {COLUMNS}"))
        .bind::<Uuid, _>(tenant)
        .bind::<Uuid, _>(id)
        .get_result(conn)
        .optional()?)
}

/// The ticks of a schedule, the latest first; those before an instant, if one is given.
///
/// # Errors
/// When there is no such schedule, or the database is away.
pub fn history(
    conn: &mut PgConnection,
    (tenant, id): (TenantId, ScheduleId),
    limit: i64,
) -> Result<Vec<Tick>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Timestamptz)]
        tick: DateTime<Utc>,
        #[diesel(sql_type = SmallInt)]
        outcome: i16,
        #[diesel(sql_type = Nullable<Uuid>)]
        task_id: Option<TaskId>,
        #[diesel(sql_type = Nullable<Text>)]
        reason: Option<String>,
        #[diesel(sql_type = Timestamptz)]
        fired_at: DateTime<Utc>,
    }
    find(conn, tenant, id)?;
    let rows: Vec<Row> = prepared(
        "SELECT tick, outcome, task_id, reason, fired_at FROM schedule_ticks WHERE schedule_id = $1 \
         ORDER BY tick DESC LIMIT $2",
    )
    .bind::<Uuid, _>(id)
    .bind::<BigInt, _>(limit)
    .load(conn)?;
    Ok(rows
        .into_iter()
        .map(|row| Tick {
            tick: row.tick,
            outcome: TickOutcome::of_code(row.outcome),
            task: row.task_id,
            reason: row.reason,
            fired_at: row.fired_at,
        })
        .collect())
}
