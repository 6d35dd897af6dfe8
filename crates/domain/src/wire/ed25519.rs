//! The asymmetric signature of Standard Webhooks 1.0.0: ed25519, `v1a`. A receiver verifies with the public key and holds nothing
//! that could sign.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rand::CryptoRng;
use ring::signature::{Ed25519KeyPair, KeyPair};

/// A seed that makes no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the seed of an ed25519 key has {} bytes", SigningKey::SEED_BYTES)]
pub struct SeedError;

/// A key pair that signs deliveries of one endpoint.
pub struct SigningKey {
    seed: [u8; Self::SEED_BYTES],
    pair: Ed25519KeyPair,
}

impl SigningKey {
    /// The length of a seed (RFC 8032 §5.1.5), in bytes.
    pub const SEED_BYTES: usize = 32;

    /// Makes a new key pair.
    ///
    /// # Errors
    /// Never with the library of today; it does not promise so.
    pub fn generate(rng: &mut (impl CryptoRng + ?Sized)) -> Result<Self, SeedError> {
        let mut seed = [0; Self::SEED_BYTES];
        rng.fill_bytes(&mut seed);
        Self::from_seed(&seed)
    }

    /// The key pair of a stored seed.
    ///
    /// # Errors
    /// [`SeedError`] when it has not 32 bytes.
    pub fn from_seed(seed: &[u8]) -> Result<Self, SeedError> {
        let seed: [u8; Self::SEED_BYTES] = seed.try_into().map_err(|_| SeedError)?;
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| SeedError)?;
        Ok(Self { seed, pair })
    }

    /// The seed, to be sealed and stored.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.seed
    }

    /// The public key as Standard Webhooks writes it: `whpk_` and base64 of its 32 bytes.
    #[must_use]
    pub fn public_key(&self) -> String {
        format!("whpk_{}", STANDARD.encode(self.pair.public_key().as_ref()))
    }

    /// One signature, `v1a,` and base64, over `{message_id}.{unix_seconds}.{body}`: as
    /// [`SigningSecret::standard_webhooks`](super::SigningSecret::standard_webhooks).
    #[must_use]
    pub fn standard_webhooks(&self, message_id: &str, unix_seconds: i64, body: &[u8]) -> String {
        let mut message = format!("{message_id}.{unix_seconds}.").into_bytes();
        message.extend_from_slice(body);
        format!("v1a,{}", STANDARD.encode(self.pair.sign(&message).as_ref()))
    }
}

/// Tells the public key, and nothing else.
impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public_key())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    /// RFC 8032 §7.1, TEST 1 and TEST 3: the key pairs are theirs.
    #[test]
    fn the_key_pairs_of_rfc_8032_are_made_of_their_seeds() {
        for (seed, public) in [
            (
                "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
                "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            ),
            (
                "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
                "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            ),
        ] {
            let key = SigningKey::from_seed(&hex(seed)).unwrap();
            assert_eq!(key.public_key(), format!("whpk_{}", STANDARD.encode(hex(public))));
            assert_eq!(key.expose(), hex(seed));
        }
    }

    #[test]
    fn a_signature_verifies_with_the_public_key_over_exactly_what_was_signed() {
        let key = SigningKey::generate(&mut rand::rng()).unwrap();
        let text = key.standard_webhooks("msg_1", 7, b"{}");
        let signature = STANDARD.decode(text.strip_prefix("v1a,").unwrap()).unwrap();
        let public = STANDARD.decode(&key.public_key()[5..]).unwrap();
        let public = ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, public);
        assert!(public.verify(b"msg_1.7.{}", &signature).is_ok());
        assert!(public.verify(b"msg_1.8.{}", &signature).is_err());
    }

    #[test]
    fn a_seed_has_32_bytes_and_debug_does_not_tell_it() {
        for (bytes, good) in [(0, false), (31, false), (32, true), (33, false)] {
            assert_eq!(SigningKey::from_seed(&vec![7; bytes]).is_ok(), good, "{bytes}");
        }
        let key = SigningKey::from_seed(&[7; 32]).unwrap();
        assert_eq!(format!("{key:?}"), format!("SigningKey({})", key.public_key()));
    }
}
