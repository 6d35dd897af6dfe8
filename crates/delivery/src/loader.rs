//! From rings to jobs: one read for many deliveries, one body per event, subscriptions from memory.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use chrono::TimeDelta;
use hookyard_domain::{
    clock::Clock,
    db::{Conn, Db},
    delivery::{
        HeldDelivery, NOT_TAKEN, Profile,
        rung::{self, EventToSend},
    },
    id::{ClaimId, DeliveryId, EventId, TenantId},
    retention::PAYLOAD_PURGED,
    subscription::directory::Directory,
};
use hookyard_messaging::{Bus, Consumer, Incoming, Lane, Made, Message};
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
    /// The message that said so; `None` when we took them from the schedule ourselves, past the broker.
    pub(crate) ring: Option<Incoming>,
}

/// Rings are read together up to so many deliveries.
const READ_AT_ONCE: usize = 256;

/// After this, a delivery whose secrets could not be opened is looked at again.
const SEALED: TimeDelta = TimeDelta::seconds(30);

/// Hands the rings of one queue on, until `stop` or the bus is closed.
pub(crate) async fn listen(mut consumer: Consumer, rungs: mpsc::Sender<Rung>, stop: CancellationToken) {
    loop {
        let incoming = tokio::select! {
            () = stop.cancelled() => break,
            incoming = consumer.recv() => incoming,
        };
        let Some(incoming) = incoming else { return };
        let Some(rung) = understand(incoming) else { continue };
        if rungs.send(rung).await.is_err() {
            return;
        }
    }
    // What is at hand goes back to the schedule, which a loader that stops sees to. Another deliverer would get it a second time, and
    // wait for the end of its leases.
    for rung in consumer.end().into_iter().filter_map(understand) {
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
    pub(crate) bus: Bus,
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
                    () = self.load.room(self.lane) => {}
                }
                self.serve(some, &jobs, &stop).await;
            }
        }
    }

    async fn serve(&self, rungs: Vec<Rung>, jobs: &mpsc::Sender<Vec<Job>>, stop: &CancellationToken) {
        let (rungs, newer) = self.serve_at_hand(rungs, jobs, stop).await;
        if rungs.is_empty() {
            return;
        }
        let keys: Arc<[(ClaimId, DeliveryId)]> =
            rungs.iter().flat_map(|rung| rung.deliveries.iter().map(|id| (rung.claim, *id))).collect();
        let directory = self.directory.clone();
        let first = self.read(stop, move |conn| {
            let found = rung::read(conn, &keys, &directory.standing())?;
            if found.behind || newer {
                directory.refresh(conn)?;
            }
            Ok(found)
        });
        // Otherwise the leases end, and another takes them.
        let Some(rung::Rung { mut held, mut events, mut unread, .. }) = first.await else { return };
        loop {
            let missing: HashSet<EventId> = unread.iter().map(|(_, id)| *id).collect();
            let (later, now): (Vec<_>, Vec<_>) =
                held.into_iter().partition(|held| missing.contains(&held.id.event));
            self.hand_on(now, events, jobs, stop).await;
            if unread.is_empty() {
                break;
            }
            if stop.is_cancelled() {
                for held in later {
                    self.settler.note(Note::Parked { held, at: self.clock.now(), number: None }).await;
                }
                break;
            }
            held = later;
            let more: Arc<[(TenantId, EventId)]> = unread.into();
            let Some(found) = self.read(stop, move |conn| rung::read_more(conn, &more)).await else { return };
            (events, unread) = (found.events, found.unread);
        }
        // What waits for a slow endpoint must not keep the rings of others away, so a ring is not held until its deliveries have ended:
        // their leases answer for them from here on.
        Incoming::ack_all(rungs.into_iter().filter_map(|rung| rung.ring));
    }

    /// Hands on what was made in this process a moment ago, and returns what has to be read; and whether something was made of
    /// subscriptions that are newer than ours.
    async fn serve_at_hand(
        &self,
        rungs: Vec<Rung>,
        jobs: &mpsc::Sender<Vec<Job>>,
        stop: &CancellationToken,
    ) -> (Vec<Rung>, bool) {
        let Some(at_hand) = self.bus.at_hand() else { return (rungs, false) };
        let (standing, now) = (self.directory.standing(), self.clock.instant());
        let (mut held, mut events, mut known) = (Vec::new(), Vec::new(), HashSet::new());
        let (mut served, mut left, mut newer) = (Vec::new(), Vec::new(), false);
        for rung in rungs {
            let made = at_hand.take_deliveries(rung.claim, &rung.deliveries, now).filter(|made| {
                let is_known = made.iter().all(|made| standing.has_seen_all_of(&made.standing));
                newer |= !is_known;
                is_known
            });
            let Some(made) = made else {
                left.push(rung);
                continue;
            };
            for Made { held: delivery, event, .. } in made {
                held.push(delivery);
                if known.insert(event.id) {
                    events.push(Arc::unwrap_or_clone(event));
                }
            }
            served.push(rung);
        }
        if !held.is_empty() {
            self.metrics.at_hand(held.len());
            self.hand_on(held, events, jobs, stop).await;
        }
        Incoming::ack_all(served.into_iter().filter_map(|rung| rung.ring));
        (left, newer)
    }

    /// Hands deliveries on with their events, as many as there is memory for, and then the others. Nobody waits for memory with what
    /// he could hand on: only what is on its way gives memory back.
    async fn hand_on(
        &self,
        held: Vec<HeldDelivery>,
        events: Vec<EventToSend>,
        jobs: &mpsc::Sender<Vec<Job>>,
        stop: &CancellationToken,
    ) {
        let mut ready = Vec::with_capacity(held.len());
        let mut of_events: HashMap<EventId, Vec<HeldDelivery>> = HashMap::with_capacity(events.len());
        for held in held {
            of_events.entry(held.id.event).or_default().push(held);
        }
        for event in events {
            let Some(held) = of_events.remove(&event.id) else { continue };
            let mut memory = self.memory.try_take(event.body.len());
            if memory.is_none() && !stop.is_cancelled() {
                self.send(std::mem::take(&mut ready), jobs).await;
                tokio::select! {
                    () = stop.cancelled() => {}
                    taken = self.memory.take(event.body.len()) => memory = taken,
                }
            }
            let event = memory.map(|memory| LoadedEvent::new(event, memory));
            for held in held {
                match &event {
                    Some(event) if !stop.is_cancelled() => {
                        ready.extend(self.job(held, Arc::clone(event)).await);
                    }
                    _ => self.settler.note(Note::Parked { held, at: self.clock.now(), number: None }).await,
                }
            }
        }
        for held in of_events.into_values().flatten() {
            self.settler.note(Note::Cancelled { held, reason: NOT_TAKEN }).await;
        }
        self.send(ready, jobs).await;
    }

    /// A delivery that can be tried. Of another it is noted why not.
    async fn job(&self, held: HeldDelivery, event: Arc<LoadedEvent>) -> Option<Job> {
        let Some(hook) = self.directory.get(held.id.subscription) else {
            self.settler.note(Note::Cancelled { held, reason: NOT_TAKEN }).await;
            return None;
        };
        // A good-bye has no body. All others have lost what they were to bring.
        if event.body.is_empty() && held.profile != Profile::Farewell {
            self.settler.note(Note::Cancelled { held, reason: PAYLOAD_PURGED }).await;
            return None;
        }
        let Some(secrets) = hook.secrets.clone() else {
            // Another deliverer may have the master key, or this one after it was told of it.
            self.settler.note(Note::Parked { held, at: self.clock.now() + SEALED, number: None }).await;
            return None;
        };
        Some(Job { held, lane: self.lane, hook, secrets, event, held_bytes: None, sent_bytes: None })
    }

    async fn send(&self, ready: Vec<Job>, jobs: &mpsc::Sender<Vec<Job>>) {
        if ready.is_empty() {
            return;
        }
        self.metrics.loaded(ready.len());
        if let Err(unsent) = jobs.send(ready).await {
            let now = self.clock.now();
            for job in unsent.0 {
                self.settler.note(Note::Parked { held: job.held, at: now, number: None }).await;
            }
        }
    }

    /// Reads until it succeeds; `None` when it does not and we stop.
    async fn read<F>(&self, stop: &CancellationToken, ask: F) -> Option<rung::Rung>
    where
        F: Fn(&mut Conn) -> hookyard_domain::Result<rung::Rung> + Send + Sync + 'static,
    {
        let (ask, mut wait) = (Arc::new(ask), Duration::from_millis(50));
        loop {
            let once = Arc::clone(&ask);
            match self.db.once(move |conn| once(conn)).await {
                Ok(found) => return Some(found),
                Err(error) => {
                    tracing::warn!(error = error.chain(), "due deliveries cannot be read yet");
                    if stop.is_cancelled() {
                        return None;
                    }
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(Duration::from_secs(2));
                }
            }
        }
    }
}
