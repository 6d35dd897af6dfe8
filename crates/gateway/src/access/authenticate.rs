//! Which credential a request shows (contract §1): from its headers to a [`Credential`], in memory first, in the
//! database for a token that is not known here. What the credential may do is not asked here.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use actix_web::{
    HttpRequest,
    http::header::{AUTHORIZATION, HeaderMap, HeaderName},
};
use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use chrono::{DateTime, Utc};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    credential::{Credential, TokenHash, directory::Directory},
    db::Db,
    id::TenantId,
    person::session::{self, Session},
};
use tokio::sync::{Mutex, Semaphore};
use uuid::Uuid;

use super::browser::{self, Browsers};
use crate::problem;

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Look-ups of unknown tokens at the same time: guessing must not take the connections that others need.
const LOOK_UPS: usize = 2;

/// How long a token that is not known waits for its look-up.
const PATIENCE: Duration = Duration::from_secs(3);

/// What a request shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// No credential.
    Nothing,
    /// Something that is none.
    Malformed,
    /// A token, and the Client ID that came with it.
    Token {
        /// Hash of the token.
        hash: TokenHash,
        /// From `Basic base64(client_id:K)`.
        client_id: Option<String>,
    },
    /// The cookie of a person who is logged in.
    Session(String),
}

impl Shown {
    /// Reads `Authorization: Bearer K`, `Authorization: Basic base64(K)` or `base64(client_id:K)`, or `X-API-Key: K`.
    /// An `Authorization` of these schemes counts before `X-API-Key`, and that before a session's cookie, which is sent
    /// without being asked; the query string is never looked at.
    pub(crate) fn of(request: &HttpRequest, browsers: &Browsers) -> Self {
        match Self::of_headers(request.headers()) {
            Self::Nothing => match request.cookie(&browsers.name(browser::SESSION)) {
                Some(cookie) => Self::Session(cookie.value().to_owned()),
                None => Self::Nothing,
            },
            shown => shown,
        }
    }

    fn of_headers(headers: &HeaderMap) -> Self {
        let key = headers.get(&X_API_KEY);
        let Some(value) = headers.get(AUTHORIZATION) else {
            return key.map_or(Self::Nothing, |key| Self::token(key.to_str().unwrap_or_default(), None));
        };
        let text = value.to_str().unwrap_or_default().trim();
        let (scheme, rest) = text.split_once(' ').unwrap_or((text, ""));
        if scheme.eq_ignore_ascii_case("bearer") {
            Self::token(rest, None)
        } else if scheme.eq_ignore_ascii_case("basic") {
            Self::basic(rest.trim())
        } else {
            key.map_or(Self::Malformed, |key| Self::token(key.to_str().unwrap_or_default(), None))
        }
    }

    fn token(text: &str, client_id: Option<&str>) -> Self {
        let text = text.trim();
        if text.is_empty() || text.contains(char::is_whitespace) {
            return Self::Malformed;
        }
        Self::Token { hash: TokenHash::of(text), client_id: client_id.map(str::to_owned) }
    }

    fn basic(encoded: &str) -> Self {
        const LENIENT: GeneralPurposeConfig =
            GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
        const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
        let decoded = STANDARD.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        match decoded.as_deref().map(|text| (text, text.split_once(':'))) {
            None => Self::Malformed,
            Some((text, None)) => Self::token(text, None),
            // `K:`, as `curl -u K:` sends it, and `:K`.
            Some((_, Some((user, "")))) => Self::token(user, None),
            Some((_, Some(("", password)))) => Self::token(password, None),
            Some((_, Some((user, password)))) => Self::token(password, Some(user)),
        }
    }
}

/// The tokens that are known.
#[derive(Debug)]
pub(crate) struct Authenticator {
    directory: Directory,
    db: Db,
    look_ups: Semaphore,
    /// Held by whoever brings the snapshot up to date, so that all who need it ask once.
    refreshing: Mutex<()>,
}

impl Authenticator {
    pub(crate) fn new(db: Db) -> Self {
        let look_ups = Semaphore::new(LOOK_UPS);
        Self { directory: Directory::default(), db, look_ups, refreshing: Mutex::new(()) }
    }

    /// The snapshot of live credentials.
    pub(crate) fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Brings the snapshot up to date.
    ///
    /// # Errors
    /// When the database is away.
    pub(crate) async fn refresh(&self) -> hookyard_domain::Result<()> {
        let (directory, as_of) = (self.directory.clone(), Instant::now());
        self.db.once(move |conn| directory.refresh(conn, as_of)).await
    }

    /// The credential of a token, if it is known here and live. Costs no query while the snapshot is fresh, which
    /// `upkeep` sees to.
    ///
    /// # Errors
    /// 503 when the snapshot is too old and the database is away: a key that may have been revoked is not taken.
    pub(crate) async fn known(
        &self,
        shown: &Shown,
        now: DateTime<Utc>,
    ) -> Result<Option<Arc<Credential>>, ApiError> {
        let Shown::Token { hash, client_id } = shown else { return Ok(None) };
        if !self.directory.is_fresh() {
            let _one_asks = self.refreshing.lock().await;
            if !self.directory.is_fresh() {
                self.refresh().await.map_err(problem::of)?;
            }
        }
        let credential = self.directory.get(hash, now);
        Ok(credential.filter(|there| client_id.as_ref().is_none_or(|id| is_client_id(id, there.tenant))))
    }

