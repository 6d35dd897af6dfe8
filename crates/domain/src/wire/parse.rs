//! Reads JSON as ECMAScript's `JSON.parse` does, and refuses what JavaScript receivers could not hold.
//!
//! The grammar is RFC 8259 to the letter: no comments, no trailing commas, no byte order mark. The whole input is one
//! value. How big a text may be is decided by whoever took it in; time and memory here are linear in its length, but
//! for the ordering of members.

use super::{
    json::{Json, MAX_SAFE_INTEGER, Number},
    object::Object,
    parse_error::{Failure, JsonError, JsonErrorKind},
    text::{JsonString, plain_run},
};

/// How many arrays and objects may stand within each other in a text from outside.
pub const MAX_DEPTH: usize = 128;

/// How many arrays and objects may stand within each other in a text of ours. More than [`MAX_DEPTH`], because an
/// envelope or a batch is written around what was accepted.
pub const MAX_STORED_DEPTH: usize = MAX_DEPTH + 32;

/// Reads a text from outside.
///
/// Integers beyond [`MAX_SAFE_INTEGER`] written as integers are refused: JavaScript would change them silently, and
/// they are nearly always identifiers. Written with a fraction or an exponent they are measurements, and read as the
/// nearest double.
///
/// # Errors
/// [`JsonError`] tells the first fault, its place and, for numbers, what to send instead.
pub fn parse(bytes: &[u8]) -> Result<Json, JsonError> {
    Parser::read(bytes, Integers::SafeOnly, MAX_DEPTH)
}

/// Reads a text from outside as JavaScript does: integers beyond [`MAX_SAFE_INTEGER`] become the nearest double, which is
/// what a JavaScript receiver would have made of them.
///
/// # Errors
/// As [`parse()`], but for these integers.
pub fn parse_as_javascript(bytes: &[u8]) -> Result<Json, JsonError> {
    Parser::read(bytes, Integers::AsDoubles, MAX_DEPTH)
}

/// Reads a text that [`write_canonical`](super::write_canonical) wrote.
///
/// Unlike [`parse()`] it takes large integers (`1e20` is written as `100000000000000000000`, which is the same double),
/// and [`MAX_STORED_DEPTH`] levels.
///
/// # Errors
/// [`JsonError`], when the text is not one of ours after all.
pub fn parse_stored(bytes: &[u8]) -> Result<Json, JsonError> {
    Parser::read(bytes, Integers::AsDoubles, MAX_STORED_DEPTH)
}

/// What becomes of integers beyond [`MAX_SAFE_INTEGER`].
#[derive(Clone, Copy)]
enum Integers {
    SafeOnly,
    AsDoubles,
}

type Parsed<T> = Result<T, Box<Failure>>;

struct Parser<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    integers: Integers,
    /// How many more levels may be opened; bounds the recursion, hence the stack.
    levels: usize,
    /// Elements of the arrays that are still open. One stack for all of them, so that an array is allocated once and
    /// in its final size: a body of a million `[0],` must not cost the slack of a million growing vectors.
    elements: Vec<Json>,
    /// Members of the objects that are still open, likewise.
    members: Vec<(JsonString, Json)>,
}

impl<'a> Parser<'a> {
    fn read(bytes: &'a [u8], integers: Integers, levels: usize) -> Result<Json, JsonError> {
        let text = std::str::from_utf8(bytes)
            .map_err(|error| JsonError::at_root(JsonErrorKind::NotUtf8, error.valid_up_to()))?;
        if text.starts_with('\u{feff}') {
            return Err(JsonError::at_root(JsonErrorKind::ByteOrderMark, 0));
        }
        let mut parser =
            Self { text, bytes, at: 0, integers, levels, elements: Vec::new(), members: Vec::new() };
        let value = parser.value()?;
        parser.skip_space();
        if parser.at < bytes.len() {
            return Err(JsonError::at_root(JsonErrorKind::TrailingCharacters, parser.at));
        }
        Ok(value)
    }

