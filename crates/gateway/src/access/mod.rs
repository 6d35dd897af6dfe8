//! Who may pass: the one place through which every request goes before its handler and on its way back.
//!
//! In: the credential or the session, its limit, its scope or role. Out: the headers of the limit and the figures of the
//! route. What a route needs stands in the table of `routes`; handlers find the result as their argument [`Caller`].

pub(crate) mod authenticate;
pub(crate) mod browser;
mod checkpoint;
pub(crate) mod form;
mod head;
pub(crate) mod idempotent;
pub(crate) mod limiter;
pub(crate) mod peer;
mod reached;
pub(crate) mod stranger;
pub(crate) mod usage;
pub(crate) mod visitor;

use std::{future::Ready, net::IpAddr, sync::Arc};

use actix_web::{FromRequest, HttpMessage, HttpRequest, dev::Payload};
use hookyard_chassis::{api_error::ApiError, request_id::RequestId};
use hookyard_domain::{
    audit::{Actor, ActorKind},
    credential::{Credential, Kind, Scope, Scopes},
    id::{TenantId, UserId},
    person::{Role, session::Session},
};
use uuid::Uuid;

pub(crate) use checkpoint::Checkpoint;

/// What a route asks of its callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Nothing: no credential is looked at, nothing is counted.
    Public,
    /// Nothing, and errors are shown as pages: what people see in a browser. The handler looks at the session itself.
    Page,
    /// A credential with this scope, or a person whose role has it.
    Scope(Scope),
    /// A credential with this scope, or a person with at least this role: where the role says more than its scopes.
    Managed(Scope, Role),
    /// A worker token, which opens nothing else (contract §5). No other credential and no person will do.
    Worker,
    /// A person who is logged in, with at least this role. No credential will do.
    Person(Role),
}

/// Whoever passed the checkpoint. The argument of every handler whose route is not public.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// Who.
    pub(crate) principal: Principal,
    /// The client's address, if it is known.
    pub(crate) peer: Option<IpAddr>,
    /// Method and pattern of the route, such as `POST /v1/hooks/{id}/test`: the scope of idempotency keys.
    pub(crate) route: &'static str,
    /// The id of the request.
    pub(crate) request_id: Option<RequestId>,
}

/// On whose behalf a request is made.
#[derive(Clone, Debug)]
pub(crate) enum Principal {
    /// A program's, which showed a credential.
    Credential(Arc<Credential>),
    /// A person's, who is logged in.
    Person(Arc<Session>),
}

impl Principal {
    /// Whose objects the request is about.
    pub(crate) fn tenant(&self) -> TenantId {
        match self {
            Self::Credential(credential) => credential.tenant,
            Self::Person(session) => session.tenant_id,
        }
    }

    /// What may be done.
    pub(crate) fn scopes(&self) -> Scopes {
        match self {
            Self::Credential(credential) => credential.scopes,
            Self::Person(session) => session.role.scopes(),
        }
    }

    /// Whose requests are counted together.
    pub(crate) fn subject(&self) -> Uuid {
        match self {
            Self::Credential(credential) => credential.id.uuid(),
            Self::Person(session) => session.user_id.uuid(),
        }
    }
}

impl Access {
    /// Whether the checkpoint lets everybody pass.
    pub(crate) fn is_open(self) -> bool {
        matches!(self, Self::Public | Self::Page)
    }
}

impl Caller {
    /// Whose objects the request is about.
    pub(crate) fn tenant(&self) -> TenantId {
        self.principal.tenant()
    }

    /// The credential that was shown, if one was.
    pub(crate) fn credential(&self) -> Option<&Credential> {
        match &self.principal {
            Principal::Credential(credential) => Some(credential),
            Principal::Person(_) => None,
        }
    }

    /// The worker token that was shown.
    ///
    /// # Errors
    /// 500: the table gives such a route only to those who show one.
    pub(crate) fn worker(&self) -> Result<&Credential, ApiError> {
        let token = self.credential().filter(|credential| credential.kind == Kind::Worker);
        token.ok_or_else(|| ApiError::internal(anyhow::anyhow!("a route without a worker asked for one")))
    }

    /// The person who is logged in, if one is.
    pub(crate) fn session(&self) -> Option<&Session> {
        match &self.principal {
            Principal::Credential(_) => None,
            Principal::Person(session) => Some(session),
        }
    }

    /// The person who asks, if it is one.
    pub(crate) fn user(&self) -> Option<UserId> {
        self.session().map(|session| session.user_id)
    }

    /// Who is said in the audit log to have done it.
    pub(crate) fn actor(&self) -> Actor {
        let (kind, id, name) = match &self.principal {
            Principal::Credential(credential) => {
                let what = match credential.kind {
                    Kind::ApiKey => "API key",
                    Kind::Integration => "Zapier integration key",
                    Kind::Source => "source key",
                    Kind::OAuthAccess => "OAuth client",
                    Kind::Worker => "worker token",
                };
                (ActorKind::Credential, credential.id.uuid(), format!("{what} {}", credential.name))
            }
            Principal::Person(session) => (ActorKind::Person, session.user_id.uuid(), session.email.clone()),
        };
        Actor {
            kind,
            id: Some(id),
            name,
            address: self.peer,
            request_id: self.request_id.as_ref().map(ToString::to_string),
        }
    }
}

impl FromRequest for Caller {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        let caller = request.extensions().get::<Self>().cloned();
        // Cannot be: the table gives such handlers a scope, which a test checks for every route.
        std::future::ready(
            caller.ok_or_else(|| ApiError::internal(anyhow::anyhow!("a public route asked for a caller"))),
        )
    }
}
