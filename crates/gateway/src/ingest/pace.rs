//! How far apart groups of events begin where a broker carries the rings.
//!
//! Everything behind a group (messages, fan-out, reads) goes by groups, too: a machine that has much to do gets it done cheaper with
//! larger ones. One that has little to do stores a group sooner than the longest pace, and waits no longer than that.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// The longest pace.
const LONGEST: Duration = Duration::from_millis(10);

/// What storing a group takes, about, in microseconds: of the last one a quarter. The tasks of a lane share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pace(Arc<AtomicU64>);

impl Pace {
    /// Storing a group took so long.
    pub(super) fn note(&self, took: Duration) {
        let took = u64::try_from(took.min(2 * LONGEST).as_micros()).unwrap_or(0);
        // Of two that note at the same time one may be forgotten.
        self.0.store((3 * self.0.load(Relaxed) + took) / 4, Relaxed);
    }

    /// The least time between the beginnings of two groups.
    pub(super) fn now(&self) -> Duration {
        Duration::from_micros(self.0.load(Relaxed)).min(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_what_storing_takes_up_to_the_longest() {
        let pace = Pace::default();
        assert_eq!(pace.now(), Duration::ZERO);
        let noted = |took, times| {
            (0..times).for_each(|_| pace.note(took));
            pace.now()
        };
        let about_one = noted(Duration::from_millis(1), 30);
        assert!((990..=1_000).contains(&about_one.as_micros()), "{about_one:?}");
        let after_one_hour = noted(Duration::from_secs(3_600), 1);
        assert!(
            (5_740..=5_750).contains(&after_one_hour.as_micros()),
            "one counts for a quarter, {after_one_hour:?}"
        );
        assert_eq!(noted(Duration::MAX, 30), LONGEST);
        assert!(noted(Duration::from_micros(500), 16) < Duration::from_millis(1), "and back");
    }
}
