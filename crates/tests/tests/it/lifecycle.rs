//! How processes of the real binary are configured, start, tell how they are, and stop.

mod configuration;
mod demo;
mod health;
mod keys;
mod migrations;
mod secrets;
mod stopping;
mod up;

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use hookyard_tests::{
    broker::Broker,
    http::Client,
    postgres::Postgres,
    processes::{Environment, Process, environment, free_port, new_tenant, run},
    receiver::Receiver,
};
use serde_json::{Value, json};

/// Longer than anything here may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The three services on servers of their own, which log JSON.
struct Stage {
    gateway: Process,
    registry: Process,
    delivery: Process,
    api: SocketAddr,
    environment: Environment,
    receiver: Receiver,
    broker: Broker,
    postgres: Postgres,
}

impl Stage {
    /// Starts the services; nobody has migrated yet.
    async fn raw() -> Self {
        let (postgres, broker, receiver) = (Postgres::running(), Broker::running(), Receiver::start().await);
        let api = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let environment = environment(
            &receiver.prefix(),
            &[
                ("DATABASE_URL", &postgres.url()),
                ("AMQP_URL", &broker.url()),
                ("HOOKYARD__HTTP__LISTEN", &api.to_string()),
                ("HOOKYARD__LOG__FORMAT", "json"),
                ("HOOKYARD__LOG__LEVEL", "debug"),
            ],
        );
        let [gateway, registry, delivery] =
            ["gateway", "registry", "delivery"].map(|service| Process::start(&[service], &environment));
        Self { gateway, registry, delivery, api, environment, receiver, broker, postgres }
    }

    /// Services that are ready.
    async fn ready() -> Self {
        let mut stage = Self::raw().await;
        let migrated = run(&["migrate"], &stage.environment);
        assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
        stage.wait_until_ready();
        stage
    }

    fn all(&mut self) -> [&mut Process; 3] {
        [&mut self.gateway, &mut self.registry, &mut self.delivery]
    }

    fn wait_until_ready(&mut self) {
        for process in self.all() {
            process.wait_until_ready(PATIENCE);
        }
    }

    /// Waits until every process lives and says that it is not ready because of this check.
    fn wait_until_away(&mut self, check: &str) {
        for process in self.all() {
            process.wait_for(&format!("word that the {check} is away"), PATIENCE, |process| {
                process.probe("/readyz").is_some_and(|(status, told)| {
                    let told: Value = serde_json::from_str(&told).unwrap();
                    let failed = |one: &Value| {
                        one["name"] == *check && one["ok"] == false && one["reason"].is_string()
                    };
                    status == 503
                        && told["status"] == "not_ready"
                        && told["checks"].as_array().unwrap().iter().any(failed)
                })
            });
            assert!(process.is_live(), "{}", process.last_words());
        }
    }

    /// A client of a new tenant with a hook at `/hook`.
    async fn client(&self) -> Client {
        let (_tenant, key) = new_tenant("Acme", &self.environment);
        let client = Client::new(self.api).with_key(&key);
        client.post_json("/zapier/hook", &json!({ "url": self.receiver.url("hook") })).await.expect(200);
        client
    }
}

/// Posts an event, which has to be accepted.
async fn post(client: &Client, number: usize) {
    let event = json!({ "event_type": "order.created", "payload": { "number": number } });
    client.post_json("/events", &event).await.expect(202);
}

/// Waits until something holds.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < PATIENCE, "no {what} within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    began.elapsed()
}
