//! Runs of tasks.

pub mod executor;
pub mod offline;
