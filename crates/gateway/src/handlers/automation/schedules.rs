//! `/v1/automation/schedules`: tasks that are made by the clock.

use std::sync::{Arc, OnceLock};

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web::Data};
use chrono::{DateTime, Utc};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    Error,
    audit::{Action, Entry, ObjectKind, ObjectRef},
    db::Conn,
    event::wire_time,
    id::ScheduleId,
    task::schedule::{
        ScheduleDraft,
        store::{self, Firing, ScheduleRow, Tick},
    },
    wire::{Json, Object, parse_as_javascript, parse_stored},
};
use serde::Serialize;
use serde_json::{json, value::RawValue};
use utoipa::ToSchema;

use super::{
    in_language_of, of_draft,
    tasks::{MAX_TASK_BYTES, created},
};
use crate::{
    access::{
        Caller,
        idempotent::{Refusal, Reply, idempotent, key},
    },
    body::{JsonBody, SMALL},
    context::Context,
    handlers::audited,
    paging::{Id, Query},
    problem, tasks,
};

/// A schedule.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Schedule)]
pub(crate) struct View {
    /// Identity.
    #[schema(example = "990e8400-e29b-41d4-a716-446655440004")]
    id: String,
    /// What it is called.
    #[schema(example = "Morning report")]
    name: String,
    /// Minute, hour, day of month, month, day of week.
    #[schema(example = "0 9 * * MON-FRI")]
    cron: String,
    /// The time zone in which that is meant.
    #[schema(example = "Europe/Paris")]
    time_zone: String,
    /// Whether it ticks.
    #[schema(example = true)]
    enabled: bool,
    /// What becomes of ticks that passed while nobody fired: `skip`, `once` (one task for all of them) or `all`.
    #[schema(example = "skip")]
    missed: &'static str,
    /// The body of a request that makes a task.
    #[schema(value_type = Object)]
    task: Box<RawValue>,
    /// The next tick; `null` when it does not tick.
    #[schema(example = "2025-01-20T08:00:00.000Z", format = DateTime)]
    next_at: Option<String>,
    /// When it was made.
    #[schema(example = "2025-01-19T10:30:00.000Z", format = DateTime)]
    created_at: String,
    /// When it was changed last.
    #[schema(example = "2025-01-19T10:30:00.000Z", format = DateTime)]
    updated_at: String,
}

impl From<ScheduleRow> for View {
    fn from(row: ScheduleRow) -> Self {
        Self {
            id: row.id.to_string(),
            name: row.name,
            cron: row.cron,
            time_zone: row.time_zone,
            enabled: row.enabled,
            missed: row.missed.as_str(),
            // It was written as JSON.
            task: RawValue::from_string(row.task).unwrap_or_else(|_| RawValue::NULL.to_owned()),
            next_at: row.next_at.map(wire_time),
            created_at: wire_time(row.created_at),
            updated_at: wire_time(row.updated_at),
        }
    }
}

/// Schedules.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Schedules)]
pub(crate) struct Listed {
    /// All of them, newest first.
    schedules: Vec<View>,
}

/// A tick of a schedule.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ScheduleTick)]
pub(crate) struct TickView {
    /// When it was due.
    #[schema(example = "2025-01-20T08:00:00.000Z", format = DateTime)]
    tick: String,
    /// `fired`, `missed` (and those after it, up to the next that is told), `refused`, or `run_by_hand`.
    #[schema(example = "fired")]
    outcome: &'static str,
    /// The task that was made.
    #[schema(example = "550e8400-e29b-41d4-a716-446655440000")]
    task_id: Option<String>,
    /// Why none was.
    reason: Option<String>,
    /// When it was dealt with.
    #[schema(example = "2025-01-20T08:00:00.310Z", format = DateTime)]
    fired_at: String,
}

impl From<Tick> for TickView {
    fn from(tick: Tick) -> Self {
        Self {
            tick: wire_time(tick.tick),
            outcome: tick.outcome.as_str(),
            task_id: tick.task.map(|task| task.to_string()),
            reason: tick.reason,
            fired_at: wire_time(tick.fired_at),
        }
    }
}

/// What a schedule did.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ScheduleHistory)]
pub(crate) struct History {
    /// Ticks, the latest first.
    ticks: Vec<TickView>,
}

fn entry(caller: &Caller, action: Action, id: ScheduleId) -> Entry {
    Entry::new(caller.tenant(), action, ObjectRef::new(ObjectKind::Schedule, id))
}

/// What is told of a schedule in the audit log; not what its task says, which may be long.
fn told(row: &ScheduleRow) -> serde_json::Value {
    json!({"name": row.name, "cron": row.cron, "time_zone": row.time_zone, "enabled": row.enabled, "missed": row.missed.as_str()})
}

fn task_in_language_of(request: &HttpRequest, schedule: &mut Object) {
    if let Some(mut task) = schedule.remove("task") {
        in_language_of(request, &mut task);
        schedule.insert("task", task);
    }
}

