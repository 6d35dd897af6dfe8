//! The events that wait for their fan-out, read together with whether our snapshot of subscriptions is behind them.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use diesel::{
    PgConnection, QueryableByName, RunQueryDsl,
    sql_types::{Array, BigInt, Binary, Bool, Nullable, SmallInt, Text, Timestamptz, Uuid},
};

use super::{EventType, Origin, store};
use crate::{
    Result,
    db::{partition, prepared::prepared},
    id::{EventGroupId, EventId, TenantId},
    subscription::directory::{Standing, behind},
};

/// An event as the fan-out needs it.
#[derive(Clone, Debug)]
pub struct WaitingEvent {
    /// The group that owes it a fan-out.
    pub group: EventGroupId,
    /// Owner.
    pub tenant: TenantId,
    /// Identity.
    pub id: EventId,
    /// What kind of thing happened.
    pub event_type: EventType,
    /// Who made it.
    pub origin: Origin,
    /// The canonical body. Not read where no hook of the tenant looks at it.
    pub body: Option<Vec<u8>>,
    /// Since when it waits: when it was accepted, or the time that it was scheduled for.
    pub since: DateTime<Utc>,
}

/// What [`read`] finds.
#[derive(Clone, Debug, Default)]
pub struct Waiting {
    /// The events.
    pub events: Vec<WaitingEvent>,
    /// Whether subscriptions have changed since the snapshot was taken: it has to be refreshed before it is asked.
    pub behind: bool,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Uuid)]
    group_id: EventGroupId,
    #[diesel(sql_type = Bool)]
    behind: bool,
    #[diesel(sql_type = Uuid)]
    tenant_id: TenantId,
    #[diesel(sql_type = Uuid)]
    event_id: EventId,
    #[diesel(sql_type = Nullable<Text>)]
    event_type: Option<EventType>,
    #[diesel(sql_type = Nullable<SmallInt>)]
    origin: Option<Origin>,
    #[diesel(sql_type = Nullable<Binary>)]
    body: Option<Vec<u8>>,
    #[diesel(sql_type = Timestamptz)]
    since: DateTime<Utc>,
}

/// The events of groups that wait for their fan-out. The groups stay: `delivery::fan_out` takes them.
///
/// # Errors
/// When the database is away.
pub fn read(conn: &mut PgConnection, groups: &[EventGroupId], standing: &Standing) -> Result<Waiting> {
    // A group is made with its events, so it is nearly always of the same day.
    let mut days: BTreeMap<String, Vec<EventGroupId>> = BTreeMap::new();
    for group in groups {
        days.entry(partition::holding("events", EventId::from_uuid(group.uuid()))).or_default().push(*group);
    }
    let mut waiting = Waiting::default();
    for (table, groups) in days {
        let rows = prepared(format!(
            "SELECT g.id AS group_id, {} AS behind, k.tenant_id, k.id AS event_id, \
                e.event_type, e.origin, CASE WHEN $3 OR k.tenant_id = ANY($4) THEN e.body END AS body, g.created_at AS since \
             FROM event_groups g CROSS JOIN LATERAL unnest(g.tenant_ids, g.event_ids) AS k (tenant_id, id) \
             LEFT JOIN {table} e ON e.tenant_id = k.tenant_id AND e.id = k.id WHERE g.id = ANY($1)",
            behind("$2")
        ))
        .bind::<Array<Uuid>, _>(&groups)
        .bind::<BigInt, _>(standing.seen)
        .bind::<Bool, _>(standing.filtering.is_none())
        .bind::<Array<Uuid>, _>(standing.filtering.as_deref().unwrap_or_default())
        .load::<Row>(conn);
        let rows = match rows {
            Ok(rows) => rows,
            Err(error) if partition::is_dropped(&error) => continue,
            Err(error) => return Err(error.into()),
        };
        let mut elsewhere: HashMap<(TenantId, EventId), (EventGroupId, DateTime<Utc>)> = HashMap::new();
        for row in rows {
            waiting.behind |= row.behind;
            match row.event_type.zip(row.origin) {
                Some((event_type, origin)) => waiting.events.push(WaitingEvent {
                    group: row.group_id,
                    tenant: row.tenant_id,
                    id: row.event_id,
                    event_type,
                    origin,
                    body: row.body,
                    since: row.since,
                }),
                None => {
                    elsewhere.insert((row.tenant_id, row.event_id), (row.group_id, row.since));
                }
            }
        }
        if !elsewhere.is_empty() {
            waiting.events.extend(around_midnight(conn, &elsewhere)?);
        }
    }
    Ok(waiting)
}

/// Events that are of another day than their group.
fn around_midnight(
    conn: &mut PgConnection,
    group_of: &HashMap<(TenantId, EventId), (EventGroupId, DateTime<Utc>)>,
) -> Result<Vec<WaitingEvent>> {
    let keys: Vec<(TenantId, EventId)> = group_of.keys().copied().collect();
    let events = store::load(conn, &keys)?;
    Ok(events
        .into_iter()
        .filter_map(|event| {
            let (group, since) = *group_of.get(&(event.tenant_id, event.id))?;
            Some(WaitingEvent {
                group,
                since,
                tenant: event.tenant_id,
                id: event.id,
                event_type: event.event_type,
                origin: event.origin,
                body: Some(event.body),
            })
        })
        .collect())
}

/// The bodies of events that were read without.
///
/// # Errors
/// When the database is away.
pub fn add_bodies(conn: &mut PgConnection, events: &mut [WaitingEvent]) -> Result<()> {
    let keys: Vec<(TenantId, EventId)> =
        events.iter().filter(|event| event.body.is_none()).map(|event| (event.tenant, event.id)).collect();
    if keys.is_empty() {
        return Ok(());
    }
    let mut bodies: HashMap<EventId, Vec<u8>> =
        store::load(conn, &keys)?.into_iter().map(|event| (event.id, event.body)).collect();
    for event in events {
        if event.body.is_none() {
            event.body = bodies.remove(&event.id);
        }
    }
    Ok(())
}
