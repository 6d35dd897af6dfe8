//! Which event types a subscription wants: a type, or words with wildcards.

use std::{fmt, str::FromStr};

use diesel::{
    deserialize::{self, FromSql, FromSqlRow},
    expression::AsExpression,
    pg::{Pg, PgValue},
    sql_types::Text,
};
use serde::{Deserialize, Serialize};

use crate::event::{EventType, EventTypeError, check};

/// A type, or a pattern in which `*` stands for exactly one word. A lone `*` stands for every type.
#[derive(Clone, Debug, PartialEq, Eq, Hash, AsExpression, FromSqlRow, Serialize, Deserialize)]
#[diesel(sql_type = Text)]
#[serde(try_from = "String", into = "String")]
pub struct EventPattern(Kind);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Everything,
    Exact(EventType),
    Words(String),
}

/// Why a text is no pattern.
pub type PatternError = EventTypeError;

impl EventPattern {
    /// Whether events of this type are wanted.
    #[must_use]
    pub fn matches(&self, event_type: &EventType) -> bool {
        match &self.0 {
            Kind::Everything => true,
            Kind::Exact(wanted) => wanted == event_type,
            Kind::Words(words) => {
                let (mut wanted, mut given) = (words.split('.'), event_type.segments());
                loop {
                    match (wanted.next(), given.next()) {
                        (None, None) => return true,
                        (Some(wanted), Some(given)) if wanted == "*" || wanted == given => {}
                        (Some(_) | None, _) => return false,
                    }
                }
            }
        }
    }

    /// The one type that is wanted, if it is only one.
    #[must_use]
    pub fn is_exact(&self) -> Option<&EventType> {
        match &self.0 {
            Kind::Exact(event_type) => Some(event_type),
            Kind::Everything | Kind::Words(_) => None,
        }
    }

    /// The same as a regular expression of Postgres.
    #[must_use]
    pub fn expression(&self) -> String {
        if matches!(self.0, Kind::Everything) {
            return String::new();
        }
        // Words have no characters that mean anything else.
        format!("^{}$", self.as_str().replace('.', "\\.").replace('*', "[^.]+"))
    }

    /// The pattern as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Kind::Everything => "*",
            Kind::Exact(event_type) => event_type.as_str(),
            Kind::Words(words) => words,
        }
    }
}

impl FromStr for EventPattern {
    type Err = PatternError;
    fn from_str(text: &str) -> Result<Self, PatternError> {
        check(text, |segment| segment == "*")?;
        Ok(Self(if text == "*" {
            Kind::Everything
        } else if text.contains('*') {
            Kind::Words(text.to_owned())
        } else {
            Kind::Exact(text.parse()?)
        }))
    }
}

impl TryFrom<String> for EventPattern {
    type Error = PatternError;
    fn try_from(text: String) -> Result<Self, PatternError> {
        text.parse()
    }
}

impl From<EventPattern> for String {
    fn from(pattern: EventPattern) -> Self {
        pattern.as_str().to_owned()
    }
}

impl fmt::Display for EventPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromSql<Text, Pg> for EventPattern {
    fn from_sql(bytes: PgValue<'_>) -> deserialize::Result<Self> {
        let text: String = FromSql::<Text, Pg>::from_sql(bytes)?;
        text.parse().map_err(Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_a_regular_expression() {
        for (pattern, expression) in
            [("*", ""), ("a.b", r"^a\.b$"), ("a.*", r"^a\.[^.]+$"), ("*.b-c", r"^[^.]+\.b-c$")]
        {
            assert_eq!(pattern.parse::<EventPattern>().unwrap().expression(), expression);
        }
    }

    #[test]
    fn a_star_is_one_word_and_a_lone_star_is_everything() {
        let table = [
            ("*", "a", true),
            ("*", "a.b.c", true),
            ("a.b", "a.b", true),
            ("a.b", "a.c", false),
            ("*.write.successful", "bills.write.successful", true),
            ("*.write.successful", "write.successful", false),
            ("*.write.successful", "a.bills.write.successful", false),
            ("a.*", "a.b", true),
            ("a.*", "a", false),
            ("a.*", "a.b.c", false),
            ("*.*", "a.b", true),
            ("*.*", "a", false),
        ];
        for (pattern, event_type, expected) in table {
            let parsed: EventPattern = pattern.parse().unwrap();
            assert_eq!(parsed.to_string(), pattern);
            assert_eq!(parsed.matches(&event_type.parse().unwrap()), expected, "{pattern} {event_type}");
        }
        for bad in ["", "a*", "**", "a..*", "*.", "a b.*"] {
            assert!(bad.parse::<EventPattern>().is_err(), "{bad}");
        }
        assert!("a.b".parse::<EventPattern>().unwrap().is_exact().is_some());
        assert!("a.*".parse::<EventPattern>().unwrap().is_exact().is_none());
    }
}
