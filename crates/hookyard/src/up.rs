//! `hookyard up`: the whole product in one process.

use std::{net::SocketAddr, path::Path, time::Duration};

use anyhow::Context as _;
use hookyard_chassis::shutdown;
use hookyard_domain::{
    audit::{self, Action, Actor, Entry, ObjectKind, ObjectRef},
    clock::Clock,
    credential::Token,
    db::{Db, Url, migrate},
    id::InvitationId,
    person::{
        self,
        invitation::{self, NewInvitation, Purpose},
        user,
    },
    vault::Vault,
};
use hookyard_gateway::HttpSettings;
use tokio_util::sync::CancellationToken;

use crate::{
    embedded::Cluster,
    process::{self, Role},
    secrets,
    settings::Settings,
};

/// Runs everything until it is told to stop; starts and stops a private Postgres when no other is named.
pub(crate) async fn run(settings: Settings) -> anyhow::Result<()> {
    settings.check()?;
    let stop = CancellationToken::new();
    shutdown::on_signals(stop.clone())?;
    if let Some(url) = settings.database.url.clone() {
        return serve(&settings, &url, stop).await;
    }
    let embedded = settings.embedded.clone();
    let cluster = tokio::task::spawn_blocking(move || Cluster::start(&embedded)).await??;
    let url = Url::new(cluster.url());
    let watched = CancellationToken::new();
    let watching = tokio::spawn(watch(cluster, watched.clone()));
    let result = serve(&settings, &url, stop).await;
    watched.cancel();
    watching.await.context("the embedded PostgreSQL was not watched")??;
    result
}

async fn serve(settings: &Settings, url: &Url, stop: CancellationToken) -> anyhow::Result<()> {
    let db = Db::new(url, &settings.database)?;
    let migrations =
        migrate::run(&db, &Clock::system()).await.context("cannot bring the schema up to date")?;
    if !migrations.is_empty() {
        tracing::info!(?migrations, "schema brought up to date");
    }
    let vault = secrets::of_up(settings, &db).await?;
    let set_up = set_up(&db, &vault, &Clock::system()).await?;
    drop(db);
    let http = settings.http.clone();
    // Commands have to be told where the cluster is that they shall speak to.
    let data_dir = settings.embedded.data_dir.clone().filter(|_| settings.database.url.is_none());
    let ready = move |api| welcome(api, http, set_up.as_ref(), data_dir.as_deref());
    process::serve(&Role::ALL, settings, url, vault, stop, ready).await
}

/// The secret of a new set-up link, while there is nobody who could log in; an earlier one holds no longer.
async fn set_up(db: &Db, vault: &Vault, clock: &Clock) -> anyhow::Result<Option<Token>> {
    let now = clock.now();
    let id = InvitationId::new(now);
    let token = invitation::token(vault, id);
    let hash = token.hash();
    let made = db.run(move |conn| {
        if user::is_anybody(conn)? {
            return Ok(false);
        }
        let (purpose, role) = (Purpose::SetUp, person::Role::Admin);
        let new = NewInvitation { id, purpose, email: None, role, invited_by: None, hash };
        invitation::insert(conn, &new, now)?;
        let entry = Entry::new(
            None,
            Action::InvitationCreated,
            ObjectRef::new(ObjectKind::Installation, "set-up link"),
        );
        audit::record(conn, &Actor::system("up"), &entry, now)?;
        Ok(true)
    });
    Ok(made.await.context("cannot make a set-up link")?.then_some(token))
}

/// For the person who started it. Not a log line: it is read once, by eye.
fn welcome(api: Option<SocketAddr>, mut http: HttpSettings, set_up: Option<&Token>, data_dir: Option<&Path>) {
    if let Some(api) = api {
        http.listen = api;
        let told = data_dir
            .map(|dir| format!("export HOOKYARD__EMBEDDED__DATA_DIR='{}'\n    ", dir.display()))
            .unwrap_or_default();
        eprintln!(
            "\n  Hookyard is up.  API http://{api}   documentation http://{api}/docs\n  \
             First steps, in another terminal:\n    {told}\
             hookyard tenants create --name Acme\n    \
             hookyard keys create --tenant <id> --name first --scopes admin\n"
        );
        if let Some(token) = set_up {
            eprintln!(
                "  Or in a browser: this link makes the first tenant and its administrator, once, within seven days.\n    {}\n",
                http.link(&format!("/setup/{}", token.expose()))
            );
        }
    }
}

/// Starts the private Postgres again if it ends by itself, and stops it at the end.
async fn watch(mut cluster: Cluster, stop: CancellationToken) -> anyhow::Result<()> {
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
        let (looked, again) = tokio::task::spawn_blocking(move || {
            let again = cluster.ensure_running();
            (cluster, again)
        })
        .await?;
        cluster = looked;
        if let Err(error) = again {
            tracing::error!(error = format!("{error:#}"), "the embedded PostgreSQL cannot be started again");
        }
    }
    tokio::task::spawn_blocking(move || cluster.stop()).await?
}
