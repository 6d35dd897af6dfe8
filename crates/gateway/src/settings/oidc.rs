//! The section `[oidc]`: the identity provider with which people may log in besides their password.

use std::{fs, net::IpAddr, path::PathBuf};

use hookyard_chassis::settings::{Secret, SettingsError};
use serde::{Deserialize, Serialize};
use url::{Host, Url};

/// The longest name of a provider, in characters.
const MAX_NAME_CHARS: usize = 50;

/// Section `[oidc]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OidcSettings {
    /// The issuer as the provider writes it, such as `https://accounts.example.com`; below it the provider describes itself
    /// (`/.well-known/openid-configuration`). https, or http on this machine. Default: none; people log in with passwords.
    pub issuer: Option<String>,
    /// As what the provider knows this installation. Default: none; needed with an issuer.
    pub client_id: Option<String>,
    /// The secret that goes with it. Default: none; a public client.
    pub client_secret: Option<Secret>,
    /// A file with that secret; not both. Default: none.
    pub client_secret_file: Option<PathBuf>,
    /// What people know the provider as: "Log in with …". 1 to 50 characters. Default: `SSO`.
    pub display_name: String,
    /// Domains of e-mail addresses that are let in with the provider; others are not. Default: none; every domain.
    pub allowed_email_domains: Vec<String>,
}

impl Default for OidcSettings {
    fn default() -> Self {
        Self {
            issuer: None,
            client_id: None,
            client_secret: None,
            client_secret_file: None,
            display_name: "SSO".to_owned(),
            allowed_email_domains: Vec::new(),
        }
    }
}

impl OidcSettings {
    /// Whether the values go together.
    pub(super) fn check(&self) -> Result<(), SettingsError> {
        let wrong = |key: &'static str, reason: &str| Err(SettingsError::contradiction(key, reason));
        let characters = self.display_name.chars().count();
        if !(1..=MAX_NAME_CHARS).contains(&characters) || self.display_name.chars().any(char::is_control) {
            return wrong("oidc.display_name", "must have 1 to 50 characters");
        }
        let is_domain =
            |text: &String| !text.is_empty() && !text.contains(|c: char| c == '@' || c.is_whitespace());
        if !self.allowed_email_domains.iter().all(is_domain) {
            return wrong("oidc.allowed_email_domains", "must be domains such as example.com");
        }
        let Some(issuer) = &self.issuer else { return Ok(()) };
        if !is_issuer(issuer) {
            let reason =
                "must be a URL with https and nothing behind its path, such as https://accounts.example.com";
            return wrong("oidc.issuer", reason);
        }
        if self.client_id.as_ref().is_none_or(String::is_empty) {
            return wrong("oidc.client_id", "is needed with oidc.issuer");
        }
        self.secret().map(|_secret| ())
    }

    /// The client's secret, from where it is.
    pub(crate) fn secret(&self) -> Result<Option<Secret>, SettingsError> {
        let Some(path) = &self.client_secret_file else { return Ok(self.client_secret.clone()) };
        let wrong = |reason: String| SettingsError::contradiction("oidc.client_secret_file", reason);
        if self.client_secret.is_some() {
            return Err(wrong("and oidc.client_secret are both set: remove one of them".to_owned()));
        }
        let text = fs::read_to_string(path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
        match text.trim() {
            "" => Err(wrong("names a file that is empty".to_owned())),
            secret => Ok(Some(Secret::new(secret))),
        }
    }

    /// Whether an e-mail address is of a domain that is let in.
    pub(crate) fn allows(&self, email: &str) -> bool {
        let domain = email.rsplit_once('@').map_or("", |(_, domain)| domain);
        self.allowed_email_domains.is_empty()
            || self.allowed_email_domains.iter().any(|allowed| allowed.eq_ignore_ascii_case(domain))
    }
}

/// OpenID Connect Core §2: https, without query and fragment. Without TLS only on this machine.
fn is_issuer(text: &str) -> bool {
    let Ok(url) = Url::parse(text) else { return false };
    let is_here = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => IpAddr::V4(ip).is_loopback(),
        Some(Host::Ipv6(ip)) => IpAddr::V6(ip).is_loopback(),
        None => return false,
    };
    (url.scheme() == "https" || (url.scheme() == "http" && is_here))
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_issuer(issuer: &str) -> OidcSettings {
        OidcSettings {
            issuer: Some(issuer.to_owned()),
            client_id: Some("hookyard".to_owned()),
            ..OidcSettings::default()
        }
    }

    #[test]
    fn an_issuer_is_reached_over_tls_unless_it_is_here() {
        for (issuer, good) in [
            ("https://accounts.example.com", true),
            ("https://login.example.com/tenant/v2.0", true),
            ("http://127.0.0.1:9000", true),
            ("http://[::1]:9000", true),
            ("http://localhost:9000/", true),
            ("http://accounts.example.com", false),
            ("https://accounts.example.com/?a", false),
            ("https://accounts.example.com/#a", false),
            ("https://me@accounts.example.com", false),
            ("accounts.example.com", false),
            ("", false),
        ] {
            assert_eq!(with_issuer(issuer).check().is_ok(), good, "{issuer}");
        }
        assert!(OidcSettings::default().check().is_ok());
        let nameless = OidcSettings { client_id: None, ..with_issuer("https://accounts.example.com") };
        assert!(nameless.check().is_err());
    }

    #[test]
    fn a_name_is_bounded() {
        let named =
            |chars: usize| OidcSettings { display_name: "é".repeat(chars), ..OidcSettings::default() };
        assert!(named(MAX_NAME_CHARS).check().is_ok() && named(MAX_NAME_CHARS + 1).check().is_err());
        assert!(named(0).check().is_err());
    }

    #[test]
    fn a_domain_is_the_whole_of_what_stands_behind_the_at() {
        let allowing = |domains: &[&str]| OidcSettings {
            allowed_email_domains: domains.iter().map(|&domain| domain.to_owned()).collect(),
            ..OidcSettings::default()
        };
        assert!(allowing(&[]).allows("ada@anywhere.example"));
        let settings = allowing(&["Example.com"]);
        assert!(settings.check().is_ok() && settings.allows("ada@example.com"));
        for email in ["ada@sub.example.com", "ada@notexample.com", "ada@example.com.evil.example", ""] {
            assert!(!settings.allows(email), "{email}");
        }
        for domain in ["", "@example.com", "a b"] {
            assert!(allowing(&[domain]).check().is_err(), "{domain}");
        }
    }

    #[test]
    fn the_secret_comes_from_one_place_and_is_not_shown() {
        let secret = Some(Secret::new("hush"));
        let given = OidcSettings { client_secret: secret.clone(), ..with_issuer("https://a.example") };
        assert_eq!(given.secret().unwrap(), secret);
        assert!(!format!("{given:?}{}", serde_json::to_string(&given).unwrap()).contains("hush"));
        let file = Some(PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")));
        let from_file = OidcSettings { client_secret_file: file.clone(), ..with_issuer("https://a.example") };
        assert!(from_file.secret().unwrap().unwrap().expose().starts_with("[package]"));
        assert!(OidcSettings { client_secret_file: file, ..given }.check().is_err());
        let none = OidcSettings { client_secret_file: Some("/no/such".into()), ..from_file };
        assert!(none.check().is_err());
    }
}
