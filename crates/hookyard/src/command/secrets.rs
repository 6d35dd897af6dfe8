//! `hookyard secrets`: the master keys that secrets in the database are sealed with.

use std::{collections::BTreeSet, io::IsTerminal as _};

use clap::Subcommand;
use hookyard_chassis::settings::SettingsError;
use hookyard_domain::{
    audit::{self, Action, Entry, ObjectKind, ObjectRef},
    clock::Clock,
    event::wire_time,
    id::TenantId,
    vault::{
        Column, KeyId, MasterKey, Vault,
        columns::ROTATED,
        store::{self, Count, KnownKey, Resealed, Rotation},
    },
};
use serde_json::json;

use crate::{
    command::{self, operator},
    process, secrets,
    settings::Settings,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Prints a new master key; nothing keeps it but you
    GenerateKey,
    /// Seals everything with the current master key, and forgets keys that nothing is sealed with any more
    Rotate {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Shows which master keys there are and how much is sealed with each
    Status {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

pub(crate) fn run(command: &Command, settings: Result<Settings, SettingsError>) -> anyhow::Result<()> {
    match command {
        Command::GenerateKey => {
            println!("{}", MasterKey::generate(&mut rand::rng()).expose());
            Ok(())
        }
        Command::Rotate { json } => {
            let settings = settings?;
            process::block_on(&settings.clone(), rotate(settings, *json))
        }
        Command::Status { json } => {
            let settings = settings?;
            process::block_on(&settings.clone(), status(settings, *json))
        }
    }
}

async fn rotate(settings: Settings, json: bool) -> anyhow::Result<()> {
    let db = command::database(&settings)?;
    let vault = secrets::of_command(&settings, &db).await?;
    let visible = std::io::stderr().is_terminal();
    let mut progress = move |column: Column, sealed: u64| {
        if visible {
            eprint!("\r{column}: {sealed} ");
        }
    };
    let Rotation { columns, dropped } = store::rotate(&db, &vault, &mut progress).await?;
    if visible {
        eprintln!();
    }
    if let Some(entry) = rotated(&vault, &columns, &dropped) {
        let now = Clock::system().now();
        db.run(move |conn| audit::record(conn, &operator::actor(), &entry, now)).await?;
    }
    let left: u64 = columns.iter().map(|column| column.unreadable + column.locked).sum();
    if json {
        let columns = columns.iter().map(|Resealed { column, sealed, unreadable, locked }| {
            json!({ "column": column.to_string(), "sealed": sealed, "unreadable": unreadable, "locked": locked })
        });
        let dropped: Vec<String> = dropped.iter().map(KeyId::to_string).collect();
        println!(
            "{}",
            json!({
                "current": vault.current().to_string(),
                "columns": columns.collect::<Vec<_>>(),
                "forgotten": dropped,
            })
        );
    } else {
        for Resealed { column, sealed, unreadable, locked } in &columns {
            println!("{column}: {sealed} sealed anew, {unreadable} unreadable, {locked} locked by others");
        }
        for key in &dropped {
            println!("master key {key}: nothing is sealed with it any more, it may leave the settings");
        }
        println!("current master key: {}", vault.current());
    }
    anyhow::ensure!(
        left == 0,
        "{left} values are not sealed with the current key: see above, and rotate again"
    );
    Ok(())
}

/// What the audit log is told, in the installation's chain: nothing when nothing was sealed anew. A rotation is many
/// transactions, so the entry comes after them.
fn rotated(vault: &Vault, columns: &[Resealed], forgotten: &[KeyId]) -> Option<Entry> {
    let sealed: u64 = columns.iter().map(|column| column.sealed).sum();
    let forgotten: Vec<String> = forgotten.iter().map(KeyId::to_string).collect();
    if sealed == 0 && forgotten.is_empty() {
        return None;
    }
    let object = ObjectRef::new(ObjectKind::Installation, "secrets");
    let after =
        json!({"current": vault.current().to_string(), "sealed_anew": sealed, "forgotten": forgotten});
    Some(Entry::new(None::<TenantId>, Action::SecretsRotated, object).after(after))
}

async fn status(settings: Settings, json: bool) -> anyhow::Result<()> {
    let db = command::database(&settings)?;
    let (keys, counts) = db.run(|conn| Ok((store::keys(conn)?, store::counts(conn)?))).await?;
    let (current, held) = secrets::held(&settings)?;
    if json {
        println!("{}", as_json(&keys, &counts, current, &held));
        return Ok(());
    }
    for KnownKey { id, created_at } in &keys {
        let place = match (current == Some(*id), held.contains(id)) {
            (true, _) => "current",
            (false, true) => "held",
            (false, false) => "not among the keys of these settings",
        };
        println!("master key {id}  since {}  {place}", wire_time(*created_at));
    }
    for id in held.iter().filter(|id| keys.iter().all(|key| key.id != **id)) {
        println!("master key {id}  not used yet");
    }
    for column in ROTATED {
        let of_column: Vec<String> = counts
            .iter()
            .filter(|count| count.column == column)
            .map(|count| match count.key {
                Some(key) => format!("{} under {key}", count.values),
                None => format!("{} NOT SEALED", count.values),
            })
            .collect();
        println!("{column}: {}", if of_column.is_empty() { "none".to_owned() } else { of_column.join(", ") });
    }
    Ok(())
}

fn as_json(
    keys: &[KnownKey],
    counts: &[Count],
    current: Option<KeyId>,
    held: &BTreeSet<KeyId>,
) -> serde_json::Value {
    let keys = keys.iter().map(|key| {
        json!({
            "key": key.id.to_string(), "created_at": wire_time(key.created_at),
            "held": held.contains(&key.id), "current": current == Some(key.id),
        })
    });
    let values = counts.iter().map(|count| {
        json!({
            "column": count.column.to_string(), "key": count.key.map(|key| key.to_string()), "values": count.values,
        })
    });
    json!({ "keys": keys.collect::<Vec<_>>(), "values": values.collect::<Vec<_>>() })
}
