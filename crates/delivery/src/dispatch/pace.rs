//! The pace of endpoints whose owner has set one (contract §4): which try may begin in which slot of time. The slots are given away by
//! the database (`domain::delivery::pace`), so that several deliverers together keep to the pace; here they are used.
//!
//! Pure: time comes in as an argument.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    time::{Duration, Instant},
};

use hookyard_domain::id::SubscriptionId;

/// Slots are asked for this long at once: few questions, and little is lost of what nobody uses.
const AT_ONCE: Duration = Duration::from_millis(250);

/// A slot that was missed by more than its length and this is lost: used later it would bring tries closer together.
const SLACK: Duration = Duration::from_millis(20);

/// Nobody waits in memory for more than this time's worth of slots.
const ROOM: Duration = Duration::from_secs(1);

/// No place in the schedule is further away than this: what is known of the pace may be wrong by then.
const HORIZON: Duration = Duration::from_secs(30);

/// What the next try of an endpoint does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It begins.
    Now,
    /// It waits, and the endpoint is listed again.
    Later,
    /// It waits, and so many slots are to be asked for.
    Ask(u32),
}

/// The paces of all endpoints that have one.
#[derive(Debug, Default)]
pub(crate) struct Paces {
    by_endpoint: HashMap<SubscriptionId, Pace>,
    /// When endpoints are to be listed again.
    wakes: BTreeSet<(Instant, SubscriptionId)>,
}

#[derive(Debug, Default)]
struct Pace {
    slots: VecDeque<Instant>,
    asking: bool,
    not_before: Option<Instant>,
    next_place: Option<Instant>,
}

fn step(per_second: u32) -> Duration {
    Duration::from_secs(1) / per_second.max(1)
}

impl Paces {
    /// Whether the next try of an endpoint may begin; `waiting` of it are in memory.
    pub(crate) fn turn(&mut self, id: SubscriptionId, per_second: u32, waiting: usize, now: Instant) -> Turn {
        let pace = self.by_endpoint.entry(id).or_default();
        let late = step(per_second) + SLACK;
        while pace.slots.front().is_some_and(|slot| *slot + late < now) {
            pace.slots.pop_front();
        }
        match pace.slots.front() {
            Some(slot) if *slot <= now => {
                pace.slots.pop_front();
                Turn::Now
            }
            Some(slot) => {
                self.wakes.insert((*slot, id));
                Turn::Later
            }
            None if pace.asking => Turn::Later,
            None => match pace.not_before.filter(|at| now < *at) {
                Some(at) => {
                    self.wakes.insert((at, id));
                    Turn::Later
                }
                None => {
                    pace.asking = true;
                    let most = (f64::from(per_second) * AT_ONCE.as_secs_f64()).ceil();
                    // Within the limits of a pace, which are far from those of the type.
                    Turn::Ask((most as u32).min(u32::try_from(waiting).unwrap_or(u32::MAX)).max(1))
                }
            },
        }
    }

    /// Slots were given: so many, from this instant on.
    pub(crate) fn given(&mut self, id: SubscriptionId, per_second: u32, slots: u32, first: Instant) {
        let pace = self.by_endpoint.entry(id).or_default();
        pace.asking = false;
        pace.not_before = None;
        pace.slots.extend((0..slots).map(|at| first + step(per_second) * at));
    }

    /// None was given, and before this instant there will be none.
    pub(crate) fn refused(&mut self, id: SubscriptionId, until: Instant) {
        let pace = self.by_endpoint.entry(id).or_default();
        pace.asking = false;
        pace.not_before = Some(until);
    }

    /// How many tries of an endpoint may wait in memory.
    pub(crate) fn room(per_second: u32) -> usize {
        (f64::from(per_second) * ROOM.as_secs_f64()).ceil() as usize
    }

    /// The place in the schedule for one that cannot.
    pub(crate) fn place(&mut self, id: SubscriptionId, per_second: u32, now: Instant) -> Instant {
        let pace = self.by_endpoint.entry(id).or_default();
        let earliest = now + ROOM;
        let place = pace.next_place.map_or(earliest, |next| next.max(earliest)).min(now + HORIZON);
        pace.next_place = Some(place + step(per_second));
        place
    }

