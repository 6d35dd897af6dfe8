//! `JsonString`: a string as ECMAScript knows it, which may hold half a surrogate pair.
//!
//! It is not a general WTF-8 library: it is made by the parser or from a `str`, and read by the canonical writer.

use std::{
    borrow::Cow,
    hash::{Hash, Hasher},
};

/// The text of a JSON string or of a member's name.
///
/// JSON may spell `"\ud800"`: half a surrogate pair, which is no Unicode text but which ECMAScript keeps and writes
/// again. Such a string is held as [WTF-8](https://simonsapin.github.io/wtf-8/), every other one as a `String`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonString(Form);

/// Invariant: `Wtf8` holds at least one lone surrogate, hence equal texts have equal forms.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Form {
    Utf8(String),
    Wtf8(Vec<u8>),
}

impl JsonString {
    /// The text, or `None` when it holds a lone surrogate.
    pub fn as_str(&self) -> Option<&str> {
        match &self.0 {
            Form::Utf8(text) => Some(text),
            Form::Wtf8(_) => None,
        }
    }

    /// The text with every lone surrogate replaced by U+FFFD.
    pub fn to_str_lossy(&self) -> Cow<'_, str> {
        match &self.0 {
            Form::Utf8(text) => Cow::Borrowed(text),
            Form::Wtf8(bytes) => {
                let mut text = Vec::with_capacity(bytes.len());
                for piece in Pieces(bytes) {
                    match piece {
                        Piece::Text(run) => text.extend_from_slice(run),
                        Piece::Surrogate(_) => text.extend_from_slice("\u{fffd}".as_bytes()),
                    }
                }
                Cow::Owned(String::from_utf8_lossy(&text).into_owned())
            }
        }
    }

    /// The bytes: UTF-8, or WTF-8 when there is a lone surrogate.
    pub(super) fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Form::Utf8(text) => text.as_bytes(),
            Form::Wtf8(bytes) => bytes,
        }
    }

    /// Takes bytes in which only three-byte surrogates may offend against UTF-8, and no pair stands as two halves.
    pub(super) fn from_wtf8(bytes: Vec<u8>) -> Self {
        match String::from_utf8(bytes) {
            Ok(text) => Self(Form::Utf8(text)),
            Err(error) => Self(Form::Wtf8(error.into_bytes())),
        }
    }

    /// The text in pieces: runs of UTF-8 and lone surrogates.
    pub(super) fn pieces(&self) -> Pieces<'_> {
        Pieces(self.as_bytes())
    }
}

impl From<&str> for JsonString {
    fn from(text: &str) -> Self {
        Self(Form::Utf8(text.to_owned()))
    }
}

impl From<String> for JsonString {
    fn from(text: String) -> Self {
        Self(Form::Utf8(text))
    }
}

impl PartialEq<str> for JsonString {
    fn eq(&self, other: &str) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

/// By the bytes alone, so that a name can be looked up without making a `JsonString` of it (see `object::Name`).
impl Hash for JsonString {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

/// A part of a [`JsonString`].
#[derive(Debug, PartialEq)]
pub(super) enum Piece<'a> {
    /// UTF-8.
    Text(&'a [u8]),
    /// A code unit between 0xd800 and 0xdfff.
    Surrogate(u16),
}

/// Walks over WTF-8 bytes.
#[derive(Debug)]
pub(super) struct Pieces<'a>(&'a [u8]);

impl<'a> Iterator for Pieces<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        if let [0xed, second @ 0xa0..=0xbf, third, rest @ ..] = self.0 {
            self.0 = rest;
            return Some(Piece::Surrogate(0xd000 | u16::from(second & 0x3f) << 6 | u16::from(third & 0x3f)));
        }
        if self.0.is_empty() {
            return None;
        }
        // 0xed only ever leads a sequence, and of those it leads only surrogates go on with 0xa0 or more.
        let end =
            self.0.windows(2).position(|pair| matches!(pair, [0xed, 0xa0..=0xff])).unwrap_or(self.0.len());
        let (run, rest) = self.0.split_at(end);
        self.0 = rest;
        Some(Piece::Text(run))
    }
}

/// How many bytes from the start need no escape in a JSON string: everything but `"`, `\` and U+0000 to U+001F.
///
/// Reads eight bytes at a time; bodies are mostly such runs, and both directions spend their time here.
pub(super) fn plain_run(bytes: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = ONES * 0x80;
    // The high bit of each byte of `word` that is below `limit`. A byte may be marked wrongly only above one that is
    // marked rightly (the borrow), so the lowest mark is always true.
    let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word & HIGHS;
    let (chunks, rest) = bytes.as_chunks::<8>();
    for (index, chunk) in chunks.iter().enumerate() {
        let word = u64::from_le_bytes(*chunk);
        let quote = word ^ (ONES * u64::from(b'"'));
        let backslash = word ^ (ONES * u64::from(b'\\'));
        let marks = below(word, 0x20) | below(quote, 1) | below(backslash, 1);
        if marks != 0 {
            // `trailing_zeros` is below 64, hence fits.
            return index * 8 + marks.trailing_zeros() as usize / 8;
        }
    }
    let plain = rest.iter().position(|byte| matches!(byte, 0..0x20 | b'"' | b'\\')).unwrap_or(rest.len());
    chunks.len() * 8 + plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_ends_at_every_byte_that_needs_an_escape_wherever_it_stands() {
        for byte in 0..=u8::MAX {
            let special = byte < 0x20 || byte == b'"' || byte == b'\\';
            for at in 0..20 {
                for filler in [b'a', 0x7f, 0x80, 0xff, b' ', b'!', b'#', b'[', b']'] {
                    let mut bytes = [filler; 20];
                    bytes[at] = byte;
                    let expected = if special { at } else { 20 };
                    assert_eq!(plain_run(&bytes), expected, "byte {byte:#x} at {at} among {filler:#x}");
                }
            }
        }
        assert_eq!(plain_run(b""), 0);
        assert_eq!(plain_run(b"\"\0\""), 0);
    }

    #[test]
    fn a_lone_surrogate_is_kept_apart_and_shown_as_a_replacement() {
        let string = JsonString::from_wtf8(b"\xed\xa0\x80a\xed\x9f\xbf\xed\xbf\xbf".to_vec());
        assert_eq!(string.as_str(), None);
        assert_eq!(string.to_str_lossy(), "\u{fffd}a\u{d7ff}\u{fffd}");
        let pieces = [Piece::Surrogate(0xd800), Piece::Text(b"a\xed\x9f\xbf"), Piece::Surrogate(0xdfff)];
        assert_eq!(string.pieces().collect::<Vec<_>>(), pieces);
    }

    #[test]
    fn a_text_is_a_text() {
        let string = JsonString::from("caf\u{e9}");
        assert_eq!(string.as_str(), Some("caf\u{e9}"));
        assert_eq!(string.to_str_lossy(), "caf\u{e9}");
        assert!(string == *"caf\u{e9}");
        assert_eq!(string, JsonString::from_wtf8("caf\u{e9}".as_bytes().to_vec()));
        assert_eq!(JsonString::from("").pieces().count(), 0);
    }
}
