//! From a code or a refresh token to a pair of tokens. One transaction: what is refused because something is wrong with the
//! family ends the family in it.

use chrono::{DateTime, Utc};
use diesel::{
    OptionalExtension, PgConnection, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Array, Binary, Bool, Nullable, SmallInt, Text, Timestamptz, Uuid},
};

use super::{
    ACCESS_LIFE, ErrorCode, REFRESH_PREFIX, Refused,
    client::Client,
    grant::{self, Ended},
    permission, pkce,
    refresh::{self, Verdict},
};
use crate::{
    Result,
    audit::{self, Actor},
    credential::{
        Kind, Scope, Scopes, Token, TokenHash,
        store::{self, NewCredential},
    },
    id::{ClientId, GrantId, TenantId, UserId},
    person::Role,
};

/// What a client gets.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The access token, good for [`ACCESS_LIFE`].
    pub access: Token,
    /// The refresh token for the pair after this.
    pub refresh: Token,
    /// What the access token may do.
    pub scopes: Scopes,
}

/// The members of a token request with a code.
#[derive(Clone, Debug)]
pub struct CodeRequest {
    /// `code`
    pub code: TokenHash,
    /// `redirect_uri`
    pub redirect_uri: Option<String>,
    /// `code_verifier`
    pub verifier: Option<String>,
}

/// The members of a token request with a refresh token.
#[derive(Clone, Debug)]
pub struct RefreshRequest {
    /// `refresh_token`
    pub token: TokenHash,
    /// `scope`
    pub wanted: Option<Scopes>,
}

/// What is behind a code or a refresh token.
#[derive(Debug, QueryableByName)]
struct Family {
    #[diesel(sql_type = Uuid)]
    grant_id: GrantId,
    #[diesel(sql_type = Uuid)]
    client_id: ClientId,
    #[diesel(sql_type = Uuid)]
    tenant_id: TenantId,
    #[diesel(sql_type = Uuid)]
    user_id: UserId,
    #[diesel(sql_type = Array<Text>)]
    scopes: Vec<String>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    revoked_at: Option<DateTime<Utc>>,
    /// What the person may do at the tenant now; nothing when disabled or no member any more.
    #[diesel(sql_type = Nullable<SmallInt>)]
    role: Option<Role>,
}

const FAMILY: &str = "g.id AS grant_id, g.client_id, g.tenant_id, g.user_id, g.scopes, g.revoked_at, \
     (SELECT m.role FROM memberships m JOIN users u ON u.id = m.user_id AND u.disabled_at IS NULL \
      WHERE m.tenant_id = g.tenant_id AND m.user_id = g.user_id) AS role";

#[derive(Debug, QueryableByName)]
struct CodeRow {
    #[diesel(embed)]
    family: Family,
    #[diesel(sql_type = Text)]
    redirect_uri: String,
    #[diesel(sql_type = Bool)]
    redirect_named: bool,
    #[diesel(sql_type = Nullable<Text>)]
    challenge: Option<String>,
    #[diesel(sql_type = Timestamptz)]
    expires_at: DateTime<Utc>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    used_at: Option<DateTime<Utc>>,
}

#[derive(Debug, QueryableByName)]
struct RefreshRow {
    #[diesel(embed)]
    family: Family,
    #[diesel(sql_type = Timestamptz)]
    created_at: DateTime<Utc>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    used_at: Option<DateTime<Utc>>,
}

/// The result of an exchange: tokens, or a refusal whose consequences are to be committed.
pub type Outcome = std::result::Result<Issued, Refused>;

/// Exchanges a code of this client, once.
///
/// # Errors
/// When the database is away.
pub fn code(
    conn: &mut PgConnection,
    client: &Client,
    request: &CodeRequest,
    actor: &Actor,
    now: DateTime<Utc>,
) -> Result<Outcome> {
    lock_tenant(conn, "oauth_codes", "code_hash", &request.code)?;
    let row: Option<CodeRow> = sql_query(format!(
        "SELECT {FAMILY}, c.redirect_uri, c.redirect_named, c.challenge, c.expires_at, c.used_at \
         FROM oauth_codes c JOIN oauth_grants g ON g.id = c.grant_id WHERE c.code_hash = $1 FOR UPDATE OF c, g"
    ))
    .bind::<Binary, _>(request.code.bytes())
    .get_result(conn)
    .optional()?;
    let Some(row) = row.filter(|row| row.family.client_id == client.id) else {
        return Ok(Err(invalid_grant("the code is unknown, or another client's")));
    };
    if row.used_at.is_some() {
        // Somebody else may have exchanged it before: nobody knows who (RFC 6749 §4.1.2).
        let refused = invalid_grant("the code was used before; all tokens that came from it are revoked");
        return end(conn, &row.family, Ended::CodeReplayed, refused, actor, now);
    }
    if now >= row.expires_at {
        return Ok(Err(invalid_grant("the code has expired")));
    }
    let same_redirect = match &request.redirect_uri {
        Some(given) => *given == row.redirect_uri,
        None => !row.redirect_named,
    };
    if !same_redirect {
        return Ok(Err(invalid_grant("redirect_uri is not the one that the code was asked for with")));
    }
    if let Err(reason) = pkce::verify(row.challenge.as_deref(), request.verifier.as_deref()) {
        return Ok(Err(invalid_grant(reason)));
    }
    let scopes = match row.family.scopes(client, None) {
        Ok(scopes) => scopes,
        Err(refused) => return Ok(Err(refused)),
    };
    sql_query("UPDATE oauth_codes SET used_at = $2 WHERE code_hash = $1")
        .bind::<Binary, _>(request.code.bytes())
        .bind::<Timestamptz, _>(now)
        .execute(conn)?;
    issue(conn, client, &row.family, scopes, now).map(Ok)
}

