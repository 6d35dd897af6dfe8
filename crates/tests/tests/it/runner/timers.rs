//! What time brings about.

use std::time::Duration;

use chrono::TimeDelta;
use diesel::{QueryableByName, RunQueryDsl as _, sql_types::BigInt};
use hookyard_domain::{
    subscription::UrlRules,
    task::{
        RunState,
        model::Models,
        schedule::{ScheduleDraft, store as schedules},
        webhook::WebhookUrls,
    },
    wire::parse_stored,
};
use hookyard_tests::{
    llm::{FakeLlm, Say},
    runner::Runner,
};
use serde_json::json;

use super::{Yard, general};

#[tokio::test]
async fn an_attempt_that_takes_too_long_fails_and_the_model_is_left() {
    let llm = FakeLlm::start().await;
    let yard = Yard::new().await;
    let runner = Runner::with(&llm);
    let running = yard.start(&runner);
    let tasks = yard.tasks(&runner);
    llm.answer(Say::text("one two").silent_after(1));
    let mut task = general("Think.");
    task["task_timeout_seconds"] = 60.into();
    let (_, run) = tasks.make(task).await;
    llm.until("the model is asked", |llm| llm.open() == 1).await;
    yard.clock.advance(TimeDelta::seconds(61));
    let failed = tasks.wait(run, RunState::Failed).await;
    assert_eq!(failed.error_code.as_deref(), Some("timed_out"), "{failed:?}");
    llm.until("the stream is left", |llm| llm.open() == 0).await;
    running.stop().await;
}

#[tokio::test]
async fn what_nobody_takes_fails_when_its_time_in_the_queue_is_over() {
    let (yard, runner) = (Yard::new().await, Runner::default());
    let running = yard.start(&runner);
    let tasks = yard.tasks(&runner);
    let (_, run) = tasks.make(json!({"title": "x", "description": "y", "agent_type": "build"})).await;
    yard.clock.advance(TimeDelta::seconds(86_401));
    let failed = tasks.wait(run, RunState::Failed).await;
    assert_eq!(failed.error_code.as_deref(), Some("queue_timeout"), "{failed:?}");
    assert_eq!(tasks.events(run).await, ["task.failed"]);
    running.stop().await;
}

#[tokio::test]
async fn four_runners_fire_each_tick_of_a_schedule_once() {
    let yard = Yard::new().await;
    let runner = Runner::default();
    let running: Vec<_> = (0..4).map(|_| yard.start(&runner)).collect();
    let body = json!({
        "name": "every minute", "cron": "* * * * *", "time_zone": "Europe/Paris",
        "task": {"title": "Tick", "description": "Summarize: all is well.", "model": "offline"},
    });
    let (tenant, now) = (yard.tenant, yard.clock.now());
    let models = Models::new(&runner.llm).unwrap();
    let urls = WebhookUrls::new(UrlRules::new(&[]).unwrap());
    let draft = ScheduleDraft::parse(parse_stored(body.to_string().as_bytes()).unwrap(), &models, &urls, now)
        .unwrap();
    let made = yard.db.run(move |conn| schedules::create(conn, tenant, &draft, None, now)).await.unwrap();
    let count = |sql: &'static str| {
        let db = yard.db.clone();
        async move {
            #[derive(QueryableByName)]
            struct Row {
                #[diesel(sql_type = BigInt)]
                n: i64,
            }
            let row: Row = db.once(move |conn| Ok(diesel::sql_query(sql).get_result(conn)?)).await.unwrap();
            row.n
        }
    };
    for minute in 1..=5 {
        yard.clock.advance(TimeDelta::seconds(60));
        let end = std::time::Instant::now() + Duration::from_secs(20);
        while count("SELECT count(*) AS n FROM task_runs WHERE state = 3").await < minute {
            assert!(std::time::Instant::now() < end, "tick {minute} was not fired");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    for running in running {
        running.stop().await;
    }
    let ticks = yard.db.once(move |conn| schedules::history(conn, (tenant, made.id), 100)).await.unwrap();
    let fired = ticks.iter().filter(|tick| tick.outcome == schedules::TickOutcome::Fired).count();
    assert_eq!(count("SELECT count(*) AS n FROM tasks").await, i64::try_from(fired).unwrap());
    assert!((5..=6).contains(&fired), "{ticks:?}");
}
