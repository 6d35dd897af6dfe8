//! The dispatcher: decides which delivery is tried next, and keeps receivers from hurting each other (invariant 6).
//!
//! One task owns all the state. Every bound is checked before a slot is taken: the endpoint's cap, its breaker and pauses,
//! the pace of its host. What cannot go now goes back to the schedule, at the place where it can.

mod destination;
mod endpoint;
mod fair;
mod pace;
#[cfg(test)]
mod pace_tests;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};
use hookyard_domain::{
    clock::Clock,
    db::Db,
    delivery::{HeldDelivery, Profile, store},
    id::{SubscriptionId, TenantId},
    subscription::directory::Directory,
    wire::WebhookSecret,
};
use hookyard_egress::Egress;
use hookyard_messaging::Lane;
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) use self::endpoint::Sign;
use self::{
    destination::Destinations,
    endpoint::{Bounds, Endpoint, Gate},
    fair::FairQueue,
};
use crate::{
    answer::Answers,
    callback::Callbacks,
    job::Job,
    metrics::Metrics,
    settings::Settings,
    settle::{Note, Settler},
    trial::{self, Verdicts},
};

/// A try keeps this much of its lease in hand, so that its outcome is written before anybody else may take the delivery.
const LEASE_MARGIN: TimeDelta = TimeDelta::seconds(2);

/// What the dispatcher is told.
#[derive(Debug)]
pub(crate) enum Command {
    /// Deliveries that are ready to be tried.
    Ready(Vec<Job>),
    /// A try has ended.
    Ended { endpoint: SubscriptionId, lane: Lane, sign: Sign, took: Duration },
    /// A try that had its slot was not made: somebody else has the delivery.
    Lost { endpoint: SubscriptionId, lane: Lane },
}

/// What a dispatcher works with.
#[derive(Clone, Debug)]
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
}

/// How many deliveries wait in memory, for those who would bring more.
#[derive(Clone, Debug, Default)]
pub(crate) struct Load(Arc<AtomicUsize>);

