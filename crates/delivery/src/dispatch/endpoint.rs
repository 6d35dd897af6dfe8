//! One endpoint as its deliverer sees it: how much it takes at once, how fast it is, and whether it is left alone now.
//!
//! Pure: time comes in as an argument.

use std::time::{Duration, Instant};

use hookyard_domain::{delivery::HeldDelivery, id::EventId};
use hookyard_messaging::Lane;

use super::{
    backlog::{Backlog, PutOff},
    capacity::Capacity,
};
use crate::memory::Held;

/// What bounds an endpoint.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Tries at once.
    pub in_flight: usize,
    /// While so many bytes of bodies are on their way, no other begins.
    pub bytes: usize,
    /// Failures in a row that open the breaker.
    pub breaker_failures: u32,
    /// First time it stays open.
    pub cooldown: Duration,
    /// Longest time it stays open.
    pub max_cooldown: Duration,
}

/// What a try says about the endpoint's condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    /// It answered, whatever it answered: it is there and works.
    Answered,
    /// It failed as a machine fails: 5xx, time-out, no connection.
    Ill,
    /// It asked not to be called before then.
    Pause(Instant),
}

/// Whether another try may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    /// Now.
    Open,
    /// When one of those under way has ended.
    Full,
    /// Not before then, which is soon: it does not take more in a second.
    Later(Instant),
    /// Not before then: the receiver asked for it.
    Paused(Instant),
    /// Not before then: the breaker is open.
    Broken(Instant),
}

/// How the breaker changed at the end of a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It is open, since one instant until another.
    Open {
        since: Instant,
        until: Instant,
        /// In a row.
        failures: u32,
    },
    /// It was open, and the endpoint has answered.
    Closed,
}

/// What an endpoint is taken to need for a reply before it has given one, in seconds.
const UNKNOWN_LATENCY: f64 = 0.02;

/// First tries that wait for one endpoint in memory at the most; retries have a quarter of that beside them.
const MOST_WAITING: usize = 2_048;

/// What an endpoint takes within this may wait for it in memory, in seconds. A deliverer without a processor reads replies late and takes
/// endpoints for slower than they are: within a second less would go than it reads (docs/decisions/0066).
const ROOM: f64 = 2.0;

/// Deliveries in memory that are gone within this are in nobody's way, in seconds.
const SOON: f64 = 0.25;

/// The state of one endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    in_flight: usize,
    bytes_at_once: usize,
    /// When a try last ended, or the first of those under way began.
    heard: Instant,
    failures: u32,
    /// While `Some`, only a probe may begin, and only after this instant.
    open_until: Option<Instant>,
    /// Since when, while it is.
    open_since: Option<Instant>,
    cooldown: Duration,
    paused_until: Option<Instant>,
    /// What waits for it in the schedule: first tries, and retries.
    backlogs: [Backlog; 2],
    capacity: Capacity,
    /// Whether somebody comes back to it when it can take the next try.
    pub(crate) is_awaited: bool,
    /// The lane whose try began last.
    pub(crate) began_last: Option<Lane>,
    /// Bodies that wait for it, or are on their way to it.
    pub(crate) held: Held,
    /// Of these, the ones on their way.
    pub(crate) sent: Held,
}

impl Endpoint {
    pub(crate) fn new(bounds: &Bounds, now: Instant) -> Self {
        Self {
            in_flight: 0,
            bytes_at_once: bounds.bytes,
            heard: now,
            failures: 0,
            open_until: None,
            open_since: None,
            cooldown: bounds.cooldown,
            paused_until: None,
            backlogs: Default::default(),
            capacity: Capacity::new(bounds.in_flight, now),
            is_awaited: false,
            began_last: None,
            held: Held::default(),
            sent: Held::default(),
        }
    }

    /// Tries under way.
    pub(crate) const fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Whether nothing would be lost by forgetting this endpoint.
    pub(crate) fn is_unremarkable(&self, now: Instant) -> bool {
        self.in_flight == 0
            && self.failures == 0
            && self.held.bytes() == 0
            && !self.capacity.is_worth_keeping(now)
            && self.paused_until.is_none_or(|until| until <= now)
            && self.backlogs.iter().all(|backlog| backlog.is_over(now))
    }

    /// Whether another try may begin.
    pub(crate) fn gate(&mut self, now: Instant) -> Gate {
        if let Some(until) = self.paused_until.filter(|until| now < *until) {
            return Gate::Paused(until);
        }
        match self.open_until {
            Some(until) if now < until => Gate::Broken(until),
            // Half open: one probe at a time.
            Some(_) if self.in_flight > 0 => Gate::Full,
            Some(_) => Gate::Open,
            None if self.in_flight >= self.capacity.at_once() => Gate::Full,
            None if self.in_flight > 0 && self.sent.bytes() >= self.bytes_at_once => Gate::Full,
            None => self.capacity.wait(now).map_or(Gate::Open, Gate::Later),
        }
    }

    /// A try begins.
    pub(crate) fn begin(&mut self, now: Instant) {
        if self.in_flight == 0 {
            self.heard = now;
        }
        self.in_flight += 1;
        self.capacity.begin(now);
    }

