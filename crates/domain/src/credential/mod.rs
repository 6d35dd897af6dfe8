//! Credentials: who may call, and what for. The token itself is shown once and kept as a hash only.

pub mod directory;
mod scope;
pub mod store;
mod token;
mod view;

use chrono::{DateTime, Utc};
use diesel::{
    deserialize::{self, FromSql, FromSqlRow},
    expression::AsExpression,
    pg::{Pg, PgValue},
    sql_types::SmallInt,
};

pub use scope::{Scope, Scopes};
pub use token::{Token, TokenHash};

use crate::{
    event::EventType,
    id::{CredentialId, TenantId},
    subscription::EventPattern,
    task::AgentType,
};

/// Live API keys that a tenant may have (contract §1).
pub const MAX_LIVE_KEYS: i64 = 10;

/// Live source keys that a tenant may have: one for each of its services that publish.
pub const MAX_LIVE_SOURCE_KEYS: i64 = 50;

/// Event types, or patterns of them, that a source key may be limited to.
pub const MAX_EVENT_TYPES: usize = 50;

/// Live worker tokens that a tenant may have: one for each fleet of workers.
pub const MAX_LIVE_WORKER_TOKENS: i64 = 50;

/// Models that a worker token may be limited to.
pub const MAX_MODELS: usize = 20;

/// The kind of a credential. Scopes decide what it may do, never its kind or prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, AsExpression, FromSqlRow)]
#[diesel(sql_type = SmallInt)]
pub enum Kind {
    /// `ct_…`, made by people for programs.
    ApiKey,
    /// `sk_integ_…`: the one key that Zapier is given; rotated as a whole (contract §1).
    Integration,
    /// `src_…`: a service that publishes events of named types, and does nothing else.
    Source,
    /// `at_…`: what an OAuth client holds for an hour on behalf of a person.
    OAuthAccess,
    /// `wk_…`: an external worker, which takes tasks and reports on them, and does nothing else (contract §5).
    Worker,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 5] =
        [Self::ApiKey, Self::Integration, Self::Source, Self::OAuthAccess, Self::Worker];

    /// What its tokens begin with.
    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::ApiKey => "ct_",
            Self::Integration => "sk_integ_",
            Self::Source => "src_",
            Self::OAuthAccess => "at_",
            Self::Worker => "wk_",
        }
    }

    /// How many of them may be live at the same time at one tenant, if that is bounded.
    #[must_use]
    pub const fn most_live(self) -> Option<i64> {
        match self {
            Self::ApiKey => Some(MAX_LIVE_KEYS),
            Self::Source => Some(MAX_LIVE_SOURCE_KEYS),
            Self::Worker => Some(MAX_LIVE_WORKER_TOKENS),
            // One, which the database sees to; and as many as clients are let in.
            Self::Integration | Self::OAuthAccess => None,
        }
    }

    /// How the database keeps it.
    #[must_use]
    pub const fn code(self) -> i16 {
        match self {
            Self::ApiKey => 0,
            Self::Integration => 1,
            Self::Source => 2,
            Self::OAuthAccess => 3,
            Self::Worker => 4,
        }
    }
}

impl FromSql<SmallInt, Pg> for Kind {
    fn from_sql(bytes: PgValue<'_>) -> deserialize::Result<Self> {
        let code = <i16 as FromSql<SmallInt, Pg>>::from_sql(bytes)?;
        let kind = Self::ALL.into_iter().find(|kind| kind.code() == code);
        kind.ok_or_else(|| format!("no credential kind {code}").into())
    }
}

/// Requests per minute that a credential may make; `None` = the default of the settings, 0 = unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// All requests.
    pub requests: Option<u32>,
    /// Subscribing and unsubscribing hooks.
    pub hook_writes: Option<u32>,
    /// How many more of these may pass beyond their limit within an hour: turning on a folder of Zaps is a burst.
    pub hook_write_burst: Option<u32>,
    /// Samples.
    pub samples: Option<u32>,
}

/// Which tasks a worker may take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Of these types; `None` = any.
    pub agent_types: Option<Vec<AgentType>>,
    /// With these models, by the names that tasks call them; `None` = any.
    pub models: Option<Vec<String>>,
}

/// A credential as a gateway keeps it in memory.
#[derive(Clone, Debug)]
pub struct Credential {
    /// Identity.
    pub id: CredentialId,
    /// Owner.
    pub tenant: TenantId,
    /// What it is.
    pub kind: Kind,
    /// Name, for people.
    pub name: String,
    /// What it may do.
    pub scopes: Scopes,
    /// Which event types it may publish; `None` = all.
    pub event_types: Option<Vec<EventPattern>>,
    /// Which tasks it may take, if it is a worker's.
    pub work: Work,
    /// How often.
    pub limits: Limits,
    /// Until when.
    pub expires_at: Option<DateTime<Utc>>,
}

impl Credential {
    /// Whether it may publish events of this type.
    #[must_use]
    pub fn may_publish(&self, event_type: &EventType) -> bool {
        let Some(patterns) = &self.event_types else { return true };
        patterns.iter().any(|pattern| pattern.matches(event_type))
    }
}
