//! Recoveries at work: what they send, how fast, and what stops them.

use std::collections::HashMap;

use chrono::TimeDelta;
use diesel::{RunQueryDsl as _, sql_query};
use hookyard_domain::{
    db::Conn,
    id::{ClaimId, RecoveryId, SubscriptionId},
    recovery::{
        BODIES_AT_ONCE, PAGE_BYTES, Range, Which, candidates, step,
        store::{self, Recovery},
    },
    subscription::Kind,
};
use hookyard_messaging::Bus;
use hookyard_tests::receiver::Answer;
use serde_json::{Value, json};

use super::{beginning, completed, consumer, orders, recover, shown, steps, when};
use crate::{
    pipeline::stage::{Stage, text, time, until},
    retention::number,
};

/// Leaves two that arrived, three that failed and four that were never on their way.
async fn past(stage: &Stage, endpoint: &str, path: &str, switch: &str) -> Vec<String> {
    let mut events = orders(stage, 2).await;
    for event in &events {
        stage.ended(event, endpoint, "delivered").await;
    }
    stage.answer(path, 500);
    let failed = orders(stage, 3).await;
    for event in &failed {
        stage.tried(event, endpoint, 1).await;
    }
    // What is under way when it is disabled is cancelled.
    stage.client.post(&format!("{switch}/{endpoint}/disable"), "").await.expect(200);
    for event in &failed {
        stage.ended(event, endpoint, "cancelled").await;
    }
    events.extend(failed);
    events.extend(orders(stage, 4).await);
    stage.client.post(&format!("{switch}/{endpoint}/enable"), "").await.expect(200);
    stage.answer(path, 200);
    events
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_and_what_was_missed_is_sent_to_hooks_and_consumers_once() {
    let stage = Stage::open(Bus::in_process()).await;
    for (path, kind) in [("hook", "/v1/hooks"), ("consumer", "/webhooks")] {
        stage.advance(5);
        let since = stage.system.clock.now().to_rfc3339();
        let endpoint = match path {
            "hook" => stage.hook(path, json!({"event_type": "order.*"})).await,
            _ => consumer(&stage, path, json!({})).await,
        };
        let events = past(&stage, &endpoint, path, kind).await;
        let before = stage.receiver.count(path);
        // A dry run counts and stores nothing.
        for (which, count, first) in
            [("failed", 3, 2), ("missing", 4, 5), ("undelivered", 7, 2), ("all", 9, 0)]
        {
            let asked = json!({"endpoint_id": endpoint, "since": since, "which": which, "dry_run": true, "per_second": 2});
            let dry = stage.client.post_json("/v1/recoveries", &asked).await.expect(200);
            assert_eq!(
                (&dry["would_send"], &dry["complete"]),
                (&json!(count), &json!(true)),
                "{which} {dry}"
            );
            assert_eq!(
                (&dry["seconds"], &dry["examples"][0]["event_id"]),
                (&json!(usize::div_ceil(count, 2)), &json!(events[first]))
            );
            assert_eq!(dry["examples"].as_array().unwrap().len(), count.min(5));
        }
        let none = stage.client.get(&format!("/v1/recoveries?endpoint_id={endpoint}")).await.expect(200);
        assert_eq!(none["data"], json!([]));
        let job = recover(&stage, &endpoint, json!({"since": since, "which": "failed"})).await;
        assert_eq!((&job["which"], &job["endpoint_id"]), (&json!("failed"), &json!(endpoint)));
        let ended = completed(&stage, &job).await;
        assert_eq!((&ended["total"], &ended["queued"], &ended["skipped"]), (&json!(3), &json!(3), &json!(0)));
        for event in &events[2..5] {
            stage.ended(event, &endpoint, "delivered").await;
        }
        let job = recover(&stage, &endpoint, json!({"since": since, "which": "missing"})).await;
        assert_eq!(completed(&stage, &job).await["queued"], 4);
        for event in &events[5..] {
            let delivery = stage.ended(event, &endpoint, "delivered").await;
            assert_eq!(delivery["attempts"], 1, "{delivery}");
        }
        // Nothing is left; and what has arrived is sent again only when it is asked for.
        let job = recover(&stage, &endpoint, json!({"since": since})).await;
        assert_eq!(
            (&job["which"], &completed(&stage, &job).await["queued"]),
            (&json!("undelivered"), &json!(0))
        );
        assert_eq!(stage.receiver.count(path) - before, 7);
        let job = recover(
            &stage,
            &endpoint,
            json!({"since": since, "which": "all", "until": stage.system.clock.now().to_rfc3339()}),
        )
        .await;
        assert_eq!(completed(&stage, &job).await["queued"], 9);
        stage.received(path, before + 16).await;
        let jobs =
            stage.client.get(&format!("/v1/recoveries?endpoint_id={endpoint}&limit=3")).await.expect(200);
        assert_eq!((jobs["data"].as_array().unwrap().len(), &jobs["has_more"]), (3, &json!(true)));
        assert_eq!(jobs["data"][0]["id"], job["id"], "newest first");
        stage.client.delete(&format!("{kind}/{endpoint}")).await.expect(200);
    }
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_the_endpoint_wants_now_is_sent() {
    let stage = Stage::open(Bus::in_process()).await;
    for n in 0..6 {
        stage.post("order.created", json!({"n": n})).await;
        stage.post("order.closed", json!({"n": n})).await;
        stage.post("invoice.created", json!({"n": n})).await;
    }
    stage.advance(5);
    let filter = json!({"filter": {"payload.n": {"$lt": 4}}});
    let late = consumer(&stage, "late", filter).await;
    let job = recover(&stage, &late, json!({"which": "missing", "event_types": ["order.created"]})).await;
    assert_eq!(job["event_types"], json!(["order.created"]));
    let ended = completed(&stage, &job).await;
    assert_eq!((&ended["total"], &ended["queued"], &ended["skipped"]), (&json!(6), &json!(4), &json!(2)));
    let got = stage.received("late", 4).await;
    assert!(got.iter().all(|one| one.json()["eventType"] == "order.created"));
    // The rest of what it wants; a pattern is looked through, and others' types are skipped.
    let job = recover(&stage, &late, json!({"which": "missing"})).await;
    let ended = completed(&stage, &job).await;
    assert_eq!((&ended["total"], &ended["queued"]), (&json!(14), &json!(4)), "{ended}");
    stage.received("late", 8).await;
    // A test and an event for later are nobody else's.
    stage.client.post(&format!("/webhooks/{late}/test"), "").await.expect(202);
    stage.received("late", 9).await;
    let at = (stage.system.clock.now() + TimeDelta::days(1)).to_rfc3339();
    let later = json!({"event_type": "order.created", "payload": {"n": 0}, "deliver_at": at});
    stage.client.post_json("/events", &later).await.expect(202);
    stage.advance(5);
    let twin = consumer(&stage, "twin", json!({})).await;
    let job = recover(&stage, &twin, json!({})).await;
    assert_eq!(completed(&stage, &job).await["queued"], 12);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_in_lines_is_sent_in_their_order() {
    let stage = Stage::open(Bus::in_process()).await;
    let id = consumer(&stage, "line", json!({"ordering_key": "payload.key", "disabled": true})).await;
    for n in 0..12 {
        let event = stage.post("order.created", json!({"n": n, "key": n % 2})).await;
        assert_eq!(stage.goes_to(&event).await, [""; 0], "it is disabled when it is fanned out");
    }
    stage.advance(5);
    stage.client.post(&format!("/webhooks/{id}/enable"), "").await.expect(200);
    let job = recover(&stage, &id, json!({})).await;
    assert_eq!(completed(&stage, &job).await["queued"], 12);
    let got = stage.received("line", 12).await;
    let mut last: HashMap<i64, i64> = HashMap::new();
    for one in got {
        let payload = &one.json()["payload"];
        let (key, n) = (payload["key"].as_i64().unwrap(), payload["n"].as_i64().unwrap());
        assert!(last.insert(key, n).is_none_or(|before| before < n), "{key}: {n}");
    }
    assert!(stage.receiver.most_in_flight("line") <= 2);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_keeps_to_its_pace() {
    let stage = Stage::open(Bus::in_process()).await;
    orders(&stage, 18).await;
    let late = consumer(&stage, "late", json!({})).await;
    let job = recover(&stage, &late, json!({"per_second": 5})).await;
    assert_eq!(completed(&stage, &job).await["queued"], 18);
    stage.received("late", 18).await;
    let (began, mut sent) = (time(&job["created_at"]), 0);
    for (at, count) in steps(&stage, &late).await {
        assert!(count <= 5, "{count} at once");
        // To the millisecond, which is what the answer tells.
        let seconds = TimeDelta::milliseconds(sent * 200 - 1);
        assert!(began + seconds <= at, "{sent} were sent by {at}, and it began at {began}");
        sent += count;
    }
    assert_eq!(sent, 18);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_waits_while_as_much_is_under_way_as_may_be() {
    let stage = Stage::with(Bus::in_process(), |_, engine| engine.registry.recovery_under_way = 3).await;
    orders(&stage, 8).await;
    let late = consumer(&stage, "late", json!({})).await;
    stage.receiver.hold("late");
    let job = recover(&stage, &late, json!({"per_second": 1000})).await;
    let full = when(&stage, &job, "it is full", |shown| shown["queued"] == 3).await;
    assert_eq!((&full["under_way"], &full["state"]), (&json!(3), &json!("running")));
    // However often it looks again: nothing has ended.
    let due = async || {
        let id: RecoveryId = text(&job["id"]).parse().unwrap();
        let tenant = stage.system.tenant;
        stage.system.db.once(move |conn| store::find(conn, tenant, id)).await.unwrap().unwrap().due_at
    };
    for _ in 0..3 {
        let before = due().await;
        until("it has looked again", async || {
            let now = due().await;
            stage.advance(200);
            if before < now { Ok(()) } else { Err(now) }
        })
        .await;
    }
    assert_eq!(shown(&stage.client, &job).await, full, "nothing is written where nothing has changed");
    stage.receiver.release("late");
    assert_eq!(completed(&stage, &job).await["queued"], 8);
    stage.received("late", 8).await;
    assert!(stage.receiver.most_in_flight("late") <= 3);
    stage.close().await;
}

/// Nobody reads the inbox meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn an_inbox_is_filled_at_the_pace_alone() {
    let stage = Stage::with(Bus::in_process(), |_, engine| engine.registry.recovery_under_way = 3).await;
    orders(&stage, 12).await;
    let made = json!({"name": "late", "event_types": ["order.*"]});
    let late = text(&stage.client.post_json("/v1/inboxes", &made).await.expect(201)["id"]).to_owned();
    let job = recover(&stage, &late, json!({"per_second": 2})).await;
    let ended = completed(&stage, &job).await;
    assert_eq!((&ended["queued"], &ended["under_way"]), (&json!(12), &json!(0)), "{ended}");
    let shown = stage.client.get(&format!("/v1/inboxes/{late}")).await.expect(200);
    assert_eq!(shown["messages"]["waiting"], 12, "{shown}");
    assert!(steps(&stage, &late).await.iter().all(|(_, count)| *count <= 2));
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_fails_keeps_no_other_from_going_on() {
    let stage = Stage::open(Bus::in_process()).await;
    orders(&stage, 3).await;
    let broken = consumer(&stage, "broken", json!({"filter": {"payload.n": {"$gte": 0}}})).await;
    let whole = consumer(&stage, "whole", json!({})).await;
    let id: SubscriptionId = broken.parse().unwrap();
    let spoil = move |conn: &mut Conn| {
        let statement = "UPDATE subscriptions SET filter = 'spoilt' WHERE id = $1";
        Ok(sql_query(statement).bind::<diesel::sql_types::Uuid, _>(id).execute(conn)?)
    };
    assert_eq!(stage.system.db.once(spoil).await.unwrap(), 1);
    let id = RecoveryId::new(stage.system.clock.now());
    let insert = move |conn: &mut Conn| {
        let statement = "INSERT INTO recoveries (id, tenant_id, subscription_id, which, state, since, until, per_second, actor_kind, \
               actor_name, due_at, claim, lease_until, created_at, updated_at) \
            SELECT $2, tenant_id, id, 2, 0, created_at - interval '1 hour', created_at + interval '1 hour', 50, 0, 'test', created_at, \
               '00000000-0000-0000-0000-000000000000', created_at, created_at, created_at FROM subscriptions WHERE id = $1";
        let broken: SubscriptionId = broken.parse().unwrap();
        Ok(sql_query(statement)
            .bind::<diesel::sql_types::Uuid, _>(broken)
            .bind::<diesel::sql_types::Uuid, _>(id)
            .execute(conn)?)
    };
    assert_eq!(stage.system.db.once(insert).await.unwrap(), 1);
    let job = recover(&stage, &whole, json!({})).await;
    assert_eq!(completed(&stage, &job).await["queued"], 3);
    stage.received("whole", 3).await;
    let broken = shown(&stage.client, &json!({"id": id.to_string()})).await;
    assert_eq!((&broken["state"], &broken["queued"]), (&json!("counting"), &json!(0)), "{broken}");
    stage.close().await;
}

/// More than a page may read at once, of events that are looked at.
#[tokio::test(flavor = "multi_thread")]
async fn large_events_are_read_in_small_pages() {
    let stage = Stage::open(Bus::in_process()).await;
    let large = "x".repeat(900 << 10);
    let events = 12;
    for n in 0..events {
        stage.post("order.created", json!({"n": n, "large": large})).await;
    }
    stage.advance(5);
    let late =
        consumer(&stage, "late", json!({"disabled": true, "filter": {"payload.n": {"$gte": 1}}})).await;
    let (tenant, endpoint) = (stage.system.tenant, late.parse::<SubscriptionId>().unwrap());
    let (since, until) = (time(&json!(beginning(&stage))), stage.system.clock.now());
    let pages = stage.system.db.once(move |conn| {
        let range = Range {
            tenant,
            endpoint,
            profile: Kind::Consumer.profile(),
            which: Which::All,
            since,
            until,
            kept_from: None,
            types: None,
        };
        let (mut pages, mut after) = (Vec::new(), None);
        loop {
            let page = candidates(conn, &range, after, true, BODIES_AT_ONCE)?;
            let bytes: usize = page.events.iter().map(|event| event.body.as_ref().unwrap().len()).sum();
            pages.push((page.events.len(), bytes));
            after = page.up_to;
            if page.is_last {
                break;
            }
        }
        // One by one, it is as many as are asked for.
        assert_eq!(candidates(conn, &range, None, false, BODIES_AT_ONCE)?.events.len(), events);
        assert_eq!(candidates(conn, &range, None, true, 2)?.events.len(), 2);
        Ok(pages)
    });
    let pages = pages.await.unwrap();
    assert_eq!(pages.iter().map(|(count, _)| count).sum::<usize>(), events, "{pages:?}");
    assert!(pages.len() == 2 && pages.iter().all(|(_, bytes)| *bytes <= PAGE_BYTES), "{pages:?}");
    // A preview, a dry run and a recovery go through all pages.
    let preview = json!({"filter": {"payload.n": {"$gte": 2}}});
    let preview = stage.client.post_json(&format!("/webhooks/{late}/preview"), &preview).await.expect(200);
    let told = (&preview["looked_at"], &preview["complete"], &preview["dropped"]);
    assert_eq!(told, (&json!(events), &json!(true), &json!(1)));
    stage.client.post(&format!("/webhooks/{late}/enable"), "").await.expect(200);
    let dry = json!({"endpoint_id": late, "since": beginning(&stage), "dry_run": true});
    let dry = stage.client.post_json("/v1/recoveries", &dry).await.expect(200);
    assert_eq!((&dry["examined"], &dry["would_send"]), (&json!(events), &json!(events - 1)), "{dry}");
    let job = recover(&stage, &late, json!({})).await;
    assert_eq!(completed(&stage, &job).await["queued"], json!(events - 1));
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_cancelled_in_the_middle() {
    let stage = Stage::open(Bus::in_process()).await;
    orders(&stage, 10).await;
    let late = consumer(&stage, "late", json!({})).await;
    let job = recover(&stage, &late, json!({"per_second": 1})).await;
    let path = format!("/v1/recoveries/{}/cancel", text(&job["id"]));
    when(&stage, &job, "something is sent", |shown| shown["queued"].as_i64() >= Some(2)).await;
    let cancelled = stage.client.post(&path, "").await.expect(200);
    let sent = cancelled["queued"].as_u64().unwrap();
    assert_eq!(cancelled["state"], "cancelled", "{cancelled}");
    assert!(sent < 10 && cancelled["ended_at"].is_string(), "{cancelled}");
    assert_eq!(stage.client.post(&path, "").await.expect(200), cancelled, "again");
    // Written down first: the time that is moved then would end their leases, and they would be sent once more.
    until("what was sent is written down", async || {
        let log = format!("/v1/messages?status=Success&endpoint_id={late}");
        let log = stage.client.get(&log).await.expect(200);
        if log["data"].as_array().map(Vec::len) == usize::try_from(sent).ok() { Ok(()) } else { Err(log) }
    })
    .await;
    stage.let_everything_happen().await;
    assert_eq!(shown(&stage.client, &job).await, cancelled, "nothing goes on");
    assert_eq!(stage.received("late", usize::try_from(sent).unwrap()).await.len() as u64, sent);
    // The rest, by another one, which nobody can cancel when it has ended.
    let job = recover(&stage, &late, json!({})).await;
    assert_eq!(completed(&stage, &job).await["queued"], json!(10 - sent));
    let path = format!("/v1/recoveries/{}/cancel", text(&job["id"]));
    assert_eq!(stage.client.post(&path, "").await.error(), (409, "RECOVERY_ENDED".to_owned()));
    let told = stage.system.audited(Some(stage.system.tenant)).await;
    let told: Vec<&str> =
        told.iter().map(String::as_str).filter(|one| one.starts_with("recovery.")).collect();
    assert_eq!(told, ["recovery.started", "recovery.cancelled", "recovery.started", "recovery.ended"]);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_stops_when_its_endpoint_takes_nothing_any_more() {
    let stage = Stage::open(Bus::in_process()).await;
    orders(&stage, 5).await;
    let late = consumer(&stage, "late", json!({})).await;
    let job = recover(&stage, &late, json!({"per_second": 1})).await;
    when(&stage, &job, "something is sent", |shown| shown["queued"].as_i64() >= Some(1)).await;
    stage.client.post(&format!("/webhooks/{late}/disable"), "").await.expect(200);
    let stopped = when(&stage, &job, "it has ended", |shown| shown["ended_at"].is_string()).await;
    assert_eq!(stopped["state"], "stopped", "{stopped}");
    assert!(text(&stopped["reason"]).contains("disabled"), "{stopped}");
    assert!(stopped["queued"].as_i64().unwrap() < 5, "{stopped}");
    let french = format!("/v1/recoveries/{}", text(&job["id"]));
    let french =
        stage.client.request("GET", &french).header("accept-language", "fr").send().await.expect(200);
    assert!(text(&french["summary"]).starts_with("Il a été arrêté"), "{french}");
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_registries_work_on_one_recovery_and_nothing_is_sent_twice() {
    let stage = Stage::with(Bus::in_process(), |_, engine| engine.registries = 3).await;
    let events: Vec<Value> =
        (0..600).map(|n| json!({"event_type": "order.created", "payload": {"n": n}})).collect();
    for batch in events.chunks(100) {
        stage.client.post_json("/events/batch", &json!({"events": batch})).await.expect(202);
    }
    // What is fanned out later would be for the consumer, too.
    until("all are fanned out", async || {
        match number(&stage.system.db, "SELECT count(*) AS n FROM event_groups").await {
            0 => Ok(()),
            waiting => Err(waiting),
        }
    })
    .await;
    stage.advance(5);
    let late = consumer(&stage, "late", json!({"filter": {"payload.n": {"$lt": 500}}})).await;
    // The time is not moved meanwhile: a lease of a delivery that ends would have it sent again, which is not what is asked here.
    let job = recover(&stage, &late, json!({"per_second": 1000})).await;
    let ended = until("it is completed", async || {
        let shown = shown(&stage.client, &job).await;
        if shown["state"] == "completed" { Ok(shown) } else { Err(shown) }
    })
    .await;
    assert_eq!(
        (&ended["total"], &ended["queued"], &ended["skipped"]),
        (&json!(600), &json!(500), &json!(100))
    );
    until("all have arrived", async || {
        let shown = stage.client.get(&format!("/webhooks/{late}")).await.expect(200);
        if shown["delivery_count"] == 500 { Ok(()) } else { Err(shown) }
    })
    .await;
    stage.let_everything_happen().await;
    assert_eq!(stage.receiver.count("late"), 500);
    let told = stage.system.audited(Some(stage.system.tenant)).await;
    assert_eq!(told.iter().filter(|one| *one == "recovery.ended").count(), 1);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_is_sent_again_whatever_became_of_it() {
    let stage = Stage::open(Bus::in_process()).await;
    let id = consumer(&stage, "again", json!({})).await;
    let replay = async |event: &str| {
        let body = json!({"event_id": event});
        stage.client.post_json(&format!("/webhooks/{id}/replay"), &body).await.expect(202)["queued"].clone()
    };
    let arrived = orders(&stage, 1).await.remove(0);
    stage.ended(&arrived, &id, "delivered").await;
    assert_eq!(replay(&arrived).await, 1);
    stage.tried(&arrived, &id, 2).await;
    // One that it never wanted.
    let foreign = stage.post("invoice.created", json!({})).await;
    assert_eq!(stage.goes_to(&foreign).await, Vec::<String>::new());
    assert_eq!(replay(&foreign).await, 1);
    stage.ended(&foreign, &id, "delivered").await;
    // One that waits for hours between two tries is tried now.
    stage.receiver.script("again", [Answer::status(500)]);
    let waits = orders(&stage, 1).await.remove(0);
    stage.tried(&waits, &id, 1).await;
    assert_eq!(replay(&waits).await, 0, "it is under way");
    let path = format!("/v1/deliveries/{}/retry", crate::pipeline::stage::delivery_id(&waits, &id));
    stage.client.post(&path, "").await.expect(202);
    assert_eq!(stage.ended(&waits, &id, "delivered").await["attempts"], 2);
    let told = stage.system.audited(Some(stage.system.tenant)).await;
    assert_eq!(told.iter().filter(|one| *one == "consumer.replayed").count(), 2);
    // The events of a range, within the request, as to a hook.
    let range = json!({"since": beginning(&stage), "which": "all", "dry_run": true});
    let counted = stage.client.post_json(&format!("/webhooks/{id}/replay"), &range).await.expect(202);
    assert_eq!((&counted["queued"], &counted["dry_run"]), (&json!(2), &json!(true)), "{counted}");
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_overslept_its_lease_or_comes_after_a_cancel_writes_nothing() {
    let stage = Stage::with(Bus::in_process(), |_, engine| engine.registries = 0).await;
    let late = consumer(&stage, "late", json!({})).await;
    let job = recover(&stage, &late, json!({})).await;
    let claim = async || {
        let now = stage.system.clock.now();
        let claimed = stage.system.db.once(move |conn| step::claim_due(conn, now, ClaimId::new(now), 10));
        claimed.await.unwrap()
    };
    let may_write = async |held: &Recovery| {
        let held = held.clone();
        stage.system.db.run(move |conn| step::begin_step(conn, &held)).await.unwrap()
    };
    let first = claim().await.remove(0);
    assert_eq!(may_write(&first).await, Some(true));
    assert!(claim().await.is_empty(), "it is held");
    stage.system.clock.advance(step::LEASE);
    let second = claim().await.remove(0);
    assert_eq!((may_write(&first).await, may_write(&second).await), (None, Some(true)));
    stage.client.post(&format!("/webhooks/{late}/disable"), "").await.expect(200);
    assert_eq!(may_write(&second).await, Some(false), "the endpoint takes nothing");
    stage.client.post(&format!("/v1/recoveries/{}/cancel", text(&job["id"])), "").await.expect(200);
    assert_eq!(may_write(&second).await, None);
    stage.close().await;
}
