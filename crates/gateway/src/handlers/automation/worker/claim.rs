//! `POST /v1/automation/worker/claim`, a long poll, and `POST /v1/automation/worker/drain`.

use actix_web::{HttpResponse, web::Data};
use chrono::{DateTime, Utc};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    db::Conn,
    event::wire_time,
    id::{CredentialId, LeaseId, RunId, TenantId, WorkerId},
    task::{
        Ledger, Step,
        claim::{self, ClaimedRun},
        input::{self, Exchange},
        ledger::{By, Move, Written},
        worker,
    },
};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::{sync::oneshot, time::Instant};
use utoipa::ToSchema;

use super::{
    applicant::{Applicant, name_of},
    seconds_until,
};
use crate::{
    access::Caller,
    body::{JsonBody, SMALL},
    context::Context,
    handlers::fields::Fields,
    problem, tasks,
};

/// A question that the run asked before, and its answer.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WorkerExchange)]
pub(crate) struct Asked {
    /// The question.
    #[schema(example = "Which of the two invoices is the right one?")]
    question: String,
    /// The answer: any JSON.
    #[schema(value_type = Option<String>, example = "the second")]
    answer: Option<Box<RawValue>>,
}

/// What an attempt before left.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WorkerCheckpoint)]
pub(crate) struct Checkpoint {
    /// Its place.
    #[schema(example = 3)]
    seq: u64,
    /// What was handed in: any JSON.
    #[schema(value_type = Object, example = json!({"step": 3}))]
    data: Box<RawValue>,
}

/// A task that is the worker's now.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WorkerTask)]
pub(crate) struct Task {
    /// The task.
    #[schema(example = "550e8400-e29b-41d4-a716-446655440000")]
    task_id: String,
    /// The run: what reports are about.
    #[schema(example = "660e8400-e29b-41d4-a716-446655440001")]
    run_id: String,
    /// To be shown with every report.
    #[schema(example = "880e8400-e29b-41d4-a716-446655440003")]
    lease_token: String,
    /// When the run is given to somebody else, unless there is a heartbeat before.
    #[schema(format = DateTime)]
    lease_until: String,
    /// The same in seconds from now.
    #[schema(example = 120.0)]
    lease_seconds: f64,
    /// When this attempt has to be over, in seconds from now.
    #[schema(example = 600.0)]
    timeout_seconds: f64,
    /// When the result is of no use any more.
    #[schema(format = DateTime)]
    deadline_at: Option<String>,
    /// Which attempt it is, from 1.
    #[schema(example = 1)]
    attempt: u16,
    /// Which run of the task it is, from 1.
    #[schema(example = 1)]
    number: u32,
    /// What the task is called.
    #[schema(example = "Build the landing page")]
    title: String,
    /// What is to be done.
    #[schema(example = "A page with a form, in the style of the shop.")]
    description: String,
    /// `general`, `plan`, `build` or `explore`.
    #[schema(example = "build")]
    agent_type: &'static str,
    /// The model that was asked for.
    #[schema(example = "claude-sonnet")]
    model: String,
    /// What that stands for, as `provider:model`.
    #[schema(example = "anthropic:claude-sonnet-4-5")]
    resolved_model: String,
    /// 0 to 100.
    #[schema(example = 0)]
    priority: i16,
    /// What whoever asked put with it.
    #[schema(value_type = Object, example = json!({"shop": "7"}))]
    metadata: Box<RawValue>,
    /// Tokens that the task may use.
    max_tokens: Option<u64>,
    /// US dollars that it may cost.
    max_cost: Option<f64>,
    /// Tokens that earlier attempts used.
    #[schema(example = 0)]
    tokens_used_before: u64,
    /// What an earlier attempt left; the work goes on from there.
    checkpoint: Option<Checkpoint>,
    /// What the run asked before, in order.
    inputs: Vec<Asked>,
    /// When the task was made.
    #[schema(format = DateTime)]
    created_at: String,
}

/// What a worker was given.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WorkerClaim)]
pub(crate) struct Claimed {
    /// The worker: how `GET /v1/automation/workers` calls it.
    #[schema(example = "990e8400-e29b-41d4-a716-446655440004")]
    worker_id: String,
    /// The tasks; none when there was nothing to do all the while.
    tasks: Vec<Task>,
}

fn raw(text: Option<String>, otherwise: &str) -> Box<RawValue> {
    let text = text.unwrap_or_else(|| otherwise.to_owned());
    // What the built-in executor kept may be no JSON: then it is a text.
    RawValue::from_string(text.clone())
        .or_else(|_| serde_json::value::to_raw_value(&text))
        .unwrap_or_else(|_| RawValue::NULL.to_owned())
}

