//! Whoever is killed: a run ends once, and what may have been sent is not sent twice.

use std::collections::HashMap;

use chrono::TimeDelta;
use diesel::{QueryableByName, RunQueryDsl as _, sql_query, sql_types::BigInt};
use hookyard_domain::action_run::{
    self, Effect, End,
    claim::{self, Wants},
    store,
};
use hookyard_tests::{engine::Engine, runner::Runner, secrets::vault};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{Stage, emit};

#[derive(QueryableByName)]
pub(super) struct Count {
    #[diesel(sql_type = BigInt)]
    pub(super) n: i64,
}

async fn count(stage: &Stage, what: &'static str) -> i64 {
    let rows: Vec<Count> = stage
        .system
        .db
        .once(move |conn| Ok(sql_query(format!("SELECT count(*) AS n FROM {what}")).load(conn)?))
        .await
        .unwrap();
    rows[0].n
}

/// Takes the runs as a runner does that is killed then; with `sent`, after it has noted a request.
async fn taken(stage: &Stage, sent: bool) -> Vec<store::HeldRun> {
    let now = stage.system.clock.now();
    stage
        .system
        .db
        .run(move |conn| {
            let wants = Wants { runs: 10, of_tenant: 10, busy: HashMap::new() };
            let held = claim::claim(conn, &wants, now, now + TimeDelta::seconds(60))?;
            for run in held.iter().filter(|_| sent) {
                assert!(store::sending(conn, run, now, now + TimeDelta::seconds(60))?);
            }
            Ok(held)
        })
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_runner_was_killed_ends_once() {
    let stage = Stage::with(Engine::default()).await;
    let body = json!({"action": "event.emit", "input": emit(), "callback_url": stage.receiver.url("/once")});
    let id = stage.run(&body).await;
    let held = taken(&stage, false).await;
    assert_eq!(held.len(), 1);
    assert_eq!(taken(&stage, false).await.len(), 0, "it is held");
    stage.system.clock.advance(TimeDelta::seconds(61));
    let stop = CancellationToken::new();
    let runner =
        Runner::default().start(&stage.system.database, &stage.system.bus, &stage.system.clock, stop.clone());
    let run = stage.ended(&id).await;
    assert_eq!(run["status"], "success");
    // The one that overslept comes back.
    let (late, now) = (held[0].clone(), stage.system.clock.now());
    let effect = Effect::Outcome(Ok(Vec::new()));
    let ended = stage
        .system
        .db
        .run(move |conn| {
            let end = End { run: late.id, lease: late.lease, effect };
            assert!(!store::sending(conn, &late, now, now)?, "nothing is sent any more");
            action_run::apply(conn, &vault(), &[end], now)
        })
        .await
        .unwrap();
    assert!(ended.runs.is_empty() && ended.group.is_none());
    stage.wait(&id, |run| run["callback"]["status"] == "delivered").await;
    assert_eq!(count(&stage, "events WHERE event_type = 'order.created'").await, 1);
    assert_eq!(count(&stage, "events WHERE event_type = 'action_run.finished'").await, 1);
    assert_eq!(stage.receiver.count("/once"), 1);
    stop.cancel();
    runner.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_may_have_been_sent_is_sent_again_only_when_that_does_no_harm() {
    let stage = Stage::with(Engine::default()).await;
    let ask = async |path: &str, more: Value| {
        let mut input = json!({"url": stage.receiver.url(path), "method": "POST"});
        input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        stage.run(&json!({"action": "http.request", "input": input})).await
    };
    let harmful = ask("/harmful", json!({})).await;
    let harmless = ask("/harmless", json!({"idempotent": true})).await;
    assert_eq!(taken(&stage, true).await.len(), 2);
    stage.system.clock.advance(TimeDelta::seconds(61));
    let stop = CancellationToken::new();
    let runner =
        Runner::default().start(&stage.system.database, &stage.system.bus, &stage.system.clock, stop.clone());
    let run = stage.ended(&harmful).await;
    assert_eq!(
        (&run["errors"][0]["code"], &run["errors"][0]["title"]),
        (&json!("partner"), &json!("Outcome unknown")),
        "{run}"
    );
    assert_eq!(stage.ended(&harmless).await["status"], "success");
    assert_eq!((stage.receiver.count("/harmful"), stage.receiver.count("/harmless")), (0, 1));
    stop.cancel();
    runner.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_kills_whoever_takes_it_is_given_up() {
    let stage = Stage::with(Engine::default()).await;
    let url = stage.receiver.url("given-up");
    let id = stage.run(&json!({"action": "event.emit", "input": emit(), "callback_url": url})).await;
    for _ in 0..5 {
        assert_eq!(taken(&stage, false).await.len(), 1);
        stage.system.clock.advance(TimeDelta::seconds(61));
    }
    let stop = CancellationToken::new();
    let runner =
        Runner::default().start(&stage.system.database, &stage.system.bus, &stage.system.clock, stop.clone());
    let run = stage.ended(&id).await;
    assert_eq!(
        (&run["errors"][0]["code"], &run["errors"][0]["title"]),
        (&json!("system"), &json!("Attempts spent")),
        "{run}"
    );
    assert_eq!(count(&stage, "events WHERE event_type = 'order.created'").await, 0);
    let told = stage.receiver.wait_for("given-up", 1, std::time::Duration::from_secs(20)).await.remove(0);
    assert_eq!(told.json()["data"]["errors"], run["errors"]);
    stop.cancel();
    runner.await.unwrap().unwrap();
}
