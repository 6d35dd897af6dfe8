//! Secret tokens and their hashes.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::digest::{SHA256, digest};
use subtle::ConstantTimeEq;

/// A secret token. Shown once, when it is made; Debug prints none of it.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// A new API key: `ct_` and 32 random bytes as 43 characters of base64url (contract §1).
    #[must_use]
    pub fn api_key(entropy: [u8; 32]) -> Self {
        Self::with_prefix("ct_", entropy)
    }

    /// A new token of another kind: its prefix and 32 random bytes as 43 characters of base64url.
    #[must_use]
    pub fn with_prefix(prefix: &str, entropy: [u8; 32]) -> Self {
        Self(format!("{prefix}{}", URL_SAFE_NO_PAD.encode(entropy)))
    }

    /// The text, to be shown to its owner once.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The first 11 characters, by which a person recognises it in a list.
    #[must_use]
    pub fn prefix(&self) -> &str {
        self.0.get(..11).unwrap_or(&self.0)
    }

    /// What is kept of it.
    #[must_use]
    pub fn hash(&self) -> TokenHash {
        TokenHash::of(&self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(•••)")
    }
}

/// SHA-256 of a token. Tokens have 256 random bits, so a fast hash is enough.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// The hash of what a caller presents.
    #[must_use]
    pub fn of(token: &str) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        Self(bytes)
    }

    /// A hash as the database keeps it; `None` when it does not have 32 bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The bytes, for the database.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Compares in constant time.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(•••)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_api_key_has_the_contracts_form() {
        let token = Token::api_key([0xff; 32]);
        assert_eq!(token.expose().len(), 3 + 43);
        assert_eq!(token.prefix(), "ct_________");
        assert!(!format!("{token:?} {:?}", token.hash()).contains("ct_"));
        assert!(token.hash().matches(&TokenHash::of(token.expose())));
        assert!(!token.hash().matches(&TokenHash::of("ct_")));
    }
}
