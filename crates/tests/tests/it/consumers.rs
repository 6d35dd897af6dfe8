//! Consumers from outside: what their owner can say and is refused, and how events reach them.

mod api;
mod certificate;
mod health;
mod limits;
mod order;
mod pace;
mod reach;
mod scheduled;
mod signing;
mod transformation;

use hookyard_tests::{http::Client, system::System};
use serde_json::{Value, json};

use crate::pipeline::stage::{Stage, text};

const URL: &str = "https://receiver.example/webhooks";

/// A body with these members besides a URL and an event type.
fn body(more: Value) -> Value {
    let mut body = json!({"url": URL, "eventTypes": ["order.created"]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// The system, and a client that may do everything without limits.
async fn start() -> (System, Client) {
    let system = System::start().await;
    let client = system.client().await;
    (system, client)
}

/// Makes a consumer and returns it.
async fn made(client: &Client, more: Value) -> Value {
    client.post_json("/webhooks", &body(more)).await.expect(201)
}

/// How many consumers there are.
async fn count(client: &Client) -> usize {
    client.get("/webhooks?limit=100").await.expect(200)["data"].as_array().unwrap().len()
}

async fn patch(client: &Client, id: &str, change: &Value) -> hookyard_tests::http::Reply {
    client.request("PATCH", &format!("/webhooks/{id}")).json(change.to_string()).send().await
}

/// Makes a consumer of `/path` of the stage's receiver for orders, and returns its id.
async fn consumer(stage: &Stage, path: &str, more: Value) -> String {
    let mut all = json!({"url": stage.receiver.url(path)});
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    text(&made(&stage.client, all).await["id"]).to_owned()
}
