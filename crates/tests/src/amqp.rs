//! A bus over RabbitMQ for one test, with names of its own there that are removed at its end, whatever it did. The broker is
//! `TEST_AMQP_URL`, by default the one of this machine.

use std::{panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt;
use hookyard_messaging::{AmqpSettings, Bus, Queue};
use lapin::{Connection, ConnectionProperties};

use crate::processes::free_port;

/// Longer than connecting may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the broker is.
pub fn url() -> String {
    #[expect(clippy::disallowed_methods, reason = "the harness has no settings of its own")]
    let url = std::env::var("TEST_AMQP_URL");
    url.unwrap_or_else(|_| "amqp://guest:guest@127.0.0.1:5672/%2f".to_owned())
}

/// Runs a test on a bus with names of its own, and removes them.
///
/// # Panics
/// When the test does, or the broker is away.
pub async fn with_bus<F: Future<Output = ()>>(test: impl FnOnce(Bus) -> F) {
    with_names(|bus, _namespace| test(bus)).await;
}

/// The same for a test that tells the names to processes, too (`amqp.namespace`).
///
/// # Panics
/// When the test does, or the broker is away.
pub async fn with_names<F: Future<Output = ()>>(test: impl FnOnce(Bus, String) -> F) {
    let namespace = format!("test.{:032x}.", rand::random::<u128>());
    let settings = AmqpSettings {
        url: Some(url().parse().expect("TEST_AMQP_URL is the address of a broker")),
        namespace: namespace.clone(),
        ..AmqpSettings::default()
    };
    let bus = Bus::start(&settings, &namespace).expect("a bus");
    let mut connected = bus.watch_connected();
    tokio::time::timeout(PATIENCE, connected.wait_for(|connected| *connected))
        .await
        .expect("RabbitMQ runs (TEST_AMQP_URL)")
        .expect("the bus lives");
    let result = AssertUnwindSafe(test(bus.clone(), namespace.clone())).catch_unwind().await;
    bus.close().await;
    remove(&namespace).await;
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

/// A bus whose broker is not there and never was.
///
/// # Panics
/// When the bus cannot be started.
pub fn away() -> Bus {
    let url = format!("amqp://guest:guest@127.0.0.1:{}/%2f", free_port());
    let settings =
        AmqpSettings { url: Some(url.parse().expect("an address of a broker")), ..AmqpSettings::default() };
    Bus::start(&settings, "test").expect("a bus")
}

async fn remove(namespace: &str) {
    let connection = Connection::connect(&url(), ConnectionProperties::default()).await.expect("a broker");
    let channel = connection.create_channel().await.expect("a channel");
    let dead = format!("{namespace}dead");
    for name in Queue::all().map(|queue| format!("{namespace}{}", queue.name())).chain([dead.clone()]) {
        channel.queue_delete(name.into(), Default::default()).await.expect("deleted");
    }
    for name in [dead, format!("{namespace}everybody")] {
        channel.exchange_delete(name.into(), Default::default()).await.expect("deleted");
    }
}
