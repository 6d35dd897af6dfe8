//! One endpoint of the sink: what it answers and what it counts.

use std::time::Duration;

use memchr::memmem;

use super::{
    FIRST_SEQ,
    retries::{Failures, Gaps, Try},
    stats::EndpointStats,
};
use crate::{bits::Bits, latency::Latency};

/// Status of a failure answer when nothing else is said.
pub(crate) const FAILURE_STATUS: u16 = 500;
/// Sequence numbers from `FIRST_SEQ` on that are believed; beyond them a body holds something else.
const MAX_EVENTS: u64 = 89_999_999;

/// How an endpoint answers.
#[derive(Clone, Copy)]
pub(crate) struct Behaviour {
    /// Wait before every answer.
    pub(crate) delay: Duration,
    /// Probability of a failure answer, 0 to 1.
    pub(crate) fail: f64,
    /// Status of a failure answer.
    pub(crate) status: u16,
    /// Requests that it takes in a second; those above fail. 0: all.
    pub(crate) capacity: u32,
}

impl Behaviour {
    fn with_query(mut self, path: &str) -> Self {
        let query = path.split_once('?').map_or("", |(_, query)| query);
        for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            match name {
                "delay_ms" => self.delay = Duration::from_millis(value.parse().unwrap_or(0)),
                "fail" => self.fail = value.parse().unwrap_or(0.0),
                "capacity" => self.capacity = value.parse().unwrap_or(0),
                "status" => self.status = value.parse().unwrap_or(FAILURE_STATUS),
                _ => {}
            }
        }
        self
    }
}

/// What can be summed over endpoints. The fields are those of [`EndpointStats`].
pub(crate) struct Tally {
    done: u64,
    requests: u64,
    failed: u64,
    duplicates: u64,
    unparsed: u64,
    seen: u64,
    given_up: i64,
    first_ns: u64,
    last_ns: u64,
    last_new_ns: u64,
    first_try: Latency,
    success: Latency,
    gaps: Gaps,
}

impl Tally {
    /// Nothing counted yet.
    pub(crate) fn new(retry_steps_ms: &[u64]) -> Self {
        Self {
            done: 0,
            requests: 0,
            failed: 0,
            duplicates: 0,
            unparsed: 0,
            seen: 0,
            given_up: 0,
            first_ns: u64::MAX,
            last_ns: 0,
            last_new_ns: 0,
            first_try: Latency::default(),
            success: Latency::default(),
            gaps: Gaps::new(retry_steps_ms),
        }
    }

    /// Events that were answered 200 or failed on their last allowed try.
    pub(crate) fn settled(&self) -> u64 {
        self.done + self.given_up.max(0) as u64
    }

    /// Adds everything `other` counted.
    pub(crate) fn add(&mut self, other: &Self) {
        self.done += other.done;
        self.requests += other.requests;
        self.failed += other.failed;
        self.duplicates += other.duplicates;
        self.unparsed += other.unparsed;
        self.seen += other.seen;
        self.given_up += other.given_up;
        self.first_ns = self.first_ns.min(other.first_ns);
        self.last_ns = self.last_ns.max(other.last_ns);
        self.last_new_ns = self.last_new_ns.max(other.last_new_ns);
        self.first_try.add(&other.first_try);
        self.success.add(&other.success);
        self.gaps.add(&other.gaps);
    }

    /// The report.
    pub(crate) fn stats(&self, per_s: Vec<u32>) -> EndpointStats {
        EndpointStats {
            requests: self.requests,
            failed: self.failed,
            duplicates: self.duplicates,
            unparsed: self.unparsed,
            done: self.done,
            seen: self.seen,
            given_up: self.given_up.max(0) as u64,
            first_ns: if self.requests == 0 { 0 } else { self.first_ns },
            last_ns: self.last_ns,
            last_new_ns: self.last_new_ns,
            first_try: self.first_try.summary(),
            success: self.success.summary(),
            gaps: self.gaps.stats(),
            per_s,
        }
    }
}

/// An endpoint and its memory of events.
pub(crate) struct Endpoint {
    /// Path and query, which name it.
    pub(crate) path: String,
    /// What it counted.
    pub(crate) tally: Tally,
    behaviour: Behaviour,
    seen: Bits,
    done: Bits,
    failures: Failures,
    per_s: Vec<u32>,
    /// The second that is under way, and the requests in it.
    second: (u64, u32),
}

impl Endpoint {
    /// An endpoint that behaves as the query of `path` says, else as `default`.
    pub(crate) fn new(path: &str, default: Behaviour, retry_steps_ms: &[u64]) -> Self {
        Self {
            path: path.into(),
            tally: Tally::new(retry_steps_ms),
            behaviour: default.with_query(path),
            seen: Bits::default(),
            done: Bits::default(),
            failures: Failures::default(),
            per_s: Vec::new(),
            second: (0, 0),
        }
    }

    /// Whether it has no behaviour of its own.
    pub(crate) fn is_plain(&self) -> bool {
        !self.path.contains('?')
    }

    /// The report.
    pub(crate) fn stats(&self) -> EndpointStats {
        self.tally.stats(self.per_s.clone())
    }

