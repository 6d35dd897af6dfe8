//! The event `delivery.failed`: deliveries to a hook have ended without success, and are dead letters now. Told only where somebody
//! listens, and never because of one who does, so that a listener that fails does not make the events it fails at.

use chrono::{DateTime, Utc};
use diesel::PgConnection;

use crate::{
    Result,
    event::{self, EventType},
    id::{EventGroupId, EventId, SubscriptionId, TenantId},
    subscription::{Report, directory::Directory},
    wire::{Json, Object},
};

/// The event.
pub(crate) const FAILED: &str = "delivery.failed";

/// Whether somebody is to be told of what a report has buried.
#[must_use]
pub fn is_told(directory: &Directory, report: &Report, now: DateTime<Utc>) -> bool {
    let Ok(event_type) = FAILED.parse::<EventType>() else { return false };
    let listeners = directory.wanting(report.tenant, &event_type, now);
    let mut asked = listeners.iter().filter(|hook| !hook.patterns.is_empty()).peekable();
    report.dead > 0 && asked.peek().is_some() && asked.all(|hook| hook.id != report.subscription)
}

/// Writes the event. Returns its group, to be rung after the commit.
///
/// # Errors
/// When the database is away.
pub fn tell(conn: &mut PgConnection, report: &Report, url: &str, now: DateTime<Utc>) -> Result<EventGroupId> {
    let told = Told {
        subscription: report.subscription,
        count: report.dead,
        events: &report.dead_events,
        reason: &report.last_reason,
        status: report.last_status,
    };
    tell_of(conn, report.tenant, &told, url, now)
}

/// What is told.
pub(crate) struct Told<'a> {
    /// To whom they did not get.
    pub(crate) subscription: SubscriptionId,
    /// How many.
    pub(crate) count: u32,
    /// The first of them.
    pub(crate) events: &'a [EventId],
    /// What came of the last.
    pub(crate) reason: &'a str,
    /// Its HTTP status.
    pub(crate) status: Option<u16>,
}

pub(crate) fn tell_of(
    conn: &mut PgConnection,
    tenant: TenantId,
    told: &Told<'_>,
    url: &str,
    now: DateTime<Utc>,
) -> Result<EventGroupId> {
    let events = told.events.iter().map(|event| Json::from(event.to_string())).collect::<Vec<_>>();
    let mut payload = Object::new();
    payload.insert("hook_id", Json::from(told.subscription.to_string()));
    payload.insert("url", Json::from(url));
    payload.insert("count", Json::from(told.count));
    payload.insert("event_ids", Json::from(events));
    payload.insert("last_reason", Json::from(told.reason));
    payload.insert("last_status", Json::from(told.status.map(u32::from)));
    event::own::insert(conn, tenant, FAILED, payload, now)
}
