//! Payloads that are past their age. Of a day that is, the bodies of events, what transformations have made of them and the
//! replies to tries go; events, deliveries and tries stay.
//!
//! What somebody still has to get keeps its payload: events with a delivery under way, or that wait for their fan-out. They follow
//! when that has ended. A delivery is therefore never lost because its payload got old.

use std::collections::HashSet;

use chrono::{DateTime, Days, NaiveDate, Utc};
use diesel::{
    Connection, PgConnection, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{BigInt, Bool, Date, Timestamptz},
};

use super::rewrite::{self, ROWS_AT_ONCE, Table};
use crate::{Error, Result, db::partition};

/// One process at a time does a piece: "hookpayl" in ASCII.
const LOCK: i64 = 0x686f_6f6b_7061_796c;

/// Events that follow later, in one statement.
const LEFT_AT_ONCE: i64 = 500;

/// What came of a piece of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// There is nothing to do, for now.
    Idle,
    /// A piece was done; there may be more.
    Worked,
    /// The payloads of this day are gone, but for those that somebody still has to get.
    Purged(NaiveDate),
    /// Nothing of this day is left.
    Closed(NaiveDate),
    /// Somebody else has what is needed; worth another try a little later.
    Busy,
}

/// Does the next piece: copies some thousand rows, exchanges a table, or lets those follow that nobody waits for any more. Days
/// are done oldest first.
///
/// # Errors
/// When the database is away.
pub fn step(conn: &mut PgConnection, now: DateTime<Utc>, keep_days: u32) -> Result<Step> {
    #[derive(QueryableByName)]
    struct Locked {
        #[diesel(sql_type = Bool)]
        locked: bool,
    }
    let lock: Locked =
        sql_query(format!("SELECT pg_try_advisory_lock({LOCK}) AS locked")).get_result(conn)?;
    if !lock.locked {
        return Ok(Step::Idle);
    }
    let result = match piece(conn, now, keep_days) {
        Err(Error::Locked) => Ok(Step::Busy),
        other => other,
    };
    sql_query(format!("SELECT pg_advisory_unlock({LOCK})")).execute(conn)?;
    result
}

/// How far a day is that was begun: its events are done.
#[derive(QueryableByName)]
struct Standing {
    #[diesel(sql_type = Date)]
    day: NaiveDate,
    #[diesel(sql_type = Bool)]
    attempts: bool,
    #[diesel(sql_type = Bool)]
    closed: bool,
}

fn piece(conn: &mut PgConnection, now: DateTime<Utc>, keep_days: u32) -> Result<Step> {
    rewrite::drop_orphans(conn)?;
    let begun: Vec<Standing> = sql_query(
        "SELECT day, attempts_at IS NOT NULL AS attempts, closed_at IS NOT NULL AS closed FROM payload_days",
    )
    .load(conn)?;
    let closed: HashSet<NaiveDate> =
        begun.iter().filter(|standing| standing.closed).map(|standing| standing.day).collect();
    let oldest = now.date_naive() - Days::new(u64::from(keep_days));
    for day in partition::days_before(conn, oldest, &closed)? {
        let standing = begun.iter().find(|standing| standing.day == day);
        match of_day(conn, day, standing, now) {
            // Somebody has dropped the day meanwhile.
            Err(Error::Database(_)) if !partition::is_there(conn, &partition::name("events", day))? => {}
            Ok(Step::Idle) => {}
            other => return other,
        }
    }
    Ok(Step::Idle)
}

