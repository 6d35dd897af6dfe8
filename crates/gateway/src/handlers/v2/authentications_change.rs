//! `PATCH /v2/authentications/{id}` and `POST /v2/authentications/{id}/test`: a connection that is changed is tried as a new one
//! is, and one that is there can be tried again.

use actix_web::{HttpResponse, web::Data};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    Error,
    audit::Action,
    connection::{
        Change,
        store::{self, Opened},
    },
    db::Conn,
    id::ConnectionId,
};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::{
    authentications::{Shown, entry, not_found, object, told, wrong},
    trial,
};
use crate::{
    access::Caller,
    body::{JsonBody, SMALL},
    context::Context,
    handlers::audited,
    paging::Id,
    problem,
};

/// Change a connection
///
/// What is not named stays as it is. The connection is tried first, as a new one is, unless only its name changes. A secret has to
/// be given again when `url` or `token_url` moves to another origin, and everything when `type` changes.
#[utoipa::path(
    patch,
    path = "/v2/authentications/{id}",
    operation_id = "change_authentication",
    tag = "Action runs",
    params(("id" = String, Path, description = "The connection's id.", example = "auth_01hzy3v9k2s8d4f6g8h0j2k4m6")),
    request_body(content = crate::openapi::AuthenticationChange, example = json!({"token": "…"})),
    responses((status = 200, description = "Changed.", body = Shown)),
    extensions(("x-errors" = json!(["INVALID_BODY", "INVALID_AUTHENTICATION", "CONFLICT"])))
)]
pub(crate) async fn change(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<ConnectionId>,
    body: JsonBody<SMALL>,
) -> Result<HttpResponse, ApiError> {
    let object = object(&body)?;
    let opened = opened(&context, &caller, id).await?;
    let Change { draft, needs_trial } = Change::parse(&opened, &object).map_err(wrong)?;
    let token = if needs_trial { trial::of(&context, &draft).await.map_err(wrong)? } else { None };
    let (tenant, now, vault) = (caller.tenant(), context.clock.now(), context.vault.clone());
    let seen = opened.seen();
    let work = move |conn: &mut Conn| {
        let before = store::find(conn, tenant, id)?.ok_or_else(not_found)?;
        let row = if needs_trial {
            store::replace(conn, &vault, (tenant, id), seen, &draft, token.as_ref(), now)?
        } else {
            store::rename(conn, (tenant, id), seen, &draft.name, now)?
        };
        let row = row.ok_or_else(|| Error::Conflict {
            reason: "somebody else has changed this authentication meanwhile, ask again".to_owned(),
        })?;
        let entry = entry(&caller, Action::ConnectionChanged, id).before(told(&before)).after(told(&row));
        audited::record(conn, &caller, &entry, now)?;
        Ok(row)
    };
    let row = context.db.run(work).await.map_err(problem::of)?;
    Ok(HttpResponse::Ok().json(Shown { data: row.into() }))
}

/// The connection with its credentials.
async fn opened(context: &Context, caller: &Caller, id: ConnectionId) -> Result<Opened, ApiError> {
    let (tenant, now, vault) = (caller.tenant(), context.clock.now(), context.vault.clone());
    let opened = context.db.once(move |conn| store::open(conn, &vault, tenant, id, now)).await;
    opened.map_err(problem::of)?.ok_or_else(|| problem::of(not_found()))
}

/// What a test came to.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AuthenticationTest)]
pub(crate) struct Tested {
    data: Outcome,
}

/// Whether credentials are let in.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AuthenticationTestOutcome)]
pub(crate) struct Outcome {
    /// Always `authentication_test`.
    #[serde(rename = "type")]
    #[schema(example = "authentication_test")]
    kind: &'static str,
    /// The connection's id.
    #[schema(example = "auth_01hzy3v9k2s8d4f6g8h0j2k4m6")]
    id: String,
    /// Whether they are.
    #[schema(example = true)]
    success: bool,
    /// Why they are not: the member of the connection that is at fault, and what is wrong with it.
    #[schema(example = json!(null))]
    detail: Option<String>,
}

/// Test a connection
///
/// The credentials are tried as on saving; of `oauth2` with a new access token, which is kept. That they are not let in is no error of
/// this request: `success` says it.
#[utoipa::path(
    post,
    path = "/v2/authentications/{id}/test",
    operation_id = "test_authentication",
    tag = "Action runs",
    params(("id" = String, Path, description = "The connection's id.", example = "auth_01hzy3v9k2s8d4f6g8h0j2k4m6")),
    responses((status = 200, description = "What it came to.", body = Tested))
)]
pub(crate) async fn test(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<ConnectionId>,
) -> Result<HttpResponse, ApiError> {
    let opened = opened(&context, &caller, id).await?;
    let tried = trial::of(&context, &opened.draft()).await;
    let (tenant, now, vault) = (caller.tenant(), context.clock.now(), context.vault.clone());
    let (seen, success) = (opened.seen(), tried.is_ok());
    let detail = tried.as_ref().err().map(ToString::to_string);
    let work = move |conn: &mut Conn| {
        if let Ok(token) = &tried {
            store::tested(conn, (tenant, id), seen, now)?;
            if token.is_some() {
                store::keep_token(conn, &vault, (tenant, id), seen, token.as_ref())?;
            }
        }
        let entry = entry(&caller, Action::ConnectionTested, id).after(json!({"success": success}));
        audited::record(conn, &caller, &entry, now)
    };
    context.db.run(work).await.map_err(problem::of)?;
    let data = Outcome { kind: "authentication_test", id: id.to_string(), success, detail };
    Ok(HttpResponse::Ok().json(Tested { data }))
}
