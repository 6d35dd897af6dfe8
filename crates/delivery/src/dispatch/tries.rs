//! Which tries begin: of those whose turn it is, the ones that neither their endpoint, its owner's pace nor its host holds
//! back, each with enough of its lease left.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};
use hookyard_domain::{
    delivery::{
        EXPIRED, HeldDelivery, NOT_TAKEN, Profile,
        pace::{self as slots, Taken},
        store,
    },
    id::SubscriptionId,
};
use hookyard_messaging::Lane;
use tokio::sync::mpsc;

use super::{
    Command, Deps, Dispatcher, at,
    endpoint::{Endpoint, Gate},
    pace::Turn,
    rate,
};
use crate::{
    job::Job,
    settle::Note,
    trial::{self, Verdicts},
};

/// A try keeps this much of its lease in hand, so that its outcome is written before anybody else may take the delivery.
const LEASE_MARGIN: TimeDelta = TimeDelta::seconds(2);

/// Whoever got no slots of a pace does not ask again before this.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// After this they are asked for again when nobody answered.
const UNANSWERED: Duration = Duration::from_secs(1);

impl Dispatcher {
    /// Begins tries while there are slots and somebody whose turn it is.
    pub(super) async fn pump(&mut self, lane: Lane) {
        let (now, utc) = (self.deps.clock.instant(), self.deps.clock.now());
        while self.lane(lane).free > 0 {
            let Some(id) = self.lane(lane).queue.next() else { return };
            let bounds = self.bounds;
            let endpoint = self.endpoints.entry(id).or_insert_with(|| Endpoint::new(&bounds, now));
            let in_flight = endpoint.in_flight();
            match endpoint.gate(now) {
                // Listed again when a try of this endpoint ends.
                Gate::Full => {}
                Gate::Open => {
                    let lane = self.lane_in_turn(lane, id);
                    if self.in_pace(lane, id, now) {
                        self.begin_next(lane, id, now, utc).await;
                    }
                }
                // Listed again then.
                Gate::Later(at) => {
                    if !std::mem::replace(&mut endpoint.is_awaited, true) {
                        self.paces.wake(id, at);
                    }
                }
                Gate::Paused(until) => self.send_away(lane, id, until, (now, utc)).await,
                Gate::Broken(until) => {
                    let held_long_enough = |job: &Job| {
                        let held = utc.signed_duration_since(job.held.due_at).to_std().unwrap_or_default();
                        held >= bounds.max_cooldown && rate(&job.hook).is_none()
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

    /// The lane that the next try of an endpoint is taken from, when it has its turn in this one: where first tries and retries wait, they
    /// go in turn, so that neither waits behind all of the other. Where slots are scarce, they are for those whose turn it is there.
    fn lane_in_turn(&mut self, lane: Lane, id: SubscriptionId) -> Lane {
        let began_last = self.endpoints.get(&id).and_then(|endpoint| endpoint.began_last);
        let other = match lane {
            Lane::First => Lane::Retry,
            Lane::Retry => Lane::First,
        };
        let state = self.lane(other);
        let has_slots = state.slots / 4 < state.free;
        if began_last == Some(lane) && has_slots && 0 < state.queue.waiting(id) { other } else { lane }
    }

    /// Begins the first try of an endpoint that may go, and gives it another turn.
    async fn begin_next(&mut self, lane: Lane, id: SubscriptionId, now: Instant, utc: DateTime<Utc>) {
        let Some(job) = self.lane(lane).queue.take(id) else { return };
        self.begin(job, now, utc).await;
        self.list(id);
    }

    async fn begin(&mut self, mut job: Job, now: Instant, utc: DateTime<Utc>) {
        let takes = |profile: Profile| match self.deps.directory.get(job.hook.id) {
            None => false,
            // A hook that was enabled again meanwhile gets no good-bye.
            Some(hook) => (profile == Profile::Farewell) != hook.takes_events(utc),
        };
        let reason = if !takes(job.held.profile) {
            Some(NOT_TAKEN)
        } else if job.held.expires_at.is_some_and(|end| end <= utc) {
            Some(EXPIRED)
        } else {
            None
        };
        if let Some(reason) = reason {
            self.deps.settler.note(Note::Cancelled { held: job.held, reason }).await;
            return;
        }
        if let Some(destination) = self.destinations.of(&job.hook.url)
            && let Err(place) = self.destinations.take(destination, now)
        {
            self.park(job, at(place, now, utc)).await;
            return;
        }
        let bounds = self.bounds;
        let endpoint = self.endpoints.entry(job.hook.id).or_insert_with(|| Endpoint::new(&bounds, now));
        endpoint.begin(now);
        endpoint.began_last = Some(job.lane);
        job.sent_bytes = Some(endpoint.sent.hold(job.event.body.len()));
        self.lane(job.lane).free -= 1;
        self.deps.metrics.lag(job.lane, utc, job.held.due_at);
        let timeout = TimeDelta::from_std(job.held.profile.timeout()).unwrap_or(TimeDelta::seconds(15));
        if job.held.lease_until - utc < timeout + LEASE_MARGIN {
            self.late.push(job);
            return;
        }
        self.tries.spawn(attempt(Arc::clone(&self.deps), self.verdicts.clone(), self.commands.clone(), job));
    }

    /// Begins the tries of those that waited so long that their leases could end under way: the leases are renewed, all
    /// with one statement. Dropping them instead would stop everything as soon as there is more to do than can be done
    /// within a lease.
    pub(super) fn begin_late(&mut self) {
        if self.late.is_empty() {
            return;
        }
        let late = std::mem::take(&mut self.late);
        let (deps, verdicts, commands) =
            (Arc::clone(&self.deps), self.verdicts.clone(), self.commands.clone());
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
                    tries.spawn(attempt(Arc::clone(&deps), verdicts.clone(), commands.clone(), job));
                } else {
                    let _gone = commands.send(Command::Lost { endpoint: job.hook.id, lane: job.lane });
                }
            }
        });
    }

    /// Whether the next try of an endpoint may begin as far as its owner's pace goes. If not, it is listed again when it may.
    fn in_pace(&mut self, lane: Lane, id: SubscriptionId, now: Instant) -> bool {
        let Some(per_second) = self.lane(lane).queue.peek(id).and_then(|job| rate(&job.hook)) else {
            return true;
        };
        let waiting = self.waiting(id);
        match self.paces.turn(id, per_second, waiting, now) {
            Turn::Now => true,
            Turn::Later => false,
            Turn::Ask(wanted) => {
                let (db, clock, commands) =
                    (self.deps.db.clone(), self.deps.clock.clone(), self.commands.clone());
                tokio::spawn(async move {
                    let now = clock.now();
                    let asked = db.once(move |conn| slots::take(conn, id, per_second, wanted, now)).await;
                    let taken = asked
                        .inspect_err(|error| tracing::debug!(error = error.chain(), "a pace is not known"))
                        .ok();
                    let _gone =
                        commands.send(Command::Paced { endpoint: id, per_second, slots: wanted, taken });
                });
                false
            }
        }
    }

    /// Slots of an endpoint's pace were given, or not.
    pub(super) fn paced(&mut self, id: SubscriptionId, per_second: u32, slots: u32, taken: Option<Taken>) {
        let (now, utc) = (self.deps.clock.instant(), self.deps.clock.now());
        let instant = |at: DateTime<Utc>| match (at - utc).to_std() {
            Ok(ahead) => now + ahead,
            // It began while the answer was on its way.
            Err(_past) => now.checked_sub((utc - at).to_std().unwrap_or_default()).unwrap_or(now),
        };
        match taken {
            Some(Taken::From(first)) => self.paces.given(id, per_second, slots, instant(first)),
            // Slots are given away a second ahead.
            Some(Taken::Until(until)) => {
                self.paces.refused(id, instant(until - slots::AHEAD).max(now + ASK_AGAIN))
            }
            None => self.paces.refused(id, now + UNANSWERED),
        }
        self.list(id);
    }
}

/// One try, and word of its end.
async fn attempt(deps: Arc<Deps>, verdicts: Verdicts, commands: mpsc::UnboundedSender<Command>, job: Job) {
    let (endpoint, lane) = (job.hook.id, job.lane);
    let word = match trial::run(&deps, &verdicts, job).await {
        Some((sign, took)) => Command::Ended { endpoint, lane, sign, took },
        None => Command::Lost { endpoint, lane },
    };
    // The dispatcher outlives its tries, except when the process ends.
    let _gone = commands.send(word);
}
