//! Workers: `hookyard worker` is killed while it waits, works, streams and reports; others vanish with what they hold.

use std::time::{Duration, Instant};

use hookyard_tests::{
    http::Client,
    processes::{Environment, Process},
};
use serde_json::{Value, json};

use super::Works;

const BUILDS: usize = 24;

impl Works {
    /// A token of a worker.
    pub(super) async fn token(&self) -> String {
        let made = self.client.post_json("/v1/automation/worker-tokens", &json!({"name": "fleet"})).await;
        made.expect(201)["token"].as_str().unwrap().to_owned()
    }

    /// What a worker is told.
    fn worker_environment(&self, token: &str) -> Environment {
        [("HOOKYARD_URL", format!("http://{}", self.api)), ("HOOKYARD_WORKER_TOKEN", token.to_owned())]
            .map(|(name, value)| (name.to_owned(), value))
            .into()
    }
}

/// One task for a worker, or none.
pub(super) async fn claim(worker: &Client, wait_seconds: u32) -> Option<Value> {
    let body = json!({"worker": {"name": "by hand"}, "wait_seconds": wait_seconds});
    let reply = worker.post_json("/v1/automation/worker/claim", &body).await.expect(200);
    reply["tasks"].as_array().unwrap().first().cloned()
}

/// A report of a task that was claimed.
pub(super) async fn say(worker: &Client, held: &Value, what: &str, body: &Value) -> u16 {
    let path = format!("/v1/automation/worker/runs/{}/{what}", held["run_id"].as_str().unwrap());
    let request =
        worker.request("POST", &path).header("x-lease-token", held["lease_token"].as_str().unwrap());
    request.json(body.to_string()).send().await.status
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_are_killed_in_every_state_and_every_task_ends_once() {
    let mut works = Works::start().await;
    let token = works.token().await;
    let by_hand = Client::new(works.api).with_key(&token);
    let build = json!({"agent_type": "build"});
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("work.sh");
    std::fs::write(&script, "for n in 1 2 3 4; do echo $n; sleep 0.2; done\n").unwrap();
    let exec = format!("sh {}", script.display());
    let start =
        |environment: &Environment| Process::start(&["worker", "--slots", "3", "--exec", &exec], environment);

    // Somebody asks and is never seen again; somebody leaves a checkpoint and vanishes.
    let mut made = vec![works.make(&build).await];
    let held = claim(&by_hand, 10).await.unwrap();
    assert_eq!(say(&by_hand, &held, "needs-input", &json!({"question": "Which?"})).await, 200);
    let asked = works.asks(&made[0].run).await;
    made.push(works.make(&build).await);
    let held = claim(&by_hand, 10).await.unwrap();
    assert_eq!(say(&by_hand, &held, "checkpoint", &json!({"seq": 1, "data": "half"})).await, 200);
    let again = claim(&by_hand, 20).await.expect("it is given to the next after its lease");
    assert_eq!((&again["run_id"], &again["checkpoint"]["data"]), (&held["run_id"], &json!("half")));
    assert_eq!(again["attempt"], 2);
    assert_eq!(
        say(&by_hand, &held, "complete", &json!({"result": "ghost"})).await,
        409,
        "of the one who vanished"
    );
    assert_eq!(say(&by_hand, &again, "complete", &json!({"result": "whole"})).await, 200);

    // Killed while it waits: what is made then is not given to it.
    let environment = works.worker_environment(&token);
    let mut worker = start(&environment);
    wait_for_worker(&works, "idle").await;
    worker.kill();
    let task = works.make(&build).await;
    let held = claim(&by_hand, 10).await.expect("somebody else has it");
    assert_eq!((held["task_id"].as_str(), &held["attempt"]), (Some(task.task.as_str()), &json!(1)));
    assert_eq!(say(&by_hand, &held, "complete", &json!({"result": "x"})).await, 200);
    made.push(task);

    // Killed again and again while it works.
    worker.restart();
    for _ in 0..BUILDS {
        made.push(works.make(&build).await);
    }
    works.answer(&asked, "this one").await;
    for n in 0..5 {
        wait_for_worker(&works, "busy").await;
        tokio::time::sleep(Duration::from_millis(150 * n)).await;
        worker.kill_and_restart();
    }
    works.all_end_once(&made).await;
    for made in &made[3..] {
        assert_eq!(works.shown(&made.task).await["result"], "1\n2\n3\n4", "what was heard twice counts once");
    }
    worker.signal("TERM");
    worker.wait(Duration::from_secs(20));
    works.stop();
}

/// Waits until one of the workers is like that.
async fn wait_for_worker(works: &Works, status: &str) {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let list = works.client.get("/v1/automation/workers").await.expect(200);
        let like = |worker: &&Value| worker["status"] == status && worker["name"] != "by hand";
        if list["workers"].as_array().unwrap().iter().any(|worker| like(&worker)) {
            return;
        }
        // Whatever is left may have been done meanwhile.
        let waits = works.client.get("/v1/automation/tasks?status=queued&limit=1").await.expect(200);
        if status == "busy" && waits["total"] == 0 {
            return;
        }
        assert!(Instant::now() < end, "no worker is {status}: {list}");
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}
