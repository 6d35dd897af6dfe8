//! `/setup/{token}` and `/invitations/{token}`: getting in by a link.

use actix_web::{
    HttpResponse,
    http::StatusCode,
    web::{Data, Path},
};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    Error,
    audit::{self, Action, Entry, ObjectKind, ObjectRef},
    credential::TokenHash,
    id::{TenantId, UserId},
    person::{
        Locale, Role,
        invitation::{self, Invitation, Purpose},
        membership, password, session,
        user::{self, NewUser, User},
    },
    tenant,
};
use hookyard_portal::{
    Markup,
    join::{self as page, Invited, Trouble, Typed},
};
use serde_json::json;

use super::login::{enter, provider_name};
use crate::{
    access::{form::Form, visitor::Visitor},
    context::Context,
    people::log_in::{self, Opening},
    problem,
};

/// A link that holds, and what belongs to it.
#[derive(Debug)]
struct Link {
    invitation: Invitation,
    purpose: Purpose,
    /// Name of the tenant.
    tenant: String,
    /// Who has the e-mail address, or whose password it is.
    user: Option<User>,
}

async fn find(context: &Context, token: &str) -> Result<Link, ApiError> {
    let (hash, now) = (TokenHash::of(token), context.clock.now());
    let found = context.db.once(move |conn| {
        let Some(invitation) = invitation::find_open(conn, &hash, now)? else { return Ok(None) };
        let purpose = invitation.purpose();
        let tenant = match purpose {
            Purpose::Join(id) => tenant::store::find(conn, id)?.map(|tenant| tenant.name),
            Purpose::SetUp | Purpose::Reset(_) => None,
        };
        let user = match (purpose, &invitation.email) {
            (Purpose::Reset(id), _) => user::find(conn, id)?,
            (_, Some(email)) => user::find_by_email(conn, email)?,
            (_, None) => None,
        };
        Ok(Some(Link { invitation, purpose, tenant: tenant.unwrap_or_default(), user }))
    });
    let found = found.await.map_err(problem::of)?;
    found.ok_or_else(|| ApiError::not_found("this link was used, has expired, or was taken back"))
}

/// Show the page of the set-up link
///
/// `hookyard up` prints the link while there is nobody.
#[utoipa::path(
    get,
    path = "/setup/{token}",
    operation_id = "show_set_up",
    tag = "Pages",
    params(("token" = String, Path, description = "The secret of the link.", example = "inv_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG")),
    responses((status = 200, description = "The page.", body = String, content_type = "text/html"))
)]
pub(crate) async fn show_set_up(
    context: Data<Context>,
    visitor: Visitor,
    token: Path<String>,
) -> Result<HttpResponse, ApiError> {
    let link = find(&context, &token).await?;
    if link.purpose != Purpose::SetUp {
        return Err(ApiError::not_found("this is no set-up link"));
    }
    let csrf = visitor.csrf(&context.vault);
    Ok(visitor.show(&context, StatusCode::OK, page::set_up(visitor.locale, &csrf, &Typed::default(), None)))
}

/// Make the first tenant and its admin
#[utoipa::path(
    post,
    path = "/setup/{token}",
    operation_id = "set_up",
    tag = "Pages",
    params(("token" = String, Path, description = "The secret of the link.", example = "inv_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG")),
    request_body(content = String, content_type = "application/x-www-form-urlencoded", description = "`tenant`, `name`, `email`, `password` and `csrf`."),
    responses(
        (status = 303, description = "Set up and logged in."),
        (status = 422, description = "The page again: something is not acceptable.", body = String, content_type = "text/html")
    )
)]
pub(crate) async fn set_up(
    context: Data<Context>,
    token: Path<String>,
    form: Form,
) -> Result<HttpResponse, ApiError> {
    let link = find(&context, &token).await?;
    if link.purpose != Purpose::SetUp {
        return Err(ApiError::not_found("this is no set-up link"));
    }
    let visitor = &form.visitor;
    let typed =
        Typed { tenant: form.trimmed("tenant"), name: form.trimmed("name"), email: form.trimmed("email") };
    let again = |trouble| {
        let csrf = visitor.csrf(&context.vault);
        refused(&context, visitor, page::set_up(visitor.locale, &csrf, &typed, Some(trouble)))
    };
    if tenant::check_name(typed.tenant).is_err() {
        return Ok(again(Trouble::Tenant));
    }
    let Ok(email) = user::parse_email(typed.email) else { return Ok(again(Trouble::Email)) };
    let person = match person(&email, &form) {
        Ok(person) => person,
        Err(trouble) => return Ok(again(trouble)),
    };
    let new = made(&context, visitor.locale, person).await?;
    let now = context.clock.now();
    let (invitation, tenant, name) = (link.invitation.id, TenantId::new(now), typed.tenant.to_owned());
    let opening = Opening::new(&context, visitor, new.id, &email, "set-up link");
    let opened = context.db.run(move |conn| {
        invitation::accept(conn, invitation, now)?;
        if user::is_anybody(conn)? {
            return Err(Error::Conflict { reason: "this installation has users already".to_owned() });
        }
        tenant::store::insert(conn, tenant, &name, None, now)?;
        user::insert(conn, &new, now)?;
        membership::insert(conn, tenant, new.id, Role::Admin, now)?;
        let entries = [
            Entry::new(tenant, Action::TenantCreated, ObjectRef::new(ObjectKind::Tenant, tenant))
                .after(json!({ "name": name })),
            created(tenant, &new, Role::Admin),
        ];
        audit::record_all(conn, opening.actor(), &entries, now)?;
        opening.open(conn, Some(tenant))
    });
    let token = opened.await.map_err(problem::of)?;
    let token = token.ok_or_else(|| ApiError::internal(anyhow::anyhow!("no session was opened")))?;
    Ok(enter(&context, visitor, &token, "/account"))
}

