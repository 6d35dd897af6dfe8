//! `/v1/users`: the people of a tenant.

use actix_web::{HttpResponse, web::Data};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    Error,
    audit::{self, Action, Entry, ObjectKind, ObjectRef},
    credential::directory::known_everywhere,
    event::wire_time,
    id::UserId,
    person::{
        Role,
        membership::{self, Member},
    },
};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::fields::{Fields, invalid};
use crate::{
    access::Caller,
    body::{JsonBody, SMALL},
    context::Context,
    paging::{Id, Page, Query},
    problem,
};

/// A person of the tenant.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = User)]
pub(crate) struct View {
    /// Id.
    id: String,
    /// E-mail address.
    email: String,
    /// Name.
    name: String,
    /// `admin`, `developer` or `viewer`.
    role: &'static str,
    /// Whether the person has a second factor.
    second_factor: bool,
    /// Whether the operator has disabled the person.
    disabled: bool,
    /// When the person joined.
    #[schema(format = DateTime)]
    created_at: String,
    /// When the person logged in last.
    #[schema(format = DateTime)]
    last_login_at: Option<String>,
}

impl From<Member> for View {
    fn from(member: Member) -> Self {
        Self {
            id: member.user_id.to_string(),
            email: member.email,
            name: member.name,
            role: member.role.as_str(),
            second_factor: member.has_totp,
            disabled: member.disabled_at.is_some(),
            created_at: wire_time(member.created_at),
            last_login_at: member.last_login_at.map(wire_time),
        }
    }
}

/// List people
#[utoipa::path(
    get,
    path = "/v1/users",
    operation_id = "list_users",
    tag = "People",
    params(
        ("cursor" = Option<String>, Query, description = "`next_cursor` of an earlier page."),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 100, description = "Entries on a page, 1 to 100; 50 by default.")
    ),
    responses((status = 200, description = "A page of people.", body = inline(crate::openapi::PageOf<View>)))
)]
pub(crate) async fn list(
    context: Data<Context>,
    caller: Caller,
    mut query: Query,
) -> Result<HttpResponse, ApiError> {
    let (after, limit) = (query.cursor::<UserId>()?, query.limit()?);
    query.finish()?;
    let tenant = caller.tenant();
    let members = context.db.once(move |conn| membership::list(conn, tenant, after, limit + 1)).await;
    let members = members.map_err(problem::of)?;
    Ok(Page::new(members, limit, |member| member.user_id).map(View::from).respond())
}

/// Change a person's role
///
/// It counts from the next request on. Whoever may do less than before loses what they allowed OAuth clients. A tenant
/// keeps at least one admin.
#[utoipa::path(
    patch,
    path = "/v1/users/{id}",
    operation_id = "change_user",
    tag = "People",
    params(("id" = String, Path, description = "The person.", example = "usr_01hzy3v9k2s8d4f6g8h0j2k4m6")),
    request_body(content = crate::openapi::UserPatch, example = json!({"role": "developer"})),
    responses((status = 200, description = "The person as they are now.", body = View)),
    extensions(("x-errors" = json!(["INVALID_FIELD", "INVALID_BODY", "CONFLICT"])))
)]
pub(crate) async fn change(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<UserId>,
    body: JsonBody<SMALL>,
) -> Result<HttpResponse, ApiError> {
    let fields = Fields::parse(&body)?;
    let role = fields.text("role")?.ok_or_else(|| invalid("role", "is missing"))?;
    let role: Role = role.parse().map_err(|error| invalid("role", &format!("{error}")))?;
    let (tenant, actor, now) = (caller.tenant(), caller.actor(), context.clock.now());
    let changed = context.db.run(move |conn| {
        let (before, revoked) = membership::set_role(conn, tenant, id, role, now)?;
        let member = membership::find(conn, tenant, id)?.ok_or(Error::NotFound { what: "user" })?;
        if before != role {
            let object = ObjectRef::new(ObjectKind::User, id);
            let entry = Entry::new(tenant, Action::UserRoleChanged, object)
                .before(json!({ "role": before.as_str() }))
                .after(json!({ "role": role.as_str() }));
            audit::record(conn, &actor, &entry, now)?;
        }
        Ok((member, revoked))
    });
    let (member, revoked) = changed.await.map_err(problem::of)?;
    if revoked {
        known_everywhere().await;
    }
    Ok(HttpResponse::Ok().json(View::from(member)))
}

/// Remove a person from the tenant
///
/// Sessions there end with the next request, and what the person allowed OAuth clients ends. A tenant keeps at least one
/// admin. The person stays, with other tenants.
#[utoipa::path(
    delete,
    path = "/v1/users/{id}",
    operation_id = "remove_user",
    tag = "People",
    params(("id" = String, Path, description = "The person.", example = "usr_01hzy3v9k2s8d4f6g8h0j2k4m6")),
    responses((status = 204, description = "Removed.")),
    extensions(("x-errors" = json!(["CONFLICT"])))
)]
pub(crate) async fn remove(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<UserId>,
) -> Result<HttpResponse, ApiError> {
    let (tenant, actor, now) = (caller.tenant(), caller.actor(), context.clock.now());
    let removed = context.db.run(move |conn| {
        let (member, revoked) = membership::remove(conn, tenant, id, now)?;
        let entry = Entry::new(tenant, Action::UserRemoved, ObjectRef::new(ObjectKind::User, id))
            .before(json!({ "email": member.email, "role": member.role.as_str() }));
        audit::record(conn, &actor, &entry, now)?;
        Ok(revoked)
    });
    if removed.await.map_err(problem::of)? {
        known_everywhere().await;
    }
    Ok(HttpResponse::NoContent().finish())
}
