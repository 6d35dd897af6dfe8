//! What a worker says while it works: heartbeats, progress, output, checkpoints.

use actix_web::HttpResponse;
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    db::Conn,
    event::wire_time,
    task::{
        Refused, RunState, Step,
        lease::{self, Beat},
        ledger::{By, Move},
        worker,
    },
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    CHUNK, LARGE, ended, not_found, of_refused,
    report::{Report, Taken, Used, canonical, spoken},
    seconds_until,
};
use crate::{body::SMALL, handlers::fields::invalid, problem, tasks};

/// What a heartbeat is told.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WorkerHeartbeat)]
pub(crate) struct Beaten {
    /// When the run is given to somebody else, unless there is a heartbeat before; `null` when it was cancelled.
    #[schema(format = DateTime)]
    lease_until: Option<String>,
    /// The same in seconds from now.
    #[schema(example = 120.0)]
    lease_seconds: f64,
    /// Whether the owner does not want it any more: stop the work; every other report is refused.
    #[schema(example = false)]
    cancel_requested: bool,
}

/// Say that the work goes on
///
/// The lease lasts anew for 120 s (setting `tasks.heartbeat_s`); a heartbeat every third of that is right. `usage` is what was
/// used in this attempt so far: a task that uses more than it may ends with it. When the owner has cancelled the task, the
/// answer says `cancel_requested`.
#[utoipa::path(
    post,
    path = "/v1/automation/worker/runs/{id}/heartbeat",
    operation_id = "report_heartbeat",
    tag = "Workers",
    params(
        ("id" = String, Path, description = "The run.", example = "660e8400-e29b-41d4-a716-446655440001"),
        ("X-Lease-Token" = Option<String>, Header, description = "The lease token, if it is not in the body.")
    ),
    request_body(content = crate::openapi::HeartbeatRequest, example = json!({"lease_token": "880e8400-e29b-41d4-a716-446655440003"})),
    responses((status = 200, description = "How long the run is the worker's.", body = Beaten)),
    extensions(("x-errors" = json!(["STALE_LEASE", "RUN_ENDED", "INVALID_FIELD", "INVALID_BODY"])))
)]
pub(crate) async fn heartbeat(report: Report<SMALL>) -> Result<HttpResponse, ApiError> {
    let used = Used::of(&report.fields)?;
    let Report { context, caller, run, lease, .. } = report;
    let (tenant, now) = (caller.tenant(), context.clock.now());
    let (ledger, models) = (context.ledger.clone(), context.models.clone());
    let work = move |conn: &mut Conn| {
        let Some(reported) = worker::reported(conn, tenant, run, now)? else { return Ok(None) };
        let written = match used {
            Some(used) => {
                let step = Step::Spent { usage: used.usage(&models, &reported.resolved) };
                Some(ledger.apply(conn, &[Move { run, by: By::Holder(lease), step }], now)?)
            }
            None => None,
        };
        let beat = lease::heartbeat(conn, &ledger.settings, &[(run, lease)], now)?.pop();
        Ok(Some((reported.lease == Some(lease), written, beat)))
    };
    let (own, written, beat) = context.db.run(work).await.map_err(problem::of)?.ok_or_else(not_found)?;
    if let Some(written) = &written {
        tasks::follow(&context, written);
    }
    match beat.unwrap_or(Beat::Unknown) {
        Beat::Held { lease_until } => Ok(HttpResponse::Ok().json(Beaten {
            lease_until: Some(wire_time(lease_until)),
            lease_seconds: seconds_until(lease_until, now),
            cancel_requested: false,
        })),
        Beat::Ended { state: RunState::Cancelled } => Ok(HttpResponse::Ok().json(Beaten {
            lease_until: None,
            lease_seconds: 0.0,
            cancel_requested: true,
        })),
        Beat::Ended { state } => Err(ended(state)),
        Beat::Stale => Err(of_refused(if own { &Refused::Expired } else { &Refused::Stale })),
        Beat::Unknown => Err(not_found()),
    }
}