impl Task {
    fn new(held: ClaimedRun, inputs: Vec<Exchange>, now: DateTime<Utc>) -> Self {
        let answered = |asked: Exchange| Asked {
            question: asked.question,
            answer: asked.answer.map(|answer| raw(Some(answer), "null")),
        };
        Self {
            task_id: held.task.to_string(),
            run_id: held.run.to_string(),
            lease_token: held.lease.to_string(),
            lease_until: wire_time(held.lease_until),
            lease_seconds: seconds_until(held.lease_until, now),
            timeout_seconds: seconds_until(held.attempt_deadline, now),
            deadline_at: held.deadline_at.map(wire_time),
            attempt: held.attempt,
            number: held.number,
            title: held.title,
            description: held.description,
            agent_type: held.agent_type.as_str(),
            model: held.model,
            resolved_model: held.resolved,
            priority: held.priority,
            metadata: raw(held.metadata, "{}"),
            max_tokens: held.max_tokens,
            max_cost: held.max_cost_micros.map(|micros| micros as f64 / 1e6),
            tokens_used_before: held.usage_before.tokens(),
            checkpoint: held.checkpoint.map(|checkpoint| Checkpoint {
                seq: checkpoint.seq,
                data: raw(Some(checkpoint.data), "null"),
            }),
            inputs: inputs.into_iter().map(answered).collect(),
            created_at: wire_time(held.created_at),
        }
    }
}

/// What an attempt to get work came to.
struct Attempt {
    worker: WorkerId,
    /// It has said meanwhile that it takes nothing new.
    draining: bool,
    tasks: Vec<Task>,
    begun: Begun,
}

/// Runs that were taken for somebody. When this is dropped before he is told, because his connection has ended, they are given
/// back at once.
struct Begun {
    context: Data<Context>,
    runs: Vec<(RunId, LeaseId)>,
    /// That they have begun.
    written: Option<Written>,
}

impl Begun {
    /// He is told: the runs are his.
    fn told(mut self) {
        self.runs.clear();
        if let Some(written) = self.written.take() {
            tasks::follow(&self.context, &written);
        }
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        // Without a runtime the gateway has stopped, and the leases end by themselves.
        if self.runs.is_empty() || tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let (context, runs) = (self.context.clone(), std::mem::take(&mut self.runs));
        let written = self.written.take();
        self.context.afterwards.spawn(async move {
            if let Some(written) = &written {
                tasks::follow(&context, written);
            }
            let (ledger, now) = (context.ledger.clone(), context.clock.now());
            let release = |(run, lease)| Move { run, by: By::Holder(lease), step: Step::Release };
            let moves: Vec<Move> = runs.into_iter().map(release).collect();
            match context.db.run(move |conn| ledger.apply(conn, &moves, now)).await {
                Ok(written) => tasks::follow(&context, &written),
                Err(error) => {
                    tracing::debug!(error = error.chain(), "runs that nobody heard of wait for their lease");
                }
            }
        });
    }
}

/// What was taken in one transaction.
#[derive(Default)]
struct Taken {
    tasks: Vec<Task>,
    runs: Vec<(RunId, LeaseId)>,
    written: Option<Written>,
}

/// Takes what there is, and tells that it has begun.
fn take(
    conn: &mut Conn,
    ledger: &Ledger,
    applicant: &Applicant,
    worker: WorkerId,
    now: DateTime<Utc>,
) -> hookyard_domain::Result<Taken> {
    let held =
        claim::claim_for_worker(conn, &ledger.settings, &applicant.wants(worker), applicant.limit, now)?;
    if held.is_empty() {
        return Ok(Taken::default());
    }
    let runs: Vec<(RunId, LeaseId)> = held.iter().map(|held| (held.run, held.lease)).collect();
    let begun = |&(run, lease): &(RunId, LeaseId)| Move { run, by: By::Holder(lease), step: Step::Started };
    let written = ledger.apply(conn, &runs.iter().map(begun).collect::<Vec<_>>(), now)?;
    let mut tasks = Vec::with_capacity(held.len());
    for held in held {
        let inputs = input::conversation(conn, held.run)?;
        tasks.push(Task::new(held, inputs, now));
    }
    Ok(Taken { tasks, runs, written: Some(written) })
}

