//! What a worker says and hears, from a claim to an end.

use chrono::TimeDelta;
use serde_json::json;

use super::{Fleet, claim, text};

#[tokio::test]
async fn a_task_is_taken_reported_on_and_completed() {
    let fleet = Fleet::quiet().await;
    let body = json!({"title": "Build it", "description": "A page", "agent_type": "build", "model": "claude-sonnet",
        "priority": 7, "metadata": {"shop": "7"}, "task_timeout_seconds": 300, "max_tokens": 100_000});
    let task = fleet.task_with(&body).await;
    let held = fleet.claimed().await;
    let got = &held.task;
    assert_eq!(got["task_id"], task);
    for (name, expected) in [
        ("title", json!("Build it")),
        ("description", json!("A page")),
        ("agent_type", json!("build")),
        ("model", json!("claude-sonnet")),
        ("resolved_model", json!("anthropic:claude-sonnet-4-5")),
        ("priority", json!(7)),
        ("metadata", json!({"shop": "7"})),
        ("max_tokens", json!(100_000)),
        ("attempt", json!(1)),
        ("number", json!(1)),
        ("timeout_seconds", json!(300.0)),
        ("lease_seconds", json!(120.0)),
        ("checkpoint", json!(null)),
        ("inputs", json!([])),
    ] {
        assert_eq!(got[name], expected, "{name} in {got}");
    }
    let shown = fleet.shown(&task).await;
    assert_eq!(shown["status"], "running");
    assert_eq!(fleet.events(&task).await, ["task.started"], "told with the claim");
    assert_eq!(claim(&fleet.worker, "w", 10, 0).await.len(), 0, "nobody else gets it");

    fleet.system.clock.advance(TimeDelta::seconds(60));
    let beaten = held.say("heartbeat", json!({})).await.expect(200);
    assert_eq!((&beaten["lease_seconds"], &beaten["cancel_requested"]), (&json!(120.0), &json!(false)));
    held.say("progress", json!({"percent": 40, "message": "half"})).await.expect(200);
    held.say("output", json!({"text": "a \u{0} b\n"})).await.expect(200);
    held.say("checkpoint", json!({"seq": 1, "data": {"step": 1}})).await.expect(200);
    let usage = json!({"input_tokens": 1_000, "output_tokens": 100});
    held.say("heartbeat", json!({"usage": usage})).await.expect(200);
    let done = held.say("complete", json!({"result": "The page.", "usage": usage})).await.expect(200);
    assert_eq!((&done["status"], &done["task_id"]), (&json!("completed"), &json!(task)));
    let shown = fleet.shown(&task).await;
    assert_eq!((&shown["status"], &shown["result"]), (&json!("completed"), &json!("The page.")));
    // Dollars by the price of the model, once, although it was told twice.
    assert_eq!(shown["usage"]["input_tokens"], 1_000, "{shown}");
    assert_eq!(shown["usage"]["cost_usd"], 0.0045, "{shown}");
    assert_eq!(fleet.events(&task).await, ["task.started", "task.progress", "task.completed"]);
    let stream = fleet.admin.get(&format!("/v1/automation/tasks/{task}/events")).await.text();
    assert!(stream.contains("a \u{fffd} b\\n"), "{stream}");
}

