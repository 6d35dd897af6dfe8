//! `hookyard tenants`.

use anyhow::Context as _;
use clap::Subcommand;
use hookyard_domain::{
    audit::{self, Action, Entry, ObjectKind, ObjectRef},
    clock::Clock,
    db::Db,
    event::wire_time,
    id::TenantId,
    tenant::{Tenant, check_name, store},
    vault::Vault,
    wire::WebhookSecret,
};
use serde_json::json;

use crate::{
    command::{self, listing, operator},
    process, secrets,
    settings::Settings,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Makes a tenant and prints its id
    Create {
        /// Name, for people: 1 to 50 characters.
        #[arg(long)]
        name: String,
        /// Secret of X-TriggersAPI-Signature for hooks without one of their own: 1 to 256 bytes.
        #[arg(long, env = "HOOKYARD_WEBHOOK_SECRET", hide_env_values = true)]
        webhook_secret: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Lists the tenants
    List {
        /// Print JSON, an object per line.
        #[arg(long)]
        json: bool,
    },
    /// Sets or removes the secret of X-TriggersAPI-Signature
    SetWebhookSecret {
        /// The tenant's id.
        #[arg(long)]
        tenant: TenantId,
        /// The secret; without one it is removed.
        #[arg(long, env = "HOOKYARD_WEBHOOK_SECRET", hide_env_values = true)]
        webhook_secret: Option<String>,
    },
}

pub(crate) fn run(command: Command, settings: Settings) -> anyhow::Result<()> {
    process::block_on(&settings.clone(), async move {
        let db = command::database(&settings)?;
        let now = Clock::system().now();
        match command {
            Command::Create { name, webhook_secret, json } => {
                check_name(&name).map_err(|reason| anyhow::anyhow!("--name {reason}"))?;
                let secret = with_vault(&settings, &db, webhook_secret.as_deref()).await?;
                let id = TenantId::new(now);
                let stored = name.clone();
                db.run(move |conn| {
                    let after = json!({"name": stored, "signs": secret.is_some()});
                    let secret = secret.as_ref().map(|(vault, secret)| (vault, secret));
                    store::insert(conn, id, &stored, secret, now)?;
                    let entry = of_tenant(Action::TenantCreated, id).after(after);
                    audit::record(conn, &operator::actor(), &entry, now)
                })
                .await?;
                if json {
                    println!(
                        "{}",
                        json!({ "tenant_id": id.to_string(), "client_id": id.uuid(), "name": name })
                    );
                } else {
                    println!("tenant {id} ({name})");
                }
            }
            Command::List { json } => {
                let tenants = db.once(store::list).await?;
                listing::lines(tenants.iter().map(|tenant| Ok(line(tenant, json))))?;
            }
            Command::SetWebhookSecret { tenant, webhook_secret } => {
                let secret = with_vault(&settings, &db, webhook_secret.as_deref()).await?;
                let found = db
                    .run(move |conn| {
                        let signed = store::find(conn, tenant)?.is_some_and(|tenant| tenant.signs);
                        let secret = secret.as_ref().map(|(vault, secret)| (vault, secret));
                        let signs = secret.is_some();
                        let found = store::set_webhook_secret(conn, tenant, secret, now)?;
                        if found && (signed || signs) {
                            let entry = of_tenant(Action::TenantSecretSet, tenant)
                                .before(json!({"signs": signed}))
                                .after(json!({"signs": signs}));
                            audit::record(conn, &operator::actor(), &entry, now)?;
                        }
                        Ok(found)
                    })
                    .await?;
                anyhow::ensure!(found, "there is no tenant {tenant}");
                println!("done");
            }
        }
        Ok(())
    })
}

/// An entry about a tenant, in its own chain.
fn of_tenant(action: Action, tenant: TenantId) -> Entry {
    Entry::new(tenant, action, ObjectRef::new(ObjectKind::Tenant, tenant))
}

/// A secret, if there is one, and what seals it.
async fn with_vault(
    settings: &Settings,
    db: &Db,
    secret: Option<&str>,
) -> anyhow::Result<Option<(Vault, WebhookSecret)>> {
    let Some(secret) = secret else { return Ok(None) };
    let secret = WebhookSecret::parse(secret).context("--webhook-secret is not acceptable")?;
    Ok(Some((secrets::of_command(settings, db).await?, secret)))
}

/// What a list says of a customer.
fn line(tenant: &Tenant, json: bool) -> String {
    let (id, created) = (tenant.id.to_string(), wire_time(tenant.created_at));
    if json {
        let tenant = json!({
            "tenant_id": id, "client_id": tenant.id.uuid(), "name": tenant.name,
            "signs": tenant.signs, "created_at": created,
        });
        return tenant.to_string();
    }
    format!("{id}  {created}  {}", tenant.name)
}
