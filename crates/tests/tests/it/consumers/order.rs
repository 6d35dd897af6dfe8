//! Order by a key: events with the same key one after the other as they were posted, other keys not held up.

use std::collections::HashMap;

use hookyard_messaging::Bus;
use hookyard_tests::receiver::Answer;
use serde_json::{Value, json};

use super::{consumer, patch};
use crate::pipeline::stage::{Stage, text};

fn numbers(stage: &Stage, path: &str) -> HashMap<String, Vec<i64>> {
    let mut by_key: HashMap<String, Vec<i64>> = HashMap::new();
    for got in stage.receiver.at(path) {
        let payload = got.json()["payload"].clone();
        by_key.entry(payload["k"].to_string()).or_default().push(payload["n"].as_i64().unwrap());
    }
    by_key
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_a_key_arrive_in_the_order_in_which_they_were_posted() {
    in_order(Bus::in_process()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_over_a_broker() {
    Box::pin(hookyard_tests::amqp::with_bus(in_order)).await;
}

async fn in_order(bus: Bus) {
    let stage = Stage::with(bus, |options, engine| {
        (options.gateways, engine.registries, engine.deliverers) = (2, 3, 3);
    })
    .await;
    consumer(&stage, "in", json!({"ordering_key": "payload.k"})).await;
    // Five keys, each posted one after the other, beside each other, over both gateways.
    let keys = (0..5).map(|key| {
        let client = stage.client.at(stage.system.gateways[key % 2].addr);
        async move {
            for n in 0..20 {
                let body = json!({"event_type": "order.created", "payload": {"k": key, "n": n}});
                client.post_json("/events", &body).await.expect(202);
            }
        }
    });
    futures_util::future::join_all(keys).await;
    // And a batch.
    let batch: Vec<Value> =
        (0..100).map(|n| json!({"event_type": "order.created", "payload": {"k": "batch", "n": n}})).collect();
    stage.client.post_json("/events/batch", &json!({"events": batch})).await.expect(202);
    stage.received("in", 200).await;
    let by_key = numbers(&stage, "in");
    assert_eq!(by_key.len(), 6);
    for (key, numbers) in by_key {
        let expected: Vec<i64> = (0..if key == "\"batch\"" { 100 } else { 20 }).collect();
        assert_eq!(numbers, expected, "{key}");
    }
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_fails_holds_up_itself_and_nobody_else() {
    let stage = Stage::open(Bus::in_process()).await;
    let id = consumer(&stage, "in", json!({"ordering_key": "payload.k"})).await;
    stage.receiver.script("in", [Answer::status(500)]);
    let post = async |k: Value, n: i64| stage.post("order.created", json!({"k": k, "n": n})).await;
    let first = post(json!("a"), 1).await;
    stage.tried(&first, &id, 1).await;
    let behind = post(json!("a"), 2).await;
    let last = post(json!("a"), 3).await;
    let other = post(json!("b"), 4).await;
    stage.ended(&other, &id, "delivered").await;
    // What has no key, or one that is none, waits for nobody.
    for k in [Value::Null, json!([1])] {
        let free = post(k, 5).await;
        stage.ended(&free, &id, "delivered").await;
    }
    for waiting in [&behind, &last] {
        let delivery = stage.delivery(waiting, &id).await;
        assert_eq!((&delivery["state"], &delivery["attempts"]), (&json!("pending"), &json!(0)));
        assert_eq!(delivery["next_attempt_at"], Value::Null, "it waits for the one before it");
    }
    stage.advance(6_100);
    stage.ended(&last, &id, "delivered").await;
    assert_eq!(numbers(&stage, "in")["\"a\""], [1, 1, 2, 3]);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_does_not_want_order_any_more_gets_what_waits() {
    let stage = Stage::open(Bus::in_process()).await;
    let id = consumer(&stage, "in", json!({"ordering_key": "payload.k"})).await;
    stage.receiver.script("in", [Answer::status(500)]);
    let first = stage.post("order.created", json!({"k": 1, "n": 1})).await;
    stage.tried(&first, &id, 1).await;
    let behind = stage.post("order.created", json!({"k": 1, "n": 2})).await;
    stage.delivery_until(&behind, &id, "it waits", |delivery| delivery["next_attempt_at"].is_null()).await;
    patch(&stage.client, &id, &json!({"ordering_key": null})).await.expect(200);
    stage.ended(&behind, &id, "delivered").await;
    assert_eq!(text(&stage.delivery(&first, &id).await["state"]), "pending");
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deliverer_that_dies_loses_no_line() {
    // Nobody hears the rings: everything is found by looking.
    let stage = Stage::with(Bus::in_process(), |_, engine| {
        engine.delivery_bus = Some(Bus::in_process());
    })
    .await;
    consumer(&stage, "in", json!({"ordering_key": "payload.k", "ttl_seconds": 600_000})).await;
    for n in 0..5 {
        stage.post("order.created", json!({"k": 1, "n": n})).await;
    }
    // Each was let go under a lease that nobody holds.
    for at in 1..=5 {
        while stage.receiver.count("in") < at {
            stage.advance(10_000);
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
    assert_eq!(numbers(&stage, "in")["1"], [0, 1, 2, 3, 4]);
    stage.close().await;
}
