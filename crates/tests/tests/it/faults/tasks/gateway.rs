//! The gateway: killed in each state of a run, with a worker, a listener and an owner who go on afterwards.

use std::time::Duration;

use hookyard_tests::http::{Client, raw};
use serde_json::{Value, json};

use super::{
    START, Works,
    worker::{claim, say},
};

impl Works {
    fn kill_the_gateway(&mut self) {
        self.gateway.kill_and_restart();
        self.gateway.wait_until_ready(START);
    }

    /// Lines of the stream of a task after one that was seen: their ids.
    async fn stream(&self, task: &str, after: &str) -> Vec<String> {
        let request = self.client.request("GET", &format!("/v1/automation/tasks/{task}/events"));
        let text = request.header("last-event-id", after).send().await.text();
        text.lines().filter_map(|line| line.strip_prefix("id: ")).map(str::to_owned).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_is_killed_in_every_state_of_a_run_and_all_go_on() {
    let mut works = Works::start().await;
    let worker = Client::new(works.api).with_key(&works.token().await);

    // While a worker waits: its poll ends, and what is made later is given to whoever asks.
    let waiting = {
        let worker = worker.clone();
        tokio::spawn(async move { claim(&worker, 20).await })
    };
    tokio::time::sleep(Duration::from_millis(700)).await;
    works.kill_the_gateway();
    assert!(waiting.await.is_err(), "its connection has ended");

    let made = works.make(&json!({"agent_type": "build"})).await;
    works.kill_the_gateway();
    assert_eq!(works.shown(&made.task).await["status"], "queued");

    let held = claim(&worker, 5).await.expect("the task");
    assert_eq!(held["attempt"], 1);
    let beating = |held: &Value| {
        let (worker, held) = (worker.clone(), held.clone());
        async move { say(&worker, &held, "heartbeat", &json!({})).await }
    };
    assert_eq!(say(&worker, &held, "output", &json!({"text": "one"})).await, 200);
    // It may take longer than a lease of two seconds until the gateway is there again: the run is then another's.
    works.kill_the_gateway();
    let held = match beating(&held).await {
        200 => held,
        _over => claim(&worker, 20).await.expect("the task, again"),
    };
    assert_eq!(say(&worker, &held, "output", &json!({"text": "two"})).await, 200);
    assert_eq!(say(&worker, &held, "needs-input", &json!({"question": "Which?"})).await, 200);
    let asked = works.asks(&made.run).await;

    works.kill_the_gateway();
    assert_eq!(works.shown(&made.task).await["status"], "needs_input");
    works.answer(&asked, "this one").await;

    works.kill_the_gateway();
    assert_eq!(works.shown(&made.task).await["status"], "queued");
    let held = claim(&worker, 5).await.expect("the task");
    assert_eq!(held["inputs"], json!([{"question": "Which?", "answer": "this one"}]));

    // While the last report is under way: it is written or not, and said again.
    let path = format!("/v1/automation/worker/runs/{}/complete", made.run);
    let lease = held["lease_token"].as_str().unwrap();
    let last = worker.request("POST", &path).header("x-lease-token", lease).json(r#"{"result":"done"}"#);
    let under_way = {
        let (api, bytes) = (works.api, last.bytes());
        tokio::spawn(async move { raw(api, bytes).await })
    };
    tokio::time::sleep(Duration::from_millis(2)).await;
    works.kill_the_gateway();
    let heard = under_way.await.ok().flatten().map(|reply| reply.status);
    let again = last.send().await.status;
    let told_before = heard == Some(200);
    assert!(again == 410 || (again == 200 && !told_before), "{heard:?}, then {again}");

    works.kill_the_gateway();
    let shown = works.shown(&made.task).await;
    assert_eq!((&shown["status"], &shown["result"]), (&json!("completed"), &json!("done")));
    // Whoever listened goes on where he was, at each place.
    let all = works.stream(&made.task, "").await;
    // The end has the place of the line before it.
    for at in 0..all.len() - 1 {
        assert_eq!(works.stream(&made.task, &all[at]).await, all[at + 1..], "after {}", all[at]);
    }
    works.all_end_once(&[made]).await;
    works.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_is_posted_again_after_a_kill_is_made_once() {
    let mut works = Works::start().await;
    let mut made = Vec::new();
    for n in 0..12_u64 {
        let body = json!({"title": format!("t{n}"), "description": "All is well.", "model": "offline",
            "webhook_url": works.receiver.url("hook")});
        let request = works.client.request("POST", "/v1/automation/tasks");
        let request = request.header("idempotency-key", format!("k{n}")).json(body.to_string());
        let under_way = {
            let (api, bytes) = (works.api, request.bytes());
            tokio::spawn(async move { raw(api, bytes).await })
        };
        tokio::time::sleep(Duration::from_micros(500 * n)).await;
        works.kill_the_gateway();
        let heard = under_way.await.ok().flatten();
        let answer = request.send().await.expect(201);
        if let Some(heard) = heard.filter(|reply| reply.status == 201) {
            assert_eq!(heard.json(), answer, "the same task");
        }
        let text = |name: &str| answer[name].as_str().unwrap().to_owned();
        made.push(super::Made { task: text("task_id"), run: text("run_id") });
    }
    works.all_end_once(&made).await;
    let listed = works.client.get("/v1/automation/tasks").await.expect(200);
    assert_eq!(listed["total"], 12);
    works.stop();
}
