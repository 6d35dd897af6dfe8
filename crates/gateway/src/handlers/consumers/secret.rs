//! What signs the deliveries of a consumer, shown and rotated.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header::CACHE_CONTROL},
    web::Data,
};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    Error,
    audit::Action,
    db::Conn,
    event::wire_time,
    id::SubscriptionId,
    subscription::consumer::keys,
    wire::{SigningKey, SigningSecret},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{entry, found, is_there, locked};
use crate::{
    access::{
        Caller,
        idempotent::{Reply, idempotent, key},
    },
    body::{JsonBody, SMALL},
    context::Context,
    handlers::{
        audited,
        fields::{Fields, text_of},
    },
    paging::{Id, Query},
    problem,
};

/// What signs the deliveries of a consumer.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ConsumerSecret)]
pub(crate) struct Secret {
    /// The consumer.
    #[schema(example = "hook_01hzy3v9k2s8d4f6g8h0j2k4m6")]
    id: String,
    /// The key of the `v1` signatures: `whsec_` and base64. `null` when the request is repeated with its `Idempotency-Key`.
    #[schema(example = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]
    secret: Option<String>,
    /// Verifies the `v1a` signatures: `whpk_` and base64 of an ed25519 key.
    #[schema(example = "whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=")]
    public_key: String,
    /// Until when the secret and the key from before the last rotation sign, too.
    #[schema(format = DateTime)]
    previous_until: Option<String>,
}

/// Show the secret of a consumer
///
/// The key with which the `v1` signatures of deliveries to this consumer can be verified, and the public key for those of `v1a`
/// (Standard Webhooks). The audit log remembers to whom it was shown.
#[utoipa::path(
    get,
    path = "/webhooks/{id}/secret",
    operation_id = "show_consumer_secret",
    tag = "Consumers",
    params(("id" = String, Path, description = "The consumer's id.", example = "hook_01hzy3v9k2s8d4f6g8h0j2k4m6")),
    responses((status = 200, description = "The secret. Not to be cached.", body = Secret, example = json!({"id": "hook_01hzy3v9k2s8d4f6g8h0j2k4m6", "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "public_key": "whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=", "previous_until": null})))
)]
pub(crate) async fn show(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<SubscriptionId>,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    query.finish()?;
    let (vault, now) = (context.vault.clone(), context.clock.now());
    let shown = move |conn: &mut Conn| {
        let consumer = found(conn, caller.tenant(), id)?;
        let secret = keys::signing_secret(conn, &vault, caller.tenant(), id)?;
        let secret = secret.ok_or(Error::NotFound { what: "consumer" })?;
        audited::record(conn, &caller, &entry(&caller, Action::ConsumerSecretShown, id), now)?;
        let previous_until = consumer.previous_until.filter(|until| now < *until).map(wire_time);
        Ok(Secret {
            id: id.to_string(),
            secret: Some(secret.expose().to_owned()),
            public_key: consumer.public_key,
            previous_until,
        })
    };
    let body = context.db.run(shown).await.map_err(problem::of)?;
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(body))
}

/// Rotate the secret of a consumer
///
/// Makes a new secret (or takes the one that is given) and a new ed25519 key. For 24 hours deliveries are signed with the old ones,
/// too, so that the receiver has time to change. Rotating again ends the older ones at once.
#[utoipa::path(
    post,
    path = "/webhooks/{id}/secret/rotate",
    operation_id = "rotate_consumer_secret",
    tag = "Consumers",
    params(
        ("id" = String, Path, description = "The consumer's id.", example = "hook_01hzy3v9k2s8d4f6g8h0j2k4m6"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition of this very request rotate nothing, for 48 h; 1 to 255 printable ASCII characters.")
    ),
    request_body(content = crate::openapi::SecretRequest, description = "May be left out.", example = json!({"secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"})),
    responses((status = 200, description = "The new secret. Not to be cached.", body = Secret, example = json!({"id": "hook_01hzy3v9k2s8d4f6g8h0j2k4m6", "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "public_key": "whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=", "previous_until": "2025-11-13T15:45:00.250Z"}))),
    extensions(("x-errors" = json!(["INVALID_SECRET", "INVALID_BODY", "CONSUMER_DELETED"])))
)]
pub(crate) async fn rotate(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<SubscriptionId>,
    request: HttpRequest,
    body: JsonBody<SMALL>,
) -> Result<Reply, ApiError> {
    let wrong = |reason: &str| problem::invalid("INVALID_SECRET", "secret", reason);
    let given = Fields::parse(&body)?.get("secret").map(|json| {
        let text = text_of(json).map_err(wrong)?;
        SigningSecret::parse(text).map_err(|error| wrong(&format!("is none: {error}")))
    });
    let secret = given.transpose()?.unwrap_or_else(|| SigningSecret::generate(&mut rand::rng()));
    let signing_key = SigningKey::generate(&mut rand::rng()).map_err(ApiError::internal)?;
    let key = key(&request, &caller, &body)?;
    let (vault, now) = (context.vault.clone(), context.clock.now());
    idempotent(&context, key, move |conn| {
        let tenant = caller.tenant();
        is_there(&locked(conn, tenant, id)?)?;
        keys::rotate(conn, &vault, (tenant, id), (&secret, &signing_key), now)?;
        let consumer = found(conn, tenant, id)?;
        audited::record(conn, &caller, &entry(&caller, Action::ConsumerSecretRotated, id), now)?;
        let shown = |secret: Option<String>| Secret {
            id: id.to_string(),
            secret,
            public_key: consumer.public_key.clone(),
            previous_until: consumer.previous_until.map(wire_time),
        };
        let reply = Reply::json(StatusCode::OK, &shown(Some(secret.expose().to_owned())))?;
        Ok(reply.once(&shown(None))?)
    })
    .await
}
