//! The section `[tasks]`.

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

/// Section `[tasks]`: how runs are queued, held and given up.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Runs that the built-in executor has of one tenant at the same time, 1 to 10,000. Default: 10.
    pub concurrency: u32,
    /// How often a run is tried when its lease is lost or a failure may pass, 1 to 10. Default: 2.
    pub attempts: u16,
    /// How long a run may wait in the queue, in seconds, 1 to 2,592,000; then it fails. Default: 86,400 (a day).
    pub queue_deadline_s: u32,
    /// How long whoever holds a run may be silent, in seconds, 1 to 3,600; then the run is queued again. Default: 120.
    pub heartbeat_s: u32,
    /// How long a question waits for its answer, in seconds, 1 to 2,592,000; then the run fails. Default: 604,800 (7 days).
    pub input_deadline_s: u32,
    /// The least time between two `task_progress` of a run, in milliseconds, 0 to 600,000. Default: 5,000.
    pub progress_interval_ms: u32,
    /// How long a run waits after a failure that may pass and names no time, in milliseconds, for each attempt, 0 to 600,000.
    /// Default: 2,000.
    pub retry_wait_ms: u32,
    /// Days for which tasks are kept after they were made, 1 to 3,650; those that have not ended are kept, too. Default: 90.
    pub retention_days: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            concurrency: 10,
            attempts: 2,
            queue_deadline_s: 86_400,
            heartbeat_s: 120,
            input_deadline_s: 604_800,
            progress_interval_ms: 5_000,
            retry_wait_ms: 2_000,
            retention_days: 90,
        }
    }
}

impl Settings {
    /// Checks the ranges.
    ///
    /// # Errors
    /// Names the first setting that is out of its range, and the range.
    pub fn check(&self) -> Result<(), String> {
        let ranges: [(&str, u32, u32, u32); 8] = [
            ("concurrency", self.concurrency, 1, 10_000),
            ("attempts", self.attempts.into(), 1, 10),
            ("queue_deadline_s", self.queue_deadline_s, 1, 2_592_000),
            ("heartbeat_s", self.heartbeat_s, 1, 3_600),
            ("input_deadline_s", self.input_deadline_s, 1, 2_592_000),
            ("progress_interval_ms", self.progress_interval_ms, 0, 600_000),
            ("retry_wait_ms", self.retry_wait_ms, 0, 600_000),
            ("retention_days", self.retention_days, 1, 3_650),
        ];
        for (name, value, least, most) in ranges {
            if !(least..=most).contains(&value) {
                return Err(format!("tasks.{name} must lie between {least} and {most}, not {value}"));
            }
        }
        Ok(())
    }

    pub(crate) fn queue_deadline(&self) -> TimeDelta {
        TimeDelta::seconds(self.queue_deadline_s.into())
    }

    pub(crate) fn heartbeat(&self) -> TimeDelta {
        TimeDelta::seconds(self.heartbeat_s.into())
    }

    pub(crate) fn input_deadline(&self) -> TimeDelta {
        TimeDelta::seconds(self.input_deadline_s.into())
    }

    pub(crate) fn progress_interval(&self) -> TimeDelta {
        TimeDelta::milliseconds(self.progress_interval_ms.into())
    }

    pub(crate) fn retry_wait(&self, attempt: u16) -> TimeDelta {
        TimeDelta::milliseconds(i64::from(self.retry_wait_ms) * i64::from(attempt.max(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_in_range_and_the_ends_are_kept() {
        assert_eq!(Settings::default().check(), Ok(()));
        for (attempts, good) in [(0, false), (1, true), (10, true), (11, false)] {
            assert_eq!(Settings { attempts, ..Settings::default() }.check().is_ok(), good, "{attempts}");
        }
        for (heartbeat_s, good) in [(0, false), (1, true), (3_600, true), (3_601, false)] {
            assert_eq!(
                Settings { heartbeat_s, ..Settings::default() }.check().is_ok(),
                good,
                "{heartbeat_s}"
            );
        }
    }
}
