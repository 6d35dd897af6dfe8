//! One service as a process: its connections, its probes, its end.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, bail};
use hookyard_chassis::{
    health::Health,
    metrics::Registry,
    ops::Ops,
    shutdown,
    telemetry::{self, LogSettings},
};
use hookyard_domain::{
    clock::Clock,
    db::{Db, Url, migrate},
    person::password::{Cost, Hasher},
    subscription::UrlRules,
    task::webhook::WebhookUrls,
    vault::Vault,
};
use hookyard_egress::Egress;
use hookyard_gateway::Gateway;
use hookyard_messaging::Bus;
use tokio_util::sync::CancellationToken;

use crate::{secrets, settings::Settings};

/// A service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Gateway,
    Registry,
    Runner,
    Delivery,
}

impl Role {
    pub(crate) const ALL: [Self; 4] = [Self::Gateway, Self::Registry, Self::Runner, Self::Delivery];

    const fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Registry => "registry",
            Self::Runner => "runner",
            Self::Delivery => "delivery",
        }
    }
}

/// Runs a future on a new runtime, with logging set up.
pub(crate) fn block_on<T>(
    settings: &Settings,
    future: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    telemetry::init(&quiet(&settings.log))?;
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        // Enough for every database connection and the resolver's look-ups; idle ones end.
        .max_blocking_threads(160)
        .build()
        .context("cannot start the runtime")?
        .block_on(future)
}

/// lapin calls every loss of a connection an error. It is none: it passes by itself, and our supervisor of connections
/// tells it once, as a warning. Whoever names lapin in `log.level` gets its lines.
fn quiet(log: &LogSettings) -> LogSettings {
    let level = &log.level;
    let level = if level.contains("lapin") { level.clone() } else { format!("{level},lapin=off") };
    LogSettings { level, format: log.format }
}

/// Runs one service until it is told to stop.
pub(crate) fn run(role: Role, settings: Settings) -> anyhow::Result<()> {
    let url = settings.database.url.clone().with_context(|| {
        format!("`hookyard {}` needs DATABASE_URL (only `hookyard up` brings its own database)", role.name())
    })?;
    if settings.amqp.url.is_none() {
        bail!(
            "`hookyard {}` needs AMQP_URL: separate services speak over RabbitMQ (only `hookyard up` does without)",
            role.name()
        );
    }
    settings.check()?;
    let vault = secrets::of_service(&settings, role.name())?;
    block_on(&settings.clone(), async move {
        let stop = CancellationToken::new();
        shutdown::on_signals(stop.clone())?;
        serve(&[role], &settings, &url, vault, stop, |_| {}).await
    })
}

/// Runs services together until `stop`, with settings that have been checked. `ready` is told where the API listens, once it
/// does.
pub(crate) async fn serve(
    roles: &[Role],
    settings: &Settings,
    url: &Url,
    vault: Vault,
    stop: CancellationToken,
    ready: impl FnOnce(Option<std::net::SocketAddr>),
) -> anyhow::Result<()> {
    let name = match roles {
        [role] => role.name(),
        _ => "up",
    };
    let clock = Clock::system();
    let db = Db::new(url, &settings.database)?;
    let engine_db = Db::for_engine(url, &settings.database)?;
    let bus = Bus::start(&settings.amqp, &format!("hookyard {name}"))?;
    let metrics = Registry::new(env!("CARGO_PKG_VERSION"))?;
    let health = Health::new(stop.clone());
    let mut supervisor = shutdown::Supervisor::new(stop.clone(), settings.ops.shutdown_grace());
    probe(&health, &db, &bus);
    // Ready means that requests are taken, not only that they could be.
    let serving = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&serving);
    health.add("services", move || {
        let serving = seen.load(Ordering::Acquire);
        async move { if serving { Ok(()) } else { Err("waiting for the database".to_owned()) } }
    });
    count_bus(&metrics, &bus)?;
    let ops = Ops::bind(&settings.ops, health.clone(), metrics.clone())?;
    if let Some(addr) = ops.addr() {
        tracing::info!(%addr, "probes and metrics");
    }
    supervisor.accompany("ops", |last| ops.run(last));
    wait_for_schema(&db, &stop).await;
    secrets::admit(&db, &vault, &clock, &stop).await?;

    let egress = Egress::new(&settings.egress)?;
    let registry = |mail| hookyard_registry::Deps {
        db: engine_db.clone(),
        bus: bus.clone(),
        clock: clock.clone(),
        metrics: metrics.clone(),
        lease: Duration::from_millis(settings.delivery.lease_ms),
        mail,
    };
    let foresees = settings.gateway.foresight && roles.contains(&Role::Gateway);
    let mut addr = None;
    let mut foresight = None;
    for role in roles {
        match role {
            Role::Gateway => {
                if foresees && !roles.contains(&Role::Registry) {
                    // Owners are told of what happens to their hooks by registries.
                    foresight = Some(hookyard_registry::foresee(registry(None), stop.clone())?);
                }
                let gateway = Gateway::bind(
                    hookyard_gateway::Deps {
                        db: db.clone(),
                        bus: bus.clone(),
                        clock: clock.clone(),
                        health: health.clone(),
                        registry: metrics.clone(),
                        url_rules: UrlRules::new(&settings.hooks.extra_url_prefixes)?,
                        vault: vault.clone(),
                        passwords: Hasher::new(Cost::STANDARD)?,
                        egress: egress.clone(),
                    },
                    settings.of_gateway(),
                )?;
                addr = Some(gateway.addr());
                supervisor.supervise("gateway", gateway.run(stop.clone()));
            }
            Role::Registry => {
                let mail = settings.mail.is_on().then(|| hookyard_registry::Mail {
                    vault: vault.clone(),
                    origin: origin(settings, addr),
                });
                supervisor.supervise(
                    "registry",
                    hookyard_registry::run(registry(mail), settings.registry.clone(), foresees, stop.clone()),
                );
            }
            Role::Runner => {
                let deps = hookyard_runner::Deps {
                    db: db.clone(),
                    engine_db: engine_db.clone(),
                    bus: bus.clone(),
                    clock: clock.clone(),
                    vault: vault.clone(),
                    services: settings.services()?,
                    egress: egress.clone(),
                    metrics: metrics.clone(),
                    tasks: settings.tasks.clone(),
                    models: settings.models()?,
                    urls: WebhookUrls::new(UrlRules::new(&settings.hooks.extra_url_prefixes)?),
                    origin: origin(settings, addr),
                    mail: settings.mail.clone(),
                };
                supervisor
                    .supervise("runner", hookyard_runner::run(deps, settings.runner.clone(), stop.clone()));
            }
            Role::Delivery => {
                let deps = hookyard_delivery::Deps {
                    db: engine_db.clone(),
                    bus: bus.clone(),
                    clock: clock.clone(),
                    egress: egress.clone(),
                    ledger: settings.ledger(&vault),
                    origin: origin(settings, addr),
                    vault: vault.clone(),
                    metrics: metrics.clone(),
                };
                supervisor.supervise(
                    "delivery",
                    hookyard_delivery::run(deps, settings.delivery.clone(), stop.clone()),
                );
            }
        }
    }
    serving.store(true, Ordering::Release);
    tracing::info!(service = name, api = addr.map(|addr| addr.to_string()), "started");
    ready(addr);
    let result = supervisor.run().await;
    drop(foresight);
    bus.close().await;
    tracing::info!(service = name, "stopped");
    result
}

