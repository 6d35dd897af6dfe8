//! Rings that get lost: rows decide, rings only hurry (invariant 1).

use hookyard_messaging::Bus;
use hookyard_tests::amqp;
use serde_json::json;

use super::stage::{Stage, until};

/// Every service has a bus of its own: each rings, and none hears another. Only the time brings things on.
#[tokio::test(flavor = "multi_thread")]
async fn without_any_ring_everything_comes_by_relay_and_sweep() {
    let stage = Stage::with(Bus::in_process(), |_, engine| {
        engine.registry_bus = Some(Bus::in_process());
        engine.delivery_bus = Some(Bus::in_process());
    })
    .await;
    let hook = stage.hook("deaf", json!({"event_type": "deaf.one"})).await;
    let event = stage.post("deaf.one", json!({})).await;
    let shown = stage.client.get(&format!("/v1/events/{event}")).await.expect(200);
    assert_eq!(shown["state"], "accepted", "its ring was lost");
    // The relay finds the group.
    stage.advance(2_100);
    assert_eq!(stage.goes_to(&event).await, std::slice::from_ref(&hook));
    // Nobody heard of the delivery: it belongs to whoever should have, until the lease ends.
    let delivery = stage.delivery(&event, &hook).await;
    assert_eq!((&delivery["state"], &delivery["attempts"]), (&json!("pending"), &json!(0)));
    assert_eq!(stage.receiver.count("deaf"), 0);
    stage.advance(30_100);
    stage.ended(&event, &hook, "delivered").await;
    // And nobody heard what came of it.
    assert_eq!(stage.shown(&hook).await["state"], "pending");
    stage.advance(2_100);
    let shown = stage.in_state(&hook, "active").await;
    assert_eq!(shown["delivery_count"], 1);
    stage.let_relay_and_sweep_pass().await;
    assert_eq!(stage.receiver.count("deaf"), 1);
    stage.close().await;
}

impl Stage {
    /// Another event all the way, where nobody hears anybody.
    async fn let_relay_and_sweep_pass(&self) {
        let hook = self.hook("witness", json!({"event_type": "witness.one"})).await;
        let event = self.post("witness.one", json!({})).await;
        until("the witness", async || {
            self.advance(5_000);
            let reply = self
                .client
                .get(&format!("/v1/deliveries/{}", super::stage::delivery_id(&event, &hook)))
                .await;
            if reply.status == 200 && reply.json()["state"] == "delivered" { Ok(()) } else { Err(()) }
        })
        .await;
    }
}

/// The broker is not there and never was: relay and sweep serve their own process, and nobody waits for a lease.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_broker_deliveries_go_on() {
    let stage = Stage::with(amqp::away(), |_, engine| (engine.registries, engine.deliverers) = (2, 2)).await;
    let hook = stage.hook("there", json!({})).await;
    stage.receiver.script("there", [hookyard_tests::receiver::Answer::status(500)]);
    let mut events = Vec::new();
    for number in 0..50 {
        events.push(stage.post("a.b", json!({"n": number})).await);
    }
    // The clock stands, and everything arrives; only the one that failed waits for its second.
    stage.received("there", 50).await;
    stage.advance(1_000);
    for event in &events {
        stage.ended(event, &hook, "delivered").await;
    }
    stage.counted(&hook, 50, 1).await;
    assert_eq!(stage.receiver.count("there"), 51);
    let ready = stage.system.anonymous().get("/readyz").await;
    assert_eq!(ready.status, 503, "readiness tells that the broker is away: {}", ready.text());
    stage.system.bus.close().await;
    stage.close().await;
}
