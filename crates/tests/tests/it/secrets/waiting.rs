//! A deliverer that was not told of a new master key: nothing is lost, nothing goes out unsigned.

use chrono::TimeDelta;
use hookyard_domain::vault::store as keyring;
use hookyard_messaging::Bus;
use hookyard_tests::{
    engine::{Engine, RunningEngine},
    secrets::vault,
};
use serde_json::json;

use super::{register, shown_secret, vault_of};
use crate::pipeline::stage::{Stage, until};

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_wait_for_the_key_and_are_signed_with_the_secret_they_had() {
    let mut stage = Stage::open(Bus::in_process()).await;
    let hook = stage.hook("hook", json!({ "secret": "own" })).await;
    let first = stage.post("order.created", json!({ "number": 1 })).await;
    stage.ended(&first, &hook, "delivered").await;
    let secret = shown_secret(&stage.client, &hook).await;

    // Somebody rotates before all were told of the new key, which the deliverer here was not.
    let told = vault_of(8, &[7]);
    register(&stage.system.db, &told).await.unwrap();
    keyring::rotate(&stage.system.db, &told, &mut |_, _| {}).await.unwrap();
    let second = stage.post("order.created", json!({ "number": 2 })).await;
    assert_eq!(stage.goes_to(&second).await, std::slice::from_ref(&hook), "the hook is still known");
    let delivery = stage.delivery_until(&second, &hook, "put off", |delivery| {
        let at: chrono::DateTime<chrono::Utc> =
            delivery["next_attempt_at"].as_str().unwrap().parse().unwrap();
        at > stage.system.clock.now() + TimeDelta::seconds(20)
    });
    let delivery = delivery.await;
    assert_eq!((&delivery["state"], &delivery["attempts"]), (&json!("pending"), &json!(0)), "{delivery}");
    assert_eq!(stage.receiver.count("hook"), 1, "nothing goes out unsigned");

    // Started again with both keys, as it should have been.
    stage.system.engine.stop().await;
    let engine = Engine { vault: told, ..Engine::default() };
    let system = &mut stage.system;
    system.engine = RunningEngine::start(Some(&engine), &system.database, &system.bus, &system.clock);
    system.clock.advance(TimeDelta::seconds(60));
    let received = stage.received("hook", 2).await;
    assert_ne!(vault().current(), engine.vault.current());
    let secret = hookyard_domain::wire::SigningSecret::parse(&secret).unwrap();
    for one in &received {
        let at = one.header("webhook-timestamp").parse().unwrap();
        let signature = secret.standard_webhooks(one.header("webhook-id"), at, &one.body);
        assert_eq!(one.header("webhook-signature"), signature);
        let own = hookyard_domain::wire::WebhookSecret::parse("own").unwrap();
        assert_eq!(one.header("x-triggersapi-signature"), own.triggers_api(&one.body));
    }
    until("the delivery is told", async || {
        let shown = stage.delivery(&second, &hook).await;
        if shown["state"] == "delivered" { Ok(()) } else { Err(shown) }
    })
    .await;
    stage.close().await;
}
