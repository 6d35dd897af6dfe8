//! `/v1/automation/tasks`: making tasks and reading them.

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web::Data};
use hookyard_chassis::{api_error::ApiError, request_id::RequestId};
use hookyard_domain::{
    Error,
    event::wire_time,
    id::{TaskId, TenantId},
    task::{
        AgentType, Draft, NewTask, RunState,
        input::{self, InputRow},
        list::{self, TaskQuery, TaskRow},
    },
    trace::TraceContext,
    wire::parse_as_javascript,
};
use serde::Serialize;
use serde_json::{Map, Value, value::RawValue};
use utoipa::ToSchema;

use super::{STATES, in_language_of, of_draft, task_view::View};
use crate::{
    access::{
        Caller,
        idempotent::{self, Reply},
    },
    body::JsonBody,
    context::Context,
    paging::{Id, Query, invalid_parameter},
    problem,
};

/// The largest body that makes a task: a description of 100,000 characters, each escaped, and metadata.
pub(crate) const MAX_TASK_BYTES: usize = 1 << 20;

/// Tasks on a page at most.
const MAX_LIMIT: i64 = 200;
/// Tasks that a list passes over at most.
const MAX_OFFSET: i64 = 1_000_000;

/// What whoever makes a task is told.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TaskCreated)]
pub(crate) struct Created {
    /// The task.
    #[schema(example = "550e8400-e29b-41d4-a716-446655440000")]
    task_id: String,
    /// Its first run.
    #[schema(example = "660e8400-e29b-41d4-a716-446655440001")]
    run_id: String,
    /// Always `queued`.
    #[schema(example = "queued")]
    status: &'static str,
    /// As it was given.
    #[schema(example = "Analyze customer feedback")]
    title: String,
    /// As it was given.
    #[schema(
        example = "Analyze the following customer feedback and summarize key points: great support, slow export."
    )]
    description: String,
    /// When it was made.
    #[schema(example = "2025-01-19T10:30:00.000Z", format = DateTime)]
    created_at: String,
    /// The model, by its name.
    #[schema(example = "claude-sonnet")]
    model: String,
}

/// Create a task
///
/// 201 means that it is stored for good and will be done: by the built-in executor (types general and plan, when no capabilities
/// are asked for) or by one of the tenant's workers. `webhook_url` is told each step; one on `zapier.com/hooks/callback/` only
/// the end. Members that are not known are ignored.
#[utoipa::path(
    post,
    path = "/v1/automation/tasks",
    operation_id = "create_task",
    tag = "Tasks",
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition of this very request give the same answer, for 48 h; 1 to 255 printable ASCII characters.")),
    request_body(content = crate::openapi::TaskRequest, example = json!({"title": "Analyze customer feedback", "description": "Analyze the following customer feedback and summarize key points: great support, slow export.", "agent_type": "general", "model": "claude-sonnet", "webhook_url": "https://hooks.zapier.com/hooks/catch/123/abc/", "priority": 0})),
    responses((status = 201, description = "Queued.", body = Created)),
    extensions(("x-errors" = json!(["INVALID_FIELD", "INVALID_WEBHOOK_URL", "BUDGET_EXCEEDED"])))
)]
pub(crate) async fn create(
    context: Data<Context>,
    caller: Caller,
    request: HttpRequest,
    request_id: RequestId,
    body: JsonBody<MAX_TASK_BYTES>,
) -> Result<Reply, ApiError> {
    let key = idempotent::key(&request, &caller, &body)?;
    let (text, mut reserved) = body.into_parts();
    let mut json = parse_as_javascript(&text).map_err(|error| problem::of_json(&error))?;
    in_language_of(&request, &mut json);
    let now = context.clock.now();
    let draft =
        Draft::parse(json, &context.models, &context.webhook_urls, now).map_err(|error| of_draft(&error))?;
    let trace = crate::ingest::trace_of(&request).unwrap_or_else(TraceContext::fresh);
    let task = draft.accept(caller.tenant(), Some(caller.principal.subject()), trace, now);
    tracing::debug!(task = %task.id, request = %request_id, "a task is made");
    let reply = serde_json::to_vec(&created(&task)).map_err(ApiError::internal)?;
    reserved.cover(text.len() + reply.len())?;
    let status = StatusCode::CREATED;
    let claim = key.map(|key| (key, status.as_u16(), reply.clone()));
    match context.intakes.tasks.make(task, claim, reserved).await? {
        None => Ok(Reply::bytes(status, reply)),
        Some(earlier) => Reply::again(earlier),
    }
}

