//! Payloads that are past their age. Of a day that is, the bodies of events, what transformations have made of them and the
//! replies to tries go; events, deliveries and tries stay.
//!
//! What somebody still has to get keeps its payload: events with a delivery under way, or that wait for their fan-out. They follow
//! when that has ended. A delivery is therefore never lost because its payload got old. Messages of inboxes are no deliveries in this
//! sense: nobody sends them, so they end with the age of their payload.

use std::collections::HashSet;

use chrono::{DateTime, Days, NaiveDate, NaiveTime, TimeDelta, Utc};
use diesel::{
    PgConnection, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Array, BigInt, Bool, Date, Text, Timestamptz, Uuid},
};

use super::{
    PAYLOAD_PURGED, catch_up,
    rewrite::{self, ROWS_AT_ONCE, Table},
};
use crate::{Error, Result, db::partition, delivery::EXPIRED, id::first_uuid_at};

/// One process at a time does a piece: "hookpayl" in ASCII.
const LOCK: i64 = 0x686f_6f6b_7061_796c;

/// The profile of messages of inboxes, which keep no payload past its age.
pub(super) const INBOX: i16 = 5;

/// Events that are looked at in one statement, whether they may follow.
const LEFT_AT_ONCE: i64 = 500;

/// Events of one day that are looked at in one step, whether somebody still has to get them.
const LOOKED_AT: usize = 20_000;

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
    let mut failed = None;
    for day in partition::days_before(conn, oldest, &closed)? {
        let standing = begun.iter().find(|standing| standing.day == day);
        match of_day(conn, day, standing, now) {
            // Somebody has dropped the day meanwhile.
            Err(Error::Database(_)) if !partition::is_there(conn, &partition::name("events", day))? => {}
            Ok(Step::Idle) => {}
            // What one day cannot do keeps no other from it. It is told when there is nothing else to do.
            Err(error @ (Error::Database(_) | Error::Away(_))) => failed = failed.or(Some(error)),
            other => return other,
        }
    }
    failed.map_or(Ok(Step::Idle), Err)
}

