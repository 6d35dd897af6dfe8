//! Partitions by day for events, deliveries, their bodies and attempts: made ahead, and dropped when they are past their age
//! (invariant 11). All four are cut by the id of the event, so that an event goes with all that happened to it.

use std::collections::{BTreeSet, HashSet};

use chrono::{DateTime, Days, NaiveDate, NaiveTime, TimeDelta, Utc};
use diesel::{
    Connection, PgConnection, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Array, Bool, Date, Text, Timestamptz, Uuid},
};

use crate::{
    Error, Result,
    clock::Clock,
    id::{EventId, first_uuid_at},
};

/// Days for which partitions exist in advance.
pub const DAYS_AHEAD: u64 = 7;

/// The longest that anything is kept (`registry.retention_days`), in days.
const MOST_DAYS: u64 = 3_650;

/// What counts as near.
const NEAR: TimeDelta = TimeDelta::days(1);

pub(crate) const TABLES: [&str; 4] = ["events", "deliveries", "delivery_bodies", "attempts"];

/// How long a change of a table's partitions waits for those who use the table. Whoever comes later waits behind it, so it is
/// short: events are accepted meanwhile.
const PATIENCE_MS: u32 = 100;

/// Tries, after which it is left to the next look.
const TRIES: usize = 10;

/// Between two of them.
const BETWEEN: std::time::Duration = std::time::Duration::from_millis(150);

/// Two processes never make or drop partitions at the same time.
const LOCK: i64 = 0x686f_6f6b_7061_7274;

/// The id of an event as a constant of a statement. With a parameter all partitions are planned for, which takes the longer the
/// more of them have something in them.
pub(crate) fn constant(event: EventId) -> String {
    format!("'{}'::uuid", event.uuid())
}

/// A page, newest first, of entries before an instant; without one, the newest page. `find` is asked for what happened since an instant, or
/// ever: first since a day before the newest, so that only those partitions are planned for, and those of the days ahead. If they fill
/// the page, it is the page that all of them would fill.
///
/// # Errors
/// Those of `find`.
pub(crate) fn nearest<T>(
    newest: Option<DateTime<Utc>>,
    limit: i64,
    mut find: impl FnMut(Option<DateTime<Utc>>) -> Result<Vec<T>>,
) -> Result<Vec<T>> {
    // Where it is looked first changes nothing of what is found.
    let near = newest.unwrap_or_else(|| Clock::system().now()) - NEAR;
    let found = find(Some(near))?;
    if i64::try_from(found.len()).unwrap_or(i64::MAX) >= limit { Ok(found) } else { find(None) }
}

/// Makes the partitions of today (and of yesterday, for clocks that lag) and of the days ahead. Returns how many were
/// new.
///
/// # Errors
/// When the database is away.
pub fn ensure(conn: &mut PgConnection, now: DateTime<Utc>) -> Result<usize> {
    sql_query(format!("SELECT pg_advisory_lock({LOCK})")).execute(conn)?;
    let result = ensure_locked(conn, now);
    sql_query(format!("SELECT pg_advisory_unlock({LOCK})")).execute(conn)?;
    result
}

fn ensure_locked(conn: &mut PgConnection, now: DateTime<Utc>) -> Result<usize> {
    let existing = existing(conn)?;
    let first = now.date_naive() - Days::new(1);
    let mut made = 0;
    for day in first.iter_days().take(usize::try_from(DAYS_AHEAD).unwrap_or(0) + 2) {
        for table in TABLES {
            let name = name(table, day);
            if existing.contains(&name) {
                continue;
            }
            let (from, to) = (start(day), start(day + Days::new(1)));
            // Deliveries are updated after they were inserted: room on the page keeps the update there.
            let options = if table == "deliveries" { " WITH (fillfactor = 75)" } else { "" };
            let create = format!(
                "CREATE TABLE {name} PARTITION OF {table} FOR VALUES FROM ('{from}') TO ('{to}'){options}"
            );
            patiently(conn, |conn| Ok(sql_query(&create).execute(conn)?))?;
            made += 1;
        }
    }
    Ok(made)
}

/// Drops the partitions whose last event is older than `keep_days`. Of events that were posted for later the days count from
/// when they are fanned out: their partitions stay until then. Returns the names of what was dropped.
///
/// # Errors
/// When the database is away.
pub fn drop_older(conn: &mut PgConnection, now: DateTime<Utc>, keep_days: u32) -> Result<Vec<String>> {
    sql_query(format!("SELECT pg_advisory_lock({LOCK})")).execute(conn)?;
    let result = drop_locked(conn, now, keep_days);
    sql_query(format!("SELECT pg_advisory_unlock({LOCK})")).execute(conn)?;
    result
}