pub(super) fn created(task: &NewTask) -> Created {
    Created {
        task_id: task.id.to_string(),
        run_id: task.run.to_string(),
        status: RunState::Queued.as_str(),
        title: task.title.clone(),
        description: task.description.clone(),
        created_at: wire_time(task.created_at),
        model: task.model.alias.clone(),
    }
}

/// A page of tasks.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TaskList)]
pub(crate) struct Listed {
    /// The tasks, newest first.
    tasks: Vec<View>,
    /// How many there are in all.
    #[schema(example = 1)]
    total: i64,
    /// As it was asked for.
    #[schema(example = 50)]
    limit: i64,
    /// As it was asked for.
    #[schema(example = 0)]
    offset: i64,
}

/// List tasks
///
/// Newest first.
#[utoipa::path(
    get,
    path = "/v1/automation/tasks",
    operation_id = "list_tasks",
    tag = "Tasks",
    params(
        ("status" = Option<String>, Query, description = "Only tasks whose latest run is in this state: `queued` (`pending`), `running` (`in_progress`, `working`), `needs_input`, `completed` (`done`, `succeeded`), `failed` (`error`) or `cancelled` (`canceled`)."),
        ("agent_type" = Option<String>, Query, description = "Only tasks of this type: `general`, `plan`, `build` or `explore`."),
        ("q" = Option<String>, Query, description = "Only tasks with this in their title, in whatever case; `search` and `title` are the same."),
        ("metadata.<key>" = Option<String>, Query, description = "Only tasks whose metadata have this text under that key, such as `metadata.shop=7`."),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 200, description = "Entries on a page, 1 to 200; 50 by default."),
        ("offset" = Option<i64>, Query, minimum = 0, maximum = 1000000, description = "Entries that are passed over, 0 to 1,000,000; 0 by default.")
    ),
    responses((status = 200, description = "A page of tasks.", body = Listed))
)]
pub(crate) async fn list(
    context: Data<Context>,
    caller: Caller,
    mut query: Query,
) -> Result<HttpResponse, ApiError> {
    let state = query.value::<RunState>("status", STATES)?;
    let agent_type = query.value::<AgentType>("agent_type", "general, plan, build or explore")?;
    let titles = [query.text("q"), query.text("search"), query.text("title")];
    let title = titles.into_iter().flatten().find(|text| !text.is_empty());
    if title.as_ref().is_some_and(|text| text.contains('\0')) {
        return Err(invalid_parameter("q", "must not have the character U+0000"));
    }
    let mut labels = Map::new();
    for (key, value) in query.with_prefix("metadata.") {
        if key.contains('\0') || value.contains('\0') {
            return Err(invalid_parameter("metadata.<key>", "must not have the character U+0000"));
        }
        labels.insert(key, Value::from(value));
    }
    let limit = query.number("limit", (1, MAX_LIMIT))?.unwrap_or(crate::paging::DEFAULT_LIMIT);
    let offset = query.number("offset", (0, MAX_OFFSET))?.unwrap_or(0);
    query.finish()?;
    let labels = (!labels.is_empty()).then_some(Value::Object(labels));
    let asked = TaskQuery { state, agent_type, title, labels, limit, offset };
    let tenant = caller.tenant();
    let (rows, total) =
        context.db.run(move |conn| list::list(conn, tenant, &asked)).await.map_err(problem::of)?;
    let now = context.clock.now();
    let tasks = rows.into_iter().map(|row| View::new(row, now)).collect();
    Ok(HttpResponse::Ok().json(Listed { tasks, total, limit, offset }))
}

