//! `POST /v1/automation/worker/claim`, a long poll, and `POST /v1/automation/worker/drain`.

use std::time::Duration;

use actix_web::{HttpResponse, web::Data};
use chrono::{DateTime, Utc};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    credential::{Credential, MAX_MODELS, Work},
    db::Conn,
    event::wire_time,
    id::{CredentialId, TenantId, WorkerId},
    task::{
        AgentType, Ledger, Step,
        claim::{self, ClaimedRun, WorkerWants},
        input::{self, Exchange},
        ledger::{By, Move, Written},
        worker::{self, NewWorker},
    },
};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::seconds_until;
use crate::{
    access::Caller,
    body::{JsonBody, SMALL},
    context::Context,
    handlers::fields::{Fields, invalid},
    problem,
    tasks::{self, Wish},
};

/// Runs that can be taken at a time.
const MAX_CLAIMED: i32 = 10;
/// The longest wait.
const MAX_WAIT_S: i32 = 30;
/// The longest name of a worker, in characters.
const MAX_NAME: usize = 100;
/// The longest version of a worker, in characters.
const MAX_VERSION: usize = 50;
/// What a worker is able to do, besides types and models.
const MAX_CAPABILITIES: usize = 50;
/// The longest name of a model or a capability, in characters.
const MAX_WORD: usize = 200;

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
            checkpoint: held
                .checkpoint
                .map(|checkpoint| Checkpoint { seq: checkpoint.seq, data: raw(Some(checkpoint.data), "null") }),
            inputs: inputs.into_iter().map(answered).collect(),
            created_at: wire_time(held.created_at),
        }
    }
}

/// A worker that asks for work.
#[derive(Clone, Debug)]
struct Applicant {
    worker: NewWorker,
    limit: u32,
    wait: Duration,
}

impl Applicant {
    fn parse(body: &[u8], credential: &Credential) -> Result<Self, ApiError> {
        let fields = Fields::parse(body)?;
        let about = fields.object("worker")?.ok_or_else(|| invalid("worker", "is missing"))?;
        let name = name_of(&about)?.ok_or_else(|| invalid("name", "is missing"))?;
        let version = about.text("version")?.map(str::to_owned);
        if version.as_ref().is_some_and(|version| version.chars().nth(MAX_VERSION).is_some()) {
            return Err(invalid("version", &format!("must have at most {MAX_VERSION} characters")));
        }
        let limit = fields.integer("limit", 1..=MAX_CLAIMED)?.unwrap_or(1);
        let wait = fields.integer("wait_seconds", 0..=MAX_WAIT_S)?.unwrap_or(0);
        Ok(Self {
            worker: NewWorker {
                tenant: credential.tenant,
                credential: credential.id,
                name: name.to_owned(),
                agent_types: types(&about, &credential.work)?,
                models: models(&about, &credential.work)?,
                capabilities: words(&about, "capabilities", MAX_CAPABILITIES)?.unwrap_or_default(),
                version,
            },
            limit: limit.unsigned_abs(),
            wait: Duration::from_secs(wait.unsigned_abs().into()),
        })
    }

    fn wants(&self, worker: WorkerId) -> WorkerWants {
        let NewWorker { tenant, agent_types, models, capabilities, .. } = self.worker.clone();
        WorkerWants { worker, tenant, agent_types, models, capabilities }
    }

    fn wish(&self) -> Wish {
        let NewWorker { tenant, agent_types, models, capabilities, .. } = self.worker.clone();
        Wish { tenant, agent_types, models, capabilities }
    }
}

fn name_of(fields: &Fields) -> Result<Option<&str>, ApiError> {
    let name = fields.text("name")?;
    if name.is_some_and(|name| name.trim().is_empty() || name.chars().nth(MAX_NAME).is_some()) {
        return Err(invalid("name", &format!("must have 1 to {MAX_NAME} characters")));
    }
    Ok(name)
}

/// Words in order, each once.
fn words(fields: &Fields, name: &'static str, most: usize) -> Result<Option<Vec<String>>, ApiError> {
    let Some(texts) = fields.texts(name, most)? else { return Ok(None) };
    if texts.iter().any(|text| text.is_empty() || text.chars().nth(MAX_WORD).is_some()) {
        return Err(invalid(name, &format!("must have entries of 1 to {MAX_WORD} characters")));
    }
    let mut words: Vec<String> = texts.into_iter().map(str::to_owned).collect();
    words.sort_unstable();
    words.dedup();
    Ok(Some(words))
}

