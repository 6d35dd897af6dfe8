//! What time brings about: runs that waited or took too long, pauses that are over, schedules that are due, and old tasks and
//! action runs that are forgotten. Several runners do this at the same time; each row is moved once.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use hookyard_domain::{
    Result, action_run,
    task::{
        Step, lease,
        ledger::{By, Move},
        schedule::store::Firing,
        store, worker,
    },
};
use tokio_util::sync::CancellationToken;

use crate::context::Context;

/// Runs, and schedules, at once.
const AT_ONCE: u32 = 200;
/// How often old tasks and action runs are looked for.
const FORGET_EVERY: TimeDelta = TimeDelta::minutes(10);
/// Old tasks, and old action runs, forgotten at once.
const FORGET_AT_ONCE: i64 = 500;

/// How long a worker is listed that is not heard of.
const WORKERS_KEPT: TimeDelta = TimeDelta::days(7);

/// Looks at the timers until `stop`.
pub(crate) async fn run(context: Arc<Context>, firing: Firing, stop: CancellationToken) {
    let mut tick = tokio::time::interval(Duration::from_millis(context.settings.timer_interval_ms));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut forgotten: Option<DateTime<Utc>> = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        if let Err(error) = due(&context, &stop).await {
            tracing::warn!(error = error.chain(), "the timers of runs cannot be looked at yet");
        }
        if let Err(error) = fire(&context, &firing, &stop).await {
            tracing::warn!(error = error.chain(), "schedules cannot be fired yet");
        }
        let now = context.clock.now();
        if forgotten.is_none_or(|before| now - before >= FORGET_EVERY) {
            forgotten = Some(now);
            if let Err(error) = forget(&context, &stop).await {
                tracing::warn!(error = error.chain(), "old tasks cannot be forgotten yet");
            }
            if let Err(error) = forget_action_runs(&context, &stop).await {
                tracing::warn!(error = error.chain(), "old action runs cannot be deleted yet");
            }
        }
    }
}

async fn due(context: &Context, stop: &CancellationToken) -> Result<()> {
    while !stop.is_cancelled() {
        let now = context.clock.now();
        let runs = context.db.once(move |conn| lease::overdue(conn, now, AT_ONCE)).await?;
        let full = runs.len() == AT_ONCE as usize;
        if runs.is_empty() {
            return Ok(());
        }
        let moves: Vec<Move> =
            runs.into_iter().map(|run| Move { run, by: By::Clock, step: Step::Tick }).collect();
        let Some(results) = context.reports.write(moves).await else { return Ok(()) };
        let moved = results.iter().flatten().filter(|applied| applied.changed).count();
        context.metrics.timers(moved);
        // Nothing was due after all: another runner was faster, and the look would find the same again.
        if !full || moved == 0 {
            return Ok(());
        }
    }
    Ok(())
}

async fn fire(context: &Context, firing: &Firing, stop: &CancellationToken) -> Result<()> {
    while !stop.is_cancelled() {
        let (firing, now) = (firing.clone(), context.clock.now());
        let fired = context.db.run(move |conn| firing.fire_due(conn, now, AT_ONCE)).await?;
        context.metrics.fired(fired.tasks.len());
        context.bus.ring_tasks(&fired.queued).await;
        if fired.lost > 0 {
            tracing::info!(ticks = fired.lost, "ticks of schedules made no task; their history says why");
        }
        if !fired.more {
            return Ok(());
        }
    }
    Ok(())
}

async fn forget(context: &Context, stop: &CancellationToken) -> Result<()> {
    while !stop.is_cancelled() {
        let (settings, now) = (context.tasks.clone(), context.clock.now());
        let gone =
            context.engine_db.once(move |conn| store::forget(conn, &settings, FORGET_AT_ONCE, now)).await?;
        if gone < usize::try_from(FORGET_AT_ONCE).unwrap_or(usize::MAX) {
            break;
        }
    }
    let seen_before = context.clock.now() - WORKERS_KEPT;
    let gone = context.engine_db.once(move |conn| worker::forget(conn, seen_before)).await?;
    if gone > 0 {
        tracing::info!(workers = gone, "workers that were not heard of for a week are forgotten");
    }
    Ok(())
}

async fn forget_action_runs(context: &Context, stop: &CancellationToken) -> Result<()> {
    let before = context.clock.now() - context.settings.action_retention();
    while !stop.is_cancelled() {
        let gone = context
            .engine_db
            .once(move |conn| action_run::store::forget_ended(conn, before, FORGET_AT_ONCE))
            .await?;
        if gone < usize::try_from(FORGET_AT_ONCE).unwrap_or(usize::MAX) {
            break;
        }
    }
    Ok(())
}
