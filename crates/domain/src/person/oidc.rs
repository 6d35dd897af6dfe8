//! People whom a provider of OpenID Connect knows: log-ins that are under way there, and whom it means by a subject. How the
//! provider is asked, and whether it is believed, is not decided here.

use chrono::{DateTime, TimeDelta, Utc};
use diesel::{
    OptionalExtension, PgConnection, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Binary, Nullable, Text, Timestamptz, Uuid},
};

use crate::{
    Result,
    credential::TokenHash,
    id::{InvitationId, UserId},
};

/// How long a person may take at the provider.
pub const LIFETIME: TimeDelta = TimeDelta::minutes(10);

/// A log-in that is under way at the provider.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
pub struct Login {
    /// What the ID token has to repeat.
    #[diesel(sql_type = Text)]
    pub nonce: String,
    /// PKCE verifier, sealed for the hash of `state`.
    #[diesel(sql_type = Binary)]
    pub verifier: Vec<u8>,
    /// Where to go afterwards: a path of ours.
    #[diesel(sql_type = Text)]
    pub return_to: String,
    /// The invitation that is being accepted, if one is.
    #[diesel(sql_type = Nullable<Uuid>)]
    pub invitation_id: Option<InvitationId>,
}

/// Remembers a log-in under the hash of its `state`.
///
/// # Errors
/// When the database is away.
pub fn begin(conn: &mut PgConnection, state: &TokenHash, login: &Login, now: DateTime<Utc>) -> Result<()> {
    sql_query(
        "INSERT INTO oidc_logins (state_hash, nonce, verifier, return_to, invitation_id, created_at) \
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind::<Binary, _>(state.bytes())
    .bind::<Text, _>(&login.nonce)
    .bind::<Binary, _>(&login.verifier)
    .bind::<Text, _>(&login.return_to)
    .bind::<Nullable<Uuid>, _>(login.invitation_id)
    .bind::<Timestamptz, _>(now)
    .execute(conn)?;
    Ok(())
}

/// Takes a log-in, which thereby is over: of two at the same moment one gets it. `None`: there is none, or it took too long.
///
/// # Errors
/// When the database is away.
pub fn take(conn: &mut PgConnection, state: &TokenHash, now: DateTime<Utc>) -> Result<Option<Login>> {
    Ok(sql_query(
        "DELETE FROM oidc_logins WHERE state_hash = $1 AND created_at > $2 \
         RETURNING nonce, verifier, return_to, invitation_id",
    )
    .bind::<Binary, _>(state.bytes())
    .bind::<Timestamptz, _>(now - LIFETIME)
    .get_result(conn)
    .optional()?)
}

/// Removes log-ins that took too long.
///
/// # Errors
/// When the database is away.
pub fn forget_old(conn: &mut PgConnection, now: DateTime<Utc>) -> Result<()> {
    sql_query("DELETE FROM oidc_logins WHERE created_at <= $1")
        .bind::<Timestamptz, _>(now - LIFETIME)
        .execute(conn)?;
    Ok(())
}

/// Whom a provider means by a subject.
///
/// # Errors
/// When the database is away.
pub fn find(conn: &mut PgConnection, issuer: &str, subject: &str) -> Result<Option<UserId>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Uuid)]
        user_id: UserId,
    }
    let row: Option<Row> =
        sql_query("SELECT user_id FROM user_identities WHERE issuer = $1 AND subject = $2")
            .bind::<Text, _>(issuer)
            .bind::<Text, _>(subject)
            .get_result(conn)
            .optional()?;
    Ok(row.map(|row| row.user_id))
}

/// Notes whom a provider means. Returns whether it is so now: not when the provider means somebody else by the subject, or
/// knows the person by another one, as it does when an e-mail address was given to somebody new. Belongs into a transaction.
///
/// # Errors
/// When the database is away.
pub fn link(
    conn: &mut PgConnection,
    issuer: &str,
    subject: &str,
    user: UserId,
    now: DateTime<Utc>,
) -> Result<bool> {
    // The person's row is the lock under which their subjects are counted.
    sql_query("SELECT FROM users WHERE id = $1 FOR UPDATE").bind::<Uuid, _>(user).execute(conn)?;
    let linked = sql_query(
        "INSERT INTO user_identities (issuer, subject, user_id, created_at) SELECT $1, $2, $3, $4 \
         WHERE NOT EXISTS (SELECT FROM user_identities WHERE issuer = $1 AND user_id = $3) ON CONFLICT DO NOTHING",
    )
    .bind::<Text, _>(issuer)
    .bind::<Text, _>(subject)
    .bind::<Uuid, _>(user)
    .bind::<Timestamptz, _>(now)
    .execute(conn)?;
    Ok(linked == 1)
}
