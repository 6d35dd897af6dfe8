//! `GET /v1/automation/workers`: the external workers of the tenant, for its people.

use std::collections::HashMap;

use actix_web::{HttpResponse, web::Data};
use chrono::{DateTime, Utc};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    db::Conn,
    event::wire_time,
    id::WorkerId,
    task::worker::{self, Doing, STALE_AFTER, WorkerRow},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{access::Caller, context::Context, paging::Query, problem};

/// A task that a worker does.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WorkerDoing)]
pub(crate) struct DoingView {
    /// The task.
    #[schema(example = "550e8400-e29b-41d4-a716-446655440000")]
    task_id: String,
    /// The run.
    #[schema(example = "660e8400-e29b-41d4-a716-446655440001")]
    run_id: String,
    /// What the task is called.
    #[schema(example = "Build the landing page")]
    title: String,
    /// Since when.
    #[schema(format = DateTime)]
    since: Option<String>,
}

/// A worker.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Worker)]
pub(crate) struct View {
    /// What it is called here.
    #[schema(example = "990e8400-e29b-41d4-a716-446655440004")]
    id: String,
    /// What it calls itself.
    #[schema(example = "build-7")]
    name: String,
    /// The token that it shows.
    #[schema(example = "key_01hzy3v9k2s8d4f6g8h0j2k4m6")]
    token_id: String,
    /// `busy`, `idle`, `draining` (takes nothing new) or `stale` (not heard of for 120 s).
    #[schema(example = "busy")]
    status: &'static str,
    /// Which program it is.
    #[schema(example = "1.4")]
    version: Option<String>,
    /// The types of tasks that it takes.
    #[schema(example = json!(["build"]))]
    agent_types: Vec<&'static str>,
    /// The models; `null` is any.
    models: Option<Vec<String>>,
    /// What else it is able to do.
    #[schema(example = json!(["docker"]))]
    capabilities: Vec<String>,
    /// What it is doing.
    tasks: Vec<DoingView>,
    /// When it was heard of last, within 10 s.
    #[schema(format = DateTime)]
    last_seen_at: String,
    /// When it was heard of first.
    #[schema(format = DateTime)]
    created_at: String,
}

/// The workers.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Workers)]
pub(crate) struct Listed {
    /// One for each, at most 1,000.
    workers: Vec<View>,
}

impl View {
    fn new(row: WorkerRow, doing: Vec<Doing>, now: DateTime<Utc>) -> Self {
        let status = match (now - row.last_seen_at >= STALE_AFTER, row.draining, doing.is_empty()) {
            (true, _, _) => "stale",
            (false, true, _) => "draining",
            (false, false, true) => "idle",
            (false, false, false) => "busy",
        };
        let told = |doing: Doing| DoingView {
            task_id: doing.task_id.to_string(),
            run_id: doing.run_id.to_string(),
            title: doing.title,
            since: doing.since.map(wire_time),
        };
        Self {
            id: row.id.to_string(),
            name: row.name,
            token_id: row.credential_id.to_string(),
            status,
            version: row.version,
            agent_types: row.agent_types.iter().map(|agent| agent.as_str()).collect(),
            models: row.models,
            capabilities: row.capabilities,
            tasks: doing.into_iter().map(told).collect(),
            last_seen_at: wire_time(row.last_seen_at),
            created_at: wire_time(row.created_at),
        }
    }
}

/// List workers
///
/// External workers with what each is doing, those that were heard of last first.
#[utoipa::path(
    get,
    path = "/v1/automation/workers",
    operation_id = "list_workers",
    tag = "Workers",
    responses((status = 200, description = "The workers.", body = Listed))
)]
pub(crate) async fn list(
    context: Data<Context>,
    caller: Caller,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    query.finish()?;
    let tenant = caller.tenant();
    let work = move |conn: &mut Conn| Ok((worker::list(conn, tenant)?, worker::doing(conn, tenant)?));
    let (rows, doing) = context.db.run(work).await.map_err(problem::of)?;
    let mut by_worker: HashMap<WorkerId, Vec<Doing>> = HashMap::new();
    for run in doing {
        by_worker.entry(run.worker_id).or_default().push(run);
    }
    let now = context.clock.now();
    let view = |row: WorkerRow| {
        let doing = by_worker.remove(&row.id).unwrap_or_default();
        View::new(row, doing, now)
    };
    Ok(HttpResponse::Ok().json(Listed { workers: rows.into_iter().map(view).collect() }))
}
