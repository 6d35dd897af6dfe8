//! What people may do at a tenant. A tenant that has an admin keeps one, whoever lowers, removes or disables whom.

use chrono::{DateTime, Utc};
use diesel::{
    OptionalExtension, PgConnection, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Bool, Nullable, SmallInt, Text, Timestamptz, Uuid},
};

use super::Role;
use crate::{
    Error, Result,
    id::{TenantId, UserId},
    oauth::grant,
};

/// A person at a tenant, as its admins see them.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
pub struct Member {
    /// Who.
    #[diesel(sql_type = Uuid)]
    pub user_id: UserId,
    /// E-mail address.
    #[diesel(sql_type = Text)]
    pub email: String,
    /// Name.
    #[diesel(sql_type = Text)]
    pub name: String,
    /// What they may do.
    #[diesel(sql_type = SmallInt)]
    pub role: Role,
    /// Whether they have a second factor.
    #[diesel(sql_type = Bool)]
    pub has_totp: bool,
    /// Since when.
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
    /// When they were disabled.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub disabled_at: Option<DateTime<Utc>>,
    /// When they logged in last.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub last_login_at: Option<DateTime<Utc>>,
}

/// A tenant, as a person of it sees it.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
pub struct Seat {
    /// Which tenant.
    #[diesel(sql_type = Uuid)]
    pub tenant_id: TenantId,
    /// Its name.
    #[diesel(sql_type = Text)]
    pub tenant_name: String,
    /// What the person may do there.
    #[diesel(sql_type = SmallInt)]
    pub role: Role,
}

const MEMBER: &str = "SELECT u.id AS user_id, u.email, u.name, m.role, u.totp_key IS NOT NULL AS has_totp, m.created_at, \
     u.disabled_at, u.last_login_at FROM memberships m JOIN users u ON u.id = m.user_id WHERE m.tenant_id = $1";

/// The people of a tenant by their id, after `after`.
///
/// # Errors
/// When the database is away.
pub fn list(
    conn: &mut PgConnection,
    tenant: TenantId,
    after: Option<UserId>,
    limit: i64,
) -> Result<Vec<Member>> {
    let after = after.map_or(uuid::Uuid::nil(), UserId::uuid);
    Ok(sql_query(format!("{MEMBER} AND m.user_id > $2 ORDER BY m.user_id LIMIT $3"))
        .bind::<Uuid, _>(tenant)
        .bind::<Uuid, _>(after)
        .bind::<diesel::sql_types::BigInt, _>(limit)
        .load(conn)?)
}

/// One person of a tenant.
///
/// # Errors
/// When the database is away.
pub fn find(conn: &mut PgConnection, tenant: TenantId, user: UserId) -> Result<Option<Member>> {
    Ok(sql_query(format!("{MEMBER} AND m.user_id = $2"))
        .bind::<Uuid, _>(tenant)
        .bind::<Uuid, _>(user)
        .get_result(conn)
        .optional()?)
}

/// The tenants of a person, the oldest membership first.
///
/// # Errors
/// When the database is away.
pub fn of_user(conn: &mut PgConnection, user: UserId) -> Result<Vec<Seat>> {
    Ok(sql_query(
        "SELECT m.tenant_id, t.name AS tenant_name, m.role FROM memberships m JOIN tenants t ON t.id = m.tenant_id \
         WHERE m.user_id = $1 ORDER BY m.created_at, m.tenant_id",
    )
    .bind::<Uuid, _>(user)
    .load(conn)?)
}

/// Makes somebody a member.
///
/// # Errors
/// [`Error::Conflict`] when they are one already.
pub fn insert(
    conn: &mut PgConnection,
    tenant: TenantId,
    user: UserId,
    role: Role,
    now: DateTime<Utc>,
) -> Result<()> {
    let stored = sql_query(
        "INSERT INTO memberships (tenant_id, user_id, role, created_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
    )
    .bind::<Uuid, _>(tenant)
    .bind::<Uuid, _>(user)
    .bind::<SmallInt, _>(role.code())
    .bind::<Timestamptz, _>(now)
    .execute(conn)?;
    if stored == 0 {
        return Err(Error::Conflict { reason: "this person is a member of the tenant already".to_owned() });
    }
    Ok(())
}

/// Changes a role, which counts from the next request on. Access tokens of OAuth clients that the person let in lose what a
/// lesser role does not have. Belongs into a transaction. Returns the role before, and whether access tokens changed: then see
/// [`crate::credential::directory::known_everywhere`].
///
/// # Errors
/// [`Error::NotFound`], or [`Error::Conflict`] for the last admin.
pub fn set_role(
    conn: &mut PgConnection,
    tenant: TenantId,
    user: UserId,
    role: Role,
    now: DateTime<Utc>,
) -> Result<(Role, bool)> {
    lock(conn, tenant)?;
    let before = find(conn, tenant, user)?.ok_or(Error::NotFound { what: "user" })?.role;
    if before == Role::Admin && role != Role::Admin {
        keep_an_admin(conn, tenant, user)?;
    }
    let revoked = role < before && grant::narrow_to_role(conn, tenant, user, role, now)?;
    sql_query("UPDATE memberships SET role = $3 WHERE tenant_id = $1 AND user_id = $2")
        .bind::<Uuid, _>(tenant)
        .bind::<Uuid, _>(user)
        .bind::<SmallInt, _>(role.code())
        .execute(conn)?;
    Ok((before, revoked))
}

/// Ends a membership: sessions there, and what the person allowed OAuth clients. Belongs into a transaction. Returns whom,
/// and whether access tokens were revoked, as [`set_role`] does.
///
/// # Errors
/// [`Error::NotFound`], or [`Error::Conflict`] for the last admin.
pub fn remove(
    conn: &mut PgConnection,
    tenant: TenantId,
    user: UserId,
    now: DateTime<Utc>,
) -> Result<(Member, bool)> {
    lock(conn, tenant)?;
    let member = find(conn, tenant, user)?.ok_or(Error::NotFound { what: "user" })?;
    keep_an_admin(conn, tenant, user)?;
    let revoked = grant::end_all_of_user(conn, Some(tenant), user, now)?;
    for table in ["sessions", "memberships"] {
        sql_query(format!("DELETE FROM {table} WHERE tenant_id = $1 AND user_id = $2"))
            .bind::<Uuid, _>(tenant)
            .bind::<Uuid, _>(user)
            .execute(conn)?;
    }
    Ok((member, revoked))
}

/// The tenant's row is the lock under which its admins are counted.
fn lock(conn: &mut PgConnection, tenant: TenantId) -> Result<()> {
    sql_query("SELECT FROM tenants WHERE id = $1 FOR UPDATE").bind::<Uuid, _>(tenant).execute(conn)?;
    Ok(())
}

/// Whether the tenant still has an admin who can log in when this person is none.
pub(super) fn keep_an_admin(conn: &mut PgConnection, tenant: TenantId, user: UserId) -> Result<()> {
    lock(conn, tenant)?;
    let admins = |condition: &str| {
        sql_query(format!(
            "SELECT FROM memberships m JOIN users u ON u.id = m.user_id AND u.disabled_at IS NULL \
             WHERE m.tenant_id = $1 AND m.role = 2 AND m.user_id {condition} $2 LIMIT 1"
        ))
        .bind::<Uuid, _>(tenant)
        .bind::<Uuid, _>(user)
    };
    if admins("=").execute(conn)? > 0 && admins("<>").execute(conn)? == 0 {
        let reason = "this is the tenant's last admin; make somebody else an admin first".to_owned();
        return Err(Error::Conflict { reason });
    }
    Ok(())
}
