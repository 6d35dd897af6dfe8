//! How the deliveries of a subscription fared, counted: what its health is judged by, and what is shown of it.

use chrono::{DateTime, Utc};
use diesel::{
    PgConnection, QueryableByName, RunQueryDsl,
    sql_types::{Array, BigInt, Bool, Integer, Nullable, SmallInt, Text, Timestamptz, Uuid},
};

use super::{Health, HealthChange, HookState, Kind, Report, activity::slot_of};
use crate::{Result, db::prepared::prepared, delivery::Outcome, id::SubscriptionId};

/// What is counted of a subscription.
#[derive(Clone, Debug, QueryableByName)]
pub struct Record {
    /// Deliveries that arrived.
    #[diesel(sql_type = BigInt)]
    pub delivery_count: i64,
    /// Tries that failed.
    #[diesel(sql_type = BigInt)]
    pub failure_count: i64,
    /// Tries that failed since the last that arrived.
    #[diesel(sql_type = Integer)]
    pub consecutive_failures: i32,
    /// When the last delivery arrived.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub last_delivered_at: Option<DateTime<Utc>>,
    /// When the last try ended.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub last_attempt_at: Option<DateTime<Utc>>,
    /// Its HTTP status.
    #[diesel(sql_type = Nullable<SmallInt>)]
    pub last_status: Option<i16>,
    /// Its outcome in words.
    #[diesel(sql_type = Nullable<Text>)]
    pub last_reason: Option<String>,
}

/// The columns of [`Record`], of [`JOINED`].
pub(super) const COLUMNS: &str = "COALESCE(h.delivery_count, 0) AS delivery_count, COALESCE(h.failure_count, 0) AS failure_count, \
     COALESCE(h.consecutive_failures, 0) AS consecutive_failures, h.last_delivered_at, h.last_attempt_at, h.last_status, \
     h.last_reason";

/// Where they are, beside the subscriptions `s`. Who has had no delivery has no row.
pub(super) const JOINED: &str = "LEFT JOIN subscription_health h ON h.subscription_id = s.id";

/// A hook that begins anew, as pending, is not ended by the first failure after those that had disabled it: neither by their number
/// nor by how long ago they began.
pub(super) fn forget_failures(conn: &mut PgConnection, id: SubscriptionId) -> Result<()> {
    prepared(
        "UPDATE subscription_health SET consecutive_failures = 0, consecutive_refusals = 0, first_failure_at = NULL, \
            warned = 0, warned_for = NULL \
         WHERE subscription_id = $1 AND EXISTS (SELECT FROM subscriptions WHERE id = $1 AND state = 0)",
    )
    .bind::<Uuid, _>(id)
    .execute(conn)?;
    Ok(())
}

/// The condition of hooks whose reports are about to be applied, locked until the transaction ends.
///
/// # Errors
/// When the database is away.
pub fn lock_health(
    conn: &mut PgConnection,
    ids: &[SubscriptionId],
) -> Result<Vec<(SubscriptionId, String, Health)>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Uuid)]
        id: SubscriptionId,
        #[diesel(sql_type = Text)]
        url: String,
        #[diesel(sql_type = SmallInt)]
        state: HookState,
        #[diesel(sql_type = SmallInt)]
        kind: Kind,
        #[diesel(sql_type = Nullable<Timestamptz>)]
        first_failure_at: Option<DateTime<Utc>>,
        #[diesel(sql_type = Integer)]
        consecutive_refusals: i32,
        #[diesel(sql_type = Bool)]
        forbidden: bool,
    }
    let rows: Vec<Row> = prepared(
        "SELECT s.id, s.url, s.state, s.kind, h.first_failure_at, COALESCE(h.consecutive_refusals, 0) AS consecutive_refusals, \
            COALESCE(h.last_reason = $2, false) AS forbidden \
         FROM subscriptions s LEFT JOIN subscription_health h ON h.subscription_id = s.id \
         WHERE s.id = ANY($1) ORDER BY s.id FOR UPDATE OF s",
    )
    .bind::<Array<Uuid>, _>(ids)
    .bind::<Text, _>(Outcome::Forbidden.word())
    .load(conn)?;
    let health = |row: &Row| Health {
        kind: row.kind,
        state: row.state,
        failing_since: row.first_failure_at,
        consecutive_refusals: u32::try_from(row.consecutive_refusals).unwrap_or(0),
        forbidden: row.forbidden,
    };
    Ok(rows
        .into_iter()
        .map(|row| {
            let health = health(&row);
            (row.id, row.url, health)
        })
        .collect())
}

