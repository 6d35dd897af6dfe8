//! What an owner does to a task: cancelling it, answering its question, trying it again.

use std::sync::{Arc, OnceLock};

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web::Data};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    Error,
    audit::{Action, Entry, ObjectKind, ObjectRef},
    db::Conn,
    id::{InputId, TaskId},
    task::{
        RunState, Step,
        input::{self, Answered},
        ledger::{By, Move, Written},
        list, store,
    },
};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::{of_refused, task_view::View};
use crate::{
    access::{
        Caller,
        idempotent::{Refusal, Reply, idempotent, key},
    },
    body::{JsonBody, SMALL},
    context::Context,
    handlers::{
        audited,
        fields::{Fields, invalid},
    },
    paging::Id,
    problem, tasks,
};

/// An entry about a task of the caller's.
fn of_task(caller: &Caller, action: Action, task: TaskId) -> Entry {
    Entry::new(caller.tenant(), action, ObjectRef::new(ObjectKind::Task, task))
}

/// Cancel a task
///
/// Whatever its run is doing; whoever does it is told with the next report. A task that is cancelled already is left as it is;
/// one that is completed or failed is not cancelled any more (409).
#[utoipa::path(
    delete,
    path = "/v1/automation/tasks/{id}",
    operation_id = "delete_task",
    tag = "Tasks",
    params(("id" = String, Path, description = "The task's id.", example = "550e8400-e29b-41d4-a716-446655440000")),
    responses((status = 200, description = "The task, cancelled.", body = View)),
    extensions(("x-errors" = json!(["CONFLICT"])))
)]
pub(crate) async fn delete(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<TaskId>,
) -> Result<HttpResponse, ApiError> {
    cancelled(&context, caller, id, None).await
}

/// Cancel a task with a reason
///
/// The same as deleting it; `reason`, if given, is told to whoever reads the task.
#[utoipa::path(
    post,
    path = "/v1/automation/tasks/{id}/cancel",
    operation_id = "cancel_task",
    tag = "Tasks",
    params(("id" = String, Path, description = "The task's id.", example = "550e8400-e29b-41d4-a716-446655440000")),
    request_body(content = crate::openapi::CancelRequest, example = json!({"reason": "the customer wrote again"})),
    responses((status = 200, description = "The task, cancelled.", body = View)),
    extensions(("x-errors" = json!(["CONFLICT", "INVALID_FIELD", "INVALID_BODY"])))
)]
pub(crate) async fn cancel(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<TaskId>,
    body: JsonBody<SMALL>,
) -> Result<HttpResponse, ApiError> {
    let fields = Fields::parse(&body)?;
    let reason = fields.text("reason")?.map(str::to_owned);
    if reason.as_ref().is_some_and(|reason| reason.chars().nth(500).is_some()) {
        return Err(invalid("reason", "must have at most 500 characters"));
    }
    cancelled(&context, caller, id, reason).await
}

async fn cancelled(
    context: &Data<Context>,
    caller: Caller,
    id: TaskId,
    reason: Option<String>,
) -> Result<HttpResponse, ApiError> {
    let (tenant, now, ledger) = (caller.tenant(), context.clock.now(), context.ledger.clone());
    let work = move |conn: &mut Conn| {
        let row = list::show(conn, tenant, id)?.ok_or(Error::NotFound { what: "task" })?;
        let step = Step::Cancel { reason: reason.clone() };
        let written = ledger.apply(conn, &[Move { run: row.run_id, by: By::Owner(tenant), step }], now)?;
        let applied = match written.results.first() {
            Some(Ok(applied)) => applied.clone(),
            Some(Err(refused)) => return Err(Error::Conflict { reason: refused.to_string() }),
            None => return Err(Error::NotFound { what: "task" }),
        };
        let row = list::show(conn, tenant, id)?.ok_or(Error::NotFound { what: "task" })?;
        if applied.changed {
            let entry = of_task(&caller, Action::TaskCancelled, id)
                .before(json!({"status": applied.before.as_str()}))
                .after(json!({"status": applied.state.as_str(), "reason": reason}));
            audited::record(conn, &caller, &entry, now)?;
        }
        Ok((row, written))
    };
    let (row, written) = context.db.run(work).await.map_err(problem::of)?;
    tasks::follow(context, &written);
    Ok(HttpResponse::Ok().json(View::new(row, now)))
}

/// What whoever answers is told.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TaskAnswered)]
pub(crate) struct Taken {
    /// The task.
    #[schema(example = "550e8400-e29b-41d4-a716-446655440000")]
    pub(crate) task_id: String,
    /// The run that asked.
    #[schema(example = "660e8400-e29b-41d4-a716-446655440001")]
    pub(crate) run_id: String,
    /// The question.
    #[schema(example = "770e8400-e29b-41d4-a716-446655440002")]
    pub(crate) request_id: String,
    /// Where the run stands now.
    #[schema(example = "queued")]
    pub(crate) status: &'static str,
}

