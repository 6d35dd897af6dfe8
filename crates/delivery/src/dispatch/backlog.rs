//! What waits for an endpoint in the schedule because there was no room for it in memory (docs/decisions/0061).
//!
//! Each gets a place, one after the other at the endpoint's pace, so that it comes back when it can go. As the pace may turn out to be
//! another, it is fetched before its time when few are left in memory.
//!
//! Pure: time comes in as an argument.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use hookyard_domain::id::EventId;

/// No place is nearer: less than that, it might as well have waited in memory.
const NEAREST: Duration = Duration::from_millis(500);

/// No place is further away: nobody fetches what a deliverer put off that has ended.
const FURTHEST: Duration = Duration::from_secs(120);

/// The same where nothing is fetched: what is known of the pace may be wrong by then.
const FURTHEST_UNFETCHED: Duration = Duration::from_secs(30);

/// Fetched at once at the most.
const AT_ONCE: usize = 1_024;

/// What was fetched and has not arrived after this does not come.
const ARRIVES: Duration = Duration::from_secs(2);

/// Between two looks of which the first found nothing.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// One that is put off: which of all, and how many of them are written by now.
#[derive(Clone, Copy, Debug)]
pub(super) struct PutOff {
    pub(super) number: u64,
    pub(super) written: u64,
}

/// What waits in one lane.
#[derive(Clone, Debug, Default)]
pub(super) struct Backlog {
    next_place: Option<Instant>,
    /// The last of all places.
    last_place: Option<Instant>,
    /// The first of the events that wait; none while nothing does that could be fetched.
    from: Option<EventId>,
    on_their_way: usize,
    /// When it was last looked.
    asked: Option<Instant>,
    /// Of those that are not written yet the first event, then the first of those that were put off after it, and so on.
    unwritten: VecDeque<(u64, EventId)>,
    /// The first that the looks under way could not see, for it was not written.
    unseen: Option<EventId>,
    found_nothing: bool,
}

impl Backlog {
    /// The place of a delivery, of an endpoint that takes so many per second. Those of an endpoint whose pace is set by others are not
    /// `fetched`.
    pub(super) fn place(
        &mut self,
        event: EventId,
        fetched: Option<PutOff>,
        not_before: Instant,
        now: Instant,
        rate: f64,
    ) -> Instant {
        let furthest = if fetched.is_some() { FURTHEST } else { FURTHEST_UNFETCHED };
        let earliest = not_before.max(now + NEAREST);
        let place = self.next_place.map_or(earliest, |next| next.max(earliest));
        let place = place.min(not_before.max(now + furthest));
        self.next_place = Some(place + Duration::from_secs_f64(1.0 / rate.max(0.001)));
        self.last_place = self.last_place.max(Some(place));
        if let Some(PutOff { number, written }) = fetched {
            self.from = Some(self.from.map_or(event, |from| from.min(event)));
            self.forget(written);
            while self.unwritten.pop_back_if(|(_, other)| event <= *other).is_some() {}
            self.unwritten.push_back((number, event));
        }
        place
    }

    /// So many of those that were put off are written.
    fn forget(&mut self, written: u64) {
        while self.unwritten.pop_front_if(|(number, _)| *number <= written).is_some() {}
    }

    /// The endpoint has answered. Whoever was put far behind while it was slow or away is fetched; where nobody is, new places begin now.
    pub(super) fn answered(&mut self) {
        if self.from.is_none() && self.on_their_way == 0 {
            self.next_place = None;
        }
    }

    /// The endpoint is left alone until an instant that is known: new places begin there.
    pub(super) const fn begin_anew(&mut self) {
        self.next_place = None;
    }

