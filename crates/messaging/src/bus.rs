//! The bus: one type in front of RabbitMQ and of the queues inside the process. Both keep the same promises; the suite in
//! `crates/tests` runs over both.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use hookyard_domain::trace::TraceContext;
use tokio::sync::watch;

use crate::{
    amqp::{self, Amqp},
    at_hand::AtHand,
    broadcast::{self, Listener},
    counters::Counters,
    foresight::{Foresight, Place},
    incoming::Incoming,
    memory::{self, MemoryBus},
    message::Message,
    queue::Queue,
    settings::AmqpSettings,
};

/// Why a bus cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting is out of its range.
    #[error("{0}")]
    Settings(&'static str),
    /// The bus runs tasks and was started where none can run.
    #[error("the bus needs a tokio runtime")]
    Runtime(#[source] tokio::runtime::TryCurrentError),
}

/// Why a message is not in its queue, or not known to be. None of them needs more than a note: the rows are committed, and
/// the relays ring again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The broker is away or takes nothing at the moment; told at once.
    #[error("no connection to the broker")]
    Disconnected,
    /// The queue is full, or the broker could not store the message.
    #[error("queue `{}` takes no more messages", queue.name())]
    Full {
        /// Which one.
        queue: Queue,
    },
    /// The queue does not exist, although it did when the bus connected. It is being declared again.
    #[error("queue `{}` is gone", queue.name())]
    Returned {
        /// Which one.
        queue: Queue,
    },
    /// Nothing was heard of it in time; it may arrive or not.
    #[error("not confirmed within {waited:?}")]
    Timeout {
        /// How long was waited.
        waited: Duration,
    },
    /// The connection was lost before anything was heard of it; it may arrive or not.
    #[error("the connection was lost before a confirmation")]
    Lost,
    /// The bus was closed.
    #[error("the bus is closed")]
    Closed,
}

impl PublishError {
    /// Whether the message may be in its queue all the same. Then somebody may be at work on it already, and whoever does
    /// that work himself does it twice.
    #[must_use]
    pub const fn may_have_arrived(self) -> bool {
        match self {
            Self::Timeout { .. } | Self::Lost | Self::Closed => true,
            Self::Disconnected | Self::Full { .. } | Self::Returned { .. } => false,
        }
    }
}

/// What carries messages. Clones are the same bus.
#[derive(Clone, Debug)]
pub struct Bus {
    transport: Transport,
    foresight: Arc<Place>,
}

#[derive(Clone, Debug)]
enum Transport {
    Amqp(Amqp),
    Memory(Arc<MemoryBus>),
}

impl Bus {
    /// Starts the bus that the settings ask for: RabbitMQ when there is a `url`, else the queues of this process.
    /// `process` names our connections in the broker's lists, such as `hookyard delivery`.
    ///
    /// Connecting goes on behind this call, for ever; [`connected`](Self::connected) tells. The tasks stay on the runtime
    /// of this call; publishing and consuming may be done from any other.
    ///
    /// # Errors
    /// A setting out of its range, or no runtime.
    pub fn start(settings: &AmqpSettings, process: &str) -> Result<Self, StartError> {
        settings.check().map_err(StartError::Settings)?;
        let Some(url) = &settings.url else {
            return Ok(Self::in_process());
        };
        let runtime = tokio::runtime::Handle::try_current().map_err(StartError::Runtime)?;
        Ok(Self::over(Transport::Amqp(Amqp::start(url, settings, process, runtime))))
    }

    /// The queues of this process: nothing is serialised and nothing survives the process.
    #[must_use]
    pub fn in_process() -> Self {
        Self::over(Transport::Memory(Arc::new(MemoryBus::new())))
    }

    fn over(transport: Transport) -> Self {
        Self { transport, foresight: Arc::default() }
    }

    /// Puts a message into a queue and returns when it is there: the broker has stored and confirmed it. Many calls may wait
    /// at once; their messages and confirmations share the way. Messages published one after the other keep their order.
    ///
    /// A call that is dropped may still publish.
    ///
    /// # Errors
    /// See [`PublishError`]. While the broker is away the call fails at once, and it never takes longer than
    /// `publish_timeout_ms`.
    pub async fn publish(
        &self,
        queue: Queue,
        message: &Message,
        trace: &TraceContext,
    ) -> Result<(), PublishError> {
        match &self.transport {
            Transport::Amqp(amqp) => amqp.publish(queue, message, trace).await,
            Transport::Memory(bus) => bus.publish(queue, message, *trace),
        }
    }

