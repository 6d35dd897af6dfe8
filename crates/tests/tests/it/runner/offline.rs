//! Tasks without a model: the default when nobody has set a key.

use hookyard_domain::task::RunState;
use hookyard_tests::runner::Runner;
use serde_json::json;

use super::{Yard, offline, tenant};

#[tokio::test]
async fn a_task_is_done_without_any_key_and_says_how() {
    let yard = Yard::new().await;
    let runner = Runner::default();
    let running = yard.start(&runner);
    let tasks = yard.tasks(&runner);
    // The quick start's body: its model is one of a provider for which there is no key.
    let (_, run) = tasks
        .make(json!({
            "title": "Analyze customer feedback",
            "description": "Analyze the following customer feedback and summarize key points: I love the support team. \
                            The pricing page is terrible and confusing.",
            "agent_type": "general",
            "model": "claude-sonnet",
            "priority": 0,
        }))
        .await;
    let done = tasks.wait(run, RunState::Completed).await;
    let result = done.result.unwrap();
    let mut lines = result.lines();
    assert_eq!(lines.next(), Some("Offline analysis (no language model was used)"));
    assert_eq!(
        lines.next(),
        Some("Note: claude-sonnet was asked for, but there is no API key for anthropic.")
    );
    assert!(result.contains("Sentiment: mixed") && result.contains("pricing"), "{result}");
    assert_eq!((done.input_tokens, done.output_tokens, done.cost_micros, done.attempt), (0, 0, 0, 1));
    assert_eq!(tasks.events(run).await, ["task.started", "task.completed"]);
    running.stop().await;
}

#[tokio::test]
async fn many_tasks_of_many_tenants_end_once_each_with_two_runners() {
    let yard = Yard::new().await;
    let runner = Runner::default();
    let running = [yard.start(&runner), yard.start(&runner)];
    let mut runs = Vec::new();
    for _ in 0..3 {
        let tasks = yard.tasks_of(tenant(&yard.db, &yard.clock).await, &runner);
        for n in 0..40 {
            runs.push((tasks.clone(), tasks.make(offline(&format!("Great news number {n}"))).await.1));
        }
    }
    for (tasks, run) in &runs {
        tasks.wait(*run, RunState::Completed).await;
    }
    for (tasks, run) in &runs {
        assert_eq!(tasks.events(*run).await, ["task.started", "task.completed"]);
    }
    for running in running {
        running.stop().await;
    }
}

#[tokio::test]
async fn a_lost_ring_costs_less_than_a_second() {
    let yard = Yard::new().await;
    let runner = Runner::default();
    // Rings on a bus that no runner hears.
    let deaf = Yard { bus: hookyard_messaging::Bus::in_process(), ..yard };
    let tasks = deaf.tasks(&runner);
    let heard = hookyard_messaging::Bus::in_process();
    let stop = tokio_util::sync::CancellationToken::new();
    let running = runner.start(&deaf.database, &heard, &deaf.clock, stop.clone());
    let (_, run) = tasks.make(offline("Good.")).await;
    let began = std::time::Instant::now();
    tasks.wait(run, RunState::Completed).await;
    assert!(began.elapsed() < std::time::Duration::from_secs(2), "{:?}", began.elapsed());
    stop.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn work_for_external_workers_is_left_to_them() {
    let yard = Yard::new().await;
    let runner = Runner::default();
    let running = yard.start(&runner);
    let tasks = yard.tasks(&runner);
    let (_, build) = tasks.make(json!({"title": "x", "description": "y", "agent_type": "build"})).await;
    let (_, plan) =
        tasks.make(json!({"title": "x", "description": "Make a plan.", "agent_type": "plan"})).await;
    let done = tasks.wait(plan, RunState::Completed).await;
    assert!(done.result.unwrap().contains("making a plan needs a language model"));
    assert_eq!(tasks.standing(build).await.state, RunState::Queued);
    running.stop().await;
}
