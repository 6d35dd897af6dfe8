//! `/webhooks/integrationKeys/zapier`: the one key that Zapier is given beside the Client ID (contract §1, source 2).
//!
//! There is exactly one that is live; making another ends it. It may do everything but administrate.

use actix_web::{HttpRequest, HttpResponse, web::Data};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    credential::{
        Kind, Scope,
        directory::known_everywhere,
        store::{self, NewCredential},
    },
    event::wire_time,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{check_given, may_issue, shown_once, stored, token};
use crate::{
    access::{
        Caller,
        idempotent::{Reply, idempotent, key},
    },
    context::Context,
    paging::Query,
    problem,
};

/// What the key is called in lists and in the audit log.
const NAME: &str = "zapier";

/// The Zapier integration key, without the key.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = IntegrationKey)]
pub(crate) struct View {
    /// The Client ID, which goes with the key: the tenant's.
    #[schema(example = "0197f1e4-8d2a-7c3b-9e4f-5a6b7c8d9e0f")]
    client_id: String,
    /// What it is called here; `null` when there is none.
    #[schema(example = "key_01hzy3v9k2s8d4f6g8h0j2k4m6")]
    id: Option<String>,
    /// The first characters of the key, to recognise it by.
    #[schema(example = "sk_integ_Zm")]
    prefix: Option<String>,
    /// When it was made.
    #[schema(format = DateTime)]
    created_at: Option<String>,
    /// When it was last used, within a minute.
    #[schema(format = DateTime)]
    last_used_at: Option<String>,
}

/// A Zapier integration key that was made just now.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = NewIntegrationKey)]
pub(crate) struct Made {
    /// The key itself, this once; `null` when the request was repeated with its Idempotency-Key.
    #[schema(example = "sk_integ_Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4Zm9vYmFyYmE")]
    key: Option<String>,
}

/// Show the Zapier integration key
///
/// The Client ID, and what is known of the key; never the key itself.
#[utoipa::path(
    get,
    path = "/webhooks/integrationKeys/zapier",
    operation_id = "show_integration_key",
    tag = "Keys",
    responses((status = 200, description = "What is known of the key.", body = View, example = json!({"client_id": "0197f1e4-8d2a-7c3b-9e4f-5a6b7c8d9e0f", "id": "key_01hzy3v9k2s8d4f6g8h0j2k4m6", "prefix": "sk_integ_Zm", "created_at": "2025-11-12T14:30:00.000Z", "last_used_at": null})))
)]
pub(crate) async fn show(
    context: Data<Context>,
    caller: Caller,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    query.finish()?;
    let tenant = caller.tenant();
    let key = context.db.once(move |conn| store::integration(conn, tenant)).await.map_err(problem::of)?;
    Ok(HttpResponse::Ok().json(View {
        client_id: tenant.uuid().to_string(),
        id: key.as_ref().map(|key| key.id.to_string()),
        prefix: key.as_ref().map(|key| key.prefix.clone()),
        created_at: key.as_ref().map(|key| wire_time(key.created_at)),
        last_used_at: key.as_ref().and_then(|key| key.last_used_at).map(wire_time),
    }))
}

/// Rotate the Zapier integration key
///
/// Makes the key that Zapier asks for beside the Client ID, and ends the one before: from the answer on it is refused
/// everywhere, without grace. It may do everything but administrate. There is no body.
#[utoipa::path(
    post,
    path = "/webhooks/integrationKeys/zapier",
    operation_id = "rotate_integration_key",
    tag = "Keys",
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition of this very request make no second key, for 48 h; 1 to 255 printable ASCII characters.")),
    responses((status = 201, description = "Made. Not to be cached.", body = Made, example = json!({"key": "sk_integ_Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4Zm9vYmFyYmE"})))
)]
pub(crate) async fn rotate(
    context: Data<Context>,
    caller: Caller,
    request: HttpRequest,
    query: Query,
) -> Result<Reply, ApiError> {
    query.finish()?;
    may_issue(&caller)?;
    let now = context.clock.now();
    let scopes = Scope::ALL.into_iter().filter(|scope| *scope != Scope::Admin).collect();
    check_given(scopes, caller.principal.scopes())?;
    let key = key(&request, &caller, &[])?;
    let reply = idempotent(&context, key, move |conn| {
        let token = token(Kind::Integration);
        let new = NewCredential {
            created_by: caller.user(),
            ..NewCredential::new(Kind::Integration, &token, caller.tenant(), NAME, scopes, now)
        };
        stored(conn, &caller, &new, store::rotate_integration)?;
        shown_once(|key| Made { key }, &token)
    })
    .await?;
    known_everywhere().await;
    Ok(reply)
}
