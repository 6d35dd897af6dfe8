//! Reads typed values out of the merged tree. The deserializer of `config` is not used for this: it neither splits
//! lists from the environment nor keeps values out of its messages, and it loses the source of most errors.

use std::fmt;
use std::path::Path;

use config::{Map, Value, ValueKind};
use serde::de::value::StringDeserializer;
use serde::de::{self, DeserializeSeed, Deserializer, Expected, IntoDeserializer, Unexpected, Visitor};
use serde::forward_to_deserialize_any;

use super::SettingsError;
use super::secret::{SECRET, SECRET_URL, expectation};

/// Why a value was refused; the path and the source are filled in on the way up.
#[derive(Debug)]
pub(super) struct Refusal {
    /// From the leaf to the root.
    path: Vec<String>,
    origin: Option<String>,
    reason: Reason,
}

#[derive(Debug)]
enum Reason {
    UnknownKey { key: String, accepted: &'static [&'static str] },
    MissingKey { key: &'static str },
    Invalid(String),
}

impl Refusal {
    fn invalid(reason: impl Into<String>) -> Self {
        Self { path: Vec::new(), origin: None, reason: Reason::Invalid(reason.into()) }
    }

    fn beneath(mut self, key: impl Into<String>) -> Self {
        self.path.push(key.into());
        self
    }

    fn or_from(mut self, origin: Option<String>) -> Self {
        self.origin = self.origin.or(origin);
        self
    }

    /// `file` is where everything comes from that no environment variable has set.
    pub(super) fn into_error(self, file: Option<&Path>) -> SettingsError {
        let origin = match (self.origin, file) {
            (Some(variable), _) => format!("the environment variable `{variable}`"),
            (None, Some(file)) => format!("the file `{}`", file.display()),
            (None, None) => "the defaults".to_owned(),
        };
        let path = |last: Option<String>| {
            let keys: Vec<String> = self.path.iter().rev().cloned().chain(last).collect();
            keys.join(".")
        };
        match self.reason {
            Reason::UnknownKey { key, accepted } => SettingsError::UnknownKey {
                key: path(Some(key)),
                origin,
                accepted: accepted.iter().map(|&key| key.to_owned()).collect(),
            },
            Reason::MissingKey { key } => SettingsError::MissingKey { key: path(Some(key.to_owned())) },
            Reason::Invalid(reason) => SettingsError::InvalidValue { key: path(None), origin, reason },
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            Reason::UnknownKey { key, .. } => write!(f, "unknown key `{key}`"),
            Reason::MissingKey { key } => write!(f, "missing key `{key}`"),
            Reason::Invalid(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for Refusal {}

impl de::Error for Refusal {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::invalid(message.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid(format!("expected {expected}, found {}", kind_of(found)))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn unknown_variant(_found: &str, expected: &'static [&'static str]) -> Self {
        let names: Vec<String> = expected.iter().map(|name| format!("`{name}`")).collect();
        Self::invalid(format!("expected one of {}", names.join(", ")))
    }

    fn unknown_field(key: &str, accepted: &'static [&'static str]) -> Self {
        let reason = Reason::UnknownKey { key: key.to_owned(), accepted };
        Self { path: Vec::new(), origin: None, reason }
    }

    fn missing_field(key: &'static str) -> Self {
        Self { path: Vec::new(), origin: None, reason: Reason::MissingKey { key } }
    }
}

/// The kind of what was found, and never a text: it may be a password in the wrong place.
fn kind_of(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(value) => format!("the boolean {value}"),
        Unexpected::Signed(value) => format!("the number {value}"),
        Unexpected::Unsigned(value) => format!("the number {value}"),
        Unexpected::Float(value) => format!("the number {value}"),
        Unexpected::Char(_) | Unexpected::Str(_) => "another text".to_owned(),
        Unexpected::Bytes(_) => "bytes".to_owned(),
        Unexpected::Unit | Unexpected::Option => "nothing".to_owned(),
        Unexpected::NewtypeStruct | Unexpected::Map => "a table".to_owned(),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Enum
        | Unexpected::UnitVariant
        | Unexpected::NewtypeVariant
        | Unexpected::TupleVariant
        | Unexpected::StructVariant => "a variant".to_owned(),
        Unexpected::Other(kind) => kind.to_owned(),
    }
}

/// A value of the tree, ready to become what a field wants it to be.
pub(super) struct Node(Value);

impl Node {
    pub(super) fn root(tree: Map<String, Value>) -> Self {
        Self(Value::new(None, tree))
    }

    /// The text of a value that came from the environment, where everything is a text.
    fn variable(&self) -> Option<&str> {
        match (&self.0.kind, self.0.origin()) {
            (ValueKind::String(text), Some(_variable)) => Some(text.trim()),
            _ => None,
        }
    }

    fn origin(&self) -> Option<String> {
        self.0.origin().map(str::to_owned)
    }

    fn integer<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        let Some(text) = self.variable() else { return self.deserialize_any(visitor) };
        match (text.parse::<i64>(), text.parse::<u64>()) {
            (Ok(number), _) => visitor.visit_i64(number),
            (Err(_), Ok(number)) => visitor.visit_u64(number),
            (Err(_), Err(_)) => Err(de::Error::invalid_type(Unexpected::Str(""), &visitor)),
        }
        .map_err(|refusal: Refusal| refusal.or_from(self.origin()))
    }

    fn wide_integer<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        let origin = self.origin();
        let number = match (self.variable().map(str::parse::<i128>), &self.0.kind) {
            (Some(Ok(number)), _) => number,
            (None, ValueKind::I64(number)) => i128::from(*number),
            (None, ValueKind::U64(number)) => i128::from(*number),
            (Some(Err(_)), _) => return Err(Refusal::invalid("expected a whole number").or_from(origin)),
            (None, _) => return self.deserialize_any(visitor),
        };
        visitor.visit_i128(number).map_err(|refusal: Refusal| refusal.or_from(origin))
    }

