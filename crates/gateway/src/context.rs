//! What every handler can reach: the database, the bus, the clock, and the parts of the gateway that requests share.

use std::sync::Arc;

use hookyard_chassis::{health::Health, metrics::Registry};
use hookyard_domain::{
    catalogue::rules::Rules,
    clock::Clock,
    db::Db,
    person::password::Hasher,
    subscription::UrlRules,
    task::{Ledger, model::Models, respond::RespondLinks, webhook::WebhookUrls},
    vault::Vault,
};
use hookyard_egress::Egress;
use hookyard_messaging::Bus;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::{
    access::{authenticate::Authenticator, browser::Browsers, idempotent, limiter::Limiter, usage::Usage},
    body::BodyBudget,
    inbox::Inboxes,
    ingest::Ingest,
    intake::Intakes,
    metrics::Metrics,
    people::provider::Provider,
    settings::Settings,
    tasks::{Listeners, Work},
};

/// What a gateway is given by the process it lives in.
#[derive(Clone, Debug)]
pub struct Deps {
    /// The database. Its checks in [`Health`] are the process's.
    pub db: Db,
    /// The bus that carries rings to the other services.
    pub bus: Bus,
    /// The time.
    pub clock: Clock,
    /// What `/readyz` tells.
    pub health: Health,
    /// What `/metrics` tells, and where the gateway's own figures go.
    pub registry: Registry,
    /// Which URLs hooks may have.
    pub url_rules: UrlRules,
    /// Seals and opens secrets.
    pub vault: Vault,
    /// Makes and checks hashes of passwords.
    pub passwords: Hasher,
    /// Asks the identity provider.
    pub egress: Egress,
}

/// The argument of handlers as `Data<Context>`.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) db: Db,
    pub(crate) bus: Bus,
    pub(crate) clock: Clock,
    pub(crate) health: Health,
    pub(crate) registry: Registry,
    pub(crate) url_rules: UrlRules,
    pub(crate) vault: Vault,
    /// Hashes of passwords.
    pub(crate) passwords: Hasher,
    /// Knows which addresses are public.
    pub(crate) egress: Egress,
    /// The identity provider, if people may log in with one.
    pub(crate) provider: Option<Provider>,
    pub(crate) settings: Settings,
    /// How people's browsers find us, and their cookies.
    pub(crate) browsers: Browsers,
    /// Live credentials.
    pub(crate) authenticator: Authenticator,
    /// What is taken of which type.
    pub(crate) rules: Rules,
    /// Limits over all gateways.
    pub(crate) limiter: Limiter,
    /// Which credentials were used.
    pub(crate) usage: Usage,
    /// Places for requests with an `Idempotency-Key`, see [`idempotent::AT_ONCE`].
    pub(crate) keyed: Semaphore,
    /// Bytes of bodies in memory.
    pub(crate) bodies: BodyBudget,
    /// Places for bodies that are parsed beside the worker, see `ingest::parse`.
    pub(crate) parsers: Semaphore,
    /// The way of events to the database.
    pub(crate) ingest: Ingest,
    /// The way of tasks and action runs to the database.
    pub(crate) intakes: Intakes,
    /// Those who listen to runs.
    pub(crate) listeners: Listeners,
    /// Workers that wait for work.
    pub(crate) work: Work,
    /// Those who wait at inboxes.
    pub(crate) inboxes: Arc<Inboxes>,
    /// The writer of runs.
    pub(crate) ledger: Ledger,
    /// Which models there are.
    pub(crate) models: Models,
    /// Which webhooks tasks may have.
    pub(crate) webhook_urls: WebhookUrls,
    /// Figures.
    pub(crate) metrics: Metrics,
    /// Tasks that go on behind an answer, such as a ring; the gateway ends after them.
    pub(crate) afterwards: TaskTracker,
}

impl Context {
    /// The OAuth issuer: where clients find us, without a trailing slash.
    pub(crate) fn issuer(&self) -> String {
        self.link("")
    }

    /// A link to a path of ours, as people are given it.
    pub(crate) fn link(&self, path: &str) -> String {
        self.settings.http.link(path)
    }

    pub(crate) fn new(
        deps: Deps,
        settings: Settings,
        limiter: Limiter,
        (ingest, intakes): (Ingest, Intakes),
        metrics: Metrics,
        provider: Option<Provider>,
        models: Models,
    ) -> Self {
        let Deps { db, bus, clock, health, registry, url_rules, vault, passwords, egress } = deps;
        let mail = settings.mail.is_on().then(|| vault.clone());
        let links = RespondLinks::new(&vault, &settings.http.link(""));
        let ledger = Ledger { settings: settings.tasks.clone(), links, mail };
        Self {
            browsers: Browsers::new(settings.http.public_url.clone()),
            authenticator: Authenticator::new(db.clone()),
            rules: Rules::default(),
            limiter,
            usage: Usage::default(),
            keyed: Semaphore::new(idempotent::AT_ONCE),
            bodies: BodyBudget::new(settings.http.max_body_bytes_in_flight),
            parsers: Semaphore::new(settings.http.worker_count()),
            ingest,
            intakes,
            listeners: Listeners::new(),
            work: Work::default(),
            inboxes: Arc::default(),
            ledger,
            models,
            webhook_urls: WebhookUrls::new(url_rules.clone()),
            metrics,
            afterwards: TaskTracker::new(),
            db,
            bus,
            clock,
            health,
            registry,
            url_rules,
            vault,
            passwords,
            egress,
            provider,
            settings,
        }
    }
}
