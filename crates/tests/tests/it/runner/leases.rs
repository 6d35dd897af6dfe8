//! Whoever has a run, and stops having it: cancelled, stopped, overslept, gone.

use std::time::{Duration, Instant};

use chrono::TimeDelta;
use hookyard_domain::task::{Refused, RunState, Step, Usage, claim, ledger::By};
use hookyard_tests::{
    llm::{FakeLlm, Say},
    runner::Runner,
};

use super::{Yard, general, offline};

#[tokio::test]
async fn a_cancelled_run_leaves_the_model_within_half_a_second() {
    let llm = FakeLlm::start().await;
    let yard = Yard::new().await;
    let mut runner = Runner::with(&llm);
    runner.settings.look_interval_ms = hookyard_runner::Settings::default().look_interval_ms;
    let running = yard.start(&runner);
    let tasks = yard.tasks(&runner);
    llm.answer(Say::text("one two three").silent_after(1));
    let (_, run) = tasks.make(general("Think.")).await;
    llm.until("the model is asked", |llm| llm.open() == 1).await;
    tasks.wait(run, RunState::Running).await;
    let began = Instant::now();
    tasks.cancel(run).await;
    llm.until("the stream is left", |llm| llm.abandoned() == 1).await;
    assert!(began.elapsed() < Duration::from_millis(900), "{:?}", began.elapsed());
    assert_eq!(tasks.standing(run).await.state, RunState::Cancelled);
    assert_eq!(tasks.events(run).await, ["task.started", "task.cancelled"]);
    // Its slot is free again.
    llm.answer(Say::text("fine"));
    let (_, next) = tasks.make(general("Think.")).await;
    tasks.wait(next, RunState::Completed).await;
    running.stop().await;
}

#[tokio::test]
async fn a_runner_that_stops_gives_back_what_it_cannot_end_and_the_attempt_is_not_spent() {
    let llm = FakeLlm::start().await;
    let yard = Yard::new().await;
    let mut runner = Runner::with(&llm);
    runner.settings.grace_ms = 300;
    let running = yard.start(&runner);
    let tasks = yard.tasks(&runner);
    llm.script([
        Say::text("never ends").silent_after(1),
        Say::text("soon done").slowly(Duration::from_millis(60)),
    ]);
    let (_, long) = tasks.make(general("Long.")).await;
    llm.until("the first is asked", |llm| llm.calls().len() == 1).await;
    let (_, short) = tasks.make(general("Short.")).await;
    llm.until("the second is asked", |llm| llm.calls().len() == 2).await;
    running.stop().await;
    assert_eq!(tasks.standing(short).await.state, RunState::Completed);
    let given = tasks.standing(long).await;
    assert_eq!((given.state, given.attempt), (RunState::Queued, 0));
    // Another takes it at once: nobody waits for a lease.
    llm.answer(Say::text("done now"));
    let running = yard.start(&runner);
    let done = tasks.wait(long, RunState::Completed).await;
    assert_eq!((done.result.as_deref(), done.attempt), (Some("done now"), 1));
    assert_eq!(tasks.events(long).await, ["task.started", "task.completed"]);
    running.stop().await;
}

#[tokio::test]
async fn a_runner_that_slept_through_its_lease_changes_nothing() {
    let llm = FakeLlm::start().await;
    let yard = Yard::new().await;
    let mut runner = Runner::with(&llm);
    // It does not look for hours, as a process that was stopped.
    (runner.settings.look_interval_ms, runner.settings.timer_interval_ms) = (10_000, 60_000);
    let sleeper = yard.start(&runner);
    let tasks = yard.tasks(&runner);
    llm.script([Say::text("too late").slowly(Duration::from_millis(1_500))]);
    let (_, run) = tasks.make(general("Think.")).await;
    llm.until("the model is asked", |llm| llm.calls().len() == 1).await;
    // Let its first beat pass, then its lease: the run goes back, and another does it.
    tasks.wait(run, RunState::Running).await;
    yard.clock.advance(TimeDelta::seconds(121));
    tasks.apply(run, By::Clock, Step::Tick).await;
    llm.answer(Say::text("in time"));
    let done = tasks.wait(run, RunState::Completed).await;
    assert_eq!((done.result.as_deref(), done.attempt), (Some("in time"), 2));
    // It writes what it heard, or leaves the stream because it may not: both change nothing.
    llm.until("the sleeper is done", |llm| llm.finished() + llm.abandoned() == 2).await;
    sleeper.stop().await;
    let after = tasks.standing(run).await;
    assert_eq!(after.result.as_deref(), Some("in time"));
    assert_eq!(tasks.events(run).await, ["task.started", "task.completed"]);
}

#[tokio::test]
async fn whoever_is_gone_is_replaced_and_attempts_end() {
    let (yard, runner) = (Yard::new().await, Runner::default());
    let tasks = yard.tasks(&runner);
    let (_, run) = tasks.make(offline("Good.")).await;
    // Two that claim it and are killed at once.
    for attempt in 1..=2 {
        let (settings, now) = (runner.tasks.clone(), yard.clock.now());
        let claimed = yard.db.run(move |conn| claim::claim_built_in(conn, &settings, 10, now)).await.unwrap();
        assert_eq!((claimed.len(), claimed[0].attempt), (1, attempt));
        yard.clock.advance(TimeDelta::seconds(121));
        tasks.apply(run, By::Clock, Step::Tick).await;
        // What the dead one says later is refused.
        let step = Step::Complete { result: "ghost".to_owned(), summary: None, usage: Usage::default() };
        let written = tasks.apply(run, By::Holder(claimed[0].lease), step).await;
        assert!(matches!(written.results[0], Err(Refused::Stale | Refused::Ended(_))), "{written:?}");
    }
    let failed = tasks.standing(run).await;
    assert_eq!((failed.state, failed.error_code.as_deref()), (RunState::Failed, Some("lease_lost")));
    assert_eq!(tasks.events(run).await, ["task.failed"]);
}

#[tokio::test]
async fn long_calls_keep_their_lease() {
    let llm = FakeLlm::start().await;
    let yard = Yard::new().await;
    let mut runner = Runner::with(&llm);
    runner.tasks.heartbeat_s = 1;
    let running = yard.start(&runner);
    let tasks = yard.tasks(&runner);
    // Three leases long.
    llm.answer(Say::text("a b c d e f").slowly(Duration::from_millis(600)));
    let (_, run) = tasks.make(general("Think.")).await;
    let done = tasks.wait(run, RunState::Completed).await;
    assert_eq!((done.attempt, llm.calls().len()), (1, 1));
    running.stop().await;
}
