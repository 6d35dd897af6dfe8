//! `/account`: what a person sees and changes of their own account.

use actix_web::{HttpResponse, http::StatusCode, web::Data};
use chrono::{DateTime, Utc};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    id::TenantId,
    person::{
        Locale, membership,
        session::{self, Session},
    },
};
use hookyard_portal::account::{self as page, Account, Notice, SessionLine};

use super::login::leave;
use crate::{
    access::{form::Form, visitor::Visitor},
    context::Context,
    people::account,
    problem,
};

/// Show one's own account
///
/// On to `/login` for whoever is not logged in.
#[utoipa::path(
    get,
    path = "/account",
    operation_id = "show_account",
    tag = "Pages",
    responses((status = 200, description = "The page.", body = String, content_type = "text/html"))
)]
pub(crate) async fn show(context: Data<Context>, visitor: Visitor) -> Result<HttpResponse, ApiError> {
    match visitor.session.clone() {
        Some(session) => page_of(&context, &visitor, &session, None).await,
        None => Ok(to_log_in(&context, &visitor)),
    }
}

fn to_log_in(context: &Context, visitor: &Visitor) -> HttpResponse {
    visitor.redirect(context, "/login?return_to=/account")
}

async fn page_of(
    context: &Context,
    visitor: &Visitor,
    own: &Session,
    notice: Option<Notice>,
) -> Result<HttpResponse, ApiError> {
    let user = account::of(context, own).await?;
    let (id, now) = (own.user_id, context.clock.now());
    let found =
        context.db.once(move |conn| Ok((membership::of_user(conn, id)?, session::list(conn, id, now)?)));
    let (seats, sessions) = found.await.map_err(problem::of)?;
    let csrf = visitor.csrf(&context.vault);
    let here = seats.iter().find(|seat| seat.tenant_id == own.tenant_id);
    let others = seats.iter().filter(|seat| seat.tenant_id != own.tenant_id);
    let shown = page::account(&Account {
        locale: visitor.locale,
        csrf: &csrf,
        email: &user.email,
        name: &user.name,
        tenant: here.map_or("", |seat| &seat.tenant_name),
        client_id: own.tenant_id.uuid().to_string(),
        role: own.role,
        others: others.map(|seat| (seat.tenant_id.to_string(), seat.tenant_name.clone())).collect(),
        sessions: sessions
            .into_iter()
            .map(|session| SessionLine {
                is_own: session.id == own.id,
                user_agent: session.user_agent,
                address: session.address,
                last_seen: told(session.last_seen_at),
            })
            .collect(),
        has_password: user.password_hash.is_some(),
        has_totp: user.has_totp,
        notice,
    });
    let status = match notice {
        None | Some(Notice::PasswordChanged) => StatusCode::OK,
        Some(Notice::Throttled) => StatusCode::TOO_MANY_REQUESTS,
        Some(Notice::WrongPassword | Notice::Weak(_)) => StatusCode::UNPROCESSABLE_ENTITY,
    };
    Ok(visitor.show(context, status, shown))
}

/// The same in every language.
fn told(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M UTC").to_string()
}

/// What a wrong password or a pause is told as; other errors stay what they are.
fn notice_of(error: ApiError) -> Result<Notice, ApiError> {
    match error.code() {
        "WRONG_PASSWORD" => Ok(Notice::WrongPassword),
        "TOO_MANY_TRIES" => Ok(Notice::Throttled),
        _ => Err(error),
    }
}

/// Look at another tenant
#[utoipa::path(
    post,
    path = "/account/tenant",
    operation_id = "switch_tenant_by_form",
    tag = "Pages",
    request_body(content = String, content_type = "application/x-www-form-urlencoded", description = "`tenant` and `csrf`."),
    responses((status = 303, description = "Back to the account."))
)]
pub(crate) async fn switch(context: Data<Context>, form: Form) -> Result<HttpResponse, ApiError> {
    let visitor = &form.visitor;
    let Some(session) = &visitor.session else { return Ok(to_log_in(&context, visitor)) };
    let tenant: TenantId =
        form.text("tenant").parse().map_err(|_no_id| ApiError::not_found("tenant not found"))?;
    account::change(&context, session, Some(tenant), None).await?;
    Ok(visitor.redirect(&context, "/account"))
}

/// Speak another language
#[utoipa::path(
    post,
    path = "/account/language",
    operation_id = "set_language_by_form",
    tag = "Pages",
    request_body(content = String, content_type = "application/x-www-form-urlencoded", description = "`locale` (`en`, `fr`) and `csrf`."),
    responses((status = 303, description = "Back to the account."))
)]
pub(crate) async fn speak(context: Data<Context>, form: Form) -> Result<HttpResponse, ApiError> {
    let visitor = &form.visitor;
    let Some(session) = &visitor.session else { return Ok(to_log_in(&context, visitor)) };
    let locale = Locale::parse(form.text("locale"))
        .ok_or_else(|| problem::invalid("INVALID_FIELD", "locale", "must be en or fr"))?;
    account::change(&context, session, None, Some(locale)).await?;
    Ok(visitor.redirect(&context, "/account"))
}

