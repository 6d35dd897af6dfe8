//! The catalogue: which event types there are, what they are also called, what they look like, and what is taken of them.
//!
//! The starting catalogue is part of the program; a tenant adds its own types and may replace ours.

pub mod example;
pub mod fields;
pub mod import;
mod load;
mod names;
pub mod openapi;
pub mod rules;
pub mod schema;
mod seed;
pub mod store;
mod violation;

use chrono::{DateTime, Utc};
use diesel::{
    deserialize::{self, FromSql, FromSqlRow},
    expression::AsExpression,
    pg::{Pg, PgValue},
    serialize::{self, IsNull, Output, ToSql},
    sql_types::SmallInt,
};
use serde_json::{Value, json};

pub use names::{NameError, check_names};
pub use seed::{SeedType, former_pattern, seed};

use crate::{
    audit::{Action, Entry, ObjectKind, ObjectRef},
    event::EventType,
    id::TenantId,
};

/// The most aliases of one type.
pub const MAX_ALIASES: usize = 10;

/// The longest description, in characters.
pub const MAX_DESCRIPTION_CHARS: usize = 500;

/// The longest name of a feature group, in characters.
pub const MAX_GROUP_CHARS: usize = 50;

/// The largest example, as canonical JSON, in bytes.
pub const MAX_EXAMPLE_BYTES: usize = 64 << 10;

/// The most types that a tenant may have.
pub const MAX_TYPES: i64 = 1_000;

/// The most bytes of schemas and examples of all of a tenant's types: they are read together, and those that are checked are in
/// memory.
pub const MAX_BYTES: i64 = 8 << 20;

/// What happens to a posted payload that breaks the schema of its type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, AsExpression, FromSqlRow)]
#[diesel(sql_type = SmallInt)]
#[repr(i16)]
pub enum Validation {
    /// Nothing: it is not looked at.
    #[default]
    Off = 0,
    /// It is taken, and whoever posts is told.
    Warn = 1,
    /// It is refused.
    Reject = 2,
}

impl Validation {
    /// Every one of them.
    pub const ALL: [Self; 3] = [Self::Off, Self::Warn, Self::Reject];

    /// The word for it on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Warn => "warn",
            Self::Reject => "reject",
        }
    }
}

/// A text that is no [`Validation`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be off, warn or reject")]
pub struct ValidationError;

impl std::str::FromStr for Validation {
    type Err = ValidationError;
    fn from_str(text: &str) -> Result<Self, ValidationError> {
        Self::ALL.into_iter().find(|word| word.as_str() == text).ok_or(ValidationError)
    }
}

impl FromSql<SmallInt, Pg> for Validation {
    fn from_sql(bytes: PgValue<'_>) -> deserialize::Result<Self> {
        let code = <i16 as FromSql<SmallInt, Pg>>::from_sql(bytes)?;
        Self::ALL
            .into_iter()
            .find(|word| *word as i16 == code)
            .ok_or_else(|| format!("no validation {code}").into())
    }
}

impl ToSql<SmallInt, Pg> for Validation {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        std::io::Write::write_all(out, &(*self as i16).to_be_bytes())?;
        Ok(IsNull::No)
    }
}

/// An entry of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogueEntry {
    /// The type.
    pub name: EventType,
    /// What has happened, for people.
    pub description: String,
    /// Canonical JSON of a JSON Schema (2020-12) for payloads, from [`schema::check`].
    pub schema: Option<Vec<u8>>,
    /// What happens to a posted payload that breaks the schema.
    pub validation: Validation,
    /// Canonical JSON of an example payload; it keeps the schema.
    pub example: Option<Vec<u8>>,
    /// Other names under which one can subscribe.
    pub aliases: Vec<EventType>,
    /// The part of the product that it belongs to.
    pub feature_group: Option<String>,
    /// Still sent, but subscribers should move on.
    pub deprecated: bool,
    /// No longer offered to subscribers, and not taken from publishers.
    pub archived: bool,
    /// Whether it is the tenant's own, not one of the starting catalogue.
    pub own: bool,
    /// When the tenant made it; `None` for the starting catalogue.
    pub created_at: Option<DateTime<Utc>>,
    /// When the tenant changed it last.
    pub updated_at: Option<DateTime<Utc>>,
}

