//! Events that are sent again, and what must not be sent twice.

use chrono::TimeDelta;
use hookyard_messaging::Bus;
use serde_json::{Value, json};

use super::stage::{Stage, delivery_id};

async fn replay(stage: &Stage, hook: &str, body: Value) -> Value {
    stage.client.post_json(&format!("/v1/hooks/{hook}/replay"), &body).await.expect(202)
}

pub(super) async fn what_was_missed_is_replayed_and_nothing_in_flight_is_doubled(bus: Bus) {
    let stage = Stage::open(bus).await;
    let since = (stage.system.clock.now() - TimeDelta::seconds(1)).to_rfc3339();
    let early = stage.hook("early", json!({"event_type": "past.*"})).await;
    let mut events = Vec::new();
    for number in 0..20 {
        events.push(stage.post("past.event", json!({"n": number})).await);
    }
    for event in &events {
        stage.ended(event, &early, "delivered").await;
    }
    // One that comes late, whose filter lets half of them through.
    let late =
        stage.hook("late", json!({"event_type": "past.*", "filter": {"payload.n": {"$lt": 10}}})).await;
    stage.receiver.hold("late");
    stage.advance(1_000);
    let first = replay(&stage, &late, json!({"since": since})).await;
    assert_eq!((&first["queued"], &first["examined"]), (&json!(10), &json!(20)));
    stage.received("late", 10).await;
    // Under way: neither the range, nor all of it, nor a single event goes a second time.
    for body in
        [json!({"since": since}), json!({"since": since, "which": "all"}), json!({"event_id": events[3]})]
    {
        assert_eq!(replay(&stage, &late, body.clone()).await["queued"], 0, "{body}");
    }
    let retry =
        stage.client.post(&format!("/v1/deliveries/{}/retry", delivery_id(&events[3], &late)), "").await;
    assert_eq!(retry.error(), (409, "DELIVERY_PENDING".to_owned()));
    stage.receiver.release("late");
    for event in &events[..10] {
        stage.ended(event, &late, "delivered").await;
    }
    assert_eq!(
        replay(&stage, &late, json!({"since": since})).await["queued"],
        0,
        "nothing is missed any more"
    );
    stage.let_everything_happen().await;
    assert_eq!((stage.receiver.count("late"), stage.receiver.count("early")), (10, 20));
    stage.close().await;
}

pub(super) async fn a_replay_of_everything_sends_what_arrived_before(bus: Bus) {
    let stage = Stage::open(bus).await;
    let since = (stage.system.clock.now() - TimeDelta::seconds(1)).to_rfc3339();
    let hook = stage.hook("again", json!({"event_type": "past.*"})).await;
    let mut events = Vec::new();
    for status in [200, 200, 404] {
        stage.answer("again", status);
        let event = stage.post("past.event", json!({})).await;
        stage.tried(&event, &hook, 1).await;
        events.push(event);
    }
    stage.answer("again", 200);
    // One event, whatever became of it.
    assert_eq!(replay(&stage, &hook, json!({"event_id": events[0]})).await["queued"], 1);
    let twice = stage.tried(&events[0], &hook, 2).await;
    assert_eq!(twice["state"], "delivered");
    let got = stage.received("again", 4).await;
    let (first, second) = (&got[0], &got[3]);
    assert_eq!((first.header("x-attempt"), second.header("x-attempt")), ("1", "2"));
    for name in ["webhook-id", "x-event-id", "x-delivery-id"] {
        assert_eq!(first.header(name), second.header(name), "a receiver knows what it has seen by {name}");
    }
    assert_eq!(first.body, second.body);
    stage.advance(1_000);
    // What was missed: the dead letter. Everything: all three.
    assert_eq!(replay(&stage, &hook, json!({"since": since})).await["queued"], 1);
    stage.ended(&events[2], &hook, "delivered").await;
    let all = json!({"since": since, "which": "all"});
    let dry = json!({"since": since, "which": "all", "dry_run": true});
    assert_eq!(replay(&stage, &hook, dry).await["queued"], 3);
    assert_eq!(replay(&stage, &hook, all).await["queued"], 3);
    for (event, attempts) in events.iter().zip([3, 2, 3]) {
        stage.tried(event, &hook, attempts).await;
    }
    stage.let_everything_happen().await;
    assert_eq!(stage.receiver.count("again"), 3 + 1 + 1 + 3);
    stage.close().await;
}
