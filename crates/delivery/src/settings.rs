//! The `[delivery]` section.

use chrono::TimeDelta;
use hookyard_chassis::settings::Secret;
use hookyard_domain::wire::WebhookSecret;
use serde::{Deserialize, Serialize};

/// How deliveries are tried.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// How long a delivery belongs to the deliverer that took it, in milliseconds; then another may. Longer than the
    /// longest timeout of a try (15 s). Range 16,000–600,000. Default: 30000.
    pub lease_ms: u64,
    /// How often the schedule is asked for what is due, in milliseconds. Range 5–5,000. Default: 40.
    pub sweep_interval_ms: u64,
    /// Deliveries taken from the schedule at once. Range 1–5,000. Default: 500.
    pub sweep_batch: u32,
    /// First tries under way at once in this process. Range 1–10,000. Default: 384.
    pub first_slots: usize,
    /// Retries under way at once in this process. Range 1–10,000. Default: 128.
    pub retry_slots: usize,
    /// Tries under way at once to one endpoint. Range 1–1,000. Default: 48.
    pub endpoint_in_flight: usize,
    /// Failures in a row after which an endpoint is left alone for a while. Range 1–10,000. Default: 20.
    pub breaker_failures: u32,
    /// How long it is left alone at first, in milliseconds; doubled with every failed probe. Default: 1000.
    pub breaker_cooldown_ms: u64,
    /// How long it is left alone at most, in milliseconds. A try that is held back so long is made all the same.
    /// Default: 30000.
    pub breaker_max_cooldown_ms: u64,
    /// Messages held per queue. Range 1–1,000. Default: 32.
    pub prefetch: u16,
    /// Bodies held in memory, in MiB. Range 4–4,096. Default: 32.
    pub body_memory_mib: usize,
    /// Most results written in one statement. Range 1–5,000. Default: 1000.
    pub settle_batch: usize,
    /// Signs webhooks of tasks (`X-CodeTether-Signature`) where neither the task nor its tenant has a secret: 1 to 256 bytes.
    /// Default: none, and then such webhooks are without that header. Also `CODETETHER_WEBHOOK_SECRET`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_webhook_secret: Option<Secret>,
    /// Pace per set of destination hosts. Default: 25/s and 9,000 per 300 s for hooks.zapier.com and zapier.com.
    pub destination_limits: Vec<DestinationLimit>,
}

/// A pace that all deliveries of this process to a set of hosts share (contract §3).
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DestinationLimit {
    /// Host names, lower case, without port.
    pub hosts: Vec<String>,
    /// Tries per second; bursts up to one second's worth.
    pub per_second: u32,
    /// Tries per window.
    pub per_window: u32,
    /// Length of the window, in seconds.
    pub window_s: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            lease_ms: 30_000,
            sweep_interval_ms: 40,
            sweep_batch: 500,
            first_slots: 384,
            retry_slots: 128,
            endpoint_in_flight: 48,
            breaker_failures: 20,
            breaker_cooldown_ms: 1_000,
            breaker_max_cooldown_ms: 30_000,
            prefetch: 32,
            body_memory_mib: 32,
            settle_batch: 1_000,
            task_webhook_secret: None,
            destination_limits: vec![DestinationLimit {
                hosts: vec!["hooks.zapier.com".to_owned(), "zapier.com".to_owned()],
                per_second: 25,
                per_window: 9_000,
                window_s: 300,
            }],
        }
    }
}

impl Settings {
    /// `lease_ms` as a duration.
    pub(crate) fn lease(&self) -> TimeDelta {
        TimeDelta::milliseconds(i64::try_from(self.lease_ms).unwrap_or(30_000))
    }

    /// `task_webhook_secret` as a key.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub(crate) fn task_secret(&self) -> Result<Option<WebhookSecret>, String> {
        let parse = |secret: &Secret| WebhookSecret::parse(secret.expose());
        let parsed = self.task_webhook_secret.as_ref().map(parse).transpose();
        parsed.map_err(|error| format!("delivery.task_webhook_secret is not acceptable: {error}"))
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// Names the first setting that is out of its range, and the range.
    pub fn check(&self) -> Result<(), String> {
        let ranges: [(&str, u64, u64, u64); 9] = [
            ("lease_ms", self.lease_ms, 16_000, 600_000),
            ("sweep_interval_ms", self.sweep_interval_ms, 5, 5_000),
            ("sweep_batch", u64::from(self.sweep_batch), 1, 5_000),
            ("first_slots", self.first_slots as u64, 1, 10_000),
            ("retry_slots", self.retry_slots as u64, 1, 10_000),
            ("endpoint_in_flight", self.endpoint_in_flight as u64, 1, 1_000),
            ("prefetch", u64::from(self.prefetch), 1, 1_000),
            ("body_memory_mib", self.body_memory_mib as u64, 4, 4_096),
            ("settle_batch", self.settle_batch as u64, 1, 5_000),
        ];
        for (name, value, least, most) in ranges {
            if !(least..=most).contains(&value) {
                return Err(format!("delivery.{name} must lie between {least} and {most}, not {value}"));
            }
        }
        self.task_secret()?;
        if self.breaker_failures == 0 || self.breaker_cooldown_ms == 0 {
            return Err("delivery.breaker_failures and delivery.breaker_cooldown_ms must not be 0".to_owned());
        }
        if self.breaker_max_cooldown_ms < self.breaker_cooldown_ms {
            return Err(
                "delivery.breaker_max_cooldown_ms must not be below delivery.breaker_cooldown_ms".to_owned()
            );
        }
        for limit in &self.destination_limits {
            if limit.hosts.is_empty() || limit.per_second == 0 || limit.per_window == 0 || limit.window_s == 0
            {
                return Err("delivery.destination_limits need hosts, and rates above 0".to_owned());
            }
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
        for (lease_ms, good) in [(15_999, false), (16_000, true), (600_000, true), (600_001, false)] {
            assert_eq!(Settings { lease_ms, ..Settings::default() }.check().is_ok(), good, "{lease_ms}");
        }
    }

    /// Contract §3.
    #[test]
    fn zapier_has_its_pace_by_default_and_nobody_else_has_one() {
        let limits = Settings::default().destination_limits;
        let [zapier] = limits.as_slice() else { panic!("{limits:?}") };
        assert_eq!(zapier.hosts, ["hooks.zapier.com", "zapier.com"]);
        assert_eq!((zapier.per_second, zapier.per_window, zapier.window_s), (25, 9_000, 300));
    }
}
