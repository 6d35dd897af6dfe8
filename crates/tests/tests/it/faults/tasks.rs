//! `kill -9` of whoever has to do with tasks, in every state of a run, with real processes: each task ends once, with one
//! terminal webhook, and that is the last.

mod gateway;
mod runner;
mod worker;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::{Duration, Instant},
};

use hookyard_tests::{
    broker::Broker,
    http::Client,
    llm::{FakeLlm, KEY},
    postgres::Postgres,
    processes::{Environment, Process, environment, free_port, new_tenant, run},
    receiver::Receiver,
};
use serde_json::{Value, json};

use super::{START, STOP};

/// Everything that does tasks, as processes. Servers last, so that they go when nobody uses them any more.
struct Works {
    gateway: Process,
    runner: Process,
    others: [Process; 2],
    api: SocketAddr,
    /// Of the tenant's owner.
    client: Client,
    environment: Environment,
    receiver: Receiver,
    llm: FakeLlm,
    _broker: Broker,
    _postgres: Postgres,
}

impl Works {
    async fn start() -> Self {
        let (receiver, llm) = (Receiver::start().await, FakeLlm::start().await);
        let (postgres, broker) = (Postgres::running(), Broker::running());
        let api = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let environment = environment(
            &receiver.prefix(),
            &[
                ("DATABASE_URL", &postgres.url()),
                ("AMQP_URL", &broker.url()),
                ("HOOKYARD__HTTP__LISTEN", &api.to_string()),
                // What whoever was killed held is taken over after this; kills shall not spend the attempts.
                ("HOOKYARD__TASKS__HEARTBEAT_S", "2"),
                ("HOOKYARD__TASKS__ATTEMPTS", "10"),
                ("HOOKYARD__LLM__PROVIDERS", &format!("anthropic=anthropic@{}", llm.base_url())),
                ("HOOKYARD__LLM__ALIASES", "claude-sonnet=anthropic:m,offline=offline:text"),
                ("HOOKYARD__LLM__ANTHROPIC_API_KEY", KEY),
            ],
        );
        let migrated = run(&["migrate"], &environment);
        assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
        let [gateway, registry, delivery, runner] = ["gateway", "registry", "delivery", "runner"]
            .map(|service| Process::start(&[service], &environment));
        let (_, key) = new_tenant("Acme", &environment);
        let mut works = Self {
            gateway,
            runner,
            others: [registry, delivery],
            api,
            client: Client::new(api).with_key(&key),
            environment,
            receiver,
            llm,
            _broker: broker,
            _postgres: postgres,
        };
        for process in works.processes() {
            process.wait_until_ready(START);
        }
        works
    }

    fn processes(&mut self) -> impl Iterator<Item = &mut Process> {
        [&mut self.gateway, &mut self.runner].into_iter().chain(&mut self.others)
    }

    /// Makes a task with these members besides its text and its webhook.
    async fn make(&self, more: &Value) -> Made {
        let mut task = json!({
            "title": "Summarize", "description": "Summarize: all is well. The harbour is calm today.",
            "webhook_url": self.receiver.url("hook"),
        });
        let members = more.as_object().expect("members");
        task.as_object_mut().expect("an object").extend(members.clone());
        let answer = self.client.post_json("/v1/automation/tasks", &task).await.expect(201);
        let text = |name: &str| answer[name].as_str().unwrap().to_owned();
        Made { task: text("task_id"), run: text("run_id") }
    }

    async fn shown(&self, task: &str) -> Value {
        self.client.get(&format!("/v1/automation/tasks/{task}")).await.expect(200)
    }

    /// Waits until a task is in a state.
    async fn wait(&self, task: &str, status: &str) -> Value {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let shown = self.shown(task).await;
            if shown["status"] == status {
                return shown;
            }
            assert!(Instant::now() < end, "not {status}: {shown}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The webhook by which a run asks.
    async fn asks(&self, run: &str) -> Value {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let bodies = self.receiver.at("hook").into_iter().map(|received| received.json());
            let mut asked =
                bodies.filter(|body| body["event"] == "task_needs_input" && body["run_id"] == run);
            if let Some(asked) = asked.next() {
                return asked;
            }
            assert!(Instant::now() < end, "nothing was asked");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn answer(&self, asked: &Value, answer: &str) {
        let body = json!({"request_id": asked["request_id"], "answer": answer});
        let task = asked["task_id"].as_str().unwrap();
        self.client.post_json(&format!("/v1/automation/tasks/{task}/input"), &body).await.expect(200);
    }

    /// Of each run its events in the order in which they came.
    fn events(&self) -> BTreeMap<String, Vec<String>> {
        let mut events: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for received in self.receiver.at("hook") {
            let body = received.json();
            let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
            events.entry(text("run_id")).or_default().push(text("event"));
        }
        events
    }

    fn ended(&self) -> usize {
        let terminal = |event: &String| ["task_completed", "task_failed"].contains(&event.as_str());
        self.events().values().filter(|events| events.iter().any(terminal)).count()
    }

    /// Waits until all of these have ended, and a little longer: each was begun once and completed once, and nothing came after
    /// that.
    async fn all_end_once(&self, made: &[Made]) {
        let end = Instant::now() + Duration::from_secs(120);
        while self.ended() < made.len() {
            assert!(
                Instant::now() < end,
                "{} of {} tasks ended:\n{}",
                self.ended(),
                made.len(),
                self.runner.last_words()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        // As long as a lease, so that whoever would do one again has done so.
        tokio::time::sleep(Duration::from_secs(3)).await;
        let events = self.events();
        let runs: BTreeSet<&String> = made.iter().map(|made| &made.run).collect();
        assert_eq!(events.keys().collect::<BTreeSet<_>>(), runs);
        for (run, events) in &events {
            assert_eq!(events.first().map(String::as_str), Some("task_started"), "{run}: {events:?}");
            assert_eq!(events.last().map(String::as_str), Some("task_completed"), "{run}: {events:?}");
            let asked = events.iter().filter(|event| *event == "task_needs_input").count();
            assert_eq!(events.len() - asked, 2, "{run}: {events:?}");
        }
    }

    fn stop(&mut self) {
        for process in self.processes() {
            process.stop(STOP);
        }
    }
}

/// A task that was made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Made {
    task: String,
    run: String,
}