    /// Lists an endpoint again then, for a reason of somebody else's.
    pub(crate) fn wake(&mut self, id: SubscriptionId, at: Instant) {
        self.wakes.insert((at, id));
    }

    /// When the next endpoint is to be listed again.
    pub(crate) fn next_wake(&self) -> Option<Instant> {
        self.wakes.first().map(|(at, _)| *at)
    }

    /// The endpoints that are to be listed again.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<SubscriptionId> {
        let mut due = Vec::new();
        while let Some((at, id)) = self.wakes.first().copied().filter(|(at, _)| *at <= now) {
            self.wakes.remove(&(at, id));
            due.push(id);
        }
        due
    }

    /// Forgets endpoints of which nothing is known that matters.
    pub(crate) fn forget(&mut self, now: Instant) {
        self.by_endpoint.retain(|_, pace| {
            pace.asking
                || pace.slots.back().is_some_and(|last| now <= *last + ROOM + SLACK)
                || pace.not_before.is_some_and(|at| now < at)
                || pace.next_place.is_some_and(|at| now < at)
        });
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn id() -> SubscriptionId {
        SubscriptionId::new(DateTime::UNIX_EPOCH)
    }

    #[test]
    fn a_try_begins_in_its_slot_and_not_before() {
        let (mut paces, id, start) = (Paces::default(), id(), Instant::now());
        assert_eq!(paces.turn(id, 10, 7, start), Turn::Ask(3), "a quarter of a second");
        assert_eq!(paces.turn(id, 10, 7, start), Turn::Later, "one question at a time");
        paces.given(id, 10, 3, start + 50 * MS);
        assert_eq!(paces.turn(id, 10, 7, start), Turn::Later);
        assert_eq!(paces.next_wake(), Some(start + 50 * MS));
        assert_eq!(paces.due(start + 49 * MS), []);
        assert_eq!(paces.due(start + 50 * MS), [id]);
        assert_eq!(paces.turn(id, 10, 7, start + 50 * MS), Turn::Now);
        assert_eq!(paces.turn(id, 10, 7, start + 50 * MS), Turn::Later, "the next slot is a tenth later");
        assert_eq!(paces.turn(id, 10, 7, start + 150 * MS), Turn::Now);
        assert_eq!(paces.turn(id, 10, 1, start + 371 * MS), Turn::Ask(1), "a slot that was missed is lost");
    }

    #[test]
    fn whoever_is_refused_waits_and_asks_again() {
        let (mut paces, id, start) = (Paces::default(), id(), Instant::now());
        assert_eq!(paces.turn(id, 1, 5, start), Turn::Ask(1));
        paces.refused(id, start + 900 * MS);
        assert_eq!(paces.turn(id, 1, 5, start), Turn::Later);
        assert_eq!(paces.due(start + 900 * MS), [id]);
        assert_eq!(paces.turn(id, 1, 5, start + 900 * MS), Turn::Ask(1));
        paces.forget(start + 901 * MS);
        assert_eq!(paces.turn(id, 1, 5, start + 901 * MS), Turn::Later, "who asks is not forgotten");
        paces.given(id, 1, 1, start + 1_000 * MS);
        paces.forget(start + 2_020 * MS);
        assert_eq!(paces.by_endpoint.len(), 1, "the slot can still be used");
        paces.forget(start + 2_021 * MS);
        assert_eq!(paces.by_endpoint.len(), 0, "a slot that was missed keeps nobody");
    }

    #[test]
    fn who_cannot_wait_in_memory_is_put_one_step_after_the_other() {
        let (mut paces, id, now) = (Paces::default(), id(), Instant::now());
        assert_eq!((Paces::room(1), Paces::room(10_000)), (1, 10_000));
        let places: Vec<Duration> = (0..3).map(|_| paces.place(id, 4, now) - now).collect();
        assert_eq!(places, [1_000 * MS, 1_250 * MS, 1_500 * MS]);
        for _ in 0..1_000 {
            assert!(paces.place(id, 4, now) <= now + HORIZON);
        }
    }
}
