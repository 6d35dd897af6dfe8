//! `/v1/recoveries`: sending again what did not arrive at an endpoint, as a job that goes at a pace and goes on by itself. The
//! registry works on it (`domain::recovery`).
//!
//! What is asked for is in `wish`; with the enabling of an endpoint, in `enabling`.

mod enabling;
mod view;
mod wish;

use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        StatusCode,
        header::{CONTENT_LANGUAGE, VARY},
    },
    web::Data,
};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    Error,
    audit::Action,
    db::Conn,
    id::{RecoveryId, SubscriptionId},
    recovery::{
        RecoveryState, Which,
        store::{self, RecoveryQuery},
    },
};
use utoipa::ToSchema;

pub(super) use enabling::{EnableRequest, Enabled, EnabledConsumer, EnabledHook, with_enabling};
pub(super) use view::View;

use self::wish::{DryRun, Wish};
use super::{
    audited,
    endpoints::{self, SUBSCRIBERS},
    fields::Fields,
};
use crate::{
    access::{
        Caller,
        idempotent::{Reply, idempotent, key},
        visitor::accepted_locale,
    },
    body::{JsonBody, SMALL},
    context::Context,
    paging::{Id, Page, Query},
    problem,
};

/// What is to be recovered.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct RecoveryRequest {
    /// To which hook, consumer or inbox.
    #[schema(example = "hook_01hzy3v9k2s8d4f6g8h0j2k4m6")]
    endpoint_id: String,
    #[serde(flatten)]
    selection: RecoverySelection,
    /// Only count, and show some of them; nothing is stored.
    dry_run: Option<bool>,
}

/// Which events are sent again, and how fast.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct RecoverySelection {
    /// `failed`: what ended without having arrived. `missing`: what was never on its way here. `undelivered` (the default): both.
    /// `all`: also what arrived.
    #[schema(example = "failed")]
    which: Option<String>,
    /// Events accepted at or after this time: RFC 3339 with an offset.
    #[schema(format = DateTime)]
    since: Option<String>,
    /// Events accepted before this time; now by default.
    #[schema(format = DateTime)]
    until: Option<String>,
    /// Only these types: names, aliases or patterns. All that the endpoint wants by default.
    #[schema(min_items = 1, max_items = 100, example = json!(["order.*"]))]
    event_types: Option<Vec<String>>,
    /// Deliveries per second; 50 by default, at most 1,000, unless the installation says otherwise.
    #[schema(minimum = 1, example = 25)]
    per_second: Option<i32>,
}

/// Start a recovery
///
/// Sends again to a hook, a consumer or an inbox what did not arrive there since a time: what failed, what was never on its way (because the
/// endpoint was disabled, made later or wanted something else), or both. It is a job: it goes at the pace that is asked for, waits
/// while too much of it is under way, goes on after a restart, and can be cancelled. With `dry_run` it only counts.
///
/// Events are matched with the endpoint as it is now. No event is sent twice by one recovery, and what is on its way already is left
/// alone. An endpoint has one recovery at a time.
#[utoipa::path(
    post,
    path = "/v1/recoveries",
    operation_id = "start_recovery",
    tag = "Recoveries",
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition of this very request give the same answer, for 48 h; 1 to 255 printable ASCII characters."),
        ("Accept-Language" = Option<String>, Header, description = "`en` (the default) or `fr`.")
    ),
    request_body(
        content = RecoveryRequest,
        examples(
            ("failed" = (summary = "What failed since a time, slowly", value = json!({"endpoint_id": "hook_01hzy3v9k2s8d4f6g8h0j2k4m6", "which": "failed", "since": "2025-11-12T00:00:00Z", "per_second": 10}))),
            ("count" = (summary = "How much was missed", value = json!({"endpoint_id": "hook_01hzy3v9k2s8d4f6g8h0j2k4m6", "which": "missing", "since": "2025-11-12T00:00:00Z", "event_types": ["order.*"], "dry_run": true})))
        )
    ),
    responses(
        (status = 202, description = "It has begun.", body = View),
        (status = 200, description = "What it would do: with `dry_run`.", body = DryRun, example = json!({"dry_run": true, "examined": 412, "would_send": 37, "complete": true, "seconds": 1, "examples": [{"event_id": "evt_01hzy3v9k2s8d4f6g8h0j2k4m6", "event_type": "order.created", "created_at": "2025-11-12T14:30:00.000Z"}]}))
    ),
    extensions(("x-errors" = json!(["INVALID_FIELD", "INVALID_EVENT_TYPE", "INVALID_BODY", "MISSING_SELECTION", "HOOK_DISABLED", "HOOK_DELETED", "CONSUMER_DISABLED", "CONSUMER_DELETED", "RECOVERY_RUNNING"])))
)]
pub(crate) async fn create(
    context: Data<Context>,
    caller: Caller,
    request: HttpRequest,
    body: JsonBody<SMALL>,
) -> Result<Reply, ApiError> {
    let (now, locale) = (context.clock.now(), accepted_locale(request.headers()));
    let fields = Fields::parse(&body)?;
    let missing = |name: &'static str| {
        ApiError::bad_request(
            "MISSING_SELECTION",
            format!("`{name}` is not given: nothing is sent by accident"),
        )
        .field(name)
        .reason("is not there")
    };
    let id = fields.id::<SubscriptionId>("endpoint_id")?.ok_or_else(|| missing("endpoint_id"))?;
    let wish = Wish::parse(&fields, Which::Undelivered, &context.settings.gateway, now)?;
    let since = wish.since.ok_or_else(|| missing("since"))?;
    let dry_run = fields.flag("dry_run")?.unwrap_or(false);
    let key = key(&request, &caller, &body)?;
    idempotent(&context, key, move |conn| {
        let endpoint = endpoints::found(conn, caller.tenant(), id, (SUBSCRIBERS, "endpoint"))?.subscription;
        if dry_run {
            return Ok(Reply::json(StatusCode::OK, &wish.count(conn, &caller, (&endpoint, since), now)?)?);
        }
        endpoints::takes_events(endpoint.kind, endpoint.state)?;
        let made = wish.start(conn, &caller, (id, since), now)?;
        Ok(Reply::json(StatusCode::ACCEPTED, &View::of(made, locale))?)
    })
    .await
}

