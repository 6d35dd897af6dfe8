//! `/v2/authentications`: who actions are elsewhere. Credentials go in, are tried, are sealed, and are never shown. Changing one and
//! trying it again is `authentications_change`.

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web::Data};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    Error,
    audit::{Action, Entry, ObjectKind, ObjectRef},
    connection::{
        Draft, Wrong,
        store::{self, ConnectionRow},
    },
    db::Conn,
    event::wire_time,
    id::ConnectionId,
    wire::{Object, parse_as_javascript},
};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{refused, trial};
use crate::{
    access::{
        Caller,
        idempotent::{self, Reply, idempotent},
    },
    body::{JsonBody, SMALL},
    context::Context,
    handlers::audited,
    paging::{Id, Query},
    problem,
};

/// Connections that are listed at most.
const LISTED: i64 = 1_000;
/// The code of everything that is wrong with a connection.
const INVALID: &str = "INVALID_AUTHENTICATION";

/// A connection, without its credentials.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Authentication)]
pub(crate) struct View {
    /// Always `authentication`.
    #[serde(rename = "type")]
    #[schema(example = "authentication")]
    kind: &'static str,
    /// What a run names it by.
    #[schema(example = "auth_01hzy3v9k2s8d4f6g8h0j2k4m6")]
    id: String,
    /// What it is called.
    #[schema(example = "Shop")]
    name: String,
    /// `bearer`, `basic`, `header` or `oauth2`.
    #[schema(example = "bearer")]
    scheme: String,
    /// Where it is shown, and nowhere else.
    #[schema(example = "https://api.example.com")]
    origin: String,
    /// When it was made.
    #[schema(format = DateTime)]
    created_at: String,
    /// When it was made or changed last.
    #[schema(format = DateTime)]
    updated_at: String,
    /// When its credentials were let in last: on saving, or by `POST /v2/authentications/{id}/test`.
    #[schema(format = DateTime)]
    tested_at: Option<String>,
}

impl From<ConnectionRow> for View {
    fn from(row: ConnectionRow) -> Self {
        Self {
            kind: "authentication",
            id: row.id.to_string(),
            name: row.name,
            scheme: row.kind,
            origin: row.origin,
            created_at: wire_time(row.created_at),
            updated_at: wire_time(row.updated_at),
            tested_at: row.tested_at.map(wire_time),
        }
    }
}

/// A connection, alone.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AuthenticationShown)]
pub(crate) struct Shown {
    pub(super) data: View,
}

/// Every connection.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AuthenticationList)]
pub(crate) struct Listed {
    /// The connections, newest first.
    data: Vec<View>,
}

/// Make a connection
///
/// The credentials are tried first, with a GET of `url`: 401 and 403 refuse the connection. They are shown to the origin of `url` and to
/// no other, and never told again. `type` is `bearer` (`token`), `basic` (`username`, `password`), `header` (`header`, `value`) or
/// `oauth2` (`token_url`, `client_id`, `client_secret`, `scope`: client credentials, RFC 6749 §4.4).
#[utoipa::path(
    post,
    path = "/v2/authentications",
    operation_id = "create_authentication",
    tag = "Action runs",
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition of this very request give the same answer, for 48 h; 1 to 255 printable ASCII characters.")),
    request_body(content = crate::openapi::AuthenticationRequest, example = json!({"name": "Shop", "type": "bearer", "url": "https://api.example.com/me", "token": "…"})),
    responses((status = 201, description = "Made.", body = Shown)),
    extensions(("x-errors" = json!(["INVALID_BODY", "INVALID_AUTHENTICATION"])))
)]
pub(crate) async fn create(
    context: Data<Context>,
    caller: Caller,
    request: HttpRequest,
    body: JsonBody<SMALL>,
) -> Result<Reply, ApiError> {
    let key = idempotent::key(&request, &caller, &body)?;
    let object = object(&body)?;
    let draft = Draft::parse(object).map_err(wrong)?;
    let token = trial::of(&context, &draft).await.map_err(wrong)?;
    let (now, tenant, vault) = (context.clock.now(), caller.tenant(), context.vault.clone());
    idempotent(&context, key, move |conn| {
        let id = ConnectionId::new(now);
        let row = store::insert(conn, &vault, (tenant, id), &draft, token.as_ref(), now)?;
        let entry = entry(&caller, Action::ConnectionCreated, id).after(told(&row));
        audited::record(conn, &caller, &entry, now)?;
        Ok(Reply::json(StatusCode::CREATED, &Shown { data: row.into() })?)
    })
    .await
}

