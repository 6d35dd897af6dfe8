//! Action runs, end to end: asked for over HTTP, done by a runner, told by a signed callback (contract §6).

mod asking;
mod bounds;
mod callbacks;
mod claims;
mod codes;
mod connections;
mod durable;
mod kept;
mod sent_again;
mod working;

use std::time::{Duration, Instant};

use hookyard_messaging::Bus;
use hookyard_tests::{
    engine::Engine,
    http::Client,
    receiver::Receiver,
    system::{Options, System},
};
use serde_json::{Value, json};

/// Where nobody listens.
const NOBODY: &str = "http://127.0.0.1:1/";

/// The whole product in this process, with a receiver.
struct Stage {
    system: System,
    client: Client,
    receiver: Receiver,
}

impl Stage {
    async fn new() -> Self {
        Self::with(Engine { runners: 1, ..Engine::default() }).await
    }

    async fn with(engine: Engine) -> Self {
        Self::of(Options::default(), engine).await
    }

    /// The whole product with gateways as these options say.
    async fn of(options: Options, engine: Engine) -> Self {
        let receiver = Receiver::start().await;
        let (bus, prefixes) = (Bus::in_process(), vec![receiver.prefix(), NOBODY.to_owned()]);
        let options =
            Options { bus: Some(bus), extra_url_prefixes: prefixes, engine: Some(engine), ..options };
        let system = System::with(options).await;
        let client = system.client().await;
        Self { system, client, receiver }
    }

    /// Asks for a run and returns its id.
    async fn run(&self, body: &Value) -> String {
        let made = self.client.post_json("/v2/action-runs", body).await.expect(200);
        assert_eq!(made["data"]["type"], "run");
        made["data"]["id"].as_str().unwrap().to_owned()
    }

    async fn shown(&self, id: &str) -> Value {
        self.client.get(&format!("/v2/action-runs/{id}")).await.expect(200)["data"].clone()
    }

    /// Waits until something is so of a run.
    async fn wait(&self, id: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let run = self.shown(id).await;
            if holds(&run) {
                return run;
            }
            assert!(Instant::now() < end, "{run}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn ended(&self, id: &str) -> Value {
        self.wait(id, |run| run["status"] == "success" || run["status"] == "error").await
    }
}

/// An event that a run emits.
fn emit() -> Value {
    json!({"event_type": "order.created", "payload": {"id": 7, "name": "café ☕"}})
}
