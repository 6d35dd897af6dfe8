//! What the audit log is told of what handlers do: the entry, in the transaction of the change, and how the properties of
//! things look in it. What does not change anything is not told.

use chrono::{DateTime, Utc};
use hookyard_domain::{
    Result as DomainResult,
    audit::{self, Action, Entry, ObjectKind, ObjectRef},
    db::Conn,
    event::wire_time,
    id::{DeliveryId, SubscriptionId},
    subscription::store::HookView,
};
use serde_json::{Value, json};

use crate::access::Caller;

/// Ids that an entry about many things names.
const NAMED: usize = 10;

/// Writes an entry in the caller's chain. The last thing that a transaction does: see [`audit::record`].
pub(super) fn record(
    conn: &mut Conn,
    caller: &Caller,
    entry: &Entry,
    now: DateTime<Utc>,
) -> DomainResult<()> {
    audit::record(conn, &caller.actor(), entry, now)
}

/// An entry about a hook of the caller's.
pub(super) fn of_hook(caller: &Caller, action: Action, hook: SubscriptionId) -> Entry {
    Entry::new(caller.tenant(), action, ObjectRef::new(ObjectKind::Hook, hook))
}

/// Writes an entry about a hook of the caller's: what it was and what it is.
pub(super) fn switched(
    conn: &mut Conn,
    caller: &Caller,
    action: Action,
    (before, after): (&HookView, &HookView),
    now: DateTime<Utc>,
) -> DomainResult<()> {
    let entry = of_hook(caller, action, after.id).before(hook(before)).after(hook(after));
    record(conn, caller, &entry, now)
}

/// An entry about a delivery of the caller's.
pub(super) fn of_delivery(caller: &Caller, action: Action, delivery: DeliveryId) -> Entry {
    Entry::new(caller.tenant(), action, ObjectRef::new(ObjectKind::Delivery, delivery))
}

/// An entry about many dead letters of the caller's: how many, and the first of them.
pub(super) fn of_dead_letters(caller: &Caller, action: Action, moved: &[DeliveryId]) -> Entry {
    let first: Vec<String> = moved.iter().take(NAMED).map(ToString::to_string).collect();
    Entry::new(caller.tenant(), action, ObjectRef::new(ObjectKind::DeadLetters, "many"))
        .after(json!({"count": moved.len(), "first_ids": first}))
}

/// What is told of a hook. Neither of its secrets: they are not in the view.
pub(super) fn hook(hook: &HookView) -> Value {
    let filter = hook.filter.as_ref().and_then(|text| serde_json::from_str::<Value>(text).ok());
    json!({
        "url": hook.url,
        "event_type": hook.event_type,
        "pattern": hook.pattern,
        "filter": filter,
        "state": hook.state.as_str(),
        "state_reason": hook.state_reason,
        "expires_at": hook.expires_at.map(wire_time),
    })
}