/// The object that a body is.
pub(super) fn object(body: &[u8]) -> Result<Object, ApiError> {
    let json = parse_as_javascript(body).map_err(|error| problem::of_json(&error))?;
    json.into_object().map_err(|_| ApiError::bad_request("INVALID_BODY", "the body has to be a JSON object"))
}

/// 400 with the member that is at fault.
pub(super) fn wrong(wrong: Wrong) -> ApiError {
    refused(INVALID, wrong.field.to_owned(), &wrong.reason)
}

pub(super) fn entry(caller: &Caller, action: Action, id: ConnectionId) -> Entry {
    Entry::new(caller.tenant(), action, ObjectRef::new(ObjectKind::Connection, id))
}

/// What the audit log is told of a connection.
pub(super) fn told(row: &ConnectionRow) -> Value {
    json!({"name": row.name, "scheme": row.kind, "origin": row.origin})
}

/// 404.
pub(super) fn not_found() -> Error {
    Error::NotFound { what: "authentication" }
}

/// List the connections
///
/// Newest first, without their credentials.
#[utoipa::path(
    get,
    path = "/v2/authentications",
    operation_id = "list_authentications",
    tag = "Action runs",
    responses((status = 200, description = "The connections.", body = Listed))
)]
pub(crate) async fn list(
    context: Data<Context>,
    caller: Caller,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    query.finish()?;
    let tenant = caller.tenant();
    let rows = context.db.once(move |conn| store::list(conn, tenant, LISTED)).await.map_err(problem::of)?;
    Ok(HttpResponse::Ok().json(Listed { data: rows.into_iter().map(View::from).collect() }))
}

/// Show a connection
///
/// Without its credentials.
#[utoipa::path(
    get,
    path = "/v2/authentications/{id}",
    operation_id = "show_authentication",
    tag = "Action runs",
    params(("id" = String, Path, description = "The connection's id.", example = "auth_01hzy3v9k2s8d4f6g8h0j2k4m6")),
    responses((status = 200, description = "The connection.", body = Shown))
)]
pub(crate) async fn show(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<ConnectionId>,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    query.finish()?;
    let tenant = caller.tenant();
    let row = context.db.once(move |conn| store::find(conn, tenant, id)).await.map_err(problem::of)?;
    let row = row.ok_or_else(|| problem::of(not_found()))?;
    Ok(HttpResponse::Ok().json(Shown { data: row.into() }))
}

/// Delete a connection
///
/// Runs that name it and have not been done fail.
#[utoipa::path(
    delete,
    path = "/v2/authentications/{id}",
    operation_id = "delete_authentication",
    tag = "Action runs",
    params(("id" = String, Path, description = "The connection's id.", example = "auth_01hzy3v9k2s8d4f6g8h0j2k4m6")),
    responses((status = 200, description = "Deleted; as it was.", body = Shown))
)]
pub(crate) async fn delete(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<ConnectionId>,
) -> Result<HttpResponse, ApiError> {
    let (tenant, now) = (caller.tenant(), context.clock.now());
    let work = move |conn: &mut Conn| {
        let row = store::delete(conn, tenant, id)?.ok_or_else(not_found)?;
        let entry = entry(&caller, Action::ConnectionDeleted, id).before(told(&row));
        audited::record(conn, &caller, &entry, now)?;
        Ok(row)
    };
    let row = context.db.run(work).await.map_err(problem::of)?;
    Ok(HttpResponse::Ok().json(Shown { data: row.into() }))
}
