//! `/v2/action-runs`: asking for runs, reading them, and sending a callback again.

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web::Data};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    Error,
    action_run::{
        RunState,
        action::Scene,
        store::{self, NewRun},
    },
    audit::Action,
    db::Conn,
    delivery::{Profile, inspect, replay},
    id::{ActionRunId, DeliveryId},
    subscription::endpoint,
    trace::TraceContext,
    wire::{Json, to_canonical},
};
use serde_json::json;
use url::Url;

use super::{
    asked::Asked,
    run_view::{Created, Links, Listed, Meta, Shown, View, delivery_of},
};
use crate::{
    access::{
        Caller,
        idempotent::{self, Reply, idempotent},
    },
    body::{JsonBody, SMALL},
    context::Context,
    handlers::{audited, event_payload},
    intake::AskedRun,
    paging::{DEFAULT_LIMIT, Id, Query},
    problem,
};

/// The largest body that asks for a run: an event of 1 MiB, and what is around it.
pub(crate) const MAX_RUN_BYTES: usize = (1 << 20) + (16 << 10);
/// Runs on a page at most.
const MAX_LIMIT: i64 = 100;
/// Runs that a list passes over at most.
const MAX_OFFSET: i64 = 1_000_000;

/// Run an action
///
/// Answers at once; the run goes on by itself. What comes of it is told by a signed callback to `callback_url`, and by `GET
/// /v2/action-runs/{id}`. The members may also be within `data`, where the input is called `inputs`.
#[utoipa::path(
    post,
    path = "/v2/action-runs",
    operation_id = "create_action_run",
    tag = "Action runs",
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition of this very request give the same answer, for 48 h; 1 to 255 printable ASCII characters.")),
    request_body(content = crate::openapi::ActionRunRequest, example = json!({"action": "event.emit", "authentication": null, "input": {"event_type": "order.created", "payload": {"id": 7}}, "callback_url": "https://your-app.example.com/zapier/callbacks"})),
    responses((status = 200, description = "Queued.", body = Created)),
    extensions(("x-errors" = json!(["INVALID_BODY", "INVALID_ACTION_RUN", "INVALID_CALLBACK_URL"])))
)]
pub(crate) async fn create(
    context: Data<Context>,
    caller: Caller,
    request: HttpRequest,
    body: JsonBody<MAX_RUN_BYTES>,
) -> Result<Reply, ApiError> {
    make(context, caller, request, body).await
}

/// Run an action, with a slash
///
/// The same as without one.
#[utoipa::path(
    post,
    path = "/v2/action-runs/",
    operation_id = "create_action_run_with_slash",
    tag = "Action runs",
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition of this very request give the same answer, for 48 h; 1 to 255 printable ASCII characters.")),
    request_body(content = crate::openapi::ActionRunRequest, example = json!({"data": {"action": "event.emit", "authentication": null, "inputs": {"event_type": "order.created", "payload": {"id": 7}}, "callback_url": "https://your-app.example.com/zapier/callbacks"}})),
    responses((status = 200, description = "Queued.", body = Created)),
    extensions(("x-errors" = json!(["INVALID_BODY", "INVALID_ACTION_RUN", "INVALID_CALLBACK_URL"])))
)]
pub(crate) async fn create_with_slash(
    context: Data<Context>,
    caller: Caller,
    request: HttpRequest,
    body: JsonBody<MAX_RUN_BYTES>,
) -> Result<Reply, ApiError> {
    make(context, caller, request, body).await
}