/// The types that the worker asks for; without any, all that its token allows.
fn types(about: &Fields, may: &Work) -> Result<Vec<AgentType>, ApiError> {
    let allowed = |agent: AgentType| may.agent_types.as_ref().is_none_or(|types| types.contains(&agent));
    let Some(texts) = about.texts("agent_types", AgentType::ALL.len())? else {
        return Ok(AgentType::ALL.into_iter().filter(|agent| allowed(*agent)).collect());
    };
    let parse = |text: &str| {
        text.parse::<AgentType>().map_err(|error| invalid("agent_types", &format!("has one that is none: it {error}")))
    };
    let mut types = texts.into_iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    types.sort_unstable();
    types.dedup();
    if types.is_empty() {
        return Err(invalid("agent_types", "must name at least one"));
    }
    match types.iter().find(|agent| !allowed(**agent)) {
        None => Ok(types),
        Some(agent) => Err(not_allowed("agent_types", &format!("tasks of the type `{agent}`"))),
    }
}

/// The models that the worker asks for; without any, all that its token allows.
fn models(about: &Fields, may: &Work) -> Result<Option<Vec<String>>, ApiError> {
    let Some(models) = words(about, "models", MAX_MODELS)? else { return Ok(may.models.clone()) };
    if models.is_empty() {
        return Err(invalid("models", "must name at least one"));
    }
    let allowed = |model: &String| may.models.as_ref().is_none_or(|models| models.contains(model));
    match models.iter().find(|model| !allowed(model)) {
        None => Ok(Some(models)),
        Some(model) => Err(not_allowed("models", &format!("tasks with the model `{model}`"))),
    }
}

fn not_allowed(field: &'static str, what: &str) -> ApiError {
    let message = format!("this worker token does not allow {what}");
    ApiError::forbidden("WORK_NOT_ALLOWED", message.clone()).field(field).reason(message)
}

/// What an attempt to get work came to.
struct Attempt {
    worker: WorkerId,
    /// It has said meanwhile that it takes nothing new.
    draining: bool,
    tasks: Vec<Task>,
    /// That they have begun.
    written: Option<Written>,
}

/// Takes what there is, and tells that it has begun.
fn take(
    conn: &mut Conn,
    ledger: &Ledger,
    applicant: &Applicant,
    worker: WorkerId,
    now: DateTime<Utc>,
) -> hookyard_domain::Result<Attempt> {
    let runs = claim::claim_for_worker(conn, &ledger.settings, &applicant.wants(worker), applicant.limit, now)?;
    if runs.is_empty() {
        return Ok(Attempt { worker, draining: false, tasks: Vec::new(), written: None });
    }
    let begun = |held: &ClaimedRun| Move { run: held.run, by: By::Holder(held.lease), step: Step::Started };
    let written = ledger.apply(conn, &runs.iter().map(begun).collect::<Vec<_>>(), now)?;
    let mut tasks = Vec::with_capacity(runs.len());
    for held in runs {
        let inputs = input::conversation(conn, held.run)?;
        tasks.push(Task::new(held, inputs, now));
    }
    Ok(Attempt { worker, draining: false, tasks, written: Some(written) })
}

/// The first attempt of a request: the worker introduces itself with it.
async fn first(context: &Context, applicant: &Applicant) -> Result<Attempt, ApiError> {
    let (ledger, applicant, now) = (context.ledger.clone(), applicant.clone(), context.clock.now());
    let work = move |conn: &mut Conn| {
        let worker = worker::seen(conn, &applicant.worker, now)?.id;
        take(conn, &ledger, &applicant, worker, now)
    };
    context.db.run(work).await.map_err(problem::of)
}

/// Another one, after a wait.
async fn again(context: &Context, applicant: &Applicant, worker: WorkerId) -> Result<Attempt, ApiError> {
    let (ledger, applicant, now) = (context.ledger.clone(), applicant.clone(), context.clock.now());
    let work = move |conn: &mut Conn| {
        let row = worker::find(conn, applicant.worker.tenant, worker)?;
        if row.is_none_or(|row| row.draining) {
            return Ok(Attempt { worker, draining: true, tasks: Vec::new(), written: None });
        }
        take(conn, &ledger, &applicant, worker, now)
    };
    context.db.run(work).await.map_err(problem::of)
}

