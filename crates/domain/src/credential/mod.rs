//! Credentials: who may call, and what for. The token itself is shown once and kept as a hash only.

pub mod directory;
mod scope;
pub mod store;
mod token;

use chrono::{DateTime, Utc};
use diesel::{
    deserialize::{self, FromSql, FromSqlRow},
    expression::AsExpression,
    pg::{Pg, PgValue},
    sql_types::SmallInt,
};

pub use scope::{Scope, Scopes};
pub use token::{Token, TokenHash};

use crate::id::{CredentialId, TenantId};

/// Live API keys that a tenant may have (contract §1).
pub const MAX_LIVE_KEYS: i64 = 10;

/// The kind of a credential. Scopes decide what it may do, never its kind or prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, AsExpression, FromSqlRow)]
#[diesel(sql_type = SmallInt)]
pub enum Kind {
    /// `ct_…`, made by people for programs.
    ApiKey,
}

impl Kind {
    /// How the database keeps it.
    #[must_use]
    pub const fn code(self) -> i16 {
        match self {
            Self::ApiKey => 0,
        }
    }
}

impl FromSql<SmallInt, Pg> for Kind {
    fn from_sql(bytes: PgValue<'_>) -> deserialize::Result<Self> {
        match <i16 as FromSql<SmallInt, Pg>>::from_sql(bytes)? {
            0 => Ok(Self::ApiKey),
            other => Err(format!("no credential kind {other}").into()),
        }
    }
}

/// Requests per minute that a credential may make; `None` = the default of the settings, 0 = unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// All requests.
    pub requests: Option<u32>,
    /// Subscribing and unsubscribing hooks.
    pub hook_writes: Option<u32>,
    /// Samples.
    pub samples: Option<u32>,
}

/// A credential as a gateway keeps it in memory.
#[derive(Clone, Debug)]
pub struct Credential {
    /// Identity.
    pub id: CredentialId,
    /// Owner.
    pub tenant: TenantId,
    /// Name, for people.
    pub name: String,
    /// What it may do.
    pub scopes: Scopes,
    /// How often.
    pub limits: Limits,
    /// Until when.
    pub expires_at: Option<DateTime<Utc>>,
}
