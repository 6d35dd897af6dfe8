//! Links by which people get in: invitations to a tenant, the set-up link of an installation, and links that set a password
//! anew. Each is used once and holds for seven days; only its hash is kept.

use chrono::{DateTime, TimeDelta, Utc};
use diesel::{
    OptionalExtension, PgConnection, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{BigInt, Binary, Nullable, SmallInt, Text, Timestamptz, Uuid},
};

use super::{Role, user};
use crate::{
    Error, Result,
    credential::{Token, TokenHash},
    id::{InvitationId, TenantId, UserId},
    vault::Vault,
};

/// How long a link holds.
pub const LIFETIME: TimeDelta = TimeDelta::days(7);

/// Invitations of a tenant that may wait at the same time.
pub const MAX_OPEN: i64 = 100;

/// A link.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
pub struct Invitation {
    /// Identity.
    #[diesel(sql_type = Uuid)]
    pub id: InvitationId,
    /// The tenant it invites to.
    #[diesel(sql_type = Nullable<Uuid>)]
    pub tenant_id: Option<TenantId>,
    /// Whom it invites.
    #[diesel(sql_type = Nullable<Text>)]
    pub email: Option<String>,
    /// What they may do.
    #[diesel(sql_type = SmallInt)]
    pub role: Role,
    /// Whose password it sets anew.
    #[diesel(sql_type = Nullable<Uuid>)]
    pub resets: Option<UserId>,
    /// The person who invites, if one does.
    #[diesel(sql_type = Nullable<Uuid>)]
    pub invited_by: Option<UserId>,
    /// When it was made.
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
    /// Until when it holds.
    #[diesel(sql_type = Timestamptz)]
    pub expires_at: DateTime<Utc>,
}

/// What a link is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Names the first tenant of the installation and its admin.
    SetUp,
    /// Joins a tenant.
    Join(TenantId),
    /// Sets a password anew.
    Reset(UserId),
}

impl Invitation {
    /// What it is for.
    #[must_use]
    pub fn purpose(&self) -> Purpose {
        match (self.tenant_id, self.resets) {
            (Some(tenant), _) => Purpose::Join(tenant),
            (None, Some(user)) => Purpose::Reset(user),
            (None, None) => Purpose::SetUp,
        }
    }
}

/// The secret part of the link. Made from its id, so that an answer which is given again (`Idempotency-Key`) need not be kept
/// with it.
#[must_use]
pub fn token(vault: &Vault, id: InvitationId) -> Token {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &vault.derive("links of invitations"));
    let mut bytes = [0; 32];
    bytes.copy_from_slice(ring::hmac::sign(&key, id.uuid().as_bytes()).as_ref());
    Token::with_prefix("inv_", bytes)
}

/// A link to be stored.
#[derive(Clone, Debug)]
pub struct NewInvitation {
    /// Identity.
    pub id: InvitationId,
    /// What for.
    pub purpose: Purpose,
    /// Whom, from [`user::parse_email`].
    pub email: Option<String>,
    /// What they may do.
    pub role: Role,
    /// Who invites.
    pub invited_by: Option<UserId>,
    /// Hash of [`token`].
    pub hash: TokenHash,
}

const VIEW: &str =
    "SELECT id, tenant_id, email, role, resets, invited_by, created_at, expires_at FROM invitations";
const OPEN: &str = "accepted_at IS NULL AND revoked_at IS NULL AND expires_at >";

