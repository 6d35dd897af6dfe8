//! From events to deliveries: one statement that writes for some groups of events, then the rings.
//!
//! A ring and the relay run the same code: the group's row says whether the work is still to be done.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use hookyard_domain::{
    Result,
    db::Conn,
    delivery::{self, HeldDelivery, NewDelivery, Profile},
    event::waiting::{self, Waiting},
    id::{ClaimId, DeliveryId, EventGroupId, EventId, SubscriptionId},
    subscription::{directory::Directory, spread},
    trace::TraceContext,
};
use hookyard_messaging::{Consumer, Incoming, Lane, Message, PARTITIONS, Queue};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{context::Context, lines, matching};

/// Groups fanned out in one statement.
const GROUPS_AT_ONCE: usize = 8;

/// Ids in one message at the most.
const RING_AT_ONCE: usize = 256;

/// Rings under way at the most; with more the broker is slow, and waiting is right.
const RINGS: usize = 128;

/// An event with more deliveries is rung bit by bit: so many at once, and then a pause. Rung together, 10,000 of them would keep
/// deliverers and Postgres busy for a second or two, and everybody else would wait that long.
const MANY: usize = 512;
const MANY_AT_ONCE: usize = 256;
const MANY_PAUSE: Duration = Duration::from_millis(100);

pub(crate) struct FanOut {
    context: Context,
    rings: Rings,
}

impl FanOut {
    pub(crate) fn new(context: Context) -> Self {
        let rings = Rings { context: context.clone(), permits: Arc::new(Semaphore::new(RINGS)) };
        Self { context, rings }
    }

    /// Answers rings until `stop`.
    pub(crate) async fn serve(&self, mut consumer: Consumer, stop: CancellationToken) {
        let mut rings = Vec::new();
        loop {
            let taken = tokio::select! {
                () = stop.cancelled() => return,
                taken = consumer.recv_many(&mut rings, GROUPS_AT_ONCE) => taken,
            };
            if taken == 0 {
                return;
            }
            let rings = std::mem::take(&mut rings);
            let groups = rings.iter().filter_map(group).collect();
            // Given back when we stop meanwhile; the row is there for whoever comes next.
            if self.fan_out_until_done(groups, &stop).await {
                Incoming::ack_all(rings);
            }
        }
    }

    async fn fan_out_until_done(&self, groups: Vec<EventGroupId>, stop: &CancellationToken) -> bool {
        let mut wait = Duration::from_millis(50);
        loop {
            match self.fan_out(groups.clone()).await {
                Ok(_events) => return true,
                Err(error) => tracing::warn!(error = error.chain(), "events cannot be fanned out yet"),
            }
            tokio::select! {
                () = stop.cancelled() => return false,
                () = tokio::time::sleep(wait) => wait = (wait * 2).min(Duration::from_secs(2)),
            }
        }
    }

    /// Fans groups out, those of them that nobody else has. Returns the number of events.
    pub(crate) async fn fan_out(&self, groups: Vec<EventGroupId>) -> Result<usize> {
        if groups.is_empty() {
            return Ok(0);
        }
        let now = self.context.clock.now();
        let claim = ClaimId::new(now);
        let lease = TimeDelta::from_std(self.context.lease).unwrap_or(TimeDelta::seconds(30));
        let directory = self.context.directory.clone();
        let (events, deliveries) = self
            .context
            .db
            .once(move |conn| write(conn, &directory, &groups, claim, now, now + lease))
            .await?;
        self.context.metrics.fanned_out(events, deliveries.len());
        let (fetched, sent): (Vec<NewDelivery>, Vec<NewDelivery>) =
            deliveries.into_iter().partition(|delivery| delivery.profile == Profile::Inbox);
        self.rings.ring_inboxes(&fetched);
        let (waiting, ready): (Vec<NewDelivery>, Vec<NewDelivery>) =
            sent.into_iter().partition(|delivery| delivery.ordering.is_some());
        let (ready, many) = of_many(ready);
        self.rings.ring(claim, now + lease, ready).await;
        if !many.is_empty() {
            let rings = self.rings.clone();
            tokio::spawn(async move { rings.ring_slowly(claim, now + lease, many).await });
        }
        lines::let_go(&self.context, &waiting);
        Ok(events)
    }
}

/// Takes the deliveries apart of events that have more than [`MANY`].
fn of_many(ready: Vec<NewDelivery>) -> (Vec<NewDelivery>, Vec<NewDelivery>) {
    if ready.len() <= MANY {
        return (ready, Vec::new());
    }
    let mut each: HashMap<EventId, usize> = HashMap::new();
    for delivery in &ready {
        *each.entry(delivery.id.event).or_default() += 1;
    }
    ready.into_iter().partition(|delivery| each.get(&delivery.id.event).is_none_or(|count| *count <= MANY))
}

/// What tells deliverers of their work.
#[derive(Clone)]
struct Rings {
    context: Context,
    permits: Arc<Semaphore>,
}

impl Rings {
    /// Rings a part after the other. What is not rung when its lease ends, also because this process does, is found by the sweep.
    async fn ring_slowly(&self, claim: ClaimId, lease_until: DateTime<Utc>, deliveries: Vec<NewDelivery>) {
        for some in deliveries.chunks(MANY_AT_ONCE) {
            if lease_until <= self.context.clock.now() {
                return;
            }
            self.ring(claim, lease_until, some.to_vec()).await;
            tokio::time::sleep(MANY_PAUSE).await;
        }
    }

