//! From rings to jobs: one read for many deliveries, one body per event, subscriptions from memory.

use std::{collections::HashMap, sync::Arc, time::Duration};

use chrono::TimeDelta;
use hookyard_domain::{
    clock::Clock,
    db::Db,
    delivery::{NOT_TAKEN, Profile, rung},
    id::{ClaimId, DeliveryId, EventId},
    retention::PAYLOAD_PURGED,
    subscription::directory::Directory,
};
use hookyard_messaging::{Consumer, Incoming, Lane, Message};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    dispatch::Load,
    job::{Job, LoadedEvent},
    memory::Memory,
    metrics::Metrics,
    settle::{Note, Settler},
};

/// Deliveries that somebody says are due.
#[derive(Debug)]
pub(crate) struct Rung {
    pub(crate) claim: ClaimId,
    pub(crate) deliveries: Vec<DeliveryId>,
    /// The message that said so; `None` when it was our own sweep, past the broker.
    pub(crate) ring: Option<Incoming>,
}

/// Rings are read together up to so many deliveries.
const READ_AT_ONCE: usize = 1_024;

/// While so many wait in memory, rings stay with the broker.
const ENOUGH: usize = 4 * READ_AT_ONCE;

/// After this, a delivery whose secrets could not be opened is looked at again.
const SEALED: TimeDelta = TimeDelta::seconds(30);

/// Hands the rings of one queue on, until `stop` or the bus is closed.
pub(crate) async fn listen(mut consumer: Consumer, rungs: mpsc::Sender<Rung>, stop: CancellationToken) {
    loop {
        let incoming = tokio::select! {
            () = stop.cancelled() => return,
            incoming = consumer.recv() => incoming,
        };
        let Some(incoming) = incoming else { return };
        let Some(rung) = understand(incoming) else { continue };
        if rungs.send(rung).await.is_err() {
            return;
        }
    }
}

/// A ring that comes a second time is not answered: whoever had it first may still be trying. If not, the leases end and
/// the sweep takes the deliveries.
fn understand(incoming: Incoming) -> Option<Rung> {
    if incoming.redelivered() {
        incoming.ack();
        return None;
    }
    match incoming.message() {
        Message::DeliveryDue { claim, deliveries } => {
            let (claim, deliveries) = (*claim, deliveries.clone());
            Some(Rung { claim, deliveries, ring: Some(incoming) })
        }
        other => {
            tracing::error!(message = ?other, "a message stands in a queue that is not for it");
            incoming.ack();
            None
        }
    }
}

/// Reads what is rung in one lane.
pub(crate) struct Loader {
    pub(crate) lane: Lane,
    pub(crate) db: Db,
    pub(crate) clock: Clock,
    pub(crate) directory: Directory,
    pub(crate) settler: Settler,
    pub(crate) metrics: Metrics,
    pub(crate) load: Load,
    pub(crate) memory: Memory,
}

impl Loader {
    /// Serves until the rungs end. After `stop`, what is rung goes back to the schedule at once.
    pub(crate) async fn run(
        self,
        mut rungs: mpsc::Receiver<Rung>,
        jobs: mpsc::Sender<Vec<Job>>,
        stop: CancellationToken,
    ) {
        let mut batch = Vec::new();
        while rungs.recv_many(&mut batch, 64).await > 0 {
            let mut rest = std::mem::take(&mut batch).into_iter().peekable();
            while rest.peek().is_some() {
                let mut some = Vec::new();
                let mut size = 0;
                while let Some(rung) =
                    rest.next_if(|rung| size == 0 || size + rung.deliveries.len() <= READ_AT_ONCE)
                {
                    size += rung.deliveries.len();
                    some.push(rung);
                }
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = self.load.falls_below(self.lane, ENOUGH) => {}
                }
                self.serve(some, &jobs, &stop).await;
            }
        }
    }

    async fn serve(&self, rungs: Vec<Rung>, jobs: &mpsc::Sender<Vec<Job>>, stop: &CancellationToken) {
        let mut wait = Duration::from_millis(50);
        let rung::Rung { held, events, .. } = loop {
            match self.read(&rungs).await {
                Ok(read) => break read,
                Err(error) => {
                    tracing::warn!(error = error.chain(), "due deliveries cannot be read yet");
                    if stop.is_cancelled() {
                        return; // the leases end, and another takes them
                    }
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(Duration::from_secs(2));
                }
            }
        };
        let now = self.clock.now();
        let mut loaded: HashMap<EventId, Arc<LoadedEvent>> = HashMap::with_capacity(events.len());
        for event in events {
            let Some(memory) = self.memory.take(event.body.len()).await else { return };
            loaded.insert(event.id, LoadedEvent::new(event, memory));
        }
        let mut ready = Vec::with_capacity(held.len());
        for held in held {
            let hook = self.directory.get(held.id.subscription);
            match (hook, loaded.get(&held.id.event)) {
                _ if stop.is_cancelled() => self.settler.note(Note::Parked { held, at: now }).await,
                // A good-bye has no body. All others have lost what they were to bring.
                (Some(_), Some(event)) if event.body.is_empty() && held.profile != Profile::Farewell => {
                    self.settler.note(Note::Cancelled { held, reason: PAYLOAD_PURGED }).await;
                }
                (Some(hook), Some(event)) => match hook.secrets.clone() {
                    Some(secrets) => {
                        let event = Arc::clone(event);
                        ready.push(Job { held, lane: self.lane, hook, secrets, event, share: None });
                    }
                    // Another deliverer may have the master key, or this one after it was told of it.
                    None => self.settler.note(Note::Parked { held, at: now + SEALED }).await,
                },
                (None, _) | (_, None) => {
                    self.settler.note(Note::Cancelled { held, reason: NOT_TAKEN }).await;
                }
            }
        }
        self.metrics.loaded(ready.len());
        if !ready.is_empty()
            && let Err(unsent) = jobs.send(ready).await
        {
            for job in unsent.0 {
                self.settler.note(Note::Parked { held: job.held, at: now }).await;
            }
        }
        // What waits for a slow endpoint must not keep the rings of others away, so a ring is not held until its deliveries have ended:
        // their leases answer for them from here on.
        Incoming::ack_all(rungs.into_iter().filter_map(|rung| rung.ring));
    }

    async fn read(&self, rungs: &[Rung]) -> hookyard_domain::Result<rung::Rung> {
        let keys: Vec<(ClaimId, DeliveryId)> =
            rungs.iter().flat_map(|rung| rung.deliveries.iter().map(|id| (rung.claim, *id))).collect();
        let directory = self.directory.clone();
        self.db
            .once(move |conn| {
                let found = rung::read(conn, &keys, &directory.standing())?;
                if found.behind {
                    directory.refresh(conn)?;
                }
                Ok(found)
            })
            .await
    }
}
