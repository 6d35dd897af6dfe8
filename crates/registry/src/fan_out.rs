//! From events to deliveries: one statement that writes for some groups of events, then the rings.
//!
//! A ring and the relay run the same code: the group's row says whether the work is still to be done.

use std::{collections::HashMap, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use hookyard_domain::{
    Result,
    db::Conn,
    delivery::{self, HeldDelivery, NewDelivery},
    event::waiting::{self, Waiting},
    id::{ClaimId, DeliveryId, EventGroupId},
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

pub(crate) struct FanOut {
    context: Context,
    rings: Arc<Semaphore>,
}

impl FanOut {
    pub(crate) fn new(context: Context) -> Self {
        Self { context, rings: Arc::new(Semaphore::new(RINGS)) }
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
        let (waiting, ready): (Vec<NewDelivery>, Vec<NewDelivery>) =
            deliveries.into_iter().partition(|delivery| delivery.ordering.is_some());
        self.ring(claim, now + lease, ready).await;
        lines::let_go(&self.context, &waiting);
        Ok(events)
    }

    /// Rings the deliverers of the partitions. What cannot be rung is due at once, for the sweep.
    async fn ring(&self, claim: ClaimId, lease_until: DateTime<Utc>, deliveries: Vec<NewDelivery>) {
        let mut partitions: HashMap<u16, Vec<NewDelivery>> = HashMap::new();
        for delivery in deliveries {
            partitions.entry(spread(delivery.id.subscription) % PARTITIONS).or_default().push(delivery);
        }
        for (partition, deliveries) in partitions {
            for chunk in deliveries.chunks(RING_AT_ONCE) {
                let Ok(permit) = Arc::clone(&self.rings).acquire_owned().await else { return };
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
