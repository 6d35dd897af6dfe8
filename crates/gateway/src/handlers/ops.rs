//! `/livez`, `/readyz` and `/metrics` on the public port, the same as on the port of `[ops]`.

use actix_web::{
    HttpResponse,
    http::{
        StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE},
    },
    web::Data,
};
use hookyard_chassis::{api_error::ApiError, health::ReadinessStatus, metrics};

use crate::context::Context;

/// `GET /livez`: 200 while the process can answer at all.
#[utoipa::path(
    get,
    path = "/livez",
    operation_id = "show_liveness",
    tag = "Operations",
    summary = "Tell whether the process lives",
    description = "200 while the process can answer at all. It says nothing of what the process needs.",
    responses((status = 200, description = "It lives.", body = Object, example = json!({"status": "alive"})))
)]
pub(crate) async fn livez() -> HttpResponse {
    HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(serde_json::json!({"status": "alive"}))
}

/// `GET /readyz`: 200 when the process can do its work, else 503 with the checks that failed.
#[utoipa::path(
    get,
    path = "/readyz",
    operation_id = "show_readiness",
    tag = "Operations",
    summary = "Tell whether the process can do its work",
    description = "503 while the database or the broker is away, and while the process stops; the checks tell which.",
    responses(
        (status = 200, description = "It can.", body = Object, example = json!({"status": "ready", "checks": [{"name": "database", "ok": true}]})),
        (status = 503, description = "It cannot.", body = Object, example = json!({"status": "not_ready", "checks": [{"name": "database", "ok": false, "reason": "the database is away"}]}))
    )
)]
pub(crate) async fn readyz(context: Data<Context>) -> HttpResponse {
    let readiness = context.health.readiness().await;
    let status = match readiness.status {
        ReadinessStatus::Ready => StatusCode::OK,
        ReadinessStatus::NotReady | ReadinessStatus::Draining => StatusCode::SERVICE_UNAVAILABLE,
    };
    HttpResponse::build(status).insert_header((CACHE_CONTROL, "no-store")).json(readiness)
}

/// `GET /metrics`: the figures of the process as Prometheus reads them.
#[utoipa::path(
    get,
    path = "/metrics",
    operation_id = "show_metrics",
    tag = "Operations",
    summary = "Show the figures of the process",
    description = "In the text format of Prometheus. May be switched off on this port with `http.metrics`.",
    responses((status = 200, description = "The figures.", body = String, content_type = "text/plain"))
)]
pub(crate) async fn metrics(context: Data<Context>) -> Result<HttpResponse, ApiError> {
    let text = context.registry.render().map_err(ApiError::internal)?;
    Ok(HttpResponse::Ok().insert_header((CONTENT_TYPE, metrics::CONTENT_TYPE)).body(text))
}
