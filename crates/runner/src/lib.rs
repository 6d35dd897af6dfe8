//! The runner: does what tasks ask and what action runs ask ([`action`]), looks after the time of runs, fires schedules, and sends
//! mail.
//!
//! A [`claim`] takes runs that wait, as many as there are slots; [`work`] does one of them, with a language model
//! ([`executor`]) or without ([`offline`]); what comes of it goes to the one [`writer`], which groups what is at hand. The
//! [`pulse`] keeps the leases of what takes longer and sees when a run is not wanted any more; [`timers`] end what waited for
//! too long, whoever holds it, and fire schedules. Rows decide everything: a runner may be killed at any point.

mod action;
mod claim;
mod context;
pub mod executor;
mod mail;
mod meter;
mod metrics;
pub mod offline;
mod prompt;
mod pulse;
mod settings;
mod timers;
mod work;
mod writer;

use std::sync::Arc;

use hookyard_chassis::metrics::Registry;
use hookyard_domain::{
    catalogue::rules::Rules,
    clock::Clock,
    db::Db,
    email,
    task::{
        self, Ledger, model::Models, respond::RespondLinks, schedule::store::Firing, webhook::WebhookUrls,
    },
    vault::Vault,
};
use hookyard_egress::{Egress, Services};
use hookyard_messaging::{Bus, Queue};
use tokio::sync::{Notify, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use settings::Settings;

use crate::{context::Context, metrics::Metrics, pulse::Pulse};

/// What a runner works with.
#[derive(Clone, Debug)]
pub struct Deps {
    /// Postgres, with commits that wait for the disk: a run that has ended has ended.
    pub db: Db,
    /// Postgres, with commits that do not: claims and heartbeats, which a crash may take back.
    pub engine_db: Db,
    /// The bus.
    pub bus: Bus,
    /// The time.
    pub clock: Clock,
    /// Opens the keys of tenants and the texts of mail.
    pub vault: Vault,
    /// The way to the providers of language models.
    pub services: Services,
    /// The guarded client, for requests of actions.
    pub egress: Egress,
    /// Where metrics are registered.
    pub metrics: Registry,
    /// How runs are queued, held and given up.
    pub tasks: task::Settings,
    /// Which models there are.
    pub models: Models,
    /// Which webhooks are acceptable: of tasks that schedules make.
    pub urls: WebhookUrls,
    /// Where people find us, without a path: for the links by which questions are answered.
    pub origin: String,
    /// The mail server.
    pub mail: email::Settings,
}

/// Runs tasks until `stop`. Then nothing new is begun; what is under way has `grace_ms` to end and is given back after that.
///
/// # Errors
/// When a setting is out of its range, or a metric's name is taken.
pub async fn run(deps: Deps, settings: Settings, stop: CancellationToken) -> anyhow::Result<()> {
    settings.check().map_err(anyhow::Error::msg)?;
    let metrics = Metrics::register(&deps.metrics)?;
    let mail = deps.mail.is_on().then(|| deps.vault.clone());
    let ledger = Ledger::new(deps.tasks.clone(), RespondLinks::new(&deps.vault, &deps.origin), mail);
    let firing = Firing {
        settings: deps.tasks.clone(),
        models: deps.models.clone(),
        urls: deps.urls.clone(),
        vault: deps.vault.clone(),
    };
    let room = Arc::new(Notify::new());
    let (reports, writer) = writer::channel(
        (deps.db.clone(), deps.bus.clone(), deps.clock.clone()),
        ledger,
        Arc::clone(&room),
        settings.write_batch,
    );
    let writing = tokio::spawn(writer.run());
    let context = Arc::new(Context {
        db: deps.db.clone(),
        engine_db: deps.engine_db,
        bus: deps.bus.clone(),
        clock: deps.clock.clone(),
        vault: deps.vault.clone(),
        services: deps.services,
        models: deps.models,
        tasks: deps.tasks,
        metrics: metrics.clone(),
        reports,
        pulse: Pulse::default(),
        slots: Arc::new(Semaphore::new(settings.slots)),
        room: Arc::clone(&room),
        actions: Arc::new(Notify::new()),
        hurry: CancellationToken::new(),
        settings: settings.clone(),
    });
    // What goes on until the last run has ended.
    let last = CancellationToken::new();
    let beating = tokio::spawn(pulse::run(Arc::clone(&context), last.clone()));
    let others = TaskTracker::new();
    others.spawn(timers::run(Arc::clone(&context), firing, stop.clone()));
    if deps.mail.is_on() {
        let post = mail::Post::new(&deps.mail)?;
        others.spawn(mail::run(Arc::clone(&context), post, stop.clone()));
    }
    let consumer = deps.bus.consume(Queue::TaskQueued, 64).await;
    let waiting = [Arc::clone(&context.room), Arc::clone(&context.actions)];
    others.spawn(claim::listen(consumer, waiting, stop.clone()));

    let (ends, ending) = action::channel(
        (deps.db.clone(), deps.bus.clone(), deps.clock.clone()),
        deps.vault.clone(),
        metrics.clone(),
    );
    let ending = tokio::spawn(ending.run());
    let actions = Arc::new(action::Actions {
        context: Arc::clone(&context),
        egress: deps.egress,
        urls: deps.urls,
        mail: deps.mail.is_on(),
        rules: Rules::default(),
        ends,
        slots: Arc::new(Semaphore::new(settings.action_slots)),
        busy: action::Busy::default(),
    });
    let acting = tokio::spawn(action::run(actions, stop.clone()));

    let working = TaskTracker::new();
    claim::run(&context, &working, &stop).await;
    working.close();
    if tokio::time::timeout(settings.grace(), working.wait()).await.is_err() {
        context.hurry.cancel();
        working.wait().await;
    }
    others.close();
    others.wait().await;
    last.cancel();
    beating.await?;
    acting.await?;
    ending.await?;
    // The writer ends when all who speak to it have ended.
    drop(context);
    writing.await?;
    Ok(())
}
