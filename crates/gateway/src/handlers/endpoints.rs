//! Endpoints, be they hooks or consumers, for routes that take either.

use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    Error, Result as DomainResult,
    db::Conn,
    id::{SubscriptionId, TenantId},
    subscription::{
        HookState, Kind, Subscription,
        single::{self, Single},
    },
};

/// Who subscribes to events.
pub(super) const EITHER: &[Kind] = &[Kind::Hook, Kind::Consumer];

/// An endpoint of the tenant of one of these kinds, in whatever state. `what` is what it is called when it is not there.
pub(super) fn found(
    conn: &mut Conn,
    tenant: TenantId,
    id: SubscriptionId,
    (kinds, what): (&[Kind], &'static str),
) -> DomainResult<Single> {
    single::find(conn, tenant, id, kinds)?.ok_or(Error::NotFound { what })
}

/// 409 for endpoints that take no deliveries.
pub(super) fn takes_events(endpoint: &Subscription) -> Result<(), ApiError> {
    let consumer = endpoint.kind == Kind::Consumer;
    match endpoint.state {
        HookState::Pending | HookState::Active | HookState::Failing => Ok(()),
        HookState::Disabled if consumer => {
            Err(ApiError::conflict("CONSUMER_DISABLED", "the consumer is disabled; enable it first"))
        }
        HookState::Disabled => Err(ApiError::conflict(
            "HOOK_DISABLED",
            "the hook is disabled; enable it, or subscribe it again, first",
        )),
        HookState::Deleted if consumer => {
            Err(ApiError::conflict("CONSUMER_DELETED", "the consumer is deleted; make a new one"))
        }
        HookState::Deleted => {
            Err(ApiError::conflict("HOOK_DELETED", "the hook is deleted; subscribe it again first"))
        }
    }
}
