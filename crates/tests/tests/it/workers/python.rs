//! docs/examples/worker.py, as it stands there.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use hookyard_domain::task::Settings;
use serde_json::json;

use super::{Fleet, token};

/// Ended when dropped.
struct Example(Child);

impl Drop for Example {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _ended = self.0.wait();
    }
}

async fn start(fleet: &Fleet) -> Example {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/examples/worker.py");
    let child = Command::new("python3")
        .args(["-I", path])
        .env("HOOKYARD_URL", format!("http://{}", fleet.system.gateways[0].addr))
        .env("HOOKYARD_WORKER_TOKEN", token(&fleet.admin, &json!({"name": "python"})).await)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn();
    Example(child.expect("Python starts"))
}

#[test]
fn it_is_short_and_needs_nothing() {
    let text = include_str!("../../../../../docs/examples/worker.py");
    assert!(text.lines().count() <= 80, "{}", text.lines().count());
    let imported = text.lines().find_map(|line| line.strip_prefix("import ")).unwrap();
    assert!(text.lines().filter(|line| line.contains("import ")).count() == 1, "in one line: {imported}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_does_tasks_and_leaves_those_that_are_cancelled() {
    let fleet = Fleet::with(Settings { heartbeat_s: 3, ..Settings::default() }, 1).await;
    let task = |text: &str| json!({"title": "Count", "description": text, "agent_type": "explore"});
    let example = start(&fleet).await;
    let first = fleet.task_with(&task("The cat saw the dog, the dog saw the cat. The end?")).await;
    let shown = fleet.wait(&first, "completed").await;
    assert!(shown["result"].as_str().unwrap().starts_with("the 5, "), "{shown}");
    // Some minutes of work, which nobody waits for.
    let long = fleet.task_with(&task(&"word ".repeat(19_000))).await;
    fleet.wait(&long, "running").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    fleet.admin.delete(&format!("/v1/automation/tasks/{long}")).await.expect(200);
    let next = fleet.task_with(&task("one")).await;
    let shown = fleet.wait(&next, "completed").await;
    assert_eq!(shown["result"], "one 1");
    assert_eq!(fleet.shown(&long).await["status"], "cancelled");
    drop(example);
}
