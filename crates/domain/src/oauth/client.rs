//! Clients: programs that people may let in. Made by the operator for everybody, or by a tenant for its own people.

use chrono::{DateTime, Utc};
use diesel::{
    OptionalExtension, PgConnection, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Array, BigInt, Binary, Nullable, Text, Timestamptz, Uuid},
};
use serde_json::{Value, json};

use super::{SECRET_PREFIX, grant, redirect};
use crate::{
    Error, Result,
    audit::{self, Action, Actor, Entry, ObjectKind, ObjectRef},
    credential::{Scope, Scopes, Token, TokenHash},
    id::{ClientId, TenantId},
    tenant::check_name,
};

/// Live clients that a tenant may have.
pub const MAX_LIVE: i64 = 50;

/// A client.
#[derive(Clone, Debug, QueryableByName)]
pub struct Client {
    /// Identity; public.
    #[diesel(sql_type = Uuid)]
    pub id: ClientId,
    /// Whose people may let it in; `None` = everybody's.
    #[diesel(sql_type = Nullable<Uuid>)]
    pub tenant_id: Option<TenantId>,
    /// Name, for people.
    #[diesel(sql_type = Text)]
    pub name: String,
    #[diesel(sql_type = Nullable<Binary>)]
    secret_hash: Option<Vec<u8>>,
    /// Where browsers may be sent with its codes.
    #[diesel(sql_type = Array<Text>)]
    pub redirect_uris: Vec<String>,
    #[diesel(sql_type = Array<Text>)]
    scopes: Vec<String>,
    /// When it was made.
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
    /// When it was revoked.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub revoked_at: Option<DateTime<Utc>>,
}

const COLUMNS: &str = "id, tenant_id, name, secret_hash, redirect_uris, scopes, created_at, revoked_at";

/// Where a browser is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The URI, as it was asked for.
    pub uri: String,
    /// Whether the request named it: the token request must then repeat it (RFC 6749 §4.1.3).
    pub named: bool,
}

impl Client {
    /// Whether it has no secret, as programs on people's machines, and has to use PKCE instead.
    #[must_use]
    pub const fn is_public(&self) -> bool {
        self.secret_hash.is_none()
    }

    /// Whether this is its secret. Compares in constant time.
    #[must_use]
    pub fn has_secret(&self, secret: &str) -> bool {
        let kept = self.secret_hash.as_deref().and_then(TokenHash::from_bytes);
        kept.is_some_and(|kept| kept.matches(&TokenHash::of(secret)))
    }

    /// What it may be given. A scope that this version does not know permits nothing here.
    #[must_use]
    pub fn scopes(&self) -> Scopes {
        self.scopes.iter().filter_map(|scope| scope.parse::<Scope>().ok()).collect()
    }

    /// Whether people of this tenant may let it in.
    #[must_use]
    pub fn serves(&self, tenant: TenantId) -> bool {
        self.tenant_id.is_none_or(|own| own == tenant)
    }

    /// Where a request with this `redirect_uri` sends the browser. It may be left out when there is only one.
    ///
    /// # Errors
    /// Says why the browser must not be sent anywhere.
    pub fn destination(&self, asked: Option<&str>) -> Result<Destination, &'static str> {
        match (asked, self.redirect_uris.as_slice()) {
            (Some(asked), registered) => registered
                .iter()
                .any(|one| redirect::matches(one, asked))
                .then(|| Destination { uri: asked.to_owned(), named: true })
                .ok_or("redirect_uri is none of those that the app has registered"),
            (None, [only]) => Ok(Destination { uri: only.clone(), named: false }),
            (None, _) => Err("redirect_uri is missing"),
        }
    }

    /// What the audit log tells of it.
    fn told(&self) -> Value {
        json!({
            "name": self.name, "redirect_uris": self.redirect_uris, "scopes": self.scopes,
            "public": self.is_public(),
        })
    }
}