    /// Takes one webhook: the delay before its answer, and the failure status if it fails. `dice` is 0 to 1.
    pub(crate) fn take(&mut self, body: &[u8], now_ns: u64, dice: f64) -> (Duration, Option<u16>) {
        let Behaviour { delay, fail, status, capacity } = self.behaviour;
        let second = now_ns / 1_000_000_000;
        let before = if self.second.0 == second { self.second.1 } else { 0 };
        self.second = (second, before + 1);
        let failed = dice < fail || (capacity > 0 && before >= capacity);
        let tally = &mut self.tally;
        tally.first_ns = tally.first_ns.min(now_ns);
        tally.last_ns = tally.last_ns.max(now_ns);
        tally.requests += 1;
        tally.failed += u64::from(failed);
        // Payloads have fields, results of tasks have words, results of action runs have event types.
        let find = |forms: [&[u8]; 3]| forms.into_iter().find_map(|form| number(body, form));
        let seq = find([b"\"seq\"", b"seq=", b"seq_"])
            .filter(|seq| (FIRST_SEQ..FIRST_SEQ + MAX_EVENTS).contains(seq));
        match (seq, find([b"\"sent_ns\"", b"sent_ns=", b"sent_ns_"])) {
            (Some(seq), Some(sent_ns)) => {
                let event = (seq - FIRST_SEQ) as usize;
                let answered_ns = now_ns + delay.as_nanos() as u64;
                self.count(
                    &Try { event, came_ns: now_ns, answered_ns, failed },
                    now_ns.saturating_sub(sent_ns),
                );
            }
            (None, _) | (_, None) => tally.unparsed += 1,
        }
        (delay, failed.then_some(status))
    }

    fn count(&mut self, attempt: &Try, age_ns: u64) {
        let tally = &mut self.tally;
        if self.seen.insert(attempt.event) {
            tally.seen += 1;
            tally.last_new_ns = tally.last_new_ns.max(attempt.came_ns);
            tally.first_try.record_ns(age_ns);
        }
        if self.done.contains(attempt.event) {
            tally.duplicates += u64::from(!attempt.failed);
            return;
        }
        tally.given_up += self.failures.take(attempt, &mut tally.gaps);
        if attempt.failed {
            return;
        }
        self.done.insert(attempt.event);
        tally.done += 1;
        tally.success.record_ns(age_ns);
        let second = (attempt.came_ns.saturating_sub(tally.first_ns) / 1_000_000_000) as usize;
        if self.per_s.len() <= second {
            self.per_s.resize(second + 1, 0);
        }
        self.per_s[second] += 1;
    }
}

/// The unsigned number after `key` and a colon, plain or in quotes that may be escaped: a target may wrap the payload.
fn number(body: &[u8], key: &[u8]) -> Option<u64> {
    let rest = &body[memmem::find(body, key)? + key.len()..];
    let mut number = None;
    for byte in rest {
        match (byte, number) {
            (b'0'..=b'9', _) => {
                number = Some(number.unwrap_or(0u64).checked_mul(10)?.checked_add(u64::from(byte - b'0'))?);
            }
            (b':' | b' ' | b'"' | b'\\', None) => {}
            _ => break,
        }
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capacity_holds_at_n_and_n_plus_one_in_each_second() {
        let default = Behaviour { delay: Duration::ZERO, fail: 0.0, status: 500, capacity: 0 };
        let mut endpoint = Endpoint::new("/e/0?capacity=2&status=503", default, &[]);
        let mut take = |at_ns| endpoint.take(b"{}", at_ns, 0.5).1;
        assert_eq!([take(1), take(2), take(3)], [None, None, Some(503)]);
        assert_eq!(take(1_000_000_000), None);
    }

    #[test]
    fn numbers_are_found_in_plain_and_escaped_json() {
        assert_eq!(number(br#"{"seq": 12,"x":1}"#, b"\"seq\""), Some(12));
        assert_eq!(number(br#"{"seq":"7"}"#, b"\"seq\""), Some(7));
        assert_eq!(number(br#"{"result":"- Order seq=12 sent_ns=3"}"#, b"seq="), Some(12));
        assert_eq!(number(br#"{"event_type":"bench.seq_12.sent_ns_3"}"#, b"sent_ns_"), Some(3));
        assert_eq!(number(br#"{"seq":null}"#, b"\"seq\""), None);
        assert_eq!(number(br#"{"seq":99999999999999999999}"#, b"\"seq\""), None);
    }

    #[test]
    fn a_query_overrides_the_default_behaviour() {
        let default = Behaviour { delay: Duration::ZERO, fail: 0.5, status: 500, capacity: 0 };
        let endpoint = Endpoint::new("/e/0?delay_ms=20&status=429", default, &[]);
        assert_eq!(
            endpoint.take_twice(),
            [(Duration::from_millis(20), Some(429)), (Duration::from_millis(20), None)]
        );
    }

    impl Endpoint {
        /// A webhook below and one above the probability of failure.
        fn take_twice(mut self) -> [(Duration, Option<u16>); 2] {
            [self.take(b"", 1, 0.4), self.take(b"", 2, 0.6)]
        }
    }

    #[test]
    fn a_retry_is_a_success_with_a_gap_and_no_duplicate() {
        let default = Behaviour { delay: Duration::ZERO, fail: 0.5, status: 500, capacity: 0 };
        let mut endpoint = Endpoint::new("/e/0", default, &[1000, 4000, 9000]);
        let body = format!(r#"{{"seq":{},"sent_ns":1000000000}}"#, FIRST_SEQ + 3);
        endpoint.take(body.as_bytes(), 2_000_000_000, 0.0);
        endpoint.take(body.as_bytes(), 3_000_000_000, 0.9);
        let stats = endpoint.stats();
        assert_eq!((stats.seen, stats.done, stats.failed, stats.duplicates, stats.given_up), (1, 1, 1, 0, 0));
        assert_eq!((stats.gaps[0].retry, stats.gaps[0].count, stats.gaps[0].on_time), (1, 1, 1.0));
        assert_eq!((stats.last_new_ns, stats.last_ns), (2_000_000_000, 3_000_000_000));
        assert_eq!(stats.per_s, [0, 1]);
    }
}
