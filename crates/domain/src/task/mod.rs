//! Tasks: what somebody wants done, and the runs that do it (contract §5).
//!
//! A task never changes; a run does, step by step, and every step is decided by the pure rules of [`run`] and written by
//! one function, [`ledger::Ledger::apply`]: the run, what its listeners see, its events, its webhook deliveries and what was
//! used, in one transaction. Two ways lead to a run being held: [`claim`] gives it to the built-in executor or to an external
//! worker, under a lease that every later report must show.

pub mod answer;
pub mod budget;
pub mod claim;
pub mod draft;
pub mod form;
pub mod input;
pub mod keys;
pub mod lease;
pub mod ledger;
pub mod list;
pub mod model;
mod notice;
pub mod output;
pub mod respond;
mod rows;
pub mod run;
pub mod schedule;
mod settings;
mod state;
pub mod step;
pub mod store;
pub mod told;
pub mod webhook;
pub mod worker;

use std::{fmt, str::FromStr};

use diesel::{
    deserialize::{self, FromSql, FromSqlRow},
    expression::AsExpression,
    pg::{Pg, PgValue},
    serialize::{self, Output, ToSql},
    sql_types::SmallInt,
};

pub use draft::{Draft, NewTask};
pub use ledger::Ledger;
pub use run::Run;
pub use settings::Settings;
pub use state::RunState;
pub use step::{Failure, Question, Refused, Step};

/// What kind of work a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, AsExpression, FromSqlRow)]
#[diesel(sql_type = SmallInt)]
pub enum AgentType {
    /// Whatever can be answered in words.
    General,
    /// A plan, in words.
    Plan,
    /// Something is to be built: for external workers only.
    Build,
    /// Something is to be looked into: for external workers only.
    Explore,
}

impl AgentType {
    /// Every type.
    pub const ALL: [Self; 4] = [Self::General, Self::Plan, Self::Build, Self::Explore];

    /// The word for it on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::General => "general",
            Self::Plan => "plan",
            Self::Build => "build",
            Self::Explore => "explore",
        }
    }

    /// How the database keeps it.
    #[must_use]
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// Whether the built-in executor, which has no tools, may do it.
    #[must_use]
    pub const fn built_in(self) -> bool {
        match self {
            Self::General | Self::Plan => true,
            Self::Build | Self::Explore => false,
        }
    }
}

/// A text that names no type of agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be general, plan, build or explore")]
pub struct AgentTypeError;

impl FromStr for AgentType {
    type Err = AgentTypeError;
    fn from_str(text: &str) -> Result<Self, AgentTypeError> {
        Self::ALL.into_iter().find(|agent| agent.as_str() == text).ok_or(AgentTypeError)
    }
}

impl fmt::Display for AgentType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromSql<SmallInt, Pg> for AgentType {
    fn from_sql(bytes: PgValue<'_>) -> deserialize::Result<Self> {
        let code = <i16 as FromSql<SmallInt, Pg>>::from_sql(bytes)?;
        Self::ALL
            .into_iter()
            .find(|agent| agent.code() == code)
            .ok_or_else(|| format!("no agent type {code}").into())
    }
}

impl ToSql<SmallInt, Pg> for AgentType {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        let code = self.code();
        ToSql::<SmallInt, Pg>::to_sql(&code, &mut out.reborrow())
    }
}

/// What was used. Reports of an executor give the sum of the present attempt, so that one that arrives twice counts once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens that the model read.
    pub input_tokens: u64,
    /// Tokens that it wrote.
    pub output_tokens: u64,
    /// What that cost, in millionths of a US dollar.
    pub cost_micros: u64,
}

impl Usage {
    /// Tokens read and written.
    #[must_use]
    pub const fn tokens(self) -> u64 {
        self.input_tokens.saturating_add(self.output_tokens)
    }

    /// Both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            input_tokens: self.input_tokens.saturating_add(other.input_tokens),
            output_tokens: self.output_tokens.saturating_add(other.output_tokens),
            cost_micros: self.cost_micros.saturating_add(other.cost_micros),
        }
    }

    /// What this is more than `before`; a figure that has fallen counts as unchanged.
    #[must_use]
    pub const fn since(self, before: Self) -> Self {
        Self {
            input_tokens: self.input_tokens.saturating_sub(before.input_tokens),
            output_tokens: self.output_tokens.saturating_sub(before.output_tokens),
            cost_micros: self.cost_micros.saturating_sub(before.cost_micros),
        }
    }

    /// As columns hold it.
    pub(crate) fn columns(self) -> [i64; 3] {
        [self.input_tokens, self.output_tokens, self.cost_micros]
            .map(|n| i64::try_from(n).unwrap_or(i64::MAX))
    }

    pub(crate) fn of_columns(columns: [i64; 3]) -> Self {
        let [input_tokens, output_tokens, cost_micros] = columns.map(|n| u64::try_from(n).unwrap_or(0));
        Self { input_tokens, output_tokens, cost_micros }
    }
}
