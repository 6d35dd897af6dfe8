//! A Postgres database for each test: cloned from a template that has the schema and knows the tests' master key, dropped
//! at the end.
//!
//! The server is `TEST_DATABASE_URL`, by default `postgres://postgres@127.0.0.1:5432/postgres`; its role has to be able
//! to make databases. Tests are processes of their own, so the template is made under an advisory lock and kept: its
//! name tells of which schema and which day it is, as partitions are made by day.

use std::time::{SystemTime, UNIX_EPOCH};

use diesel::{Connection, PgConnection, QueryableByName, RunQueryDsl, sql_query, sql_types::Text};
use hookyard_domain::{
    clock::Clock,
    db::{Db, Settings, Url, migrate},
    vault,
};

/// Whose lock it is while the template is made.
const LOCK: i64 = 0x686f_6f6b_7465_7374;

/// Databases of tests that were killed are dropped when they are this old.
const LEFT_OVER_S: u64 = 24 * 3600;

/// What the migrations were when this was compiled, as a hash: another schema is another template.
const SCHEMA: &str = env!("HOOKYARD_TESTS_SCHEMA");

const TEMPLATE: &str = "hookyard_template_";
const CLONE: &str = "hookyard_test_";

/// A database of one test. Dropped with this value.
#[derive(Debug)]
pub struct Database {
    name: String,
}

impl Database {
    /// A database with the current schema and nothing in it.
    ///
    /// # Panics
    /// When there is no server, or it refuses.
    pub async fn create() -> Self {
        let template = template().await;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970").as_secs();
        let name = format!("{CLONE}{now}_{:016x}", rand::random::<u64>());
        let sql = format!("CREATE DATABASE {name} TEMPLATE {template}");
        on_server(move |conn| sql_query(sql).execute(conn).expect("the template can be cloned")).await;
        Self { name }
    }

    /// Where it is, for `DATABASE_URL`.
    pub fn url(&self) -> String {
        url_of(&self.name)
    }

    /// A pool of its own, with the product's settings.
    ///
    /// # Panics
    /// Never: it connects when it is used.
    pub fn pool(&self) -> Db {
        self.pool_with(&Settings::default())
    }

    /// A pool as registries and deliverers have it.
    ///
    /// # Panics
    /// Never: it connects when it is used.
    pub fn engine_pool(&self) -> Db {
        Db::for_engine(&Url::new(self.url()), &Settings::default()).expect("a pool")
    }

    /// A pool with these settings.
    ///
    /// # Panics
    /// When the settings make no pool.
    pub fn pool_with(&self, settings: &Settings) -> Db {
        Db::new(&Url::new(self.url()), settings).expect("a pool")
    }

    /// Lets nobody in any more and ends who is in, as a server that went away would; `false` lets everybody in again.
    ///
    /// # Panics
    /// When the server refuses.
    pub async fn set_away(&self, away: bool) {
        let name = self.name.clone();
        on_server(move |conn| {
            sql_query(format!("ALTER DATABASE {name} ALLOW_CONNECTIONS {}", !away))
                .execute(conn)
                .expect("altered");
            if away {
                let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1";
                sql_query(kill).bind::<Text, _>(name).execute(conn).expect("terminated");
            }
        })
        .await;
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // A test may have failed long before: what matters is that the database goes, on whatever thread.
        let name = self.name.clone();
        let dropped = std::thread::spawn(move || {
            let mut conn = PgConnection::establish(&server())?;
            let _closed =
                sql_query(format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true")).execute(&mut conn);
            let gone = sql_query(format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).execute(&mut conn);
            gone.map_err(|error| diesel::ConnectionError::BadConnection(error.to_string()))
        });
        if let Ok(Err(error)) = dropped.join() {
            eprintln!("the database of a test is left behind: {error}");
        }
    }
}

/// The server's own database.
fn server() -> String {
    #[expect(clippy::disallowed_methods, reason = "the harness has no settings of its own")]
    let url = std::env::var("TEST_DATABASE_URL");
    let url = url.unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/postgres".to_owned());
    // A test's process ends while threads still talk to Postgres. OpenSSL cleans up at exit under their feet, which glibc
    // answers with SIGABRT. Who wants TLS says so in TEST_DATABASE_URL.
    match url.split_once('?') {
        Some((_, query)) if query.contains("sslmode=") => url,
        Some(_) => format!("{url}&sslmode=disable"),
        None => format!("{url}?sslmode=disable"),
    }
}

fn url_of(database: &str) -> String {
    let server = server();
    let (base, query) = server.split_once('?').unwrap_or((server.as_str(), ""));
    let (prefix, _name) = base.rsplit_once('/').expect("a database url has a path");
    format!("{prefix}/{database}?{query}")
}

async fn on_server<T: Send + 'static>(work: impl FnOnce(&mut PgConnection) -> T + Send + 'static) -> T {
    let work =
        move || work(&mut PgConnection::establish(&server()).expect("Postgres runs (TEST_DATABASE_URL)"));
    tokio::task::spawn_blocking(work).await.expect("the server does what it is told")
}

