//! `/v1/session`, `/v1/sessions`: the person who asks, and what they change about themselves.

use actix_web::{HttpRequest, HttpResponse, web::Data};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    Error,
    audit::{self, Action, Entry, ObjectKind, ObjectRef},
    event::wire_time,
    id::{SessionId, TenantId},
    person::{
        Locale, Role, membership,
        session::{self, Session},
    },
};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::fields::{Fields, invalid};
use crate::{
    access::{
        Caller,
        browser::{self, csrf_token},
    },
    body::{JsonBody, SMALL},
    context::Context,
    paging::{Id, Page, Query},
    people::account,
    problem,
};

/// The person who is logged in.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Session)]
pub(crate) struct View {
    /// The person.
    #[schema(inline)]
    user: Person,
    /// The tenant that the session looks at.
    #[schema(inline)]
    tenant: Tenant,
    /// `admin`, `developer` or `viewer`, at this tenant.
    role: &'static str,
    /// What that role may do.
    scopes: Vec<&'static str>,
    /// For the header `X-CSRF-Token` of requests that change something.
    csrf_token: String,
    /// Every tenant of the person.
    #[schema(inline)]
    tenants: Vec<Tenant>,
}

/// A person.
#[derive(Debug, Serialize, ToSchema)]
struct Person {
    /// Id.
    id: String,
    /// E-mail address.
    email: String,
    /// Name.
    name: String,
    /// `en` or `fr`.
    locale: String,
    /// Whether logging in needs a second factor.
    second_factor: bool,
}

/// A tenant of the person.
#[derive(Debug, Serialize, ToSchema)]
struct Tenant {
    /// Id.
    id: String,
    /// Its Client ID, which Zapier asks for.
    client_id: Uuid,
    /// Name.
    name: String,
    /// What the person may do there.
    role: &'static str,
}

/// The session of a request that passed as a person's.
fn own(caller: &Caller) -> Result<&Session, ApiError> {
    // Cannot be: the table lets only people pass.
    caller.session().ok_or_else(|| ApiError::internal(anyhow::anyhow!("a route of people without a session")))
}

async fn view(context: &Context, request: &HttpRequest, session: &Session) -> Result<View, ApiError> {
    let user = account::of(context, session).await?;
    let id = session.user_id;
    let seats = context.db.once(move |conn| membership::of_user(conn, id)).await.map_err(problem::of)?;
    let mut tenants: Vec<Tenant> = seats
        .into_iter()
        .map(|seat| Tenant {
            id: seat.tenant_id.to_string(),
            client_id: seat.tenant_id.uuid(),
            name: seat.tenant_name,
            role: seat.role.as_str(),
        })
        .collect();
    let here = tenants.iter().position(|tenant| tenant.client_id == session.tenant_id.uuid());
    let here = here.ok_or_else(|| problem::of(Error::NotFound { what: "tenant" }))?;
    tenants.rotate_left(here);
    let (tenant, role) = (&tenants[0], session.role);
    let cookie = request.cookie(&context.browsers.name(browser::SESSION));
    Ok(View {
        user: Person {
            id: user.id.to_string(),
            email: user.email,
            name: user.name,
            locale: user.locale,
            second_factor: user.has_totp,
        },
        tenant: Tenant {
            id: tenant.id.clone(),
            client_id: tenant.client_id,
            name: tenant.name.clone(),
            role: role.as_str(),
        },
        role: role.as_str(),
        scopes: role.scopes().iter().map(hookyard_domain::credential::Scope::as_str).collect(),
        csrf_token: cookie.map(|cookie| csrf_token(cookie.value())).unwrap_or_default(),
        tenants,
    })
}

/// Show who is logged in
///
/// With the tenant, its Client ID, the role, and the token that requests which change something need.
#[utoipa::path(
    get,
    path = "/v1/session",
    operation_id = "show_session",
    tag = "People",
    responses((status = 200, description = "The person.", body = View))
)]
pub(crate) async fn show(
    context: Data<Context>,
    caller: Caller,
    request: HttpRequest,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    query.finish()?;
    Ok(HttpResponse::Ok().json(view(&context, &request, own(&caller)?).await?))
}

