//! Hookyard in this process: gateways on ports of their own, on a database of their own; with an [`Engine`], registries
//! and deliverers beside them.

use std::net::SocketAddr;

use diesel::{QueryableByName, RunQueryDsl as _, sql_types::Text};
use hookyard_chassis::{health::Health, metrics::Registry};
use hookyard_domain::{
    clock::Clock,
    credential::{Kind, Limits, Scope, Scopes, Token, directory::known_everywhere, store::NewCredential},
    db::Db,
    id::{CredentialId, TenantId, UserId},
    person::{
        Locale, Role, membership,
        password::{Cost, Hasher},
        user::{self, NewUser},
    },
    subscription::UrlRules,
};
use hookyard_egress::Egress;
use hookyard_gateway::{Deps, Gateway, Settings};
use hookyard_messaging::Bus;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    browser::Browser,
    database::Database,
    engine::{Engine, RunningEngine},
    http::Client,
    secrets::vault,
};

/// Next to no work.
const TINY: Cost = Cost { memory_kib: 64, passes: 1 };

/// How a system is made.
#[derive(Clone, Debug)]
pub struct Options {
    /// What its gateways are told; they listen on any free port whatever this says.
    pub gateway: Settings,
    /// What its pools are told.
    pub database: hookyard_domain::db::Settings,
    /// How many gateways.
    pub gateways: usize,
    /// URL prefixes that hooks may have besides Zapier's; by default those of receivers in this process.
    pub extra_url_prefixes: Vec<String>,
    /// What hashes passwords; by default with next to no work.
    pub passwords: Hasher,
    /// What its gateways may reach; by default servers on this machine, too.
    pub egress: hookyard_egress::Settings,
    /// The bus; by default the one inside this process.
    pub bus: Option<Bus>,
    /// What fans out and delivers; by default nothing does, and what is accepted stays where it is.
    pub engine: Option<Engine>,
}

impl Options {
    /// The whole product on this bus, for hooks under these prefixes.
    pub fn whole(bus: Bus, extra_url_prefixes: Vec<String>) -> Self {
        Self { bus: Some(bus), extra_url_prefixes, engine: Some(Engine::default()), ..Self::default() }
    }
}

impl Default for Options {
    fn default() -> Self {
        let mut gateway = Settings::default();
        gateway.http.workers = 1;
        Self {
            gateway,
            database: hookyard_domain::db::Settings::default(),
            gateways: 1,
            passwords: Hasher::new(TINY).expect("a cost that Argon2 takes"),
            extra_url_prefixes: vec!["http://127.0.0.1".to_owned()],
            egress: hookyard_egress::Settings {
                allow: vec!["127.0.0.0/8".parse().expect("a range")],
                ..hookyard_egress::Settings::default()
            },
            bus: None,
            engine: None,
        }
    }
}

/// A running system with one tenant.
#[derive(Debug)]
pub struct System {
    /// A pool on its database.
    pub db: Db,
    /// Its time: can be moved forward.
    pub clock: Clock,
    /// Its bus.
    pub bus: Bus,
    /// The tenant that is there from the start.
    pub tenant: TenantId,
    /// Its gateways.
    pub gateways: Vec<RunningGateway>,
    /// Its registries and deliverers, if it has any.
    pub engine: RunningEngine,
    /// Its database; last, so that it goes when nobody uses it any more.
    pub database: Database,
}

/// A gateway that serves.
#[derive(Debug)]
pub struct RunningGateway {
    /// Where it listens.
    pub addr: SocketAddr,
    /// What it counts.
    pub registry: Registry,
    shutdown: CancellationToken,
    running: Option<JoinHandle<anyhow::Result<()>>>,
}

impl System {
    /// One gateway with the product's settings.
    ///
    /// # Panics
    /// When it cannot be started; so do the others.
    pub async fn start() -> Self {
        Self::with(Options::default()).await
    }

