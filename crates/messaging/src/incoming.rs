//! A message in the hands of its reader.

use hookyard_domain::trace::TraceContext;

use crate::{amqp, memory, message::Message};

/// A message that was taken from a queue and is not settled yet.
///
/// [`ack`](Self::ack) it when its work is done, or when a row says whose work it is. Dropping it gives it back: another reader gets it, marked as
/// [`redelivered`](Self::redelivered). When the connection it came through was lost meanwhile, the broker has given it back
/// already, and both do nothing.
#[derive(Debug)]
#[must_use = "a message that is dropped goes back to its queue"]
pub struct Incoming {
    message: Message,
    trace: Option<TraceContext>,
    redelivered: bool,
    origin: Origin,
    acknowledged: bool,
}

#[derive(Debug)]
enum Origin {
    Amqp(amqp::Receipt),
    Memory(memory::Receipt),
}

impl Incoming {
    pub(crate) fn from_amqp(
        message: Message,
        trace: Option<TraceContext>,
        redelivered: bool,
        receipt: amqp::Receipt,
    ) -> Self {
        Self { message, trace, redelivered, origin: Origin::Amqp(receipt), acknowledged: false }
    }

    pub(crate) fn from_memory(
        message: Message,
        trace: TraceContext,
        redelivered: bool,
        receipt: memory::Receipt,
    ) -> Self {
        let origin = Origin::Memory(receipt);
        Self { message, trace: Some(trace), redelivered, origin, acknowledged: false }
    }

    /// What is said.
    #[must_use]
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// The trace it was published under; none when the publisher sent none that can be read.
    #[must_use]
    pub fn trace(&self) -> Option<TraceContext> {
        self.trace
    }

    /// Whether somebody had this message before and did not acknowledge it. That reader may still be at work.
    #[must_use]
    pub fn redelivered(&self) -> bool {
        self.redelivered
    }

    /// The work is done: the message leaves its queue. Returns at once; acknowledgements travel together.
    pub fn ack(mut self) {
        self.acknowledged = true;
        match &self.origin {
            Origin::Amqp(receipt) => receipt.acknowledge(),
            Origin::Memory(receipt) => receipt.acknowledge(),
        }
    }

    /// Acknowledges all of them; in the order they came, they travel as one acknowledgement.
    pub fn ack_all(incoming: impl IntoIterator<Item = Self>) {
        incoming.into_iter().for_each(Self::ack);
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if self.acknowledged {
            return;
        }
        match &self.origin {
            Origin::Amqp(receipt) => receipt.give_back(),
            Origin::Memory(receipt) => receipt.give_back(&self.message, self.trace),
        }
    }
}
