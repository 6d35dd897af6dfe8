//! `hookyard migrate`.

use hookyard_domain::{clock::Clock, db::migrate};

use crate::{command, settings::Settings};

/// Brings the schema up to date. Safe when several start at once.
pub(crate) async fn run(settings: Settings) -> anyhow::Result<()> {
    let db = command::database(&settings)?;
    let run = migrate::run(&db, &Clock::system()).await?;
    if run.is_empty() {
        println!("the schema is up to date");
    }
    for name in run {
        println!("ran {name}");
    }
    Ok(())
}
