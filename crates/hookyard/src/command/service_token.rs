//! `hookyard service-token`: what a service of ours shows to another over HTTP, for trying it by hand and for scripts.

use chrono::TimeDelta;
use clap::Args;
use hookyard_domain::{
    clock::Clock,
    service_token::{self, MAX_LIFE, ServiceName},
};

use crate::{command, process, secrets, settings::Settings};

/// For whom, and for how long.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The service's name: 1 to 50 characters of a-z, 0-9 and -.
    #[arg(long)]
    service: ServiceName,
    /// Seconds for which it holds, 1 to 300.
    #[arg(long, default_value_t = MAX_LIFE.num_seconds(), value_parser = clap::value_parser!(i64).range(1..=300))]
    seconds: i64,
}

pub(crate) fn run(arguments: Arguments, settings: Settings) -> anyhow::Result<()> {
    process::block_on(&settings.clone(), async move {
        let db = command::database(&settings)?;
        let vault = secrets::of_command(&settings, &db).await?;
        let (now, life) = (Clock::system().now(), TimeDelta::seconds(arguments.seconds));
        println!("{}", service_token::issue(&vault, &arguments.service, now, life));
        Ok(())
    })
}
