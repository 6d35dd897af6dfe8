//! `hookyard audit`: reads the audit log, and says whether it is as it was written.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use hookyard_domain::{
    audit::{
        self, Action, Chain, Mark, Recorded, store,
        verify::{self, Verified},
    },
    db::Db,
    id::TenantId,
};
use serde_json::json;

use crate::{
    command::{self, listing},
    process,
    settings::Settings,
};

/// Entries that are read at once.
const AT_ONCE: i64 = 500;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Shows entries, newest first
    List(List),
    /// Prints every entry, oldest first, as JSON, an object per line
    Export {
        #[command(flatten)]
        whose: Whose,
        /// The first entry.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(i64).range(1..))]
        since_seq: i64,
    },
    /// Says whether the log is as it was written; exit code 1 when it is not
    Verify(Verify),
}

/// Whose entries.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Whose {
    /// The tenant's id.
    #[arg(long)]
    tenant: Option<TenantId>,
    /// Those that concern no tenant.
    #[arg(long)]
    installation: bool,
}

impl Whose {
    /// One of the two is given: clap sees to it.
    fn chain(&self) -> Chain {
        self.tenant.into()
    }
}

#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    whose: Whose,
    /// Only entries that tell of this action, such as key.created.
    #[arg(long)]
    action: Option<Action>,
    /// Only entries about the thing with this id.
    #[arg(long)]
    object: Option<String>,
    /// At or after, as RFC 3339.
    #[arg(long)]
    since: Option<DateTime<Utc>>,
    /// Before, as RFC 3339.
    #[arg(long)]
    until: Option<DateTime<Utc>>,
    /// At most so many.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=10_000))]
    limit: i64,
    /// Print JSON, an object per line.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// Only this tenant's entries. Default: everybody's, and the installation's own.
    #[arg(long)]
    tenant: Option<TenantId>,
    /// What an earlier run printed (TENANT:SEQ:HASH): everything up to there has to be as it was. May be repeated.
    #[arg(long)]
    expect: Vec<Mark>,
    /// Print JSON, an object per line.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(command: Command, settings: Settings) -> anyhow::Result<ExitCode> {
    process::block_on(&settings.clone(), async move {
        let db = command::database(&settings)?;
        match command {
            Command::List(list) => show(&db, list).await,
            Command::Export { whose, since_seq } => export(&db, whose.chain(), since_seq).await,
            Command::Verify(verify) => check(&db, verify).await,
        }
    })
}

async fn show(db: &Db, list: List) -> anyhow::Result<ExitCode> {
    let List { whose, action, object, since, until, limit, json } = list;
    let asked = store::Query { action, object, since, until, limit, ..store::Query::default() };
    let chain = whose.chain();
    let entries = db.once(move |conn| store::list(conn, chain, &asked)).await?;
    listing::lines(
        entries
            .iter()
            .map(|entry| Ok(if json { audit::line(entry)? } else { for_people(entry).into_bytes() })),
    )?;
    Ok(ExitCode::SUCCESS)
}

/// Time, action, object and actor of an entry; the rest is in its JSON.
fn for_people(entry: &Recorded) -> String {
    let from = entry.address.as_deref().map_or_else(String::new, |address| format!(" from {address}"));
    format!(
        "{}  {}  {}  {} {}  by {}{from}",
        entry.seq,
        entry.at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
        entry.action,
        entry.object_kind,
        entry.object_id,
        entry.actor_name,
    )
}

async fn export(db: &Db, chain: Chain, since_seq: i64) -> anyhow::Result<ExitCode> {
    let end = db.once(move |conn| store::end(conn, chain)).await?;
    let mut after = since_seq - 1;
    loop {
        let page = db.once(move |conn| store::export(conn, chain, after, end.seq, AT_ONCE)).await?;
        let Some(last) = page.last() else { break };
        after = last.seq;
        let mut lines = Vec::new();
        for entry in &page {
            lines.extend_from_slice(&audit::line(entry)?);
            lines.push(b'\n');
        }
        if listing::has_gone(io::stdout().lock().write_all(&lines))? {
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn check(db: &Db, verify: Verify) -> anyhow::Result<ExitCode> {
    let Verify { tenant, expect, json } = verify;
    let mut chains = match tenant {
        Some(tenant) => vec![Chain::Tenant(tenant)],
        None => db.once(verify::chains).await?,
    };
    // A chain that is gone is not among those that there are.
    chains.extend(expect.iter().map(|mark| mark.chain));
    chains.sort_unstable();
    chains.dedup();
    let mut broken = 0;
    for chain in chains {
        let noted = expect.clone();
        let verified = db.once(move |conn| verify::verify(conn, chain, &noted)).await?;
        broken += usize::from(verified.flaw.is_some());
        println!("{}", if json { as_json(&verified) } else { as_text(&verified) });
    }
    if broken == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("hookyard: the audit log is broken: {broken} of its chains are not as they were written");
    Ok(ExitCode::FAILURE)
}

fn as_text(verified: &Verified) -> String {
    let Verified { end, flaw } = verified;
    match flaw {
        None => format!("{}  good  {} entries  {end}", end.chain, end.seq),
        Some(flaw) => format!("{}  BROKEN  {flaw}  (good up to {end})", end.chain),
    }
}

fn as_json(verified: &Verified) -> String {
    let Verified { end, flaw } = verified;
    json!({
        "chain": end.chain.to_string(),
        "good": flaw.is_none(),
        "entries": end.seq,
        "head": {"seq": end.seq, "hash": end.hash.to_string()},
        "mark": end.to_string(),
        "flaw": flaw.map(|flaw| flaw.to_string()),
    })
    .to_string()
}
