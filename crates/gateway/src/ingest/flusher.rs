//! The tasks that store events: each takes what waits, stores it with one statement, answers, and rings.
//!
//! What comes after a pause is stored at once. What follows closely waits for the [pace](Pace), and for its task: groups are small
//! when there is little to do and large when there is much. The rows promise everything; the ring only makes it quick
//! (invariant 1).

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use futures_util::StreamExt;
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    Error, Result as DomainResult,
    clock::Clock,
    db::Db,
    delivery::fan_out::Foreseen,
    event::{
        NewEvent, Origin,
        claimed::{self, Request},
        store,
    },
    id::EventGroupId,
    idempotency::{self, Earlier, Key},
    trace::TraceContext,
};
use hookyard_messaging::{Accepted, AcceptedEvent, Bus, Foresight, Foretold, Message, Queue};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Claim, Entrance, Job, pace::Pace};
use crate::{access::idempotent, gather::Exit, metrics::Metrics, problem};

/// Requests that are stored alone at the same time, after their group could not be stored.
const ALONE_AT_ONCE: usize = 3;

/// Which requests a task stores.
#[derive(Clone, Debug)]
pub(crate) enum Lane {
    /// All, with one statement; those whose key was used enter the other lane here.
    First(Entrance),
    /// Those: a transaction.
    Again,
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
    pub(crate) exit: Exit<Job>,
    pub(crate) limits: Limits,
    pub(crate) db: Db,
    pub(crate) bus: Bus,
    pub(crate) clock: Clock,
    pub(crate) metrics: Metrics,
    pub(crate) afterwards: TaskTracker,
    pub(crate) pace: Pace,
}

impl Flusher {
    /// Stores events until there are no more: the first lane is closed when `stop` is cancelled, the other when nobody is left who
    /// could put something into it.
    pub(crate) async fn run(self, stop: CancellationToken) {
        while let Some(group) = self.next(&stop).await {
            match &self.lane {
                Lane::First(change) => self.store(group, change).await,
                Lane::Again => self.store_again(group).await,
            }
        }
    }

    /// What waits, up to the limits; waits for the first. `None` when there will be no more.
    async fn next(&self, stop: &CancellationToken) -> Option<Vec<Job>> {
        let stop = matches!(self.lane, Lane::First(_)).then_some(stop);
        let pace = if self.bus.has_broker() { self.pace.now() } else { Duration::ZERO };
        let (mut events, mut bytes) = (0, 0);
        let has_room = |job: &Job| {
            events += job.events.len();
            bytes += job.events.iter().map(|event| event.body.len()).sum::<usize>();
            events < self.limits.events && bytes < self.limits.bytes
        };
        let group = self.exit.group(stop, pace, has_room).await?;
        self.metrics.waiting.sub(i64::try_from(group.len()).unwrap_or(0));
        Some(group)
    }

    /// One statement for all. Requests whose key was used change to the other lane.
    async fn store(&self, mut group: Vec<Job>, change: &Entrance) {
        let mut places = HashSet::new();
        // A key that is there twice is the first one's, also when the requests differ.
        let twice = |job: &mut Job| {
            job.claim.as_ref().is_some_and(|claim| {
                let (tenant, route, key) = claim.key.place();
                !places.insert((tenant, route, key.to_owned()))
            })
        };
        let twice: Vec<Job> = group.extract_if(.., twice).collect();
        let mut keyed: Vec<Job> = group.extract_if(.., |job| job.claim.is_some()).collect();
        if keyed.is_empty() {
            return self.store_plain(group).await;
        }
        let now = self.clock.now();
        let id = EventGroupId::new(now);
        let plain = Batch::of(&mut group);
        let requests = Arc::new(keyed.iter_mut().filter_map(taken).collect::<Vec<_>>());
        let started = Instant::now();
        let stored = {
            let (events, requests) = (Arc::clone(&plain.events), Arc::clone(&requests));
            self.db.in_place(move |conn| claimed::insert(conn, id, &events, &requests, now)).await
        };
        match stored {
            Ok(ours) => {
                let new = requests.iter().filter(|request| ours.contains(&request.key));
                let events = plain.events.iter().chain(new.flat_map(|request| &request.events));
                self.stored(id, events, None, started);
                for job in group {
                    job.end(Ok(None));
                }
                for (job, request) in keyed.into_iter().zip(requests.iter()) {
                    if ours.contains(&request.key) {
                        job.end(Ok(None));
                    } else {
                        change.enter(given_back((job, request.clone())));
                    }
                }
            }
            // Somebody's key is held, or somebody's event is refused: the others must not pay for it.
            Err(Error::Locked | Error::Database(_)) => {
                keyed
                    .into_iter()
                    .zip(Arc::unwrap_or_clone(requests))
                    .map(given_back)
                    .for_each(|job| change.enter(job));
                plain.give_back(&mut group);
                self.store_plain(group).await;
            }
            Err(error) => {
                group.append(&mut keyed);
                refuse(group, &problem::of(error));
            }
        }
        twice.into_iter().for_each(|job| change.enter(job));
    }

