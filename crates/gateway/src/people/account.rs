//! What a person who is logged in changes about themselves.

use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    Error,
    audit::{self, Action, Actor, Entry, ObjectKind, ObjectRef},
    id::TenantId,
    person::{
        Locale,
        password::{self, Weakness},
        session::{self, Session},
        totp,
        user::{self, User},
    },
};

use super::prove;
use crate::{context::Context, problem};

/// The person of a session, complete.
///
/// # Errors
/// 503 when the database is away.
pub(crate) async fn of(context: &Context, session: &Session) -> Result<User, ApiError> {
    let id = session.user_id;
    let found = context.db.once(move |conn| user::find(conn, id)).await.map_err(problem::of)?;
    found.ok_or_else(|| problem::of(Error::NotFound { what: "user" }))
}

/// Something that a person did to their own account.
fn entry(session: &Session, action: Action) -> Entry {
    Entry::new(session.tenant_id, action, ObjectRef::new(ObjectKind::User, session.user_id))
}

/// Whether the person knows their password. Without one there is nothing to know.
///
/// # Errors
/// 403 `WRONG_PASSWORD`, 429 `TOO_MANY_TRIES`.
async fn prove_password(
    context: &Context,
    user: &User,
    password: &str,
    actor: &Actor,
) -> Result<(), ApiError> {
    if user.password_hash.is_none() {
        return Ok(());
    }
    let attempt = prove::begin(context, &user.email, actor).await?;
    let kept = user.password_hash.clone();
    if context.passwords.verify(password.to_owned(), kept).await.map_err(problem::of)? {
        return attempt.right(context, true).await;
    }
    attempt.wrong(context, &user.email, actor.clone()).await?;
    Err(ApiError::forbidden("WRONG_PASSWORD", "the current password is wrong"))
}

/// A new password; all other sessions end.
///
/// # Errors
/// As [`prove_password`]; the [`Weakness`] of the new one.
pub(crate) async fn change_password(
    context: &Context,
    session: &Session,
    current: &str,
    new: &str,
    actor: Actor,
) -> Result<Result<(), Weakness>, ApiError> {
    let user = of(context, session).await?;
    if user.password_hash.is_none() {
        let reason = "you log in with another provider and have no password here".to_owned();
        return Err(problem::of(Error::Conflict { reason }));
    }
    prove_password(context, &user, current, &actor).await?;
    if let Err(weakness) = password::check(new, &user.email, &user.name) {
        return Ok(Err(weakness));
    }
    let hash = context.passwords.hash(new.to_owned()).await.map_err(problem::of)?;
    let (entry, now) = (entry(session, Action::PasswordChanged), context.clock.now());
    let (id, kept) = (session.user_id, session.id);
    let changed = context.db.run(move |conn| {
        user::set_password(conn, id, &hash)?;
        session::close_all(conn, id, Some(kept))?;
        audit::record(conn, &actor, &entry, now)
    });
    changed.await.map_err(problem::of).map(Ok)
}

/// A key for an authenticator, to be confirmed.
///
/// # Errors
/// 409 when there is a second factor already.
pub(crate) async fn begin_totp(context: &Context, session: &Session) -> Result<totp::Key, ApiError> {
    if of(context, session).await?.has_totp {
        let reason = "there is a second factor already; remove it first".to_owned();
        return Err(problem::of(Error::Conflict { reason }));
    }
    let (vault, id, key) = (context.vault.clone(), session.user_id, totp::Key::from_bytes(rand::random()));
    let shown = key.clone();
    context.db.once(move |conn| totp::begin(conn, &vault, id, &key)).await.map_err(problem::of)?;
    Ok(shown)
}

/// The key that was shown and is not confirmed.
///
/// # Errors
/// 503 when the database is away.
pub(crate) async fn pending_totp(
    context: &Context,
    session: &Session,
) -> Result<Option<totp::Key>, ApiError> {
    let (vault, id) = (context.vault.clone(), session.user_id);
    context.db.run(move |conn| totp::pending(conn, &vault, id)).await.map_err(problem::of)
}

