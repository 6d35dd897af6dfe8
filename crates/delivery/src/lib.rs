//! The delivery worker: tries deliveries until they arrive, are given up, or are no longer wanted.
//!
//! Rings (or the sweep) name deliveries; the [`loader`] reads them; the [`dispatch`]er decides who goes next; a
//! [`trial`] is one try; the [`settle`] writer records what came of it. Rows decide everything: a deliverer may be
//! killed at any point.

mod answer;
mod body;
mod callback;
mod dispatch;
mod headers;
mod identity;
mod job;
mod lines;
mod loader;
mod memory;
mod metrics;
mod own;
mod sender;
mod settings;
mod settle;
mod sweep;
mod trial;

use std::sync::Arc;

use hookyard_chassis::metrics::Registry;
use hookyard_domain::{
    clock::Clock, db::Db, subscription::directory::Directory, task::Ledger, vault::Vault, wire::WebhookSecret,
};
use hookyard_egress::Egress;
use hookyard_messaging::{Bus, Lane, PARTITIONS, Queue};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use settings::{DestinationLimit, Settings};

use crate::{
    answer::Answers,
    body::Bodies,
    callback::Callbacks,
    dispatch::{Deps as DispatchDeps, Dispatcher, Load},
    identity::Identities,
    lines::Lines,
    loader::{Loader, Rung},
    memory::Memory,
    metrics::Metrics,
    own::OwnRings,
    sweep::Sweep,
};

/// What a deliverer works with.
#[derive(Clone, Debug)]
pub struct Deps {
    /// Postgres.
    pub db: Db,
    /// The bus.
    pub bus: Bus,
    /// The time.
    pub clock: Clock,
    /// The guarded client.
    pub egress: Egress,
    /// Opens what deliveries are signed with.
    pub vault: Vault,
    /// Writes what receivers answer to questions of tasks.
    pub ledger: Ledger,
    /// Where people find us, without a path: who signs callbacks.
    pub origin: String,
    /// Where metrics are registered.
    pub metrics: Registry,
}

/// Delivers until `stop`; then gives back what waits, sees the tries under way to their end, and writes them down.
///
/// # Errors
/// When a setting is out of its range, or a metric's name is taken.
pub async fn run(deps: Deps, settings: Settings, stop: CancellationToken) -> anyhow::Result<()> {
    settings.check().map_err(anyhow::Error::msg)?;
    let metrics = Metrics::register(&deps.metrics)?;
    let callbacks = Callbacks::new(deps.db.clone(), deps.vault.clone(), &deps.origin, &metrics.signing());
    let directory = Directory::with_secrets(deps.vault);
    let load = Load::default();
    let memory = Memory::new(settings.body_memory_mib);
    let task_secret = settings.task_secret().map_err(anyhow::Error::msg)?.map(Arc::<WebhookSecret>::new);
    let lines = Lines {
        db: deps.db.clone(),
        bus: deps.bus.clone(),
        clock: deps.clock.clone(),
        lease: settings.lease(),
    };
    let (settler, writer) = settle::channel(
        deps.db.clone(),
        deps.bus.clone(),
        deps.clock.clone(),
        metrics.clone(),
        settings.settle_batch,
        lines.clone(),
    );
    let answers = Answers {
        db: deps.db.clone(),
        bus: deps.bus.clone(),
        clock: deps.clock.clone(),
        ledger: deps.ledger,
        lines: lines.clone(),
    };
    let walking = tokio::spawn(lines.walk(stop.clone()));
    let writing = tokio::spawn(writer.run());

    let (commands, ended) = mpsc::unbounded_channel();
    let (jobs, ready) = mpsc::channel(1);
    let ((first, first_rungs), (retry, retry_rungs)) = (mpsc::channel::<Rung>(64), mpsc::channel::<Rung>(64));
    let own = OwnRings { load: load.clone(), first, retry };
    let dispatcher = Dispatcher::new(
        Arc::new(DispatchDeps {
            db: deps.db.clone(),
            clock: deps.clock.clone(),
            directory: directory.clone(),
            egress: deps.egress.clone(),
            settler: settler.clone(),
            metrics: metrics.clone(),
            lease: settings.lease(),
            task_secret,
            callbacks,
            answers,
            bodies: Bodies::new(deps.db.clone()),
            identities: Identities::default(),
            own: own.clone(),
        }),
        &settings,
        commands,
        load.clone(),
        memory.clone(),
    );
    let dispatching = tokio::spawn(dispatcher.run(ready, ended, stop.clone()));

    for (lane, rungs) in [(Lane::First, first_rungs), (Lane::Retry, retry_rungs)] {
        let loader = Loader {
            lane,
            db: deps.db.clone(),
            bus: deps.bus.clone(),
            clock: deps.clock.clone(),
            directory: directory.clone(),
            settler: settler.clone(),
            metrics: metrics.clone(),
            load: load.clone(),
            memory: memory.clone(),
        };
        tokio::spawn(loader.run(rungs, jobs.clone(), stop.clone()));
    }
    for (lane, rungs) in [(Lane::First, &own.first), (Lane::Retry, &own.retry)] {
        for partition in 0..PARTITIONS {
            let consumer = deps.bus.consume(Queue::DeliveryDue { lane, partition }, settings.prefetch).await;
            tokio::spawn(loader::listen(consumer, rungs.clone(), stop.clone()));
        }
    }
    let sweep = Sweep { db: deps.db.clone(), bus: deps.bus.clone(), clock: deps.clock.clone(), own, metrics };
    drop((settler, jobs));
    sweep.run(&settings, stop).await;
    // Each ends when all who speak to it have ended: listeners, loaders, tries, the dispatcher, the writer.
    dispatching.await?;
    writing.await?;
    walking.await?;
    Ok(())
}
