//! Master keys: how they are written down, and how they are named without being told.

use std::fmt;

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose},
};
use rand::CryptoRng;
use ring::digest::{Context, SHA256};

/// Base64 as people and tools write it: padded or not.
const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// What is hashed before a key to make its id: an id tells nothing about anything else that is made from the key.
const LABEL: &[u8] = b"hookyard master key id:";

/// Why a text is no master key. Never tells the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Neither base64 nor hexadecimal.
    #[error("a master key is 32 bytes, written as base64 or as 64 hexadecimal digits")]
    Encoding,
    /// Too few or too many bytes within the base64.
    #[error("a master key has 32 bytes within its base64, this one has {bytes}")]
    Length {
        /// How many there are.
        bytes: usize,
    },
}

/// 32 random bytes from which all other keys are derived.
#[derive(Clone)]
pub struct MasterKey([u8; Self::BYTES]);

impl MasterKey {
    /// How long a master key is.
    pub const BYTES: usize = 32;

    /// The key of these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// A new key.
    pub fn generate(rng: &mut (impl CryptoRng + ?Sized)) -> Self {
        let mut bytes = [0; Self::BYTES];
        rng.fill_bytes(&mut bytes);
        Self(bytes)
    }

    /// Reads a key from base64 (the standard or the URL-safe alphabet, padded or not) or from 64 hexadecimal digits.
    /// White space around it, such as the end of a line in a file, does not count.
    ///
    /// # Errors
    /// [`KeyError`] when it is neither, or not of 32 bytes.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        if let Some(bytes) = from_hex(text) {
            return Ok(Self(bytes));
        }
        let bytes =
            STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text)).map_err(|_| KeyError::Encoding)?;
        let bytes = bytes.try_into().map_err(|bytes: Vec<u8>| KeyError::Length { bytes: bytes.len() })?;
        Ok(Self(bytes))
    }

    /// The key as padded standard base64, to be kept where keys are kept. Never log it.
    #[must_use]
    pub fn expose(&self) -> String {
        general_purpose::STANDARD.encode(self.0)
    }

    /// The name of the key.
    #[must_use]
    pub fn id(&self) -> KeyId {
        let mut hash = Context::new(&SHA256);
        hash.update(LABEL);
        hash.update(&self.0);
        let mut id = [0; KeyId::BYTES];
        for (to, from) in id.iter_mut().zip(hash.finish().as_ref()) {
            *to = *from;
        }
        KeyId(id)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Tells which key it is, and nothing of it.
impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKey({})", self.id())
    }
}

/// The name of a master key: the first 8 bytes of a hash of it. May be shown.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId([u8; Self::BYTES]);

impl KeyId {
    /// How long an id is.
    pub const BYTES: usize = 8;

    /// The id of these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }
}

impl AsRef<[u8]> for KeyId {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// 16 hexadecimal digits.
impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn from_hex(text: &str) -> Option<[u8; MasterKey::BYTES]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * MasterKey::BYTES {
        return None;
    }
    let mut bytes = [0; MasterKey::BYTES];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        for digit in pair {
            let value = char::from(*digit).to_digit(16).and_then(|value| u8::try_from(value).ok())?;
            *byte = *byte << 4 | value;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng as _, rngs::StdRng};

    use super::*;

    #[test]
    fn a_key_is_read_in_every_spelling() {
        let key = MasterKey::from_bytes(std::array::from_fn(|at| 0xf8 + u8::try_from(at % 8).unwrap()));
        let hex = "f8f9fafbfcfdfeff".repeat(4);
        let standard = key.expose();
        let url_safe = standard.replace('+', "-").replace('/', "_");
        assert_ne!(standard, url_safe, "the alphabets differ for this key");
        for text in [
            standard.clone(),
            standard.trim_end_matches('=').to_owned(),
            url_safe.clone(),
            url_safe.trim_end_matches('=').to_owned(),
            hex.clone(),
            hex.to_uppercase(),
            format!("  {standard}\n"),
        ] {
            assert_eq!(MasterKey::parse(&text).unwrap().bytes(), key.bytes(), "{text}");
        }
    }

    #[test]
    fn a_key_has_32_bytes() {
        for bytes in [0, 1, 31, 33, 48, 64] {
            let text = general_purpose::STANDARD.encode(vec![1; bytes]);
            assert_eq!(MasterKey::parse(&text).unwrap_err(), KeyError::Length { bytes }, "{text}");
        }
        for text in ["not base64!", "ä", &"0g".repeat(32), &"ab".repeat(31), &format!("{}=", "A".repeat(42))]
        {
            assert!(MasterKey::parse(text).is_err(), "{text}");
        }
        assert_eq!(MasterKey::parse("a key, by mistake").unwrap_err(), KeyError::Encoding);
    }

    #[test]
    fn a_key_is_named_and_not_shown() {
        let key = MasterKey::from_bytes([7; 32]);
        assert_eq!(format!("{key:?}"), format!("MasterKey({})", key.id()));
        assert_ne!(key.id(), MasterKey::from_bytes([8; 32]).id());
        assert_eq!(key.id().to_string().len(), 16);
    }

    #[test]
    fn new_keys_differ() {
        let mut rng = StdRng::seed_from_u64(1);
        let (one, other) = (MasterKey::generate(&mut rng), MasterKey::generate(&mut rng));
        assert_ne!(one.id(), other.id());
        assert_eq!(MasterKey::parse(&one.expose()).unwrap().id(), one.id());
    }
}
