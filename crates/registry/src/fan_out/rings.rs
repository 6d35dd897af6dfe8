//! What tells deliverers of their work.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use hookyard_domain::{
    delivery::{self, HeldDelivery, NewDelivery, fan_out::Hold},
    id::{DeliveryId, SubscriptionId},
    subscription::spread,
    trace::TraceContext,
};
use hookyard_messaging::{Lane, Message, PARTITIONS, Queue};
use tokio::sync::Semaphore;

use crate::context::Context;

/// Ids in one message at the most.
const AT_ONCE: usize = 256;

/// Rings under way at the most; with more the broker is slow, and waiting is right.
const UNDER_WAY: usize = 128;

#[derive(Clone, Debug)]
pub(super) struct Rings {
    context: Context,
    permits: Arc<Semaphore>,
}

impl Rings {
    pub(super) fn new(context: Context) -> Self {
        Self { context, permits: Arc::new(Semaphore::new(UNDER_WAY)) }
    }

    /// Rings whoever waits at the inboxes.
    pub(super) fn ring_inboxes(&self, fetched: &[NewDelivery]) {
        let inboxes: BTreeSet<SubscriptionId> =
            fetched.iter().map(|delivery| delivery.id.subscription).collect();
        self.context.bus.ring_inboxes(&inboxes.into_iter().collect::<Vec<_>>());
    }

    /// Rings the deliverers of the partitions. What cannot be rung is due at once, for the sweep.
    pub(super) async fn ring(&self, hold: Hold, deliveries: Vec<NewDelivery>) {
        let mut partitions: HashMap<u16, Vec<NewDelivery>> = HashMap::new();
        for delivery in deliveries {
            partitions.entry(spread(delivery.id.subscription) % PARTITIONS).or_default().push(delivery);
        }
        for (partition, deliveries) in partitions {
            for chunk in deliveries.chunks(AT_ONCE) {
                let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await else { return };
                let (context, chunk) = (self.context.clone(), chunk.to_vec());
                let ring = async move {
                    let ids: Vec<DeliveryId> = chunk.iter().map(|delivery| delivery.id).collect();
                    let message = Message::DeliveryDue { claim: hold.claim, deliveries: ids };
                    let queue = Queue::DeliveryDue { lane: Lane::First, partition };
                    if let Err(error) = context.bus.publish(queue, &message, &TraceContext::fresh()).await {
                        tracing::debug!(%error, "deliveries were not rung; the sweep takes them");
                        // If somebody may have heard it, the leases say until when it is theirs.
                        if !error.may_have_arrived() {
                            release(&context, chunk, hold).await;
                        }
                    }
                    drop(permit);
                };
                // Within a process it is a queue in memory.
                if self.context.bus.has_broker() {
                    tokio::spawn(ring);
                } else {
                    ring.await;
                }
            }
        }
    }
}

/// Ends the leases of deliveries that could not be rung. If this fails too, the leases end by themselves.
async fn release(context: &Context, deliveries: Vec<NewDelivery>, hold: Hold) {
    let now = context.clock.now();
    let parked: Vec<(HeldDelivery, DateTime<Utc>)> =
        deliveries.iter().map(|new| (new.held(hold, None), now)).collect();
    if let Err(error) = context.db.once(move |conn| delivery::store::park(conn, &parked)).await {
        tracing::debug!(error = error.chain(), "leases could not be ended; they end by themselves");
    }
}
