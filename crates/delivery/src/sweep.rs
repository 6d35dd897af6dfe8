//! The sweep: takes what is due from the schedule and rings it (invariants 1 and 7).
//!
//! Retries whose time has come, replays, and leases that ended without an outcome all come this way. Without a broker
//! the sweep serves its own process, so that deliveries go on.

use std::{collections::HashMap, time::Duration};

use chrono::TimeDelta;
use hookyard_domain::{
    clock::Clock,
    db::Db,
    delivery::{HeldDelivery, store},
    id::{ClaimId, DeliveryId},
    subscription::spread,
    trace::TraceContext,
};
use hookyard_messaging::{Bus, Lane, Message, PARTITIONS, Queue};
use tokio_util::sync::CancellationToken;

use crate::{metrics::Metrics, own::OwnRings, settings::Settings};

/// Ids in one message at the most.
const RING_AT_ONCE: usize = 256;

/// So many looks at the schedule are left out after each while a lane is full.
const TICKS_BEHIND: u32 = 9;

pub(crate) struct Sweep {
    pub(crate) db: Db,
    pub(crate) bus: Bus,
    pub(crate) clock: Clock,
    pub(crate) own: OwnRings,
    pub(crate) metrics: Metrics,
}

impl Sweep {
    /// Sweeps until `stop`.
    pub(crate) async fn run(self, settings: &Settings, stop: CancellationToken) {
        let mut tick = tokio::time::interval(Duration::from_millis(settings.sweep_interval_ms));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let lease = settings.lease();
        let batch = settings.sweep_batch as usize;
        let mut idle_ticks = 0;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = tick.tick() => {}
            }
            if 0 < idle_ticks {
                idle_ticks -= 1;
                continue;
            }
            // A full batch means that more is due: taken at once, unless we are behind with what we have.
            while !stop.is_cancelled() {
                let (first, retry) =
                    (self.own.load.has_room(Lane::First), self.own.load.has_room(Lane::Retry));
                if !first && !retry {
                    break;
                }
                match self.take(lease, i64::from(settings.sweep_batch)).await {
                    Ok(taken) => {
                        let full = taken.len() == batch;
                        let all_heard = self.ring(taken, lease).await;
                        // What is due for one lane must come although the other is full, whose own is taken with it: slowly, for
                        // that waits, and its leases must not end before it is read.
                        let behind = !first || !retry;
                        if behind {
                            idle_ticks = TICKS_BEHIND;
                        }
                        if !full || !all_heard || behind {
                            break;
                        }
                    }
                    Err(error) => {
                        tracing::warn!(error = error.chain(), "the schedule cannot be read yet");
                        tokio::time::sleep(Duration::from_millis(500)).await;
                        break;
                    }
                }
            }
        }
    }

    async fn take(&self, lease: TimeDelta, limit: i64) -> hookyard_domain::Result<Vec<HeldDelivery>> {
        let now = self.clock.now();
        let claim = ClaimId::new(now);
        let taken = self.db.once(move |conn| store::claim_due(conn, now, now + lease, claim, limit)).await?;
        self.metrics.swept(taken.len());
        Ok(taken)
    }

    /// Rings what was taken. Whether everything was heard: the lane of the rest is full, and must not keep the other's away.
    async fn ring(&self, taken: Vec<HeldDelivery>, lease: TimeDelta) -> bool {
        let mut all_heard = true;
        let now = self.clock.now();
        let mut groups: HashMap<(Lane, u16, bool), (ClaimId, Vec<DeliveryId>)> = HashMap::new();
        for held in taken {
            let lane = if held.attempts == 0 { Lane::First } else { Lane::Retry };
            let partition = spread(held.id.subscription) % PARTITIONS;
            // Rung once, and a lease has ended without a try: its holder is dead, or rings wait longer than leases last.
            // At the end of that queue it would be late again, and every ring after it later still.
            let overdue = lease <= now - held.due_at;
            groups
                .entry((lane, partition, overdue))
                .or_insert_with(|| (held.claim, Vec::new()))
                .1
                .push(held.id);
        }
        for ((lane, partition, overdue), (claim, ids)) in groups {
            for ids in ids.chunks(RING_AT_ONCE) {
                let heard = overdue && self.own.tell(lane, claim, ids).await
                    || self.publish(lane, partition, claim, ids).await
                    || self.own.tell(lane, claim, ids).await;
                // Otherwise the leases end, and they are taken again.
                all_heard &= heard;
            }
        }
        all_heard
    }

    /// Rings for whoever hears it first.
    async fn publish(&self, lane: Lane, partition: u16, claim: ClaimId, ids: &[DeliveryId]) -> bool {
        let message = Message::DeliveryDue { claim, deliveries: ids.to_vec() };
        let queue = Queue::DeliveryDue { lane, partition };
        match self.bus.publish(queue, &message, &TraceContext::fresh()).await {
            Ok(()) => true,
            // Its leases end if nobody heard it.
            Err(error) => error.may_have_arrived(),
        }
    }
}
