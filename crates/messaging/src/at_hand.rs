//! What the parts of one process hand each other behind the rows: of a small new delivery all that its first try needs, so that
//! whoever hears its ring need not read what was written a moment ago (docs/decisions/0062).
//!
//! Nothing depends on it. What is not at hand, or no longer, is read.

use std::{
    hash::Hash,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use hookyard_domain::{
    delivery::{HeldDelivery, rung::EventToSend},
    event::NewEvent,
    id::{ClaimId, DeliveryId, EventId},
    subscription::directory::Standing,
};
use lru::LruCache;

/// For how long a delivery is at hand after it was made. What is changed meanwhile its deliverer does not see, as it does not during a
/// try.
const KEPT: Duration = Duration::from_millis(20);

/// Bytes of the largest body that is at hand.
const LARGEST: usize = 8 << 10;

/// Events at hand, and deliveries; the oldest are forgotten.
const AT_ONCE: usize = 256;

/// What is at hand in this process.
#[derive(Debug)]
pub struct AtHand {
    events: Recent<EventId, EventToSend>,
    deliveries: Recent<DeliveryId, Made>,
}

/// A delivery that was made a moment ago.
#[derive(Clone, Debug)]
pub struct Made {
    /// As it was written.
    pub held: HeldDelivery,
    /// What it brings.
    pub event: Arc<EventToSend>,
    /// What it was made of, which had not changed when it was written.
    pub standing: Arc<Standing>,
}

impl AtHand {
    pub(crate) fn new() -> Self {
        Self { events: Recent::new(), deliveries: Recent::new() }
    }

    /// Events were stored just now. Whatever nobody has taken in time is forgotten.
    pub fn put_events<'a>(&self, events: impl IntoIterator<Item = &'a NewEvent>, now: Instant) {
        let small = events.into_iter().filter(|event| event.body.len() <= LARGEST);
        let events = small.filter_map(EventToSend::of).map(|event| (event.id, event));
        // Copied before anybody has to wait for it.
        self.events.put(events.collect(), now);
    }

    /// Takes an event, for the deliveries that are made of it.
    #[must_use]
    pub fn take_event(&self, id: EventId) -> Option<EventToSend> {
        self.events.lock().pop(&id).map(|(event, _)| event)
    }

    /// Deliveries were made just now, and will be rung.
    pub fn put_deliveries(&self, made: Vec<Made>, now: Instant) {
        self.deliveries.put(made.into_iter().map(|made| (made.held.id, made)).collect(), now);
    }

    /// Takes the deliveries that are rung under this claim, if all of them are at hand and were made only a moment ago.
    #[must_use]
    pub fn take_deliveries(&self, claim: ClaimId, ids: &[DeliveryId], now: Instant) -> Option<Vec<Made>> {
        let mut at_hand = self.deliveries.lock();
        let found: Vec<(Made, Instant)> = ids.iter().filter_map(|id| at_hand.pop(id)).collect();
        drop(at_hand);
        let counts = |(made, at): &(Made, Instant)| made.held.claim == claim && !is_past(*at, now);
        let all = found.len() == ids.len() && found.iter().all(counts);
        all.then(|| found.into_iter().map(|(made, _)| made).collect())
    }

    /// Forgets an event and its deliveries, whose payload was purged.
    pub fn forget(&self, event: EventId) {
        self.events.lock().pop(&event);
        let mut at_hand = self.deliveries.lock();
        let of_it: Vec<DeliveryId> =
            at_hand.iter().map(|(id, _)| *id).filter(|id| id.event == event).collect();
        for id in of_it {
            at_hand.pop(&id);
        }
    }
}

/// The newest of something, with the moment at which each was put there.
#[derive(Debug)]
struct Recent<K: Hash + Eq, V>(Mutex<LruCache<K, (V, Instant)>>);

impl<K: Hash + Eq, V> Recent<K, V> {
    fn new() -> Self {
        Self(Mutex::new(LruCache::new(NonZeroUsize::new(AT_ONCE).unwrap_or(NonZeroUsize::MIN))))
    }

    fn lock(&self) -> MutexGuard<'_, LruCache<K, (V, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, entries: Vec<(K, V)>, now: Instant) {
        let mut recent = self.lock();
        while recent.peek_lru().is_some_and(|(_, (_, at))| is_past(*at, now)) {
            recent.pop_lru();
        }
        for (key, value) in entries {
            recent.put(key, (value, now));
        }
    }
}

