//! Queries on credentials.

use chrono::{DateTime, TimeDelta, Utc};
use diesel::{
    OptionalExtension, PgConnection, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Array, BigInt, Binary, Integer, Nullable, SmallInt, Text, Timestamptz, Uuid},
};

pub use super::view::CredentialView;
use super::{Kind, Limits, Scope, Scopes, Token, TokenHash, Work};
use crate::{
    Error, Result,
    db::prepared::planned_for_values,
    id::{CredentialId, GrantId, TenantId, UserId},
    subscription::EventPattern,
};

/// A credential to be stored.
#[derive(Clone, Debug)]
pub struct NewCredential {
    /// Identity.
    pub id: CredentialId,
    /// Owner.
    pub tenant: TenantId,
    /// What it is.
    pub kind: Kind,
    /// Name, for people.
    pub name: String,
    /// First characters of the token.
    pub prefix: String,
    /// Hash of the token.
    pub hash: TokenHash,
    /// What it may do.
    pub scopes: Scopes,
    /// Which event types it may publish; `None` = all.
    pub event_types: Option<Vec<EventPattern>>,
    /// Which tasks it may take, if it is a worker's.
    pub work: Work,
    /// How often.
    pub limits: Limits,
    /// Until when.
    pub expires_at: Option<DateTime<Utc>>,
    /// The OAuth grant it comes from.
    pub grant: Option<GrantId>,
    /// The person who made it.
    pub created_by: Option<UserId>,
    /// Now.
    pub now: DateTime<Utc>,
}

impl NewCredential {
    /// A credential of a kind for a token that was just made, without limits of its own and without an end.
    #[must_use]
    pub fn new(
        kind: Kind,
        token: &Token,
        tenant: TenantId,
        name: &str,
        scopes: Scopes,
        now: DateTime<Utc>,
    ) -> Self {
        Self {
            id: CredentialId::new(now),
            tenant,
            kind,
            name: name.to_owned(),
            prefix: token.prefix().to_owned(),
            hash: token.hash(),
            scopes,
            event_types: None,
            work: Work::default(),
            limits: Limits::default(),
            expires_at: None,
            grant: None,
            created_by: None,
            now,
        }
    }
}

/// Stores a credential.
///
/// # Errors
/// [`Error::NotFound`] without the tenant, [`Error::Conflict`] when it has as many live ones of the kind as it may have.
pub fn insert(conn: &mut PgConnection, new: &NewCredential) -> Result<()> {
    #[derive(QueryableByName)]
    struct Live {
        #[diesel(sql_type = BigInt)]
        live: i64,
    }
    // Access tokens are not counted, and their grant holds the tenant.
    if new.grant.is_none() {
        lock(conn, new.tenant)?;
    }
    if let Some(most) = new.kind.most_live() {
        let count: Live = sql_query(
            "SELECT count(*) AS live FROM credentials \
             WHERE tenant_id = $1 AND kind = $3 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2)",
        )
        .bind::<Uuid, _>(new.tenant)
        .bind::<Timestamptz, _>(new.now)
        .bind::<SmallInt, _>(new.kind.code())
        .get_result(conn)?;
        if count.live >= most {
            return Err(Error::Conflict {
                reason: format!("the tenant has {most} live keys already; revoke one first"),
            });
        }
    }
    let limit = |limit: Option<u32>| limit.map(|n| i32::try_from(n).unwrap_or(i32::MAX));
    let event_types: Option<Vec<&str>> =
        new.event_types.as_ref().map(|patterns| patterns.iter().map(EventPattern::as_str).collect());
    sql_query(
        "INSERT INTO credentials (id, tenant_id, kind, name, prefix, token_hash, scopes, event_types, rate_limit, \
            hook_write_limit, hook_write_burst, sample_limit, created_at, expires_at, grant_id, created_by, agent_types, models) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)",
    )
    .bind::<Uuid, _>(new.id)
    .bind::<Uuid, _>(new.tenant)
    .bind::<SmallInt, _>(new.kind.code())
    .bind::<Text, _>(&new.name)
    .bind::<Text, _>(&new.prefix)
    .bind::<Binary, _>(new.hash.bytes())
    .bind::<Array<Text>, _>(new.scopes.iter().map(Scope::as_str).collect::<Vec<_>>())
    .bind::<Nullable<Array<Text>>, _>(event_types)
    .bind::<Nullable<Integer>, _>(limit(new.limits.requests))
    .bind::<Nullable<Integer>, _>(limit(new.limits.hook_writes))
    .bind::<Nullable<Integer>, _>(limit(new.limits.hook_write_burst))
    .bind::<Nullable<Integer>, _>(limit(new.limits.samples))
    .bind::<Timestamptz, _>(new.now)
    .bind::<Nullable<Timestamptz>, _>(new.expires_at)
    .bind::<Nullable<Uuid>, _>(new.grant)
    .bind::<Nullable<Uuid>, _>(new.created_by)
    .bind::<Nullable<Array<SmallInt>>, _>(new.work.agent_types.as_ref())
    .bind::<Nullable<Array<Text>>, _>(new.work.models.as_ref())
    .execute(conn)?;
    Ok(())
}

