//! Doing action runs: taking those that are due, carrying out their plans, and writing down how they end.
//!
//! A run that only writes is written with its end. A request is noted before it is sent; a task is made and waited for without
//! holding anything. A runner may be killed at any point: the lease ends, and another goes on with what the row says.

mod connection;
mod request;
mod writer;

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use hookyard_domain::{
    Result,
    action_run::{
        Effect, End, Failure, FailureCode,
        action::{Action, HttpPlan, Plan, Scene},
        store::{self, Awaiting, HeldRun},
    },
    catalogue::rules::Rules,
    event::wire_time,
    task::{self, RunState, list::TaskRow, webhook::WebhookUrls},
    wire::{Json, Object},
};
use hookyard_egress::Egress;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) use self::writer::{Ends, channel};
use crate::context::Context;

/// Runs taken at once.
const AT_ONCE: usize = 64;
/// How long a run belongs to whoever took it: longer than a request may take.
const LEASE: TimeDelta = TimeDelta::seconds(60);
/// A run that was taken so often and never ended does harm to whoever takes it.
const MAX_ATTEMPTS: i16 = 5;
/// Looks at a task that a run waits for: soon at first, then seldom.
const LOOK_SOON: TimeDelta = TimeDelta::milliseconds(250);
const LOOK_SELDOM: TimeDelta = TimeDelta::seconds(2);
/// How often runs that ended long ago are deleted, how long they are kept, and how many at once.
const FORGET_EVERY: Duration = Duration::from_secs(600);
const KEPT: TimeDelta = TimeDelta::days(30);
const FORGET_AT_ONCE: i64 = 1_000;

/// What doing action runs needs besides the runner's context.
pub(crate) struct Actions {
    pub(crate) context: Arc<Context>,
    pub(crate) egress: Egress,
    pub(crate) urls: WebhookUrls,
    pub(crate) mail: bool,
    /// What is taken of which type of events.
    pub(crate) rules: Rules,
    pub(crate) ends: Ends,
    /// One for each run under way.
    pub(crate) slots: Arc<Semaphore>,
}

/// Does runs until `stop`, and those under way to their end.
pub(crate) async fn run(actions: Arc<Actions>, stop: CancellationToken) {
    let working = TaskTracker::new();
    let poll = Duration::from_millis(actions.context.settings.poll_interval_ms.min(250));
    let mut poll = tokio::time::interval(poll);
    poll.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut forget = tokio::time::interval(FORGET_EVERY);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            () = actions.context.actions.notified() => {}
            _ = poll.tick() => {}
            _ = forget.tick() => actions.forget().await,
        }
        while !stop.is_cancelled() {
            match actions.take(&working).await {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    tracing::warn!(error = error.chain(), "action runs cannot be claimed yet");
                    tokio::time::sleep(Duration::from_millis(500)).await;
                    break;
                }
            }
        }
    }
    working.close();
    working.wait().await;
}

impl Actions {
    /// Takes what fits into the slots. Whether there may be more.
    async fn take(self: &Arc<Self>, working: &TaskTracker) -> Result<bool> {
        let wanted = self.slots.available_permits().min(AT_ONCE);
        if wanted == 0 {
            return Ok(false);
        }
        let (limit, now) = (i64::try_from(wanted).unwrap_or(1), self.context.clock.now());
        let held =
            self.context.engine_db.once(move |conn| store::claim(conn, limit, now, now + LEASE)).await?;
        let full = held.len() == wanted;
        for run in held {
            // Only this loop takes permits, so that there are as many as were counted.
            let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else { continue };
            working.spawn(Arc::clone(self).serve(run, slot));
        }
        Ok(full)
    }

    async fn serve(self: Arc<Self>, held: HeldRun, slot: OwnedSemaphorePermit) {
        match self.work(&held).await {
            Ok(Some(effect)) => {
                self.ends.write(End { run: held.id, lease: held.lease, effect }).await;
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(run.id = %held.id, error = error.chain(), "an action run waits for its lease to end");
            }
        }
        drop(slot);
        self.context.actions.notify_one();
    }

    /// How a run ends; `None` when it goes on later.
    async fn work(&self, held: &HeldRun) -> Result<Option<Effect>> {
        let now = self.context.clock.now();
        if let Some(task) = held.task_id {
            let tenant = held.tenant_id;
            let found = self.context.db.once(move |conn| task::list::show(conn, tenant, task)).await?;
            return match found.map(|row| of_task(&row)) {
                Some(None) => self.put_off(held, next_look(held, now), false).await,
                Some(Some(effect)) => Ok(Some(effect)),
                None => Ok(failed(
                    FailureCode::System,
                    "Task not found",
                    "the task of this run is not there any more",
                )),
            };
        }
        if held.attempt > MAX_ATTEMPTS {
            return Ok(failed(
                FailureCode::System,
                "Attempts spent",
                "this run was begun five times and never ended",
            ));
        }
        let Some(action) = Action::find(&held.action) else {
            return Ok(failed(
                FailureCode::System,
                "Unknown action",
                format!("there is no action `{}` any more", held.action),
            ));
        };
        // What was taken when the run was asked for may have become something that is not.
        let rules = self.rules.known(&self.context.db, held.tenant_id).await?;
        let scene = Scene {
            models: &self.context.models,
            urls: &self.urls,
            mail: self.mail,
            rules: rules.as_deref(),
            now,
        };
        match action.plan_stored(&held.input, &scene) {
            Err(wrong) => Ok(failed(FailureCode::User, "Invalid input", wrong.to_string())),
            Ok(Plan::Emit(draft, warnings)) => Ok(Some(Effect::Emit(draft, warnings))),
            Ok(Plan::Mail(mail)) => Ok(Some(Effect::Mail(mail))),
            Ok(Plan::Task(draft)) => self.begin_task(held, *draft, now).await,
            Ok(Plan::Request(plan)) => self.ask(held, *plan).await,
        }
    }

