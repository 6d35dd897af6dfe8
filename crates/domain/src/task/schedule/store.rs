//! Queries on schedules and their ticks, and firing what is due.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use diesel::{
    OptionalExtension, PgConnection, QueryableByName, RunQueryDsl,
    sql_types::{Array, BigInt, Bool, Nullable, SmallInt, Text, Timestamptz, Uuid},
};

use super::{MAX_SCHEDULES, Missed, ScheduleDraft, Timetable};
use crate::{
    Error, Result,
    db::prepared::prepared,
    id::{ScheduleId, TaskId, TenantId},
    task::{AgentType, Draft, NewTask, Settings, model::Models, store as tasks, webhook::WebhookUrls},
    trace::TraceContext,
    vault::Vault,
    wire::parse_stored,
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

const COLUMNS: &str = "id, tenant_id, name, cron, time_zone, enabled, missed, task, next_at, created_by, created_at, updated_at";

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

/// What firing needs.
#[derive(Clone, Debug)]
pub struct Firing {
    /// How runs are queued.
    pub settings: Settings,
    /// Which models there are.
    pub models: Models,
    /// Which webhooks are acceptable.
    pub urls: WebhookUrls,
    /// Seals secrets of endpoints.
    pub vault: Vault,
}

/// What was fired.
#[derive(Clone, Debug, Default)]
pub struct Fired {
    /// Tasks that were made.
    pub tasks: Vec<TaskId>,
    /// Ticks that were given up or refused.
    pub lost: usize,
    /// Whose runs can be taken: to be rung after the commit.
    pub queued: Vec<(TenantId, AgentType)>,
    /// Whether there may be more to fire right now.
    pub more: bool,
}

/// A tick on its way into the history.
struct NewTick {
    schedule: ScheduleId,
    tick: DateTime<Utc>,
    outcome: TickOutcome,
    task: Option<TaskId>,
    reason: Option<String>,
}

impl Firing {
    /// Fires what is due, of so many schedules at most: makes the tasks and writes the history. What another runner fires is
    /// passed over. Belongs into a transaction.
    ///
    /// # Errors
    /// When the database is away; nothing is fired then.
    pub fn fire_due(&self, conn: &mut PgConnection, now: DateTime<Utc>, limit: u32) -> Result<Fired> {
        let due: Vec<ScheduleRow> = prepared(format!(
            "SELECT {COLUMNS} FROM schedules WHERE next_at <= $1 ORDER BY next_at LIMIT $2 FOR UPDATE SKIP LOCKED"
        ))
        .bind::<Timestamptz, _>(now)
        .bind::<BigInt, _>(i64::from(limit))
        .load(conn)?;
        let mut fired = Fired { more: due.len() >= limit as usize, ..Fired::default() };
        let (mut ticks, mut moved, mut new) = (Vec::new(), Vec::new(), Vec::new());
        for row in &due {
            let Some(first) = row.next_at else { continue };
            let Ok(timetable) = Timetable::parse(&row.cron, &row.time_zone) else {
                // It was read when it was stored: a zone that was given up since.
                moved.push((row.id, None));
                continue;
            };
            let plan = timetable.due(first, row.missed, now);
            fired.more |= plan.next.is_some_and(|next| next <= now);
            moved.push((row.id, plan.next));
            ticks.extend(plan.missed.map(|tick| NewTick {
                schedule: row.id,
                tick,
                outcome: TickOutcome::Missed,
                task: None,
                reason: Some("nobody fired it in time".to_owned()),
            }));
            for tick in plan.fire {
                ticks.push(self.prepare(row, tick, TickOutcome::Fired, &mut new, now));
            }
        }
        let known = known(conn, &ticks)?;
        ticks.retain(|tick| !known.contains(&(tick.schedule, tick.tick)));
        new.retain(|task: &NewTask| ticks.iter().any(|tick| tick.task == Some(task.id)));
        self.store(conn, ticks, &new, &mut fired, now)?;
        let (ids, next): (Vec<ScheduleId>, Vec<Option<DateTime<Utc>>>) = moved.into_iter().unzip();
        if !ids.is_empty() {
            prepared(
                "UPDATE schedules s SET next_at = n.next_at FROM unnest($1, $2) AS n (id, next_at) WHERE s.id = n.id",
            )
            .bind::<Array<Uuid>, _>(ids)
            .bind::<Array<Nullable<Timestamptz>>, _>(next)
            .execute(conn)?;
        }
        Ok(fired)
    }

    /// Makes the task of a schedule now, whenever it ticks. Belongs into a transaction.
    ///
    /// # Errors
    /// When the task cannot be made any more as it was meant, the budget is used up, or the database is away.
    pub fn run_now(&self, conn: &mut PgConnection, row: &ScheduleRow, now: DateTime<Utc>) -> Result<NewTask> {
        let mut new = Vec::new();
        let tick = self.prepare(row, now, TickOutcome::ByHand, &mut new, now);
        let Some(task) = new.first().cloned() else {
            return Err(Error::Invalid { field: "task", reason: tick.reason.unwrap_or_default() });
        };
        let refused = tasks::create(conn, &self.settings, &self.vault, &new, now)?;
        if let Some(reason) = refused.into_iter().next().flatten() {
            return Err(Error::BudgetExceeded { reason });
        }
        insert(conn, &[tick], now)?;
        Ok(task)
    }

    fn prepare(
        &self,
        row: &ScheduleRow,
        tick: DateTime<Utc>,
        outcome: TickOutcome,
        new: &mut Vec<NewTask>,
        now: DateTime<Utc>,
    ) -> NewTick {
        let draft = parse_stored(row.task.as_bytes()).map_err(|error| error.to_string()).and_then(|body| {
            Draft::parse(body, &self.models, &self.urls, now).map_err(|error| error.to_string())
        });
        let (outcome, task, reason) = match draft {
            Ok(draft) => {
                let mut task = draft.accept(row.tenant_id, row.created_by, TraceContext::fresh(), now);
                task.schedule = Some(row.id);
                let id = task.id;
                new.push(task);
                (outcome, Some(id), None)
            }
            Err(reason) => (TickOutcome::Refused, None, Some(reason)),
        };
        NewTick { schedule: row.id, tick, outcome, task, reason }
    }

    fn store(
        &self,
        conn: &mut PgConnection,
        mut ticks: Vec<NewTick>,
        new: &[NewTask],
        fired: &mut Fired,
        now: DateTime<Utc>,
    ) -> Result<()> {
        let refused = tasks::create(conn, &self.settings, &self.vault, new, now)?;
        for (task, refused) in new.iter().zip(refused) {
            let Some(reason) = refused else {
                fired.tasks.push(task.id);
                let queued = (task.tenant, task.agent_type);
                if !fired.queued.contains(&queued) {
                    fired.queued.push(queued);
                }
                continue;
            };
            for tick in ticks.iter_mut().filter(|tick| tick.task == Some(task.id)) {
                (tick.outcome, tick.task) = (TickOutcome::Refused, None);
                tick.reason = Some(reason.clone());
            }
        }
        fired.lost = ticks.iter().filter(|tick| tick.task.is_none()).count();
        insert(conn, &ticks, now)
    }
}

/// Those of the ticks that are in the history already: a clock that was set back makes a schedule tick again.
fn known(conn: &mut PgConnection, ticks: &[NewTick]) -> Result<HashSet<(ScheduleId, DateTime<Utc>)>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Uuid)]
        schedule_id: ScheduleId,
        #[diesel(sql_type = Timestamptz)]
        tick: DateTime<Utc>,
    }
    if ticks.is_empty() {
        return Ok(HashSet::new());
    }
    let rows: Vec<Row> = prepared(
        "SELECT k.s AS schedule_id, k.t AS tick FROM unnest($1, $2) AS k (s, t) \
         JOIN schedule_ticks t ON t.schedule_id = k.s AND t.tick = k.t",
    )
    .bind::<Array<Uuid>, _>(ticks.iter().map(|tick| tick.schedule).collect::<Vec<_>>())
    .bind::<Array<Timestamptz>, _>(ticks.iter().map(|tick| tick.tick).collect::<Vec<_>>())
    .load(conn)?;
    Ok(rows.into_iter().map(|row| (row.schedule_id, row.tick)).collect())
}

