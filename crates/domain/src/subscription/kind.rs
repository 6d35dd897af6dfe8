//! What a subscription is.

use diesel::{
    deserialize::{self, FromSql, FromSqlRow},
    expression::AsExpression,
    pg::{Pg, PgValue},
    sql_types::SmallInt,
};

/// The kind of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, AsExpression, FromSqlRow)]
#[diesel(sql_type = SmallInt)]
pub enum Kind {
    /// Somebody subscribed to events (contract §3).
    Hook,
    /// The `webhook_url` of tasks (contract §5): gets what the tasks that name it report, and no other event.
    Task,
    /// The `callback_url` of action runs (contract §6): gets how they end, and no other event.
    Callback,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Hook, Self::Task, Self::Callback];

    /// How the database keeps it.
    #[must_use]
    pub const fn code(self) -> i16 {
        match self {
            Self::Hook => 0,
            Self::Task => 1,
            Self::Callback => 2,
        }
    }
}

impl FromSql<SmallInt, Pg> for Kind {
    fn from_sql(bytes: PgValue<'_>) -> deserialize::Result<Self> {
        let code = <i16 as FromSql<SmallInt, Pg>>::from_sql(bytes)?;
        Self::ALL
            .into_iter()
            .find(|kind| kind.code() == code)
            .ok_or_else(|| format!("no kind of subscription {code}").into())
    }
}
