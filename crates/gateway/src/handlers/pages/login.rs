//! `/login`, `/logout`.

use actix_web::{HttpResponse, http::StatusCode, web::Data};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::credential::Token;
use hookyard_portal::login::{self as page, LogIn, Trouble};

use super::{return_query, return_to};
use crate::{
    access::{browser::SESSION, form::Form, visitor::Visitor},
    context::Context,
    paging::Query,
    people::{
        account,
        log_in::{self, Step, TICKET_COOKIE},
    },
};

/// Show the page to log in
///
/// On to `return_to` for whoever is logged in already.
#[utoipa::path(
    get,
    path = "/login",
    operation_id = "show_login",
    tag = "Pages",
    params(
        ("return_to" = Option<String>, Query, description = "Where to go afterwards: a path of this service."),
        ("lang" = Option<String>, Query, description = "`en` or `fr`.")
    ),
    responses((status = 200, description = "The page.", body = String, content_type = "text/html"))
)]
pub(crate) async fn show(
    context: Data<Context>,
    visitor: Visitor,
    mut query: Query,
) -> Result<HttpResponse, ApiError> {
    let wanted = query.text("return_to").unwrap_or_default();
    let to = return_to(&wanted);
    if visitor.session.is_some() {
        return Ok(visitor.redirect(&context, to));
    }
    Ok(page_of(&context, &visitor, to, "", None))
}

/// The page, again when something went wrong.
pub(super) fn page_of(
    context: &Context,
    visitor: &Visitor,
    return_to: &str,
    email: &str,
    trouble: Option<Trouble>,
) -> HttpResponse {
    let csrf = visitor.csrf(&context.vault);
    let shown = page::log_in(&LogIn {
        locale: visitor.locale,
        csrf: &csrf,
        return_to,
        query: &return_query(return_to),
        email,
        trouble,
        provider: provider_name(context),
    });
    visitor.show(context, status_of(trouble), shown)
}

/// What people know the identity provider as, if they may log in with one.
pub(super) fn provider_name(context: &Context) -> Option<&str> {
    context.provider.as_ref().map(|_provider| context.settings.oidc.display_name.as_str())
}

/// 401 would make browsers ask by themselves.
fn status_of(trouble: Option<Trouble>) -> StatusCode {
    match trouble {
        None => StatusCode::OK,
        Some(Trouble::Throttled) => StatusCode::TOO_MANY_REQUESTS,
        Some(Trouble::Wrong | Trouble::WrongCode | Trouble::Late) => StatusCode::UNPROCESSABLE_ENTITY,
    }
}

/// Log in with a password
#[utoipa::path(
    post,
    path = "/login",
    operation_id = "log_in",
    tag = "Pages",
    request_body(content = String, content_type = "application/x-www-form-urlencoded", description = "`email`, `password`, `return_to` and `csrf`."),
    responses(
        (status = 303, description = "In."),
        (status = 200, description = "The page that asks for the second factor.", body = String, content_type = "text/html"),
        (status = 422, description = "The page again: the e-mail address or the password is wrong.", body = String, content_type = "text/html"),
        (status = 429, description = "The page again: too many tries went wrong.", body = String, content_type = "text/html")
    )
)]
pub(crate) async fn log_in(context: Data<Context>, form: Form) -> Result<HttpResponse, ApiError> {
    let (visitor, to, email) = (&form.visitor, return_to(form.text("return_to")), form.trimmed("email"));
    let again = |trouble| page_of(&context, visitor, to, email, Some(trouble));
    match log_in::with_password(&context, visitor, email, form.text("password")).await {
        Ok(Step::In(token)) => Ok(enter(&context, visitor, &token, to)),
        Ok(Step::SecondFactor(ticket)) => {
            let csrf = visitor.csrf(&context.vault);
            let shown = page::second_factor(visitor.locale, &csrf, to, None);
            let mut response = visitor.show(&context, StatusCode::OK, shown);
            add(&mut response, &context.browsers.cookie(TICKET_COOKIE, ticket));
            Ok(response)
        }
        Ok(Step::Wrong) => Ok(again(Trouble::Wrong)),
        Err(error) if error.code() == "TOO_MANY_TRIES" => Ok(with_wait(again(Trouble::Throttled), &error)),
        Err(error) => Err(error),
    }
}

