//! What the sink reports at `/stats`: the wire between sink and load. Counting is in `endpoint`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::latency::Summary;

/// Everything since the last reset.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Stats {
    /// Distinct events answered 200, summed over the endpoints.
    pub(crate) done: u64,
    /// All endpoints together.
    pub(crate) total: EndpointStats,
    /// The endpoints without a query, those that do not misbehave, together.
    pub(crate) plain: EndpointStats,
    /// Each endpoint by its path and query.
    pub(crate) endpoints: BTreeMap<String, EndpointStats>,
}

/// One endpoint, or several together.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct EndpointStats {
    /// Requests to `/e/...`.
    pub(crate) requests: u64,
    /// Answered with the failure status.
    pub(crate) failed: u64,
    /// Answered 200 although the same event was answered 200 before.
    pub(crate) duplicates: u64,
    /// No `seq` or `sent_ns` in the body.
    pub(crate) unparsed: u64,
    /// Distinct events answered 200.
    pub(crate) done: u64,
    /// Distinct events that came at all.
    pub(crate) seen: u64,
    /// Events whose last allowed try failed: dead letters.
    pub(crate) given_up: u64,
    /// First request, nanoseconds since 1970; 0 when there was none.
    pub(crate) first_ns: u64,
    /// Last request, nanoseconds since 1970; 0 when there was none.
    pub(crate) last_ns: u64,
    /// Last first try of an event, nanoseconds since 1970; 0 when there was none.
    pub(crate) last_new_ns: u64,
    /// From `sent_ns` to the first request for an event.
    pub(crate) first_try: Summary,
    /// From `sent_ns` to the first request that is answered 200.
    pub(crate) success: Summary,
    /// How punctual the retries were, by retry number.
    pub(crate) gaps: Vec<GapStats>,
    /// Successes in each second since the endpoint's first request; empty for several together.
    pub(crate) per_s: Vec<u32>,
}

/// Waits between a failed answer and the next try of the same event.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct GapStats {
    /// 1 is the first retry.
    pub(crate) retry: usize,
    /// The wait that is due, in milliseconds.
    pub(crate) step_ms: u64,
    /// Retries of this number.
    pub(crate) count: u64,
    /// 5th percentile of the wait, in milliseconds.
    pub(crate) p5: f64,
    /// Median wait, in milliseconds.
    pub(crate) p50: f64,
    /// 95th percentile of the wait, in milliseconds.
    pub(crate) p95: f64,
    /// Share (0 to 1) of waits from 90 % to 110 % of the step.
    pub(crate) on_time: f64,
}
