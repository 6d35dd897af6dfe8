//! Who is told that messages were quarantined: whoever listens to `delivery.failed`, as of the dead letters of hooks.

use chrono::{DateTime, Utc};
use diesel::PgConnection;

use super::store::InboxView;
use crate::{
    Result,
    delivery::failed::{self, FAILED},
    event::EventType,
    id::{EventGroupId, EventId, TenantId},
    subscription::{EventPattern, MAX_DEAD_EVENTS, listeners},
};

/// Stores the event, where somebody listens. Returns its group, to be rung after the commit. Never because of an inbox that listens
/// itself: what it cannot handle must not make more of it.
///
/// # Errors
/// When the database is away.
pub fn tell(
    conn: &mut PgConnection,
    tenant: TenantId,
    inbox: &InboxView,
    messages: &[EventId],
    reason: &str,
    now: DateTime<Utc>,
) -> Result<Option<EventGroupId>> {
    let Ok(event_type) = FAILED.parse::<EventType>() else { return Ok(None) };
    let itself = inbox
        .patterns
        .iter()
        .any(|text| text.parse::<EventPattern>().is_ok_and(|pattern| pattern.matches(&event_type)));
    if messages.is_empty() || itself || !listeners::any(conn, tenant, &event_type)? {
        return Ok(None);
    }
    let count = u32::try_from(messages.len()).unwrap_or(u32::MAX);
    let named = &messages[..messages.len().min(MAX_DEAD_EVENTS)];
    let told = failed::Told { subscription: inbox.id, count, events: named, reason, status: None };
    failed::tell_of(conn, tenant, &told, &super::address(inbox.id), now).map(Some)
}
