//! Proof Key for Code Exchange (RFC 7636): whoever exchanges a code is who asked for it. S256 only; `plain` proves nothing to
//! whoever saw the request.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::digest::{SHA256, digest};
use subtle::ConstantTimeEq as _;

/// The challenge of an authorization request: base64url(SHA-256(verifier)), 43 characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge(String);

impl Challenge {
    /// Reads `code_challenge` and `code_challenge_method`. Without both there is none, which only clients with a secret may do.
    ///
    /// # Errors
    /// Says what is wrong with them. A challenge without a method would be `plain`: refused, as a request that was changed on
    /// its way would look so.
    pub fn read(
        challenge: Option<&str>,
        method: Option<&str>,
        is_required: bool,
    ) -> Result<Option<Self>, &'static str> {
        match (challenge, method) {
            (None, None) if is_required => {
                Err("code_challenge is missing: a client without a secret needs PKCE (RFC 7636)")
            }
            (None, None) => Ok(None),
            (None, Some(_)) => Err("code_challenge is missing, though there is a code_challenge_method"),
            (Some(_), None) => Err("code_challenge_method is missing; it must be S256"),
            (Some(challenge), Some("S256")) => {
                let is_digest = challenge.len() == 43
                    && URL_SAFE_NO_PAD.decode(challenge).is_ok_and(|bytes| bytes.len() == 32);
                if is_digest {
                    Ok(Some(Self(challenge.to_owned())))
                } else {
                    Err("code_challenge must be the SHA-256 of the verifier as 43 characters of base64url")
                }
            }
            (Some(_), Some(_)) => Err("code_challenge_method must be S256"),
        }
    }

    /// The text, for the database.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Checks the `code_verifier` of a token request against the challenge of its authorization request.
///
/// # Errors
/// Says what is wrong. A verifier without a challenge is refused, too: somebody took the challenge away
/// (RFC 9700 §4.8.2).
pub fn verify(challenge: Option<&str>, verifier: Option<&str>) -> Result<(), &'static str> {
    match (challenge, verifier) {
        (None, None) => Ok(()),
        (None, Some(_)) => {
            Err("code_verifier is given, though the code was asked for without code_challenge")
        }
        (Some(_), None) => Err("code_verifier is missing"),
        (Some(challenge), Some(verifier)) => {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
            if !(43..=128).contains(&verifier.len()) || !verifier.bytes().all(plain) {
                return Err("code_verifier must have 43 to 128 characters of A-Z a-z 0-9 - . _ ~");
            }
            let made = URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes()));
            let same: bool = made.as_bytes().ct_eq(challenge.as_bytes()).into();
            if same { Ok(()) } else { Err("code_verifier is not the one that the code was asked for with") }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 7636, appendix B.
    const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

    #[test]
    fn only_s256_is_taken_and_nothing_can_be_left_out_on_the_way() {
        let plus = CHALLENGE.replace('-', "+");
        for (challenge, method, required, expected) in [
            (Some(CHALLENGE), Some("S256"), true, Ok(true)),
            (Some(CHALLENGE), Some("S256"), false, Ok(true)),
            (None, None, false, Ok(false)),
            (None, None, true, Err(())),
            (None, Some("S256"), false, Err(())),
            (Some(CHALLENGE), None, false, Err(())),
            (Some(VERIFIER), Some("plain"), false, Err(())),
            (Some(CHALLENGE), Some("s256"), false, Err(())),
            (Some(&CHALLENGE[1..]), Some("S256"), false, Err(())),
            (Some(plus.as_str()), Some("S256"), false, Err(())),
            (Some(""), Some("S256"), false, Err(())),
        ] {
            let read = Challenge::read(challenge, method, required);
            assert_eq!(
                read.map(|there| there.is_some()).map_err(|_| ()),
                expected,
                "{challenge:?} {method:?}"
            );
        }
    }

    #[test]
    fn the_verifier_has_to_be_the_one() {
        let long = "a".repeat(128);
        let challenge_of = |verifier: &str| URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes()));
        assert_eq!(challenge_of(VERIFIER), CHALLENGE);
        for (challenge, verifier, good) in [
            (Some(CHALLENGE.to_owned()), Some(VERIFIER), true),
            (Some(challenge_of(&long)), Some(long.as_str()), true),
            (Some(challenge_of(&format!("{long}a"))), Some(&*format!("{long}a")), false),
            (Some(challenge_of(&VERIFIER[1..])), Some(&VERIFIER[1..]), false),
            (Some(CHALLENGE.to_owned()), Some(CHALLENGE), false),
            (Some(CHALLENGE.to_owned()), None, false),
            (None, Some(VERIFIER), false),
            (None, None, true),
        ] {
            assert_eq!(verify(challenge.as_deref(), verifier).is_ok(), good, "{challenge:?} {verifier:?}");
        }
    }
}
