//! What an owner can read and try out.

use std::time::Duration;

use hookyard_messaging::Bus;
use hookyard_tests::receiver::Answer;
use serde_json::{Value, json};

use super::stage::{Stage, text, time};

pub(super) async fn the_tries_of_a_delivery_can_be_read(bus: Bus) {
    let stage = Stage::open(bus).await;
    let long = Answer { body: format!("{}é", "x".repeat(1_023)), ..Answer::status(500) };
    let slow =
        Answer { body: "thanks \u{0}".to_owned(), ..Answer::status(201) }.after(Duration::from_millis(150));
    stage.receiver.script("read", [long, Answer { body: String::new(), ..Answer::status(502) }, slow]);
    let hook = stage.hook("read", json!({})).await;
    let other = stage.hook("other", json!({})).await;
    let begun = stage.system.clock.now();
    let event = stage.post("a.b", json!({})).await;
    for (number, wait) in [(1, 1), (2, 4)] {
        stage.tried(&event, &hook, number).await;
        stage.advance(wait * 1_000);
    }
    let delivery = stage.ended(&event, &hook, "delivered").await;
    let tries = delivery["tries"].as_array().unwrap();
    // Of the reply, 1 KiB is kept, which cuts the last letter in two.
    let kept = format!("{}\u{fffd}", "x".repeat(1_023));
    for (attempt, (number, status, reason, reply)) in tries.iter().zip([
        (1, 500, "http_500", json!(kept)),
        (2, 502, "http_502", json!(null)),
        (3, 201, "delivered", json!("thanks \u{0}")),
    ]) {
        let shown = json!([attempt["number"], attempt["status"], attempt["reason"], attempt["reply"]]);
        assert_eq!(shown, json!([number, status, reason, reply]));
        assert!(begun.timestamp_millis() <= time(&attempt["started_at"]).timestamp_millis());
    }
    assert!((150..5_000).contains(&tries[2]["latency_ms"].as_i64().unwrap()), "{}", tries[2]);
    assert!(
        tries[1]["latency_ms"].as_i64().unwrap() < 150 || tries[2]["latency_ms"].as_i64().unwrap() >= 150
    );
    stage.ended(&event, &other, "delivered").await;
    let shown = stage.client.get(&format!("/v1/events/{event}")).await.expect(200);
    assert_eq!(
        (&shown["state"], &shown["deliveries"]),
        (&json!("delivered"), &json!({"pending": 0, "delivered": 2, "dead": 0, "cancelled": 0}))
    );
    let page = stage.client.get(&format!("/v1/events/{event}/deliveries")).await.expect(200);
    let listed: Vec<&str> =
        page["data"].as_array().unwrap().iter().map(|one| text(&one["hook_id"])).collect();
    assert_eq!(listed, [other.as_str(), hook.as_str()], "newest hook first");
    stage.close().await;
}

pub(super) async fn a_test_goes_to_its_hook_alone(bus: Bus) {
    let stage = Stage::open(bus).await;
    let hook =
        stage.hook("tested", json!({"event_type": "order.created", "filter": {"payload.never": true}})).await;
    stage.hook("everything", json!({})).await;
    let queued = stage.client.post(&format!("/v1/hooks/{hook}/test"), "").await.expect(202);
    let event = text(&queued["event_id"]).to_owned();
    stage.ended(&event, &hook, "delivered").await;
    let got = stage.received("tested", 1).await.remove(0);
    assert_eq!((got.header("x-event-id"), got.header("x-attempt")), (event.as_str(), "1"));
    assert_eq!(got.json()["metadata"]["test"], true);
    assert_eq!(stage.in_state(&hook, "active").await["delivery_count"], 1);
    // A receiver that fails its test shows it.
    stage.answer("tested", 403);
    let queued = stage.client.post(&format!("/v1/hooks/{hook}/test"), "").await.expect(202);
    let delivery = stage.ended(text(&queued["event_id"]), &hook, "dead").await;
    assert_eq!(delivery["last_status"], 403);
    stage.let_everything_happen().await;
    let heard: Vec<Value> = stage.receiver.at("everything").iter().map(|one| one.json()).collect();
    assert!(heard.iter().all(|event| event["metadata"]["test"] != true), "{heard:?}");
    stage.close().await;
}

pub(super) async fn counters_are_exact(bus: Bus) {
    let stage = Stage::with(bus, |_, engine| (engine.registries, engine.deliverers) = (2, 2)).await;
    let failing = [404, 422, 400].repeat(10);
    stage.receiver.script("counted", failing.iter().map(|status| Answer::status(*status)));
    let hook = stage.hook("counted", json!({"event_type": "counted.one"})).await;
    let other = stage.hook("other", json!({"event_type": "counted.*"})).await;
    let batch: Vec<Value> =
        (0..100).map(|n| json!({"event_type": "counted.one", "payload": {"n": n}})).collect();
    for _ in 0..5 {
        let answer = stage.client.post_json("/events/batch", &json!({"events": batch})).await;
        assert_eq!(answer.status, 202, "{}", answer.text());
    }
    stage.counted(&hook, 470, 30).await;
    stage.counted(&other, 500, 0).await;
    stage.let_everything_happen().await;
    stage.counted(&hook, 470, 30).await;
    assert_eq!((stage.receiver.count("counted"), stage.receiver.count("other")), (500, 500));
    let dead =
        stage.client.get(&format!("/v1/deliveries?hook_id={hook}&state=dead&limit=100")).await.expect(200);
    assert_eq!(dead["data"].as_array().unwrap().len(), 30);
    stage.close().await;
}