fn draft(context: &Context, json: Json, now: DateTime<Utc>) -> Result<ScheduleDraft, ApiError> {
    ScheduleDraft::parse(json, &context.models, &context.webhook_urls, now).map_err(|error| of_draft(&error))
}

/// List schedules
///
/// Newest first.
#[utoipa::path(
    get,
    path = "/v1/automation/schedules",
    operation_id = "list_schedules",
    tag = "Schedules",
    responses((status = 200, description = "All of them.", body = Listed))
)]
pub(crate) async fn list(
    context: Data<Context>,
    caller: Caller,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    query.finish()?;
    let tenant = caller.tenant();
    let rows = context.db.once(move |conn| store::list(conn, tenant)).await.map_err(problem::of)?;
    Ok(HttpResponse::Ok().json(Listed { schedules: rows.into_iter().map(View::from).collect() }))
}

/// Create a schedule
///
/// `task` is the body of a request that makes a task; it is checked now and each time it is made.
#[utoipa::path(
    post,
    path = "/v1/automation/schedules",
    operation_id = "create_schedule",
    tag = "Schedules",
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition of this very request give the same answer, for 48 h; 1 to 255 printable ASCII characters.")),
    request_body(content = crate::openapi::ScheduleRequest, example = json!({"name": "Morning report", "cron": "0 9 * * MON-FRI", "time_zone": "Europe/Paris", "task": {"title": "Report", "description": "Summarize what happened yesterday."}})),
    responses((status = 201, description = "It ticks.", body = View)),
    extensions(("x-errors" = json!(["INVALID_FIELD", "INVALID_WEBHOOK_URL", "CONFLICT"])))
)]
pub(crate) async fn create(
    context: Data<Context>,
    caller: Caller,
    request: HttpRequest,
    body: JsonBody<MAX_TASK_BYTES>,
) -> Result<Reply, ApiError> {
    let key = key(&request, &caller, &body)?;
    let mut json = parse_as_javascript(&body).map_err(|error| problem::of_json(&error))?;
    if let Some(whole) = json.as_object_mut() {
        task_in_language_of(&request, whole);
    }
    let now = context.clock.now();
    let draft = draft(&context, json, now)?;
    idempotent(&context, key, move |conn| {
        let by = Some(caller.principal.subject());
        let row = store::create(conn, caller.tenant(), &draft, by, now)?;
        let entry = entry(&caller, Action::ScheduleCreated, row.id).after(told(&row));
        audited::record(conn, &caller, &entry, now)?;
        Ok::<_, Refusal>(Reply::json(StatusCode::CREATED, &View::from(row))?)
    })
    .await
}

/// Show a schedule
#[utoipa::path(
    get,
    path = "/v1/automation/schedules/{id}",
    operation_id = "show_schedule",
    tag = "Schedules",
    params(("id" = String, Path, description = "The schedule's id.", example = "990e8400-e29b-41d4-a716-446655440004")),
    responses((status = 200, description = "The schedule.", body = View))
)]
pub(crate) async fn show(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<ScheduleId>,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    query.finish()?;
    let tenant = caller.tenant();
    let row = context.db.once(move |conn| store::find(conn, tenant, id)).await.map_err(problem::of)?;
    Ok(HttpResponse::Ok().json(View::from(row)))
}

/// Change a schedule
///
/// Members that are not given stay as they are. It ticks from now on; ticks that passed while it was not enabled are gone.
#[utoipa::path(
    patch,
    path = "/v1/automation/schedules/{id}",
    operation_id = "change_schedule",
    tag = "Schedules",
    params(("id" = String, Path, description = "The schedule's id.", example = "990e8400-e29b-41d4-a716-446655440004")),
    request_body(content = crate::openapi::SchedulePatch, example = json!({"enabled": false})),
    responses((status = 200, description = "The schedule as it is now.", body = View)),
    extensions(("x-errors" = json!(["INVALID_FIELD", "INVALID_BODY", "INVALID_WEBHOOK_URL"])))
)]
pub(crate) async fn change(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<ScheduleId>,
    request: HttpRequest,
    body: JsonBody<MAX_TASK_BYTES>,
) -> Result<Reply, ApiError> {
    let json = parse_as_javascript(&body).map_err(|error| problem::of_json(&error))?;
    let Json::Object(mut changes) = json else {
        return Err(ApiError::bad_request("INVALID_BODY", "the body has to be a JSON object"));
    };
    task_in_language_of(&request, &mut changes);
    let now = context.clock.now();
    let within = context.clone();
    idempotent(&context, None, move |conn| {
        let key = (caller.tenant(), id);
        let before = store::lock(conn, key.0, key.1)?;
        let mut whole = Object::new();
        whole.insert("name", Json::from(before.name.as_str()));
        whole.insert("cron", Json::from(before.cron.as_str()));
        whole.insert("time_zone", Json::from(before.time_zone.as_str()));
        whole.insert("enabled", Json::from(before.enabled));
        whole.insert("missed", Json::from(before.missed.as_str()));
        whole.insert("task", parse_stored(before.task.as_bytes()).unwrap_or(Json::Null));
        for (name, value) in changes {
            if !value.is_null() {
                whole.insert(name, value);
            }
        }
        let draft = draft(&within, Json::Object(whole), now)?;
        let row = store::update(conn, key, &draft, now)?;
        let entry = entry(&caller, Action::ScheduleUpdated, id).before(told(&before)).after(told(&row));
        audited::record(conn, &caller, &entry, now)?;
        Ok::<_, Refusal>(Reply::json(StatusCode::OK, &View::from(row))?)
    })
    .await
}

