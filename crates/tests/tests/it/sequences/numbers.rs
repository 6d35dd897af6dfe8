//! Who gets a number, and that none is given twice or left out.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use chrono::{DateTime, TimeDelta, Utc};
use diesel::{
    QueryableByName, RunQueryDsl, sql_query,
    sql_types::{BigInt, Uuid},
};
use futures_util::future::join_all;
use hookyard_domain::{
    db::Conn,
    delivery::{
        NewDelivery, Profile,
        fan_out::{self, Hold},
        sequence::RESERVED,
    },
    event::store::overdue_groups,
    id::{ClaimId, DeliveryId, EventId, SubscriptionId},
};
use hookyard_messaging::Bus;
use serde_json::{Value, json};

use super::{crash, execute, gaps, numbers};
use crate::pipeline::stage::{Stage, delivery_id, text, until};

#[derive(Debug, PartialEq, Eq, QueryableByName)]
struct Counter {
    #[diesel(sql_type = BigInt)]
    last: i64,
    #[diesel(sql_type = BigInt)]
    reserved: i64,
}

async fn counter(stage: &Stage, hook: &str) -> Counter {
    let hook: SubscriptionId = hook.parse().unwrap();
    let read = move |conn: &mut Conn| {
        Ok(sql_query("SELECT last, reserved FROM subscription_sequences WHERE subscription_id = $1")
            .bind::<Uuid, _>(hook)
            .get_result(conn)?)
    };
    stage.system.db.once(read).await.unwrap()
}

