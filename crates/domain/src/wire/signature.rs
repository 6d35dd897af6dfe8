//! The secrets that sign deliveries, and the three symmetric signatures (contract §5, §8).
//!
//! A secret offers its signature, not its bytes. Which secret signs what, how long an old one overlaps and how they
//! are encrypted at rest is decided elsewhere; the asymmetric callback token is no business of this file.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rand::CryptoRng;
use ring::hmac;

/// Why a text is no secret. Never tells the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// The `whsec_` in front is missing.
    #[error("a signing secret starts with `{}`", SigningSecret::PREFIX)]
    Prefix,
    /// What follows `whsec_` is not padded standard base64 (RFC 4648 §4).
    #[error("a signing secret is `{}` and base64 with padding", SigningSecret::PREFIX)]
    Encoding,
    /// Too few or too many bytes within the base64.
    #[error(
        "a signing secret has {} to {} bytes within its base64, this one has {bytes}",
        SigningSecret::MIN_BYTES,
        SigningSecret::MAX_BYTES
    )]
    SigningLength {
        /// How many there are.
        bytes: usize,
    },
    /// The text is empty or too long.
    #[error(
        "a webhook secret has {} to {} bytes, this one has {bytes}",
        WebhookSecret::MIN_BYTES,
        WebhookSecret::MAX_BYTES
    )]
    WebhookLength {
        /// How many there are.
        bytes: usize,
    },
}

/// A secret of Standard Webhooks 1.0.0: `whsec_` and base64.
#[derive(Clone)]
pub struct SigningSecret {
    text: String,
    /// Hashed already, so that a signature costs what the message costs.
    key: hmac::Key,
}

impl SigningSecret {
    /// What the text starts with.
    pub const PREFIX: &'static str = "whsec_";
    /// The shortest key, in bytes (Standard Webhooks 1.0.0, "Signature scheme").
    pub const MIN_BYTES: usize = 24;
    /// The longest key, in bytes.
    pub const MAX_BYTES: usize = 64;

    /// Makes a new secret of 32 random bytes.
    pub fn generate(rng: &mut (impl CryptoRng + ?Sized)) -> Self {
        let mut bytes = [0; 32];
        rng.fill_bytes(&mut bytes);
        Self { text: format!("{}{}", Self::PREFIX, STANDARD.encode(bytes)), key: key(&bytes) }
    }

    /// Reads a secret that somebody brought or that was stored.
    ///
    /// # Errors
    /// [`SecretError`] when it is not `whsec_` and padded base64 of 24 to 64 bytes. Padding is demanded because the
    /// libraries of receivers demand it.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let encoded = text.strip_prefix(Self::PREFIX).ok_or(SecretError::Prefix)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| SecretError::Encoding)?;
        match bytes.len() {
            Self::MIN_BYTES..=Self::MAX_BYTES => Ok(Self { text: text.to_owned(), key: key(&bytes) }),
            length => Err(SecretError::SigningLength { bytes: length }),
        }
    }

    /// The text, to be shown to its owner once or to be stored.
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// One signature of Standard Webhooks 1.0.0, `v1,` and base64, over `{message_id}.{unix_seconds}.{body}`.
    ///
    /// `message_id` is the `webhook-id`, the same on every try; it must not contain a full stop, or two messages could
    /// share a signature. `unix_seconds` is the `webhook-timestamp`.
    pub fn standard_webhooks(&self, message_id: &str, unix_seconds: i64, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(format!("{message_id}.{unix_seconds}.").as_bytes());
        context.update(body);
        format!("v1,{}", STANDARD.encode(context.sign()))
    }
}

/// The `webhook-signature` header: one signature per secret, separated by spaces, the newest secret first. During a
/// rotation both the new and the old secret sign.
pub fn standard_webhooks_header<'a>(
    secrets: impl IntoIterator<Item = &'a SigningSecret>,
    message_id: &str,
    unix_seconds: i64,
    body: &[u8],
) -> String {
    let signatures =
        secrets.into_iter().map(|secret| secret.standard_webhooks(message_id, unix_seconds, body));
    signatures.collect::<Vec<_>>().join(" ")
}

/// A text agreed with a receiver, whose bytes are the key as they stand.
#[derive(Clone)]
pub struct WebhookSecret {
    text: String,
    key: hmac::Key,
}

impl WebhookSecret {
    /// The shortest secret, in bytes.
    pub const MIN_BYTES: usize = 1;
    /// The longest secret, in bytes.
    pub const MAX_BYTES: usize = 256;

    /// Takes any text, untrimmed.
    ///
    /// # Errors
    /// [`SecretError::WebhookLength`] when it is empty or longer than 256 bytes.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        match text.len() {
            Self::MIN_BYTES..=Self::MAX_BYTES => {
                Ok(Self { text: text.to_owned(), key: key(text.as_bytes()) })
            }
            length => Err(SecretError::WebhookLength { bytes: length }),
        }
    }

    /// The text, to be stored.
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// `X-TriggersAPI-Signature` of a hook delivery: base64 of the HMAC-SHA256 of the body.
    pub fn triggers_api(&self, body: &[u8]) -> String {
        STANDARD.encode(hmac::sign(&self.key, body))
    }

    /// `X-CodeTether-Signature` of a task delivery: `sha256=` and lower-case hex of the HMAC-SHA256 of the body.
    pub fn codetether(&self, body: &[u8]) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let tag = hmac::sign(&self.key, body);
        let digits = tag.as_ref().iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
        let mut text = String::with_capacity(71);
        text.push_str("sha256=");
        text.extend(digits.map(|digit| char::from(DIGITS[usize::from(digit)])));
        text
    }
}

