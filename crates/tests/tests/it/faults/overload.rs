//! More than a gateway takes: it says so at once, and keeps what it took.

use std::time::Duration;

use hookyard_tests::{
    broker::Broker,
    http::Client,
    load::{Load, Plan},
    postgres::Postgres,
    processes::{new_key, operate},
    sink::Sink,
};
use serde_json::json;

use super::Services;

#[tokio::test(flavor = "multi_thread")]
async fn overload_is_answered_and_what_was_accepted_arrives() {
    let sink = Sink::start().await;
    let (postgres, broker) = (Postgres::running(), Broker::running());
    let tiny = [
        ("HOOKYARD__GATEWAY__QUEUE_REQUESTS", "2"),
        ("HOOKYARD__GATEWAY__FLUSHERS", "1"),
        ("HOOKYARD__GATEWAY__FLUSH_EVENTS", "1"),
    ];
    let mut services = Services::start(&sink, &postgres, &broker, &tiny);
    services.wait_until_ready();
    let plan = Plan { per_second: 0, connections: 32, ..Plan::default() };
    let load = Load::start(&sink, services.api, &services.environment, plan).await;
    let report = load.settle("overload of a gateway with tiny queues", &postgres.url()).await;
    let refused = report.tally.refused.get(&503).copied().unwrap_or(0);
    assert!(refused > 100, "64 connections find a queue of two requests full: {:?}", report.tally.refused);
    assert!(report.tally.slowest < Duration::from_secs(10), "an answer took {:?}", report.tally.slowest);
    assert_eq!((report.tally.broken, report.duplicates), (0, 0));
    services.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_limit_is_answered_with_the_seconds_to_wait() {
    let sink = Sink::start().await;
    let (postgres, broker) = (Postgres::running(), Broker::running());
    let mut services = Services::start(&sink, &postgres, &broker, &[]);
    services.wait_until_ready();
    let made = operate(&["tenants", "create", "--name", "Limited", "--json"], &services.environment);
    let (_id, key) =
        new_key(made["tenant_id"].as_str().unwrap(), &["--rate-limit", "50"], &services.environment);
    let client = Client::new(services.api).with_key(&key);
    let event = json!({ "event_type": "order.created", "payload": {} });
    let (mut accepted, mut refused) = (0, 0);
    for _ in 0..150 {
        let reply = client.post_json("/events", &event).await;
        match reply.status {
            202 => accepted += 1,
            429 => {
                let wait: u64 = reply.header("retry-after").unwrap().parse().unwrap();
                assert!((1..=60).contains(&wait), "{wait}");
                refused += 1;
            }
            _ => panic!("{reply:?}"),
        }
    }
    // The posts may lie in two windows.
    assert!(
        (50..=100).contains(&accepted) && accepted + refused == 150,
        "{accepted} accepted, {refused} refused"
    );
    services.stop();
}
