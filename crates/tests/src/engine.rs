//! What fans out and delivers, in this process: registries and deliverers, as `hookyard up` would run them, with a schedule
//! that is looked at often.

use std::{fmt, sync::Arc, time::Duration};

use hookyard_chassis::metrics::Registry as Metrics;
use hookyard_domain::{
    clock::Clock,
    db::Db,
    task::{self, Ledger, respond::RespondLinks},
    vault::Vault,
};
use hookyard_egress::{Egress, Resolver};
use hookyard_messaging::Bus;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{database::Database, secrets::vault};

/// How registries and deliverers are made.
#[derive(Clone)]
pub struct Engine {
    /// How many registries.
    pub registries: usize,
    /// How many deliverers.
    pub deliverers: usize,
    /// What the registries are told.
    pub registry: hookyard_registry::Settings,
    /// What the deliverers are told.
    pub delivery: hookyard_delivery::Settings,
    /// What the guard is told; by default the loopback addresses are allowed.
    pub egress: hookyard_egress::Settings,
    /// What everybody is told of tasks.
    pub tasks: task::Settings,
    /// The keys that the deliverers have; by default the tests' own.
    pub vault: Vault,
    /// Where names are looked up; by default at the system's.
    pub resolver: Option<Arc<dyn Resolver>>,
    /// The registries' bus, if it is not the gateways': what is published on one is not heard on the other.
    pub registry_bus: Option<Bus>,
    /// The deliverers' bus, if it is not the gateways'.
    pub delivery_bus: Option<Bus>,
    /// Where the deliverers count, if somebody wants to know; with one deliverer only.
    pub delivery_metrics: Option<Metrics>,
    /// Where the registries count, if somebody wants to know; with one registry only.
    pub registry_metrics: Option<Metrics>,
    /// How many runners of tasks.
    pub runners: usize,
    /// What they are told.
    pub runner: crate::runner::Runner,
}

impl Default for Engine {
    fn default() -> Self {
        Self {
            registries: 1,
            deliverers: 1,
            registry: hookyard_registry::Settings {
                relay_interval_ms: 50,
                upkeep_interval_s: 1,
                ..hookyard_registry::Settings::default()
            },
            delivery: hookyard_delivery::Settings {
                sweep_interval_ms: 10,
                ..hookyard_delivery::Settings::default()
            },
            egress: hookyard_egress::Settings {
                allow: vec!["127.0.0.0/8".parse().expect("a range")],
                ..hookyard_egress::Settings::default()
            },
            tasks: task::Settings::default(),
            vault: vault(),
            resolver: None,
            registry_bus: None,
            delivery_bus: None,
            delivery_metrics: None,
            registry_metrics: None,
            runners: 0,
            runner: crate::runner::Runner::default(),
        }
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("registries", &self.registries)
            .field("deliverers", &self.deliverers)
            .finish_non_exhaustive()
    }
}

/// Registries and deliverers that run.
#[derive(Debug)]
pub struct RunningEngine {
    stop: CancellationToken,
    running: Vec<JoinHandle<anyhow::Result<()>>>,
}

impl RunningEngine {
    /// Starts what is wanted, each with a pool of its own.
    ///
    /// # Panics
    /// When the settings of the guard make no client.
    pub fn start(engine: Option<&Engine>, database: &Database, bus: &Bus, clock: &Clock) -> Self {
        let stop = CancellationToken::new();
        let mut running = Vec::new();
        if let Some(engine) = engine {
            let registry = || engine.registry(database.engine_pool(), bus, clock, stop.clone());
            running.extend((0..engine.registries).map(|_| registry()));
            let deliverer = || engine.deliverer(database.engine_pool(), bus, clock, stop.clone());
            running.extend((0..engine.deliverers).map(|_| deliverer()));
            let runner = || engine.runner.start(database, bus, clock, stop.clone());
            running.extend((0..engine.runners).map(|_| runner()));
        }
        Self { stop, running }
    }

    /// Ends everything as SIGTERM would, and returns when it has.
    ///
    /// # Panics
    /// When something fails, or does not end.
    pub async fn stop(&mut self) {
        self.stop.cancel();
        for running in self.running.drain(..) {
            let ended = tokio::time::timeout(Duration::from_secs(20), running).await;
            ended.expect("services stop in time").expect("no panic").expect("a service ends well");
        }
    }
}

/// A test that ends has nothing more to deliver.
impl Drop for RunningEngine {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Where a service counts when nobody wants to know.
fn own(wanted: Option<&Metrics>) -> Metrics {
    wanted.cloned().unwrap_or_else(|| Metrics::new("test").expect("a registry of metrics"))
}

impl Engine {
    fn registry(
        &self,
        db: Db,
        bus: &Bus,
        clock: &Clock,
        stop: CancellationToken,
    ) -> JoinHandle<anyhow::Result<()>> {
        let bus = self.registry_bus.as_ref().unwrap_or(bus);
        let mail = self.runner.mail.is_on().then(|| hookyard_registry::Mail {
            vault: self.vault.clone(),
            origin: crate::runner::ORIGIN.to_owned(),
        });
        let deps = hookyard_registry::Deps { mail, ..self.foreseer(db, bus, clock) };
        tokio::spawn(hookyard_registry::run(deps, self.registry.clone(), !bus.has_broker(), stop))
    }

    /// What whoever foresees works with, be it a registry or a gateway.
    pub fn foreseer(&self, db: Db, bus: &Bus, clock: &Clock) -> hookyard_registry::Deps {
        hookyard_registry::Deps {
            db,
            bus: bus.clone(),
            clock: clock.clone(),
            metrics: own(self.registry_metrics.as_ref()),
            lease: Duration::from_millis(self.delivery.lease_ms),
            mail: None,
        }
    }

    fn deliverer(
        &self,
        db: Db,
        bus: &Bus,
        clock: &Clock,
        stop: CancellationToken,
    ) -> JoinHandle<anyhow::Result<()>> {
        let egress = match &self.resolver {
            None => Egress::new(&self.egress),
            Some(resolver) => Egress::with_resolver(&self.egress, Arc::clone(resolver)),
        };
        let deps = hookyard_delivery::Deps {
            db,
            bus: self.delivery_bus.as_ref().unwrap_or(bus).clone(),
            clock: clock.clone(),
            egress: egress.expect("a guarded client"),
            ledger: Ledger::new(self.tasks.clone(), RespondLinks::new(&self.vault, "http://127.0.0.1"), None),
            origin: crate::runner::ORIGIN.to_owned(),
            vault: self.vault.clone(),
            metrics: own(self.delivery_metrics.as_ref()),
        };
        tokio::spawn(hookyard_delivery::run(deps, self.delivery.clone(), stop))
    }
}