/// Tells that there is one, and nothing else.
impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningSecret(..)")
    }
}

/// Tells that there is one, and nothing else.
impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret(..)")
    }
}

fn key(bytes: &[u8]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, bytes)
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    const STANDARD_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const TASK_BODY: &str = concat!(
        r#"{"event":"task_completed","run_id":"660e8400-e29b-41d4-a716-446655440001","#,
        r#""task_id":"550e8400-e29b-41d4-a716-446655440000","status":"completed","result":"café ☕","#,
        r#""error":null,"timestamp":"2025-01-19T10:35:00Z"}"#
    );

    fn secret_of(bytes: usize) -> String {
        format!("whsec_{}", STANDARD.encode(vec![7; bytes]))
    }

    #[test]
    fn the_vector_of_standard_webhooks_holds() {
        let secret = SigningSecret::parse(STANDARD_SECRET).unwrap();
        let body = br#"{"test": 2432232314}"#;
        let signature = secret.standard_webhooks("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn the_vector_of_task_webhooks_holds_and_its_body_is_canonical() {
        let secret = WebhookSecret::parse("your_webhook_secret").unwrap();
        let body = TASK_BODY.as_bytes();
        assert_eq!(body.len(), 213);
        let hex = "sha256=5ae66937c7d6c8fac57d5461af68150839ce4ffd3c3962a7a7e7e03c9a036fe4";
        assert_eq!(secret.codetether(body), hex);
        assert_eq!(secret.triggers_api(body), "WuZpN8fWyPrFfVRhr2gVCDnOT/08OWKnp+fgPJoDb+Q=");
        assert_eq!(crate::wire::to_canonical(&crate::wire::parse(body).unwrap()), body);
    }

    #[test]
    fn during_a_rotation_both_secrets_sign() {
        let new = SigningSecret::parse(&secret_of(32)).unwrap();
        let old = SigningSecret::parse(STANDARD_SECRET).unwrap();
        let signed = |secret: &SigningSecret| secret.standard_webhooks("msg_1", 1, b"{}");
        let both = standard_webhooks_header([&new, &old], "msg_1", 1, b"{}");
        assert_eq!(both, format!("{} {}", signed(&new), signed(&old)));
        assert_eq!(standard_webhooks_header([&old], "msg_1", 1, b"{}"), signed(&old));
    }

    #[test]
    fn a_generated_secret_is_32_bytes_and_reads_back() {
        let mut rng = StdRng::seed_from_u64(1);
        let secret = SigningSecret::generate(&mut rng);
        let again = SigningSecret::parse(secret.expose()).unwrap();
        assert_eq!(STANDARD.decode(&secret.expose()[6..]).unwrap().len(), 32);
        assert_eq!(secret.standard_webhooks("m", 0, b"x"), again.standard_webhooks("m", 0, b"x"));
        assert_ne!(SigningSecret::generate(&mut rng).expose(), secret.expose());
    }

    #[test]
    fn a_signing_secret_has_24_to_64_bytes() {
        for (bytes, accepted) in [(0, false), (23, false), (24, true), (64, true), (65, false)] {
            let result = SigningSecret::parse(&secret_of(bytes)).map(|secret| secret.expose().to_owned());
            let expected =
                if accepted { Ok(secret_of(bytes)) } else { Err(SecretError::SigningLength { bytes }) };
            assert_eq!(result, expected);
        }
    }

    #[test]
    fn a_signing_secret_is_written_in_one_way_only() {
        let padded = secret_of(32);
        for (text, expected) in [
            ("", SecretError::Prefix),
            (&padded[6..], SecretError::Prefix),
            (&padded.to_uppercase(), SecretError::Prefix),
            (&format!(" {padded}"), SecretError::Prefix),
            (&format!("{padded}\n"), SecretError::Encoding),
            (padded.trim_end_matches('='), SecretError::Encoding),
            ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLa-_", SecretError::Encoding),
            ("whsec_", SecretError::SigningLength { bytes: 0 }),
        ] {
            assert_eq!(SigningSecret::parse(text).map(|_| ()), Err(expected), "{text:?}");
        }
    }

    #[test]
    fn a_webhook_secret_has_1_to_256_bytes() {
        for (text, accepted) in [
            (String::new(), false),
            ("x".to_owned(), true),
            ("x".repeat(256), true),
            ("x".repeat(257), false),
            ("é".repeat(128), true),
            ("é".repeat(129), false),
        ] {
            let bytes = text.len();
            let result = WebhookSecret::parse(&text).map(|secret| secret.expose().to_owned());
            assert_eq!(result, if accepted { Ok(text) } else { Err(SecretError::WebhookLength { bytes }) });
        }
    }

    #[test]
    fn neither_debug_nor_errors_tell_a_secret() {
        let signing = SigningSecret::parse(STANDARD_SECRET).unwrap();
        let webhook = WebhookSecret::parse("your_webhook_secret").unwrap();
        assert_eq!(format!("{signing:?} {webhook:?}"), "SigningSecret(..) WebhookSecret(..)");
        let errors = [
            SecretError::Prefix,
            SecretError::Encoding,
            SecretError::SigningLength { bytes: 23 },
            SecretError::WebhookLength { bytes: 257 },
        ];
        assert_eq!(
            errors.map(|error| error.to_string()),
            [
                "a signing secret starts with `whsec_`",
                "a signing secret is `whsec_` and base64 with padding",
                "a signing secret has 24 to 64 bytes within its base64, this one has 23",
                "a webhook secret has 1 to 256 bytes, this one has 257",
            ]
        );
    }
}
