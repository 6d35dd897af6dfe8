//! The only door to Postgres: synchronous diesel behind a small asynchronous gate.
//!
//! Callers queue at a semaphore, asleep, so that blocking threads are never more than connections. No connection is
//! held across an `.await` of the caller, hence none across an HTTP call (invariant 4).

pub mod migrate;
pub mod partition;
pub mod prepared;
pub(crate) mod snapshot;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use diesel::{
    Connection, PgConnection, RunQueryDsl,
    connection::TransactionManager,
    r2d2::{ConnectionManager, CustomizeConnection},
};
use serde::{Deserialize, Serialize};
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    sync::Semaphore,
};

use crate::{Error, Result};

/// A connection, as queries take it.
pub type Conn = PgConnection;

/// Where Postgres is, as a libpq URL. There may be a password in it: it is shown by nothing but [`Url::expose`].
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Url(String);

impl Url {
    /// The URL as it was given.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    /// The whole URL, for libpq. Never log it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("•••")
    }
}

impl Serialize for Url {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str("•••")
    }
}

/// The `[database]` section.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where Postgres is, as a libpq URL (`DATABASE_URL`). Default: none; `hookyard up` then starts its own cluster.
    pub url: Option<Url>,
    /// Connections at most, per process; `hookyard up` has twice as many. Range 2–200. Default: 8. Small pools are faster than large ones on few cores.
    pub pool_size: u32,
    /// How long a caller waits for a connection before it is told to come back later, in milliseconds. Range 10–60,000.
    /// Default: 3000.
    pub patience_ms: u64,
    /// How long a connection attempt may take, in seconds. Range 1–60. Default: 3.
    pub connect_timeout_s: u32,
    /// The longest any statement may run, in milliseconds. Range 100–3,600,000. Default: 30000.
    pub statement_timeout_ms: u32,
    /// Whether what registries and deliverers write waits for the disk, too, as what was accepted always does. Without it, a
    /// crash of the database server (not of a service) makes deliveries of the last moment, about 600 ms, be made again.
    /// Default: false.
    pub synchronous_outcomes: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            url: None,
            pool_size: 8,
            patience_ms: 3000,
            connect_timeout_s: 3,
            statement_timeout_ms: 30_000,
            synchronous_outcomes: false,
        }
    }
}

impl Settings {
    /// Checks the ranges.
    ///
    /// # Errors
    /// Names the first setting that is out of its range, and the range.
    pub fn check(&self) -> std::result::Result<(), String> {
        let ranges: [(&str, u64, u64, u64); 4] = [
            ("pool_size", u64::from(self.pool_size), 2, 200),
            ("patience_ms", self.patience_ms, 10, 60_000),
            ("connect_timeout_s", u64::from(self.connect_timeout_s), 1, 60),
            ("statement_timeout_ms", u64::from(self.statement_timeout_ms), 100, 3_600_000),
        ];
        for (name, value, least, most) in ranges {
            if !(least..=most).contains(&value) {
                return Err(format!("database.{name} must lie between {least} and {most}, not {value}"));
            }
        }
        Ok(())
    }
}

/// A pool of connections with a gate in front. Clones share the pool.
#[derive(Clone)]
pub struct Db {
    pool: r2d2::Pool<ConnectionManager<PgConnection>>,
    permits: Arc<Semaphore>,
    patience: Duration,
}

impl std::fmt::Debug for Db {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Db").field("free", &self.permits.available_permits()).finish_non_exhaustive()
    }
}

impl Db {
    /// A pool for `url`. Connects lazily: whether the database is there is told by [`Db::ping`].
    ///
    /// # Errors
    /// When the URL is not one that libpq accepts the form of.
    pub fn new(url: &Url, settings: &Settings) -> Result<Self> {
        Self::with(url, settings, true)
    }

