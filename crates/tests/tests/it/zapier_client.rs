//! Zapier's own platform code as a client: the app in `fixtures/zapier-app` is run by `zapier-platform-core` in node, as
//! Zapier runs it, against a running Hookyard. Nothing of it leaves this machine.

use chrono::TimeDelta;
use hookyard_domain::credential::{Limits, Scope};
use hookyard_messaging::Bus;
use hookyard_tests::{system::unlimited, tools};
use serde_json::{Value, json};

use crate::pipeline::stage::{Stage, post, text};

/// Runs a step of the app with this key and these members of the bundle.
async fn zapier(stage: &Stage, step: &str, key: &str, more: Value) -> Value {
    let base = format!("http://{}", stage.system.gateways[0].addr);
    let mut bundle =
        json!({"authData": {"base": base, "key": key}, "inputData": {"event_type": "order.created"}});
    bundle.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let input = json!({"step": step, "bundle": bundle}).to_string();
    let mut node = tools::node("zapier-platform-core");
    node.arg(tools::fixture("zapier-app/run.js"));
    let printed = tokio::task::spawn_blocking(move || tools::run(node, &input)).await.unwrap();
    // The platform may log before the outcome.
    let outcome = printed.lines().last().unwrap_or_default();
    serde_json::from_str(outcome).unwrap_or_else(|error| panic!("{error}: {printed}"))
}

#[track_caller]
fn result(outcome: Value) -> Value {
    assert!(outcome.get("error").is_none(), "{outcome}");
    outcome["result"].clone()
}

const MEMBERS: [&str; 7] = ["created_at", "event_id", "event_type", "id", "metadata", "payload", "timestamp"];

