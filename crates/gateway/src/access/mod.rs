//! Who may pass: the one place through which every request goes before its handler and on its way back.
//!
//! In: the credential, its limit, its scope. Out: the headers of the limit and the figures of the route. What a route
//! needs stands in the table of `routes`; handlers find the result as their argument [`Caller`].

pub(crate) mod authenticate;
mod checkpoint;
pub(crate) mod idempotent;
pub(crate) mod limiter;
pub(crate) mod peer;
pub(crate) mod usage;

use std::{future::Ready, net::IpAddr, sync::Arc};

use actix_web::{FromRequest, HttpMessage, HttpRequest, dev::Payload};
use hookyard_chassis::{api_error::ApiError, request_id::RequestId};
use hookyard_domain::{
    audit::{Actor, ActorKind},
    credential::{Credential, Scope},
    id::TenantId,
};

pub(crate) use checkpoint::Checkpoint;

/// What a route asks of its callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Nothing: no credential is looked at, nothing is counted.
    Public,
    /// A credential with this scope.
    Scope(Scope),
}

/// Whoever passed the checkpoint. The argument of every handler whose route needs a scope.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// The credential that was shown.
    pub(crate) credential: Arc<Credential>,
    /// The client's address, if it is known.
    pub(crate) peer: Option<IpAddr>,
    /// Method and pattern of the route, such as `POST /v1/hooks/{id}/test`: the scope of idempotency keys.
    pub(crate) route: &'static str,
    /// The id of the request.
    pub(crate) request_id: Option<RequestId>,
}

impl Caller {
    /// Whose objects the request is about.
    pub(crate) fn tenant(&self) -> TenantId {
        self.credential.tenant
    }

    /// Who is said in the audit log to have done it.
    pub(crate) fn actor(&self) -> Actor {
        Actor {
            kind: ActorKind::Credential,
            id: Some(self.credential.id.uuid()),
            name: format!("API key {}", self.credential.name),
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