    /// One statement for requests without a key.
    async fn store_plain(&self, mut group: Vec<Job>) {
        let batch = Batch::of(&mut group);
        let id = EventGroupId::new(self.clock.now());
        let started = Instant::now();
        match self.insert(id, &batch.events).await {
            Ok(made) => {
                self.stored(id, batch.events.iter(), made, started);
                for job in group {
                    job.end(Ok(None));
                }
            }
            // One event that the database refuses must not fail the others.
            Err(Error::Database(_)) if group.len() > 1 => {
                batch.give_back(&mut group);
                for job in group {
                    Box::pin(self.store_plain(vec![job])).await;
                }
            }
            Err(error) => refuse(group, &problem::of(error)),
        }
    }

    /// One transaction for requests whose keys have been used, most likely: answers what was answered then, and stores the
    /// events of those whose key does not count any more.
    async fn store_again(&self, mut group: Vec<Job>) {
        let now = self.clock.now();
        let id = EventGroupId::new(now);
        let requests = Arc::new(group.iter_mut().filter_map(taken).collect::<Vec<_>>());
        let started = Instant::now();
        let stored = {
            let requests = Arc::clone(&requests);
            self.db
                .run(move |conn| {
                    let claims: Vec<(Key, u16, Vec<u8>)> = requests
                        .iter()
                        .map(|request| (request.key.clone(), request.status, request.body.clone()))
                        .collect();
                    let earlier = idempotency::claim(conn, &claims, now)?;
                    let new: Vec<NewEvent> = fresh(&requests, &earlier).cloned().collect();
                    store::insert_group(conn, id, &new)?;
                    Ok(earlier)
                })
                .await
        };
        match stored {
            Ok(earlier) => {
                self.stored(id, fresh(&requests, &earlier), None, started);
                for (job, earlier) in group.into_iter().zip(earlier) {
                    job.end(Ok(earlier));
                }
            }
            Err(Error::Locked | Error::Database(_)) if group.len() > 1 => {
                let requests = Arc::unwrap_or_clone(requests);
                self.store_each(group.into_iter().zip(requests).map(given_back).collect()).await;
            }
            Err(Error::Locked) => refuse(group, &idempotent::in_flight()),
            Err(error) => refuse(group, &problem::of(error)),
        }
    }

    /// Stores requests with keys one by one, some at a time.
    async fn store_each(&self, group: Vec<Job>) {
        futures_util::stream::iter(group)
            .for_each_concurrent(ALONE_AT_ONCE, |job| Box::pin(self.store_again(vec![job])))
            .await;
    }

