//! What a registry counts. Names and meanings are listed in docs/operations.md.

use std::time::Duration;

use chrono::{DateTime, Utc};
use hookyard_chassis::metrics::Registry;
use hookyard_domain::delivery::store::Backlog;
use prometheus::{Histogram, IntCounter, IntGauge};

/// Upper bounds in seconds. Finer than usual where it usually lies, so that a few milliseconds more are seen.
const FAN_OUT_BUCKETS_S: &[f64] = &[
    0.000_5, 0.001, 0.001_5, 0.002, 0.002_5, 0.003, 0.004, 0.005, 0.006, 0.008, 0.01, 0.012_5, 0.015, 0.02,
    0.025, 0.03, 0.04, 0.05, 0.07, 0.1, 0.2, 0.5, 1.0, 5.0,
];

/// What is counted wherever something is fanned out: in registries, and in gateways that foresee.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    events: IntCounter,
    deliveries: IntCounter,
    fan_out: Histogram,
    foreseen: IntCounter,
}

/// What a registry counts on its rounds.
#[derive(Clone, Debug)]
pub(crate) struct Rounds {
    relayed: IntCounter,
    recovered: IntCounter,
    pending: IntGauge,
    dead: IntGauge,
    oldest_due: IntGauge,
}

impl Metrics {
    pub(crate) fn register(registry: &Registry) -> anyhow::Result<Self> {
        Ok(Self {
            events: registry.counter("hookyard_registry_events_total", "Events fanned out.")?,
            deliveries: registry.counter("hookyard_registry_deliveries_total", "Deliveries made.")?,
            fan_out: registry.histogram(
                "hookyard_registry_fan_out_seconds",
                "From taking an event up to its deliveries being written.",
                FAN_OUT_BUCKETS_S,
            )?,
            foreseen: registry.counter(
                "hookyard_registry_foreseen_events_total",
                "Events fanned out when they were stored, by whoever stored them.",
            )?,
        })
    }

    /// Events were fanned out together, which took so long: each of them waited for that.
    pub(crate) fn fanned_out(&self, events: usize, deliveries: usize, took: Duration) {
        (0..events).for_each(|_| self.fan_out.observe(took.as_secs_f64()));
        self.events.inc_by(events as u64);
        self.made(deliveries);
    }

    /// Deliveries were made.
    pub(crate) fn made(&self, deliveries: usize) {
        self.deliveries.inc_by(deliveries as u64);
    }

    /// Events were fanned out by whoever stored them.
    pub(crate) fn foreseen(&self, events: usize) {
        self.foreseen.inc_by(events as u64);
    }
}

impl Rounds {
    pub(crate) fn register(registry: &Registry) -> anyhow::Result<Self> {
        Ok(Self {
            relayed: registry.counter(
                "hookyard_registry_relayed_events_total",
                "Events fanned out by the relay, because nobody rang in time.",
            )?,
            recovered: registry
                .counter("hookyard_registry_recovered_total", "Deliveries put on their way by recoveries.")?,
            pending: registry
                .gauge("hookyard_deliveries_pending", "Deliveries under way, counted up to a million.")?,
            dead: registry.gauge("hookyard_dead_letters", "Dead letters, counted up to 100,000.")?,
            oldest_due: registry.gauge(
                "hookyard_oldest_due_seconds",
                "How long the oldest delivery that is due has been due.",
            )?,
        })
    }

    pub(crate) fn relayed(&self, events: usize) {
        self.relayed.inc_by(events as u64);
    }

    pub(crate) fn recovered(&self, deliveries: usize) {
        self.recovered.inc_by(deliveries as u64);
    }

    pub(crate) fn backlog(&self, backlog: &Backlog, dead: i64, now: DateTime<Utc>) {
        self.pending.set(backlog.pending);
        self.dead.set(dead);
        self.oldest_due.set(backlog.oldest_due.map_or(0, |due| (now - due).num_seconds().max(0)));
    }
}
