//! `/v1/automation/stats`: figures for people: what stands where, how long it waits, what ended.

use actix_web::{HttpResponse, web::Data};
use chrono::TimeDelta;
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    db::Conn,
    event::wire_time,
    task::{
        RunState,
        list::{self, Hour, StateCount},
    },
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    access::Caller,
    context::Context,
    paging::{Query, invalid_parameter},
    problem,
};

/// Hours that are looked back at most: a week.
const MAX_HOURS: i64 = 168;

/// Tasks in a state.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TaskCount)]
pub(crate) struct Count {
    /// The state.
    #[schema(example = "queued")]
    status: &'static str,
    /// How many.
    #[schema(example = 12)]
    tasks: i64,
    /// For how long the first of them has been waiting, in seconds; of tasks that have not ended.
    #[schema(example = 3.2)]
    oldest_seconds: Option<f64>,
}

/// What ended within an hour.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TaskHour)]
pub(crate) struct HourView {
    /// Its beginning.
    #[schema(example = "2025-01-19T10:00:00.000Z", format = DateTime)]
    hour: String,
    /// Runs that were completed.
    #[schema(example = 40)]
    completed: i64,
    /// Runs that failed.
    #[schema(example = 1)]
    failed: i64,
    /// Runs that were cancelled.
    #[schema(example = 0)]
    cancelled: i64,
    /// How long they had waited for somebody to take them, in milliseconds, on average.
    #[schema(example = 35)]
    average_wait_ms: Option<i64>,
}

/// Figures.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TaskStats)]
pub(crate) struct View {
    /// Tasks by state, all six of them.
    statuses: Vec<Count>,
    /// What ended, hour by hour; hours in which nothing ended are left out.
    hours: Vec<HourView>,
}

/// Show figures
///
/// How many tasks are in which state, how long they wait, and what ended in the last hours.
#[utoipa::path(
    get,
    path = "/v1/automation/stats",
    operation_id = "show_task_stats",
    tag = "Automation",
    params(("hours" = Option<i64>, Query, minimum = 1, maximum = 168, description = "How many hours are looked back, 1 to 168; 24 by default.")),
    responses((status = 200, description = "Figures.", body = View))
)]
pub(crate) async fn show(
    context: Data<Context>,
    caller: Caller,
    mut query: Query,
) -> Result<HttpResponse, ApiError> {
    let hours = query.value::<i64>("hours", "a whole number from 1 to 168")?.unwrap_or(24);
    query.finish()?;
    if !(1..=MAX_HOURS).contains(&hours) {
        return Err(invalid_parameter("hours", format!("must be a whole number from 1 to {MAX_HOURS}")));
    }
    let (tenant, now) = (caller.tenant(), context.clock.now());
    let since = now - TimeDelta::hours(hours);
    let read = move |conn: &mut Conn| Ok((list::counts(conn, tenant)?, list::hours(conn, tenant, since)?));
    let (counts, ended): (Vec<StateCount>, Vec<Hour>) = context.db.run(read).await.map_err(problem::of)?;
    let statuses = RunState::ALL
        .into_iter()
        .map(|state| {
            let found = counts.iter().find(|count| count.state == state);
            let oldest = found.and_then(|count| count.oldest);
            Count {
                status: state.as_str(),
                tasks: found.map_or(0, |count| count.tasks),
                oldest_seconds: oldest.map(|oldest| (now - oldest).num_milliseconds().max(0) as f64 / 1e3),
            }
        })
        .collect();
    let hours = ended
        .into_iter()
        .map(|hour| HourView {
            hour: wire_time(hour.hour),
            completed: hour.completed,
            failed: hour.failed,
            cancelled: hour.cancelled,
            average_wait_ms: hour.wait_ms,
        })
        .collect();
    Ok(HttpResponse::Ok().json(View { statuses, hours }))
}