    /// Stores events; with what follows from them, where somebody in this process could tell.
    async fn insert(&self, id: EventGroupId, events: &Arc<Vec<NewEvent>>) -> DomainResult<Option<Made>> {
        if let Some((foresight, accepted, foreseen)) = self.foresee(id, events) {
            let (began, events) = (self.clock.instant(), Arc::clone(events));
            let stored = self.db.in_place(move |conn| {
                let numbers = foreseen.store(conn, id, &events)?;
                Ok(numbers.map(|numbers| Foretold { group: id, accepted, foreseen, numbers, began }))
            });
            match stored.await {
                Ok(Some(foretold)) => return Ok(Some((foresight, foretold))),
                Ok(None) => {
                    foresight.outdated();
                    return Ok(None);
                }
                // Who fans out may have to wait for others; who posts must not wait for that.
                Err(Error::Locked | Error::Database(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let events = Arc::clone(events);
        self.db.in_place(move |conn| store::insert_group(conn, id, &events)).await.map(|()| None)
    }

    fn foresee(
        &self,
        id: EventGroupId,
        events: &[NewEvent],
    ) -> Option<(Arc<dyn Foresight>, Accepted, Foreseen)> {
        let foresight = self.bus.foresight()?;
        // A scheduled event is told of when its time has come.
        let told = told(&events.iter().collect::<Vec<_>>()).filter(|told| told.len() == events.len())?;
        let accepted = accepted(told.first()?.created_at, &told);
        let foreseen = foresight.foresee(id, &accepted)?;
        Some((foresight, accepted, foreseen))
    }

    fn stored<'a>(
        &self,
        id: EventGroupId,
        events: impl Iterator<Item = &'a NewEvent>,
        made: Option<Made>,
        started: Instant,
    ) {
        let events: Vec<&NewEvent> = events.collect();
        // A group of nothing but repeated requests has no row.
        let Some(first) = events.first() else { return };
        let told = told(&events);
        if let (Some(at_hand), Some(told)) = (self.bus.at_hand(), &told) {
            at_hand.put_events(told.iter().copied(), self.clock.instant());
        }
        match made {
            Some((foresight, foretold)) => {
                self.afterwards.spawn(foresight.made(foretold));
            }
            None => {
                let accepted = told.map(|told| accepted(first.created_at, &told));
                self.ring(Message::EventAccepted { group: id, accepted }, first.trace);
            }
        }
        let count = events.len();
        self.metrics.accepted.inc_by(count as u64);
        self.metrics.group_events.observe(count as f64);
        let took = started.elapsed();
        self.pace.note(took);
        self.metrics.group_seconds.observe(took.as_secs_f64());
    }

    fn ring(&self, message: Message, trace: TraceContext) {
        let (bus, lost) = (self.bus.clone(), self.metrics.rings_lost.clone());
        self.afterwards.spawn(async move {
            if let Err(error) = bus.publish(Queue::EventAccepted, &message, &trace).await {
                lost.inc();
                tracing::debug!(%error, ?message, "nobody heard that events were accepted, the relay rings again");
            }
        });
    }
}

/// What was written with events, and who told of it before.
type Made = (Arc<dyn Foresight>, Foretold);

/// Of so many events at the most the ring tells all: with more, reading them costs little for each.
const TOLD: usize = 8;

/// The events of a group of which its ring tells: all that are not scheduled; `None` if they are too many, or one of them was not posted.
fn told<'a>(events: &[&'a NewEvent]) -> Option<Vec<&'a NewEvent>> {
    let events: Vec<&NewEvent> = events.iter().copied().filter(|event| event.due_at.is_none()).collect();
    let all = events.len() <= TOLD && events.iter().all(|event| event.origin == Origin::Posted);
    all.then_some(events)
}

fn accepted(since: DateTime<Utc>, told: &[&NewEvent]) -> Accepted {
    let events = told.iter().map(|event| AcceptedEvent {
        tenant: event.tenant,
        id: event.id,
        event_type: event.event_type.clone(),
    });
    Accepted { since, events: events.collect() }
}

/// The events of requests, one after the other, while a statement has them.
struct Batch {
    events: Arc<Vec<NewEvent>>,
    lengths: Vec<usize>,
}

impl Batch {
    /// Takes the events out of their requests.
    fn of(group: &mut [Job]) -> Self {
        let lengths: Vec<usize> = group.iter().map(|job| job.events.len()).collect();
        let mut events = Vec::with_capacity(lengths.iter().sum());
        for job in group {
            events.append(&mut job.events);
        }
        Self { events: Arc::new(events), lengths }
    }

    /// Puts them back, into the same requests in the same order.
    fn give_back(self, group: &mut [Job]) {
        let mut events = Arc::unwrap_or_clone(self.events).into_iter();
        for (job, length) in group.iter_mut().zip(self.lengths) {
            job.events.extend(events.by_ref().take(length));
        }
    }
}

/// What is stored of a request with a key; `None` for one without, which does not come here.
fn taken(job: &mut Job) -> Option<Request> {
    let Claim { key, status, body } = job.claim.take()?;
    Some(Request { key, status, body, events: std::mem::take(&mut job.events) })
}

/// The request whole again, to be stored another way.
fn given_back((mut job, request): (Job, Request)) -> Job {
    let Request { key, status, body, events } = request;
    job.claim = Some(Claim { key, status, body });
    job.events = events;
    job
}

/// The events of those requests that are the first with their key.
fn fresh<'a>(requests: &'a [Request], earlier: &'a [Option<Earlier>]) -> impl Iterator<Item = &'a NewEvent> {
    let new = requests.iter().zip(earlier).filter(|(_, earlier)| earlier.is_none());
    new.flat_map(|(request, _)| &request.events)
}

fn refuse(group: Vec<Job>, error: &ApiError) {
    for job in group {
        job.end(Err(error.clone()));
    }
}
