//! Those who wait at inboxes: readers whose lease waits for a message, and streams. Rings of the bus wake them, whichever gateway or
//! registry rings.
//!
//! Readers of an inbox stand in one line, and one of them is woken at a time: whoever gets something wakes the next. So a fleet of
//! hundreds that waits costs no more than one reader. What no ring tells of (one was lost, or a lease has ended) is found by one look for
//! each inbox that somebody waits at, once a second.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hookyard_domain::{
    db::Db,
    id::{SubscriptionId, TenantId},
    subscription::inbox::lease,
};
use hookyard_messaging::{Bus, Heard, Message};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

/// How often it is looked for what no ring told of.
const EVERY: Duration = Duration::from_secs(1);

/// Those who wait at one inbox.
#[derive(Debug)]
struct Door {
    readers: usize,
    /// Wakes the reader who has waited longest.
    next: Arc<Notify>,
    streams: usize,
    /// Counts the rings, for streams.
    rings: watch::Sender<u64>,
    /// The newest number that was seen, while somebody streams.
    newest: i64,
    /// When the first lease ends that a reader who got nothing knows of.
    due: Option<Instant>,
}

impl Default for Door {
    fn default() -> Self {
        let (rings, _nobody) = watch::channel(0);
        Self { readers: 0, next: Arc::default(), streams: 0, rings, newest: 0, due: None }
    }
}

#[derive(Debug, Default)]
struct Inner {
    doors: HashMap<SubscriptionId, Door>,
    /// Streams of each tenant.
    streams: HashMap<TenantId, usize>,
}

/// Those who wait at this gateway.
#[derive(Debug, Default)]
pub(crate) struct Inboxes {
    inner: Mutex<Inner>,
    /// Somebody came, or knows of an earlier time.
    came: Notify,
}

/// A reader's place in line; it is left when this is dropped.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    inboxes: &'a Inboxes,
    inbox: SubscriptionId,
    next: Arc<Notify>,
}

impl Place<'_> {
    /// There may be something, and it is this one's turn.
    pub(crate) async fn turn(&self) {
        self.next.notified().await;
    }

    /// There was something: there may be more, for the next in line.
    pub(crate) fn pass_on(&self) {
        self.next.notify_one();
    }

    /// There was nothing, and the first lease ends after so long.
    pub(crate) fn look_again(&self, after: Duration) {
        let due = Instant::now() + after;
        let mut inner = self.inboxes.inner();
        if let Some(door) = inner.doors.get_mut(&self.inbox)
            && door.due.is_none_or(|known| due < known)
        {
            door.due = Some(due);
            drop(inner);
            self.inboxes.came.notify_one();
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.inboxes.leave(self.inbox, |door| door.readers -= 1);
    }
}

/// A stream's place; it is left when this is dropped.
#[derive(Debug)]
pub(crate) struct Following {
    inboxes: Arc<Inboxes>,
    tenant: TenantId,
    inbox: SubscriptionId,
    rings: watch::Receiver<u64>,
}

impl Following {
    /// There may be something.
    pub(crate) async fn rung(&mut self) {
        if self.rings.changed().await.is_err() {
            // Its door goes when this does.
            std::future::pending::<()>().await;
        }
    }

    /// What is rung from now on counts.
    pub(crate) fn heard(&mut self) {
        self.rings.mark_unchanged();
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let mut inner = self.inboxes.inner();
        if let Some(streams) = inner.streams.get_mut(&self.tenant) {
            *streams -= 1;
            if *streams == 0 {
                inner.streams.remove(&self.tenant);
            }
        }
        drop(inner);
        self.inboxes.leave(self.inbox, |door| door.streams -= 1);
    }
}

impl Inboxes {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leave(&self, inbox: SubscriptionId, change: impl FnOnce(&mut Door)) {
        let mut inner = self.inner();
        if let Some(door) = inner.doors.get_mut(&inbox) {
            change(door);
            if door.readers == 0 && door.streams == 0 {
                inner.doors.remove(&inbox);
            }
        }
    }

