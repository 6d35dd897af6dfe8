//! Connections: who a tenant's actions are elsewhere. A connection has an origin, and its credentials are shown there and nowhere
//! else: whoever may ask for runs must not be able to read them by sending them home.

mod change;
pub mod store;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use url::{Url, form_urlencoded};

pub use self::change::Change;
use crate::wire::{Json, Object};

/// The longest name, in characters.
const MAX_NAME: usize = 100;
/// The longest of the other texts, in bytes.
const MAX_TEXT: usize = 4096;
/// An access token is not used in its last moments.
const MARGIN: TimeDelta = TimeDelta::seconds(30);
/// How long an access token is used whose server does not say.
const UNSAID: i64 = 300;

/// What is shown.
#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[expect(missing_docs, reason = "each is a member of the body that makes a connection")]
pub enum Credentials {
    /// `Authorization: Bearer …` (RFC 6750).
    Bearer { token: String },
    /// `Authorization: Basic …` (RFC 7617).
    Basic { username: String, password: String },
    /// A header of the service's own.
    Header { name: String, value: String },
    /// An access token that is fetched with the client's own credentials (RFC 6749 §4.4).
    Oauth2 { token_url: Url, client_id: String, client_secret: String, scope: Option<String> },
}

/// Tells which kind they are, and nothing of them.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.kind())
    }
}

impl Credentials {
    /// The word for it on the wire.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Bearer { .. } => "bearer",
            Self::Basic { .. } => "basic",
            Self::Header { .. } => "header",
            Self::Oauth2 { .. } => "oauth2",
        }
    }

    /// The header that shows them; `None` while there is no access token.
    #[must_use]
    pub fn header(&self, access_token: Option<&str>) -> Option<(String, String)> {
        let authorization = |value: String| ("authorization".to_owned(), value);
        match self {
            Self::Bearer { token } => Some(authorization(format!("Bearer {token}"))),
            Self::Basic { username, password } => {
                let pair = BASE64_STANDARD.encode(format!("{username}:{password}"));
                Some(authorization(format!("Basic {pair}")))
            }
            Self::Header { name, value } => Some((name.clone(), value.clone())),
            Self::Oauth2 { .. } => access_token.map(|token| authorization(format!("Bearer {token}"))),
        }
    }

    /// The request that fetches an access token: where to, the header that authenticates the client, and the form.
    #[must_use]
    pub fn token_request(&self) -> Option<(Url, String, String)> {
        let Self::Oauth2 { token_url, client_id, client_secret, scope } = self else { return None };
        // RFC 6749 §2.3.1: both are encoded as in a form first.
        let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let pair = BASE64_STANDARD.encode(format!("{}:{}", encoded(client_id), encoded(client_secret)));
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials");
        if let Some(scope) = scope {
            form.append_pair("scope", scope);
        }
        Some((token_url.clone(), format!("Basic {pair}"), form.finish()))
    }
}

/// An access token, and until when it is used.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessToken {
    /// The token.
    pub token: String,
    /// Until then.
    pub until: DateTime<Utc>,
}

/// Tells until when, and nothing of the token.
impl std::fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AccessToken(until {})", self.until)
    }
}

/// Reads the answer of a token endpoint (RFC 6749 §5.1).
///
/// # Errors
/// What is wrong, as a sentence; never the answer itself.
pub fn access_token(status: u16, body: &[u8], now: DateTime<Utc>) -> Result<AccessToken, String> {
    #[derive(Deserialize)]
    struct Answer {
        access_token: String,
        expires_in: Option<i64>,
    }
    if status != 200 {
        return Err(format!("the token endpoint answered {status}"));
    }
    let answer: Answer =
        serde_json::from_slice(body).map_err(|_| "the token endpoint answered no access token".to_owned())?;
    let printable = |text: &str| {
        !text.is_empty() && text.len() <= MAX_TEXT && text.bytes().all(|b| (0x21..0x7f).contains(&b))
    };
    if !printable(&answer.access_token) {
        return Err("the token endpoint answered an access token that no header can hold".to_owned());
    }
    let seconds = answer.expires_in.unwrap_or(UNSAID).clamp(0, 86_400);
    Ok(AccessToken { token: answer.access_token, until: now + TimeDelta::seconds(seconds) - MARGIN })
}

