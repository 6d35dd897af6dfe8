//! Why a text is not JSON that we pass on, told so that the caller can mend it.
//!
//! It knows nothing of HTTP: which status and code leave is decided where the error leaves.

use std::fmt;

use super::text::JsonString;

/// The longest path that is told, in characters; of a longer one the middle is left out.
const PATH_CHARS: usize = 120;
/// The longest name within a path, in characters.
const NAME_CHARS: usize = 64;

/// What is wrong with a JSON text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JsonErrorKind {
    /// The bytes are not UTF-8 (RFC 8259 §8.1).
    NotUtf8,
    /// The text starts with a byte order mark (RFC 8259 §8.1 forbids to send one).
    ByteOrderMark,
    /// The text ends inside a value, or has none.
    UnexpectedEnd,
    /// A character that cannot stand there.
    UnexpectedCharacter,
    /// Something follows the value.
    TrailingCharacters,
    /// A number that JSON does not know, such as `01`, `.5` or `1.`.
    InvalidNumber,
    /// An escape that JSON does not know, such as `\x`.
    InvalidEscape,
    /// A character below U+0020 stands in a string without an escape.
    ControlCharacter,
    /// More arrays and objects within each other than [`MAX_DEPTH`](super::MAX_DEPTH).
    TooDeep,
    /// An integer beyond 2^53 - 1: JavaScript reads another integer.
    UnsafeInteger,
    /// A number beyond the largest double: JavaScript reads `Infinity` and writes `null`.
    NumberOverflow,
}

/// A JSON text that was refused.
///
/// `Display` is one sentence for the caller, under 250 characters whatever was posted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonError {
    kind: JsonErrorKind,
    offset: usize,
    path: String,
}

impl JsonError {
    pub(super) fn at_root(kind: JsonErrorKind, offset: usize) -> Self {
        Self { kind, offset, path: String::new() }
    }

    /// What is wrong.
    pub fn kind(&self) -> JsonErrorKind {
        self.kind
    }

    /// Where, in bytes from the start of the text.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Which value, such as `payload.lines[3].id`; empty for the whole. At most 120 characters: the middle of a longer
    /// path is left out.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What is wrong as words, without the place.
    pub fn reason(&self) -> &'static str {
        match self.kind {
            JsonErrorKind::NotUtf8 => "the text is not UTF-8",
            JsonErrorKind::ByteOrderMark => "the text starts with a byte order mark",
            JsonErrorKind::UnexpectedEnd => "the text ends too early",
            JsonErrorKind::UnexpectedCharacter => "unexpected character",
            JsonErrorKind::TrailingCharacters => "more text follows the value",
            JsonErrorKind::InvalidNumber => "a number is not written as JSON writes numbers",
            JsonErrorKind::InvalidEscape => "a string has an escape that JSON does not know",
            JsonErrorKind::ControlCharacter => "a string has a control character that is not escaped",
            JsonErrorKind::TooDeep => "is nested too deep; at most 128 levels are accepted",
            JsonErrorKind::UnsafeInteger => {
                "is an integer beyond 2^53-1, which JavaScript receivers would change; send it as a string"
            }
            JsonErrorKind::NumberOverflow => {
                "is a number beyond the largest double, which JavaScript receivers would lose; send it as a string"
            }
        }
    }
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            JsonErrorKind::TooDeep | JsonErrorKind::UnsafeInteger | JsonErrorKind::NumberOverflow => {
                if self.path.is_empty() {
                    f.write_str("the value")?;
                } else {
                    write!(f, "`{}`", self.path)?;
                }
                write!(f, " {}", self.reason())
            }
            JsonErrorKind::NotUtf8
            | JsonErrorKind::ByteOrderMark
            | JsonErrorKind::UnexpectedEnd
            | JsonErrorKind::UnexpectedCharacter
            | JsonErrorKind::TrailingCharacters
            | JsonErrorKind::InvalidNumber
            | JsonErrorKind::InvalidEscape
            | JsonErrorKind::ControlCharacter => {
                write!(f, "invalid JSON at byte {}", self.offset)?;
                if !self.path.is_empty() {
                    write!(f, " in `{}`", self.path)?;
                }
                write!(f, ": {}", self.reason())
            }
        }
    }
}

impl std::error::Error for JsonError {}

/// An error on its way out of the nested values; every level adds its segment, so that parsing pays nothing for
/// paths. Boxed, because the parser returns it from its hottest functions.
#[derive(Debug)]
pub(super) struct Failure {
    kind: JsonErrorKind,
    offset: usize,
    /// Innermost first.
    segments: Vec<String>,
}

impl Failure {
    pub(super) fn new(kind: JsonErrorKind, offset: usize) -> Box<Self> {
        Box::new(Self { kind, offset, segments: Vec::new() })
    }

    /// It happened in the element of this index.
    pub(super) fn in_element(mut self: Box<Self>, index: usize) -> Box<Self> {
        self.segments.push(format!("[{index}]"));
        self
    }

    /// It happened in the member of this name.
    pub(super) fn in_member(mut self: Box<Self>, name: &JsonString) -> Box<Self> {
        let text = name.to_str_lossy();
        let mut shown: String = text.chars().take(NAME_CHARS).collect();
        if shown.len() < text.len() {
            shown.push('\u{2026}');
        }
        let plain = |first| char::is_alphanumeric(first) || matches!(first, '_' | '-' | '$' | '\u{2026}');
        // Debug escapes what cannot be printed or turns the text around.
        let quoted = shown.is_empty() || !shown.chars().all(plain);
        self.segments.push(if quoted { format!("[{shown:?}]") } else { format!(".{shown}") });
        self
    }
}

impl From<Box<Failure>> for JsonError {
    fn from(failure: Box<Failure>) -> Self {
        let full: String = failure.segments.iter().rev().map(String::as_str).collect();
        let full = full.strip_prefix('.').unwrap_or(&full);
        let count = full.chars().count();
        let path = if count <= PATH_CHARS {
            full.to_owned()
        } else {
            let head = PATH_CHARS / 2;
            let tail = PATH_CHARS - head - 1;
            full.chars().take(head).chain(['\u{2026}']).chain(full.chars().skip(count - tail)).collect()
        };
        Self { kind: failure.kind, offset: failure.offset, path }
    }
}
