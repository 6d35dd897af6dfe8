//! The `[registry]` section.

use serde::{Deserialize, Serialize};

/// Matching, fan-out and upkeep.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Fan-outs under way at once. Range 1–16. Default: 2.
    pub workers: usize,
    /// Messages held per queue. Range 1–1,000. Default: 64.
    pub prefetch: u16,
    /// How often the relay looks for what was not rung, in milliseconds. Range 50–60,000. Default: 500.
    pub relay_interval_ms: u64,
    /// After how long without a fan-out the relay takes an event itself, in milliseconds. Range 100–600,000.
    /// Default: 2000.
    pub relay_after_ms: u64,
    /// Deliveries per second that are made of events with more than 512 of them, by each registry and of all such events together, while
    /// none of them waits for more than 15 s; others wait less the fewer they are. Range 20–1,000,000. Default: 1000.
    pub large_fan_out_per_s: u32,
    /// How often expired hooks, partitions and old keys are looked after, in seconds. Range 1–3,600. Default: 30.
    pub upkeep_interval_s: u64,
    /// Days for which events and their deliveries are kept. Range 1–3,650. Default: 30.
    pub retention_days: u32,
    /// Deliveries of one recovery that may be under way at once: it waits while so many of those that it has sent have not ended.
    /// Range 1–10,000. Default: 500.
    pub recovery_under_way: u32,
    /// Days for which payloads are kept: bodies of events, what transformations made of them, replies to tries. At most
    /// `retention_days`. Range 1–3,650. Default: none, and then payloads leave with their events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload_retention_days: Option<u32>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            workers: 2,
            prefetch: 64,
            relay_interval_ms: 500,
            relay_after_ms: 2_000,
            large_fan_out_per_s: 1_000,
            upkeep_interval_s: 30,
            retention_days: 30,
            recovery_under_way: 500,
            payload_retention_days: None,
        }
    }
}

impl Settings {
    /// Checks the ranges.
    ///
    /// # Errors
    /// Names the first setting that is out of its range, and the range.
    pub fn check(&self) -> Result<(), String> {
        let payload_days = self.payload_retention_days.unwrap_or(self.retention_days);
        let ranges: [(&str, u64, u64, u64); 9] = [
            ("workers", self.workers as u64, 1, 16),
            ("prefetch", u64::from(self.prefetch), 1, 1_000),
            ("relay_interval_ms", self.relay_interval_ms, 50, 60_000),
            ("relay_after_ms", self.relay_after_ms, 100, 600_000),
            ("large_fan_out_per_s", u64::from(self.large_fan_out_per_s), 20, 1_000_000),
            ("upkeep_interval_s", self.upkeep_interval_s, 1, 3_600),
            ("retention_days", u64::from(self.retention_days), 1, 3_650),
            ("recovery_under_way", u64::from(self.recovery_under_way), 1, 10_000),
            ("payload_retention_days", u64::from(payload_days), 1, 3_650),
        ];
        for (name, value, least, most) in ranges {
            if !(least..=most).contains(&value) {
                return Err(format!("registry.{name} must lie between {least} and {most}, not {value}"));
            }
        }
        if self.retention_days < payload_days {
            return Err(format!(
                "registry.payload_retention_days must not be above registry.retention_days ({}), not {payload_days}",
                self.retention_days
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_in_range_and_the_ends_are_kept() {
        assert_eq!(Settings::default().check(), Ok(()));
        for (retention_days, good) in [(0, false), (1, true), (3_650, true), (3_651, false)] {
            assert_eq!(
                Settings { retention_days, ..Settings::default() }.check().is_ok(),
                good,
                "{retention_days}"
            );
        }
        for (large_fan_out_per_s, good) in [(19, false), (20, true), (1_000_000, true), (1_000_001, false)] {
            let settings = Settings { large_fan_out_per_s, ..Settings::default() };
            assert_eq!(settings.check().is_ok(), good, "{large_fan_out_per_s}");
        }
        for (recovery_under_way, good) in [(0, false), (1, true), (10_000, true), (10_001, false)] {
            let settings = Settings { recovery_under_way, ..Settings::default() };
            assert_eq!(settings.check().is_ok(), good, "{recovery_under_way}");
        }
    }

    #[test]
    fn payloads_are_not_kept_longer_than_their_events() {
        for (payload, events, good) in [
            (Some(0), 30, false),
            (Some(1), 1, true),
            (Some(30), 30, true),
            (Some(31), 30, false),
            (None, 7, true),
        ] {
            let settings =
                Settings { payload_retention_days: payload, retention_days: events, ..Settings::default() };
            assert_eq!(settings.check().is_ok(), good, "{payload:?} of {events}");
        }
    }
}
