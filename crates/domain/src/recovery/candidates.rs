//! The events that a recovery has to look at, oldest first, and those that a preview looks at, newest first.

use chrono::{DateTime, Utc};
use diesel::{
    OptionalExtension, PgConnection, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Array, BigInt, Binary, Bool, Nullable, SmallInt, Text, Timestamptz, Uuid},
};

use super::Which;
use crate::{
    Result,
    db::prepared::planned_for_values,
    delivery::{CANCELLED_BY_TRANSFORMATION, Profile},
    event::{EventType, Origin},
    id::{EventId, SubscriptionId, TenantId, first_uuid_at},
};

/// Events that are read at once with their bodies at the most.
pub const BODIES_AT_ONCE: usize = 500;

/// Bytes of events that are read at once; one event is always read. Large events make small pages.
pub const PAGE_BYTES: usize = 8 << 20;

/// An event that may be sent again.
#[derive(Clone, Debug, QueryableByName)]
pub struct Candidate {
    /// Which.
    #[diesel(sql_type = Uuid)]
    pub id: EventId,
    /// What kind of thing happened.
    #[diesel(sql_type = Text)]
    pub event_type: EventType,
    /// Who made it.
    #[diesel(sql_type = SmallInt)]
    pub origin: Origin,
    /// When it was accepted.
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
    /// The canonical body; `None` where nobody looks at it.
    #[diesel(sql_type = Nullable<Binary>)]
    pub body: Option<Vec<u8>>,
}

/// Which events are looked at.
#[derive(Clone, Debug)]
pub struct Range {
    /// Whose.
    pub tenant: TenantId,
    /// At which endpoint.
    pub endpoint: SubscriptionId,
    /// How its deliveries are tried.
    pub profile: Profile,
    /// By what became of them there.
    pub which: Which,
    /// Accepted at or after.
    pub since: DateTime<Utc>,
    /// Accepted before.
    pub until: DateTime<Utc>,
    /// Of events accepted before only those whose delivery ended, or whose time came, at or after; `None` = all.
    pub kept_from: Option<DateTime<Utc>>,
    /// Only of these types; `None` = of any.
    pub types: Option<Vec<String>>,
}

/// Events of the tenant that one statement goes through at the most, however few of them are looked for.
const WINDOW: usize = 10_000;

/// Some of the events of a range, and where to go on.
#[derive(Clone, Debug)]
pub struct Page {
    /// The events.
    pub events: Vec<Candidate>,
    /// Everything up to this event was looked through.
    pub up_to: Option<EventId>,
    /// Whether that is all of the range.
    pub is_last: bool,
}

/// The conditions on events `e` and their deliveries `d`: `$1` tenant, `$2` endpoint, `$3` and `$4` the range, `$5` after which, `$6`
/// profile, `$7` types, `$8` up to which, `$9` from when they were kept. Tests go nowhere else; what is scheduled for later is not due yet; what has no body any more
/// cannot be sent.
fn from_where(which: Which) -> String {
    // Spelled out, so that what failed is found by its own index.
    let failed = format!(
        "(d.state IN (2, 3, 4) AND (d.state = 2 OR d.state = 3 AND d.last_reason IS DISTINCT FROM '{CANCELLED_BY_TRANSFORMATION}'))"
    );
    let (join, state) = match which {
        Which::Failed => ("JOIN", failed),
        Which::Missing => ("LEFT JOIN", "d.state IS NULL".to_owned()),
        Which::Undelivered => ("LEFT JOIN", format!("(d.state IS NULL OR {failed})")),
        Which::NotArrived => ("LEFT JOIN", "(d.state IS NULL OR d.state IN (2, 3, 4))".to_owned()),
        Which::All => ("LEFT JOIN", "(d.state IS NULL OR d.state <> 0)".to_owned()),
    };
    format!(
        "FROM events e {join} deliveries d ON d.event_id = e.id AND d.subscription_id = $2 AND d.tenant_id = $1 \
            AND d.event_id >= $3 AND d.event_id < $4 AND ($5 IS NULL OR d.event_id > $5) AND ($8 IS NULL OR d.event_id <= $8) \
         WHERE e.tenant_id = $1 AND e.id >= $3 AND e.id < $4 AND ($5 IS NULL OR e.id > $5) AND ($8 IS NULL OR e.id <= $8) \
           AND e.origin IN (0, 1) AND {state} AND (d.profile IS NULL OR d.profile = $6) \
           AND ($7 IS NULL OR e.event_type = ANY($7)) AND octet_length(e.body) > 0 \
           AND ($9 IS NULL OR e.created_at >= $9 OR d.settled_at >= $9 \
              OR EXISTS (SELECT FROM scheduled_past p WHERE p.id = e.id AND p.due_at >= $9)) \
           AND NOT EXISTS (SELECT FROM scheduled_events w WHERE w.id = e.id)"
    )
}

