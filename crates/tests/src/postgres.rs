//! A PostgreSQL server of a test's own, to be restarted under load: the one of the machine serves everybody.
//!
//! It has a password, so that tests can look for it where it must not be.

use std::{
    fs::File,
    os::unix::{fs::chown, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use diesel::{Connection as _, PgConnection, RunQueryDsl as _, sql_query};
use tempfile::TempDir;

use crate::processes::{account, free_port, is_root, signal};

const PATIENCE: Duration = Duration::from_secs(60);

/// How a server is stopped; the words of `pg_ctl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Connections are ended, transactions undone, a checkpoint is written.
    Fast,
    /// As after a crash: nothing is written, the next start recovers.
    Immediate,
}

/// A server that runs or not. Ended when dropped; its files stay when the test fails.
#[derive(Debug)]
pub struct Postgres {
    bin: PathBuf,
    port: u16,
    password: String,
    /// PostgreSQL refuses to run as root.
    account: Option<(u32, u32)>,
    server: Option<Child>,
    dir: Option<TempDir>,
}

impl Postgres {
    /// A new cluster that runs.
    ///
    /// # Panics
    /// When there is no PostgreSQL installed, or it does not start.
    pub fn running() -> Self {
        let dir = tempfile::Builder::new().prefix("hookyard-postgres-").tempdir().expect("a directory");
        let account = is_root().then(|| {
            let (uid, gid, _home) = account("postgres").expect("an account `postgres`, as tests run as root");
            (uid, gid)
        });
        let password = format!("hush{:016x}", rand::random::<u64>());
        let pwfile = dir.path().join("pw");
        std::fs::write(&pwfile, &password).expect("a file can be written");
        if let Some((uid, gid)) = account {
            for path in [dir.path(), &pwfile] {
                chown(path, Some(uid), Some(gid)).expect("root may give files away");
            }
        }
        let mut postgres =
            Self { bin: installed(), port: free_port(), password, account, server: None, dir: Some(dir) };
        let made = postgres
            .command("initdb")
            .arg("--pgdata")
            .arg(postgres.data())
            .args([
                "--username=postgres",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
                "--no-sync",
            ])
            .arg("--pwfile")
            .arg(&pwfile)
            .output()
            .expect("initdb starts");
        assert!(made.status.success(), "initdb failed: {}", String::from_utf8_lossy(&made.stderr));
        postgres.start();
        let mut conn = postgres.connect("postgres").expect("it is ready");
        sql_query("CREATE DATABASE hookyard").execute(&mut conn).expect("a database can be made");
        postgres
    }

    /// Where the database of the test is, for `DATABASE_URL`.
    pub fn url(&self) -> String {
        self.url_of("hookyard")
    }

    /// The password in [`Self::url`].
    pub fn password(&self) -> &str {
        &self.password
    }

    /// Starts it and waits until it takes connections.
    ///
    /// # Panics
    /// When it does not start, with what it said.
    pub fn start(&mut self) {
        assert!(self.server.is_none(), "it runs already");
        let out = File::options().create(true).append(true).open(self.dir().join("log")).expect("a log");
        let server = self
            .command("postgres")
            .arg("-D")
            .arg(self.data())
            .args([
                "-c",
                "listen_addresses=127.0.0.1",
                "-c",
                "unix_socket_directories=",
                "-c",
                "max_connections=100",
            ])
            // What a process wrote survives the process; only a power cut needs more. Leases must not end because somebody
            // else keeps the disk busy.
            .args(["-c", "fsync=off", "-p", &self.port.to_string()])
            .stdout(out.try_clone().expect("a file can be shared"))
            .stderr(out)
            .spawn()
            .expect("postgres starts");
        self.server = Some(server);
        let end = Instant::now() + PATIENCE;
        while let Err(error) = self.connect("postgres") {
            let ended = self.server.as_mut().and_then(|server| server.try_wait().ok().flatten());
            assert!(
                ended.is_none() && Instant::now() < end,
                "PostgreSQL does not start ({ended:?}, {error}): {}",
                self.said()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Stops it.
    ///
    /// # Panics
    /// When it does not end.
    pub fn stop(&mut self, how: Stop) {
        let mut server = self.server.take().expect("it runs");
        signal(
            &server,
            match how {
                Stop::Fast => "INT",
                Stop::Immediate => "QUIT",
            },
        );
        let end = Instant::now() + PATIENCE;
        while server.try_wait().expect("a child can be asked").is_none() {
            assert!(Instant::now() < end, "PostgreSQL does not stop: {}", self.said());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn connect(&self, database: &str) -> diesel::ConnectionResult<PgConnection> {
        PgConnection::establish(&self.url_of(database))
    }

    fn url_of(&self, database: &str) -> String {
        format!("postgres://postgres:{}@127.0.0.1:{}/{database}", self.password, self.port)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        command.env_clear().env("LC_ALL", "C").env("TZ", "UTC").stdin(Stdio::null()).current_dir("/");
        if let Some((uid, gid)) = self.account {
            command.uid(uid).gid(gid);
        }
        command
    }

    fn dir(&self) -> &Path {
        self.dir.as_ref().expect("it is there until the end").path()
    }

    fn data(&self) -> PathBuf {
        self.dir().join("data")
    }

    fn said(&self) -> String {
        std::fs::read_to_string(self.dir().join("log")).unwrap_or_default()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            signal(&server, "QUIT");
            let _status = server.wait();
        }
        if std::thread::panicking()
            && let Some(dir) = self.dir.take()
        {
            eprintln!("PostgreSQL's files are in {}", dir.keep().display());
        }
    }
}

/// The directory of the newest PostgreSQL on this machine.
fn installed() -> PathBuf {
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<(u32, PathBuf)> = debian
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, bin)| bin.join("postgres").exists())
        .collect();
    versions.sort();
    let told = || {
        let output = Command::new("pg_config").arg("--bindir").output().ok()?;
        Some(PathBuf::from(String::from_utf8(output.stdout).ok()?.trim()))
    };
    let found = versions.pop().map(|(_, bin)| bin).or_else(told);
    found.expect("a PostgreSQL server is installed (scripts/test does it)")
}
