//! The main job as the README shows it: `scripts/up --demo`, without building.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use hookyard_tests::processes::{binary, free_port};

use super::up::directory;

#[test]
fn the_demo_verifies_deliveries_and_shows_a_retry_and_a_dead_letter() {
    let dir = directory();
    let data = dir.path().join("data");
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let address = || format!("127.0.0.1:{}", free_port());
    let mut command = Command::new(top.join("scripts/demo"));
    command.args(["--once", "--data-dir", data.to_str().unwrap()]).stdin(Stdio::null()).env_clear();
    for name in ["PATH", "HOME", "LANG"] {
        command.envs(std::env::var_os(name).map(|value| (name, value)));
    }
    let output = command
        .env("HOOKYARD_BIN", binary())
        .env("HOOKYARD__HTTP__LISTEN", address())
        .env("HOOKYARD__OPS__LISTEN", address())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{said}");
    let deliveries: Vec<&str> =
        said.lines().filter(|line| line.contains("X-TriggersAPI-Signature")).collect();
    let examples = std::fs::read_dir(top.join("docs/examples")).unwrap();
    let events =
        examples.filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|ext| ext == "json"));
    assert_eq!(deliveries.len(), events.count() + 2, "{said}");
    assert!(!said.contains("REFUSED"), "{said}");
    for (what, with) in
        [("the first try", "VERIFIED -> 500"), ("its retry", "try 2: "), ("the other", "-> 400")]
    {
        assert_eq!(deliveries.iter().filter(|line| line.contains(with)).count(), 1, "{what}: {said}");
    }
    assert!(
        said.contains("\"last_reason\"") && said.contains("invoice.paid"),
        "the dead letter is shown: {said}"
    );
    assert!(!data.join("postgres/postmaster.pid").exists(), "everything is stopped: {said}");
}
