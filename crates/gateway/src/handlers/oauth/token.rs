//! `/oauth/token` and `/oauth/revoke`: programs exchange what they have for tokens, and give tokens back.

use actix_web::{HttpRequest, HttpResponse, web::Data};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    credential::{TokenHash, directory::known_everywhere},
    oauth::{
        ACCESS_LIFE, ErrorCode, Refused,
        client::Client,
        exchange::{self, CodeRequest, Issued, Outcome, RefreshRequest},
        permission, token,
    },
};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::{
    MAX_FORM,
    answer::{self, Failure, OAuthError},
    client_authentication::{actor, authenticate},
    parameters::Parameters,
};
use crate::{body::FormBody, context::Context};

/// Tokens (RFC 6749 §5.1).
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Tokens {
    /// Shown as `Authorization: Bearer`.
    #[schema(example = "at_ZmFrZWZha2VmYWtlZmFrZWZha2VmYWtlZmFrZWZha2U")]
    access_token: String,
    /// Always `Bearer`.
    #[schema(example = "Bearer")]
    token_type: &'static str,
    /// Seconds until the access token ends.
    #[schema(example = 3600)]
    expires_in: i64,
    /// For the next pair. Use it once: it is replaced with each use.
    #[schema(example = "rt_ZmFrZWZha2VmYWtlZmFrZWZha2VmYWtlZmFrZWZha2U")]
    refresh_token: String,
    /// What the access token may do, separated by blanks.
    #[schema(example = "hooks:read hooks:write")]
    scope: String,
}

/// A token request. The form's members; those of the other grant type are ignored.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the form in the OpenAPI document")]
pub(crate) struct TokenForm {
    /// `authorization_code` or `refresh_token`.
    grant_type: String,
    /// The code.
    code: Option<String>,
    /// As in the authorization request, if it was there.
    redirect_uri: Option<String>,
    /// PKCE: what the challenge was made of.
    code_verifier: Option<String>,
    /// The refresh token.
    refresh_token: Option<String>,
    /// With a refresh token: less than was allowed.
    scope: Option<String>,
    /// Unless in `Authorization: Basic`.
    client_id: Option<String>,
    /// Unless in `Authorization: Basic`, or the client has none.
    client_secret: Option<String>,
}

/// A token that is given back, or asked about.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the form in the OpenAPI document")]
pub(crate) struct TokenOnlyForm {
    /// The token.
    token: String,
    /// `access_token` or `refresh_token`; not needed.
    token_type_hint: Option<String>,
    /// Unless in `Authorization: Basic`.
    client_id: Option<String>,
    /// Unless in `Authorization: Basic`, or the client has none.
    client_secret: Option<String>,
}

/// Exchange a code or a refresh token
///
/// The client shows its id and secret in the form or in `Authorization: Basic`, not in both. A code is exchanged once, within
/// 60 s: one that comes again ends the authorization. A refresh token is replaced with each use; within 60 s of its first
/// use it may be used again, as several may share it, later that ends the authorization.
#[utoipa::path(
    post,
    path = "/oauth/token",
    operation_id = "exchange_token",
    tag = "OAuth",
    request_body(content = TokenForm, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, description = "Tokens.", body = Tokens, example = json!({"access_token": "at_ZmFrZWZha2VmYWtlZmFrZWZha2VmYWtlZmFrZWZha2U", "token_type": "Bearer", "expires_in": 3600, "refresh_token": "rt_ZmFrZWZha2VmYWtlZmFrZWZha2VmYWtlZmFrZWZha2U", "scope": "hooks:read hooks:write"})),
        (status = 400, description = "`invalid_request`, `invalid_client`, `invalid_grant`, `unsupported_grant_type` or `invalid_scope`.", body = OAuthError, example = json!({"error": "invalid_grant", "error_description": "the code has expired"})),
        (status = 401, description = "`invalid_client`, when `Authorization: Basic` was used.", body = OAuthError, example = json!({"error": "invalid_client", "error_description": "the client is unknown, or did not show its secret"}))
    ),
    extensions(("x-errors" = json!(["-INVALID_JSON", "RATE_LIMITED", "OVERLOADED", "UNAVAILABLE", "INTERNAL"])))
)]
pub(crate) async fn exchange(
    context: Data<Context>,
    request: HttpRequest,
    body: FormBody<MAX_FORM>,
) -> Result<HttpResponse, ApiError> {
    match exchanged(&context, &request, &body).await {
        Ok(Issued { access, refresh, scopes }) => Ok(answer::json(&Tokens {
            access_token: access.expose().to_owned(),
            token_type: "Bearer",
            expires_in: ACCESS_LIFE.num_seconds(),
            refresh_token: refresh.expose().to_owned(),
            scope: permission::words(scopes),
        })),
        Err(failure) => answer::of_failure(failure),
    }
}

