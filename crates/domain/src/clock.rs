//! Where the time comes from: the system, or a test that moves it by hand.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};

/// A source of the current time. Rules take `now` as an argument; services ask this once per unit of work.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    /// Microseconds that a test has added to the system's time; `None` in production.
    shift: Option<Arc<AtomicI64>>,
}

impl Clock {
    /// The system's clock.
    #[must_use]
    pub fn system() -> Self {
        Self::default()
    }

    /// A clock that runs like the system's and can be moved with [`Clock::advance`].
    #[must_use]
    pub fn movable() -> Self {
        Self { shift: Some(Arc::default()) }
    }

    /// The current time in UTC, to the microsecond, which is what Postgres keeps.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        #[expect(clippy::disallowed_methods, reason = "this is the one place that asks the system")]
        let now = Utc::now().trunc_subsecs(6);
        match &self.shift {
            None => now,
            Some(shift) => now + TimeDelta::microseconds(shift.load(Ordering::Relaxed)),
        }
    }

    /// Moves a movable clock forward; the system's clock stays as it is.
    pub fn advance(&self, by: TimeDelta) {
        if let Some(shift) = &self.shift {
            shift.fetch_add(by.num_microseconds().unwrap_or(0), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_movable_clock_moves_and_its_clones_move_with_it() {
        let (system, movable) = (Clock::system(), Clock::movable());
        let twin = movable.clone();
        system.advance(TimeDelta::days(1));
        movable.advance(TimeDelta::days(1));
        assert!(twin.now() - system.now() > TimeDelta::hours(23));
    }
}
