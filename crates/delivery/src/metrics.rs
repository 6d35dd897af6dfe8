//! What a deliverer counts. Names and meanings are listed in docs/operations.md.

use std::time::Duration;

use chrono::{DateTime, Utc};
use hookyard_chassis::metrics::Registry;
use hookyard_domain::delivery::Outcome;
use hookyard_messaging::Lane;
use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec};

#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    tries: IntCounterVec,
    latency: HistogramVec,
    lag: HistogramVec,
    waiting: IntGaugeVec,
    parked: IntCounter,
    swept: IntCounter,
    loaded: IntCounter,
    at_hand: IntCounter,
    settled: IntCounter,
    lease_too_short: IntCounter,
    signing: Histogram,
}

/// From half a millisecond to the longest timeout.
const SECONDS: [f64; 13] = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0];

const fn word(lane: Lane) -> &'static str {
    match lane {
        Lane::First => "first",
        Lane::Retry => "retry",
    }
}

impl Metrics {
    pub(crate) fn register(registry: &Registry) -> anyhow::Result<Self> {
        Ok(Self {
            tries: registry.counters(
                "hookyard_delivery_tries_total",
                "Tries by lane and outcome.",
                &["lane", "outcome"],
            )?,
            latency: registry.histograms(
                "hookyard_delivery_try_seconds",
                "How long tries took, from resolving the name to the end of the reply.",
                &["lane"],
                &SECONDS,
            )?,
            lag: registry.histograms(
                "hookyard_delivery_lag_seconds",
                "How long after it was due a try began.",
                &["lane"],
                &SECONDS,
            )?,
            waiting: registry.gauges(
                "hookyard_delivery_waiting",
                "Deliveries waiting in memory.",
                &["lane"],
            )?,
            parked: registry
                .counter("hookyard_delivery_parked_total", "Deliveries put back on the schedule untried.")?,
            swept: registry
                .counter("hookyard_delivery_swept_total", "Deliveries taken from the schedule.")?,
            loaded: registry.counter("hookyard_delivery_loaded_total", "Deliveries read into memory.")?,
            at_hand: registry.counter(
                "hookyard_delivery_at_hand_total",
                "Deliveries that were made in this process a moment ago and need not be read.",
            )?,
            settled: registry.counter("hookyard_delivery_settled_total", "Tries written down.")?,
            lease_too_short: registry.counter(
                "hookyard_delivery_lease_too_short_total",
                "Deliveries that waited until their lease was nearly over, so that it was renewed before the try.",
            )?,
            signing: registry.histogram(
                "hookyard_delivery_signing_seconds",
                "How long it took to sign the token of a callback, without waiting for a place.",
                &SECONDS,
            )?,
        })
    }

    pub(crate) fn tried(&self, lane: Lane, outcome: &Outcome, latency: Duration) {
        self.tries.with_label_values(&[word(lane), outcome.class().as_str()]).inc();
        self.latency.with_label_values(&[word(lane)]).observe(latency.as_secs_f64());
    }

    pub(crate) fn lag(&self, lane: Lane, now: DateTime<Utc>, due_at: DateTime<Utc>) {
        let lag = now.signed_duration_since(due_at).to_std().unwrap_or_default();
        self.lag.with_label_values(&[word(lane)]).observe(lag.as_secs_f64());
    }

    pub(crate) fn waiting(&self, first: usize, retry: usize) {
        let number = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.waiting.with_label_values(&["first"]).set(number(first));
        self.waiting.with_label_values(&["retry"]).set(number(retry));
    }

    /// What signing a callback takes.
    pub(crate) fn signing(&self) -> Histogram {
        self.signing.clone()
    }

    pub(crate) fn parked(&self) {
        self.parked.inc();
    }

    pub(crate) fn swept(&self, deliveries: usize) {
        self.swept.inc_by(deliveries as u64);
    }

    pub(crate) fn at_hand(&self, deliveries: usize) {
        self.at_hand.inc_by(deliveries as u64);
    }

    pub(crate) fn loaded(&self, deliveries: usize) {
        self.loaded.inc_by(deliveries as u64);
    }

    pub(crate) fn settled(&self, tries: usize) {
        self.settled.inc_by(tries as u64);
    }

    pub(crate) fn lease_too_short(&self, deliveries: usize) {
        self.lease_too_short.inc_by(deliveries as u64);
    }
}
