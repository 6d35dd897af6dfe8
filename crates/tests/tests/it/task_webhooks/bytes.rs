//! What is sent, byte for byte, and what it is signed with (contract §5, §8).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hookyard_chassis::settings::Secret;
use hookyard_domain::{
    db::Conn,
    event,
    id::EventId,
    subscription, tenant,
    wire::{SigningSecret, WebhookSecret},
};
use hookyard_messaging::Bus;
use hookyard_tests::{receiver::Received, secrets::vault, tools};
use serde_json::json;

use super::{Run, endpoint, settled};
use crate::{pipeline::stage::Stage, verification::payloads};

/// Contract §8.
const VECTOR: &str = r#"{"event":"task_completed","run_id":"660e8400-e29b-41d4-a716-446655440001","task_id":"550e8400-e29b-41d4-a716-446655440000","status":"completed","result":"café ☕","error":null,"timestamp":"2025-01-19T10:35:00Z"}"#;
const SIGNATURE: &str = "sha256=5ae66937c7d6c8fac57d5461af68150839ce4ffd3c3962a7a7e7e03c9a036fe4";
const SECRET: &str = "your_webhook_secret";

/// Reports one step with this payload, and returns it as it came.
async fn sent(stage: &Stage, run: Run, path: &str, payload: &str) -> (EventId, Received) {
    stage.advance(1);
    let now = stage.system.clock.now();
    let event = run.event_of("completed", payload, now);
    let id = event.id;
    let before = stage.receiver.count(path);
    stage.system.db.run(move |conn| run.write(conn, event, now)).await.unwrap();
    run.let_go(&stage.system.db, &stage.system.bus, now).await;
    settled(stage, run.delivery(id), "delivered", 1).await;
    (id, stage.received(path, before + 1).await.pop().unwrap())
}

async fn signing_secret(stage: &Stage, run: Run) -> SigningSecret {
    let find = move |conn: &mut Conn| {
        subscription::endpoint::signing_secret(conn, &vault(), run.tenant, run.endpoint)
    };
    stage.system.db.once(find).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_vector_of_the_contract_is_sent_as_it_stands_there() {
    let stage = Stage::open(Bus::in_process()).await;
    let run =
        Run { endpoint: endpoint(&stage, "vector", Some(SECRET)).await, ..Run::to(&stage, "vector").await };
    let (id, got) = sent(&stage, run, "vector", VECTOR).await;
    assert_eq!((String::from_utf8_lossy(&got.body).as_ref(), got.body.len()), (VECTOR, 213));
    assert_eq!(got.header("x-codetether-signature"), SIGNATURE);
    assert!(!got.headers.contains_key("x-triggersapi-signature"), "{:?}", got.headers);
    assert_eq!((got.method.as_str(), got.header("content-type")), ("POST", "application/json"));
    assert_eq!((got.header("x-event-id"), got.header("x-attempt")), (id.to_string().as_str(), "1"));
    assert_eq!(got.header("x-correlation-id"), "run");
    assert_eq!(got.header("x-delivery-id"), run.delivery(id).to_string());
    assert!(got.header("user-agent").starts_with("Hookyard/"), "{:?}", got.headers);
    let (message, timestamp) = (got.header("webhook-id"), got.header("webhook-timestamp").parse().unwrap());
    assert_eq!(message, id.to_string().replace("evt_", "msg_"));
    let signed = signing_secret(&stage, run).await.standard_webhooks(message, timestamp, VECTOR.as_bytes());
    assert_eq!(got.header("webhook-signature"), signed);
    // What is kept is the event; what was sent is a slice of it.
    let find = move |conn: &mut Conn| event::store::find(conn, run.tenant, id);
    let stored = stage.system.db.once(find).await.unwrap().unwrap();
    assert_eq!(event::payload(&stored.body), Some(VECTOR.as_bytes()));
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_secret_is_the_tasks_else_the_tenants_else_the_installations() {
    let stage = Stage::with(Bus::in_process(), |_, engine| {
        engine.delivery.task_webhook_secret = Some(Secret::new("installation"));
    })
    .await;
    let signed = |secret: &str| WebhookSecret::parse(secret).unwrap().codetether(VECTOR.as_bytes());
    let plain = Run::to(&stage, "plain").await;
    let own = Run { endpoint: endpoint(&stage, "own", Some("own")).await, ..plain };
    let (_, got) = sent(&stage, plain, "plain", VECTOR).await;
    assert_eq!(got.header("x-codetether-signature"), signed("installation"));
    let (tenant, now) = (stage.system.tenant, stage.system.clock.now());
    let set = move |conn: &mut Conn| {
        let secret = WebhookSecret::parse("tenants").unwrap();
        tenant::store::set_webhook_secret(conn, tenant, Some((&vault(), &secret)), now)
    };
    stage.system.db.run(set).await.unwrap();
    let (_, got) = sent(&stage, plain, "plain", VECTOR).await;
    assert_eq!(got.header("x-codetether-signature"), signed("tenants"));
    let (_, got) = sent(&stage, own, "own", VECTOR).await;
    assert_eq!(got.header("x-codetether-signature"), signed("own"));
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_secret_the_header_is_absent_and_a_standard_webhooks_secret_signs_both() {
    let stage = Stage::open(Bus::in_process()).await;
    let plain = Run::to(&stage, "plain").await;
    let (_, got) = sent(&stage, plain, "plain", VECTOR).await;
    assert!(!got.headers.contains_key("x-codetether-signature"), "{:?}", got.headers);
    assert!(got.headers.contains_key("webhook-signature"));
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let both = Run { endpoint: endpoint(&stage, "both", Some(secret)).await, ..plain };
    assert_eq!(signing_secret(&stage, both).await.expose(), secret);
    let (_, got) = sent(&stage, both, "both", VECTOR).await;
    let expected = WebhookSecret::parse(secret).unwrap().codetether(VECTOR.as_bytes());
    assert_eq!(got.header("x-codetether-signature"), expected);
    stage.close().await;
}

/// Source 1's snippet as it stands there, and the official packages, on results that have broken signatures before.
#[tokio::test(flavor = "multi_thread")]
async fn receivers_in_javascript_and_python_accept_every_webhook() {
    let stage = Stage::open(Bus::in_process()).await;
    let run =
        Run { endpoint: endpoint(&stage, "verify", Some(SECRET)).await, ..Run::to(&stage, "verify").await };
    let signing = signing_secret(&stage, run).await;
    let mut lines = String::new();
    let payloads = payloads();
    for (name, payload) in &payloads {
        let text = serde_json::to_string(payload).unwrap();
        let body = format!(
            r#"{{"event":"task_completed","run_id":"{id}","task_id":"{id}","status":"completed","result":{text},"error":null,"timestamp":"2025-01-19T10:35:00Z","details":{payload}}}"#,
            id = run.id
        );
        let (_, got) = sent(&stage, run, "verify", &body).await;
        let line = json!({
            "name": name,
            "body": STANDARD.encode(&got.body),
            "headers": got.headers,
            "secret": SECRET,
            "signing": signing.expose(),
        });
        lines.push_str(&format!("{line}\n"));
    }
    stage.close().await;
    let expected = format!("verified {}\n", payloads.len());
    let mut node = tools::node("standardwebhooks");
    node.arg(tools::fixture("receivers/task_webhook.js"));
    assert_eq!(tools::run(node, &lines), expected);
    let mut python = tools::python();
    python.arg(tools::fixture("receivers/task_webhook.py"));
    assert_eq!(tools::run(python, &lines), expected);
}
