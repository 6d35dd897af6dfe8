//! What is kept, how large it is, and what a look at the database says about how it fares. Read by operators; nothing is decided
//! here. Named system paths: they count rows of every tenant, and read none.

use chrono::{DateTime, NaiveDate, Utc};
use diesel::{
    PgConnection, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Array, BigInt, Bool, Date, Integer, Nullable, Text, Timestamptz},
};

use crate::{
    Result,
    db::partition::{self, TABLES},
    delivery::{dead_letter, store},
};

/// A partition of one day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Of which table.
    pub table: String,
    /// Its day.
    pub day: NaiveDate,
    /// Rows, as the server estimates them.
    pub rows: i64,
    /// Bytes on disk, with indexes and what lies beside the rows.
    pub bytes: i64,
    /// How many of them are payloads, about: bodies, or replies.
    pub payload_bytes: i64,
}

/// A table that is not cut by day.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
pub struct Whole {
    /// Its name.
    #[diesel(sql_type = Text)]
    pub name: String,
    /// Rows, as the server estimates them.
    #[diesel(sql_type = BigInt)]
    pub rows: i64,
    /// Bytes on disk, with indexes.
    #[diesel(sql_type = BigInt)]
    pub bytes: i64,
}

/// What is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// The partitions, by table and day.
    pub partitions: Vec<Partition>,
    /// The other tables, the largest first.
    pub tables: Vec<Whole>,
    /// Days whose payloads are gone, or are going.
    pub purged_days: Vec<NaiveDate>,
    /// Those of them that are done, but for what somebody still has to get.
    pub done_days: Vec<NaiveDate>,
    /// Days that are kept longer, because events of them were posted for later.
    pub later_days: Vec<NaiveDate>,
}

/// Rows of table `c`: as many to a page as there were when it was last looked at, as the planner reckons; before that, what was counted.
const ROWS: &str = "CASE WHEN c.relpages > 0 AND c.reltuples >= 0 \
     THEN (c.reltuples / c.relpages * (pg_relation_size(c.oid) / current_setting('block_size')::integer))::bigint \
     ELSE GREATEST(pg_stat_get_live_tuples(c.oid), 0) END";

/// What is kept now.
///
/// # Errors
/// When the database is away.
pub fn read(conn: &mut PgConnection) -> Result<Inventory> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        parent: String,
        #[diesel(sql_type = Text)]
        name: String,
        #[diesel(sql_type = BigInt)]
        rows: i64,
        #[diesel(sql_type = BigInt)]
        bytes: i64,
        #[diesel(sql_type = BigInt)]
        payload_bytes: i64,
    }
    // What is long lies beside the rows, and counts as it is there; the rest is known by its width on average.
    let rows: Vec<Row> = sql_query(format!(
        "SELECT p.relname::text AS parent, c.relname::text AS name, n.rows, pg_total_relation_size(c.oid) AS bytes, \
            (COALESCE(pg_table_size(NULLIF(c.reltoastrelid, 0)), 0) + n.rows * COALESCE( \
                (SELECT sum(s.avg_width * (1 - s.null_frac)) FROM pg_stats s WHERE s.schemaname = ns.nspname \
                 AND s.tablename = c.relname AND s.attname IN ('body', 'reply')), 0))::bigint AS payload_bytes \
         FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class p ON p.oid = i.inhparent \
         JOIN pg_namespace ns ON ns.oid = c.relnamespace \
         CROSS JOIN LATERAL (SELECT {ROWS} AS rows) n \
         WHERE p.relname = ANY($1) AND ns.nspname = current_schema() ORDER BY 1, 2",
    ))
    .bind::<Array<Text>, _>(TABLES.to_vec())
    .load(conn)?;
    let partitions = rows
        .into_iter()
        .filter_map(|row| {
            let day = partition::day_of(&row.name)?;
            let (rows, bytes, payload_bytes) = (row.rows, row.bytes, row.payload_bytes);
            Some(Partition { table: row.parent, day, rows, bytes, payload_bytes })
        })
        .collect();
    let tables: Vec<Whole> = sql_query(format!(
        "SELECT c.relname::text AS name, {ROWS} AS rows, pg_total_relation_size(c.oid) AS bytes \
         FROM pg_class c JOIN pg_namespace ns ON ns.oid = c.relnamespace \
         WHERE c.relkind = 'r' AND ns.nspname = current_schema() AND NOT c.relispartition ORDER BY bytes DESC, name",
    ))
    .load(conn)?;
    Ok(Inventory {
        partitions,
        tables,
        purged_days: days(conn, "SELECT day FROM payload_days ORDER BY day")?,
        done_days: days(conn, "SELECT day FROM payload_days WHERE attempts_at IS NOT NULL ORDER BY day")?,
        later_days: days(
            conn,
            "SELECT day FROM scheduled_days UNION SELECT DISTINCT (to_timestamp(('x0000' || \
                left(replace(id::text, '-', ''), 12))::bit(64)::bigint / 1000.0) AT TIME ZONE 'UTC')::date \
             FROM scheduled_events ORDER BY 1",
        )?,
    })
}

