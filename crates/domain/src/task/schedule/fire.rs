//! Firing what is due: the tasks, the history and the next ticks, in one transaction.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use diesel::{
    PgConnection, QueryableByName, RunQueryDsl,
    sql_types::{Array, BigInt, Nullable, SmallInt, Text, Timestamptz, Uuid},
};

use super::{
    Timetable,
    store::{COLUMNS, ScheduleRow, TickOutcome},
};
use crate::{
    Error, Result,
    db::prepared::prepared,
    id::{ScheduleId, TaskId, TenantId},
    task::{AgentType, Draft, NewTask, Settings, model::Models, store as tasks, webhook::WebhookUrls},
    trace::TraceContext,
    vault::Vault,
    wire::parse_stored,
};

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
