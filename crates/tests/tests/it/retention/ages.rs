//! Payloads leave when they are past their age; what they belonged to stays, and what somebody still has to get waits.

use std::{sync::mpsc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use diesel::{RunQueryDsl, sql_query};
use hookyard_domain::{
    clock::Clock,
    db::{Db, partition},
    id::{EventId, TenantId},
    retention::{
        payload::{self, Step},
        purge::{self, Outcome},
    },
};
use hookyard_messaging::Bus;
use hookyard_tests::system::System;
use serde_json::{Value, json};

use super::{Filling, event_ids, execute, fill, hook, number, partition_of};
use crate::pipeline::stage::{Stage, text, until};

/// Does the next piece.
async fn step(db: &Db, now: DateTime<Utc>, keep: u32) -> Step {
    db.once(move |conn| payload::step(conn, now, keep)).await.unwrap()
}

/// Does everything that is to do, and returns what was done.
async fn all_steps(db: &Db, now: DateTime<Utc>, keep: u32) -> Vec<Step> {
    let mut steps = Vec::new();
    loop {
        match step(db, now, keep).await {
            Step::Idle => return steps,
            done => steps.push(done),
        }
        assert!(steps.len() < 1_000, "{steps:?}");
    }
}

/// The size of a day's partition, with everything.
async fn size(db: &Db, table: &str, day: DateTime<Utc>) -> i64 {
    number(db, &format!("SELECT pg_total_relation_size('{}') AS n", partition_of(table, day))).await
}

async fn count(db: &Db, condition: &str) -> i64 {
    number(db, &format!("SELECT count(*) AS n FROM {condition}")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn old_payloads_go_and_everything_else_stays() {
    let stage = Stage::with(Bus::in_process(), |_, engine| {
        engine.registry.payload_retention_days = Some(2);
    })
    .await;
    let hook = stage.hook("in", json!({})).await;
    let consumer = stage
        .client
        .post_json(
            "/webhooks",
            &json!({"url": stage.receiver.url("consumer"), "eventTypes": ["order.created"],
                "transformation": {"body": {"n": {"$from": "payload.n"}}}}),
        )
        .await
        .expect(201);
    let consumer = text(&consumer["id"]).to_owned();
    let old = stage.post("order.created", json!({"n": 1})).await;
    let wanted = stage.post("order.created", json!({"n": 2})).await;
    for event in [&old, &wanted] {
        for id in [&hook, &consumer] {
            stage.ended(event, id, "delivered").await;
        }
    }
    // Somebody still has to get it, much later.
    let id: EventId = wanted.parse().unwrap();
    let pending = format!(
        "UPDATE deliveries SET state = 0, next_attempt_at = now() + interval '1 year', settled_at = NULL \
         WHERE event_id = '{}'",
        id.uuid()
    );
    assert_eq!(execute(&stage.system.db, &pending).await, 2);
    let before = stage.client.get(&format!("/v1/events/{old}")).await.expect(200);
    stage.system.clock.advance(TimeDelta::days(2));
    let young = stage.post("order.created", json!({"n": 3})).await;
    stage.system.clock.advance(TimeDelta::days(1));

    let path = format!("/v1/events/{old}");
    let shown = until("the old payload is gone", async || {
        let shown = stage.client.get(&path).await.expect(200);
        if shown["payload"].is_null() { Ok(shown) } else { Err(shown) }
    })
    .await;
    let mut expected = before;
    expected["payload"] = Value::Null;
    expected["payload_purged_at"] = shown["payload_purged_at"].clone();
    assert_eq!(shown, expected);
    assert!(shown["payload_purged_at"].is_string());
    for (event, n) in [(&wanted, 2), (&young, 3)] {
        let shown = stage.client.get(&format!("/v1/events/{event}")).await.expect(200);
        assert_eq!((&shown["payload"]["n"], &shown["payload_purged_at"]), (&json!(n), &Value::Null));
    }
    until("transformed bodies and replies are gone", async || {
        let left = number(
            &stage.system.db,
            "SELECT (SELECT count(*) FROM delivery_bodies b JOIN events e ON e.id = b.event_id WHERE e.body = '') \
                + (SELECT count(*) FROM attempts a JOIN events e ON e.id = a.event_id WHERE e.body = '' AND a.reply IS NOT NULL) AS n",
        )
        .await;
        if left == 0 { Ok(()) } else { Err(left) }
    })
    .await;
    for id in [&hook, &consumer] {
        let delivery = stage.delivery(&old, id).await;
        assert_eq!((&delivery["state"], &delivery["tries"][0]["status"]), (&json!("delivered"), &json!(200)));
        assert_eq!(delivery["tries"][0]["reply"], Value::Null);
        let kept = stage.delivery(&wanted, id).await;
        assert!(kept["tries"][0]["reply"].is_string(), "{kept}");
    }
    // It is due now, arrives as it was, and its payload follows.
    execute(
        &stage.system.db,
        "UPDATE deliveries SET next_attempt_at = now() - interval '1 s' WHERE state = 0",
    )
    .await;
    for id in [&hook, &consumer] {
        stage.ended(&wanted, id, "delivered").await;
    }
    let sent = stage.received("consumer", 4).await;
    assert_eq!(sent.iter().filter(|sent| sent.json() == json!({"n": 2})).count(), 2);
    let path = format!("/v1/events/{wanted}");
    until("the other payload follows", async || {
        let shown = stage.client.get(&path).await.expect(200);
        if shown["payload"].is_null() { Ok(()) } else { Err(shown) }
    })
    .await;
    assert_eq!(
        stage
            .client
            .post(&format!("/v1/deliveries/{}/retry", crate::pipeline::stage::delivery_id(&old, &hook)), "")
            .await
            .error(),
        (409, "PAYLOAD_PURGED".to_owned())
    );
    stage.close().await;
}

/// A system without services, and a day some days ago with so many events.
async fn used(events: i64, payload: i32) -> (System, TenantId, DateTime<Utc>) {
    let system = System::start().await;
    let day =
        (Clock::system().now() - TimeDelta::days(5)).date_naive().and_time(chrono::NaiveTime::MIN).and_utc();
    let hook = hook(&system.db, system.tenant, day).await;
    let (since, until) = (day + TimeDelta::hours(1), day + TimeDelta::hours(23));
    fill(&system.db, Filling { tenant: system.tenant, hook, events, since, until, payload }).await;
    let tenant = system.tenant;
    // Days before it have partitions, too: they are done.
    all_steps(&system.db, day + TimeDelta::days(5), 5).await;
    (system, tenant, day)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_disk_is_given_back_and_a_process_that_dies_loses_a_piece() {
    let (system, _, day) = used(12_000, 1_024).await;
    let db = &system.db;
    let before = [size(db, "events", day).await, size(db, "attempts", day).await];
    let young = day + TimeDelta::days(3);
    let hook = hook(db, system.tenant, young).await;
    fill(
        db,
        Filling {
            tenant: system.tenant,
            hook,
            events: 10,
            since: young,
            until: young + TimeDelta::hours(1),
            payload: 64,
        },
    )
    .await;
    let listed = async || {
        let client = system.client().await;
        let mut page = client.get("/v1/deliveries?limit=100").await.expect(200);
        page["data"].as_array_mut().unwrap().iter().map(|one| one["id"].clone()).collect::<Vec<_>>()
    };
    let deliveries = listed().await;
    let now = day + TimeDelta::days(5);
    // Not yet: the day is exactly as old as it may be.
    assert_eq!(step(db, now, 5).await, Step::Idle);
    for _ in 0..2 {
        assert_eq!(step(db, now, 4).await, Step::Worked);
    }
    assert_eq!(count(db, "events WHERE body = ''").await, 0, "nothing is gone before everything is ready");
    // Another process goes on where this one was.
    let other = system.database.pool();
    let steps = all_steps(&other, now, 4).await;
    let date = day.date_naive();
    assert!(steps.contains(&Step::Purged(date)) && steps.ends_with(&[Step::Closed(date)]), "{steps:?}");
    // 12,000 rows are three pieces each of events and tries.
    assert!(steps.len() <= 7, "{steps:?}");

    let after = [size(db, "events", day).await, size(db, "attempts", day).await];
    println!("bytes of events and tries, before and after: {before:?} {after:?}");
    assert!(after[0] * 2 < before[0] && after[1] * 3 < before[1] * 2, "{before:?} {after:?}");
    assert_eq!(count(db, "events WHERE body = '' AND payload_purged_at IS NOT NULL").await, 12_000);
    assert_eq!(count(db, "events WHERE body <> '' AND payload_purged_at IS NULL").await, 10);
    assert_eq!(count(db, "attempts WHERE reply IS NULL").await, 12_000);
    assert_eq!(count(db, "pg_class WHERE relname LIKE '%slim'").await, 0, "no copy is left");
    assert_eq!(count(db, "pg_index WHERE NOT indisvalid").await, 0);
    assert_eq!(listed().await, deliveries);
    // Nothing more is done, however often it is looked at.
    assert_eq!(all_steps(db, now, 4).await, []);
    // It leaves as a day of its own, and what was noted of it, too.
    let later = day + TimeDelta::days(31);
    let dropped = db.once(move |conn| partition::drop_older(conn, later, 30)).await.unwrap();
    assert!(dropped.contains(&partition_of("events", day)), "{dropped:?}");
    assert_eq!(count(db, "payload_days").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_while_a_day_is_copied_is_not_lost() {
    let (system, tenant, day) = used(6_000, 64).await;
    let db = &system.db;
    let ids = event_ids(db, tenant, "body <> ''").await;
    let uuid = |at: usize| ids[at].parse::<EventId>().unwrap().uuid();
    let pend = async |at: usize| {
        let statement = format!(
            "UPDATE deliveries SET state = 0, settled_at = NULL, next_attempt_at = now() WHERE event_id = '{}'",
            uuid(at)
        );
        assert_eq!(execute(db, &statement).await, 1);
    };
    let (purged, retried, wanted) = (10, 20, 30);
    pend(purged).await;
    pend(wanted).await;
    let now = day + TimeDelta::days(5);
    assert_eq!(step(db, now, 2).await, Step::Worked);
    // Both were copied: the first with its payload, the second without.
    let event = ids[purged].parse::<EventId>().unwrap();
    let outcome = db.run(move |conn| purge::purge(conn, tenant, event, true, now)).await.unwrap();
    assert!(matches!(outcome, Outcome::Purged { cancelled: 1, before: false, .. }), "{outcome:?}");
    pend(retried).await;
    let steps = all_steps(db, now, 2).await;
    assert!(steps.contains(&Step::Purged(day.date_naive())), "{steps:?}");
    assert!(!steps.contains(&Step::Closed(day.date_naive())), "{steps:?}");
    assert_eq!(event_ids(db, tenant, "body <> ''").await, [ids[retried].clone(), ids[wanted].clone()]);
    assert_eq!(count(db, "events").await, 6_000);
    // A try of what is wanted keeps its reply; when it has arrived, everything goes.
    assert_eq!(count(db, "attempts WHERE reply IS NOT NULL").await, 2);
    execute(db, "UPDATE deliveries SET state = 1 WHERE state = 0").await;
    let steps = all_steps(db, now, 2).await;
    assert_eq!(steps, [Step::Closed(day.date_naive())]);
    assert_eq!(count(db, "events WHERE body <> ''").await, 0);
    assert_eq!(count(db, "attempts WHERE reply IS NOT NULL").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_accepted_while_somebody_reads_and_a_day_waits_for_its_place() {
    let (system, _, day) = used(100, 64).await;
    let client = system.client().await;
    let now = day + TimeDelta::days(5);
    // A long read, such as a dump: it has all tables until it ends.
    let (done, wait) = mpsc::channel::<()>();
    let (begun, began) = tokio::sync::oneshot::channel();
    let reading = system.database.pool();
    let reader = tokio::spawn(async move {
        reading
            .run(move |conn| {
                sql_query("SELECT count(*) FROM events").execute(conn)?;
                let _told = begun.send(());
                let _ended = wait.recv_timeout(Duration::from_secs(60));
                Ok(())
            })
            .await
            .unwrap();
    });
    began.await.unwrap();
    let working = system.database.pool();
    let work = tokio::spawn(async move { step(&working, now, 2).await });
    let mut posted = 0;
    while !work.is_finished() {
        client.post_json("/events", &json!({"event_type": "a.b", "payload": {}})).await.expect(202);
        posted += 1;
    }
    assert_eq!(work.await.unwrap(), Step::Busy);
    println!("{posted} events were accepted meanwhile");
    assert!(posted >= 5, "{posted} events were accepted in the time of ten tries");
    assert_eq!(count(&system.db, "events WHERE body = ''").await, 0);
    // Dropping a day waits its turn in the same way.
    let drop = system.db.once(move |conn| partition::drop_older(conn, now, 1)).await;
    assert!(drop.is_err_and(|error| error.is_passing()), "it is left to the next look");
    done.send(()).unwrap();
    reader.await.unwrap();
    let steps = all_steps(&system.db, now, 2).await;
    assert!(steps.contains(&Step::Closed(day.date_naive())), "{steps:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_a_day_that_is_gone_goes_too() {
    let (system, _, day) = used(5_001, 64).await;
    let now = day + TimeDelta::days(5);
    assert_eq!(step(&system.db, now, 2).await, Step::Worked);
    assert_eq!(count(&system.db, "pg_class WHERE relname LIKE 'events_%_slim'").await, 1);
    system.db.once(move |conn| partition::drop_older(conn, now, 2)).await.unwrap();
    assert_eq!(all_steps(&system.db, now, 2).await, []);
    assert_eq!(count(&system.db, "pg_class WHERE relname LIKE '%slim%'").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_with_events_for_later_keeps_its_payloads() {
    let (system, _, day) = used(10, 64).await;
    let statement =
        format!("INSERT INTO scheduled_days VALUES ('{}', '{}')", day.date_naive(), day + TimeDelta::days(4));
    execute(&system.db, &statement).await;
    let now = day + TimeDelta::days(5);
    let steps = all_steps(&system.db, now, 2).await;
    assert!(!steps.contains(&Step::Purged(day.date_naive())), "{steps:?}");
    let steps = all_steps(&system.db, now + TimeDelta::days(2), 2).await;
    assert!(steps.contains(&Step::Closed(day.date_naive())), "{steps:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_tried_or_purged_while_tries_are_copied_is_as_it_should_be() {
    let (system, tenant, day) = used(6_000, 64).await;
    let db = &system.db;
    let ids = event_ids(db, tenant, "body <> ''").await;
    let uuid = |at: usize| ids[at].parse::<EventId>().unwrap().uuid();
    let (forgotten, tried, kept) = (10, 20, 30);
    for at in [forgotten, tried, kept] {
        let pend =
            format!("UPDATE deliveries SET state = 0, settled_at = NULL WHERE event_id = '{}'", uuid(at));
        assert_eq!(execute(db, &pend).await, 1);
    }
    let now = day + TimeDelta::days(5);
    // Two pieces and the exchange of events, and the first piece of tries: with those of all three.
    for _ in 0..3 {
        assert_eq!(step(db, now, 4).await, Step::Worked);
    }
    let copied = format!("{}_slim WHERE reply IS NOT NULL", partition_of("attempts", day));
    assert_eq!(count(db, &copied).await, 3);
    for at in [tried, kept] {
        let again = format!(
            "INSERT INTO attempts (event_id, subscription_id, number, started_at, latency_ms, status, reason, reply) \
             SELECT event_id, subscription_id, 2, now(), 1, 200, 'success', 'ok' FROM attempts WHERE event_id = '{}'",
            uuid(at)
        );
        assert_eq!(execute(db, &again).await, 1);
    }
    for at in [forgotten, tried] {
        let event = ids[at].parse::<EventId>().unwrap();
        db.run(move |conn| purge::purge(conn, tenant, event, true, now)).await.unwrap();
    }
    // One was purged so long ago that nobody looks after it any more.
    let forget = format!("DELETE FROM purged_payloads WHERE event_id = '{}'", uuid(forgotten));
    assert_eq!(execute(db, &forget).await, 1);
    let steps = all_steps(db, now, 4).await;
    assert!(steps.contains(&Step::Purged(day.date_naive())), "{steps:?}");
    assert_eq!(count(db, "attempts").await, 6_002);
    let of = |at: usize| format!("attempts WHERE event_id = '{}'", uuid(at));
    for (at, tries, replies) in [(forgotten, 1, 0), (tried, 2, 0), (kept, 2, 2)] {
        assert_eq!(count(db, &of(at)).await, tries, "{at}");
        assert_eq!(count(db, &format!("{} AND reply IS NOT NULL", of(at))).await, replies, "{at}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_inboxes_end_with_their_payloads() {
    let (system, tenant, day) = used(10, 64).await;
    let db = &system.db;
    let ids = event_ids(db, tenant, "body <> ''").await;
    let now = day + TimeDelta::days(5);
    let at = |seconds: i64| format!("'{}'", (now + TimeDelta::seconds(seconds)).to_rfc3339());
    let lapsed = at(0);
    let (held, late) = (at(1), at(0));
    for (nth, leased_until, expires_at) in [
        (0, "NULL", "NULL"),
        (1, lapsed.as_str(), "NULL"),
        (2, held.as_str(), "NULL"),
        (3, "NULL", late.as_str()),
    ] {
        let message = format!(
            "UPDATE deliveries SET profile = 5, state = 0, settled_at = NULL, next_attempt_at = 'infinity', sequence = {nth} + 1, \
                leased_until = {leased_until}, expires_at = {expires_at} WHERE event_id = '{}'",
            ids[nth].parse::<EventId>().unwrap().uuid()
        );
        assert_eq!(execute(db, &message).await, 1);
    }
    let steps = all_steps(db, now, 4).await;
    assert!(steps.contains(&Step::Closed(day.date_naive())), "{steps:?}");
    assert_eq!(count(db, "events WHERE body <> ''").await, 0);
    for (sequence, expected) in [
        (1, "state = 3 AND last_reason = 'payload_purged'"),
        (2, "state = 3 AND last_reason = 'payload_purged' AND leased_until IS NULL"),
        // Somebody has it in his hands.
        (3, "state = 0 AND leased_until IS NOT NULL"),
        (4, "state = 3 AND last_reason = 'expired'"),
    ] {
        let found = count(db, &format!("deliveries WHERE sequence = {sequence} AND {expected}")).await;
        assert_eq!(found, 1, "{sequence}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_migration_a_copy_is_begun_anew() {
    let (system, _, day) = used(5_001, 64).await;
    let now = day + TimeDelta::days(5);
    assert_eq!(step(&system.db, now, 4).await, Step::Worked);
    execute(&system.db, "ALTER TABLE events ADD COLUMN later integer").await;
    let steps = all_steps(&system.db, now, 4).await;
    assert!(steps.ends_with(&[Step::Closed(day.date_naive())]), "{steps:?}");
    assert_eq!(count(&system.db, "events WHERE body = ''").await, 5_001);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_that_fails_keeps_no_other_from_it() {
    let (system, _, day) = used(10, 64).await;
    let db = &system.db;
    let now = day + TimeDelta::days(5);
    let copy = format!("{}_slim", partition_of("events", day));
    execute(db, &format!("CREATE TABLE {copy} (a integer)")).await;
    execute(db, &format!("CREATE VIEW somebodys AS SELECT a FROM {copy}")).await;
    let mut closed = false;
    let failed = loop {
        match db.once(move |conn| payload::step(conn, now, 3)).await {
            Ok(Step::Closed(other)) => closed |= other == day.date_naive() + chrono::Days::new(1),
            Ok(Step::Idle) => break None,
            Ok(_) => {}
            Err(error) => break Some(error.chain()),
        }
    };
    assert!(closed && failed.as_ref().is_some_and(|error| error.contains("cannot drop table")), "{failed:?}");
    execute(db, "DROP VIEW somebodys").await;
    let steps = all_steps(db, now, 3).await;
    assert!(steps.ends_with(&[Step::Closed(day.date_naive())]), "{steps:?}");
}
