//! `hookyard config`: what the settings are, and whether they are acceptable.

use std::process::ExitCode;

use clap::Subcommand;
use hookyard_chassis::settings::SettingsError;

use crate::settings::Settings;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Says whether the settings are acceptable; exit code 1 and the reason when they are not
    Check,
    /// Prints the settings as TOML, with defaults and without secrets
    Show,
}

pub(crate) fn run(command: &Command, settings: Result<Settings, SettingsError>) -> anyhow::Result<ExitCode> {
    let settings = settings?;
    settings.check()?;
    match command {
        Command::Check => println!("the settings are acceptable"),
        Command::Show => print!("{}", toml::to_string(&settings)?),
    }
    Ok(ExitCode::SUCCESS)
}
