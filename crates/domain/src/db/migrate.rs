//! The migrations, embedded, and run under an advisory lock so that several processes may start at once.

use diesel::{PgConnection, RunQueryDsl, sql_query};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use crate::{Error, Result, clock::Clock, db::Db};

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("../../migrations");

/// The lock under which the schema is changed: "hookyard" in ASCII.
const LOCK: i64 = 0x686f_6f6b_7961_7264;

/// Brings the schema up to date and makes the partitions that are needed next. Returns the names of the migrations
/// that were run.
///
/// # Errors
/// When the database is away or refuses a migration; the schema is then as it was before that migration.
pub async fn run(db: &Db, clock: &Clock) -> Result<Vec<String>> {
    let now = clock.now();
    db.once(move |conn| {
        sql_query(
            "SELECT set_config('statement_timeout', '0', false), set_config('lock_timeout', '0', false)",
        )
        .execute(conn)?;
        sql_query(format!("SELECT pg_advisory_lock({LOCK})")).execute(conn)?;
        let result = apply(conn).and_then(|names| {
            super::partition::ensure(conn, now)?;
            Ok(names)
        });
        sql_query(format!("SELECT pg_advisory_unlock({LOCK})")).execute(conn)?;
        result
    })
    .await
}

fn apply(conn: &mut PgConnection) -> Result<Vec<String>> {
    let versions = conn.run_pending_migrations(MIGRATIONS).map_err(Error::Database)?;
    Ok(versions.iter().map(ToString::to_string).collect())
}

/// Undoes every migration: for the test that runs them up, down and up again.
///
/// # Errors
/// As [`run`].
pub async fn revert_all(db: &Db) -> Result<()> {
    db.once(|conn| conn.revert_all_migrations(MIGRATIONS).map(drop).map_err(Error::Database)).await
}

/// Whether the schema is the one this program was built for.
///
/// # Errors
/// When the database is away.
pub async fn is_current(db: &Db) -> Result<bool> {
    db.once(|conn| {
        // An empty database has no table of migrations; asking diesel would create it.
        let known: Vec<Known> =
            sql_query("SELECT to_regclass('public.__diesel_schema_migrations') IS NOT NULL AS known")
                .load(conn)?;
        if !known.iter().all(|row| row.known) {
            return Ok(false);
        }
        conn.has_pending_migration(MIGRATIONS).map(|pending| !pending).map_err(Error::Database)
    })
    .await
}

#[derive(diesel::QueryableByName)]
struct Known {
    #[diesel(sql_type = diesel::sql_types::Bool)]
    known: bool,
}