    /// A reader of a queue that holds at most `prefetch` messages unacknowledged (at least one). Readers of a queue, in any
    /// process, compete for its messages.
    ///
    /// Returns at once. When the connection is lost, the reader comes back by itself; until it does, the bus is not
    /// [`connected`](Self::connected).
    #[expect(
        clippy::unused_async,
        reason = "a transport may have to ask its server; callers should not depend on it"
    )]
    pub async fn consume(&self, queue: Queue, prefetch: u16) -> Consumer {
        let source = match &self.transport {
            Transport::Amqp(amqp) => Source::Amqp(amqp.consume(queue, prefetch)),
            Transport::Memory(bus) => Source::Memory(bus.consume(queue, prefetch)),
        };
        Consumer { source }
    }

    /// Says a message to everybody who listens, in any process. Returns at once; while the broker is away it is lost.
    pub(crate) fn broadcast(&self, message: &Message) {
        match &self.transport {
            Transport::Amqp(amqp) => amqp.broadcast(message),
            Transport::Memory(bus) => bus.broadcast(message),
        }
    }

    /// Listens to what is said to everybody from now on.
    #[must_use]
    pub fn listen(&self) -> Listener {
        Listener::new(match &self.transport {
            Transport::Amqp(amqp) => broadcast::Source::Amqp(amqp.listen()),
            Transport::Memory(bus) => bus.listen(),
        })
    }

    /// Whether messages go through a broker, which makes each of them cost something.
    #[must_use]
    pub fn has_broker(&self) -> bool {
        self.at_hand().is_none()
    }

    /// What the parts of this process hand each other; `None` where they need not be in one process.
    #[must_use]
    pub fn at_hand(&self) -> Option<&AtHand> {
        match &self.transport {
            Transport::Amqp(_) => None,
            Transport::Memory(bus) => Some(&bus.at_hand),
        }
    }

    /// Whoever stores events in this process asks this one what follows from them, as long as he is there.
    pub fn ask(&self, foresight: Weak<dyn Foresight>) {
        self.foresight.fill(foresight);
    }

    /// Whoever can tell what will follow from events, if somebody in this process can.
    #[must_use]
    pub fn foresight(&self) -> Option<Arc<dyn Foresight>> {
        self.foresight.get()
    }

    /// Whether messages can be published and every consumer is served, now.
    #[must_use]
    pub fn connected(&self) -> bool {
        match &self.transport {
            Transport::Amqp(amqp) => amqp.readiness().is_ready(),
            Transport::Memory(bus) => bus.readiness.is_ready(),
        }
    }

    /// [`connected`](Self::connected), and its changes.
    #[must_use]
    pub fn watch_connected(&self) -> watch::Receiver<bool> {
        match &self.transport {
            Transport::Amqp(amqp) => amqp.readiness().watch(),
            Transport::Memory(bus) => bus.readiness.watch(),
        }
    }

    /// What was counted until now.
    #[must_use]
    pub fn counters(&self) -> Counters {
        match &self.transport {
            Transport::Amqp(amqp) => amqp.tally().snapshot(),
            Transport::Memory(bus) => bus.tally.snapshot(),
        }
    }

    /// Ends the bus: consumers get no more messages, what is on its way is confirmed and acknowledged (for at most
    /// `close_timeout_ms`), the rest goes back to its queue, and the connections are closed in order.
    ///
    /// Call it when the services have stopped. Publishing fails from now on.
    pub async fn close(&self) {
        match &self.transport {
            Transport::Amqp(amqp) => amqp.close().await,
            Transport::Memory(bus) => bus.close(),
        }
    }
}

/// A reader of one queue. Dropping it gives back what it has not handed out; messages it did hand out can still be
/// acknowledged.
#[derive(Debug)]
pub struct Consumer {
    source: Source,
}

#[derive(Debug)]
enum Source {
    Amqp(amqp::Deliveries),
    Memory(memory::Deliveries),
}

impl Consumer {
    /// The next message. Waits through any loss of the connection; `None` only when the bus is closed. Nothing is lost when
    /// the call is dropped while it waits.
    pub async fn recv(&mut self) -> Option<Incoming> {
        match &mut self.source {
            Source::Amqp(deliveries) => deliveries.recv().await,
            Source::Memory(deliveries) => deliveries.recv().await,
        }
    }

    /// Ends the reading, and returns what is at hand: for somebody who would otherwise give it back.
    #[must_use]
    pub fn end(mut self) -> Vec<Incoming> {
        let mut at_hand = Vec::new();
        match &mut self.source {
            Source::Amqp(deliveries) => deliveries.end(&mut at_hand),
            Source::Memory(deliveries) => deliveries.take(&mut at_hand, usize::MAX),
        };
        at_hand
    }

    /// Waits for a message, then appends it and what else is at hand to `into`, `max` at most. Returns how many; 0 only when
    /// the bus is closed (or `max` is 0). Nothing is lost when the call is dropped while it waits.
    pub async fn recv_many(&mut self, into: &mut Vec<Incoming>, max: usize) -> usize {
        if max == 0 {
            return 0;
        }
        let Some(first) = self.recv().await else {
            return 0;
        };
        into.push(first);
        1 + match &mut self.source {
            Source::Amqp(deliveries) => deliveries.take(into, max - 1),
            Source::Memory(deliveries) => deliveries.take(into, max - 1),
        }
    }
}