async fn make(
    context: Data<Context>,
    caller: Caller,
    request: HttpRequest,
    body: JsonBody<MAX_RUN_BYTES>,
) -> Result<Reply, ApiError> {
    let key = idempotent::key(&request, &caller, &body)?;
    let (text, mut reserved) = body.into_parts();
    let asked = Asked::parse(&text)?;
    let now = context.clock.now();
    let callback =
        asked.callback_url.as_deref().map(|url| callback_url(&context, &asked, url)).transpose()?;
    let rules = context.rules.known(&context.db, caller.tenant()).await.map_err(problem::of)?;
    let scene = Scene {
        models: &context.models,
        urls: &context.webhook_urls,
        mail: context.settings.mail.is_on(),
        rules: rules.as_deref(),
        now,
    };
    asked.action.plan(asked.input.clone(), &scene).map_err(|wrong| asked.wrong_input(&wrong))?;
    let unknown_connection = asked.unknown_connection();
    let run = NewRun {
        id: ActionRunId::new(now),
        tenant: caller.tenant(),
        action: asked.action.key,
        input: String::from_utf8_lossy(&to_canonical(&Json::Object(asked.input))).into_owned(),
        connection: asked.connection,
        endpoint: None,
        created_by: Some(caller.principal.subject()),
        trace: crate::ingest::trace_of(&request).unwrap_or_else(TraceContext::fresh),
    };
    let reply = serde_json::to_vec(&Created::new(run.id.to_string())).map_err(ApiError::internal)?;
    reserved.cover(text.len() + reply.len())?;
    let status = StatusCode::OK;
    let claim = key.map(|key| (key, status.as_u16(), reply.clone()));
    let asked = AskedRun { run, callback, unknown_connection };
    match context.intakes.action_runs.make(asked, claim, reserved).await? {
        None => Ok(Reply::bytes(status, reply)),
        Some(earlier) => Reply::again(earlier),
    }
}

/// https, on a public address, of at most 2048 characters (contract §6). Where a name leads is asked at each try.
fn callback_url(context: &Context, asked: &Asked, text: &str) -> Result<Url, ApiError> {
    let url = context.webhook_urls.check(text).map_err(|reason| asked.wrong_callback(&reason))?.url;
    match context.egress.check(&url) {
        Ok(()) => Ok(url),
        Err(_refusal) => Err(asked.wrong_callback("must be on a public address")),
    }
}

/// Show a run
///
/// Where it stands, what came of it, and what became of its callback.
#[utoipa::path(
    get,
    path = "/v2/action-runs/{id}",
    operation_id = "show_action_run",
    tag = "Action runs",
    params(("id" = String, Path, description = "The run's id.", example = "arun_01hzy3v9k2s8d4f6g8h0j2k4m6")),
    responses((status = 200, description = "The run.", body = Shown))
)]
pub(crate) async fn show(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<ActionRunId>,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    found(&context, &caller, id, query).await
}

/// Show a run, with a slash
///
/// The same as without one.
#[utoipa::path(
    get,
    path = "/v2/action-runs/{id}/",
    operation_id = "show_action_run_with_slash",
    tag = "Action runs",
    params(("id" = String, Path, description = "The run's id.", example = "arun_01hzy3v9k2s8d4f6g8h0j2k4m6")),
    responses((status = 200, description = "The run.", body = Shown))
)]
pub(crate) async fn show_with_slash(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<ActionRunId>,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    found(&context, &caller, id, query).await
}

async fn found(
    context: &Context,
    caller: &Caller,
    id: ActionRunId,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    query.finish()?;
    let tenant = caller.tenant();
    let read = move |conn: &mut Conn| {
        let row = store::find(conn, tenant, id)?.ok_or(Error::NotFound { what: "action run" })?;
        let delivery = match delivery_of(&row) {
            Some(id) => inspect::find(conn, tenant, id)?,
            None => None,
        };
        Ok(View::shown(row, delivery))
    };
    let data = context.db.once(read).await.map_err(problem::of)?;
    Ok(HttpResponse::Ok().json(Shown { data }))
}

/// List runs
///
/// Newest first.
#[utoipa::path(
    get,
    path = "/v2/action-runs",
    operation_id = "list_action_runs",
    tag = "Action runs",
    params(
        ("status" = Option<String>, Query, description = "Only runs in this state: `queued`, `running`, `success` or `error`."),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 100, description = "Runs on a page, 1 to 100; 50 by default."),
        ("offset" = Option<i64>, Query, minimum = 0, maximum = 1000000, description = "Runs that are passed over, 0 to 1,000,000; 0 by default.")
    ),
    responses((status = 200, description = "A page of runs.", body = Listed))
)]
pub(crate) async fn list(
    context: Data<Context>,
    caller: Caller,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    page(&context, &caller, query).await
}