    /// A pool for registries and deliverers. What they write can be done again from the rows that were accepted, so it does
    /// not wait for the disk unless the settings say so (docs/decisions/0015).
    ///
    /// # Errors
    /// As [`Db::new`].
    pub fn for_engine(url: &Url, settings: &Settings) -> Result<Self> {
        Self::with(url, settings, settings.synchronous_outcomes)
    }

    fn with(url: &Url, settings: &Settings, synchronous: bool) -> Result<Self> {
        let size = settings.pool_size.max(1);
        let manager = ConnectionManager::new(with_timeout(url.expose(), settings.connect_timeout_s));
        let pool = r2d2::Pool::builder()
            .max_size(size)
            .min_idle(Some(0))
            .test_on_check_out(false)
            .connection_timeout(Duration::from_millis(settings.patience_ms.max(1)))
            .error_handler(Box::new(Quiet))
            .connection_customizer(Box::new(Session {
                statement_timeout_ms: settings.statement_timeout_ms,
                synchronous,
            }))
            .build(manager)
            .map_err(|error| Error::Away(Box::new(error)))?;
        Ok(Self {
            pool,
            permits: Arc::new(Semaphore::new(size as usize)),
            patience: Duration::from_millis(settings.patience_ms.max(1)),
        })
    }

    /// Runs `work` in one transaction on a blocking thread; an `Err` rolls back.
    ///
    /// # Errors
    /// [`Error::Busy`] when no connection became free in time, [`Error::Away`] when the database cannot be reached,
    /// else what `work` returns.
    pub async fn run<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut PgConnection) -> Result<T> + Send + 'static,
    {
        self.once(move |conn| conn.transaction(work)).await
    }

    /// Runs `work` without a transaction of its own: for single statements, which are one already. Saves two round
    /// trips against [`Db::run`].
    ///
    /// # Errors
    /// As [`Db::run`].
    pub async fn once<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut PgConnection) -> Result<T> + Send + 'static,
    {
        let work = self.on_a_connection(work).await?;
        match tokio::task::spawn_blocking(work).await {
            Ok(result) => result,
            Err(panicked) => Err(Error::Database(Box::new(panicked))),
        }
    }

    /// As [`Db::once`], on the caller's own thread: the statement begins and its result is there one change of threads sooner each
    /// (docs/decisions/0067). For tasks that do nothing else meanwhile: what they race or join with stands still until the database has
    /// answered. The runtime's other tasks go on elsewhere; where it has no other thread, this is [`Db::once`].
    ///
    /// # Errors
    /// As [`Db::run`].
    #[expect(clippy::disallowed_methods, reason = "not on actix workers, whose runtimes have one thread")]
    pub async fn in_place<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut PgConnection) -> Result<T> + Send + 'static,
    {
        if Handle::current().runtime_flavor() != RuntimeFlavor::MultiThread {
            return self.once(work).await;
        }
        let work = self.on_a_connection(work).await?;
        // A panic ends the work and not the task, as on a thread of its own. Nothing is left of what it was about: the connection is
        // thrown away by its pool.
        match tokio::task::block_in_place(|| catch_unwind(AssertUnwindSafe(work))) {
            Ok(result) => result,
            Err(_panicked) => Err(Error::Database("a query panicked".into())),
        }
    }

    /// Waits for a place; the work is done where it is called then.
    async fn on_a_connection<T, F>(&self, work: F) -> Result<impl FnOnce() -> Result<T> + Send + use<T, F>>
    where
        F: FnOnce(&mut PgConnection) -> Result<T> + Send,
    {
        let permit = tokio::time::timeout(self.patience, Arc::clone(&self.permits).acquire_owned())
            .await
            .map_err(|_elapsed| Error::Busy { waited: self.patience })?
            .map_err(|closed| Error::Away(Box::new(closed)))?;
        let pool = self.pool.clone();
        Ok(move || {
            let _permit = permit; // dropped after the connection went back
            let mut conn = pool.get().map_err(|error| Error::Away(Box::new(error)))?;
            let result = work(&mut conn);
            if matches!(result, Err(Error::Away(_) | Error::Database(_))) {
                discard_if_dead(&mut conn);
            }
            result
        })
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// As [`Db::run`].
    pub async fn ping(&self) -> Result<()> {
        self.once(|conn| {
            diesel::sql_query("SELECT 1").execute(conn)?;
            Ok(())
        })
        .await
    }
}

