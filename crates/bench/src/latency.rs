//! Latencies: a histogram and what is reported of it. The clock is the machine's wall clock, because the time an event
//! was sent is read by another process.

use std::time::{SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Nanoseconds since 1970; 0 on a clock that is set before it.
pub(crate) fn now_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_nanos() as u64)
}

/// A histogram of 1 µs to one hour with three significant digits; what is outside counts as the nearest bound.
pub(crate) struct Latency(Histogram<u64>);

impl Default for Latency {
    #[expect(
        clippy::expect_used,
        reason = "the bounds are constants that the library accepts, as every test shows"
    )]
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, 3_600_000_000, 3).expect("constant bounds"))
    }
}

impl Latency {
    /// Counts one latency of `ns` nanoseconds.
    pub(crate) fn record_ns(&mut self, ns: u64) {
        self.0.saturating_record(ns / 1000);
    }

    /// Adds all latencies of `other`.
    #[expect(clippy::expect_used, reason = "all histograms of this type have the same bounds")]
    pub(crate) fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("same bounds");
    }

    /// How many were recorded.
    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    /// The latency in milliseconds that a share `quantile` (0 to 1) does not exceed; 0 when nothing was recorded.
    pub(crate) fn quantile_ms(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64 / 1000.0
    }

    /// The share (0 to 1) of latencies from `low_ms` to `high_ms`; 0 when nothing was recorded.
    pub(crate) fn share_between_ms(&self, low_ms: f64, high_ms: f64) -> f64 {
        let inside = self.0.count_between((low_ms * 1000.0) as u64, (high_ms * 1000.0) as u64);
        inside as f64 / self.count().max(1) as f64
    }

    /// What reports show.
    pub(crate) fn summary(&self) -> Summary {
        Summary {
            p50: self.quantile_ms(0.50),
            p95: self.quantile_ms(0.95),
            p99: self.quantile_ms(0.99),
            max: self.0.max() as f64 / 1000.0,
        }
    }
}

/// Quantiles in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Summary {
    /// Median.
    pub(crate) p50: f64,
    /// 95th percentile.
    pub(crate) p95: f64,
    /// 99th percentile.
    pub(crate) p99: f64,
    /// Largest.
    pub(crate) max: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_quantiles_are_those_of_what_was_recorded() {
        let mut latency = Latency::default();
        assert_eq!(latency.share_between_ms(0.0, 10.0), 0.0);
        for ms in [950, 1000, 1050, 2000] {
            latency.record_ns(ms * 1_000_000);
        }
        assert_eq!(latency.count(), 4);
        assert_eq!(latency.share_between_ms(900.0, 1100.0), 0.75);
        assert!((latency.quantile_ms(0.5) - 1000.0).abs() < 2.0);
    }
}