    fn value(&mut self) -> Parsed<Json> {
        self.skip_space();
        match self.peek() {
            Some(b'"') => Ok(Json::String(self.string()?)),
            Some(b'{') => self.nested(Self::object),
            Some(b'[') => self.nested(Self::array),
            Some(b'-' | b'0'..=b'9') => Ok(Json::Number(self.number()?)),
            Some(b't') => self.word("true", Json::Bool(true)),
            Some(b'f') => self.word("false", Json::Bool(false)),
            Some(b'n') => self.word("null", Json::Null),
            Some(_) | None => Err(self.unexpected()),
        }
    }

    /// Reads an array or an object, which stands one level deeper.
    fn nested(&mut self, read: fn(&mut Self) -> Parsed<Json>) -> Parsed<Json> {
        self.levels = match self.levels.checked_sub(1) {
            Some(levels) => levels,
            None => return Err(Failure::new(JsonErrorKind::TooDeep, self.at)),
        };
        self.at += 1;
        let value = read(self)?;
        self.levels += 1;
        Ok(value)
    }

    fn array(&mut self) -> Parsed<Json> {
        self.skip_space();
        if self.eat(b']') {
            return Ok(Json::Array(Vec::new()));
        }
        let first = self.elements.len();
        loop {
            let index = self.elements.len() - first;
            let element = self.value().map_err(|failure| failure.in_element(index))?;
            self.elements.push(element);
            self.skip_space();
            if self.eat(b']') {
                return Ok(Json::Array(self.elements.drain(first..).collect()));
            }
            self.expect(b',')?;
        }
    }

    fn object(&mut self) -> Parsed<Json> {
        self.skip_space();
        if self.eat(b'}') {
            return Ok(Json::Object(Object::new()));
        }
        let first = self.members.len();
        loop {
            self.skip_space();
            if self.peek() != Some(b'"') {
                return Err(self.unexpected());
            }
            let name = self.string()?;
            self.skip_space();
            self.expect(b':')?;
            match self.value() {
                Ok(value) => self.members.push((name, value)),
                Err(failure) => return Err(failure.in_member(&name)),
            }
            self.skip_space();
            if self.eat(b'}') {
                return Ok(Json::Object(self.members.drain(first..).collect()));
            }
            self.expect(b',')?;
        }
    }