/// Takes the second factor into use. `None`: the code was wrong; else the recovery codes.
///
/// # Errors
/// 409 when none was begun.
pub(crate) async fn confirm_totp(
    context: &Context,
    session: &Session,
    code: &str,
    actor: Actor,
) -> Result<Option<Vec<String>>, ApiError> {
    let attempt = prove::begin(context, &session.email, &actor).await?;
    let (vault, id, now) = (context.vault.clone(), session.user_id, context.clock.now());
    let (code, recovery, entry) =
        (code.to_owned(), totp::new_recovery_codes(), entry(session, Action::TotpEnabled));
    let (kept, by) = (recovery.clone(), actor.clone());
    let confirmed = context.db.run(move |conn| {
        let fits = totp::confirm(conn, &vault, id, &code, &kept, now)?;
        if fits {
            audit::record(conn, &by, &entry, now)?;
        }
        Ok(fits)
    });
    match confirmed.await {
        Ok(true) => {
            attempt.right(context, true).await?;
            Ok(Some(recovery))
        }
        Ok(false) => {
            attempt.wrong(context, &session.email, actor).await?;
            Ok(None)
        }
        Err(error) => {
            attempt.right(context, false).await?;
            Err(problem::of(error))
        }
    }
}

/// Takes the second factor away.
///
/// # Errors
/// As [`prove_password`]; 409 when there is none.
pub(crate) async fn remove_totp(
    context: &Context,
    session: &Session,
    password: &str,
    actor: Actor,
) -> Result<(), ApiError> {
    let user = of(context, session).await?;
    prove_password(context, &user, password, &actor).await?;
    let (entry, now, id) = (entry(session, Action::TotpDisabled), context.clock.now(), session.user_id);
    let removed = context.db.run(move |conn| {
        if !totp::remove(conn, id)? {
            return Err(Error::Conflict { reason: "there is no second factor".to_owned() });
        }
        audit::record(conn, &actor, &entry, now)
    });
    removed.await.map_err(problem::of)
}

/// Ends this session.
///
/// # Errors
/// 503 when the database is away.
pub(crate) async fn log_out(context: &Context, session: &Session, actor: Actor) -> Result<(), ApiError> {
    let object = ObjectRef::new(ObjectKind::Session, session.id);
    let entry = Entry::new(session.tenant_id, Action::SessionLoggedOut, object);
    let (user, id, now) = (session.user_id, session.id, context.clock.now());
    let closed = context.db.run(move |conn| {
        session::close(conn, user, id)?;
        audit::record(conn, &actor, &entry, now)
    });
    closed.await.map_err(problem::of)
}

/// Ends all sessions of the person, this one too.
///
/// # Errors
/// 503 when the database is away.
pub(crate) async fn log_out_everywhere(
    context: &Context,
    session: &Session,
    actor: Actor,
) -> Result<(), ApiError> {
    let (entry, now) = (entry(session, Action::SessionLoggedOutEverywhere), context.clock.now());
    let user = session.user_id;
    let closed = context.db.run(move |conn| {
        session::close_all(conn, user, None)?;
        audit::record(conn, &actor, &entry, now)
    });
    closed.await.map_err(problem::of)
}

/// Looks at another tenant, or speaks another language.
///
/// # Errors
/// 404 when the person is no member there.
pub(crate) async fn change(
    context: &Context,
    session: &Session,
    tenant: Option<TenantId>,
    locale: Option<Locale>,
) -> Result<(), ApiError> {
    let (user, id) = (session.user_id, session.id);
    let changed = context.db.run(move |conn| {
        if let Some(tenant) = tenant
            && !session::switch(conn, user, id, tenant)?
        {
            return Err(Error::NotFound { what: "tenant" });
        }
        locale.map_or(Ok(()), |locale| user::set_locale(conn, user, locale))
    });
    changed.await.map_err(problem::of)
}