fn of_day(
    conn: &mut PgConnection,
    day: NaiveDate,
    standing: Option<&Standing>,
    now: DateTime<Utc>,
) -> Result<Step> {
    if end_messages(conn, day, now)? > 0 {
        return Ok(Step::Worked);
    }
    let Some(standing) = standing else {
        let table = events(day, now);
        if copy(conn, &table, day)? == Copied::Some {
            return Ok(Step::Worked);
        }
        let since = now - catch_up::LATE;
        catch_up::events(conn, &table, day)?;
        rewrite::exchange(conn, &table, day, &["deliveries", "events"], |conn| {
            catch_up::events_since(conn, &table, day, since)?;
            sql_query("INSERT INTO payload_days (day, events_at) VALUES ($1, $2)")
                .bind::<Date, _>(day)
                .bind::<Timestamptz, _>(now)
                .execute(conn)?;
            Ok(())
        })?;
        return Ok(Step::Worked);
    };
    if !standing.attempts {
        let table = attempts(day);
        // Once: what is made from now on belongs to events that have their payload.
        if !partition::is_there(conn, &table.copy(day))? {
            empty_bodies(conn, day)?;
        }
        if copy(conn, &table, day)? == Copied::Some {
            return Ok(Step::Worked);
        }
        catch_up::attempts(conn, &table, day)?;
        rewrite::exchange(conn, &table, day, &["attempts"], |conn| {
            catch_up::attempts_since(conn, &table, day)?;
            sql_query("UPDATE payload_days SET attempts_at = $2 WHERE day = $1")
                .bind::<Date, _>(day)
                .bind::<Timestamptz, _>(now)
                .execute(conn)?;
            Ok(())
        })?;
        return Ok(Step::Purged(day));
    }
    let (followed, left) = follow(conn, day, now)?;
    if !left {
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

/// Ends messages of inboxes that nobody has in his hands: some are only read in order and never acknowledged, and would keep their
/// payload for ever. Returns how many.
fn end_messages(conn: &mut PgConnection, day: NaiveDate, now: DateTime<Utc>) -> Result<usize> {
    let deliveries = partition::name("deliveries", day);
    let mut ended = 0;
    // Each by the index that is made for it.
    for free in ["d.leased_until IS NULL", "d.leased_until IS NOT NULL AND d.leased_until <= $1"] {
        ended += sql_query(format!(
            "WITH k AS MATERIALIZED (SELECT d.event_id AS e, d.subscription_id AS s FROM {deliveries} d \
                WHERE d.profile = {INBOX} AND d.state IN (0, 2) AND d.state + 0 = 0 AND {free} \
                LIMIT {ROWS_AT_ONCE} FOR UPDATE SKIP LOCKED) \
             UPDATE {deliveries} d SET state = 3, settled_at = $1, leased_until = NULL, \
                claim = '00000000-0000-0000-0000-000000000000', \
                last_reason = CASE WHEN d.expires_at <= $1 THEN $2 ELSE $3 END \
             FROM k WHERE d.event_id = k.e AND d.subscription_id = k.s"
        ))
        .bind::<Timestamptz, _>(now)
        .bind::<Text, _>(EXPIRED)
        .bind::<Text, _>(PAYLOAD_PURGED)
        .execute(conn)?;
    }
    Ok(ended)
}

/// Whether somebody still has to get event `o` of this day: one of its deliveries is under way, or it waits for its fan-out.
fn is_wanted(day: NaiveDate) -> String {
    let (deliveries, (_, end)) = (partition::name("deliveries", day), partition::bounds(day));
    // `+ 0` has it looked up by its key among what has not arrived, however many are under way.
    format!(
        "(EXISTS (SELECT FROM {deliveries} d WHERE d.tenant_id = o.tenant_id AND d.event_id = o.id \
            AND d.state IN (0, 2) AND d.state + 0 = 0 AND d.profile <> {INBOX}) \
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

/// Lets those follow that nobody has to get any more. Looks at [`LOOKED_AT`] of those that are left at most, at others each time.
/// Returns how many followed, and whether the day has payloads still.
fn follow(conn: &mut PgConnection, day: NaiveDate, now: DateTime<Utc>) -> Result<(i64, bool)> {
    let events = partition::name("events", day);
    let (first, end) = partition::bounds(day);
    // A time of that day by the clock: looks follow one another by less than a minute, and begin far from one another.
    let second = now.timestamp().rem_euclid(86_400).saturating_mul(7_919).rem_euclid(86_400);
    let start = first_uuid_at(day.and_time(NaiveTime::MIN).and_utc() + TimeDelta::seconds(second));
    let (mut followed, mut looked_at) = (0, 0);
    for (from, to) in [(start, end), (first, start)] {
        let mut from = from;
        while looked_at < LOOKED_AT {
            let piece: Vec<Left> = sql_query(format!(
                "SELECT id FROM {events} WHERE body <> '' AND id >= $1 AND id < $2 ORDER BY id LIMIT {LEFT_AT_ONCE}"
            ))
            .bind::<Uuid, _>(from)
            .bind::<Uuid, _>(to)
            .load(conn)?;
            let Some(last) = piece.last() else { break };
            from = uuid::Uuid::from_u128(last.id.as_u128().saturating_add(1));
            looked_at += piece.len();
            followed += let_go(conn, day, now, piece.into_iter().map(|left| left.id).collect())?;
        }
    }
    let left: Count = sql_query(format!(
        "SELECT EXISTS (SELECT FROM {events} WHERE body <> '' LIMIT 1)::integer::bigint AS count"
    ))
    .get_result(conn)?;
    Ok((followed, left.count > 0))
}

#[derive(QueryableByName)]
struct Left {
    #[diesel(sql_type = Uuid)]
    id: uuid::Uuid,
}

/// Lets those of these events go that nobody has to get.
fn let_go(
    conn: &mut PgConnection,
    day: NaiveDate,
    now: DateTime<Utc>,
    candidates: Vec<uuid::Uuid>,
) -> Result<i64> {
    let [events, bodies, attempts] =
        ["events", "delivery_bodies", "attempts"].map(|table| partition::name(table, day));
    let wanted = is_wanted(day);
    let gone: Count = sql_query(format!(
        "WITH gone AS (UPDATE {events} n SET body = '', payload_purged_at = $1 \
            WHERE n.body <> '' AND n.id IN (SELECT o.id FROM {events} o \
                WHERE o.id = ANY($2) AND o.body <> '' AND NOT {wanted} FOR UPDATE SKIP LOCKED) RETURNING n.id), \
         made AS (DELETE FROM {bodies} b USING gone WHERE b.event_id = gone.id), \
         told AS (UPDATE {attempts} a SET reply = NULL FROM gone WHERE a.event_id = gone.id AND a.reply IS NOT NULL) \
         SELECT count(*) AS count FROM gone"
    ))
    .bind::<Timestamptz, _>(now)
    .bind::<Array<Uuid>, _>(candidates)
    .get_result(conn)?;
    Ok(gone.count)
}
