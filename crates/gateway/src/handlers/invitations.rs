//! `/v1/invitations`: who is invited to a tenant.

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web::Data};
use chrono::{DateTime, Utc};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    audit::{self, Action, Entry, ObjectKind, ObjectRef},
    db::Conn,
    email::{self, letter::Letter},
    event::wire_time,
    id::InvitationId,
    person::{
        Locale, Role,
        invitation::{self, Invitation, LIFETIME, NewInvitation, Purpose},
        user,
    },
    tenant,
    vault::Vault,
};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::fields::{Fields, invalid};
use crate::{
    access::{
        Caller,
        idempotent::{Reply, idempotent, key},
    },
    body::{JsonBody, SMALL},
    context::Context,
    paging::{Id, Page, Query},
    problem,
};

/// An invitation.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Invitation)]
pub(crate) struct View {
    /// Id.
    id: String,
    /// Whom it invites.
    email: String,
    /// What they may do.
    role: &'static str,
    /// When it was made.
    #[schema(format = DateTime)]
    created_at: String,
    /// Until when it holds: seven days.
    #[schema(format = DateTime)]
    expires_at: String,
    /// The link, to be given to the person. Shown when the invitation is made, and never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    invite_url: Option<String>,
}

impl From<Invitation> for View {
    fn from(invitation: Invitation) -> Self {
        Self {
            id: invitation.id.to_string(),
            email: invitation.email.unwrap_or_default(),
            role: invitation.role.as_str(),
            created_at: wire_time(invitation.created_at),
            expires_at: wire_time(invitation.expires_at),
            invite_url: None,
        }
    }
}

/// List invitations
///
/// Those that hold; not those that were accepted, revoked or have expired.
#[utoipa::path(
    get,
    path = "/v1/invitations",
    operation_id = "list_invitations",
    tag = "People",
    params(
        ("cursor" = Option<String>, Query, description = "`next_cursor` of an earlier page."),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 100, description = "Entries on a page, 1 to 100; 50 by default.")
    ),
    responses((status = 200, description = "A page of invitations.", body = inline(crate::openapi::PageOf<View>)))
)]
pub(crate) async fn list(
    context: Data<Context>,
    caller: Caller,
    mut query: Query,
) -> Result<HttpResponse, ApiError> {
    let (after, limit) = (query.cursor::<InvitationId>()?, query.limit()?);
    query.finish()?;
    let (tenant, now) = (caller.tenant(), context.clock.now());
    let found = context.db.once(move |conn| invitation::list(conn, tenant, after, limit + 1, now)).await;
    let found = found.map_err(problem::of)?;
    Ok(Page::new(found, limit, |invitation| invitation.id).map(View::from).respond())
}

