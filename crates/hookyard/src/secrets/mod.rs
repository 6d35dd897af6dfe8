//! Which master keys a process has, and that they are the right ones for its database.
//!
//! Services are told their keys. `hookyard up` makes one in its data directory when it is told none, and commands beside it
//! find it there. Before anything is served, the database is asked whether this process can open what it holds.

mod file;
mod settings;

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, bail};
use hookyard_domain::{
    Error,
    clock::Clock,
    db::Db,
    vault::{KeyId, MasterKey, Vault, VaultError, store},
};
use rand::rng;
use tokio_util::sync::CancellationToken;

pub(crate) use settings::Settings;

use crate::{embedded, settings::Settings as All};

/// How to give a process its key.
const HOW: &str = "set HOOKYARD__SECRETS__MASTER_KEY (or secrets.master_key_file) to the output of \
     `hookyard secrets generate-key`, the same for every process";

/// Between two looks at a database that went away.
const AGAIN: Duration = Duration::from_millis(500);

/// The keys of a service that runs apart: those that it was told.
pub(crate) fn of_service(settings: &All, name: &str) -> anyhow::Result<Vault> {
    let told = settings.secrets.current()?;
    let key = told.with_context(|| {
        format!("`hookyard {name}` needs the master key that secrets are sealed with: {HOW}")
    })?;
    Ok(Vault::new(key, settings.secrets.previous()?))
}

/// The keys of `hookyard up`: those that it was told, else the one in its data directory, which is made when there is none
/// and the database was never sealed with another.
pub(crate) async fn of_up(settings: &All, db: &Db) -> anyhow::Result<Vault> {
    let key = match settings.secrets.current()? {
        Some(key) => key,
        None => of_data_dir(settings, db).await?,
    };
    Ok(Vault::new(key, settings.secrets.previous()?))
}

async fn of_data_dir(settings: &All, db: &Db) -> anyhow::Result<MasterKey> {
    let path = file::path(&embedded::make_data_dir(&settings.embedded)?);
    if let Some(key) = file::read(&path)? {
        return Ok(key);
    }
    let mut known: Vec<_> = db.once(store::keys).await?.iter().map(|key| key.id).collect();
    let previous: Vec<_> = settings.secrets.previous()?.iter().map(MasterKey::id).collect();
    known.retain(|id| !previous.contains(id));
    if let Some(id) = known.first() {
        bail!(
            "the secrets in this database are sealed with the master key {id}, and there is no `{}`: put that file back from \
             your backup, or name the key in HOOKYARD__SECRETS__MASTER_KEY or secrets.master_key_file",
            path.display()
        );
    }
    let key = file::make(&path, &MasterKey::generate(&mut rng()))?;
    tracing::info!(key = %key.id(), path = %path.display(), "made a master key: keep a copy of it apart from the database");
    Ok(key)
}

/// The keys of a command, for this database: those that it was told, else the one that `hookyard up` keeps on this machine.
/// A key that was merely found is not brought to a database that has not been sealed with it yet: that might be anybody's.
pub(crate) async fn of_command(settings: &All, db: &Db) -> anyhow::Result<Vault> {
    let previous = settings.secrets.previous()?;
    if let Some(key) = settings.secrets.current()? {
        let (vault, now) = (Vault::new(key, previous), Clock::system().now());
        let asked = vault.clone();
        let known = db.run(move |conn| store::verify_or_register(conn, &asked, now)).await;
        known.map_err(|error| explained(error, &vault))?;
        return Ok(vault);
    }
    let key = found(settings)?.with_context(|| {
        format!("no master key, which secrets are sealed with: {HOW}, or start `hookyard up` first, which makes one")
    })?;
    let vault = Vault::new(key, previous);
    let asked = vault.clone();
    let known = db.once(move |conn| store::verify(conn, &asked)).await;
    if !known.map_err(|error| explained(error, &vault))? {
        bail!(
            "this database does not know the master key of this machine's data directory: start its services first, or {HOW}"
        );
    }
    Ok(vault)
}

/// The key of a command that is sealed with, and all that it has; without asking a database. For looking only.
pub(crate) fn held(settings: &All) -> anyhow::Result<(Option<KeyId>, BTreeSet<KeyId>)> {
    let current = match settings.secrets.current()? {
        Some(key) => Some(key),
        None => found(settings)?,
    };
    let current = current.map(|key| key.id());
    let held = settings.secrets.previous()?.iter().map(MasterKey::id).chain(current).collect();
    Ok((current, held))
}

/// The keys of a command that only looks, without asking a database; `None` when there are none.
pub(crate) fn to_look(settings: &All) -> anyhow::Result<Option<Vault>> {
    let current = match settings.secrets.current()? {
        Some(key) => Some(key),
        None => found(settings)?,
    };
    let previous = settings.secrets.previous()?;
    Ok(current.map(|key| Vault::new(key, previous)))
}

/// The key that `hookyard up` keeps on this machine.
fn found(settings: &All) -> anyhow::Result<Option<MasterKey>> {
    let dir = embedded::find_data_dir(&settings.embedded);
    Ok(dir.map(|dir| file::read(&file::path(&dir))).transpose()?.flatten())
}

/// Makes sure that this process can open what the database holds, and seals what is not sealed yet. Waits while the database
/// is away; returns at once when `stop` is cancelled.
pub(crate) async fn admit(
    db: &Db,
    vault: &Vault,
    clock: &Clock,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let mut told = false;
    loop {
        match open(db, vault, clock).await {
            Ok(()) => return Ok(()),
            Err(error) if error.is_passing() && told => {}
            Err(error) if error.is_passing() => {
                told = true;
                tracing::warn!(why = error.chain(), "waiting for the database to check the master key");
            }
            Err(error) => return Err(explained(error, vault)),
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
}

async fn open(db: &Db, vault: &Vault, clock: &Clock) -> hookyard_domain::Result<()> {
    let (asked, now) = (vault.clone(), clock.now());
    if db.run(move |conn| store::verify_or_register(conn, &asked, now)).await? {
        tracing::info!(key = %vault.current(), "secrets are sealed with a new master key from now on");
    }
    let sealed = store::seal_legacy(db, vault).await?;
    if sealed > 0 {
        tracing::info!(sealed, key = %vault.current(), "sealed secrets that were stored as they are");
    }
    Ok(())
}

/// What is wrong with the keys, for the operator.
pub(crate) fn explained(error: Error, vault: &Vault) -> anyhow::Error {
    let held: Vec<String> = vault.ids().map(|id| id.to_string()).collect();
    let held = held.join(", ");
    match error {
        Error::Sealed(VaultError::UnknownKey(id)) => anyhow::anyhow!(
            "this database has secrets that are sealed with the master key {id}, which this process does not have (it has \
             {held}): look at secrets.master_key, secrets.master_key_file, secrets.previous_master_keys and \
             secrets.previous_master_key_files"
        ),
        Error::Sealed(reason @ (VaultError::NotSealed | VaultError::Damaged)) => anyhow::anyhow!(
            "a row of the table master_keys cannot be opened with a key of that name (this process has {held}): {reason}. \
             The row was changed; restore it from a backup"
        ),
        other => anyhow::Error::new(other).context("cannot check the master key"),
    }
}
