//! Keys that callbacks are signed with: RSA, their public halves at `/.well-known/jwks.json` (contract §6).
//!
//! Receivers keep the set of public keys for as long as they like, so that keys change slowly: the next one is published a day
//! before it is used, the one before stays for a day after. Which key is used is decided by the time alone, so that all
//! deliverers agree. Made with `rsa`, which ring cannot do; what is signed is signed by ring.

mod generate;
pub mod store;
mod token;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use diesel::{
    QueryableByName,
    sql_types::{Binary, Nullable, Text, Timestamptz, Uuid},
};
use serde_json::{Value, json};

use crate::id::SigningKeyId;
pub use generate::{Fresh, generate};
pub use token::{Claims, KeyRing, LIFETIME, Signer};

/// For so long at least a key is published before it is used (contract §6).
pub const PUBLISHED_BEFORE: TimeDelta = TimeDelta::hours(24);

/// For so long a key is published after it was used (contract §6).
pub const KEPT_AFTER: TimeDelta = TimeDelta::hours(24);

/// The public half of a key, and its time.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
pub struct SigningKey {
    /// Identity.
    #[diesel(sql_type = Uuid)]
    pub id: SigningKeyId,
    /// What receivers find it by.
    #[diesel(sql_type = Text)]
    pub kid: String,
    /// Big-endian.
    #[diesel(sql_type = Binary)]
    pub modulus: Vec<u8>,
    /// Big-endian.
    #[diesel(sql_type = Binary)]
    pub exponent: Vec<u8>,
    /// Since when it is published.
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
    /// From when on it is used.
    #[diesel(sql_type = Timestamptz)]
    pub use_from: DateTime<Utc>,
    /// From when on its successor is; `None` while it has none.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub used_until: Option<DateTime<Utc>>,
    /// Until when it is published; `None` while it has no successor.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub kept_until: Option<DateTime<Utc>>,
}

/// What a key is for at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Published, to be used later.
    Next,
    /// What is signed is signed with it.
    InUse,
    /// Published for what was signed with it.
    Kept,
    /// Done with.
    Over,
}

impl Stage {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Next => "next",
            Self::InUse => "in use",
            Self::Kept => "kept",
            Self::Over => "over",
        }
    }
}

impl SigningKey {
    /// What it is for at this time.
    #[must_use]
    pub fn stage(&self, now: DateTime<Utc>) -> Stage {
        let over = |end: Option<DateTime<Utc>>| end.is_some_and(|end| end <= now);
        match () {
            () if over(self.kept_until) => Stage::Over,
            () if over(self.used_until) => Stage::Kept,
            () if self.use_from <= now => Stage::InUse,
            () => Stage::Next,
        }
    }

    /// As a JSON Web Key (RFC 7517, RFC 7518 §6.3).
    #[must_use]
    pub fn jwk(&self) -> Value {
        json!({
            "kty": "RSA",
            "use": "sig",
            "alg": "RS256",
            "kid": self.kid,
            "n": BASE64_URL_SAFE_NO_PAD.encode(&self.modulus),
            "e": BASE64_URL_SAFE_NO_PAD.encode(&self.exponent),
        })
    }
}

/// The set of keys that receivers may meet at this time (RFC 7517 §5).
#[must_use]
pub fn jwks(keys: &[SigningKey], now: DateTime<Utc>) -> Value {
    let published = keys.iter().filter(|key| key.stage(now) != Stage::Over);
    json!({ "keys": published.map(SigningKey::jwk).collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_published_before_and_after_it_is_used() {
        let day = TimeDelta::days(1);
        let made = DateTime::from_timestamp_millis(1_800_000_000_000).unwrap();
        let key = SigningKey {
            id: SigningKeyId::new(made),
            kid: "k".to_owned(),
            modulus: vec![0xff, 0xfe],
            exponent: vec![1, 0, 1],
            created_at: made,
            use_from: made + day,
            used_until: Some(made + day * 3),
            kept_until: Some(made + day * 4),
        };
        let instant = TimeDelta::microseconds(1);
        for (after, stage) in [
            (TimeDelta::zero(), Stage::Next),
            (day - instant, Stage::Next),
            (day, Stage::InUse),
            (day * 3 - instant, Stage::InUse),
            (day * 3, Stage::Kept),
            (day * 4 - instant, Stage::Kept),
            (day * 4, Stage::Over),
        ] {
            assert_eq!(key.stage(made + after), stage, "{after}");
            let published = jwks(std::slice::from_ref(&key), made + after)["keys"].as_array().unwrap().len();
            assert_eq!(published, usize::from(stage != Stage::Over), "{after}");
        }
        let last = SigningKey { used_until: None, kept_until: None, ..key };
        assert_eq!(last.stage(made + day * 1_000), Stage::InUse);
        assert_eq!(
            last.jwk(),
            json!({"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "k", "n": "__4", "e": "AQAB"})
        );
    }
}