    /// The same, after a look into the database.
    ///
    /// # Errors
    /// 503 when the database is away, or too many ask.
    pub(crate) async fn looked_up(
        &self,
        shown: &Shown,
        now: DateTime<Utc>,
    ) -> Result<Option<Arc<Credential>>, ApiError> {
        let Shown::Token { hash, .. } = shown else { return Ok(None) };
        let permit = tokio::time::timeout(PATIENCE, self.look_ups.acquire()).await;
        let Ok(Ok(_permit)) = permit else {
            return Err(problem::overloaded("too many unknown credentials are being looked up"));
        };
        let (directory, hash) = (self.directory.clone(), *hash);
        let looked = self.db.once(move |conn| {
            // A refresh between question and answer knows better; two in a row are rare, three are not waited for.
            for _ in 0..3 {
                if directory.look_up(conn, &hash)? {
                    break;
                }
            }
            Ok(())
        });
        looked.await.map_err(problem::of)?;
        self.known(shown, now).await
    }

    /// The live session of a cookie.
    ///
    /// # Errors
    /// 503 when the database is away.
    pub(crate) async fn session(&self, token: &str, now: DateTime<Utc>) -> Result<Option<Session>, ApiError> {
        let hash = TokenHash::of(token);
        self.db.once(move |conn| session::find(conn, &hash, now)).await.map_err(problem::of)
    }
}

/// A tenant's Client ID is its UUID; its id in our own spelling is taken, too.
fn is_client_id(text: &str, tenant: TenantId) -> bool {
    Uuid::parse_str(text).is_ok_and(|uuid| uuid == tenant.uuid())
        || text.parse::<TenantId>().is_ok_and(|id| id == tenant)
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;
    use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

    use super::*;

    fn shown(headers: &[(&'static str, &str)]) -> Shown {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        Shown::of_headers(&map)
    }

    fn token(client_id: Option<&str>) -> Shown {
        Shown::Token { hash: TokenHash::of("ct_key"), client_id: client_id.map(str::to_owned) }
    }

    #[test]
    fn a_key_is_found_wherever_the_contract_allows_it() {
        let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
        for (name, value, expected) in [
            ("authorization", "Bearer ct_key".to_owned(), token(None)),
            ("authorization", "bEaReR   ct_key ".to_owned(), token(None)),
            ("x-api-key", " ct_key".to_owned(), token(None)),
            ("authorization", basic("ct_key"), token(None)),
            ("authorization", format!("basic {}", STANDARD_NO_PAD.encode("ct_key")), token(None)),
            ("authorization", basic("tenant:ct_key"), token(Some("tenant"))),
            ("authorization", basic("ct_key:"), token(None)),
            ("authorization", basic(":ct_key"), token(None)),
            ("authorization", basic(""), Shown::Malformed),
            ("authorization", basic(":"), Shown::Malformed),
            ("authorization", "Basic ***".to_owned(), Shown::Malformed),
            ("authorization", format!("Basic {}", STANDARD.encode(b"\xff\xfe")), Shown::Malformed),
            ("authorization", "Bearer".to_owned(), Shown::Malformed),
            ("authorization", "Bearer a b".to_owned(), Shown::Malformed),
            ("authorization", "Digest ct_key".to_owned(), Shown::Malformed),
            ("authorization", "ct_key".to_owned(), Shown::Malformed),
            ("authorization", String::new(), Shown::Malformed),
            ("x-api-key", String::new(), Shown::Malformed),
            ("x-other", "ct_key".to_owned(), Shown::Nothing),
        ] {
            assert_eq!(shown(&[(name, &value)]), expected, "{name}: {value}");
        }
    }

    #[test]
    fn authorization_counts_before_the_key_header() {
        assert_eq!(shown(&[("authorization", "Bearer ct_key"), ("x-api-key", "other")]), token(None));
        assert_eq!(shown(&[("authorization", "Bearer "), ("x-api-key", "ct_key")]), Shown::Malformed);
        assert_eq!(shown(&[("authorization", "AWS4-HMAC x"), ("x-api-key", "ct_key")]), token(None));
    }

    #[test]
    fn the_client_id_is_the_tenants() {
        let tenant = TenantId::from_uuid(Uuid::from_u128(7));
        for (text, expected) in [
            (tenant.uuid().to_string(), true),
            (tenant.uuid().to_string().to_uppercase(), true),
            (tenant.to_string(), true),
            (Uuid::from_u128(8).to_string(), false),
            ("tenant".to_owned(), false),
        ] {
            assert_eq!(is_client_id(&text, tenant), expected, "{text}");
        }
    }
}