/// What whoever deletes a schedule is told.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ScheduleDeleted)]
pub(crate) struct Deleted {
    /// Always `deleted`.
    #[schema(example = "deleted")]
    status: &'static str,
    /// The schedule.
    #[schema(example = "990e8400-e29b-41d4-a716-446655440004")]
    id: String,
}

/// Delete a schedule
///
/// With its history; the tasks that it made stay.
#[utoipa::path(
    delete,
    path = "/v1/automation/schedules/{id}",
    operation_id = "delete_schedule",
    tag = "Schedules",
    params(("id" = String, Path, description = "The schedule's id.", example = "990e8400-e29b-41d4-a716-446655440004")),
    responses((status = 200, description = "It is gone.", body = Deleted))
)]
pub(crate) async fn delete(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<ScheduleId>,
) -> Result<HttpResponse, ApiError> {
    let now = context.clock.now();
    let work = move |conn: &mut Conn| {
        let gone = store::delete(conn, caller.tenant(), id)?.ok_or(Error::NotFound { what: "schedule" })?;
        let entry = entry(&caller, Action::ScheduleDeleted, id).before(told(&gone));
        audited::record(conn, &caller, &entry, now)
    };
    context.db.run(work).await.map_err(problem::of)?;
    Ok(HttpResponse::Ok().json(Deleted { status: "deleted", id: id.to_string() }))
}

/// Run a schedule now
///
/// Makes its task, whenever it ticks and whether it is enabled or not.
#[utoipa::path(
    post,
    path = "/v1/automation/schedules/{id}/run",
    operation_id = "run_schedule",
    tag = "Schedules",
    params(
        ("id" = String, Path, description = "The schedule's id.", example = "990e8400-e29b-41d4-a716-446655440004"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition of this very request give the same answer, for 48 h; 1 to 255 printable ASCII characters.")
    ),
    responses((status = 201, description = "Its task is queued.", body = super::tasks::Created)),
    extensions(("x-errors" = json!(["BUDGET_EXCEEDED", "INVALID_FIELD"])))
)]
pub(crate) async fn run(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<ScheduleId>,
    request: HttpRequest,
    body: JsonBody<SMALL>,
) -> Result<Reply, ApiError> {
    let key = key(&request, &caller, &body)?;
    let now = context.clock.now();
    let firing = Firing {
        settings: context.settings.tasks.clone(),
        models: context.models.clone(),
        urls: context.webhook_urls.clone(),
        vault: context.vault.clone(),
    };
    let queued = Arc::new(OnceLock::new());
    let told = Arc::clone(&queued);
    let reply = idempotent(&context, key, move |conn| {
        let row = store::lock(conn, caller.tenant(), id)?;
        let task = firing.run_now(conn, &row, now)?;
        // Set once: the work is done once.
        let _set = told.set((task.tenant, task.agent_type));
        let entry = entry(&caller, Action::ScheduleRun, id).after(json!({"task_id": task.id.to_string()}));
        audited::record(conn, &caller, &entry, now)?;
        Ok::<_, Refusal>(Reply::json(StatusCode::CREATED, &created(&task))?)
    })
    .await?;
    tasks::queued(&context, &queued.get().copied().into_iter().collect::<Vec<_>>());
    Ok(reply)
}

/// Show what a schedule did
///
/// Its last ticks, the latest first.
#[utoipa::path(
    get,
    path = "/v1/automation/schedules/{id}/history",
    operation_id = "show_schedule_history",
    tag = "Schedules",
    params(
        ("id" = String, Path, description = "The schedule's id.", example = "990e8400-e29b-41d4-a716-446655440004"),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 100, description = "Entries, 1 to 100; 50 by default.")
    ),
    responses((status = 200, description = "The ticks.", body = History))
)]
pub(crate) async fn history(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<ScheduleId>,
    mut query: Query,
) -> Result<HttpResponse, ApiError> {
    let limit = query.limit()?;
    query.finish()?;
    let key = (caller.tenant(), id);
    let ticks = context.db.run(move |conn| store::history(conn, key, limit)).await.map_err(problem::of)?;
    Ok(HttpResponse::Ok().json(History { ticks: ticks.into_iter().map(TickView::from).collect() }))
}
