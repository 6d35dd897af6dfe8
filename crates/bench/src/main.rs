//! `hookyard-bench`: the load generator, the sink and the suite that measure Hookyard on one machine, over loopback.
//!
//! It looks at the system from outside only: HTTP, the command line, `/proc` and Postgres' counters. It depends on no
//! crate of the workspace, so that the same program measures other systems alike (see `targets/`).

mod bits;
mod cost;
mod http;
mod latency;
mod load;
mod sink;
mod suite;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Receive webhooks, count them and measure latency end to end
    Sink(sink::Args),
    /// Send events to a target and report throughput, latency and cost
    Load(load::Args),
    /// Start Hookyard, measure every case, compare with the targets, clean up
    Suite(suite::Args),
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // With its causes on one line, and never with the backtrace that RUST_BACKTRACE would add.
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    // One thread in each process: the cores are shared with the system under test.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    match command {
        Command::Sink(args) => local.block_on(&runtime, sink::run(args)),
        Command::Load(args) => local.block_on(&runtime, Box::pin(load::run(args))),
        Command::Suite(args) => local.block_on(&runtime, Box::pin(suite::run(args))),
    }
}
