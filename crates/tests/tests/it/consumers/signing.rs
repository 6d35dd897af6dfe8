//! Signatures: `v1` and `v1a`, verified by other people's libraries, and rotation with its overlap.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::TimeDelta;
use hookyard_domain::{
    subscription::directory::Directory,
    vault::{MasterKey, Vault, store as keyring},
};
use hookyard_messaging::Bus;
use hookyard_tests::{receiver::Received, tools};
use serde_json::{Value, json};

use super::consumer;
use crate::{
    pipeline::stage::{Stage, text, time},
    verification::payloads,
};

fn line(name: &str, got: &Received, secret: &Value, public_key: &Value) -> String {
    let line = json!({
        "name": name,
        "body": STANDARD.encode(&got.body),
        "headers": got.headers,
        "signing": secret,
        "public_key": public_key,
    });
    format!("{line}\n")
}

/// What node's and Python's cryptography say of the lines: `standardwebhooks` for `v1`, ed25519 for `v1a`.
fn verify(lines: &str) -> [String; 2] {
    let mut node = tools::node("standardwebhooks");
    node.arg(tools::fixture("receivers/consumer.js"));
    let mut python = tools::python();
    python.arg(tools::fixture("receivers/consumer.py"));
    [tools::run(node, lines), tools::run(python, lines)]
}

