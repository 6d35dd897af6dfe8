//! Events that are posted for later.

use chrono::{DateTime, TimeDelta, Utc};
use hookyard_domain::{db::partition, event::wire_time};
use hookyard_messaging::Bus;
use serde_json::{Value, json};

use super::consumer;
use crate::pipeline::stage::{Stage, text, until};

fn event(n: i64, at: DateTime<Utc>) -> Value {
    json!({"event_type": "order.created", "payload": {"n": n}, "deliver_at": wire_time(at)})
}

async fn post(stage: &Stage, body: &Value) -> String {
    text(&stage.client.post_json("/events", body).await.expect(202)["event_id"]).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_accepted_at_once_and_delivered_when_it_is_due() {
    let stage = Stage::open(Bus::in_process()).await;
    let early = consumer(&stage, "early", json!({})).await;
    let gone = consumer(&stage, "gone", json!({})).await;
    let due = stage.system.clock.now() + TimeDelta::hours(2);
    let scheduled = post(&stage, &event(1, due)).await;
    let shown = stage.client.get(&format!("/v1/events/{scheduled}")).await.expect(200);
    assert_eq!(
        (&shown["state"], &shown["metadata"]["deliver_at"]),
        (&json!("accepted"), &json!(wire_time(due)))
    );
    let undelivered = stage.client.get("/v1/events?state=undelivered").await.expect(200);
    assert_eq!(undelivered["data"][0]["id"], json!(scheduled));
    // Whoever is subscribed when it is due gets it.
    stage.client.delete(&format!("/webhooks/{gone}")).await.expect(200);
    let late = consumer(&stage, "late", json!({})).await;
    let now = post(&stage, &json!({"event_type": "order.created", "payload": {"n": 2}})).await;
    for id in [&early, &late] {
        stage.ended(&now, id, "delivered").await;
    }
    stage.advance_beyond(due - TimeDelta::minutes(1));
    let later = post(&stage, &json!({"event_type": "order.created", "payload": {"n": 3}})).await;
    for id in [&early, &late] {
        stage.ended(&later, id, "delivered").await;
    }
    let shown = stage.client.get(&format!("/v1/events/{scheduled}")).await.expect(200);
    assert_eq!(shown["state"], "accepted", "not a minute before");
    stage.advance_beyond(due);
    for id in [&early, &late] {
        stage.ended(&scheduled, id, "delivered").await;
    }
    assert_eq!(stage.receiver.count("gone"), 0);
    assert_eq!(stage.received("early", 3).await[2].json()["payload"]["n"], 1);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_batches_and_with_keys_each_event_has_its_own_time() {
    let stage = Stage::open(Bus::in_process()).await;
    consumer(&stage, "in", json!({})).await;
    let due = stage.system.clock.now() + TimeDelta::hours(1);
    let now = json!({"event_type": "order.created", "payload": {"n": 0}});
    let batch = json!({"events": [event(1, due), now, event(2, due + TimeDelta::hours(1)), event(9, due + TimeDelta::days(8))]});
    let request = || {
        stage
            .client
            .request("POST", "/events/batch")
            .header("idempotency-key", "k")
            .json(batch.to_string())
            .send()
    };
    let first = request().await.expect(202);
    assert_eq!((&first["accepted"], &first["rejected"]), (&json!(3), &json!(1)));
    assert_eq!(first["results"][3]["details"]["field"], "deliver_at");
    assert_eq!(request().await.expect(202), first, "the key makes it one batch");
    stage
        .client
        .post_json("/events/batch", &json!({"events": [event(3, due), event(4, due)]}))
        .await
        .expect(202);
    let got = async |count: usize| {
        let mut numbers: Vec<i64> = stage
            .received("in", count)
            .await
            .iter()
            .map(|got| got.json()["payload"]["n"].as_i64().unwrap())
            .collect();
        numbers.sort_unstable();
        // What is under way when the time jumps beyond its lease is sent again.
        until("nothing is under way", async || {
            let page = stage.client.get("/v1/events?state=pending").await.expect(200);
            if page["data"].as_array().unwrap().is_empty() { Ok(()) } else { Err(page) }
        })
        .await;
        numbers
    };
    assert_eq!(got(1).await, [0]);
    stage.advance_beyond(due);
    assert_eq!(got(4).await, [0, 1, 3, 4]);
    stage.advance_beyond(due + TimeDelta::hours(1));
    assert_eq!(got(5).await, [0, 1, 2, 3, 4]);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_lies_within_a_week_and_a_time_that_is_over_is_now() {
    let stage = Stage::open(Bus::in_process()).await;
    let id = consumer(&stage, "in", json!({"ttl_seconds": 60})).await;
    let now = stage.system.clock.now();
    for (at, good) in [
        (now + TimeDelta::days(7) - TimeDelta::seconds(30), true),
        (now + TimeDelta::days(7) + TimeDelta::seconds(30), false),
        (now - TimeDelta::days(1), true),
    ] {
        let reply = stage.client.post_json("/events", &event(1, at)).await;
        if good {
            reply.expect(202);
        } else {
            assert_eq!(reply.error(), (422, "INVALID_EVENT".to_owned()), "{at}");
            assert_eq!(reply.json()["details"]["field"], "deliver_at");
        }
    }
    stage.received("in", 1).await;
    for bad in ["tomorrow", "2026-11-26", ""] {
        let body = json!({"event_type": "a.b", "payload": {}, "deliver_at": bad});
        assert_eq!(stage.client.post_json("/events", &body).await.error().0, 422, "{bad}");
    }
    // What a consumer keeps an event for begins when it is due.
    let due = now + TimeDelta::hours(3);
    let scheduled = post(&stage, &event(2, due)).await;
    stage.advance_beyond(due);
    stage.ended(&scheduled, &id, "delivered").await;
    until("nothing is put down for later but the one in a week", async || {
        let page = stage.client.get("/v1/events?state=accepted").await.expect(200);
        if page["data"].as_array().unwrap().len() == 1 { Ok(()) } else { Err(page) }
    })
    .await;
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_outlives_its_day_until_it_is_due_and_as_long_as_others_from_then_on() {
    let stage = Stage::open(Bus::in_process()).await;
    let id = consumer(&stage, "in", json!({})).await;
    let accepted = stage.system.clock.now();
    let due = accepted + TimeDelta::days(5);
    let scheduled = post(&stage, &event(1, due)).await;
    let partition = |at: DateTime<Utc>| format!("events_{}", at.format("%Y%m%d"));
    let dropped = async |now: DateTime<Utc>| {
        stage.system.db.once(move |conn| partition::drop_older(conn, now, 1)).await.unwrap()
    };
    // Yesterday's goes, today's has somebody who waits.
    let gone = dropped(due - TimeDelta::days(1)).await;
    assert!(gone.contains(&partition(accepted - TimeDelta::days(1))), "{gone:?}");
    assert!(gone.contains(&partition(accepted + TimeDelta::days(1))), "{gone:?}");
    assert!(!gone.contains(&partition(accepted)), "{gone:?}");
    stage.advance_beyond(due);
    stage.ended(&scheduled, &id, "delivered").await;
    assert_eq!(stage.received("in", 1).await[0].json()["payload"]["n"], 1);
    let gone = dropped(due + TimeDelta::days(1)).await;
    assert!(!gone.contains(&partition(accepted)), "{gone:?}");
    stage.client.get(&format!("/v1/events/{scheduled}")).await.expect(200);
    let gone = dropped(due + TimeDelta::days(2)).await;
    for table in ["events", "deliveries", "delivery_bodies", "attempts"] {
        assert!(gone.contains(&format!("{table}_{}", accepted.format("%Y%m%d"))), "{gone:?}");
    }
    stage.close().await;
}
