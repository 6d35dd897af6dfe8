//! The bus inside one process: bounded queues, nothing serialised, nothing kept when the process ends.
//!
//! It keeps the promises the broker's queues keep (order, competing readers, prefetch, redelivery, delivery limit), so that
//! a service cannot tell them apart.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use hookyard_domain::trace::TraceContext;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, broadcast};
use tokio_util::sync::CancellationToken;

use crate::{
    at_hand::AtHand,
    broadcast::Source,
    bus::PublishError,
    counters::{Tally, count},
    incoming::Incoming,
    message::Message,
    queue::{DELIVERY_LIMIT, Queue},
    readiness::Readiness,
};

/// Messages one queue holds. Rings only, some hundred bytes each; the relays ring again for what did not fit.
const CAPACITY: usize = 65_536;

/// Messages to everybody that are kept for a listener that is slow.
const UNHEARD: usize = 1_024;

#[derive(Debug)]
pub(crate) struct MemoryBus {
    queues: Vec<Arc<Waiting>>,
    pub(crate) readiness: Readiness,
    pub(crate) tally: Arc<Tally>,
    pub(crate) at_hand: AtHand,
    closed: CancellationToken,
    /// To everybody.
    everybody: broadcast::Sender<Message>,
}

impl MemoryBus {
    pub(crate) fn new() -> Self {
        let readiness = Readiness::new();
        readiness.update(|parts| parts.publisher = true);
        let tally = Arc::<Tally>::default();
        let queues = Queue::all().map(|queue| Arc::new(Waiting::new(queue, Arc::clone(&tally)))).collect();
        let (closed, everybody) = (CancellationToken::new(), broadcast::channel(UNHEARD).0);
        Self { queues, readiness, tally, at_hand: AtHand::new(), closed, everybody }
    }

    pub(crate) fn publish(
        &self,
        queue: Queue,
        message: &Message,
        trace: TraceContext,
    ) -> Result<(), PublishError> {
        if self.closed.is_cancelled() {
            return Err(PublishError::Closed);
        }
        count(&self.tally.published);
        let waiting = &self.queues[queue.index()];
        {
            let mut entries = waiting.entries();
            if CAPACITY <= entries.len() {
                count(&self.tally.refused);
                return Err(PublishError::Full { queue });
            }
            entries.push_back(Entry { message: message.clone(), trace, returns: 0 });
        }
        waiting.arrived.notify_one();
        count(&self.tally.confirmed);
        Ok(())
    }

    pub(crate) fn consume(&self, queue: Queue, prefetch: u16) -> Deliveries {
        Deliveries {
            waiting: Arc::clone(&self.queues[queue.index()]),
            places: Arc::new(Semaphore::new(usize::from(prefetch.max(1)))),
            closed: self.closed.clone(),
        }
    }

    pub(crate) fn broadcast(&self, message: &Message) {
        // Nobody may be listening.
        let _nobody = self.everybody.send(message.clone());
    }

    pub(crate) fn listen(&self) -> Source {
        Source::Memory(self.everybody.subscribe(), self.closed.clone())
    }

    pub(crate) fn close(&self) {
        self.closed.cancel();
        self.readiness.update(|parts| parts.publisher = false);
    }
}

/// One queue.
#[derive(Debug)]
struct Waiting {
    queue: Queue,
    entries: Mutex<VecDeque<Entry>>,
    /// Wakes one reader for each message.
    arrived: Notify,
    tally: Arc<Tally>,
}

#[derive(Debug)]
struct Entry {
    message: Message,
    trace: TraceContext,
    /// How often it came back.
    returns: u32,
}

impl Waiting {
    fn new(queue: Queue, tally: Arc<Tally>) -> Self {
        Self { queue, entries: Mutex::default(), arrived: Notify::new(), tally }
    }

    fn entries(&self) -> MutexGuard<'_, VecDeque<Entry>> {
        // Nothing that runs under this lock leaves the queue half changed when it panics.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One reader of a queue.
#[derive(Debug)]
pub(crate) struct Deliveries {
    waiting: Arc<Waiting>,
    /// One for each message that this reader may hold unacknowledged.
    places: Arc<Semaphore>,
    closed: CancellationToken,
}

impl Deliveries {
    /// The next message; none when the bus is closed. Loses nothing when it is dropped while it waits.
    pub(crate) async fn recv(&mut self) -> Option<Incoming> {
        tokio::select! {
            biased;
            () = self.closed.cancelled() => None,
            incoming = Self::next(&self.waiting, &self.places) => Some(incoming),
        }
    }

    /// What is at hand, without waiting.
    pub(crate) fn take(&mut self, into: &mut Vec<Incoming>, max: usize) -> usize {
        let before = into.len();
        let mut entries = self.waiting.entries();
        while into.len() - before < max
            && !entries.is_empty()
            && let Ok(place) = Arc::clone(&self.places).try_acquire_owned()
            && let Some(entry) = entries.pop_front()
        {
            into.push(Self::hand_out(&self.waiting, entry, place));
        }
        into.len() - before
    }

    async fn next(waiting: &Arc<Waiting>, places: &Arc<Semaphore>) -> Incoming {
        // The place comes first: a reader without one must not take a wake-up that another reader could use. The semaphore
        // is never closed.
        let Ok(place) = Arc::clone(places).acquire_owned().await else {
            return std::future::pending().await;
        };
        loop {
            let entry = waiting.entries().pop_front();
            match entry {
                Some(entry) => return Self::hand_out(waiting, entry, place),
                None => waiting.arrived.notified().await,
            }
        }
    }

    fn hand_out(waiting: &Arc<Waiting>, entry: Entry, place: OwnedSemaphorePermit) -> Incoming {
        count(&waiting.tally.received);
        let receipt = Receipt { waiting: Arc::clone(waiting), returns: entry.returns, _place: place };
        Incoming::from_memory(entry.message, entry.trace, 0 < entry.returns, receipt)
    }
}

/// The right to settle one message.
#[derive(Debug)]
pub(crate) struct Receipt {
    waiting: Arc<Waiting>,
    returns: u32,
    /// Free again once this is dropped, after the message went back.
    _place: OwnedSemaphorePermit,
}

impl Receipt {
    pub(crate) fn acknowledge(&self) {
        count(&self.waiting.tally.acknowledged);
    }

    pub(crate) fn give_back(&self, message: &Message, trace: Option<TraceContext>) {
        count(&self.waiting.tally.given_back);
        let returns = self.returns + 1;
        if DELIVERY_LIMIT < returns {
            tracing::error!(
                queue = self.waiting.queue.name(),
                ?message,
                "message came back too often and is dropped"
            );
            return;
        }
        let trace = trace.unwrap_or_else(TraceContext::fresh);
        // Given back means in front: it is the oldest. It had its place before, so the bound is not asked again.
        self.waiting.entries().push_front(Entry { message: message.clone(), trace, returns });
        self.waiting.arrived.notify_one();
    }
}
