//! `hookyard keys`.

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use hookyard_domain::{
    audit::{self, Action, Entry, ObjectKind, ObjectRef},
    clock::Clock,
    credential::{
        Kind, Limits, Scope, Scopes, Token,
        directory::known_everywhere,
        store::{self, CredentialView, NewCredential},
    },
    event::wire_time,
    id::{CredentialId, TenantId},
    tenant::check_name,
};
use serde_json::json;

use crate::{
    command::{self, operator},
    process,
    settings::Settings,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Makes an API key and prints it, this once
    Create(Create),
    /// Lists the keys of a tenant; never the keys themselves
    List {
        /// The tenant's id.
        #[arg(long)]
        tenant: TenantId,
        /// Print JSON, an object per line.
        #[arg(long)]
        json: bool,
    },
    /// Ends a key
    Revoke {
        /// The key's id (`key_…`), from `hookyard keys list`.
        id: CredentialId,
        /// Also when it is the tenant's last admin key.
        #[arg(long)]
        force: bool,
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
    /// What it may do, separated by commas: hooks:read, hooks:write, events:read, events:write, admin, …
    #[arg(long, value_delimiter = ',', required = true)]
    scopes: Vec<Scope>,
    /// Requests per minute; 0 = unlimited. Default: the setting gateway.rate_limit.
    #[arg(long)]
    rate_limit: Option<u32>,
    /// Subscribing and unsubscribing per minute; 0 = unlimited. Default: the setting gateway.hook_write_limit.
    #[arg(long)]
    hook_write_limit: Option<u32>,
    /// How many more of these may pass within an hour. Default: the setting gateway.hook_write_burst.
    #[arg(long)]
    hook_write_burst: Option<u32>,
    /// Samples per minute; 0 = unlimited. Default: the setting gateway.sample_limit.
    #[arg(long)]
    sample_limit: Option<u32>,
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
            Command::Create(create) => {
                check_name(&create.name).map_err(|reason| anyhow::anyhow!("--name {reason}"))?;
                anyhow::ensure!(
                    create.expires_at.is_none_or(|end| end > now),
                    "--expires-at lies in the past"
                );
                let limits = [
                    create.rate_limit,
                    create.hook_write_limit,
                    create.hook_write_burst,
                    create.sample_limit,
                ];
                let greatest = i32::MAX.unsigned_abs();
                anyhow::ensure!(
                    limits.into_iter().flatten().all(|n| n <= greatest),
                    "limits end at {greatest}"
                );
                let token = Token::api_key(rand::random());
                let scopes: Scopes = create.scopes.into_iter().collect();
                let new = NewCredential {
                    limits: Limits {
                        requests: create.rate_limit,
                        hook_writes: create.hook_write_limit,
                        hook_write_burst: create.hook_write_burst,
                        samples: create.sample_limit,
                    },
                    expires_at: create.expires_at,
                    ..NewCredential::new(Kind::ApiKey, &token, create.tenant, &create.name, scopes, now)
                };
                let stored = new.clone();
                db.run(move |conn| {
                    store::insert(conn, &stored)?;
                    audit::record(conn, &operator::actor(), &created(&stored), now)
                })
                .await?;
                if create.json {
                    println!(
                        "{}",
                        json!({ "key": token.expose(), "key_id": new.id.to_string(), "scopes": new.scopes.to_string() })
                    );
                } else {
                    println!("{}\n(id {}; this is the only time it is shown)", token.expose(), new.id);
                }
            }
            Command::List { tenant, json } => {
                for key in db.once(move |conn| store::list(conn, tenant, Kind::ApiKey)).await? {
                    let time = |at: Option<DateTime<Utc>>| at.map(wire_time);
                    if json {
                        println!(
                            "{}",
                            json!({
                                "key_id": key.id.to_string(), "name": key.name, "prefix": key.prefix,
                                "scopes": key.scopes, "created_at": wire_time(key.created_at),
                                "expires_at": time(key.expires_at), "revoked_at": time(key.revoked_at),
                                "last_used_at": time(key.last_used_at),
                            })
                        );
                    } else {
                        let state = if key.revoked_at.is_some() { "revoked" } else { "live" };
                        println!(
                            "{}  {}…  {state}  {}  [{}]",
                            key.id,
                            key.prefix,
                            key.name,
                            key.scopes.join(", ")
                        );
                    }
                }
            }
            Command::Revoke { id, force } => {
                db.run(move |conn| {
                    let tenant =
                        store::owner(conn, id)?.ok_or(hookyard_domain::Error::NotFound { what: "key" })?;
                    store::revoke(conn, tenant, id, force, now)?;
                    // One that was revoked before keeps its time, and nothing was done.
                    match store::find(conn, tenant, id)?.filter(|key| key.revoked_at == Some(now)) {
                        Some(key) => audit::record(conn, &operator::actor(), &revoked(&key), now),
                        None => Ok(()),
                    }
                })
                .await
                .with_context(|| format!("cannot revoke {id}"))?;
                known_everywhere().await;
                println!("revoked {id}");
            }
        }
        Ok(())
    })
}

/// What the audit log is told of a new key: everything but the key.
fn created(new: &NewCredential) -> Entry {
    let scopes: Vec<&str> = new.scopes.iter().map(Scope::as_str).collect();
    Entry::new(new.tenant, Action::KeyCreated, ObjectRef::new(ObjectKind::Key, new.id)).after(json!({
        "name": new.name,
        "prefix": new.prefix,
        "scopes": scopes,
        "rate_limit": new.limits.requests,
        "hook_write_limit": new.limits.hook_writes,
        "sample_limit": new.limits.samples,
        "expires_at": new.expires_at.map(wire_time),
    }))
}

/// What it is told of the end of one.
fn revoked(key: &CredentialView) -> Entry {
    Entry::new(key.tenant_id, Action::KeyRevoked, ObjectRef::new(ObjectKind::Key, key.id)).before(json!({
        "name": key.name,
        "prefix": key.prefix,
        "scopes": key.scopes,
        "expires_at": key.expires_at.map(wire_time),
        "last_used_at": key.last_used_at.map(wire_time),
    }))
}
