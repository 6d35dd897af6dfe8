//! `/v1/audit`: who did what at the tenant. Read only; entries are written where the change is made.

use actix_web::{
    HttpResponse,
    http::header::{CONTENT_TYPE, HeaderName},
    web::Data,
};
use bytes::Bytes;
use futures_util::{Stream, stream};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    Error, Result as DomainResult,
    audit::{self, Chain, Mark, Recorded, store},
    id::{CredentialId, UserId},
};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    access::Caller,
    context::Context,
    paging::{Page, Query, invalid_parameter},
    problem,
};

/// Where the tenant's chain ends, as `hookyard audit verify --expect` takes it.
const HEAD: HeaderName = HeaderName::from_static("x-audit-head");

/// Entries of an export that are read at once; with both sides as long as they may be they take 3.3 MB.
const AT_ONCE: i64 = 100;

/// The longest name of an object that is looked for, in characters: as long as they are kept.
const MAX_OBJECT_CHARS: usize = 200;

/// Something that was done.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes entries in the OpenAPI document")]
pub(crate) struct AuditEntry {
    /// Its place in the tenant's chain: 1, 2, 3 … without a gap.
    #[schema(minimum = 1, example = 17)]
    seq: i64,
    /// The tenant.
    #[schema(example = "ten_01hzy3v9k2s8d4f6g8h0j2k4m6")]
    tenant_id: Option<String>,
    /// When, with microseconds.
    #[schema(format = DateTime)]
    at: String,
    /// Who did it.
    #[schema(inline)]
    actor: AuditActor,
    /// What was done.
    #[schema(example = "hook.disabled")]
    action: String,
    /// What it was done to.
    #[schema(inline)]
    object: AuditObject,
    /// What it was before, without secrets; `null` when that says nothing.
    #[schema(value_type = Option<Object>)]
    before: Option<serde_json::Value>,
    /// What it is since, without secrets.
    #[schema(value_type = Option<Object>)]
    after: Option<serde_json::Value>,
    /// SHA-256 over this entry and the hash of the one before, in hexadecimal digits.
    #[schema(min_length = 64, max_length = 64)]
    hash: String,
}

/// Who did something.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes entries in the OpenAPI document")]
pub(crate) struct AuditActor {
    /// `system`, `operator` (the command line), `credential`, `person` or `nobody` (not authenticated).
    #[schema(example = "credential")]
    kind: String,
    /// The credential or the person.
    #[schema(example = "key_01hzy3v9k2s8d4f6g8h0j2k4m6")]
    id: Option<String>,
    /// Name at that time.
    name: String,
    /// From where.
    #[schema(example = "203.0.113.45")]
    address: Option<String>,
    /// In which request: its `X-Request-Id`.
    request_id: Option<String>,
}

/// What something was done to.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes entries in the OpenAPI document")]
pub(crate) struct AuditObject {
    /// What kind of thing.
    #[schema(example = "hook")]
    kind: String,
    /// Which.
    #[schema(example = "hook_01hzy3v9k2s8d4f6g8h0j2k4m6")]
    id: String,
}

/// List the audit log
///
/// Who did what, when and from where, newest first. `X-Audit-Head` tells where the chain ends: noted elsewhere, it proves
/// later that nothing up to there was changed.
#[utoipa::path(
    get,
    path = "/v1/audit",
    operation_id = "list_audit",
    tag = "Audit log",
    params(
        ("action" = Option<String>, Query, description = "Only entries that tell of this action.", example = "key.created"),
        ("object" = Option<String>, Query, description = "Only entries about the thing with this id.", example = "hook_01hzy3v9k2s8d4f6g8h0j2k4m6"),
        ("actor" = Option<String>, Query, description = "Only entries of this credential (`key_…`) or person (`usr_…`).", example = "key_01hzy3v9k2s8d4f6g8h0j2k4m6"),
        ("since" = Option<String>, Query, description = "At or after this time: RFC 3339 with an offset."),
        ("until" = Option<String>, Query, description = "Before this time."),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of an earlier page."),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 100, description = "Entries on a page, 1 to 100; 50 by default.")
    ),
    responses((
        status = 200,
        description = "A page of entries.",
        body = inline(crate::openapi::PageOf<AuditEntry>),
        headers(("X-Audit-Head" = String, description = "Where the tenant's chain ends: `TENANT:SEQ:HASH`."))
    ))
)]
pub(crate) async fn list(
    context: Data<Context>,
    caller: Caller,
    mut query: Query,
) -> Result<HttpResponse, ApiError> {
    let (since, until) = (query.time("since")?, query.time("until")?);
    let asked = store::Query {
        action: query.value("action", "an action, such as key.created")?,
        object: query.text("object").map(object).transpose()?,
        actor: query.text("actor").map(|text| actor(&text)).transpose()?,
        since,
        until,
        before_seq: query.cursor::<u32>()?.map(i64::from),
        limit: query.limit()?,
    };
    query.finish()?;
    if since.zip(until).is_some_and(|(since, until)| until < since) {
        return Err(invalid_parameter("until", "must not be before `since`"));
    }
    let (chain, limit) = (Chain::Tenant(caller.tenant()), asked.limit);
    let asked = store::Query { limit: limit + 1, ..asked };
    let (rows, end) = context
        .db
        .once(move |conn| Ok((store::list(conn, chain, &asked)?, store::end(conn, chain)?)))
        .await
        .map_err(problem::of)?;
    let page = Page::new(rows, limit, |entry| entry.seq);
    let mut response =
        page.try_map(|entry| audit::line(&entry)).map_err(ApiError::internal)?.respond_spliced();
    tell(&mut response, &end);
    Ok(response)
}

