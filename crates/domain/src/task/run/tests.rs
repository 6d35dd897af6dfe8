use proptest::prelude::*;

use super::*;
use crate::task::{
    Failure, Question,
    step::{
        MAX_CHECKPOINT_BYTES, MAX_CHOICE_CHARS, MAX_CHOICES, MAX_CHUNK_BYTES, MAX_OUTPUT_BYTES,
        MAX_PROGRESS_CHARS, MAX_QUESTION_CHARS, MAX_RESULT_BYTES,
    },
};

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

#[test]
fn progress_never_falls_and_is_told_at_most_every_five_seconds() {
    let mut run = running();
    let progress =
        |percent| Step::Progress { percent: Some(percent), message: Some(format!("at {percent}")) };
    let first = step(&mut run, HOLDER, progress(10), after(0)).unwrap();
    assert_eq!(tells(&first), [&Telling::Started, &Telling::Progress]);
    assert_eq!(step(&mut run, HOLDER, progress(20), after(1)).unwrap(), [Effect::Advanced]);
    assert_eq!(step(&mut run, HOLDER, progress(30), after(4)).unwrap(), [Effect::Advanced]);
    assert_eq!(run.due_at(&Settings::default()), Some(after(5)), "what was held back is told then");
    assert_eq!(tells(&step(&mut run, Voice::Clock, Step::Tick, after(5)).unwrap()), [&Telling::Progress]);
    assert_eq!(step(&mut run, Voice::Clock, Step::Tick, after(11)).unwrap(), []);
    for (percent, refused) in [(29, true), (30, false), (100, false), (101, true)] {
        let told =
            step(&mut run, HOLDER, Step::Progress { percent: Some(percent), message: None }, after(12));
        assert_eq!(matches!(told, Err(Refused::Field { field: "percent", .. })), refused, "{percent}");
    }
    assert_eq!(run.progress_message.as_deref(), Some("at 30"));
    // The end comes before what was held back.
    step(&mut run, HOLDER, Step::Progress { percent: None, message: Some("last".to_owned()) }, after(13))
        .unwrap();
    step(&mut run, HOLDER, complete("x"), after(13)).unwrap();
    assert_eq!(step(&mut run, Voice::Clock, Step::Tick, after(20)).unwrap(), []);
}

#[test]
fn a_question_is_answered_once() {
    let mut run = running();
    step(&mut run, HOLDER, ask(7), after(1)).unwrap();
    assert_eq!((run.state, run.lease), (RunState::NeedsInput, None));
    assert_eq!(step(&mut run, HOLDER, complete("x"), after(2)), Err(Refused::Stale));
    assert_eq!(step(&mut run, Voice::Owner, answer(8, "\"a\""), after(2)), Err(Refused::Unknown));
    let wrong = step(&mut run, Voice::Owner, answer(7, "\"c\""), after(2)).unwrap_err();
    assert_eq!(wrong, Refused::Field { field: "answer", reason: "must be one of a, b".to_owned() });
    let taken = step(&mut run, Voice::Owner, answer(7, "\"a\""), after(3)).unwrap();
    assert!(taken.contains(&Effect::Queued));
    assert_eq!((run.state, run.attempt), (RunState::Queued, 0));
    assert_eq!(step(&mut run, Voice::Owner, answer(7, "\"a\""), after(4)).unwrap(), []);
    assert!(matches!(step(&mut run, Voice::Owner, answer(7, "\"b\""), after(4)), Err(Refused::Conflict(_))));
    let mut late = running();
    step(&mut late, HOLDER, ask(7), start()).unwrap();
    assert_eq!(step(&mut late, Voice::Owner, answer(7, "\"a\""), after(604_800)), Err(Refused::Expired));
    step(&mut late, Voice::Owner, Step::Cancel { reason: None }, after(5)).unwrap();
    let ended = Err(Refused::Ended(RunState::Cancelled));
    assert_eq!(step(&mut late, Voice::Owner, answer(7, "\"a\""), after(6)), ended);
}

