//! Nobody waits for somebody else's receiver (invariant 6).

use std::time::{Duration, Instant};

use chrono::TimeDelta;
use hookyard_delivery::DestinationLimit;
use hookyard_domain::{credential::Scope, id::SubscriptionId, subscription::spread};
use hookyard_messaging::{Bus, PARTITIONS};
use hookyard_tests::{http::Client, processes::free_port, receiver::Answer, system::unlimited};
use serde_json::json;

use super::stage::{Stage, flood, post, subscribe, until};
use crate::retention::number;

/// Another tenant's client.
async fn neighbour(stage: &Stage) -> Client {
    let tenant = stage.system.tenant("Neighbour").await;
    let key = stage.system.key_of(tenant, &[Scope::Admin], unlimited()).await.1;
    stage.system.anonymous().with_key(&key)
}

pub(super) async fn an_endpoint_gets_no_more_at_once_than_its_cap(bus: Bus) {
    let stage = Stage::with(bus, |_, engine| engine.delivery.endpoint_in_flight = 3).await;
    stage.hook("capped", json!({})).await;
    stage.hook("free", json!({})).await;
    stage.receiver.hold("capped");
    flood(&stage.client, "a.b", 3).await;
    stage.received("capped", 3).await;
    flood(&stage.client, "a.b", 1).await;
    // The fourth has long arrived where there is room.
    stage.received("free", 4).await;
    assert_eq!((stage.receiver.count("capped"), stage.receiver.most_in_flight("capped")), (3, 3));
    stage.receiver.release("capped");
    stage.received("capped", 4).await;
    stage.receiver.answer("capped", Answer::status(200).after(Duration::from_millis(5)));
    flood(&stage.client, "a.b", 100).await;
    stage.received("capped", 104).await;
    assert_eq!(stage.receiver.most_in_flight("capped"), 3);
    stage.close().await;
}

/// How long events of a type took to `/path`, at the 95th percentile.
async fn latency(stage: &Stage, client: &Client, event_type: &str, path: &str, count: usize) -> Duration {
    let mut took = Vec::new();
    for _ in 0..count {
        let posted = Instant::now();
        let event = post(client, event_type, json!({})).await;
        let at = until("it arrives", async || {
            let found =
                stage.receiver.at(path).into_iter().rev().find(|one| one.header("x-event-id") == event);
            found.map(|one| one.at).ok_or(())
        })
        .await;
        took.push(at.saturating_duration_since(posted));
    }
    took.sort_unstable();
    took[count * 95 / 100]
}

pub(super) async fn endpoints_that_hang_or_are_dead_hold_up_nobody(bus: Bus) {
    let dead = format!("http://127.0.0.1:{}/", free_port());
    let stage = Stage::with(bus, |options, engine| {
        options.extra_url_prefixes.push(dead.clone());
        // So few slots that whoever takes more than its share is noticed.
        engine.delivery.first_slots = 16;
        engine.delivery.endpoint_in_flight = 4;
    })
    .await;
    let other = neighbour(&stage).await;
    stage.hook("fast", json!({"event_type": "fast.*"})).await;
    subscribe(&other, &stage.receiver.url("neighbour"), json!({})).await;
    let alone = [
        latency(&stage, &stage.client, "fast.one", "fast", 20).await,
        latency(&stage, &other, "fast.one", "neighbour", 20).await,
    ];
    stage.receiver.answer("slow", Answer::status(200).after(Duration::from_secs(2)));
    stage.hook("slow", json!({"event_type": "heavy.*"})).await;
    stage.hook_at(&dead, json!({"event_type": "heavy.*"})).await;
    flood(&stage.client, "heavy.one", 300).await;
    stage.received("slow", 4).await;
    let beside = [
        latency(&stage, &stage.client, "fast.two", "fast", 40).await,
        latency(&stage, &other, "fast.two", "neighbour", 40).await,
    ];
    for (alone, beside) in alone.into_iter().zip(beside) {
        // Whoever had to wait for a slow reply would wait for seconds.
        assert!(
            beside < alone * 5 + Duration::from_millis(400),
            "{alone:?} alone, {beside:?} beside slow ones"
        );
    }
    assert_eq!(stage.receiver.most_in_flight("slow"), 4);
    stage.close().await;
}

