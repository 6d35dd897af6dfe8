//! What a deliverer reads when deliveries are rung, at once: the deliveries, each event once, and whether its snapshot of
//! subscriptions is behind.

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
    event::EventType,
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

/// What [`read`] finds.
#[derive(Clone, Debug, Default)]
pub struct Rung {
    /// The deliveries that are still pending under the claim that their ring names.
    pub held: Vec<HeldDelivery>,
    /// Their events, each once.
    pub events: Vec<EventToSend>,
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
        let outcome = if rung.len() <= TOGETHER {
            prepared(format!(
                "WITH d AS MATERIALIZED (SELECT {HELD}, d.ordering, row_number() OVER (PARTITION BY d.event_id) AS place {keyed}) \
                 SELECT {HELD}, {behind} AS behind, e.event_type, e.metadata->>'correlation_id' AS correlation_id, \
                    e.trace, e.sampled, e.body \
                 FROM d LEFT JOIN {events} e ON d.place = 1 AND e.tenant_id = d.tenant_id AND e.id = d.event_id"
            ))
            .bind::<Array<Uuid>, _>(keys)
            .bind::<Array<Uuid>, _>(subscriptions)
            .bind::<Array<Uuid>, _>(claims)
            .bind::<BigInt, _>(standing.seen)
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
                    found.events.extend(events_of(conn, &events, &found.held[before..])?);
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

/// The events of deliveries, each once.
fn events_of(
    conn: &mut PgConnection,
    table: &str,
    held: &[HeldDelivery],
) -> diesel::QueryResult<Vec<EventToSend>> {
    let mut keys: Vec<(TenantId, EventId)> = held.iter().map(|held| (held.tenant, held.id.event)).collect();
    keys.sort_unstable();
    keys.dedup();
    let (tenants, ids): (Vec<_>, Vec<_>) = keys.into_iter().unzip();
    prepared(format!(
        "SELECT e.id, e.event_type, e.metadata->>'correlation_id' AS correlation_id, e.trace, e.sampled, e.body \
         FROM unnest($1, $2) AS k (tenant_id, id) JOIN {table} e ON e.tenant_id = k.tenant_id AND e.id = k.id"
    ))
    .bind::<Array<Uuid>, _>(tenants)
    .bind::<Array<Uuid>, _>(ids)
    .load(conn)
}

impl Rung {
    fn take(&mut self, row: Delivery) {
        self.behind |= row.behind;
        self.held.push(row.held.into());
    }

    fn take_with_event(&mut self, row: DeliveryWithEvent) {
        let id = row.delivery.held.event_id;
        self.take(row.delivery);
        if let (Some(event_type), Some(trace), Some(sampled), Some(body)) =
            (row.event_type, row.trace, row.sampled, row.body)
        {
            let correlation_id = row.correlation_id;
            self.events.push(EventToSend { id, event_type, correlation_id, trace, sampled, body });
        }
    }
}
