//! Catching up with what has happened to a day while its rows were copied ([`super::rewrite`]): all of it, in pieces, while everything
//! goes on; then the rest, while nobody writes to that day.

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use diesel::{
    OptionalExtension, PgConnection, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Timestamptz, Uuid},
};

use super::{
    payload::INBOX,
    rewrite::{self, ROWS_AT_ONCE, Table},
};
use crate::{Result, db::partition};

/// What was written at most so long ago may not have been seen by a look a moment later: clocks differ, and transactions take a while.
/// Purged payloads are remembered for longer.
pub(super) const LATE: TimeDelta = TimeDelta::minutes(10);

/// A row at which a piece ends: where the next one begins.
#[derive(Clone, Copy, Default, QueryableByName)]
struct Place {
    #[diesel(sql_type = Uuid)]
    t: uuid::Uuid,
    #[diesel(sql_type = Uuid)]
    e: uuid::Uuid,
}

/// Does something with all rows of `source` (a table and a condition) piece by piece, in the order of their tenants and events. The
/// statement finds the piece as `piece (t, e)`.
fn in_pieces(
    conn: &mut PgConnection,
    source: &str,
    [tenant, event]: [&str; 2],
    statements: &[String],
) -> Result<()> {
    let mut after = Place::default();
    loop {
        // Those of one event stand together, so that no piece ends between them.
        let last: Option<Place> = sql_query(format!(
            "SELECT t, e FROM (SELECT {tenant} AS t, {event} AS e FROM {source} AND ({tenant}, {event}) > ($1, $2) \
                ORDER BY 1, 2 LIMIT {ROWS_AT_ONCE}) k ORDER BY t DESC, e DESC LIMIT 1"
        ))
        .bind::<Uuid, _>(after.t)
        .bind::<Uuid, _>(after.e)
        .get_result(conn)
        .optional()?;
        let Some(last) = last else { return Ok(()) };
        for statement in statements {
            sql_query(format!(
                "WITH piece AS MATERIALIZED (SELECT {tenant} AS t, {event} AS e FROM {source} \
                    AND ({tenant}, {event}) > ($1, $2) AND ({tenant}, {event}) <= ($3, $4)) {statement}"
            ))
            .bind::<Uuid, _>(after.t)
            .bind::<Uuid, _>(after.e)
            .bind::<Uuid, _>(last.t)
            .bind::<Uuid, _>(last.e)
            .execute(conn)?;
        }
        after = last;
    }
}

/// Gives the copy the bodies of those in `wanted (t, e)` that it has without.
fn give_back(table: &Table, day: NaiveDate, wanted: &str) -> String {
    let (copy, original) = (table.copy(day), partition::name("events", day));
    format!(
        "UPDATE {copy} n SET body = o.body, payload_purged_at = o.payload_purged_at FROM {wanted} w \
            JOIN {original} o ON o.tenant_id = w.t AND o.id = w.e AND o.body <> '' \
         WHERE n.tenant_id = w.t AND n.id = w.e AND n.body = ''"
    )
}

/// What has happened to events since they were copied: somebody wants one after all, or has purged one that was wanted. All of it, in
/// pieces, while everything goes on.
pub(super) fn events(conn: &mut PgConnection, table: &Table, day: NaiveDate) -> Result<()> {
    let (copy, original) = (table.copy(day), partition::name("events", day));
    let deliveries = partition::name("deliveries", day);
    let pending = format!(
        "SELECT DISTINCT p.t, p.e FROM piece p JOIN {deliveries} d ON d.tenant_id = p.t AND d.event_id = p.e \
         WHERE d.state IN (0, 2) AND d.state + 0 = 0 AND d.profile <> {INBOX}"
    );
    let give_back = give_back(table, day, &format!("({pending})"));
    in_pieces(conn, &format!("{deliveries} WHERE state IN (0, 2)"), ["tenant_id", "event_id"], &[give_back])?;
    let take = format!(
        "UPDATE {copy} n SET body = '', payload_purged_at = o.payload_purged_at FROM piece k \
            JOIN {original} o ON o.tenant_id = k.t AND o.id = k.e AND o.body = '' \
         WHERE n.tenant_id = k.t AND n.id = k.e"
    );
    in_pieces(conn, &format!("{copy} WHERE body <> ''"), ["tenant_id", "id"], &[take])
}