/// A client to be stored.
#[derive(Clone, Debug)]
pub struct NewClient {
    /// Whose people may let it in; `None` = everybody's.
    pub tenant: Option<TenantId>,
    /// Name, for people: they decide by it.
    pub name: String,
    /// Where browsers may be sent.
    pub redirect_uris: Vec<String>,
    /// What it may be given.
    pub scopes: Scopes,
    /// Whether it cannot keep a secret.
    pub is_public: bool,
}

impl NewClient {
    /// Checks the name, the URIs and the scopes.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the field.
    pub fn check(&self) -> Result<()> {
        let invalid = |field, reason: String| Err(Error::Invalid { field, reason });
        if let Err(reason) = check_name(&self.name) {
            return invalid("name", reason);
        }
        if self.redirect_uris.is_empty() || self.redirect_uris.len() > redirect::MAX_URIS {
            return invalid("redirect_uris", format!("must have 1 to {} entries", redirect::MAX_URIS));
        }
        for (at, uri) in self.redirect_uris.iter().enumerate() {
            if let Err(reason) = redirect::check(uri, self.is_public) {
                return invalid("redirect_uris", format!("has an entry that {reason}"));
            }
            if self.redirect_uris[..at].contains(uri) {
                return invalid("redirect_uris", "has an entry twice".to_owned());
            }
        }
        if self.scopes.is_empty() {
            return invalid("scopes", "must name at least one scope".to_owned());
        }
        Ok(())
    }
}

/// Stores a client. Returns it and, unless it is public, its secret, which is not kept.
///
/// # Errors
/// [`Error::Invalid`] when it breaks a rule, [`Error::NotFound`] without the tenant, [`Error::Conflict`] when that has as
/// many as it may have.
pub fn create(
    conn: &mut PgConnection,
    new: &NewClient,
    actor: &Actor,
    now: DateTime<Utc>,
) -> Result<(Client, Option<Token>)> {
    new.check()?;
    if let Some(tenant) = new.tenant {
        has_room(conn, tenant)?;
    }
    let secret = (!new.is_public).then(|| Token::with_prefix(SECRET_PREFIX, rand::random()));
    let client: Client = sql_query(format!(
        "INSERT INTO oauth_clients (id, tenant_id, name, secret_hash, redirect_uris, scopes, created_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING {COLUMNS}"
    ))
    .bind::<Uuid, _>(ClientId::new(now))
    .bind::<Nullable<Uuid>, _>(new.tenant)
    .bind::<Text, _>(&new.name)
    .bind::<Nullable<Binary>, _>(secret.as_ref().map(|secret| secret.hash().bytes().to_vec()))
    .bind::<Array<Text>, _>(&new.redirect_uris)
    .bind::<Array<Text>, _>(new.scopes.iter().map(Scope::as_str).collect::<Vec<_>>())
    .bind::<Timestamptz, _>(now)
    .get_result(conn)?;
    let entry = entry(&client, Action::ClientCreated).after(client.told());
    audit::record(conn, actor, &entry, now)?;
    Ok((client, secret))
}

fn has_room(conn: &mut PgConnection, tenant: TenantId) -> Result<()> {
    #[derive(QueryableByName)]
    struct Live {
        #[diesel(sql_type = BigInt)]
        live: i64,
    }
    // The tenant's row is the lock under which its clients are counted.
    let locked =
        sql_query("SELECT FROM tenants WHERE id = $1 FOR UPDATE").bind::<Uuid, _>(tenant).execute(conn)?;
    if locked == 0 {
        return Err(Error::NotFound { what: "tenant" });
    }
    let Live { live } =
        sql_query("SELECT count(*) AS live FROM oauth_clients WHERE tenant_id = $1 AND revoked_at IS NULL")
            .bind::<Uuid, _>(tenant)
            .get_result(conn)?;
    if live >= MAX_LIVE {
        let reason = format!("the tenant has {MAX_LIVE} OAuth clients already; revoke one first");
        return Err(Error::Conflict { reason });
    }
    Ok(())
}