/// A connection that the server has closed looks healthy to the pool until it is marked.
fn discard_if_dead(conn: &mut PgConnection) {
    if diesel::sql_query("SELECT 1").execute(conn).is_err() {
        <PgConnection as Connection>::TransactionManager::transaction_manager_status_mut(conn).set_in_error();
    }
}

/// Adds libpq's `connect_timeout` unless the URL has one.
fn with_timeout(url: &str, seconds: u32) -> String {
    if url.contains("connect_timeout=") {
        return url.to_owned();
    }
    let separator = if url.contains('?') { '&' } else { '?' };
    format!("{url}{separator}connect_timeout={seconds}")
}

/// What every new connection is told. All our joins look keys up; the planner, who knows nothing yet about partitions that
/// are filling, would rather read them whole, and would keep a prepared statement at it; or he would start two processes for a page
/// of fifty rows, or walk the index of everything for what is rare. Each text is planned once, not for its values: [`prepared::planned_for_values`] is for the others.
#[derive(Debug)]
struct Session {
    statement_timeout_ms: u32,
    /// Whether a commit waits for the disk.
    synchronous: bool,
}

impl CustomizeConnection<PgConnection, diesel::r2d2::Error> for Session {
    fn on_acquire(&self, conn: &mut PgConnection) -> std::result::Result<(), diesel::r2d2::Error> {
        if !self.synchronous {
            diesel::sql_query("SELECT set_config('synchronous_commit', 'off', false)")
                .execute(conn)
                .map_err(diesel::r2d2::Error::QueryError)?;
        }
        diesel::sql_query(format!(
            "SELECT set_config('statement_timeout', '{}', false), set_config('timezone', 'UTC', false), \
             set_config('application_name', 'hookyard', false), set_config('jit', 'off', false), \
             set_config('enable_hashjoin', 'off', false), set_config('enable_mergejoin', 'off', false), \
             set_config('enable_seqscan', 'off', false), set_config('max_parallel_workers_per_gather', '0', false), \
             set_config('random_page_cost', '4', false), set_config('plan_cache_mode', 'force_generic_plan', false)",
            self.statement_timeout_ms
        ))
        .execute(conn)
        .map(drop)
        .map_err(diesel::r2d2::Error::QueryError)
    }
}

/// A pool that cannot connect is reported by whoever waits for it, once per request, and by readiness.
#[derive(Debug)]
struct Quiet;

impl r2d2::HandleError<diesel::r2d2::Error> for Quiet {
    fn handle_error(&self, error: diesel::r2d2::Error) {
        tracing::debug!(%error, "no database connection");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_connect_timeout_is_added_once() {
        assert_eq!(with_timeout("postgres://a/b", 3), "postgres://a/b?connect_timeout=3");
        assert_eq!(
            with_timeout("postgres://a/b?sslmode=require", 3),
            "postgres://a/b?sslmode=require&connect_timeout=3"
        );
        assert_eq!(with_timeout("postgres://a/b?connect_timeout=9", 3), "postgres://a/b?connect_timeout=9");
    }

    #[test]
    fn the_defaults_are_in_range_and_the_ends_are_kept() {
        assert_eq!(Settings::default().check(), Ok(()));
        for (pool_size, good) in [(1, false), (2, true), (200, true), (201, false)] {
            assert_eq!(Settings { pool_size, ..Settings::default() }.check().is_ok(), good, "{pool_size}");
        }
    }

    #[test]
    fn the_password_is_not_shown() {
        let settings = Settings { url: Some(Url::new("postgres://u:secret@h/d")), ..Settings::default() };
        assert!(!format!("{settings:?}").contains("secret"));
    }
}