const VIEW: &str = "SELECT id, tenant_id, kind, name, prefix, scopes, event_types, agent_types, models, \
     rate_limit, hook_write_limit, hook_write_burst, sample_limit, created_at, expires_at, revoked_at, last_used_at FROM credentials";

/// The credentials of a kind that a tenant has or had, oldest first.
///
/// # Errors
/// When the database is away.
pub fn list(conn: &mut PgConnection, tenant: TenantId, kind: Kind) -> Result<Vec<CredentialView>> {
    Ok(sql_query(format!("{VIEW} WHERE tenant_id = $1 AND kind = $2 ORDER BY id"))
        .bind::<Uuid, _>(tenant)
        .bind::<SmallInt, _>(kind.code())
        .load(conn)?)
}

/// A page of the credentials of a kind that a tenant has or had, newest first.
///
/// # Errors
/// When the database is away.
pub fn page(
    conn: &mut PgConnection,
    tenant: TenantId,
    kind: Kind,
    before: Option<CredentialId>,
    limit: i64,
) -> Result<Vec<CredentialView>> {
    planned_for_values(conn, |conn| {
        Ok(sql_query(format!(
            "{VIEW} WHERE tenant_id = $1 AND kind = $2 AND ($3 IS NULL OR id < $3) ORDER BY id DESC LIMIT $4"
        ))
        .bind::<Uuid, _>(tenant)
        .bind::<SmallInt, _>(kind.code())
        .bind::<Nullable<Uuid>, _>(before)
        .bind::<BigInt, _>(limit)
        .load(conn)?)
    })
}

/// One credential of a tenant.
///
/// # Errors
/// When the database is away.
pub fn find(conn: &mut PgConnection, tenant: TenantId, id: CredentialId) -> Result<Option<CredentialView>> {
    Ok(sql_query(format!("{VIEW} WHERE tenant_id = $1 AND id = $2"))
        .bind::<Uuid, _>(tenant)
        .bind::<Uuid, _>(id)
        .get_result(conn)
        .optional()?)
}

/// One credential of a kind: nobody reaches one by the door of another kind.
///
/// # Errors
/// [`Error::NotFound`] without it.
pub fn of_kind(
    conn: &mut PgConnection,
    tenant: TenantId,
    kind: Kind,
    id: CredentialId,
) -> Result<CredentialView> {
    find(conn, tenant, id)?.filter(|key| key.kind == kind).ok_or(Error::NotFound { what: "key" })
}

/// The integration key of a tenant, if it has one.
///
/// # Errors
/// When the database is away.
pub fn integration(conn: &mut PgConnection, tenant: TenantId) -> Result<Option<CredentialView>> {
    Ok(sql_query(format!("{VIEW} WHERE tenant_id = $1 AND kind = $2 AND revoked_at IS NULL"))
        .bind::<Uuid, _>(tenant)
        .bind::<SmallInt, _>(Kind::Integration.code())
        .get_result(conn)
        .optional()?)
}

/// Holds the tenant's keys until the transaction ends: they are counted, made and ended under this lock.
///
/// # Errors
/// [`Error::NotFound`] without the tenant.
pub fn lock(conn: &mut PgConnection, tenant: TenantId) -> Result<()> {
    let found =
        sql_query("SELECT FROM tenants WHERE id = $1 FOR UPDATE").bind::<Uuid, _>(tenant).execute(conn)?;
    if found == 0 { Err(Error::NotFound { what: "tenant" }) } else { Ok(()) }
}

