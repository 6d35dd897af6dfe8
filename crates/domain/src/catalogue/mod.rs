//! The catalogue: which event types there are, what they are also called, and what they look like.
//!
//! The starting catalogue is part of the program; a tenant adds its own types and may replace ours.

mod seed;
pub mod store;

use chrono::{DateTime, Utc};

pub use seed::{SeedType, former_pattern, seed};

use crate::{event::EventType, id::TenantId};

/// The most aliases of one type.
pub const MAX_ALIASES: usize = 10;

/// The longest description, in characters.
pub const MAX_DESCRIPTION_CHARS: usize = 500;

/// The most types that a tenant may have.
pub const MAX_TYPES: i64 = 1_000;

/// An entry of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogueEntry {
    /// The type.
    pub name: EventType,
    /// What has happened, for people.
    pub description: String,
    /// Canonical JSON of an example payload.
    pub example: Option<Vec<u8>>,
    /// Other names under which one can subscribe.
    pub aliases: Vec<EventType>,
    /// Still sent, but subscribers should move on.
    pub deprecated: bool,
    /// No longer offered to subscribers.
    pub archived: bool,
    /// Whether it is the tenant's own, not one of the starting catalogue.
    pub own: bool,
    /// When the tenant made it; `None` for the starting catalogue.
    pub created_at: Option<DateTime<Utc>>,
    /// When the tenant changed it last.
    pub updated_at: Option<DateTime<Utc>>,
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
