//! The runner: killed in every state, and asleep for longer than its lease.

use std::time::{Duration, Instant};

use hookyard_tests::{llm::Say, processes::Process};
use serde_json::json;

use super::{START, STOP, Works};

const OFFLINE: usize = 60;
const ASKED: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_is_killed_in_every_state_and_every_task_ends_once() {
    let mut works = Works::start().await;
    // One asks; the others write for more than a second each.
    works.llm.script([Say::text(r#"{"needs_input": {"question": "Which year?"}}"#)]);
    works.llm.answer(Say::text("word ".repeat(40)).slowly(Duration::from_millis(30)));
    let (offline, model) = (json!({"model": "offline"}), json!({"model": "claude-sonnet"}));
    let mut made = vec![works.make(&model).await];
    let asking = works.asks(&made[0].run).await;
    for n in 0..OFFLINE.max(ASKED) {
        if n < OFFLINE {
            made.push(works.make(&offline).await);
        }
        if n < ASKED {
            made.push(works.make(&model).await);
        }
        if n % 12 == 5 {
            works.runner.kill_and_restart();
        }
    }
    for _ in 0..3 {
        works.runner.wait_until_ready(START);
        let before = works.llm.calls().len();
        let end = Instant::now() + Duration::from_secs(10);
        // In the middle of a reply, if one is under way at all.
        while works.llm.calls().len() == before && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        works.runner.kill_and_restart();
    }
    // The question was asked by a runner that is dead, and is answered to another.
    works.answer(&asking, "2026").await;
    works.runner.kill_and_restart();
    works.all_end_once(&made).await;
    works.stop();
}

/// Of two runners one sleeps in the middle of a reply, for longer than its lease.
#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_wakes_after_its_lease_changes_nothing() {
    let mut works = Works::start().await;
    works
        .llm
        .script([Say::text("too late ".repeat(20)).slowly(Duration::from_millis(250)), Say::text("in time")]);
    let made = works.make(&json!({"model": "claude-sonnet"})).await;
    works.llm.until("the model is asked", |llm| llm.calls().len() == 1).await;
    // Some of it has been heard and written.
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    works.runner.signal("STOP");
    let mut other = Process::start(&["runner"], &works.environment);
    other.wait_until_ready(START);
    let done = works.wait(&made.task, "completed").await;
    assert_eq!((&done["result"], &done["attempts"]), (&json!("in time"), &json!(2)), "{done}");
    works.runner.signal("CONT");
    // It has heard the rest by then, and whatever it makes of it.
    works.llm.until("the sleeper is done", |llm| llm.finished() + llm.abandoned() == 2).await;
    works.runner.wait_for("a look around", Duration::from_secs(10), Process::is_ready);
    works.all_end_once(std::slice::from_ref(&made)).await;
    let mut after = works.shown(&made.task).await;
    after["runtime_seconds"] = done["runtime_seconds"].clone();
    assert_eq!(after, done, "nothing has changed");
    // What was heard of the first attempt is void, and whoever listens is told so by the number of the attempt.
    let stream = works.client.get(&format!("/v1/automation/tasks/{}/events", made.task)).await.text();
    let (first, second) = (stream.find(r#""attempt":1,"text":"too"#), stream.find(r#""text":"in time"#));
    assert!(first.is_some() && first < second, "{stream}");
    assert!(!stream[second.unwrap()..].contains("late"), "{stream}");
    // It is as good as any other afterwards.
    other.stop(STOP);
    works.llm.answer(Say::text("again"));
    let next = works.make(&json!({"model": "claude-sonnet"})).await;
    assert_eq!(works.wait(&next.task, "completed").await["result"], "again");
    works.stop();
}
