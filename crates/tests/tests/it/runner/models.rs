//! Tasks with a language model: what is told while it writes, questions, budgets, failures, keys.

use std::time::Duration;

use hookyard_domain::{
    id::InputId,
    task::{RunState, Step, keys, ledger::By, model::ApiKey},
};
use hookyard_tests::{
    llm::{FakeLlm, KEY, Say},
    runner::Runner,
    secrets::vault,
};
use serde_json::json;

use super::{Yard, general};

#[tokio::test]
async fn a_reply_is_streamed_to_listeners_and_becomes_the_result() {
    let llm = FakeLlm::start().await;
    let (yard, runner) = (Yard::new().await, Runner::with(&llm));
    let running = yard.start(&runner);
    let tasks = yard.tasks(&runner);
    for model in ["claude-sonnet", "gpt-4o"] {
        llm.script([Say::text("one two three four").slowly(Duration::from_millis(60)).tokens(1_000, 200)]);
        let mut task = general("Count.");
        task["model"] = model.into();
        let (_, run) = tasks.make(task).await;
        let done = tasks.wait(run, RunState::Completed).await;
        assert_eq!(done.result.as_deref(), Some("one two three four"));
        assert_eq!((done.input_tokens, done.output_tokens), (1_000, 200));
        // 3 and 15 dollars for a million; 2.5 and 10.
        assert_eq!(done.cost_micros, if model == "gpt-4o" { 4_500 } else { 6_000 });
        let lines = tasks.lines(run).await;
        let output: Vec<&str> = lines
            .iter()
            .filter(|(kind, _)| kind == "output")
            .filter_map(|(_, data)| data["text"].as_str())
            .collect();
        assert_eq!(output.concat(), "one two three four");
        assert!(output.len() > 1, "it came in pieces: {output:?}");
        assert_eq!(tasks.events(run).await, ["task.started", "task.completed"]);
    }
    let call = &llm.calls()[0];
    assert_eq!(call.body["messages"], json!([{"role": "user", "content": "Think\n\nCount."}]));
    assert_eq!(call.body["model"], "claude-sonnet-4-5");
    running.stop().await;
}

#[tokio::test]
async fn a_question_waits_for_its_answer_and_the_conversation_goes_on() {
    let llm = FakeLlm::start().await;
    let (yard, runner) = (Yard::new().await, Runner::with(&llm));
    let running = yard.start(&runner);
    let tasks = yard.tasks(&runner);
    llm.script([
        Say::text(r#"{"needs_input": {"question": "Which year?", "choices": ["2025", "2026"]}}"#)
            .tokens(10, 5),
        Say::text("Revenue of 2026.").tokens(20, 6),
    ]);
    let (_, run) = tasks.make(general("Revenue?")).await;
    tasks.wait(run, RunState::NeedsInput).await;
    let input = yard
        .db
        .once(move |conn| {
            #[derive(diesel::QueryableByName)]
            struct Row {
                #[diesel(sql_type = diesel::sql_types::Uuid)]
                id: uuid::Uuid,
            }
            use diesel::RunQueryDsl as _;
            let row: Row = diesel::sql_query("SELECT id FROM task_inputs WHERE run_id = $1")
                .bind::<diesel::sql_types::Uuid, _>(run.uuid())
                .get_result(conn)?;
            Ok(InputId::from_uuid(row.id))
        })
        .await
        .unwrap();
    let answer = Step::Answer { input, answer: "\"2026\"".to_owned(), by: "a test".to_owned() };
    let written = tasks.apply(run, By::Owner(yard.tenant), answer).await;
    assert!(
        written.results[0].as_ref().is_ok_and(|applied| applied.state == RunState::Queued),
        "{written:?}"
    );
    let done = tasks.wait(run, RunState::Completed).await;
    assert_eq!(done.result.as_deref(), Some("Revenue of 2026."));
    assert_eq!((done.input_tokens, done.output_tokens), (30, 11));
    assert_eq!(
        llm.calls()[1].body["messages"],
        json!([
            {"role": "user", "content": "Think\n\nRevenue?"},
            {"role": "assistant", "content": "{\"needs_input\":{\"question\":\"Which year?\"}}"},
            {"role": "user", "content": "2026"},
        ])
    );
    assert_eq!(tasks.events(run).await, ["task.started", "task.needs_input", "task.completed"]);
    running.stop().await;
}

#[tokio::test]
async fn a_tenant_s_own_key_comes_first_and_a_wrong_one_is_told() {
    let llm = FakeLlm::start().await;
    let yard = Yard::new().await;
    let mut runner = Runner::with(&llm);
    runner.llm.anthropic_api_key = None;
    let running = yard.start(&runner);
    let tasks = yard.tasks(&runner);
    let put = |key: &'static str| {
        let (tenant, now) = (yard.tenant, yard.clock.now());
        let put =
            move |conn: &mut _| keys::put(conn, &vault(), (tenant, "anthropic"), &ApiKey::new(key), now);
        let db = yard.db.clone();
        async move { db.run(put).await.unwrap() }
    };
    put(KEY).await;
    let (_, run) = tasks.make(general("Hello.")).await;
    assert_eq!(tasks.wait(run, RunState::Completed).await.result.as_deref(), Some("Done."));
    put("sk-wrong").await;
    let (_, run) = tasks.make(general("Hello.")).await;
    let failed = tasks.wait(run, RunState::Failed).await;
    assert_eq!(failed.error_code.as_deref(), Some("provider_key"));
    assert_eq!(failed.attempt, 1, "what stays is not tried again");
    assert_eq!(tasks.events(run).await, ["task.started", "task.failed"]);
    running.stop().await;
}

