//! An endpoint that is enabled with what was kept for it, in one step.

use hookyard_messaging::Bus;
use serde_json::{Value, json};

use super::{completed, consumer, orders};
use crate::pipeline::stage::{Stage, text};

#[tokio::test(flavor = "multi_thread")]
async fn what_was_kept_is_sent_when_an_endpoint_is_enabled() {
    let stage = Stage::open(Bus::in_process()).await;
    for (path, kind) in [("hook", "/v1/hooks"), ("consumer", "/webhooks")] {
        let id = match path {
            "hook" => stage.hook(path, json!({"event_type": "order.*"})).await,
            _ => consumer(&stage, path, json!({})).await,
        };
        // Long ago, and given up: not kept.
        let arrived = orders(&stage, 1).await.remove(0);
        stage.ended(&arrived, &id, "delivered").await;
        stage.answer(path, 500);
        let waits = orders(&stage, 2).await;
        for event in &waits {
            stage.tried(event, &id, 1).await;
        }
        stage.client.post(&format!("{kind}/{id}/disable"), "").await.expect(200);
        let missed = orders(&stage, 3).await;
        stage.answer(path, 200);
        let before = stage.receiver.count(path);
        let enabled = stage
            .client
            .post_json(&format!("{kind}/{id}/enable"), &json!({"replay": true}))
            .await
            .expect(200);
        assert_eq!(enabled["state"], "pending", "{enabled}");
        let recovery = &enabled["recovery"];
        assert_eq!(
            (&recovery["which"], text(&recovery["endpoint_id"])),
            (&json!("undelivered"), id.as_str())
        );
        let ended = completed(&stage, recovery).await;
        assert_eq!(ended["queued"], 5, "{ended}");
        for event in waits.iter().chain(&missed) {
            stage.ended(event, &id, "delivered").await;
        }
        let farewells = usize::from(path == "hook");
        let got = stage.receiver.at(path).split_off(before);
        assert!(got.iter().filter(|one| one.method == "POST").count() == 5, "{got:?}");
        assert!(got.len() <= 5 + farewells);
        // Enabled already: only with a time, and then a recovery is all that it is.
        let again = |replay: Value| {
            let client = stage.client.clone();
            let path = format!("{kind}/{id}/enable");
            async move { client.post_json(&path, &json!({"replay": replay})).await }
        };
        assert_eq!(again(json!(true)).await.error(), (422, "INVALID_FIELD".to_owned()));
        assert_eq!(again(json!(false)).await.expect(200)["recovery"], Value::Null);
        let since = super::beginning(&stage);
        let chosen =
            json!({"since": since, "which": "all", "event_types": ["order.created"], "per_second": 7});
        let enabled = again(chosen).await.expect(200);
        assert_eq!(
            (&enabled["recovery"]["per_second"], &enabled["recovery"]["which"]),
            (&json!(7), &json!("all"))
        );
        completed(&stage, &enabled["recovery"]).await;
        stage.client.delete(&format!("{kind}/{id}")).await.expect(200);
    }
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_is_refused_leaves_it_disabled() {
    let stage = Stage::open(Bus::in_process()).await;
    let id = consumer(&stage, "kept", json!({"disabled": true})).await;
    for (replay, code) in [
        (json!("yes"), "INVALID_FIELD"),
        (json!(1), "INVALID_FIELD"),
        (json!({"which": "some"}), "INVALID_FIELD"),
        (json!({"per_second": 0}), "INVALID_FIELD"),
        (json!({"event_types": ["a b"]}), "INVALID_EVENT_TYPE"),
    ] {
        let reply =
            stage.client.post_json(&format!("/webhooks/{id}/enable"), &json!({"replay": replay})).await;
        assert_eq!(reply.error(), (422, code.to_owned()), "{replay}");
        let shown = stage.client.get(&format!("/webhooks/{id}")).await.expect(200);
        assert_eq!(shown["state"], "disabled", "{replay}");
    }
    assert_eq!(stage.client.get("/v1/recoveries").await.expect(200)["data"], json!([]));
    stage.close().await;
}