async fn consumer(stage: &Stage, path: &str, more: Value) -> String {
    let mut body = json!({"url": stage.receiver.url(path), "eventTypes": ["order.*"]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    text(&stage.client.post_json("/webhooks", &body).await.expect(201)["id"]).to_owned()
}

fn hold(now: DateTime<Utc>) -> Hold {
    Hold { claim: ClaimId::new(now), now, until: now + TimeDelta::seconds(30) }
}

fn up_to(last: i64) -> Vec<Option<i64>> {
    (1..=last).map(Some).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_hook_and_consumer_counts_for_itself_whatever_races() {
    let stage = Stage::with(Bus::in_process(), |options, engine| {
        options.gateways = 2;
        (engine.registries, engine.deliverers) = (3, 2);
    })
    .await;
    let mut all = Vec::new();
    for at in 0..8 {
        all.push((
            format!("all{at}"),
            stage.hook(&format!("all{at}"), json!({"event_type": "order.*"})).await,
        ));
    }
    let plain = consumer(&stage, "plain", json!({})).await;
    let ordered =
        consumer(&stage, "ordered", json!({"ordering_key": "payload.k", "ttl_seconds": 600_000})).await;
    all.extend([("plain".to_owned(), plain), ("ordered".to_owned(), ordered)]);
    let rare = stage.hook("rare", json!({"event_type": "order.rare"})).await;
    // Whoever reads on behind the last number that it has seen misses none.
    let done = Arc::new(AtomicBool::new(false));
    let reader = {
        let (db, done) = (stage.system.db.clone(), Arc::clone(&done));
        let hook: SubscriptionId = all[0].1.parse().unwrap();
        tokio::spawn(async move {
            let mut seen = 0_i64;
            loop {
                let last_look = done.load(Ordering::Relaxed);
                let read = move |conn: &mut Conn| {
                    let rows: Vec<super::Number> = sql_query(
                        "SELECT sequence FROM deliveries WHERE subscription_id = $1 AND sequence > $2 ORDER BY sequence",
                    )
                    .bind::<Uuid, _>(hook)
                    .bind::<BigInt, _>(seen)
                    .load(conn)?;
                    Ok(rows)
                };
                for row in db.once(read).await.unwrap() {
                    assert_eq!(row.sequence, Some(seen + 1), "a number is seen before a smaller one");
                    seen += 1;
                }
                if last_look {
                    return seen;
                }
            }
        })
    };
    let other = stage.client.at(stage.system.gateways[1].addr);
    let poster = async |at: usize| {
        let client = if at.is_multiple_of(2) { &stage.client } else { &other };
        for n in 0..20 {
            let event_type = if n % 10 == 0 { "order.rare" } else { "order.created" };
            crate::pipeline::stage::post(client, event_type, json!({"k": n % 3, "n": n})).await;
        }
    };
    join_all((0..8).map(poster)).await;
    for (path, hook) in &all {
        let got = stage.received(path, 160).await;
        let mut sent: Vec<i64> =
            got.iter().map(|one| one.header("x-hookyard-sequence").parse().unwrap()).collect();
        sent.sort_unstable();
        assert_eq!(sent, (1..=160).collect::<Vec<i64>>(), "at /{path}");
        assert_eq!(numbers(&stage, hook).await, up_to(160), "of /{path}");
    }
    stage.received("rare", 16).await;
    assert_eq!(numbers(&stage, &rare).await, up_to(16));
    done.store(true, Ordering::Relaxed);
    assert_eq!(reader.await.unwrap(), 160);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn within_a_commit_numbers_go_by_the_events_and_the_same_events_are_numbered_once() {
    let stage = Stage::still().await;
    let hook = stage.hook("in", json!({})).await;
    let batch: Vec<Value> =
        (0..100).map(|n| json!({"event_type": "order.created", "payload": {"n": n}})).collect();
    let posted = stage.client.post_json("/events/batch", &json!({"events": batch})).await.expect(202);
    let events: Vec<EventId> = posted["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| text(&one["event_id"]).parse().unwrap())
        .collect();
    let (tenant, now) = (stage.system.tenant, stage.system.clock.now());
    let subscription: SubscriptionId = hook.parse().unwrap();
    let groups = stage
        .system
        .db
        .once(move |conn| overdue_groups(conn, now + TimeDelta::minutes(1), 10))
        .await
        .unwrap();
    assert_eq!(groups.len(), 1);
    // In any order, and by many at once.
    let new = |event: &EventId| {
        let id = DeliveryId { event: *event, subscription };
        (groups[0], NewDelivery::plain(id, tenant, Profile::Hook))
    };
    let wanted: Vec<_> = events.iter().rev().map(new).collect();
    let fan_out = async |_| {
        let (groups, wanted) = (groups.clone(), wanted.clone());
        let work = move |conn: &mut Conn| fan_out::take(conn, &groups, &wanted, &[], hold(now));
        stage.system.db.once(work).await.unwrap().len()
    };
    let taken: usize = join_all((0..4).map(fan_out)).await.into_iter().sum();
    assert_eq!(taken, 1, "one has the group");
    for (at, event) in events.iter().enumerate() {
        let shown = stage.delivery(&event.to_string(), &hook).await;
        assert_eq!(shown["sequence"], json!(at + 1), "{shown}");
    }
    assert_eq!(counter(&stage, &hook).await, Counter { last: 100, reserved: 100 + RESERVED });
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_again_before_its_fan_out_has_one_number() {
    let stage = Stage::still().await;
    let hook = stage.hook("in", json!({})).await;
    let mut events = Vec::new();
    for n in 0..3 {
        events.push(stage.post("order.created", json!({"n": n})).await);
    }
    // The second one is asked for before anybody has fanned it out.
    let replay = json!({"event_id": events[1]});
    let answer = stage.client.post_json(&format!("/v1/hooks/{hook}/replay"), &replay).await.expect(202);
    assert_eq!(answer["queued"], 1);
    let (tenant, now) = (stage.system.tenant, stage.system.clock.now());
    let subscription: SubscriptionId = hook.parse().unwrap();
    let ids: Vec<EventId> = events.iter().map(|event| event.parse().unwrap()).collect();
    let work = move |conn: &mut Conn| {
        let groups = overdue_groups(conn, now + TimeDelta::minutes(1), 10)?;
        // All of them in whichever of the groups: what counts is that they are wanted.
        let wanted: Vec<_> = ids
            .iter()
            .map(|event| {
                let id = DeliveryId { event: *event, subscription };
                (groups[0], NewDelivery::plain(id, tenant, Profile::Hook))
            })
            .collect();
        fan_out::take(conn, &groups, &wanted, &[], hold(now))
    };
    stage.system.db.once(work).await.unwrap();
    let mut given = Vec::new();
    for event in [&events[1], &events[0], &events[2]] {
        given.push(stage.delivery(event, &hook).await["sequence"].clone());
    }
    assert_eq!(given, [1, 2, 3]);
    assert_eq!(counter(&stage, &hook).await.last, 3, "no number is spent on what is there");
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_again_keeps_its_number_and_what_is_new_gets_one() {
    let stage = Stage::open(Bus::in_process()).await;
    let early = stage.post("past.event", json!({})).await;
    stage.goes_to(&early).await;
    let hook = stage.hook("in", json!({})).await;
    let sequence = |delivery: &Value| delivery["sequence"].as_i64();
    let first = stage.post("order.created", json!({})).await;
    assert_eq!(sequence(&stage.ended(&first, &hook, "delivered").await), Some(1));
    // A test, and an event from before the hook.
    let test = stage.client.post(&format!("/v1/hooks/{hook}/test"), "").await.expect(202);
    assert_eq!(sequence(&stage.ended(text(&test["event_id"]), &hook, "delivered").await), Some(2));
    let replay = json!({"event_id": early});
    stage.client.post_json(&format!("/v1/hooks/{hook}/replay"), &replay).await.expect(202);
    assert_eq!(sequence(&stage.ended(&early, &hook, "delivered").await), Some(3));
    // Again, in each way there is.
    let retry = format!("/v1/deliveries/{}/retry", delivery_id(&first, &hook));
    stage.client.post(&retry, "").await.expect(202);
    stage.tried(&first, &hook, 2).await;
    stage
        .client
        .post_json(&format!("/v1/hooks/{hook}/replay"), &json!({"event_id": first}))
        .await
        .expect(202);
    assert_eq!(sequence(&stage.tried(&first, &hook, 3).await), Some(1));
    let got = stage.received("in", 5).await;
    let sent: Vec<&str> = got.iter().map(|one| one.header("x-hookyard-sequence")).collect();
    assert_eq!(sent, ["1", "2", "3", "1", "1"]);
    // A good-bye is no event that was subscribed to.
    stage.client.post(&format!("/v1/hooks/{hook}/disable"), "").await.expect(200);
    let farewell = until("the good-bye", async || {
        let all = stage.receiver.at("in");
        all.into_iter().find(|one| one.method == "DELETE").ok_or("none")
    })
    .await;
    assert!(!farewell.headers.contains_key("x-hookyard-sequence"), "{:?}", farewell.headers);
    assert_eq!(counter(&stage, &hook).await.last, 3);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_numbers_go_on_behind_those_that_were_reserved() {
    let stage = Stage::open(Bus::in_process()).await;
    let hook = stage.hook("in", json!({})).await;
    for n in 0..3 {
        let event = stage.post("order.created", json!({"n": n})).await;
        stage.ended(&event, &hook, "delivered").await;
    }
    assert_eq!(counter(&stage, &hook).await, Counter { last: 3, reserved: 1 + RESERVED });
    // What the crash takes back: the counter of the last moment. Receivers have seen 3.
    execute(&stage, "UPDATE subscription_sequences SET last = 1").await;
    execute(&stage, "DELETE FROM deliveries WHERE sequence > 1").await;
    crash(&stage).await;
    let void = json!([{
        "sequence": 2, "through": 1 + RESERVED, "state": "void", "reason": null, "delivery_id": null, "event_id": null,
        "event_type": null, "attempts": null, "next_attempt_at": null
    }]);
    // That is known before the next number is given.
    let before = gaps(&stage, &hook, "").await;
    assert_eq!((&before["last"], &before["data"]), (&json!(1 + RESERVED), &void));
    let event = stage.post("order.created", json!({"n": 4})).await;
    assert_eq!(stage.ended(&event, &hook, "delivered").await["sequence"], 2 + RESERVED);
    assert_eq!(stage.received("in", 4).await[3].header("x-hookyard-sequence"), (2 + RESERVED).to_string());
    assert_eq!(counter(&stage, &hook).await, Counter { last: 2 + RESERVED, reserved: 2 + 2 * RESERVED });
    let after = gaps(&stage, &hook, "").await;
    assert_eq!((&after["last"], &after["data"]), (&json!(2 + RESERVED), &void));
    // A hook that is new after the crash begins at 1, and a second crash leaves out no more.
    let late = stage.hook("late", json!({"event_type": "order.late"})).await;
    let event = stage.post("order.late", json!({})).await;
    assert_eq!(stage.ended(&event, &late, "delivered").await["sequence"], 1);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_are_reserved_again_when_the_last_of_them_is_given() {
    let stage = Stage::open(Bus::in_process()).await;
    let hook = stage.hook("in", json!({})).await;
    let send = async || {
        let event = stage.post("order.created", json!({})).await;
        stage.ended(&event, &hook, "delivered").await;
        counter(&stage, &hook).await
    };
    assert_eq!(send().await, Counter { last: 1, reserved: 1 + RESERVED });
    execute(&stage, "UPDATE subscription_sequences SET last = reserved - 1").await;
    assert_eq!(send().await, Counter { last: 1 + RESERVED, reserved: 1 + RESERVED });
    assert_eq!(send().await, Counter { last: 2 + RESERVED, reserved: 2 + 2 * RESERVED });
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_for_very_many_hooks_reaches_each_of_them_once() {
    let stage = Stage::open(Bus::in_process()).await;
    let mut hooks = Vec::new();
    for at in 0..600 {
        hooks.push(stage.hook(&format!("many{at}"), json!({"event_type": "order.many"})).await);
    }
    let alone = stage.hook("alone", json!({"event_type": "order.alone"})).await;
    stage.post("order.many", json!({})).await;
    let event = stage.post("order.alone", json!({})).await;
    stage.ended(&event, &alone, "delivered").await;
    for at in 0..600 {
        let got = stage.received(&format!("many{at}"), 1).await;
        assert_eq!((got.len(), got[0].header("x-hookyard-sequence")), (1, "1"), "many{at}");
    }
    // A second one: every hook goes on at its own counter.
    stage.post("order.many", json!({})).await;
    for at in 0..600 {
        let got = stage.received(&format!("many{at}"), 2).await;
        assert_eq!(got[1].header("x-hookyard-sequence"), "2", "many{at}");
    }
    for hook in hooks {
        assert_eq!(numbers(&stage, &hook).await, up_to(2));
    }
    stage.close().await;
}