/// Invite somebody
///
/// The link is shown in this answer only: give it to the person. When this installation sends mail, the person is sent it, too.
/// It holds for seven days and once. Inviting the same address
/// again ends the earlier link.
#[utoipa::path(
    post,
    path = "/v1/invitations",
    operation_id = "create_invitation",
    tag = "People",
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition of this very request give the same answer, for 48 h; 1 to 255 printable ASCII characters.")),
    request_body(content = crate::openapi::InvitationRequest, example = json!({"email": "ada@example.com", "role": "developer"})),
    responses((status = 201, description = "Invited.", body = View)),
    extensions(("x-errors" = json!(["INVALID_FIELD", "INVALID_BODY", "CONFLICT"])))
)]
pub(crate) async fn create(
    context: Data<Context>,
    caller: Caller,
    request: HttpRequest,
    body: JsonBody<SMALL>,
) -> Result<Reply, ApiError> {
    let fields = Fields::parse(&body)?;
    let email = fields.text("email")?.ok_or_else(|| invalid("email", "is missing"))?;
    let email = user::parse_email(email).map_err(|reason| invalid("email", &reason))?;
    let role = fields.text("role")?.ok_or_else(|| invalid("role", "is missing"))?;
    let role: Role = role.parse().map_err(|error| invalid("role", &format!("{error}")))?;
    let key = key(&request, &caller, &body)?;
    let (tenant, actor, now) = (caller.tenant(), caller.actor(), context.clock.now());
    let id = InvitationId::new(now);
    let new = NewInvitation {
        id,
        purpose: Purpose::Join(tenant),
        email: Some(email.clone()),
        role,
        invited_by: caller.user(),
        hash: invitation::token(&context.vault, id).hash(),
    };
    let link = context.link(&format!("/invitations/{}", invitation::token(&context.vault, id).expose()));
    let mail = context.settings.mail.is_on().then(|| (context.vault.clone(), link));
    // What is kept with the key is without the link, which is made anew from the id.
    let reply = idempotent(&context, key, move |conn| {
        invitation::insert(conn, &new, now)?;
        let object = ObjectRef::new(ObjectKind::Invitation, id);
        let entry = Entry::new(tenant, Action::InvitationCreated, object)
            .after(json!({ "email": email, "role": role.as_str() }));
        audit::record(conn, &actor, &entry, now)?;
        if let Some((vault, link)) = &mail {
            write_to(conn, vault, &new, link, now)?;
        }
        let view = View {
            id: id.to_string(),
            email,
            role: role.as_str(),
            created_at: wire_time(now),
            expires_at: wire_time(now + LIFETIME),
            invite_url: None,
        };
        Ok(Reply::json(StatusCode::CREATED, &view)?)
    })
    .await?;
    reply.with(|answer| {
        let id = answer["id"].as_str().and_then(|id| id.parse::<InvitationId>().ok()).unwrap_or(id);
        let token = invitation::token(&context.vault, id);
        answer["invite_url"] = context.link(&format!("/invitations/{}", token.expose())).into();
    })
}

/// Writes to whom is invited, in the language of who invites.
fn write_to(
    conn: &mut Conn,
    vault: &Vault,
    new: &NewInvitation,
    link: &str,
    now: DateTime<Utc>,
) -> hookyard_domain::Result<()> {
    let (Purpose::Join(id), Some(address)) = (new.purpose, &new.email) else { return Ok(()) };
    let inviter = new.invited_by.map(|id| user::find(conn, id)).transpose()?.flatten();
    let name = tenant::store::find(conn, id)?.map_or_else(String::new, |tenant| tenant.name);
    let locale = inviter.as_ref().and_then(|user| Locale::parse(&user.locale)).unwrap_or_default();
    let letter = Letter::Invitation {
        tenant: &name,
        inviter: inviter.as_ref().map(|user| user.name.as_str()),
        role: new.role,
        link,
    };
    email::store::enqueue(conn, vault, Some(id), &letter.to(address, locale), now)?;
    Ok(())
}

/// Take an invitation back
#[utoipa::path(
    delete,
    path = "/v1/invitations/{id}",
    operation_id = "delete_invitation",
    tag = "People",
    params(("id" = String, Path, description = "The invitation.", example = "inv_01hzy3v9k2s8d4f6g8h0j2k4m6")),
    responses((status = 204, description = "Its link does not work any more."))
)]
pub(crate) async fn revoke(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<InvitationId>,
) -> Result<HttpResponse, ApiError> {
    let (tenant, actor, now) = (caller.tenant(), caller.actor(), context.clock.now());
    let revoked = context.db.run(move |conn| {
        let ended = invitation::revoke(conn, tenant, id, now)?;
        let object = ObjectRef::new(ObjectKind::Invitation, id);
        let entry = Entry::new(tenant, Action::InvitationRevoked, object)
            .before(json!({ "email": ended.email, "role": ended.role.as_str() }));
        audit::record(conn, &actor, &entry, now)
    });
    revoked.await.map_err(problem::of)?;
    Ok(HttpResponse::NoContent().finish())
}
