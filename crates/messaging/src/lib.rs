//! The messages between Hookyard's services and the bus that carries them: RabbitMQ, or queues in this process.
//!
//! A message is a doorbell. It names rows and carries none of them (invariant 1), so that a lost one costs time and
//! nothing else: the relays of the services find what should have moved on and ring again. This crate knows neither the
//! rows nor the services.

mod amqp;
mod at_hand;
mod backoff;
mod broadcast;
mod bus;
mod counters;
mod due;
mod foresight;
mod incoming;
pub mod inspect;
mod memory;
mod message;
mod queue;
mod readiness;
mod settings;

pub use at_hand::{AtHand, Made};
pub use broadcast::{Heard, Listener};
pub use bus::{Bus, Consumer, PublishError, StartError};
pub use counters::Counters;
pub use foresight::{Foresight, Foretold};
pub use incoming::Incoming;
pub use message::{Accepted, AcceptedEvent, Message, MessageError};
pub use queue::{DELIVERY_LIMIT, Lane, PARTITIONS, Queue};
pub use settings::{AmqpSettings, BrokerUrl, BrokerUrlError};
