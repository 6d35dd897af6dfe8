//! Logging in: the password, then the second factor if there is one, then a session with a token that is new (no fixation).
//!
//! Whether there is an account is told by nothing: the same work, the same answer.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    audit::{self, Action, Actor, ActorKind, Entry, ObjectKind, ObjectRef},
    credential::Token,
    db::Conn,
    id::{SessionId, TenantId, UserId},
    person::{
        membership,
        session::{self, NewSession},
        totp,
        user::{self, User},
    },
};
use ring::hmac;
use serde_json::json;
use uuid::Uuid;

use super::prove;
use crate::{access::visitor::Visitor, context::Context, problem};

/// How long a person may take for the second step.
const SECOND_STEP: TimeDelta = TimeDelta::minutes(5);

/// The purpose of the key that signs what is known after the first step.
const TICKET: &str = "second step of log-ins";

/// The cookie that carries it.
pub(crate) const TICKET_COOKIE: &str = "login";

/// Where a log-in stands.
#[derive(Debug)]
pub(crate) enum Step {
    /// The person is in; this is the session's token.
    In(Token),
    /// The password was right, and a code is needed: this is what the browser brings back with it.
    SecondFactor(String),
    /// Wrong, or nobody who may log in: not told which.
    Wrong,
}

/// The first step.
///
/// # Errors
/// 429 `TOO_MANY_TRIES` during a pause, 503 when the database is away or too many log in.
pub(crate) async fn with_password(
    context: &Context,
    visitor: &Visitor,
    email: &str,
    password: &str,
) -> Result<Step, ApiError> {
    let account = user::parse_email(email).unwrap_or_else(|_| email.trim().chars().take(100).collect());
    let actor = visitor.actor(&account);
    let attempt = prove::begin(context, &account, &actor).await?;
    let wanted = account.clone();
    let found = context.db.once(move |conn| user::find_by_email(conn, &wanted)).await.map_err(problem::of)?;
    let kept = found.as_ref().and_then(|user| user.password_hash.clone());
    let is_right = context.passwords.verify(password.to_owned(), kept).await.map_err(problem::of)?;
    let Some(user) = found.filter(|user| is_right && user.disabled_at.is_none()) else {
        attempt.wrong(context, &account, actor).await?;
        return Ok(Step::Wrong);
    };
    if user.has_totp {
        // What is known of the account's failures stays until the code was right, too: else somebody who knows the password
        // could guess codes without end.
        attempt.right(context, false).await?;
        return Ok(Step::SecondFactor(ticket(context, visitor, user.id)));
    }
    match open(context, visitor, &user, None, "password").await? {
        Some(token) => {
            attempt.right(context, true).await?;
            Ok(Step::In(token))
        }
        None => {
            attempt.wrong(context, &account, actor).await?;
            Ok(Step::Wrong)
        }
    }
}

/// The second step. `None`: the first step was not done, or too long ago.
///
/// # Errors
/// As [`with_password`].
pub(crate) async fn with_code(
    context: &Context,
    visitor: &Visitor,
    shown: &str,
    code: &str,
) -> Result<Option<Step>, ApiError> {
    let Some(id) = holder(context, visitor, shown) else { return Ok(None) };
    let found = context.db.once(move |conn| user::find(conn, id)).await.map_err(problem::of)?;
    let Some(user) = found.filter(|user| user.disabled_at.is_none()) else { return Ok(None) };
    let actor = visitor.actor(&user.email);
    let attempt = prove::begin(context, &user.email, &actor).await?;
    let (vault, code, now) = (context.vault.clone(), code.to_owned(), context.clock.now());
    let taken = context.db.run(move |conn| totp::take(conn, &vault, id, &code, now)).await;
    let how = match taken.map_err(problem::of)? {
        Some(totp::Taken::Code) => "password and code",
        Some(totp::Taken::Recovery) => "password and recovery code",
        None => {
            attempt.wrong(context, &user.email, actor).await?;
            return Ok(Some(Step::Wrong));
        }
    };
    let opened = open(context, visitor, &user, None, how).await?;
    attempt.right(context, true).await?;
    Ok(Some(opened.map_or(Step::Wrong, Step::In)))
}

