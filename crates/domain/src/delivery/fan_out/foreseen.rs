//! Events that are stored together with their deliveries: where whoever stores them is told what follows from them, one statement does
//! both (docs/decisions/0063).

use std::collections::HashMap;

use diesel::{
    PgConnection, RunQueryDsl,
    sql_types::{Array, BigInt, SmallInt, Timestamptz, Uuid},
};

use super::{super::store::split, Hold, NewDelivery, Row, sequence};
use crate::{
    Result,
    event::{NewEvent, store},
    id::{DeliveryId, EventGroupId, SubscriptionId},
    subscription::directory::{Standing, behind},
};

/// How long whoever posts waits for a counter that somebody else holds, in milliseconds; whoever fans out waits for longer.
const PATIENCE_MS: u32 = 20;

/// What follows from events that are about to be stored.
#[derive(Clone, Debug)]
pub struct Foreseen {
    /// The subscriptions it was told by.
    pub standing: Standing,
    /// The deliveries of these events. They wait for nobody and do not expire.
    pub deliveries: Vec<NewDelivery>,
    /// Under whose claim they are made.
    pub hold: Hold,
}

/// The numbers of deliveries that were made.
pub type Numbers = HashMap<DeliveryId, i64>;

impl Foreseen {
    /// Stores events, none of which is scheduled, with their deliveries. `None` when subscriptions have changed since it was told: then the
    /// events are stored as by [`store::insert_group`], with the group that owes them a fan-out. Not within a transaction.
    ///
    /// # Errors
    /// [`crate::Error::Locked`] when somebody holds one of the counters for more than 20 ms; and when the database is away.
    /// Nothing is stored then.
    pub fn store(
        &self,
        conn: &mut PgConnection,
        group: EventGroupId,
        events: &[NewEvent],
    ) -> Result<Option<Numbers>> {
        let Some(first) = events.first() else { return Ok(Some(Numbers::new())) };
        let mut deliveries: Vec<&NewDelivery> = self.deliveries.iter().collect();
        deliveries.sort_unstable_by_key(|new| (new.id.subscription, new.id.event));
        let (mut subscriptions, mut counts): (Vec<SubscriptionId>, Vec<i64>) = (Vec::new(), Vec::new());
        // How many of the same subscription come later, so that numbers go by the events' ids.
        let mut later = Vec::with_capacity(deliveries.len());
        for of_one in deliveries.chunk_by(|a, b| a.id.subscription == b.id.subscription) {
            subscriptions.extend(of_one.first().map(|new| new.id.subscription));
            counts.push(of_one.len() as i64);
            later.extend((0..of_one.len() as i64).rev());
        }
        let (of_events, of_subscriptions) = split(deliveries.iter().map(|new| new.id));
        let numbers = sequence::give(
            "SELECT s, n FROM patience, behind, unnest($14, $15) AS w (s, n) WHERE NOT yes ORDER BY s",
        );
        let statement = format!(
            "WITH patience AS MATERIALIZED (SELECT set_config('lock_timeout', '{PATIENCE_MS}ms', true)), \
             behind AS MATERIALIZED (SELECT {} AS yes), \
             stored AS ({}), \
             owed AS (INSERT INTO event_groups (id, tenant_ids, event_ids, created_at) SELECT $11, $1, $2, $12 FROM behind WHERE yes), \
             numbers AS ({numbers}), \
             made AS (INSERT INTO deliveries (event_id, subscription_id, tenant_id, profile, state, tries, attempts, \
                   deferrals, due_at, next_attempt_at, claim, sequence) \
                SELECT e, s, t, p, 0, 0, 0, 0, $21, $22, $23, numbers.last - later \
                FROM unnest($16, $17, $18, $19, $20) AS new (e, s, t, p, later) JOIN numbers ON numbers.subscription_id = new.s \
                RETURNING event_id, subscription_id, sequence) \
             SELECT $11 AS id, NULL::uuid AS subscription_id, NULL::bigint AS sequence FROM behind WHERE yes \
             UNION ALL SELECT event_id, subscription_id, sequence FROM made",
            behind("$13"),
            store::INSERT,
        );
        let rows: Vec<Row> = store::with_events(statement, events)
            .bind::<Uuid, _>(group)
            .bind::<Timestamptz, _>(first.created_at)
            .bind::<BigInt, _>(self.standing.seen)
            .bind::<Array<Uuid>, _>(subscriptions)
            .bind::<Array<BigInt>, _>(counts)
            .bind::<Array<Uuid>, _>(of_events)
            .bind::<Array<Uuid>, _>(of_subscriptions)
            .bind::<Array<Uuid>, _>(deliveries.iter().map(|new| new.tenant).collect::<Vec<_>>())
            .bind::<Array<SmallInt>, _>(deliveries.iter().map(|new| new.profile).collect::<Vec<_>>())
            .bind::<Array<BigInt>, _>(later)
            .bind::<Timestamptz, _>(self.hold.now)
            .bind::<Timestamptz, _>(self.hold.until)
            .bind::<Uuid, _>(self.hold.claim)
            .load(conn)?;
        // The row of the group that is owed has no number.
        Ok(rows.iter().map(Row::number).collect())
    }
}