/// Each event is rung by itself, to more of them than a deliverer holds rings.
pub(super) async fn rings_for_a_receiver_that_hangs_keep_no_others_away(bus: Bus) {
    let rings = 16;
    let stage = Stage::with(bus, |_, engine| {
        engine.delivery.prefetch = u16::try_from(rings).unwrap();
        engine.delivery.endpoint_in_flight = 2 * rings;
    })
    .await;
    let place = |hook: &str| spread(hook.parse::<SubscriptionId>().unwrap()) % PARTITIONS;
    stage.receiver.hold("held");
    let held = place(&stage.hook("held", json!({})).await);
    // One that is rung in the same queue.
    let mut fast = String::from("fast-0");
    for n in 1.. {
        if place(&stage.hook(&fast, json!({})).await) == held {
            break;
        }
        fast = format!("fast-{n}");
    }
    for n in 0..2 * rings {
        stage.post("a.b", json!({"n": n})).await;
    }
    stage.received(&fast, 2 * rings).await;
    stage.received("held", 2 * rings).await;
    assert_eq!(stage.receiver.most_in_flight("held"), 2 * rings, "none has been answered yet");
    stage.receiver.release("held");
    stage.close().await;
}

/// Receivers that have until now answered at once, and hang from here on. A consumer's reply is waited for longest.
async fn consumers_that_hang(stage: &Stage, paths: &[&str]) {
    for path in paths {
        let consumer = json!({"url": stage.receiver.url(path), "eventTypes": ["a.*"]});
        stage.client.post_json("/webhooks", &consumer).await.expect(201);
    }
    for n in 0..20 {
        stage.post("a.known", json!({"n": n})).await;
    }
    for path in paths {
        stage.received(path, 20).await;
    }
    until("their outcomes are written down", async || {
        let known = ended(stage).await;
        if known == 20 * paths.len() as i64 { Ok(()) } else { Err(known) }
    })
    .await;
    paths.iter().for_each(|path| stage.receiver.hold(path));
}

/// How many deliveries to consumers have been tried to the end.
async fn ended(stage: &Stage) -> i64 {
    number(&stage.system.db, "SELECT count(*) AS n FROM deliveries WHERE profile = 2 AND attempts > 0").await
}

/// More than a deliverer holds in memory, at once.
pub(super) async fn a_burst_for_slow_receivers_leaves_room_to_the_others(bus: Bus) {
    let stage = Stage::open(bus).await;
    let other = neighbour(&stage).await;
    subscribe(&other, &stage.receiver.url("neighbour"), json!({})).await;
    let paths = ["held-1", "held-2", "held-3", "held-4"];
    consumers_that_hang(&stage, &paths).await;
    flood(&stage.client, "a.b", 3_000).await;
    for n in 0..20 {
        post(&other, "a.b", json!({"n": n})).await;
    }
    stage.received("neighbour", 20).await;
    assert_eq!(ended(&stage).await, 20 * 4, "nobody had to wait for the end of a try");
    paths.iter().for_each(|path| stage.receiver.release(path));
    stage.close().await;
}

/// Ten of them would fill the memory for bodies.
pub(super) async fn large_events_for_a_receiver_that_hangs_leave_memory_to_the_others(bus: Bus) {
    let stage = Stage::with(bus, |_, engine| engine.delivery.body_memory_mib = 4).await;
    let other = neighbour(&stage).await;
    subscribe(&other, &stage.receiver.url("neighbour"), json!({})).await;
    consumers_that_hang(&stage, &["held"]).await;
    let text = "x".repeat(400 * 1024);
    for _ in 0..20 {
        stage.post("a.b", json!({"text": text})).await;
    }
    post(&other, "a.b", json!({})).await;
    stage.received("neighbour", 1).await;
    assert_eq!(ended(&stage).await, 20, "nobody had to wait for the end of a try");
    stage.receiver.release("held");
    for _ in 0..20 {
        stage.system.clock.advance(TimeDelta::seconds(31));
        tokio::time::sleep(Duration::from_millis(100)).await;
        if stage.receiver.count("held") >= 40 {
            break;
        }
    }
    stage.received("held", 40).await;
    stage.close().await;
}

