//! `hookyard oauth`: apps that people may let in. Those without a tenant are for the people of every tenant, which only the
//! operator can make.

use anyhow::Context as _;
use clap::{Args, Subcommand};
use hookyard_domain::{
    Error,
    clock::Clock,
    credential::{Scope, Token, directory::known_everywhere},
    event::wire_time,
    id::{ClientId, TenantId},
    oauth::client::{self, Client, NewClient},
};
use serde_json::{Value, json};

use crate::{
    command::{self, listing, operator},
    process,
    settings::Settings,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Apps: who they are and where they may send people's browsers
    #[command(subcommand)]
    Clients(Clients),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Clients {
    /// Makes a client and prints its id and, this once, its secret
    Create(Create),
    /// Lists clients; never their secrets
    List {
        /// Only those of this tenant. Default: all.
        #[arg(long)]
        tenant: Option<TenantId>,
        /// Print JSON, an object per line.
        #[arg(long)]
        json: bool,
    },
    /// Ends a client with everything that people allowed it
    Revoke {
        /// The client's id (`oac_…`).
        id: ClientId,
    },
    /// Prints another secret, this once; the one before ends at once
    RotateSecret {
        /// The client's id (`oac_…`).
        id: ClientId,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Name, by which people decide: 1 to 50 characters.
    #[arg(long)]
    name: String,
    /// Where browsers may be sent with its codes; up to 10. https, http on loopback, or with --public a scheme such as
    /// com.example.app:/callback.
    #[arg(long = "redirect-uri", required = true)]
    redirect_uris: Vec<String>,
    /// It cannot keep a secret, as an app on people's devices; it has to use PKCE.
    #[arg(long)]
    public: bool,
    /// What it may be given, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "hooks:read,hooks:write,events:read")]
    scopes: Vec<Scope>,
    /// Only for the people of this tenant. Default: for everybody's.
    #[arg(long)]
    tenant: Option<TenantId>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(command: Command, settings: Settings) -> anyhow::Result<()> {
    let Command::Clients(command) = command;
    process::block_on(&settings.clone(), async move {
        let db = command::database(&settings)?;
        let (actor, now) = (operator::actor(), Clock::system().now());
        match command {
            Clients::Create(Create { name, redirect_uris, public, scopes, tenant, json }) => {
                let scopes = scopes.into_iter().collect();
                let new = NewClient { tenant, name, redirect_uris, scopes, is_public: public };
                let made = db.run(move |conn| client::create(conn, &new, &actor, now)).await;
                let (client, secret) = made.map_err(told).context("cannot make the client")?;
                show_created(&client, secret.as_ref(), json);
            }
            Clients::List { tenant, json } => {
                let clients = db.once(move |conn| match tenant {
                    Some(tenant) => client::list(conn, Some(tenant)),
                    None => client::list_all(conn),
                });
                listing::lines(clients.await?.iter().map(|client| Ok(line(client, json))))?;
            }
            Clients::Revoke { id } => {
                db.run(move |conn| {
                    let owner = client::owner(conn, id)?;
                    client::revoke(conn, owner, id, &actor, now)
                })
                .await
                .with_context(|| format!("cannot revoke {id}"))?;
                known_everywhere().await;
                println!("revoked {id}");
            }
            Clients::RotateSecret { id, json } => {
                let rotated = db.run(move |conn| {
                    let owner = client::owner(conn, id)?;
                    client::rotate_secret(conn, owner, id, &actor, now)
                });
                let secret = rotated.await.with_context(|| format!("cannot rotate the secret of {id}"))?;
                if json {
                    println!("{}", json!({ "client_id": id.to_string(), "client_secret": secret.expose() }));
                } else {
                    println!("{}\n(this is the only time it is shown)", secret.expose());
                }
            }
        }
        Ok(())
    })
}

/// The option that is to blame.
fn told(error: Error) -> anyhow::Error {
    match error {
        Error::Invalid { field: "redirect_uris", reason } => anyhow::anyhow!("--redirect-uri {reason}"),
        Error::Invalid { field, reason } => anyhow::anyhow!("--{field} {reason}"),
        other => anyhow::Error::new(other),
    }
}

fn show_created(client: &Client, secret: Option<&Token>, json: bool) {
    if json {
        let mut told = as_json(client);
        told["client_secret"] = secret.map(Token::expose).into();
        println!("{told}");
        return;
    }
    println!("client id      {}", client.id);
    match secret {
        Some(secret) => println!("client secret  {}\n(this is the only time it is shown)", secret.expose()),
        None => println!("(public: it has no secret and uses PKCE)"),
    }
}

/// What a list says of a client.
fn line(client: &Client, json: bool) -> String {
    if json {
        return as_json(client).to_string();
    }
    let state = if client.revoked_at.is_some() { "revoked" } else { "live" };
    let kind = if client.is_public() { "public" } else { "confidential" };
    let tenant = client.tenant_id.map_or("everybody".to_owned(), |tenant| tenant.to_string());
    format!("{}  {state}  {kind}  {tenant}  {}  [{}]", client.id, client.name, client.scopes())
}

fn as_json(client: &Client) -> Value {
    json!({
        "client_id": client.id.to_string(), "tenant_id": client.tenant_id.map(|tenant| tenant.to_string()),
        "name": client.name, "public": client.is_public(), "redirect_uris": client.redirect_uris,
        "scopes": client.scopes().iter().map(Scope::as_str).collect::<Vec<_>>(),
        "created_at": wire_time(client.created_at), "revoked_at": client.revoked_at.map(wire_time),
    })
}
