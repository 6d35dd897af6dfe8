//! The tasks that store events: each takes what waits, stores it with one statement, answers, and rings.
//!
//! There is no timer. While one task commits, the next group fills: groups are small when there is little to do and
//! large when there is much. The rows promise everything; the ring only makes it quick (invariant 1).

use std::{sync::Arc, time::Instant};

use futures_util::StreamExt;
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    Error,
    clock::Clock,
    db::Db,
    event::{NewEvent, store},
    id::EventGroupId,
    idempotency::{self, Earlier, Key},
    trace::TraceContext,
};
use hookyard_messaging::{Bus, Message, Queue};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Exit, Job};
use crate::{access::idempotent, metrics::Metrics, problem};

/// Requests that are stored alone at the same time, after their group could not be stored.
const ALONE_AT_ONCE: usize = 3;

/// Which events a task stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Those without a key: one statement.
    Plain,
    /// Those with a key: one transaction.
    Keyed,
}

/// How large a group may get.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Events.
    pub(crate) events: usize,
    /// Bytes of their bodies.
    pub(crate) bytes: usize,
}

/// One task.
#[derive(Clone, Debug)]
pub(crate) struct Flusher {
    pub(crate) lane: Lane,
    pub(crate) exit: Exit,
    pub(crate) limits: Limits,
    pub(crate) db: Db,
    pub(crate) bus: Bus,
    pub(crate) clock: Clock,
    pub(crate) metrics: Metrics,
    pub(crate) afterwards: TaskTracker,
}

impl Flusher {
    /// Stores events until `stop` is cancelled and the queue is empty.
    pub(crate) async fn run(self, stop: CancellationToken) {
        while let Some(group) = self.next(&stop).await {
            match self.lane {
                Lane::Plain => self.store(group).await,
                Lane::Keyed => self.store_keyed(group).await,
            }
        }
    }

    /// What waits, up to the limits; waits for the first. `None` when there will be no more.
    async fn next(&self, stop: &CancellationToken) -> Option<Vec<Job>> {
        let mut exit = self.exit.0.lock().await;
        let first = tokio::select! {
            biased;
            first = exit.recv() => first?,
            () = stop.cancelled() => {
                exit.close();
                exit.recv().await?
            }
        };
        let (mut events, mut bytes) = size(&first);
        let mut group = vec![first];
        while events < self.limits.events
            && bytes < self.limits.bytes
            && let Ok(job) = exit.try_recv()
        {
            let (more_events, more_bytes) = size(&job);
            (events, bytes) = (events + more_events, bytes + more_bytes);
            group.push(job);
        }
        self.metrics.waiting.sub(i64::try_from(group.len()).unwrap_or(0));
        Some(group)
    }

    /// One statement for all.
    async fn store(&self, mut group: Vec<Job>) {
        let mut events: Vec<NewEvent> = Vec::with_capacity(group.iter().map(|job| job.events.len()).sum());
        let lengths: Vec<usize> = group.iter().map(|job| job.events.len()).collect();
        for job in &mut group {
            events.append(&mut job.events);
        }
        let events = Arc::new(events);
        let id = EventGroupId::new(self.clock.now());
        let started = Instant::now();
        let stored = {
            let events = Arc::clone(&events);
            self.db.once(move |conn| store::insert_group(conn, id, &events)).await
        };
        match stored {
            Ok(()) => {
                self.stored(id, events.iter(), started);
                for job in group {
                    answer(job, Ok(None));
                }
            }
            // One event that the database refuses must not fail the others.
            Err(Error::Database(_)) if group.len() > 1 => {
                let mut events = Arc::unwrap_or_clone(events).into_iter();
                for (job, length) in group.iter_mut().zip(lengths) {
                    job.events.extend(events.by_ref().take(length));
                }
                for job in group {
                    Box::pin(self.store(vec![job])).await;
                }
            }
            Err(error) => refuse(group, &problem::of(error)),
        }
    }

