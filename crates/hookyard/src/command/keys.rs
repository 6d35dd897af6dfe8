//! `hookyard keys`: API keys, and the key that Zapier is given. Keys of services that publish are `source_keys`.

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use hookyard_domain::{
    Error, audit,
    clock::Clock,
    credential::{
        Kind, Limits, Scope, Scopes, Token,
        directory::known_everywhere,
        store::{self, CredentialView, NewCredential},
    },
    db::{Conn, Db},
    event::wire_time,
    id::{CredentialId, TenantId},
    tenant::check_name,
};
use serde_json::{Value, json};

use crate::{
    command::{self, listing, operator, signing_keys},
    process,
    settings::Settings,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Makes an API key and prints it, this once
    Create(Create),
    /// Lists the API keys of a tenant; never the keys themselves
    List {
        /// The tenant's id.
        #[arg(long)]
        tenant: TenantId,
        /// Print JSON, an object per line.
        #[arg(long)]
        json: bool,
    },
    /// Shows what is known of a key, of whatever kind; never the key itself
    Show {
        /// The key's id (`key_…`).
        id: CredentialId,
    },
    /// Changes an API key; what is not given stays as it is
    Update(Update),
    /// Ends a key, of whatever kind
    Revoke {
        /// The key's id (`key_…`), from `hookyard keys list`.
        id: CredentialId,
        /// Also when it is the tenant's last admin key.
        #[arg(long)]
        force: bool,
    },
    /// Makes the key that Zapier is given beside the Client ID and prints it, this once; the one before ends
    RotateIntegration {
        /// The tenant's id.
        #[arg(long)]
        tenant: TenantId,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Publishes the next key that callbacks are signed with; it is used a day later, and the one before stays published
    RotateSigning {
        /// After how many hours it is used: 24 to 2160. Receivers that keep the set of keys for longer than a day want more.
        #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(i64).range(24..=2160))]
        lead_hours: i64,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Lists the keys that callbacks are signed with; their public halves are at `/.well-known/jwks.json`
    ListSigning {
        /// Print JSON, an object per line.
        #[arg(long)]
        json: bool,
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
    #[arg(long, value_parser = limit)]
    rate_limit: Option<u32>,
    /// Subscribing and unsubscribing per minute; 0 = unlimited. Default: the setting gateway.hook_write_limit.
    #[arg(long, value_parser = limit)]
    hook_write_limit: Option<u32>,
    /// How many more of these may pass within an hour. Default: the setting gateway.hook_write_burst.
    #[arg(long, value_parser = limit)]
    hook_write_burst: Option<u32>,
    /// Samples per minute; 0 = unlimited. Default: the setting gateway.sample_limit.
    #[arg(long, value_parser = limit)]
    sample_limit: Option<u32>,
    /// Until when it holds, as RFC 3339.
    #[arg(long)]
    expires_at: Option<DateTime<Utc>>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Update {
    /// The key's id (`key_…`).
    id: CredentialId,
    /// Another name.
    #[arg(long)]
    name: Option<String>,
    /// All that it may do from now on, separated by commas.
    #[arg(long, value_delimiter = ',')]
    scopes: Option<Vec<Scope>>,
    /// Requests per minute; 0 = unlimited, `default` = the setting gateway.rate_limit.
    #[arg(long, value_parser = change)]
    rate_limit: Option<Change>,
    /// Subscribing and unsubscribing per minute, likewise.
    #[arg(long, value_parser = change)]
    hook_write_limit: Option<Change>,
    /// How many more of these may pass within an hour, likewise.
    #[arg(long, value_parser = change)]
    hook_write_burst: Option<Change>,
    /// Samples per minute, likewise.
    #[arg(long, value_parser = change)]
    sample_limit: Option<Change>,
    /// Until when it holds, as RFC 3339.
    #[arg(long, conflicts_with = "no_expiry")]
    expires_at: Option<DateTime<Utc>>,
    /// It holds until it is revoked.
    #[arg(long)]
    no_expiry: bool,
    /// Also when the tenant's last admin key would be one no more.
    #[arg(long)]
    force: bool,
}

/// A limit to be set; without a number it becomes that of the settings.
#[derive(Clone, Copy, Debug)]
struct Change(Option<i32>);

/// A limit that can be stored.
pub(super) fn limit(text: &str) -> Result<u32, String> {
    let limit = text.parse::<i32>().ok().and_then(|limit| u32::try_from(limit).ok());
    limit.ok_or_else(|| format!("a limit is a whole number from 0 to {}", i32::MAX))
}

fn change(text: &str) -> Result<Change, String> {
    if text == "default" {
        return Ok(Change(None));
    }
    limit(text).map(|limit| Change(i32::try_from(limit).ok()))
}

pub(crate) fn run(command: Command, settings: Settings) -> anyhow::Result<()> {
    process::block_on(&settings.clone(), async move {
        let db = command::database(&settings)?;
        let now = Clock::system().now();
        match command {
            Command::Create(wanted) => create(&db, wanted, now).await,
            Command::List { tenant, json } => {
                let keys = db.once(move |conn| store::list(conn, tenant, Kind::ApiKey)).await?;
                let shown = |key| Ok(if json { as_json(key).to_string() } else { line(key, now) });
                listing::lines(keys.iter().map(shown))
            }
            Command::Show { id } => {
                let key = db.once(move |conn| of_anybody(conn, id)).await?;
                println!("{:#}", as_json(&key));
                Ok(())
            }
            Command::Update(wanted) => update(&db, wanted, now).await,
            Command::Revoke { id, force } => revoke(&db, id, force, now).await,
            Command::RotateIntegration { tenant, json } => rotate(&db, tenant, json, now).await,
            Command::RotateSigning { lead_hours, json } => {
                signing_keys::rotate(&settings, &db, lead_hours, json, now).await
            }
            Command::ListSigning { json } => signing_keys::list(&db, json, now).await,
        }
    })
}

async fn create(db: &Db, wanted: Create, now: DateTime<Utc>) -> anyhow::Result<()> {
    check_name(&wanted.name).map_err(|reason| anyhow::anyhow!("--name {reason}"))?;
    check_end(wanted.expires_at, now)?;
    let token = Token::api_key(rand::random());
    let scopes: Scopes = wanted.scopes.into_iter().collect();
    let new = NewCredential {
        limits: Limits {
            requests: wanted.rate_limit,
            hook_writes: wanted.hook_write_limit,
            hook_write_burst: wanted.hook_write_burst,
            samples: wanted.sample_limit,
        },
        expires_at: wanted.expires_at,
        ..NewCredential::new(Kind::ApiKey, &token, wanted.tenant, &wanted.name, scopes, now)
    };
    let key = db.run(move |conn| stored(conn, &new, store::insert)).await?;
    if wanted.json {
        println!(
            "{}",
            json!({ "key": token.expose(), "key_id": key.id.to_string(), "scopes": scopes.to_string() })
        );
    } else {
        println!("{}\n(id {}; this is the only time it is shown)", token.expose(), key.id);
    }
    Ok(())
}

/// Refuses an end that is over.
pub(super) fn check_end(end: Option<DateTime<Utc>>, now: DateTime<Utc>) -> anyhow::Result<()> {
    anyhow::ensure!(end.is_none_or(|end| end > now), "--expires-at lies in the past");
    Ok(())
}

/// Stores a key by `insert`, and tells the audit log.
pub(super) fn stored(
    conn: &mut Conn,
    new: &NewCredential,
    insert: impl FnOnce(&mut Conn, &NewCredential) -> Result<(), Error>,
) -> Result<CredentialView, Error> {
    insert(conn, new)?;
    let key = store::of_kind(conn, new.tenant, new.kind, new.id)?;
    audit::record(conn, &operator::actor(), &key.made(), new.now)?;
    Ok(key)
}

/// A key whose tenant is not named.
fn of_anybody(conn: &mut Conn, id: CredentialId) -> Result<CredentialView, Error> {
    let missing = || Error::NotFound { what: "key" };
    let tenant = store::owner(conn, id)?.ok_or_else(missing)?;
    store::find(conn, tenant, id)?.ok_or_else(missing)
}

async fn update(db: &Db, wanted: Update, now: DateTime<Utc>) -> anyhow::Result<()> {
    if let Some(name) = &wanted.name {
        check_name(name).map_err(|reason| anyhow::anyhow!("--name {reason}"))?;
    }
    check_end(wanted.expires_at, now)?;
    let id = wanted.id;
    let key = db
        .run(move |conn| changed(conn, wanted, now))
        .await
        .with_context(|| format!("cannot change {id}"))?;
    known_everywhere().await;
    println!("{:#}", as_json(&key));
    Ok(())
}

fn changed(conn: &mut Conn, wanted: Update, now: DateTime<Utc>) -> Result<CredentialView, Error> {
    let tenant = of_anybody(conn, wanted.id)?.tenant_id;
    store::lock(conn, tenant)?;
    let before = store::of_kind(conn, tenant, Kind::ApiKey, wanted.id)?;
    if !before.is_live(now) {
        return Err(Error::Conflict { reason: "the key has ended; make another".to_owned() });
    }
    let mut after = before.clone();
    after.name = wanted.name.unwrap_or(after.name);
    if let Some(scopes) = wanted.scopes {
        let scopes: Scopes = scopes.into_iter().collect();
        after.scopes = scopes.iter().map(Scope::as_str).map(str::to_owned).collect();
    }
    for (limit, change) in [
        (&mut after.rate_limit, wanted.rate_limit),
        (&mut after.hook_write_limit, wanted.hook_write_limit),
        (&mut after.hook_write_burst, wanted.hook_write_burst),
        (&mut after.sample_limit, wanted.sample_limit),
    ] {
        if let Some(Change(new)) = change {
            *limit = new;
        }
    }
    if wanted.no_expiry || wanted.expires_at.is_some() {
        after.expires_at = wanted.expires_at;
    }
    if !after.is_admin() && !wanted.force {
        store::spare_last_admin(conn, &before, now)?;
    }
    if after != before {
        store::replace(conn, &after)?;
        audit::record(conn, &operator::actor(), &after.changed(&before), now)?;
    }
    Ok(after)
}

/// Ends a key of whatever kind, and says so when no gateway takes it any more.
pub(super) async fn revoke(db: &Db, id: CredentialId, force: bool, now: DateTime<Utc>) -> anyhow::Result<()> {
    db.run(move |conn| {
        let tenant = of_anybody(conn, id)?.tenant_id;
        if store::revoke(conn, tenant, id, force, now)? {
            let key = of_anybody(conn, id)?;
            audit::record(conn, &operator::actor(), &key.revoked(), now)?;
        }
        Ok(())
    })
    .await
    .with_context(|| format!("cannot revoke {id}"))?;
    known_everywhere().await;
    println!("revoked {id}");
    Ok(())
}

async fn rotate(db: &Db, tenant: TenantId, json: bool, now: DateTime<Utc>) -> anyhow::Result<()> {
    let token = Token::with_prefix(Kind::Integration.prefix(), rand::random());
    let scopes = Scope::ALL.into_iter().filter(|scope| *scope != Scope::Admin).collect();
    let new = NewCredential::new(Kind::Integration, &token, tenant, "zapier", scopes, now);
    let key = db.run(move |conn| stored(conn, &new, store::rotate_integration)).await?;
    known_everywhere().await;
    if json {
        let client_id = tenant.uuid().to_string();
        println!(
            "{}",
            json!({ "key": token.expose(), "key_id": key.id.to_string(), "client_id": client_id })
        );
    } else {
        println!("Client ID {}\n{}", tenant.uuid(), token.expose());
        println!("(id {}; this is the only time it is shown; the key before has ended)", key.id);
    }
    Ok(())
}

/// A key as programs read it; never the key itself.
pub(super) fn as_json(key: &CredentialView) -> Value {
    let time = |at: Option<DateTime<Utc>>| at.map(wire_time);
    json!({
        "key_id": key.id.to_string(), "tenant_id": key.tenant_id.to_string(), "name": key.name,
        "prefix": key.prefix, "scopes": key.scopes, "event_types": key.event_types,
        "agent_types": key.agent_type_words(), "models": key.models,
        "rate_limit": key.rate_limit, "hook_write_limit": key.hook_write_limit,
        "hook_write_burst": key.hook_write_burst, "sample_limit": key.sample_limit,
        "created_at": wire_time(key.created_at), "expires_at": time(key.expires_at),
        "revoked_at": time(key.revoked_at), "last_used_at": time(key.last_used_at),
    })
}

/// A key as people read it.
pub(super) fn line(key: &CredentialView, now: DateTime<Utc>) -> String {
    let state = match (key.revoked_at, key.is_live(now)) {
        (Some(_), _) => "revoked",
        (None, false) => "expired",
        (None, true) => "live",
    };
    let may = match (key.kind, key.agent_type_words()) {
        (Kind::Worker, Some(types)) => types.join(", "),
        (Kind::Worker, None) => "all tasks".to_owned(),
        _ => key.event_types.as_ref().unwrap_or(&key.scopes).join(", "),
    };
    format!("{}  {}…  {state}  {}  [{may}]", key.id, key.prefix, key.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_what_can_be_stored() {
        assert_eq!((limit("0"), limit("2147483647")), (Ok(0), Ok(2_147_483_647)));
        for bad in ["-1", "2147483648", "many", ""] {
            assert!(limit(bad).is_err() && change(bad).is_err(), "{bad}");
        }
        assert!(matches!(change("default"), Ok(Change(None))));
        assert!(matches!(change("5"), Ok(Change(Some(5)))));
    }
}