#[derive(QueryableByName)]
struct Name {
    #[diesel(sql_type = Text)]
    name: String,
}

fn databases(conn: &mut PgConnection, prefix: &str) -> Vec<String> {
    let rows: Vec<Name> =
        sql_query("SELECT datname::text AS name FROM pg_database WHERE starts_with(datname, $1)")
            .bind::<Text, _>(prefix)
            .load(conn)
            .expect("databases can be listed");
    rows.into_iter().map(|row| row.name).collect()
}

/// The name of the template, which exists when this returns.
async fn template() -> String {
    let clock = Clock::system();
    let today = clock.now().format("%Y%m%d").to_string();
    let name = format!("{TEMPLATE}{SCHEMA}_{today}");
    let wanted = name.clone();
    let runtime = tokio::runtime::Handle::current();
    on_server(move |conn| {
        sql_query(format!("SELECT pg_advisory_lock({LOCK})")).execute(conn).expect("the lock");
        let known = databases(conn, TEMPLATE);
        if !known.contains(&wanted) {
            // Those of today may be in use: by a checkout with another schema, beside this one.
            let known = known.iter().filter(|name| !name.ends_with(&today));
            for old in known.chain(&left_over(conn)) {
                // Somebody may be cloning it at this moment; then it goes another time.
                let _busy = sql_query(format!("DROP DATABASE IF EXISTS {old}")).execute(conn);
            }
            let raw = format!("{wanted}_raw");
            sql_query(format!("CREATE DATABASE {raw}")).execute(conn).expect("a database");
            runtime.block_on(async {
                let db = Db::new(&Url::new(url_of(&raw)), &Settings::default()).expect("a pool");
                migrate::run(&db, &clock).await.expect("the migrations run");
                let now = clock.now();
                let known = db
                    .run(move |conn| vault::store::verify_or_register(conn, &crate::secrets::vault(), now))
                    .await;
                known.expect("the master key can be registered");
            });
            // Whoever has cloned a template has nothing half made: the name appears when it is complete.
            let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1";
            sql_query(kill).bind::<Text, _>(&raw).execute(conn).expect("terminated");
            rename(conn, &raw, &wanted);
        }
        sql_query(format!("SELECT pg_advisory_unlock({LOCK})")).execute(conn).expect("unlocked");
    })
    .await;
    name
}

/// A connection that was told to end may need a moment.
fn rename(conn: &mut PgConnection, from: &str, to: &str) {
    for left in (0..100).rev() {
        match sql_query(format!("ALTER DATABASE {from} RENAME TO {to}")).execute(conn) {
            Ok(_) => return,
            Err(error) if left == 0 => panic!("the template cannot be renamed: {error}"),
            Err(_) => std::thread::sleep(std::time::Duration::from_millis(50)),
        }
    }
}

fn left_over(conn: &mut PgConnection) -> Vec<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    let age = |name: &str| {
        Some(now.saturating_sub(name.strip_prefix(CLONE)?.split_once('_')?.0.parse::<u64>().ok()?))
    };
    let mut names = databases(conn, CLONE);
    names.retain(|name| age(name).is_some_and(|age| age > LEFT_OVER_S));
    names
}
