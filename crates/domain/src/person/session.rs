//! Sessions: a person who is logged in, at one tenant. The cookie's token is kept as a hash only.
//!
//! A session is looked up with every request, so that a log-out, another role and a disabled person count at once.

use chrono::{DateTime, TimeDelta, Utc};
use diesel::{
    OptionalExtension, PgConnection, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Binary, Nullable, SmallInt, Text, Timestamptz, Uuid},
};

use super::Role;
use crate::{
    Result,
    credential::TokenHash,
    id::{SessionId, TenantId, UserId},
};

/// A session ends after so many hours in which its person did nothing.
pub const IDLE_HOURS: i64 = 12;

/// Whatever its person does, a session ends after so many days.
pub const LONGEST_DAYS: i64 = 30;

/// A person who is logged in.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
pub struct Session {
    /// Identity.
    #[diesel(sql_type = Uuid)]
    pub id: SessionId,
    /// Who.
    #[diesel(sql_type = Uuid)]
    pub user_id: UserId,
    /// The tenant that the person looks at.
    #[diesel(sql_type = Uuid)]
    pub tenant_id: TenantId,
    /// What the person may do there.
    #[diesel(sql_type = SmallInt)]
    pub role: Role,
    /// The person's address.
    #[diesel(sql_type = Text)]
    pub email: String,
    /// The person's name.
    #[diesel(sql_type = Text)]
    pub name: String,
    /// The person's language.
    #[diesel(sql_type = Text)]
    pub locale: String,
    /// Since when the person is logged in.
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
    /// When the person was last seen, within a minute.
    #[diesel(sql_type = Timestamptz)]
    pub last_seen_at: DateTime<Utc>,
}

/// The live session of a cookie: not expired, of a person who is not disabled and still a member of the tenant.
///
/// # Errors
/// When the database is away.
pub fn find(conn: &mut PgConnection, hash: &TokenHash, now: DateTime<Utc>) -> Result<Option<Session>> {
    Ok(sql_query(
        "SELECT s.id, s.user_id, s.tenant_id, m.role, u.email, u.name, u.locale, s.created_at, s.last_seen_at \
         FROM sessions s JOIN users u ON u.id = s.user_id AND u.disabled_at IS NULL \
            JOIN memberships m ON m.tenant_id = s.tenant_id AND m.user_id = s.user_id \
         WHERE s.token_hash = $1 AND s.expires_at > $2 AND s.last_seen_at > $3",
    )
    .bind::<Binary, _>(hash.bytes())
    .bind::<Timestamptz, _>(now)
    .bind::<Timestamptz, _>(now - TimeDelta::hours(IDLE_HOURS))
    .get_result(conn)
    .optional()?)
}

/// Notes that a person was seen.
///
/// # Errors
/// When the database is away.
pub fn touch(conn: &mut PgConnection, id: SessionId, now: DateTime<Utc>) -> Result<()> {
    sql_query("UPDATE sessions SET last_seen_at = GREATEST(last_seen_at, $2) WHERE id = $1")
        .bind::<Uuid, _>(id)
        .bind::<Timestamptz, _>(now)
        .execute(conn)?;
    Ok(())
}

/// A session to be opened.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// Identity.
    pub id: SessionId,
    /// Hash of the cookie's token.
    pub hash: TokenHash,
    /// Who.
    pub user: UserId,
    /// The tenant that the person looks at first.
    pub tenant: TenantId,
    /// From where.
    pub address: Option<String>,
    /// With what.
    pub user_agent: Option<String>,
}