pub(super) async fn a_breaker_leaves_an_endpoint_alone_and_lets_it_recover(bus: Bus) {
    let stage = Stage::with(bus, |_, engine| {
        engine.delivery.breaker_failures = 5;
        engine.delivery.breaker_cooldown_ms = 10_000;
        engine.delivery.breaker_max_cooldown_ms = 100_000;
    })
    .await;
    stage.answer("ill", 500);
    let hook = stage.hook("ill", json!({"event_type": "ill.*"})).await;
    stage.hook("well", json!({"event_type": "ill.*"})).await;
    let mut events = Vec::new();
    let mut next = async || {
        let event = stage.post("ill.one", json!({})).await;
        events.push(event.clone());
        event
    };
    for _ in 0..5 {
        let event = next().await;
        stage.tried(&event, &hook, 1).await;
    }
    // Left alone: neither the next events nor the retries go there.
    for _ in 0..10 {
        next().await;
    }
    stage.received("well", 15).await;
    stage.advance(5_000);
    next().await;
    stage.received("well", 16).await;
    let failed = stage.receiver.count("ill");
    // A retry that was under way when the fifth failed, on a slow machine.
    assert!((5..8).contains(&failed), "{failed} requests");
    // After the cool-down one try tells how it is; it fails, and the endpoint is left alone for twice as long.
    stage.advance(5_100);
    stage.received("ill", failed + 1).await;
    stage.advance(10_000);
    next().await;
    stage.received("well", 17).await;
    assert_eq!(stage.receiver.count("ill"), failed + 1);
    stage.answer("ill", 200);
    stage.advance(10_100);
    for event in &events {
        until("everything arrives", async || {
            // Those that were put off come one after the other.
            stage.advance(200);
            let delivery = stage.delivery(event, &hook).await;
            if delivery["state"] == "delivered" { Ok(()) } else { Err(delivery) }
        })
        .await;
    }
    assert_eq!(stage.receiver.count("ill"), failed + 1 + 17);
    stage.in_state(&hook, "active").await;
    stage.close().await;
}

pub(super) async fn a_tenant_with_thousands_does_not_hold_up_another(bus: Bus) {
    let stage = Stage::with(bus, |_, engine| {
        engine.delivery.first_slots = 8;
        engine.delivery.endpoint_in_flight = 4;
    })
    .await;
    let other = neighbour(&stage).await;
    subscribe(&other, &stage.receiver.url("neighbour"), json!({})).await;
    for number in 0..20 {
        let path = format!("many{number}");
        stage.receiver.answer(&path, Answer::status(200).after(Duration::from_millis(20)));
        stage.hook(&path, json!({})).await;
    }
    let many = || (0..20).map(|number| stage.receiver.count(&format!("many{number}"))).sum::<usize>();
    flood(&stage.client, "many.one", 100).await;
    until("the flood runs", async || if many() > 50 { Ok(()) } else { Err(many()) }).await;
    let before = many();
    post(&other, "single.one", json!({})).await;
    stage.received("neighbour", 1).await;
    let meanwhile = many() - before;
    assert!(before < 1_000, "the flood was over too soon to prove anything");
    // Behind all of them it would be the 2,001st.
    assert!(meanwhile < 700, "{meanwhile} of another tenant went first");
    until("the flood arrives", async || if many() == 2_000 { Ok(()) } else { Err(many()) }).await;
    stage.close().await;
}

