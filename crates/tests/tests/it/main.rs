//! The one test binary: the system from outside, a module per subject.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "what is not as it should be has to stop its test"
)]

mod action_runs;
mod architecture;
mod audit;
mod bus;
mod catalogue;
mod compose;
mod consumers;
mod database;
mod deliveries_api;
mod docs;
mod egress;
mod emails;
mod faults;
mod gateway_access;
mod gateway_events;
mod hardening;
mod hook_health;
mod hooks;
mod inboxes;
mod keys;
mod lifecycle;
mod llm;
mod matrix;
mod oauth;
mod openapi;
mod people;
mod pipeline;
mod recovery;
mod retention;
mod runner;
mod secrets;
mod sequences;
mod signing_keys;
mod task_webhooks;
mod tasks;
mod verification;
mod wire_node;
mod workers;
mod zapier_client;
