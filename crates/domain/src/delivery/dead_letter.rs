//! Dead letters: deliveries that ended without success, kept until somebody retries or discards them.
//!
//! They are listed with [`super::inspect::list`] by their state.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use diesel::{
    PgConnection, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Array, BigInt, Nullable, Timestamptz, Uuid},
};

use super::store::{KeyRow, split};
use crate::{
    Result,
    db::prepared::planned_for_values,
    id::{DeliveryId, SubscriptionId, TenantId, first_uuid_at},
};

/// The most that one request moves.
pub const MAX_AT_ONCE: i64 = 1_000;

/// The subscription of a delivery `d` takes events.
const TAKES_EVENTS: &str =
    "EXISTS (SELECT FROM subscriptions s WHERE s.id = d.subscription_id AND s.state < 3)";

/// There is still something to be sent in a delivery `d`.
const HAS_PAYLOAD: &str =
    "EXISTS (SELECT FROM events e WHERE e.tenant_id = d.tenant_id AND e.id = d.event_id AND e.body <> '')";

/// Which dead letters of a tenant.
#[derive(Clone, Debug)]
pub enum Selection {
    /// These.
    Ids(Vec<DeliveryId>),
    /// All that match, oldest first, at most [`MAX_AT_ONCE`].
    Matching {
        /// To this hook.
        subscription: Option<SubscriptionId>,
        /// Of events accepted at or after.
        since: Option<DateTime<Utc>>,
        /// Of events accepted before.
        until: Option<DateTime<Utc>>,
    },
}

/// Puts dead letters back on the schedule, with all their tries before them. Those whose hook takes no events stay, and so do those
/// whose event has no payload any more.
/// Returns the ids of what was moved. Belongs into a transaction.
///
/// # Errors
/// When the database is away.
pub fn retry(
    conn: &mut PgConnection,
    tenant: TenantId,
    selection: &Selection,
    now: DateTime<Utc>,
) -> Result<Vec<DeliveryId>> {
    let condition = format!("{TAKES_EVENTS} AND {HAS_PAYLOAD}");
    let ids = chosen(conn, tenant, selection, &condition)?;
    // Who deletes or disables one of them meanwhile waits, and cancels what is written here. In order, so that two who do this for the
    // same subscriptions and somebody who ends one of them wait one way.
    sql_query("SELECT FROM subscriptions WHERE tenant_id = $1 AND id = ANY($2) ORDER BY id FOR SHARE")
        .bind::<Uuid, _>(tenant)
        .bind::<Array<Uuid>, _>(
            ids.iter().map(|id| id.subscription).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>(),
        )
        .execute(conn)?;
    let set = "state = 0, tries = 0, deferrals = 0, due_at = $2, next_attempt_at = $2, settled_at = NULL, expires_at = NULL";
    change(conn, tenant, ids, now, set, &condition)
}

/// Gives dead letters up. Returns the ids of what was discarded.
///
/// # Errors
/// When the database is away.
pub fn discard(
    conn: &mut PgConnection,
    tenant: TenantId,
    selection: &Selection,
    now: DateTime<Utc>,
) -> Result<Vec<DeliveryId>> {
    let ids = chosen(conn, tenant, selection, "true")?;
    change(conn, tenant, ids, now, "state = 4, settled_at = $2", "true")
}

/// The dead letters that are meant, in order. Those that were not named satisfy a condition on deliveries `d`, and are nobody else's
/// until the transaction ends: what another request is moving is passed over.
fn chosen(
    conn: &mut PgConnection,
    tenant: TenantId,
    selection: &Selection,
    condition: &str,
) -> Result<Vec<DeliveryId>> {
    let mut ids: Vec<DeliveryId> = match selection {
        Selection::Ids(ids) => ids.clone(),
        Selection::Matching { subscription, since, until } => {
            let rows: Vec<KeyRow> = planned_for_values(conn, |conn| {
                Ok(sql_query(format!(
                    "SELECT d.event_id, d.subscription_id FROM deliveries d \
                     WHERE d.tenant_id = $1 AND d.state = 2 AND ($2 IS NULL OR d.subscription_id = $2) \
                       AND ($3 IS NULL OR d.event_id >= $3) AND ($4 IS NULL OR d.event_id < $4) AND {condition} \
                     ORDER BY d.event_id LIMIT $5 FOR UPDATE OF d SKIP LOCKED"
                ))
                .bind::<Uuid, _>(tenant)
                .bind::<Nullable<Uuid>, _>(*subscription)
                .bind::<Nullable<Uuid>, _>(since.map(first_uuid_at))
                .bind::<Nullable<Uuid>, _>(until.map(first_uuid_at))
                .bind::<BigInt, _>(MAX_AT_ONCE)
                .load(conn)?)
            })?;
            rows.into_iter().map(Into::into).collect()
        }
    };
    // Two requests that name the same ones wait one way.
    ids.sort_unstable();
    Ok(ids)
}

fn change(
    conn: &mut PgConnection,
    tenant: TenantId,
    ids: Vec<DeliveryId>,
    now: DateTime<Utc>,
    set: &str,
    condition: &str,
) -> Result<Vec<DeliveryId>> {
    let (events, subscriptions) = split(ids);
    let rows: Vec<KeyRow> = sql_query(format!(
        "UPDATE deliveries d SET {set} FROM unnest($3, $4) AS k (e, s) \
         WHERE d.event_id = k.e AND d.subscription_id = k.s AND d.tenant_id = $1 AND d.state = 2 AND {condition} \
         RETURNING d.event_id, d.subscription_id"
    ))
    .bind::<Uuid, _>(tenant)
    .bind::<Timestamptz, _>(now)
    .bind::<Array<Uuid>, _>(events)
    .bind::<Array<Uuid>, _>(subscriptions)
    .load(conn)?;
    Ok(rows.into_iter().map(Into::into).collect())
}

/// How many dead letters there are, for metrics and alerts; counted up to 100,000.
///
/// # Errors
/// When the database is away.
pub fn count(conn: &mut PgConnection) -> Result<i64> {
    #[derive(QueryableByName)]
    struct Count {
        #[diesel(sql_type = BigInt)]
        count: i64,
    }
    let row: Count = sql_query(
        "SELECT count(*) AS count FROM \
            (SELECT FROM deliveries WHERE state = 2 LIMIT 100000) dead",
    )
    .get_result(conn)?;
    Ok(row.count)
}
