//! Endpoints, be they hooks, consumers or inboxes, for routes that take any of them.

use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    Error, Result as DomainResult,
    audit::ObjectKind,
    db::Conn,
    id::{SubscriptionId, TenantId},
    subscription::{
        HookState, Kind,
        single::{self, Single},
    },
};

/// Who subscribes to events.
pub(super) const SUBSCRIBERS: &[Kind] = &[Kind::Hook, Kind::Consumer, Kind::Inbox];

/// An endpoint of the tenant of one of these kinds, in whatever state. `what` is what it is called when it is not there.
pub(super) fn found(
    conn: &mut Conn,
    tenant: TenantId,
    id: SubscriptionId,
    (kinds, what): (&[Kind], &'static str),
) -> DomainResult<Single> {
    single::find(conn, tenant, id, kinds)?.ok_or(Error::NotFound { what })
}

/// 409 for endpoints that take no deliveries. Deleted inboxes are not there.
pub(super) fn takes_events(kind: Kind, state: HookState) -> Result<(), ApiError> {
    let (code, reason) = match (kind, state) {
        (_, HookState::Pending | HookState::Active | HookState::Failing) => return Ok(()),
        (Kind::Consumer, HookState::Disabled) => {
            ("CONSUMER_DISABLED", "the consumer is disabled; enable it first")
        }
        (Kind::Consumer, HookState::Deleted) => {
            ("CONSUMER_DELETED", "the consumer is deleted; make a new one")
        }
        (Kind::Inbox, HookState::Disabled | HookState::Deleted) => {
            return Err(ApiError::not_found("there is no such inbox"));
        }
        (Kind::Hook | Kind::Task | Kind::Callback, HookState::Disabled) => {
            ("HOOK_DISABLED", "the hook is disabled; enable it, or subscribe it again, first")
        }
        (Kind::Hook | Kind::Task | Kind::Callback, HookState::Deleted) => {
            ("HOOK_DELETED", "the hook is deleted; subscribe it again first")
        }
    };
    Err(ApiError::conflict(code, reason))
}

/// What the audit log calls an endpoint of this kind.
pub(super) const fn object(kind: Kind) -> ObjectKind {
    match kind {
        Kind::Consumer => ObjectKind::Consumer,
        Kind::Inbox => ObjectKind::Inbox,
        Kind::Hook | Kind::Task | Kind::Callback => ObjectKind::Hook,
    }
}
