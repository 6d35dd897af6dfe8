//! What happened at a subscription: a [`Report`] sums up the outcomes of one commit for it, so that the hot path writes one row for
//! hundreds of deliveries.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    delivery::{Effect, Outcome},
    id::{EventId, SubscriptionId, TenantId},
};

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

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::subscription) fn report(effects: &[Effect]) -> Report {
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