/// Where people find us: as the gateway says it, with the port that it was given.
fn origin(settings: &Settings, api: Option<std::net::SocketAddr>) -> String {
    let mut http = settings.http.clone();
    if let Some(api) = api {
        http.listen = api;
    }
    http.link("")
}

/// Readiness tells the truth (invariant 12): not ready while the database or the broker is away, or the schema is not
/// the one this program was built for.
fn probe(health: &Health, db: &Db, bus: &Bus) {
    let pinged = db.clone();
    health.add("database", move || {
        let db = pinged.clone();
        async move { db.ping().await.map_err(|error| error.to_string()) }
    });
    let migrated = db.clone();
    health.add("schema", move || {
        let db = migrated.clone();
        async move {
            match migrate::is_current(&db).await {
                Ok(true) => Ok(()),
                Ok(false) => Err("the schema is not up to date: run `hookyard migrate`".to_owned()),
                Err(error) => Err(error.to_string()),
            }
        }
    });
    let bus = bus.clone();
    health.add("broker", move || {
        let connected = bus.connected();
        async move { if connected { Ok(()) } else { Err("no connection to the broker".to_owned()) } }
    });
}

/// What the bus counts, as metrics.
fn count_bus(metrics: &Registry, bus: &Bus) -> anyhow::Result<()> {
    type Read = fn(hookyard_messaging::Counters) -> u64;
    let counts: [(&str, &str, Read); 5] = [
        ("hookyard_bus_published", "Messages published since the start.", |c| c.published),
        ("hookyard_bus_confirmed", "Messages that the broker has confirmed since the start.", |c| {
            c.confirmed
        }),
        (
            "hookyard_bus_unpublished",
            "Messages that were refused, late, or met no connection, since the start.",
            |c| c.refused + c.late + c.disconnected + c.returned,
        ),
        (
            "hookyard_bus_unreadable",
            "Messages put aside because they could not be read, since the start.",
            |c| c.unreadable,
        ),
        ("hookyard_bus_connections_lost", "Connections to the broker that were lost since the start.", |c| {
            c.connections_lost
        }),
    ];
    for (name, help, read) in counts {
        let bus = bus.clone();
        metrics.read_gauge(name, help, move || read(bus.counters()) as f64)?;
    }
    Ok(())
}

/// Services may start before the database does, or before somebody has migrated it.
async fn wait_for_schema(db: &Db, stop: &CancellationToken) {
    let mut told = false;
    loop {
        let why = match migrate::is_current(db).await {
            Ok(true) => return,
            Ok(false) => "its schema is not up to date: run `hookyard migrate`".to_owned(),
            Err(error) => error.chain(),
        };
        if !told {
            tracing::warn!(why, "waiting for the database");
            told = true;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(Duration::from_millis(500)) => {}
        }
    }
}
