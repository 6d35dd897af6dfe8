//! The rows of connections. Credentials and access tokens are sealed.

use chrono::{DateTime, Utc};
use diesel::{
    OptionalExtension, PgConnection, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{BigInt, Binary, Nullable, Text, Timestamptz, Uuid},
};

use super::{AccessToken, Credentials, Draft};
use crate::{
    Error, Result,
    id::{ConnectionId, TenantId},
    vault::{
        Vault, VaultError,
        columns::{CONNECTION_SECRET, CONNECTION_TOKEN},
    },
};

/// A connection as its owner sees it: never the credentials.
#[derive(Clone, Debug, QueryableByName)]
#[expect(missing_docs, reason = "each is a column of connections, which the migration explains")]
pub struct ConnectionRow {
    #[diesel(sql_type = Uuid)]
    pub id: ConnectionId,
    #[diesel(sql_type = Text)]
    pub name: String,
    #[diesel(sql_type = Text)]
    pub kind: String,
    #[diesel(sql_type = Text)]
    pub origin: String,
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
}

/// Stores a connection.
///
/// # Errors
/// When the database is away.
pub fn insert(
    conn: &mut PgConnection,
    vault: &Vault,
    (tenant, id): (TenantId, ConnectionId),
    draft: &Draft,
    now: DateTime<Utc>,
) -> Result<ConnectionRow> {
    let secret = serde_json::to_vec(&draft.credentials).map_err(|error| Error::Database(Box::new(error)))?;
    let row = ConnectionRow {
        id,
        name: draft.name.clone(),
        kind: draft.credentials.kind().to_owned(),
        origin: draft.test_url.origin().ascii_serialization(),
        created_at: now,
    };
    sql_query(
        "INSERT INTO connections (id, tenant_id, name, kind, origin, secret, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind::<Uuid, _>(id)
    .bind::<Uuid, _>(tenant)
    .bind::<Text, _>(&row.name)
    .bind::<Text, _>(&row.kind)
    .bind::<Text, _>(&row.origin)
    .bind::<Binary, _>(vault.seal(&CONNECTION_SECRET.at(id.uuid()), &secret))
    .bind::<Timestamptz, _>(now)
    .execute(conn)?;
    Ok(row)
}

/// The connections of a tenant, newest first; at most `limit`.
///
/// # Errors
/// When the database is away.
pub fn list(conn: &mut PgConnection, tenant: TenantId, limit: i64) -> Result<Vec<ConnectionRow>> {
    Ok(sql_query(
        "SELECT id, name, kind, origin, created_at FROM connections WHERE tenant_id = $1 ORDER BY id DESC LIMIT $2",
    )
    .bind::<Uuid, _>(tenant)
    .bind::<BigInt, _>(limit)
    .load(conn)?)
}

/// One connection.
///
/// # Errors
/// When the database is away.
pub fn find(conn: &mut PgConnection, tenant: TenantId, id: ConnectionId) -> Result<Option<ConnectionRow>> {
    Ok(sql_query(
        "SELECT id, name, kind, origin, created_at FROM connections WHERE tenant_id = $1 AND id = $2",
    )
    .bind::<Uuid, _>(tenant)
    .bind::<Uuid, _>(id)
    .get_result(conn)
    .optional()?)
}

/// Deletes a connection. Returns it as it was.
///
/// # Errors
/// When the database is away.
pub fn delete(conn: &mut PgConnection, tenant: TenantId, id: ConnectionId) -> Result<Option<ConnectionRow>> {
    Ok(sql_query(
        "DELETE FROM connections WHERE tenant_id = $1 AND id = $2 RETURNING id, name, kind, origin, created_at",
    )
    .bind::<Uuid, _>(tenant)
    .bind::<Uuid, _>(id)
    .get_result(conn)
    .optional()?)
}

/// A connection that is going to be shown.
#[derive(Clone, Debug)]
pub struct Opened {
    /// Where, and nowhere else.
    pub origin: String,
    /// What.
    pub credentials: Credentials,
    /// Of oauth2: the access token, while it is good.
    pub token: Option<AccessToken>,
}

/// Opens a connection.
///
/// # Errors
/// When the database is away, or the credentials cannot be opened.
pub fn open(
    conn: &mut PgConnection,
    vault: &Vault,
    tenant: TenantId,
    id: ConnectionId,
    now: DateTime<Utc>,
) -> Result<Option<Opened>> {
    #[derive(QueryableByName)]
    struct Sealed {
        #[diesel(sql_type = Text)]
        origin: String,
        #[diesel(sql_type = Binary)]
        secret: Vec<u8>,
        #[diesel(sql_type = Nullable<Binary>)]
        token: Option<Vec<u8>>,
        #[diesel(sql_type = Nullable<Timestamptz>)]
        token_until: Option<DateTime<Utc>>,
    }
    let sealed: Option<Sealed> = sql_query(
        "SELECT origin, secret, token, token_until FROM connections WHERE tenant_id = $1 AND id = $2",
    )
    .bind::<Uuid, _>(tenant)
    .bind::<Uuid, _>(id)
    .get_result(conn)
    .optional()?;
    let Some(sealed) = sealed else { return Ok(None) };
    let secret = vault.open(&CONNECTION_SECRET.at(id.uuid()), &sealed.secret).map_err(Error::Sealed)?;
    let credentials = serde_json::from_slice(&secret).map_err(|_| Error::Sealed(VaultError::Damaged))?;
    let token = match sealed.token.zip(sealed.token_until.filter(|until| *until > now)) {
        None => None,
        Some((token, until)) => {
            let plain = vault.open(&CONNECTION_TOKEN.at(id.uuid()), &token).map_err(Error::Sealed)?;
            let token = String::from_utf8(plain).map_err(|_| Error::Sealed(VaultError::Damaged))?;
            Some(AccessToken { token, until })
        }
    };
    Ok(Some(Opened { origin: sealed.origin, credentials, token }))
}

/// Keeps an access token, or forgets the one that is kept.
///
/// # Errors
/// When the database is away.
pub fn keep_token(
    conn: &mut PgConnection,
    vault: &Vault,
    (tenant, id): (TenantId, ConnectionId),
    token: Option<&AccessToken>,
) -> Result<()> {
    let sealed = token.map(|token| vault.seal(&CONNECTION_TOKEN.at(id.uuid()), token.token.as_bytes()));
    sql_query("UPDATE connections SET token = $3, token_until = $4 WHERE tenant_id = $1 AND id = $2")
        .bind::<Uuid, _>(tenant)
        .bind::<Uuid, _>(id)
        .bind::<Nullable<Binary>, _>(sealed)
        .bind::<Nullable<Timestamptz>, _>(token.map(|token| token.until))
        .execute(conn)?;
    Ok(())
}