#[tokio::test(flavor = "multi_thread")]
async fn libraries_in_javascript_and_python_accept_both_signatures() {
    let stage = Stage::open(Bus::in_process()).await;
    let id = consumer(&stage, "in", json!({"eventTypes": ["verify.me"]})).await;
    let keys = stage.client.get(&format!("/webhooks/{id}/secret")).await.expect(200);
    let (mut lines, payloads) = (String::new(), payloads());
    for (at, (name, payload)) in payloads.iter().enumerate() {
        let body = format!(r#"{{"event_type":"verify.me","payload":{payload}}}"#);
        stage.client.post("/events", body).await.expect(202);
        let got = stage.received("in", at + 1).await.remove(at);
        lines.push_str(&line(name, &got, &keys["secret"], &keys["public_key"]));
    }
    stage.close().await;
    let expected = format!("verified {}\n", payloads.len());
    assert_eq!(verify(&lines), [expected.clone(), expected]);
}

#[tokio::test(flavor = "multi_thread")]
async fn both_rotations_sign_until_the_overlap_ends() {
    let stage = Stage::open(Bus::in_process()).await;
    let id = consumer(&stage, "in", json!({})).await;
    let secret = async || stage.client.get(&format!("/webhooks/{id}/secret")).await.expect(200);
    let rotate = async |body: &str| stage.client.post(&format!("/webhooks/{id}/secret/rotate"), body).await;
    let send = async |at: usize| {
        stage.post("order.created", json!({"n": at})).await;
        stage.received("in", at).await.remove(at - 1)
    };
    let versions = |got: &Received| -> Vec<String> {
        let signatures = got.header("webhook-signature").split(' ');
        signatures.map(|one| one.split(',').next().unwrap().to_owned()).collect()
    };
    let first = secret().await;
    assert_eq!(first["previous_until"], Value::Null);
    let rotated = rotate("").await.expect(200);
    assert_eq!(secret().await, rotated);
    assert_ne!((&rotated["secret"], &rotated["public_key"]), (&first["secret"], &first["public_key"]));
    let until = time(&rotated["previous_until"]);
    let overlap = until - stage.system.clock.now();
    assert!(
        TimeDelta::hours(24) - TimeDelta::minutes(5) < overlap && overlap <= TimeDelta::hours(24),
        "{overlap}"
    );
    let shown = stage.client.get(&format!("/webhooks/{id}")).await.expect(200);
    assert_eq!(
        shown["previous"],
        json!({"public_key": first["public_key"], "until": rotated["previous_until"]})
    );
    // Whoever has either of them accepts what comes.
    let got = send(1).await;
    assert_eq!(versions(&got), ["v1", "v1", "v1a", "v1a"]);
    let mut lines = line("new", &got, &rotated["secret"], &rotated["public_key"]);
    lines.push_str(&line("old", &got, &first["secret"], &first["public_key"]));
    // A second rotation, with a secret of the owner's: the first pair ends at once.
    let own = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let second = rotate(&json!({"secret": own}).to_string()).await.expect(200);
    assert_eq!(second["secret"], own);
    let got = send(2).await;
    lines.push_str(&line("newer", &got, &second["secret"], &second["public_key"]));
    lines.push_str(&line("new, still", &got, &rotated["secret"], &rotated["public_key"]));
    assert_eq!(verify(&lines), ["verified 4\n", "verified 4\n"]);
    let refused = line("old, no more", &got, &first["secret"], &first["public_key"]);
    for said in verify(&refused) {
        assert!(said.starts_with("old, no more: ") && said.ends_with("verified 0\n"), "{said}");
    }
    // Just before the end of the overlap, and just after it.
    stage.advance_beyond(time(&second["previous_until"]) - TimeDelta::minutes(1));
    assert_eq!(versions(&send(3).await), ["v1", "v1", "v1a", "v1a"]);
    stage.advance_beyond(time(&second["previous_until"]));
    let got = send(4).await;
    assert_eq!(versions(&got), ["v1", "v1a"]);
    assert_eq!(
        verify(&line("alone", &got, &second["secret"], &second["public_key"])),
        ["verified 1\n", "verified 1\n"]
    );
    assert_eq!(stage.client.get(&format!("/webhooks/{id}")).await.expect(200)["previous"], Value::Null);
    stage.close().await;
}

#[tokio::test]
async fn a_rotation_that_is_repeated_rotates_once_and_what_is_no_secret_rotates_nothing() {
    let (_system, client) = super::start().await;
    let id = text(&super::made(&client, json!({})).await["id"]).to_owned();
    let path = format!("/webhooks/{id}/secret/rotate");
    let rotate = || client.request("POST", &path).header("idempotency-key", "k").send();
    let first = rotate().await.expect(200);
    let again = rotate().await.expect(200);
    assert_eq!(again["secret"], Value::Null, "it is shown once");
    assert_eq!(again["public_key"], first["public_key"]);
    let shown = client.get(&format!("/webhooks/{id}/secret")).await.expect(200);
    assert_eq!(shown["secret"], first["secret"]);
    for bad in ["whsec_", "secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS", ""] {
        let reply = client.post_json(&path, &json!({"secret": bad})).await;
        assert_eq!(reply.error(), (422, "INVALID_SECRET".to_owned()), "{bad}");
    }
    assert_eq!(client.get(&format!("/webhooks/{id}/secret")).await.expect(200), shown);
}

#[tokio::test]
async fn what_a_consumer_has_in_secret_goes_over_to_another_master_key() {
    let (system, client) = super::start().await;
    let made = super::made(&client, json!({"headers": {"authorization": "Bearer top"}})).await;
    let id = text(&made["id"]).to_owned();
    let rotated = client.post(&format!("/webhooks/{id}/secret/rotate"), "").await.expect(200);
    // The new key first, and the one of the tests behind it; then the new one alone.
    let (new, old) = (MasterKey::from_bytes([9; 32]), MasterKey::from_bytes([7; 32]));
    let both = Vault::new(new, vec![old]);
    let alone = Vault::new(MasterKey::from_bytes([9; 32]), Vec::new());
    let (vault, now) = (both.clone(), system.clock.now());
    system.db.run(move |conn| keyring::verify_or_register(conn, &vault, now)).await.unwrap();
    keyring::rotate(&system.db, &both, &mut |_, _| ()).await.unwrap();
    let directory = Directory::with_secrets(alone);
    let reading = directory.clone();
    system.db.once(move |conn| reading.refresh(conn)).await.unwrap();
    let consumer = directory.get(id.parse().unwrap()).unwrap();
    let secrets = consumer.secrets.as_ref().unwrap();
    let keys = secrets.consumer.as_ref().unwrap();
    assert_eq!(json!(secrets.signing.expose()), rotated["secret"]);
    assert_eq!(json!(keys.signing.public_key()), rotated["public_key"]);
    let previous = keys.previous.as_ref().unwrap();
    assert_eq!(json!(previous.signing.public_key()), made["public_key"]);
    assert_eq!(keys.headers.iter().collect::<Vec<_>>(), [("authorization", "Bearer top")]);
}
