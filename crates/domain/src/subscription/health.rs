//! What outcomes do to a hook: counters, state, and the consequences (contract §3 and §7). [`apply`] is the rule that the registry
//! follows.

use chrono::{DateTime, TimeDelta, Utc};

use super::{HookState, Kind, Report, Standing};

/// 401 or 403 so many times in a row disable a hook (contract §7).
pub const REFUSALS_TO_DISABLE: u32 = 5;

/// A consumer or an endpoint of tasks at which nothing but failures happened for so long is disabled (contract §7).
pub const FAILING_TO_DISABLE: TimeDelta = TimeDelta::days(5);

/// What the registry keeps of a hook's past to decide about its future.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// What it is.
    pub kind: Kind,
    /// Where the hook stands.
    pub state: HookState,
    /// When the first of the failures happened since which nothing has arrived.
    pub failing_since: Option<DateTime<Utc>>,
    /// 401 and 403 in a row, so far.
    pub consecutive_refusals: u32,
    /// Whether its name led to an address that is not allowed when it was last tried.
    pub forbidden: bool,
}

/// What a report makes of a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthChange {
    /// Where the hook stands from now on.
    pub state: HookState,
    /// 401 and 403 in a row, from now on.
    pub consecutive_refusals: u32,
    /// Why the hook was disabled or removed just now.
    pub ended: Option<Ended>,
    /// Its name leads to an address that is not allowed, and did not before: worth telling once, not with every event.
    pub turned_forbidden: bool,
}

/// How a subscription ends without its owner's doing. Its pending deliveries are cancelled. The owner of a hook is told by an
/// event; of an endpoint of tasks the tasks' deliveries tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The receiver said 410: it knows, so nothing is sent to it any more. `hook.removed`.
    Gone,
    /// Refused too often. `hook.disabled`, and the receiver is told with a reverse unsubscribe.
    Refused,
    /// An outcome that disables at once. Like [`Ended::Refused`].
    Disabled,
    /// Nothing but failures for [`FAILING_TO_DISABLE`]. Like [`Ended::Refused`].
    Hopeless,
}