    /// Rings whoever waits at the inboxes.
    fn ring_inboxes(&self, fetched: &[NewDelivery]) {
        let inboxes: BTreeSet<SubscriptionId> =
            fetched.iter().map(|delivery| delivery.id.subscription).collect();
        self.context.bus.ring_inboxes(&inboxes.into_iter().collect::<Vec<_>>());
    }

    /// Rings the deliverers of the partitions. What cannot be rung is due at once, for the sweep.
    async fn ring(&self, claim: ClaimId, lease_until: DateTime<Utc>, deliveries: Vec<NewDelivery>) {
        let mut partitions: HashMap<u16, Vec<NewDelivery>> = HashMap::new();
        for delivery in deliveries {
            partitions.entry(spread(delivery.id.subscription) % PARTITIONS).or_default().push(delivery);
        }
        for (partition, deliveries) in partitions {
            for chunk in deliveries.chunks(RING_AT_ONCE) {
                let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await else { return };
                let (context, chunk) = (self.context.clone(), chunk.to_vec());
                tokio::spawn(async move {
                    let ids: Vec<DeliveryId> = chunk.iter().map(|delivery| delivery.id).collect();
                    let message = Message::DeliveryDue { claim, deliveries: ids };
                    let queue = Queue::DeliveryDue { lane: Lane::First, partition };
                    if let Err(error) = context.bus.publish(queue, &message, &TraceContext::fresh()).await {
                        tracing::debug!(%error, "deliveries were not rung; the sweep takes them");
                        // If somebody may have heard it, the leases say until when it is theirs.
                        if !error.may_have_arrived() {
                            release(&context, chunk, claim, lease_until).await;
                        }
                    }
                    drop(permit);
                });
            }
        }
    }
}

fn group(ring: &Incoming) -> Option<EventGroupId> {
    match ring.message() {
        Message::EventAccepted { group } => Some(*group),
        other => {
            tracing::error!(message = ?other, "a message stands in a queue that is not for it");
            None
        }
    }
}

fn write(
    conn: &mut Conn,
    directory: &Directory,
    groups: &[EventGroupId],
    claim: ClaimId,
    now: DateTime<Utc>,
    lease_until: DateTime<Utc>,
) -> Result<(usize, Vec<NewDelivery>)> {
    let Waiting { mut events, behind } = waiting::read(conn, groups, &directory.standing())?;
    // Whoever subscribed before the events were accepted is seen by the statement that saw them.
    if behind {
        directory.refresh(conn)?;
        waiting::add_bodies(conn, &mut events)?;
    }
    let mut deliveries = Vec::with_capacity(events.len());
    for event in &events {
        for (hook, ordering) in matching::wanting(directory, event, now) {
            let id = DeliveryId { event: event.id, subscription: hook.id };
            let ttl = hook.consumer.as_ref().and_then(|consumer| consumer.ttl);
            let expires_at = ttl.map(|ttl| event.since + ttl);
            let plain = NewDelivery::plain(id, event.tenant, hook.kind.profile());
            deliveries.push((event.group, NewDelivery { ordering, expires_at, ..plain }));
        }
    }
    // Until here nothing was taken: whoever is first with this statement has the groups.
    let taken = delivery::store::fan_out(conn, groups, &deliveries, claim, now, lease_until)?;
    let events = events.iter().filter(|event| taken.contains(&event.group)).count();
    let made = deliveries.into_iter().filter(|(group, _)| taken.contains(group)).map(|(_, new)| new);
    Ok((events, made.collect()))
}

/// Ends the leases of deliveries that could not be rung. If this fails too, the leases end by themselves.
async fn release(
    context: &Context,
    deliveries: Vec<NewDelivery>,
    claim: ClaimId,
    lease_until: DateTime<Utc>,
) {
    let now = context.clock.now();
    let parked: Vec<(HeldDelivery, DateTime<Utc>)> = deliveries
        .into_iter()
        .map(|new| {
            let held = HeldDelivery {
                id: new.id,
                tenant: new.tenant,
                profile: new.profile,
                tries: 0,
                attempts: 0,
                deferrals: 0,
                due_at: now,
                claim,
                lease_until,
                ordered: false,
                expires_at: new.expires_at,
                sequence: None,
            };
            (held, now)
        })
        .collect();
    if let Err(error) = context.db.once(move |conn| delivery::store::park(conn, &parked)).await {
        tracing::debug!(error = error.chain(), "leases could not be ended; they end by themselves");
    }
}

#[cfg(test)]
mod tests {
    use hookyard_domain::{
        delivery::Profile,
        id::{SubscriptionId, TenantId},
    };

    use super::*;

    #[test]
    fn an_event_with_512_deliveries_is_rung_at_once_and_one_with_more_is_not() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let tenant = TenantId::new(now);
        let of_event = |count: usize| -> Vec<NewDelivery> {
            let event = EventId::new(now);
            let new = |_| DeliveryId { event, subscription: SubscriptionId::new(now) };
            (0..count).map(|at| NewDelivery::plain(new(at), tenant, Profile::Hook)).collect()
        };
        for (counts, expected) in [
            (vec![MANY], (MANY, 0)),
            (vec![MANY + 1], (0, MANY + 1)),
            (vec![MANY, MANY], (2 * MANY, 0)),
            (vec![1, 10_000, 3], (4, 10_000)),
        ] {
            let (ready, many) = of_many(counts.iter().flat_map(|count| of_event(*count)).collect());
            assert_eq!((ready.len(), many.len()), expected, "{counts:?}");
        }
    }
}
