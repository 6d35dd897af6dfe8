//! Messages that every process hears which listens, unlike those in queues, for which readers compete. They are rings like the others:
//! whoever hears one looks, and whoever misses some looks a little later.

use hookyard_domain::id::SubscriptionId;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio_util::sync::CancellationToken;

use crate::{Bus, amqp, message::Message};

/// Ids in one message at the most.
const AT_ONCE: usize = 256;

/// What a listener hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A message to everybody.
    Message(Message),
    /// Some may have been missed: the connection was lost, or they came too fast.
    Missed,
}

/// Somebody who listens.
#[derive(Debug)]
pub struct Listener {
    source: Source,
}

#[derive(Debug)]
pub(crate) enum Source {
    Amqp(amqp::Ears),
    Memory(broadcast::Receiver<Message>, CancellationToken),
}

impl Listener {
    pub(crate) const fn new(source: Source) -> Self {
        Self { source }
    }

    /// The next message to everybody; `None` only when the bus is closed. Nothing is lost when the call is dropped while it waits.
    pub async fn recv(&mut self) -> Option<Heard> {
        match &mut self.source {
            Source::Amqp(ears) => ears.recv().await,
            Source::Memory(receiver, closed) => {
                let heard = tokio::select! {
                    biased;
                    () = closed.cancelled() => return None,
                    heard = receiver.recv() => heard,
                };
                match heard {
                    Ok(message) => Some(Heard::Message(message)),
                    Err(RecvError::Lagged(_)) => Some(Heard::Missed),
                    Err(RecvError::Closed) => None,
                }
            }
        }
    }
}

impl Bus {
    /// Tells everybody that something may be leased or read in these inboxes. Returns at once; what is not heard is found a little
    /// later.
    pub fn ring_inboxes(&self, inboxes: &[SubscriptionId]) {
        for inboxes in inboxes.chunks(AT_ONCE) {
            self.broadcast(&Message::InboxFilled { inboxes: inboxes.to_vec() });
        }
    }
}