fn days(conn: &mut PgConnection, statement: &'static str) -> Result<Vec<NaiveDate>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Date)]
        day: NaiveDate,
    }
    Ok(sql_query(statement).load::<Row>(conn)?.into_iter().map(|row| row.day).collect())
}

/// A table whose rows leave more behind than is removed.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
pub struct Bloated {
    /// Its name.
    #[diesel(sql_type = Text)]
    pub name: String,
    /// Versions of rows that nobody sees any more.
    #[diesel(sql_type = BigInt)]
    pub dead: i64,
    /// Rows.
    #[diesel(sql_type = BigInt)]
    pub live: i64,
}

/// How the database fares, at one instant.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Condition {
    /// Postgres' version, such as `15.4`.
    pub version: String,
    /// The same as a number, such as 150004.
    pub version_number: i32,
    /// The server's clock.
    pub now: DateTime<Utc>,
    /// The size of the database in bytes.
    pub bytes: i64,
    /// Connections to the server, and how many it takes.
    pub connections: (i64, i64),
    /// Whether it cleans up by itself.
    pub autovacuum: bool,
    /// Transactions since the oldest that is not settled for good: at 2 thousand million the server stops.
    pub transaction_age: i64,
    /// Since when the oldest transaction is open: what it may still see is not cleaned up.
    pub oldest_transaction: Option<DateTime<Utc>>,
    /// Tables with more dead rows than live ones, of those with many.
    pub bloated: Vec<Bloated>,
    /// Indexes that are not used, because making them broke off.
    pub invalid_indexes: Vec<String>,
    /// Groups of events that wait for their fan-out, counted up to 100,000.
    pub groups: i64,
    /// Since when the oldest of them waits.
    pub oldest_group: Option<DateTime<Utc>>,
    /// When the oldest event was due that still waits for its time.
    pub oldest_scheduled: Option<DateTime<Utc>>,
    /// Since when the oldest outcome waits to be applied to the health of its subscription.
    pub oldest_settlement: Option<DateTime<Utc>>,
    /// Since when the oldest step of a recovery is due that nobody does.
    pub oldest_recovery: Option<DateTime<Utc>>,
    /// Deliveries under way, counted up to a million.
    pub pending: i64,
    /// Since when the oldest of those is due that may be taken.
    pub oldest_due: Option<DateTime<Utc>>,
    /// Dead letters, counted up to 100,000.
    pub dead_letters: i64,
}