    /// A try that had begun was not made.
    pub(crate) const fn lose(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// A try has ended. Returns how that changed the breaker, if it did.
    pub(crate) fn end(&mut self, bounds: &Bounds, sign: Sign, took: Duration, now: Instant) -> Option<Turn> {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.heard = now;
        self.capacity.ended(took, now);
        match sign {
            Sign::Answered => {
                self.failures = 0;
                self.cooldown = bounds.cooldown;
                self.backlogs.iter_mut().for_each(Backlog::answered);
                self.capacity.taken(now);
                self.open_since = None;
                self.open_until.take().map(|_until| Turn::Closed)
            }
            Sign::Ill => {
                self.capacity.failed(took, now);
                self.failures = self.failures.saturating_add(1);
                let probe_failed = self.open_until.is_some_and(|until| until <= now);
                let breaks = self.open_until.is_none() && self.failures >= bounds.breaker_failures;
                if probe_failed {
                    self.cooldown = (self.cooldown * 2).min(bounds.max_cooldown);
                    self.capacity.still_away(now);
                } else if breaks {
                    self.capacity.cut(now);
                }
                (probe_failed || breaks).then(|| {
                    let until = now + self.cooldown;
                    self.open_until = Some(until);
                    self.backlogs.iter_mut().for_each(Backlog::begin_anew);
                    let since = *self.open_since.get_or_insert(now);
                    Turn::Open { since, until, failures: self.failures }
                })
            }
            Sign::Pause(until) => {
                self.capacity.cut(now);
                self.backlogs.iter_mut().for_each(Backlog::begin_anew);
                self.paused_until = Some(self.paused_until.map_or(until, |before| before.max(until)));
                None
            }
        }
    }

    /// Tries per second that the endpoint takes at the most, by the replies it has given.
    fn rate(&self) -> f64 {
        self.rate_at(self.capacity.latency().unwrap_or(UNKNOWN_LATENCY))
    }

    /// The same, by its silence too: while tries are under way and none ends, it takes no more than if each needed so long. A
    /// short silence says nothing.
    fn rate_now(&self, now: Instant) -> f64 {
        let silence = now.saturating_duration_since(self.heard).as_secs_f64();
        if self.in_flight == 0 || silence <= SOON {
            return self.rate();
        }
        self.rate_at(self.capacity.latency().map_or(silence, |latency| latency.max(silence)))
    }

    fn rate_at(&self, latency: f64) -> f64 {
        let rate = self.capacity.at_once() as f64 / latency.max(0.000_1);
        self.capacity.limit().map_or(rate, |limit| limit.min(rate))
    }

    /// How many deliveries may wait in memory: what the endpoint takes within [`ROOM`], so that whoever waits here goes
    /// soon, and the rest waits in the schedule. With the quarter of it that retries have beside it, no more than one that turns out to
    /// take a hundred per second takes within the usual lease: a delivery whose lease ends here comes a second time.
    pub(crate) fn room(&self, bounds: &Bounds) -> usize {
        room_at(self.rate(), bounds)
    }

    /// How many may wait in memory where others need the room.
    pub(crate) fn least_room(&self, bounds: &Bounds, now: Instant) -> usize {
        room_at(self.rate_now(now), bounds)
    }

    /// Whether it has taken so many deliveries in a moment. Of one that has not replied yet nobody knows.
    pub(crate) fn takes_soon(&self, deliveries: usize, now: Instant) -> bool {
        self.capacity.latency().is_some() && deliveries as f64 <= self.rate_now(now) * SOON
    }

    /// What waits for it in the schedule: first tries or retries.
    pub(super) const fn backlog(&mut self, lane: Lane) -> &mut Backlog {
        let [first, retry] = &mut self.backlogs;
        match lane {
            Lane::First => first,
            Lane::Retry => retry,
        }
    }

    /// Whether something waits in the schedule that could be fetched.
    pub(super) fn has_backlog(&self) -> bool {
        self.backlogs.iter().any(Backlog::waits)
    }

    /// The place in the schedule for a delivery that cannot wait in memory. Where others set the pace, nothing is fetched from there.
    pub(super) fn place(
        &mut self,
        held: &HeldDelivery,
        fetched: Option<PutOff>,
        not_before: Instant,
        now: Instant,
    ) -> Instant {
        let rate = self.rate_now(now);
        self.backlog(kind(held)).place(held.id.event, fetched, not_before, now, rate)
    }

    /// From which event on how many are to be fetched from the schedule, when so many of the lane wait in memory, and so many in all, and so
    /// many of those that were put off are written. None while the endpoint is left alone.
    pub(super) fn fetch(
        &mut self,
        bounds: &Bounds,
        lane: Lane,
        (waiting, all): (usize, usize),
        now: Instant,
        written: u64,
    ) -> Option<(EventId, usize)> {
        if self.open_until.is_some() || self.paused_until.is_some_and(|until| now < until) {
            return None;
        }
        // Of large bodies no more than its share of the memory would stay.
        let each = self.held.bytes().checked_div(all + self.in_flight).unwrap_or(0);
        let room = self.least_room(bounds, now).min(bounds.bytes / each.max(1));
        self.backlog(lane).fetch(waiting, part(lane, room), now, written)
    }
}

/// Which backlog a delivery belongs to. One that is replayed in its line comes with first tries, and is found among those that were tried.
pub(super) const fn kind(held: &HeldDelivery) -> Lane {
    if held.attempts == 0 { Lane::First } else { Lane::Retry }
}

/// How many of a lane may wait for an endpoint in memory. What is retried has a room of its own: it was due at a time, and must not be put
/// off because much that is new waits.
pub(super) const fn part(lane: Lane, room: usize) -> usize {
    match lane {
        Lane::First => room,
        Lane::Retry => room.div_ceil(4),
    }
}

fn room_at(rate: f64, bounds: &Bounds) -> usize {
    ((rate * ROOM) as usize).clamp(bounds.in_flight, bounds.in_flight.max(MOST_WAITING))
}
