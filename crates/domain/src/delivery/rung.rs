//! What a deliverer reads when deliveries are rung, in one statement: the deliveries, each event once, and whether its snapshot
//! of subscriptions is behind.

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
    id::{ClaimId, DeliveryId, EventId},
    subscription::directory::{Standing, behind},
};

/// An event as a try needs it.
#[derive(Clone, Debug)]
pub struct EventToSend {
    /// Identity.
    pub id: EventId,
    /// What kind of thing happened.
    pub event_type: EventType,
    /// The correlation id of the metadata, if it is a text.
    pub correlation_id: Option<String>,
    /// The trace of the request that brought it.
    pub trace: uuid::Uuid,
    /// Whether that trace is recorded.
    pub sampled: bool,
    /// The canonical body.
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
struct Row {
    #[diesel(embed)]
    held: HeldRow,
    #[diesel(sql_type = Bool)]
    behind: bool,
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

/// The deliveries of rings with their events. An event comes with one of its deliveries.
///
/// # Errors
/// When the database is away.
pub fn read(conn: &mut PgConnection, rung: &[(ClaimId, DeliveryId)], standing: &Standing) -> Result<Rung> {
    let mut found = Rung::default();
    for (table, rung) in by_partition(rung.iter().copied(), |(_, id)| id.event) {
        let (keys, subscriptions) = split(rung.iter().map(|(_, id)| *id));
        let Some(first) = keys.first() else { continue };
        let events = partition::holding("events", *first);
        let rows = prepared(format!(
            "WITH d AS MATERIALIZED (SELECT {HELD}, row_number() OVER (PARTITION BY d.event_id) AS place \
                FROM unnest($1, $2, $3) AS k (e, s, c) JOIN {table} d ON {BY_KEY}) \
             SELECT {HELD}, {} AS behind, e.event_type, e.metadata->>'correlation_id' AS correlation_id, e.trace, e.sampled, e.body \
             FROM d LEFT JOIN {events} e ON d.place = 1 AND e.tenant_id = d.tenant_id AND e.id = d.event_id",
            behind("$4")
        ))
        .bind::<Array<Uuid>, _>(keys)
        .bind::<Array<Uuid>, _>(subscriptions)
        .bind::<Array<Uuid>, _>(rung.iter().map(|(claim, _)| *claim).collect::<Vec<_>>())
        .bind::<BigInt, _>(standing.seen)
        .load::<Row>(conn);
        match rows {
            Ok(rows) => rows.into_iter().for_each(|row| found.take(row)),
            Err(error) if partition::is_dropped(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}

impl Rung {
    fn take(&mut self, row: Row) {
        self.behind |= row.behind;
        let held = HeldDelivery::from(row.held);
        if let (Some(event_type), Some(trace), Some(sampled), Some(body)) =
            (row.event_type, row.trace, row.sampled, row.body)
        {
            let (id, correlation_id) = (held.id.event, row.correlation_id);
            self.events.push(EventToSend { id, event_type, correlation_id, trace, sampled, body });
        }
        self.held.push(held);
    }
}