/// Adds reports, one per subscription, to the counters.
///
/// # Errors
/// When the database is away.
pub fn add_to_health(conn: &mut PgConnection, changes: &[(&Report, &HealthChange)]) -> Result<()> {
    let int = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    let reports = || changes.iter().map(|(report, _)| *report);
    // The activity is counted on the way: the same reports, no statement more.
    prepared(
        "WITH counted AS (INSERT INTO endpoint_activity AS a (subscription_id, slot, delivered, failed) \
            SELECT s, slot, d, f FROM unnest($1, $11, $12, $13) AS k (s, slot, d, f) ORDER BY s \
            ON CONFLICT (subscription_id, slot) DO UPDATE \
               SET delivered = a.delivered + excluded.delivered, failed = a.failed + excluded.failed) \
         INSERT INTO subscription_health AS h (subscription_id, delivery_count, failure_count, consecutive_failures, \
            consecutive_refusals, first_failure_at, last_delivered_at, last_attempt_at, last_status, last_reason) \
         SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
         ON CONFLICT (subscription_id) DO UPDATE SET \
            delivery_count = h.delivery_count + excluded.delivery_count, \
            failure_count = h.failure_count + excluded.failure_count, \
            consecutive_failures = CASE WHEN excluded.delivery_count > 0 THEN 0 ELSE h.consecutive_failures END \
                + excluded.consecutive_failures, \
            consecutive_refusals = excluded.consecutive_refusals, \
            first_failure_at = CASE WHEN excluded.delivery_count > 0 THEN excluded.first_failure_at \
                ELSE COALESCE(h.first_failure_at, excluded.first_failure_at) END, \
            last_delivered_at = COALESCE(excluded.last_delivered_at, h.last_delivered_at), \
            last_attempt_at = excluded.last_attempt_at, last_status = excluded.last_status, \
            last_reason = excluded.last_reason",
    )
    .bind::<Array<Uuid>, _>(reports().map(|r| r.subscription).collect::<Vec<_>>())
    .bind::<Array<BigInt>, _>(reports().map(|r| i64::from(r.delivered)).collect::<Vec<_>>())
    .bind::<Array<BigInt>, _>(reports().map(|r| i64::from(r.failed)).collect::<Vec<_>>())
    .bind::<Array<Integer>, _>(reports().map(|r| int(r.trailing_failures)).collect::<Vec<_>>())
    .bind::<Array<Integer>, _>(changes.iter().map(|(_, c)| int(c.consecutive_refusals)).collect::<Vec<_>>())
    .bind::<Array<Nullable<Timestamptz>>, _>(reports().map(|r| r.first_failure_at).collect::<Vec<_>>())
    .bind::<Array<Nullable<Timestamptz>>, _>(reports().map(|r| r.last_delivered_at).collect::<Vec<_>>())
    .bind::<Array<Timestamptz>, _>(reports().map(|r| r.last_attempt_at).collect::<Vec<_>>())
    .bind::<Array<Nullable<SmallInt>>, _>(
        reports().map(|r| r.last_status.and_then(|s| i16::try_from(s).ok())).collect::<Vec<_>>(),
    )
    .bind::<Array<Text>, _>(reports().map(|r| r.last_reason.as_str()).collect::<Vec<_>>())
    .bind::<Array<Timestamptz>, _>(reports().map(|r| slot_of(r.last_attempt_at)).collect::<Vec<_>>())
    .bind::<Array<Integer>, _>(reports().map(|r| int(r.delivered)).collect::<Vec<_>>())
    .bind::<Array<Integer>, _>(reports().map(|r| int(r.failed)).collect::<Vec<_>>())
    .execute(conn)?;
    Ok(())
}
