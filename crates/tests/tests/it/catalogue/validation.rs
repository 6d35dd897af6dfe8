//! Payloads against the schemas of their types, on every way by which an event comes in.

use std::time::{Duration, Instant};

use hookyard_domain::credential::Scope;
use hookyard_messaging::Bus;
use hookyard_tests::{
    engine::Engine,
    http::Client,
    system::{Options, System},
};
use serde_json::{Value, json};

use super::{create, patch};

fn schema() -> Value {
    json!({"type": "object", "required": ["id"], "properties": {"id": {"type": "integer"},
        "lines": {"type": "array", "items": {"type": "object", "properties": {"price/eur": {"type": "number"}}}}}})
}

fn bad() -> Value {
    json!({"event_type": "order.created", "payload": {"id": 1, "lines": [{"price/eur": 2.5}, {"price/eur": "2.50"}]}})
}

const PATH: &str = "/lines/1/price~1eur";

async fn ordered(client: &Client, validation: &str) {
    let body = json!({"name": "order.created", "schema": schema(), "validation": validation,
        "example": {"id": 1}});
    create(client, body).await;
}

#[tokio::test]
async fn a_payload_that_breaks_the_schema_is_refused_with_its_path() {
    let system = System::start().await;
    let client = system.client().await;
    ordered(&client, "reject").await;
    let refused = client.post_json("/events", &bad()).await;
    let told = refused.expect(422);
    assert_eq!(
        (&told["error_code"], &told["details"]["field"], &told["details"]["path"]),
        (&json!("SCHEMA_MISMATCH"), &json!("payload"), &json!(PATH))
    );
    assert_eq!(
        told["details"]["problems"],
        json!([{"path": PATH, "reason": "value is not of type \"number\""}])
    );
    assert!(told["error"].as_str().unwrap().contains("order.created"), "{told}");
    let good = json!({"event_type": "order.created", "payload": {"id": 1.0, "more": true}});
    let accepted = client.post_json("/events", &good).await.expect(202);
    assert!(accepted.get("warnings").is_none(), "{accepted}");
    // In a batch for that event only.
    let batch = json!({"events": [good, bad(), {"event_type": "other", "payload": {"id": "x"}}]});
    let told = client.post_json("/events/batch", &batch).await.expect(202);
    assert_eq!((&told["accepted"], &told["rejected"]), (&json!(2), &json!(1)));
    let rejected = &told["results"][1];
    assert_eq!(
        (&rejected["error_code"], &rejected["details"]["path"]),
        (&json!("SCHEMA_MISMATCH"), &json!(PATH))
    );
    assert_eq!(client.get("/v1/events").await.expect(200)["data"].as_array().unwrap().len(), 3);
    let metrics = system.gateways[0].registry.render().unwrap();
    assert!(metrics.contains(r#"hookyard_events_off_schema_total{outcome="rejected"} 2"#), "{metrics}");
    // Types and tenants without rules are not concerned.
    let other = system.tenant("Other").await;
    let theirs = client.with_key(&system.key_of(other, &[Scope::Admin], super::unlimited()).await.1);
    theirs.post_json("/events", &bad()).await.expect(202);
}

#[tokio::test]
async fn a_warning_does_not_keep_an_event_out() {
    let system = System::start().await;
    let client = system.client().await;
    ordered(&client, "warn").await;
    let accepted = client.post_json("/events", &bad()).await.expect(202);
    let warnings = json!([{"path": PATH, "reason": "value is not of type \"number\""}]);
    assert_eq!((&accepted["status"], &accepted["warnings"]), (&json!("accepted"), &warnings));
    let batch = json!({"events": [bad(), {"event_type": "order.created", "payload": {"id": 1}}]});
    let told = client.post_json("/events/batch", &batch).await.expect(202);
    assert_eq!(told["results"][0]["warnings"], warnings);
    assert!(told["results"][1].get("warnings").is_none(), "{told}");
    // The answer to an earlier request is given again as it was.
    let again = async || {
        client.request("POST", "/events").header("idempotency-key", "k").json(bad().to_string()).send().await
    };
    assert_eq!(again().await.expect(202), again().await.expect(202));
    assert_eq!(client.get("/v1/events").await.expect(200)["data"].as_array().unwrap().len(), 4);
}

#[tokio::test]
async fn what_was_answered_counts_at_every_gateway() {
    let system = System::with(Options { gateways: 2, ..Options::default() }).await;
    let client = system.client().await;
    let other = client.at(system.gateways[1].addr);
    let status = async |client: &Client| client.post_json("/events", &bad()).await.status;
    create(&client, json!({"name": "order.created", "schema": schema()})).await;
    for (change, expected) in [
        (json!({"validation": "reject"}), 422),
        (json!({"schema": {}}), 202),
        (json!({"schema": schema(), "validation": "warn"}), 202),
        (json!({"validation": "reject"}), 422),
        (json!({"validation": "off"}), 202),
        (json!({"archived": true}), 422),
        (json!({"archived": false}), 202),
    ] {
        patch(&client, "order.created", change.clone()).await.expect(200);
        assert_eq!((status(&other).await, status(&client).await), (expected, expected), "{change}");
    }
}

#[tokio::test]
async fn an_archived_type_takes_no_events() {
    let system = System::start().await;
    let client = system.client().await;
    create(&client, json!({"name": "order.created", "archived": true})).await;
    let event = json!({"event_type": "order.created", "payload": {}});
    let refused = client.post_json("/events", &event).await;
    assert_eq!(refused.error(), (422, "EVENT_TYPE_ARCHIVED".to_owned()));
    assert_eq!(refused.json()["details"]["field"], "event_type");
    let batch = client.post_json("/events/batch", &json!({"events": [event]})).await.expect(202);
    assert_eq!(batch["results"][0]["error_code"], "EVENT_TYPE_ARCHIVED");
    assert_eq!(client.get("/v1/events").await.expect(200)["data"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn actions_emit_only_what_could_be_posted() {
    let options = Options::whole(Bus::in_process(), Vec::new());
    let engine = Engine { runners: 1, ..Engine::default() };
    let system = System::with(Options { engine: Some(engine), ..options }).await;
    let client = system.client().await;
    ordered(&client, "reject").await;
    let run = json!({"action": "event.emit", "input": bad()});
    let refused = client.post_json("/v2/action-runs", &run).await.expect(400);
    assert_eq!(refused["errors"][0]["source"]["pointer"], format!("/input/payload{PATH}"), "{refused}");
    patch(&client, "order.created", json!({"validation": "warn"})).await.expect(200);
    let made = client.post_json("/v2/action-runs", &run).await.expect(200);
    let id = made["data"]["id"].as_str().unwrap().to_owned();
    let end = Instant::now() + Duration::from_secs(30);
    let shown = loop {
        let shown = client.get(&format!("/v2/action-runs/{id}")).await.expect(200)["data"].clone();
        if shown["status"] == "success" || shown["status"] == "error" {
            break shown;
        }
        assert!(Instant::now() < end, "{shown}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(
        (&shown["status"], &shown["results"][0]["warnings"][0]["path"]),
        (&json!("success"), &json!(PATH))
    );
}

/// A run that was asked for before the rules changed is judged by those of the moment at which it acts.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_waited_is_judged_when_it_acts() {
    let system = System::start().await;
    let client = system.client().await;
    let run = json!({"action": "event.emit", "input": bad()});
    let made = client.post_json("/v2/action-runs", &run).await.expect(200);
    ordered(&client, "reject").await;
    // Now a runner comes.
    let engine = Engine { runners: 1, registries: 0, deliverers: 0, ..Engine::default() };
    let _running = hookyard_tests::engine::RunningEngine::start(
        Some(&engine),
        &system.database,
        &system.bus,
        &system.clock,
    );
    let id = made["data"]["id"].as_str().unwrap();
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let shown = client.get(&format!("/v2/action-runs/{id}")).await.expect(200)["data"].clone();
        if shown["status"] == "error" {
            let detail = shown["errors"][0]["detail"].as_str().unwrap();
            assert!(detail.contains("order.created") && detail.contains(PATH), "{shown}");
            break;
        }
        assert!(shown["status"] != "success" && Instant::now() < end, "{shown}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(client.get("/v1/events?event_type=order.created").await.expect(200)["data"], json!([]));
}

#[tokio::test]
async fn a_schema_is_refused_with_the_place_of_its_mistake_and_changes_nothing() {
    let system = System::start().await;
    let client = system.client().await;
    let wrong = json!({"name": "a.b", "schema": {"properties": {"a/b": {"type": "numbr"}}}});
    let told = client.post_json("/v1/event-types", &wrong).await.expect(422);
    assert_eq!(
        (&told["error_code"], &told["details"]["field"], &told["details"]["path"]),
        (&json!("INVALID_SCHEMA"), &json!("schema"), &json!("/properties/a~1b/type"))
    );
    assert_eq!(client.get("/v1/event-types/a.b").await.status, 404);
    ordered(&client, "reject").await;
    let before = client.get("/v1/event-types/order.created").await.expect(200);
    for (change, path) in [
        (json!({"schema": {"required": ["total"]}}), ""),
        (json!({"example": {"id": "x"}}), "/id"),
        (json!({"schema": null}), ""),
    ] {
        let reply = patch(&client, "order.created", change.clone()).await;
        let told = reply.expect(422);
        assert_eq!(told["error_code"], "INVALID_FIELD", "{change}: {told}");
        assert_eq!(told["details"]["path"].as_str().unwrap_or_default(), path, "{change}: {told}");
    }
    assert_eq!(client.get("/v1/event-types/order.created").await.expect(200), before);
    // Both at once go together.
    let both = json!({"schema": {"required": ["total"]}, "example": {"total": 1}});
    patch(&client, "order.created", both).await.expect(200);
}

#[tokio::test]
async fn schemas_and_examples_of_a_tenant_have_room_for_8_mib() {
    let system = System::start().await;
    let client = system.client().await;
    let large = |n: usize, title: usize, example: usize| json!({"name": format!("t{n}"), "schema": {"title": "x".repeat(title - 12)}, "example": {"a": "x".repeat(example - 8)}});
    let full: Vec<_> = (0..63).map(|n| large(n, 65_536, 65_536)).collect();
    for body in &full {
        create(&client, body.clone()).await;
    }
    create(&client, large(63, 65_536, 65_535)).await;
    let one_more = json!({"name": "t64", "example": {"": 1}});
    let refused = client.post_json("/v1/event-types", &one_more).await;
    assert_eq!(refused.error(), (409, "CONFLICT".to_owned()), "{}", refused.text());
    assert_eq!(client.get("/v1/event-types/t64").await.status, 404);
    create(&client, json!({"name": "t64"})).await;
    patch(&client, "t63", large(63, 65_536, 65_536)).await.expect(200);
    assert_eq!(patch(&client, "t64", json!({"example": {}})).await.error().0, 409);
}
