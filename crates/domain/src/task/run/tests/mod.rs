//! The rules of runs: who may do what, and what becomes of it.

mod laws;
mod reports;

use super::*;
use crate::task::{Failure, Question};

fn start() -> DateTime<Utc> {
    DateTime::from_timestamp_millis(1_800_000_000_000).unwrap()
}

fn after(seconds: i64) -> DateTime<Utc> {
    start() + TimeDelta::seconds(seconds)
}

fn lease(n: u128) -> LeaseId {
    LeaseId::from_uuid(uuid::Uuid::from_u128(n))
}

fn input(n: u128) -> InputId {
    InputId::from_uuid(uuid::Uuid::from_u128(n))
}

fn queued() -> Run {
    Run {
        state: RunState::Queued,
        bounds: Bounds::default(),
        queued_at: start(),
        held_until: None,
        attempt: 0,
        lease: None,
        lease_until: None,
        attempt_started_at: None,
        attempt_deadline: None,
        ran_ms: 0,
        ended_at: None,
        told_started: false,
        percent: None,
        progress_message: None,
        progress_told_at: None,
        progress_waits: false,
        checkpoint_seq: None,
        result: None,
        summary: None,
        error: None,
        error_code: None,
        usage: Usage::default(),
        attempt_usage: Usage::default(),
        output_bytes: 0,
        asked: None,
    }
}

/// What a claim makes of a run.
fn claim(run: &mut Run, n: u128, now: DateTime<Utc>) {
    assert_eq!(run.state, RunState::Queued);
    run.state = RunState::Running;
    run.attempt += 1;
    run.lease = Some(lease(n));
    run.lease_until = Some(now + TimeDelta::seconds(120));
    run.attempt_started_at = Some(now);
    run.attempt_deadline = Some(now + TimeDelta::seconds(600));
    run.attempt_usage = Usage::default();
}

fn running() -> Run {
    let mut run = queued();
    claim(&mut run, 1, start());
    run
}

fn step_with(
    run: &mut Run,
    voice: Voice,
    step: Step,
    now: DateTime<Utc>,
    left: &mut Left,
) -> Result<Vec<Effect>, Refused> {
    run.step(voice, step, &mut Scene { settings: &Settings::default(), now, left })
}

fn step(run: &mut Run, voice: Voice, step: Step, now: DateTime<Utc>) -> Result<Vec<Effect>, Refused> {
    step_with(run, voice, step, now, &mut Left::default())
}

const HOLDER: Voice = Voice::Holder(LeaseId::from_uuid(uuid::Uuid::from_u128(1)));

fn complete(result: &str) -> Step {
    Step::Complete { result: result.to_owned(), summary: None, usage: Usage::default() }
}

fn fail(code: &str, retryable: bool) -> Step {
    let failure =
        Failure { code: code.to_owned(), message: "it broke".to_owned(), retryable, retry_after: None };
    Step::Fail { failure, usage: Usage::default() }
}

fn ask(n: u128) -> Step {
    let question = Question {
        question: "Which?".to_owned(),
        choices: Some(vec!["a".to_owned(), "b".to_owned()]),
        schema: None,
    };
    Step::Ask { input: input(n), question, usage: Usage::default() }
}

fn answer(n: u128, text: &str) -> Step {
    Step::Answer { input: input(n), answer: text.to_owned(), by: "Ada".to_owned() }
}

fn used(tokens: u64, cost_micros: u64) -> Usage {
    Usage { input_tokens: tokens, output_tokens: 0, cost_micros }
}

fn tells(effects: &[Effect]) -> Vec<&Telling> {
    effects
        .iter()
        .filter_map(|effect| if let Effect::Tell(telling) = effect { Some(telling) } else { None })
        .collect()
}

#[test]
fn only_these_transitions_are_legal() {
    use RunState::{Cancelled, Completed, Failed, NeedsInput, Queued, Running};
    let legal = [
        (Queued, Running),
        (Queued, Failed),
        (Queued, Cancelled),
        (Running, Queued),
        (Running, NeedsInput),
        (Running, Completed),
        (Running, Failed),
        (Running, Cancelled),
        (NeedsInput, Queued),
        (NeedsInput, Failed),
        (NeedsInput, Cancelled),
    ];
    for from in RunState::ALL {
        for to in RunState::ALL {
            assert_eq!(from.may_become(to), legal.contains(&(from, to)), "{from} to {to}");
        }
        assert_eq!(from.as_str().parse(), Ok(from));
    }
    for (alias, state) in [
        ("pending", Queued),
        ("in_progress", Running),
        ("working", Running),
        ("done", Completed),
        ("error", Failed),
    ] {
        assert_eq!(alias.parse(), Ok(state));
    }
    assert_eq!("eaten".parse::<RunState>(), Err(()));
}

#[test]
fn a_run_is_started_and_completed_and_tells_both() {
    let mut run = running();
    let effects = step(&mut run, HOLDER, complete("  The end\0. "), after(5)).unwrap();
    assert_eq!(tells(&effects), [&Telling::Started, &Telling::Completed]);
    assert_eq!(run.state, RunState::Completed);
    assert_eq!(run.result.as_deref(), Some("  The end\u{fffd}. "));
    assert_eq!(run.summary.as_deref(), Some("The end\u{fffd}."));
    assert_eq!((run.lease, run.ran_ms, run.ended_at), (None, 5_000, Some(after(5))));
    assert_eq!(run.due_at(&Settings::default()), None);
}