impl Load {
    pub(crate) fn waiting(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

struct LaneState {
    queue: FairQueue<TenantId, SubscriptionId, Job>,
    free: usize,
}

pub(crate) struct Dispatcher {
    deps: Deps,
    bounds: Bounds,
    endpoints: HashMap<SubscriptionId, Endpoint>,
    destinations: Destinations,
    /// When the pace of endpoints allows the next try.
    paced: BTreeSet<(Instant, SubscriptionId)>,
    first: LaneState,
    retry: LaneState,
    verdicts: Verdicts,
    /// They have their slots, and need longer leases before they begin.
    late: Vec<Job>,
    tries: TaskTracker,
    commands: mpsc::UnboundedSender<Command>,
    load: Load,
}

impl Dispatcher {
    pub(crate) fn new(
        deps: Deps,
        settings: &Settings,
        commands: mpsc::UnboundedSender<Command>,
        load: Load,
    ) -> Self {
        let lane = |free| LaneState { queue: FairQueue::new(), free };
        Self {
            bounds: Bounds {
                in_flight: settings.endpoint_in_flight,
                breaker_failures: settings.breaker_failures,
                cooldown: Duration::from_millis(settings.breaker_cooldown_ms),
                max_cooldown: Duration::from_millis(settings.breaker_max_cooldown_ms),
            },
            endpoints: HashMap::new(),
            destinations: Destinations::new(&settings.destination_limits, deps.clock.instant()),
            paced: BTreeSet::new(),
            first: lane(settings.first_slots),
            retry: lane(settings.retry_slots),
            verdicts: Verdicts::new(deps.clock.clone()),
            deps,
            late: Vec::new(),
            tries: TaskTracker::new(),
            commands,
            load,
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
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                n = ended.recv_many(&mut commands, 1024) => if n == 0 { break },
                Some(jobs) = ready.recv() => commands.push(Command::Ready(jobs)),
                () = tokio::time::sleep(self.next_turn()), if !self.paced.is_empty() => {}
                _ = forget.tick() => {
                    let now = self.deps.clock.instant();
                    self.endpoints.retain(|_, endpoint| !endpoint.is_unremarkable(now));
                }
            }
            for command in commands.drain(..) {
                match command {
                    Command::Ready(jobs) => self.admit(jobs).await,
                    Command::Ended { endpoint, lane, sign, took } => self.end(endpoint, lane, sign, took),
                    Command::Lost { endpoint, lane } => self.lose(endpoint, lane),
                }
            }
            self.list_paced();
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

    /// How long until the pace of some endpoint allows its next try.
    fn next_turn(&self) -> Duration {
        let now = self.deps.clock.instant();
        self.paced.first().map_or(Duration::MAX, |(at, _)| at.saturating_duration_since(now))
    }

    /// Gives the endpoints a turn whose pace allows a try now.
    fn list_paced(&mut self) {
        let now = self.deps.clock.instant();
        while let Some((_, id)) = self.paced.first().copied().filter(|(at, _)| *at <= now) {
            self.paced.pop_first();
            if let Some(endpoint) = self.endpoints.get_mut(&id) {
                endpoint.is_awaited = false;
            }
            self.first.queue.list(id);
            self.retry.queue.list(id);
        }
    }

    fn lane(&mut self, lane: Lane) -> &mut LaneState {
        match lane {
            Lane::First => &mut self.first,
            Lane::Retry => &mut self.retry,
        }
    }

    fn tell_load(&self) {
        let waiting = self.first.queue.len() + self.retry.queue.len();
        self.load.0.store(waiting, Ordering::Relaxed);
        self.deps.metrics.waiting(self.first.queue.len(), self.retry.queue.len());
    }

    /// Takes deliveries into memory, as many of an endpoint as go soon.
    async fn admit(&mut self, jobs: Vec<Job>) {
        let (now, utc) = (self.deps.clock.instant(), self.deps.clock.now());
        for job in jobs {
            let id = job.hook.id;
            let endpoint = self.endpoints.entry(id).or_insert_with(|| Endpoint::new(&self.bounds, now));
            let waiting = self.first.queue.waiting(id) + self.retry.queue.waiting(id);
            if waiting >= endpoint.room(&self.bounds) {
                let place = endpoint.place(&self.bounds, now, now);
                self.park(job, at(place, now, utc)).await;
                continue;
            }
            let (tenant, lane) = (job.held.tenant, job.lane);
            self.lane(lane).queue.push(tenant, id, job);
        }
    }

    fn end(&mut self, id: SubscriptionId, lane: Lane, sign: Sign, took: Duration) {
        let (bounds, now) = (self.bounds, self.deps.clock.instant());
        if let Some(endpoint) = self.endpoints.get_mut(&id) {
            endpoint.end(&bounds, sign, took, now);
        }
        self.free(id, lane);
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
        self.first.queue.list(id);
        self.retry.queue.list(id);
    }

    /// Begins tries while there are slots and somebody whose turn it is.
    async fn pump(&mut self, lane: Lane) {
        let (now, utc) = (self.deps.clock.instant(), self.deps.clock.now());
        while self.lane(lane).free > 0 {
            let Some(id) = self.lane(lane).queue.next() else { return };
            let bounds = self.bounds;
            let endpoint = self.endpoints.entry(id).or_insert_with(|| Endpoint::new(&bounds, now));
            let in_flight = endpoint.in_flight();
            match endpoint.gate(now) {
                // Listed again when a try of this endpoint ends.
                Gate::Full => {}
                Gate::Open => self.begin_next(lane, id, now, utc).await,
                // Listed again then.
                Gate::Paced(at) => {
                    if !std::mem::replace(&mut endpoint.is_awaited, true) {
                        self.paced.insert((at, id));
                    }
                }
                Gate::Paused(until) => self.send_away(lane, id, until, (now, utc)).await,
                Gate::Broken(until) => {
                    let held_long_enough = |job: &Job| {
                        let held = utc.signed_duration_since(job.held.due_at).to_std().unwrap_or_default();
                        held >= bounds.max_cooldown
                    };
                    let Some(job) = self.lane(lane).queue.take(id) else { continue };
                    if held_long_enough(&job) && in_flight < bounds.in_flight {
                        self.begin(job, now, utc).await;
                        self.lane(lane).queue.list(id);
                    } else {
                        self.park_at_place(job, until, (now, utc)).await;
                        self.send_away(lane, id, until, (now, utc)).await;
                    }
                }
            }
        }
    }

    /// Begins the first try of an endpoint that may go, and gives it another turn.
    async fn begin_next(&mut self, lane: Lane, id: SubscriptionId, now: Instant, utc: DateTime<Utc>) {
        let Some(job) = self.lane(lane).queue.take(id) else { return };
        self.begin(job, now, utc).await;
        self.lane(lane).queue.list(id);
    }

    /// Puts everything of an endpoint back on the schedule.
    async fn send_away(
        &mut self,
        lane: Lane,
        id: SubscriptionId,
        until: Instant,
        (now, utc): (Instant, DateTime<Utc>),
    ) {
        while let Some(job) = self.lane(lane).queue.take(id) {
            self.park_at_place(job, until, (now, utc)).await;
        }
    }

    async fn park_at_place(&mut self, job: Job, not_before: Instant, (now, utc): (Instant, DateTime<Utc>)) {
        let bounds = self.bounds;
        let endpoint = self.endpoints.entry(job.hook.id).or_insert_with(|| Endpoint::new(&bounds, now));
        let place = endpoint.place(&bounds, not_before, now);
        self.park(job, at(place, now, utc)).await;
    }

    async fn begin(&mut self, job: Job, now: Instant, utc: DateTime<Utc>) {
        let takes = |profile: Profile| match self.deps.directory.get(job.hook.id) {
            None => false,
            // A hook that was enabled again meanwhile gets no good-bye.
            Some(hook) => (profile == Profile::Farewell) != hook.takes_events(utc),
        };
        if !takes(job.held.profile) {
            self.deps.settler.note(Note::Cancelled { held: job.held, ring: job.ring }).await;
            return;
        }
        if let Some(destination) = self.destinations.of(&job.hook.url)
            && let Err(place) = self.destinations.take(destination, now)
        {
            self.park(job, at(place, now, utc)).await;
            return;
        }
        let bounds = self.bounds;
        self.endpoints.entry(job.hook.id).or_insert_with(|| Endpoint::new(&bounds, now)).begin(now);
        self.lane(job.lane).free -= 1;
        self.deps.metrics.lag(job.lane, utc, job.held.due_at);
        let timeout = TimeDelta::from_std(job.held.profile.timeout()).unwrap_or(TimeDelta::seconds(15));
        if job.held.lease_until - utc < timeout + LEASE_MARGIN {
            self.late.push(job);
            return;
        }
        self.tries.spawn(attempt(self.deps.clone(), self.verdicts.clone(), self.commands.clone(), job));
    }

    /// Begins the tries of those that waited so long that their leases could end under way: the leases are renewed, all
    /// with one statement. Dropping them instead would stop everything as soon as there is more to do than can be done
    /// within a lease.
    fn begin_late(&mut self) {
        if self.late.is_empty() {
            return;
        }
        let late = std::mem::take(&mut self.late);
        let (deps, verdicts, commands) = (self.deps.clone(), self.verdicts.clone(), self.commands.clone());
        let tries = self.tries.clone();
        self.tries.spawn(async move {
            let lease_until = deps.clock.now() + deps.lease;
            let held: Vec<HeldDelivery> = late.iter().map(|job| job.held).collect();
            deps.metrics.lease_too_short(held.len());
            let renewed = deps.db.once(move |conn| store::renew(conn, &held, lease_until)).await;
            let renewed = renewed.unwrap_or_else(|error| {
                tracing::warn!(
                    error = error.chain(),
                    "leases cannot be renewed; they end, and the sweep takes over"
                );
                HashSet::new()
            });
            for mut job in late {
                if renewed.contains(&job.held.id) {
                    job.held.lease_until = lease_until;
                    tries.spawn(attempt(deps.clone(), verdicts.clone(), commands.clone(), job));
                } else {
                    let _gone = commands.send(Command::Lost { endpoint: job.hook.id, lane: job.lane });
                }
            }
        });
    }

    async fn park(&self, job: Job, at: DateTime<Utc>) {
        self.deps.metrics.parked();
        self.deps.settler.note(Note::Parked { held: job.held, at, ring: job.ring }).await;
    }

    async fn park_all(&self, jobs: Vec<Job>, at: DateTime<Utc>) {
        for job in jobs {
            self.park(job, at).await;
        }
    }
}

/// One try, and word of its end.
async fn attempt(deps: Deps, verdicts: Verdicts, commands: mpsc::UnboundedSender<Command>, job: Job) {
    let (endpoint, lane) = (job.hook.id, job.lane);
    let (sign, took) = trial::run(&deps, &verdicts, job).await;
    // The dispatcher outlives its tries, except when the process ends.
    let _gone = commands.send(Command::Ended { endpoint, lane, sign, took });
}

/// The instant `place` as a time of day.
fn at(place: Instant, now: Instant, utc: DateTime<Utc>) -> DateTime<Utc> {
    let wait = place.saturating_duration_since(now);
    utc + TimeDelta::from_std(wait).unwrap_or(TimeDelta::hours(1))
}
