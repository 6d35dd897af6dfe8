//! The dispatcher: decides which delivery is tried next, and keeps receivers from hurting each other (invariant 6).
//!
//! One task owns all the state. Every bound is checked before a slot is taken: the endpoint's cap, its breaker and pauses,
//! the pace of its host. What cannot go now goes back to the schedule, at the place where it can.

mod backlog;
mod capacity;
#[cfg(test)]
mod capacity_tests;
mod destination;
mod endpoint;
#[cfg(test)]
mod endpoint_tests;
mod fair;
mod fetch;
mod load;
mod pace;
mod putting_off;
mod tries;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};
use hookyard_domain::{
    clock::Clock,
    db::Db,
    delivery::pace::Taken,
    id::{EventId, SubscriptionId, TenantId},
    subscription::{Subscription, breaker::Change, directory::Directory},
    wire::WebhookSecret,
};
use hookyard_egress::Egress;
use hookyard_messaging::Lane;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    destination::Destinations,
    endpoint::{Bounds, Endpoint, Turn as BreakerTurn, kind, part},
    fair::FairQueue,
    fetch::LOOKS,
    load::ENOUGH,
    pace::Paces,
};
pub(crate) use self::{endpoint::Sign, load::Load};
use crate::{
    answer::Answers,
    body::Bodies,
    callback::Callbacks,
    identity::Identities,
    job::Job,
    memory::Memory,
    metrics::Metrics,
    own::OwnRings,
    settings::Settings,
    settle::{Note, Settler},
    trial::Verdicts,
};

/// How often it is looked whether something scarce is held for somebody who does not take it soon.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// What the dispatcher is told.
#[derive(Debug)]
pub(crate) enum Command {
    /// Deliveries that are ready to be tried.
    Ready(Vec<Job>),
    /// A try has ended.
    Ended { endpoint: SubscriptionId, lane: Lane, sign: Sign, took: Duration },
    /// A try that had its slot was not made: somebody else has the delivery, or nothing could be sent.
    Lost { endpoint: SubscriptionId, lane: Lane },
    /// What became of a question for slots of an endpoint's pace; `None` = nobody answered.
    Paced { endpoint: SubscriptionId, per_second: u32, slots: u32, taken: Option<Taken> },
    /// So many of an endpoint come from the schedule; there may be more from that event on.
    Fetched { endpoint: SubscriptionId, lane: Lane, found: usize, rest: Option<EventId> },
}

/// What a dispatcher works with.
#[derive(Debug)]
pub(crate) struct Deps {
    pub(crate) db: Db,
    pub(crate) clock: Clock,
    pub(crate) directory: Directory,
    pub(crate) egress: Egress,
    pub(crate) settler: Settler,
    pub(crate) metrics: Metrics,
    pub(crate) lease: TimeDelta,
    /// Signs `X-CodeTether-Signature` where neither the task nor its tenant has a secret.
    pub(crate) task_secret: Option<Arc<WebhookSecret>>,
    /// Signs callbacks of action runs.
    pub(crate) callbacks: Callbacks,
    /// Takes what receivers answer to questions.
    pub(crate) answers: Answers,
    /// Makes what is sent.
    pub(crate) bodies: Bodies,
    /// Who we are to receivers that ask.
    pub(crate) identities: Identities,
    /// Hears of what is fetched from the schedule.
    pub(crate) own: OwnRings,
}

struct LaneState {
    queue: FairQueue<TenantId, SubscriptionId, Job>,
    slots: usize,
    free: usize,
}

pub(crate) struct Dispatcher {
    deps: Arc<Deps>,
    bounds: Bounds,
    endpoints: HashMap<SubscriptionId, Endpoint>,
    destinations: Destinations,
    paces: Paces,
    first: LaneState,
    retry: LaneState,
    verdicts: Verdicts,
    /// They have their slots, and need longer leases before they begin.
    late: Vec<Job>,
    tries: TaskTracker,
    /// Looks at the schedule that may begin.
    looks: Arc<Semaphore>,
    /// Deliveries that were put off until now.
    put_off: u64,
    commands: mpsc::UnboundedSender<Command>,
    load: Load,
    memory: Memory,
}