/// Switch the tenant or the language
///
/// Members that are not given stay as they are.
#[utoipa::path(
    patch,
    path = "/v1/session",
    operation_id = "change_session",
    tag = "People",
    request_body(content = crate::openapi::SessionPatch, example = json!({"tenant_id": "ten_01hzy3v9k2s8d4f6g8h0j2k4m6", "locale": "fr"})),
    responses((status = 200, description = "The person as they are now.", body = View)),
    extensions(("x-errors" = json!(["INVALID_FIELD", "INVALID_BODY", "NOT_FOUND"])))
)]
pub(crate) async fn change(
    context: Data<Context>,
    caller: Caller,
    request: HttpRequest,
    body: JsonBody<SMALL>,
) -> Result<HttpResponse, ApiError> {
    let fields = Fields::parse(&body)?;
    let tenant = fields.id::<TenantId>("tenant_id")?;
    let locale = fields
        .text("locale")?
        .map(|text| Locale::parse(text).ok_or_else(|| invalid("locale", "must be en or fr")))
        .transpose()?;
    let session = own(&caller)?;
    account::change(&context, session, tenant, locale).await?;
    let mut now = session.clone();
    if let Some(tenant) = tenant {
        let id = session.user_id;
        let member = context.db.once(move |conn| membership::find(conn, tenant, id)).await;
        let member = member.map_err(problem::of)?;
        let role = member.map(|member| member.role);
        (now.tenant_id, now.role) = (tenant, role.unwrap_or(Role::Viewer));
    }
    Ok(HttpResponse::Ok().json(view(&context, &request, &now).await?))
}

/// Log out
#[utoipa::path(
    delete,
    path = "/v1/session",
    operation_id = "delete_session",
    tag = "People",
    responses((status = 204, description = "Out; the cookie is taken away."))
)]
pub(crate) async fn log_out(context: Data<Context>, caller: Caller) -> Result<HttpResponse, ApiError> {
    account::log_out(&context, own(&caller)?, caller.actor()).await?;
    Ok(HttpResponse::NoContent().cookie(context.browsers.forget(browser::SESSION)).finish())
}

/// Log out everywhere
///
/// Every session of the person ends, this one too, on every gateway with the next request.
#[utoipa::path(
    delete,
    path = "/v1/sessions",
    operation_id = "delete_sessions",
    tag = "People",
    responses((status = 204, description = "Out everywhere; the cookie is taken away."))
)]
pub(crate) async fn log_out_everywhere(
    context: Data<Context>,
    caller: Caller,
) -> Result<HttpResponse, ApiError> {
    account::log_out_everywhere(&context, own(&caller)?, caller.actor()).await?;
    Ok(HttpResponse::NoContent().cookie(context.browsers.forget(browser::SESSION)).finish())
}

/// A session of the person.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SessionEntry)]
pub(crate) struct Entered {
    /// Id.
    id: String,
    /// Whether it is the one that asks.
    current: bool,
    /// Since when.
    #[schema(format = DateTime)]
    created_at: String,
    /// When the person was last seen, within a minute.
    #[schema(format = DateTime)]
    last_seen_at: String,
    /// From where the person logged in.
    address: Option<String>,
    /// What the browser called itself.
    user_agent: Option<String>,
}

/// List one's sessions
///
/// Where the person is logged in, the newest first.
#[utoipa::path(
    get,
    path = "/v1/sessions",
    operation_id = "list_sessions",
    tag = "People",
    responses((status = 200, description = "All of them.", body = inline(crate::openapi::PageOf<Entered>), example = json!({"data": [{"id": "ses_01hzy3v9k2s8d4f6g8h0j2k4m6", "current": true, "created_at": "2025-11-12T14:30:00.000Z", "last_seen_at": "2025-11-12T15:45:00.000Z", "address": "203.0.113.45", "user_agent": "Mozilla/5.0"}], "next_cursor": null, "has_more": false})))
)]
pub(crate) async fn list(
    context: Data<Context>,
    caller: Caller,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    query.finish()?;
    let session = own(&caller)?;
    let (id, user, now) = (session.id, session.user_id, context.clock.now());
    let sessions = context.db.once(move |conn| session::list(conn, user, now)).await.map_err(problem::of)?;
    let view = |session: session::SessionView| Entered {
        id: session.id.to_string(),
        current: session.id == id,
        created_at: wire_time(session.created_at),
        last_seen_at: wire_time(session.last_seen_at),
        address: session.address,
        user_agent: session.user_agent,
    };
    Ok(Page::cut(sessions, false, |session| session.id).map(view).respond())
}

/// End one of one's sessions
#[utoipa::path(
    delete,
    path = "/v1/sessions/{id}",
    operation_id = "delete_one_session",
    tag = "People",
    params(("id" = String, Path, description = "The session.", example = "ses_01hzy3v9k2s8d4f6g8h0j2k4m6")),
    responses((status = 204, description = "It has ended."))
)]
pub(crate) async fn end(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<SessionId>,
) -> Result<HttpResponse, ApiError> {
    let (session, actor, now) = (own(&caller)?, caller.actor(), context.clock.now());
    let (user, tenant) = (session.user_id, session.tenant_id);
    let ended = context.db.run(move |conn| {
        if !session::close(conn, user, id)? {
            return Err(Error::NotFound { what: "session" });
        }
        let object = ObjectRef::new(ObjectKind::Session, id);
        audit::record(conn, &actor, &Entry::new(tenant, Action::SessionLoggedOut, object), now)
    });
    ended.await.map_err(problem::of)?;
    Ok(HttpResponse::NoContent().finish())
}

