//! What Hookyard does to hooks by its own rules, on the whole pipeline.

use chrono::TimeDelta;
use hookyard_messaging::Bus;
use hookyard_tests::receiver::Answer;
use serde_json::{Value, json};

use super::exported;
use crate::pipeline::stage::{Stage, until};

/// Entries that no caller wrote, once there are so many.
async fn by_the_system(stage: &Stage, count: usize) -> Vec<Value> {
    until(&format!("{count} entries of the system"), async || {
        let mut all = exported(&stage.client).await;
        all.retain(|entry| entry["actor"]["kind"] == "system");
        if count <= all.len() { Ok(all) } else { Err(all) }
    })
    .await
}

fn told(entry: &Value) -> Value {
    let actor =
        json!({"kind": "system", "id": null, "name": "registry", "address": null, "request_id": null});
    assert_eq!(entry["actor"], actor);
    json!([entry["action"], entry["object"]["id"], entry["before"], entry["after"]])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_that_is_refused_gone_or_over_is_told_by_the_registry() {
    let stage = Stage::open(Bus::in_process()).await;
    let refused = stage.hook("refused", json!({"event_type": "refused.*"})).await;
    stage.receiver.script("refused", [401; 5].map(Answer::status));
    for _ in 0..5 {
        let event = stage.post("refused.one", json!({})).await;
        stage.ended(&event, &refused, "dead").await;
    }
    let entries = by_the_system(&stage, 1).await;
    let reason = "the receiver refused 5 deliveries in a row, the last with http_401";
    let url = stage.receiver.url("refused");
    assert_eq!(
        told(&entries[0]),
        json!(["hook.disabled", refused, {"state": "failing", "url": url},
            {"state": "disabled", "state_reason": reason, "url": url}])
    );

    let gone = stage.hook("gone", json!({"event_type": "gone.*"})).await;
    stage.answer("gone", 410);
    stage.post("gone.one", json!({})).await;
    let entries = by_the_system(&stage, 2).await;
    let url = stage.receiver.url("gone");
    assert_eq!(
        told(&entries[1]),
        json!(["hook.removed", gone, {"state": "pending", "url": url},
            {"state": "deleted", "state_reason": "the receiver answered 410 Gone", "url": url}])
    );

    let end = stage.system.clock.now() + TimeDelta::minutes(10);
    let guest = json!({"event_type": "guest.*", "expiration_date": end.to_rfc3339()});
    let guest = stage.hook("guest", guest).await;
    stage.advance_beyond(end);
    let entries = by_the_system(&stage, 3).await;
    let url = stage.receiver.url("guest");
    assert_eq!(
        told(&entries[2]),
        json!(["hook.removed", guest, null, {"state": "deleted", "state_reason": "expired", "url": url}])
    );
    stage.let_everything_happen().await;
    assert_eq!(by_the_system(&stage, 3).await.len(), 3);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_turns_forbidden_is_told_once() {
    let inside = "http://10.1.2.3/";
    let stage = Stage::with(Bus::in_process(), |options, engine| {
        options.extra_url_prefixes.push(inside.to_owned());
        engine.egress.allow = vec!["127.0.0.1/32".parse().unwrap()];
    })
    .await;
    let hook = stage.hook_at(inside, json!({"event_type": "a.b"})).await;
    for round in 1..=3 {
        let event = stage.post("a.b", json!({})).await;
        stage.ended(&event, &hook, "dead").await;
        stage.counted(&hook, 0, round).await;
    }
    let entries = by_the_system(&stage, 1).await;
    assert_eq!(
        entries.iter().map(told).collect::<Vec<_>>(),
        [json!(["hook.address_forbidden", hook, null, {"url": inside, "sent": false}])]
    );
    stage.close().await;
}
