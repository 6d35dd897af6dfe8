//! Where the time comes from: the system, or a test that moves it by hand.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
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

    /// The current instant, for waits within a process. It moves with [`Clock::advance`], so that what is held back until
    /// an instant and what is due at a time stay together.
    #[must_use]
    pub fn instant(&self) -> Instant {
        let shift = self.shift.as_ref().map_or(0, |shift| shift.load(Ordering::Relaxed));
        Instant::now() + Duration::from_micros(u64::try_from(shift).unwrap_or(0))
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
        assert!(twin.instant() - system.instant() > Duration::from_secs(23 * 3600));
    }
}
