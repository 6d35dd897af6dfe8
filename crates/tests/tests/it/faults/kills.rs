//! `kill -9` of each service.

use hookyard_tests::{
    broker::Broker,
    load::{Load, Plan},
    postgres::Postgres,
    sink::Sink,
};

use super::{LOST_BY_A_KILL, START, Services};

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