async fn exchanged(
    context: &Context,
    request: &HttpRequest,
    body: &FormBody<MAX_FORM>,
) -> Result<Issued, Failure> {
    let form = form(body)?;
    let client = authenticate(context, request, &form).await?;
    no_parameter_twice(&form)?;
    let missing = |name: &str| Failure::invalid_request(&format!("{name} is missing"));
    let outcome = match form.get("grant_type") {
        Some("authorization_code") => {
            let asked = CodeRequest {
                code: TokenHash::of(form.get("code").ok_or_else(|| missing("code"))?),
                redirect_uri: form.owned("redirect_uri"),
                verifier: form.owned("code_verifier"),
            };
            of_code(context, request, client, asked).await?
        }
        Some("refresh_token") => {
            let wanted = permission::read(form.get("scope"))
                .map_err(|reason| Refused::new(ErrorCode::InvalidScope, reason))?;
            let token = TokenHash::of(form.get("refresh_token").ok_or_else(|| missing("refresh_token"))?);
            of_refresh_token(context, request, client, RefreshRequest { token, wanted }).await?
        }
        Some(_) => {
            let reason = "grant_type must be authorization_code or refresh_token";
            return Err(Refused::new(ErrorCode::UnsupportedGrantType, reason).into());
        }
        None => return Err(missing("grant_type")),
    };
    if let Err(refused) = &outcome
        && refused.ended_tokens
    {
        known_everywhere().await;
    }
    Ok(outcome?)
}

async fn of_code(
    context: &Context,
    request: &HttpRequest,
    client: Client,
    asked: CodeRequest,
) -> Result<Outcome, Failure> {
    let (actor, now) = (actor(context, request, &client), context.clock.now());
    Ok(context.db.run(move |conn| exchange::code(conn, &client, &asked, &actor, now)).await?)
}

async fn of_refresh_token(
    context: &Context,
    request: &HttpRequest,
    client: Client,
    asked: RefreshRequest,
) -> Result<Outcome, Failure> {
    let (actor, now) = (actor(context, request, &client), context.clock.now());
    Ok(context.db.run(move |conn| exchange::refresh(conn, &client, &asked, &actor, now)).await?)
}

/// Give a token back
///
/// RFC 7009. A refresh token ends everything that came from its authorization, an access token itself. A token that is not known is as
/// good as given back. When this is answered, no gateway takes the tokens any more.
#[utoipa::path(
    post,
    path = "/oauth/revoke",
    operation_id = "revoke_token",
    tag = "OAuth",
    request_body(content = TokenOnlyForm, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, description = "The token is no longer taken.", body = Object, example = json!({})),
        (status = 400, description = "`invalid_request`, `invalid_client`, or `invalid_grant` when the token is another client's.", body = OAuthError, example = json!({"error": "invalid_request", "error_description": "token is missing"})),
        (status = 401, description = "`invalid_client`, when `Authorization: Basic` was used.", body = OAuthError, example = json!({"error": "invalid_client", "error_description": "the client is unknown, or did not show its secret"}))
    ),
    extensions(("x-errors" = json!(["-INVALID_JSON", "RATE_LIMITED", "OVERLOADED", "UNAVAILABLE", "INTERNAL"])))
)]
pub(crate) async fn revoke(
    context: Data<Context>,
    request: HttpRequest,
    body: FormBody<MAX_FORM>,
) -> Result<HttpResponse, ApiError> {
    match revoked(&context, &request, &body).await {
        Ok(()) => Ok(answer::json(&json!({}))),
        Err(failure) => answer::of_failure(failure),
    }
}

async fn revoked(context: &Context, request: &HttpRequest, body: &FormBody<MAX_FORM>) -> Result<(), Failure> {
    let form = form(body)?;
    let client = authenticate(context, request, &form).await?;
    no_parameter_twice(&form)?;
    let hash = TokenHash::of(form.get("token").ok_or_else(|| Failure::invalid_request("token is missing"))?);
    let (actor, now) = (actor(context, request, &client), context.clock.now());
    let ended = context.db.run(move |conn| token::give_back(conn, &client, &hash, &actor, now)).await??;
    if ended {
        known_everywhere().await;
    }
    Ok(())
}

/// The members of a form.
pub(super) fn form(body: &FormBody<MAX_FORM>) -> Result<Parameters, Failure> {
    let bytes = body.form().ok_or_else(|| {
        Failure::invalid_request("the Content-Type has to be application/x-www-form-urlencoded")
    })?;
    Ok(Parameters::parse(bytes))
}

/// Members that mean something may be there once (RFC 6749 §3.2).
pub(super) fn no_parameter_twice(form: &Parameters) -> Result<(), Failure> {
    const NAMES: [&str; 9] = [
        "grant_type",
        "code",
        "redirect_uri",
        "code_verifier",
        "refresh_token",
        "scope",
        "client_id",
        "client_secret",
        "token",
    ];
    match form.twice(&NAMES) {
        None => Ok(()),
        Some(name) => Err(Failure::invalid_request(&format!("{name} is given more than once"))),
    }
}
