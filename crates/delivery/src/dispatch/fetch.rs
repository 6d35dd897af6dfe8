//! Fetching what waits for an endpoint in the schedule before its time, when there is room for it.

use std::time::Instant;

use hookyard_domain::{
    delivery::parked::{self, Parked},
    id::{ClaimId, DeliveryId, SubscriptionId},
};
use hookyard_messaging::Lane;
use tokio::sync::mpsc;

use super::{Command, Deps, Dispatcher};

impl Dispatcher {
    /// Fetches what waits for an endpoint, where few are left of it in memory and nobody else needs the room.
    pub(super) fn fetch(&mut self, id: SubscriptionId, now: Instant) {
        for lane in [Lane::First, Lane::Retry] {
            if self.is_full(lane) || self.memory.is_scarce() {
                continue;
            }
            let (bounds, waiting) = (self.bounds, self.lane(lane).queue.waiting(id));
            let Some(endpoint) = self.endpoints.get_mut(&id) else { return };
            let Some((from, at_most)) = endpoint.fetch(&bounds, lane, waiting, now) else { continue };
            // Whoever is gone has nothing that could be fetched.
            let Some(hook) = self.deps.directory.get(id) else { continue };
            let tried = lane == Lane::Retry;
            let parked = Parked { tenant: hook.tenant, subscription: id, tried, from, at_most };
            self.tries.spawn(claim(self.deps.clone(), self.commands.clone(), parked));
        }
    }
}

/// Claims what waits, and rings for it in this process.
async fn claim(deps: Deps, commands: mpsc::UnboundedSender<Command>, parked: Parked) {
    let lane = if parked.tried { Lane::Retry } else { Lane::First };
    let now = deps.clock.now();
    let (claim, lease_until) = (ClaimId::new(now), now + deps.lease);
    let claimed = deps.db.once(move |conn| parked::claim(conn, parked, now, claim, lease_until)).await;
    let (held, rest) = claimed.unwrap_or_else(|error| {
        tracing::debug!(error = error.chain(), "what waits for an endpoint comes at its time");
        (Vec::new(), Some(parked.from))
    });
    deps.metrics.swept(held.len());
    let (endpoint, found) = (parked.subscription, held.len());
    let _gone = commands.send(Command::Fetched { endpoint, lane, found, rest });
    let ids: Vec<DeliveryId> = held.into_iter().map(|held| held.id).collect();
    if !ids.is_empty() {
        // Otherwise the leases end.
        let _heard = deps.own.tell(lane, claim, &ids).await;
    }
}