#[test]
fn cancelling_is_repeatable_and_never_undoes_an_end() {
    for mut run in [queued(), running()] {
        let reason = Some("not wanted".to_owned());
        let effects = step(&mut run, Voice::Owner, Step::Cancel { reason }, after(1)).unwrap();
        assert_eq!(tells(&effects), [&Telling::Cancelled]);
        assert_eq!(run.error.as_deref(), Some("not wanted"));
        assert_eq!(step(&mut run, Voice::Owner, Step::Cancel { reason: None }, after(2)).unwrap(), []);
        assert_eq!(step(&mut run, HOLDER, complete("x"), after(2)), Err(Refused::Ended(RunState::Cancelled)));
    }
    let mut done = running();
    step(&mut done, HOLDER, complete("x"), after(1)).unwrap();
    let refused = step(&mut done, Voice::Owner, Step::Cancel { reason: None }, after(2));
    assert!(matches!(refused, Err(Refused::Conflict(_))));
}

#[test]
fn what_was_used_counts_once_and_ends_a_run_that_uses_too_much() {
    let mut run = running();
    run.bounds.max_tokens = Some(100);
    let spent = |tokens| Step::Spent { usage: used(tokens, tokens * 2) };
    let effects = step(&mut run, HOLDER, spent(60), after(1)).unwrap();
    assert!(effects.contains(&Effect::Used(used(60, 120))));
    assert_eq!(step(&mut run, HOLDER, spent(60), after(1)).unwrap(), [], "said twice");
    assert_eq!(step(&mut run, HOLDER, spent(100), after(1)).unwrap(), [Effect::Used(used(40, 80))]);
    assert_eq!(run.state, RunState::Running, "at the limit");
    step(&mut run, HOLDER, spent(101), after(1)).unwrap();
    assert_eq!((run.state, run.error_code.as_deref()), (RunState::Failed, Some("budget_exceeded")));
    // The next attempt begins from nothing, the sum goes on.
    let mut again = running();
    again.bounds.max_cost_micros = Some(10);
    step(&mut again, HOLDER, Step::Spent { usage: used(1, 6) }, after(1)).unwrap();
    step(&mut again, HOLDER, fail("overloaded", true), after(1)).unwrap();
    again.held_until = None;
    claim(&mut again, 1, after(2));
    step(&mut again, HOLDER, Step::Spent { usage: used(1, 4) }, after(3)).unwrap();
    assert_eq!((again.state, again.usage), (RunState::Running, used(2, 10)));
    step(&mut again, HOLDER, Step::Spent { usage: used(1, 5) }, after(3)).unwrap();
    assert_eq!(again.state, RunState::Failed);
    // The tenant's month.
    let mut left = Left { tokens: Some(10), cost_micros: None };
    let (mut first, mut second) = (running(), running());
    step_with(&mut first, HOLDER, Step::Spent { usage: used(10, 0) }, after(1), &mut left).unwrap();
    assert_eq!(first.state, RunState::Running);
    step_with(&mut second, HOLDER, Step::Spent { usage: used(1, 0) }, after(1), &mut left).unwrap();
    assert_eq!(second.error_code.as_deref(), Some("budget_exceeded"));
    // What is done is done: the money was spent for it.
    let done = Step::Complete { result: "x".to_owned(), summary: None, usage: used(11, 0) };
    step_with(&mut first, HOLDER, done, after(1), &mut left).unwrap();
    assert_eq!(first.state, RunState::Completed);
}

