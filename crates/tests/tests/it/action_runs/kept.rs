//! For how long runs are kept: so many days after they ended, and no longer.

use chrono::TimeDelta;
use diesel::{QueryableByName, RunQueryDsl as _, sql_query, sql_types::Timestamptz};
use hookyard_domain::action_run::store;
use hookyard_tests::{engine::Engine, runner::Runner};
use serde_json::json;

use super::{Stage, emit};

#[derive(QueryableByName)]
struct Ended {
    #[diesel(sql_type = Timestamptz)]
    ended_at: chrono::DateTime<chrono::Utc>,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_forgotten_after_its_days_and_not_before() {
    let mut runner = Runner::default();
    runner.settings.action_retention_days = 2;
    runner.tasks.queue_deadline_s = 2_592_000;
    let stage = Stage::with(Engine { runners: 1, runner, ..Engine::default() }).await;
    let id = stage.run(&json!({"action": "event.emit", "input": emit()})).await;
    stage.ended(&id).await;
    // A run that waits is kept, however old it is.
    let input = json!({"title": "Build", "description": "x", "agent_type": "build"});
    let waits = stage.run(&json!({"action": "task.run", "input": input})).await;
    stage.wait(&waits, |run| run["task_id"].is_string()).await;
    let db = stage.system.db.clone();
    let ended = db
        .once(|conn| {
            Ok(sql_query("SELECT ended_at FROM action_runs WHERE state >= 2").get_result::<Ended>(conn)?)
        })
        .await
        .unwrap()
        .ended_at;
    // The runner looks every ten minutes; at two days less five minutes it must leave the run alone.
    stage.system.clock.advance(TimeDelta::days(2) - TimeDelta::minutes(5));
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert_eq!(stage.shown(&id).await["status"], "success");
    stage.system.clock.advance(TimeDelta::minutes(16));
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let path = format!("/v2/action-runs/{id}");
    while stage.client.get(&path).await.status != 404 {
        assert!(std::time::Instant::now() < end, "the run is still there");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(ended < stage.system.clock.now() - TimeDelta::days(2));
    assert_eq!(stage.client.get("/v2/action-runs").await.expect(200)["meta"]["count"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_moment_still_counts() {
    let stage = Stage::new().await;
    let id = stage.run(&json!({"action": "event.emit", "input": emit()})).await;
    stage.ended(&id).await;
    let gone = stage
        .system
        .db
        .run(|conn| {
            let Ended { ended_at } =
                sql_query("SELECT ended_at FROM action_runs").get_result::<Ended>(conn)?;
            let moment = TimeDelta::microseconds(1);
            Ok([store::forget_ended(conn, ended_at, 10)?, store::forget_ended(conn, ended_at + moment, 10)?])
        })
        .await
        .unwrap();
    assert_eq!(gone, [0, 1]);
}