/// The clients of a tenant, or with `None` the operator's; also those that are revoked, oldest first.
///
/// # Errors
/// When the database is away.
pub fn list(conn: &mut PgConnection, owner: Option<TenantId>) -> Result<Vec<Client>> {
    // `IS NOT DISTINCT FROM` goes by no index.
    let owned = if owner.is_some() { "tenant_id = $1" } else { "tenant_id IS NULL AND $1 IS NULL" };
    Ok(sql_query(format!("SELECT {COLUMNS} FROM oauth_clients WHERE {owned} ORDER BY id"))
        .bind::<Nullable<Uuid>, _>(owner)
        .load(conn)?)
}

/// Every client: a system path, for the operator.
///
/// # Errors
/// When the database is away.
pub fn list_all(conn: &mut PgConnection) -> Result<Vec<Client>> {
    Ok(sql_query(format!("SELECT {COLUMNS} FROM oauth_clients ORDER BY id")).load(conn)?)
}

/// The live client of an id: a system path, for requests that name a client before anybody is known.
///
/// # Errors
/// When the database is away.
pub fn find(conn: &mut PgConnection, id: ClientId) -> Result<Option<Client>> {
    Ok(sql_query(format!("SELECT {COLUMNS} FROM oauth_clients WHERE id = $1 AND revoked_at IS NULL"))
        .bind::<Uuid, _>(id)
        .get_result(conn)
        .optional()?)
}

/// Whose a client is: a system path, for the operator who knows only its id.
///
/// # Errors
/// [`Error::NotFound`] without it.
pub fn owner(conn: &mut PgConnection, id: ClientId) -> Result<Option<TenantId>> {
    let client: Option<Client> = sql_query(format!("SELECT {COLUMNS} FROM oauth_clients WHERE id = $1"))
        .bind::<Uuid, _>(id)
        .get_result(conn)
        .optional()?;
    client.map(|client| client.tenant_id).ok_or(NOT_FOUND)
}

/// Ends a client with everything that people allowed it. Ending it again changes nothing. Gateways may take its tokens for
/// a little longer: see [`crate::credential::directory::known_everywhere`].
///
/// # Errors
/// [`Error::NotFound`] without it.
pub fn revoke(
    conn: &mut PgConnection,
    owner: Option<TenantId>,
    id: ClientId,
    actor: &Actor,
    now: DateTime<Utc>,
) -> Result<()> {
    let client = locked(conn, owner, id)?;
    if client.revoked_at.is_some() {
        return Ok(());
    }
    sql_query("UPDATE oauth_clients SET revoked_at = $2 WHERE id = $1")
        .bind::<Uuid, _>(id)
        .bind::<Timestamptz, _>(now)
        .execute(conn)?;
    grant::end_all_of_client(conn, id, now)?;
    let entry = entry(&client, Action::ClientRevoked).before(client.told());
    audit::record(conn, actor, &entry, now)
}

/// Gives a client another secret; the one before ends at once.
///
/// # Errors
/// [`Error::NotFound`] without a live client, [`Error::Conflict`] when it is public.
pub fn rotate_secret(
    conn: &mut PgConnection,
    owner: Option<TenantId>,
    id: ClientId,
    actor: &Actor,
    now: DateTime<Utc>,
) -> Result<Token> {
    let client = locked(conn, owner, id)?;
    if client.revoked_at.is_some() {
        return Err(NOT_FOUND);
    }
    if client.is_public() {
        return Err(Error::Conflict { reason: "a public client has no secret".to_owned() });
    }
    let secret = Token::with_prefix(SECRET_PREFIX, rand::random());
    sql_query("UPDATE oauth_clients SET secret_hash = $2 WHERE id = $1")
        .bind::<Uuid, _>(id)
        .bind::<Binary, _>(secret.hash().bytes())
        .execute(conn)?;
    audit::record(conn, actor, &entry(&client, Action::ClientSecretRotated), now)?;
    Ok(secret)
}

