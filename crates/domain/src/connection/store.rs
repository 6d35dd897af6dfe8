//! The rows of connections. Credentials and access tokens are sealed.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use diesel::{
    OptionalExtension, PgConnection, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Array, BigInt, Binary, Nullable, Text, Timestamptz, Uuid},
};
use url::Url;

use super::{AccessToken, Credentials, Draft};
use crate::{
    Error, Result,
    db::prepared::prepared,
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
    #[diesel(sql_type = Timestamptz)]
    pub updated_at: DateTime<Utc>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub tested_at: Option<DateTime<Utc>>,
}

const COLUMNS: &str = "id, name, kind, origin, created_at, updated_at, tested_at";

/// Stores a connection whose credentials were let in, with the access token that was fetched for that.
///
/// # Errors
/// When the database is away.
pub fn insert(
    conn: &mut PgConnection,
    vault: &Vault,
    (tenant, id): (TenantId, ConnectionId),
    draft: &Draft,
    token: Option<&AccessToken>,
    now: DateTime<Utc>,
) -> Result<ConnectionRow> {
    Ok(sql_query(format!(
        "INSERT INTO connections (id, tenant_id, name, kind, origin, test_url, secret, token, token_until, created_at, \
            updated_at, tested_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10, $10) RETURNING {COLUMNS}"
    ))
    .bind::<Uuid, _>(id)
    .bind::<Uuid, _>(tenant)
    .bind::<Text, _>(&draft.name)
    .bind::<Text, _>(draft.credentials.kind())
    .bind::<Text, _>(draft.test_url.origin().ascii_serialization())
    .bind::<Text, _>(draft.test_url.as_str())
    .bind::<Binary, _>(sealed(vault, id, draft)?)
    .bind::<Nullable<Binary>, _>(sealed_token(vault, id, token))
    .bind::<Nullable<Timestamptz>, _>(token.map(|token| token.until))
    .bind::<Timestamptz, _>(now)
    .get_result(conn)?)
}

fn sealed(vault: &Vault, id: ConnectionId, draft: &Draft) -> Result<Vec<u8>> {
    let secret = serde_json::to_vec(&draft.credentials).map_err(|error| Error::Database(Box::new(error)))?;
    Ok(vault.seal(&CONNECTION_SECRET.at(id.uuid()), &secret))
}

fn sealed_token(vault: &Vault, id: ConnectionId, token: Option<&AccessToken>) -> Option<Vec<u8>> {
    token.map(|token| vault.seal(&CONNECTION_TOKEN.at(id.uuid()), token.token.as_bytes()))
}

/// What a change is known by: a connection is changed only if it still is what was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen(pub DateTime<Utc>);

/// Gives a connection another name. `None` when it is not there, or not as it was seen.
///
/// # Errors
/// When the database is away.
pub fn rename(
    conn: &mut PgConnection,
    (tenant, id): (TenantId, ConnectionId),
    seen: Seen,
    name: &str,
    now: DateTime<Utc>,
) -> Result<Option<ConnectionRow>> {
    Ok(sql_query(format!(
        "UPDATE connections SET name = $4, updated_at = $5 WHERE tenant_id = $1 AND id = $2 AND updated_at = $3 \
         RETURNING {COLUMNS}"
    ))
    .bind::<Uuid, _>(tenant)
    .bind::<Uuid, _>(id)
    .bind::<Timestamptz, _>(seen.0)
    .bind::<Text, _>(name)
    .bind::<Timestamptz, _>(now)
    .get_result(conn)
    .optional()?)
}