/// Change one's password
#[utoipa::path(
    post,
    path = "/account/password",
    operation_id = "change_password_by_form",
    tag = "Pages",
    request_body(content = String, content_type = "application/x-www-form-urlencoded", description = "`current`, `new` and `csrf`."),
    responses(
        (status = 200, description = "Changed; all other sessions have ended.", body = String, content_type = "text/html"),
        (status = 422, description = "The page again: the current one is wrong, or the new one is not good enough.", body = String, content_type = "text/html")
    )
)]
pub(crate) async fn password(context: Data<Context>, form: Form) -> Result<HttpResponse, ApiError> {
    let visitor = &form.visitor;
    let Some(session) = &visitor.session else { return Ok(to_log_in(&context, visitor)) };
    let (current, new) = (form.text("current"), form.text("new"));
    let notice = match account::change_password(&context, session, current, new, visitor.actor("")).await {
        Ok(Ok(())) => Notice::PasswordChanged,
        Ok(Err(weakness)) => Notice::Weak(weakness),
        Err(error) => notice_of(error)?,
    };
    page_of(&context, visitor, session, Some(notice)).await
}

/// Log out everywhere
#[utoipa::path(
    post,
    path = "/account/logout-everywhere",
    operation_id = "log_out_everywhere_by_form",
    tag = "Pages",
    request_body(content = String, content_type = "application/x-www-form-urlencoded", description = "`csrf`."),
    responses((status = 303, description = "On to the page to log in."))
)]
pub(crate) async fn log_out_everywhere(context: Data<Context>, form: Form) -> Result<HttpResponse, ApiError> {
    let visitor = &form.visitor;
    if let Some(session) = &visitor.session {
        account::log_out_everywhere(&context, session, visitor.actor("")).await?;
    }
    Ok(leave(&context, visitor))
}

/// Begin to set up a second factor
#[utoipa::path(
    post,
    path = "/account/totp",
    operation_id = "begin_totp_by_form",
    tag = "Pages",
    request_body(content = String, content_type = "application/x-www-form-urlencoded", description = "`csrf`."),
    responses((status = 303, description = "On to the page with the key."))
)]
pub(crate) async fn begin_totp(context: Data<Context>, form: Form) -> Result<HttpResponse, ApiError> {
    let visitor = &form.visitor;
    let Some(session) = &visitor.session else { return Ok(to_log_in(&context, visitor)) };
    account::begin_totp(&context, session).await?;
    Ok(visitor.redirect(&context, "/account/totp"))
}

/// Show the key of a second factor that is being set up
#[utoipa::path(
    get,
    path = "/account/totp",
    operation_id = "show_totp",
    tag = "Pages",
    responses((status = 200, description = "The page.", body = String, content_type = "text/html"))
)]
pub(crate) async fn show_totp(context: Data<Context>, visitor: Visitor) -> Result<HttpResponse, ApiError> {
    let Some(session) = &visitor.session else { return Ok(to_log_in(&context, &visitor)) };
    totp_page(&context, &visitor, session, false).await
}

async fn totp_page(
    context: &Context,
    visitor: &Visitor,
    session: &Session,
    is_wrong: bool,
) -> Result<HttpResponse, ApiError> {
    let Some(key) = account::pending_totp(context, session).await? else {
        return Ok(visitor.redirect(context, "/account"));
    };
    let csrf = visitor.csrf(&context.vault);
    let shown = page::set_up_totp(visitor.locale, &csrf, &key.base32(), &key.url(&session.email), is_wrong);
    let status = if is_wrong { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    Ok(visitor.show(context, status, shown))
}

/// Take a second factor into use
#[utoipa::path(
    post,
    path = "/account/totp/confirm",
    operation_id = "confirm_totp_by_form",
    tag = "Pages",
    request_body(content = String, content_type = "application/x-www-form-urlencoded", description = "`code` and `csrf`."),
    responses(
        (status = 200, description = "The recovery codes, this once.", body = String, content_type = "text/html"),
        (status = 422, description = "The page again: the code is wrong.", body = String, content_type = "text/html")
    )
)]
pub(crate) async fn confirm_totp(context: Data<Context>, form: Form) -> Result<HttpResponse, ApiError> {
    let visitor = &form.visitor;
    let Some(session) = &visitor.session else { return Ok(to_log_in(&context, visitor)) };
    match account::confirm_totp(&context, session, form.text("code"), visitor.actor("")).await {
        Ok(Some(codes)) => {
            Ok(visitor.show(&context, StatusCode::OK, page::recovery_codes(visitor.locale, &codes)))
        }
        Ok(None) => totp_page(&context, visitor, session, true).await,
        Err(error) => page_of(&context, visitor, session, Some(notice_of(error)?)).await,
    }
}

/// Take the second factor away
#[utoipa::path(
    post,
    path = "/account/totp/remove",
    operation_id = "remove_totp_by_form",
    tag = "Pages",
    request_body(content = String, content_type = "application/x-www-form-urlencoded", description = "`current` (the password) and `csrf`."),
    responses(
        (status = 303, description = "Back to the account."),
        (status = 422, description = "The page again: the password is wrong.", body = String, content_type = "text/html")
    )
)]
pub(crate) async fn remove_totp(context: Data<Context>, form: Form) -> Result<HttpResponse, ApiError> {
    let visitor = &form.visitor;
    let Some(session) = &visitor.session else { return Ok(to_log_in(&context, visitor)) };
    match account::remove_totp(&context, session, form.text("current"), visitor.actor("")).await {
        Ok(()) => Ok(visitor.redirect(&context, "/account")),
        Err(error) => page_of(&context, visitor, session, Some(notice_of(error)?)).await,
    }
}
