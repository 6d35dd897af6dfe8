//! Service tokens: how our own processes show each other who they are where they speak HTTP: no key of a tenant's, no
//! secret of its own to hand out and to rotate. A JWT (RFC 7519, HS256) under a key that is derived from the master key,
//! which every process has; it lives for minutes and is made anew for each use.
//!
//! Only this form is read: one algorithm, and the claims below. It is no format for anybody else's tokens.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use ring::hmac;
use serde::{Deserialize, Serialize};

use crate::vault::Vault;

/// What the key is derived for.
const PURPOSE: &str = "service token";

/// `aud`: whom such tokens are for.
const AUDIENCE: &str = "hookyard";

/// `{"alg":"HS256","typ":"JWT"}`
const HEADER: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9";

/// The longest life of a token.
pub const MAX_LIFE: TimeDelta = TimeDelta::seconds(300);

/// How far the clocks of two machines may be apart.
const SKEW: TimeDelta = TimeDelta::seconds(30);

/// A token that is longer is not read.
const MAX_LEN: usize = 1_024;

/// The longest name of a service.
const MAX_NAME: usize = 50;

/// Which service: 1 to 50 characters of `a-z 0-9 -`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceName(String);

/// A text that is no name of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a service is named by 1 to 50 characters of a-z, 0-9 and -")]
pub struct ServiceNameError;

impl FromStr for ServiceName {
    type Err = ServiceNameError;
    fn from_str(text: &str) -> Result<Self, ServiceNameError> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let good = (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(plain);
        good.then(|| Self(text.to_owned())).ok_or(ServiceNameError)
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Serialize, Deserialize)]
struct Claims {
    /// The service.
    iss: String,
    aud: String,
    /// Unix seconds.
    iat: i64,
    /// Unix seconds.
    exp: i64,
}

/// Why a token is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServiceTokenError {
    /// It is not such a token at all.
    #[error("it is not a service token")]
    Malformed,
    /// It was signed with another key, or changed.
    #[error("it was not signed by a service of this installation")]
    Signature,
    /// It is over, not begun, or lives too long.
    #[error("it has expired, is not valid yet, or lives too long")]
    Time,
}

