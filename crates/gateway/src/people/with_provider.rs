//! Logging in with the identity provider. It proves who somebody is, its own second factor included; who has an account, and
//! who gets one, is decided here.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    Error,
    audit::{self, Action, Entry, ObjectKind, ObjectRef},
    credential::{Token, TokenHash},
    id::{TenantId, UserId},
    person::{
        invitation::{self, Invitation},
        membership,
        oidc::{self, Login},
        user::{self, NewUser, User},
    },
    vault::columns::OIDC_VERIFIER,
};
use serde_json::json;
use url::Url;

use super::{
    log_in::Opening,
    provider::{Provider, Secrets, Vouched},
};
use crate::{access::visitor::Visitor, context::Context, problem};

/// Where the provider sends browsers back.
pub(crate) const BACK: &str = "/login/oidc/callback";

/// How a log-in with the provider ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// In.
    In {
        /// Of the session.
        token: Token,
        /// Where to go.
        to: String,
    },
    /// Nobody who may log in, told to the person as it is.
    Refused(Refusal),
    /// The provider, or what it said, is of no use; for the log.
    Failed(String),
}

/// Why somebody is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It took too long, was begun elsewhere, or was used already.
    Late,
    /// The provider has not verified the e-mail address.
    Unverified,
    /// There is no account, or a disabled one.
    NoAccount,
    /// The domain of the e-mail address is not let in.
    Domain,
    /// The invitation is for another e-mail address.
    OtherAddress,
}

/// Begins: where the browser goes, and the `state` that it has to bring back in a cookie as well.
///
/// # Errors
/// `Ok(Err)` when the provider cannot be asked; 503 when the database is away.
pub(crate) async fn begin(
    context: &Context,
    provider: &Provider,
    to: &str,
) -> Result<Result<(Url, String), anyhow::Error>, ApiError> {
    let random = || URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
    let secrets = Secrets { state: random(), nonce: random(), verifier: random() };
    let url = match provider.entrance(&secrets, &context.link(BACK)).await {
        Ok(url) => url,
        Err(error) => return Ok(Err(error)),
    };
    let state = TokenHash::of(&secrets.state);
    let verifier = context.vault.seal(&OIDC_VERIFIER.at(state.bytes()), secrets.verifier.as_bytes());
    let (nonce, to, now) = (secrets.nonce, to.to_owned(), context.clock.now());
    let begun = context.db.run(move |conn| {
        let link = to.strip_prefix("/invitations/").map(TokenHash::of);
        let invitation = link.map(|link| invitation::find_open(conn, &link, now)).transpose()?.flatten();
        let invitation_id = invitation.filter(|found| found.tenant_id.is_some()).map(|found| found.id);
        // Of a link only the hash is kept, hence not its path either.
        let return_to = if invitation_id.is_some() { "/account".to_owned() } else { to };
        oidc::begin(conn, &state, &Login { nonce, verifier, return_to, invitation_id }, now)
    });
    begun.await.map_err(problem::of)?;
    Ok(Ok((url, secrets.state)))
}

/// Takes what belongs to a `state`, once. `None`: nothing does any more.
///
/// # Errors
/// 503 when the database is away.
pub(crate) async fn take(context: &Context, state: &str) -> Result<Option<Login>, ApiError> {
    let (state, now) = (TokenHash::of(state), context.clock.now());
    let taken = context.db.once(move |conn| oidc::take(conn, &state, now)).await.map_err(problem::of)?;
    Ok(taken)
}

/// Ends: exchanges the code and lets the person in, if it is somebody.
///
/// # Errors
/// 503 when the database is away.
pub(crate) async fn end(
    context: &Context,
    provider: &Provider,
    visitor: &Visitor,
    state: &str,
    login: Login,
    code: &str,
) -> Result<Outcome, ApiError> {
    let Login { nonce, verifier, return_to, invitation_id } = login;
    // Sealed with a key that is gone: whoever logs in meanwhile begins again.
    let place = OIDC_VERIFIER.at(TokenHash::of(state).bytes());
    let opened = context.vault.open(&place, &verifier).ok().and_then(|plain| String::from_utf8(plain).ok());
    let Some(verifier) = opened else { return Ok(Outcome::Refused(Refusal::Late)) };
    let back = context.link(BACK);
    let vouched = match provider.vouch(code.to_owned(), nonce, verifier, &back).await {
        Ok(vouched) => vouched,
        Err(error) => return Ok(Outcome::Failed(format!("{error:#}"))),
    };
    // Nobody is told apart by an address that is none.
    let email = vouched.email.as_deref().and_then(|email| user::parse_email(email).ok());
    if !context.settings.oidc.allowed_email_domains.is_empty() {
        match &email {
            None => return Ok(refused(context, Refusal::Unverified)),
            Some(email) if !context.settings.oidc.allows(email) => {
                return Ok(refused(context, Refusal::Domain));
            }
            Some(_) => {}
        }
    }
    let found = look(context, &vouched, email.as_deref(), invitation_id).await?;
    let Found { user, is_linked, invitation } = found;
    // An invitation that was begun with and does not hold any more invites nobody.
    if invitation_id.is_some() && invitation.is_none() {
        return Ok(refused(context, Refusal::Late));
    }
    let is_invited = |own: Option<&str>| {
        let invited = invitation.as_ref().and_then(|invitation| invitation.email.as_deref());
        invited.is_none() || invited == email.as_deref() || invited == own
    };
    let admission = match user {
        Some(user) if user.disabled_at.is_some() => return Ok(refused(context, Refusal::NoAccount)),
        Some(user) if !is_invited(Some(&user.email)) => {
            return Ok(refused(context, Refusal::OtherAddress));
        }
        Some(user) => Admission { new: None, id: user.id, email: user.email, is_linked, invitation },
        None => {
            let Some(email) = email else { return Ok(refused(context, Refusal::Unverified)) };
            if invitation.is_none() {
                return Ok(refused(context, Refusal::NoAccount));
            }
            if invitation.as_ref().is_some_and(|found| found.email.as_deref() != Some(email.as_str())) {
                return Ok(refused(context, Refusal::OtherAddress));
            }
            let new = new_user(context, visitor, &vouched, &email);
            Admission { id: new.id, new: Some(new), email, is_linked: false, invitation }
        }
    };
    match admission.admit(context, visitor, vouched).await? {
        Some(token) => {
            context.metrics.log_ins("in").inc();
            Ok(Outcome::In { token, to: return_to })
        }
        None => Ok(refused(context, Refusal::NoAccount)),
    }
}

