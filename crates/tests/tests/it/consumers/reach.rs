//! Which events reach a consumer, and what they look like there.

use std::{collections::HashMap, sync::Arc};

use chrono::TimeDelta;
use hookyard_domain::wire::{parse, to_canonical};
use hookyard_egress::{Answer as Addresses, Resolver};
use hookyard_messaging::Bus;
use hookyard_tests::receiver::Answer;
use serde_json::{Value, json};

use super::{consumer, made, patch};
use crate::pipeline::stage::{PATIENCE, Stage, text, time, until};

async fn post(stage: &Stage, body: Value) -> String {
    text(&stage.client.post_json("/events", &body).await.expect(202)["event_id"]).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_goes_once_to_each_consumer_that_wants_it_and_to_hooks() {
    let stage = Stage::open(Bus::in_process()).await;
    let mut ids = HashMap::new();
    for (path, more) in [
        ("exact", json!({"eventTypes": ["order.created"]})),
        ("several", json!({"eventTypes": ["user.created", "order.created"]})),
        ("pattern", json!({"eventTypes": ["order.*"]})),
        ("both", json!({"eventTypes": ["order.created", "order.*", "*"]})),
        ("filtered", json!({"eventTypes": ["order.*"], "filter": {"payload.n": 1}})),
        ("tagged", json!({"eventTypes": ["order.*"], "companyTags": ["region:fr", "region:uk"]})),
        ("other", json!({"eventTypes": ["order.deleted"]})),
        ("filtered-out", json!({"eventTypes": ["order.*"], "filter": {"payload.n": 2}})),
        ("tagged-out", json!({"eventTypes": ["order.*"], "companyTags": ["region:UK"]})),
        ("disabled", json!({"eventTypes": ["order.*"], "disabled": true})),
    ] {
        ids.insert(consumer(&stage, path, more).await, path);
    }
    ids.insert(stage.hook("hook", json!({"event_type": "order.created"})).await, "hook");
    let event = post(
        &stage,
        json!({"event_type": "order.created", "payload": {"n": 1}, "metadata": {"tags": ["region:uk"]}}),
    )
    .await;
    let mut got: Vec<&str> = stage.goes_to(&event).await.iter().map(|id| ids[id]).collect();
    got.sort_unstable();
    assert_eq!(got, ["both", "exact", "filtered", "hook", "pattern", "several", "tagged"]);
    for path in got {
        assert_eq!(stage.received(path, 1).await.len(), 1, "{path}");
    }
    // Codat has the tags at the company; our own events go to whoever names them, as a pattern does.
    let event = post(
        &stage,
        json!({"event_type": "order.shipped", "payload": {"referenceCompany": {"tags": {"region": "fr"}}}}),
    )
    .await;
    let mut got: Vec<&str> = stage.goes_to(&event).await.iter().map(|id| ids[id]).collect();
    got.sort_unstable();
    assert_eq!(got, ["both", "pattern", "tagged"]);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_has_the_envelope_the_headers_and_the_method_that_were_asked_for() {
    let stage = Stage::open(Bus::in_process()).await;
    consumer(
        &stage,
        "in",
        json!({"eventTypes": ["order.*"], "method": "PUT", "headers": {"Authorization": "Bearer x", "x-shop": "7 a"}}),
    )
    .await;
    stage.receiver.script("in", [Answer::status(500)]);
    let posted = r#"{"event_type":"order.created","timestamp":"2025-01-01T00:00:00Z","payload":{"z":1.0,"10":2,"a":"é \ud800"},"metadata":{"correlation_id":"c 1"}}"#;
    let event = text(&stage.client.post("/events", posted).await.expect(202)["event_id"]).to_owned();
    stage.received("in", 1).await;
    stage.advance(6_100);
    let got = stage.received("in", 2).await;
    for (number, try_) in (1..).zip(&got) {
        assert_eq!(try_.method, "PUT");
        assert_eq!(
            String::from_utf8(try_.body.clone()).unwrap(),
            format!(
                r#"{{"id":"{event}","eventType":"order.created","generatedDate":"2025-01-01T00:00:00.000Z","payload":{{"10":2,"z":1,"a":"é \ud800"}}}}"#
            )
        );
        assert_eq!(to_canonical(&parse(&try_.body).unwrap()), try_.body);
        for (name, value) in [
            ("authorization", "Bearer x"),
            ("x-shop", "7 a"),
            ("content-type", "application/json"),
            ("webhook-id", &event.replace("evt_", "msg_")),
            ("x-event-id", &event),
            ("x-attempt", &format!("{number}")),
            ("x-correlation-id", "c+1"),
        ] {
            assert_eq!(try_.header(name), value, "{name}");
        }
        assert!(try_.header("user-agent").starts_with("Hookyard/"));
        assert!(!try_.headers.contains_key("x-triggersapi-signature"));
    }
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_is_tried_as_the_contract_says_and_disabled_by_410() {
    let stage = Stage::open(Bus::in_process()).await;
    let id = consumer(&stage, "in", json!({})).await;
    stage.answer("in", 401);
    let event = stage.post("order.created", json!({})).await;
    let delivery = stage.tried(&event, &id, 1).await;
    assert_eq!((&delivery["state"], &delivery["last_reason"]), (&json!("pending"), &json!("http_401")));
    let wait = time(&delivery["next_attempt_at"]) - stage.system.clock.now();
    assert!(wait < TimeDelta::seconds(6), "5 s and a fifth: {wait}");
    stage.answer("in", 410);
    let late = stage.post("order.created", json!({})).await;
    let shown = async || stage.client.get(&format!("/webhooks/{id}")).await.expect(200);
    until("the consumer is disabled", async || {
        let shown = shown().await;
        if shown["disabled"] == true { Ok(()) } else { Err(shown) }
    })
    .await;
    assert_eq!(stage.ended(&late, &id, "dead").await["last_status"], 410);
    assert_eq!(stage.ended(&event, &id, "cancelled").await["attempts"], 1);
    let told = stage.client.get("/v1/events?event_type=hook.disabled").await.expect(200);
    assert_eq!(told["data"][0]["payload"]["hook_id"], json!(id));
    // A consumer is not told with a DELETE, which is Zapier's.
    stage.advance(10_000);
    stage.answer("in", 200);
    stage.client.post(&format!("/webhooks/{id}/enable"), "").await.expect(200);
    let event = stage.post("order.created", json!({})).await;
    stage.ended(&event, &id, "delivered").await;
    assert!(stage.receiver.at("in").iter().all(|got| got.method == "POST"));
    assert_eq!(shown().await["state_reason"], Value::Null);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_goes_to_its_consumer_alone() {
    let stage = Stage::open(Bus::in_process()).await;
    let id = consumer(
        &stage,
        "in",
        json!({"eventTypes": ["order.*", "user.created"], "filter": {"payload.x": 1}}),
    )
    .await;
    consumer(&stage, "other", json!({"eventTypes": ["*"]})).await;
    let test = async |body: &str| stage.client.post(&format!("/webhooks/{id}/test"), body).await;
    let queued = test("").await.expect(202);
    let got = stage.received("in", 1).await.remove(0).json();
    assert_eq!((&got["id"], &got["eventType"]), (&queued["event_id"], &json!("order.example")));
    test(r#"{"eventType":"NewCompanySynchronized"}"#).await.expect(202);
    assert_eq!(stage.received("in", 2).await[1].json()["eventType"], "read.completed.initial");
    for (body, code) in
        [(r#"{"eventType":"a..b"}"#, "INVALID_EVENT_TYPE"), (r#"{"eventType":5}"#, "INVALID_FIELD")]
    {
        assert_eq!(test(body).await.error(), (422, code.to_owned()), "{body}");
    }
    assert_eq!(stage.receiver.count("other"), 0);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_counts_for_the_next_event_and_the_next_try() {
    let stage = Stage::open(Bus::in_process()).await;
    let id = consumer(&stage, "first", json!({})).await;
    stage.receiver.script("first", [Answer::status(500)]);
    let event = stage.post("order.created", json!({})).await;
    stage.tried(&event, &id, 1).await;
    patch(&stage.client, &id, &json!({"url": stage.receiver.url("second"), "eventTypes": ["user.created"]}))
        .await
        .expect(200);
    stage.advance(6_100);
    stage.receiver.wait_for("second", 1, PATIENCE).await;
    let ignored = stage.post("order.created", json!({})).await;
    assert_eq!(stage.goes_to(&ignored).await, Vec::<String>::new());
    let wanted = stage.post("user.created", json!({})).await;
    stage.ended(&wanted, &id, "delivered").await;
    assert_eq!((stage.receiver.count("first"), stage.receiver.count("second")), (1, 2));
    stage.client.delete(&format!("/webhooks/{id}")).await.expect(200);
    let gone = stage.post("user.created", json!({})).await;
    assert_eq!(stage.goes_to(&gone).await, Vec::<String>::new());
    stage.close().await;
}

/// Every name leads into our own network.
struct Inside;

impl Resolver for Inside {
    fn resolve(&self, _name: &str) -> Addresses {
        Box::pin(async { Ok(vec!["10.0.0.5".parse().unwrap()]) })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_whose_name_leads_inside_is_disabled_and_audited() {
    let stage = Stage::with(Bus::in_process(), |_, engine| engine.resolver = Some(Arc::new(Inside))).await;
    let id = text(&made(&stage.client, json!({})).await["id"]).to_owned();
    let event = stage.post("order.created", json!({})).await;
    let dead = stage.ended(&event, &id, "dead").await;
    assert_eq!((&dead["attempts"], &dead["last_reason"]), (&json!(1), &json!("forbidden_address")));
    until("the consumer is disabled and that is told", async || {
        let shown = stage.client.get(&format!("/webhooks/{id}")).await.expect(200);
        let page = stage.client.get("/v1/audit?limit=100").await.expect(200);
        let of = |one: &&Value| one["object"]["id"] == json!(id);
        let mut told: Vec<&str> =
            page["data"].as_array().unwrap().iter().filter(of).map(|one| text(&one["action"])).collect();
        told.sort_unstable();
        let expected = ["consumer.address_forbidden", "consumer.created", "consumer.disabled"];
        if shown["disabled"] == true && told == expected { Ok(()) } else { Err((shown, page.clone())) }
    })
    .await;
    stage.close().await;
}