    /// Stands in line.
    pub(crate) fn wait(&self, inbox: SubscriptionId) -> Place<'_> {
        let next = {
            let mut inner = self.inner();
            let door = inner.doors.entry(inbox).or_default();
            door.readers += 1;
            Arc::clone(&door.next)
        };
        self.came.notify_one();
        Place { inboxes: self, inbox, next }
    }

    /// Follows an inbox, unless the tenant follows `most` at this gateway already.
    pub(crate) fn follow(
        self: &Arc<Self>,
        tenant: TenantId,
        inbox: SubscriptionId,
        most: usize,
    ) -> Option<Following> {
        let mut inner = self.inner();
        if inner.streams.get(&tenant).copied().unwrap_or(0) >= most {
            return None;
        }
        *inner.streams.entry(tenant).or_default() += 1;
        let door = inner.doors.entry(inbox).or_default();
        door.streams += 1;
        let rings = door.rings.subscribe();
        drop(inner);
        self.came.notify_one();
        Some(Following { inboxes: Arc::clone(self), tenant, inbox, rings })
    }

    /// There may be something in these inboxes.
    pub(crate) fn ring(&self, inboxes: &[SubscriptionId]) {
        let inner = self.inner();
        for door in inboxes.iter().filter_map(|inbox| inner.doors.get(inbox)) {
            door.next.notify_one();
            door.rings.send_modify(|rings| *rings += 1);
        }
    }

    /// There may be something anywhere.
    fn ring_all(&self) {
        for door in self.inner().doors.values() {
            door.next.notify_one();
            door.rings.send_modify(|rings| *rings += 1);
        }
    }

    /// How many readers wait.
    pub(crate) fn readers(&self) -> usize {
        self.inner().doors.values().map(|door| door.readers).sum()
    }

    /// How many streams there are.
    pub(crate) fn streams(&self) -> usize {
        self.inner().doors.values().map(|door| door.streams).sum()
    }

    /// When the first lease ends that somebody waits for.
    fn first_due(&self) -> Option<Instant> {
        self.inner().doors.values().filter_map(|door| door.due).min()
    }

    /// Wakes the first of each line whose time has come.
    fn wake_due(&self) {
        let now = Instant::now();
        for door in self.inner().doors.values_mut() {
            if door.due.is_some_and(|due| due <= now) {
                door.due = None;
                door.next.notify_one();
            }
        }
    }

    /// Wakes the first of each line, and returns the inboxes that somebody follows.
    fn wake_readers(&self) -> Vec<SubscriptionId> {
        let inner = self.inner();
        for door in inner.doors.values().filter(|door| door.readers > 0) {
            door.next.notify_one();
        }
        inner.doors.iter().filter(|(_, door)| door.streams > 0).map(|(inbox, _)| *inbox).collect()
    }

    /// Wakes streams of inboxes that have grown.
    fn wake_streams(&self, newest: HashMap<SubscriptionId, i64>) {
        let mut inner = self.inner();
        for (inbox, number) in newest {
            if let Some(door) = inner.doors.get_mut(&inbox)
                && number != door.newest
            {
                door.newest = number;
                door.rings.send_modify(|rings| *rings += 1);
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.inner().doors.is_empty()
    }

    /// Hears rings until `stop` is cancelled, or the bus is closed.
    pub(crate) async fn hear(&self, bus: &Bus, stop: CancellationToken) {
        let mut listener = bus.listen();
        loop {
            let heard = tokio::select! {
                () = stop.cancelled() => return,
                heard = listener.recv() => heard,
            };
            match heard {
                Some(Heard::Message(Message::InboxFilled { inboxes })) => self.ring(&inboxes),
                Some(Heard::Message(_)) => {}
                Some(Heard::Missed) => self.ring_all(),
                // The looks go on until the gateway ends.
                None => return stop.cancelled().await,
            }
        }
    }

    /// Looks for what no ring told of until `stop` is cancelled.
    pub(crate) async fn run(&self, db: &Db, stop: CancellationToken) {
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if self.is_empty() {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = self.came.notified() => continue,
                }
            }
            let due = self.first_due();
            let at_due = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.came.notified() => {}
                () = at_due => self.wake_due(),
                _ = tick.tick() => {
                    let followed = self.wake_readers();
                    if !followed.is_empty() {
                        match db.once(move |conn| lease::newest(conn, &followed)).await {
                            Ok(newest) => self.wake_streams(newest),
                            Err(error) => tracing::debug!(error = error.chain(), "streams of inboxes wait for the database"),
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn inbox(number: u128) -> SubscriptionId {
        SubscriptionId::from_uuid(Uuid::from_u128(number))
    }

    async fn woken(place: &Place<'_>) -> bool {
        tokio::time::timeout(Duration::from_millis(20), place.turn()).await.is_ok()
    }

    #[test]
    fn a_follow_that_is_refused_leaves_nothing_behind() {
        let inboxes = Arc::new(Inboxes::default());
        let tenant = TenantId::from_uuid(Uuid::from_u128(1));
        assert!(inboxes.follow(tenant, inbox(1), 0).is_none());
        assert!(inboxes.inner().streams.is_empty());
        let first = inboxes.follow(tenant, inbox(1), 1);
        assert!(first.is_some() && inboxes.follow(tenant, inbox(2), 1).is_none());
        drop(first);
        assert!(inboxes.inner().streams.is_empty() && inboxes.is_empty());
    }

    #[tokio::test]
    async fn one_reader_of_an_inbox_is_woken_and_wakes_the_next() {
        let inboxes = Inboxes::default();
        let (first, second, other) = (inboxes.wait(inbox(1)), inboxes.wait(inbox(1)), inboxes.wait(inbox(2)));
        assert_eq!(inboxes.readers(), 3);
        inboxes.ring(&[inbox(1), inbox(3)]);
        assert_eq!([woken(&first).await, woken(&second).await, woken(&other).await], [true, false, false]);
        first.pass_on();
        assert!(woken(&second).await);
        drop((first, second, other));
        assert!(inboxes.is_empty());
    }

    #[tokio::test]
    async fn a_lease_that_ends_wakes_whoever_waits_for_it() {
        let inboxes = Inboxes::default();
        let place = inboxes.wait(inbox(1));
        place.look_again(Duration::from_secs(5));
        let later = inboxes.first_due();
        place.look_again(Duration::ZERO);
        assert!(inboxes.first_due() < later);
        inboxes.wake_due();
        assert!(woken(&place).await);
        assert_eq!(inboxes.first_due(), None);
    }

    #[tokio::test]
    async fn streams_hear_rings_and_are_counted_by_tenant() {
        let inboxes = Arc::new(Inboxes::default());
        let tenant = |number| TenantId::from_uuid(Uuid::from_u128(number));
        let mut one = inboxes.follow(tenant(1), inbox(1), 2).unwrap();
        let two = inboxes.follow(tenant(1), inbox(2), 2).unwrap();
        assert!(inboxes.follow(tenant(1), inbox(1), 2).is_none());
        assert!(inboxes.follow(tenant(2), inbox(3), 2).is_some());
        assert_eq!(inboxes.streams(), 2);
        inboxes.ring(&[inbox(1)]);
        one.rung().await;
        inboxes.wake_streams(HashMap::from([(inbox(1), 5), (inbox(2), 0)]));
        one.rung().await;
        inboxes.wake_streams(HashMap::from([(inbox(1), 5)]));
        assert!(tokio::time::timeout(Duration::from_millis(20), one.rung()).await.is_err());
        drop((one, two));
        assert!(inboxes.is_empty() && inboxes.inner().streams.is_empty());
    }
}