fn members(event: &Value) -> Vec<&str> {
    let mut members: Vec<&str> = event.as_object().unwrap().keys().map(String::as_str).collect();
    members.sort_unstable();
    members
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zap_is_made_runs_and_is_turned_off() {
    let stage = Stage::open(Bus::in_process()).await;
    let scopes = [Scope::HooksRead, Scope::HooksWrite];
    let key = stage.system.key_of(stage.system.tenant, &scopes, unlimited()).await.1;
    result(zapier(&stage, "test", &key, json!({})).await);
    // The editor asks for samples before anything is subscribed.
    let samples = result(zapier(&stage, "performList", &key, json!({})).await);
    let samples = samples.as_array().unwrap();
    assert!((1..=3).contains(&samples.len()), "{samples:?}");
    for sample in samples {
        assert_eq!(members(sample), MEMBERS, "{sample}");
        assert_eq!(sample["event_type"], "order.created");
    }
    // Turned on.
    let target = stage.receiver.url("hooks/standard/1/abc/");
    let path = "hooks/standard/1/abc/";
    let subscribed = result(zapier(&stage, "performSubscribe", &key, json!({"targetUrl": target})).await);
    assert_eq!((&subscribed["status"], &subscribed["url"]), (&json!("success"), &json!(target)));
    let hook = text(&subscribed["id"]).to_owned();
    let event = post(&stage.client, "order.created", json!({"total": 12.50, "name": "é"})).await;
    post(&stage.client, "order.deleted", json!({})).await;
    stage.ended(&event, &hook, "delivered").await;
    let delivered = stage.received(path, 1).await.remove(0).json();
    // What Zapier hands to the Zap, which drops what it has seen by `id`.
    let items = result(zapier(&stage, "perform", &key, json!({"cleanedRequest": delivered})).await);
    assert_eq!((items.as_array().unwrap().len(), text(&items[0]["id"])), (1, event.as_str()));
    assert_eq!(items[0]["payload"], json!({"total": 12.5, "name": "é"}));
    // The sample is the real event from now on, with the very members of a delivery.
    let samples = result(zapier(&stage, "performList", &key, json!({})).await);
    assert_eq!((&samples[0], members(&delivered)), (&delivered, MEMBERS.to_vec()));
    // Turned off, by the URL in the body of DELETE.
    let off = json!({"targetUrl": target, "subscribeData": subscribed});
    let unsubscribed = result(zapier(&stage, "performUnsubscribe", &key, off.clone()).await);
    assert_eq!(unsubscribed, json!({"status": "deleted", "url": target}));
    assert_eq!(stage.shown(&hook).await["state"], "deleted");
    let late = post(&stage.client, "order.created", json!({})).await;
    assert_eq!(stage.goes_to(&late).await, [] as [String; 0]);
    // Zapier may do so twice; that is no error.
    let again = result(zapier(&stage, "performUnsubscribe", &key, off).await);
    assert_eq!(again["message"], "Webhook already deleted or not found");
    assert_eq!(stage.receiver.count(path), 1);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_key_and_a_limit_are_what_zapier_expects() {
    let stage = Stage::open(Bus::in_process()).await;
    let refused = zapier(&stage, "test", "ct_nobodys", json!({})).await;
    let told: Value = serde_json::from_str(text(&refused["error"]["message"])).unwrap();
    assert_eq!((text(&refused["error"]["name"]), &told["status"]), ("ResponseError", &json!(401)));
    let content: Value = serde_json::from_str(text(&told["content"])).unwrap();
    assert!(text(&content["error"]).len() < 250, "the text that a person reads: {content}");

    let target = stage.receiver.url("on");
    let limits =
        Limits { requests: Some(0), hook_writes: Some(1), hook_write_burst: Some(0), samples: Some(1) };
    let key =
        stage.system.key_of(stage.system.tenant, &[Scope::HooksRead, Scope::HooksWrite], limits).await.1;
    for step in ["performList", "performSubscribe"] {
        result(zapier(&stage, step, &key, json!({"targetUrl": target})).await);
        let throttled = zapier(&stage, step, &key, json!({"targetUrl": target})).await;
        assert_eq!(throttled["error"]["name"], "ThrottledError", "{step}: {throttled}");
        let told: Value = serde_json::from_str(text(&throttled["error"]["message"])).unwrap();
        let delay = told["delay"].as_i64().unwrap_or_else(|| panic!("Zapier reads no delay: {told}"));
        assert!((1..=60).contains(&delay), "{told}");
        // When Zapier comes back after that time, it is let in.
        stage.system.clock.advance(TimeDelta::seconds(delay));
        result(zapier(&stage, step, &key, json!({"targetUrl": target})).await);
    }
    // A URL that is not Zapier's is an error that says why.
    let key = stage.system.key(&[Scope::HooksWrite]).await;
    let evil = json!({"targetUrl": "https://evilzapier.com/hooks/standard/1/2/"});
    let refused = zapier(&stage, "performSubscribe", &key, evil).await;
    let told: Value = serde_json::from_str(text(&refused["error"]["message"])).unwrap();
    assert_eq!(told["status"], 422, "{told}");
    assert!(text(&told["content"]).contains("INVALID_WEBHOOK_URL"), "{told}");
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_editor_offers_types_and_names_their_fields() {
    let stage = Stage::open(Bus::in_process()).await;
    let schema = json!({"type": "object", "properties": {"total": {"type": "number", "title": "Grand Total"},
        "lines": {"type": "array", "items": {"type": "object", "properties": {"sku": {"type": "string"}}}},
        "tags": {"type": "array", "items": {"type": "string"}}, "at": {"type": "string", "format": "date-time"},
        "any": {}, "paid": {"type": "boolean"}, "extra": {"type": "object"}}});
    let body = json!({"name": "order.created", "description": "An order was placed.", "schema": schema});
    stage.client.post_json("/v1/event-types", &body).await.expect(201);
    let key = stage.system.key(&[Scope::HooksRead]).await;
    let choices = result(zapier(&stage, "choices", &key, json!({})).await);
    let choice = choices.as_array().unwrap().iter().find(|choice| choice["key"] == "order.created").unwrap();
    assert_eq!((text(&choice["id"]), text(&choice["label"])), ("order.created", "Order Created"));
    // Before the first event, with a schema and without one; with one, and with a pattern.
    for event_type in ["order.created", "task.*", "nobody.knows", "*.write.successful"] {
        let input = json!({"inputData": {"event_type": event_type}});
        let outcome = zapier(&stage, "outputFields", &key, input).await;
        assert_eq!(outcome["complaints"], json!([]), "{event_type}: what Zapier's own schema says");
        let fields = result(outcome);
        let fields = fields.as_array().unwrap();
        assert_eq!((text(&fields[0]["key"]), text(&fields[fields.len() - 1]["key"])), ("id", "created_at"));
        let input = json!({"inputData": {"event_type": event_type}});
        let samples = result(zapier(&stage, "performList", &key, input).await);
        let sample = &samples.as_array().unwrap()[0];
        if !event_type.contains('*') {
            // What the editor shows beside them has every one of these keys (Zapier's check T006).
            for field in fields {
                let path = text(&field["key"]).split("[]").next().unwrap().replace("__", "/");
                assert!(sample.pointer(&format!("/{path}")).is_some(), "{field} in {sample}");
            }
        }
    }
    let total = async || {
        let fields = result(zapier(&stage, "outputFields", &key, json!({})).await);
        fields.as_array().unwrap().iter().find(|field| field["key"] == "payload__total").cloned().unwrap()
    };
    assert_eq!(
        total().await,
        json!({"key": "payload__total", "label": "Grand Total", "type": "number", "sample": 1})
    );
    stage.post("order.created", json!({"total": 12.5})).await;
    assert_eq!(total().await["sample"], 12.5);
    stage.close().await;
}
