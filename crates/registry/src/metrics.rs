//! What a registry counts. Names and meanings are listed in docs/operations.md.

use chrono::{DateTime, Utc};
use hookyard_chassis::metrics::Registry;
use hookyard_domain::delivery::store::Backlog;
use prometheus::{IntCounter, IntGauge};

#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    events: IntCounter,
    deliveries: IntCounter,
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

    pub(crate) fn fanned_out(&self, events: usize, deliveries: usize) {
        self.events.inc_by(events as u64);
        self.deliveries.inc_by(deliveries as u64);
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
