//! `/v1/oauth/clients`: the apps of a tenant, for its admins. Those that are for everybody are made at the command line.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header::CACHE_CONTROL},
    web::Data,
};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    credential::{Scope, Token, directory::known_everywhere},
    event::wire_time,
    id::ClientId,
    oauth::{
        client::{self, Client, NewClient},
        redirect,
    },
};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::super::fields::{Fields, invalid};
use crate::{
    access::{
        Caller,
        idempotent::{Reply, idempotent, key},
    },
    body::{JsonBody, SMALL},
    context::Context,
    paging::{Id, Query},
    problem,
};

/// An OAuth client.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct View {
    /// Its id, which is no secret.
    #[schema(example = "oac_01hzy3v9k2s8d4f6g8h0j2k4m6")]
    client_id: String,
    /// Its name, as people read it when they are asked.
    #[schema(example = "Zapier")]
    name: String,
    /// Whether it has no secret and has to use PKCE.
    public: bool,
    /// Where browsers may be sent with its codes.
    redirect_uris: Vec<String>,
    /// What it may be given.
    scopes: Vec<String>,
    /// When it was made.
    #[schema(format = DateTime)]
    created_at: String,
    /// When it was revoked.
    #[schema(format = DateTime)]
    revoked_at: Option<String>,
}

/// An OAuth client and, this once, its secret.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Created {
    #[serde(flatten)]
    client: View,
    /// Its secret, this once; `null` for public clients, and when the request was repeated with its Idempotency-Key.
    #[schema(example = "cs_ZmFrZWZha2VmYWtlZmFrZWZha2VmYWtlZmFrZWZha2U")]
    client_secret: Option<String>,
}

/// The new secret of an OAuth client.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct NewSecret {
    /// Which client.
    client_id: String,
    /// Its secret; shown this once. The one before is no longer taken.
    client_secret: String,
}

/// An OAuth client to be made.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct ClientRequest {
    /// 1 to 50 characters; people decide by it.
    name: String,
    /// 1 to 10: https, http on loopback, or for public clients a scheme such as `com.example.app:/callback`.
    redirect_uris: Vec<String>,
    /// What it may be given.
    scopes: Vec<String>,
    /// Whether it cannot keep a secret, such as an app on people's devices. Default: false.
    public: Option<bool>,
}

impl From<Client> for View {
    fn from(client: Client) -> Self {
        Self {
            client_id: client.id.to_string(),
            public: client.is_public(),
            scopes: client.scopes().iter().map(|scope| scope.to_string()).collect(),
            name: client.name,
            redirect_uris: client.redirect_uris,
            created_at: wire_time(client.created_at),
            revoked_at: client.revoked_at.map(wire_time),
        }
    }
}

/// List OAuth clients
///
/// The tenant's own, also those that are revoked, oldest first.
#[utoipa::path(
    get,
    path = "/v1/oauth/clients",
    operation_id = "list_oauth_clients",
    tag = "OAuth",
    responses((status = 200, description = "The clients.", body = inline(crate::openapi::PageOf<View>), example = json!({"data": [{"client_id": "oac_01hzy3v9k2s8d4f6g8h0j2k4m6", "name": "Zapier", "public": false, "redirect_uris": ["https://zapier.com/dashboard/auth/oauth/return/App1CLIAPI/"], "scopes": ["hooks:read", "hooks:write"], "created_at": "2025-11-12T14:30:00.000Z", "revoked_at": null}], "next_cursor": null, "has_more": false})))
)]
pub(crate) async fn list(
    context: Data<Context>,
    caller: Caller,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    query.finish()?;
    let tenant = caller.tenant();
    let clients = context.db.once(move |conn| client::list(conn, Some(tenant))).await.map_err(problem::of)?;
    let data: Vec<View> = clients.into_iter().map(View::from).collect();
    Ok(HttpResponse::Ok().json(json!({ "data": data, "next_cursor": null, "has_more": false })))
}

