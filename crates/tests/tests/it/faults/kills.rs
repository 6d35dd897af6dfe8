//! `kill -9` of each service, and a deliverer that stands still.

use std::time::Duration;

use hookyard_tests::{
    broker::Broker,
    load::{Load, Plan},
    postgres::Postgres,
    sink::Sink,
};

use super::{IN_FLIGHT, LOST_BY_A_KILL, START, Services};

/// Longer than a lease.
const FROZEN: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn each_service_is_killed_twice_under_load() {
    let sink = Sink::start().await;
    let (postgres, broker) = (Postgres::running(), Broker::running());
    let mut services = Services::start(&sink, &postgres, &broker, &[]);
    services.wait_until_ready();
    let load = Load::start(&sink, services.api, &services.environment, Plan::default()).await;
    load.go_on(1_000).await;
    for _round in 0..2 {
        for process in services.all() {
            process.kill_and_restart();
            process.wait_until_ready(START);
            load.go_on(2_500).await;
        }
    }
    let report = load.settle("kill -9 of each service, twice", &postgres.url()).await;
    assert!(report.duplicates <= 2 * LOST_BY_A_KILL, "{} duplicates by two kills", report.duplicates);
    services.stop();
}

/// Everything that waits is then older than its lease: it must not be put off again and again, as the load goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_deliverer_that_stood_still_catches_up() {
    let sink = Sink::start().await;
    let (postgres, broker) = (Postgres::running(), Broker::running());
    let mut services = Services::start(&sink, &postgres, &broker, &[]);
    services.wait_until_ready();
    let load = Load::start(&sink, services.api, &services.environment, Plan::default()).await;
    load.go_on(1_000).await;
    services.delivery.signal("STOP");
    tokio::time::sleep(FROZEN).await;
    services.delivery.signal("CONT");
    load.go_on(2_500).await;
    let report = load.settle("deliverer frozen for longer than its leases", &postgres.url()).await;
    // Their replies came while it stood still; the sweep may be quicker than what writes them down.
    assert!(report.duplicates <= IN_FLIGHT, "{} duplicates", report.duplicates);
    services.stop();
}