#[test]
fn started_is_told_once_however_often_it_is_said() {
    let mut run = running();
    let first = step(&mut run, HOLDER, Step::Started, after(1)).unwrap();
    assert_eq!(first, [Effect::Tell(Telling::Started)]);
    assert_eq!(step(&mut run, HOLDER, Step::Started, after(1)).unwrap(), [Effect::Moved]);
    step(&mut run, HOLDER, Step::Release, after(2)).unwrap();
    assert_eq!((run.state, run.attempt), (RunState::Queued, 0), "the attempt is not spent");
    claim(&mut run, 1, after(3));
    assert_eq!(tells(&step(&mut run, HOLDER, complete("x"), after(4)).unwrap()), [&Telling::Completed]);
}

#[test]
fn who_may_not_report_is_told_why() {
    let other = Voice::Holder(lease(2));
    let mut run = running();
    assert_eq!(step(&mut run, other, complete("x"), after(1)), Err(Refused::Stale));
    assert_eq!(step(&mut run, HOLDER, complete("x"), after(119)).map(|_| ()), Ok(()));
    for voice in [HOLDER, other] {
        assert_eq!(
            step(&mut run, voice, Step::Started, after(120)),
            Err(Refused::Ended(RunState::Completed))
        );
    }
    let mut late = running();
    assert_eq!(step(&mut late, HOLDER, complete("x"), after(120)), Err(Refused::Expired));
    let mut long = running();
    long.lease_until = Some(after(1_000));
    assert_eq!(step(&mut long, HOLDER, complete("x"), after(600)), Err(Refused::Expired));
    let mut waits = queued();
    assert_eq!(step(&mut waits, HOLDER, complete("x"), after(1)), Err(Refused::Stale));
    for run in [&mut late, &mut long, &mut waits] {
        assert!(!run.state.is_terminal());
    }
}

#[test]
fn nobody_does_what_is_another_s() {
    let answer = answer(1, "1");
    for (voice, wrong) in [
        (Voice::Owner, complete("x")),
        (Voice::Owner, Step::Tick),
        (Voice::Clock, Step::Cancel { reason: None }),
        (Voice::Clock, Step::Started),
        (HOLDER, Step::Tick),
        (HOLDER, Step::Cancel { reason: None }),
        (HOLDER, answer),
    ] {
        let mut run = running();
        run.told_started = true;
        let before = run.clone();
        assert_eq!(step(&mut run, voice, wrong.clone(), after(1)), Err(Refused::Stale), "{wrong:?}");
        assert_eq!(run, before);
    }
}

#[test]
fn a_failure_that_may_pass_is_tried_again_until_the_attempts_are_spent() {
    let mut run = running();
    step(&mut run, HOLDER, fail("overloaded", true), after(10)).unwrap();
    assert_eq!((run.state, run.held_until), (RunState::Queued, Some(after(12))));
    assert_eq!(step(&mut run, Voice::Clock, Step::Tick, after(11)).unwrap(), []);
    assert_eq!(step(&mut run, Voice::Clock, Step::Tick, after(12)).unwrap(), [Effect::Queued]);
    claim(&mut run, 1, after(13));
    let effects = step(&mut run, HOLDER, fail("Over loaded", true), after(14)).unwrap();
    assert_eq!(tells(&effects), [&Telling::Failed]);
    assert_eq!((run.state, run.error_code.as_deref()), (RunState::Failed, Some("failed")));
    let mut fatal = running();
    step(&mut fatal, HOLDER, fail("bad_request", false), after(1)).unwrap();
    assert_eq!((fatal.state, fatal.error_code.as_deref()), (RunState::Failed, Some("bad_request")));
}

#[test]
fn a_lost_lease_is_queued_again_until_the_attempts_are_spent() {
    let mut run = running();
    assert_eq!(step(&mut run, Voice::Clock, Step::Tick, after(119)).unwrap(), []);
    assert_eq!(
        step(&mut run, Voice::Clock, Step::Tick, after(120)).unwrap(),
        [Effect::Moved, Effect::Queued]
    );
    assert_eq!((run.state, run.attempt, run.queued_at), (RunState::Queued, 1, after(120)));
    claim(&mut run, 2, after(121));
    step(&mut run, Voice::Clock, Step::Tick, after(241)).unwrap();
    assert_eq!((run.state, run.error_code.as_deref()), (RunState::Failed, Some("lease_lost")));
}

#[test]
fn each_timer_ends_a_run_in_its_own_words() {
    let settings = Settings::default();
    let ended = |mut run: Run, at: DateTime<Utc>| {
        assert_eq!(run.due_at(&settings), Some(at));
        assert_eq!(step(&mut run, Voice::Clock, Step::Tick, at - TimeDelta::milliseconds(1)).unwrap(), []);
        step(&mut run, Voice::Clock, Step::Tick, at).unwrap();
        (run.state, run.error_code.unwrap())
    };
    let failed = |code: &str| (RunState::Failed, code.to_owned());
    assert_eq!(ended(queued(), after(86_400)), failed("queue_timeout"));
    let mut deadline = queued();
    deadline.bounds.deadline_at = Some(after(30));
    assert_eq!(ended(deadline, after(30)), failed("deadline_exceeded"));
    let mut long = running();
    long.lease_until = Some(after(900));
    assert_eq!(ended(long.clone(), after(600)), failed("timed_out"));
    long.bounds.max_seconds = Some(600);
    assert_eq!(ended(long, after(600)), failed("budget_exceeded"));
    let mut asks = running();
    step(&mut asks, HOLDER, ask(1), start()).unwrap();
    assert_eq!(ended(asks, after(604_800)), failed("input_timeout"));
}
