//! `/.well-known/oauth-authorization-server`: what this server can do and where (RFC 8414).

use actix_web::{HttpResponse, http::header::CACHE_CONTROL, web::Data};
use hookyard_domain::credential::Scope;
use serde_json::json;

use crate::context::Context;

/// Show what the OAuth server can do
///
/// RFC 8414. The issuer is the setting `http.public_url`.
#[utoipa::path(
    get,
    path = "/.well-known/oauth-authorization-server",
    operation_id = "show_oauth_metadata",
    tag = "OAuth",
    responses((status = 200, description = "The metadata.", body = Object, example = json!({"issuer": "https://hooks.example.com", "authorization_endpoint": "https://hooks.example.com/oauth/authorize", "token_endpoint": "https://hooks.example.com/oauth/token"})))
)]
pub(crate) async fn show(context: Data<Context>) -> HttpResponse {
    let issuer = context.issuer();
    let at = |path: &str| format!("{issuer}{path}");
    let methods = json!(["client_secret_basic", "client_secret_post", "none"]);
    let metadata = json!({
        "issuer": issuer,
        "authorization_endpoint": at("/oauth/authorize"),
        "token_endpoint": at("/oauth/token"),
        "revocation_endpoint": at("/oauth/revoke"),
        "introspection_endpoint": at("/oauth/introspect"),
        "service_documentation": at("/docs"),
        "scopes_supported": Scope::ALL.map(Scope::as_str),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code", "refresh_token"],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": methods,
        "revocation_endpoint_auth_methods_supported": methods,
        "introspection_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        "authorization_response_iss_parameter_supported": true,
        "ui_locales_supported": ["en", "fr"],
    });
    HttpResponse::Ok().insert_header((CACHE_CONTROL, "public, max-age=300")).json(metadata)
}
