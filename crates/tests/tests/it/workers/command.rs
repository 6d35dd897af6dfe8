//! `hookyard worker`, the reference worker, as a process.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use chrono::TimeDelta;
use hookyard_domain::task::Settings;
use hookyard_tests::processes::{Environment, Process};
use serde_json::json;
use tempfile::TempDir;

use super::{Fleet, text, token};

const PATIENCE: Duration = Duration::from_secs(20);

/// A fleet whose workers have hearts that beat every second.
async fn fleet() -> Fleet {
    Fleet::with(Settings { heartbeat_s: 3, ..Settings::default() }, 1).await
}

/// A worker that runs this for each task. There may be words before.
async fn start(fleet: &Fleet, exec: &str, more: &[&str]) -> Process {
    let token = token(&fleet.admin, &json!({"name": "process"})).await;
    let url = format!("http://{}", fleet.system.gateways[0].addr);
    let environment: Environment =
        [("HOOKYARD_URL", url.as_str()), ("HOOKYARD_WORKER_TOKEN", token.as_str())]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
    Process::start(&[&["worker", "--exec", exec][..], more].concat(), &environment)
}

/// A script in a directory of its own.
fn script(text: &str) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("script.sh");
    std::fs::write(&path, text).unwrap();
    (dir, path)
}

