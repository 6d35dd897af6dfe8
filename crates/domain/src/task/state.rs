//! Where a run stands, and where it may stand next.
//!
//! ```text
//! queued ─▶ running ─▶ completed | failed          running ─▶ needs_input ─▶ queued
//! running ─▶ queued (lease lost, given back, a failure that may pass)     any that has not ended ─▶ cancelled | failed
//! ```

use std::fmt;

use diesel::{
    deserialize::{self, FromSql, FromSqlRow},
    expression::AsExpression,
    pg::{Pg, PgValue},
    serialize::{self, Output, ToSql},
    sql_types::SmallInt,
};

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, AsExpression, FromSqlRow)]
#[diesel(sql_type = SmallInt)]
pub enum RunState {
    /// Waits for somebody to take it.
    Queued,
    /// Held by an executor or a worker.
    Running,
    /// Waits for an answer.
    NeedsInput,
    /// Done; the result is there.
    Completed,
    /// Given up.
    Failed,
    /// Somebody did not want it any more.
    Cancelled,
}

impl RunState {
    /// Every state.
    pub const ALL: [Self; 6] =
        [Self::Queued, Self::Running, Self::NeedsInput, Self::Completed, Self::Failed, Self::Cancelled];

    /// The word for it on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::NeedsInput => "needs_input",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// How the database keeps it.
    #[must_use]
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// Whether it has ended.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }

    /// Whether a run in this state may be in that one next.
    #[must_use]
    pub const fn may_become(self, next: Self) -> bool {
        match self {
            Self::Queued => matches!(next, Self::Running | Self::Failed | Self::Cancelled),
            Self::Running => matches!(
                next,
                Self::Queued | Self::NeedsInput | Self::Completed | Self::Failed | Self::Cancelled
            ),
            Self::NeedsInput => matches!(next, Self::Queued | Self::Failed | Self::Cancelled),
            Self::Completed | Self::Failed | Self::Cancelled => false,
        }
    }
}

impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Also the words by which other systems call the states.
impl std::str::FromStr for RunState {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        Ok(match text {
            "queued" | "pending" => Self::Queued,
            "running" | "in_progress" | "working" => Self::Running,
            "needs_input" | "input_required" => Self::NeedsInput,
            "completed" | "done" | "succeeded" | "success" => Self::Completed,
            "failed" | "error" => Self::Failed,
            "cancelled" | "canceled" => Self::Cancelled,
            _ => return Err(()),
        })
    }
}

impl FromSql<SmallInt, Pg> for RunState {
    fn from_sql(bytes: PgValue<'_>) -> deserialize::Result<Self> {
        let code = <i16 as FromSql<SmallInt, Pg>>::from_sql(bytes)?;
        Self::ALL
            .into_iter()
            .find(|state| state.code() == code)
            .ok_or_else(|| format!("no run state {code}").into())
    }
}

impl ToSql<SmallInt, Pg> for RunState {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        let code = self.code();
        ToSql::<SmallInt, Pg>::to_sql(&code, &mut out.reborrow())
    }
}
