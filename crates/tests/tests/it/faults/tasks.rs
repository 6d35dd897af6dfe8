//! `kill -9` of the runner, again and again, while tasks are in every state: each ends once, with one terminal webhook, last.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::{Duration, Instant},
};

use hookyard_tests::{
    broker::Broker,
    http::Client,
    llm::{FakeLlm, KEY, Say},
    postgres::Postgres,
    processes::{Process, environment, free_port, new_tenant, run},
    receiver::Receiver,
};
use serde_json::{Value, json};

use super::{START, STOP};

const OFFLINE: usize = 60;
const ASKED: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_is_killed_in_every_state_and_every_task_ends_once() {
    let (receiver, llm) = (Receiver::start().await, FakeLlm::start().await);
    let (postgres, broker) = (Postgres::running(), Broker::running());
    let api = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let environment = environment(
        &receiver.prefix(),
        &[
            ("DATABASE_URL", &postgres.url()),
            ("AMQP_URL", &broker.url()),
            ("HOOKYARD__HTTP__LISTEN", &api.to_string()),
            // What a killed runner held is taken over after this; kills shall not spend the attempts.
            ("HOOKYARD__TASKS__HEARTBEAT_S", "2"),
            ("HOOKYARD__TASKS__ATTEMPTS", "10"),
            ("HOOKYARD__LLM__PROVIDERS", &format!("anthropic=anthropic@{}", llm.base_url())),
            ("HOOKYARD__LLM__ALIASES", "claude-sonnet=anthropic:m,offline=offline:text"),
            ("HOOKYARD__LLM__ANTHROPIC_API_KEY", KEY),
        ],
    );
    let migrated = run(&["migrate"], &environment);
    assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
    let mut services =
        ["gateway", "registry", "delivery"].map(|service| Process::start(&[service], &environment));
    let mut runner = Process::start(&["runner"], &environment);
    for process in services.iter_mut().chain([&mut runner]) {
        process.wait_until_ready(START);
    }
    let (_, key) = new_tenant("Acme", &environment);
    let client = Client::new(api).with_key(&key);

    // One asks; the others write for more than a second each.
    llm.script([Say::text(r#"{"needs_input": {"question": "Which year?"}}"#)]);
    llm.answer(Say::text("word ".repeat(40)).slowly(Duration::from_millis(30)));
    let mut made = BTreeSet::new();
    make(&client, &receiver, "claude-sonnet", &mut made).await;
    let asking = waits(&receiver).await;
    for n in 0..OFFLINE.max(ASKED) {
        if n < OFFLINE {
            make(&client, &receiver, "offline", &mut made).await;
        }
        if n < ASKED {
            make(&client, &receiver, "claude-sonnet", &mut made).await;
        }
        if n % 12 == 5 {
            runner.kill_and_restart();
        }
    }
    for _ in 0..3 {
        runner.wait_until_ready(START);
        let before = llm.calls().len();
        let end = Instant::now() + Duration::from_secs(10);
        // In the middle of a reply, if one is under way at all.
        while llm.calls().len() == before && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        runner.kill_and_restart();
    }
    // The question was asked by a runner that is dead, and is answered to another.
    let body = json!({"request_id": asking["request_id"], "answer": "2026"});
    let task = asking["task_id"].as_str().unwrap();
    client.post_json(&format!("/v1/automation/tasks/{task}/input"), &body).await.expect(200);
    runner.kill_and_restart();

    let end = Instant::now() + Duration::from_secs(120);
    while ended(&receiver).len() < made.len() {
        assert!(
            Instant::now() < end,
            "{} of {} tasks ended:\n{}",
            ended(&receiver).len(),
            made.len(),
            runner.last_words()
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let events = events(&receiver);
    assert_eq!(events.keys().cloned().collect::<BTreeSet<_>>(), made);
    for (run, events) in &events {
        assert_eq!(events.first().map(String::as_str), Some("task_started"), "{run}: {events:?}");
        assert_eq!(events.last().map(String::as_str), Some("task_completed"), "{run}: {events:?}");
        let terminal = events.iter().filter(|event| *event != "task_started" && *event != "task_needs_input");
        assert_eq!(terminal.count(), 1, "{run}: {events:?}");
        assert_eq!(events.iter().filter(|event| *event == "task_started").count(), 1, "{run}: {events:?}");
    }
    runner.stop(STOP);
    for process in &mut services {
        process.stop(STOP);
    }
}

async fn make(client: &Client, receiver: &Receiver, model: &str, made: &mut BTreeSet<String>) {
    let task = json!({
        "title": "Summarize", "description": "Summarize: all is well. The harbour is calm today.", "model": model,
        "webhook_url": receiver.url("hook"),
    });
    let answer = client.post_json("/v1/automation/tasks", &task).await.expect(201);
    made.insert(answer["run_id"].as_str().unwrap().to_owned());
}

/// The webhook that asks.
async fn waits(receiver: &Receiver) -> Value {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let asked = receiver
            .at("hook")
            .iter()
            .map(|received| received.json())
            .find(|body| body["event"] == "task_needs_input");
        if let Some(asked) = asked {
            return asked;
        }
        assert!(Instant::now() < end, "nothing was asked");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Of each run its events in the order in which they came.
fn events(receiver: &Receiver) -> BTreeMap<String, Vec<String>> {
    let mut events: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for received in receiver.at("hook") {
        let body = received.json();
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        events.entry(text("run_id")).or_default().push(text("event"));
    }
    events
}

fn ended(receiver: &Receiver) -> BTreeSet<String> {
    events(receiver)
        .into_iter()
        .filter(|(_, events)| {
            events.iter().any(|event| matches!(event.as_str(), "task_completed" | "task_failed"))
        })
        .map(|(run, _)| run)
        .collect()
}