/// Make an OAuth client
///
/// For the people of this tenant. Its secret is in this answer and nowhere afterwards; a repetition with the same Idempotency-Key is
/// answered with `"client_secret": null`.
#[utoipa::path(
    post,
    path = "/v1/oauth/clients",
    operation_id = "create_oauth_client",
    tag = "OAuth",
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition of this very request make no second client, for 48 h; 1 to 255 printable ASCII characters.")),
    request_body(content = ClientRequest, example = json!({"name": "Zapier", "redirect_uris": ["https://zapier.com/dashboard/auth/oauth/return/App1CLIAPI/"], "scopes": ["hooks:read", "hooks:write"]})),
    responses((status = 201, description = "Made.", body = Created, example = json!({"client_id": "oac_01hzy3v9k2s8d4f6g8h0j2k4m6", "name": "Zapier", "public": false, "redirect_uris": ["https://zapier.com/dashboard/auth/oauth/return/App1CLIAPI/"], "scopes": ["hooks:read", "hooks:write"], "created_at": "2025-11-12T14:30:00.000Z", "revoked_at": null, "client_secret": "cs_ZmFrZWZha2VmYWtlZmFrZWZha2VmYWtlZmFrZWZha2U"}))),
    extensions(("x-errors" = json!(["INVALID_FIELD", "INVALID_BODY", "CONFLICT"])))
)]
pub(crate) async fn create(
    context: Data<Context>,
    caller: Caller,
    request: HttpRequest,
    body: JsonBody<SMALL>,
) -> Result<Reply, ApiError> {
    let fields = Fields::parse(&body)?;
    let scopes = fields.texts("scopes", Scope::ALL.len())?.unwrap_or_default();
    let scope =
        |text: &str| text.parse::<Scope>().map_err(|error| invalid("scopes", &format!("has {error}")));
    let uris = fields.texts("redirect_uris", redirect::MAX_URIS)?.unwrap_or_default();
    let new = NewClient {
        tenant: Some(caller.tenant()),
        name: fields.text("name")?.unwrap_or_default().to_owned(),
        redirect_uris: uris.into_iter().map(str::to_owned).collect(),
        scopes: scopes.into_iter().map(scope).collect::<Result<_, _>>()?,
        is_public: fields.flag("public")?.unwrap_or(false),
    };
    let (actor, now) = (caller.actor(), context.clock.now());
    let key = key(&request, &caller, &body)?;
    idempotent(&context, key, move |conn| {
        let (client, secret) = client::create(conn, &new, &actor, now)?;
        let answer = |client_secret: Option<String>| Created { client: client.clone().into(), client_secret };
        let secret = secret.as_ref().map(Token::expose).map(str::to_owned);
        // What is kept for a repetition has no secret in it.
        Ok(Reply::json(StatusCode::CREATED, &answer(secret))?.once(&answer(None))?)
    })
    .await
}

/// Revoke an OAuth client
///
/// Ends everything that people allowed it. When this is answered, no gateway takes its tokens any more.
#[utoipa::path(
    delete,
    path = "/v1/oauth/clients/{id}",
    operation_id = "revoke_oauth_client",
    tag = "OAuth",
    params(("id" = String, Path, description = "The client's id.", example = "oac_01hzy3v9k2s8d4f6g8h0j2k4m6")),
    responses((status = 200, description = "Revoked.", body = Object, example = json!({"status": "revoked", "client_id": "oac_01hzy3v9k2s8d4f6g8h0j2k4m6"})))
)]
pub(crate) async fn revoke(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<ClientId>,
) -> Result<HttpResponse, ApiError> {
    let (tenant, actor, now) = (caller.tenant(), caller.actor(), context.clock.now());
    let revoked = context.db.run(move |conn| client::revoke(conn, Some(tenant), id, &actor, now)).await;
    revoked.map_err(problem::of)?;
    known_everywhere().await;
    Ok(HttpResponse::Ok().json(json!({ "status": "revoked", "client_id": id.to_string() })))
}

/// Rotate the secret of an OAuth client
///
/// The one before ends at once; tokens that were given stay.
#[utoipa::path(
    post,
    path = "/v1/oauth/clients/{id}/secret",
    operation_id = "rotate_oauth_client_secret",
    tag = "OAuth",
    params(("id" = String, Path, description = "The client's id.", example = "oac_01hzy3v9k2s8d4f6g8h0j2k4m6")),
    responses((status = 200, description = "The new secret.", body = NewSecret, example = json!({"client_id": "oac_01hzy3v9k2s8d4f6g8h0j2k4m6", "client_secret": "cs_ZmFrZWZha2VmYWtlZmFrZWZha2VmYWtlZmFrZWZha2U"}))),
    extensions(("x-errors" = json!(["CONFLICT"])))
)]
pub(crate) async fn rotate(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<ClientId>,
) -> Result<HttpResponse, ApiError> {
    let (tenant, actor, now) = (caller.tenant(), caller.actor(), context.clock.now());
    let rotated =
        context.db.run(move |conn| client::rotate_secret(conn, Some(tenant), id, &actor, now)).await;
    let secret = rotated.map_err(problem::of)?;
    let answer = NewSecret { client_id: id.to_string(), client_secret: secret.expose().to_owned() };
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(answer))
}
