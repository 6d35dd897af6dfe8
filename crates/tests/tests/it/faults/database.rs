//! PostgreSQL restarted: in order, and as after a crash.

use std::time::Duration;

use hookyard_domain::delivery::sequence::RESERVED;
use hookyard_tests::{
    broker::Broker,
    load::{Load, Plan},
    postgres::{Postgres, Stop},
    sink::Sink,
};

use super::Services;

/// What a crashed server may not have written of commits that did not wait for the disk: three times its
/// `wal_writer_delay` (PostgreSQL, "Asynchronous Commit"), and as much again as a busy disk takes.
const UNWRITTEN: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_is_restarted_under_load() {
    let sink = Sink::start().await;
    let stops = [Stop::Fast, Stop::Immediate, Stop::Fast];
    let crashes = restarts("restart of PostgreSQL, fast and immediate", &sink, &stops, &[]).await;
    // Outcomes wait for the database. Only a crash takes some with it, of its last moment (decision 15).
    for duplicate in sink.duplicates() {
        let first = duplicate.first();
        assert!(
            crashes.iter().any(|&(began, ended)| began.saturating_sub(UNWRITTEN) <= first && first <= ended),
            "{duplicate:?} is of no crash: {crashes:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_of_postgresql_takes_no_outcome_that_waited_for_the_disk() {
    let sink = Sink::start().await;
    let settings = [("HOOKYARD__DATABASE__SYNCHRONOUS_OUTCOMES", "true")];
    restarts("crash of PostgreSQL, synchronous outcomes", &sink, &[Stop::Immediate], &settings).await;
    assert_eq!(sink.duplicates().len(), 0, "every outcome was on disk before it was taken for written");
}

/// Restarts PostgreSQL under load. When it crashed and when it was back, by the sink's clock.
async fn restarts(
    name: &str,
    sink: &Sink,
    stops: &[Stop],
    settings: &[(&str, &str)],
) -> Vec<(Duration, Duration)> {
    let (mut postgres, broker) = (Postgres::running(), Broker::running());
    let mut services = Services::start(sink, &postgres, &broker, settings);
    services.wait_until_ready();
    let plan = Plan { events: 5_000 * (stops.len() + 1), ..Plan::default() };
    let load = Load::start(sink, services.api, &services.environment, plan).await;
    let mut crashes = Vec::new();
    for &how in stops {
        load.go_on(4_000).await;
        let began = sink.elapsed();
        postgres.stop(how);
        postgres.start();
        if how == Stop::Immediate {
            // Until it is back, deliverers go on with what they had read, also of what the crash took.
            crashes.push((began, sink.elapsed()));
        }
        services.wait_until_ready();
    }
    let report = load.settle(name, &postgres.url()).await;
    // What is left out is told, and it is no more than what was reserved: of each of six hooks, for each crash.
    let most = crashes.len() as i64 * 6 * RESERVED;
    assert!((crashes.len() as i64..=most).contains(&report.ledger.void), "{most}: {:?}", report.ledger);
    services.stop();
    crashes
}
