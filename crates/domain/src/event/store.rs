//! Queries on events and on the outbox of groups.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use diesel::{
    OptionalExtension, PgConnection, QueryableByName, RunQueryDsl,
    pg::Pg,
    query_builder::QueryFragment,
    sql_query,
    sql_types::{Array, Binary, Bool, Jsonb, Nullable, SmallInt, Text, Timestamptz, Uuid},
};

use super::{EventType, NewEvent, Origin};
use crate::{
    Result,
    db::{
        partition,
        prepared::{Prepared, planned_for_values, prepared},
    },
    id::{EventGroupId, EventId, TenantId},
};

/// Stores events and, in the same statement, the group that owes them a fan-out; those that are scheduled are put down for their
/// time instead.
///
/// # Errors
/// When the database is away; nothing is stored then.
pub fn insert_group(conn: &mut PgConnection, group: EventGroupId, events: &[NewEvent]) -> Result<()> {
    let Some(first) = events.first() else { return Ok(()) };
    let scheduled = events.iter().any(|event| event.due_at.is_some());
    let owed = if scheduled {
        // Of nearly no statement: those without scheduled events do not pay for it.
        ", later AS (INSERT INTO scheduled_events (id, tenant_id, due_at) \
            SELECT e, t, d FROM unnest($1, $2, $13) AS k (t, e, d) WHERE d IS NOT NULL) \
         INSERT INTO event_groups (id, tenant_ids, event_ids, created_at) \
            SELECT $11, array_agg(t), array_agg(e), $12 FROM unnest($1, $2, $13) AS k (t, e, d) WHERE d IS NULL \
            HAVING count(*) > 0"
    } else {
        " INSERT INTO event_groups (id, tenant_ids, event_ids, created_at) VALUES ($11, $1, $2, $12)"
    };
    let statement = with_events(format!("WITH new AS ({INSERT}){owed}"), events)
        .bind::<Uuid, _>(group)
        .bind::<Timestamptz, _>(first.created_at);
    if scheduled {
        let due: Vec<Option<DateTime<Utc>>> = events.iter().map(|event| event.due_at).collect();
        statement.bind::<Array<Nullable<Timestamptz>>, _>(due).execute(conn)?;
    } else {
        statement.execute(conn)?;
    }
    Ok(())
}

/// Stores events, as a part of a statement [`with_events`].
pub(crate) const INSERT: &str = "INSERT INTO events \
     (tenant_id, id, event_type, origin, occurred_at, created_at, metadata, trace, sampled, body) \
     SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";

/// A statement whose first ten parameters are events, for [`INSERT`].
pub(crate) fn with_events(sql: String, events: &[NewEvent]) -> Prepared<impl QueryFragment<Pg>> {
    prepared(sql)
        .bind::<Array<Uuid>, _>(events.iter().map(|e| e.tenant).collect::<Vec<_>>())
        .bind::<Array<Uuid>, _>(events.iter().map(|e| e.id).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(events.iter().map(|e| e.event_type.as_str()).collect::<Vec<_>>())
        .bind::<Array<SmallInt>, _>(events.iter().map(|e| e.origin as i16).collect::<Vec<_>>())
        .bind::<Array<Timestamptz>, _>(events.iter().map(|e| e.occurred_at).collect::<Vec<_>>())
        .bind::<Array<Timestamptz>, _>(events.iter().map(|e| e.created_at).collect::<Vec<_>>())
        .bind::<Array<Jsonb>, _>(events.iter().map(|e| &e.metadata).collect::<Vec<_>>())
        .bind::<Array<Uuid>, _>(events.iter().map(|e| e.trace.trace_uuid()).collect::<Vec<_>>())
        .bind::<Array<Bool>, _>(events.iter().map(|e| e.trace.sampled).collect::<Vec<_>>())
        .bind::<Array<Binary>, _>(events.iter().map(|e| e.body.as_slice()).collect::<Vec<_>>())
}

/// Stores one event without a group: one whose deliveries are written by the caller in the same transaction.
///
/// # Errors
/// When the database is away.
pub fn insert_alone(conn: &mut PgConnection, event: &NewEvent) -> Result<()> {
    prepared(concat!(
        "INSERT INTO events (tenant_id, id, event_type, origin, occurred_at, created_at, metadata, trace, sampled, body) ",
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
    ))
    .bind::<Uuid, _>(event.tenant)
    .bind::<Uuid, _>(event.id)
    .bind::<Text, _>(event.event_type.as_str())
    .bind::<SmallInt, _>(event.origin as i16)
    .bind::<Timestamptz, _>(event.occurred_at)
    .bind::<Timestamptz, _>(event.created_at)
    .bind::<Jsonb, _>(&event.metadata)
    .bind::<Uuid, _>(event.trace.trace_uuid())
    .bind::<Bool, _>(event.trace.sampled)
    .bind::<Binary, _>(event.body.as_slice())
    .execute(conn)?;
    Ok(())
}

/// An event as the fan-out and the deliverer need it.
#[derive(Clone, Debug, QueryableByName)]
pub struct StoredEvent {
    /// Owner.
    #[diesel(sql_type = Uuid)]
    pub tenant_id: TenantId,
    /// Identity.
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
    /// The correlation id of the metadata, if it is a text.
    #[diesel(sql_type = Nullable<Text>)]
    pub correlation_id: Option<String>,
    /// The trace of the request that brought it.
    #[diesel(sql_type = Uuid)]
    pub trace: uuid::Uuid,
    /// Whether that trace is recorded.
    #[diesel(sql_type = Bool)]
    pub sampled: bool,
    /// The canonical body; empty when the payload was purged.
    #[diesel(sql_type = Binary)]
    pub body: Vec<u8>,
}

impl StoredEvent {
    /// Whether the payload is gone, and with it the body: nothing can be sent.
    #[must_use]
    pub fn is_purged(&self) -> bool {
        self.body.is_empty()
    }
}

/// The columns of [`StoredEvent`].
pub(crate) const STORED: &str = "e.tenant_id, e.id, e.event_type, e.origin, e.created_at, \
     e.metadata->>'correlation_id' AS correlation_id, e.trace, e.sampled, e.body";

/// Groups that should have been fanned out by now, oldest first: their ring was lost, or nobody was there to hear it.
///
/// # Errors
/// When the database is away.
pub fn overdue_groups(
    conn: &mut PgConnection,
    accepted_before: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<EventGroupId>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Uuid)]
        id: EventGroupId,
    }
    let rows: Vec<Row> =
        prepared("SELECT id FROM event_groups WHERE id < $1 AND created_at < $2 AND wanted IS NULL ORDER BY id LIMIT $3")
            .bind::<Uuid, _>(crate::id::first_uuid_at(accepted_before))
            .bind::<Timestamptz, _>(accepted_before)
            .bind::<diesel::sql_types::BigInt, _>(limit)
            .load(conn)?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}