/// Show the page of the second factor
///
/// For a page that is loaded again; without the first step back to it.
#[utoipa::path(
    get,
    path = "/login/totp",
    operation_id = "show_second_factor",
    tag = "Pages",
    responses((status = 200, description = "The page.", body = String, content_type = "text/html"))
)]
pub(crate) async fn show_second(
    context: Data<Context>,
    visitor: Visitor,
    request: actix_web::HttpRequest,
) -> HttpResponse {
    if log_in::holder(&context, &visitor, &ticket(&context, &request)).is_none() {
        return visitor.redirect(&context, "/login");
    }
    let csrf = visitor.csrf(&context.vault);
    visitor.show(&context, StatusCode::OK, page::second_factor(visitor.locale, &csrf, return_to(""), None))
}

fn ticket(context: &Context, request: &actix_web::HttpRequest) -> String {
    let cookie = request.cookie(&context.browsers.name(TICKET_COOKIE));
    cookie.map(|cookie| cookie.value().to_owned()).unwrap_or_default()
}

/// Log in with the second factor
#[utoipa::path(
    post,
    path = "/login/totp",
    operation_id = "log_in_with_second_factor",
    tag = "Pages",
    request_body(content = String, content_type = "application/x-www-form-urlencoded", description = "`code`, `return_to` and `csrf`."),
    responses(
        (status = 303, description = "In."),
        (status = 422, description = "The page again: the code is wrong or was used.", body = String, content_type = "text/html"),
        (status = 429, description = "The page again: too many tries went wrong.", body = String, content_type = "text/html")
    )
)]
pub(crate) async fn log_in_with_code(
    context: Data<Context>,
    request: actix_web::HttpRequest,
    form: Form,
) -> Result<HttpResponse, ApiError> {
    let (visitor, to) = (&form.visitor, return_to(form.text("return_to")));
    let again = |trouble: Trouble| {
        let csrf = visitor.csrf(&context.vault);
        let shown = page::second_factor(visitor.locale, &csrf, to, Some(trouble));
        visitor.show(&context, status_of(Some(trouble)), shown)
    };
    match log_in::with_code(&context, visitor, &ticket(&context, &request), form.text("code")).await {
        Ok(Some(Step::In(token))) => {
            let mut response = enter(&context, visitor, &token, to);
            add(&mut response, &context.browsers.forget(TICKET_COOKIE));
            Ok(response)
        }
        Ok(Some(Step::Wrong | Step::SecondFactor(_))) => Ok(again(Trouble::WrongCode)),
        Ok(None) => Ok(page_of(&context, visitor, to, "", Some(Trouble::Late))),
        Err(error) if error.code() == "TOO_MANY_TRIES" => Ok(with_wait(again(Trouble::Throttled), &error)),
        Err(error) => Err(error),
    }
}

/// Log out
#[utoipa::path(
    post,
    path = "/logout",
    operation_id = "log_out_by_form",
    tag = "Pages",
    request_body(content = String, content_type = "application/x-www-form-urlencoded", description = "`csrf`."),
    responses((status = 303, description = "Out, and on to the page to log in."))
)]
pub(crate) async fn log_out(context: Data<Context>, form: Form) -> Result<HttpResponse, ApiError> {
    if let Some(session) = &form.visitor.session {
        account::log_out(&context, session, form.visitor.actor("")).await?;
    }
    Ok(leave(&context, &form.visitor))
}

/// On to a page, with the session.
pub(super) fn enter(context: &Context, visitor: &Visitor, token: &Token, to: &str) -> HttpResponse {
    let mut response = visitor.redirect(context, to);
    add(&mut response, &context.browsers.session_cookie(token.expose()));
    response
}

/// On to the page to log in, without the session.
pub(super) fn leave(context: &Context, visitor: &Visitor) -> HttpResponse {
    let mut response = visitor.redirect(context, "/login");
    add(&mut response, &context.browsers.forget(SESSION));
    response
}

/// A cookie of ours is always a header value.
pub(super) fn add(response: &mut HttpResponse, cookie: &actix_web::cookie::Cookie<'_>) {
    if let Err(error) = response.add_cookie(cookie) {
        tracing::error!(%error, "a cookie cannot be set");
    }
}

/// The answer with the error's `Retry-After`.
fn with_wait(mut response: HttpResponse, error: &ApiError) -> HttpResponse {
    use actix_web::{ResponseError as _, http::header::RETRY_AFTER};

    if let Some(wait) = error.error_response().headers().get(RETRY_AFTER) {
        response.headers_mut().insert(RETRY_AFTER, wait.clone());
    }
    response
}
