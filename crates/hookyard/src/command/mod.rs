//! The operator's commands.

pub(crate) mod audit;
pub(crate) mod config;
pub(crate) mod doctor;
pub(crate) mod event_types;
pub(crate) mod events;
pub(crate) mod health;
pub(crate) mod keys;
mod listing;
pub(crate) mod migrate;
pub(crate) mod oauth;
pub(crate) mod operator;
pub(crate) mod secrets;
pub(crate) mod service_token;
mod signing_keys;
pub(crate) mod source_keys;
pub(crate) mod tenants;
pub(crate) mod users;
pub(crate) mod worker;
pub(crate) mod worker_tokens;

use anyhow::Context as _;
use hookyard_domain::db::{Db, Url};

use crate::{embedded, settings::Settings};

/// The database that commands work on: the one that is named, else the one of the `hookyard up` that runs here.
pub(crate) fn database(settings: &Settings) -> anyhow::Result<Db> {
    let url = match &settings.database.url {
        Some(url) => url.clone(),
        None => Url::new(embedded::locate(&settings.embedded).context(
            "no database: set DATABASE_URL, or start `hookyard up` first (with the same data directory, by HOOKYARD__EMBEDDED__DATA_DIR, and as the same user)",
        )?),
    };
    Ok(Db::new(&url, &settings.database)?)
}
