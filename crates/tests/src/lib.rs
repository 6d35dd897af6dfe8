//! The harness: what tests of the whole system need. Not part of the product.

#![expect(clippy::expect_used, reason = "a harness that cannot go on has to fail its test")]

pub mod amqp;
pub mod broker;
pub mod browser;
pub mod database;
pub mod engine;
pub mod http;
pub mod ledger;
pub mod llm;
pub mod load;
pub mod outcomes;
pub mod postgres;
pub mod processes;
pub mod receiver;
pub mod runner;
pub mod secrets;
pub mod session;
pub mod sink;
pub mod system;
pub mod tools;
