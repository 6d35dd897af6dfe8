//! Hooks from outside: the handshake of Zapier, what a hook's owner can see and do, and everything that is refused.

#![expect(clippy::unwrap_used, reason = "all of this file is a test, its helpers too")]

mod handshake;
mod owner;
mod refusals;
mod samples;

use hookyard_domain::id::{DeliveryId, SubscriptionId};
use hookyard_tests::{
    http::{Client, Reply},
    system::System,
};
use serde_json::{Value, json};

/// A URL as Zapier makes them.
fn zap(path: &str) -> String {
    format!("https://hooks.zapier.com/hooks/standard/1/{path}/")
}

/// Subscribes and returns what is answered.
async fn subscribe(client: &Client, body: &Value) -> Value {
    client.post_json("/zapier/hook", body).await.expect(200)
}

/// Subscribes and returns the id of the hook.
async fn hook(client: &Client, body: &Value) -> String {
    subscribe(client, body).await["id"].as_str().unwrap().to_owned()
}

async fn unsubscribe(client: &Client, body: &Value) -> Reply {
    client.request("DELETE", "/zapier/hook").json(body.to_string()).send().await
}

async fn state(client: &Client, id: &str) -> String {
    client.get(&format!("/v1/hooks/{id}")).await.expect(200)["state"].as_str().unwrap().to_owned()
}

async fn post(client: &Client, event_type: &str, payload: Value) -> String {
    let body = json!({"event_type": event_type, "payload": payload});
    client.post_json("/events", &body).await.expect(202)["event_id"].as_str().unwrap().to_owned()
}

/// Puts the events on their way to the hook, as the registry would; returns how many there are.
async fn replay(client: &Client, hook: &str, body: &Value) -> Value {
    client.post_json(&format!("/v1/hooks/{hook}/replay"), body).await.expect(202)
}

/// How the delivery of an event to a hook stands.
async fn delivery(client: &Client, event: &str, hook: &str) -> Value {
    let id = delivery_id(event, hook);
    client.get(&format!("/v1/deliveries/{id}")).await.expect(200)
}

fn delivery_id(event: &str, hook: &str) -> DeliveryId {
    DeliveryId { event: event.parse().unwrap(), subscription: hook.parse::<SubscriptionId>().unwrap() }
}

/// The system, and a client that may do everything without limits.
async fn start() -> (System, Client) {
    let system = System::start().await;
    let client = system.client().await;
    (system, client)
}
