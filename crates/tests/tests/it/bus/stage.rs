//! Where the tests of the bus take place: a bus of their own, and on the broker names of their own that are removed at the
//! end, whatever the test did.

use std::time::Duration;

use hookyard_domain::{id::SettlementId, trace::TraceContext};
use hookyard_messaging::{AmqpSettings, Bus, Consumer, Incoming, Message, Queue};
use lapin::{Channel, Connection, ConnectionProperties};
use tokio::time::timeout;
use uuid::Uuid;

/// The broker of this machine.
pub(super) const BROKER: &str = "amqp://guest:guest@127.0.0.1:5672/%2f";

/// The queue most tests use.
pub(super) const QUEUE: Queue = Queue::DeliverySettled;

/// Longer than anything here may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// Runs a test on the in-process bus.
pub(super) async fn over_memory<F: Future<Output = ()>>(test: impl FnOnce(Bus) -> F) {
    let bus = Bus::start(&AmqpSettings::default(), "test").unwrap();
    assert!(bus.connected());
    timeout(PATIENCE, test(bus)).await.unwrap();
}

/// Runs a test on RabbitMQ.
pub(super) async fn over_amqp<F>(test: impl FnOnce(Bus) -> F + Send + 'static)
where
    F: Future<Output = ()> + Send,
{
    on_broker(async |names: Names| {
        let bus = Bus::start(&names.settings(BROKER), &names.process()).unwrap();
        connected(&bus).await;
        test(bus.clone()).await;
        bus.close().await;
    })
    .await;
}

/// Runs a test with names of its own on the broker.
pub(super) async fn on_broker<F: Future<Output = ()>>(test: impl FnOnce(Names) -> F) {
    let names = Names { namespace: format!("test.{}.", Uuid::new_v4().simple()) };
    let run = timeout(PATIENCE * 2, test(names.clone()));
    let result = futures_util::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(run)).await;
    names.remove().await;
    match result {
        Ok(in_time) => in_time.unwrap(),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// What a test calls its things on the broker.
#[derive(Clone)]
pub(super) struct Names {
    namespace: String,
}

impl Names {
    pub(super) fn settings(&self, url: &str) -> AmqpSettings {
        AmqpSettings {
            url: Some(url.parse().unwrap()),
            namespace: self.namespace.clone(),
            ..AmqpSettings::default()
        }
    }

    /// What our connections are called.
    pub(super) fn process(&self) -> String {
        self.namespace.clone() + "process"
    }

    pub(super) fn queue(&self, queue: Queue) -> String {
        self.namespace.clone() + &queue.name()
    }

    pub(super) fn dead(&self) -> String {
        self.namespace.clone() + "dead"
    }

    async fn remove(&self) {
        let side = Side::open().await;
        for name in Queue::all().map(|queue| self.queue(queue)).chain([self.dead()]) {
            side.channel.queue_delete(name.into(), Default::default()).await.unwrap();
        }
        for name in [self.dead(), self.namespace.clone() + "everybody"] {
            side.channel.exchange_delete(name.into(), Default::default()).await.unwrap();
        }
    }
}

/// A connection beside the bus, to look and to do harm.
pub(super) struct Side {
    _connection: Connection,
    pub(super) channel: Channel,
}

impl Side {
    pub(super) async fn open() -> Self {
        let connection = Connection::connect(BROKER, ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        Self { _connection: connection, channel }
    }
}

/// Waits until the bus says that it is connected.
pub(super) async fn connected(bus: &Bus) {
    timeout(PATIENCE, bus.watch_connected().wait_for(|connected| *connected)).await.unwrap().unwrap();
}

/// A message that carries a number.
pub(super) fn ring(number: u128) -> Message {
    Message::DeliverySettled { settlements: vec![SettlementId::from_uuid(Uuid::from_u128(number))] }
}

/// The number it carries.
pub(super) fn number(incoming: &Incoming) -> u128 {
    match incoming.message() {
        Message::DeliverySettled { settlements } => settlements[0].uuid().as_u128(),
        other => unreachable!("not a ring of these tests: {other:?}"),
    }
}

pub(super) async fn publish(bus: &Bus, number: u128) {
    assert_eq!(bus.publish(QUEUE, &ring(number), &TraceContext::fresh()).await, Ok(()));
}

pub(super) async fn next(consumer: &mut Consumer) -> Incoming {
    timeout(PATIENCE, consumer.recv()).await.unwrap().unwrap()
}

/// Takes and acknowledges so many messages, and tells their numbers.
pub(super) async fn drain(consumer: &mut Consumer, count: usize) -> Vec<u128> {
    let (mut numbers, mut batch) = (Vec::new(), Vec::new());
    while numbers.len() < count {
        timeout(PATIENCE, consumer.recv_many(&mut batch, count - numbers.len())).await.unwrap();
        numbers.extend(batch.iter().map(number));
        Incoming::ack_all(batch.drain(..));
    }
    numbers
}

/// Nothing comes, for as long as one can reasonably wait for nothing.
pub(super) async fn nothing_more(consumer: &mut Consumer) {
    let silence = timeout(Duration::from_millis(200), consumer.recv()).await;
    assert!(silence.is_err(), "{silence:?}");
}