pub(super) async fn retries_do_not_hold_up_first_tries(bus: Bus) {
    let stage = Stage::with(bus, |_, engine| engine.delivery.retry_slots = 2).await;
    stage.receiver.script("sick", [503; 12].map(Answer::status));
    let sick = stage.hook("sick", json!({"event_type": "sick.*"})).await;
    let well = stage.hook("well", json!({"event_type": "well.*"})).await;
    let mut events = Vec::new();
    for _ in 0..12 {
        events.push(stage.post("sick.one", json!({})).await);
        if events.len() == 1 {
            stage.receiver.hold("sick");
        }
    }
    stage.received("sick", 12).await;
    stage.receiver.release("sick");
    stage.receiver.hold("sick");
    stage.advance(1_000);
    // Both slots for retries hang.
    stage.received("sick", 14).await;
    for _ in 0..20 {
        let event = stage.post("well.one", json!({})).await;
        stage.ended(&event, &well, "delivered").await;
    }
    assert_eq!(stage.receiver.count("sick"), 14);
    stage.receiver.release("sick");
    for event in &events {
        stage.ended(event, &sick, "delivered").await;
    }
    stage.close().await;
}

pub(super) async fn retries_do_not_wait_behind_all_that_is_new(bus: Bus) {
    let stage = Stage::with(bus, |_, engine| engine.delivery.endpoint_in_flight = 2).await;
    let hook = stage.hook("busy", json!({})).await;
    stage.post("a.b", json!({})).await;
    stage.received("busy", 1).await;
    stage.receiver.script("busy", [503; 2].map(Answer::status));
    stage.receiver.hold("busy");
    let failed = [stage.post("a.b", json!({})).await, stage.post("a.b", json!({})).await];
    stage.received("busy", 3).await;
    flood(&stage.client, "a.b", 600).await;
    // Only now they fail, and those behind them are held.
    stage.receiver.release("busy");
    stage.receiver.hold("busy");
    for event in &failed {
        stage.tried(event, &hook, 1).await;
    }
    let mut count = 5;
    stage.received("busy", count).await;
    stage.advance(1_000);
    let retried = || {
        let all = stage.receiver.at("busy");
        all.iter().skip(3).filter(|one| failed.contains(&one.header("x-event-id").to_owned())).count()
    };
    while retried() == 0 {
        assert!(count < 200, "none of {count} is a retry");
        stage.receiver.release("busy");
        stage.receiver.hold("busy");
        count += 2;
        stage.received("busy", count).await;
    }
    stage.receiver.release("busy");
    stage.close().await;
}

pub(super) async fn zapiers_own_limits_are_kept(bus: Bus) {
    let stage = Stage::with(bus, |options, engine| {
        let named = options.extra_url_prefixes[0].replace("127.0.0.1", "localhost");
        options.extra_url_prefixes.push(named);
        engine.delivery.destination_limits = vec![DestinationLimit {
            hosts: vec!["127.0.0.1".to_owned()],
            per_second: 5,
            per_window: 8,
            window_s: 60,
        }];
    })
    .await;
    let hooks = [stage.hook("first", json!({})).await, stage.hook("second", json!({})).await];
    let elsewhere = stage.receiver.url("elsewhere").replace("127.0.0.1", "localhost");
    stage.hook_at(&elsewhere, json!({})).await;
    flood(&stage.client, "a.b", 10).await;
    let limited = || stage.receiver.count("first") + stage.receiver.count("second");
    for reached in [8, 16, 20] {
        until("the window is used", async || if limited() == reached { Ok(()) } else { Err(limited()) })
            .await;
        // All hooks of the host share the window; those elsewhere do not know of it.
        stage.received("elsewhere", 10).await;
        assert_eq!(limited(), reached);
        // An outcome that is not written when the clock is moved would have lost its lease.
        until("the outcomes are written", async || {
            let shown = [stage.shown(&hooks[0]).await, stage.shown(&hooks[1]).await];
            let counted: u64 = shown.iter().filter_map(|hook| hook["delivery_count"].as_u64()).sum();
            if counted == reached as u64 { Ok(()) } else { Err(counted) }
        })
        .await;
        stage.advance(60_000);
    }
    stage.close().await;
}