    /// One transaction that writes the keys and the events of those that are new.
    async fn store_keyed(&self, mut group: Vec<Job>) {
        let now = self.clock.now();
        let id = EventGroupId::new(now);
        let parts = Arc::new(group.iter_mut().filter_map(Part::take).collect::<Vec<_>>());
        let started = Instant::now();
        let stored = {
            let parts = Arc::clone(&parts);
            self.db
                .run(move |conn| {
                    let claims: Vec<(Key, u16, Vec<u8>)> =
                        parts.iter().map(|part| part.claim.clone()).collect();
                    let earlier = idempotency::claim(conn, &claims, now)?;
                    let new: Vec<NewEvent> = fresh(&parts, &earlier).cloned().collect();
                    store::insert_group(conn, id, &new)?;
                    Ok(earlier)
                })
                .await
        };
        match stored {
            Ok(earlier) => {
                self.stored(id, fresh(&parts, &earlier), started);
                for (job, earlier) in group.into_iter().zip(earlier) {
                    answer(job, Ok(earlier));
                }
            }
            // Somebody's key is held, or somebody's event is refused: the others must not pay for it.
            Err(Error::Locked | Error::Database(_)) if group.len() > 1 => {
                let parts = Arc::unwrap_or_clone(parts);
                let alone = group.into_iter().zip(parts).map(|(mut job, part)| {
                    part.give_back(&mut job);
                    job
                });
                futures_util::stream::iter(alone)
                    .for_each_concurrent(ALONE_AT_ONCE, |job| Box::pin(self.store_keyed(vec![job])))
                    .await;
            }
            Err(Error::Locked) => refuse(group, &idempotent::in_flight()),
            Err(error) => refuse(group, &problem::of(error)),
        }
    }

    fn stored<'a>(&self, id: EventGroupId, events: impl Iterator<Item = &'a NewEvent>, started: Instant) {
        let mut events = events.peekable();
        // A group of nothing but repeated requests has no row.
        let Some(trace) = events.peek().map(|event| event.trace) else { return };
        self.ring(id, trace);
        let count = events.count();
        self.metrics.accepted.inc_by(count as u64);
        self.metrics.group_events.observe(count as f64);
        self.metrics.group_seconds.observe(started.elapsed().as_secs_f64());
    }

    fn ring(&self, group: EventGroupId, trace: TraceContext) {
        let (bus, lost) = (self.bus.clone(), self.metrics.rings_lost.clone());
        self.afterwards.spawn(async move {
            if let Err(error) = bus.publish(Queue::EventAccepted, &Message::EventAccepted { group }, &trace).await {
                lost.inc();
                tracing::debug!(%error, %group, "nobody heard that events were accepted, the relay rings again");
            }
        });
    }
}

/// What the transaction needs of a request with a key.
#[derive(Clone, Debug)]
struct Part {
    claim: (Key, u16, Vec<u8>),
    events: Vec<NewEvent>,
}

impl Part {
    /// `None` for a request without a key, which does not come here.
    fn take(job: &mut Job) -> Option<Self> {
        let claim = job.claim.take()?;
        Some(Self { claim: (claim.key, claim.status, claim.body), events: std::mem::take(&mut job.events) })
    }

    fn give_back(self, job: &mut Job) {
        let (key, status, body) = self.claim;
        job.claim = Some(super::Claim { key, status, body });
        job.events = self.events;
    }
}

/// The events of those requests that are the first with their key.
fn fresh<'a>(parts: &'a [Part], earlier: &'a [Option<Earlier>]) -> impl Iterator<Item = &'a NewEvent> {
    parts.iter().zip(earlier).filter(|(_, earlier)| earlier.is_none()).flat_map(|(part, _)| &part.events)
}

fn size(job: &Job) -> (usize, usize) {
    (job.events.len(), job.events.iter().map(|event| event.body.len()).sum())
}

fn answer(job: Job, outcome: super::Outcome) {
    // A client that went away does not need to be told.
    let _gone = job.answer.send(outcome);
}

fn refuse(group: Vec<Job>, error: &ApiError) {
    for job in group {
        answer(job, Err(error.clone()));
    }
}