/// Refuses to take the tenant's last admin key away, under [`lock`].
///
/// # Errors
/// [`Error::Conflict`] when `key` is it.
pub fn spare_last_admin(conn: &mut PgConnection, key: &CredentialView, now: DateTime<Utc>) -> Result<()> {
    if key.kind != Kind::ApiKey || !key.is_live(now) || !key.is_admin() {
        return Ok(());
    }
    let keys = list(conn, key.tenant_id, Kind::ApiKey)?;
    if keys.iter().any(|other| other.id != key.id && other.is_live(now) && other.is_admin()) {
        return Ok(());
    }
    Err(Error::Conflict { reason: "this is the tenant's last admin key; say force to end it".to_owned() })
}

/// Revokes a credential; `false` when it was revoked before. Gateways may take it for a little longer: see
/// [`super::directory::known_everywhere`].
///
/// # Errors
/// [`Error::NotFound`] without it, [`Error::Conflict`] when it is the tenant's last admin key and `force` is not given.
pub fn revoke(
    conn: &mut PgConnection,
    tenant: TenantId,
    id: CredentialId,
    force: bool,
    now: DateTime<Utc>,
) -> Result<bool> {
    lock(conn, tenant)?;
    let key = find(conn, tenant, id)?.ok_or(Error::NotFound { what: "key" })?;
    if !force {
        spare_last_admin(conn, &key, now)?;
    }
    let revoked = sql_query(
        "UPDATE credentials SET revoked_at = $3 WHERE tenant_id = $1 AND id = $2 AND revoked_at IS NULL",
    )
    .bind::<Uuid, _>(tenant)
    .bind::<Uuid, _>(id)
    .bind::<Timestamptz, _>(now)
    .execute(conn)?;
    Ok(revoked > 0)
}

/// Writes what its owner may change of a key: name, scopes, limits and end. Gateways may follow what it was for a little
/// longer: see [`super::directory::known_everywhere`].
///
/// # Errors
/// When the database is away.
pub fn replace(conn: &mut PgConnection, key: &CredentialView) -> Result<()> {
    sql_query(
        "UPDATE credentials SET name = $3, scopes = $4, rate_limit = $5, hook_write_limit = $6, hook_write_burst = $7, \
            sample_limit = $8, expires_at = $9 WHERE tenant_id = $1 AND id = $2",
    )
    .bind::<Uuid, _>(key.tenant_id)
    .bind::<Uuid, _>(key.id)
    .bind::<Text, _>(&key.name)
    .bind::<Array<Text>, _>(&key.scopes)
    .bind::<Nullable<Integer>, _>(key.rate_limit)
    .bind::<Nullable<Integer>, _>(key.hook_write_limit)
    .bind::<Nullable<Integer>, _>(key.hook_write_burst)
    .bind::<Nullable<Integer>, _>(key.sample_limit)
    .bind::<Nullable<Timestamptz>, _>(key.expires_at)
    .execute(conn)?;
    Ok(())
}

/// Replaces the tenant's integration key: whatever was live ends in the transaction in which the new one begins.
///
/// # Errors
/// [`Error::NotFound`] without the tenant.
pub fn rotate_integration(conn: &mut PgConnection, new: &NewCredential) -> Result<()> {
    lock(conn, new.tenant)?;
    sql_query(
        "UPDATE credentials SET revoked_at = $2 WHERE tenant_id = $1 AND kind = 1 AND revoked_at IS NULL",
    )
    .bind::<Uuid, _>(new.tenant)
    .bind::<Timestamptz, _>(new.now)
    .execute(conn)?;
    insert(conn, new)
}

/// Removes OAuth access tokens that ended a day ago: there is one for every hour of every client. Returns how many.
///
/// # Errors
/// When the database is away.
pub fn forget_ended(conn: &mut PgConnection, now: DateTime<Utc>) -> Result<usize> {
    Ok(sql_query("DELETE FROM credentials WHERE kind = 3 AND expires_at < $1")
        .bind::<Timestamptz, _>(now - TimeDelta::days(1))
        .execute(conn)?)
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
