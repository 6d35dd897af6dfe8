//! Settlements: what came of tries, written down with what it makes of their deliveries, and told to the registry.

use chrono::{DateTime, Utc};
use diesel::{
    Connection, PgConnection, QueryResult, QueryableByName, RunQueryDsl,
    result::{DatabaseErrorKind, Error::DatabaseError},
    sql_types::{Array, BigInt, Binary, Integer, Jsonb, Nullable, SmallInt, Text, Timestamptz, Uuid},
};

use super::{
    Attempt, DeliveryState, Fate, Settled,
    store::{BY_KEY, by_partition, nobody, split, unless_dropped},
};
use crate::{Result, db::prepared::prepared, id::SettlementId, subscription::Report};

fn small(number: u16) -> i16 {
    i16::try_from(number).unwrap_or(i16::MAX)
}

/// Records tries: one row in `attempts` each, the deliveries moved on, and one settlement for the registry. Deliveries
/// that are no longer held under their claim are left as they are; their tries are recorded all the same, for they
/// happened.
///
/// May be repeated when the connection broke and nobody knows whether it was done: tries that are recorded already are not
/// reported a second time. Not within a transaction.
///
/// # Errors
/// When the database is away; nothing is recorded then.
pub fn settle(
    conn: &mut PgConnection,
    settled: &[Settled],
    settlement: SettlementId,
    reports: &[Report],
    now: DateTime<Utc>,
) -> Result<()> {
    if settled.is_empty() {
        return Ok(());
    }
    let reports = serde_json::to_value(reports).map_err(|error| crate::Error::Database(Box::new(error)))?;
    match record(conn, settled, settlement, &reports, now, Recorded::No) {
        Err(DatabaseError(DatabaseErrorKind::UniqueViolation, _)) => {
            record(conn, settled, settlement, &reports, now, Recorded::Some)
        }
        recorded => recorded,
    }
    .map_err(Into::into)
}

/// Whether tries may be recorded already: hardly ever, and a row that may be there costs nearly twice as much to insert.
#[derive(Clone, Copy)]
enum Recorded {
    No,
    Some,
}

fn record(
    conn: &mut PgConnection,
    settled: &[Settled],
    settlement: SettlementId,
    reports: &serde_json::Value,
    now: DateTime<Utc>,
    recorded: Recorded,
) -> QueryResult<()> {
    let mut partitions = by_partition(settled, |settled| settled.held.id.event);
    let Some((table, of_last)) = partitions.pop_last() else { return Ok(()) };
    if partitions.is_empty() {
        return unless_dropped(settle_in(conn, &table, &of_last, settlement, reports, now, recorded));
    }
    // Around midnight, or with old retries: several statements, one transaction. One for a partition that retention has dropped
    // meanwhile must not end it.
    conn.transaction(|conn| {
        let nothing = serde_json::Value::Array(Vec::new());
        for (table, settled) in partitions {
            let one = SettlementId::new(now);
            unless_dropped(
                conn.transaction(|conn| settle_in(conn, &table, &settled, one, &nothing, now, recorded)),
            )?;
        }
        unless_dropped(
            conn.transaction(|conn| settle_in(conn, &table, &of_last, settlement, reports, now, recorded)),
        )
    })
}