#[test]
fn reports_have_bounds() {
    let question = |chars: usize, choices: usize, choice: usize| {
        let choices = vec!["c".repeat(choice); choices];
        let question = Question { question: "q".repeat(chars), choices: Some(choices), schema: None };
        Step::Ask { input: input(1), question, usage: Usage::default() }
    };
    let chunk = |bytes: usize| Step::Output { text: "x".repeat(bytes) };
    let checkpoint = |seq, bytes: usize| Step::Checkpoint { seq, data: "x".repeat(bytes) };
    let progress = |chars: usize| Step::Progress { percent: None, message: Some("é".repeat(chars)) };
    for (good, bad) in [
        (complete(&"x".repeat(MAX_RESULT_BYTES)), complete(&"x".repeat(MAX_RESULT_BYTES + 1))),
        (chunk(MAX_CHUNK_BYTES), chunk(MAX_CHUNK_BYTES + 1)),
        (checkpoint(1, MAX_CHECKPOINT_BYTES), checkpoint(1, MAX_CHECKPOINT_BYTES + 1)),
        (progress(MAX_PROGRESS_CHARS), progress(MAX_PROGRESS_CHARS + 1)),
        (question(MAX_QUESTION_CHARS, 1, 1), question(MAX_QUESTION_CHARS + 1, 1, 1)),
        (question(1, MAX_CHOICES, MAX_CHOICE_CHARS), question(1, MAX_CHOICES + 1, 1)),
        (question(1, 1, 1), question(1, 0, 1)),
        (question(1, 1, 1), question(1, 1, MAX_CHOICE_CHARS + 1)),
        (question(1, 1, 1), question(0, 1, 1)),
    ] {
        assert!(step(&mut running(), HOLDER, good, after(1)).is_ok());
        let mut run = running();
        let refused = step(&mut run, HOLDER, bad, after(1));
        assert!(matches!(refused, Err(Refused::Field { .. })), "{refused:?}");
        assert_eq!(run, running(), "a report that is refused changes nothing");
    }
    let mut full = running();
    full.output_bytes = MAX_OUTPUT_BYTES - 1;
    assert!(step(&mut full.clone(), HOLDER, chunk(1), after(1)).is_ok());
    assert!(step(&mut full, HOLDER, chunk(2), after(1)).is_err());
    let mut run = running();
    step(&mut run, HOLDER, checkpoint(5, 1), after(1)).unwrap();
    assert!(step(&mut run, HOLDER, checkpoint(5, 1), after(1)).is_err());
    assert!(step(&mut run, HOLDER, checkpoint(6, 1), after(1)).is_ok());
}

fn any_step() -> impl Strategy<Value = (bool, u8, u32)> {
    (any::<bool>(), 0..14_u8, 0..200_u32)
}

proptest! {
    #[test]
    fn whatever_is_said_only_legal_things_happen(steps in prop::collection::vec(any_step(), 1..60)) {
        let mut run = queued();
        let (mut now, mut told, mut asked) = (start(), Vec::new(), 0_u128);
        for (right, kind, seconds) in steps {
            now += TimeDelta::seconds(seconds.into());
            let holder = Voice::Holder(if right { run.lease.unwrap_or(lease(1)) } else { lease(99) });
            let before = run.clone();
            let said = match kind {
                0 | 1 if run.state == RunState::Queued && run.held_until.is_none() => {
                    claim(&mut run, u128::from(seconds) + 1, now);
                    continue;
                }
                0 | 1 => step(&mut run, holder, Step::Started, now),
                2 => step(&mut run, holder, Step::Progress { percent: u8::try_from(seconds).ok(), message: None }, now),
                3 => step(&mut run, holder, Step::Output { text: "x".to_owned() }, now),
                4 => step(&mut run, holder, Step::Checkpoint { seq: seconds.into(), data: String::new() }, now),
                5 => step(&mut run, holder, Step::Spent { usage: used(seconds.into(), 1) }, now),
                6 => {
                    asked += 1;
                    step(&mut run, holder, ask(asked), now)
                }
                7 => step(&mut run, holder, complete("x"), now),
                8 => step(&mut run, holder, fail("broke", right), now),
                9 => step(&mut run, holder, Step::Release, now),
                10 => step(&mut run, Voice::Owner, Step::Cancel { reason: None }, now),
                11 => step(&mut run, Voice::Owner, answer(asked, "\"a\""), now),
                _ => step(&mut run, Voice::Clock, Step::Tick, now),
            };
            if before.state.is_terminal() {
                prop_assert_eq!(&run, &before, "what has ended never changes");
            }
            match said {
                Err(_) => prop_assert_eq!(&run, &before, "what is refused changes nothing"),
                Ok(effects) => told.extend(tells(&effects).into_iter().cloned()),
            }
            prop_assert_eq!(run.lease.is_some(), run.state == RunState::Running);
            prop_assert_eq!(run.ended_at.is_some(), run.state.is_terminal());
            prop_assert_eq!(run.due_at(&Settings::default()).is_none(), run.state.is_terminal());
            prop_assert!(run.attempt <= Settings::default().attempts || run.state != RunState::Queued);
        }
        let ends = told.iter().filter(|t| matches!(t, Telling::Completed | Telling::Failed | Telling::Cancelled));
        prop_assert_eq!(ends.count(), usize::from(run.state.is_terminal()), "an end is told once");
        if run.state.is_terminal() {
            prop_assert!(matches!(told.last(), Some(Telling::Completed | Telling::Failed | Telling::Cancelled)));
        }
        prop_assert!(told.iter().filter(|t| **t == Telling::Started).count() <= 1);
    }
}
