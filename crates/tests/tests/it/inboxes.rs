//! Inboxes from outside: what their owner can say and is refused, how events come in, and how they are leased, read and settled.

mod api;
mod crowd;
mod ends;
mod example;
mod leases;
mod limits;
mod plans;
mod reach;
mod streams;
mod waits;

use hookyard_tests::http::Client;
use serde_json::{Value, json};

use crate::pipeline::stage::{Stage, text, until};

/// Makes an inbox with these members besides a name, and returns its id.
async fn inbox(client: &Client, more: Value) -> String {
    let mut body = json!({"name": "test"});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    text(&client.post_json("/v1/inboxes", &body).await.expect(201)["id"]).to_owned()
}

/// What an inbox holds.
async fn counts(client: &Client, inbox: &str) -> Value {
    client.get(&format!("/v1/inboxes/{inbox}")).await.expect(200)["messages"].clone()
}

/// Waits until so many messages wait.
async fn filled(client: &Client, inbox: &str, waiting: usize) {
    until(&format!("{waiting} messages wait"), async || {
        let counts = counts(client, inbox).await;
        if counts["waiting"] == waiting { Ok(()) } else { Err(counts) }
    })
    .await;
}

/// Asks for messages, and returns the answer.
async fn ask(client: &Client, inbox: &str, body: Value) -> Value {
    client.post_json(&format!("/v1/inboxes/{inbox}/messages/lease"), &body).await.expect(200)
}

/// Leases at most so many messages for a minute.
async fn lease(client: &Client, inbox: &str, limit: usize) -> Vec<Value> {
    let answer = ask(client, inbox, json!({"lease_seconds": 60, "lease_limit": limit})).await;
    answer["messages"].as_array().unwrap().clone()
}

/// Says something of leased messages, and returns what became of each.
async fn say(client: &Client, inbox: &str, what: &str, messages: &[Value], more: Value) -> Vec<String> {
    let held: Vec<Value> = messages
        .iter()
        .map(|message| json!({"id": message["id"], "lease_token": message["lease_token"]}))
        .collect();
    let mut body = json!({"messages": held});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let answer = client.post_json(&format!("/v1/inboxes/{inbox}/messages/{what}"), &body).await.expect(200);
    let told = answer["messages"].as_array().unwrap();
    let statuses: Vec<String> = told.iter().map(|one| text(&one["status"]).to_owned()).collect();
    assert_eq!(answer["settled"], statuses.iter().filter(|status| *status != "gone").count());
    statuses
}

async fn ack(client: &Client, inbox: &str, messages: &[Value]) -> Vec<String> {
    say(client, inbox, "ack", messages, json!({})).await
}

/// Numbers of messages.
fn sequences(messages: &[Value]) -> Vec<i64> {
    messages.iter().map(|message| message["sequence"].as_i64().unwrap()).collect()
}

/// Posts so many events `n.a` with rising payloads, one after the other, and waits until they are in the inbox.
async fn fill(stage: &Stage, inbox: &str, events: usize) {
    let before = counts(&stage.client, inbox).await["waiting"].as_u64().unwrap();
    for n in 0..events {
        stage.post("n.a", json!({"n": n})).await;
    }
    filled(&stage.client, inbox, before as usize + events).await;
}
