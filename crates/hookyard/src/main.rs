//! Hookyard in one binary: everything in one process, any one service, and the operator's commands.
//!
//! Wiring only: settings, connections, run.

mod command;
mod embedded;
mod memory;
mod process;
mod secrets;
mod settings;
mod up;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::{
    command::{
        audit, config, doctor, event_types, events, health, keys, migrate, oauth, secrets as secrets_command,
        service_token, source_keys, tenants, users, worker, worker_tokens,
    },
    process::Role,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Takes events and tasks in, brings signed webhooks out.
#[derive(Debug, Parser)]
#[command(name = "hookyard", version, about, max_term_width = 100)]
struct Arguments {
    /// Settings file (TOML). Default: ./hookyard.toml, if there is one.
    #[arg(long, global = true, env = "HOOKYARD_CONFIG")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Everything in one process; without DATABASE_URL on a private Postgres, without AMQP_URL without a broker
    Up {
        /// Where the private Postgres lives. Default: /var/lib/hookyard for root, else ~/.local/share/hookyard.
        #[arg(long)]
        data_dir: Option<PathBuf>,
    },
    /// The public HTTP edge
    Gateway,
    /// Matching, fan-out and the health of hooks
    Registry,
    /// Runs of tasks: language models, offline analysis, timers, schedules, mail
    Runner,
    /// Tries, retries and dead letters
    Delivery,
    /// Bring the database's schema up to date
    Migrate,
    /// Look at the settings
    #[command(subcommand)]
    Config(config::Command),
    /// The customers of this installation
    #[command(subcommand)]
    Tenants(tenants::Command),
    /// People who log in
    #[command(subcommand)]
    Users(users::Command),
    /// API keys, and the key that Zapier is given
    #[command(subcommand)]
    Keys(keys::Command),
    /// Keys of services that publish events of named types
    #[command(subcommand)]
    SourceKeys(source_keys::Command),
    /// The catalogue of event types
    #[command(subcommand)]
    EventTypes(event_types::Command),
    /// Single events
    #[command(subcommand)]
    Events(events::Command),
    /// Tokens of external workers, which take tasks and do nothing else
    #[command(subcommand)]
    WorkerTokens(worker_tokens::Command),
    /// Take tasks from a gateway and run a command for each
    Worker(worker::Arguments),
    /// Who did what, and whether the record of it is as it was written
    #[command(subcommand)]
    Audit(audit::Command),
    /// Apps that people may let in with OAuth
    #[command(subcommand)]
    Oauth(oauth::Command),
    /// Print a token by which a service of this installation shows who it is, good for some minutes
    ServiceToken(service_token::Arguments),
    /// The master keys that secrets in the database are sealed with
    #[command(subcommand)]
    Secrets(secrets_command::Command),
    /// What is kept and how large it is, what goes next, and what needs somebody; exit code 1 for warnings, 2 when something is
    /// broken
    Doctor(doctor::Arguments),
    /// Ask a running process whether it is ready; for container health checks
    Health(health::Arguments),
}

impl Command {
    /// Whether it runs until it is stopped, and takes memory for others' work.
    const fn is_a_service(&self) -> bool {
        matches!(self, Self::Up { .. } | Self::Gateway | Self::Registry | Self::Runner | Self::Delivery)
    }
}

fn main() -> ExitCode {
    let Arguments { config, command } = Arguments::parse();
    match run(config, command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("hookyard: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(file: Option<PathBuf>, command: Command) -> anyhow::Result<ExitCode> {
    if let Command::Health(arguments) = command {
        return health::run(&arguments);
    }
    if command.is_a_service() {
        memory::keep_small();
    }
    let settings = settings::load(file);
    match command {
        Command::Config(command) => return config::run(&command, settings),
        Command::Audit(command) => return audit::run(command, settings?),
        Command::Doctor(arguments) => return doctor::run(&arguments, settings?),
        Command::Secrets(command) => secrets_command::run(&command, settings)?,
        Command::Up { data_dir } => {
            let mut settings = settings?;
            settings.embedded.data_dir = data_dir.or(settings.embedded.data_dir);
            process::block_on(&settings, up::run(settings.clone()))?;
        }
        Command::Gateway => process::run(Role::Gateway, settings?)?,
        Command::Registry => process::run(Role::Registry, settings?)?,
        Command::Runner => process::run(Role::Runner, settings?)?,
        Command::Delivery => process::run(Role::Delivery, settings?)?,
        Command::Migrate => {
            let settings = settings?;
            process::block_on(&settings.clone(), migrate::run(settings))?;
        }
        Command::Oauth(command) => oauth::run(command, settings?)?,
        Command::ServiceToken(arguments) => service_token::run(arguments, settings?)?,
        Command::Tenants(command) => tenants::run(command, settings?)?,
        Command::Users(command) => users::run(command, settings?)?,
        Command::Keys(command) => keys::run(command, settings?)?,
        Command::SourceKeys(command) => source_keys::run(command, settings?)?,
        Command::EventTypes(command) => event_types::run(command, settings?)?,
        Command::Events(command) => events::run(command, settings?)?,
        Command::WorkerTokens(command) => worker_tokens::run(command, settings?)?,
        Command::Worker(arguments) => worker::run(arguments, settings?)?,
        Command::Health(_) => {}
    }
    Ok(ExitCode::SUCCESS)
}