fn object(text: String) -> Result<String, ApiError> {
    let length = text.chars().count();
    if (1..=MAX_OBJECT_CHARS).contains(&length) && !text.chars().any(char::is_control) {
        Ok(text)
    } else {
        Err(invalid_parameter("object", "must be the id of a thing, such as hook_01hzy3v9k2s8d4f6g8h0j2k4m6"))
    }
}

fn actor(text: &str) -> Result<Uuid, ApiError> {
    let credential = text.parse::<CredentialId>().map(CredentialId::uuid);
    credential.or_else(|_no_key| text.parse::<UserId>().map(UserId::uuid)).map_err(|_neither| {
        invalid_parameter("actor", "must be the id of a credential (key_…) or of a person (usr_…)")
    })
}

fn tell(response: &mut HttpResponse, end: &Mark) {
    // A mark is ASCII, so it is a header.
    if let Ok(value) = end.to_string().parse() {
        response.headers_mut().insert(HEAD, value);
    }
}

/// Export the audit log
///
/// Every entry from a place on, oldest first, as one JSON object a line. The export ends where the chain ended when it
/// began, as `X-Audit-Head` tells. A connection that ends before that entry came has broken off: go on with `since_seq`.
#[utoipa::path(
    get,
    path = "/v1/audit/export",
    operation_id = "export_audit",
    tag = "Audit log",
    params(
        ("since_seq" = Option<i64>, Query, minimum = 1, description = "The first entry; 1 by default.")
    ),
    responses((
        status = 200,
        description = "The entries, one a line.",
        body = AuditEntry,
        content_type = "application/x-ndjson",
        headers(("X-Audit-Head" = String, description = "Where the export ends: `TENANT:SEQ:HASH`."))
    ))
)]
pub(crate) async fn export(
    context: Data<Context>,
    caller: Caller,
    mut query: Query,
) -> Result<HttpResponse, ApiError> {
    let since = query.value::<u32>("since_seq", "a whole number from 1 on")?.map_or(1, i64::from);
    query.finish()?;
    if since < 1 {
        return Err(invalid_parameter("since_seq", "must be a whole number from 1 on"));
    }
    let chain = Chain::Tenant(caller.tenant());
    let end = context.db.once(move |conn| store::end(conn, chain)).await.map_err(problem::of)?;
    let lines = lines(context, chain, since - 1, end.seq);
    let mut response =
        HttpResponse::Ok().insert_header((CONTENT_TYPE, "application/x-ndjson")).streaming(lines);
    tell(&mut response, &end);
    Ok(response)
}

/// The lines of the entries behind one place and up to another, a page at a time. No connection is held between pages.
fn lines(
    context: Data<Context>,
    chain: Chain,
    after: i64,
    until: i64,
) -> impl Stream<Item = DomainResult<Bytes>> {
    stream::try_unfold(after, move |after| {
        let context = context.clone();
        async move {
            let read = context.db.once(move |conn| store::export(conn, chain, after, until, AT_ONCE)).await;
            let told = read.and_then(|page| page_of_lines(&page));
            if let Err(error) = &told {
                // The answer has begun: all that can be done is to end it before its end.
                tracing::warn!(error = error.chain(), %chain, "an export of the audit log broke off");
            }
            told
        }
    })
}

/// The lines, and where to go on; nothing when there are none.
fn page_of_lines(page: &[Recorded]) -> DomainResult<Option<(Bytes, i64)>> {
    let Some(last) = page.last() else { return Ok(None) };
    let mut lines = Vec::new();
    for entry in page {
        lines.extend_from_slice(&audit::line(entry).map_err(|error| Error::Database(Box::new(error)))?);
        lines.push(b'\n');
    }
    Ok(Some((lines.into(), last.seq)))
}
