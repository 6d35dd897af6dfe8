//! What a runner counts. Names and meanings are listed in docs/operations.md.

use std::time::Duration;

use chrono::{DateTime, Utc};
use hookyard_chassis::metrics::Registry;
use hookyard_domain::task::{RunState, Usage};
use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge};

#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    attempts: IntCounterVec,
    running: IntGauge,
    wait: Histogram,
    seconds: HistogramVec,
    tokens: IntCounterVec,
    cost: IntCounterVec,
    again: IntCounterVec,
    timers: IntCounter,
    fired: IntCounter,
    mail: IntCounterVec,
    actions: IntCounterVec,
}

/// From 1 ms to an hour.
const SECONDS: [f64; 14] =
    [0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0, 120.0, 600.0, 3600.0];

/// How an attempt ended for its runner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The run is in this state now.
    Now(RunState),
    /// It was cancelled, or somebody else has it.
    Lost,
}

impl Metrics {
    pub(crate) fn register(registry: &Registry) -> anyhow::Result<Self> {
        Ok(Self {
            attempts: registry.counters(
                "hookyard_runner_attempts_total",
                "Attempts that ended, by provider of the model and by the state of the run after it (lost: it was not ours any more).",
                &["provider", "end"],
            )?,
            running: registry.gauge("hookyard_runner_running", "Runs under way in this process.")?,
            wait: registry.histogram(
                "hookyard_runner_wait_seconds",
                "How long runs waited in the queue.",
                &SECONDS,
            )?,
            seconds: registry.histograms(
                "hookyard_runner_attempt_seconds",
                "How long attempts took, by provider of the model.",
                &["provider"],
                &SECONDS,
            )?,
            tokens: registry.counters(
                "hookyard_runner_tokens_total",
                "Tokens of language models, by provider and direction.",
                &["provider", "direction"],
            )?,
            cost: registry.counters(
                "hookyard_runner_cost_micros_total",
                "What language models cost, in millionths of a US dollar, by provider.",
                &["provider"],
            )?,
            again: registry.counters(
                "hookyard_runner_calls_repeated_total",
                "Calls of language models that failed and were made again, by provider.",
                &["provider"],
            )?,
            timers: registry
                .counter("hookyard_runner_timers_total", "Runs that were moved because a timer was due.")?,
            fired: registry
                .counter("hookyard_runner_schedules_fired_total", "Tasks that were made by schedules.")?,
            actions: registry.counters(
                "hookyard_runner_action_runs_total",
                "Action runs that ended, by their state.",
                &["state"],
            )?,
            mail: registry.counters("hookyard_runner_mail_total", "Mail, by outcome of the try.", &["outcome"])?,
        })
    }

    pub(crate) fn began(&self, now: DateTime<Utc>, queued_at: DateTime<Utc>) {
        self.running.inc();
        self.wait.observe(now.signed_duration_since(queued_at).to_std().unwrap_or_default().as_secs_f64());
    }

    pub(crate) fn ended(&self, provider: &str, end: End, took: Duration, usage: Usage) {
        self.running.dec();
        let word = match end {
            End::Now(state) => state.as_str(),
            End::Lost => "lost",
        };
        self.attempts.with_label_values(&[provider, word]).inc();
        self.seconds.with_label_values(&[provider]).observe(took.as_secs_f64());
        if usage != Usage::default() {
            self.tokens.with_label_values(&[provider, "input"]).inc_by(usage.input_tokens);
            self.tokens.with_label_values(&[provider, "output"]).inc_by(usage.output_tokens);
            self.cost.with_label_values(&[provider]).inc_by(usage.cost_micros);
        }
    }

    pub(crate) fn again(&self, provider: &str) {
        self.again.with_label_values(&[provider]).inc();
    }

    pub(crate) fn timers(&self, runs: usize) {
        self.timers.inc_by(runs as u64);
    }

    pub(crate) fn fired(&self, tasks: usize) {
        self.fired.inc_by(tasks as u64);
    }

    pub(crate) fn action(&self, good: bool) {
        self.actions.with_label_values(&[if good { "success" } else { "error" }]).inc();
    }

    pub(crate) fn mail(&self, outcome: &str) {
        self.mail.with_label_values(&[outcome]).inc();
    }
}
