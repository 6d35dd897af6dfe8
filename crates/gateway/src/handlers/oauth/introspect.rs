//! `/oauth/introspect`: what is behind a token, for services of ours, and for a client that asks about its own.

use actix_web::{HttpRequest, HttpResponse, http::header::AUTHORIZATION, web::Data};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    credential::TokenHash,
    oauth::token::{self, Known},
    service_token,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    MAX_FORM,
    answer::{self, Failure, OAuthError},
    client_authentication::authenticate,
    token::{TokenOnlyForm, form, no_parameter_twice},
};
use crate::{
    access::{peer, stranger},
    body::FormBody,
    context::Context,
};

/// What is known of a token (RFC 7662 §2.2).
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct Introspection {
    /// Whether it is taken at this moment. When it is not, nothing else is told.
    active: bool,
    /// What it may do, separated by blanks.
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    /// The client that holds it; not for keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<String>,
    /// The address of the person on whose behalf; not for keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<String>,
    /// The id of that person.
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<String>,
    /// Whose objects it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant_id: Option<String>,
    /// `Bearer`; not for refresh tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_type: Option<&'static str>,
    /// When it was made, in Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    iat: Option<i64>,
    /// Until when it holds, in Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<i64>,
    /// Who made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<String>,
}

/// Ask about a token
///
/// RFC 7662. A service of this installation shows a service token (`Authorization: Bearer`) and is told about every credential; a
/// client with a secret shows it and is told about its own tokens.
#[utoipa::path(
    post,
    path = "/oauth/introspect",
    operation_id = "introspect_token",
    tag = "OAuth",
    request_body(content = TokenOnlyForm, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, description = "What is known.", body = Introspection, example = json!({"active": true, "scope": "hooks:read", "client_id": "oac_01hzy3v9k2s8d4f6g8h0j2k4m6", "username": "ada@example.com", "sub": "usr_01hzy3v9k2s8d4f6g8h0j2k4m6", "tenant_id": "ten_01hzy3v9k2s8d4f6g8h0j2k4m6", "token_type": "Bearer", "iat": 1_763_720_000, "exp": 1_763_723_600, "iss": "https://hooks.example.com"})),
        (status = 400, description = "`invalid_request` or `invalid_client`.", body = OAuthError, example = json!({"error": "invalid_request", "error_description": "token is missing"})),
        (status = 401, description = "`invalid_client`, when `Authorization` was used.", body = OAuthError, example = json!({"error": "invalid_client", "error_description": "the client is unknown, or did not show its secret"}))
    ),
    extensions(("x-errors" = json!(["-INVALID_JSON", "RATE_LIMITED", "OVERLOADED", "UNAVAILABLE", "INTERNAL"])))
)]
pub(crate) async fn introspect(
    context: Data<Context>,
    request: HttpRequest,
    body: FormBody<MAX_FORM>,
) -> Result<HttpResponse, ApiError> {
    match known(&context, &request, &body).await {
        Ok(None) => Ok(answer::json(&Introspection::default())),
        Ok(Some(known)) => Ok(answer::json(&told(known, context.issuer()))),
        Err(failure) => answer::of_failure(failure),
    }
}

async fn known(
    context: &Context,
    request: &HttpRequest,
    body: &FormBody<MAX_FORM>,
) -> Result<Option<Known>, Failure> {
    let form = form(body)?;
    let only = if is_service(context, request).await? {
        None
    } else {
        let client = authenticate(context, request, &form).await?;
        if client.is_public() {
            // Anybody could say so.
            return Err(Failure::WrongClient { basic: false });
        }
        Some(client.id)
    };
    no_parameter_twice(&form)?;
    let hash = TokenHash::of(form.get("token").ok_or_else(|| Failure::invalid_request("token is missing"))?);
    let now = context.clock.now();
    Ok(context.db.once(move |conn| token::introspect(conn, only, &hash, now)).await?)
}

/// Whether a service of ours asks.
async fn is_service(context: &Context, request: &HttpRequest) -> Result<bool, Failure> {
    let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer = header.and_then(|text| {
        let (scheme, token) = text.trim().split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    let Some(token) = bearer else { return Ok(false) };
    match service_token::verify(&context.vault, token, context.clock.now()) {
        Ok(service) => {
            tracing::debug!(%service, "a service asks about a token");
            Ok(true)
        }
        Err(error) => {
            tracing::debug!(%error, "a service token is refused");
            stranger::count(context, peer::of(request, &context.settings.http.trusted_proxies)).await?;
            Err(Failure::WrongClient { basic: true })
        }
    }
}

fn told(known: Known, issuer: String) -> Introspection {
    Introspection {
        active: true,
        scope: Some(known.scopes.join(" ")),
        client_id: known.client_id.map(|id| id.to_string()),
        username: known.username,
        sub: known.user_id.map(|id| id.to_string()),
        tenant_id: Some(known.tenant_id.to_string()),
        token_type: known.is_access.then_some("Bearer"),
        iat: Some(known.issued_at.timestamp()),
        exp: known.expires_at.map(|end| end.timestamp()),
        iss: Some(issuer),
    }
}
