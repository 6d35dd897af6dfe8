//! The payload of one event is purged: everything that says what happened is gone, everything that says that it happened stays.

use hookyard_domain::{credential::Scope, retention::purge};
use hookyard_messaging::Bus;
use hookyard_tests::{
    processes::{environment, operate, run},
    receiver::Answer,
    system::System,
};
use serde_json::{Value, json};

use super::{execute, number};
use crate::pipeline::stage::{Stage, delivery_id, text, until};

const SECRET: &str = "Ada-Lovelace-4711";

async fn purge_it(stage: &Stage, event: &str, query: &str) -> hookyard_tests::http::Reply {
    stage.client.delete(&format!("/v1/events/{event}/payload{query}")).await
}

/// Waits until an event was fanned out.
async fn fanned_out(stage: &Stage, event: &str) {
    stage.goes_to(event).await;
}

/// Where in the database the word stands.
async fn places(system: &System) -> Vec<(&'static str, i64)> {
    let mut places = Vec::new();
    for (place, statement) in [
        ("events", "SELECT count(*) AS n FROM events WHERE position('Ada-Lovelace-4711' IN body) > 0"),
        (
            "bodies",
            "SELECT count(*) AS n FROM delivery_bodies WHERE position('Ada-Lovelace-4711' IN body) > 0",
        ),
        ("replies", "SELECT count(*) AS n FROM attempts WHERE position('Ada-Lovelace-4711' IN reply) > 0"),
        (
            "keys",
            "SELECT count(*) AS n FROM idempotency_keys WHERE position('Ada-Lovelace-4711' IN response) > 0",
        ),
        (
            "audit",
            "SELECT count(*) AS n FROM audit_log WHERE before LIKE '%Lovelace%' OR after LIKE '%Lovelace%'",
        ),
    ] {
        places.push((place, number(&system.db, statement).await));
    }
    places.retain(|(_, n)| *n > 0);
    places
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_event_said_is_nowhere_any_more_and_that_it_happened_is() {
    let stage = Stage::open(Bus::in_process()).await;
    stage.receiver.answer("hook", Answer { body: format!("thank you, {SECRET}"), ..Answer::status(200) });
    let hook = stage.hook("hook", json!({"event_type": "person.*"})).await;
    let consumer = stage
        .client
        .post_json(
            "/webhooks",
            &json!({"url": stage.receiver.url("consumer"), "eventTypes": ["person.created"],
                "transformation": {"body": {"name": {"$from": "payload.name"}}}}),
        )
        .await
        .expect(201);
    let consumer = text(&consumer["id"]).to_owned();
    // A schema that is only warned of, so that an answer that is kept for a key tells of the payload.
    stage
        .client
        .post_json(
            "/v1/event-types",
            &json!({"name": "person.created", "description": "a person", "validation": "warn",
                "schema": {"type": "object", "properties": {"name": {"const": "nobody"}}}}),
        )
        .await
        .expect(201);
    let body = json!({"event_type": "person.created", "payload": {"name": SECRET},
        "metadata": {"correlation_id": "c1", "shop": "7"}, "timestamp": "2026-01-02T03:04:05.678Z"})
    .to_string();
    let posted = || stage.client.request("POST", "/events").header("idempotency-key", "k").json(&body).send();
    let first = posted().await.expect(202);
    assert!(first["warnings"].is_array(), "{first}");
    let event = text(&first["event_id"]).to_owned();
    stage.ended(&event, &hook, "delivered").await;
    stage.ended(&event, &consumer, "delivered").await;
    let before = stage.client.get(&format!("/v1/events/{event}")).await.expect(200);
    assert!(places(&stage.system).await.len() >= 3, "{:?}", places(&stage.system).await);

    let purged = purge_it(&stage, &event, "").await.expect(200);
    assert_eq!((&purged["event_id"], &purged["cancelled_deliveries"]), (&json!(event), &json!(0)));
    assert_eq!(places(&stage.system).await, []);

    let shown = stage.client.get(&format!("/v1/events/{event}")).await.expect(200);
    let mut expected = before.clone();
    expected["payload"] = Value::Null;
    expected["payload_purged_at"] = purged["payload_purged_at"].clone();
    assert_eq!(shown, expected);
    let listed = stage.client.get("/v1/events?metadata.shop=7").await.expect(200);
    assert_eq!(listed["data"], json!([expected]));
    for hook in [&hook, &consumer] {
        let delivery = stage.delivery(&event, hook).await;
        assert_eq!((&delivery["state"], &delivery["tries"][0]["reply"]), (&json!("delivered"), &Value::Null));
        assert_eq!(delivery["tries"][0]["status"], 200);
    }
    // Nothing can be sent of it any more.
    let refused = (409, "PAYLOAD_PURGED".to_owned());
    let retry = format!("/v1/deliveries/{}/retry", delivery_id(&event, &hook));
    assert_eq!(stage.client.post(&retry, "").await.error(), refused);
    let replay = format!("/v1/hooks/{hook}/replay");
    assert_eq!(stage.client.post_json(&replay, &json!({"event_id": event})).await.error(), refused);
    let all = json!({"since": "2026-01-01T00:00:00Z", "which": "all"});
    assert_eq!(stage.client.post_json(&replay, &all).await.expect(202)["queued"], 0);
    // It is no sample, and no test sends it.
    let samples = stage.client.get("/zapier/hook/sample?event_type=person.created").await;
    assert!(!samples.text().contains(&event), "{}", samples.text());
    // The key still makes the request the same; what it said about the payload is gone.
    let again = posted().await;
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!((&again.expect(202)["event_id"], &again.json()["warnings"]), (&json!(event), &Value::Null));
    // A second time changes nothing, and is not told again.
    assert_eq!(purge_it(&stage, &event, "?cancel_pending=true").await.expect(200), purged);
    let audited = stage.system.audited(Some(stage.system.tenant)).await;
    assert_eq!(audited.iter().filter(|action| *action == "event.payload_purged").count(), 1);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_under_way_is_waited_for_or_cancelled() {
    let stage = Stage::open(Bus::in_process()).await;
    stage.answer("slow", 500);
    let hook = stage.hook("slow", json!({"event_type": "a.b"})).await;
    let event = stage.post("a.b", json!({"name": SECRET})).await;
    stage.tried(&event, &hook, 1).await;
    let refused = purge_it(&stage, &event, "").await;
    assert_eq!(refused.error(), (409, "DELIVERIES_PENDING".to_owned()));
    assert!(refused.text().contains("under way: 1"), "{}", refused.text());
    let path = format!("/v1/events/{event}");
    assert_eq!(stage.client.get(&path).await.expect(200)["payload"]["name"], SECRET, "nothing was changed");

    let purged = purge_it(&stage, &event, "?cancel_pending=true").await.expect(200);
    assert_eq!(purged["cancelled_deliveries"], 1);
    let delivery = stage.delivery(&event, &hook).await;
    assert_eq!(
        (&delivery["state"], &delivery["last_reason"]),
        (&json!("cancelled"), &json!("payload_purged"))
    );
    let count = stage.receiver.count("slow");
    stage.let_everything_happen().await;
    assert_eq!(stage.receiver.count("slow"), count, "nothing more was sent");

    for (query, status) in [("?cancel_pending=perhaps", 400), ("?force=true", 400)] {
        assert_eq!(purge_it(&stage, &event, query).await.status, status, "{query}");
    }
    let unknown = purge_it(&stage, "evt_00000000000000000000000001", "").await;
    assert_eq!(unknown.error(), (404, "NOT_FOUND".to_owned()));
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_for_later_is_sent_to_nobody() {
    let stage = Stage::open(Bus::in_process()).await;
    let hook = stage.hook("later", json!({"event_type": "a.b"})).await;
    let at = hookyard_domain::event::wire_time(stage.system.clock.now() + chrono::TimeDelta::hours(1));
    let body = json!({"event_type": "a.b", "payload": {"name": SECRET}, "deliver_at": at});
    let event = text(&stage.client.post_json("/events", &body).await.expect(202)["event_id"]).to_owned();
    assert_eq!(purge_it(&stage, &event, "").await.error(), (409, "EVENT_SCHEDULED".to_owned()));
    purge_it(&stage, &event, "?cancel_pending=true").await.expect(200);
    assert_eq!(number(&stage.system.db, "SELECT count(*) AS n FROM scheduled_events").await, 0);
    stage.advance(3_700_000);
    let other = stage.post("a.b", json!({})).await;
    stage.ended(&other, &hook, "delivered").await;
    assert_eq!(stage.receiver.count("later"), 1, "the other alone");
    stage.close().await;
}

#[tokio::test]
async fn while_an_event_is_fanned_out_it_stays() {
    // No registry: it stays where it is.
    let system = System::start().await;
    let client = system.client().await;
    let posted = client.post_json("/events", &json!({"event_type": "a.b", "payload": {}})).await.expect(202);
    let path = format!("/v1/events/{}/payload?cancel_pending=true", text(&posted["event_id"]));
    assert_eq!(client.delete(&path).await.error(), (409, "EVENT_FANNING_OUT".to_owned()));
    execute(&system.db, "DELETE FROM event_groups").await;
    client.delete(&path).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_without_a_payload_can_only_be_given_up() {
    let stage = Stage::open(Bus::in_process()).await;
    stage.answer("dead", 404);
    let hook = stage.hook("dead", json!({})).await;
    let gone = stage.post("a.b", json!({"name": SECRET})).await;
    let there = stage.post("a.b", json!({})).await;
    for event in [&gone, &there] {
        stage.ended(event, &hook, "dead").await;
    }
    purge_it(&stage, &gone, "").await.expect(200);
    let letter = format!("/v1/dead-letters/{}", delivery_id(&gone, &hook));
    let shown = stage.client.get(&letter).await.expect(200);
    assert_eq!((&shown["event"]["payload"], &shown["event"]["id"]), (&Value::Null, &json!(gone)));
    assert!(shown["event"]["payload_purged_at"].is_string(), "{shown}");
    let retry = stage.client.post(&format!("{letter}/retry"), "").await;
    assert_eq!(retry.error(), (409, "PAYLOAD_PURGED".to_owned()));
    stage.answer("dead", 200);
    let moved = stage.client.post_json("/v1/dead-letters/retry", &json!({"all": true})).await.expect(202);
    assert_eq!(moved["ids"], json!([delivery_id(&there, &hook)]));
    stage.ended(&there, &hook, "delivered").await;
    // How it fares is told without what was sent.
    let health = stage.client.get(&format!("/v1/hooks/{hook}/health")).await;
    assert!(!health.text().contains(SECRET), "{}", health.text());
    assert_eq!(stage.client.delete(&letter).await.expect(200)["moved"], 1);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_late_goes_too() {
    let stage = Stage::open(Bus::in_process()).await;
    let hook = stage.hook("in", json!({})).await;
    let event = stage.post("a.b", json!({"name": SECRET})).await;
    stage.ended(&event, &hook, "delivered").await;
    purge_it(&stage, &event, "").await.expect(200);
    // A deliverer that had it in its hands writes what came of it.
    for statement in [
        "UPDATE attempts SET reply = 'Ada-Lovelace-4711'",
        "INSERT INTO delivery_bodies SELECT event_id, subscription_id, 'Ada-Lovelace-4711' FROM deliveries",
    ] {
        assert_eq!(execute(&stage.system.db, statement).await, 1);
    }
    until("a registry has looked after it", async || {
        let places = places(&stage.system).await;
        if places.is_empty() { Ok(()) } else { Err(places) }
    })
    .await;
    let waiting = async || number(&stage.system.db, "SELECT count(*) AS n FROM purged_payloads").await;
    assert_eq!(waiting().await, 1, "somebody may still have it");
    stage.advance(15 * 60_000 + 1_000);
    let now = stage.system.clock.now();
    stage.system.db.once(move |conn| purge::look_after(conn, now)).await.unwrap();
    assert_eq!(waiting().await, 0);
    stage.close().await;
}

#[tokio::test]
async fn only_who_administers_may() {
    let system = System::start().await;
    let client = system.client().await;
    let posted = client.post_json("/events", &json!({"event_type": "a.b", "payload": {}})).await.expect(202);
    let path = format!("/v1/events/{}/payload", text(&posted["event_id"]));
    execute(&system.db, "DELETE FROM event_groups").await;
    let publisher = system.anonymous().with_key(&system.key(&[Scope::EventsWrite, Scope::EventsRead]).await);
    assert_eq!(publisher.delete(&path).await.status, 403);
    assert_eq!(system.anonymous().delete(&path).await.status, 401);
    assert_eq!(number(&system.db, "SELECT count(*) AS n FROM events WHERE body = ''").await, 0);
    client.delete(&path).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_purges_with_a_command() {
    let stage = Stage::open(Bus::in_process()).await;
    stage.answer("in", 500);
    let hook = stage.hook("in", json!({})).await;
    let event = stage.post("a.b", json!({"name": SECRET})).await;
    fanned_out(&stage, &event).await;
    stage.tried(&event, &hook, 1).await;
    let environment = environment("", &[("DATABASE_URL", &stage.system.database.url())]);
    let tenant = stage.system.tenant.to_string();
    let command = ["events", "purge", "--tenant", &tenant, "--event", &event];
    let refused = run(&command, &environment);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("--cancel-pending"), "{said}");
    let purged = operate(&[&command[..], &["--cancel-pending", "--json"]].concat(), &environment);
    assert_eq!((&purged["event_id"], &purged["cancelled_deliveries"]), (&json!(event), &json!(1)));
    let again = run(&command, &environment);
    assert!(again.status.success() && String::from_utf8_lossy(&again.stdout).contains("already"));
    assert_eq!(places(&stage.system).await, []);
    let told = stage.system.audited(Some(stage.system.tenant)).await;
    assert_eq!(told.iter().filter(|action| *action == "event.payload_purged").count(), 1);
    let foreign = stage.system.tenant("Other").await.to_string();
    let unknown = run(&["events", "purge", "--tenant", &foreign, "--event", &event], &environment);
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("not found"));
    stage.close().await;
}