/// List recoveries
///
/// Newest first.
#[utoipa::path(
    get,
    path = "/v1/recoveries",
    operation_id = "list_recoveries",
    tag = "Recoveries",
    params(
        ("endpoint_id" = Option<String>, Query, description = "Only recoveries of this hook, consumer or inbox.", example = "hook_01hzy3v9k2s8d4f6g8h0j2k4m6"),
        ("state" = Option<String>, Query, description = "Only recoveries in this state: `counting`, `running`, `completed`, `cancelled` or `stopped`."),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of an earlier page."),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 100, description = "Entries on a page, 1 to 100; 50 by default."),
        ("Accept-Language" = Option<String>, Header, description = "`en` (the default) or `fr`.")
    ),
    responses((status = 200, description = "A page of recoveries.", body = inline(crate::openapi::PageOf<View>)))
)]
pub(crate) async fn list(
    context: Data<Context>,
    caller: Caller,
    mut query: Query,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let limit = query.limit()?;
    let asked = RecoveryQuery {
        endpoint: query.id("endpoint_id")?,
        state: query.value("state", "counting, running, completed, cancelled or stopped")?,
        before: query.cursor::<RecoveryId>()?,
        limit: limit + 1,
    };
    query.finish()?;
    let (tenant, locale) = (caller.tenant(), accepted_locale(request.headers()));
    let rows = context.db.once(move |conn| store::list(conn, tenant, &asked)).await.map_err(problem::of)?;
    Ok(Page::new(rows, limit, |recovery| recovery.id).map(|recovery| View::of(recovery, locale)).respond())
}

/// Show a recovery
///
/// With how far it is, in numbers and in words, English or French by `Accept-Language`.
#[utoipa::path(
    get,
    path = "/v1/recoveries/{id}",
    operation_id = "show_recovery",
    tag = "Recoveries",
    params(
        ("id" = String, Path, description = "The recovery's id.", example = "rec_01hzy3v9k2s8d4f6g8h0j2k4m6"),
        ("Accept-Language" = Option<String>, Header, description = "`en` (the default) or `fr`.")
    ),
    responses((status = 200, description = "The recovery.", body = View))
)]
pub(crate) async fn show(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<RecoveryId>,
    query: Query,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    query.finish()?;
    let (tenant, locale) = (caller.tenant(), accepted_locale(request.headers()));
    let find =
        move |conn: &mut Conn| store::find(conn, tenant, id)?.ok_or(Error::NotFound { what: "recovery" });
    let recovery = context.db.once(find).await.map_err(problem::of)?;
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_LANGUAGE, locale.as_str()))
        .insert_header((VARY, "Accept-Language"))
        .json(View::of(recovery, locale)))
}

/// Cancel a recovery
///
/// It looks at no further events. What it has put on its way goes on. Cancelling it again is answered with 200, too.
#[utoipa::path(
    post,
    path = "/v1/recoveries/{id}/cancel",
    operation_id = "cancel_recovery",
    tag = "Recoveries",
    params(
        ("id" = String, Path, description = "The recovery's id.", example = "rec_01hzy3v9k2s8d4f6g8h0j2k4m6"),
        ("Accept-Language" = Option<String>, Header, description = "`en` (the default) or `fr`.")
    ),
    responses((status = 200, description = "The recovery as it is now.", body = View)),
    extensions(("x-errors" = json!(["RECOVERY_ENDED"])))
)]
pub(crate) async fn cancel(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<RecoveryId>,
    request: HttpRequest,
) -> Result<Reply, ApiError> {
    let (tenant, now) = (caller.tenant(), context.clock.now());
    let locale = accepted_locale(request.headers());
    idempotent(&context, None, move |conn| {
        let there = store::find(conn, tenant, id)?.ok_or(Error::NotFound { what: "recovery" })?;
        let ended = match store::cancel(conn, tenant, id, now)? {
            Some(ended) => {
                audited::record(conn, &caller, &ended.entry(Action::RecoveryCancelled), now)?;
                ended
            }
            None => store::find(conn, tenant, id)?.unwrap_or(there),
        };
        if ended.state != RecoveryState::Cancelled {
            return Err(ApiError::conflict("RECOVERY_ENDED", "the recovery has ended already").into());
        }
        Ok(Reply::json(StatusCode::OK, &View::of(ended, locale))?)
    })
    .await
}
