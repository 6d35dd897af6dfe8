//! Counters of a Postgres database, read with `psql`, so that measuring needs no driver and holds no connection open.

use std::process::Command;

use anyhow::{Context, Result, bail};

/// Runs one statement and returns its unaligned output, columns separated by blanks.
///
/// # Errors
/// When psql is not installed, or with what it wrote to its standard error.
pub(crate) fn psql(url: &str, sql: &str) -> Result<String> {
    let out = Command::new("psql")
        .args(["-XAtqw", "-v", "ON_ERROR_STOP=1", "-F", " ", "-c", sql, url])
        .output()
        .context("psql cannot be run")?;
    if !out.status.success() {
        bail!("psql failed: {}", String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(String::from_utf8(out.stdout)?)
}

/// Writes a checkpoint, so that none falls into what is measured next; where that is not allowed, only asks whether the database is there.
///
/// # Errors
/// When it is not.
pub(crate) fn checkpoint(url: &str) -> Result<()> {
    psql(url, "checkpoint").or_else(|_| psql(url, "select 1")).map(|_| ())
}

/// Counters of one database at one moment.
#[derive(Clone, Copy, Default)]
pub(crate) struct Counters {
    /// Size of the database in bytes.
    pub(crate) size: i64,
    /// Write-ahead log of the whole server in bytes.
    pub(crate) wal: i64,
    /// Committed transactions of the database.
    pub(crate) commits: i64,
}

impl Counters {
    /// Reads the counters of the database at `url`.
    ///
    /// # Errors
    /// When psql fails or answers something else.
    pub(crate) fn read(url: &str) -> Result<Self> {
        let sql = "select pg_database_size(current_database()), \
                   pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint, \
                   xact_commit from pg_stat_database where datname = current_database()";
        let text = psql(url, sql)?;
        let values: Vec<i64> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        let [size, wal, commits] = values[..] else {
            bail!("psql answered {text:?}");
        };
        Ok(Self { size, wal, commits })
    }
}
