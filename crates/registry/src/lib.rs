//! The registry: who gets what, and whether they are healthy.
//!
//! Fans events out to the subscriptions that want them, applies the outcomes of deliveries to the health of hooks, and
//! looks after what has to be looked after. It makes no request to anybody.

mod context;
mod fan_out;
mod health;
mod lines;
mod matching;
mod metrics;
mod payloads;
mod recoveries;
mod relay;
mod settings;
mod upkeep;

use std::{sync::Arc, time::Duration};

use hookyard_chassis::metrics::Registry as MetricsRegistry;
use hookyard_domain::{clock::Clock, db::Db};
use hookyard_messaging::{Bus, Foresight, Queue};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use context::Mail;
pub use settings::Settings;

use crate::{
    context::Context,
    fan_out::{Ahead, FanOut},
    metrics::Rounds,
};

/// What a registry works with.
#[derive(Clone, Debug)]
pub struct Deps {
    /// Postgres.
    pub db: Db,
    /// The bus.
    pub bus: Bus,
    /// The time.
    pub clock: Clock,
    /// Where metrics are registered.
    pub metrics: MetricsRegistry,
    /// For how long new deliveries belong to whoever hears their ring: the deliverers' lease.
    pub lease: Duration,
    /// How owners are told by mail; `None` without a mail server.
    pub mail: Option<Mail>,
}

/// Serves until `stop`, then ends what it has begun. If it `foresees`, whoever stores events in this process is told before what
/// follows from them (docs/decisions/0063).
///
/// # Errors
/// When a setting is out of its range, or a metric's name is taken.
pub async fn run(
    deps: Deps,
    settings: Settings,
    foresees: bool,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    settings.check().map_err(anyhow::Error::msg)?;
    let rounds = Rounds::register(&deps.metrics)?;
    let context = Context::new(deps)?;
    let tasks = TaskTracker::new();
    let fan_out = Arc::new(FanOut::new(context.clone()));
    let shared = Arc::new(context);
    // Held until the end: it is asked while it is there.
    let ahead = foresees.then(|| ahead(&shared.bus, Arc::clone(&fan_out), stop.clone()));
    for _ in 0..settings.workers {
        let consumer = shared.bus.consume(Queue::EventAccepted, settings.prefetch).await;
        let (fan_out, stop) = (Arc::clone(&fan_out), stop.clone());
        tasks.spawn(async move { fan_out.serve(consumer, stop).await });
    }
    let consumer = shared.bus.consume(Queue::DeliverySettled, settings.prefetch).await;
    tasks.spawn(health::serve(Arc::clone(&shared), consumer, stop.clone()));
    tasks.spawn({
        let (fan_out, settings, stop) = (Arc::clone(&fan_out), settings.clone(), stop.clone());
        async move { fan_out.go_on_with_large(settings, stop).await }
    });
    tasks.spawn({
        let (fan_out, rounds) = (Arc::clone(&fan_out), rounds.clone());
        relay::run(Arc::clone(&shared), fan_out, rounds, settings.clone(), stop.clone())
    });
    tasks.spawn(recoveries::run(Arc::clone(&shared), rounds.clone(), settings.clone(), stop.clone()));
    tasks.spawn(payloads::run(Arc::clone(&shared), settings.clone(), stop.clone()));
    tasks.spawn(upkeep::run(Arc::clone(&shared), rounds, settings, stop.clone()));
    tasks.close();
    tasks.wait().await;
    drop(ahead);
    Ok(())
}

/// Foresees, until `stop`, for whoever stores events in a process without a registry (docs/decisions/0068). It is asked while what is
/// returned is held.
///
/// # Errors
/// When a metric's name is taken.
pub fn foresee(deps: Deps, stop: CancellationToken) -> anyhow::Result<Arc<dyn Foresight>> {
    let context = Context::new(deps)?;
    let bus = context.bus.clone();
    Ok(ahead(&bus, Arc::new(FanOut::new(context)), stop))
}

fn ahead(bus: &Bus, fan_out: Arc<FanOut>, stop: CancellationToken) -> Arc<dyn Foresight> {
    let ahead: Arc<dyn Foresight> = Arc::new(Ahead::new(fan_out, stop));
    bus.ask(Arc::downgrade(&ahead));
    ahead
}