/// How the database fares.
///
/// # Errors
/// When the database is away.
pub fn condition(conn: &mut PgConnection) -> Result<Condition> {
    #[derive(QueryableByName)]
    struct Server {
        #[diesel(sql_type = Text)]
        version: String,
        #[diesel(sql_type = Integer)]
        version_number: i32,
        #[diesel(sql_type = Timestamptz)]
        now: DateTime<Utc>,
        #[diesel(sql_type = BigInt)]
        bytes: i64,
        #[diesel(sql_type = BigInt)]
        connections: i64,
        #[diesel(sql_type = BigInt)]
        most_connections: i64,
        #[diesel(sql_type = Bool)]
        autovacuum: bool,
        #[diesel(sql_type = BigInt)]
        transaction_age: i64,
        #[diesel(sql_type = Nullable<Timestamptz>)]
        oldest_transaction: Option<DateTime<Utc>>,
    }
    let server: Server = sql_query(
        "SELECT split_part(current_setting('server_version'), ' ', 1) AS version, \
            current_setting('server_version_num')::integer AS version_number, clock_timestamp() AS now, \
            pg_database_size(current_database()) AS bytes, \
            (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS connections, \
            current_setting('max_connections')::bigint AS most_connections, \
            current_setting('autovacuum')::boolean AND current_setting('track_counts')::boolean AS autovacuum, \
            (SELECT age(datfrozenxid)::bigint FROM pg_database WHERE datname = current_database()) AS transaction_age, \
            (SELECT min(xact_start) FROM pg_stat_activity WHERE datname = current_database() \
                AND backend_type = 'client backend' AND pid <> pg_backend_pid()) AS oldest_transaction",
    )
    .get_result(conn)?;
    let bloated: Vec<Bloated> = sql_query(
        "SELECT relname::text AS name, n_dead_tup AS dead, n_live_tup AS live FROM pg_stat_user_tables \
         WHERE schemaname = current_schema() AND n_dead_tup >= 50000 AND n_dead_tup > n_live_tup ORDER BY n_dead_tup DESC",
    )
    .load(conn)?;
    #[derive(QueryableByName)]
    struct Name {
        #[diesel(sql_type = Text)]
        name: String,
    }
    let invalid: Vec<Name> = sql_query(
        "SELECT i.indexrelid::regclass::text AS name FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
         JOIN pg_namespace ns ON ns.oid = c.relnamespace \
         WHERE NOT i.indisvalid AND ns.nspname = current_schema() ORDER BY 1",
    )
    .load(conn)?;
    #[derive(QueryableByName)]
    struct Waiting {
        #[diesel(sql_type = BigInt)]
        groups: i64,
        #[diesel(sql_type = Nullable<Timestamptz>)]
        oldest_group: Option<DateTime<Utc>>,
        #[diesel(sql_type = Nullable<Timestamptz>)]
        oldest_scheduled: Option<DateTime<Utc>>,
        #[diesel(sql_type = Nullable<Timestamptz>)]
        oldest_settlement: Option<DateTime<Utc>>,
        #[diesel(sql_type = Nullable<Timestamptz>)]
        oldest_recovery: Option<DateTime<Utc>>,
    }
    let waiting: Waiting = sql_query(
        "SELECT count(*) AS groups, min(g.created_at) AS oldest_group, \
            (SELECT min(due_at) FROM scheduled_events) AS oldest_scheduled, \
            (SELECT min(s.created_at) FROM (SELECT created_at FROM settlements ORDER BY id LIMIT 1000) s) AS oldest_settlement, \
            (SELECT min(GREATEST(due_at, lease_until)) FROM recoveries WHERE state < 2) AS oldest_recovery \
         FROM (SELECT created_at FROM event_groups WHERE wanted IS NULL ORDER BY id LIMIT 100000) g",
    )
    .get_result(conn)?;
    let backlog = store::backlog(conn, server.now)?;
    Ok(Condition {
        version: server.version,
        version_number: server.version_number,
        now: server.now,
        bytes: server.bytes,
        connections: (server.connections, server.most_connections),
        autovacuum: server.autovacuum,
        transaction_age: server.transaction_age,
        oldest_transaction: server.oldest_transaction,
        bloated,
        invalid_indexes: invalid.into_iter().map(|row| row.name).collect(),
        groups: waiting.groups,
        oldest_group: waiting.oldest_group,
        oldest_scheduled: waiting.oldest_scheduled,
        oldest_settlement: waiting.oldest_settlement,
        oldest_recovery: waiting.oldest_recovery,
        pending: backlog.pending,
        oldest_due: backlog.oldest_due,
        dead_letters: dead_letter::count(conn)?,
    })
}
