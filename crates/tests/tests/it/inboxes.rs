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

use diesel::{
    RunQueryDsl, sql_query,
    sql_types::{BigInt, Timestamptz, Uuid},
};
use hookyard_domain::{db::Conn, id::SubscriptionId};
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

/// Puts messages 1 to `messages` into an empty inbox, each with an event of its own, and changes them.
async fn many(stage: &Stage, inbox: &str, messages: i64, change: &str) {
    let (tenant, now) = (stage.system.tenant, stage.system.clock.now());
    let inbox: SubscriptionId = inbox.parse().unwrap();
    let day = now.date_naive().and_time(chrono::NaiveTime::MIN).and_utc().timestamp_millis();
    let change = format!("UPDATE deliveries SET {change} WHERE subscription_id = $1");
    let fill = move |conn: &mut Conn| {
        sql_query(
            "WITH new AS MATERIALIZED (SELECT n, (lpad(to_hex($4 + n), 12, '0') || '7000' || '8' || substr(md5(n::text), 1, 15))::uuid AS id \
                FROM generate_series(1, $3) n), \
             happened AS (INSERT INTO events (tenant_id, id, event_type, origin, occurred_at, created_at, metadata, trace, sampled, body) \
                SELECT $1, id, 'n.a', 0, $5, $5, '{}', gen_random_uuid(), false, '{}' FROM new), \
             counted AS (INSERT INTO subscription_sequences (subscription_id, last, reserved, generation) \
                VALUES ($2, $3, $3 + 1000, hookyard_sequence_generation())) \
             INSERT INTO deliveries (event_id, subscription_id, tenant_id, profile, state, tries, attempts, deferrals, due_at, \
                next_attempt_at, claim, sequence) \
             SELECT id, $2, $1, 5, 0, 0, 0, 0, $5, 'infinity', '00000000-0000-0000-0000-000000000000', n FROM new",
        )
        .bind::<Uuid, _>(tenant)
        .bind::<Uuid, _>(inbox)
        .bind::<BigInt, _>(messages)
        .bind::<BigInt, _>(day)
        .bind::<Timestamptz, _>(now)
        .execute(conn)?;
        sql_query(change).bind::<Uuid, _>(inbox).execute(conn)?;
        Ok(())
    };
    stage.system.db.run(fill).await.unwrap();
}
