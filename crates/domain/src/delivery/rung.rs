//! What a deliverer reads when deliveries are rung, at once: the deliveries, each event once, and whether its snapshot of
//! subscriptions is behind. Of large events only some, and the others when those are on their way.

use diesel::{
    PgConnection, QueryableByName, RunQueryDsl,
    sql_types::{Array, BigInt, Binary, Bool, Nullable, Text, Uuid},
};

use super::{
    HeldDelivery,
    store::{BY_KEY, HELD, HeldRow, by_partition, split},
};
use crate::{
    Result,
    db::{partition, prepared::prepared},
    event::{EventType, NewEvent},
    id::{ClaimId, DeliveryId, EventId, TenantId},
    subscription::directory::{Standing, behind},
};

/// An event as a try needs it.
#[derive(Clone, Debug, QueryableByName)]
pub struct EventToSend {
    /// Identity.
    #[diesel(sql_type = Uuid)]
    pub id: EventId,
    /// What kind of thing happened.
    #[diesel(sql_type = Text)]
    pub event_type: EventType,
    /// The correlation id of the metadata, if it is a text.
    #[diesel(sql_type = Nullable<Text>)]
    pub correlation_id: Option<String>,
    /// The trace of the request that brought it.
    #[diesel(sql_type = Uuid)]
    pub trace: uuid::Uuid,
    /// Whether that trace is recorded.
    #[diesel(sql_type = Bool)]
    pub sampled: bool,
    /// The canonical body.
    #[diesel(sql_type = Binary)]
    pub body: Vec<u8>,
}

impl EventToSend {
    /// What [`read`] would find of an event that was stored as this. `None` when it would have to be asked, as Postgres prints a
    /// correlation id that is no text.
    #[must_use]
    pub fn of(event: &NewEvent) -> Option<Self> {
        let correlation_id = match event.metadata.get("correlation_id") {
            None | Some(serde_json::Value::Null) => None,
            Some(serde_json::Value::String(text)) => Some(text.clone()),
            Some(_) => return None,
        };
        Some(Self {
            id: event.id,
            event_type: event.event_type.clone(),
            correlation_id,
            trace: event.trace.trace_uuid(),
            sampled: event.trace.sampled,
            body: event.body.clone(),
        })
    }
}

/// Bytes of bodies that are read at once; the last of them may go beyond it.
pub const BODIES_AT_ONCE: usize = 2 << 20;

/// What [`read`] finds.
#[derive(Clone, Debug, Default)]
pub struct Rung {
    /// The deliveries that are still pending under the claim that their ring names.
    pub held: Vec<HeldDelivery>,
    /// Their events, each once.
    pub events: Vec<EventToSend>,
    /// Those of them that are still to be read ([`read_more`]).
    pub unread: Vec<(TenantId, EventId)>,
    /// Whether subscriptions have changed since the snapshot was taken: it has to be refreshed before it is asked.
    pub behind: bool,
}

#[derive(QueryableByName)]
struct Delivery {
    #[diesel(embed)]
    held: HeldRow,
    #[diesel(sql_type = Bool)]
    behind: bool,
}

#[derive(QueryableByName)]
struct DeliveryWithEvent {
    #[diesel(embed)]
    delivery: Delivery,
    #[diesel(sql_type = Nullable<Text>)]
    event_type: Option<EventType>,
    #[diesel(sql_type = Nullable<Text>)]
    correlation_id: Option<String>,
    #[diesel(sql_type = Nullable<Uuid>)]
    trace: Option<uuid::Uuid>,
    #[diesel(sql_type = Nullable<Bool>)]
    sampled: Option<bool>,
    #[diesel(sql_type = Nullable<Binary>)]
    body: Option<Vec<u8>>,
}

/// Up to so many deliveries are read together with their events. For more of them, a second statement costs less than rows
/// that are twice as wide.
const TOGETHER: usize = 32;

