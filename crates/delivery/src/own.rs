//! Rings within this process, past the broker.

use std::time::Duration;

use hookyard_domain::id::{ClaimId, DeliveryId};
use hookyard_messaging::Lane;
use tokio::sync::mpsc;

use crate::{dispatch::Load, loader::Rung};

/// How long a loader may take to hear what is due in its lane.
const PATIENCE: Duration = Duration::from_secs(1);

/// Both loaders of this process.
#[derive(Clone, Debug)]
pub(crate) struct OwnRings {
    pub(crate) load: Load,
    pub(crate) first: mpsc::Sender<Rung>,
    pub(crate) retry: mpsc::Sender<Rung>,
}

impl OwnRings {
    /// A place for one ring in a lane that takes more, if there is one now.
    pub(crate) fn reserve(&self, lane: Lane) -> Option<mpsc::OwnedPermit<Rung>> {
        self.load.has_room(lane).then(|| self.of(lane).clone().try_reserve_owned().ok()).flatten()
    }

    const fn of(&self, lane: Lane) -> &mpsc::Sender<Rung> {
        match lane {
            Lane::First => &self.first,
            Lane::Retry => &self.retry,
        }
    }

    /// Rings for what is held under a claim. A lane that is full is not waited for, and no other for long: what is due for the other one
    /// waits behind it. Whether it was heard; otherwise the leases end.
    pub(crate) async fn tell(&self, lane: Lane, claim: ClaimId, ids: &[DeliveryId]) -> bool {
        let own = self.of(lane);
        let rung = Rung { claim, deliveries: ids.to_vec(), ring: None };
        if self.load.has_room(lane) {
            own.send_timeout(rung, PATIENCE).await.is_ok()
        } else {
            own.try_send(rung).is_ok()
        }
    }
}