/// Show the page of an invitation
///
/// Or of a link that sets a password anew.
#[utoipa::path(
    get,
    path = "/invitations/{token}",
    operation_id = "show_invitation",
    tag = "Pages",
    params(("token" = String, Path, description = "The secret of the link.", example = "inv_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG")),
    responses((status = 200, description = "The page.", body = String, content_type = "text/html"))
)]
pub(crate) async fn show(
    context: Data<Context>,
    visitor: Visitor,
    token: Path<String>,
) -> Result<HttpResponse, ApiError> {
    let link = find(&context, &token).await?;
    let shown = page_of(&context, &visitor, &link, &token, &Typed::default(), None)?;
    Ok(visitor.show(&context, StatusCode::OK, shown))
}

/// Accept an invitation
///
/// Or set a password anew.
#[utoipa::path(
    post,
    path = "/invitations/{token}",
    operation_id = "accept_invitation",
    tag = "Pages",
    params(("token" = String, Path, description = "The secret of the link.", example = "inv_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG")),
    request_body(content = String, content_type = "application/x-www-form-urlencoded", description = "`name`, `password` and `csrf`; of somebody who has an account and is logged in only `csrf`."),
    responses(
        (status = 303, description = "Accepted and logged in."),
        (status = 422, description = "The page again: something is not acceptable.", body = String, content_type = "text/html")
    )
)]
pub(crate) async fn accept(
    context: Data<Context>,
    token: Path<String>,
    form: Form,
) -> Result<HttpResponse, ApiError> {
    let link = find(&context, &token).await?;
    let visitor = &form.visitor;
    let outcome = match (link.purpose, &link.user) {
        (Purpose::SetUp, _) => return Err(ApiError::not_found("this is no invitation")),
        (Purpose::Reset(id), Some(user)) => reset(&context, &link, id, user, &form).await?,
        (Purpose::Join(tenant), Some(user)) if is_self(visitor, user) => {
            join_as_self(&context, &link, tenant, user, visitor).await?;
            Ok(visitor.redirect(&context, "/account"))
        }
        (Purpose::Join(tenant), None) => join(&context, &link, tenant, &form).await?,
        (Purpose::Join(_), Some(_)) => {
            Ok(visitor.redirect(&context, &format!("/login?return_to=/invitations/{token}")))
        }
        (Purpose::Reset(_), None) => return Err(ApiError::not_found("this person is not there any more")),
    };
    match outcome {
        Ok(response) => Ok(response),
        Err(trouble) => {
            let typed = Typed { name: form.trimmed("name"), ..Typed::default() };
            let shown = page_of(&context, visitor, &link, &token, &typed, Some(trouble))?;
            Ok(refused(&context, visitor, shown))
        }
    }
}

fn is_self(visitor: &Visitor, user: &User) -> bool {
    visitor.session.as_ref().is_some_and(|session| session.user_id == user.id)
}

fn refused(context: &Context, visitor: &Visitor, shown: Markup) -> HttpResponse {
    visitor.show(context, StatusCode::UNPROCESSABLE_ENTITY, shown)
}

fn page_of(
    context: &Context,
    visitor: &Visitor,
    link: &Link,
    token: &str,
    typed: &Typed<'_>,
    trouble: Option<Trouble>,
) -> Result<Markup, ApiError> {
    let csrf = visitor.csrf(&context.vault);
    let invited = Invited {
        locale: visitor.locale,
        csrf: &csrf,
        tenant: &link.tenant,
        role: link.invitation.role,
        email: link.invitation.email.as_deref().unwrap_or_default(),
        path: &format!("/invitations/{token}"),
        provider: provider_name(context),
    };
    match (link.purpose, &link.user) {
        (Purpose::SetUp, _) | (Purpose::Reset(_), None) => Err(ApiError::not_found("this is no invitation")),
        (Purpose::Reset(_), Some(user)) => Ok(page::reset(visitor.locale, &csrf, &user.email, trouble)),
        (Purpose::Join(_), Some(user)) if is_self(visitor, user) => Ok(page::join_as_self(&invited)),
        (Purpose::Join(_), Some(_)) => Ok(page::join_after_log_in(&invited)),
        (Purpose::Join(_), None) => Ok(page::join(&invited, typed, trouble)),
    }
}

/// A person as they describe themselves.
struct Person {
    email: String,
    name: String,
    password: String,
}

