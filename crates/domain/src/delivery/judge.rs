//! The outcome matrix: what each outcome means for the delivery and for its hook (contract §7).
//!
//! The matrix is a table; the function only reads it. No clock, no generator, no database.

use chrono::{DateTime, TimeDelta, Utc};

use super::{Class, Outcome, Profile, RetryAfter};

/// What a delivery has behind it.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// Tries spent before this one, since it was made or replayed.
    pub tries_spent: u16,
    /// Times the receiver asked for later, since the present try was first due.
    pub deferrals: u16,
    /// When the present try was first due.
    pub first_due_at: DateTime<Utc>,
}

/// What becomes of the delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It arrived.
    Delivered,
    /// It is tried again then; this try is spent.
    RetryAt {
        /// When.
        at: DateTime<Utc>,
    },
    /// It is tried again then, and so is everything else for that endpoint; no try is spent.
    Deferred {
        /// When.
        at: DateTime<Utc>,
    },
    /// It ended without success.
    Dead,
}

/// What becomes of its hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// It works: pending and failing become active.
    Healthy,
    /// It fails.
    Failing,
    /// It fails, and several of these in a row disable it.
    Refused,
    /// It fails, and somebody should know why: its name leads where it must not.
    FailingAudited,
    /// It is removed.
    Remove,
    /// It is disabled.
    Disable,
    /// It is disabled, and somebody should know why.
    DisableAudited,
}

/// A field of the matrix.
#[derive(Clone, Copy)]
enum Reaction {
    /// The delivery arrived.
    Arrived,
    /// Try again while tries are left.
    Retry,
    /// Wait as told, without spending a try.
    Wait,
    /// The end, with this effect.
    End(Effect),
}

/// A column of the matrix.
#[derive(Clone, Copy)]
enum Column {
    Hook = 0,
    Callback = 1,
    Consumer = 2,
    Farewell = 3,
}

const fn column(profile: Profile) -> Column {
    match profile {
        Profile::Hook => Column::Hook,
        Profile::Callback => Column::Callback,
        Profile::Consumer | Profile::Task => Column::Consumer,
        // Nothing of an inbox is ever tried; if it were, nobody's health would be changed by it.
        Profile::Farewell | Profile::Inbox => Column::Farewell,
    }
}

use Reaction::{Arrived, End, Retry, Wait};

const DEAD: Reaction = End(Effect::Failing);
/// Callbacks and farewells have no hook whose health they could change.
const FINAL: Reaction = End(Effect::None);

/// One row per class, in the order of [`Class::ALL`]: hook, callback, consumer and task, farewell.
const MATRIX: [(Class, [Reaction; 4]); 12] = [
    (Class::Success, [Arrived, Arrived, Arrived, Arrived]),
    (Class::Redirect, [DEAD, FINAL, Retry, FINAL]),
    (Class::Refused, [End(Effect::Refused), FINAL, Retry, FINAL]),
    (Class::TooEarly, [Retry, FINAL, Retry, FINAL]),
    (Class::Gone, [End(Effect::Remove), FINAL, End(Effect::Disable), FINAL]),
    (Class::Throttled, [Wait, FINAL, Wait, FINAL]),
    (Class::Overloaded, [Wait, Retry, Wait, FINAL]),
    (Class::ClientError, [DEAD, FINAL, Retry, FINAL]),
    (Class::ServerError, [Retry, Retry, Retry, FINAL]),
    (Class::Network, [Retry, Retry, Retry, FINAL]),
    // A callback has no hook that could fail; what counts is that it is audited.
    (
        Class::Forbidden,
        [End(Effect::FailingAudited), End(Effect::FailingAudited), End(Effect::DisableAudited), FINAL],
    ),
    // Only consumers transform. Another try would make nothing else of it.
    (Class::Untransformable, [DEAD, FINAL, DEAD, FINAL]),
];

fn reaction(class: Class, profile: Profile) -> Reaction {
    let column = column(profile) as usize;
    MATRIX.iter().find(|(row, _)| *row == class).map_or(FINAL, |(_, row)| row[column])
}

/// Shortest and longest wait that a receiver can ask for, and what counts when it names none.
const SHORTEST: TimeDelta = TimeDelta::seconds(1);
const LONGEST: TimeDelta = TimeDelta::hours(1);
const UNNAMED: TimeDelta = TimeDelta::seconds(60);

/// What becomes of a delivery and its hook after a try. `jitter` is a number in `0.0..1.0`.
#[must_use]
pub fn judge(
    profile: Profile,
    outcome: &Outcome,
    standing: &Standing,
    now: DateTime<Utc>,
    jitter: f64,
) -> (Verdict, Effect) {
    match reaction(outcome.class(), profile) {
        Arrived if matches!(profile, Profile::Farewell | Profile::Callback | Profile::Inbox) => {
            (Verdict::Delivered, Effect::None)
        }
        Arrived => (Verdict::Delivered, Effect::Healthy),
        Retry => retry(profile, standing, now, jitter),
        Wait => wait(profile, outcome, standing, now),
        End(effect) => (Verdict::Dead, effect),
    }
}

fn retry(profile: Profile, standing: &Standing, now: DateTime<Utc>, jitter: f64) -> (Verdict, Effect) {
    let schedule = profile.schedule();
    match schedule.waits.get(usize::from(standing.tries_spent)) {
        None => spent(profile),
        Some(wait) => {
            let jitter = if jitter.is_nan() { 0.5 } else { jitter.clamp(0.0, 1.0) };
            let factor = 1.0 + schedule.jitter * (jitter * 2.0 - 1.0);
            let wait = TimeDelta::from_std(wait.mul_f64(factor)).unwrap_or(LONGEST);
            (Verdict::RetryAt { at: later(now, wait) }, Effect::None)
        }
    }
}

/// `+` panics at the end of time.
fn later(now: DateTime<Utc>, wait: TimeDelta) -> DateTime<Utc> {
    now.checked_add_signed(wait).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

/// Tries spent: a hook fails but is tried on the next event; a consumer is disabled by its days of failure, not by this.
fn spent(profile: Profile) -> (Verdict, Effect) {
    match column(profile) {
        Column::Hook | Column::Consumer => (Verdict::Dead, Effect::Failing),
        Column::Callback | Column::Farewell => (Verdict::Dead, Effect::None),
    }
}

fn wait(profile: Profile, outcome: &Outcome, standing: &Standing, now: DateTime<Utc>) -> (Verdict, Effect) {
    let schedule = profile.schedule();
    let told = match outcome.retry_after() {
        None => UNNAMED,
        Some(RetryAfter::Seconds(seconds)) => {
            i64::try_from(seconds).ok().and_then(TimeDelta::try_seconds).unwrap_or(LONGEST)
        }
        Some(RetryAfter::At(at)) => at.signed_duration_since(now),
    };
    let at = later(now, told.clamp(SHORTEST, LONGEST));
    let horizon = TimeDelta::from_std(schedule.deferral_horizon).unwrap_or(TimeDelta::days(1));
    if standing.deferrals < schedule.max_deferrals && at - standing.first_due_at <= horizon {
        (Verdict::Deferred { at }, Effect::None)
    } else {
        (Verdict::Dead, Effect::Failing)
    }
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
