//! `/.well-known/jwks.json`: the public keys with which receivers verify callbacks (contract §6).

use actix_web::{HttpResponse, http::header::CACHE_CONTROL, web::Data};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::signing_key::{self, store};

use crate::{context::Context, problem};

/// An hour: the next key is published a day before it is used.
const CACHED: &str = "public, max-age=3600";

/// Show the keys that callbacks are signed with
///
/// A JSON Web Key Set (RFC 7517). Each callback names its key by `kid` in the header of its token, `Zapier-Callback-Signature`.
/// A key is here at least 24 hours before it is used, and 24 hours after: a set may be kept for a day.
#[utoipa::path(
    get,
    path = "/.well-known/jwks.json",
    operation_id = "show_signing_keys",
    tag = "Action runs",
    responses((status = 200, description = "The keys.", body = Object, example = json!({"keys": [{"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs", "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmb…", "e": "AQAB"}]}))),
    extensions(("x-errors" = json!(["INTERNAL", "OVERLOADED", "UNAVAILABLE"])))
)]
pub(crate) async fn show(context: Data<Context>) -> Result<HttpResponse, ApiError> {
    let now = context.clock.now();
    let keys = store::published(&context.db, &context.vault, now).await.map_err(problem::of)?;
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, CACHED)).json(signing_key::jwks(&keys, now)))
}
