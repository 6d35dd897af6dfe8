//! What waits for an endpoint in the schedule because there was no room for it in memory (docs/decisions/0061).
//!
//! Each gets a place, one after the other at the endpoint's pace, so that it comes back when it can go. As the pace may turn out to be
//! another, it is fetched before its time when few are left in memory.
//!
//! Pure: time comes in as an argument.

use std::time::{Duration, Instant};

use hookyard_domain::id::EventId;

/// No place is nearer: less than that, it might as well have waited in memory.
const NEAREST: Duration = Duration::from_millis(500);

/// No place is further away: nobody fetches what a deliverer put off that has ended.
const FURTHEST: Duration = Duration::from_secs(120);

/// Fetched at once at the most.
const AT_ONCE: usize = 1_024;

/// What was fetched and has not arrived after this does not come.
const ARRIVES: Duration = Duration::from_secs(2);

/// What waits in one lane.
#[derive(Clone, Debug, Default)]
pub(super) struct Backlog {
    next_place: Option<Instant>,
    /// The first of the events that wait; none while nothing does that we know of.
    from: Option<EventId>,
    on_their_way: usize,
    asked: Option<Instant>,
}

impl Backlog {
    /// The place of a delivery, of an endpoint that takes so many per second.
    pub(super) fn place(&mut self, event: EventId, not_before: Instant, now: Instant, rate: f64) -> Instant {
        let earliest = not_before.max(now + NEAREST);
        let place = self.next_place.map_or(earliest, |next| next.max(earliest));
        let place = place.min(not_before.max(now + FURTHEST));
        self.next_place = Some(place + Duration::from_secs_f64(1.0 / rate.max(0.001)));
        self.from = Some(self.from.map_or(event, |from| from.min(event)));
        place
    }

    /// Whether all places lie in the past.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.next_place.is_none_or(|place| place <= now)
    }

    /// One has come to memory.
    pub(super) fn arrived(&mut self) {
        self.on_their_way = self.on_their_way.saturating_sub(1);
    }

    /// From which event on how many are to be fetched, when so many wait in memory where so many may: none while more than half of them do,
    /// or while those that were asked for are on their way.
    pub(super) fn fetch(&mut self, waiting: usize, room: usize, now: Instant) -> Option<(EventId, usize)> {
        let on_their_way = self.on_their_way > 0
            && self.asked.is_some_and(|asked| now.saturating_duration_since(asked) < ARRIVES);
        if 2 * waiting > room || on_their_way {
            return None;
        }
        let from = self.from.take()?;
        let wanted = (room - waiting).min(AT_ONCE);
        (self.on_their_way, self.asked) = (wanted, Some(now));
        Some((from, wanted))
    }

    /// So many come; there may be more from that event on.
    pub(super) fn fetched(&mut self, found: usize, rest: Option<EventId>) {
        self.on_their_way = found;
        self.from = self.from.into_iter().chain(rest).min();
        if self.from.is_none() {
            self.next_place = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn events<const N: usize>() -> [EventId; N] {
        let mut ids = [(); N].map(|()| EventId::new(DateTime::UNIX_EPOCH));
        ids.sort_unstable();
        ids
    }

    #[test]
    fn places_are_one_after_the_other_and_not_too_far_away() {
        let (mut backlog, now, [event]) = (Backlog::default(), Instant::now(), events());
        let places: Vec<Duration> = (0..3).map(|_| backlog.place(event, now, now, 1.0) - now).collect();
        assert_eq!(places, [500, 1_500, 2_500].map(Duration::from_millis));
        assert!(!backlog.is_over(now + 3_499 * MS));
        assert!(backlog.is_over(now + 3_500 * MS));
        for _ in 0..300 {
            assert!(backlog.place(event, now, now, 1.0) <= now + FURTHEST);
        }
        let pause = now + Duration::from_secs(3_600);
        assert_eq!(backlog.place(event, pause, now, 1.0), pause, "never before a pause ends");
    }

    #[test]
    fn what_waits_is_fetched_when_less_than_half_is_left_and_once() {
        let (mut backlog, now, [first, second, third]) = (Backlog::default(), Instant::now(), events());
        assert_eq!(backlog.fetch(0, 100, now), None, "nothing waits");
        backlog.place(second, now, now, 100.0);
        backlog.place(first, now, now, 100.0);
        assert_eq!(backlog.fetch(51, 100, now), None);
        assert_eq!(backlog.fetch(50, 100, now), Some((first, 50)));
        backlog.place(third, now, now, 100.0);
        assert_eq!(backlog.fetch(0, 100, now), None, "they are on their way");
        backlog.fetched(2, Some(second));
        backlog.arrived();
        assert_eq!(backlog.fetch(0, 100, now + ARRIVES - MS), None, "one is missing");
        backlog.arrived();
        assert_eq!(backlog.fetch(0, 100, now), Some((second, 100)));
        assert!(!backlog.is_over(now));
        backlog.fetched(1, None);
        assert!(backlog.is_over(now), "all were fetched");
    }

    #[test]
    fn what_does_not_arrive_is_not_waited_for_for_ever() {
        let (mut backlog, now, [first, second]) = (Backlog::default(), Instant::now(), events());
        backlog.place(first, now, now, 100.0);
        assert_eq!(backlog.fetch(0, 5_000, now), Some((first, AT_ONCE)));
        backlog.fetched(AT_ONCE, Some(second));
        assert_eq!(backlog.fetch(0, 5_000, now + ARRIVES - MS), None);
        assert_eq!(backlog.fetch(0, 5_000, now + ARRIVES), Some((second, AT_ONCE)));
    }
}
