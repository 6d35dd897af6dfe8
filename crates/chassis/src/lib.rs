//! How any Hookyard process starts, reports and stops: settings, telemetry, metrics, health, shutdown, request ids
//! and the one type that renders errors over HTTP.
//!
//! Admission rule: every process does this, and it knows no noun. An event, a hook or a tenant is never mentioned
//! here, and no other crate of ours is depended on.

pub mod api_error;
pub mod health;
pub mod metrics;
pub mod ops;
pub mod request_id;
pub mod settings;
pub mod shutdown;
pub mod telemetry;

/// The metric types that [`metrics::Registry`] hands out, so that a service needs no edge to `prometheus` of its own.
pub use prometheus;
