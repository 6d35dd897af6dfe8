//! `hookyard doctor`: what is kept and how large it is, what goes next, and whether anything needs somebody.
//!
//! It looks and changes nothing. Each line that is not good says what to do. Exit code 0: all is well, 1: something wants a look,
//! 2: something is broken.

mod checks;
mod kept;
mod report;

use std::process::ExitCode;

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use clap::Args;
use hookyard_domain::{
    clock::Clock,
    db::{Db, migrate},
    retention::inventory::{self, Condition, Inventory},
    vault,
};
use hookyard_messaging::inspect::{self, Depth};

use self::checks::Finding;
use crate::{
    command::{self, listing},
    embedded, process, secrets,
    settings::Settings,
};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What was found out.
#[derive(Debug, Default)]
struct Facts {
    /// What is kept and how the database fares; why not, when it cannot be asked.
    database: Option<Result<Database, String>>,
    /// Whether this process has the master keys of the database: what is wrong, when it has not.
    master_key: Option<Result<(), String>>,
    /// The queues; `None` in it without a broker. Why not, when it cannot be asked.
    broker: Option<Result<Option<Vec<Depth>>, String>>,
    /// Free and all bytes of the disk with the data directory, where there is one on this machine.
    disk: Option<(u64, u64)>,
}

/// A database that could be asked.
#[derive(Debug)]
struct Database {
    migrated: bool,
    /// How far the server's clock is ahead of this machine's, in milliseconds.
    skew_ms: i64,
    condition: Condition,
    inventory: Inventory,
}

pub(crate) fn run(arguments: &Arguments, settings: Settings) -> anyhow::Result<ExitCode> {
    settings.check()?;
    process::block_on(&settings.clone(), async move {
        let clock = Clock::system();
        let facts = look(&settings, &clock).await;
        let now = clock.now();
        let findings = checks::of(&facts, &settings.registry, now);
        let lines = if arguments.json {
            vec![report::as_json(&facts, &findings, &settings.registry, now)?]
        } else {
            report::as_text(&facts, &findings, &settings.registry, now)
        };
        listing::lines(lines.into_iter().map(Ok))?;
        Ok(Finding::exit_code(&findings))
    })
}

async fn look(settings: &Settings, clock: &Clock) -> Facts {
    let mut facts = Facts { broker: Some(inspect::depths(&settings.amqp).await), ..Facts::default() };
    // Another machine's disk cannot be seen from here.
    if settings.database.url.is_none() {
        facts.disk = embedded::find_data_dir(&settings.embedded).and_then(|dir| {
            let disk = rustix::fs::statvfs(&dir).ok()?;
            Some((disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize))
        });
    }
    let db = match command::database(settings) {
        Ok(db) => db,
        Err(error) => {
            facts.database = Some(Err(format!("{error:#}")));
            return facts;
        }
    };
    let database = of_database(&db, clock).await;
    if database.as_ref().is_ok_and(|database| database.migrated) {
        facts.master_key = of_keys(settings, &db).await;
    }
    facts.database = Some(database.map_err(|error| format!("{error:#}")));
    facts
}

async fn of_database(db: &Db, clock: &Clock) -> anyhow::Result<Database> {
    db.ping().await.context("the database does not answer")?;
    if !migrate::is_current(db).await? {
        // What the questions below ask for may not be there yet.
        return Ok(Database {
            migrated: false,
            skew_ms: 0,
            condition: Condition::default(),
            inventory: Inventory::default(),
        });
    }
    let inventory = db.once(inventory::read).await?;
    let asked = clock.now();
    let condition = db.once(inventory::condition).await?;
    let skew_ms = skew(asked, condition.now, clock.now());
    Ok(Database { migrated: true, skew_ms, condition, inventory })
}

/// How far the server's clock is ahead at least, in milliseconds, when it said `server` at some time between two instants.
fn skew(before: DateTime<Utc>, server: DateTime<Utc>, after: DateTime<Utc>) -> i64 {
    if server < before {
        (server - before).num_milliseconds()
    } else if server > after {
        (server - after).num_milliseconds()
    } else {
        0
    }
}

/// `None` when the settings name no key that could be tried.
async fn of_keys(settings: &Settings, db: &Db) -> Option<Result<(), String>> {
    let vault = match secrets::to_look(settings) {
        Ok(vault) => vault?,
        Err(error) => return Some(Err(format!("{error:#}"))),
    };
    let tried = vault.clone();
    let known = db.once(move |conn| vault::store::verify(conn, &tried)).await;
    Some(known.map(drop).map_err(|error| format!("{:#}", secrets::explained(error, &vault))))
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn a_clock_within_the_question_is_not_ahead() {
        let at = |ms: i64| DateTime::UNIX_EPOCH + TimeDelta::milliseconds(ms);
        for (server, expected) in [(10, 0), (15, 0), (20, 0), (9, -1), (22, 2), (-990, -1000)] {
            assert_eq!(skew(at(10), at(server), at(20)), expected, "{server}");
        }
    }
}
