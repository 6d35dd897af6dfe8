//! Doing action runs: taking those that are due, carrying out their plans, and writing down how they end.
//!
//! A run that only writes is written with its end. A request is noted before it is sent; a task is made and waited for without
//! holding anything. A runner may be killed at any point: the lease ends, and another goes on with what the row says.

mod connection;
mod request;
mod writer;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use hookyard_domain::{
    Result,
    action_run::{
        Effect, End, Failure, FailureCode,
        action::{Action, HttpPlan, Plan, Scene},
        claim::{self, Wants},
        store::{self, Awaiting, HeldRun},
    },
    catalogue::rules::Rules,
    event::wire_time,
    id::TenantId,
    task::{self, RunState, list::TaskRow, webhook::WebhookUrls},
    wire::{Json, Object},
};
use hookyard_egress::Egress;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) use self::writer::{Ends, channel};
use crate::context::Context;

/// Runs taken at once.
const AT_ONCE: usize = 64;
/// The least time between the beginnings of two claims, after one that found something. Everything behind a claim goes by
/// groups, too, so that this makes all of it cheaper by more than it takes.
const PACE: Duration = Duration::from_millis(10);
/// A run is held for so long at least after its request has had all its time.
const AFTER_A_REQUEST: TimeDelta = TimeDelta::seconds(15);
/// A run that was taken so often and never ended does harm to whoever takes it.
const MAX_ATTEMPTS: i16 = 5;
/// Looks at a task that a run waits for: soon at first, then seldom.
const LOOK_SOON: TimeDelta = TimeDelta::milliseconds(250);
const LOOK_SELDOM: TimeDelta = TimeDelta::seconds(2);

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
    /// Runs under way, by tenant.
    pub(crate) busy: Busy,
}

/// How many runs of each tenant are under way: no tenant has all the slots.
#[derive(Clone, Debug, Default)]
pub(crate) struct Busy(Arc<Mutex<HashMap<TenantId, i64>>>);

impl Busy {
    fn now(&self) -> HashMap<TenantId, i64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn begin(&self, tenant: TenantId) -> UnderWay {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(tenant).or_default() += 1;
        UnderWay { busy: self.clone(), tenant }
    }
}

/// A run that is counted until this is dropped.
struct UnderWay {
    busy: Busy,
    tenant: TenantId,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut busy = self.busy.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runs) = busy.get_mut(&self.tenant) {
            *runs -= 1;
            if *runs <= 0 {
                busy.remove(&self.tenant);
            }
        }
    }
}

/// Does runs until `stop`, and those under way to their end.
pub(crate) async fn run(actions: Arc<Actions>, stop: CancellationToken) {
    let working = TaskTracker::new();
    let poll = Duration::from_millis(actions.context.settings.poll_interval_ms.min(250));
    let mut poll = tokio::time::interval(poll);
    poll.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            () = actions.context.actions.notified() => {}
            _ = poll.tick() => {}
        }
        while !stop.is_cancelled() {
            let began = Instant::now();
            match actions.take(&working).await {
                Ok(true) => tokio::time::sleep_until(began + PACE).await,
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
    /// Takes what fits into the slots. Whether there may be more: equal shares leave some behind even when there is room.
    async fn take(self: &Arc<Self>, working: &TaskTracker) -> Result<bool> {
        let wanted = self.slots.available_permits().min(AT_ONCE);
        if wanted == 0 {
            return Ok(false);
        }
        let settings = &self.context.settings;
        let wants = Wants {
            runs: i64::try_from(wanted).unwrap_or(1),
            of_tenant: i64::try_from(settings.action_tenant_slots).unwrap_or(i64::MAX),
            busy: self.busy.now(),
        };
        let (now, lease) = (self.context.clock.now(), settings.action_lease());
        let held =
            self.context.engine_db.once(move |conn| claim::claim(conn, &wants, now, now + lease)).await?;
        let any = !held.is_empty();
        for run in held {
            // Only this loop takes permits, so that there are as many as were counted.
            let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else { continue };
            let counted = self.busy.begin(run.tenant_id);
            working.spawn(Arc::clone(self).serve(run, (slot, counted)));
        }
        Ok(any)
    }

    async fn serve(self: Arc<Self>, held: HeldRun, slot: (OwnedSemaphorePermit, UnderWay)) {
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
            // It was good when the run was asked for: what it refers to, such as a model or an event type, is not there any more, or
            // is not what it was.
            Err(wrong) => Ok(failed(FailureCode::Hydration, "Input not available", wrong.to_string())),
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
        let shown = match self.let_in(held, &mut plan).await? {
            Ok(shown) => shown,
            Err(failure) => return Ok(Some(Effect::Outcome(Err(failure)))),
        };
        let now = self.context.clock.now();
        let run = held.clone();
        let request = TimeDelta::from_std(plan.timeout).unwrap_or(TimeDelta::zero()) + AFTER_A_REQUEST;
        let until = now + request.max(self.context.settings.action_lease());
        if !self.context.db.once(move |conn| store::sending(conn, &run, now, until)).await? {
            return Ok(None);
        }
        match request::send(&self.egress, &plan, held.attempt).await {
            request::Next::End(outcome) => {
                let refused = matches!(&outcome, Err(failure) if failure.code == FailureCode::Authentication);
                if let Some(shown) = shown.filter(|_| refused) {
                    // What came of a request must not be lost for this.
                    if let Err(error) = self.keep(held, shown, None).await {
                        tracing::warn!(run.id = %held.id, error = error.chain(), "a refused access token is still kept");
                    }
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
