//! `rateLimit.reached`: a tenant is told that one of its keys has used a limit up.

use chrono::TimeDelta;
use hookyard_domain::credential::{Limits, Scope};
use hookyard_messaging::Bus;
use serde_json::json;

use crate::pipeline::stage::{Stage, text, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_is_reached_is_told_once_in_an_hour() {
    let stage = Stage::open(Bus::in_process()).await;
    let news = stage.hook("news", json!({"event_type": "rateLimit.*"})).await;
    let limits = Limits { requests: Some(3), samples: Some(1), ..Limits::default() };
    let (id, key) =
        stage.system.key_of(stage.system.tenant, &[Scope::EventsRead, Scope::HooksRead], limits).await;
    let client = stage.client.with_key(&key);
    for status in [200, 200] {
        assert_eq!(client.get("/v1/events").await.status, status);
    }
    assert_eq!(stage.receiver.count("news"), 0, "one is left");
    for status in [200, 429, 429] {
        assert_eq!(client.get("/v1/events").await.status, status);
    }
    let told = stage.received("news", 1).await.remove(0).json();
    let payload = &told["payload"];
    assert_eq!(told["event_type"], "rateLimit.reached");
    assert_eq!(
        (text(&payload["key_id"]), &payload["limit"], &payload["requests"], &payload["window_seconds"]),
        (id.to_string().as_str(), &json!("requests"), &json!(3), &json!(60))
    );
    let described = stage.client.get("/v1/event-types/rateLimit.reached").await.expect(200);
    assert!(jsonschema::validator_for(&described["schema"]).unwrap().is_valid(payload), "{payload}");
    // Each limit by itself, but not again with the next window.
    client.get("/zapier/hook/sample").await.expect(200);
    let second = stage.received("news", 2).await.remove(1).json();
    assert_eq!(second["payload"]["limit"], "samples");
    // Written down: what is not is tried again when its lease ends.
    stage.counted(&news, 2, 0).await;
    stage.system.clock.advance(TimeDelta::seconds(61));
    for _ in 0..3 {
        client.get("/v1/events").await.expect(200);
    }
    stage.let_everything_happen().await;
    assert_eq!(stage.receiver.count("news"), 2);
    // In the next hour it is.
    stage.system.clock.advance(TimeDelta::seconds(3_601));
    until("the limit is told again", async || {
        client.get("/v1/events").await;
        if stage.receiver.count("news") == 3 { Ok(()) } else { Err(stage.receiver.count("news")) }
    })
    .await;
    stage.close().await;
}
