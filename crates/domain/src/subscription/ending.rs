//! What happens when a hook or a consumer is disabled or removed: by its receiver, by the clock, or by its owner.
//!
//! Everything is written in the caller's transaction: the cancelled deliveries (of very many the first piece,
//! [`delivery::cancelling`]), the event that tells the owner, and the reverse unsubscribe, which is a delivery like any other (profile
//! `farewell`), so that it survives a crash, is guarded and shows its outcome.

use chrono::{DateTime, Utc};
use diesel::PgConnection;

use super::{Kind, single};
use crate::{
    Result,
    delivery::{self, NewDelivery, Profile},
    event,
    id::{ClaimId, DeliveryId, EventGroupId, SubscriptionId, TenantId},
    wire::{Json, Object},
};

/// How a hook ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Nothing is delivered until somebody enables it. The receiver of a hook is told once with `DELETE <url>` (contract §3), the
    /// owner with `hook.disabled`.
    Disabled,
    /// It is gone, and the receiver knows: it said 410, or the expiry was agreed. The owner is told with `hook.removed`.
    Removed,
}

impl Ending {
    const fn event_type(self) -> &'static str {
        match self {
            Self::Disabled => "hook.disabled",
            Self::Removed => "hook.removed",
        }
    }
}

/// Writes the consequences of a hook's end. Returns the group of the event, to be rung after the commit.
///
/// # Errors
/// When the database is away.
pub fn end(
    conn: &mut PgConnection,
    (ending, kind): (Ending, Kind),
    (tenant, hook, url): (TenantId, SubscriptionId, &str),
    reason: &str,
    now: DateTime<Utc>,
) -> Result<EventGroupId> {
    let cancelled = delivery::cancelling::begin(conn, tenant, hook, now, ending.event_type())?;
    let mut payload = Object::new();
    payload.insert("hook_id", Json::from(hook.to_string()));
    payload.insert("url", Json::from(url));
    payload.insert("reason", Json::from(reason));
    payload.insert("cancelled_deliveries", Json::from(u32::try_from(cancelled).unwrap_or(u32::MAX)));
    let (group, told) = event::own::insert_named(conn, tenant, ending.event_type(), payload, now)?;
    // The reverse unsubscribe is Zapier's; to a consumer it would be an unknown request.
    if ending == Ending::Disabled && kind == Kind::Hook {
        let farewell =
            NewDelivery::plain(DeliveryId { event: told, subscription: hook }, tenant, Profile::Farewell);
        // Due at once and held by nobody: the next sweep takes it.
        delivery::store::insert(conn, &[farewell], ClaimId::from_uuid(uuid::Uuid::nil()), now, now)?;
    }
    Ok(group)
}

/// Takes back the good-bye of a disabled hook that is subscribed again: where it has not arrived yet, it would pause what is wanted.
/// Belongs before the renewal, which forgets since when the hook was disabled.
///
/// # Errors
/// When the database is away.
pub(super) fn take_back(
    conn: &mut PgConnection,
    tenant: TenantId,
    hook: SubscriptionId,
    now: DateTime<Utc>,
) -> Result<()> {
    let disabled_at = single::find(conn, tenant, hook, &[Kind::Hook])?.and_then(|found| found.disabled_at);
    delivery::cancelling::farewell(conn, tenant, (hook, disabled_at), now)
}