fn drop_locked(conn: &mut PgConnection, now: DateTime<Utc>, keep_days: u32) -> Result<Vec<String>> {
    let oldest = now.date_naive() - Days::new(u64::from(keep_days));
    let mut old = existing(conn)?;
    old.retain(|table| day_of(table).is_some_and(|day| day < oldest));
    let needed = needed(conn, old.iter().filter_map(|table| day_of(table)), oldest)?;
    old.retain(|table| day_of(table).is_some_and(|day| !needed.contains(&day)));
    let days: BTreeSet<NaiveDate> = old.iter().filter_map(|table| day_of(table)).collect();
    for day in days {
        // All of a day or nothing: no event stays without what happened to it.
        let of_day: Vec<&str> =
            old.iter().filter(|table| day_of(table) == Some(day)).map(String::as_str).collect();
        let drop = format!("DROP TABLE {}", of_day.join(", "));
        patiently(conn, |conn| Ok(sql_query(&drop).execute(conn)?))?;
    }
    sql_query("DELETE FROM payload_days WHERE day < $1 AND to_regclass('events_' || to_char(day, 'YYYYMMDD')) IS NULL")
        .bind::<Date, _>(oldest)
        .execute(conn)?;
    sql_query("DELETE FROM scheduled_days WHERE fanned_out_at < $1")
        .bind::<Timestamptz, _>(midnight(oldest))
        .execute(conn)?;
    sql_query("DELETE FROM scheduled_past WHERE due_at < $1")
        .bind::<Timestamptz, _>(midnight(oldest))
        .execute(conn)?;
    Ok(old)
}

/// Those of these days that have events that wait for their time, or that were fanned out on the oldest day that is kept or
/// later.
fn needed(
    conn: &mut PgConnection,
    days: impl Iterator<Item = NaiveDate>,
    oldest: NaiveDate,
) -> Result<HashSet<NaiveDate>> {
    #[derive(QueryableByName)]
    struct Needed {
        #[diesel(sql_type = Date)]
        day: NaiveDate,
    }
    let days: HashSet<NaiveDate> = days.collect();
    if days.is_empty() {
        return Ok(days);
    }
    // One statement: what is brought to those that wait for their fan-out meanwhile is seen here or there.
    let rows: Vec<Needed> = sql_query(
        "SELECT d.day FROM unnest($1, $2, $3) AS d (day, first, next) \
         WHERE EXISTS (SELECT FROM scheduled_events e WHERE e.id >= d.first AND e.id < d.next) \
            OR EXISTS (SELECT FROM scheduled_days s WHERE s.day = d.day AND s.fanned_out_at >= $4)",
    )
    .bind::<Array<Date>, _>(days.iter().copied().collect::<Vec<_>>())
    .bind::<Array<Uuid>, _>(days.iter().map(|day| start(*day)).collect::<Vec<_>>())
    .bind::<Array<Uuid>, _>(days.iter().map(|day| start(*day + Days::new(1))).collect::<Vec<_>>())
    .bind::<Timestamptz, _>(midnight(oldest))
    .load(conn)?;
    Ok(rows.into_iter().map(|row| row.day).collect())
}

/// Changes the partitions of a table in a transaction of its own, in which locks are waited for [`PATIENCE_MS`]; again when somebody
/// uses the table just then.
fn patiently<T>(conn: &mut PgConnection, change: impl Fn(&mut PgConnection) -> Result<T>) -> Result<T> {
    let mut tries = TRIES;
    loop {
        let changed = conn.transaction(|conn| {
            sql_query(format!("SET LOCAL lock_timeout = '{PATIENCE_MS}ms'")).execute(conn)?;
            change(conn)
        });
        tries -= 1;
        match changed {
            Err(Error::Locked) if tries > 0 => std::thread::sleep(BETWEEN),
            other => return other,
        }
    }
}

/// As [`patiently`], for those who change a table while nobody else changes its partitions.
pub(crate) fn with_the_table<T>(
    conn: &mut PgConnection,
    change: impl Fn(&mut PgConnection) -> Result<T>,
) -> Result<T> {
    patiently(conn, |conn| {
        sql_query(format!("SELECT pg_advisory_xact_lock({LOCK})")).execute(conn)?;
        change(conn)
    })
}

/// The days before this one that have a partition for events, oldest first, without those that are `done`; and not those of which
/// events wait for their time, or were fanned out on that day or later.
pub(crate) fn days_before(
    conn: &mut PgConnection,
    oldest: NaiveDate,
    done: &HashSet<NaiveDate>,
) -> Result<Vec<NaiveDate>> {
    let mut days: Vec<NaiveDate> = existing(conn)?
        .iter()
        .filter(|name| name.starts_with("events_"))
        .filter_map(|name| day_of(name))
        .filter(|day| *day < oldest && !done.contains(day))
        .collect();
    days.sort_unstable();
    let needed = needed(conn, days.iter().copied(), oldest)?;
    days.retain(|day| !needed.contains(day));
    Ok(days)
}