/// Exchanges a refresh token of this client.
///
/// # Errors
/// When the database is away.
pub fn refresh(
    conn: &mut PgConnection,
    client: &Client,
    request: &RefreshRequest,
    actor: &Actor,
    now: DateTime<Utc>,
) -> Result<Outcome> {
    lock_tenant(conn, "oauth_refresh_tokens", "token_hash", &request.token)?;
    let row: Option<RefreshRow> = sql_query(format!(
        "SELECT {FAMILY}, r.created_at, r.used_at \
         FROM oauth_refresh_tokens r JOIN oauth_grants g ON g.id = r.grant_id WHERE r.token_hash = $1 FOR UPDATE OF r, g"
    ))
    .bind::<Binary, _>(request.token.bytes())
    .get_result(conn)
    .optional()?;
    let Some(row) = row.filter(|row| row.family.client_id == client.id) else {
        return Ok(Err(invalid_grant("the refresh token is unknown, or another client's")));
    };
    match refresh::judge(row.created_at, row.used_at, now) {
        Verdict::First | Verdict::WithinGrace => {}
        Verdict::Expired => {
            return Ok(Err(invalid_grant("the refresh token was not used for 180 days and has expired")));
        }
        Verdict::Reused => {
            let refused = invalid_grant(
                "the refresh token was used before; all tokens of this authorization are revoked",
            );
            return end(conn, &row.family, Ended::Reuse, refused, actor, now);
        }
    }
    let scopes = match row.family.scopes(client, request.wanted) {
        Ok(scopes) => scopes,
        Err(refused) => return Ok(Err(refused)),
    };
    sql_query("UPDATE oauth_refresh_tokens SET used_at = $2 WHERE token_hash = $1 AND used_at IS NULL")
        .bind::<Binary, _>(request.token.bytes())
        .bind::<Timestamptz, _>(now)
        .execute(conn)?;
    issue(conn, client, &row.family, scopes, now).map(Ok)
}

fn invalid_grant(description: &str) -> Refused {
    Refused::new(ErrorCode::InvalidGrant, description)
}

impl Family {
    /// What an access token of this family may do now.
    fn scopes(&self, client: &Client, wanted: Option<Scopes>) -> std::result::Result<Scopes, Refused> {
        if self.revoked_at.is_some() {
            return Err(invalid_grant("the authorization was revoked"));
        }
        let Some(role) = self.role else {
            return Err(invalid_grant("the person who authorized the client has no access any more"));
        };
        let allowed: Scopes = self.scopes.iter().filter_map(|scope| scope.parse::<Scope>().ok()).collect();
        let scopes = permission::renewed(allowed, wanted, client.scopes(), role).ok_or_else(|| {
            Refused::new(ErrorCode::InvalidScope, "scope asks for more than was authorized")
        })?;
        if scopes.is_empty() {
            return Err(invalid_grant("the person who authorized the client may do nothing of it any more"));
        }
        Ok(scopes)
    }
}

/// Whoever changes a tenant's people or keys locks the tenant before anything else; so do we, or two would wait for each
/// other. Exchanges do not keep each other out by it.
fn lock_tenant(conn: &mut PgConnection, table: &str, column: &str, hash: &TokenHash) -> Result<()> {
    sql_query(format!(
        "SELECT FROM tenants t JOIN oauth_grants g ON g.tenant_id = t.id JOIN {table} x ON x.grant_id = g.id \
         WHERE x.{column} = $1 FOR KEY SHARE OF t"
    ))
    .bind::<Binary, _>(hash.bytes())
    .execute(conn)?;
    Ok(())
}

fn end(
    conn: &mut PgConnection,
    family: &Family,
    why: Ended,
    refused: Refused,
    actor: &Actor,
    now: DateTime<Utc>,
) -> Result<Outcome> {
    let ended_tokens = grant::end(conn, family.grant_id, why, now)?;
    if ended_tokens {
        audit::record(conn, actor, &grant::revoked(family.tenant_id, family.grant_id, why), now)?;
    }
    Ok(Err(Refused { ended_tokens, ..refused }))
}

fn issue(
    conn: &mut PgConnection,
    client: &Client,
    family: &Family,
    scopes: Scopes,
    now: DateTime<Utc>,
) -> Result<Issued> {
    let access = Token::with_prefix(Kind::OAuthAccess.prefix(), rand::random());
    let refresh = Token::with_prefix(REFRESH_PREFIX, rand::random());
    let credential = NewCredential {
        expires_at: Some(now + ACCESS_LIFE),
        grant: Some(family.grant_id),
        created_by: Some(family.user_id),
        ..NewCredential::new(Kind::OAuthAccess, &access, family.tenant_id, &client.name, scopes, now)
    };
    store::insert(conn, &credential)?;
    sql_query("INSERT INTO oauth_refresh_tokens (token_hash, grant_id, created_at) VALUES ($1, $2, $3)")
        .bind::<Binary, _>(refresh.hash().bytes())
        .bind::<Uuid, _>(family.grant_id)
        .bind::<Timestamptz, _>(now)
        .execute(conn)?;
    sql_query("UPDATE oauth_grants SET last_used_at = GREATEST(last_used_at, $2) WHERE id = $1")
        .bind::<Uuid, _>(family.grant_id)
        .bind::<Timestamptz, _>(now)
        .execute(conn)?;
    Ok(Issued { access, refresh, scopes })
}