/// Answer the question of a task
///
/// The run goes on with the answer. The same answer once more is answered with 200, another one with 409; when the question is
/// too old or the run has ended, 410.
#[utoipa::path(
    post,
    path = "/v1/automation/tasks/{id}/input",
    operation_id = "answer_task",
    tag = "Tasks",
    params(("id" = String, Path, description = "The task's id.", example = "550e8400-e29b-41d4-a716-446655440000")),
    request_body(content = crate::openapi::AnswerRequest, example = json!({"request_id": "770e8400-e29b-41d4-a716-446655440002", "answer": "the second"})),
    responses((status = 200, description = "Taken, now or before.", body = Taken)),
    extensions(("x-errors" = json!(["CONFLICT", "INPUT_CLOSED", "INVALID_FIELD", "INVALID_BODY"])))
)]
pub(crate) async fn answer(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<TaskId>,
    body: JsonBody<{ 128 << 10 }>,
) -> Result<HttpResponse, ApiError> {
    let fields = Fields::parse(&body)?;
    let request = fields.id::<InputId>("request_id")?.ok_or_else(|| invalid("request_id", "is missing"))?;
    let given = fields.get("answer").cloned().ok_or_else(|| invalid("answer", "is missing"))?;
    let (tenant, now, ledger) = (caller.tenant(), context.clock.now(), context.ledger.clone());
    let work = move |conn: &mut Conn| {
        let row = list::show(conn, tenant, id)?.ok_or(Error::NotFound { what: "task" })?;
        let asked = input::by_link(conn, request)?.filter(|asked| asked.task_id == row.id);
        let asked = asked.ok_or(Error::NotFound { what: "question" })?;
        let by = caller.actor().name;
        let answered = input::answer(conn, &ledger, tenant, request, &given, &by, now)?;
        if matches!(answered, Answered::Taken(_)) {
            let entry = of_task(&caller, Action::TaskAnswered, id)
                .after(json!({"request_id": request.to_string(), "run_id": asked.run_id.to_string()}));
            audited::record(conn, &caller, &entry, now)?;
        }
        Ok((asked, answered))
    };
    let (asked, answered) = context.db.run(work).await.map_err(problem::of)?;
    let status = settle(&context, &answered, asked.state)?;
    Ok(HttpResponse::Ok().json(Taken {
        task_id: id.to_string(),
        run_id: asked.run_id.to_string(),
        request_id: request.to_string(),
        status: status.as_str(),
    }))
}

/// Rings for an answer that was taken, and says where the run stands.
pub(crate) fn settle(
    context: &Data<Context>,
    answered: &Answered,
    before: RunState,
) -> Result<RunState, ApiError> {
    match answered {
        Answered::Taken(written) => {
            tasks::follow(context, written);
            Ok(state_of(written))
        }
        Answered::Repeated => Ok(before),
        Answered::Refused(refused) => Err(of_refused(refused)),
    }
}

fn state_of(written: &Written) -> RunState {
    let applied = written.results.first().and_then(|result| result.as_ref().ok());
    applied.map_or(RunState::Queued, |applied| applied.state)
}

/// What whoever tries a task again is told.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TaskRetried)]
pub(crate) struct RetriedView {
    /// The task.
    #[schema(example = "550e8400-e29b-41d4-a716-446655440000")]
    task_id: String,
    /// The new run.
    #[schema(example = "880e8400-e29b-41d4-a716-446655440003")]
    run_id: String,
    /// Which run of the task it is.
    #[schema(example = 2)]
    run_number: i32,
    /// Always `queued`.
    #[schema(example = "queued")]
    status: &'static str,
}

/// Try a task again
///
/// A new run of a task whose last one has ended, with everything as it was asked for.
#[utoipa::path(
    post,
    path = "/v1/automation/tasks/{id}/retry",
    operation_id = "retry_task",
    tag = "Tasks",
    params(
        ("id" = String, Path, description = "The task's id.", example = "550e8400-e29b-41d4-a716-446655440000"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition of this very request give the same answer, for 48 h; 1 to 255 printable ASCII characters.")
    ),
    responses((status = 201, description = "Queued.", body = RetriedView)),
    extensions(("x-errors" = json!(["CONFLICT", "BUDGET_EXCEEDED"])))
)]
pub(crate) async fn retry(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<TaskId>,
    request: HttpRequest,
    body: JsonBody<SMALL>,
) -> Result<Reply, ApiError> {
    let key = key(&request, &caller, &body)?;
    let (now, settings) = (context.clock.now(), context.settings.tasks.clone());
    let tenant = caller.tenant();
    let queued = Arc::new(OnceLock::new());
    let told = Arc::clone(&queued);
    let reply = idempotent(&context, key, move |conn| {
        let retried = store::retry(conn, &settings, tenant, id, now)?;
        // Set once: the work is done once.
        let _set = told.set((tenant, retried.agent_type));
        let entry =
            of_task(&caller, Action::TaskRetried, id).after(json!({"run_id": retried.run.to_string()}));
        audited::record(conn, &caller, &entry, now)?;
        let view = RetriedView {
            task_id: id.to_string(),
            run_id: retried.run.to_string(),
            run_number: retried.number,
            status: RunState::Queued.as_str(),
        };
        Ok::<_, Refusal>(Reply::json(StatusCode::CREATED, &view)?)
    })
    .await?;
    tasks::queued(&context, &queued.get().copied().into_iter().collect::<Vec<_>>());
    Ok(reply)
}
