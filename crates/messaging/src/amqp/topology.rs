//! What must exist on the broker, and under which names.
//!
//! Messages go through the default exchange to quorum queues. A message that came back too often, or that nobody can read,
//! goes to the queue `dead` through an exchange of the same name; nobody reads it but people. What everybody hears goes through the
//! exchange `everybody` ([`super::broadcast`]).

use lapin::{
    Channel, ErrorKind, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable, ShortString},
};

use crate::queue::{DELIVERY_LIMIT, Queue};

/// Messages a queue holds before it refuses more: rings of about 200 bytes to 12 KB. It bounds the broker's disk; refused
/// rings are rung again by the relays.
const MAX_LENGTH: i64 = 1_000_000;

/// Dead messages that are kept for inspection; the oldest give way.
const DEAD_MAX_LENGTH: i64 = 100_000;

/// AMQP's reply code for a queue that exists with other arguments, and for some other wrong uses.
const PRECONDITION_FAILED: u16 = 406;

/// The names on the broker.
#[derive(Debug)]
pub(super) struct Names {
    queues: Vec<ShortString>,
    /// The dead-letter exchange and its queue.
    dead: ShortString,
    /// The exchange of messages to everybody.
    everybody: ShortString,
}

impl Names {
    pub(super) fn new(namespace: &str) -> Self {
        let queues = Queue::all().map(|queue| format!("{namespace}{}", queue.name()).into()).collect();
        let everybody = format!("{namespace}everybody").into();
        Self { queues, dead: format!("{namespace}dead").into(), everybody }
    }

    pub(super) fn of(&self, queue: Queue) -> ShortString {
        self.queues[queue.index()].clone()
    }

    /// The exchange of messages to everybody.
    pub(super) fn everybody(&self) -> ShortString {
        self.everybody.clone()
    }

    /// The queue of that name, if it is one of ours.
    pub(super) fn find(&self, name: &str) -> Option<Queue> {
        let index = self.queues.iter().position(|queue| queue.as_str() == name)?;
        Queue::all().nth(index)
    }
}

/// Declares all of it. Changes nothing that is there already.
pub(super) async fn declare(channel: &Channel, names: &Names) -> lapin::Result<()> {
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    channel
        .exchange_declare(names.dead.clone(), ExchangeKind::Fanout, durable, FieldTable::default())
        .await?;
    declare_named(channel, &names.dead, dead_arguments()).await?;
    let (queue, exchange) = (names.dead.clone(), names.dead.clone());
    let bind = QueueBindOptions::default();
    channel.queue_bind(queue, exchange, ShortString::default(), bind, FieldTable::default()).await?;
    for queue in Queue::all() {
        declare_queue(channel, names, queue).await?;
    }
    Ok(())
}

/// Declares one queue.
pub(super) async fn declare_queue(channel: &Channel, names: &Names, queue: Queue) -> lapin::Result<()> {
    declare_named(channel, &names.of(queue), queue_arguments(&names.dead)).await
}

async fn declare_named(channel: &Channel, name: &ShortString, arguments: FieldTable) -> lapin::Result<()> {
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let declared = channel.queue_declare(name.clone(), durable, arguments).await;
    if let Err(error) = &declared
        && let ErrorKind::ProtocolError(told) = error.kind()
        && told.get_id() == PRECONDITION_FAILED
    {
        tracing::error!(
            queue = name.as_str(),
            error = %told.get_message(),
            "queue exists with other arguments than this version declares; nothing goes through it until it is deleted \
             (`rabbitmqctl delete_queue`; the rings in it are not needed) or `amqp.namespace` is changed",
        );
    }
    declared.map(drop)
}

fn queue_arguments(dead: &ShortString) -> FieldTable {
    table([
        ("x-queue-type", text("quorum")),
        ("x-delivery-limit", AMQPValue::LongLongInt(i64::from(DELIVERY_LIMIT))),
        ("x-dead-letter-exchange", text(dead.as_str())),
        // A dead message leaves its queue when the dead queue has confirmed it; needs `reject-publish` below.
        ("x-dead-letter-strategy", text("at-least-once")),
        ("x-max-length", AMQPValue::LongLongInt(MAX_LENGTH)),
        ("x-overflow", text("reject-publish")),
    ])
}

fn dead_arguments() -> FieldTable {
    table([
        ("x-queue-type", text("quorum")),
        ("x-max-length", AMQPValue::LongLongInt(DEAD_MAX_LENGTH)),
        ("x-overflow", text("drop-head")),
    ])
}

fn table<const N: usize>(arguments: [(&str, AMQPValue); N]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in arguments {
        table.insert(name.into(), value);
    }
    table
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_back_to_its_queue() {
        let names = Names::new("test.");
        for queue in Queue::all() {
            assert_eq!(names.find(names.of(queue).as_str()), Some(queue));
        }
        assert_eq!(names.find("test.dead"), None);
        assert_eq!(names.find("event.accepted"), None);
    }
}
