//! What the parts of one process hand each other behind the rows: of a small new delivery all that its first try needs, so that
//! whoever hears its ring need not read what was written a moment ago (docs/decisions/0062).
//!
//! Nothing depends on it. What is not at hand, or no longer, is read.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use hookyard_domain::{
    delivery::{HeldDelivery, rung::EventToSend},
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
    events: Mutex<LruCache<EventId, EventToSend>>,
    deliveries: Mutex<LruCache<DeliveryId, Made>>,
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
    /// When that was.
    pub at: Instant,
}

impl AtHand {
    pub(crate) fn new() -> Self {
        let size = NonZeroUsize::new(AT_ONCE).unwrap_or(NonZeroUsize::MIN);
        Self { events: Mutex::new(LruCache::new(size)), deliveries: Mutex::new(LruCache::new(size)) }
    }

    /// Events were stored.
    pub fn put_events(&self, events: impl IntoIterator<Item = EventToSend>) {
        let mut at_hand = lock(&self.events);
        for event in events {
            if event.body.len() <= LARGEST {
                at_hand.put(event.id, event);
            }
        }
    }

    /// Takes an event, for the deliveries that are made of it.
    #[must_use]
    pub fn take_event(&self, id: EventId) -> Option<EventToSend> {
        lock(&self.events).pop(&id)
    }

    /// Deliveries were made, and will be rung.
    pub fn put_deliveries(&self, made: impl IntoIterator<Item = Made>) {
        let mut at_hand = lock(&self.deliveries);
        for made in made {
            at_hand.put(made.held.id, made);
        }
    }

    /// Takes the deliveries that are rung under this claim, if all of them are at hand and were made only a moment ago.
    #[must_use]
    pub fn take_deliveries(&self, claim: ClaimId, ids: &[DeliveryId]) -> Option<Vec<Made>> {
        let mut at_hand = lock(&self.deliveries);
        let found: Vec<Made> = ids.iter().filter_map(|id| at_hand.pop(id)).collect();
        drop(at_hand);
        let counts = |made: &Made| made.held.claim == claim && made.at.elapsed() <= KEPT;
        (found.len() == ids.len() && found.iter().all(counts)).then_some(found)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta, Utc};
    use hookyard_domain::{
        delivery::{NewDelivery, Profile, fan_out::Hold},
        id::{SubscriptionId, TenantId},
        subscription::directory::Directory,
    };

    use super::*;

    fn now() -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::days(20_000)
    }

    fn event(bytes: usize) -> EventToSend {
        EventToSend {
            id: EventId::new(now()),
            event_type: "order.created".parse().unwrap(),
            correlation_id: None,
            trace: uuid::Uuid::from_u128(1),
            sampled: false,
            body: vec![b'x'; bytes],
        }
    }

    fn made(claim: ClaimId, at: Instant) -> Made {
        let event = event(2);
        let id = DeliveryId { event: event.id, subscription: SubscriptionId::new(now()) };
        let hold = Hold { claim, now: now(), until: now() };
        let new = NewDelivery::plain(id, TenantId::new(now()), Profile::Hook);
        let standing = Arc::new(Directory::default().standing());
        Made { held: new.held(hold, Some(1)), event: Arc::new(event), standing, at }
    }

    #[test]
    fn an_event_is_taken_once_and_a_large_one_is_not_kept() {
        let at_hand = AtHand::new();
        let (largest, larger) = (event(LARGEST), event(LARGEST + 1));
        let ids = [largest.id, larger.id];
        at_hand.put_events([largest, larger]);
        assert_eq!(ids.map(|id| at_hand.take_event(id).is_some()), [true, false]);
        assert_eq!(ids.map(|id| at_hand.take_event(id).is_some()), [false, false]);
    }

    #[test]
    fn the_oldest_is_forgotten() {
        let at_hand = AtHand::new();
        let events: Vec<EventToSend> = (0..=AT_ONCE).map(|_| event(1)).collect();
        let ids: Vec<EventId> = events.iter().map(|event| event.id).collect();
        at_hand.put_events(events);
        assert!(at_hand.take_event(ids[0]).is_none());
        assert!(ids[1..].iter().all(|id| at_hand.take_event(*id).is_some()));

        let claim = ClaimId::new(now());
        let made: Vec<Made> = (0..=AT_ONCE).map(|_| made(claim, Instant::now())).collect();
        let ids: Vec<DeliveryId> = made.iter().map(|made| made.held.id).collect();
        at_hand.put_deliveries(made);
        assert!(at_hand.take_deliveries(claim, &ids[..1]).is_none());
        assert!(at_hand.take_deliveries(claim, &ids[1..2]).is_some());
    }

    #[test]
    fn deliveries_are_taken_all_together_or_not_at_all() {
        let (claim, other) = (ClaimId::new(now()), ClaimId::new(now()));
        let take = |put: Vec<Made>, claim, more: &[DeliveryId]| {
            let at_hand = AtHand::new();
            let ids: Vec<DeliveryId> =
                put.iter().map(|made| made.held.id).chain(more.iter().copied()).collect();
            at_hand.put_deliveries(put);
            let taken = at_hand.take_deliveries(claim, &ids).map(|made| made.len());
            assert!(at_hand.take_deliveries(claim, &ids).is_none(), "a second time");
            taken
        };
        let fresh = || made(claim, Instant::now());
        assert_eq!(take(vec![fresh(), fresh()], claim, &[]), Some(2));
        assert_eq!(take(vec![fresh(), made(other, Instant::now())], claim, &[]), None, "another's lease");
        assert_eq!(take(vec![fresh()], claim, &[fresh().held.id]), None, "one was not put there");
        let old = Instant::now().checked_sub(KEPT + Duration::from_millis(1)).unwrap();
        assert_eq!(take(vec![fresh(), made(claim, old)], claim, &[]), None, "made too long ago");
    }
}
