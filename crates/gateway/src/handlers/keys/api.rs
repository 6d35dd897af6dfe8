//! `/v1/keys`: API keys, which people make for programs.

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web::Data};
use chrono::{DateTime, Utc};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    Error, audit,
    credential::{
        Kind, Limits, Scope, Scopes,
        directory::known_everywhere,
        store::{self, CredentialView, NewCredential},
    },
    db::Conn,
    event::wire_time,
    id::CredentialId,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Fields, check_given, end, end_of, invalid, limit, may_issue, name_of, page, scopes_of, set_limits,
    shown_once, stored, token,
};
use crate::{
    access::{
        Caller,
        idempotent::{Refusal, Reply, idempotent, key},
    },
    body::{JsonBody, SMALL},
    context::Context,
    paging::{Id, Query},
    problem,
};

/// An API key, without the key.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Key)]
pub(crate) struct View {
    /// What it is called here.
    #[schema(example = "key_01hzy3v9k2s8d4f6g8h0j2k4m6")]
    id: String,
    /// Name, for people.
    name: String,
    /// The first characters of the key, to recognise it by.
    #[schema(example = "ct_Zm9vYmFy")]
    prefix: String,
    /// What it may do.
    scopes: Vec<String>,
    /// Requests per minute; `null` is the default of the settings, 0 is unlimited.
    rate_limit: Option<i32>,
    /// Subscribing, changing and unsubscribing hooks per minute.
    hook_write_limit: Option<i32>,
    /// How many more of these may pass within an hour.
    hook_write_burst: Option<i32>,
    /// Samples per minute.
    sample_limit: Option<i32>,
    /// When it was made.
    #[schema(format = DateTime)]
    created_at: String,
    /// Until when it holds.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
    /// When it was revoked.
    #[schema(format = DateTime)]
    revoked_at: Option<String>,
    /// When it was last used, within a minute.
    #[schema(format = DateTime)]
    last_used_at: Option<String>,
}

impl From<CredentialView> for View {
    fn from(key: CredentialView) -> Self {
        Self {
            id: key.id.to_string(),
            name: key.name,
            prefix: key.prefix,
            scopes: key.scopes,
            rate_limit: key.rate_limit,
            hook_write_limit: key.hook_write_limit,
            hook_write_burst: key.hook_write_burst,
            sample_limit: key.sample_limit,
            created_at: wire_time(key.created_at),
            expires_at: key.expires_at.map(wire_time),
            revoked_at: key.revoked_at.map(wire_time),
            last_used_at: key.last_used_at.map(wire_time),
        }
    }
}

/// An API key that was made just now.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = NewKey)]
pub(crate) struct Made {
    /// The key itself, this once; `null` when the request was repeated with its Idempotency-Key.
    key: Option<String>,
    #[serde(flatten)]
    view: View,
}

/// List API keys
///
/// Newest first, with those that have ended. Never the keys themselves.
#[utoipa::path(
    get,
    path = "/v1/keys",
    operation_id = "list_keys",
    tag = "Keys",
    params(
        ("cursor" = Option<String>, Query, description = "`next_cursor` of an earlier page."),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 100, description = "Entries on a page, 1 to 100; 50 by default.")
    ),
    responses((status = 200, description = "A page of keys.", body = inline(crate::openapi::PageOf<View>)))
)]
pub(crate) async fn list(
    context: Data<Context>,
    caller: Caller,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    Ok(page(&context, &caller, query, Kind::ApiKey).await?.map(View::from).respond())
}

/// Show an API key
#[utoipa::path(
    get,
    path = "/v1/keys/{id}",
    operation_id = "show_key",
    tag = "Keys",
    params(("id" = String, Path, description = "The key's id.", example = "key_01hzy3v9k2s8d4f6g8h0j2k4m6")),
    responses((status = 200, description = "The key, without the key itself.", body = View))
)]
pub(crate) async fn show(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<CredentialId>,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    query.finish()?;
    let tenant = caller.tenant();
    let found = context.db.once(move |conn| store::of_kind(conn, tenant, Kind::ApiKey, id)).await;
    Ok(HttpResponse::Ok().json(View::from(found.map_err(problem::of)?)))
}

/// A key to make.
#[derive(Debug)]
struct Wish {
    name: String,
    scopes: Scopes,
    limits: Limits,
    expires_at: Option<DateTime<Utc>>,
}

impl Wish {
    fn parse(body: &[u8], now: DateTime<Utc>) -> Result<Self, ApiError> {
        let fields = Fields::parse(body)?;
        Ok(Self {
            name: name_of(&fields)?.ok_or_else(|| invalid("name", "is missing"))?,
            scopes: scopes_of(&fields)?.ok_or_else(|| invalid("scopes", "is missing"))?,
            limits: Limits {
                requests: limit(&fields, "rate_limit")?,
                hook_writes: limit(&fields, "hook_write_limit")?,
                hook_write_burst: limit(&fields, "hook_write_burst")?,
                samples: limit(&fields, "sample_limit")?,
            },
            expires_at: end_of(&fields, now)?,
        })
    }
}