/// Opens a session at a tenant, by default the person's first; `None` when there is none.
///
/// # Errors
/// 503 when the database is away.
pub(crate) async fn open(
    context: &Context,
    visitor: &Visitor,
    user: &User,
    tenant: Option<TenantId>,
    how: &'static str,
) -> Result<Option<Token>, ApiError> {
    let opening = Opening::new(context, visitor, user.id, &user.email, how);
    let opened = context.db.run(move |conn| opening.open(conn, tenant)).await.map_err(problem::of)?;
    if opened.is_some() {
        context.metrics.log_ins("in").inc();
    }
    Ok(opened)
}

/// A session that is about to be opened; for transactions that do more.
#[derive(Debug)]
pub(crate) struct Opening {
    user: UserId,
    actor: Actor,
    address: Option<String>,
    user_agent: Option<String>,
    replaced: Option<(UserId, SessionId)>,
    how: &'static str,
    now: DateTime<Utc>,
}

impl Opening {
    pub(crate) fn new(
        context: &Context,
        visitor: &Visitor,
        user: UserId,
        email: &str,
        how: &'static str,
    ) -> Self {
        let actor = Actor { kind: ActorKind::Person, id: Some(user.uuid()), ..visitor.actor(email) };
        Self {
            user,
            actor: Actor { name: email.to_owned(), ..actor },
            address: visitor.peer.map(|peer| peer.to_string()),
            user_agent: visitor.user_agent.clone(),
            // Whoever logs in over a session ends it.
            replaced: visitor.session.as_ref().map(|session| (session.user_id, session.id)),
            how,
            now: context.clock.now(),
        }
    }

    /// Who does it.
    pub(crate) fn actor(&self) -> &Actor {
        &self.actor
    }

    pub(crate) fn open(
        &self,
        conn: &mut Conn,
        tenant: Option<TenantId>,
    ) -> hookyard_domain::Result<Option<Token>> {
        let first = match tenant {
            Some(tenant) => Some(tenant),
            None => membership::of_user(conn, self.user)?.first().map(|seat| seat.tenant_id),
        };
        let Some(tenant) = first else { return Ok(None) };
        if let Some((user, id)) = self.replaced {
            session::close(conn, user, id)?;
        }
        let token = Token::with_prefix("hs_", rand::random());
        let new = NewSession {
            id: SessionId::new(self.now),
            hash: token.hash(),
            user: self.user,
            tenant,
            address: self.address.clone(),
            user_agent: self.user_agent.clone(),
        };
        session::open(conn, &new, self.now)?;
        let entry = Entry::new(tenant, Action::SessionLoggedIn, ObjectRef::new(ObjectKind::Session, new.id))
            .after(json!({ "by": self.how, "user": self.user.to_string() }));
        audit::record(conn, &self.actor, &entry, self.now)?;
        Ok(Some(token))
    }
}

/// What a browser brings back with the second step: who, until when, bound to this browser.
fn ticket(context: &Context, visitor: &Visitor, user: UserId) -> String {
    let until = (context.clock.now() + SECOND_STEP).timestamp();
    let mut bytes = [user.uuid().as_bytes().as_slice(), &until.to_be_bytes()].concat();
    let key = hmac::Key::new(hmac::HMAC_SHA256, &context.vault.derive(TICKET));
    let tag = hmac::sign(&key, &[&bytes, visitor.visit().as_bytes()].concat());
    bytes.extend_from_slice(tag.as_ref());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Whose ticket it is, if it holds and was given to this browser.
pub(crate) fn holder(context: &Context, visitor: &Visitor, shown: &str) -> Option<UserId> {
    let bytes = URL_SAFE_NO_PAD.decode(shown).ok()?;
    let (said, tag) = bytes.split_at_checked(24)?;
    let signed = [said, visitor.visit().as_bytes()].concat();
    let is_ours = context
        .vault
        .derive_all(TICKET)
        .iter()
        .any(|derived| hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, derived), &signed, tag).is_ok());
    let (id, until) = (said.first_chunk::<16>()?, said.last_chunk::<8>()?);
    let holds = context.clock.now().timestamp() < i64::from_be_bytes(*until);
    (is_ours && holds).then(|| UserId::from_uuid(Uuid::from_bytes(*id)))
}
