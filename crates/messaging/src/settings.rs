//! The section `[amqp]` of the settings.

use std::{fmt, str::FromStr};

use lapin::uri::{AMQPScheme, AMQPUri};
use serde::{Deserialize, Serialize, Serializer};

/// How to reach the broker. Without a `url` the bus lives inside the process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AmqpSettings {
    /// `amqp://user:password@host:port/vhost`, or `amqps://` for TLS with the certificates this machine trusts. A secret.
    /// Default: none, the bus inside the process.
    pub url: Option<BrokerUrl>,
    /// What the names of all queues and exchanges begin with: 1 to 64 characters of `a-z 0-9 . _ -`. Installations that
    /// share a virtual host need different ones. Default: `hookyard.`
    pub namespace: String,
    /// Seconds after which a silent connection counts as lost, 5 to 60. Default: 15.
    pub heartbeat_s: u16,
    /// Milliseconds that a connection may take to open, 100 to 60,000. Default: 5,000.
    pub connect_timeout_ms: u64,
    /// Milliseconds that publishing a message may take until its confirmation, 100 to 60,000. Default: 5,000.
    pub publish_timeout_ms: u64,
    /// Milliseconds that closing waits for confirmations and acknowledgements on their way, 0 to 60,000. Default: 5,000.
    pub close_timeout_ms: u64,
}

impl Default for AmqpSettings {
    fn default() -> Self {
        Self {
            url: None,
            namespace: "hookyard.".to_owned(),
            heartbeat_s: 15,
            connect_timeout_ms: 5_000,
            publish_timeout_ms: 5_000,
            close_timeout_ms: 5_000,
        }
    }
}

impl AmqpSettings {
    /// The first field that is out of its range, and what it may be.
    ///
    /// # Errors
    /// The name of the field and its range.
    pub fn check(&self) -> Result<(), &'static str> {
        let named = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '.' | '_' | '-');
        let checks = [
            (
                (1..=64).contains(&self.namespace.len()) && self.namespace.chars().all(named),
                "`amqp.namespace` has 1 to 64 characters of a-z 0-9 . _ -",
            ),
            ((5..=60).contains(&self.heartbeat_s), "`amqp.heartbeat_s` is 5 to 60"),
            ((100..=60_000).contains(&self.connect_timeout_ms), "`amqp.connect_timeout_ms` is 100 to 60000"),
            ((100..=60_000).contains(&self.publish_timeout_ms), "`amqp.publish_timeout_ms` is 100 to 60000"),
            (self.close_timeout_ms <= 60_000, "`amqp.close_timeout_ms` is 0 to 60000"),
        ];
        checks.into_iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, rule)| Err(rule))
    }
}

/// The address of a broker with the credentials in it. Neither `Debug`, `Display` nor `Serialize` show the password.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct BrokerUrl(AMQPUri);

/// A text that is not the address of a broker. Does not repeat the text: there may be a password in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a broker's url looks like amqp://user:password@host:5672/%2f, or amqps:// for tls")]
pub struct BrokerUrlError;

impl BrokerUrl {
    pub(crate) fn uri(&self) -> &AMQPUri {
        &self.0
    }
}

impl FromStr for BrokerUrl {
    type Err = BrokerUrlError;
    fn from_str(text: &str) -> Result<Self, BrokerUrlError> {
        text.parse().map(Self).map_err(|_| BrokerUrlError)
    }
}

impl TryFrom<String> for BrokerUrl {
    type Error = BrokerUrlError;
    fn try_from(text: String) -> Result<Self, BrokerUrlError> {
        text.parse()
    }
}

impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AMQPUri { scheme, authority, vhost, query: _ } = &self.0;
        let scheme = match scheme {
            AMQPScheme::AMQP => "amqp",
            AMQPScheme::AMQPS => "amqps",
        };
        let vhost = vhost.replace('/', "%2f");
        write!(
            f,
            "{scheme}://{}:***@{}:{}/{vhost}",
            authority.userinfo.username, authority.host, authority.port
        )
    }
}

impl fmt::Debug for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for BrokerUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_never_shown() {
        let url: BrokerUrl = "amqps://hook:t0psecret@broker.example:5671/%2fyard".parse().unwrap();
        let shown = "amqps://hook:***@broker.example:5671/%2fyard";
        assert_eq!(url.to_string(), shown);
        let settings = AmqpSettings { url: Some(url), ..AmqpSettings::default() };
        assert!(!format!("{settings:?}").contains("t0psecret"));
        assert_eq!(serde_json::to_value(&settings).unwrap()["url"], shown);
        let error = serde_json::from_str::<AmqpSettings>(r#"{"url":"http://a:t0psecret@b"}"#).unwrap_err();
        assert!(!error.to_string().contains("t0psecret"), "{error}");
    }

    #[test]
    fn the_defaults_pass_and_a_typo_does_not() {
        let settings: AmqpSettings = serde_json::from_str("{}").unwrap();
        assert_eq!((settings.check(), settings), (Ok(()), AmqpSettings::default()));
        assert!(serde_json::from_str::<AmqpSettings>(r#"{"prefetsh":1}"#).is_err());
    }

    #[test]
    fn a_number_out_of_its_range_is_named() {
        for (change, field) in [
            (r#"{"namespace":""}"#, "namespace"),
            (r#"{"namespace":"Hook Yard"}"#, "namespace"),
            (r#"{"heartbeat_s":61}"#, "heartbeat_s"),
            (r#"{"connect_timeout_ms":0}"#, "connect_timeout_ms"),
            (r#"{"publish_timeout_ms":99}"#, "publish_timeout_ms"),
            (r#"{"close_timeout_ms":60001}"#, "close_timeout_ms"),
        ] {
            let settings: AmqpSettings = serde_json::from_str(change).unwrap();
            assert!(settings.check().is_err_and(|rule| rule.contains(field)), "{change}");
        }
    }
}
