//! The `[mail]` section.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::person::user::parse_email;

/// How the connection to the mail server is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Tls {
    /// Begun in plain and raised with STARTTLS before anything is said (RFC 3207); usually port 587.
    #[default]
    Starttls,
    /// TLS from the first byte (RFC 8314 §3.3); usually port 465.
    Tls,
    /// Not at all: a server on this machine, or in tests.
    None,
}

/// The password of the account at the mail server. Shown by nothing but [`Password::expose`].
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Password(String);

impl Password {
    /// Takes the text as it is.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the one call that needs it. Never log it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("•••")
    }
}

impl Serialize for Password {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("•••")
    }
}

/// Where mail is sent from. Without a host none is.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The mail server (SMTP). Default: none, and then no mail is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Its port. Default: 587.
    pub port: u16,
    /// How the connection is protected: `starttls`, `tls` or `none`. Default: `starttls`.
    pub tls: Tls,
    /// The account there, if it wants one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Its password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<Password>,
    /// The address that mail comes from. Needed with a host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// A file of certificates in PEM whose authorities are trusted besides the system's. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extra_ca_file: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            host: None,
            port: 587,
            tls: Tls::Starttls,
            username: None,
            password: None,
            from: None,
            extra_ca_file: None,
        }
    }
}

impl Settings {
    /// Whether mail is sent at all.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.host.is_some()
    }

    /// Checks what the types cannot say.
    ///
    /// # Errors
    /// Names what is missing or does not go together.
    pub fn check(&self) -> Result<(), String> {
        if self.host.as_deref().is_some_and(|host| host.trim().is_empty()) {
            return Err("mail.host must not be empty".to_owned());
        }
        if self.port == 0 {
            return Err("mail.port must lie between 1 and 65535, not 0".to_owned());
        }
        if self.is_on() && self.from.is_none() {
            return Err("mail.host needs mail.from, the address that mail comes from".to_owned());
        }
        if let Some(from) = &self.from {
            parse_email(from).map_err(|reason| format!("mail.from {reason}"))?;
        }
        if self.username.is_some() != self.password.is_some() {
            return Err("mail.username and mail.password belong together".to_owned());
        }
        if self.tls == Tls::None && self.password.is_some() {
            return Err("mail.password must not be sent in plain: set mail.tls to starttls or tls".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_go_together_is_named() {
        let read = |text: &str| serde_json::from_str::<Settings>(text).unwrap().check().err();
        let table = [
            ("{}", None),
            (r#"{"host":"mail.example.com"}"#, Some("mail.from")),
            (r#"{"host":" ","from":"a@b.c"}"#, Some("mail.host")),
            (r#"{"host":"mail.example.com","from":"a@b.c"}"#, None),
            (r#"{"host":"mail.example.com","from":"ab.c"}"#, Some("mail.from")),
            (r#"{"host":"mail.example.com","from":"a@b.c","port":0}"#, Some("mail.port")),
            (r#"{"host":"mail.example.com","from":"a@b.c","username":"a"}"#, Some("mail.username")),
            (r#"{"host":"h","from":"a@b.c","username":"a","password":"p"}"#, None),
            (
                r#"{"host":"h","from":"a@b.c","username":"a","password":"p","tls":"none"}"#,
                Some("mail.password"),
            ),
            (r#"{"host":"h","from":"a@b.c","tls":"none"}"#, None),
        ];
        for (text, expected) in table {
            let told = read(text);
            assert_eq!(told.is_some(), expected.is_some(), "{text}: {told:?}");
            assert!(told.unwrap_or_default().contains(expected.unwrap_or_default()), "{text}");
        }
    }

    #[test]
    fn the_password_is_not_shown() {
        let settings: Settings = serde_json::from_str(r#"{"password":"hunter2"}"#).unwrap();
        let shown = format!("{settings:?} {}", serde_json::to_string(&settings).unwrap());
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