/// Show a task
///
/// With its latest run: where it stands, how far it is, what came of it and what it used.
#[utoipa::path(
    get,
    path = "/v1/automation/tasks/{id}",
    operation_id = "show_task",
    tag = "Tasks",
    params(("id" = String, Path, description = "The task's id.", example = "550e8400-e29b-41d4-a716-446655440000")),
    responses((status = 200, description = "The task.", body = View))
)]
pub(crate) async fn show(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<TaskId>,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    query.finish()?;
    let row = found(&context, caller.tenant(), id).await?;
    Ok(HttpResponse::Ok().json(View::new(row, context.clock.now())))
}

/// A task of the tenant.
pub(super) async fn found(context: &Context, tenant: TenantId, id: TaskId) -> Result<TaskRow, ApiError> {
    let found = context.db.once(move |conn| list::show(conn, tenant, id)).await.map_err(problem::of)?;
    found.ok_or_else(|| problem::of(Error::NotFound { what: "task" }))
}

/// A question of a run.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TaskQuestion)]
pub(crate) struct Question {
    /// What an answer names.
    #[schema(example = "770e8400-e29b-41d4-a716-446655440002")]
    request_id: String,
    /// The run that asked.
    #[schema(example = "660e8400-e29b-41d4-a716-446655440001")]
    run_id: String,
    /// The question.
    #[schema(example = "Which of the two invoices is the right one?")]
    question: String,
    /// The answers it may have; `null` = any.
    #[schema(example = json!(["the first", "the second"]))]
    choices: Option<Vec<String>>,
    /// A JSON Schema that the answer has to follow.
    #[schema(value_type = Option<Object>)]
    schema: Option<Box<RawValue>>,
    /// When it was asked.
    #[schema(example = "2025-01-19T10:31:00.000Z", format = DateTime)]
    asked_at: String,
    /// Until when it can be answered.
    #[schema(example = "2025-01-26T10:31:00.000Z", format = DateTime)]
    expires_at: String,
    /// The answer; `null` = none yet.
    #[schema(value_type = serde_json::Value)]
    answer: Option<Box<RawValue>>,
    /// When it was answered.
    #[schema(format = DateTime)]
    answered_at: Option<String>,
    /// By whom, for people.
    answered_by: Option<String>,
}

impl From<InputRow> for Question {
    fn from(row: InputRow) -> Self {
        let raw = |text: Option<String>| text.and_then(|text| RawValue::from_string(text).ok());
        Self {
            request_id: row.id.to_string(),
            run_id: row.run_id.to_string(),
            question: row.question,
            choices: row.choices,
            schema: raw(row.schema),
            asked_at: wire_time(row.asked_at),
            expires_at: wire_time(row.expires_at),
            answer: raw(row.answer),
            answered_at: row.answered_at.map(wire_time),
            answered_by: row.answered_by,
        }
    }
}

/// The runs of a task, and what they asked.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TaskRuns)]
pub(crate) struct Runs {
    /// The runs, the latest first.
    runs: Vec<View>,
    /// The questions, in the order in which they were asked.
    questions: Vec<Question>,
}

/// List the runs of a task
///
/// The latest first; and the questions that they asked, with the answers.
#[utoipa::path(
    get,
    path = "/v1/automation/tasks/{id}/runs",
    operation_id = "list_task_runs",
    tag = "Tasks",
    params(("id" = String, Path, description = "The task's id.", example = "550e8400-e29b-41d4-a716-446655440000")),
    responses((status = 200, description = "The runs.", body = Runs))
)]
pub(crate) async fn runs(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<TaskId>,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    query.finish()?;
    let tenant = caller.tenant();
    let read = move |conn: &mut hookyard_domain::db::Conn| {
        let runs = list::runs(conn, tenant, id)?;
        if runs.is_empty() {
            return Err(Error::NotFound { what: "task" });
        }
        Ok((runs, input::of_task(conn, tenant, id)?))
    };
    let (runs, inputs) = context.db.run(read).await.map_err(problem::of)?;
    let now = context.clock.now();
    Ok(HttpResponse::Ok().json(Runs {
        runs: runs.into_iter().map(|row| View::new(row, now)).collect(),
        questions: inputs.into_iter().map(Question::from).collect(),
    }))
}
