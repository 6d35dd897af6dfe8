//! Making a key. The one place where `rsa` is used: operations with the private half, whose time can be measured there
//! (RUSTSEC-2023-0071), are ring's.

use std::fmt;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::digest::{SHA256, digest};
use rsa::{RsaPrivateKey, pkcs8::EncodePrivateKey as _, rand_core::OsRng, traits::PublicKeyParts as _};

use super::Signer;
use crate::{Error, Result};

/// Bits of the modulus: what RS256 asks for at least (RFC 7518 §3.3).
const BITS: usize = 2048;

/// A key that nobody has seen yet.
pub struct Fresh {
    pub(super) kid: String,
    pub(super) private: Vec<u8>,
    pub(super) modulus: Vec<u8>,
    pub(super) exponent: Vec<u8>,
}

/// Tells which key it is, and nothing of it.
impl fmt::Debug for Fresh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fresh({})", self.kid)
    }
}

impl Fresh {
    /// Signs with it. `None` when ring does not take it.
    #[must_use]
    pub fn signer(&self) -> Option<Signer> {
        Signer::new(&self.kid, &self.private)
    }
}

/// Makes a key, with randomness of the operating system. Takes up to some seconds of computing: for a blocking thread.
///
/// # Errors
/// When there is no randomness.
pub fn generate() -> Result<Fresh> {
    let key = RsaPrivateKey::new(&mut OsRng, BITS).map_err(|error| Error::Database(Box::new(error)))?;
    let private = key.to_pkcs8_der().map_err(|error| Error::Database(Box::new(error)))?;
    let (modulus, exponent) = (key.n().to_bytes_be(), key.e().to_bytes_be());
    Ok(Fresh {
        kid: thumbprint(&modulus, &exponent),
        private: private.as_bytes().to_vec(),
        modulus,
        exponent,
    })
}

/// The thumbprint of a public key (RFC 7638 §3): the members in this order, nothing between them.
fn thumbprint(modulus: &[u8], exponent: &[u8]) -> String {
    let (n, e) = (BASE64_URL_SAFE_NO_PAD.encode(modulus), BASE64_URL_SAFE_NO_PAD.encode(exponent));
    let text = format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#);
    BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7638 §3.1.
    #[test]
    fn a_thumbprint_is_that_of_the_standard() {
        let modulus = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECP\
             ebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQM\
             icAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3\
             XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
        let bytes = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).unwrap();
        assert_eq!(
            thumbprint(&bytes(modulus), &bytes("AQAB")),
            "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
        );
    }
}
