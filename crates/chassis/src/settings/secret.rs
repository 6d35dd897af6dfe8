//! Values that must not be seen: masked wherever they are printed or serialised, and unnamed in error messages.
//! This is not encryption, and memory is not wiped.

use std::fmt;

use serde::de::{Deserializer, Error as _, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// What stands in the place of a secret.
const MASK: &str = "•••";
/// Names under which the two types announce themselves to `tree`, which then keeps quiet about the value.
pub(super) const SECRET: &str = "$hookyard::Secret";
pub(super) const SECRET_URL: &str = "$hookyard::SecretUrl";

/// A text such as a key or a password. `Debug` and `Serialize` write `•••`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes the text as it is.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one call that needs it. Never log it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(MASK)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(SECRET, TextVisitor).map(Self)
    }
}

/// The URL of a server, usually with a password in it. `Debug`, `Display` and `Serialize` show all but the password.
///
/// Invariant: it begins with a scheme and `://`. The rest is the driver's business: libpq accepts several hosts in
/// one URL, which the URL standard does not.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretUrl(String);

impl SecretUrl {
    /// `None` when the text does not begin with a scheme and `://`.
    pub fn parse(text: impl Into<String>) -> Option<Self> {
        let text = text.into();
        let (scheme, rest) = text.split_once("://")?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
        let accepted = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(plain)
            && !rest.is_empty()
            && !text.chars().any(|c| c.is_whitespace() || c.is_control());
        accepted.then_some(Self(text))
    }

    /// The whole URL, for the driver. Never log it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&mask_url(&self.0))
    }
}

impl Serialize for SecretUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SecretUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = deserializer.deserialize_newtype_struct(SECRET_URL, TextVisitor)?;
        Self::parse(text).ok_or_else(|| D::Error::custom(expectation(SECRET_URL)))
    }
}

/// What is told about a refused secret: what would have been accepted, and nothing of what was found.
pub(super) fn expectation(name: &str) -> &'static str {
    if name == SECRET_URL {
        "expected a URL such as `scheme://user:password@host/path` (a secret, so the value is not shown)"
    } else {
        "expected a text (a secret, so the value is not shown)"
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        String::deserialize(deserializer)
    }
}

/// The text with every password in it replaced: what stands between `user:` and `@`, and the values of query
/// parameters whose names speak of secrets. A text that is no URL is returned as it is.
///
/// It rather hides too much: a password may hold an unescaped `/`, `?` or `@`, so everything up to the last `@` goes.
pub fn mask_url(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let (user, password, place) = match rest.rsplit_once('@') {
        Some((credentials, place)) => match credentials.split_once(':') {
            Some((user, _password)) => (user, Some(MASK), place),
            None => (credentials, None, place),
        },
        None => ("", None, rest),
    };
    let mut masked = format!("{scheme}://");
    if rest.contains('@') {
        masked.push_str(user);
        if let Some(mask) = password {
            masked.push(':');
            masked.push_str(mask);
        }
        masked.push('@');
    }
    let Some((place, query)) = place.split_once('?') else {
        masked.push_str(place);
        return masked;
    };
    masked.push_str(place);
    for (index, pair) in query.split('&').enumerate() {
        masked.push(if index == 0 { '?' } else { '&' });
        match pair.split_once('=') {
            Some((name, _value)) if is_secret_parameter(name) => {
                masked.push_str(name);
                masked.push('=');
                masked.push_str(MASK);
            }
            Some(_) | None => masked.push_str(pair),
        }
    }
    masked
}

fn is_secret_parameter(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["pass", "secret", "token", "key", "auth", "credential"].iter().any(|word| name.contains(word))
}
