//! The breaker of an endpoint, as its owner sees it.

use hookyard_messaging::Bus;
use serde_json::{Value, json};

use super::consumer;
use crate::pipeline::stage::{Stage, text, time, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_breaker_is_told_when_it_opens_probes_and_closes() {
    let stage = Stage::with(Bus::in_process(), |_, engine| {
        engine.delivery.breaker_failures = 3;
        // Long enough to be seen, and moved by the clock.
        engine.delivery.breaker_cooldown_ms = 60_000;
        engine.delivery.breaker_max_cooldown_ms = 600_000;
    })
    .await;
    let id = consumer(&stage, "ill", json!({})).await;
    let path = format!("/webhooks/{id}/health");
    let health = async || stage.client.get(&path).await.expect(200);
    let closed = json!({"state": "closed", "opened_at": null, "next_probe_at": null, "failures": null});
    assert_eq!(health().await["breaker"], closed);
    stage.answer("ill", 500);
    let mut events = Vec::new();
    for n in 0..3 {
        let event = stage.post("order.created", json!({"n": n})).await;
        stage.tried(&event, &id, 1).await;
        events.push(event);
    }
    let breaker = async |state: &str| {
        until(&format!("the breaker is {state}"), async || {
            let shown = health().await;
            if shown["breaker"]["state"] == state { Ok(shown) } else { Err(shown) }
        })
        .await
    };
    let open = breaker("open").await;
    let (opened, probe) = (open["breaker"]["opened_at"].clone(), time(&open["breaker"]["next_probe_at"]));
    assert_eq!(open["breaker"]["failures"], 3, "{open}");
    assert!(time(&opened) < probe, "{open}");
    assert!(
        text(&open["summary"])
            .contains(&format!("left alone until {}", text(&open["breaker"]["next_probe_at"]))),
        "{open}"
    );
    let french = stage.client.request("GET", &path).header("accept-language", "fr").send().await.expect(200);
    assert!(text(&french["summary"]).contains("laissé tranquille jusqu'au"), "{french}");
    // The probe fails: it stays open, for longer.
    stage.advance_beyond(probe);
    let longer = until("the probe has failed", async || {
        stage.advance(200);
        let shown = health().await;
        let again =
            shown["breaker"]["next_probe_at"].is_string() && time(&shown["breaker"]["next_probe_at"]) > probe;
        if again { Ok(shown) } else { Err(shown) }
    })
    .await;
    assert_eq!(
        (&longer["breaker"]["opened_at"], &longer["breaker"]["failures"]),
        (&opened, &json!(4)),
        "{longer}"
    );
    // The next one is answered: everything goes.
    stage.answer("ill", 200);
    stage.advance_beyond(time(&longer["breaker"]["next_probe_at"]));
    until("everything has arrived", async || {
        stage.advance(1_000);
        let shown: Value =
            stage.client.get(&format!("/v1/messages?endpoint_id={id}&status=Success")).await.expect(200);
        if shown["data"].as_array().unwrap().len() == events.len() { Ok(()) } else { Err(shown) }
    })
    .await;
    assert_eq!(breaker("closed").await["breaker"], closed);
    let hook = stage.hook("h", json!({"event_type": "order.created"})).await;
    let shown = stage.client.get(&format!("/v1/hooks/{hook}/health")).await.expect(200);
    assert_eq!(shown["breaker"], closed);
    stage.close().await;
}