    /// A system as it is wanted.
    ///
    /// # Panics
    /// When it cannot be started.
    pub async fn with(options: Options) -> Self {
        let database = Database::create().await;
        let db = database.pool();
        let clock = Clock::movable();
        let bus = options.bus.clone().unwrap_or_else(Bus::in_process);
        let tenant = new_tenant(&db, &clock, "Test").await;
        let gateways = (0..options.gateways)
            .map(|_| RunningGateway::start(&options, database.pool_with(&options.database), &bus, &clock))
            .collect();
        let engine = RunningEngine::start(options.engine.as_ref(), &database, &bus, &clock);
        Self { db, clock, bus, tenant, gateways, engine, database }
    }

    /// Another tenant.
    ///
    /// # Panics
    /// When the database refuses.
    pub async fn tenant(&self, name: &str) -> TenantId {
        new_tenant(&self.db, &self.clock, name).await
    }

    /// A key of a tenant, with these scopes and limits.
    ///
    /// # Panics
    /// When the database refuses.
    pub async fn key_of(&self, tenant: TenantId, scopes: &[Scope], limits: Limits) -> (CredentialId, String) {
        let token = Token::api_key(rand::random());
        let scopes = scopes.iter().copied().collect::<Scopes>();
        let new = NewCredential {
            limits,
            ..NewCredential::new(Kind::ApiKey, &token, tenant, "test", scopes, self.clock.now())
        };
        let id = new.id;
        self.db
            .run(move |conn| hookyard_domain::credential::store::insert(conn, &new))
            .await
            .expect("a key can be stored");
        (id, token.expose().to_owned())
    }

    /// A key of the first tenant without limits.
    ///
    /// # Panics
    /// When the database refuses.
    pub async fn key(&self, scopes: &[Scope]) -> String {
        self.key_of(self.tenant, scopes, unlimited()).await.1
    }

    /// Revokes a key and waits as the product does until no gateway takes it any more.
    ///
    /// # Panics
    /// When the database refuses.
    pub async fn revoke(&self, tenant: TenantId, id: CredentialId) {
        let now = self.clock.now();
        self.db
            .run(move |conn| hookyard_domain::credential::store::revoke(conn, tenant, id, true, now))
            .await
            .expect("a key can be revoked");
        known_everywhere().await;
    }

    /// Speaks to the first gateway, with a key that may do everything without limits.
    ///
    /// # Panics
    /// When the database refuses.
    pub async fn client(&self) -> Client {
        self.anonymous().with_key(&self.key(&[Scope::Admin]).await)
    }

    /// Speaks to the first gateway without a key.
    ///
    /// # Panics
    /// When there is no gateway.
    pub fn anonymous(&self) -> Client {
        Client::new(self.gateways.first().expect("a gateway").addr)
    }

    /// Ends every service as SIGTERM would, and returns when they have.
    ///
    /// # Panics
    /// When one of them fails.
    pub async fn stop(&mut self) {
        for gateway in &mut self.gateways {
            gateway.stop().await;
        }
        self.engine.stop().await;
    }
}

impl RunningGateway {
    /// Starts a gateway on any free port.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(options: &Options, db: Db, bus: &Bus, clock: &Clock) -> Self {
        let shutdown = CancellationToken::new();
        let health = Health::new(shutdown.clone());
        let (checked, connected) = (db.clone(), bus.clone());
        health.add("database", move || {
            let db = checked.clone();
            async move { db.ping().await.map_err(|error| error.to_string()) }
        });
        health.add("broker", move || {
            let connected = connected.connected();
            async move { connected.then_some(()).ok_or_else(|| "not connected".to_owned()) }
        });
        let registry = Registry::new("test").expect("a registry");
        let url_rules = UrlRules::new(&options.extra_url_prefixes).expect("prefixes that are urls");
        let deps = Deps {
            db,
            bus: bus.clone(),
            clock: clock.clone(),
            health,
            registry: registry.clone(),
            url_rules,
            vault: vault(),
            passwords: options.passwords.clone(),
            egress: Egress::new(&options.egress).expect("a guarded client"),
        };
        let mut settings = options.gateway.clone();
        settings.http.listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let gateway = Gateway::bind(deps, settings).expect("a gateway");
        let addr = gateway.addr();
        let running = Some(tokio::spawn(gateway.run(shutdown.clone())));
        Self { addr, registry, shutdown, running }
    }

    /// Ends it and returns when it has.
    ///
    /// # Panics
    /// When it fails.
    pub async fn stop(&mut self) {
        self.begin_stop();
        if let Some(running) = self.running.take() {
            running.await.expect("no panic").expect("a gateway ends well");
        }
    }

    /// Tells it to end.
    pub fn begin_stop(&self) {
        self.shutdown.cancel();
    }
}

