//! Fetching what waits for an endpoint in the schedule before its time, when there is room for it (docs/decisions/0061).

use std::{sync::Arc, time::Instant};

use hookyard_domain::{
    delivery::parked::{self, Parked},
    id::{ClaimId, SubscriptionId},
    subscription::Subscription,
};
use hookyard_messaging::Lane;
use tokio::sync::mpsc;

use super::{Command, Deps, Dispatcher, endpoint::Endpoint, rate};
use crate::loader::Rung;

/// Looks at the schedule that are under way at once: there are other things to be asked of the database.
pub(super) const LOOKS: usize = 2;

impl Dispatcher {
    /// Whether an endpoint's owner or the limits of its host set its pace. The places of what waits follow from that, and whoever were fetched
    /// before his time would be put behind all the others.
    pub(super) fn has_a_pace(&self, hook: &Subscription) -> bool {
        rate(hook).is_some() || self.destinations.of(&hook.url).is_some()
    }

    /// Fetches for all endpoints of which something waits. Where a try ends it is fetched at once, but there may have been no room then.
    pub(super) fn fetch_what_waits(&mut self) {
        let now = self.deps.clock.instant();
        let waiting = self.endpoints.iter().filter(|(_, endpoint)| endpoint.has_backlog());
        let waiting: Vec<SubscriptionId> = waiting.map(|(id, _)| *id).collect();
        for id in waiting {
            self.fetch(id, now);
        }
    }

    /// Fetches what waits for an endpoint, where few are left of it in memory and nobody else needs the room.
    pub(super) fn fetch(&mut self, id: SubscriptionId, now: Instant) {
        if !self.endpoints.get(&id).is_some_and(Endpoint::has_backlog) || self.memory.is_scarce() {
            return;
        }
        // Whoever is gone has nothing that could be fetched.
        let Some(hook) = self.deps.directory.get(id).filter(|hook| !self.has_a_pace(hook)) else { return };
        let (bounds, all) = (self.bounds, self.waiting(id));
        let written = self.deps.settler.parked();
        for lane in [Lane::First, Lane::Retry] {
            let waiting = (self.lane(lane).queue.waiting(id), all);
            let Ok(look) = self.looks.clone().try_acquire_owned() else { return };
            if self.is_full(lane) {
                continue;
            }
            // Nothing is claimed that could not be rung for.
            let Some(ring) = self.deps.own.reserve(lane) else { continue };
            let Some(endpoint) = self.endpoints.get_mut(&id) else { return };
            let Some((from, at_most)) = endpoint.fetch(&bounds, lane, waiting, now, written) else {
                continue;
            };
            let tried = lane == Lane::Retry;
            let parked = Parked { tenant: hook.tenant, subscription: id, tried, from, at_most };
            let claimed = claim(Arc::clone(&self.deps), self.commands.clone(), parked, ring);
            self.tries.spawn(async move {
                claimed.await;
                drop(look);
            });
        }
    }
}

/// Claims what waits, and rings for it in this process.
async fn claim(
    deps: Arc<Deps>,
    commands: mpsc::UnboundedSender<Command>,
    parked: Parked,
    ring: mpsc::OwnedPermit<Rung>,
) {
    let lane = if parked.tried { Lane::Retry } else { Lane::First };
    let now = deps.clock.now();
    let (claim, lease_until) = (ClaimId::new(now), now + deps.lease);
    let claimed = deps.db.run(move |conn| parked::claim(conn, parked, now, claim, lease_until)).await;
    let (held, rest) = claimed.unwrap_or_else(|error| {
        tracing::debug!(error = error.chain(), "what waits for an endpoint comes at its time");
        (Vec::new(), Some(parked.from))
    });
    deps.metrics.swept(held.len());
    let (endpoint, found) = (parked.subscription, held.len());
    let _gone = commands.send(Command::Fetched { endpoint, lane, found, rest });
    if !held.is_empty() {
        let deliveries = held.into_iter().map(|held| held.id).collect();
        let _sender = ring.send(Rung { claim, deliveries, ring: None });
    }
}