/// Stores a link. An earlier one for the same person and tenant, or the same installation, holds no longer. Belongs into a
/// transaction.
///
/// # Errors
/// [`Error::NotFound`] without the tenant, [`Error::Conflict`] when the person is a member already, when too many wait, or
/// when an installation that is to be set up has people.
pub fn insert(conn: &mut PgConnection, new: &NewInvitation, now: DateTime<Utc>) -> Result<()> {
    let (tenant, resets) = match new.purpose {
        Purpose::Join(tenant) => (Some(tenant), None),
        Purpose::Reset(user) => (None, Some(user)),
        Purpose::SetUp => (None, None),
    };
    if let Some(tenant) = tenant {
        check_tenant(conn, tenant, new.email.as_deref(), now)?;
    } else if resets.is_none() && user::is_anybody(conn)? {
        return Err(Error::Conflict { reason: "this installation has users already".to_owned() });
    }
    sql_query(
        "UPDATE invitations SET revoked_at = $4 WHERE accepted_at IS NULL AND revoked_at IS NULL \
         AND tenant_id IS NOT DISTINCT FROM $1 AND email IS NOT DISTINCT FROM $2 AND resets IS NOT DISTINCT FROM $3",
    )
    .bind::<Nullable<Uuid>, _>(tenant)
    .bind::<Nullable<Text>, _>(&new.email)
    .bind::<Nullable<Uuid>, _>(resets)
    .bind::<Timestamptz, _>(now)
    .execute(conn)?;
    sql_query(
        "INSERT INTO invitations (id, tenant_id, email, role, resets, token_hash, invited_by, created_at, expires_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind::<Uuid, _>(new.id)
    .bind::<Nullable<Uuid>, _>(tenant)
    .bind::<Nullable<Text>, _>(&new.email)
    .bind::<SmallInt, _>(new.role.code())
    .bind::<Nullable<Uuid>, _>(resets)
    .bind::<Binary, _>(new.hash.bytes())
    .bind::<Nullable<Uuid>, _>(new.invited_by)
    .bind::<Timestamptz, _>(now)
    .bind::<Timestamptz, _>(now + LIFETIME)
    .execute(conn)?;
    Ok(())
}

fn check_tenant(
    conn: &mut PgConnection,
    tenant: TenantId,
    email: Option<&str>,
    now: DateTime<Utc>,
) -> Result<()> {
    // The tenant's row is the lock under which its invitations are counted.
    let locked =
        sql_query("SELECT FROM tenants WHERE id = $1 FOR UPDATE").bind::<Uuid, _>(tenant).execute(conn)?;
    if locked == 0 {
        return Err(Error::NotFound { what: "tenant" });
    }
    let member = sql_query(
        "SELECT FROM memberships m JOIN users u ON u.id = m.user_id WHERE m.tenant_id = $1 AND u.email = $2",
    )
    .bind::<Uuid, _>(tenant)
    .bind::<Nullable<Text>, _>(email)
    .execute(conn)?;
    if member > 0 {
        return Err(Error::Conflict { reason: "this person is a member of the tenant already".to_owned() });
    }
    let open =
        sql_query(format!("SELECT FROM invitations WHERE tenant_id = $1 AND email <> $3 AND {OPEN} $2"))
            .bind::<Uuid, _>(tenant)
            .bind::<Timestamptz, _>(now)
            .bind::<Text, _>(email.unwrap_or_default())
            .execute(conn)?;
    if i64::try_from(open).is_ok_and(|open| open >= MAX_OPEN) {
        let reason = format!("{MAX_OPEN} invitations wait already; revoke one first");
        return Err(Error::Conflict { reason });
    }
    Ok(())
}

/// The link that still holds.
///
/// # Errors
/// When the database is away.
pub fn find_open(
    conn: &mut PgConnection,
    hash: &TokenHash,
    now: DateTime<Utc>,
) -> Result<Option<Invitation>> {
    Ok(sql_query(format!("{VIEW} WHERE token_hash = $1 AND {OPEN} $2"))
        .bind::<Binary, _>(hash.bytes())
        .bind::<Timestamptz, _>(now)
        .get_result(conn)
        .optional()?)
}

/// The link with this identity, while it holds. A system path: a log-in with the identity provider remembers the link by it.
///
/// # Errors
/// When the database is away.
pub fn find_open_by_id(
    conn: &mut PgConnection,
    id: InvitationId,
    now: DateTime<Utc>,
) -> Result<Option<Invitation>> {
    Ok(sql_query(format!("{VIEW} WHERE id = $1 AND {OPEN} $2"))
        .bind::<Uuid, _>(id)
        .bind::<Timestamptz, _>(now)
        .get_result(conn)
        .optional()?)
}

/// The invitations of a tenant that still hold, by id, after `after`.
///
/// # Errors
/// When the database is away.
pub fn list(
    conn: &mut PgConnection,
    tenant: TenantId,
    after: Option<InvitationId>,
    limit: i64,
    now: DateTime<Utc>,
) -> Result<Vec<Invitation>> {
    let after = after.map_or(uuid::Uuid::nil(), InvitationId::uuid);
    Ok(sql_query(format!("{VIEW} WHERE tenant_id = $1 AND {OPEN} $2 AND id > $3 ORDER BY id LIMIT $4"))
        .bind::<Uuid, _>(tenant)
        .bind::<Timestamptz, _>(now)
        .bind::<Uuid, _>(after)
        .bind::<BigInt, _>(limit)
        .load(conn)?)
}

/// Takes an invitation back.
///
/// # Errors
/// [`Error::NotFound`] when the tenant has none that holds.
pub fn revoke(
    conn: &mut PgConnection,
    tenant: TenantId,
    id: InvitationId,
    now: DateTime<Utc>,
) -> Result<Invitation> {
    let ended: Option<Invitation> = sql_query(format!(
        "UPDATE invitations SET revoked_at = $2 WHERE tenant_id = $1 AND id = $3 AND {OPEN} $2 \
         RETURNING id, tenant_id, email, role, resets, invited_by, created_at, expires_at"
    ))
    .bind::<Uuid, _>(tenant)
    .bind::<Timestamptz, _>(now)
    .bind::<Uuid, _>(id)
    .get_result(conn)
    .optional()?;
    ended.ok_or(Error::NotFound { what: "invitation" })
}

/// Uses a link up: of two at the same moment one gets it.
///
/// # Errors
/// [`Error::NotFound`] when it does not hold any more.
pub fn accept(conn: &mut PgConnection, id: InvitationId, now: DateTime<Utc>) -> Result<()> {
    let used = sql_query(format!("UPDATE invitations SET accepted_at = $2 WHERE id = $1 AND {OPEN} $2"))
        .bind::<Uuid, _>(id)
        .bind::<Timestamptz, _>(now)
        .execute(conn)?;
    if used == 0 { Err(Error::NotFound { what: "invitation" }) } else { Ok(()) }
}
