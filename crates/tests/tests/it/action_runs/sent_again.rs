//! Sending a callback again: what is refused, and endpoints that were removed meanwhile.

use std::time::{Duration, Instant};

use chrono::TimeDelta;
use diesel::{QueryableByName, RunQueryDsl as _, sql_query, sql_types::BigInt};
use hookyard_tests::{engine::Engine, receiver::Answer};
use serde_json::{Value, json};

use super::{Stage, emit};

const PATIENCE: Duration = Duration::from_secs(30);

async fn told(stage: &Stage, path: &str) -> (String, Value) {
    let body = json!({"action": "event.emit", "input": emit(), "callback_url": stage.receiver.url(path)});
    let id = stage.run(&body).await;
    let run = stage.wait(&id, |run| run["callback"]["status"] == "delivered").await;
    (id, run)
}

async fn again(stage: &Stage, id: &str) -> hookyard_tests::http::Reply {
    stage.client.post(&format!("/v2/action-runs/{id}/callback"), "").await
}

/// Nobody names a callback for a day: its endpoint is removed.
async fn removed(stage: &Stage) {
    #[derive(QueryableByName)]
    struct Left {
        #[diesel(sql_type = BigInt)]
        left: i64,
    }
    stage.system.clock.advance(TimeDelta::hours(25));
    let end = Instant::now() + PATIENCE;
    loop {
        let query = "SELECT count(*) AS left FROM subscriptions WHERE kind = 2 AND state <> 4";
        let count =
            stage.system.db.once(move |conn| Ok(sql_query(query).get_result::<Left>(conn)?.left)).await;
        if count.unwrap() == 0 {
            return;
        }
        assert!(Instant::now() < end, "the endpoint is not removed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_has_ended_is_sent_again() {
    let stage = Stage::new().await;
    let silent = stage.run(&json!({"action": "event.emit", "input": emit()})).await;
    stage.ended(&silent).await;
    assert_eq!(again(&stage, &silent).await.error(), (409, "CONFLICT".to_owned()));
    assert_eq!(again(&stage, "arun_01hzy3v9k2s8d4f6g8h0j2k4m6").await.error(), (404, "NOT_FOUND".to_owned()));
    // One that is still under way is left alone.
    stage.receiver.hold("held");
    let body = json!({"action": "event.emit", "input": emit(), "callback_url": stage.receiver.url("held")});
    let held = stage.run(&body).await;
    stage.receiver.wait_for("held", 1, PATIENCE).await;
    assert_eq!(again(&stage, &held).await.error(), (409, "DELIVERY_PENDING".to_owned()));
    stage.receiver.release("held");
    stage.wait(&held, |run| run["callback"]["status"] == "delivered").await;
    assert_eq!(stage.receiver.count("held"), 1);
    // One that has not ended has no callback yet.
    let stage = Stage::with(Engine::default()).await;
    let body = json!({"action": "event.emit", "input": emit(), "callback_url": stage.receiver.url("later")});
    let queued = stage.run(&body).await;
    assert_eq!(stage.shown(&queued).await["callback"]["status"], "waiting");
    assert_eq!(again(&stage, &queued).await.error(), (409, "CONFLICT".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callback_has_its_tries_again_and_the_same_run_id() {
    let stage = Stage::new().await;
    stage.receiver.answer("no", Answer::status(404));
    let body = json!({"action": "event.emit", "input": emit(), "callback_url": stage.receiver.url("no")});
    let id = stage.run(&body).await;
    stage.wait(&id, |run| run["callback"]["status"] == "failed").await;
    assert_eq!(stage.receiver.count("no"), 1);
    stage.receiver.answer("no", Answer::status(503));
    again(&stage, &id).await.expect(202);
    let run = stage.wait(&id, |run| run["callback"]["status"] == "failed").await;
    assert_eq!(stage.receiver.count("no"), 4, "three more");
    assert_eq!(run["callback"]["attempts"], 4);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let all = stage.receiver.at("no");
    assert_eq!(all.len(), 4, "and not a fourth");
    assert!(all.iter().all(|one| one.json()["data"]["id"] == id && one.body == all[0].body));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_endpoint_is_brought_back() {
    let stage = Stage::new().await;
    let (id, run) = told(&stage, "back").await;
    removed(&stage).await;
    let delivery = run["callback"]["delivery_id"].as_str().unwrap();
    let refused = stage.client.post(&format!("/v1/deliveries/{delivery}/retry"), "").await;
    assert_eq!(refused.error(), (409, "CALLBACK_ENDPOINT_GONE".to_owned()));
    assert!(refused.json()["error"].as_str().unwrap().contains("/v2/action-runs/{id}/callback"));
    let shown = again(&stage, &id).await.expect(202);
    assert_eq!(shown["data"]["callback"]["delivery_id"], delivery);
    let twice = stage.receiver.wait_for("back", 2, PATIENCE).await;
    assert_eq!(twice[0].body, twice[1].body);
    stage.wait(&id, |run| run["callback"]["status"] == "delivered").await;
    stage.client.post(&format!("/v1/deliveries/{delivery}/retry"), "").await.expect(202);
    stage.receiver.wait_for("back", 3, PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_another_run_has_named_the_url_since_its_endpoint_is_used() {
    let stage = Stage::new().await;
    let (old, before) = told(&stage, "shared").await;
    removed(&stage).await;
    let (new, run) = told(&stage, "shared").await;
    assert_ne!(before["callback"]["delivery_id"], run["callback"]["delivery_id"]);
    again(&stage, &old).await.expect(202);
    let came = stage.receiver.wait_for("shared", 3, PATIENCE).await;
    let ids: Vec<Value> = came.iter().map(|one| one.json()["data"]["id"].clone()).collect();
    assert_eq!(ids, [json!(old), json!(new), json!(old)]);
    let shown = stage.wait(&old, |run| run["callback"]["status"] == "delivered").await;
    assert_ne!(shown["callback"]["delivery_id"], before["callback"]["delivery_id"]);
    assert_eq!(shown["callback"]["url"], stage.receiver.url("shared"));
}
