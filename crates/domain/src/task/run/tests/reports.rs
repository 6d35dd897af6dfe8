//! What may be reported, asked and answered, and how much of it.

use super::*;
use crate::task::{
    answer::BadAnswer,
    step::{
        MAX_CHECKPOINT_BYTES, MAX_CHOICE_CHARS, MAX_CHOICES, MAX_CHUNK_BYTES, MAX_OUTPUT_BYTES,
        MAX_PROGRESS_CHARS, MAX_QUESTION_CHARS, MAX_RESULT_BYTES,
    },
};

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
    assert_eq!(wrong, Refused::Answer(BadAnswer::NoChoice { choices: "a, b".to_owned() }));
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

#[test]
fn a_schema_is_looked_at_when_it_is_asked_with_and_when_it_is_answered() {
    let asking = |schema: &str| Step::Ask {
        input: input(7),
        question: Question { question: "?".to_owned(), choices: None, schema: Some(schema.to_owned()) },
        usage: Usage::default(),
    };
    let mut run = running();
    let refused = step(&mut run, HOLDER, asking(r#"{"type":"strin"}"#), after(1)).unwrap_err();
    assert!(matches!(refused, Refused::Field { field: "schema", .. }), "{refused:?}");
    assert_eq!(run, running(), "it was not asked");
    step(&mut run, HOLDER, asking(r#"{"type":"integer"}"#), after(1)).unwrap();
    let before = run.clone();
    let refused = step(&mut run, Voice::Owner, answer(7, "1.5"), after(2)).unwrap_err();
    assert!(matches!(refused, Refused::Answer(BadAnswer::Schema { .. })), "{refused:?}");
    assert_eq!(run, before, "it was not answered");
    step(&mut run, Voice::Owner, answer(7, "1"), after(2)).unwrap();
    assert_eq!(run.state, RunState::Queued);
}