/// The rule: what a report makes of a hook in this condition.
#[must_use]
pub fn apply(health: Health, report: &Report) -> HealthChange {
    let run = if report.other_than_refused {
        report.trailing_refusals
    } else {
        health.consecutive_refusals.saturating_add(report.trailing_refusals)
    };
    let live = health.state.takes_events();
    let failing_since = health.failing_since.filter(|_| report.delivered == 0 && report.failed > 0);
    let hopeless = health.kind.is_given_up()
        && failing_since.is_some_and(|since| report.last_attempt_at - since >= FAILING_TO_DISABLE);
    let (state, ended) = if live && report.gone && health.kind == Kind::Hook {
        (HookState::Deleted, Some(Ended::Gone))
    } else if live && run >= REFUSALS_TO_DISABLE {
        (HookState::Disabled, Some(Ended::Refused))
    } else if live && (report.disable || report.gone) {
        (HookState::Disabled, Some(Ended::Disabled))
    } else if live && hopeless {
        (HookState::Disabled, Some(Ended::Hopeless))
    } else {
        let state = match report.verdict {
            None => health.state,
            Some(Standing::Healthy) => health.state.after_success(),
            Some(Standing::Failing) => health.state.after_failure(),
        };
        (state, None)
    };
    let turned_forbidden = report.forbidden && !health.forbidden;
    HealthChange { state, consecutive_refusals: run, ended, turned_forbidden }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{delivery::Effect, subscription::report::tests::report};

    fn active() -> Health {
        Health {
            kind: Kind::Hook,
            state: HookState::Active,
            failing_since: None,
            consecutive_refusals: 0,
            forbidden: false,
        }
    }

    #[test]
    fn five_days_of_nothing_but_failures_disable_an_endpoint_of_tasks_and_no_hook() {
        let failed = report(&[Effect::None]);
        let since = |wait: TimeDelta| Some(failed.last_attempt_at - wait);
        let day = |kind, failing_since, report: &Report| {
            apply(Health { kind, failing_since, ..active() }, report).ended
        };
        let (short, long) = (FAILING_TO_DISABLE - TimeDelta::milliseconds(1), FAILING_TO_DISABLE);
        assert_eq!(day(Kind::Task, since(short), &failed), None);
        assert_eq!(day(Kind::Task, since(long), &failed), Some(Ended::Hopeless));
        assert_eq!(day(Kind::Task, None, &failed), None);
        assert_eq!(day(Kind::Consumer, since(short), &failed), None);
        assert_eq!(day(Kind::Consumer, since(long), &failed), Some(Ended::Hopeless));
        assert_eq!(day(Kind::Hook, since(long), &failed), None);
        assert_eq!(day(Kind::Task, since(long), &report(&[Effect::Healthy, Effect::None])), None);
    }

    #[test]
    fn an_endpoint_of_tasks_is_disabled_where_a_hook_is_removed() {
        let task = Health { kind: Kind::Task, ..active() };
        for effect in [Effect::Disable, Effect::DisableAudited, Effect::Remove] {
            let change = apply(task, &report(&[effect]));
            assert_eq!((change.state, change.ended), (HookState::Disabled, Some(Ended::Disabled)));
        }
    }

    #[test]
    fn the_fifth_refusal_in_a_row_disables_and_the_fourth_does_not() {
        use Effect::{Healthy, Refused};
        let table: [(u32, &[Effect], HookState, bool); 6] = [
            (0, &[Refused; 4], HookState::Failing, false),
            (0, &[Refused; 5], HookState::Disabled, true),
            (4, &[Refused], HookState::Disabled, true),
            (3, &[Refused], HookState::Failing, false),
            (4, &[Healthy, Refused, Refused, Refused, Refused], HookState::Failing, false),
            (4, &[Healthy], HookState::Active, false),
        ];
        for (before, effects, state, ended) in table {
            let health = Health { consecutive_refusals: before, ..active() };
            let change = apply(health, &report(effects));
            assert_eq!((change.state, change.ended.is_some()), (state, ended), "{before} then {effects:?}");
        }
    }

    #[test]
    fn gone_removes_and_success_activates() {
        let pending = Health { state: HookState::Pending, ..active() };
        let change = apply(pending, &report(&[Effect::Healthy, Effect::Remove]));
        assert_eq!((change.state, change.ended), (HookState::Deleted, Some(Ended::Gone)));
        assert_eq!(apply(pending, &report(&[Effect::Healthy])).state, HookState::Active);
        assert_eq!(apply(pending, &report(&[Effect::None])).state, HookState::Pending);
        assert_eq!(apply(pending, &report(&[Effect::Failing])).state, HookState::Failing);
    }

    #[test]
    fn an_address_that_turns_forbidden_is_told_once() {
        use Effect::{DisableAudited, Failing, FailingAudited, Healthy};
        let table: [(bool, &[Effect], bool); 6] = [
            (false, &[FailingAudited], true),
            (false, &[Healthy, FailingAudited, FailingAudited], true),
            (false, &[DisableAudited], true),
            (true, &[FailingAudited], false),
            (true, &[Healthy], false),
            (false, &[Failing], false),
        ];
        for (before, effects, told) in table {
            let health = Health { forbidden: before, ..active() };
            assert_eq!(apply(health, &report(effects)).turned_forbidden, told, "{before} then {effects:?}");
        }
        let mut first = report(&[FailingAudited]);
        first.append(report(&[Healthy]));
        assert!(first.forbidden, "what happened in between is told, too");
    }

    #[test]
    fn what_ended_stays_ended() {
        for state in [HookState::Disabled, HookState::Deleted] {
            for effect in [Effect::Healthy, Effect::Failing, Effect::Remove, Effect::Disable, Effect::Refused]
            {
                let change = apply(Health { state, consecutive_refusals: 4, ..active() }, &report(&[effect]));
                assert_eq!((change.state, change.ended), (state, None), "{effect:?}");
            }
        }
    }
}