/// Change one's password
///
/// All other sessions of the person end.
#[utoipa::path(
    post,
    path = "/v1/session/password",
    operation_id = "change_password",
    tag = "People",
    request_body(content = crate::openapi::PasswordChange, example = json!({"current_password": "an older sentence", "new_password": "a sentence of mine"})),
    responses((status = 204, description = "Changed.")),
    extensions(("x-errors" = json!(["INVALID_FIELD", "INVALID_BODY", "WRONG_PASSWORD", "TOO_MANY_TRIES", "CONFLICT"])))
)]
pub(crate) async fn change_password(
    context: Data<Context>,
    caller: Caller,
    body: JsonBody<SMALL>,
) -> Result<HttpResponse, ApiError> {
    let fields = Fields::parse(&body)?;
    let needed = |name| fields.text(name)?.ok_or_else(|| invalid(name, "is missing"));
    let (current, new) = (needed("current_password")?, needed("new_password")?);
    account::change_password(&context, own(&caller)?, current, new, caller.actor())
        .await?
        .map_err(|weakness| invalid("new_password", &weakness.to_string()))?;
    Ok(HttpResponse::NoContent().finish())
}

/// What an authenticator needs.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TotpKey)]
pub(crate) struct TotpKey {
    /// The key in base32, to be typed.
    secret: String,
    /// The same as a link (`otpauth://`), to be opened or shown as a picture.
    otpauth_url: String,
}

/// Begin to set up a second factor
///
/// It counts when it is confirmed with a code.
#[utoipa::path(
    post,
    path = "/v1/session/totp",
    operation_id = "begin_totp",
    tag = "People",
    responses((status = 200, description = "The key, this once.", body = TotpKey, example = json!({"secret": "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ", "otpauth_url": "otpauth://totp/Hookyard:ada%40example.com?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=Hookyard&algorithm=SHA1&digits=6&period=30"}))),
    extensions(("x-errors" = json!(["CONFLICT"])))
)]
pub(crate) async fn begin_totp(context: Data<Context>, caller: Caller) -> Result<HttpResponse, ApiError> {
    let session = own(&caller)?;
    let key = account::begin_totp(&context, session).await?;
    Ok(HttpResponse::Ok().json(TotpKey { secret: key.base32(), otpauth_url: key.url(&session.email) }))
}

/// Codes for when the authenticator is lost.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RecoveryCodes)]
pub(crate) struct RecoveryCodes {
    /// Each lets the person in once.
    recovery_codes: Vec<String>,
}

/// Take a second factor into use
#[utoipa::path(
    post,
    path = "/v1/session/totp/confirm",
    operation_id = "confirm_totp",
    tag = "People",
    request_body(content = crate::openapi::TotpCode, example = json!({"code": "287082"})),
    responses((status = 200, description = "The recovery codes, this once.", body = RecoveryCodes, example = json!({"recovery_codes": ["k2s8-d4f6-g8h0-j2k4"]}))),
    extensions(("x-errors" = json!(["INVALID_FIELD", "INVALID_BODY", "WRONG_CODE", "TOO_MANY_TRIES", "CONFLICT"])))
)]
pub(crate) async fn confirm_totp(
    context: Data<Context>,
    caller: Caller,
    body: JsonBody<SMALL>,
) -> Result<HttpResponse, ApiError> {
    let fields = Fields::parse(&body)?;
    let code = fields.text("code")?.ok_or_else(|| invalid("code", "is missing"))?;
    let confirmed = account::confirm_totp(&context, own(&caller)?, code, caller.actor()).await?;
    let wrong = || problem::invalid("WRONG_CODE", "code", "is wrong, or was used already");
    Ok(HttpResponse::Ok().json(RecoveryCodes { recovery_codes: confirmed.ok_or_else(wrong)? }))
}

/// Take the second factor away
#[utoipa::path(
    delete,
    path = "/v1/session/totp",
    operation_id = "delete_totp",
    tag = "People",
    request_body(content = crate::openapi::PasswordProof, example = json!({"password": "a sentence of mine"})),
    responses((status = 204, description = "Taken away.")),
    extensions(("x-errors" = json!(["INVALID_FIELD", "INVALID_BODY", "WRONG_PASSWORD", "TOO_MANY_TRIES", "CONFLICT"])))
)]
pub(crate) async fn remove_totp(
    context: Data<Context>,
    caller: Caller,
    body: JsonBody<SMALL>,
) -> Result<HttpResponse, ApiError> {
    let fields = Fields::parse(&body)?;
    let password = fields.text("password")?.unwrap_or_default();
    account::remove_totp(&context, own(&caller)?, password, caller.actor()).await?;
    Ok(HttpResponse::NoContent().finish())
}
