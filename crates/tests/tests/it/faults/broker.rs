//! RabbitMQ restarted, killed, absent at the start, and gone for a minute.

use std::time::Duration;

use hookyard_tests::{
    broker::Broker,
    load::{Load, Plan},
    postgres::Postgres,
    sink::Sink,
};
use tokio::time::{Instant, sleep};

use super::{START, Services};

/// How long the broker is gone, in seconds; `HOOKYARD_TEST_OUTAGE_S` shortens it.
fn outage() -> Duration {
    #[expect(clippy::disallowed_methods, reason = "the harness has no settings of its own")]
    let seconds = std::env::var("HOOKYARD_TEST_OUTAGE_S").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(60))
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_is_restarted_under_load() {
    let sink = Sink::start().await;
    let (postgres, mut broker) = (Postgres::running(), Broker::running());
    let mut services = Services::start(&sink, &postgres, &broker, &[]);
    services.wait_until_ready();
    let load = Load::start(&sink, services.api, &services.environment, Plan::default()).await;
    load.go_on(4_000).await;
    broker.stop();
    broker.start();
    services.wait_until_ready();
    load.go_on(4_000).await;
    broker.kill();
    broker.start();
    services.wait_until_ready();
    let report = load.settle("restart of RabbitMQ, in order and by kill -9", &postgres.url()).await;
    assert_eq!(report.duplicates, 0, "nobody who tries was killed");
    services.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_is_absent_at_the_start() {
    let sink = Sink::start().await;
    let (postgres, mut broker) = (Postgres::running(), Broker::stopped());
    let mut services = Services::start(&sink, &postgres, &broker, &[]);
    for process in services.all() {
        process.wait_for("life", START, |process| process.is_live());
        process.wait_for("word of the broker", START, |process| {
            process.probe("/readyz").is_some_and(|(status, told)| status == 503 && told.contains("broker"))
        });
    }
    services.gateway.wait_for("open port", START, |_| std::net::TcpStream::connect(services.api).is_ok());
    let load = Load::start(&sink, services.api, &services.environment, Plan::default()).await;
    load.go_on(6_000).await;
    // Relay and sweep do without.
    load.arrives(3_000).await;
    assert!(services.all().iter().all(|process| process.is_live() && !process.is_ready()));
    broker.start();
    services.wait_until_ready();
    load.go_on(6_000).await;
    let report = load.settle("RabbitMQ absent at the start", &postgres.url()).await;
    assert_eq!(report.duplicates, 0, "nobody who tries was killed");
    services.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_is_gone_for_a_minute_under_load() {
    let sink = Sink::start().await;
    let (postgres, mut broker) = (Postgres::running(), Broker::running());
    let mut services = Services::start(&sink, &postgres, &broker, &[]);
    services.wait_until_ready();
    let plan = Plan { per_second: 400, ..Plan::default() };
    let load = Load::start(&sink, services.api, &services.environment, plan).await;
    load.go_on(1_000).await;
    broker.kill();
    let back = Instant::now() + outage();
    while Instant::now() < back {
        // All the time, not only for a while.
        load.arrives(300).await;
        sleep(Duration::from_millis(500)).await;
    }
    assert!(services.all().iter().all(|process| process.is_live() && !process.is_ready()));
    broker.start();
    services.wait_until_ready();
    load.go_on(1_000).await;
    let report = load.settle("RabbitMQ gone for a minute", &postgres.url()).await;
    assert_eq!(report.duplicates, 0, "nobody who tries was killed");
    services.stop();
}
