//! What outcomes do to a hook: counters, state, and the consequences (contract §3 and §7).
//!
//! A [`Report`] sums up the outcomes of one commit for one subscription, so that the hot path writes one row for
//! hundreds of deliveries; [`apply`] is the rule that the registry follows.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::{HookState, Kind};
use crate::{
    delivery::{Effect, Outcome},
    id::{EventId, SubscriptionId, TenantId},
};

/// 401 or 403 so many times in a row disable a hook (contract §7).
pub const REFUSALS_TO_DISABLE: u32 = 5;

/// A consumer or an endpoint of tasks at which nothing but failures happened for so long is disabled (contract §7).
pub const FAILING_TO_DISABLE: TimeDelta = TimeDelta::days(5);

/// Dead letters that one report names, at most.
pub const MAX_DEAD_EVENTS: usize = 20;

/// Outcomes of one subscription, in the order in which they happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Whose outcomes.
    pub subscription: SubscriptionId,
    /// The owner.
    pub tenant: TenantId,
    /// Deliveries that arrived.
    pub delivered: u32,
    /// Tries that failed.
    pub failed: u32,
    /// Failed tries since the last that arrived.
    pub trailing_failures: u32,
    /// 401 and 403 since the last other outcome.
    pub trailing_refusals: u32,
    /// Whether anything else than 401 and 403 happened.
    pub other_than_refused: bool,
    /// What the last outcome that says something about the state says.
    pub verdict: Option<Standing>,
    /// The receiver said 410.
    pub gone: bool,
    /// An outcome that disables at once.
    pub disable: bool,
    /// Nothing was sent, because the name led to an address that is not allowed. Reports of an older version do not say.
    #[serde(default)]
    pub forbidden: bool,
    /// Deliveries that ended without success: dead letters. Reports of an older version do not say.
    #[serde(default)]
    pub dead: u32,
    /// The events of the first of them, at most [`MAX_DEAD_EVENTS`].
    #[serde(default)]
    pub dead_events: Vec<EventId>,
    /// When the first of the trailing failures happened.
    pub first_failure_at: Option<DateTime<Utc>>,
    /// When the last delivery arrived.
    pub last_delivered_at: Option<DateTime<Utc>>,
    /// When the last try ended.
    pub last_attempt_at: DateTime<Utc>,
    /// Its HTTP status.
    pub last_status: Option<u16>,
    /// Its outcome in words.
    pub last_reason: String,
}

/// What an outcome says about the state of a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// A delivery arrived.
    Healthy,
    /// A delivery ended without success.
    Failing,
}

impl Report {
    /// A report without outcomes.
    #[must_use]
    pub fn new(subscription: SubscriptionId, tenant: TenantId, now: DateTime<Utc>) -> Self {
        Self {
            subscription,
            tenant,
            delivered: 0,
            failed: 0,
            trailing_failures: 0,
            trailing_refusals: 0,
            other_than_refused: false,
            verdict: None,
            gone: false,
            disable: false,
            forbidden: false,
            dead: 0,
            dead_events: Vec::new(),
            first_failure_at: None,
            last_delivered_at: None,
            last_attempt_at: now,
            last_status: None,
            last_reason: String::new(),
        }
    }

    /// Adds a delivery that has ended without success.
    pub fn bury(&mut self, event: EventId) {
        self.dead = self.dead.saturating_add(1);
        if self.dead_events.len() < MAX_DEAD_EVENTS {
            self.dead_events.push(event);
        }
    }

    /// Adds the next outcome with the effect that it was judged to have.
    pub fn note(&mut self, outcome: &Outcome, effect: Effect, at: DateTime<Utc>) {
        self.last_attempt_at = at;
        self.last_status = outcome.status();
        self.last_reason = outcome.word().into_owned();
        if outcome.is_success() {
            self.delivered += 1;
            self.trailing_failures = 0;
            self.first_failure_at = None;
            self.last_delivered_at = Some(at);
        } else {
            self.failed += 1;
            self.trailing_failures += 1;
            self.first_failure_at = self.first_failure_at.or(Some(at));
        }
        if effect == Effect::Refused {
            self.trailing_refusals += 1;
        } else {
            self.trailing_refusals = 0;
            self.other_than_refused = true;
        }
        match effect {
            Effect::None => {}
            Effect::Healthy => self.verdict = Some(Standing::Healthy),
            Effect::Failing | Effect::Refused => self.verdict = Some(Standing::Failing),
            Effect::FailingAudited => (self.verdict, self.forbidden) = (Some(Standing::Failing), true),
            Effect::Remove => self.gone = true,
            Effect::Disable => self.disable = true,
            Effect::DisableAudited => (self.disable, self.forbidden) = (true, true),
        }
    }
}

