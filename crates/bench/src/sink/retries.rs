//! Punctuality of retries: how long after a failed answer the next try of the same event comes.

use std::collections::HashMap;

use super::stats::GapStats;
use crate::latency::Latency;

/// How far a retry may be from its step, as a share of the step.
const TOLERANCE: f64 = 0.10;

/// Waits by retry number.
pub(crate) struct Gaps {
    steps_ms: Vec<u64>,
    waits: Vec<Latency>,
}

impl Gaps {
    /// No waits yet; `steps_ms` are the waits that are due, first retry first.
    pub(crate) fn new(steps_ms: &[u64]) -> Self {
        Self { steps_ms: steps_ms.to_vec(), waits: steps_ms.iter().map(|_| Latency::default()).collect() }
    }

    /// Adds all waits of `other`, which has the same steps.
    pub(crate) fn add(&mut self, other: &Self) {
        for (own, other) in self.waits.iter_mut().zip(&other.waits) {
            own.add(other);
        }
    }

    /// One line for each retry number that happened.
    pub(crate) fn stats(&self) -> Vec<GapStats> {
        let with_steps = self.waits.iter().zip(&self.steps_ms).enumerate();
        with_steps
            .filter(|(_, (waits, _))| waits.count() > 0)
            .map(|(i, (waits, &step_ms))| {
                let step = step_ms as f64;
                GapStats {
                    retry: i + 1,
                    step_ms,
                    count: waits.count(),
                    p5: waits.quantile_ms(0.05),
                    p50: waits.quantile_ms(0.50),
                    p95: waits.quantile_ms(0.95),
                    on_time: waits.share_between_ms(step * (1.0 - TOLERANCE), step * (1.0 + TOLERANCE)),
                }
            })
            .collect()
    }

    fn record(&mut self, retry: usize, ns: u64) {
        if let Some(waits) = self.waits.get_mut(retry - 1) {
            waits.record_ns(ns);
        }
    }

    /// Tries an event gets: the first one and one per step.
    fn max_tries(&self) -> usize {
        self.steps_ms.len() + 1
    }
}

/// Events whose last try failed.
#[derive(Default)]
pub(crate) struct Failures(HashMap<usize, Failure>);

#[derive(Clone, Copy)]
struct Failure {
    tries: usize,
    answered_ns: u64,
}

/// A try of one event, as far as retries care.
pub(crate) struct Try {
    /// Index of the event.
    pub(crate) event: usize,
    /// When the request came, nanoseconds since 1970.
    pub(crate) came_ns: u64,
    /// When its answer goes out, nanoseconds since 1970.
    pub(crate) answered_ns: u64,
    /// Whether the answer is a failure.
    pub(crate) failed: bool,
}

impl Failures {
    /// Takes one try of an event that was not answered 200 before. Returns by how much the number of events that are
    /// given up changes: 1 when this was the last allowed try, -1 when a given-up event came once more.
    pub(crate) fn take(&mut self, attempt: &Try, gaps: &mut Gaps) -> i64 {
        let before = self.0.remove(&attempt.event);
        let mut given_up = 0;
        if let Some(last) = before {
            gaps.record(last.tries, attempt.came_ns.saturating_sub(last.answered_ns));
            given_up -= i64::from(last.tries >= gaps.max_tries());
        }
        if attempt.failed {
            let tries = before.map_or(0, |last| last.tries) + 1;
            given_up += i64::from(tries >= gaps.max_tries());
            self.0.insert(attempt.event, Failure { tries, answered_ns: attempt.answered_ns });
        }
        given_up
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(s: f64, failed: bool) -> Try {
        let ns = (s * 1e9) as u64;
        Try { event: 7, came_ns: ns, answered_ns: ns, failed }
    }

    #[test]
    fn waits_count_from_the_failed_try_before() {
        let mut gaps = Gaps::new(&[1000, 4000]);
        let mut failures = Failures::default();
        let tries = [(10.0, true), (11.05, true), (16.0, false), (30.0, false)];
        for (s, failed) in tries {
            assert_eq!(failures.take(&attempt(s, failed), &mut gaps), 0);
        }
        let stats = gaps.stats();
        let seen: Vec<_> = stats.iter().map(|gap| (gap.retry, gap.step_ms, gap.count, gap.on_time)).collect();
        assert_eq!(seen, [(1, 1000, 1, 1.0), (2, 4000, 1, 0.0)]);
        assert!((stats[1].p50 - 4950.0).abs() < 5.0);
    }

    #[test]
    fn an_event_is_given_up_when_its_last_try_fails_and_taken_back_when_it_comes_again() {
        let mut gaps = Gaps::new(&[1000]);
        let mut failures = Failures::default();
        let changes: Vec<_> = [(0.0, true), (1.0, true), (50.0, false)]
            .into_iter()
            .map(|(s, failed)| failures.take(&attempt(s, failed), &mut gaps))
            .collect();
        assert_eq!(changes, [0, 1, -1]);
    }
}
