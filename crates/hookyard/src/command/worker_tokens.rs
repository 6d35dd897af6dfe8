//! `hookyard worker-tokens`: tokens of external workers, which take tasks and do nothing else.

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use hookyard_domain::{
    clock::Clock,
    credential::{
        Kind, Limits, MAX_MODELS, Scopes, Token, Work,
        store::{self, NewCredential},
    },
    id::{CredentialId, TenantId},
    task::AgentType,
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
    /// Makes a worker token and prints it, this once
    Create(Create),
    /// Lists the worker tokens of a tenant; never the tokens themselves
    List {
        /// The tenant's id.
        #[arg(long)]
        tenant: TenantId,
        /// Print JSON, an object per line.
        #[arg(long)]
        json: bool,
    },
    /// Ends a worker token; what its workers hold is given to others when their leases end
    Revoke {
        /// The token's id (`key_…`), from `hookyard worker-tokens list`.
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
    /// The types of tasks that it may take, separated by commas: general, plan, build, explore. Default: all.
    #[arg(long, value_delimiter = ',')]
    agent_types: Option<Vec<AgentType>>,
    /// The models of tasks that it may take, separated by commas, by the names that tasks call them. Default: all.
    #[arg(long, value_delimiter = ',')]
    models: Option<Vec<String>>,
    /// Requests per minute; 0 = unlimited.
    #[arg(long, value_parser = limit, default_value = "0")]
    rate_limit: u32,
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
                let models = wanted.models.as_ref().map_or(0, Vec::len);
                anyhow::ensure!(models <= MAX_MODELS, "--models may name at most {MAX_MODELS}");
                let token = Token::with_prefix(Kind::Worker.prefix(), rand::random());
                let (tenant, scopes) = (wanted.tenant, Scopes::default());
                let new = NewCredential {
                    work: Work { agent_types: wanted.agent_types, models: wanted.models },
                    limits: Limits { requests: Some(wanted.rate_limit), ..Limits::default() },
                    expires_at: wanted.expires_at,
                    ..NewCredential::new(Kind::Worker, &token, tenant, &wanted.name, scopes, now)
                };
                let key = db.run(move |conn| stored(conn, &new, store::insert)).await?;
                if wanted.json {
                    let id = key.id.to_string();
                    println!(
                        "{}",
                        json!({
                            "token": token.expose(),
                            "key_id": id,
                            "agent_types": key.agent_type_words(),
                            "models": key.models,
                        })
                    );
                } else {
                    println!("{}\n(id {}; this is the only time it is shown)", token.expose(), key.id);
                }
            }
            Command::List { tenant, json } => {
                let keys = db.once(move |conn| store::list(conn, tenant, Kind::Worker)).await?;
                let shown = |key| Ok(if json { as_json(key).to_string() } else { line(key, now) });
                listing::lines(keys.iter().map(shown))?;
            }
            Command::Revoke { id } => revoke(&db, id, true, now).await?,
        }
        Ok(())
    })
}