fn of_day(
    conn: &mut PgConnection,
    day: NaiveDate,
    standing: Option<&Standing>,
    now: DateTime<Utc>,
) -> Result<Step> {
    let Some(standing) = standing else {
        let table = events(day, now);
        if copy(conn, &table, day)? == Copied::Some {
            return Ok(Step::Worked);
        }
        rewrite::exchange(conn, &table, day, |conn| {
            catch_up(conn, &table, day)?;
            sql_query("INSERT INTO payload_days (day, events_at) VALUES ($1, $2)")
                .bind::<Date, _>(day)
                .bind::<Timestamptz, _>(now)
                .execute(conn)?;
            Ok(())
        })?;
        return Ok(Step::Worked);
    };
    if !standing.attempts {
        empty_bodies(conn, day)?;
        let table = attempts(day);
        if copy(conn, &table, day)? == Copied::Some {
            return Ok(Step::Worked);
        }
        rewrite::exchange(conn, &table, day, |conn| {
            // Only of an event that has its payload still there can have been a try meanwhile.
            let (copy, original) = (table.copy(day), partition::name("attempts", day));
            let events = partition::name("events", day);
            sql_query(format!(
                "INSERT INTO {copy} SELECT a.* FROM {events} e JOIN {original} a ON a.event_id = e.id \
                 WHERE e.body <> '' ON CONFLICT DO NOTHING"
            ))
            .execute(conn)?;
            sql_query("UPDATE payload_days SET attempts_at = $2 WHERE day = $1")
                .bind::<Date, _>(day)
                .bind::<Timestamptz, _>(now)
                .execute(conn)?;
            Ok(())
        })?;
        return Ok(Step::Purged(day));
    }
    let (followed, left) = follow(conn, day, now)?;
    if left == 0 {
        sql_query("UPDATE payload_days SET closed_at = $2 WHERE day = $1")
            .bind::<Date, _>(day)
            .bind::<Timestamptz, _>(now)
            .execute(conn)?;
        return Ok(Step::Closed(day));
    }
    Ok(if followed == 0 { Step::Idle } else { Step::Worked })
}

#[derive(PartialEq, Eq)]
enum Copied {
    Some,
    All,
}

/// Copies a piece of the partition.
fn copy(conn: &mut PgConnection, table: &Table, day: NaiveDate) -> Result<Copied> {
    rewrite::prepare(conn, table, day)?;
    let copied = rewrite::copy_some(conn, table, day)?;
    if i64::try_from(copied).is_ok_and(|copied| copied == ROWS_AT_ONCE) {
        return Ok(Copied::Some);
    }
    if copied > 0 {
        rewrite::settle(conn, table, day)?;
    }
    Ok(Copied::All)
}

/// Whether somebody still has to get event `o` of this day: one of its deliveries is under way, or it waits for its fan-out.
fn is_wanted(day: NaiveDate) -> String {
    let (deliveries, (_, end)) = (partition::name("deliveries", day), partition::bounds(day));
    // `+ 0` has it looked up by its key among what has not arrived, however many are under way.
    format!(
        "(EXISTS (SELECT FROM {deliveries} d WHERE d.tenant_id = o.tenant_id AND d.event_id = o.id \
            AND d.state IN (0, 2) AND d.state + 0 = 0) \
          OR o.id IN (SELECT unnest(g.event_ids) FROM event_groups g WHERE g.id < '{end}'))"
    )
}

fn events(day: NaiveDate, now: DateTime<Utc>) -> Table {
    let (wanted, now) = (is_wanted(day), now.to_rfc3339());
    Table {
        name: "events",
        key: &["tenant_id", "id"],
        changed: vec![
            ("body", format!("CASE WHEN {wanted} THEN o.body ELSE '' END")),
            (
                "payload_purged_at",
                format!(
                    "COALESCE(o.payload_purged_at, CASE WHEN {wanted} THEN NULL ELSE '{now}'::timestamptz END)"
                ),
            ),
        ],
        // What still has its payload: little, and asked for again and again.
        index: Some("(id) WHERE body <> ''"),
    }
}

fn attempts(day: NaiveDate) -> Table {
    let events = partition::name("events", day);
    Table {
        name: "attempts",
        key: &["event_id", "subscription_id", "number"],
        changed: vec![(
            "reply",
            format!(
                "CASE WHEN EXISTS (SELECT FROM {events} e WHERE e.id = o.event_id AND e.body <> '') THEN o.reply END"
            ),
        )],
        index: None,
    }
}

