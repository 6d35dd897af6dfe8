//! PostgreSQL restarted: in order, and as after a crash.

use hookyard_tests::{
    broker::Broker,
    load::{Load, Plan},
    postgres::{Postgres, Stop},
    sink::Sink,
};

use super::Services;

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_is_restarted_under_load() {
    let sink = Sink::start().await;
    let (mut postgres, broker) = (Postgres::running(), Broker::running());
    let mut services = Services::start(&sink, &postgres, &broker, &[]);
    services.wait_until_ready();
    let load = Load::start(&sink, services.api, &services.environment, Plan::default()).await;
    for how in [Stop::Fast, Stop::Immediate, Stop::Fast] {
        load.go_on(4_000).await;
        postgres.stop(how);
        postgres.start();
        services.wait_until_ready();
    }
    let report = load.settle("restart of PostgreSQL, fast and immediate", &postgres.url()).await;
    assert_eq!(report.duplicates, 0, "outcomes wait for the database");
    services.stop();
}