/// The rest of it, since a moment before [`events`] began. Whoever puts a delivery on the schedule says that it is due then.
pub(super) fn events_since(
    conn: &mut PgConnection,
    table: &Table,
    day: NaiveDate,
    since: DateTime<Utc>,
) -> Result<()> {
    let (copy, deliveries) = (table.copy(day), partition::name("deliveries", day));
    let (first, end) = partition::bounds(day);
    sql_query(format!(
        "WITH wanted AS MATERIALIZED (\
            SELECT d.tenant_id AS t, d.event_id AS e FROM {deliveries} d \
               WHERE d.state = 0 AND d.next_attempt_at >= $1 AND d.due_at >= $1 AND d.profile <> {INBOX} \
            UNION SELECT k.t, k.e FROM event_groups g CROSS JOIN LATERAL unnest(g.tenant_ids, g.event_ids) AS k (t, e) \
               WHERE g.id < '{end}' AND k.e >= '{first}' AND k.e < '{end}') {}",
        give_back(table, day, "wanted")
    ))
    .bind::<Timestamptz, _>(since)
    .execute(conn)?;
    sql_query(format!(
        "UPDATE {copy} n SET body = '', payload_purged_at = p.purged_at FROM purged_payloads p \
         WHERE n.id = p.event_id AND n.body <> ''"
    ))
    .execute(conn)?;
    Ok(())
}

/// The statement that copies tries of events `v`, which come from `source`, that the copy does not have.
fn missing(conn: &mut PgConnection, table: &Table, day: NaiveDate, source: &str) -> Result<String> {
    let (copy, original) = (table.copy(day), partition::name("attempts", day));
    let columns: Vec<String> =
        rewrite::columns(conn, "attempts")?.into_iter().map(|(name, _)| name).collect();
    let values: Vec<String> = columns
        .iter()
        .map(|column| match column.as_str() {
            "reply" => "CASE WHEN v.body <> '' THEN a.reply END".to_owned(),
            column => format!("a.{column}"),
        })
        .collect();
    Ok(format!(
        "INSERT INTO {copy} ({}) SELECT {} FROM {source} JOIN {original} a ON a.event_id = v.id ON CONFLICT DO NOTHING",
        columns.join(", "),
        values.join(", ")
    ))
}

/// Tries that were made since the copy passed: only of events that had their payload then can there have been any, and some of them
/// have been purged since. And replies that the copy still has of those. All of it, in pieces, while everything goes on.
pub(super) fn attempts(conn: &mut PgConnection, table: &Table, day: NaiveDate) -> Result<()> {
    let (copy, events) = (table.copy(day), partition::name("events", day));
    let missing = missing(
        conn,
        table,
        day,
        &format!("piece JOIN {events} v ON v.tenant_id = piece.t AND v.id = piece.e"),
    )?;
    let forget = format!(
        "UPDATE {copy} n SET reply = NULL FROM piece JOIN {events} v ON v.tenant_id = piece.t AND v.id = piece.e \
         WHERE v.body = '' AND n.event_id = v.id AND n.reply IS NOT NULL"
    );
    let source = format!(
        "{events} WHERE (body <> '' OR payload_purged_at >= (SELECT events_at FROM payload_days WHERE day = '{day}'))"
    );
    in_pieces(conn, &source, ["tenant_id", "id"], &[missing, forget])
}

/// The rest of it, while no tries of this day are written.
pub(super) fn attempts_since(conn: &mut PgConnection, table: &Table, day: NaiveDate) -> Result<()> {
    let (copy, events) = (table.copy(day), partition::name("events", day));
    let kept = format!("(SELECT id, body FROM {events} WHERE body <> '') v");
    let purged = "(SELECT event_id AS id, ''::bytea AS body FROM purged_payloads) v";
    for source in [kept.as_str(), purged] {
        sql_query(missing(conn, table, day, source)?).execute(conn)?;
    }
    sql_query(format!(
        "UPDATE {copy} n SET reply = NULL FROM purged_payloads p WHERE n.event_id = p.event_id AND n.reply IS NOT NULL"
    ))
    .execute(conn)?;
    Ok(())
}
