//! The gateway's figures: requests by route and class of status, accepted events, groups. What they mean for an
//! operator is in docs/operations.md.

use std::time::Duration;

use actix_web::http::StatusCode;
use hookyard_chassis::{
    api_error::ApiError,
    metrics::{LATENCY_BUCKETS_S, MetricsError, Registry},
    prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge},
};

/// Classes of status, as labels.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Sizes of groups: 1 to 1,024 events.
const GROUP_BUCKETS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// All figures.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    requests: IntCounterVec,
    seconds: HistogramVec,
    /// Requests without a valid credential.
    pub(crate) unauthenticated: IntCounter,
    log_ins: IntCounterVec,
    off_schema: IntCounterVec,
    /// Events that were stored.
    pub(crate) accepted: IntCounter,
    /// Requests with events that were answered with 503 because too many wait.
    pub(crate) refused: IntCounter,
    /// Requests with events that wait to be stored.
    pub(crate) waiting: IntGauge,
    /// Events in one statement.
    pub(crate) group_events: Histogram,
    /// How long a statement with its commit took.
    pub(crate) group_seconds: Histogram,
    /// Rings that were not heard; the relay rings again.
    pub(crate) rings_lost: IntCounter,
    inbox_messages: IntCounterVec,
}

impl Metrics {
    pub(crate) fn new(registry: &Registry) -> Result<Self, MetricsError> {
        Ok(Self {
            requests: registry.counters(
                "hookyard_http_requests_total",
                "Requests to the public port, by route and class of status.",
                &["route", "class"],
            )?,
            seconds: registry.histograms(
                "hookyard_http_request_seconds",
                "Seconds from the head of a request to its answer, by route.",
                &["route"],
                LATENCY_BUCKETS_S,
            )?,
            unauthenticated: registry
                .counter("hookyard_http_unauthenticated_total", "Requests without a valid credential.")?,
            log_ins: registry.counters(
                "hookyard_logins_total",
                "Tries to log in or to prove a password or code, by outcome.",
                &["outcome"],
            )?,
            off_schema: registry.counters(
                "hookyard_events_off_schema_total",
                "Posted events that were not as the catalogue says, by outcome.",
                &["outcome"],
            )?,
            accepted: registry.counter("hookyard_events_accepted_total", "Events that were stored.")?,
            refused: registry.counter(
                "hookyard_ingest_refused_total",
                "Requests with events that were refused because too many waited.",
            )?,
            waiting: registry
                .gauge("hookyard_ingest_waiting", "Requests with events that wait to be stored.")?,
            group_events: registry.histogram(
                "hookyard_ingest_group_events",
                "Events that were stored with one statement.",
                GROUP_BUCKETS,
            )?,
            group_seconds: registry.histogram(
                "hookyard_ingest_group_seconds",
                "Seconds that a statement with its commit took.",
                LATENCY_BUCKETS_S,
            )?,
            rings_lost: registry.counter(
                "hookyard_ingest_rings_lost_total",
                "Rings for accepted events that the bus did not take; the relay rings again.",
            )?,
            inbox_messages: registry.counters(
                "hookyard_inbox_messages_total",
                "Messages of inboxes by what became of them.",
                &["outcome"],
            )?,
        })
    }

    /// Counts an event that was refused for what the catalogue says of its type, or taken with warnings (`None`).
    pub(crate) fn off_schema(&self, refused: Option<&ApiError>) {
        let outcome = match refused.map(ApiError::code) {
            None => "warned",
            Some("SCHEMA_MISMATCH") => "rejected",
            Some("EVENT_TYPE_ARCHIVED") => "archived",
            Some(_) => return,
        };
        self.off_schema.with_label_values(&[outcome]).inc();
    }

    /// Counts messages of inboxes by what became of them: `leased`, `quarantined`, or the word of a settlement.
    pub(crate) fn inbox_messages(&self, outcome: &str, count: usize) {
        if count > 0 {
            self.inbox_messages.with_label_values(&[outcome]).inc_by(count as u64);
        }
    }

    /// Tries to log in by outcome: `in`, `wrong` or `throttled`.
    pub(crate) fn log_ins(&self, outcome: &str) -> IntCounter {
        self.log_ins.with_label_values(&[outcome])
    }

    /// The figures of one route, looked up once.
    pub(crate) fn route(&self, route: &str) -> RouteFigures {
        RouteFigures {
            requests: CLASSES.map(|class| self.requests.with_label_values(&[route, class])),
            seconds: self.seconds.with_label_values(&[route]),
        }
    }
}

/// The figures of one route.
#[derive(Debug)]
pub(crate) struct RouteFigures {
    requests: [IntCounter; CLASSES.len()],
    seconds: Histogram,
}

impl RouteFigures {
    pub(crate) fn observe(&self, status: StatusCode, took: Duration) {
        let class = usize::from(status.as_u16() / 100).clamp(1, CLASSES.len()) - 1;
        self.requests[class].inc();
        self.seconds.observe(took.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_route_and_class() {
        let registry = Registry::new("0").unwrap();
        let figures = Metrics::new(&registry).unwrap().route("GET /v1/events");
        for status in [200, 204, 404, 503] {
            figures.observe(StatusCode::from_u16(status).unwrap(), Duration::from_millis(3));
        }
        let text = registry.render().unwrap();
        for (class, count) in [("2xx", 2), ("4xx", 1), ("5xx", 1)] {
            let line =
                format!("hookyard_http_requests_total{{class=\"{class}\",route=\"GET /v1/events\"}} {count}");
            assert!(text.contains(&line), "{line} is missing in\n{text}");
        }
        assert!(text.contains("hookyard_http_request_seconds_count{route=\"GET /v1/events\"} 4"));
    }
}
