//! Queries on credentials.

use chrono::{DateTime, Utc};
use diesel::{
    OptionalExtension, PgConnection, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Array, BigInt, Binary, Integer, Nullable, SmallInt, Text, Timestamptz, Uuid},
};

use super::{Kind, Limits, MAX_LIVE_KEYS, Scope, Scopes, TokenHash};
use crate::{
    Error, Result,
    id::{CredentialId, TenantId},
};

/// A credential to be stored.
#[derive(Clone, Debug)]
pub struct NewCredential {
    /// Identity.
    pub id: CredentialId,
    /// Owner.
    pub tenant: TenantId,
    /// Name, for people.
    pub name: String,
    /// First characters of the token.
    pub prefix: String,
    /// Hash of the token.
    pub hash: TokenHash,
    /// What it may do.
    pub scopes: Scopes,
    /// How often.
    pub limits: Limits,
    /// Until when.
    pub expires_at: Option<DateTime<Utc>>,
    /// Now.
    pub now: DateTime<Utc>,
}

/// Stores an API key.
///
/// # Errors
/// [`Error::NotFound`] without the tenant, [`Error::Conflict`] when it has [`MAX_LIVE_KEYS`] live keys already.
pub fn insert(conn: &mut PgConnection, new: &NewCredential) -> Result<()> {
    #[derive(QueryableByName)]
    struct Live {
        #[diesel(sql_type = BigInt)]
        live: i64,
    }
    // The tenant's row is the lock under which its keys are counted.
    let tenant = sql_query("SELECT FROM tenants WHERE id = $1 FOR UPDATE")
        .bind::<Uuid, _>(new.tenant)
        .execute(conn)?;
    if tenant == 0 {
        return Err(Error::NotFound { what: "tenant" });
    }
    let count: Live = sql_query(
        "SELECT count(*) AS live FROM credentials \
         WHERE tenant_id = $1 AND kind = 0 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2)",
    )
    .bind::<Uuid, _>(new.tenant)
    .bind::<Timestamptz, _>(new.now)
    .get_result(conn)?;
    if count.live >= MAX_LIVE_KEYS {
        return Err(Error::Conflict {
            reason: format!("the tenant has {MAX_LIVE_KEYS} live keys already; revoke one first"),
        });
    }
    let limit = |limit: Option<u32>| limit.map(|n| i32::try_from(n).unwrap_or(i32::MAX));
    sql_query(
        "INSERT INTO credentials (id, tenant_id, kind, name, prefix, token_hash, scopes, rate_limit, hook_write_limit, \
            sample_limit, created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
    )
    .bind::<Uuid, _>(new.id)
    .bind::<Uuid, _>(new.tenant)
    .bind::<SmallInt, _>(Kind::ApiKey.code())
    .bind::<Text, _>(&new.name)
    .bind::<Text, _>(&new.prefix)
    .bind::<Binary, _>(new.hash.bytes())
    .bind::<Array<Text>, _>(new.scopes.iter().map(Scope::as_str).collect::<Vec<_>>())
    .bind::<Nullable<Integer>, _>(limit(new.limits.requests))
    .bind::<Nullable<Integer>, _>(limit(new.limits.hook_writes))
    .bind::<Nullable<Integer>, _>(limit(new.limits.samples))
    .bind::<Timestamptz, _>(new.now)
    .bind::<Nullable<Timestamptz>, _>(new.expires_at)
    .execute(conn)?;
    Ok(())
}

/// A credential as its owner sees it.
#[derive(Clone, Debug, QueryableByName)]
pub struct CredentialView {
    /// Identity.
    #[diesel(sql_type = Uuid)]
    pub id: CredentialId,
    /// Owner.
    #[diesel(sql_type = Uuid)]
    pub tenant_id: TenantId,
    /// Name, for people.
    #[diesel(sql_type = Text)]
    pub name: String,
    /// First characters of the token.
    #[diesel(sql_type = Text)]
    pub prefix: String,
    /// What it may do.
    #[diesel(sql_type = Array<Text>)]
    pub scopes: Vec<String>,
    /// When it was made.
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
    /// Until when it holds.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was revoked.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub revoked_at: Option<DateTime<Utc>>,
    /// When it was last used, within a minute.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub last_used_at: Option<DateTime<Utc>>,
}

const VIEW: &str = "SELECT id, tenant_id, name, prefix, scopes, created_at, expires_at, revoked_at, last_used_at \
     FROM credentials";

/// The credentials of a tenant, oldest first.
///
/// # Errors
/// When the database is away.
pub fn list(conn: &mut PgConnection, tenant: TenantId) -> Result<Vec<CredentialView>> {
    Ok(sql_query(format!("{VIEW} WHERE tenant_id = $1 ORDER BY id")).bind::<Uuid, _>(tenant).load(conn)?)
}

/// Revokes a credential. Revoking it again changes nothing.
///
/// # Errors
/// [`Error::NotFound`] without it, [`Error::Conflict`] when it is the tenant's last admin key and `force` is not given.
pub fn revoke(
    conn: &mut PgConnection,
    tenant: TenantId,
    id: CredentialId,
    force: bool,
    now: DateTime<Utc>,
) -> Result<()> {
    sql_query("SELECT FROM tenants WHERE id = $1 FOR UPDATE").bind::<Uuid, _>(tenant).execute(conn)?;
    let keys = list(conn, tenant)?;
    let live = |key: &&CredentialView| key.revoked_at.is_none() && key.expires_at.is_none_or(|end| end > now);
    let Some(key) = keys.iter().find(|key| key.id == id) else {
        return Err(Error::NotFound { what: "key" });
    };
    let is_admin = |key: &CredentialView| key.scopes.iter().any(|scope| scope == Scope::Admin.as_str());
    let others = keys.iter().filter(live).any(|other| other.id != id && is_admin(other));
    if live(&key) && is_admin(key) && !others && !force {
        return Err(Error::Conflict {
            reason: "this is the tenant's last admin key; force it to revoke it".to_owned(),
        });
    }
    sql_query(
        "UPDATE credentials SET revoked_at = COALESCE(revoked_at, $3) WHERE tenant_id = $1 AND id = $2",
    )
    .bind::<Uuid, _>(tenant)
    .bind::<Uuid, _>(id)
    .bind::<Timestamptz, _>(now)
    .execute(conn)?;
    Ok(())
}

/// The owner of a credential: a system path, for the operator who knows only the key's id.
///
/// # Errors
/// When the database is away.
pub fn owner(conn: &mut PgConnection, id: CredentialId) -> Result<Option<TenantId>> {
    let row: Option<CredentialView> =
        sql_query(format!("{VIEW} WHERE id = $1")).bind::<Uuid, _>(id).get_result(conn).optional()?;
    Ok(row.map(|row| row.tenant_id))
}

/// Records when credentials were last used.
///
/// # Errors
/// When the database is away.
pub fn touch(conn: &mut PgConnection, used: &[(CredentialId, DateTime<Utc>)]) -> Result<()> {
    let (ids, times): (Vec<_>, Vec<_>) = used.iter().copied().unzip();
    sql_query(
        "UPDATE credentials c SET last_used_at = GREATEST(c.last_used_at, k.at) FROM unnest($1, $2) AS k (id, at) \
         WHERE c.id = k.id",
    )
    .bind::<Array<Uuid>, _>(ids)
    .bind::<Array<Timestamptz>, _>(times)
    .execute(conn)?;
    Ok(())
}
