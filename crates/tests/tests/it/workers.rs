//! External workers: the protocol at a real gateway, hostile reports, the reference worker and the example in Python.

mod claims;
mod command;
mod hostile;
mod protocol;
mod python;
mod tokens;

use std::time::{Duration, Instant};

use hookyard_domain::{credential::Scope, task::Settings};
use hookyard_tests::{
    engine::Engine,
    http::{Client, Reply},
    system::{Options, System},
};
use serde_json::{Value, json};

/// A gateway with somebody who asks and a worker.
struct Fleet {
    system: System,
    admin: Client,
    worker: Client,
}

impl Fleet {
    /// Without a runner: nothing happens by itself.
    async fn quiet() -> Self {
        Self::with(Settings::default(), 0).await
    }

    /// With a runner, whose timers go off.
    async fn lively() -> Self {
        Self::with(Settings::default(), 1).await
    }

    async fn with(tasks: Settings, runners: usize) -> Self {
        let engine =
            Engine { registries: 0, deliverers: 0, runners, tasks: tasks.clone(), ..Engine::default() };
        let mut options = Options { engine: Some(engine), ..Options::default() };
        options.gateway.tasks = tasks;
        let system = System::with(options).await;
        let admin = system.client().await;
        let token = token(&admin, &json!({"name": "fleet"})).await;
        let worker = system.anonymous().with_key(&token);
        Self { system, admin, worker }
    }

    /// A task for workers only; returns its id.
    async fn task(&self, title: &str) -> String {
        self.task_with(&json!({"title": title, "description": "What to do", "agent_type": "build"})).await
    }

    async fn task_with(&self, body: &Value) -> String {
        text(&self.admin.post_json("/v1/automation/tasks", body).await.expect(201)["task_id"])
    }

    async fn shown(&self, task: &str) -> Value {
        self.admin.get(&format!("/v1/automation/tasks/{task}")).await.expect(200)
    }

    /// Waits until a task is in a state.
    async fn wait(&self, task: &str, status: &str) -> Value {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let shown = self.shown(task).await;
            if shown["status"] == status {
                return shown;
            }
            assert!(Instant::now() < end, "not {status}: {shown}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What was told of a task, in order.
    async fn events(&self, task: &str) -> Vec<String> {
        let page = self.admin.get("/v1/events?limit=100").await.expect(200);
        let mut events: Vec<&Value> = page["data"].as_array().unwrap().iter().collect();
        events.reverse();
        let of_task = events.into_iter().filter(|event| event["payload"]["task_id"] == *task);
        of_task.map(|event| text(&event["event_type"])).collect()
    }

    /// The one task that is there, claimed.
    async fn claimed(&self) -> Held {
        let tasks = claim(&self.worker, "w", 1, 0).await;
        assert_eq!(tasks.len(), 1, "{tasks:?}");
        Held { worker: self.worker.clone(), task: tasks[0].clone() }
    }
}

/// A task that a worker holds.
#[derive(Clone, Debug)]
struct Held {
    worker: Client,
    task: Value,
}

impl Held {
    fn run(&self) -> &str {
        self.task["run_id"].as_str().unwrap()
    }

    fn id(&self) -> &str {
        self.task["task_id"].as_str().unwrap()
    }

    /// A report with the lease token.
    async fn say(&self, what: &str, body: Value) -> Reply {
        self.say_as(self.task["lease_token"].as_str().unwrap(), what, body).await
    }

    async fn say_as(&self, lease: &str, what: &str, body: Value) -> Reply {
        let path = format!("/v1/automation/worker/runs/{}/{what}", self.run());
        let request = self.worker.request("POST", &path).header("x-lease-token", lease);
        request.json(body.to_string()).send().await
    }
}

/// A worker token.
async fn token(admin: &Client, body: &Value) -> String {
    text(&admin.post_json("/v1/automation/worker-tokens", body).await.expect(201)["token"])
}

/// What a worker of this name gets.
async fn claim(worker: &Client, name: &str, limit: u32, wait_seconds: u32) -> Vec<Value> {
    let body = json!({"worker": {"name": name}, "limit": limit, "wait_seconds": wait_seconds});
    let reply = worker.post_json("/v1/automation/worker/claim", &body).await.expect(200);
    reply["tasks"].as_array().unwrap().clone()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

/// A key that reads and makes tasks.
async fn owner(system: &System) -> Client {
    system.anonymous().with_key(&system.key(&[Scope::TasksRead, Scope::TasksWrite]).await)
}
