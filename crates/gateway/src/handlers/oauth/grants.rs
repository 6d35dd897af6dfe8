//! `/v1/oauth/grants`: which apps are let in, and ending that. People see and end what they allowed themselves; admins, and
//! keys that may everything, what anybody of the tenant allowed.

use actix_web::{HttpResponse, web::Data};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    credential::directory::known_everywhere,
    event::wire_time,
    id::{GrantId, UserId},
    oauth::grant::{self, GrantView},
    person::Role,
};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use crate::{
    access::Caller,
    context::Context,
    paging::{Id, Page, Query},
    problem,
};

/// What a person allowed an OAuth client.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct View {
    /// Its id.
    #[schema(example = "grt_01hzy3v9k2s8d4f6g8h0j2k4m6")]
    id: String,
    /// Who was let in.
    client_id: String,
    /// Its name.
    client_name: String,
    /// Who let it in.
    user_id: String,
    /// The address of that person.
    email: String,
    /// What was allowed; the person's role bounds it further.
    scopes: Vec<String>,
    /// When.
    #[schema(format = DateTime)]
    created_at: String,
    /// When tokens were last given for it; `null` when never.
    #[schema(format = DateTime)]
    last_used_at: Option<String>,
}

impl From<GrantView> for View {
    fn from(grant: GrantView) -> Self {
        Self {
            id: grant.id.to_string(),
            client_id: grant.client_id.to_string(),
            client_name: grant.client_name,
            user_id: grant.user_id.to_string(),
            email: grant.email,
            scopes: grant.scopes,
            created_at: wire_time(grant.created_at),
            last_used_at: grant.last_used_at.map(wire_time),
        }
    }
}

/// List what OAuth clients are allowed
///
/// Live authorizations, newest first: one's own, for admins everybody's at the tenant.
#[utoipa::path(
    get,
    path = "/v1/oauth/grants",
    operation_id = "list_oauth_grants",
    tag = "OAuth",
    params(
        ("cursor" = Option<String>, Query, description = "`next_cursor` of an earlier page."),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 100, description = "Entries on a page, 1 to 100; 50 by default.")
    ),
    responses((status = 200, description = "A page of authorizations.", body = inline(crate::openapi::PageOf<View>), example = json!({"data": [{"id": "grt_01hzy3v9k2s8d4f6g8h0j2k4m6", "client_id": "oac_01hzy3v9k2s8d4f6g8h0j2k4m6", "client_name": "Zapier", "user_id": "usr_01hzy3v9k2s8d4f6g8h0j2k4m6", "email": "ada@example.com", "scopes": ["hooks:read", "hooks:write"], "created_at": "2025-11-12T14:30:00.000Z", "last_used_at": "2025-11-12T15:30:00.000Z"}], "next_cursor": null, "has_more": false})))
)]
pub(crate) async fn list(
    context: Data<Context>,
    caller: Caller,
    mut query: Query,
) -> Result<HttpResponse, ApiError> {
    let (before, limit) = (query.cursor::<GrantId>()?, query.limit()?);
    query.finish()?;
    let (tenant, whose) = (caller.tenant(), whose(&caller));
    let grants = context.db.once(move |conn| grant::list(conn, tenant, whose, before, limit + 1)).await;
    Ok(Page::new(grants.map_err(problem::of)?, limit, |grant| grant.id).map(View::from).respond())
}

/// End what an OAuth client is allowed
///
/// When this is answered, no gateway takes the tokens of this authorization any more.
#[utoipa::path(
    delete,
    path = "/v1/oauth/grants/{id}",
    operation_id = "revoke_oauth_grant",
    tag = "OAuth",
    params(("id" = String, Path, description = "The authorization's id.", example = "grt_01hzy3v9k2s8d4f6g8h0j2k4m6")),
    responses((status = 200, description = "Ended.", body = Object, example = json!({"status": "revoked", "id": "grt_01hzy3v9k2s8d4f6g8h0j2k4m6"})))
)]
pub(crate) async fn revoke(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<GrantId>,
) -> Result<HttpResponse, ApiError> {
    let (tenant, whose) = (caller.tenant(), whose(&caller));
    let (actor, now) = (caller.actor(), context.clock.now());
    let ended = context.db.run(move |conn| grant::revoke(conn, tenant, whose, id, &actor, now)).await;
    ended.map_err(problem::of)?;
    known_everywhere().await;
    Ok(HttpResponse::Ok().json(json!({ "status": "revoked", "id": id.to_string() })))
}

/// Whose grants a caller sees: one person's, or everybody's.
fn whose(caller: &Caller) -> Option<UserId> {
    caller.session().filter(|session| session.role < Role::Admin).map(|session| session.user_id)
}