/// A checked request for a connection.
#[derive(Clone, Debug)]
pub struct Draft {
    /// What it is called.
    pub name: String,
    /// Where the credentials are tried when they are saved.
    pub test_url: Url,
    /// What is shown.
    pub credentials: Credentials,
}

/// What is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {reason}")]
pub struct Wrong {
    /// The member that is at fault.
    pub field: &'static str,
    /// What is wrong with it, continuing its name.
    pub reason: String,
}

impl Draft {
    /// Checks `{name, type, url, …}`. Where a URL leads is asked when something is sent.
    ///
    /// # Errors
    /// The first member that is missing or not acceptable.
    pub fn parse(mut object: Object) -> Result<Self, Wrong> {
        let name = text(&mut object, "name", MAX_NAME)?;
        let test_url = url(&mut object, "url")?;
        let kind = text(&mut object, "type", 20)?;
        let credentials = match kind.as_str() {
            "bearer" => Credentials::Bearer { token: printable(&mut object, "token")? },
            "basic" => {
                let username = text(&mut object, "username", MAX_TEXT)?;
                if username.contains(':') {
                    return Err(wrong("username", "must not have a colon"));
                }
                Credentials::Basic { username, password: text(&mut object, "password", MAX_TEXT)? }
            }
            "header" => {
                let name = text(&mut object, "header", 128)?.to_ascii_lowercase();
                let good = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
                if !good
                    || ["host", "connection", "content-length", "transfer-encoding", "upgrade"]
                        .contains(&name.as_str())
                {
                    return Err(wrong("header", "must be the name of a header that a request can have"));
                }
                Credentials::Header { name, value: printable(&mut object, "value")? }
            }
            "oauth2" => Credentials::Oauth2 {
                token_url: url(&mut object, "token_url")?,
                client_id: text(&mut object, "client_id", MAX_TEXT)?,
                client_secret: text(&mut object, "client_secret", MAX_TEXT)?,
                scope: match object.remove("scope") {
                    None | Some(Json::Null) => None,
                    Some(value) => {
                        Some(value.as_str().ok_or_else(|| wrong("scope", "must be a string"))?.to_owned())
                    }
                },
            },
            _ => return Err(wrong("type", "must be bearer, basic, header or oauth2")),
        };
        Ok(Self { name, test_url, credentials })
    }
}

/// Whether credentials of this origin may be shown there.
#[must_use]
pub fn is_within(origin: &str, url: &Url) -> bool {
    url.origin().is_tuple() && url.origin().ascii_serialization() == origin
}

fn wrong(field: &'static str, reason: impl Into<String>) -> Wrong {
    Wrong { field, reason: reason.into() }
}

fn text(object: &mut Object, field: &'static str, most: usize) -> Result<String, Wrong> {
    let value =
        object.remove(field).filter(|value| !value.is_null()).ok_or_else(|| wrong(field, "is missing"))?;
    let text = value.as_str().ok_or_else(|| wrong(field, "must be a string"))?;
    if text.is_empty() || text.chars().count() > most || text.chars().any(char::is_control) {
        return Err(wrong(field, format!("must have 1 to {most} characters, and no control characters")));
    }
    Ok(text.to_owned())
}

fn printable(object: &mut Object, field: &'static str) -> Result<String, Wrong> {
    let text = text(object, field, MAX_TEXT)?;
    let good = text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    if good { Ok(text) } else { Err(wrong(field, "must be printable ASCII")) }
}