    fn string(&mut self) -> Parsed<JsonString> {
        self.at += 1;
        let from = self.at;
        self.at += plain_run(&self.bytes[from..]);
        if self.peek() == Some(b'"') {
            // Both ends stand at a quote, hence between characters.
            let string = JsonString::from(&self.text[from..self.at]);
            self.at += 1;
            return Ok(string);
        }
        let mut content = self.bytes[from..self.at].to_vec();
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(JsonString::from_wtf8(content));
                }
                Some(b'\\') => self.escape(&mut content)?,
                Some(_) => return Err(Failure::new(JsonErrorKind::ControlCharacter, self.at)),
                None => return Err(self.unexpected()),
            }
            let run = plain_run(&self.bytes[self.at..]);
            content.extend_from_slice(&self.bytes[self.at..self.at + run]);
            self.at += run;
        }
    }

    fn escape(&mut self, content: &mut Vec<u8>) -> Parsed<()> {
        let from = self.at;
        let character = match self.bytes.get(from + 1) {
            Some(b'"') => b'"',
            Some(b'\\') => b'\\',
            Some(b'/') => b'/',
            Some(b'b') => 0x08,
            Some(b'f') => 0x0c,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'u') => return self.code_units(content),
            Some(_) => return Err(Failure::new(JsonErrorKind::InvalidEscape, from)),
            None => return Err(Failure::new(JsonErrorKind::UnexpectedEnd, self.bytes.len())),
        };
        content.push(character);
        self.at += 2;
        Ok(())
    }

    /// Reads `\uXXXX`, and with it the `\uXXXX` behind it when they are the two halves of one character.
    fn code_units(&mut self, content: &mut Vec<u8>) -> Parsed<()> {
        let Some(unit) = self.code_unit(self.at) else {
            let complete = self.at + 6 <= self.bytes.len();
            return Err(if complete {
                Failure::new(JsonErrorKind::InvalidEscape, self.at)
            } else {
                Failure::new(JsonErrorKind::UnexpectedEnd, self.bytes.len())
            });
        };
        self.at += 6;
        let mut code = u32::from(unit);
        if let 0xd800..=0xdbff = unit
            && let Some(low @ 0xdc00..=0xdfff) = self.code_unit(self.at)
        {
            code = 0x10000 + ((u32::from(unit) - 0xd800) << 10) + (u32::from(low) - 0xdc00);
            self.at += 6;
        }
        match char::from_u32(code) {
            Some(character) => content.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
            // Half a pair. WTF-8 writes it in three bytes like its neighbours; each `as` keeps eight known bits.
            None => content.extend_from_slice(&[
                0xe0 | (unit >> 12) as u8,
                0x80 | (unit >> 6 & 0x3f) as u8,
                0x80 | (unit & 0x3f) as u8,
            ]),
        }
        Ok(())
    }

    fn code_unit(&self, at: usize) -> Option<u16> {
        let [b'\\', b'u', digits @ ..] = self.bytes.get(at..at + 6)? else { return None };
        digits.iter().try_fold(0, |unit, digit| {
            let value = char::from(*digit).to_digit(16)?;
            Some(unit << 4 | u16::try_from(value).ok()?)
        })
    }

    fn number(&mut self) -> Parsed<Number> {
        let from = self.at;
        self.eat(b'-');
        let whole = self.digits()?;
        if whole.len() > 1 && whole.starts_with('0') {
            return Err(Failure::new(JsonErrorKind::InvalidNumber, from));
        }
        let mut integer = true;
        if self.eat(b'.') {
            integer = false;
            self.digits()?;
        }
        if self.eat(b'e') || self.eat(b'E') {
            integer = false;
            if !self.eat(b'+') {
                self.eat(b'-');
            }
            self.digits()?;
        }
        let literal = &self.text[from..self.at];
        if integer {
            // `None` beyond u64, which is beyond our bound too.
            let safe = whole.parse::<u64>().is_ok_and(|magnitude| magnitude <= MAX_SAFE_INTEGER);
            match (safe, self.integers) {
                (true, _) | (false, Integers::AsDoubles) => (),
                (false, Integers::SafeOnly) => return Err(Failure::new(JsonErrorKind::UnsafeInteger, from)),
            }
        }
        // Rounds to the nearest double, ties to even, as ECMAScript does; every JSON number is a Rust float literal.
        let value = literal.parse::<f64>().map_err(|_| Failure::new(JsonErrorKind::InvalidNumber, from))?;
        Number::new(value).ok_or_else(|| Failure::new(JsonErrorKind::NumberOverflow, from))
    }

    /// One digit or more.
    fn digits(&mut self) -> Parsed<&'a str> {
        let from = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if from < self.at {
            Ok(&self.text[from..self.at])
        } else if from < self.bytes.len() {
            Err(Failure::new(JsonErrorKind::InvalidNumber, from))
        } else {
            Err(self.unexpected())
        }
    }

    fn word(&mut self, word: &str, value: Json) -> Parsed<Json> {
        for expected in word.bytes() {
            self.expect(expected)?;
        }
        Ok(value)
    }

    fn expect(&mut self, byte: u8) -> Parsed<()> {
        if self.eat(byte) { Ok(()) } else { Err(self.unexpected()) }
    }

    fn eat(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    /// The character here is not one that may stand here.
    fn unexpected(&self) -> Box<Failure> {
        let ended = self.at >= self.bytes.len();
        let kind = if ended { JsonErrorKind::UnexpectedEnd } else { JsonErrorKind::UnexpectedCharacter };
        Failure::new(kind, self.at)
    }
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
