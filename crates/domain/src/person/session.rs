//! Sessions: a person who is logged in, at one tenant. The cookie's token is kept as a hash only.
//!
//! A session is looked up with every request, so that a log-out, another role and a disabled person count at once.

use chrono::{DateTime, TimeDelta, Utc};
use diesel::{
    OptionalExtension, PgConnection, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Binary, SmallInt, Text, Timestamptz, Uuid},
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
