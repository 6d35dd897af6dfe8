//! Queries on a tenant's own event types.

use chrono::{DateTime, Utc};
use diesel::{
    OptionalExtension, PgConnection, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Array, BigInt, Binary, Bool, Nullable, SmallInt, Text, Timestamptz, Uuid},
};

use super::{CatalogueEntry, MAX_BYTES, MAX_TYPES, Validation};
use crate::{Error, Result, event::EventType, id::TenantId};

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Text)]
    name: EventType,
    #[diesel(sql_type = Text)]
    description: String,
    #[diesel(sql_type = Nullable<Binary>)]
    schema: Option<Vec<u8>>,
    #[diesel(sql_type = SmallInt)]
    validation: Validation,
    #[diesel(sql_type = Nullable<Binary>)]
    example: Option<Vec<u8>>,
    #[diesel(sql_type = Array<Text>)]
    aliases: Vec<EventType>,
    #[diesel(sql_type = Nullable<Text>)]
    feature_group: Option<String>,
    #[diesel(sql_type = Bool)]
    deprecated: bool,
    #[diesel(sql_type = Bool)]
    archived: bool,
    #[diesel(sql_type = Timestamptz)]
    created_at: DateTime<Utc>,
    #[diesel(sql_type = Timestamptz)]
    updated_at: DateTime<Utc>,
}

impl From<Row> for CatalogueEntry {
    fn from(row: Row) -> Self {
        Self {
            name: row.name,
            description: row.description,
            schema: row.schema,
            validation: row.validation,
            example: row.example,
            aliases: row.aliases,
            feature_group: row.feature_group,
            deprecated: row.deprecated,
            archived: row.archived,
            own: true,
            created_at: Some(row.created_at),
            updated_at: Some(row.updated_at),
        }
    }
}

const VIEW: &str = "SELECT name, description, schema, validation, example, aliases, feature_group, deprecated, archived, \
     created_at, updated_at FROM event_types WHERE tenant_id = $1";

/// The tenant's own types, by name.
///
/// # Errors
/// When the database is away.
pub fn list(conn: &mut PgConnection, tenant: TenantId) -> Result<Vec<CatalogueEntry>> {
    let rows: Vec<Row> = sql_query(format!("{VIEW} ORDER BY name")).bind::<Uuid, _>(tenant).load(conn)?;
    Ok(rows.into_iter().map(Into::into).collect())
}

/// One of the tenant's own types.
///
/// # Errors
/// When the database is away.
pub fn find(conn: &mut PgConnection, tenant: TenantId, name: &str) -> Result<Option<CatalogueEntry>> {
    let row: Option<Row> = sql_query(format!("{VIEW} AND name = $2"))
        .bind::<Uuid, _>(tenant)
        .bind::<Text, _>(name)
        .get_result(conn)
        .optional()?;
    Ok(row.map(Into::into))
}

/// Keeps others from changing the tenant's types until the transaction ends; its row is the lock.
///
/// # Errors
/// When the database is away.
pub fn lock(conn: &mut PgConnection, tenant: TenantId) -> Result<()> {
    // NO KEY: hooks and types refer to the row, and those who make some need not wait.
    sql_query("SELECT FROM tenants WHERE id = $1 FOR NO KEY UPDATE").bind::<Uuid, _>(tenant).execute(conn)?;
    Ok(())
}

/// Refuses what has just been written when the tenant's types have become too many or too large.
///
/// # Errors
/// [`Error::Conflict`]; when the database is away.
pub(super) fn check_room(conn: &mut PgConnection, tenant: TenantId) -> Result<()> {
    #[derive(QueryableByName)]
    struct Taken {
        #[diesel(sql_type = BigInt)]
        types: i64,
        #[diesel(sql_type = BigInt)]
        bytes: i64,
    }
    let taken: Taken = sql_query(
        "SELECT count(*) AS types, \
            COALESCE(sum(COALESCE(octet_length(schema), 0) + COALESCE(octet_length(example), 0)), 0)::bigint AS bytes \
         FROM event_types WHERE tenant_id = $1",
    )
    .bind::<Uuid, _>(tenant)
    .get_result(conn)?;
    if taken.types > MAX_TYPES {
        return Err(Error::Conflict {
            reason: format!("a tenant can have {MAX_TYPES} event types of its own"),
        });
    }
    if taken.bytes > MAX_BYTES {
        let reason = format!(
            "the schemas and examples of a tenant's event types can have {MAX_BYTES} bytes together, not {}",
            taken.bytes
        );
        return Err(Error::Conflict { reason });
    }
    Ok(())
}

/// Adds a type.
///
/// # Errors
/// [`Error::Conflict`] when the tenant has a type of that name, or no room for another.
pub fn insert(
    conn: &mut PgConnection,
    tenant: TenantId,
    entry: &CatalogueEntry,
    now: DateTime<Utc>,
) -> Result<()> {
    lock(conn, tenant)?;
    let inserted = write(conn, "ON CONFLICT DO NOTHING", tenant, entry, now)?;
    if inserted == 0 {
        return Err(Error::Conflict { reason: format!("there is an event type `{}` already", entry.name) });
    }
    check_room(conn, tenant)
}

/// Replaces a type, or makes it: also how a tenant changes one of the starting catalogue. Whoever calls holds the
/// [`lock`].
///
/// # Errors
/// [`Error::Conflict`] when there is no room for it; when the database is away.
pub fn replace(
    conn: &mut PgConnection,
    tenant: TenantId,
    entry: &CatalogueEntry,
    now: DateTime<Utc>,
) -> Result<()> {
    overwrite(conn, tenant, entry, now)?;
    check_room(conn, tenant)
}

/// As [`replace`], for many: whoever calls looks for [`check_room`] at the end.
pub(super) fn overwrite(
    conn: &mut PgConnection,
    tenant: TenantId,
    entry: &CatalogueEntry,
    now: DateTime<Utc>,
) -> Result<()> {
    write(
        conn,
        "ON CONFLICT (tenant_id, name) DO UPDATE SET description = excluded.description, schema = excluded.schema, \
            validation = excluded.validation, example = excluded.example, aliases = excluded.aliases, \
            feature_group = excluded.feature_group, deprecated = excluded.deprecated, archived = excluded.archived, \
            updated_at = excluded.updated_at",
        tenant,
        entry,
        now,
    )
    .map(drop)
}

fn write(
    conn: &mut PgConnection,
    conflict: &str,
    tenant: TenantId,
    entry: &CatalogueEntry,
    now: DateTime<Utc>,
) -> Result<usize> {
    Ok(sql_query(format!(
        "INSERT INTO event_types (tenant_id, name, description, schema, validation, example, aliases, feature_group, \
            deprecated, archived, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11) \
         {conflict}"
    ))
    .bind::<Uuid, _>(tenant)
    .bind::<Text, _>(entry.name.as_str())
    .bind::<Text, _>(&entry.description)
    .bind::<Nullable<Binary>, _>(&entry.schema)
    .bind::<SmallInt, _>(entry.validation)
    .bind::<Nullable<Binary>, _>(&entry.example)
    .bind::<Array<Text>, _>(entry.aliases.iter().map(EventType::as_str).collect::<Vec<_>>())
    .bind::<Nullable<Text>, _>(&entry.feature_group)
    .bind::<Bool, _>(entry.deprecated)
    .bind::<Bool, _>(entry.archived)
    .bind::<Timestamptz, _>(now)
    .execute(conn)?)
}
