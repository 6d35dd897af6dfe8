//! Tokens that somebody holds: given back (RFC 7009), and asked about (RFC 7662).

use chrono::{DateTime, Utc};
use diesel::{
    OptionalExtension, PgConnection, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Array, Binary, Bool, Nullable, SmallInt, Text, Timestamptz, Uuid},
};

use super::{
    ErrorCode, Refused,
    client::Client,
    grant::{self, Ended},
    refresh::{self, Verdict},
};
use crate::{
    Result,
    audit::{self, Actor},
    credential::{Kind, TokenHash},
    id::{ClientId, CredentialId, GrantId, TenantId, UserId},
};

/// What is known of a token.
#[derive(Clone, Debug, QueryableByName)]
pub struct Known {
    /// What it may do.
    #[diesel(sql_type = Array<Text>)]
    pub scopes: Vec<String>,
    /// Whose objects it is about.
    #[diesel(sql_type = Uuid)]
    pub tenant_id: TenantId,
    /// The client that holds it; none for keys.
    #[diesel(sql_type = Nullable<Uuid>)]
    pub client_id: Option<ClientId>,
    /// The person on whose behalf; none for keys.
    #[diesel(sql_type = Nullable<Uuid>)]
    pub user_id: Option<UserId>,
    /// The address of that person.
    #[diesel(sql_type = Nullable<Text>)]
    pub username: Option<String>,
    /// When it was made.
    #[diesel(sql_type = Timestamptz)]
    pub issued_at: DateTime<Utc>,
    /// Until when it holds.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub expires_at: Option<DateTime<Utc>>,
    /// Whether it opens doors, other than a refresh token.
    #[diesel(sql_type = Bool)]
    pub is_access: bool,
}

/// What is known of a token that holds: of a client's own tokens only, or for a service of ours of every credential.
///
/// # Errors
/// When the database is away.
pub fn introspect(
    conn: &mut PgConnection,
    only: Option<ClientId>,
    hash: &TokenHash,
    now: DateTime<Utc>,
) -> Result<Option<Known>> {
    let credential: Option<Known> = sql_query(
        "SELECT c.scopes, c.tenant_id, g.client_id, g.user_id, u.email AS username, c.created_at AS issued_at, \
            c.expires_at, true AS is_access \
         FROM credentials c LEFT JOIN oauth_grants g ON g.id = c.grant_id LEFT JOIN users u ON u.id = g.user_id \
         WHERE c.token_hash = $1 AND c.revoked_at IS NULL AND (c.expires_at IS NULL OR c.expires_at > $2) \
            AND ($3 IS NULL OR g.client_id = $3)",
    )
    .bind::<Binary, _>(hash.bytes())
    .bind::<Timestamptz, _>(now)
    .bind::<Nullable<Uuid>, _>(only)
    .get_result(conn)
    .optional()?;
    if credential.is_some() {
        return Ok(credential);
    }
    #[derive(QueryableByName)]
    struct Refresh {
        #[diesel(embed)]
        known: Known,
        #[diesel(sql_type = Nullable<Timestamptz>)]
        used_at: Option<DateTime<Utc>>,
    }
    let refresh: Option<Refresh> = sql_query(
        "SELECT g.scopes, g.tenant_id, g.client_id, g.user_id, u.email AS username, r.created_at AS issued_at, \
            NULL::timestamptz AS expires_at, false AS is_access, r.used_at \
         FROM oauth_refresh_tokens r JOIN oauth_grants g ON g.id = r.grant_id JOIN users u ON u.id = g.user_id \
         WHERE r.token_hash = $1 AND g.revoked_at IS NULL AND ($2 IS NULL OR g.client_id = $2)",
    )
    .bind::<Binary, _>(hash.bytes())
    .bind::<Nullable<Uuid>, _>(only)
    .get_result(conn)
    .optional()?;
    Ok(refresh.and_then(|refresh| match refresh::judge(refresh.known.issued_at, refresh.used_at, now) {
        Verdict::First | Verdict::WithinGrace => Some(refresh.known),
        Verdict::Reused | Verdict::Expired => None,
    }))
}

/// Takes back a token that a client returns: a refresh token with everything of its authorization, an access token by itself.
/// A token that is not known is as good as returned (RFC 7009 §2.2). Returns whether something ended.
///
/// # Errors
/// When the database is away.
pub fn give_back(
    conn: &mut PgConnection,
    client: &Client,
    hash: &TokenHash,
    actor: &Actor,
    now: DateTime<Utc>,
) -> Result<std::result::Result<bool, Refused>> {
    #[derive(QueryableByName)]
    struct Behind {
        #[diesel(sql_type = Uuid)]
        grant_id: GrantId,
        #[diesel(sql_type = Nullable<Uuid>)]
        credential_id: Option<CredentialId>,
    }
    let behind: Option<Behind> = sql_query(
        "SELECT grant_id, NULL::uuid AS credential_id FROM oauth_refresh_tokens WHERE token_hash = $1 \
         UNION ALL \
         SELECT grant_id, id FROM credentials WHERE token_hash = $1 AND kind = $2 AND grant_id IS NOT NULL",
    )
    .bind::<Binary, _>(hash.bytes())
    .bind::<SmallInt, _>(Kind::OAuthAccess.code())
    .get_result(conn)
    .optional()?;
    let Some(Behind { grant_id, credential_id }) = behind else { return Ok(Ok(false)) };
    let Some(owner) = grant::owner(conn, grant_id)? else { return Ok(Ok(false)) };
    if owner.client_id != client.id {
        let refused = Refused::new(ErrorCode::InvalidGrant, "the token is another client's");
        return Ok(Err(refused));
    }
    let ended = match credential_id {
        Some(id) => {
            let ended =
                sql_query("UPDATE credentials SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL")
                    .bind::<Uuid, _>(id)
                    .bind::<Timestamptz, _>(now)
                    .execute(conn)?;
            ended > 0
        }
        None => {
            let ended = grant::end(conn, grant_id, Ended::ByClient, now)?;
            if ended {
                let entry = grant::revoked(owner.tenant_id, grant_id, Ended::ByClient);
                audit::record(conn, actor, &entry, now)?;
            }
            ended
        }
    };
    Ok(Ok(ended))
}
