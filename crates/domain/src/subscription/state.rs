//! Where a hook stands: pending → active ⇄ failing → disabled; any → deleted (contract §3).

use diesel::{
    deserialize::{self, FromSql, FromSqlRow},
    expression::AsExpression,
    pg::{Pg, PgValue},
    serialize::{self, Output, ToSql},
    sql_types::SmallInt,
};

/// The state of a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, AsExpression, FromSqlRow)]
#[diesel(sql_type = SmallInt)]
pub enum HookState {
    /// Subscribed, nothing has arrived yet. Delivered to all the same: Zapier tests before it subscribes.
    Pending,
    /// Something arrived.
    Active,
    /// The last delivery ended without success; the next event is tried all the same.
    Failing,
    /// Not delivered to until somebody enables it.
    Disabled,
    /// Gone.
    Deleted,
}

impl HookState {
    /// Every state.
    pub const ALL: [Self; 5] = [Self::Pending, Self::Active, Self::Failing, Self::Disabled, Self::Deleted];

    /// Whether new events are delivered.
    #[must_use]
    pub const fn takes_events(self) -> bool {
        match self {
            Self::Pending | Self::Active | Self::Failing => true,
            Self::Disabled | Self::Deleted => false,
        }
    }

    /// The word for it on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Failing => "failing",
            Self::Disabled => "disabled",
            Self::Deleted => "deleted",
        }
    }

    /// How the database keeps it.
    #[must_use]
    pub const fn code(self) -> i16 {
        match self {
            Self::Pending => 0,
            Self::Active => 1,
            Self::Failing => 2,
            Self::Disabled => 3,
            Self::Deleted => 4,
        }
    }

    /// The state after a delivery arrived.
    #[must_use]
    pub const fn after_success(self) -> Self {
        match self {
            Self::Pending | Self::Active | Self::Failing => Self::Active,
            // A try that was under way when the hook was disabled or deleted does not bring it back.
            Self::Disabled => Self::Disabled,
            Self::Deleted => Self::Deleted,
        }
    }

    /// The state after a delivery ended without success.
    #[must_use]
    pub const fn after_failure(self) -> Self {
        match self {
            Self::Pending | Self::Active | Self::Failing => Self::Failing,
            Self::Disabled => Self::Disabled,
            Self::Deleted => Self::Deleted,
        }
    }
}

impl std::str::FromStr for HookState {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or(())
    }
}

impl ToSql<SmallInt, Pg> for HookState {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        ToSql::<SmallInt, Pg>::to_sql(&self.code(), &mut out.reborrow())
    }
}

impl FromSql<SmallInt, Pg> for HookState {
    fn from_sql(bytes: PgValue<'_>) -> deserialize::Result<Self> {
        let code = <i16 as FromSql<SmallInt, Pg>>::from_sql(bytes)?;
        Self::ALL
            .into_iter()
            .find(|state| state.code() == code)
            .ok_or_else(|| format!("no hook state {code}").into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_outcome_brings_back_what_was_disabled_or_deleted() {
        for state in HookState::ALL {
            let ended = matches!(state, HookState::Disabled | HookState::Deleted);
            assert_eq!(state.after_success() == state, ended || state == HookState::Active);
            assert_eq!(state.after_failure() == state, ended || state == HookState::Failing);
            assert_eq!(state.takes_events(), !ended);
            assert_eq!(state.as_str().parse(), Ok(state));
        }
    }
}
