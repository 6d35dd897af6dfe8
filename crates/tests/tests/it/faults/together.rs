//! `hookyard up`: everything in one process with a PostgreSQL of its own, stopped and killed.

use std::{net::SocketAddr, path::Path};

use hookyard_tests::{
    load::{Load, Plan},
    processes::{Environment, Process, environment, free_port},
    sink::Sink,
};
use tempfile::TempDir;

use super::{LOST_BY_A_KILL, SETTLE_BATCH, START, STOP};

struct Up {
    process: Process,
    api: SocketAddr,
    environment: Environment,
    dir: TempDir,
}

impl Up {
    fn start(sink: &Sink) -> Self {
        let dir = tempfile::Builder::new().prefix("hookyard-up-").tempdir().unwrap();
        // As root the cluster belongs to another account, which has to get there.
        open(dir.path());
        let api = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let environment = environment(
            &sink.prefix(),
            &[
                ("HOOKYARD__EMBEDDED__DATA_DIR", dir.path().to_str().unwrap()),
                ("HOOKYARD__HTTP__LISTEN", &api.to_string()),
                ("HOOKYARD__DELIVERY__SETTLE_BATCH", &SETTLE_BATCH.to_string()),
            ],
        );
        let mut process = Process::start(&["up"], &environment);
        process.wait_until_ready(START);
        Self { process, api, environment, dir }
    }

    /// Where its database is.
    fn database(&self) -> String {
        format!("postgresql:///hookyard?host={}&user=hookyard", self.dir.path().join("run").display())
    }

    fn postmaster(&self) -> String {
        let pid =
            std::fs::read_to_string(self.dir.path().join("postgres/postmaster.pid")).unwrap_or_default();
        pid.lines().next().unwrap_or_default().to_owned()
    }
}

fn open(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn up_is_stopped_under_load_and_started_again() {
    let sink = Sink::start().await;
    let mut up = Up::start(&sink);
    let load = Load::start(&sink, up.api, &up.environment, Plan::default()).await;
    for _round in 0..2 {
        load.go_on(5_000).await;
        let took = up.process.stop(STOP);
        println!("hookyard up stopped under load in {took:.1?}");
        assert_eq!(up.postmaster(), "", "its PostgreSQL has ended, too");
        up.process.restart();
        up.process.wait_until_ready(START);
    }
    let report = load.settle("stop of hookyard up", &up.database()).await;
    assert_eq!(report.duplicates, 0, "tries under way were seen to their end");
    up.process.stop(STOP);
}

#[tokio::test(flavor = "multi_thread")]
async fn up_is_killed_under_load_and_started_again() {
    let sink = Sink::start().await;
    let mut up = Up::start(&sink);
    let load = Load::start(&sink, up.api, &up.environment, Plan::default()).await;
    for _round in 0..2 {
        load.go_on(5_000).await;
        let left = up.postmaster();
        up.process.kill();
        up.process.restart();
        up.process.wait_until_ready(START);
        assert_eq!(up.postmaster(), left, "the PostgreSQL that was left is adopted");
        assert!(up.process.log().contains("adopting the embedded PostgreSQL"), "{}", up.process.last_words());
    }
    let report = load.settle("kill -9 of hookyard up, twice", &up.database()).await;
    assert!(report.duplicates <= 2 * LOST_BY_A_KILL, "{} duplicates by two kills", report.duplicates);
    up.process.stop(STOP);
    assert_eq!(up.postmaster(), "", "what was adopted is stopped, too");
}