fn refused(context: &Context, refusal: Refusal) -> Outcome {
    context.metrics.log_ins("wrong").inc();
    Outcome::Refused(refusal)
}

/// What is known of somebody.
struct Found {
    user: Option<User>,
    /// Known by the subject, not only by the e-mail address.
    is_linked: bool,
    invitation: Option<Invitation>,
}

async fn look(
    context: &Context,
    vouched: &Vouched,
    email: Option<&str>,
    invitation: Option<hookyard_domain::id::InvitationId>,
) -> Result<Found, ApiError> {
    let (issuer, subject) = (vouched.issuer.clone(), vouched.subject.clone());
    let (email, now) = (email.map(str::to_owned), context.clock.now());
    let found = context.db.run(move |conn| {
        let linked = oidc::find(conn, &issuer, &subject)?;
        let user = match (linked, &email) {
            (Some(id), _) => user::find(conn, id)?,
            (None, Some(email)) => user::find_by_email(conn, email)?,
            (None, None) => None,
        };
        let invitation = match invitation {
            Some(id) => invitation::find_open_by_id(conn, id, now)?,
            None => None,
        };
        Ok(Found { user, is_linked: linked.is_some(), invitation })
    });
    found.await.map_err(problem::of)
}

fn new_user(context: &Context, visitor: &Visitor, vouched: &Vouched, email: &str) -> NewUser {
    let local = email.split('@').next().unwrap_or_default();
    let names = [vouched.name.as_deref().unwrap_or_default(), local, "?"];
    let name = names.into_iter().find_map(|name| user::parse_name(name).ok()).unwrap_or_default();
    NewUser {
        id: UserId::new(context.clock.now()),
        email: email.to_owned(),
        name,
        locale: visitor.locale,
        password_hash: None,
    }
}

/// Somebody who is let in, and what has to be written for it.
struct Admission {
    id: UserId,
    email: String,
    new: Option<NewUser>,
    is_linked: bool,
    invitation: Option<Invitation>,
}

impl Admission {
    /// All of it, or nothing. `None`: there is no tenant, or the provider knows the person by another subject.
    async fn admit(
        self,
        context: &Context,
        visitor: &Visitor,
        vouched: Vouched,
    ) -> Result<Option<Token>, ApiError> {
        let Self { id, email, new, is_linked, invitation } = self;
        let now = context.clock.now();
        let opening = Opening::new(context, visitor, id, &email, "oidc");
        let opened = context.db.run(move |conn| {
            let object = || ObjectRef::new(ObjectKind::User, id);
            let mut entries = Vec::new();
            if let Some(new) = &new {
                user::insert(conn, new, now)?;
            }
            let mut wanted: Option<TenantId> = None;
            if let Some((invitation, tenant)) =
                invitation.as_ref().and_then(|found| found.tenant_id.map(|tenant| (found, tenant)))
            {
                invitation::accept(conn, invitation.id, now)?;
                membership::insert(conn, tenant, id, invitation.role, now)?;
                if let Some(new) = &new {
                    let after =
                        json!({ "email": new.email, "name": new.name, "role": invitation.role.as_str() });
                    entries.push(Entry::new(tenant, Action::UserCreated, object()).after(after));
                }
                let link = ObjectRef::new(ObjectKind::Invitation, invitation.id);
                let after = json!({ "user": id.to_string(), "role": invitation.role.as_str() });
                entries.push(Entry::new(tenant, Action::InvitationAccepted, link).after(after));
                wanted = Some(tenant);
            }
            if !is_linked {
                if !oidc::link(conn, &vouched.issuer, &vouched.subject, id, now)? {
                    let reason = "the provider knows this person by another subject".to_owned();
                    return Err(Error::Conflict { reason });
                }
                for seat in membership::of_user(conn, id)? {
                    let after = json!({ "issuer": vouched.issuer, "subject": vouched.subject });
                    entries
                        .push(Entry::new(seat.tenant_id, Action::UserIdentityLinked, object()).after(after));
                }
            }
            audit::record_all(conn, opening.actor(), &entries, now)?;
            opening.open(conn, wanted)
        });
        match opened.await {
            Ok(token) => Ok(token),
            // Or somebody took the address, the link or the seat between the look and now.
            Err(Error::Conflict { .. } | Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(problem::of(error)),
        }
    }
}
