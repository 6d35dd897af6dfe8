//! Order by a key: events with the same key one after the other as they were posted, other keys not held up.

use std::{collections::HashMap, time::Duration};

use chrono::TimeDelta;
use diesel::{QueryableByName, RunQueryDsl, sql_query, sql_types::BigInt};
use hookyard_domain::{
    credential::Scope,
    db::Conn,
    delivery::{NewDelivery, Profile, ordered, store},
    event::wire_time,
    id::{ClaimId, DeliveryId, EventId, SubscriptionId},
};
use hookyard_messaging::Bus;
use hookyard_tests::{receiver::Answer, system::unlimited};
use serde_json::{Value, json};

use super::{consumer, patch};
use crate::pipeline::stage::{Stage, text};

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

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
async fn the_same_key_at_another_consumer_is_another_line() {
    let stage = Stage::open(Bus::in_process()).await;
    let neighbour = stage.system.tenant("Neighbour").await;
    let key = stage.system.key_of(neighbour, &[Scope::Admin], unlimited()).await.1;
    let neighbour = stage.system.anonymous().with_key(&key);
    let order = json!({"ordering_key": "payload.k"});
    let failing = consumer(&stage, "failing", order.clone()).await;
    consumer(&stage, "beside", order.clone()).await;
    let mut foreign = order;
    foreign["url"] = json!(stage.receiver.url("foreign"));
    super::made(&neighbour, foreign).await;
    stage.receiver.script("failing", [Answer::status(500)]);
    let first = stage.post("order.created", json!({"k": 1, "n": 1})).await;
    stage.tried(&first, &failing, 1).await;
    let behind = stage.post("order.created", json!({"k": 1, "n": 2})).await;
    for n in [1, 2] {
        crate::pipeline::stage::post(&neighbour, "order.created", json!({"k": 1, "n": n})).await;
    }
    for path in ["beside", "foreign"] {
        stage.received(path, 2).await;
        assert_eq!(numbers(&stage, path)["1"], [1, 2], "{path}");
    }
    stage
        .delivery_until(&behind, &failing, "it waits", |delivery| delivery["next_attempt_at"].is_null())
        .await;
    let lines = stage
        .system
        .db
        .once(|conn| {
            let sql = "SELECT count(DISTINCT ordering) AS count FROM deliveries";
            Ok(sql_query(sql).get_result::<Count>(conn)?.count)
        })
        .await;
    assert_eq!(lines.unwrap(), 3);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_event_that_comes_late_waits_for_the_one_under_way() {
    let stage = Stage::open(Bus::in_process()).await;
    let id = consumer(&stage, "in", json!({"ordering_key": "payload.k"})).await;
    let due = stage.system.clock.now() + TimeDelta::hours(1);
    let later =
        json!({"event_type": "order.created", "payload": {"k": 1, "n": 1}, "deliver_at": wire_time(due)});
    let scheduled = stage.client.post_json("/events", &later).await.expect(202);
    let scheduled = text(&scheduled["event_id"]).to_owned();
    stage.advance_beyond(due - TimeDelta::seconds(60));
    stage.receiver.script("in", [Answer::status(500), Answer::status(500)]);
    let under_way = stage.post("order.created", json!({"k": 1, "n": 2})).await;
    stage.tried(&under_way, &id, 1).await;
    let behind = stage.post("order.created", json!({"k": 1, "n": 3})).await;
    stage.advance(6_100);
    stage.tried(&under_way, &id, 2).await;
    // Due before the third try of the other, which is some minutes away.
    stage.advance_beyond(due);
    let waits = |delivery: &Value| delivery["next_attempt_at"].is_null();
    stage.delivery_until(&scheduled, &id, "it waits", waits).await;
    // The walk has looked at the line meanwhile.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    stage.delivery_until(&scheduled, &id, "it still waits", waits).await;
    assert_eq!(stage.receiver.count("in"), 2);
    stage.advance(400_000);
    for event in [&under_way, &scheduled, &behind] {
        stage.ended(event, &id, "delivered").await;
    }
    assert_eq!(numbers(&stage, "in")["1"], [2, 2, 2, 1, 3]);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_that_let_different_deliveries_of_a_line_go_at_once_one_does() {
    let stage = Stage::still().await;
    let (now, tenant) = (stage.system.clock.now(), stage.system.tenant);
    let lease = now + TimeDelta::seconds(30);
    let subscription = SubscriptionId::new(now);
    let line = (subscription, uuid::Builder::from_custom_bytes([7; 16]).into_uuid());
    let new = move |at| {
        let id = DeliveryId { event: EventId::new(at), subscription };
        NewDelivery { ordering: Some(line.1), ..NewDelivery::plain(id, tenant, Profile::Consumer) }
    };
    let (older, newer) = (new(now - TimeDelta::milliseconds(5)), new(now));
    let write = async |new: NewDelivery| {
        let insert = move |conn: &mut Conn| store::insert(conn, &[new], ClaimId::new(now), now, lease);
        stage.system.db.once(insert).await.unwrap();
    };
    let go = move |conn: &mut Conn| ordered::release_any(conn, &[line], ClaimId::new(now), now, lease);
    let newer_id = newer.id;
    write(newer).await;
    let (gone, wait) = tokio::sync::oneshot::channel();
    let db = stage.system.db.clone();
    let first = tokio::spawn(async move {
        db.run(move |conn| {
            let released = go(conn)?;
            gone.send(()).unwrap();
            std::thread::sleep(Duration::from_millis(500));
            Ok(released)
        })
        .await
    });
    wait.await.unwrap();
    // Not committed yet: that the newer one goes is not to be seen.
    write(older).await;
    let second = stage.system.db.once(go).await.unwrap();
    assert_eq!(first.await.unwrap().unwrap().ids, [newer_id]);
    assert_eq!((second.ids, second.blocked), (Vec::new(), Vec::new()));
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