/// List runs, with a slash
///
/// The same as without one.
#[utoipa::path(
    get,
    path = "/v2/action-runs/",
    operation_id = "list_action_runs_with_slash",
    tag = "Action runs",
    params(
        ("status" = Option<String>, Query, description = "Only runs in this state: `queued`, `running`, `success` or `error`."),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 100, description = "Runs on a page, 1 to 100; 50 by default."),
        ("offset" = Option<i64>, Query, minimum = 0, maximum = 1000000, description = "Runs that are passed over, 0 to 1,000,000; 0 by default.")
    ),
    responses((status = 200, description = "A page of runs.", body = Listed))
)]
pub(crate) async fn list_with_slash(
    context: Data<Context>,
    caller: Caller,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    page(&context, &caller, query).await
}

async fn page(context: &Context, caller: &Caller, mut query: Query) -> Result<HttpResponse, ApiError> {
    let state = query.value::<RunState>("status", "queued, running, success or error")?;
    let limit = query.number("limit", (1, MAX_LIMIT))?.unwrap_or(DEFAULT_LIMIT);
    let offset = query.number("offset", (0, MAX_OFFSET))?.unwrap_or(0);
    query.finish()?;
    let tenant = caller.tenant();
    let (rows, count) = context
        .db
        .run(move |conn| store::list(conn, tenant, state, limit, offset))
        .await
        .map_err(problem::of)?;
    let link = |offset: i64| {
        let status = state.map(|state| format!("&status={}", state.as_str())).unwrap_or_default();
        context.link(&format!("/v2/action-runs?limit={limit}&offset={offset}{status}"))
    };
    let links = Links {
        next: (offset + limit < count).then(|| link(offset + limit)),
        prev: (offset > 0).then(|| link((offset - limit).max(0))),
    };
    let data = rows.into_iter().map(View::listed).collect();
    Ok(HttpResponse::Ok().json(Listed { data, links, meta: Meta { count, limit, offset } }))
}

/// Send the callback of a run again
///
/// Whatever became of it, it has all its tries before it again. Only one that is still under way is left alone.
#[utoipa::path(
    post,
    path = "/v2/action-runs/{id}/callback",
    operation_id = "retry_action_run_callback",
    tag = "Action runs",
    params(
        ("id" = String, Path, description = "The run's id.", example = "arun_01hzy3v9k2s8d4f6g8h0j2k4m6"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition of this very request give the same answer, for 48 h; 1 to 255 printable ASCII characters.")
    ),
    responses((status = 202, description = "On its way.", body = Shown)),
    extensions(("x-errors" = json!(["DELIVERY_PENDING", "PAYLOAD_PURGED", "CONFLICT"])))
)]
pub(crate) async fn send_again(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<ActionRunId>,
    request: HttpRequest,
    body: JsonBody<SMALL>,
) -> Result<Reply, ApiError> {
    let (tenant, now) = (caller.tenant(), context.clock.now());
    let key = idempotent::key(&request, &caller, &body)?;
    idempotent(&context, key, move |conn| {
        let mut row = store::find(conn, tenant, id)?.ok_or(Error::NotFound { what: "action run" })?;
        let reason = |reason: &str| Error::Conflict { reason: reason.to_owned() };
        let delivery =
            delivery_of(&row).ok_or_else(|| reason("the run has no callback, or has not ended"))?;
        // One that nobody has named for a day was removed, and is brought back; or another run has named the same URL since.
        let endpoint = endpoint::again(conn, tenant, delivery.subscription, now)?
            .ok_or_else(|| reason("the endpoint of this callback is gone; read the run instead"))?;
        let delivery = DeliveryId { subscription: endpoint, ..delivery };
        if row.endpoint_id != Some(endpoint) {
            store::move_callback(conn, tenant, id, endpoint)?;
            row.endpoint_id = Some(endpoint);
        }
        event_payload::sendable(conn, tenant, delivery.event)?;
        let profile = Profile::Callback;
        if replay::schedule(conn, tenant, delivery.subscription, profile, &[(delivery.event, None)], now)?
            .is_empty()
        {
            return Err(ApiError::conflict("DELIVERY_PENDING", "the callback is still under way").into());
        }
        let entry = audited::of_delivery(&caller, Action::DeliveryRetried, delivery)
            .after(json!({"run": id.to_string(), "state": "pending"}));
        audited::record(conn, &caller, &entry, now)?;
        let again = inspect::find(conn, tenant, delivery)?;
        Ok(Reply::json(StatusCode::ACCEPTED, &Shown { data: View::shown(row, again) })?)
    })
    .await
}