/// A test that ends has nothing more to ask.
impl Drop for RunningGateway {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// Limits of a credential that has none.
pub fn unlimited() -> Limits {
    Limits { requests: Some(0), hook_writes: Some(0), hook_write_burst: None, samples: Some(0) }
}

async fn new_tenant(db: &Db, clock: &Clock, name: &str) -> TenantId {
    let now = clock.now();
    let (id, name) = (TenantId::new(now), name.to_owned());
    db.run(move |conn| hookyard_domain::tenant::store::insert(conn, id, &name, None, now))
        .await
        .expect("a tenant can be stored");
    id
}

/// The password of people of tests.
pub const PASSWORD: &str = "correct horse battery";

impl System {
    /// A person of the first tenant with [`PASSWORD`].
    ///
    /// # Panics
    /// When the database refuses.
    pub async fn person(&self, email: &str, role: Role) -> UserId {
        self.person_of(self.tenant, email, role).await
    }

    /// A person of a tenant with [`PASSWORD`].
    ///
    /// # Panics
    /// When the database refuses.
    pub async fn person_of(&self, tenant: TenantId, email: &str, role: Role) -> UserId {
        let now = self.clock.now();
        let hasher = Hasher::new(TINY).expect("a cost that Argon2 takes");
        let hash = hasher.hash(PASSWORD.to_owned()).await.expect("a hash");
        let new = NewUser {
            id: UserId::new(now),
            email: email.to_owned(),
            name: "Ada".to_owned(),
            locale: Locale::En,
            password_hash: Some(hash),
        };
        let id = new.id;
        self.db
            .run(move |conn| {
                user::insert(conn, &new, now)?;
                membership::insert(conn, tenant, id, role, now)
            })
            .await
            .expect("a person can be stored");
        id
    }

    /// A browser at the first gateway.
    ///
    /// # Panics
    /// When there is no gateway.
    pub fn browser(&self) -> Browser {
        Browser::new(self.gateways.first().expect("a gateway").addr)
    }

    /// A browser in which this person of [`PASSWORD`] is logged in.
    ///
    /// # Panics
    /// When the person is not let in.
    pub async fn logged_in(&self, email: &str) -> Browser {
        let mut browser = self.browser();
        let reply = browser.log_in(email, PASSWORD).await;
        assert!(browser.page.contains("logout-everywhere"), "{} {}", reply.status, browser.page);
        browser
    }

    /// The actions in a chain of the audit log, the oldest first; `None` is the installation's.
    ///
    /// # Panics
    /// When the database is away.
    pub async fn audited(&self, tenant: Option<TenantId>) -> Vec<String> {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = Text)]
            action: String,
        }
        let chain = tenant.map_or(uuid::Uuid::nil(), TenantId::uuid);
        let rows = self.db.once(move |conn| {
            let query = diesel::sql_query("SELECT action FROM audit_log WHERE tenant_id = $1 ORDER BY seq");
            Ok(query.bind::<diesel::sql_types::Uuid, _>(chain).load::<Row>(conn)?)
        });
        rows.await.expect("an audit log").into_iter().map(|row| row.action).collect()
    }
}
