//! The pace of a consumer, over several deliverers; and events that are not sent any more when they come too late.

use std::time::{Duration, Instant};

use hookyard_domain::delivery::pace::{self, Taken};
use hookyard_messaging::Bus;
use hookyard_tests::{
    receiver::{Answer, Received},
    system::System,
};
use serde_json::json;

use super::{consumer, patch};
use crate::pipeline::stage::{Stage, time};

/// The most requests within any second.
fn most_in_a_second(got: &[Received]) -> usize {
    let mut at: Vec<Instant> = got.iter().map(|one| one.at).collect();
    at.sort_unstable();
    let within = |from: &Instant| {
        at.iter().filter(|one| *from <= **one && **one < *from + Duration::from_secs(1)).count()
    };
    at.iter().map(within).max().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn several_deliverers_together_keep_to_the_pace_and_nobody_else_waits() {
    together(Bus::in_process()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_over_a_broker() {
    Box::pin(hookyard_tests::amqp::with_bus(together)).await;
}

async fn together(bus: Bus) {
    let stage = Stage::with(bus, |_, engine| engine.deliverers = 3).await;
    consumer(&stage, "slow", json!({"rate_limit": 10})).await;
    consumer(&stage, "quick", json!({})).await;
    let started = Instant::now();
    for n in 0..35 {
        stage.post("order.created", json!({"n": n})).await;
    }
    stage.received("quick", 35).await;
    let posted = started.elapsed();
    let got = stage.received("slow", 35).await;
    // 35 slots of a tenth of a second; that requests arrive unevenly on a busy machine is not the pace's doing.
    let took = got.iter().map(|one| one.at).max().unwrap() - got.iter().map(|one| one.at).min().unwrap();
    assert!(Duration::from_millis(3_300) <= took, "{took:?}");
    assert!(took < Duration::from_secs(15), "{took:?}");
    assert!(posted < took + Duration::from_secs(2), "the others had to wait {posted:?}");
    let most = most_in_a_second(&got);
    assert!(most <= 12, "{most} in a second");
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pace_that_is_changed_counts_at_once() {
    let stage = Stage::open(Bus::in_process()).await;
    let id = consumer(&stage, "in", json!({"rate_limit": 1})).await;
    for n in 0..3 {
        stage.post("order.created", json!({"n": n})).await;
    }
    stage.received("in", 1).await;
    patch(&stage.client, &id, &json!({"rate_limit": null})).await.expect(200);
    for n in 3..40 {
        stage.post("order.created", json!({"n": n})).await;
    }
    let started = Instant::now();
    stage.received("in", 40).await;
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    stage.close().await;
}

#[tokio::test]
async fn a_slot_is_given_away_once_and_no_further_ahead_than_a_second() {
    let system = System::start().await;
    let (now, id) = (system.clock.now(), hookyard_domain::id::SubscriptionId::new(system.clock.now()));
    let step = pace::step(10);
    let mut takers = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let db = system.db.clone();
        takers.spawn(async move { db.once(move |conn| pace::take(conn, id, 10, 1, now)).await.unwrap() });
    }
    let mut given = Vec::new();
    while let Some(taken) = takers.join_next().await {
        match taken.unwrap() {
            Taken::From(at) => given.push(at),
            Taken::Until(until) => assert_eq!(until, now + pace::AHEAD),
        }
    }
    given.sort_unstable();
    assert_eq!(given, (0..10).map(|n| now + step * n).collect::<Vec<_>>());
    // Time that nobody used is lost, not saved up.
    let later = now + pace::AHEAD * 60;
    let taken = system.db.once(move |conn| pace::take(conn, id, 10, 3, later)).await.unwrap();
    assert_eq!(taken, Taken::From(later));
    let taken = system.db.once(move |conn| pace::take(conn, id, 10, 1, later)).await.unwrap();
    assert_eq!(taken, Taken::From(later + step * 3));
    system.db.once(move |conn| pace::forget_old(conn, later + pace::AHEAD * 7_200)).await.unwrap();
    let taken = system.db.once(move |conn| pace::take(conn, id, 10, 1, now)).await.unwrap();
    assert_eq!(taken, Taken::From(now), "nothing is known of it any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_has_not_arrived_in_time_is_not_sent_any_more() {
    let stage = Stage::open(Bus::in_process()).await;
    let id = consumer(&stage, "short", json!({"ttl_seconds": 60})).await;
    let other = consumer(&stage, "long", json!({})).await;
    for path in ["short", "long"] {
        stage.receiver.answer(path, Answer::status(500));
    }
    let accepted = stage.system.clock.now();
    let event = stage.post("order.created", json!({})).await;
    for id in [&id, &other] {
        stage.tried(&event, id, 1).await;
    }
    stage.advance(6_100);
    let waiting = stage.tried(&event, &id, 2).await;
    let end = time(&waiting["next_attempt_at"]) - accepted;
    assert!((59..=62).contains(&end.num_seconds()), "the next try would be in five minutes: {end}");
    stage.tried(&event, &other, 2).await;
    stage.advance(56_000);
    let expired = stage.ended(&event, &id, "cancelled").await;
    assert_eq!((&expired["last_reason"], &expired["attempts"]), (&json!("expired"), &json!(2)));
    stage.advance(360_000);
    stage.tried(&event, &other, 3).await;
    assert_eq!(stage.receiver.count("short"), 2);
    // One that comes in time arrives.
    stage.receiver.answer("short", Answer::status(200));
    let event = stage.post("order.created", json!({})).await;
    stage.ended(&event, &id, "delivered").await;
    stage.close().await;
}
