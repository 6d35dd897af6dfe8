//! The private Postgres of `hookyard up`, seen from outside: where it listens, which process it is, and that nothing of it
//! stays.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use super::{child::signal, server::POSTGRES};
use crate::cost::is_alive;

/// How deep below the data directory the cluster may be.
const MAX_DEPTH: usize = 4;
/// How long an orphaned cluster may take for its fast shutdown.
const GRACE: Duration = Duration::from_secs(20);

/// A data directory of `hookyard up`; its `Drop` stops a cluster that outlived its parent, and deletes everything.
pub(crate) struct Cluster {
    data_dir: PathBuf,
}

/// What Postgres writes to `postmaster.pid` (storage documentation of PostgreSQL, "Database File Layout").
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Postmaster {
    /// Process id of the postmaster.
    pub(crate) pid: u32,
    port: u16,
    socket_dir: String,
}

impl Cluster {
    /// Will look after `data_dir`, which need not exist yet.
    pub(crate) fn new(data_dir: PathBuf) -> Self {
        Self { data_dir }
    }

    /// The data directory.
    pub(crate) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The running postmaster.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn postmaster(&self) -> Result<Postmaster> {
        let path = find(&self.data_dir, MAX_DEPTH)
            .with_context(|| format!("no postmaster.pid below {}", self.data_dir.display()))?;
        let postmaster = Postmaster::parse(&fs::read_to_string(&path)?)
            .with_context(|| format!("{} is not complete", path.display()))?;
        ensure!(is_alive(postmaster.pid, POSTGRES), "postmaster {} does not run", postmaster.pid);
        Ok(postmaster)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Normally gone by now: `up` stops it. After a SIGKILL of `up` it would stay for ever.
        if let Ok(postmaster) = self.postmaster() {
            eprintln!("hookyard up left its Postgres (process {}) behind; it is stopped", postmaster.pid);
            signal(postmaster.pid, "INT");
            let deadline = Instant::now() + GRACE;
            while is_alive(postmaster.pid, POSTGRES) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        if self.data_dir.exists()
            && let Err(error) = fs::remove_dir_all(&self.data_dir)
        {
            eprintln!("cannot delete {}: {error}", self.data_dir.display());
        }
    }
}

impl Postmaster {
    /// Lines: pid, data directory, start time, port, socket directory, listen address, ...
    fn parse(text: &str) -> Option<Self> {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let pid = lines.first()?.parse().ok()?;
        let port = lines.get(3)?.parse().ok()?;
        Some(Self { pid, port, socket_dir: (*lines.get(4)?).to_owned() })
    }

    /// Fills {socket}, {port} and {data_dir} into a URL.
    pub(crate) fn url(&self, template: &str, data_dir: &Path) -> String {
        template
            .replace("{socket}", &self.socket_dir)
            .replace("{port}", &self.port.to_string())
            .replace("{data_dir}", &data_dir.display().to_string())
    }
}

fn find(folder: &Path, depth: usize) -> Option<PathBuf> {
    let here = folder.join("postmaster.pid");
    if here.exists() {
        return Some(here);
    }
    if depth == 0 {
        return None;
    }
    let entries = fs::read_dir(folder).ok()?;
    let folders =
        entries.filter_map(|entry| entry.ok()).filter(|entry| entry.file_type().is_ok_and(|t| t.is_dir()));
    folders.into_iter().find_map(|entry| find(&entry.path(), depth - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_postmaster_file_tells_where_to_connect() {
        let text = "4711\n/data/pg\n1763689000\n54329\n/data/run\nlocalhost\n  1 2\nready   \n";
        let postmaster = Postmaster::parse(text).unwrap();
        assert_eq!(postmaster, Postmaster { pid: 4711, port: 54329, socket_dir: "/data/run".into() });
        let url = postmaster.url("postgres://me@/x?host={socket}&port={port}", Path::new("/data"));
        assert_eq!(url, "postgres://me@/x?host=/data/run&port=54329");
        assert_eq!(Postmaster::parse("4711\n/data\n"), None, "still starting");
    }

    #[test]
    fn a_cluster_is_deleted_with_its_value() {
        let path = std::env::temp_dir().join(format!("hookyard-bench-test-cluster-{}", std::process::id()));
        fs::create_dir_all(path.join("pg/data")).unwrap();
        let cluster = Cluster::new(path.clone());
        assert!(cluster.postmaster().is_err());
        fs::write(path.join("pg/data/postmaster.pid"), format!("{}\n\n\n1\n/s\n", u32::MAX)).unwrap();
        assert!(cluster.postmaster().is_err(), "such a process does not run");
        drop(cluster);
        assert!(!path.exists());
    }
}