/// The deliveries of rings with their events. An event comes with one of its deliveries.
///
/// # Errors
/// When the database is away.
pub fn read(conn: &mut PgConnection, rung: &[(ClaimId, DeliveryId)], standing: &Standing) -> Result<Rung> {
    let mut found = Rung::default();
    for (table, rung) in by_partition(rung.iter().copied(), |(_, id)| id.event) {
        let Some((_, first)) = rung.first() else { continue };
        let events = partition::holding("events", first.event);
        let (keys, subscriptions) = split(rung.iter().map(|(_, id)| *id));
        let claims: Vec<ClaimId> = rung.iter().map(|(claim, _)| *claim).collect();
        let keyed = format!("FROM unnest($1, $2, $3) AS k (e, s, c) JOIN {table} d ON {BY_KEY}");
        let behind = behind("$4");
        let bytes: usize = found.events.iter().map(|event| event.body.len()).sum();
        let left = BODIES_AT_ONCE.saturating_sub(bytes);
        let outcome = if rung.len() <= TOGETHER {
            prepared(format!(
                "WITH d AS MATERIALIZED (SELECT {HELD}, d.ordering, row_number() OVER (PARTITION BY d.event_id) AS place {keyed}) \
                 SELECT {HELD}, {behind} AS behind, e.event_type, e.metadata->>'correlation_id' AS correlation_id, \
                    e.trace, e.sampled, CASE WHEN octet_length(e.body) <= $5 THEN e.body END AS body \
                 FROM d LEFT JOIN {events} e ON d.place = 1 AND e.tenant_id = d.tenant_id AND e.id = d.event_id"
            ))
            .bind::<Array<Uuid>, _>(keys)
            .bind::<Array<Uuid>, _>(subscriptions)
            .bind::<Array<Uuid>, _>(claims)
            .bind::<BigInt, _>(standing.seen)
            .bind::<BigInt, _>((left / TOGETHER) as i64)
            .load::<DeliveryWithEvent>(conn)
            .map(|rows| rows.into_iter().for_each(|row| found.take_with_event(row)))
        } else {
            prepared(format!("SELECT {HELD}, {behind} AS behind {keyed}"))
                .bind::<Array<Uuid>, _>(keys)
                .bind::<Array<Uuid>, _>(subscriptions)
                .bind::<Array<Uuid>, _>(claims)
                .bind::<BigInt, _>(standing.seen)
                .load::<Delivery>(conn)
                .and_then(|rows| {
                    let before = found.held.len();
                    rows.into_iter().for_each(|row| found.take(row));
                    let mut keys: Vec<(TenantId, EventId)> =
                        found.held[before..].iter().map(|held| (held.tenant, held.id.event)).collect();
                    keys.sort_unstable();
                    keys.dedup();
                    found.take_events(events_of(conn, &events, keys, left)?);
                    Ok(())
                })
        };
        match outcome {
            Ok(()) => {}
            Err(error) if partition::is_dropped(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}

/// Goes on with events that were not read, oldest first. What is not found is gone.
///
/// # Errors
/// When the database is away.
pub fn read_more(conn: &mut PgConnection, unread: &[(TenantId, EventId)]) -> Result<Rung> {
    let mut found = Rung::default();
    for keys in by_partition(unread.iter().copied(), |(_, event)| *event).into_values() {
        let first = keys.first().filter(|_| found.events.is_empty());
        let Some((_, first)) = first else {
            found.unread.extend(keys);
            continue;
        };
        match events_of(conn, &partition::holding("events", *first), keys, BODIES_AT_ONCE) {
            Ok(rows) => found.take_events(rows),
            Err(error) if partition::is_dropped(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}

#[derive(QueryableByName)]
struct Event {
    #[diesel(sql_type = Uuid)]
    tenant_id: TenantId,
    #[diesel(sql_type = Uuid)]
    id: EventId,
    #[diesel(sql_type = Text)]
    event_type: EventType,
    #[diesel(sql_type = Nullable<Text>)]
    correlation_id: Option<String>,
    #[diesel(sql_type = Uuid)]
    trace: uuid::Uuid,
    #[diesel(sql_type = Bool)]
    sampled: bool,
    #[diesel(sql_type = Nullable<Binary>)]
    body: Option<Vec<u8>>,
}

/// Events, oldest first; those of them with their bodies that are read at once, so many `bytes` and the last of them whole.
fn events_of(
    conn: &mut PgConnection,
    table: &str,
    keys: Vec<(TenantId, EventId)>,
    bytes: usize,
) -> diesel::QueryResult<Vec<Event>> {
    let (tenants, ids): (Vec<_>, Vec<_>) = keys.into_iter().unzip();
    // The length of a body is known without reading it.
    prepared(format!(
        "SELECT tenant_id, id, event_type, metadata->>'correlation_id' AS correlation_id, trace, sampled, \
            CASE WHEN COALESCE(sum(octet_length(body)) OVER (ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) \
               < $3 THEN body END AS body \
         FROM (SELECT e.* FROM unnest($1, $2) AS k (tenant_id, id) JOIN {table} e ON e.tenant_id = k.tenant_id AND e.id = k.id) e \
         ORDER BY id"
    ))
    .bind::<Array<Uuid>, _>(tenants)
    .bind::<Array<Uuid>, _>(ids)
    .bind::<BigInt, _>(bytes as i64)
    .load(conn)
}

impl Rung {
    fn take(&mut self, row: Delivery) {
        self.behind |= row.behind;
        self.held.push(row.held.into());
    }

    fn take_with_event(&mut self, row: DeliveryWithEvent) {
        let (tenant_id, id) = (row.delivery.held.tenant_id, row.delivery.held.event_id);
        self.take(row.delivery);
        if let (Some(event_type), Some(trace), Some(sampled)) = (row.event_type, row.trace, row.sampled) {
            let (correlation_id, body) = (row.correlation_id, row.body);
            self.take_events([Event { tenant_id, id, event_type, correlation_id, trace, sampled, body }]);
        }
    }

    fn take_events(&mut self, events: impl IntoIterator<Item = Event>) {
        for event in events {
            let Event { tenant_id, id, event_type, correlation_id, trace, sampled, body } = event;
            match body {
                Some(body) => {
                    self.events.push(EventToSend { id, event_type, correlation_id, trace, sampled, body })
                }
                None => self.unread.push((tenant_id, id)),
            }
        }
    }
}
