//! The type of an event: words separated by dots, such as `order.created`.

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

use diesel::{
    deserialize::{self, FromSql, FromSqlRow},
    expression::AsExpression,
    pg::{Pg, PgValue},
    sql_types::Text,
};
use serde::{Deserialize, Serialize};

/// Invariant: 1 to [`EventType::MAX_LEN`] bytes; segments of `A-Z a-z 0-9 _ -`, none empty, separated by dots.
#[derive(
    Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, AsExpression, FromSqlRow, Serialize, Deserialize,
)]
#[diesel(sql_type = Text)]
#[serde(try_from = "String", into = "String")]
pub struct EventType(Arc<str>);

/// Why a text is no event type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventTypeError {
    /// Nothing is there.
    #[error("must not be empty")]
    Empty,
    /// More than [`EventType::MAX_LEN`] bytes.
    #[error("must have at most {max} characters", max = EventType::MAX_LEN)]
    TooLong,
    /// A dot at an end, or two in a row.
    #[error("must not have an empty word before, between or after its dots")]
    EmptySegment,
    /// A character that types do not have.
    #[error("may have letters A-Z, digits, `_` and `-` in words separated by dots, such as `order.created`")]
    Character,
}

impl EventType {
    /// The longest type, in bytes.
    pub const MAX_LEN: usize = 128;

    /// The type as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The words between the dots.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('.')
    }
}

/// Checks the segments of a type or a pattern; `wildcard` says which whole segments are allowed besides words.
pub(crate) fn check(text: &str, wildcard: impl Fn(&str) -> bool) -> Result<(), EventTypeError> {
    if text.is_empty() {
        return Err(EventTypeError::Empty);
    }
    if text.len() > EventType::MAX_LEN {
        return Err(EventTypeError::TooLong);
    }
    for segment in text.split('.') {
        if segment.is_empty() {
            return Err(EventTypeError::EmptySegment);
        }
        let word = segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
        if !word && !wildcard(segment) {
            return Err(EventTypeError::Character);
        }
    }
    Ok(())
}

impl FromStr for EventType {
    type Err = EventTypeError;
    fn from_str(text: &str) -> Result<Self, EventTypeError> {
        check(text, |_| false)?;
        Ok(Self(text.into()))
    }
}

impl TryFrom<String> for EventType {
    type Error = EventTypeError;
    fn try_from(text: String) -> Result<Self, EventTypeError> {
        text.parse()
    }
}

impl From<EventType> for String {
    fn from(event_type: EventType) -> Self {
        event_type.0.as_ref().to_owned()
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for EventType {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromSql<Text, Pg> for EventType {
    fn from_sql(bytes: PgValue<'_>) -> deserialize::Result<Self> {
        let text: String = FromSql::<Text, Pg>::from_sql(bytes)?;
        text.parse().map_err(Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_words_between_dots() {
        for good in [
            "a",
            "order.created",
            "NewCompanySynchronized",
            "read.completed.initial",
            "rateLimit.reached",
            "a-b_c.1",
        ] {
            assert_eq!(good.parse::<EventType>().map(String::from).as_deref(), Ok(good));
        }
        let longest = "a".repeat(EventType::MAX_LEN);
        assert!(longest.parse::<EventType>().is_ok());
        let table = [
            (String::new(), EventTypeError::Empty),
            (format!("{longest}a"), EventTypeError::TooLong),
            (".a".to_owned(), EventTypeError::EmptySegment),
            ("a.".to_owned(), EventTypeError::EmptySegment),
            ("a..b".to_owned(), EventTypeError::EmptySegment),
            ("a b".to_owned(), EventTypeError::Character),
            ("*.b".to_owned(), EventTypeError::Character),
            ("é".to_owned(), EventTypeError::Character),
            ("a\0".to_owned(), EventTypeError::Character),
        ];
        for (bad, expected) in table {
            assert_eq!(bad.parse::<EventType>(), Err(expected), "{bad}");
        }
    }
}
