//! Which types a tenant's events have, found without reading the events.

use diesel::{
    PgConnection, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{BigInt, Text, Uuid},
};

use super::EventType;
use crate::{Result, id::TenantId};

/// The types of all stored events of a tenant, in order, at most `limit`. Each costs one look into the index, however
/// many events it has.
///
/// # Errors
/// When the database is away.
pub fn posted(conn: &mut PgConnection, tenant: TenantId, limit: i64) -> Result<Vec<EventType>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        event_type: EventType,
    }
    let rows: Vec<Row> = sql_query(
        "WITH RECURSIVE types AS ( \
            (SELECT event_type FROM events WHERE tenant_id = $1 ORDER BY event_type LIMIT 1) \
            UNION ALL \
            SELECT (SELECT e.event_type FROM events e WHERE e.tenant_id = $1 AND e.event_type > t.event_type \
                    ORDER BY e.event_type LIMIT 1) \
            FROM types t WHERE t.event_type IS NOT NULL) \
         SELECT event_type FROM types WHERE event_type IS NOT NULL LIMIT $2",
    )
    .bind::<Uuid, _>(tenant)
    .bind::<BigInt, _>(limit)
    .load(conn)?;
    Ok(rows.into_iter().map(|row| row.event_type).collect())
}
