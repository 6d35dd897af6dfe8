//! What was missed and how it is brought back, from outside: the message log, recoveries, previews, the activity and the breaker of
//! endpoints.

mod breaker;
mod enabling;
mod jobs;
mod messages;
mod plans;
mod preview;
mod refusals;

use chrono::TimeDelta;
use diesel::{
    QueryableByName, RunQueryDsl as _, sql_query,
    sql_types::{BigInt, Timestamptz},
};
use hookyard_tests::http::Client;
use serde_json::{Value, json};

use crate::pipeline::stage::{Stage, text, until};

/// A consumer of `/path` of the stage's receiver for orders, and returns its id.
async fn consumer(stage: &Stage, path: &str, more: Value) -> String {
    let mut body = json!({"url": stage.receiver.url(path), "eventTypes": ["order.*"]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    text(&stage.client.post_json("/webhooks", &body).await.expect(201)["id"]).to_owned()
}

/// Before everything that the stage has done.
fn beginning(stage: &Stage) -> String {
    (stage.system.clock.now() - TimeDelta::hours(1)).to_rfc3339()
}

/// Posts so many orders and returns their ids.
async fn orders(stage: &Stage, count: usize) -> Vec<String> {
    let mut events = Vec::new();
    for n in 0..count {
        events.push(stage.post("order.created", json!({"n": n})).await);
    }
    for event in &events {
        stage.goes_to(event).await;
    }
    // The next one is of another millisecond.
    stage.advance(5);
    events
}

/// Starts a recovery of an endpoint since the beginning, and returns it.
async fn recover(stage: &Stage, endpoint: &str, more: Value) -> Value {
    let mut body = json!({"endpoint_id": endpoint, "since": beginning(stage)});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    stage.client.post_json("/v1/recoveries", &body).await.expect(202)
}

async fn shown(client: &Client, recovery: &Value) -> Value {
    client.get(&format!("/v1/recoveries/{}", text(&recovery["id"]))).await.expect(200)
}

/// Waits until a recovery satisfies a condition, and returns it; the time goes on meanwhile.
async fn when(stage: &Stage, recovery: &Value, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    until(&format!("the recovery: {what}"), async || {
        let shown = shown(&stage.client, recovery).await;
        if holds(&shown) {
            return Ok(shown);
        }
        stage.advance(200);
        Err(shown)
    })
    .await
}

async fn completed(stage: &Stage, recovery: &Value) -> Value {
    let shown = when(stage, recovery, "it has ended", |shown| shown["ended_at"].is_string()).await;
    assert_eq!(shown["state"], "completed", "{shown}");
    assert_eq!(shown["examined"], shown["total"], "{shown}");
    shown
}

/// When deliveries to an endpoint were put on their way, and how many at each time.
async fn steps(stage: &Stage, endpoint: &str) -> Vec<(chrono::DateTime<chrono::Utc>, i64)> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Timestamptz)]
        due_at: chrono::DateTime<chrono::Utc>,
        #[diesel(sql_type = BigInt)]
        count: i64,
    }
    let id: hookyard_domain::id::SubscriptionId = endpoint.parse().unwrap();
    let rows: Vec<Row> = stage
        .system
        .db
        .once(move |conn| {
            let query = "SELECT due_at, count(*) AS count FROM deliveries WHERE subscription_id = $1 GROUP BY due_at ORDER BY due_at";
            Ok(sql_query(query).bind::<diesel::sql_types::Uuid, _>(id).load(conn)?)
        })
        .await
        .unwrap();
    rows.into_iter().map(|row| (row.due_at, row.count)).collect()
}