#[tokio::test]
async fn what_passes_is_tried_within_the_attempt_and_then_with_another() {
    let llm = FakeLlm::start().await;
    let yard = Yard::new().await;
    let mut runner = Runner::with(&llm);
    runner.settings.calls = 2;
    runner.tasks.retry_wait_ms = 10;
    let running = yard.start(&runner);
    let tasks = yard.tasks(&runner);
    llm.script([
        Say::error(529, "overloaded_error", "Overloaded"),
        Say::text("half of it").cut_after(2),
        Say::text("all of it"),
    ]);
    let (_, run) = tasks.make(general("Hello.")).await;
    let done = tasks.wait(run, RunState::Completed).await;
    assert_eq!((done.result.as_deref(), done.attempt), (Some("all of it"), 2));
    let told = tasks.lines(run).await;
    assert!(
        told.iter().any(|(kind, data)| kind == "progress" && data.to_string().contains("overloaded")),
        "{told:?}"
    );

    llm.answer(Say::error(500, "api_error", "oops"));
    let (_, run) = tasks.make(general("Hello.")).await;
    let failed = tasks.wait(run, RunState::Failed).await;
    assert_eq!((failed.error_code.as_deref(), failed.attempt), (Some("provider_error"), 2));
    assert_eq!(llm.calls().len(), 3 + 4);
    let mut events = tasks.events(run).await;
    // Whoever wants to be told of progress learns that a call is made again.
    events.retain(|event| event != "task.progress");
    assert_eq!(events, ["task.started", "task.failed"]);
    running.stop().await;
}

#[tokio::test]
async fn budgets_end_a_run_in_the_middle_and_before_it_begins() {
    let llm = FakeLlm::start().await;
    let (yard, runner) = (Yard::new().await, Runner::with(&llm));
    let running = yard.start(&runner);
    let tasks = yard.tasks(&runner);
    for model in ["claude-sonnet", "gpt-4o"] {
        let calls = llm.calls().len();
        llm.script([Say::text("word ".repeat(3_000)).slowly(Duration::from_millis(2)).tokens(400, 3_000)]);
        let mut task = general("Write.");
        (task["model"], task["max_tokens"]) = (model.into(), 600.into());
        let (_, run) = tasks.make(task).await;
        let failed = tasks.wait(run, RunState::Failed).await;
        assert_eq!(failed.error_code.as_deref(), Some("budget_exceeded"), "{failed:?}");
        // The reply was not allowed more than what was left, and was cut off close behind it.
        let limit = llm.calls()[calls].body["max_tokens"].as_u64().unwrap();
        assert!((1..600).contains(&limit), "{limit}");
        llm.until("the stream is left", |llm| llm.open() == 0).await;
        assert_eq!(tasks.events(run).await, ["task.started", "task.failed"]);
    }
    let calls = llm.calls().len();
    let mut task = general(&"too much text. ".repeat(500));
    task["max_tokens"] = 100.into();
    let (_, run) = tasks.make(task).await;
    let failed = tasks.wait(run, RunState::Failed).await;
    assert_eq!(failed.error_code.as_deref(), Some("budget_exceeded"));
    assert_eq!(llm.calls().len(), calls, "nothing was asked");
    running.stop().await;
}

#[tokio::test]
async fn a_task_whose_model_stops_at_the_budget_has_no_result() {
    let llm = FakeLlm::start().await;
    let (yard, runner) = (Yard::new().await, Runner::with(&llm));
    let running = yard.start(&runner);
    let tasks = yard.tasks(&runner);
    llm.script([
        Say::text("as far as I").stops("max_tokens").tokens(10, 4),
        Say::text("as far as I").stops("max_tokens").tokens(10, 4),
    ]);
    let mut task = general("Write.");
    task["max_tokens"] = 5_000.into();
    let (_, run) = tasks.make(task).await;
    assert_eq!(tasks.wait(run, RunState::Failed).await.error_code.as_deref(), Some("budget_exceeded"));
    // The same at our own limit is an answer that says so.
    let (_, run) = tasks.make(general("Write.")).await;
    let done = tasks.wait(run, RunState::Completed).await;
    assert_eq!(done.result.as_deref(), Some("as far as I\n\n[The reply ended at its limit of 8192 tokens.]"));
    running.stop().await;
}
