//! The `[runner]` section.

use std::time::Duration;

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

use crate::executor::Patience;

/// How runs are done.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Runs under way at once in this process. Range 1–10,000. Default: 64.
    pub slots: usize,
    /// Action runs under way at once in this process. Range 1–10,000. Default: 128.
    pub action_slots: usize,
    /// Of these, action runs of one tenant: the others are for the others. Range 1–10,000. Default: 64.
    pub action_tenant_slots: usize,
    /// How long an action run belongs to the runner that took it, in seconds; then another may take it. Requests are held for as
    /// long as they may take. Range 15–600. Default: 60.
    pub action_lease_s: u32,
    /// Days for which action runs are kept after they ended. Range 1–3,650. Default: 30.
    pub action_retention_days: u32,
    /// How often a runner looks for work that nobody rang, in milliseconds. Range 10–1,000. Default: 500.
    pub poll_interval_ms: u64,
    /// How often it looks whether its runs are still wanted, in milliseconds: so long a cancelled call of a language model goes
    /// on at most. Range 10–10,000. Default: 400.
    pub look_interval_ms: u64,
    /// How often timers and schedules are looked at, in milliseconds. Range 10–60,000. Default: 1000.
    pub timer_interval_ms: u64,
    /// How long output is gathered before it is written, in milliseconds. Range 10–10,000. Default: 250.
    pub output_interval_ms: u64,
    /// Most reports written in one transaction. Range 1–5,000. Default: 200.
    pub write_batch: usize,
    /// Most tokens of a language model's reply. Range 16–1,000,000. Default: 8192.
    pub max_output_tokens: u32,
    /// Longest silence of a language model before and within its reply, in milliseconds. Range 100–600,000. Default: 60000.
    pub silence_ms: u64,
    /// Calls of a language model in one attempt, when calls fail that may go better again. Range 1–20. Default: 4.
    pub calls: u32,
    /// The wait after the first failed call, in milliseconds; doubled with every further one. Range 1–60,000. Default: 1000.
    pub first_wait_ms: u64,
    /// The longest wait between calls, in milliseconds; a provider that asks for more is asked again by the next attempt.
    /// Range 1–600,000. Default: 30000.
    pub longest_wait_ms: u64,
    /// How long runs may go on when the process stops, in milliseconds; then they are given back. Range 0–600,000.
    /// Default: 5000.
    pub grace_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            slots: 64,
            action_slots: 128,
            action_tenant_slots: 64,
            action_lease_s: 60,
            action_retention_days: 30,
            poll_interval_ms: 500,
            look_interval_ms: 400,
            timer_interval_ms: 1_000,
            output_interval_ms: 250,
            write_batch: 200,
            max_output_tokens: 8_192,
            silence_ms: 60_000,
            calls: 4,
            first_wait_ms: 1_000,
            longest_wait_ms: 30_000,
            grace_ms: 5_000,
        }
    }
}

impl Settings {
    /// Checks the ranges.
    ///
    /// # Errors
    /// Names the first setting that is out of its range, and the range.
    pub fn check(&self) -> Result<(), String> {
        let ranges: [(&str, u64, u64, u64); 16] = [
            ("slots", self.slots as u64, 1, 10_000),
            ("action_slots", self.action_slots as u64, 1, 10_000),
            ("action_tenant_slots", self.action_tenant_slots as u64, 1, 10_000),
            ("action_lease_s", self.action_lease_s.into(), 15, 600),
            ("action_retention_days", self.action_retention_days.into(), 1, 3_650),
            ("poll_interval_ms", self.poll_interval_ms, 10, 1_000),
            ("look_interval_ms", self.look_interval_ms, 10, 10_000),
            ("timer_interval_ms", self.timer_interval_ms, 10, 60_000),
            ("output_interval_ms", self.output_interval_ms, 10, 10_000),
            ("write_batch", self.write_batch as u64, 1, 5_000),
            ("max_output_tokens", self.max_output_tokens.into(), 16, 1_000_000),
            ("silence_ms", self.silence_ms, 100, 600_000),
            ("calls", self.calls.into(), 1, 20),
            ("first_wait_ms", self.first_wait_ms, 1, 60_000),
            ("longest_wait_ms", self.longest_wait_ms, 1, 600_000),
            ("grace_ms", self.grace_ms, 0, 600_000),
        ];
        for (name, value, least, most) in ranges {
            if !(least..=most).contains(&value) {
                return Err(format!("runner.{name} must lie between {least} and {most}, not {value}"));
            }
        }
        Ok(())
    }

    /// `grace_ms` as a duration.
    #[must_use]
    pub fn grace(&self) -> Duration {
        Duration::from_millis(self.grace_ms)
    }

    pub(crate) fn action_lease(&self) -> TimeDelta {
        TimeDelta::seconds(self.action_lease_s.into())
    }

    pub(crate) fn action_retention(&self) -> TimeDelta {
        TimeDelta::days(self.action_retention_days.into())
    }

    pub(crate) fn patience(&self) -> Patience {
        Patience {
            silence: Duration::from_millis(self.silence_ms),
            calls: self.calls,
            first_wait: Duration::from_millis(self.first_wait_ms),
            longest_wait: Duration::from_millis(self.longest_wait_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_in_range_and_the_ends_are_kept() {
        assert_eq!(Settings::default().check(), Ok(()));
        for (slots, good) in [(0, false), (1, true), (10_000, true), (10_001, false)] {
            assert_eq!(Settings { slots, ..Settings::default() }.check().is_ok(), good, "{slots}");
        }
        for (action_lease_s, good) in [(14, false), (15, true), (600, true), (601, false)] {
            let settings = Settings { action_lease_s, ..Settings::default() };
            assert_eq!(settings.check().is_ok(), good, "{action_lease_s}");
        }
        for (action_retention_days, good) in [(0, false), (1, true), (3_650, true), (3_651, false)] {
            let settings = Settings { action_retention_days, ..Settings::default() };
            assert_eq!(settings.check().is_ok(), good, "{action_retention_days}");
        }
        for (calls, good) in [(0, false), (1, true), (20, true), (21, false)] {
            assert_eq!(Settings { calls, ..Settings::default() }.check().is_ok(), good, "{calls}");
        }
    }
}
