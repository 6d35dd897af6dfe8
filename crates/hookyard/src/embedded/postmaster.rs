//! The running server: how to tell that it runs, start it, wait for it, and stop it.
//!
//! `postmaster.pid` is the source: the server writes it first and removes it last, and its eighth line says
//! when connections are taken. (That is how `pg_ctl` knows it, too: no client is needed.)

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::account::Account;
use super::binaries::Installation;
use super::bootstrap;
use super::directory::{DataDir, socket_path};

/// How often the server's state is looked at while we wait for a change of it.
const GLANCE: Duration = Duration::from_millis(20);

/// What the server says when processes of a crashed one still use the cluster's shared memory. The cluster speaks English (locale C).
const ORPHANS: &str = "pre-existing shared memory block";

/// How often a wait is reported.
const REPORT: Duration = Duration::from_secs(5);

/// How long connections may take to be cut when a fast stop did not end in time.
const IMMEDIATE_STOP_S: u64 = 10;

/// How much of a log is shown when the server does not start, in bytes.
const SHOWN_LOG: usize = 2_000;

/// What `postmaster.pid` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PidFile {
    pub(super) pid: u32,
    pub(super) socket_dir: PathBuf,
    pub(super) ready: bool,
}

impl PidFile {
    /// Reads the file of the cluster in `cluster`. None when there is none, or nothing useful in it yet.
    pub(super) fn read(cluster: &Path) -> Result<Option<Self>> {
        let path = cluster.join("postmaster.pid");
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Self::parse(&text)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read `{}`", path.display())),
        }
    }

    /// Lines: pid, data directory, start time, port, socket directory, address, shared memory, status.
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let pid = lines.next()?.trim().parse().ok()?;
        let socket_dir = PathBuf::from(lines.nth(3).unwrap_or_default());
        let ready = lines.nth(2).is_some_and(|status| status.trim() == "ready");
        Some(Self { pid, socket_dir, ready })
    }

    /// Whether the process of this file lives and is the server of `cluster`. After a reboot another process
    /// may have its number.
    pub(super) fn is_alive(&self, cluster: &Path) -> bool {
        if !self.process_exists() {
            return false;
        }
        match std::fs::read_link(format!("/proc/{}/cwd", self.pid)) {
            // The server works in its data directory, which may be a symbolic link to another disk.
            Ok(cwd) => cluster.canonicalize().is_ok_and(|cluster| cwd == cluster),
            // No /proc, or not ours to look at: then the one who listens on the socket is the server.
            Err(_) => UnixStream::connect(socket_path(&self.socket_dir)).is_ok(),
        }
    }

    fn process_exists(&self) -> bool {
        let pid = i32::try_from(self.pid).ok().and_then(rustix::process::Pid::from_raw);
        // "Not permitted" means that there is one.
        pid.is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
    }
}

/// The server of `dir`, if one runs.
pub(super) fn running(dir: &DataDir) -> Result<Option<PidFile>> {
    let cluster = dir.cluster();
    Ok(PidFile::read(&cluster)?.filter(|file| file.is_alive(&cluster)))
}

/// Starts a server and waits until it takes connections. None runs in `dir`; what a crashed one has left ends by itself, and is
/// waited for.
pub(super) fn start(
    dir: &DataDir,
    account: &Account,
    installed: &Installation,
    socket_dir: &Path,
    patience: Duration,
) -> Result<Child> {
    let began = Instant::now();
    loop {
        match try_start(dir, account, installed, socket_dir, patience) {
            Err(error) if error.to_string().contains(ORPHANS) && began.elapsed() < patience => {
                tracing::info!("processes of the PostgreSQL that crashed have not ended yet");
                std::thread::sleep(GLANCE * 5);
            }
            started => return started,
        }
    }
}

fn try_start(
    dir: &DataDir,
    account: &Account,
    installed: &Installation,
    socket_dir: &Path,
    patience: Duration,
) -> Result<Child> {
    let path = dir.start_log();
    let log = File::create(&path).with_context(|| format!("cannot write `{}`", path.display()))?;
    let mut command = account.command(&installed.program("postgres"));
    command
        .args(bootstrap::arguments(dir, socket_dir))
        .stdout(log.try_clone()?)
        .stderr(log)
        // Ctrl-C in the terminal goes to the whole foreground group. It is for us: we stop the services first.
        .process_group(0);
    if let Some(stale) = PidFile::read(&dir.cluster())?.filter(PidFile::process_exists) {
        // A process that is not the server has the number of the one that crashed. The server would take it for
        // another server and refuse to start, unless it is told (as pg_ctl does) that this number is nobody. It
        // still checks by itself that nobody is attached to the cluster's shared memory.
        tracing::warn!(pid = stale.pid, "the number of a crashed PostgreSQL belongs to another process now");
        command.env("PG_GRANDPARENT_PID", stale.pid.to_string());
    }
    let mut child = command.spawn().context("cannot start postgres")?;
    match wait_until_ready(dir, patience, Some(&mut child)) {
        Ok(_) => Ok(child),
        Err(error) => {
            // It was given its chance. Whatever it still does must not go on without us.
            if stop(dir, account, installed, Duration::ZERO).is_err() {
                drop(child.kill());
            }
            drop(child.wait());
            Err(error)
        }
    }
}