impl CatalogueEntry {
    /// A type of a tenant's own of which nothing is known but its name.
    #[must_use]
    pub fn new(name: EventType) -> Self {
        Self {
            name,
            description: String::new(),
            schema: None,
            validation: Validation::Off,
            example: None,
            aliases: Vec::new(),
            feature_group: None,
            deprecated: false,
            archived: false,
            own: true,
            created_at: None,
            updated_at: None,
        }
    }

    /// Whether publishers are treated otherwise than by the entry before: what has to be known everywhere before it counts
    /// ([`rules`]).
    #[must_use]
    pub fn rules_otherwise_than(&self, before: &Self) -> bool {
        let rule = |entry: &Self| {
            let checked = entry.validation != Validation::Off;
            (entry.archived, checked.then(|| (entry.validation, entry.schema.clone())))
        };
        rule(self) != rule(before)
    }

    /// What the audit log is told of the type.
    #[must_use]
    pub fn properties(&self) -> Value {
        let read = |bytes: &Option<Vec<u8>>| {
            bytes.as_ref().and_then(|bytes| serde_json::from_slice::<Value>(bytes).ok())
        };
        let aliases: Vec<&str> = self.aliases.iter().map(EventType::as_str).collect();
        json!({
            "description": self.description,
            "schema": read(&self.schema),
            "validation": self.validation.as_str(),
            "example": read(&self.example),
            "aliases": aliases,
            "feature_group": self.feature_group,
            "deprecated": self.deprecated,
            "archived": self.archived,
        })
    }

    /// An entry of the audit log about the type.
    #[must_use]
    pub fn audited(&self, tenant: TenantId, action: Action) -> Entry {
        Entry::new(tenant, action, ObjectRef::new(ObjectKind::EventType, &self.name))
    }
}

/// The whole catalogue of a tenant, by name: its own types, and those of the starting catalogue that it did not
/// replace.
///
/// # Errors
/// When the database is away.
pub fn of_tenant(conn: &mut diesel::PgConnection, tenant: TenantId) -> crate::Result<Vec<CatalogueEntry>> {
    let mut entries = store::list(conn, tenant)?;
    let own: std::collections::HashSet<EventType> = entries.iter().map(|entry| entry.name.clone()).collect();
    entries.extend(seed().iter().filter(|ours| !own.contains(&ours.name)).map(SeedType::entry));
    entries.sort_by(|a, b| a.name.as_str().cmp(b.name.as_str()));
    Ok(entries)
}

/// The entry that a subscriber means by this name: a type, or an alias of one.
#[must_use]
pub fn resolve<'a>(entries: &'a [CatalogueEntry], name: &str) -> Option<&'a CatalogueEntry> {
    let by_name = entries.iter().find(|entry| entry.name.as_str() == name);
    by_name.or_else(|| entries.iter().find(|entry| entry.aliases.iter().any(|alias| alias.as_str() == name)))
}

/// The name of a feature group: 1 to [`MAX_GROUP_CHARS`] characters without control characters, not blank at an end.
///
/// # Errors
/// What is wrong with it, continuing its name.
pub fn check_group(text: &str) -> Result<(), String> {
    let length = text.chars().count();
    if !(1..=MAX_GROUP_CHARS).contains(&length) {
        return Err(format!("must have 1 to {MAX_GROUP_CHARS} characters, not {length}"));
    }
    if text.trim() != text || text.contains(char::is_control) {
        return Err("must not begin or end with a blank, nor have control characters".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_has_1_to_50_characters() {
        assert!(check_group(&"é".repeat(MAX_GROUP_CHARS)).is_ok());
        for bad in ["", " a", "a ", "a\nb", &"é".repeat(MAX_GROUP_CHARS + 1)] {
            assert!(check_group(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn only_what_publishers_notice_is_another_rule() {
        let plain = CatalogueEntry::new("a".parse().unwrap());
        let schema = Some(b"{}".to_vec());
        let with = |validation| CatalogueEntry { schema: schema.clone(), validation, ..plain.clone() };
        for (after, expected) in [
            (CatalogueEntry { description: "x".to_owned(), deprecated: true, ..plain.clone() }, false),
            (CatalogueEntry { archived: true, ..plain.clone() }, true),
            (with(Validation::Off), false),
            (with(Validation::Warn), true),
        ] {
            assert_eq!(after.rules_otherwise_than(&plain), expected, "{after:?}");
        }
        assert!(with(Validation::Reject).rules_otherwise_than(&with(Validation::Warn)));
    }
}
