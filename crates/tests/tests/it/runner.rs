//! Runners: what they claim, how they do it, and that each run ends once whatever happens to whoever has it.

mod leases;
mod mail;
mod mail_tls;
mod models;
mod offline;
mod timers;

use std::time::Duration;

use hookyard_domain::{clock::Clock, db::Db, id::TenantId};
use hookyard_messaging::Bus;
use hookyard_tests::{
    database::Database,
    runner::{Runner, Tasks},
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A database, a bus and a tenant, with runners that a test starts.
struct Yard {
    db: Db,
    bus: Bus,
    clock: Clock,
    tenant: TenantId,
    database: Database,
}

/// A runner that runs.
struct Running {
    stop: CancellationToken,
    running: JoinHandle<anyhow::Result<()>>,
}

impl Running {
    /// As SIGTERM would.
    async fn stop(self) {
        self.stop.cancel();
        let ended = tokio::time::timeout(Duration::from_secs(20), self.running).await;
        ended.expect("it stops in time").expect("no panic").expect("it ends well");
    }
}

impl Yard {
    async fn new() -> Self {
        let database = Database::create().await;
        let (db, bus, clock) = (database.pool(), Bus::in_process(), Clock::movable());
        let tenant = tenant(&db, &clock).await;
        Self { db, bus, clock, tenant, database }
    }

    fn start(&self, runner: &Runner) -> Running {
        let stop = CancellationToken::new();
        let running = runner.start(&self.database, &self.bus, &self.clock, stop.clone());
        Running { stop, running }
    }

    fn tasks(&self, runner: &Runner) -> Tasks {
        self.tasks_of(self.tenant, runner)
    }

    fn tasks_of(&self, tenant: TenantId, runner: &Runner) -> Tasks {
        Tasks::new(&self.db, &self.bus, &self.clock, tenant, runner)
    }
}

async fn tenant(db: &Db, clock: &Clock) -> TenantId {
    let now = clock.now();
    let id = TenantId::new(now);
    db.run(move |conn| hookyard_domain::tenant::store::insert(conn, id, "Test", None, now)).await.unwrap();
    id
}

fn offline(text: &str) -> Value {
    json!({"title": "Analyze sentiment", "description": text, "model": "offline"})
}

fn general(text: &str) -> Value {
    json!({"title": "Think", "description": text})
}