/// Waits until the server takes connections: our `child`, or (none) one that somebody else has started.
pub(super) fn wait_until_ready(
    dir: &DataDir,
    patience: Duration,
    mut child: Option<&mut Child>,
) -> Result<PidFile> {
    let started = Instant::now();
    let mut reports = 1;
    loop {
        if let Some(child) = child.as_deref_mut()
            && let Some(status) = child.try_wait()?
        {
            bail!("PostgreSQL ended while it started ({status}): {}", last_words(dir));
        }
        let file = running(dir)?;
        match (file, &child) {
            (Some(file), Some(child)) if file.ready && file.pid == child.id() => return Ok(file),
            (Some(file), None) if file.ready => return Ok(file),
            (None, None) => bail!("the PostgreSQL that ran in `{}` ended", dir.top().display()),
            (Some(_), _) | (None, Some(_)) => (),
        }
        if patience <= started.elapsed() {
            bail!("PostgreSQL was not ready within {} s: {}", patience.as_secs(), last_words(dir));
        }
        if REPORT * reports <= started.elapsed() {
            reports += 1;
            tracing::info!(
                seconds = started.elapsed().as_secs(),
                "waiting for PostgreSQL (it may be recovering)"
            );
        }
        std::thread::sleep(GLANCE);
    }
}

/// Stops the server of `dir` if one runs: fast (with a checkpoint) within `patience`, else immediately (the next
/// start recovers; nothing that was committed is lost).
pub(super) fn stop(
    dir: &DataDir,
    account: &Account,
    installed: &Installation,
    patience: Duration,
) -> Result<()> {
    let attempt = |mode: &str, seconds: u64| -> Result<bool> {
        if running(dir)?.is_none() {
            return Ok(true);
        }
        let status = account
            .command(&installed.program("pg_ctl"))
            .args(["stop", "--silent", "--wait", "-m", mode, "-t", &seconds.to_string(), "-D"])
            .arg(dir.cluster())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .context("cannot start pg_ctl")?;
        // It may have ended by itself meanwhile, which pg_ctl calls a failure.
        Ok(status.success() || running(dir)?.is_none())
    };
    if attempt("fast", patience.as_secs())? {
        return Ok(());
    }
    tracing::warn!(seconds = patience.as_secs(), "PostgreSQL did not stop in time: its connections are cut");
    if attempt("immediate", IMMEDIATE_STOP_S)? {
        return Ok(());
    }
    bail!("PostgreSQL did not stop, see {}", dir.logs().display())
}

/// The end of what the server said, from its output and its newest log.
fn last_words(dir: &DataDir) -> String {
    let newest = std::fs::read_dir(dir.logs())
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            Some((entry.metadata().ok()?.modified().ok()?, entry.path()))
        })
        .max()
        .map(|(_, path)| path);
    [Some(dir.start_log()), newest]
        .into_iter()
        .flatten()
        .filter_map(|path| {
            let text = std::fs::read(&path).ok()?;
            let text =
                String::from_utf8_lossy(text.get(text.len().saturating_sub(SHOWN_LOG)..)?).trim().to_owned();
            (!text.is_empty()).then(|| format!("{}:\n{text}", path.display()))
        })
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pid_file_is_read_at_every_stage_of_a_start() {
        let file =
            |socket_dir: &str, ready| Some(PidFile { pid: 42, socket_dir: PathBuf::from(socket_dir), ready });
        let cases = [
            ("42\n/d\n1700000000\n5432\n/run/pg\n\n  1 2\nready   \n", file("/run/pg", true)),
            ("42\n/d\n1700000000\n5432\n/run/pg\n\n  1 2\nstarting\n", file("/run/pg", false)),
            ("42\n/d\n1700000000\n5432\n/run/pg\n\n  1 2\nstopping\n", file("/run/pg", false)),
            ("42\n/d\n1700000000\n5432\n/run/pg\n", file("/run/pg", false)),
            ("42\n", file("", false)),
            ("", None),
            ("-7\n", None),
            ("ready\n", None),
        ];
        for (text, expected) in cases {
            assert_eq!(PidFile::parse(text), expected, "{text:?}");
        }
    }

    #[test]
    fn another_process_is_not_taken_for_the_server() {
        let dir = tempfile::tempdir().unwrap();
        let ours = PidFile { pid: std::process::id(), socket_dir: dir.path().to_owned(), ready: true };
        assert!(ours.process_exists());
        assert!(!ours.is_alive(dir.path()));
        let nobody = PidFile { pid: u32::MAX, socket_dir: dir.path().to_owned(), ready: true };
        assert!(!nobody.process_exists());
    }
}
