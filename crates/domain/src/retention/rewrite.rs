//! Writing a partition anew, smaller: a copy of its rows without what is to go is made beside it, piece by piece, and takes its
//! place in one short transaction. Rows that are only changed leave their old versions behind, and a table from which no whole
//! page at its end becomes free never gives its disk back; a copy does.
//!
//! Copying is a statement of some thousand rows, and what it has done tells where to go on: a process that is killed costs one
//! piece. Taking the place needs the whole table for a moment; it is asked for with little patience, so that whoever accepts
//! events does not wait behind it, and tried again later.

use chrono::NaiveDate;
use diesel::{Connection, PgConnection, QueryableByName, RunQueryDsl, sql_query, sql_types::Text};

use crate::{Result, db::partition};

/// Rows copied by one statement.
pub(super) const ROWS_AT_ONCE: i64 = 5_000;

/// The longest that a statement takes which catches up while an old day is not written to.
const CATCH_UP_MS: u32 = 3_000;

/// A table whose partitions are written anew.
pub(super) struct Table {
    /// Its name.
    pub(super) name: &'static str,
    /// The columns of its primary key.
    pub(super) key: &'static [&'static str],
    /// What stands for columns that change; `o` is the row as it was.
    pub(super) changed: Vec<(&'static str, String)>,
    /// An index that the copy has besides those of the table: its columns, and which rows.
    pub(super) index: Option<&'static str>,
}

impl Table {
    /// The copy of the partition of a day.
    pub(super) fn copy(&self, day: NaiveDate) -> String {
        format!("{}_slim", partition::name(self.name, day))
    }
}

#[derive(QueryableByName)]
struct Name {
    #[diesel(sql_type = Text)]
    name: String,
}

/// Makes the empty copy, unless it is there.
///
/// # Errors
/// When the database is away.
pub(super) fn prepare(conn: &mut PgConnection, table: &Table, day: NaiveDate) -> Result<()> {
    let (copy, parent) = (table.copy(day), table.name);
    if partition::is_there(conn, &copy)? {
        if columns(conn, &copy)? == columns(conn, parent)? {
            return Ok(());
        }
        // A migration has changed the table meanwhile: the copy could not take its place.
        sql_query(format!("DROP TABLE {copy}")).execute(conn)?;
    }
    let (from, to) = partition::bounds(day);
    let key = table.key.iter().find(|column| column.ends_with("id") && **column != "tenant_id");
    let key = key.copied().unwrap_or("id");
    conn.transaction(|conn| {
        sql_query(format!("CREATE TABLE {copy} (LIKE {parent} INCLUDING ALL)")).execute(conn)?;
        // What says so beforehand need not be looked through when it is attached.
        sql_query(format!(
            "ALTER TABLE {copy} ADD CONSTRAINT {copy}_day CHECK ({key} >= '{from}' AND {key} < '{to}')"
        ))
        .execute(conn)?;
        if let Some(index) = table.index {
            sql_query(format!("CREATE INDEX {copy}_left ON {copy} {index}")).execute(conn)?;
        }
        Ok(())
    })
}

/// The columns of a table, in their order, each with its type and whether it may be null.
///
/// # Errors
/// When the database is away.
pub(super) fn columns(conn: &mut PgConnection, table: &str) -> Result<Vec<(String, String)>> {
    #[derive(QueryableByName)]
    struct Column {
        #[diesel(sql_type = Text)]
        name: String,
        #[diesel(sql_type = Text)]
        kind: String,
    }
    let columns: Vec<Column> = sql_query(format!(
        "SELECT attname::text AS name, \
            format_type(atttypid, atttypmod) || CASE WHEN attnotnull THEN ' NOT NULL' ELSE '' END AS kind FROM pg_attribute \
         WHERE attrelid = '{table}'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
    ))
    .load(conn)?;
    Ok(columns.into_iter().map(|column| (column.name, column.kind)).collect())
}