/// Replaces a connection by one whose credentials were let in, with the access token that was fetched for that. `None` when it is
/// not there, or not as it was seen.
///
/// # Errors
/// When the database is away.
pub fn replace(
    conn: &mut PgConnection,
    vault: &Vault,
    (tenant, id): (TenantId, ConnectionId),
    seen: Seen,
    draft: &Draft,
    token: Option<&AccessToken>,
    now: DateTime<Utc>,
) -> Result<Option<ConnectionRow>> {
    Ok(sql_query(format!(
        "UPDATE connections SET name = $4, kind = $5, origin = $6, test_url = $7, secret = $8, token = $9, token_until = $10, \
            updated_at = $11, tested_at = $11 \
         WHERE tenant_id = $1 AND id = $2 AND updated_at = $3 RETURNING {COLUMNS}"
    ))
    .bind::<Uuid, _>(tenant)
    .bind::<Uuid, _>(id)
    .bind::<Timestamptz, _>(seen.0)
    .bind::<Text, _>(&draft.name)
    .bind::<Text, _>(draft.credentials.kind())
    .bind::<Text, _>(draft.test_url.origin().ascii_serialization())
    .bind::<Text, _>(draft.test_url.as_str())
    .bind::<Binary, _>(sealed(vault, id, draft)?)
    .bind::<Nullable<Binary>, _>(sealed_token(vault, id, token))
    .bind::<Nullable<Timestamptz>, _>(token.map(|token| token.until))
    .bind::<Timestamptz, _>(now)
    .get_result(conn)
    .optional()?)
}

/// Writes down that the credentials were let in once more. One that was changed meanwhile stays as it is.
///
/// # Errors
/// When the database is away.
pub fn tested(
    conn: &mut PgConnection,
    (tenant, id): (TenantId, ConnectionId),
    seen: Seen,
    now: DateTime<Utc>,
) -> Result<()> {
    sql_query("UPDATE connections SET tested_at = $4 WHERE tenant_id = $1 AND id = $2 AND updated_at = $3")
        .bind::<Uuid, _>(tenant)
        .bind::<Uuid, _>(id)
        .bind::<Timestamptz, _>(seen.0)
        .bind::<Timestamptz, _>(now)
        .execute(conn)?;
    Ok(())
}

/// Which of these connections there are.
///
/// # Errors
/// When the database is away.
pub fn which_exist(
    conn: &mut PgConnection,
    named: &[(TenantId, ConnectionId)],
) -> Result<HashSet<(TenantId, ConnectionId)>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Uuid)]
        tenant_id: TenantId,
        #[diesel(sql_type = Uuid)]
        id: ConnectionId,
    }
    if named.is_empty() {
        return Ok(HashSet::new());
    }
    let (tenants, ids): (Vec<TenantId>, Vec<ConnectionId>) = named.iter().copied().unzip();
    let rows: Vec<Row> = prepared(
        "SELECT c.tenant_id, c.id FROM unnest($1, $2) AS k (t, i) JOIN connections c ON c.id = k.i AND c.tenant_id = k.t",
    )
    .bind::<Array<Uuid>, _>(tenants)
    .bind::<Array<Uuid>, _>(ids)
    .load(conn)?;
    Ok(rows.into_iter().map(|row| (row.tenant_id, row.id)).collect())
}

/// The connections of a tenant, newest first; at most `limit`.
///
/// # Errors
/// When the database is away.
pub fn list(conn: &mut PgConnection, tenant: TenantId, limit: i64) -> Result<Vec<ConnectionRow>> {
    Ok(sql_query(format!("SELECT {COLUMNS} FROM connections WHERE tenant_id = $1 ORDER BY id DESC LIMIT $2"))
        .bind::<Uuid, _>(tenant)
        .bind::<BigInt, _>(limit)
        .load(conn)?)
}

