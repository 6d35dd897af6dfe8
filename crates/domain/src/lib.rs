//! The language of Hookyard: what the business talks about, the rules that decide, the wire formats,
//! and the only door to Postgres.
//!
//! Knows nothing of HTTP servers, brokers or processes: those stand above it.

pub mod action_run;
pub mod audit;
pub mod catalogue;
pub mod clock;
pub mod connection;
pub mod credential;
pub mod db;
pub mod delivery;
pub mod email;
pub mod error;
pub mod event;
pub mod id;
pub mod idempotency;
pub mod oauth;
pub mod person;
pub mod rate_limit;
pub mod recovery;
pub mod retention;
pub mod service_token;
pub mod signing_key;
pub mod subscription;
pub mod task;
pub mod tenant;
pub mod trace;
pub mod vault;
pub mod wire;

pub use error::{Error, Result};