fn settle_in(
    conn: &mut PgConnection,
    table: &str,
    settled: &[&Settled],
    settlement: SettlementId,
    reports: &serde_json::Value,
    now: DateTime<Utc>,
    recorded: Recorded,
) -> QueryResult<()> {
    let unless_there = match recorded {
        Recorded::No => "",
        Recorded::Some => " ON CONFLICT DO NOTHING",
    };
    let (events, subscriptions) = split(settled.iter().map(|s| s.held.id));
    let moved: Vec<Moved> = settled.iter().map(|s| Moved::of(s, now)).collect();
    let attempts: Vec<&Attempt> = settled.iter().map(|s| &s.attempt).collect();
    let changed = prepared(format!(
        "WITH k AS MATERIALIZED (SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) \
            AS k (e, s, c, state, tries, deferrals, due, next, settled, number, started, latency, status, reason, reply)), \
         logged AS (INSERT INTO attempts (event_id, subscription_id, number, started_at, latency_ms, status, reason, reply) \
            SELECT e, s, number, started, latency, status, reason, reply FROM k{unless_there} RETURNING 1), \
         moved AS (UPDATE {table} d SET state = k.state, tries = k.tries, attempts = k.number, deferrals = k.deferrals, \
            due_at = k.due, next_attempt_at = k.next, claim = $19, settled_at = k.settled, last_status = k.status, \
            last_reason = k.reason FROM k WHERE {BY_KEY} RETURNING 1) \
         INSERT INTO settlements (id, reports, created_at) \
            SELECT $16, $17, $18 WHERE EXISTS (TABLE logged) OR EXISTS (TABLE moved)"
    ))
    .bind::<Array<Uuid>, _>(events)
    .bind::<Array<Uuid>, _>(subscriptions)
    .bind::<Array<Uuid>, _>(settled.iter().map(|s| s.held.claim).collect::<Vec<_>>())
    .bind::<Array<SmallInt>, _>(moved.iter().map(|m| m.state.code()).collect::<Vec<_>>())
    .bind::<Array<SmallInt>, _>(moved.iter().map(|m| m.tries).collect::<Vec<_>>())
    .bind::<Array<SmallInt>, _>(moved.iter().map(|m| m.deferrals).collect::<Vec<_>>())
    .bind::<Array<Timestamptz>, _>(moved.iter().map(|m| m.due_at).collect::<Vec<_>>())
    .bind::<Array<Timestamptz>, _>(moved.iter().map(|m| m.next_attempt_at).collect::<Vec<_>>())
    .bind::<Array<Nullable<Timestamptz>>, _>(moved.iter().map(|m| m.settled_at).collect::<Vec<_>>())
    .bind::<Array<SmallInt>, _>(attempts.iter().map(|a| small(a.number)).collect::<Vec<_>>())
    .bind::<Array<Timestamptz>, _>(attempts.iter().map(|a| a.started_at).collect::<Vec<_>>())
    .bind::<Array<Integer>, _>(
        attempts.iter().map(|a| i32::try_from(a.latency_ms).unwrap_or(i32::MAX)).collect::<Vec<_>>(),
    )
    .bind::<Array<Nullable<SmallInt>>, _>(attempts.iter().map(|a| a.status.map(small)).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(attempts.iter().map(|a| a.reason.as_str()).collect::<Vec<_>>())
    .bind::<Array<Nullable<Binary>>, _>(
        attempts.iter().map(|a| (!a.reply.is_empty()).then_some(a.reply.as_slice())).collect::<Vec<_>>(),
    )
    .bind::<Uuid, _>(settlement)
    .bind::<Jsonb, _>(reports)
    .bind::<Timestamptz, _>(now)
    .bind::<Uuid, _>(nobody())
    .execute(conn);
    changed.map(drop)
}

/// The columns of a delivery after a try.
struct Moved {
    state: DeliveryState,
    tries: i16,
    deferrals: i16,
    due_at: DateTime<Utc>,
    next_attempt_at: DateTime<Utc>,
    settled_at: Option<DateTime<Utc>>,
}

impl Moved {
    fn of(settled: &Settled, now: DateTime<Utc>) -> Self {
        let held = &settled.held;
        let tries = small(held.tries.saturating_add(1));
        match settled.fate {
            Fate::Ended(state) => Self {
                state,
                tries,
                deferrals: small(held.deferrals),
                due_at: held.due_at,
                next_attempt_at: now,
                settled_at: Some(now),
            },
            Fate::Retry { at } => Self {
                state: DeliveryState::Pending,
                tries,
                deferrals: 0,
                due_at: at,
                next_attempt_at: at,
                settled_at: None,
            },
            Fate::Deferred { at } => Self {
                state: DeliveryState::Pending,
                tries: small(held.tries),
                deferrals: small(held.deferrals.saturating_add(1)),
                due_at: held.due_at,
                next_attempt_at: at,
                settled_at: None,
            },
        }
    }
}

/// Takes settlements to apply them: the rows are gone when the transaction commits, and stay when it does not. One that
/// another transaction is taking, or has taken, is not returned.
///
/// # Errors
/// When the database is away.
pub fn take_settlements(conn: &mut PgConnection, settlements: &[SettlementId]) -> Result<Vec<Report>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Jsonb)]
        reports: serde_json::Value,
    }
    let rows: Vec<Row> = prepared(
        "WITH taken AS (DELETE FROM settlements WHERE id IN \
            (SELECT id FROM settlements WHERE id = ANY($1) ORDER BY id FOR UPDATE SKIP LOCKED) RETURNING id, reports) \
         SELECT reports FROM taken ORDER BY id",
    )
    .bind::<Array<Uuid>, _>(settlements)
    .load(conn)?;
    let mut reports = Vec::new();
    for row in rows {
        match serde_json::from_value::<Vec<Report>>(row.reports) {
            Ok(some) => reports.extend(some),
            Err(error) => tracing::error!(%error, "a settlement cannot be read and is left out"),
        }
    }
    Ok(reports)
}

/// Settlements that should have been applied by now, oldest first.
///
/// # Errors
/// When the database is away.
pub fn overdue_settlements(
    conn: &mut PgConnection,
    made_before: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<SettlementId>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Uuid)]
        id: SettlementId,
    }
    let rows: Vec<Row> = prepared("SELECT id FROM settlements WHERE created_at < $1 ORDER BY id LIMIT $2")
        .bind::<Timestamptz, _>(made_before)
        .bind::<BigInt, _>(limit)
        .load(conn)?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}