/// One connection.
///
/// # Errors
/// When the database is away.
pub fn find(conn: &mut PgConnection, tenant: TenantId, id: ConnectionId) -> Result<Option<ConnectionRow>> {
    Ok(sql_query(format!("SELECT {COLUMNS} FROM connections WHERE tenant_id = $1 AND id = $2"))
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
    Ok(sql_query(format!("DELETE FROM connections WHERE tenant_id = $1 AND id = $2 RETURNING {COLUMNS}"))
        .bind::<Uuid, _>(tenant)
        .bind::<Uuid, _>(id)
        .get_result(conn)
        .optional()?)
}

/// A connection that is going to be shown.
#[derive(Clone, Debug)]
pub struct Opened {
    /// What it is called.
    pub name: String,
    /// Where, and nowhere else.
    pub origin: String,
    /// Where the credentials are tried.
    pub test_url: Url,
    /// What.
    pub credentials: Credentials,
    /// Of oauth2: the access token, while it is good.
    pub token: Option<AccessToken>,
    /// When it was made or changed last.
    pub updated_at: DateTime<Utc>,
}

impl Opened {
    /// By which a change of it knows that nobody else has changed it.
    #[must_use]
    pub fn seen(&self) -> Seen {
        Seen(self.updated_at)
    }

    /// As it was asked for.
    #[must_use]
    pub fn draft(&self) -> Draft {
        Draft {
            name: self.name.clone(),
            test_url: self.test_url.clone(),
            credentials: self.credentials.clone(),
        }
    }
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
        name: String,
        #[diesel(sql_type = Text)]
        origin: String,
        #[diesel(sql_type = Text)]
        test_url: String,
        #[diesel(sql_type = Binary)]
        secret: Vec<u8>,
        #[diesel(sql_type = Nullable<Binary>)]
        token: Option<Vec<u8>>,
        #[diesel(sql_type = Nullable<Timestamptz>)]
        token_until: Option<DateTime<Utc>>,
        #[diesel(sql_type = Timestamptz)]
        updated_at: DateTime<Utc>,
    }
    let sealed: Option<Sealed> = sql_query(
        "SELECT name, origin, test_url, secret, token, token_until, updated_at FROM connections \
         WHERE tenant_id = $1 AND id = $2",
    )
    .bind::<Uuid, _>(tenant)
    .bind::<Uuid, _>(id)
    .get_result(conn)
    .optional()?;
    let Some(sealed) = sealed else { return Ok(None) };
    let secret = vault.open(&CONNECTION_SECRET.at(id.uuid()), &sealed.secret).map_err(Error::Sealed)?;
    let credentials = serde_json::from_slice(&secret).map_err(|_| Error::Sealed(VaultError::Damaged))?;
    let token = match sealed.token.as_ref().zip(sealed.token_until.filter(|until| *until > now)) {
        None => None,
        Some((token, until)) => {
            let plain = vault.open(&CONNECTION_TOKEN.at(id.uuid()), token).map_err(Error::Sealed)?;
            let token = String::from_utf8(plain).map_err(|_| Error::Sealed(VaultError::Damaged))?;
            Some(AccessToken { token, until })
        }
    };
    let test_url = Url::parse(&sealed.test_url).map_err(|error| Error::Database(Box::new(error)))?;
    let Sealed { name, origin, updated_at, .. } = sealed;
    Ok(Some(Opened { name, origin, test_url, credentials, token, updated_at }))
}

/// Keeps an access token, or forgets the one that is kept. Of a connection that was changed meanwhile it is none.
///
/// # Errors
/// When the database is away.
pub fn keep_token(
    conn: &mut PgConnection,
    vault: &Vault,
    (tenant, id): (TenantId, ConnectionId),
    seen: Seen,
    token: Option<&AccessToken>,
) -> Result<()> {
    sql_query(
        "UPDATE connections SET token = $4, token_until = $5 WHERE tenant_id = $1 AND id = $2 AND updated_at = $3",
    )
    .bind::<Uuid, _>(tenant)
    .bind::<Uuid, _>(id)
    .bind::<Timestamptz, _>(seen.0)
    .bind::<Nullable<Binary>, _>(sealed_token(vault, id, token))
    .bind::<Nullable<Timestamptz>, _>(token.map(|token| token.until))
    .execute(conn)?;
    Ok(())
}