fn is_past(at: Instant, now: Instant) -> bool {
    KEPT < now.saturating_duration_since(at)
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta, Utc};
    use hookyard_domain::{
        delivery::{NewDelivery, Profile, fan_out::Hold},
        event::Origin,
        id::{SubscriptionId, TenantId},
        subscription::directory::Directory,
        trace::TraceContext,
    };

    use super::*;

    fn now() -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::days(20_000)
    }

    fn event(bytes: usize) -> NewEvent {
        NewEvent {
            tenant: TenantId::new(now()),
            id: EventId::new(now()),
            event_type: "order.created".parse().unwrap(),
            origin: Origin::Posted,
            occurred_at: now(),
            created_at: now(),
            due_at: None,
            metadata: serde_json::json!({}),
            trace: TraceContext::fresh(),
            body: vec![b'x'; bytes],
        }
    }

    fn made(claim: ClaimId) -> Made {
        let event = EventToSend::of(&event(2)).unwrap();
        let id = DeliveryId { event: event.id, subscription: SubscriptionId::new(now()) };
        let hold = Hold { claim, now: now(), until: now() };
        let new = NewDelivery::plain(id, TenantId::new(now()), Profile::Hook);
        let standing = Arc::new(Directory::default().standing());
        Made { held: new.held(hold, Some(1)), event: Arc::new(event), standing }
    }

    #[test]
    fn an_event_is_taken_once_and_a_large_one_is_not_kept() {
        let at_hand = AtHand::new();
        let events = [event(LARGEST), event(LARGEST + 1)];
        at_hand.put_events(&events, Instant::now());
        let take = || events.each_ref().map(|event| at_hand.take_event(event.id).is_some());
        assert_eq!(take(), [true, false]);
        assert_eq!(take(), [false, false]);
    }

    #[test]
    fn what_nobody_took_and_what_was_purged_is_forgotten() {
        let (at_hand, began) = (AtHand::new(), Instant::now());
        let [old, purged, young, last] = [event(1), event(1), event(1), event(1)];
        at_hand.put_events([&old], began);
        at_hand.put_events([&young, &purged], began + Duration::from_millis(1));
        at_hand.put_events([&last], began + KEPT + Duration::from_millis(1));
        at_hand.forget(purged.id);
        let left = [&old, &purged, &young, &last].map(|event| at_hand.take_event(event.id).is_some());
        assert_eq!(left, [false, false, true, true]);

        let claim = ClaimId::new(now());
        let made = made(claim);
        let id = made.held.id;
        at_hand.put_deliveries(vec![made], began);
        at_hand.forget(id.event);
        assert!(at_hand.take_deliveries(claim, &[id], began).is_none());
    }

    #[test]
    fn the_oldest_is_forgotten() {
        let (at_hand, began) = (AtHand::new(), Instant::now());
        let events: Vec<NewEvent> = (0..=AT_ONCE).map(|_| event(1)).collect();
        at_hand.put_events(&events, began);
        assert!(at_hand.take_event(events[0].id).is_none());
        assert!(events[1..].iter().all(|event| at_hand.take_event(event.id).is_some()));

        let claim = ClaimId::new(now());
        let made: Vec<Made> = (0..=AT_ONCE).map(|_| made(claim)).collect();
        let ids: Vec<DeliveryId> = made.iter().map(|made| made.held.id).collect();
        at_hand.put_deliveries(made, began);
        assert!(at_hand.take_deliveries(claim, &ids[..1], began).is_none());
        assert!(at_hand.take_deliveries(claim, &ids[1..2], began).is_some());
    }

    #[test]
    fn deliveries_are_taken_all_together_or_not_at_all() {
        let (claim, other, began) = (ClaimId::new(now()), ClaimId::new(now()), Instant::now());
        let take = |put: Vec<Made>, more: &[DeliveryId], after: Duration| {
            let at_hand = AtHand::new();
            let ids: Vec<DeliveryId> =
                put.iter().map(|made| made.held.id).chain(more.iter().copied()).collect();
            at_hand.put_deliveries(put, began);
            let taken = at_hand.take_deliveries(claim, &ids, began + after).map(|made| made.len());
            assert!(at_hand.take_deliveries(claim, &ids, began).is_none(), "a second time");
            taken
        };
        let fresh = || made(claim);
        let too_late = KEPT + Duration::from_nanos(1);
        assert_eq!(take(vec![fresh(), fresh()], &[], KEPT), Some(2));
        assert_eq!(take(vec![fresh(), fresh()], &[], too_late), None, "made too long ago");
        assert_eq!(take(vec![fresh(), made(other)], &[], KEPT), None, "another's lease");
        assert_eq!(take(vec![fresh()], &[fresh().held.id], KEPT), None, "one was not put there");
    }
}