/// An attempt: the first of a request, with which the worker introduces itself, or another one of a worker that has waited.
/// It is made to its end, even when the connection ends meanwhile.
async fn attempt(
    context: &Data<Context>,
    applicant: &Applicant,
    waited: Option<WorkerId>,
) -> Result<Attempt, ApiError> {
    let (answer, answered) = oneshot::channel();
    let (context_within, applicant) = (context.clone(), applicant.clone());
    context.afterwards.spawn(async move {
        let context = context_within;
        let (ledger, now) = (context.ledger.clone(), context.clock.now());
        let work = move |conn: &mut Conn| {
            let worker = match waited {
                None => worker::seen(conn, &applicant.worker, now)?.id,
                Some(worker) => {
                    let row = worker::find(conn, applicant.worker.tenant, worker)?;
                    if row.is_none_or(|row| row.draining) {
                        return Ok((worker, true, Taken::default()));
                    }
                    worker
                }
            };
            Ok((worker, false, take(conn, &ledger, &applicant, worker, now)?))
        };
        let attempt = context.db.run(work).await.map(|(worker, draining, taken)| {
            let Taken { tasks, runs, written } = taken;
            Attempt { worker, draining, tasks, begun: Begun { context: context.clone(), runs, written } }
        });
        // Whoever does not hear it gives it back by dropping it.
        let _unheard = answer.send(attempt);
    });
    let attempt = answered.await.map_err(|_ended| {
        ApiError::unavailable("the gateway is stopping", std::time::Duration::from_secs(1))
    })?;
    attempt.map_err(problem::of)
}

/// Take tasks
///
/// The worker says who it is and what it can do, and gets tasks of its tenant: the highest priority first, then the oldest.
/// With `wait_seconds` the answer waits until there is one; who closes the connection meanwhile gets none. A worker that was draining takes work again. Of each task the
/// owner is told at once that it has started.
#[utoipa::path(
    post,
    path = "/v1/automation/worker/claim",
    operation_id = "claim_tasks",
    tag = "Workers",
    request_body(content = crate::openapi::ClaimRequest, example = json!({"worker": {"name": "build-7", "version": "1.4", "agent_types": ["build"], "capabilities": ["docker"]}, "limit": 1, "wait_seconds": 25})),
    responses((status = 200, description = "The tasks, or none.", body = Claimed)),
    extensions(("x-errors" = json!(["INVALID_FIELD", "INVALID_BODY", "WORK_NOT_ALLOWED"])))
)]
pub(crate) async fn claim(
    context: Data<Context>,
    caller: Caller,
    body: JsonBody<SMALL>,
) -> Result<HttpResponse, ApiError> {
    let applicant = Applicant::parse(&body, caller.worker()?)?;
    let until = Instant::now() + applicant.wait;
    // In line before the first look, so that nothing falls in between.
    let place = context.work.wait(applicant.wish());
    let mut attempt = self::attempt(&context, &applicant, None).await?;
    while attempt.tasks.is_empty() && !attempt.draining && !applicant.wait.is_zero() {
        tokio::select! {
            () = context.listeners.closing().cancelled() => break,
            () = tokio::time::sleep_until(until) => break,
            () = place.turn() => {}
        }
        attempt = self::attempt(&context, &applicant, Some(attempt.worker)).await?;
    }
    if !attempt.tasks.is_empty() {
        place.pass_on();
    }
    let Attempt { worker, tasks, begun, .. } = attempt;
    begun.told();
    Ok(HttpResponse::Ok().json(Claimed { worker_id: worker.to_string(), tasks }))
}

/// What is known of a worker that takes nothing new.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WorkersDraining)]
pub(crate) struct Draining {
    /// The names of the workers that take nothing new.
    #[schema(example = json!(["build-7"]))]
    draining: Vec<String>,
}

/// Take nothing new
///
/// Before a worker stops: its waiting claims are answered with no tasks, what it holds it may finish. The worker of this
/// name, or without a name all workers of the token. The next claim takes work again.
#[utoipa::path(
    post,
    path = "/v1/automation/worker/drain",
    operation_id = "drain_worker",
    tag = "Workers",
    request_body(content = crate::openapi::DrainRequest, example = json!({"name": "build-7"})),
    responses((status = 200, description = "Who takes nothing new.", body = Draining)),
    extensions(("x-errors" = json!(["INVALID_FIELD", "INVALID_BODY"])))
)]
pub(crate) async fn drain(
    context: Data<Context>,
    caller: Caller,
    body: JsonBody<SMALL>,
) -> Result<HttpResponse, ApiError> {
    let fields = Fields::parse(&body)?;
    let name = name_of(&fields)?.map(str::to_owned);
    let credential = caller.worker()?;
    let (tenant, id): (TenantId, CredentialId) = (credential.tenant, credential.id);
    let drained = context.db.run(move |conn| worker::drain(conn, tenant, id, name.as_deref())).await;
    let draining = drained.map_err(problem::of)?;
    context.work.wake(tenant);
    Ok(HttpResponse::Ok().json(Draining { draining }))
}
