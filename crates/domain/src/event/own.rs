//! Events of our own about what became of something: stored with their group in the caller's transaction.

use chrono::{DateTime, Utc};
use diesel::PgConnection;

use super::{Draft, EventType, Origin, Provenance, store};
use crate::{
    Error, Result,
    id::{EventGroupId, EventId, TenantId},
    trace::TraceContext,
    wire::Object,
};

/// Stores an event of this type, which is one of the starting catalogue. Returns its group, to be rung after the commit.
///
/// # Errors
/// When the database is away.
pub fn insert(
    conn: &mut PgConnection,
    tenant: TenantId,
    event_type: &'static str,
    payload: Object,
    now: DateTime<Utc>,
) -> Result<EventGroupId> {
    insert_named(conn, tenant, event_type, payload, now).map(|(group, _)| group)
}

/// As [`insert`], for those who go on to write what becomes of the event: returns its id, too.
///
/// # Errors
/// As [`insert`].
pub(crate) fn insert_named(
    conn: &mut PgConnection,
    tenant: TenantId,
    event_type: &'static str,
    payload: Object,
    now: DateTime<Utc>,
) -> Result<(EventGroupId, EventId)> {
    let group = EventGroupId::new(now);
    let event_type: EventType = event_type.parse().map_err(|error| Error::Database(Box::new(error)))?;
    let provenance = Provenance {
        tenant,
        now,
        source_ip: None,
        user_agent: Some("Hookyard"),
        request_id: &group.to_string(),
        trace: TraceContext::fresh(),
    };
    let event = Draft::of(event_type, payload).accept(Origin::System, &provenance);
    store::insert_group(conn, group, std::slice::from_ref(&event))?;
    Ok((group, event.id))
}