impl Dispatcher {
    pub(crate) fn new(
        deps: Arc<Deps>,
        settings: &Settings,
        commands: mpsc::UnboundedSender<Command>,
        load: Load,
        memory: Memory,
    ) -> Self {
        let lane = |slots| LaneState { queue: FairQueue::new(), slots, free: slots };
        Self {
            bounds: Bounds {
                in_flight: settings.endpoint_in_flight,
                bytes: memory.share(),
                breaker_failures: settings.breaker_failures,
                cooldown: Duration::from_millis(settings.breaker_cooldown_ms),
                max_cooldown: Duration::from_millis(settings.breaker_max_cooldown_ms),
            },
            endpoints: HashMap::new(),
            destinations: Destinations::new(&settings.destination_limits, deps.clock.instant()),
            paces: Paces::default(),
            first: lane(settings.first_slots),
            retry: lane(settings.retry_slots),
            verdicts: Verdicts::new(deps.clock.clone()),
            deps,
            late: Vec::new(),
            tries: TaskTracker::new(),
            looks: Arc::new(Semaphore::new(LOOKS)),
            put_off: 0,
            commands,
            load,
            memory,
        }
    }

    /// Serves until `stop`; then gives back what waits and sees the tries under way to their end.
    pub(crate) async fn run(
        mut self,
        mut ready: mpsc::Receiver<Vec<Job>>,
        mut ended: mpsc::UnboundedReceiver<Command>,
        stop: CancellationToken,
    ) {
        let mut commands = Vec::new();
        let mut forget = tokio::time::interval(Duration::from_secs(30));
        let mut relieve = tokio::time::interval(LOOK_AGAIN);
        relieve.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let wake = self.paces.next_wake();
            let wait = wake.map(|at| at.saturating_duration_since(self.deps.clock.instant()));
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                n = ended.recv_many(&mut commands, 1024) => if n == 0 { break },
                Some(jobs) = ready.recv() => commands.push(Command::Ready(jobs)),
                _ = forget.tick() => {
                    let now = self.deps.clock.instant();
                    self.endpoints.retain(|_, endpoint| !endpoint.is_unremarkable(now));
                    self.paces.forget(now);
                }
                _ = relieve.tick() => {
                    self.relieve().await;
                    self.fetch_what_waits();
                }
                () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => {}
            }
            if wake.is_some() {
                for id in self.paces.due(self.deps.clock.instant()) {
                    if let Some(endpoint) = self.endpoints.get_mut(&id) {
                        endpoint.is_awaited = false;
                    }
                    self.list(id);
                }
            }
            for command in commands.drain(..) {
                match command {
                    Command::Ready(jobs) => self.admit(jobs).await,
                    Command::Ended { endpoint, lane, sign, took } => {
                        self.end(endpoint, lane, sign, took).await;
                    }
                    Command::Lost { endpoint, lane } => self.lose(endpoint, lane),
                    Command::Fetched { endpoint, lane, found, rest } => {
                        if let Some(endpoint) = self.endpoints.get_mut(&endpoint) {
                            endpoint.backlog(lane).fetched(found, rest);
                        }
                    }
                    Command::Paced { endpoint, per_second, slots, taken } => {
                        self.paced(endpoint, per_second, slots, taken);
                    }
                }
            }
            self.pump(Lane::First).await;
            self.pump(Lane::Retry).await;
            self.begin_late();
            self.tell_load();
        }
        let now = self.deps.clock.now();
        ready.close();
        while let Some(jobs) = ready.recv().await {
            self.park_all(jobs, now).await;
        }
        let waiting = [self.first.queue.drain(), self.retry.queue.drain()];
        self.park_all(waiting.into_iter().flatten().collect(), now).await;
        self.tries.close();
        self.tries.wait().await;
    }

    fn lane(&mut self, lane: Lane) -> &mut LaneState {
        match lane {
            Lane::First => &mut self.first,
            Lane::Retry => &mut self.retry,
        }
    }

    fn tell_load(&self) {
        self.load.is(self.first.queue.pressing(), self.retry.queue.pressing());
        self.deps.metrics.waiting(self.first.queue.len(), self.retry.queue.len());
    }

    /// Takes deliveries into memory, as many of an endpoint as go soon.
    async fn admit(&mut self, jobs: Vec<Job>) {
        let (now, utc) = (self.deps.clock.instant(), self.deps.clock.now());
        for mut job in jobs {
            let (id, lane, bytes) = (job.hook.id, job.lane, job.event.body.len());
            let (waiting, of_lane) = (self.waiting(id), self.lane(lane).queue.waiting(id));
            let endpoint = self.endpoints.entry(id).or_insert_with(|| Endpoint::new(&self.bounds, now));
            endpoint.backlog(kind(&job.held)).arrived();
            if let Some(per_second) = rate(&job.hook)
                && of_lane >= part(lane, Paces::room(per_second))
            {
                let place = self.paces.place(id, per_second, now);
                self.park(job, at(place, now, utc)).await;
                continue;
            }
            let in_memory = waiting + endpoint.in_flight();
            let has_room = endpoint.takes_soon(in_memory, now) || self.memory.has_room(&endpoint.held, bytes);
            if of_lane >= part(lane, endpoint.room(&self.bounds)) || !has_room {
                self.park_at_place(job, now, (now, utc)).await;
                continue;
            }
            job.held_bytes = Some(endpoint.held.hold(bytes));
            self.lane(lane).queue.push(job.held.tenant, id, job);
        }
    }

    async fn end(&mut self, id: SubscriptionId, lane: Lane, sign: Sign, took: Duration) {
        let (bounds, now) = (self.bounds, self.deps.clock.instant());
        let turn = self.endpoints.get_mut(&id).and_then(|endpoint| endpoint.end(&bounds, sign, took, now));
        self.free(id, lane);
        self.send_excess_away(id, now).await;
        self.fetch(id, now);
        let Some(turn) = turn else { return };
        // Its owner is told what we know (docs/decisions/0047).
        let utc = self.deps.clock.now();
        let ago =
            |since: Instant| TimeDelta::from_std(now.saturating_duration_since(since)).unwrap_or_default();
        let change = match turn {
            BreakerTurn::Open { since, until, failures } => {
                Change::Open { opened_at: utc - ago(since), next_probe_at: at(until, now, utc), failures }
            }
            BreakerTurn::Closed => Change::Closed,
        };
        self.deps.settler.note(Note::Breaker { endpoint: id, change }).await;
    }

    fn lose(&mut self, id: SubscriptionId, lane: Lane) {
        if let Some(endpoint) = self.endpoints.get_mut(&id) {
            endpoint.lose();
        }
        self.free(id, lane);
    }

    fn free(&mut self, id: SubscriptionId, lane: Lane) {
        self.lane(lane).free += 1;
        // The endpoint has room again, for either lane.
        self.list(id);
    }

    fn list(&mut self, id: SubscriptionId) {
        self.first.queue.list(id);
        self.retry.queue.list(id);
    }

    /// Whoever hangs says nothing by which his excess would be noticed.
    async fn relieve(&mut self) {
        if !self.memory.is_scarce() && !self.is_full(Lane::First) && !self.is_full(Lane::Retry) {
            return;
        }
        let now = self.deps.clock.instant();
        let waited_for: HashSet<SubscriptionId> =
            self.first.queue.endpoints().chain(self.retry.queue.endpoints()).collect();
        for id in waited_for {
            self.send_excess_away(id, now).await;
        }
    }

    fn is_full(&mut self, lane: Lane) -> bool {
        ENOUGH <= self.lane(lane).queue.pressing()
    }

    /// Where a lane is full, an endpoint that has turned out to be slower than it was taken for keeps in memory what it takes within
    /// two seconds, and where memory is scarce, its share. Otherwise it is in nobody's way, and what it takes is still being found out.
    async fn send_excess_away(&mut self, id: SubscriptionId, now: Instant) {
        let (bounds, utc) = (self.bounds, self.deps.clock.now());
        for lane in [Lane::First, Lane::Retry] {
            let Some(endpoint) = self.endpoints.get(&id) else { return };
            let room = part(lane, endpoint.least_room(&bounds, now));
            if !self.is_full(lane) || self.lane(lane).queue.waiting(id) <= 2 * room {
                continue;
            }
            while room < self.lane(lane).queue.waiting(id)
                && let Some(job) = self.lane(lane).queue.take_last(id)
            {
                self.park_at_place(job, now, (now, utc)).await;
            }
        }
        while let Some(endpoint) = self.endpoints.get(&id)
            && !self.memory.has_room(&endpoint.held, 0)
            && !endpoint.takes_soon(self.waiting(id) + endpoint.in_flight(), now)
            && let Some(job) = self.first.queue.take_last(id).or_else(|| self.retry.queue.take_last(id))
        {
            self.park_at_place(job, now, (now, utc)).await;
        }
    }

    /// Deliveries that wait in memory for an endpoint.
    fn waiting(&self, id: SubscriptionId) -> usize {
        self.first.queue.waiting(id) + self.retry.queue.waiting(id)
    }
}

/// The pace that the owner of an endpoint has set, in deliveries per second.
fn rate(hook: &Subscription) -> Option<u32> {
    hook.consumer.as_ref()?.rate
}

/// The instant `place` as a time of day.
fn at(place: Instant, now: Instant, utc: DateTime<Utc>) -> DateTime<Utc> {
    let wait = place.saturating_duration_since(now);
    utc + TimeDelta::from_std(wait).unwrap_or(TimeDelta::hours(1))
}
