//! `hookyard migrate`.

use hookyard_domain::{clock::Clock, db::migrate, vault::store};

use crate::{command, secrets, settings::Settings};

/// Brings the schema up to date; with a master key in the settings it also seals what is stored as it is. Safe when several
/// start at once.
pub(crate) async fn run(settings: Settings) -> anyhow::Result<()> {
    let db = command::database(&settings)?;
    let run = migrate::run(&db, &Clock::system()).await?;
    if run.is_empty() {
        println!("the schema is up to date");
    }
    for name in run {
        println!("ran {name}");
    }
    if settings.secrets.current()?.is_some() {
        let vault = secrets::of_command(&settings, &db).await?;
        let sealed = store::seal_legacy(&db, &vault).await?;
        if sealed > 0 {
            println!("sealed {sealed} secrets");
        }
    }
    Ok(())
}