/// What has happened to events since they were copied: somebody wants one after all, or has purged one that was wanted.
fn catch_up(conn: &mut PgConnection, table: &Table, day: NaiveDate) -> Result<()> {
    let (copy, original) = (table.copy(day), partition::name("events", day));
    let deliveries = partition::name("deliveries", day);
    sql_query(format!(
        "WITH wanted AS MATERIALIZED (\
            SELECT d.tenant_id AS t, d.event_id AS e FROM {deliveries} d WHERE d.state = 0 \
            UNION SELECT k.t, k.e FROM event_groups g CROSS JOIN LATERAL unnest(g.tenant_ids, g.event_ids) AS k (t, e)) \
         UPDATE {copy} n SET body = o.body, payload_purged_at = o.payload_purged_at FROM wanted w \
            JOIN {original} o ON o.tenant_id = w.t AND o.id = w.e AND o.body <> '' \
         WHERE n.tenant_id = w.t AND n.id = w.e AND n.body = ''"
    ))
    .execute(conn)?;
    sql_query(format!(
        "WITH kept AS MATERIALIZED (SELECT tenant_id AS t, id AS e FROM {copy} WHERE body <> '') \
         UPDATE {copy} n SET body = '', payload_purged_at = o.payload_purged_at FROM kept k \
            JOIN {original} o ON o.tenant_id = k.t AND o.id = k.e AND o.body = '' \
         WHERE n.tenant_id = k.t AND n.id = k.e"
    ))
    .execute(conn)?;
    Ok(())
}

/// Empties the bodies that transformations have made, but for those of events that have their payload.
fn empty_bodies(conn: &mut PgConnection, day: NaiveDate) -> Result<()> {
    let (bodies, events) = (partition::name("delivery_bodies", day), partition::name("events", day));
    let any: Vec<Count> =
        sql_query(format!("SELECT 1::bigint AS count FROM (SELECT FROM {bodies} LIMIT 1) b")).load(conn)?;
    if any.is_empty() {
        return Ok(());
    }
    partition::with_the_table(conn, |conn| {
        sql_query(format!("LOCK TABLE {bodies} IN ACCESS EXCLUSIVE MODE")).execute(conn)?;
        sql_query(format!(
            "CREATE TEMPORARY TABLE kept_bodies ON COMMIT DROP AS SELECT b.* FROM {events} e \
             JOIN {bodies} b ON b.event_id = e.id WHERE e.body <> ''"
        ))
        .execute(conn)?;
        sql_query(format!("TRUNCATE {bodies}")).execute(conn)?;
        sql_query(format!("INSERT INTO {bodies} SELECT * FROM kept_bodies")).execute(conn)?;
        Ok(())
    })
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// Lets those follow that nobody has to get any more. Returns how many, and how many payloads the day still has.
fn follow(conn: &mut PgConnection, day: NaiveDate, now: DateTime<Utc>) -> Result<(i64, i64)> {
    let [events, bodies, attempts] =
        ["events", "delivery_bodies", "attempts"].map(|table| partition::name(table, day));
    let wanted = is_wanted(day);
    conn.transaction(|conn| {
        let followed: Count = sql_query(format!(
            "WITH gone AS (UPDATE {events} n SET body = '', payload_purged_at = $1 \
                WHERE (n.tenant_id, n.id) IN (SELECT o.tenant_id, o.id FROM {events} o \
                    WHERE o.body <> '' AND NOT {wanted} LIMIT {LEFT_AT_ONCE} FOR UPDATE SKIP LOCKED) RETURNING n.id), \
             made AS (DELETE FROM {bodies} b USING gone WHERE b.event_id = gone.id), \
             told AS (UPDATE {attempts} a SET reply = NULL FROM gone WHERE a.event_id = gone.id AND a.reply IS NOT NULL) \
             SELECT count(*) AS count FROM gone"
        ))
        .bind::<Timestamptz, _>(now)
        .get_result(conn)?;
        let left: Count =
            sql_query(format!("SELECT count(*) AS count FROM {events} WHERE body <> ''")).get_result(conn)?;
        Ok((followed.count, left.count))
    })
}