impl Report {
    /// Adds a report of what happened after this one.
    pub fn append(&mut self, later: Self) {
        let Self {
            subscription: _,
            tenant: _,
            delivered,
            failed,
            trailing_failures,
            trailing_refusals,
            other_than_refused,
            verdict,
            gone,
            disable,
            forbidden,
            dead,
            mut dead_events,
            first_failure_at,
            last_delivered_at,
            last_attempt_at,
            last_status,
            last_reason,
        } = later;
        self.delivered = self.delivered.saturating_add(delivered);
        self.failed = self.failed.saturating_add(failed);
        if delivered > 0 {
            self.trailing_failures = trailing_failures;
            self.first_failure_at = first_failure_at;
        } else {
            self.trailing_failures = self.trailing_failures.saturating_add(trailing_failures);
            self.first_failure_at = self.first_failure_at.or(first_failure_at);
        }
        if other_than_refused {
            self.trailing_refusals = trailing_refusals;
            self.other_than_refused = true;
        } else {
            self.trailing_refusals = self.trailing_refusals.saturating_add(trailing_refusals);
        }
        self.verdict = verdict.or(self.verdict);
        self.gone |= gone;
        self.disable |= disable;
        self.forbidden |= forbidden;
        self.dead = self.dead.saturating_add(dead);
        self.dead_events.append(&mut dead_events);
        self.dead_events.truncate(MAX_DEAD_EVENTS);
        self.last_delivered_at = last_delivered_at.or(self.last_delivered_at);
        self.last_attempt_at = last_attempt_at;
        self.last_status = last_status;
        self.last_reason = last_reason;
    }
}

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

    fn report(effects: &[Effect]) -> Report {
        let now = DateTime::UNIX_EPOCH;
        let mut report = Report::new(SubscriptionId::new(now), TenantId::new(now), now);
        for effect in effects {
            let code = match effect {
                Effect::Healthy => 200,
                Effect::Refused => 401,
                Effect::Remove => 410,
                Effect::None
                | Effect::Failing
                | Effect::FailingAudited
                | Effect::Disable
                | Effect::DisableAudited => 500,
            };
            report.note(&Outcome::Status { code, retry_after: None }, *effect, now);
        }
        report
    }

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

    /// A settlement that a deliverer of the version before has written.
    #[test]
    fn a_report_without_a_word_about_addresses_can_be_read() {
        let mut told = serde_json::to_value(report(&[Effect::Healthy])).unwrap();
        for member in ["forbidden", "dead", "dead_events"] {
            told.as_object_mut().unwrap().remove(member).unwrap();
        }
        let read: Report = serde_json::from_value(told).unwrap();
        assert_eq!((read.forbidden, read.delivered), (false, 1));
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

    #[test]
    fn two_reports_in_a_row_say_what_one_would_have_said() {
        use Effect::{Failing, Healthy, None, Refused, Remove};
        let all = [Healthy, Refused, Refused, Failing, None, Healthy, Refused, Remove, Refused, Refused];
        for cut in 0..all.len() {
            let whole = report(&all);
            let mut first = report(&all[..cut]);
            let second = report(&all[cut..]);
            if cut == 0 {
                first.last_reason = second.last_reason.clone();
            }
            first.append(second);
            (first.subscription, first.tenant) = (whole.subscription, whole.tenant);
            assert_eq!(first, whole, "cut at {cut}");
        }
    }

    #[test]
    fn dead_letters_are_counted_and_the_first_are_named() {
        let buried = |count: usize| {
            let mut report = report(&[]);
            for _ in 0..count {
                report.bury(EventId::new(DateTime::UNIX_EPOCH));
            }
            report
        };
        let mut first = buried(MAX_DEAD_EVENTS - 1);
        let named = first.dead_events.clone();
        first.append(buried(2));
        assert_eq!((first.dead, first.dead_events.len()), (21, MAX_DEAD_EVENTS));
        assert_eq!(first.dead_events[..named.len()], named);
        assert_eq!(buried(MAX_DEAD_EVENTS + 1).dead_events.len(), MAX_DEAD_EVENTS);
    }

    #[test]
    fn counts_follow_the_outcomes() {
        let report = report(&[Effect::None, Effect::Healthy, Effect::None, Effect::Failing]);
        assert_eq!((report.delivered, report.failed, report.trailing_failures), (1, 3, 2));
        assert_eq!(report.last_status, Some(500));
    }
}