/// Make an API key
///
/// The key is in this answer and nowhere afterwards; a repetition with the same Idempotency-Key is answered with
/// `"key": null`. A tenant has at most 10 live ones. Nobody gives a key more than they have, and OAuth clients make none.
#[utoipa::path(
    post,
    path = "/v1/keys",
    operation_id = "create_key",
    tag = "Keys",
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition of this very request make no second key, for 48 h; 1 to 255 printable ASCII characters.")),
    request_body(content = crate::openapi::KeyRequest, example = json!({"name": "crm", "scopes": ["events:write"], "rate_limit": 600, "expires_at": "2027-01-01T00:00:00Z"})),
    responses((status = 201, description = "Made. Not to be cached.", body = Made)),
    extensions(("x-errors" = json!(["INVALID_FIELD", "INVALID_BODY", "CONFLICT"])))
)]
pub(crate) async fn create(
    context: Data<Context>,
    caller: Caller,
    request: HttpRequest,
    body: JsonBody<SMALL>,
) -> Result<Reply, ApiError> {
    may_issue(&caller)?;
    let now = context.clock.now();
    let wish = Wish::parse(&body, now)?;
    check_given(wish.scopes, caller.principal.scopes())?;
    let key = key(&request, &caller, &body)?;
    idempotent(&context, key, move |conn| {
        let token = token(Kind::ApiKey);
        let new = NewCredential {
            limits: wish.limits,
            expires_at: wish.expires_at,
            created_by: caller.user(),
            ..NewCredential::new(Kind::ApiKey, &token, caller.tenant(), &wish.name, wish.scopes, now)
        };
        let made = stored(conn, &caller, &new, store::insert)?;
        shown_once(|key| Made { key, view: View::from(made.clone()) }, &token)
    })
    .await
}

/// Change an API key
///
/// Members that are not given stay as they are; a limit or an end that is `null` is taken away. It counts for every
/// request that comes after the answer. A key that has ended stays as it was.
#[utoipa::path(
    patch,
    path = "/v1/keys/{id}",
    operation_id = "change_key",
    tag = "Keys",
    params(
        ("id" = String, Path, description = "The key's id.", example = "key_01hzy3v9k2s8d4f6g8h0j2k4m6"),
        ("force" = Option<bool>, Query, description = "`true`: also when the tenant's last admin key would be one no more.")
    ),
    request_body(content = crate::openapi::KeyPatch, example = json!({"rate_limit": 0})),
    responses((status = 200, description = "The key as it is now.", body = View)),
    extensions(("x-errors" = json!(["INVALID_FIELD", "INVALID_BODY", "CONFLICT"])))
)]
pub(crate) async fn update(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<CredentialId>,
    mut query: Query,
    body: JsonBody<SMALL>,
) -> Result<Reply, ApiError> {
    may_issue(&caller)?;
    let force = query.flag("force")?;
    query.finish()?;
    let fields = Fields::parse(&body)?;
    let now = context.clock.now();
    let reply = idempotent(&context, None, move |conn| {
        let key = changed(conn, &caller, id, &fields, force, now)?;
        Ok(Reply::json(StatusCode::OK, &View::from(key))?)
    })
    .await?;
    known_everywhere().await;
    Ok(reply)
}

fn changed(
    conn: &mut Conn,
    caller: &Caller,
    id: CredentialId,
    fields: &Fields,
    force: bool,
    now: DateTime<Utc>,
) -> Result<CredentialView, Refusal> {
    let tenant = caller.tenant();
    store::lock(conn, tenant)?;
    let before = store::of_kind(conn, tenant, Kind::ApiKey, id)?;
    if !before.is_live(now) {
        let reason = "the key has ended; make another".to_owned();
        return Err(Error::Conflict { reason }.into());
    }
    let mut after = before.clone();
    after.name = name_of(fields)?.unwrap_or(after.name);
    if let Some(scopes) = scopes_of(fields)? {
        check_given(scopes, caller.principal.scopes())?;
        after.scopes = scopes.iter().map(Scope::as_str).map(str::to_owned).collect();
    }
    set_limits(&mut after, fields)?;
    if fields.mentions("expires_at") {
        after.expires_at = end_of(fields, now)?;
    }
    if !after.is_admin() && !force {
        store::spare_last_admin(conn, &before, now)?;
    }
    if after != before {
        store::replace(conn, &after)?;
        audit::record(conn, &caller.actor(), &after.changed(&before), now)?;
    }
    Ok(after)
}

/// Revoke an API key
///
/// The key is refused everywhere from the answer on. The tenant's last admin key goes with `force=true` only. Revoking it
/// again is answered with 200, too.
#[utoipa::path(
    delete,
    path = "/v1/keys/{id}",
    operation_id = "revoke_key",
    tag = "Keys",
    params(
        ("id" = String, Path, description = "The key's id.", example = "key_01hzy3v9k2s8d4f6g8h0j2k4m6"),
        ("force" = Option<bool>, Query, description = "`true`: also when it is the tenant's last admin key.")
    ),
    responses((status = 200, description = "The key as it was, with the time of its end.", body = View)),
    extensions(("x-errors" = json!(["CONFLICT"])))
)]
pub(crate) async fn revoke(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<CredentialId>,
    mut query: Query,
) -> Result<HttpResponse, ApiError> {
    let force = query.flag("force")?;
    query.finish()?;
    let now = context.clock.now();
    let ended = context.db.run(move |conn| end(conn, &caller, (Kind::ApiKey, id), force, now)).await;
    let key = ended.map_err(problem::of)?;
    known_everywhere().await;
    Ok(HttpResponse::Ok().json(View::from(key)))
}
