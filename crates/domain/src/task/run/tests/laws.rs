//! What holds whatever is said, in whatever order.

use proptest::prelude::*;

use super::*;

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