const NOT_FOUND: Error = Error::NotFound { what: "OAuth client" };

fn locked(conn: &mut PgConnection, owner: Option<TenantId>, id: ClientId) -> Result<Client> {
    let client: Option<Client> = sql_query(format!(
        "SELECT {COLUMNS} FROM oauth_clients WHERE id = $1 AND tenant_id IS NOT DISTINCT FROM $2 FOR UPDATE"
    ))
    .bind::<Uuid, _>(id)
    .bind::<Nullable<Uuid>, _>(owner)
    .get_result(conn)
    .optional()?;
    client.ok_or(NOT_FOUND)
}

fn entry(client: &Client, action: Action) -> Entry {
    Entry::new(client.tenant_id, action, ObjectRef::new(ObjectKind::Client, client.id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(redirect_uris: &[&str]) -> Client {
        Client {
            id: ClientId::new(DateTime::UNIX_EPOCH),
            tenant_id: None,
            name: "app".to_owned(),
            secret_hash: Some(TokenHash::of("cs_x").bytes().to_vec()),
            redirect_uris: redirect_uris.iter().map(|&uri| uri.to_owned()).collect(),
            scopes: vec!["hooks:read".to_owned(), "moon:read".to_owned()],
            created_at: DateTime::UNIX_EPOCH,
            revoked_at: None,
        }
    }

    #[test]
    fn a_redirect_may_be_left_out_only_when_there_is_one() {
        let (one, two) = ("https://a.example/1", "https://a.example/2");
        for (registered, asked, expected) in [
            (&[one][..], None, Some((one, false))),
            (&[one, two], None, None),
            (&[one, two], Some(two), Some((two, true))),
            (&[one], Some(two), None),
            (&["http://127.0.0.1/"], Some("http://127.0.0.1:99/"), Some(("http://127.0.0.1:99/", true))),
        ] {
            let expected = expected.map(|(uri, named)| Destination { uri: uri.to_owned(), named });
            assert_eq!(client(registered).destination(asked).ok(), expected, "{registered:?} {asked:?}");
        }
    }

    #[test]
    fn a_secret_is_recognised_and_a_public_client_has_none() {
        let (confidential, mut public) = (client(&[]), client(&[]));
        public.secret_hash = None;
        assert!(
            confidential.has_secret("cs_x")
                && !confidential.has_secret("cs_y")
                && !confidential.has_secret("")
        );
        assert!(public.is_public() && !public.has_secret("") && !confidential.is_public());
        assert_eq!(confidential.scopes(), [Scope::HooksRead].into_iter().collect());
    }

    #[test]
    fn a_new_client_keeps_its_bounds() {
        let new = |uris: usize, name: &str, scopes: &[Scope]| NewClient {
            tenant: None,
            name: name.to_owned(),
            redirect_uris: (0..uris).map(|n| format!("https://a.example/{n}")).collect(),
            scopes: scopes.iter().copied().collect(),
            is_public: false,
        };
        let read = &[Scope::HooksRead];
        assert!(new(1, "a", read).check().is_ok() && new(10, &"a".repeat(50), read).check().is_ok());
        for (bad, field) in [
            (new(0, "a", read), "redirect_uris"),
            (new(11, "a", read), "redirect_uris"),
            (new(1, "", read), "name"),
            (new(1, &"a".repeat(51), read), "name"),
            (new(1, "a", &[]), "scopes"),
        ] {
            assert!(matches!(bad.check(), Err(Error::Invalid { field: f, .. }) if f == field), "{bad:?}");
        }
        let mut twice = new(2, "a", read);
        twice.redirect_uris[1] = twice.redirect_uris[0].clone();
        assert!(twice.check().is_err());
    }
}