/// The statement of [`candidates`].
#[must_use]
pub fn statement(which: Which) -> String {
    within_bytes(
        &format!("CASE WHEN $10 THEN e.body END AS body {} ORDER BY e.id LIMIT $11", from_where(which)),
        "id",
    )
}

/// What is found, as far as its bodies may be read at once, and how many were found. The size of a body is known without reading it.
fn within_bytes(found: &str, order: &str) -> String {
    format!(
        "SELECT id, event_type, origin, created_at, body, found FROM (\
            SELECT k.*, sum(octet_length(body)) OVER (ORDER BY {order}) AS bytes, row_number() OVER (ORDER BY {order}) AS place, \
               count(*) OVER () AS found \
            FROM (SELECT e.id, e.event_type, e.origin, e.created_at, {found}) AS k) AS k \
         WHERE place = 1 OR bytes IS NULL OR bytes <= {PAGE_BYTES} ORDER BY {order}"
    )
}

/// A row of [`within_bytes`].
#[derive(QueryableByName)]
struct Found {
    #[diesel(embed)]
    event: Candidate,
    #[diesel(sql_type = BigInt)]
    found: i64,
}

/// The events, and whether there is nothing behind them: neither were they as many as were asked for, nor were some of them left out.
fn taken(rows: Vec<Found>, limit: usize) -> (Vec<Candidate>, bool) {
    let found = rows.first().map_or(0, |row| usize::try_from(row.found).unwrap_or(usize::MAX));
    let is_all = found < limit && found == rows.len();
    (rows.into_iter().map(|row| row.event).collect(), is_all)
}

/// Where a window ends.
#[derive(QueryableByName)]
struct Edge {
    #[diesel(sql_type = Uuid)]
    id: EventId,
}

/// Up to which event a statement goes; `None` = to the end of the range. By the key of events alone, so that a range in which there
/// is nothing to be found is gone through in steps, too.
fn window(conn: &mut PgConnection, range: &Range, after: Option<EventId>) -> Result<Option<EventId>> {
    let row: Option<Edge> = planned_for_values(conn, |conn| {
        Ok(sql_query(format!(
            "SELECT id FROM events WHERE tenant_id = $1 AND id >= $2 AND id < $3 AND ($4 IS NULL OR id > $4) \
             ORDER BY id OFFSET {} LIMIT 1",
            WINDOW - 1
        ))
        .bind::<Uuid, _>(range.tenant)
        .bind::<Uuid, _>(first_uuid_at(range.since))
        .bind::<Uuid, _>(first_uuid_at(range.until))
        .bind::<Nullable<Uuid>, _>(after)
        .get_result(conn)
        .optional()?)
    })?;
    Ok(row.map(|row| row.id))
}

/// A page of the events of a range behind `after`, with their bodies if somebody looks at them: then as many as have [`PAGE_BYTES`]
/// together.
///
/// # Errors
/// When the database is away.
pub fn candidates(
    conn: &mut PgConnection,
    range: &Range,
    after: Option<EventId>,
    with_bodies: bool,
    limit: usize,
) -> Result<Page> {
    let end = window(conn, range, after)?;
    let rows: Vec<Found> = planned_for_values(conn, |conn| {
        Ok(sql_query(statement(range.which))
            .bind::<Uuid, _>(range.tenant)
            .bind::<Uuid, _>(range.endpoint)
            .bind::<Uuid, _>(first_uuid_at(range.since))
            .bind::<Uuid, _>(first_uuid_at(range.until))
            .bind::<Nullable<Uuid>, _>(after)
            .bind::<SmallInt, _>(range.profile)
            .bind::<Nullable<Array<Text>>, _>(&range.types)
            .bind::<Nullable<Uuid>, _>(end)
            .bind::<Nullable<Timestamptz>, _>(range.kept_from)
            .bind::<Bool, _>(with_bodies)
            .bind::<BigInt, _>(i64::try_from(limit).unwrap_or(i64::MAX))
            .load(conn)?)
    })?;
    let (events, is_all) = taken(rows, limit);
    let last = events.last().map(|event| event.id);
    Ok(if is_all {
        Page { up_to: end.or(last).or(after), is_last: end.is_none(), events }
    } else {
        Page { events, up_to: last.or(after), is_last: false }
    })
}

