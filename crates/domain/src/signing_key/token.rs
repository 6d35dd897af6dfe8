//! The token that says that a callback is ours: a JSON Web Token (RFC 7519) signed with RS256 (contract §6).

use std::{fmt, sync::Arc};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use ring::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    rsa::KeyPair,
    signature::RSA_PKCS1_SHA256,
};
use serde_json::json;

use super::{SigningKey, Stage};

/// For so long a token is good, from the time of the try (contract §6).
pub const LIFETIME: TimeDelta = TimeDelta::seconds(300);

/// A token is issued a little before now, for receivers whose clocks are behind.
const ISSUED_BEFORE: TimeDelta = TimeDelta::seconds(2);

/// What a token says.
#[derive(Clone, Copy, Debug)]
pub struct Claims<'a> {
    /// Who says it: where this installation is found.
    pub issuer: &'a str,
    /// What it is about: the run's id.
    pub subject: &'a str,
    /// The delivery's id: the same on every try.
    pub delivery: &'a str,
    /// What is sent with it.
    pub body: &'a [u8],
    /// The time of the try.
    pub now: DateTime<Utc>,
}

/// A key that can sign.
pub struct Signer {
    kid: String,
    pair: KeyPair,
}

/// Tells which key it is, and nothing of it.
impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.kid)
    }
}

impl Signer {
    /// The key of a PKCS#8 document; `None` when it is none that ring takes.
    #[must_use]
    pub fn new(kid: &str, private: &[u8]) -> Option<Self> {
        let pair = KeyPair::from_pkcs8(private).ok()?;
        Some(Self { kid: kid.to_owned(), pair })
    }

    /// A token, about a millisecond of computing. There is no `aud`: the receivers' snippet of source 3 would refuse it.
    /// `None` when there is no randomness.
    #[must_use]
    pub fn sign(&self, claims: &Claims<'_>) -> Option<String> {
        let part = |value: serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let issued = claims.now.timestamp() - ISSUED_BEFORE.num_seconds();
        let mut token = part(json!({"alg": "RS256", "typ": "JWT", "kid": self.kid}));
        token.push('.');
        token += &part(json!({
            "iss": claims.issuer,
            "sub": claims.subject,
            "jti": claims.delivery,
            "iat": issued,
            "exp": issued + LIFETIME.num_seconds(),
            "body_sha256": hex(digest(&SHA256, claims.body).as_ref()),
        }));
        let mut signature = vec![0; self.pair.public().modulus_len()];
        self.pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), token.as_bytes(), &mut signature).ok()?;
        token.push('.');
        token += &BASE64_URL_SAFE_NO_PAD.encode(signature);
        Some(token)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The keys of the installation, with their private halves.
#[derive(Clone, Debug, Default)]
pub struct KeyRing(Vec<(SigningKey, Arc<Signer>)>);

impl KeyRing {
    /// Of these keys.
    #[must_use]
    pub fn new(keys: Vec<(SigningKey, Arc<Signer>)>) -> Self {
        Self(keys)
    }

    /// The key that signs at this time.
    #[must_use]
    pub fn in_use(&self, now: DateTime<Utc>) -> Option<Arc<Signer>> {
        let used = self.0.iter().find(|(key, _)| key.stage(now) == Stage::InUse);
        used.map(|(_, signer)| Arc::clone(signer))
    }
}