    fn float<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        let Some(text) = self.variable() else { return self.deserialize_any(visitor) };
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => visitor.visit_f64(number),
            Ok(_) | Err(_) => Err(Refusal::invalid("expected a number, found another text")),
        }
        .map_err(|refusal: Refusal| refusal.or_from(self.origin()))
    }
}

impl<'de> IntoDeserializer<'de, Refusal> for Node {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

macro_rules! numbers {
    ($how:ident: $($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
            self.$how(visitor)
        })*
    };
}

impl<'de> Deserializer<'de> for Node {
    type Error = Refusal;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        let origin = self.origin();
        match self.0.kind {
            ValueKind::Nil => visitor.visit_unit(),
            ValueKind::Boolean(value) => visitor.visit_bool(value),
            ValueKind::I64(value) => visitor.visit_i64(value),
            ValueKind::I128(value) => visitor.visit_i128(value),
            ValueKind::U64(value) => visitor.visit_u64(value),
            ValueKind::U128(value) => visitor.visit_u128(value),
            ValueKind::Float(value) => visitor.visit_f64(value),
            ValueKind::String(value) => visitor.visit_string(value),
            ValueKind::Array(values) => visitor.visit_seq(Items { values: values.into_iter(), index: 0 }),
            ValueKind::Table(table) => {
                // Sorted, so that of several mistakes it is always the same one that is reported.
                let mut entries: Vec<(String, Value)> = table.into_iter().collect();
                entries.sort_by(|left, right| right.0.cmp(&left.0));
                visitor.visit_map(Entries { entries, value: None })
            }
        }
        .map_err(|refusal: Refusal| refusal.or_from(origin))
    }

    numbers! { integer: deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
    deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 }
    numbers! { wide_integer: deserialize_i128 deserialize_u128 }
    numbers! { float: deserialize_f32 deserialize_f64 }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        let Some(text) = self.variable() else { return self.deserialize_any(visitor) };
        match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => visitor.visit_bool(true),
            "false" | "0" | "no" | "off" => visitor.visit_bool(false),
            _ => Err(Refusal::invalid("expected `true` or `false`, found another text")),
        }
        .map_err(|refusal: Refusal| refusal.or_from(self.origin()))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        match &self.0.kind {
            ValueKind::Nil => visitor.visit_none(),
            ValueKind::String(text) if text.is_empty() => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        let Some(text) = self.variable() else { return self.deserialize_any(visitor) };
        let origin = self.origin();
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let values: Vec<Value> = parts.map(|part| Value::new(origin.as_ref(), part)).collect();
        visitor
            .visit_seq(Items { values: values.into_iter(), index: 0 })
            .map_err(|refusal: Refusal| refusal.or_from(origin))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, Refusal> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        match &self.0.kind {
            ValueKind::Table(_) => self.deserialize_any(visitor),
            _ => {
                Err(Refusal::invalid("expected a section with keys, found a single value")
                    .or_from(self.origin()))
            }
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _keys: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        self.deserialize_map(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        let origin = self.origin();
        let outcome = visitor.visit_newtype_struct(self);
        if name != SECRET && name != SECRET_URL {
            return outcome;
        }
        // Whatever the reason says, it may say too much.
        outcome.map_err(|_told| Refusal::invalid(expectation(name)).or_from(origin))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        let origin = self.origin();
        let outcome = match self.0.kind {
            ValueKind::String(text) => {
                let variant: StringDeserializer<Refusal> = text.trim().to_owned().into_deserializer();
                visitor.visit_enum(variant)
            }
            ValueKind::Table(table) => {
                let entries = table.into_iter().map(|(key, value)| (key, Node(value)));
                visitor.visit_enum(de::value::MapAccessDeserializer::new(de::value::MapDeserializer::new(
                    entries,
                )))
            }
            _ => Err(Refusal::invalid("expected a name")),
        };
        outcome.map_err(|refusal: Refusal| refusal.or_from(origin))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        char str string bytes byte_buf unit unit_struct tuple_struct identifier
    }
}

struct Items {
    values: std::vec::IntoIter<Value>,
    index: usize,
}

impl<'de> de::SeqAccess<'de> for Items {
    type Error = Refusal;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Refusal> {
        let Some(value) = self.values.next() else { return Ok(None) };
        let index = self.index;
        self.index += 1;
        seed.deserialize(Node(value)).map(Some).map_err(|refusal| refusal.beneath(index.to_string()))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.values.len())
    }
}

struct Entries {
    /// The next one is the last.
    entries: Vec<(String, Value)>,
    value: Option<(String, Value)>,
}

impl<'de> de::MapAccess<'de> for Entries {
    type Error = Refusal;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Refusal> {
        let Some((key, value)) = self.entries.pop() else { return Ok(None) };
        let name: StringDeserializer<Refusal> = key.clone().into_deserializer();
        let found =
            seed.deserialize(name).map_err(|refusal: Refusal| refusal.or_from(first_origin(&value)))?;
        self.value = Some((key, value));
        Ok(Some(found))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Refusal> {
        let Some((key, value)) = self.value.take() else {
            return Err(Refusal::invalid("a value without a key"));
        };
        // Covers the checks that a type makes after it was given its text.
        let origin = value.origin().map(str::to_owned);
        seed.deserialize(Node(value)).map_err(|refusal: Refusal| refusal.or_from(origin).beneath(key))
    }
}

/// The variable that set an unknown key, or something beneath it.
fn first_origin(value: &Value) -> Option<String> {
    match &value.kind {
        ValueKind::Table(table) => table.values().filter_map(first_origin).min(),
        _ => value.origin().map(str::to_owned),
    }
}
