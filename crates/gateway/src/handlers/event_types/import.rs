//! `POST /v1/event-types/import/openapi`: the event types of an OpenAPI document into the catalogue.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use actix_web::{HttpRequest, http::StatusCode, web::Data};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    catalogue::{
        Validation,
        import::{self, Taking},
        openapi::{self, MAX_DOCUMENT_BYTES, Reading},
        schema::Violation,
    },
    credential::directory::known_everywhere,
    wire::parse_stored,
};
use utoipa::ToSchema;

use crate::{
    access::{
        Caller,
        idempotent::{Reply, idempotent, key},
    },
    body::JsonBody,
    context::Context,
    ingest,
    paging::Query,
    problem,
};

/// The longest name of the member that is the payload.
const MAX_MEMBER_CHARS: usize = 100;

/// What an import changed, or would change.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the answer in the OpenAPI document")]
pub(crate) struct ImportReport {
    /// Whether nothing was changed, as it was only asked what would be.
    dry_run: bool,
    /// New types.
    created: Vec<String>,
    /// Types that changed.
    #[schema(inline)]
    updated: Vec<Updated>,
    /// Types that are as the document says.
    unchanged: Vec<String>,
    /// What cannot be taken; only with `skip_invalid=true`.
    skipped: Vec<crate::openapi::SchemaProblem>,
}

/// A type that changed.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the answer in the OpenAPI document")]
pub(crate) struct Updated {
    /// The type.
    name: String,
    /// Which of its members.
    changed: Vec<String>,
}

/// Import event types
///
/// Takes every webhook and callback of an OpenAPI document (3.0 or later 3.x, as JSON) into the catalogue: its name is the type,
/// the JSON body of its POST the payload. References within the document are followed, others are refused. What the document
/// says replaces what was there; aliases, `validation` and `archived` stay. The same document twice changes nothing the second
/// time. All or nothing, unless `skip_invalid=true`.
#[utoipa::path(
    post,
    path = "/v1/event-types/import/openapi",
    operation_id = "import_event_types",
    tag = "Event types",
    params(
        ("dry_run" = Option<bool>, Query, description = "`true`: only tell what would change."),
        ("skip_invalid" = Option<bool>, Query, description = "`true`: take what can be taken, and tell what cannot."),
        ("validation" = Option<String>, Query, description = "Validation of new types that have a schema: `off` (the default), `warn` or `reject`."),
        ("payload_member" = Option<String>, Query, description = "The member of the described body that is the payload, where the document describes an envelope.", example = "payload"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition of this very request give the same answer, for 48 h; 1 to 255 printable ASCII characters.")
    ),
    request_body(content = crate::openapi::OpenApiDocument, example = json!({"openapi": "3.1.0", "info": {"title": "Shop", "version": "1"}, "webhooks": {"order.created": {"post": {"summary": "An order was placed.", "requestBody": {"content": {"application/json": {"schema": {"type": "object", "required": ["order"], "properties": {"order": {"type": "integer"}}}, "example": {"order": 1042}}}}}}}})),
    responses((status = 200, description = "What changed.", body = ImportReport, example = json!({"dry_run": false, "created": ["order.created"], "updated": [{"name": "order.deleted", "changed": ["schema", "example"]}], "unchanged": ["order.paid"], "skipped": []}))),
    extensions(("x-errors" = json!(["INVALID_OPENAPI", "CONFLICT"])))
)]
pub(crate) async fn import(
    context: Data<Context>,
    caller: Caller,
    request: HttpRequest,
    mut query: Query,
    body: JsonBody<MAX_DOCUMENT_BYTES>,
) -> Result<Reply, ApiError> {
    let taking = Taking {
        dry_run: query.flag("dry_run")?,
        skip_invalid: query.flag("skip_invalid")?,
        validation: query.value::<Validation>("validation", "off, warn or reject")?.unwrap_or_default(),
    };
    let payload_member = query.text("payload_member").filter(|member| !member.is_empty());
    if payload_member.as_ref().is_some_and(|member| member.chars().count() > MAX_MEMBER_CHARS) {
        let reason = format!("must have at most {MAX_MEMBER_CHARS} characters");
        return Err(crate::paging::invalid_parameter("payload_member", reason));
    }
    query.finish()?;
    let key = key(&request, &caller, &body)?;
    let (text, _reserved) = body.into_parts();
    let reading = Reading { payload_member };
    let found = ingest::on_thread(&context, text.len(), move || {
        let document = parse_stored(&text).map_err(|error| problem::of_json(&error))?;
        openapi::read(&document, &reading).map_err(|wrong| refused(&[wrong]))
    })
    .await??;
    let (tenant, actor, now) = (caller.tenant(), caller.actor(), context.clock.now());
    let ruled = Arc::new(AtomicBool::new(false));
    let otherwise = Arc::clone(&ruled);
    let reply = idempotent(&context, key, move |conn| {
        let report = import::take(conn, tenant, found, taking, &actor, now)?;
        if report.is_refused(taking) {
            return Err(refused(&report.problems).into());
        }
        otherwise.store(report.rules_changed && !taking.dry_run, Ordering::Relaxed);
        Ok(Reply::json(StatusCode::OK, &report.render(taking))?)
    })
    .await?;
    if ruled.load(Ordering::Relaxed) {
        known_everywhere().await;
    }
    Ok(reply)
}

/// 422 with every place of the document at which something cannot be taken.
fn refused(problems: &[Violation]) -> ApiError {
    let first = problems.first().cloned().unwrap_or_else(|| Violation::at("", "cannot be taken"));
    problem::invalid("INVALID_OPENAPI", "document", &first.to_string())
        .path(first.path)
        .problems(problems.iter().map(problem::told))
}