/// A token of a service, for its next requests.
#[must_use]
pub fn issue(vault: &Vault, service: &ServiceName, now: DateTime<Utc>, life: TimeDelta) -> String {
    let iat = now.timestamp();
    let claims = Claims {
        iss: service.0.clone(),
        aud: AUDIENCE.to_owned(),
        iat,
        exp: iat + life.clamp(TimeDelta::seconds(1), MAX_LIFE).num_seconds(),
    };
    // A struct of texts and numbers is always JSON.
    let claims = serde_json::to_vec(&claims).unwrap_or_default();
    let signed = format!("{HEADER}.{}", URL_SAFE_NO_PAD.encode(claims));
    let signature = hmac::sign(&key(&vault.derive(PURPOSE)), signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// Whose token this is. Tokens under a previous master key are taken, too, while keys are rotated.
///
/// # Errors
/// [`ServiceTokenError`].
pub fn verify(vault: &Vault, token: &str, now: DateTime<Utc>) -> Result<ServiceName, ServiceTokenError> {
    use ServiceTokenError::{Malformed, Signature, Time};
    if token.len() > MAX_LEN {
        return Err(Malformed);
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(Malformed)?;
    let (header, claims) = signed.split_once('.').ok_or(Malformed)?;
    is_ours(header)?;
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| Malformed)?;
    let keys = vault.derive_all(PURPOSE);
    if !keys.iter().any(|bytes| hmac::verify(&key(bytes), signed.as_bytes(), &signature).is_ok()) {
        return Err(Signature);
    }
    let claims = URL_SAFE_NO_PAD.decode(claims).map_err(|_| Malformed)?;
    let Claims { iss, aud, iat, exp } = serde_json::from_slice(&claims).map_err(|_| Malformed)?;
    if aud != AUDIENCE {
        return Err(Malformed);
    }
    let lives = (1..=MAX_LIFE.num_seconds()).contains(&exp.saturating_sub(iat));
    let begun = iat <= (now + SKEW).timestamp();
    if !lives || !begun || exp <= now.timestamp() {
        return Err(Time);
    }
    iss.parse().map_err(|_| Malformed)
}

/// Whether the header names our algorithm; which one a token wants is never followed.
fn is_ours(header: &str) -> Result<(), ServiceTokenError> {
    #[derive(Deserialize)]
    struct Header {
        alg: String,
    }
    let bytes = URL_SAFE_NO_PAD.decode(header).map_err(|_| ServiceTokenError::Malformed)?;
    let Header { alg } = serde_json::from_slice(&bytes).map_err(|_| ServiceTokenError::Malformed)?;
    if alg == "HS256" { Ok(()) } else { Err(ServiceTokenError::Malformed) }
}

fn key(bytes: &[u8; 32]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::MasterKey;

    fn vault(current: u8, previous: &[u8]) -> Vault {
        let key = |byte: u8| MasterKey::from_bytes([byte; 32]);
        Vault::new(key(current), previous.iter().copied().map(key).collect())
    }

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    fn forged(vault: &Vault, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = hmac::sign(&key(&vault.derive(PURPOSE)), signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    #[test]
    fn a_token_holds_for_its_time_and_names_its_service() {
        let (vault, service) = (vault(1, &[]), "delivery".parse::<ServiceName>().unwrap());
        let token = issue(&vault, &service, at(0), MAX_LIFE);
        for (now, taken) in [(-31, false), (-30, true), (0, true), (299, true), (300, false), (9_999, false)]
        {
            let expected = if taken { Ok(service.clone()) } else { Err(ServiceTokenError::Time) };
            assert_eq!(verify(&vault, &token, at(now)), expected, "{now}");
        }
        let longer = issue(&vault, &service, at(0), MAX_LIFE * 10);
        assert_eq!(verify(&vault, &longer, at(300)), Err(ServiceTokenError::Time), "never longer");
    }

    #[test]
    fn keys_can_be_rotated_and_others_are_not_taken() {
        let service = "gateway".parse::<ServiceName>().unwrap();
        let token = issue(&vault(1, &[]), &service, at(0), MAX_LIFE);
        assert_eq!(verify(&vault(2, &[1]), &token, at(1)), Ok(service));
        assert_eq!(verify(&vault(2, &[]), &token, at(1)), Err(ServiceTokenError::Signature));
    }

    #[test]
    fn what_is_not_exactly_such_a_token_is_refused() {
        let vault = vault(1, &[]);
        let hs256 = r#"{"alg":"HS256","typ":"JWT"}"#;
        let claims = |iss: &str, aud: &str, iat: i64, exp: i64| {
            let base = 1_800_000_000;
            format!(r#"{{"iss":"{iss}","aud":"{aud}","iat":{},"exp":{}}}"#, base + iat, base + exp)
        };
        let good = claims("delivery", "hookyard", 0, 300);
        assert!(verify(&vault, &forged(&vault, hs256, &good), at(1)).is_ok());
        for (header, claims, expected) in [
            (r#"{"alg":"none"}"#, good.clone(), ServiceTokenError::Malformed),
            (r#"{"alg":"RS256"}"#, good.clone(), ServiceTokenError::Malformed),
            ("{}", good.clone(), ServiceTokenError::Malformed),
            (hs256, claims("delivery", "somebody", 0, 300), ServiceTokenError::Malformed),
            (hs256, claims("Not A Service", "hookyard", 0, 300), ServiceTokenError::Malformed),
            (hs256, r#"{"iss":"delivery","aud":"hookyard"}"#.to_owned(), ServiceTokenError::Malformed),
            (hs256, claims("delivery", "hookyard", 0, 301), ServiceTokenError::Time),
            (hs256, claims("delivery", "hookyard", 300, 0), ServiceTokenError::Time),
            (hs256, claims("delivery", "hookyard", 100, 300), ServiceTokenError::Time),
        ] {
            assert_eq!(
                verify(&vault, &forged(&vault, header, &claims), at(1)),
                Err(expected),
                "{header} {claims}"
            );
        }
        let token = forged(&vault, hs256, &good);
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let changed = forged(&vault, hs256, &claims("gateway", "hookyard", 0, 300));
        let (other, _) = changed.rsplit_once('.').unwrap();
        for bad in [format!("{other}.{signature}"), format!("{signed}."), format!("{signed}.AAAA")] {
            assert_eq!(verify(&vault, &bad, at(1)), Err(ServiceTokenError::Signature), "{bad}");
        }
        for bad in ["", ".", "..", "a.b.c", &"a".repeat(2_000)] {
            assert_eq!(verify(&vault, bad, at(1)), Err(ServiceTokenError::Malformed), "{bad}");
        }
    }

    #[test]
    fn services_have_plain_names() {
        for (name, good) in [("gateway", true), ("a-1", true), ("", false), ("A", false), ("a b", false)] {
            assert_eq!(name.parse::<ServiceName>().is_ok(), good, "{name}");
        }
        assert!(
            "a".repeat(50).parse::<ServiceName>().is_ok() && "a".repeat(51).parse::<ServiceName>().is_err()
        );
    }
}