#[tokio::test]
async fn a_question_lets_go_of_the_run_and_the_answer_comes_with_the_next_claim() {
    let fleet = Fleet::quiet().await;
    let task = fleet.task("Ask").await;
    let held = fleet.claimed().await;
    held.say("checkpoint", json!({"seq": 4, "data": "as far as here"})).await.expect(200);
    let question = json!({"question": "Which?", "choices": ["one", "two"], "schema": {"type": "string"}});
    let asked = held.say("needs-input", question).await.expect(200);
    assert_eq!(asked["status"], "needs_input");
    assert_eq!(held.say("heartbeat", json!({})).await.error(), (409, "STALE_LEASE".to_owned()));
    let runs = fleet.admin.get(&format!("/v1/automation/tasks/{task}/runs")).await.expect(200);
    let request = runs.to_string();
    let at = request.find("\"request_id\":\"").unwrap() + 14;
    let answer = json!({"request_id": &request[at..at + 36], "answer": "two"});
    fleet.admin.post_json(&format!("/v1/automation/tasks/{task}/input"), &answer).await.expect(200);
    let again = fleet.claimed().await;
    assert_eq!(again.run(), held.run());
    assert_ne!(again.task["lease_token"], held.task["lease_token"]);
    assert_eq!(again.task["inputs"], json!([{"question": "Which?", "answer": "two"}]));
    assert_eq!(again.task["checkpoint"], json!({"seq": 4, "data": "as far as here"}));
    assert_eq!(again.task["attempt"], 1);
    again.say("complete", json!({"result": {"chosen": 2.0}})).await.expect(200);
    assert_eq!(fleet.shown(&task).await["result"], r#"{"chosen":2}"#);
}

#[tokio::test]
async fn a_failure_that_may_pass_is_tried_again_later_and_then_it_counts() {
    let fleet = Fleet::lively().await;
    let task = fleet.task("Fail").await;
    let held = fleet.claimed().await;
    let failure = json!({"message": "busy", "code": "busy", "retryable": true, "retry_after": 600});
    assert_eq!(held.say("fail", failure.clone()).await.expect(200)["status"], "queued");
    assert_eq!(claim(&fleet.worker, "w", 1, 0).await.len(), 0, "not yet");
    fleet.system.clock.advance(TimeDelta::seconds(601));
    let tasks = claim(&fleet.worker, "w", 1, 20).await;
    assert_eq!(tasks[0]["attempt"], 2, "{tasks:?}");
    let held = super::Held { worker: fleet.worker.clone(), task: tasks[0].clone() };
    assert_eq!(held.say("fail", failure).await.expect(200)["status"], "failed");
    let shown = fleet.shown(&task).await;
    assert_eq!((&shown["error"], &shown["error_code"]), (&json!("busy"), &json!("busy")), "{shown}");
    assert_eq!(fleet.events(&task).await, ["task.started", "task.failed"]);
    // One that does not pass fails at once.
    let task = fleet.task("Fail").await;
    fleet.claimed().await.say("fail", json!({"message": "no"})).await.expect(200);
    assert_eq!(fleet.shown(&task).await["error_code"], "worker_failed");
}

#[tokio::test]
async fn what_is_given_back_was_never_taken() {
    let fleet = Fleet::quiet().await;
    let task = fleet.task("Give back").await;
    for _ in 0..5 {
        let held = fleet.claimed().await;
        assert_eq!(held.task["attempt"], 1);
        assert_eq!(held.say("release", json!({})).await.expect(200)["status"], "queued");
    }
    fleet.claimed().await.say("complete", json!({"result": ""})).await.expect(200);
    assert_eq!(fleet.events(&task).await, ["task.started", "task.completed"]);
}

#[tokio::test]
async fn workers_are_listed_with_what_they_do() {
    let fleet = Fleet::quiet().await;
    let task = fleet.task("Listed").await;
    let held = fleet.claimed().await;
    let body = json!({"worker": {"name": "other", "version": "2", "agent_types": ["plan"], "models": ["m"], "capabilities": ["gpu"]}});
    fleet.worker.post_json("/v1/automation/worker/claim", &body).await.expect(200);
    let list = async || {
        let list = fleet.admin.get("/v1/automation/workers").await.expect(200);
        let mut workers = list["workers"].as_array().unwrap().clone();
        workers.sort_by_key(|worker| text(&worker["name"]));
        workers
    };
    let workers = list().await;
    assert_eq!((&workers[0]["name"], &workers[0]["status"]), (&json!("other"), &json!("idle")));
    assert_eq!(workers[0]["capabilities"], json!(["gpu"]));
    assert_eq!((&workers[1]["name"], &workers[1]["status"]), (&json!("w"), &json!("busy")));
    assert_eq!(workers[1]["tasks"][0]["task_id"], task);
    assert_eq!(workers[1]["tasks"][0]["title"], "Listed");
    // A report is a sign of life.
    fleet.system.clock.advance(TimeDelta::seconds(119));
    assert_eq!(held.say("heartbeat", json!({})).await.status, 200);
    fleet.system.clock.advance(TimeDelta::seconds(2));
    let words: Vec<String> = list().await.iter().map(|worker| text(&worker["status"])).collect();
    assert_eq!(words, ["stale", "busy"]);
    let drained =
        fleet.worker.post_json("/v1/automation/worker/drain", &json!({"name": "w"})).await.expect(200);
    assert_eq!(drained, json!({"draining": ["w"]}));
    assert_eq!(list().await[1]["status"], "draining");
    let all = fleet.worker.post_json("/v1/automation/worker/drain", &json!({})).await.expect(200);
    assert_eq!(all, json!({"draining": ["other", "w"]}));
    // What it holds it may finish, and its next claim is welcome.
    held.say("complete", json!({"result": "x"})).await.expect(200);
    fleet.task("Next").await;
    assert_eq!(claim(&fleet.worker, "w", 1, 0).await.len(), 1);
    assert_eq!(list().await[1]["status"], "busy");
    // Another tenant sees none of them.
    let theirs = fleet.system.tenant("Other").await;
    let key = fleet.system.key_of(
        theirs,
        &[hookyard_domain::credential::Scope::Admin],
        hookyard_tests::system::unlimited(),
    );
    let other = fleet.system.anonymous().with_key(&key.await.1);
    assert_eq!(other.get("/v1/automation/workers").await.expect(200), json!({"workers": []}));
}

#[tokio::test]
async fn workers_that_are_not_heard_of_are_forgotten_unless_they_hold_a_run() {
    let fleet = Fleet::quiet().await;
    fleet.task("Held").await;
    let held = fleet.claimed().await;
    assert!(claim(&fleet.worker, "idle", 1, 0).await.is_empty());
    let forget = async |before| {
        fleet.system.db.once(move |conn| hookyard_domain::task::worker::forget(conn, before)).await.unwrap()
    };
    let earlier = fleet.system.clock.now() - TimeDelta::seconds(60);
    assert_eq!(forget(earlier).await, 0, "heard of since");
    let later = fleet.system.clock.now() + TimeDelta::seconds(1);
    assert_eq!((forget(later).await, forget(later).await), (1, 0), "the one that holds nothing");
    held.say("complete", json!({"result": "x"})).await.expect(200);
    assert_eq!(forget(later).await, 1);
    assert_eq!(fleet.admin.get("/v1/automation/workers").await.expect(200)["workers"], json!([]));
}