fn exec(script: &Path) -> String {
    format!("sh {} {{title}}", script.display())
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "not {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The number that a command has written into a file.
fn number(path: &Path) -> i32 {
    until("a number", || std::fs::read_to_string(path).is_ok_and(|text| text.ends_with('\n')));
    std::fs::read_to_string(path).unwrap().trim().parse().unwrap()
}

fn lives(pid: i32) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // Whoever has ended and was not asked for yet is a zombie.
    !state.is_empty() && !state.rsplit(") ").next().unwrap_or_default().starts_with('Z')
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_gets_the_task_and_its_output_is_the_result() {
    let fleet = fleet().await;
    let (dir, path) = script(
        "cat > $(dirname $0)/stdin.json\necho \"first line of $1\"\necho 'a complaint' >&2\nsleep 0.5\n\
         printf 'last line\\n\\n'\nenv > $(dirname $0)/environment\n",
    );
    let worker = start(
        &fleet,
        &exec(&path),
        &["--agent-type", "build,explore", "--slots", "2", "--name", "reference"],
    )
    .await;
    let title = "x; touch /tmp/{task_id} $(id) 'é'";
    let task = fleet.task(title).await;
    let shown = fleet.wait(&task, "completed").await;
    assert_eq!(shown["result"], format!("first line of {title}\nlast line"), "{}", worker.last_words());
    let stdin: serde_json::Value =
        serde_json::from_slice(&std::fs::read(dir.path().join("stdin.json")).unwrap()).unwrap();
    assert_eq!((&stdin["task_id"], &stdin["description"]), (&json!(task), &json!("What to do")));
    assert!(stdin.get("lease_token").is_none(), "the command needs none");
    let environment = std::fs::read_to_string(dir.path().join("environment")).unwrap();
    assert!(!environment.contains("wk_"), "nor the worker's token: {environment}");
    assert!(worker.log().contains("a complaint") && !worker.log().contains("wk_"), "{}", worker.log());
    let stream = fleet.admin.get(&format!("/v1/automation/tasks/{task}/events")).await.text();
    let (first, last) = (stream.find("first line of").unwrap(), stream.find("last line").unwrap());
    assert!(stream[first..last].contains("event: output"), "as it came, in pieces: {stream}");
    let workers = fleet.admin.get("/v1/automation/workers").await.expect(200);
    assert_eq!(
        (&workers["workers"][0]["name"], &workers["workers"][0]["status"]),
        (&json!("reference"), &json!("idle"))
    );
    assert_eq!(workers["workers"][0]["agent_types"], json!(["build", "explore"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn how_a_command_ends_is_how_the_task_ends() {
    let fleet = fleet().await;
    let (_dir, path) = script(
        "case $1 in\nthree) echo working; echo 'out of paper' >&2; exit 3;;\n\
         again) echo x >> $(dirname $0)/again; exit 75;;\n\
         much) head -c 300000 /dev/zero | tr '\\0' a; echo; echo the end;;\n\
         killed) kill -KILL $$;;\nesac\n",
    );
    let mut worker = start(&fleet, &exec(&path), &["--slots", "4"]).await;
    let (three, again, much, killed) = (
        fleet.task("three").await,
        fleet.task("again").await,
        fleet.task("much").await,
        fleet.task("killed").await,
    );
    let shown = fleet.wait(&three, "failed").await;
    assert_eq!(shown["error_code"], "exit_3", "{}", worker.last_words());
    assert_eq!(shown["error"], "the command ended with exit code 3: out of paper");
    assert_eq!(fleet.wait(&killed, "failed").await["error_code"], "killed");
    let result = text(&fleet.wait(&much, "completed").await["result"]);
    assert!(
        result.starts_with("[the beginning of the output is left out]\na") && result.ends_with("a\nthe end")
    );
    assert!(result.len() <= 256 << 10);
    // EX_TEMPFAIL: another attempt, then it has failed.
    let shown = fleet.wait(&again, "failed").await;
    assert_eq!(shown["error_code"], "exit_75");
    assert_eq!(std::fs::read_to_string(path.with_file_name("again")).unwrap(), "x\nx\n");
    // One that were killed would leave a claim at the gateway that takes the next task for nobody.
    worker.stop(PATIENCE);
    let worker = start(&fleet, "/no/such/command", &[]).await;
    let task = fleet.task("nothing").await;
    let shown = fleet.wait(&task, "failed").await;
    assert_eq!(shown["error_code"], "cannot_start", "{}", worker.last_words());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_task_ends_its_command_and_all_that_it_started() {
    let fleet = fleet().await;
    let (dir, path) = script(
        "trap '' TERM\nsleep 600 &\necho $! > $(dirname $0)/child\necho $$ > $(dirname $0)/own\nwait\nwait\n",
    );
    let worker = start(&fleet, &exec(&path), &["--grace-seconds", "1"]).await;
    let task = fleet.task("Cancel me").await;
    let (child, own) = (number(&dir.path().join("child")), number(&dir.path().join("own")));
    assert!(lives(child) && lives(own));
    fleet.admin.delete(&format!("/v1/automation/tasks/{task}")).await.expect(200);
    until("all of it ended", || !lives(child) && !lives(own));
    assert_eq!(fleet.events(&task).await, ["task.started", "task.cancelled"]);
    // It goes on with the next.
    std::fs::write(&path, "echo next").unwrap();
    let task = fleet.task("Next").await;
    assert_eq!(fleet.wait(&task, "completed").await["result"], "next", "{}", worker.last_words());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_takes_too_long_is_ended() {
    let fleet = fleet().await;
    let (dir, path) = script("echo $$ > $(dirname $0)/own\nsleep 600\n");
    let _worker = start(&fleet, &exec(&path), &[]).await;
    let body = json!({"title": "Slow", "description": "d", "agent_type": "build", "max_seconds": 2});
    let task = fleet.task_with(&body).await;
    let own = number(&dir.path().join("own"));
    fleet.wait(&task, "failed").await;
    until("it ended", || !lives(own));
    assert_eq!(fleet.events(&task).await, ["task.started", "task.failed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_worker_had_is_done_by_another_and_ends_once() {
    let fleet = fleet().await;
    let (dir, path) = script(
        "d=$(dirname $0)\nif mkdir $d/first 2>/dev/null; then echo $$ > $d/own; sleep 600; else echo \"done by another\"; fi\n",
    );
    let mut first = start(&fleet, &exec(&path), &["--name", "first"]).await;
    let task = fleet.task("Survive").await;
    let own = number(&dir.path().join("own"));
    first.kill();
    let second = start(&fleet, &exec(&path), &["--name", "second"]).await;
    let shown = fleet.wait(&task, "completed").await;
    assert_eq!(shown["result"], "done by another", "{}", second.last_words());
    assert_eq!(fleet.events(&task).await, ["task.started", "task.completed"]);
    // Nobody ends what a killed worker has started.
    let _gone = std::process::Command::new("kill").args(["-KILL", "--", &format!("-{own}")]).status();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_stops_finishes_what_it_has_or_gives_it_back() {
    let fleet = fleet().await;
    let (dir, path) = script(
        "d=$(dirname $0)\necho $$ > $d/own\nwhile [ ! -e $d/go ]; do sleep 0.05; done\necho finished\n",
    );
    let mut worker = start(&fleet, &exec(&path), &[]).await;
    let task = fleet.task("Finish me").await;
    number(&dir.path().join("own"));
    worker.signal("TERM");
    worker.wait_for("the drain", PATIENCE, |worker| worker.log().contains("told to stop"));
    std::thread::sleep(Duration::from_millis(300));
    let later = fleet.task("Not for me").await;
    std::fs::write(dir.path().join("go"), "").unwrap();
    assert_eq!(worker.wait(PATIENCE), Some(0), "{}", worker.last_words());
    let shown = fleet.shown(&task).await;
    assert_eq!((&shown["status"], &shown["result"]), (&json!("completed"), &json!("finished")));
    assert_eq!(fleet.shown(&later).await["status"], "queued");

    std::fs::remove_file(dir.path().join("go")).unwrap();
    std::fs::remove_file(dir.path().join("own")).unwrap();
    let mut worker = start(&fleet, &exec(&path), &["--drain-seconds", "1"]).await;
    let own = number(&dir.path().join("own"));
    worker.stop(PATIENCE);
    assert!(!lives(own));
    let shown = fleet.shown(&later).await;
    assert_eq!(shown["status"], "queued", "{shown}");
    // A gateway that does not know the worker is no reason to try for ever.
    let environment: Environment = [
        ("HOOKYARD_URL", format!("http://{}", fleet.system.gateways[0].addr)),
        ("HOOKYARD_WORKER_TOKEN", format!("wk_{}", "A".repeat(43))),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    let mut stranger = Process::start(&["worker", "--exec", "true"], &environment);
    assert_eq!(stranger.wait(PATIENCE), Some(1));
    assert!(stranger.log().contains("refuses this worker with 401"), "{}", stranger.log());
    fleet.system.clock.advance(TimeDelta::seconds(1));
}
