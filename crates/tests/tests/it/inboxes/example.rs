//! docs/examples/inbox.py, as it stands there.

use std::process::{Child, Command, Stdio};

use hookyard_domain::credential::Scope;
use hookyard_messaging::Bus;
use serde_json::json;

use super::{counts, inbox};
use crate::pipeline::stage::{Stage, until};

/// Ended when dropped.
struct Example(Child);

impl Drop for Example {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _ended = self.0.wait();
    }
}

#[test]
fn it_is_short_and_needs_nothing() {
    let text = include_str!("../../../../../docs/examples/inbox.py");
    assert!(text.lines().count() <= 60, "{}", text.lines().count());
    assert_eq!(text.lines().filter(|line| line.contains("import ")).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_takes_what_comes_and_gives_back_what_fails() {
    let stage = Stage::open(Bus::in_process()).await;
    let id = inbox(&stage.client, json!({"max_leases": 2})).await;
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/examples/inbox.py");
    let child = Command::new("python3")
        .args(["-I", path, &id])
        .env("HOOKYARD_URL", format!("http://{}", stage.system.gateways[0].addr))
        // Fetching needs no more than this.
        .env("HOOKYARD_KEY", stage.system.key(&[Scope::EventsRead]).await)
        .env("HOOKYARD_DELAY", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn();
    let _example = Example(child.expect("Python starts"));
    for n in 0..5 {
        stage.post("order.created", json!({"order": n})).await;
    }
    // One that the example cannot handle: it has no order.
    stage.post("order.created", json!({"oder": 5})).await;
    until("all but one are acknowledged, and that one is quarantined", async || {
        let now = counts(&stage.client, &id).await;
        let left = (&now["waiting"], &now["leased"], &now["delayed"], &now["quarantined"]);
        if left == (&json!(0), &json!(0), &json!(0), &json!(1)) && now["last_sequence"] == 6 {
            Ok(())
        } else {
            Err(now)
        }
    })
    .await;
    let page = stage.client.get(&format!("/v1/inboxes/{id}/messages?state=quarantined")).await.expect(200);
    assert_eq!(page["data"][0]["event"]["payload"], json!({"oder": 5}));
    assert!(page["data"][0]["last_reason"].as_str().unwrap().contains("KeyError"), "{page}");
    stage.close().await;
}