/// How many events there are in the next part of a range behind `after`; up to which that goes, `None` = to its end.
///
/// # Errors
/// When the database is away.
pub fn count(
    conn: &mut PgConnection,
    range: &Range,
    after: Option<EventId>,
) -> Result<(i64, Option<EventId>)> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        count: i64,
    }
    let end = window(conn, range, after)?;
    let row: Row = planned_for_values(conn, |conn| {
        Ok(sql_query(format!("SELECT count(*) AS count {}", from_where(range.which)))
            .bind::<Uuid, _>(range.tenant)
            .bind::<Uuid, _>(range.endpoint)
            .bind::<Uuid, _>(first_uuid_at(range.since))
            .bind::<Uuid, _>(first_uuid_at(range.until))
            .bind::<Nullable<Uuid>, _>(after)
            .bind::<SmallInt, _>(range.profile)
            .bind::<Nullable<Array<Text>>, _>(&range.types)
            .bind::<Nullable<Uuid>, _>(end)
            .bind::<Nullable<Timestamptz>, _>(range.kept_from)
            .get_result(conn)?)
    })?;
    Ok((row.count, end))
}

/// Down to which event a statement of [`preview`] goes; `None` = to the beginning of the range. As [`window`], the other way round.
fn window_before(
    conn: &mut PgConnection,
    tenant: TenantId,
    since: DateTime<Utc>,
    before: Option<EventId>,
) -> Result<Option<EventId>> {
    let row: Option<Edge> = planned_for_values(conn, |conn| {
        Ok(sql_query(format!(
            "SELECT id FROM events WHERE tenant_id = $1 AND id >= $2 AND ($3 IS NULL OR id < $3) \
             ORDER BY id DESC OFFSET {} LIMIT 1",
            WINDOW - 1
        ))
        .bind::<Uuid, _>(tenant)
        .bind::<Uuid, _>(first_uuid_at(since))
        .bind::<Nullable<Uuid>, _>(before)
        .get_result(conn)
        .optional()?)
    })?;
    Ok(row.map(|row| row.id))
}

/// A page of the latest events of a tenant since a time, newest first, with their bodies, as many as have [`PAGE_BYTES`] together; of
/// these types, if any are named. What changed terms of an endpoint are tried on. A page that has none of them need not be the last.
///
/// # Errors
/// When the database is away.
pub fn preview(
    conn: &mut PgConnection,
    tenant: TenantId,
    since: DateTime<Utc>,
    types: Option<&[String]>,
    before: Option<EventId>,
    limit: usize,
) -> Result<Page> {
    let end = window_before(conn, tenant, since, before)?;
    let rows: Vec<Found> = planned_for_values(conn, |conn| {
        Ok(sql_query(within_bytes(
            "e.body FROM events e \
             WHERE e.tenant_id = $1 AND e.id >= $2 AND ($3 IS NULL OR e.id < $3) AND ($6 IS NULL OR e.id >= $6) \
               AND e.origin IN (0, 1) AND ($4 IS NULL OR e.event_type = ANY($4)) AND octet_length(e.body) > 0 \
             ORDER BY e.id DESC LIMIT $5",
            "id DESC",
        ))
        .bind::<Uuid, _>(tenant)
        .bind::<Uuid, _>(first_uuid_at(since))
        .bind::<Nullable<Uuid>, _>(before)
        .bind::<Nullable<Array<Text>>, _>(types)
        .bind::<BigInt, _>(i64::try_from(limit).unwrap_or(i64::MAX))
        .bind::<Nullable<Uuid>, _>(end)
        .load(conn)?)
    })?;
    let (events, is_all) = taken(rows, limit);
    let last = events.last().map(|event| event.id);
    Ok(if is_all {
        Page { up_to: end.or(last).or(before), is_last: end.is_none(), events }
    } else {
        Page { up_to: last.or(before), is_last: false, events }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_the_last_when_nothing_was_left_out() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let event = || Candidate {
            id: EventId::new(now),
            event_type: "a.b".parse().unwrap(),
            origin: Origin::Posted,
            created_at: now,
            body: None,
        };
        for (read, found, limit, expected) in
            [(0, 0, 3, true), (2, 2, 3, true), (3, 3, 3, false), (1, 2, 3, false), (1, 3, 3, false)]
        {
            let rows = (0..read).map(|_| Found { event: event(), found }).collect();
            let (events, is_all) = taken(rows, limit);
            assert_eq!((events.len(), is_all), (read, expected), "{read} {found} {limit}");
        }
    }
}
