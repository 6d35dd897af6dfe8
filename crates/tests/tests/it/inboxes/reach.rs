//! Which events come into an inbox, and what they look like there; and that nobody tries to send them.

use hookyard_messaging::Bus;
use serde_json::{Value, json};

use super::{fill, inbox, lease};
use crate::pipeline::stage::{Stage, text};

async fn post(stage: &Stage, body: Value) -> String {
    text(&stage.client.post_json("/events", &body).await.expect(202)["event_id"]).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_comes_into_each_inbox_that_wants_it_byte_for_byte_as_it_is_sent_to_hooks() {
    let stage = Stage::open(Bus::in_process()).await;
    let mut ids = std::collections::HashMap::new();
    for (name, more) in [
        ("all", json!({})),
        ("exact", json!({"event_types": ["user.created", "order.created"]})),
        ("pattern", json!({"event_types": ["order.*"]})),
        ("filtered", json!({"filter": {"payload.n": 1}})),
        ("tagged", json!({"tags": ["region:uk"]})),
        ("other", json!({"event_types": ["order.deleted"]})),
        ("filtered-out", json!({"filter": {"payload.n": 2}})),
        ("tagged-out", json!({"tags": ["region:fr"]})),
    ] {
        ids.insert(inbox(&stage.client, more).await, name);
    }
    ids.insert(stage.hook("hook", json!({"event_type": "order.created"})).await, "hook");
    let body = json!({"event_type": "order.created", "payload": {"n": 1, "text": "café \u{2028} \"x\"", "z": 1.0, "a": 1e21},
        "metadata": {"tags": ["region:uk"]}});
    let event = post(&stage, body).await;
    let mut got: Vec<&str> = stage.goes_to(&event).await.iter().map(|id| ids[id]).collect();
    got.sort_unstable();
    assert_eq!(got, ["all", "exact", "filtered", "hook", "pattern", "tagged"]);
    let sent = String::from_utf8(stage.received("hook", 1).await[0].body.clone()).unwrap();
    for (id, name) in ids.iter().filter(|(_, name)| got.contains(name) && **name != "hook") {
        let path = format!("/v1/inboxes/{id}/messages/lease");
        let answer = stage.client.post(&path, "").await;
        assert!(answer.text().contains(&format!("\"event\":{sent}")), "{name}: {} {sent}", answer.text());
    }
    stage.close().await;
}

/// Hookyard's own events go to those who name them.
#[tokio::test(flavor = "multi_thread")]
async fn our_own_events_come_to_inboxes_that_ask_for_them() {
    let stage = Stage::open(Bus::in_process()).await;
    let (all, own) = (
        inbox(&stage.client, json!({})).await,
        inbox(&stage.client, json!({"event_types": ["hook.*"]})).await,
    );
    let hook = stage.hook("gone", json!({})).await;
    stage.client.post(&format!("/v1/hooks/{hook}/disable"), "").await.expect(200);
    super::filled(&stage.client, &own, 1).await;
    assert_eq!(lease(&stage.client, &own, 1).await[0]["event"]["event_type"], "hook.disabled");
    assert!(lease(&stage.client, &all, 1).await.is_empty());
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_sends_what_is_in_an_inbox_however_long_it_waits() {
    let stage = Stage::open(Bus::in_process()).await;
    let id = inbox(&stage.client, json!({})).await;
    fill(&stage, &id, 3).await;
    lease(&stage.client, &id, 1).await;
    // Leases of deliverers end, sweeps pass, and others' deliveries go through.
    stage.let_everything_happen().await;
    stage.advance(7_200_000);
    stage.let_everything_happen().await;
    let page =
        stage.client.get(&format!("/v1/deliveries?hook_id={id}&state=pending&limit=100")).await.expect(200);
    let pending = page["data"].as_array().unwrap();
    assert!(pending.len() >= 3, "{page}");
    for delivery in pending {
        let attempts = delivery["attempts"].as_i64().unwrap();
        assert!(attempts <= 1 && delivery["last_status"].is_null(), "{delivery}");
        assert_eq!(delivery["next_attempt_at"], Value::Null, "{delivery}");
    }
    let shown = stage.client.get(&format!("/v1/inboxes/{id}")).await.expect(200);
    assert_eq!(shown["messages"]["leased"], 0);
    stage.close().await;
}