fn person(email: &str, form: &Form) -> Result<Person, Trouble> {
    let name = user::parse_name(form.text("name")).map_err(|_reason| Trouble::Name)?;
    let password = form.text("password");
    password::check(password, email, &name).map_err(Trouble::Password)?;
    Ok(Person { email: email.to_owned(), name, password: password.to_owned() })
}

async fn made(context: &Context, locale: Locale, person: Person) -> Result<NewUser, ApiError> {
    let Person { email, name, password } = person;
    let hash = context.passwords.hash(password).await.map_err(problem::of)?;
    Ok(NewUser { id: UserId::new(context.clock.now()), email, name, locale, password_hash: Some(hash) })
}

fn created(tenant: TenantId, new: &NewUser, role: Role) -> Entry {
    Entry::new(tenant, Action::UserCreated, ObjectRef::new(ObjectKind::User, new.id))
        .after(json!({ "email": new.email, "name": new.name, "role": role.as_str() }))
}

fn accepted(tenant: TenantId, link: &Invitation, user: UserId) -> Entry {
    Entry::new(tenant, Action::InvitationAccepted, ObjectRef::new(ObjectKind::Invitation, link.id))
        .after(json!({ "user": user.to_string(), "role": link.role.as_str() }))
}

/// Somebody new.
async fn join(
    context: &Context,
    link: &Link,
    tenant: TenantId,
    form: &Form,
) -> Result<Result<HttpResponse, Trouble>, ApiError> {
    let visitor = &form.visitor;
    let email = link.invitation.email.clone().unwrap_or_default();
    let person = match person(&email, form) {
        Ok(person) => person,
        Err(trouble) => return Ok(Err(trouble)),
    };
    let new = made(context, visitor.locale, person).await?;
    let (invitation, now) = (link.invitation.clone(), context.clock.now());
    let opening = Opening::new(context, visitor, new.id, &email, "invitation");
    let opened = context.db.run(move |conn| {
        invitation::accept(conn, invitation.id, now)?;
        user::insert(conn, &new, now)?;
        membership::insert(conn, tenant, new.id, invitation.role, now)?;
        let entries = [created(tenant, &new, invitation.role), accepted(tenant, &invitation, new.id)];
        audit::record_all(conn, opening.actor(), &entries, now)?;
        opening.open(conn, Some(tenant))
    });
    match opened.await {
        Ok(Some(token)) => Ok(Ok(enter(context, visitor, &token, "/account"))),
        Ok(None) => Err(ApiError::internal(anyhow::anyhow!("no session was opened"))),
        // Somebody took the address between the look at the link and now.
        Err(Error::Conflict { .. }) => Ok(Err(Trouble::Taken)),
        Err(error) => Err(problem::of(error)),
    }
}

/// Somebody who is logged in.
async fn join_as_self(
    context: &Context,
    link: &Link,
    tenant: TenantId,
    user: &User,
    visitor: &Visitor,
) -> Result<(), ApiError> {
    let Some(own) = visitor.session.clone() else { return Ok(()) };
    let (invitation, now, id) = (link.invitation.clone(), context.clock.now(), user.id);
    let actor = visitor.actor(&user.email);
    let joined = context.db.run(move |conn| {
        invitation::accept(conn, invitation.id, now)?;
        membership::insert(conn, tenant, id, invitation.role, now)?;
        session::switch(conn, id, own.id, tenant)?;
        audit::record(conn, &actor, &accepted(tenant, &invitation, id), now)
    });
    joined.await.map_err(problem::of)
}

/// A new password: all sessions end, and the person is asked to log in with it, with the second factor if there is one.
async fn reset(
    context: &Context,
    link: &Link,
    id: UserId,
    user: &User,
    form: &Form,
) -> Result<Result<HttpResponse, Trouble>, ApiError> {
    let new = form.text("password");
    if let Err(weakness) = password::check(new, &user.email, &user.name) {
        return Ok(Err(Trouble::Password(weakness)));
    }
    let hash = context.passwords.hash(new.to_owned()).await.map_err(problem::of)?;
    let (invitation, now, email) = (link.invitation.id, context.clock.now(), user.email.clone());
    let actor = form.visitor.actor(&email);
    let changed = context.db.run(move |conn| {
        invitation::accept(conn, invitation, now)?;
        user::set_password(conn, id, &hash)?;
        session::close_all(conn, id, None)?;
        let seats = membership::of_user(conn, id)?;
        let object = || ObjectRef::new(ObjectKind::User, id);
        let entries: Vec<Entry> =
            seats.iter().map(|seat| Entry::new(seat.tenant_id, Action::PasswordChanged, object())).collect();
        audit::record_all(conn, &actor, &entries, now)
    });
    changed.await.map_err(problem::of)?;
    // The password is set, whatever comes of this: a pause that somebody else brought about must not look like a failure.
    match log_in::with_password(context, &form.visitor, &email, new).await {
        Ok(log_in::Step::In(token)) => Ok(Ok(enter(context, &form.visitor, &token, "/account"))),
        Ok(log_in::Step::SecondFactor(_) | log_in::Step::Wrong) | Err(_) => {
            Ok(Ok(form.visitor.redirect(context, "/login")))
        }
    }
}