    /// Whether all places lie in the past.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.last_place.is_none_or(|place| place <= now)
    }

    /// Whether something waits that could be fetched.
    pub(super) const fn waits(&self) -> bool {
        self.from.is_some()
    }

    /// One has come to memory.
    pub(super) const fn arrived(&mut self) {
        self.on_their_way = self.on_their_way.saturating_sub(1);
    }

    /// From which event on how many are to be fetched, when so many wait in memory where so many may: none while more than half of them do,
    /// or while those that were asked for are on their way. By now so many of all that were put off are written.
    pub(super) fn fetch(
        &mut self,
        waiting: usize,
        room: usize,
        now: Instant,
        written: u64,
    ) -> Option<(EventId, usize)> {
        let patience = match (self.on_their_way, self.found_nothing) {
            (0, false) => Duration::ZERO,
            (0, true) => LOOK_AGAIN,
            _ => ARRIVES,
        };
        let too_soon = self.asked.is_some_and(|asked| now.saturating_duration_since(asked) < patience);
        if 2 * waiting > room || too_soon {
            return None;
        }
        let from = self.from.take()?;
        let wanted = room.saturating_sub(waiting).clamp(1, AT_ONCE);
        self.forget(written);
        // What an earlier look did not see, which has not answered yet, still counts.
        self.unseen = self.unseen.into_iter().chain(self.unwritten.front().map(|(_, event)| *event)).min();
        (self.on_their_way, self.asked) = (wanted, Some(now));
        Some((from, wanted))
    }

    /// So many come; there may be more from that event on.
    pub(super) fn fetched(&mut self, found: usize, rest: Option<EventId>) {
        (self.on_their_way, self.found_nothing) = (found, found == 0);
        // What was not written yet when we looked was not found, and may lie before the rest.
        self.from = self.from.into_iter().chain(rest).chain(self.unseen.take()).min();
        if self.from.is_none() {
            (self.next_place, self.last_place) = (None, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Put off, and written or not.
    fn put_off(number: u64, written: u64) -> Option<PutOff> {
        Some(PutOff { number, written })
    }

    fn events<const N: usize>() -> [EventId; N] {
        let mut ids = [(); N].map(|()| EventId::new(DateTime::UNIX_EPOCH));
        ids.sort_unstable();
        ids
    }

    #[test]
    fn places_are_one_after_the_other_and_not_too_far_away() {
        let (mut backlog, now, [event]) = (Backlog::default(), Instant::now(), events());
        let places: Vec<Duration> =
            (0..3).map(|_| backlog.place(event, put_off(1, 1), now, now, 1.0) - now).collect();
        assert_eq!(places, [500, 1_500, 2_500].map(Duration::from_millis));
        assert!(!backlog.is_over(now + 2_499 * MS));
        assert!(backlog.is_over(now + 2_500 * MS));
        for _ in 0..300 {
            assert!(backlog.place(event, put_off(1, 1), now, now, 1.0) <= now + FURTHEST);
        }
        let pause = now + Duration::from_secs(3_600);
        assert_eq!(backlog.place(event, put_off(1, 1), pause, now, 1.0), pause, "never before a pause ends");
    }

    #[test]
    fn what_waits_is_fetched_when_less_than_half_is_left_and_once() {
        let (mut backlog, now, [first, second, third]) = (Backlog::default(), Instant::now(), events());
        assert_eq!(backlog.fetch(0, 100, now, 0), None, "nothing waits");
        backlog.place(second, put_off(1, 0), now, now, 100.0);
        backlog.place(first, put_off(2, 0), now, now, 100.0);
        assert_eq!(backlog.fetch(51, 100, now, 2), None);
        assert_eq!(backlog.fetch(50, 100, now, 2), Some((first, 50)));
        backlog.place(third, put_off(3, 2), now, now, 100.0);
        assert_eq!(backlog.fetch(0, 100, now, 3), None, "they are on their way");
        backlog.fetched(2, Some(second));
        backlog.arrived();
        assert_eq!(backlog.fetch(0, 100, now + ARRIVES - MS, 3), None, "one is missing");
        backlog.arrived();
        assert_eq!(backlog.fetch(0, 100, now, 3), Some((second, 100)));
        assert!(!backlog.is_over(now));
        backlog.fetched(1, None);
        assert!(backlog.is_over(now) && !backlog.waits(), "all were fetched");
    }

    #[test]
    fn what_does_not_arrive_is_not_waited_for_for_ever() {
        let (mut backlog, now, [first, second]) = (Backlog::default(), Instant::now(), events());
        backlog.place(first, put_off(1, 0), now, now, 100.0);
        assert_eq!(backlog.fetch(0, 5_000, now, 1), Some((first, AT_ONCE)));
        backlog.fetched(AT_ONCE, Some(second));
        assert_eq!(backlog.fetch(0, 5_000, now + ARRIVES - MS, 1), None);
        assert_eq!(backlog.fetch(0, 5_000, now + ARRIVES, 1), Some((second, AT_ONCE)));
    }

    #[test]
    fn what_was_not_written_yet_is_looked_for_again() {
        let (mut backlog, now, [first, second]) = (Backlog::default(), Instant::now(), events());
        backlog.place(first, put_off(1, 0), now, now, 100.0);
        assert_eq!(backlog.fetch(0, 10, now, 0), Some((first, 10)));
        backlog.place(second, put_off(2, 0), now, now, 100.0);
        backlog.fetched(0, None);
        assert_eq!(backlog.fetch(0, 10, now + LOOK_AGAIN - MS, 1), None);
        assert_eq!(backlog.fetch(0, 10, now + LOOK_AGAIN, 1), Some((first, 10)));
        backlog.fetched(0, None);
        assert_eq!(backlog.fetch(0, 10, now + 2 * LOOK_AGAIN, 2), Some((second, 10)));
        backlog.fetched(0, None);
        assert!(!backlog.waits());
    }

    #[test]
    fn what_was_not_written_yet_is_not_passed_over_for_what_was() {
        let (mut backlog, now) = (Backlog::default(), Instant::now());
        let [first, second, third, fourth] = events();
        backlog.place(third, put_off(1, 0), now, now, 100.0);
        backlog.place(first, put_off(2, 0), now, now, 100.0);
        backlog.place(second, put_off(3, 0), now, now, 100.0);
        assert_eq!(backlog.fetch(0, 2, now, 1), Some((first, 2)));
        // The first two are not written; as many as were asked for were found behind them.
        backlog.fetched(2, Some(fourth));
        assert_eq!(backlog.fetch(0, 2, now + ARRIVES, 2), Some((first, 2)));
        backlog.fetched(2, Some(fourth));
        assert_eq!(backlog.fetch(0, 2, now + 2 * ARRIVES, 3), Some((second, 2)));
        backlog.fetched(1, None);
        assert!(!backlog.waits());
    }

    #[test]
    fn what_a_look_did_not_see_counts_when_another_has_begun() {
        let (mut backlog, now, [first, second]) = (Backlog::default(), Instant::now(), events());
        backlog.place(first, put_off(1, 0), now, now, 100.0);
        assert_eq!(backlog.fetch(0, 1, now, 0), Some((first, 1)));
        // Another one came to memory, found no room there, and the look has not answered yet.
        backlog.arrived();
        backlog.place(second, put_off(2, 0), now, now, 100.0);
        assert_eq!(backlog.fetch(0, 1, now, 2), Some((second, 1)));
        backlog.fetched(0, None);
        backlog.fetched(1, None);
        assert_eq!(backlog.fetch(0, 1, now + ARRIVES, 2), Some((first, 1)));
    }

    #[test]
    fn what_is_written_is_not_kept() {
        let (mut backlog, now, mut events) = (Backlog::default(), Instant::now(), events::<1_000>());
        events.sort_unstable();
        for (number, event) in (1..).zip(events) {
            backlog.place(event, put_off(number, number.saturating_sub(10)), now, now, 100.0);
            assert!(backlog.unwritten.len() <= 10);
        }
        backlog.place(events[0], put_off(1_001, 0), now, now, 100.0);
        assert_eq!(backlog.unwritten.len(), 1, "behind the first of all nothing counts");
    }

    #[test]
    fn an_endpoint_is_not_over_while_one_of_its_places_is_to_come() {
        let (mut backlog, now, [event]) = (Backlog::default(), Instant::now(), events());
        let place = backlog.place(event, put_off(1, 1), now + 60_000 * MS, now, 1.0);
        backlog.begin_anew();
        backlog.place(event, put_off(1, 1), now, now, 1.0);
        assert!(!backlog.is_over(place - MS));
        assert!(backlog.is_over(place));
    }

    #[test]
    fn places_begin_anew_with_an_answer_only_where_nothing_is_fetched() {
        let (mut backlog, now, [event]) = (Backlog::default(), Instant::now(), events());
        for _ in 0..60 {
            assert!(backlog.place(event, None, now, now, 1.0) <= now + FURTHEST_UNFETCHED);
        }
        assert!(!backlog.waits());
        backlog.answered();
        assert_eq!(backlog.place(event, None, now, now, 1.0), now + NEAREST);
        backlog.place(event, put_off(1, 1), now, now, 1.0);
        backlog.answered();
        assert_eq!(backlog.place(event, put_off(1, 1), now, now, 1.0), now + NEAREST + 2_000 * MS);
        backlog.begin_anew();
        assert_eq!(backlog.place(event, put_off(1, 1), now, now, 1.0), now + NEAREST);
    }
}
