//! `kill -9` of registries in the middle of a recovery: it goes on where it was, and every event comes once.

use std::{collections::HashMap, time::Duration};

use hookyard_tests::{
    broker::Broker,
    http::Client,
    postgres::Postgres,
    processes::{Process, new_tenant},
    receiver::Receiver,
    sink::Sink,
};
use serde_json::{Value, json};

use super::{START, Services};

/// Events that were missed.
const EVENTS: usize = 1_500;

#[tokio::test(flavor = "multi_thread")]
async fn registries_are_killed_in_the_middle_of_a_recovery_and_every_event_comes_once() {
    let (sink, receiver) = (Sink::start().await, Receiver::start().await);
    let (postgres, broker) = (Postgres::running(), Broker::running());
    let prefix = receiver.prefix();
    let settings = [("HOOKYARD__HOOKS__EXTRA_URL_PREFIXES", prefix.as_str())];
    let mut services = Services::start(&sink, &postgres, &broker, &settings);
    // A second registry: whoever is left takes the lease over, and both may come for the same step.
    let mut second = Process::start(&["registry"], &services.environment);
    services.wait_until_ready();
    second.wait_until_ready(START);
    let (_tenant, key) = new_tenant("Recovering", &services.environment);
    let client = Client::new(services.api).with_key(&key);
    let hook = json!({"url": receiver.url("late"), "event_type": "order.*"});
    let hook = client.post_json("/zapier/hook", &hook).await.expect(200)["id"].as_str().unwrap().to_owned();
    client.post(&format!("/v1/hooks/{hook}/disable"), "").await.expect(200);
    let events: Vec<Value> =
        (0..EVENTS).map(|n| json!({"event_type": "order.created", "payload": {"n": n}})).collect();
    let mut posted = Vec::new();
    for batch in events.chunks(100) {
        let reply = client.post_json("/events/batch", &json!({"events": batch})).await;
        let taken = reply.json();
        for result in taken["results"].as_array().unwrap_or_else(|| panic!("{taken}")) {
            posted.push(result["event_id"].as_str().unwrap_or_else(|| panic!("{result}")).to_owned());
        }
    }
    let replay = json!({"replay": {"per_second": 150}});
    let enabled = client.post_json(&format!("/v1/hooks/{hook}/enable"), &replay).await.expect(200);
    let path = format!("/v1/recoveries/{}", enabled["recovery"]["id"].as_str().unwrap());
    let queued = async |at_least: i64| {
        for _ in 0..1_200 {
            let shown = client.get(&path).await.expect(200);
            if shown["queued"].as_i64() >= Some(at_least) || shown["ended_at"].is_string() {
                return shown;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("not {at_least}: {}", client.get(&path).await.json());
    };
    for at_least in [150, 450, 750] {
        let shown = queued(at_least).await;
        assert!(shown["ended_at"].is_null(), "killed in the middle: {shown}");
        services.registry.kill_and_restart();
        second.kill_and_restart();
    }
    let shown = queued(i64::try_from(EVENTS).unwrap() + 1).await;
    assert_eq!((&shown["state"], &shown["queued"]), (&json!("completed"), &json!(EVENTS)), "{shown}");
    receiver.wait_for("late", EVENTS, Duration::from_secs(60)).await;
    let mut seen: HashMap<String, usize> = HashMap::new();
    for one in receiver.at("late").iter().filter(|one| one.method == "POST") {
        *seen.entry(one.header("x-event-id").to_owned()).or_default() += 1;
    }
    assert_eq!(seen.len(), EVENTS);
    assert!(posted.iter().all(|event| seen.get(event) == Some(&1)), "each of them once");
    services.stop();
    second.stop(super::STOP);
}