/// Writes history. Of a tick that is there already the key makes the transaction fail, and with it the tasks.
fn insert(conn: &mut PgConnection, ticks: &[NewTick], now: DateTime<Utc>) -> Result<()> {
    if ticks.is_empty() {
        return Ok(());
    }
    prepared(
        "INSERT INTO schedule_ticks (schedule_id, tick, outcome, task_id, reason, fired_at) \
         SELECT s, t, o, k, r, $6 FROM unnest($1, $2, $3, $4, $5) AS n (s, t, o, k, r)",
    )
    .bind::<Array<Uuid>, _>(ticks.iter().map(|tick| tick.schedule).collect::<Vec<_>>())
    .bind::<Array<Timestamptz>, _>(ticks.iter().map(|tick| tick.tick).collect::<Vec<_>>())
    .bind::<Array<SmallInt>, _>(ticks.iter().map(|tick| tick.outcome as i16).collect::<Vec<_>>())
    .bind::<Array<Nullable<Uuid>>, _>(ticks.iter().map(|tick| tick.task).collect::<Vec<_>>())
    .bind::<Array<Nullable<Text>>, _>(ticks.iter().map(|tick| tick.reason.as_deref()).collect::<Vec<_>>())
    .bind::<Timestamptz, _>(now)
    .execute(conn)?;
    Ok(())
}
