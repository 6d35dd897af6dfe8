//! Grants: what a person allowed a client at a tenant. Given on the consent page, ended by whoever may.

use chrono::{DateTime, Utc};
use diesel::{
    OptionalExtension, PgConnection, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Array, BigInt, Binary, Bool, Nullable, SmallInt, Text, Timestamptz, Uuid},
};
use serde_json::json;

use super::{
    CODE_LIFE, CODE_PREFIX, REMEMBERED, UNUSED_LIFE,
    client::{Client, Destination},
    permission,
    pkce::Challenge,
};
use crate::{
    Error, Result,
    audit::{self, Action, Actor, Entry, ObjectKind, ObjectRef},
    credential::{Kind, Scope, Scopes, Token},
    db::prepared::planned_for_values,
    id::{ClientId, GrantId, TenantId, UserId},
    person::Role,
};

/// Why a grant ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// A person of the tenant, or a key that may, ended it.
    ByOwner,
    /// The client gave it back (RFC 7009), or was itself revoked.
    ByClient,
    /// A refresh token came again after its time: two had it.
    Reuse,
    /// A code came again.
    CodeReplayed,
    /// The person was disabled, or is no member any more.
    UserDisabled,
}

impl Ended {
    /// The word for it in the database and in the audit log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ByOwner => "by_owner",
            Self::ByClient => "by_client",
            Self::Reuse => "reuse",
            Self::CodeReplayed => "code_replayed",
            Self::UserDisabled => "user_disabled",
        }
    }
}

/// What a person allows.
#[derive(Clone, Debug)]
pub struct Consent {
    /// Whom.
    pub client: ClientId,
    /// At which tenant.
    pub tenant: TenantId,
    /// Who.
    pub user: UserId,
    /// What.
    pub scopes: Scopes,
    /// Where the code goes.
    pub destination: Destination,
    /// What the exchange of the code has to prove.
    pub challenge: Option<Challenge>,
}