/// Whether there is a table of this name.
pub(crate) fn is_there(conn: &mut PgConnection, name: &str) -> Result<bool> {
    #[derive(QueryableByName)]
    struct There {
        #[diesel(sql_type = Bool)]
        there: bool,
    }
    let row: There =
        sql_query("SELECT to_regclass($1) IS NOT NULL AS there").bind::<Text, _>(name).get_result(conn)?;
    Ok(row.there)
}

/// The partition of `table` that holds what belongs to an event.
pub(crate) fn holding(table: &str, event: EventId) -> String {
    // A UUIDv7 begins with its milliseconds.
    let millis = i64::try_from(event.uuid().as_u128() >> 80).unwrap_or(0);
    name(table, DateTime::from_timestamp_millis(millis).unwrap_or_default().date_naive())
}

/// The partitions of `table` for what happened between the time in a UUIDv7 and an instant: as many as there are days, and no
/// more than are ever kept ahead and behind.
pub(crate) fn holding_between(table: &str, first: uuid::Uuid, last: DateTime<Utc>) -> Vec<String> {
    let millis = i64::try_from(first.as_u128() >> 80).unwrap_or(0);
    let first = DateTime::from_timestamp_millis(millis).unwrap_or_default().date_naive();
    let last = last.date_naive();
    // Of what is older there is nothing any more, and what claims to come from the future is looked for today.
    let oldest = last.checked_sub_days(Days::new(MOST_DAYS)).unwrap_or(last);
    first.clamp(oldest, last).iter_days().take_while(|day| *day <= last).map(|day| name(table, day)).collect()
}

/// Whether a statement failed because its partition is not there any more.
pub(crate) fn is_dropped(error: &diesel::result::Error) -> bool {
    use diesel::result::{DatabaseErrorKind, Error};
    matches!(error, Error::DatabaseError(DatabaseErrorKind::Unknown, info)
        if info.message().starts_with("relation \"") && info.message().ends_with("does not exist"))
}

fn existing(conn: &mut PgConnection) -> Result<Vec<String>> {
    let rows: Vec<Partition> = sql_query(
        "SELECT c.relname::text AS name FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
         WHERE i.inhparent IN ('events'::regclass, 'deliveries'::regclass, 'delivery_bodies'::regclass, \
            'attempts'::regclass) ORDER BY 1",
    )
    .load(conn)?;
    Ok(rows.into_iter().map(|row| row.name).collect())
}

#[derive(QueryableByName)]
struct Partition {
    #[diesel(sql_type = Text)]
    name: String,
}

/// The partition of `table` for a day.
pub(crate) fn name(table: &str, day: NaiveDate) -> String {
    format!("{table}_{}", day.format("%Y%m%d"))
}

/// The day of a partition; `None` of what is none.
pub(crate) fn day_of(partition: &str) -> Option<NaiveDate> {
    let (_, day) = partition.rsplit_once('_')?;
    NaiveDate::parse_from_str(day, "%Y%m%d").ok()
}

/// The first id of a day, and the first of the next.
pub(crate) fn bounds(day: NaiveDate) -> (uuid::Uuid, uuid::Uuid) {
    (start(day), start(day + Days::new(1)))
}

fn start(day: NaiveDate) -> uuid::Uuid {
    first_uuid_at(midnight(day))
}

fn midnight(day: NaiveDate) -> DateTime<Utc> {
    day.and_time(NaiveTime::MIN).and_utc()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partitions_name_tells_its_day() {
        let day = NaiveDate::from_ymd_opt(2026, 11, 21).unwrap();
        assert_eq!(name("events", day), "events_20261121");
        assert_eq!(day_of("events_20261121"), Some(day));
        assert_eq!(day_of("events"), None);
    }

    #[test]
    fn an_event_is_in_the_partition_of_the_day_it_was_accepted() {
        let at = |text: &str| EventId::new(text.parse().unwrap());
        assert_eq!(holding("events", at("2026-11-21T23:59:59.999Z")), "events_20261121");
        assert_eq!(holding("deliveries", at("2026-11-22T00:00:00Z")), "deliveries_20261122");
    }

    #[test]
    fn a_span_names_its_days() {
        let uuid = |text: &str| first_uuid_at(text.parse().unwrap());
        let last: DateTime<Utc> = "2026-11-22T00:30:00Z".parse().unwrap();
        let named = |first: &str| holding_between("deliveries", uuid(first), last);
        assert_eq!(named("2026-11-22T00:00:00Z"), ["deliveries_20261122"]);
        assert_eq!(named("2026-11-21T23:59:59.999Z"), ["deliveries_20261121", "deliveries_20261122"]);
        assert_eq!(named("2026-12-24T00:00:00Z"), ["deliveries_20261122"]);
        assert_eq!(named("1970-01-01T00:00:00Z").len(), MOST_DAYS as usize + 1);
    }

    #[test]
    fn a_day_ends_where_the_next_begins() {
        let day = NaiveDate::from_ymd_opt(2026, 11, 21).unwrap();
        assert!(start(day) < start(day + Days::new(1)));
        assert!(start(day).to_string().ends_with("-0000-0000-000000000000"));
    }
}