    async fn begin_task(
        &self,
        held: &HeldRun,
        draft: task::Draft,
        now: DateTime<Utc>,
    ) -> Result<Option<Effect>> {
        let new = draft.accept(held.tenant_id, held.created_by, held.trace(), now);
        let queued = [(held.tenant_id, new.agent_type)];
        let (settings, vault, run) = (self.context.tasks.clone(), self.context.vault.clone(), held.clone());
        let awaiting = self
            .context
            .db
            .run(move |conn| store::await_task(conn, (&settings, &vault), &run, new, now, now + LOOK_SOON))
            .await?;
        match awaiting {
            Awaiting::Task => {
                self.context.bus.ring_tasks(&queued).await;
                Ok(None)
            }
            Awaiting::Refused(reason) => Ok(failed(FailureCode::User, "Budget exceeded", reason)),
            Awaiting::Lost => Ok(None),
        }
    }

    async fn ask(&self, held: &HeldRun, mut plan: HttpPlan) -> Result<Option<Effect>> {
        if held.sent_at.is_some() && !plan.idempotent {
            return Ok(failed(
                FailureCode::Partner,
                "Outcome unknown",
                "the request may have been sent before this run was interrupted, and is not sent twice; say `idempotent` where that does no harm",
            ));
        }
        if let Some(failure) = self.let_in(held, &mut plan).await? {
            return Ok(Some(Effect::Outcome(Err(failure))));
        }
        let now = self.context.clock.now();
        let run = held.clone();
        if !self.context.db.once(move |conn| store::sending(conn, &run, now, now + LEASE)).await? {
            return Ok(None);
        }
        match request::send(&self.egress, &plan, held.attempt).await {
            request::Next::End(outcome) => {
                let refused = matches!(&outcome, Err(failure) if failure.code == FailureCode::Authentication);
                if let Some(connection) = held.connection_id.filter(|_| refused) {
                    self.keep(held, connection, None).await?;
                }
                Ok(Some(Effect::Outcome(outcome)))
            }
            request::Next::Again { wait, unsent } => {
                self.put_off(held, self.context.clock.now() + wait, unsent).await
            }
        }
    }

    async fn put_off(&self, held: &HeldRun, at: DateTime<Utc>, unsent: bool) -> Result<Option<Effect>> {
        let run = held.clone();
        self.context.db.once(move |conn| store::put_off(conn, &run, at, unsent)).await?;
        Ok(None)
    }

    async fn forget(&self) {
        let before = self.context.clock.now() - KEPT;
        let gone =
            self.context.engine_db.once(move |conn| store::forget_ended(conn, before, FORGET_AT_ONCE)).await;
        if let Err(error) = gone {
            tracing::warn!(error = error.chain(), "old action runs cannot be deleted yet");
        }
    }
}

fn failed(code: FailureCode, title: &'static str, detail: impl Into<String>) -> Option<Effect> {
    Some(Effect::Outcome(Err(Failure::new(code, title, detail))))
}

/// Soon while a task is young, seldom when it is not.
fn next_look(held: &HeldRun, now: DateTime<Utc>) -> DateTime<Utc> {
    let waited = now - held.created_at;
    now + (waited / 4).clamp(LOOK_SOON, LOOK_SELDOM)
}

/// What the end of a task means for the run that waits for it; `None` while it has not ended.
fn of_task(row: &TaskRow) -> Option<Effect> {
    let said = || row.error.clone().unwrap_or_else(|| "the task did not say why".to_owned());
    match row.state {
        RunState::Queued | RunState::Running | RunState::NeedsInput => None,
        RunState::Completed => {
            let mut result = Object::new();
            result.insert("task_id", Json::from(row.id.to_string()));
            result.insert("run_id", Json::from(row.run_id.to_string()));
            result.insert("status", Json::from("completed"));
            result.insert("result", Json::from(row.result.clone()));
            result.insert("result_summary", Json::from(row.summary.clone()));
            result.insert("completed_at", Json::from(row.ended_at.map(wire_time)));
            Some(Effect::Outcome(Ok(vec![Json::Object(result)])))
        }
        RunState::Failed => {
            let code = match row.error_code.as_deref() {
                Some("budget_exceeded" | "input_timeout" | "deadline") => FailureCode::User,
                Some(_) | None => FailureCode::Partner,
            };
            failed(code, "Task failed", said())
        }
        RunState::Cancelled => failed(FailureCode::User, "Task cancelled", said()),
    }
}