/// Events by key.
///
/// # Errors
/// When the database is away.
pub fn load(conn: &mut PgConnection, keys: &[(TenantId, EventId)]) -> Result<Vec<StoredEvent>> {
    let mut partitions: BTreeMap<String, Vec<(TenantId, EventId)>> = BTreeMap::new();
    for key in keys {
        partitions.entry(partition::holding("events", key.1)).or_default().push(*key);
    }
    let mut found = Vec::with_capacity(keys.len());
    // The partition is named, so that the plan looks keys up, whatever is known of a partition that is filling.
    for (table, keys) in partitions {
        let (tenants, ids): (Vec<_>, Vec<_>) = keys.into_iter().unzip();
        let rows = prepared(format!(
            "SELECT {STORED} FROM unnest($1, $2) AS k (tenant_id, id) \
             JOIN {table} e ON e.tenant_id = k.tenant_id AND e.id = k.id"
        ))
        .bind::<Array<Uuid>, _>(tenants)
        .bind::<Array<Uuid>, _>(ids)
        .load::<StoredEvent>(conn);
        match rows {
            Ok(rows) => found.extend(rows),
            Err(error) if partition::is_dropped(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}

/// Events that are looked at for a sample: behind those, none has its payload any more.
const LOOKED_AT: i64 = 100;

/// One event of a tenant.
///
/// # Errors
/// When the database is away.
pub fn find(conn: &mut PgConnection, tenant: TenantId, id: EventId) -> Result<Option<StoredEvent>> {
    let id = partition::constant(id);
    Ok(sql_query(format!("SELECT {STORED} FROM events e WHERE e.tenant_id = $1 AND e.id = {id}"))
        .bind::<Uuid, _>(tenant)
        .get_result(conn)
        .optional()?)
}

/// The latest events that a tenant posted, newest first; of one type, when one is given, and then also our own
/// of tasks, such as `task.completed`. What a subscriber is shown as samples (contract §3). Looks at the latest [`LOOKED_AT`], and
/// leaves out those whose payload was purged.
///
/// # Errors
/// When the database is away.
pub fn latest(
    conn: &mut PgConnection,
    tenant: TenantId,
    event_type: Option<&str>,
    limit: i64,
) -> Result<Vec<StoredEvent>> {
    planned_for_values(conn, |conn| {
        Ok(sql_query(format!(
            "SELECT {STORED} FROM (SELECT * FROM events e \
            WHERE e.tenant_id = $1 AND (e.event_type = $2 OR $2 IS NULL) AND (e.origin = 0 OR e.origin = 1 AND $2 LIKE 'task.%') \
            ORDER BY e.id DESC LIMIT {LOOKED_AT}) e WHERE e.body <> '' ORDER BY e.id DESC LIMIT $3"
        ))
        .bind::<Uuid, _>(tenant)
        .bind::<Nullable<Text>, _>(event_type)
        .bind::<diesel::sql_types::BigInt, _>(limit)
        .load(conn)?)
    })
}
