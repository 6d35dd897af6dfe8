//! The vault: secrets are in the database only sealed, and this is who seals and opens them.
//!
//! AES-256-GCM under a key that is derived from the master key, which is itself never used for anything else. A sealed value
//! names the key and is bound to its [`Place`]: copied to another row or column it does not open. Which columns are sealed
//! is a table in [`columns`]; which keys a database has been sealed with, and going over from one to another, is in [`store`].
//! Where keys come from is decided by whoever starts the process. Memory is not wiped.
//!
//! ```text
//! magic (4) | key id (8) | nonce (12) | ciphertext | tag (16)
//! ```

pub mod columns;
mod key;
pub mod store;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc};

use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf,
};

pub use columns::{Column, Place};
pub use key::{KeyError, KeyId, MasterKey};

/// What a sealed value begins with. The first byte is in no UTF-8 text, so that nothing that was stored before there was
/// a vault is taken for sealed; the last is the version of the format.
const MAGIC: [u8; 4] = [0xff, b'H', b'Y', 1];

/// Bytes before the ciphertext.
const HEAD: usize = MAGIC.len() + KeyId::BYTES + NONCE_LEN;

/// What separates our subkeys from those of anybody else who is given the same master key.
const SALT: &[u8] = b"hookyard";

/// What the subkey for sealing is derived for. No purpose of [`Vault::derive`] reads like it.
const SEALING: &[u8] = b"seal:1";

/// What stands before the purposes of [`Vault::derive`].
const DERIVING: &[u8] = b"derive:1:";

/// Why a value cannot be opened. Never tells the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    /// It is not a sealed value at all: stored before there was a vault, or by somebody else.
    #[error("it is not sealed")]
    NotSealed,
    /// It is sealed with a key that this process was not given.
    #[error("it is sealed with the master key {0}, which this process does not have")]
    UnknownKey(KeyId),
    /// It was changed, or sealed for another place.
    #[error("it was changed or belongs to another place")]
    Damaged,
}

/// Seals and opens. Clones share the keys.
#[derive(Clone)]
pub struct Vault {
    keys: Arc<Keys>,
}

struct Keys {
    current: Held,
    previous: Vec<Held>,
}

/// A master key, as what is derived from it.
struct Held {
    id: KeyId,
    derived: hkdf::Prk,
    sealing: LessSafeKey,
}

impl Vault {
    /// Seals with `current`, and opens what was sealed with it or with a previous key. A key may be given twice.
    #[must_use]
    pub fn new(current: MasterKey, previous: Vec<MasterKey>) -> Self {
        let current = Held::new(&current);
        let mut others: Vec<Held> = Vec::with_capacity(previous.len());
        for key in previous {
            if key.id() != current.id && others.iter().all(|held| held.id != key.id()) {
                others.push(Held::new(&key));
            }
        }
        Self { keys: Arc::new(Keys { current, previous: others }) }
    }

    /// The key that is sealed with.
    #[must_use]
    pub fn current(&self) -> KeyId {
        self.keys.current.id
    }

    /// All keys: the current first, then the previous as they were given.
    pub fn ids(&self) -> impl Iterator<Item = KeyId> + '_ {
        self.held().map(|held| held.id)
    }

    /// The value, sealed for this place with the current key. Twice the same value is not twice the same text.
    #[must_use]
    pub fn seal(&self, place: &Place, plain: &[u8]) -> Vec<u8> {
        self.keys.current.seal(place, plain, rand::random())
    }

    /// What was sealed for this place, with any of the keys.
    ///
    /// # Errors
    /// [`VaultError`]: it is not sealed, or with a key that is not here, or it is not what was sealed for this place.
    pub fn open(&self, place: &Place, sealed: &[u8]) -> Result<Vec<u8>, VaultError> {
        let id = sealed_with(sealed).ok_or(VaultError::NotSealed)?;
        let held = self.held().find(|held| held.id == id).ok_or(VaultError::UnknownKey(id))?;
        held.open(place, sealed).ok_or(VaultError::Damaged)
    }

    /// A key for another purpose, such as signing tokens, derived from the current master key. Purposes are names of ours
    /// and never come from outside; each has a key of its own, the same in every process.
    #[must_use]
    pub fn derive(&self, purpose: &str) -> [u8; 32] {
        self.keys.current.derive(purpose)
    }

    /// The key of a purpose under every master key, the current first: what to verify with while keys are rotated.
    #[must_use]
    pub fn derive_all(&self, purpose: &str) -> Vec<[u8; 32]> {
        self.held().map(|held| held.derive(purpose)).collect()
    }

    fn held(&self) -> impl Iterator<Item = &Held> {
        std::iter::once(&self.keys.current).chain(&self.keys.previous)
    }
}

/// Tells which keys there are, and nothing of them.
impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Vault").field(&self.ids().collect::<Vec<_>>()).finish()
    }
}

/// The key that a value is sealed with; `None` when it is not a sealed value.
fn sealed_with(value: &[u8]) -> Option<KeyId> {
    let id = value.strip_prefix(&MAGIC)?.first_chunk()?;
    Some(KeyId::from_bytes(*id))
}

impl Held {
    #[expect(clippy::expect_used, reason = "HKDF refuses only lengths beyond 255 hashes")]
    fn new(key: &MasterKey) -> Self {
        let derived = hkdf::Salt::new(hkdf::HKDF_SHA256, SALT).extract(key.bytes());
        let sealing = UnboundKey::from(
            derived.expand(&[SEALING], &AES_256_GCM).expect("a key is shorter than 255 hashes"),
        );
        Self { id: key.id(), sealing: LessSafeKey::new(sealing), derived }
    }

    #[expect(clippy::expect_used, reason = "AES-GCM refuses only texts of 64 GiB and more")]
    fn seal(&self, place: &Place, plain: &[u8], nonce: [u8; NONCE_LEN]) -> Vec<u8> {
        let mut sealed = Vec::with_capacity(HEAD + plain.len() + AES_256_GCM.tag_len());
        sealed.extend_from_slice(&MAGIC);
        sealed.extend_from_slice(self.id.as_ref());
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plain);
        let (_, text) = sealed.split_at_mut(HEAD);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self.sealing.seal_in_place_separate_tag(nonce, Aad::from(place.bytes()), text);
        sealed.extend_from_slice(tag.expect("a secret is shorter than 64 GiB").as_ref());
        sealed
    }

    fn open(&self, place: &Place, sealed: &[u8]) -> Option<Vec<u8>> {
        let (head, text) = sealed.split_at_checked(HEAD)?;
        let nonce = Nonce::assume_unique_for_key(*head.last_chunk()?);
        let mut text = text.to_vec();
        let plain = self.sealing.open_in_place(nonce, Aad::from(place.bytes()), &mut text).ok()?.len();
        text.truncate(plain);
        Some(text)
    }

    #[expect(clippy::expect_used, reason = "HKDF refuses only lengths beyond 255 hashes")]
    fn derive(&self, purpose: &str) -> [u8; 32] {
        let mut key = [0; 32];
        let info = [DERIVING, purpose.as_bytes()];
        let derived = self.derived.expand(&info, hkdf::HKDF_SHA256).and_then(|okm| okm.fill(&mut key));
        derived.expect("a key is one hash long");
        key
    }
}