fn url(object: &mut Object, field: &'static str) -> Result<Url, Wrong> {
    let text = text(object, field, 2048)?;
    let url = Url::parse(&text).ok().filter(|url| {
        matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.password().is_none()
    });
    url.ok_or_else(|| wrong(field, "must be an http or https URL without a user"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::parse;

    fn draft(text: &str) -> Result<Draft, String> {
        Draft::parse(parse(text.as_bytes()).unwrap().into_object().unwrap())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn each_kind_shows_its_header() {
        for (text, expected) in [
            (
                r#"{"name":"a","url":"https://a.b/","type":"bearer","token":"t"}"#,
                Some(("authorization", "Bearer t")),
            ),
            // The example of RFC 7617 §2.
            (
                r#"{"name":"a","url":"https://a.b/","type":"basic","username":"Aladdin","password":"open sesame"}"#,
                Some(("authorization", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==")),
            ),
            (
                r#"{"name":"a","url":"https://a.b/","type":"header","header":"X-Key","value":"v"}"#,
                Some(("x-key", "v")),
            ),
            (
                r#"{"name":"a","url":"https://a.b/","type":"oauth2","token_url":"https://a.b/t","client_id":"c","client_secret":"s"}"#,
                None,
            ),
        ] {
            let made = draft(text).unwrap();
            let header = made.credentials.header(None);
            assert_eq!(header.as_ref().map(|(name, value)| (name.as_str(), value.as_str())), expected);
            let stored = serde_json::to_string(&made.credentials).unwrap();
            let read: Credentials = serde_json::from_str(&stored).unwrap();
            assert_eq!((read.header(None), read.kind()), (header, made.credentials.kind()));
            assert!(!format!("{made:?}").contains("open sesame"));
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, expected) in [
            ("{}", "name is missing"),
            (
                r#"{"name":"a","url":"ftp://a/","type":"bearer"}"#,
                "url must be an http or https URL without a user",
            ),
            (
                r#"{"name":"a","url":"https://a/","type":"cookie"}"#,
                "type must be bearer, basic, header or oauth2",
            ),
            (
                r#"{"name":"a","url":"https://a/","type":"bearer","token":"é"}"#,
                "token must be printable ASCII",
            ),
            (
                r#"{"name":"a","url":"https://a/","type":"basic","username":"a:b","password":"x"}"#,
                "username must not have a colon",
            ),
            (
                r#"{"name":"a","url":"https://a/","type":"header","header":"Host","value":"x"}"#,
                "header must be the name of a header that a request can have",
            ),
        ] {
            assert_eq!(draft(text).unwrap_err(), expected, "{text}");
        }
    }

    #[test]
    fn credentials_are_shown_to_their_origin_alone() {
        let within = |url: &str| is_within("https://api.example.com", &url.parse().unwrap());
        assert!(within("https://api.example.com/v1?x=1") && within("https://api.example.com:443/"));
        for url in [
            "http://api.example.com/",
            "https://api.example.com:444/",
            "https://api.example.com.evil.test/",
            "https://example.com/",
        ] {
            assert!(!within(url), "{url}");
        }
    }

    #[test]
    fn an_access_token_is_used_until_shortly_before_its_end() {
        let now = DateTime::UNIX_EPOCH;
        let read = |status, body: &str| access_token(status, body.as_bytes(), now);
        let token = read(200, r#"{"access_token":"t","expires_in":3600,"token_type":"Bearer"}"#).unwrap();
        assert_eq!((token.token.as_str(), token.until), ("t", now + TimeDelta::seconds(3570)));
        assert_eq!(read(200, r#"{"access_token":"t"}"#).unwrap().until, now + TimeDelta::seconds(270));
        for (status, body) in [(401, "{}"), (200, "{}"), (200, "<html>"), (200, r#"{"access_token":"a\nb"}"#)]
        {
            assert!(read(status, body).is_err(), "{status} {body}");
        }
    }
}