/// Copies the next rows. Returns how many; fewer than [`ROWS_AT_ONCE`] are the last.
///
/// # Errors
/// When the database is away.
pub(super) fn copy_some(conn: &mut PgConnection, table: &Table, day: NaiveDate) -> Result<usize> {
    let (copy, original) = (table.copy(day), partition::name(table.name, day));
    let columns: Vec<String> = columns(conn, table.name)?.into_iter().map(|(name, _)| name).collect();
    let values: Vec<String> = columns
        .iter()
        .map(|column| {
            let changed = table.changed.iter().find(|(name, _)| name == column);
            changed.map_or_else(|| format!("o.{column}"), |(_, value)| value.clone())
        })
        .collect();
    let listed = |prefix: &str| {
        table.key.iter().map(|column| format!("{prefix}{column}")).collect::<Vec<_>>().join(", ")
    };
    let backwards = table.key.iter().map(|column| format!("{column} DESC")).collect::<Vec<_>>().join(", ");
    // Where the copy ends. Without a row in it there is no condition: a comparison with nothing is not true.
    let begun: Vec<Name> =
        sql_query(format!("SELECT '' AS name FROM (SELECT FROM {copy} LIMIT 1) any_row")).load(conn)?;
    let beyond = if begun.is_empty() {
        "true".to_owned()
    } else {
        format!("({}) > (SELECT {} FROM {copy} ORDER BY {backwards} LIMIT 1)", listed("o."), listed(""))
    };
    let copied = sql_query(format!(
        "INSERT INTO {copy} ({}) SELECT {} FROM {original} o WHERE {beyond} ORDER BY {} LIMIT {ROWS_AT_ONCE}",
        columns.join(", "),
        values.join(", "),
        listed("o."),
    ))
    .execute(conn)?;
    Ok(copied)
}

/// Tells the planner what the copy holds, and the next index-only scan that it may be one.
///
/// # Errors
/// When the database is away.
pub(super) fn settle(conn: &mut PgConnection, table: &Table, day: NaiveDate) -> Result<()> {
    sql_query(format!("VACUUM (ANALYZE) {}", table.copy(day))).execute(conn)?;
    Ok(())
}

/// The copy takes the place of the partition, after `catch_up` has brought it up to date.
///
/// While it does, nobody writes to the partitions `quiet` of this day, old ones; everything else goes on, and everybody reads. Only then
/// the whole table is asked for, for as long as it takes to change names.
///
/// # Errors
/// [`crate::Error::Locked`] when somebody uses the table all the time; nothing is changed then. And when the database is away, or
/// catching up takes a statement longer than [`CATCH_UP_MS`].
pub(super) fn exchange(
    conn: &mut PgConnection,
    table: &Table,
    day: NaiveDate,
    quiet: &[&str],
    catch_up: impl Fn(&mut PgConnection) -> Result<()>,
) -> Result<()> {
    let (copy, original, parent) = (table.copy(day), partition::name(table.name, day), table.name);
    let (from, to) = partition::bounds(day);
    partition::with_the_table(conn, |conn| {
        for table in quiet {
            let table = partition::name(table, day);
            sql_query(format!("LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE")).execute(conn)?;
        }
        sql_query(format!("SET LOCAL statement_timeout = '{CATCH_UP_MS}ms'")).execute(conn)?;
        catch_up(conn)?;
        sql_query(format!("LOCK TABLE ONLY {parent} IN ACCESS EXCLUSIVE MODE")).execute(conn)?;
        sql_query(format!("LOCK TABLE {original} IN ACCESS EXCLUSIVE MODE")).execute(conn)?;
        for statement in [
            format!("ALTER TABLE {parent} DETACH PARTITION {original}"),
            format!("DROP TABLE {original}"),
            format!("ALTER TABLE {copy} RENAME TO {original}"),
            format!(
                "ALTER TABLE {parent} ATTACH PARTITION {original} FOR VALUES FROM ('{from}') TO ('{to}')"
            ),
            format!("ALTER TABLE {original} DROP CONSTRAINT {copy}_day"),
        ] {
            sql_query(statement).execute(conn)?;
        }
        Ok(())
    })
}

/// Drops copies whose partition has gone meanwhile.
///
/// # Errors
/// When the database is away.
pub(super) fn drop_orphans(conn: &mut PgConnection) -> Result<()> {
    let copies: Vec<Name> = sql_query(
        "SELECT c.relname::text AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname = current_schema() AND c.relkind = 'r' AND c.relname ~ '^(events|attempts)_[0-9]{8}_slim$' \
           AND NOT EXISTS (SELECT FROM pg_class p WHERE p.relnamespace = c.relnamespace \
                           AND p.relname = left(c.relname::text, -5))",
    )
    .load(conn)?;
    for copy in copies {
        sql_query(format!("DROP TABLE {}", copy.name)).execute(conn)?;
    }
    Ok(())
}