/// Say how far it is
///
/// In percent, which never falls (422), and in words. The owner's webhook hears of it at most every 5 s.
#[utoipa::path(
    post,
    path = "/v1/automation/worker/runs/{id}/progress",
    operation_id = "report_progress",
    tag = "Workers",
    params(
        ("id" = String, Path, description = "The run.", example = "660e8400-e29b-41d4-a716-446655440001"),
        ("X-Lease-Token" = Option<String>, Header, description = "The lease token, if it is not in the body.")
    ),
    request_body(content = crate::openapi::ProgressRequest, example = json!({"lease_token": "880e8400-e29b-41d4-a716-446655440003", "percent": 40, "message": "tests run"})),
    responses((status = 200, description = "Taken.", body = Taken)),
    extensions(("x-errors" = json!(["STALE_LEASE", "RUN_ENDED", "INVALID_FIELD", "INVALID_BODY"])))
)]
pub(crate) async fn progress(report: Report<SMALL>) -> Result<HttpResponse, ApiError> {
    let fields = &report.fields;
    let percent = fields.integer("percent", 0..=100)?.and_then(|percent| u8::try_from(percent).ok());
    let message = spoken(fields, "message")?;
    if percent.is_none() && message.is_none() {
        return Err(invalid("percent", "is missing, and so is message"));
    }
    report.make(move |_| Step::Progress { percent, message }).await
}

/// Hand in a piece of output
///
/// For those who follow the task: `text` of at most 64 KiB, all pieces of a run together of at most 8 MiB (422 beyond).
#[utoipa::path(
    post,
    path = "/v1/automation/worker/runs/{id}/output",
    operation_id = "report_output",
    tag = "Workers",
    params(
        ("id" = String, Path, description = "The run.", example = "660e8400-e29b-41d4-a716-446655440001"),
        ("X-Lease-Token" = Option<String>, Header, description = "The lease token, if it is not in the body.")
    ),
    request_body(content = crate::openapi::OutputRequest, example = json!({"lease_token": "880e8400-e29b-41d4-a716-446655440003", "text": "compiling…\n"})),
    responses((status = 200, description = "Taken.", body = Taken)),
    extensions(("x-errors" = json!(["STALE_LEASE", "RUN_ENDED", "INVALID_FIELD", "INVALID_BODY"])))
)]
pub(crate) async fn output(report: Report<CHUNK>) -> Result<HttpResponse, ApiError> {
    let fields = &report.fields;
    let text = spoken(fields, "text")?.ok_or_else(|| invalid("text", "is missing"))?;
    report.make(move |_| Step::Output { text }).await
}

/// Leave something for the next attempt
///
/// Whoever takes the run after this worker has fallen silent gets the last checkpoint. `seq` rises from checkpoint to
/// checkpoint (422); `data` is any JSON of at most 256 KiB.
#[utoipa::path(
    post,
    path = "/v1/automation/worker/runs/{id}/checkpoint",
    operation_id = "report_checkpoint",
    tag = "Workers",
    params(
        ("id" = String, Path, description = "The run.", example = "660e8400-e29b-41d4-a716-446655440001"),
        ("X-Lease-Token" = Option<String>, Header, description = "The lease token, if it is not in the body.")
    ),
    request_body(content = crate::openapi::CheckpointRequest, example = json!({"lease_token": "880e8400-e29b-41d4-a716-446655440003", "seq": 3, "data": {"step": 3}})),
    responses((status = 200, description = "Kept.", body = Taken)),
    extensions(("x-errors" = json!(["STALE_LEASE", "RUN_ENDED", "INVALID_FIELD", "INVALID_BODY"])))
)]
pub(crate) async fn checkpoint(report: Report<LARGE>) -> Result<HttpResponse, ApiError> {
    let fields = &report.fields;
    let seq = fields.integer("seq", 0..=i32::MAX)?.ok_or_else(|| invalid("seq", "is missing"))?;
    let seq = u64::from(seq.unsigned_abs());
    let data = fields.get("data").map(canonical).ok_or_else(|| invalid("data", "is missing"))?;
    report.make(move |_| Step::Checkpoint { seq, data }).await
}