/// Take tasks
///
/// The worker says who it is and what it can do, and gets tasks of its tenant: the highest priority first, then the oldest.
/// With `wait_seconds` the answer waits until there is one. A worker that was draining takes work again. Of each task the
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
    let mut attempt = first(&context, &applicant).await?;
    while attempt.tasks.is_empty() && !attempt.draining && !applicant.wait.is_zero() {
        tokio::select! {
            () = context.listeners.closing().cancelled() => break,
            () = tokio::time::sleep_until(until) => break,
            () = place.turn() => {}
        }
        attempt = again(&context, &applicant, attempt.worker).await?;
    }
    if !attempt.tasks.is_empty() {
        place.pass_on();
    }
    if let Some(written) = &attempt.written {
        tasks::follow(&context, written);
    }
    Ok(HttpResponse::Ok().json(Claimed { worker_id: attempt.worker.to_string(), tasks: attempt.tasks }))
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

#[cfg(test)]
mod tests {
    use hookyard_domain::credential::{Kind, Limits, Scopes};

    use super::*;

    fn credential(work: Work) -> Credential {
        Credential {
            id: CredentialId::new(DateTime::UNIX_EPOCH),
            tenant: TenantId::from_uuid(uuid::Uuid::from_u128(1)),
            kind: Kind::Worker,
            name: "fleet".to_owned(),
            scopes: Scopes::default(),
            event_types: None,
            work,
            limits: Limits::default(),
            expires_at: None,
        }
    }

    fn told(body: &str, work: &Work) -> Result<Applicant, (u16, &'static str)> {
        Applicant::parse(body.as_bytes(), &credential(work.clone()))
            .map_err(|error| (error.status().as_u16(), error.code()))
    }

    #[test]
    fn a_worker_gets_what_its_token_allows_unless_it_wants_less() {
        let builds = Work { agent_types: Some(vec![AgentType::Build]), models: Some(vec!["m".to_owned()]) };
        let all = told(r#"{"worker":{"name":"w"}}"#, &Work::default()).unwrap();
        assert_eq!((all.worker.agent_types.len(), all.worker.models), (4, None));
        assert_eq!((all.limit, all.wait), (1, Duration::ZERO));
        let some = told(r#"{"worker":{"name":"w"}}"#, &builds).unwrap();
        assert_eq!((some.worker.agent_types, some.worker.models), (vec![AgentType::Build], builds.models.clone()));
        let less = r#"{"worker":{"name":"w","agent_types":["plan","build","plan"],"models":["b","a"]}}"#;
        let less = told(less, &Work::default()).unwrap();
        assert_eq!(less.worker.agent_types, [AgentType::Plan, AgentType::Build]);
        assert_eq!(less.worker.models, Some(vec!["a".to_owned(), "b".to_owned()]));
        for more in [r#""agent_types":["build","plan"]"#, r#""models":["m","n"]"#] {
            let body = format!(r#"{{"worker":{{"name":"w",{more}}}}}"#);
            assert_eq!(told(&body, &builds).err(), Some((403, "WORK_NOT_ALLOWED")), "{more}");
        }
    }

    #[test]
    fn every_bound_is_kept() {
        let name = |chars: usize| format!(r#"{{"worker":{{"name":"{}"}}}}"#, "é".repeat(chars));
        let with = |more: &str| format!(r#"{{"worker":{{"name":"w"}},{more}}}"#);
        let about = |more: &str| format!(r#"{{"worker":{{"name":"w",{more}}}}}"#);
        let list = |count: usize| (0..count).map(|n| format!("\"c{n}\"")).collect::<Vec<_>>().join(",");
        let capabilities = |count| about(&format!(r#""capabilities":[{}]"#, list(count)));
        let models = |count| about(&format!(r#""models":[{}]"#, list(count)));
        let version = |chars: usize| about(&format!(r#""version":"{}""#, "1".repeat(chars)));
        let word = |chars: usize| about(&format!(r#""capabilities":["{}"]"#, "c".repeat(chars)));
        for good in [name(1), name(100), with(r#""limit":1"#), with(r#""limit":10"#), with(r#""wait_seconds":0"#),
            with(r#""wait_seconds":30"#), capabilities(50), models(20), version(50), word(200)]
        {
            assert!(told(&good, &Work::default()).is_ok(), "{good}");
        }
        for bad in [name(0), name(101), with(r#""limit":0"#), with(r#""limit":11"#), with(r#""wait_seconds":-1"#),
            with(r#""wait_seconds":31"#), capabilities(51), models(21), models(0), version(51), word(201), word(0),
            about(r#""agent_types":[]"#), about(r#""agent_types":["cook"]"#), "{}".to_owned(),
            r#"{"worker":"w"}"#.to_owned(), r#"{"worker":{}}"#.to_owned()]
        {
            assert_eq!(told(&bad, &Work::default()).err(), Some((422, "INVALID_FIELD")), "{bad}");
        }
    }
}
