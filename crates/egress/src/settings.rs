//! The `[egress]` section: what an operator may set about outbound requests. Timeouts of whole requests are not here,
//! they come with each request (contract §7).

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderValue;
use ipnet::IpNet;
use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::target::Refusal;

/// The `[egress]` section of the settings.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Ranges (or single addresses) that are reachable although the guard refuses them, for development and tests:
    /// a list, or one text with commas (`HOOKYARD__EGRESS__ALLOW=127.0.0.0/8,::1`). Default: none.
    #[serde(deserialize_with = "ranges")]
    pub allow: Vec<IpNet>,
    /// A file of certificates in PEM which are trusted besides those of the operating system. Default: none.
    pub extra_ca_file: Option<PathBuf>,
    /// Most time that name, TCP and TLS may take together, in milliseconds, 1 to 60000. Default: 3000.
    pub connect_timeout_ms: u64,
    /// Most idle connections kept per destination (scheme, host, port). Default: 512.
    pub max_idle_per_host: usize,
    /// How long an idle connection is kept, in milliseconds; 0 keeps none. Default: 30000.
    pub idle_timeout_ms: u64,
    /// The `User-Agent` of requests that bring none. Default: `Hookyard/<version>`.
    pub user_agent: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            allow: Vec::new(),
            extra_ca_file: None,
            connect_timeout_ms: 3_000,
            max_idle_per_host: 512,
            idle_timeout_ms: 30_000,
            user_agent: concat!("Hookyard/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// Why the settings do not make a client.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// `extra_ca_file` is not there, not readable, or not PEM.
    #[error("egress.extra_ca_file `{path}` cannot be read as PEM")]
    UnreadableCa {
        /// The file as it was configured.
        path: PathBuf,
        /// What the reader said.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// `extra_ca_file` holds no certificate.
    #[error("egress.extra_ca_file `{path}` holds no certificate")]
    NoCertificate {
        /// The file as it was configured.
        path: PathBuf,
    },
    /// A certificate of `extra_ca_file` cannot be an authority.
    #[error("egress.extra_ca_file `{path}` holds a certificate that cannot be trusted")]
    RejectedCa {
        /// The file as it was configured.
        path: PathBuf,
        /// What rustls said.
        #[source]
        source: rustls::Error,
    },
    /// `connect_timeout_ms` is outside of 1 to 60000.
    #[error("egress.connect_timeout_ms must be between 1 and 60000")]
    ConnectTimeout,
    /// The URL of a service cannot be requested.
    #[error("the service `{url}` cannot be used")]
    Service {
        /// As it was configured.
        url: Url,
        /// What is wrong with it.
        #[source]
        refusal: Refusal,
    },
    /// `user_agent` cannot stand in a header.
    #[error("egress.user_agent is not a header value")]
    UserAgent,
    /// The TLS library refused its configuration.
    #[error("tls cannot be set up")]
    Tls(#[source] rustls::Error),
    /// The HTTP client refused its configuration.
    #[error("the http client cannot be set up")]
    Client(#[source] reqwest::Error),
}

impl Settings {
    /// What every client is made with: how long connecting may take, and the name that it gives.
    pub(crate) fn of_client(&self) -> Result<(Duration, HeaderValue), SetupError> {
        if !(1..=60_000).contains(&self.connect_timeout_ms) {
            return Err(SetupError::ConnectTimeout);
        }
        let user_agent = HeaderValue::from_str(&self.user_agent).map_err(|_invalid| SetupError::UserAgent)?;
        Ok((Duration::from_millis(self.connect_timeout_ms), user_agent))
    }
}

fn ranges<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    deserializer.deserialize_any(Ranges)
}

struct Ranges;

impl<'de> Visitor<'de> for Ranges {
    type Value = Vec<IpNet>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of address ranges such as 127.0.0.0/8")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(range).collect()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut ranges = Vec::new();
        while let Some(text) = list.next_element::<String>()? {
            ranges.push(range(&text)?);
        }
        Ok(ranges)
    }
}

fn range<E: de::Error>(text: &str) -> Result<IpNet, E> {
    text.parse::<IpNet>()
        .or_else(|_not_a_range| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_neither| E::custom(format_args!("`{text}` is not an address range such as 127.0.0.0/8")))
}

#[cfg(test)]
mod tests {
    use super::Settings;

    fn parse(json: &str) -> Result<Settings, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn an_empty_section_is_the_default() {
        assert_eq!(parse("{}"), Ok(Settings::default()));
        assert!(Settings::default().user_agent.starts_with("Hookyard/"));
    }

    #[test]
    fn ranges_come_as_a_list_or_as_one_text() {
        let expected = Settings {
            allow: vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()],
            ..Settings::default()
        };
        assert_eq!(parse(r#"{"allow":["127.0.0.0/8","::1/128"]}"#), Ok(expected.clone()));
        assert_eq!(parse(r#"{"allow":"127.0.0.0/8, ::1"}"#), Ok(expected));
        assert_eq!(parse(r#"{"allow":""}"#), Ok(Settings::default()));
    }

    #[test]
    fn a_typo_is_refused_by_name() {
        assert!(parse(r#"{"alow":[]}"#).unwrap_err().contains("unknown field `alow`"));
        assert!(parse(r#"{"allow":["127.0.0.0/33"]}"#).unwrap_err().contains("`127.0.0.0/33` is not"));
        assert!(parse(r#"{"allow":["localhost"]}"#).is_err());
    }
}
