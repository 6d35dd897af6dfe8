//! `/login/oidc`: to the identity provider and back.

use actix_web::{
    HttpRequest, HttpResponse, cookie::time::Duration as CookieDuration, http::StatusCode, web::Data,
};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::person::oidc::LIFETIME;
use hookyard_portal::provider::{self as page, Trouble};
use subtle::ConstantTimeEq as _;

use super::{
    login::{add, enter},
    return_to,
};
use crate::{
    access::visitor::Visitor,
    context::Context,
    paging::Query,
    people::{
        provider::Provider,
        with_provider::{self, Outcome, Refusal},
    },
};

/// The cookie with the `state` of the log-in that is under way in this browser.
const STATE_COOKIE: &str = "oidc";

/// The longest parameter of a provider's answer that is looked at.
const MAX_PARAMETER: usize = 4_096;

/// Log in with the identity provider
///
/// On to the provider (`oidc.issuer`), which sends the browser back to `/login/oidc/callback`.
#[utoipa::path(
    get,
    path = "/login/oidc",
    operation_id = "begin_oidc_log_in",
    tag = "Pages",
    params(("return_to" = Option<String>, Query, description = "Where to go afterwards: a path of this service. The path of an invitation accepts it.")),
    responses(
        (status = 303, description = "To the provider."),
        (status = 404, description = "There is no provider.", body = String, content_type = "text/html"),
        (status = 502, description = "The provider cannot be asked.", body = String, content_type = "text/html")
    )
)]
pub(crate) async fn begin(
    context: Data<Context>,
    visitor: Visitor,
    mut query: Query,
) -> Result<HttpResponse, ApiError> {
    let provider = provider(&context)?;
    let wanted = query.text("return_to").unwrap_or_default();
    match with_provider::begin(&context, provider, return_to(&wanted)).await? {
        Ok((url, state)) => {
            let mut response = visitor.redirect(&context, url.as_str());
            let mut cookie = context.browsers.cookie(STATE_COOKIE, state);
            cookie.set_max_age(CookieDuration::seconds(LIFETIME.num_seconds()));
            add(&mut response, &cookie);
            Ok(response)
        }
        Err(error) => Ok(failed(&context, &visitor, Trouble::Failed, &format!("{error:#}"))),
    }
}

/// Come back from the identity provider
#[utoipa::path(
    get,
    path = "/login/oidc/callback",
    operation_id = "end_oidc_log_in",
    tag = "Pages",
    params(
        ("state" = Option<String>, Query, description = "As it was given to the provider."),
        ("code" = Option<String>, Query, description = "What is exchanged for an ID token."),
        ("error" = Option<String>, Query, description = "Why there is no code.")
    ),
    responses(
        (status = 303, description = "In."),
        (status = 400, description = "It took too long, was begun elsewhere, or is over already.", body = String, content_type = "text/html"),
        (status = 403, description = "Nobody who may log in.", body = String, content_type = "text/html"),
        (status = 404, description = "There is no provider.", body = String, content_type = "text/html"),
        (status = 502, description = "The provider, or what it said, is of no use.", body = String, content_type = "text/html")
    )
)]
pub(crate) async fn end(
    context: Data<Context>,
    visitor: Visitor,
    request: HttpRequest,
    mut query: Query,
) -> Result<HttpResponse, ApiError> {
    let provider = provider(&context)?;
    let mut parameter =
        |name| query.text(name).filter(|text| !text.is_empty() && text.len() <= MAX_PARAMETER);
    let (state, code, error, issuer) =
        (parameter("state"), parameter("code"), parameter("error"), parameter("iss"));
    let kept = request.cookie(&context.browsers.name(STATE_COOKIE));
    let own = state
        .filter(|state| kept.is_some_and(|kept| bool::from(kept.value().as_bytes().ct_eq(state.as_bytes()))));
    let Some(state) = own else { return Ok(refused(&context, &visitor, Refusal::Late)) };
    let Some(login) = with_provider::take(&context, &state).await? else {
        return Ok(over(&context, refused(&context, &visitor, Refusal::Late)));
    };
    if issuer.is_some_and(|issuer| issuer != provider.issuer()) {
        let reason = "the answer is another provider's (RFC 9207)";
        return Ok(over(&context, failed(&context, &visitor, Trouble::Failed, reason)));
    }
    let Some(code) = code else {
        let said: String = error.unwrap_or_default().chars().filter(|c| !c.is_control()).take(100).collect();
        return Ok(over(&context, failed(&context, &visitor, Trouble::Denied, &said)));
    };
    let response = match with_provider::end(&context, provider, &visitor, &state, login, &code).await? {
        Outcome::In { token, to } => enter(&context, &visitor, &token, &to),
        Outcome::Refused(refusal) => refused(&context, &visitor, refusal),
        Outcome::Failed(reason) => failed(&context, &visitor, Trouble::Failed, &reason),
    };
    Ok(over(&context, response))
}

fn provider(context: &Context) -> Result<&Provider, ApiError> {
    context
        .provider
        .as_ref()
        .ok_or_else(|| ApiError::not_found("there is no identity provider to log in with"))
}

/// Without the cookie: the log-in is over, however it ended.
fn over(context: &Context, mut response: HttpResponse) -> HttpResponse {
    add(&mut response, &context.browsers.forget(STATE_COOKIE));
    response
}

fn refused(context: &Context, visitor: &Visitor, refusal: Refusal) -> HttpResponse {
    let (status, trouble) = match refusal {
        Refusal::Late => (StatusCode::BAD_REQUEST, Trouble::Late),
        Refusal::Unverified => (StatusCode::FORBIDDEN, Trouble::Unverified),
        Refusal::NoAccount => (StatusCode::FORBIDDEN, Trouble::NoAccount),
        Refusal::Domain => (StatusCode::FORBIDDEN, Trouble::Domain),
        Refusal::OtherAddress => (StatusCode::FORBIDDEN, Trouble::OtherAddress),
    };
    visitor.show(context, status, page::not_in(visitor.locale, trouble))
}

fn failed(context: &Context, visitor: &Visitor, trouble: Trouble, reason: &str) -> HttpResponse {
    tracing::warn!(error = reason, "a log-in with the identity provider failed");
    let status = if trouble == Trouble::Denied { StatusCode::FORBIDDEN } else { StatusCode::BAD_GATEWAY };
    visitor.show(context, status, page::not_in(visitor.locale, trouble))
}
