//! `hookyard source-keys`: keys of services that publish events of named types and do nothing else.

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use hookyard_domain::{
    clock::Clock,
    credential::{
        Kind, Limits, MAX_EVENT_TYPES, Scope, Token,
        store::{self, NewCredential},
    },
    id::{CredentialId, TenantId},
    subscription::EventPattern,
    tenant::check_name,
};
use serde_json::json;

use super::keys::{as_json, check_end, limit, line, revoke, stored};
use crate::{
    command::{self, listing},
    process,
    settings::Settings,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Makes a source key and prints it, this once
    Create(Create),
    /// Lists the source keys of a tenant; never the keys themselves
    List {
        /// The tenant's id.
        #[arg(long)]
        tenant: TenantId,
        /// Print JSON, an object per line.
        #[arg(long)]
        json: bool,
    },
    /// Ends a source key
    Revoke {
        /// The key's id (`key_…`), from `hookyard source-keys list`.
        id: CredentialId,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// The tenant's id.
    #[arg(long)]
    tenant: TenantId,
    /// Name, for people: 1 to 50 characters.
    #[arg(long)]
    name: String,
    /// The types of events, or patterns of them, that it may publish, separated by commas: order.created, invoice.*
    #[arg(long, value_delimiter = ',', required = true)]
    event_types: Vec<EventPattern>,
    /// Requests per minute; 0 = unlimited. Default: the setting gateway.rate_limit.
    #[arg(long, value_parser = limit)]
    rate_limit: Option<u32>,
    /// Until when it holds, as RFC 3339.
    #[arg(long)]
    expires_at: Option<DateTime<Utc>>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(command: Command, settings: Settings) -> anyhow::Result<()> {
    process::block_on(&settings.clone(), async move {
        let db = command::database(&settings)?;
        let now = Clock::system().now();
        match command {
            Command::Create(wanted) => {
                check_name(&wanted.name).map_err(|reason| anyhow::anyhow!("--name {reason}"))?;
                check_end(wanted.expires_at, now)?;
                anyhow::ensure!(
                    wanted.event_types.len() <= MAX_EVENT_TYPES,
                    "--event-types may name at most {MAX_EVENT_TYPES}"
                );
                let token = Token::with_prefix(Kind::Source.prefix(), rand::random());
                let scopes = [Scope::EventsWrite].into_iter().collect();
                let new = NewCredential {
                    event_types: Some(wanted.event_types),
                    limits: Limits { requests: wanted.rate_limit, ..Limits::default() },
                    expires_at: wanted.expires_at,
                    ..NewCredential::new(Kind::Source, &token, wanted.tenant, &wanted.name, scopes, now)
                };
                let key = db.run(move |conn| stored(conn, &new, store::insert)).await?;
                if wanted.json {
                    let id = key.id.to_string();
                    println!(
                        "{}",
                        json!({ "key": token.expose(), "key_id": id, "event_types": key.event_types })
                    );
                } else {
                    println!("{}\n(id {}; this is the only time it is shown)", token.expose(), key.id);
                }
            }
            Command::List { tenant, json } => {
                let keys = db.once(move |conn| store::list(conn, tenant, Kind::Source)).await?;
                let shown = |key| Ok(if json { as_json(key).to_string() } else { line(key, now) });
                listing::lines(keys.iter().map(shown))?;
            }
            Command::Revoke { id } => revoke(&db, id, true, now).await?,
        }
        Ok(())
    })
}