/// Makes a grant and the code for its first tokens.
///
/// # Errors
/// [`Error::NotFound`] when the client was revoked meanwhile.
pub fn give(conn: &mut PgConnection, consent: &Consent, actor: &Actor, now: DateTime<Utc>) -> Result<Token> {
    // Whoever revokes the client waits for this grant and then ends it.
    let live = sql_query("SELECT FROM oauth_clients WHERE id = $1 AND revoked_at IS NULL FOR SHARE")
        .bind::<Uuid, _>(consent.client)
        .execute(conn)?;
    if live == 0 {
        return Err(Error::NotFound { what: "OAuth client" });
    }
    let id = GrantId::new(now);
    sql_query(
        "INSERT INTO oauth_grants (id, client_id, tenant_id, user_id, scopes, created_at) VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind::<Uuid, _>(id)
    .bind::<Uuid, _>(consent.client)
    .bind::<Uuid, _>(consent.tenant)
    .bind::<Uuid, _>(consent.user)
    .bind::<Array<Text>, _>(consent.scopes.iter().map(Scope::as_str).collect::<Vec<_>>())
    .bind::<Timestamptz, _>(now)
    .execute(conn)?;
    let code = Token::with_prefix(CODE_PREFIX, rand::random());
    sql_query(
        "INSERT INTO oauth_codes (code_hash, grant_id, redirect_uri, redirect_named, challenge, created_at, expires_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind::<Binary, _>(code.hash().bytes())
    .bind::<Uuid, _>(id)
    .bind::<Text, _>(&consent.destination.uri)
    .bind::<Bool, _>(consent.destination.named)
    .bind::<Nullable<Text>, _>(consent.challenge.as_ref().map(Challenge::as_str))
    .bind::<Timestamptz, _>(now)
    .bind::<Timestamptz, _>(now + CODE_LIFE)
    .execute(conn)?;
    let entry = entry(consent.tenant, Action::GrantGiven, id).after(json!({
        "client_id": consent.client.to_string(), "user_id": consent.user.to_string(),
        "scopes": permission::words(consent.scopes),
    }));
    audit::record(conn, actor, &entry, now)?;
    Ok(code)
}

/// Whether the person allows this client all of these scopes already.
///
/// # Errors
/// When the database is away.
pub fn is_given(
    conn: &mut PgConnection,
    client: &Client,
    tenant: TenantId,
    user: UserId,
    scopes: Scopes,
) -> Result<bool> {
    let found = sql_query(
        "SELECT FROM oauth_grants WHERE user_id = $1 AND tenant_id = $2 AND client_id = $3 AND revoked_at IS NULL \
            AND scopes @> $4 LIMIT 1",
    )
    .bind::<Uuid, _>(user)
    .bind::<Uuid, _>(tenant)
    .bind::<Uuid, _>(client.id)
    .bind::<Array<Text>, _>(scopes.iter().map(Scope::as_str).collect::<Vec<_>>())
    .execute(conn)?;
    Ok(found > 0)
}

/// A live grant as people see it.
#[derive(Clone, Debug, QueryableByName)]
pub struct GrantView {
    /// Identity.
    #[diesel(sql_type = Uuid)]
    pub id: GrantId,
    /// Who was let in.
    #[diesel(sql_type = Uuid)]
    pub client_id: ClientId,
    /// Its name.
    #[diesel(sql_type = Text)]
    pub client_name: String,
    /// Who let it in.
    #[diesel(sql_type = Uuid)]
    pub user_id: UserId,
    /// The address of that person.
    #[diesel(sql_type = Text)]
    pub email: String,
    /// What was allowed.
    #[diesel(sql_type = Array<Text>)]
    pub scopes: Vec<String>,
    /// When.
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
    /// When tokens were last given for it.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub last_used_at: Option<DateTime<Utc>>,
}

/// The live grants at a tenant, newest first: everybody's, or one person's. `before` is the last of the page before.
///
/// # Errors
/// When the database is away.
pub fn list(
    conn: &mut PgConnection,
    tenant: TenantId,
    user: Option<UserId>,
    before: Option<GrantId>,
    limit: i64,
) -> Result<Vec<GrantView>> {
    planned_for_values(conn, |conn| {
        Ok(sql_query(
            "SELECT g.id, g.client_id, c.name AS client_name, g.user_id, u.email, g.scopes, g.created_at, g.last_used_at \
             FROM oauth_grants g JOIN oauth_clients c ON c.id = g.client_id JOIN users u ON u.id = g.user_id \
             WHERE g.tenant_id = $1 AND g.revoked_at IS NULL AND ($2 IS NULL OR g.user_id = $2) AND ($3 IS NULL OR g.id < $3) \
             ORDER BY g.id DESC LIMIT $4",
        )
        .bind::<Uuid, _>(tenant)
        .bind::<Nullable<Uuid>, _>(user)
        .bind::<Nullable<Uuid>, _>(before)
        .bind::<BigInt, _>(limit)
        .load(conn)?)
    })
}

/// Ends a grant of a tenant, of anybody or of one person. Ending it again changes nothing. Gateways may take its tokens for a
/// little longer: see [`crate::credential::directory::known_everywhere`].
///
/// # Errors
/// [`Error::NotFound`] without it.
pub fn revoke(
    conn: &mut PgConnection,
    tenant: TenantId,
    user: Option<UserId>,
    id: GrantId,
    actor: &Actor,
    now: DateTime<Utc>,
) -> Result<()> {
    let found = sql_query(
        "SELECT FROM oauth_grants WHERE id = $1 AND tenant_id = $2 AND ($3 IS NULL OR user_id = $3) FOR UPDATE",
    )
    .bind::<Uuid, _>(id)
    .bind::<Uuid, _>(tenant)
    .bind::<Nullable<Uuid>, _>(user)
    .execute(conn)?;
    if found == 0 {
        return Err(Error::NotFound { what: "OAuth grant" });
    }
    if end(conn, id, Ended::ByOwner, now)? {
        audit::record(conn, actor, &revoked(tenant, id, Ended::ByOwner), now)?;
    }
    Ok(())
}

/// Ends everything that a person allowed, at one tenant or at all: for whoever takes the person's membership or disables the
/// person, in the same transaction. Returns whether something ended, which [`crate::credential::directory::known_everywhere`]
/// then has to be awaited for.
///
/// # Errors
/// When the database is away.
pub fn end_all_of_user(
    conn: &mut PgConnection,
    tenant: Option<TenantId>,
    user: UserId,
    now: DateTime<Utc>,
) -> Result<bool> {
    let ended = sql_query(
        "UPDATE oauth_grants SET revoked_at = $3, revoked_reason = $4 \
         WHERE user_id = $1 AND ($2 IS NULL OR tenant_id = $2) AND revoked_at IS NULL",
    )
    .bind::<Uuid, _>(user)
    .bind::<Nullable<Uuid>, _>(tenant)
    .bind::<Timestamptz, _>(now)
    .bind::<Text, _>(Ended::UserDisabled.as_str())
    .execute(conn)?;
    sql_query(
        "UPDATE credentials c SET revoked_at = $3 FROM oauth_grants g \
         WHERE g.user_id = $1 AND ($2 IS NULL OR g.tenant_id = $2) AND c.grant_id = g.id AND c.revoked_at IS NULL",
    )
    .bind::<Uuid, _>(user)
    .bind::<Nullable<Uuid>, _>(tenant)
    .bind::<Timestamptz, _>(now)
    .execute(conn)?;
    Ok(ended > 0)
}

/// Takes from the live access tokens of a person what a lesser role does not have: for whoever changes the role, in the same
/// transaction. What comes after is bounded by the role anyway. Returns whether a token changed.
///
/// # Errors
/// When the database is away.
pub fn narrow_to_role(
    conn: &mut PgConnection,
    tenant: TenantId,
    user: UserId,
    role: Role,
    now: DateTime<Utc>,
) -> Result<bool> {
    let narrowed = sql_query(
        "UPDATE credentials c SET scopes = ARRAY(SELECT s FROM unnest(c.scopes) s WHERE s = ANY ($3)) \
         FROM oauth_grants g WHERE g.user_id = $2 AND g.tenant_id = $1 AND c.grant_id = g.id AND c.revoked_at IS NULL \
            AND (c.expires_at IS NULL OR c.expires_at > $4) AND NOT c.scopes <@ $3",
    )
    .bind::<Uuid, _>(tenant)
    .bind::<Uuid, _>(user)
    .bind::<Array<Text>, _>(role.scopes().iter().map(Scope::as_str).collect::<Vec<_>>())
    .bind::<Timestamptz, _>(now)
    .execute(conn)?;
    Ok(narrowed > 0)
}

/// Ends everything that a client was allowed.
pub(super) fn end_all_of_client(conn: &mut PgConnection, client: ClientId, now: DateTime<Utc>) -> Result<()> {
    sql_query(
        "UPDATE oauth_grants SET revoked_at = $2, revoked_reason = $3 WHERE client_id = $1 AND revoked_at IS NULL",
    )
    .bind::<Uuid, _>(client)
    .bind::<Timestamptz, _>(now)
    .bind::<Text, _>(Ended::ByClient.as_str())
    .execute(conn)?;
    sql_query(
        "UPDATE credentials c SET revoked_at = $2 FROM oauth_grants g \
         WHERE g.client_id = $1 AND c.grant_id = g.id AND c.revoked_at IS NULL",
    )
    .bind::<Uuid, _>(client)
    .bind::<Timestamptz, _>(now)
    .execute(conn)?;
    Ok(())
}

/// Ends a grant and its access tokens, whatever is left of it. Returns whether the grant was live.
pub(super) fn end(conn: &mut PgConnection, id: GrantId, why: Ended, now: DateTime<Utc>) -> Result<bool> {
    let ended = sql_query(
        "UPDATE oauth_grants SET revoked_at = $2, revoked_reason = $3 WHERE id = $1 AND revoked_at IS NULL",
    )
    .bind::<Uuid, _>(id)
    .bind::<Timestamptz, _>(now)
    .bind::<Text, _>(why.as_str())
    .execute(conn)?;
    sql_query(
        "UPDATE credentials SET revoked_at = $2 WHERE grant_id = $1 AND kind = $3 AND revoked_at IS NULL",
    )
    .bind::<Uuid, _>(id)
    .bind::<Timestamptz, _>(now)
    .bind::<SmallInt, _>(Kind::OAuthAccess.code())
    .execute(conn)?;
    Ok(ended > 0)
}

/// The entry of a grant that ended.
pub(super) fn revoked(tenant: TenantId, id: GrantId, why: Ended) -> Entry {
    let action = match why {
        Ended::Reuse => Action::GrantReuseDetected,
        Ended::ByOwner | Ended::ByClient | Ended::CodeReplayed | Ended::UserDisabled => Action::GrantRevoked,
    };
    entry(tenant, action, id).after(json!({ "reason": why.as_str() }))
}

fn entry(tenant: TenantId, action: Action, id: GrantId) -> Entry {
    Entry::new(tenant, action, ObjectRef::new(ObjectKind::Grant, id))
}

/// Removes codes, refresh tokens and grants that ended long ago, and grants whose code nobody exchanged. Returns how many
/// rows went.
///
/// # Errors
/// When the database is away.
pub fn forget_old(conn: &mut PgConnection, now: DateTime<Utc>) -> Result<usize> {
    let long_ago = now - REMEMBERED;
    let mut gone = sql_query("DELETE FROM oauth_codes WHERE expires_at < $1")
        .bind::<Timestamptz, _>(now - chrono::TimeDelta::days(1))
        .execute(conn)?;
    gone += sql_query(
        "DELETE FROM oauth_refresh_tokens WHERE used_at < $1 OR used_at IS NULL AND created_at < $2",
    )
    .bind::<Timestamptz, _>(long_ago)
    .bind::<Timestamptz, _>(now - UNUSED_LIFE)
    .execute(conn)?;
    // What is left of a grant that ended: its last refresh token stays as long as the grant.
    gone += sql_query(
        "DELETE FROM oauth_refresh_tokens r USING oauth_grants g WHERE g.id = r.grant_id AND g.revoked_at < $1",
    )
    .bind::<Timestamptz, _>(long_ago)
    .execute(conn)?;
    gone += sql_query(
        "DELETE FROM oauth_grants g WHERE (g.revoked_at < $1 OR g.created_at < $1) \
            AND NOT EXISTS (SELECT FROM oauth_refresh_tokens r WHERE r.grant_id = g.id) \
            AND NOT EXISTS (SELECT FROM oauth_codes c WHERE c.grant_id = g.id)",
    )
    .bind::<Timestamptz, _>(long_ago)
    .execute(conn)?;
    Ok(gone)
}

/// The client and tenant behind a grant, for whoever revokes tokens.
#[derive(QueryableByName)]
pub(super) struct Owner {
    #[diesel(sql_type = Uuid)]
    pub(super) client_id: ClientId,
    #[diesel(sql_type = Uuid)]
    pub(super) tenant_id: TenantId,
}

/// Whose a grant is; the grant is locked.
pub(super) fn owner(conn: &mut PgConnection, id: GrantId) -> Result<Option<Owner>> {
    Ok(sql_query("SELECT client_id, tenant_id FROM oauth_grants WHERE id = $1 FOR UPDATE")
        .bind::<Uuid, _>(id)
        .get_result(conn)
        .optional()?)
}
