//! Ringing deliveries: to the queue of their endpoint, so that one deliverer has all that goes there.

use std::collections::BTreeMap;

use hookyard_domain::{
    id::{ClaimId, DeliveryId, TenantId},
    subscription::spread,
    task::AgentType,
    trace::TraceContext,
};

use crate::{Bus, Lane, Message, PARTITIONS, Queue};

/// Ids in one message at the most.
const AT_ONCE: usize = 256;

impl Bus {
    /// Rings the runners when any of what was queued is work for them.
    pub async fn ring_tasks(&self, queued: &[(TenantId, AgentType)]) {
        if !queued.iter().any(|(_, agent)| agent.built_in()) {
            return;
        }
        let rung = self.publish(Queue::TaskQueued, &Message::TaskQueued {}, &TraceContext::fresh()).await;
        if let Err(error) = rung {
            tracing::debug!(%error, "queued tasks were not rung; runners look by themselves");
        }
    }

    /// Rings deliveries that are held under `claim`. Returns those that nobody can have heard of: their leases may be given
    /// back at once.
    pub async fn ring_due(&self, lane: Lane, claim: ClaimId, deliveries: &[DeliveryId]) -> Vec<DeliveryId> {
        let mut partitions: BTreeMap<u16, Vec<DeliveryId>> = BTreeMap::new();
        for id in deliveries {
            partitions.entry(spread(id.subscription) % PARTITIONS).or_default().push(*id);
        }
        let mut unheard = Vec::new();
        for (partition, ids) in partitions {
            for ids in ids.chunks(AT_ONCE) {
                let message = Message::DeliveryDue { claim, deliveries: ids.to_vec() };
                let queue = Queue::DeliveryDue { lane, partition };
                if let Err(error) = self.publish(queue, &message, &TraceContext::fresh()).await {
                    tracing::debug!(%error, "deliveries were not rung; the sweep takes them");
                    // If somebody may have heard it, the leases say until when it is theirs.
                    if !error.may_have_arrived() {
                        unheard.extend_from_slice(ids);
                    }
                }
            }
        }
        unheard
    }
}