/// Opens a session, and notes that the person logged in.
///
/// # Errors
/// When the database is away.
pub fn open(conn: &mut PgConnection, new: &NewSession, now: DateTime<Utc>) -> Result<()> {
    sql_query(
        "INSERT INTO sessions (id, token_hash, user_id, tenant_id, created_at, last_seen_at, expires_at, address, \
            user_agent) VALUES ($1, $2, $3, $4, $5, $5, $6, $7, $8)",
    )
    .bind::<Uuid, _>(new.id)
    .bind::<Binary, _>(new.hash.bytes())
    .bind::<Uuid, _>(new.user)
    .bind::<Uuid, _>(new.tenant)
    .bind::<Timestamptz, _>(now)
    .bind::<Timestamptz, _>(now + TimeDelta::days(LONGEST_DAYS))
    .bind::<Nullable<Text>, _>(&new.address)
    .bind::<Nullable<Text>, _>(&new.user_agent)
    .execute(conn)?;
    sql_query("UPDATE users SET last_login_at = $2 WHERE id = $1")
        .bind::<Uuid, _>(new.user)
        .bind::<Timestamptz, _>(now)
        .execute(conn)?;
    Ok(())
}

/// Ends a session of a person. Returns whether there was one.
///
/// # Errors
/// When the database is away.
pub fn close(conn: &mut PgConnection, user: UserId, id: SessionId) -> Result<bool> {
    let closed = sql_query("DELETE FROM sessions WHERE user_id = $1 AND id = $2")
        .bind::<Uuid, _>(user)
        .bind::<Uuid, _>(id)
        .execute(conn)?;
    Ok(closed == 1)
}

/// Ends all sessions of a person, but for the one that is kept. Returns how many.
///
/// # Errors
/// When the database is away.
pub fn close_all(conn: &mut PgConnection, user: UserId, kept: Option<SessionId>) -> Result<usize> {
    Ok(sql_query("DELETE FROM sessions WHERE user_id = $1 AND id IS DISTINCT FROM $2")
        .bind::<Uuid, _>(user)
        .bind::<Nullable<Uuid>, _>(kept)
        .execute(conn)?)
}

/// Looks at another tenant, of which the person has to be a member. Returns whether that was so.
///
/// # Errors
/// When the database is away.
pub fn switch(conn: &mut PgConnection, user: UserId, id: SessionId, tenant: TenantId) -> Result<bool> {
    let switched = sql_query(
        "UPDATE sessions s SET tenant_id = $3 WHERE s.user_id = $1 AND s.id = $2 \
         AND EXISTS (SELECT FROM memberships m WHERE m.user_id = $1 AND m.tenant_id = $3)",
    )
    .bind::<Uuid, _>(user)
    .bind::<Uuid, _>(id)
    .bind::<Uuid, _>(tenant)
    .execute(conn)?;
    Ok(switched == 1)
}

/// A session, as its person sees it in a list.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
pub struct SessionView {
    /// Identity.
    #[diesel(sql_type = Uuid)]
    pub id: SessionId,
    /// Since when.
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
    /// When the person was last seen, within a minute.
    #[diesel(sql_type = Timestamptz)]
    pub last_seen_at: DateTime<Utc>,
    /// From where.
    #[diesel(sql_type = Nullable<Text>)]
    pub address: Option<String>,
    /// With what.
    #[diesel(sql_type = Nullable<Text>)]
    pub user_agent: Option<String>,
}

/// The live sessions of a person, the newest first.
///
/// # Errors
/// When the database is away.
pub fn list(conn: &mut PgConnection, user: UserId, now: DateTime<Utc>) -> Result<Vec<SessionView>> {
    Ok(sql_query(
        "SELECT id, created_at, last_seen_at, address, user_agent FROM sessions \
         WHERE user_id = $1 AND expires_at > $2 AND last_seen_at > $3 ORDER BY id DESC",
    )
    .bind::<Uuid, _>(user)
    .bind::<Timestamptz, _>(now)
    .bind::<Timestamptz, _>(now - TimeDelta::hours(IDLE_HOURS))
    .load(conn)?)
}

/// Removes sessions that have ended by themselves. Returns how many.
///
/// # Errors
/// When the database is away.
pub fn forget_ended(conn: &mut PgConnection, now: DateTime<Utc>) -> Result<usize> {
    Ok(sql_query("DELETE FROM sessions WHERE expires_at <= $1 OR last_seen_at <= $2")
        .bind::<Timestamptz, _>(now)
        .bind::<Timestamptz, _>(now - TimeDelta::hours(IDLE_HOURS))
        .execute(conn)?)
}
