//! Pages of deliveries. Which ones is asked first; what else is shown of them is read for those that were found (docs/decisions/0054).
//!
//! In one statement all partitions of both tables would be planned for, which takes several times as long as reading the page; and where
//! few are asked for, all events between them could be read.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use diesel::{
    PgConnection, QueryableByName, RunQueryDsl,
    pg::Pg,
    query_builder::{BoxedSqlQuery, SqlQuery},
    sql_query,
    sql_types::{Array, BigInt, Nullable, Text, Timestamptz, Uuid},
};

use super::{
    inspect::{DeliveryQuery, DeliveryRow, DeliveryView, NAMES, ROW},
    log::MessageView,
    store::split,
};
use crate::{
    Result,
    db::{partition, prepared::planned_for_values},
    id::{DeliveryId, EventId, SubscriptionId, TenantId, first_uuid_at},
};

/// Which deliveries `d`, spelled out so that partial indexes can be used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Condition {
    pub(super) sql: &'static str,
    /// Most deliveries satisfy it.
    pub(super) is_common: bool,
}

impl Condition {
    pub(super) const fn common(sql: &'static str) -> Self {
        Self { sql, is_common: true }
    }

    pub(super) const fn rare(sql: &'static str) -> Self {
        Self { sql, is_common: false }
    }
}

/// The statement that finds the deliveries of a page, under a condition, of a hook or of all. Deliveries have no index by tenant for what most of
/// them satisfy: those of all hooks are found by the tenant's events.
pub(super) fn statement(condition: Condition, of_a_hook: bool) -> String {
    let Condition { sql: condition, is_common } = condition;
    let from = if is_common && !of_a_hook {
        "events e JOIN deliveries d ON d.event_id = e.id AND d.tenant_id = e.tenant_id \
         WHERE e.tenant_id = $1 AND ($3 IS NULL OR e.id >= $3) AND ($4 IS NULL OR e.id < $4) AND ($5 IS NULL OR e.id <= $5) AND"
    } else {
        "deliveries d WHERE"
    };
    format!(
        "SELECT {ROW} FROM {from} d.tenant_id = $1 AND ($2 IS NULL OR d.subscription_id = $2) AND {condition} \
           AND ($3 IS NULL OR d.event_id >= $3) AND ($4 IS NULL OR d.event_id < $4) \
           AND ($5 IS NULL OR d.event_id <= $5 AND (d.event_id, d.subscription_id) < ($5, $6)) \
         ORDER BY d.event_id DESC, d.subscription_id DESC LIMIT $7"
    )
}

/// A page of deliveries under a condition, those of the newest events first; the state in the query is not looked at.
///
/// # Errors
/// When the database is away.
pub(super) fn of(
    conn: &mut PgConnection,
    tenant: TenantId,
    condition: Condition,
    query: &DeliveryQuery,
) -> Result<Vec<MessageView>> {
    planned_for_values(conn, |conn| {
        let rows = found(conn, tenant, condition, query)?;
        named(conn, tenant, rows)
    })
}

/// A page is nearly always full of deliveries of the last day where its condition is a common one.
fn found(
    conn: &mut PgConnection,
    tenant: TenantId,
    condition: Condition,
    query: &DeliveryQuery,
) -> Result<Vec<DeliveryRow>> {
    let statement = statement(condition, query.subscription.is_some());
    let mut found_since = |since| {
        let query = DeliveryQuery { since, ..query.clone() };
        Ok(with_parameters(statement.clone(), tenant, &query).load(conn)?)
    };
    if condition.is_common && query.since.is_none() {
        let newest = query.after.map(|id| id.event.accepted_at()).or(query.until);
        return partition::nearest(newest, query.limit, found_since);
    }
    found_since(query.since)
}

/// A statement with the parameters of [`statement`], to which more can be added.
pub(super) fn with_parameters<'a>(
    statement: String,
    tenant: TenantId,
    query: &DeliveryQuery,
) -> BoxedSqlQuery<'a, Pg, SqlQuery> {
    sql_query(statement)
        .into_boxed()
        .bind::<Uuid, _>(tenant)
        .bind::<Nullable<Uuid>, _>(query.subscription)
        .bind::<Nullable<Uuid>, _>(query.since.map(first_uuid_at))
        .bind::<Nullable<Uuid>, _>(query.until.map(first_uuid_at))
        .bind::<Nullable<Uuid>, _>(query.after.map(|id| id.event))
        .bind::<Nullable<Uuid>, _>(query.after.map(|id| id.subscription))
        .bind::<BigInt, _>(query.limit)
}

/// Deliveries with what else is shown of them, without those whose event is gone meanwhile: days are dropped from the oldest on,
/// so that hardly anything is left behind them.
fn named(conn: &mut PgConnection, tenant: TenantId, rows: Vec<DeliveryRow>) -> Result<Vec<MessageView>> {
    #[derive(QueryableByName)]
    struct Names {
        #[diesel(sql_type = Uuid)]
        event_id: EventId,
        #[diesel(sql_type = Uuid)]
        subscription_id: SubscriptionId,
        #[diesel(sql_type = Text)]
        event_type: String,
        #[diesel(sql_type = Text)]
        url: String,
        #[diesel(sql_type = Timestamptz)]
        created_at: DateTime<Utc>,
    }
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let (events, subscriptions) = split(rows.iter().map(DeliveryRow::id));
    // The events once more as a condition of its own, by which partitions are left out.
    let names: Vec<Names> = sql_query(format!(
        "SELECT k.e AS event_id, k.s AS subscription_id, {NAMES}, e.created_at FROM unnest($2, $3) AS k (e, s) \
         JOIN events e ON e.id = k.e JOIN subscriptions s ON s.id = k.s WHERE e.tenant_id = $1 AND e.id = ANY($2)"
    ))
    .bind::<Uuid, _>(tenant)
    .bind::<Array<Uuid>, _>(events)
    .bind::<Array<Uuid>, _>(subscriptions)
    .load(conn)?;
    let id = |names: &Names| DeliveryId { event: names.event_id, subscription: names.subscription_id };
    let mut names: HashMap<DeliveryId, Names> = names.into_iter().map(|names| (id(&names), names)).collect();
    let view = |row: DeliveryRow| {
        let Names { event_type, url, created_at, .. } = names.remove(&row.id())?;
        Some(MessageView { delivery: DeliveryView { delivery: row, event_type, url }, created_at })
    };
    Ok(rows.into_iter().filter_map(view).collect())
}
