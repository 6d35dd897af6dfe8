//! The embedded default: a private PostgreSQL cluster in the data directory of `hookyard up`.
//!
//! It runs the PostgreSQL that is installed, as a child in a process group of its own and, when we are root, under an
//! unprivileged account. It listens on a Unix socket that nobody else can reach, and is stopped with us. When we
//! were killed it goes on, and the next start adopts it. Its durability is PostgreSQL's default: what was
//! committed survives a power cut.
//!
//! Not here: the schema (`hookyard-domain`), the pool, and any server that `DATABASE_URL` names.
//!
//! ```text
//! /var/lib/hookyard/            ours
//!   lock                        held as long as a process uses the directory
//!   postgres/                   the cluster (of the server's account, as run/ and log/)
//!   run/                        the socket; under /tmp when the path is too long for one
//!   log/                        the server's log, one file per weekday
//!   postgres.conf               written at every start; postgres.local.conf beside it is the operator's
//!   postgres-start.log          what the server says before its log is open
//!   master.key                  what secrets are sealed with, unless the settings name a key (`crate::secrets`)
//! ```

mod account;
mod binaries;
mod bootstrap;
mod directory;
mod postmaster;
mod settings;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use account::Account;
use binaries::Installation;
use directory::DataDir;
pub(crate) use settings::Settings;

/// How long the child may take to be gone after the server has said good-bye.
const REAPING: Duration = Duration::from_secs(5);

/// A running cluster, ours until [`Self::stop`]. Dropping it stops the server as well, and reports what goes wrong.
///
/// All functions block: call them outside the async runtime or through `spawn_blocking`.
#[derive(Debug)]
pub(crate) struct Cluster {
    dir: DataDir,
    account: Account,
    installed: Installation,
    socket_dir: PathBuf,
    settings: Settings,
    /// None when the server was adopted.
    child: Option<Child>,
    stopped: bool,
    /// Declared last, released last: nobody else may start before our server is gone.
    _lock: File,
}

impl Cluster {
    /// Starts the cluster of `settings`, makes it first when there is none, or adopts the server that a killed
    /// process has left. Returns when the database `hookyard` takes connections.
    ///
    /// Fails when another process uses the directory, when no fitting PostgreSQL is installed, when the server's
    /// account cannot reach the directory, or when the server does not start; the message says what to do.
    pub(crate) fn start(settings: &Settings) -> Result<Self> {
        let dir = DataDir::create(&settings.data_dir()?)?;
        let lock = dir.lock()?;
        let account = Account::choose(&dir.cluster())?;
        let version = dir.version()?;
        let installed = Installation::find(settings, version)?;
        account.check_access(&installed.program("postgres"), dir.top())?;
        let socket_dir = dir.prepare(&account)?;
        if version.is_none() {
            tracing::info!(dir = %dir.top().display(), "making the embedded database with {installed} (once)");
            bootstrap::create(&dir, &account, &installed)?;
        }
        let mut cluster = Self {
            dir,
            account,
            installed,
            socket_dir,
            settings: settings.clone(),
            child: None,
            stopped: false,
            _lock: lock,
        };
        cluster.run()?;
        Ok(cluster)
    }

    /// The libpq URL of the database, as the role that owns it. No password is in it.
    pub(crate) fn url(&self) -> String {
        url(&self.socket_dir)
    }

    /// Starts the server again if it has ended by itself (killed by the kernel for its memory, or by hand).
    /// Returns whether it had. For a caller that looks once a second or so.
    pub(crate) fn ensure_running(&mut self) -> Result<bool> {
        let ended = match &mut self.child {
            Some(child) => child.try_wait()?.is_some(),
            None => postmaster::running(&self.dir)?.is_none(),
        };
        if ended {
            tracing::error!("the embedded PostgreSQL has ended by itself and is started again");
            self.run()?;
        }
        Ok(ended)
    }

    /// Stops the server: connections are ended, a checkpoint is written. Returns when it is gone.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.halt()
    }

    /// Adopts the server that runs, or starts one.
    fn run(&mut self) -> Result<()> {
        let patience = self.settings.start_timeout();
        if let Some(left) = postmaster::running(&self.dir)? {
            tracing::info!(pid = left.pid, "adopting the embedded PostgreSQL that a killed process has left");
            let file = postmaster::wait_until_ready(&self.dir, patience, None)?;
            self.socket_dir = file.socket_dir;
            self.child = None;
            return Ok(());
        }
        let began = Instant::now();
        bootstrap::configure(&self.dir)?;
        tracing::info!(dir = %self.dir.top().display(), "starting the embedded {}", self.installed);
        let child = postmaster::start(&self.dir, &self.account, &self.installed, &self.socket_dir, patience)?;
        tracing::info!(
            pid = child.id(),
            milliseconds = began.elapsed().as_millis(),
            "the embedded PostgreSQL is ready"
        );
        self.child = Some(child);
        Ok(())
    }

    fn halt(&mut self) -> Result<()> {
        self.stopped = true;
        postmaster::stop(&self.dir, &self.account, &self.installed, self.settings.stop_timeout())
            .context("cannot stop the embedded PostgreSQL")?;
        if !self.socket_dir.starts_with(self.dir.top()) {
            // The server has removed its socket. When something else lies there it may as well stay.
            drop(std::fs::remove_dir(&self.socket_dir));
        }
        let Some(child) = &mut self.child else { return Ok(()) };
        let gone = Instant::now();
        while child.try_wait()?.is_none() && gone.elapsed() < REAPING {
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if !self.stopped
            && let Err(error) = self.halt()
        {
            tracing::error!(error = format!("{error:#}"), "the embedded PostgreSQL may still run");
        }
    }
}

/// The URL of the cluster that runs in the data directory of `settings`, for commands beside `hookyard up`. None when
/// none runs, or when it is another account's.
pub(crate) fn locate(settings: &Settings) -> Option<String> {
    let dir = DataDir::open(&settings.data_dir().ok()?).ok()?;
    let file = postmaster::running(&dir).ok()??;
    file.ready.then(|| url(&file.socket_dir))
}

/// The data directory of `settings`, made when it does not exist.
pub(crate) fn make_data_dir(settings: &Settings) -> Result<PathBuf> {
    Ok(DataDir::create(&settings.data_dir()?)?.top().to_owned())
}

/// The data directory of `settings`. None when there is none.
pub(crate) fn find_data_dir(settings: &Settings) -> Option<PathBuf> {
    Some(DataDir::open(&settings.data_dir().ok()?).ok()?.top().to_owned())
}

fn url(socket_dir: &Path) -> String {
    let host = directory::percent_encoded(socket_dir);
    let name = bootstrap::DATABASE;
    format!("postgresql:///{name}?host={host}&user={name}")
}
