//! What a subscription is.

use diesel::{
    deserialize::{self, FromSql, FromSqlRow},
    expression::AsExpression,
    pg::{Pg, PgValue},
    sql_types::SmallInt,
};

use crate::delivery::Profile;

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
    /// Somebody subscribed to events, with all that a consumer can say about how it wants them (contract §4).
    Consumer,
    /// Somebody subscribed to events and fetches them himself (contract §2).
    Inbox,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Hook, Self::Task, Self::Callback, Self::Consumer, Self::Inbox];

    /// How the database keeps it.
    #[must_use]
    pub const fn code(self) -> i16 {
        match self {
            Self::Hook => 0,
            Self::Task => 1,
            Self::Callback => 2,
            Self::Consumer => 3,
            Self::Inbox => 4,
        }
    }

    /// How its deliveries are tried.
    #[must_use]
    pub const fn profile(self) -> Profile {
        match self {
            Self::Hook => Profile::Hook,
            Self::Task => Profile::Task,
            Self::Callback => Profile::Callback,
            Self::Consumer => Profile::Consumer,
            Self::Inbox => Profile::Inbox,
        }
    }

    /// Whether events are matched with it; the others get what names them.
    #[must_use]
    pub const fn is_matched(self) -> bool {
        match self {
            Self::Hook | Self::Consumer | Self::Inbox => true,
            Self::Task | Self::Callback => false,
        }
    }

    /// Whether days of nothing but failures disable it (contract §7).
    #[must_use]
    pub const fn is_given_up(self) -> bool {
        match self {
            Self::Task | Self::Consumer => true,
            Self::Hook | Self::Callback | Self::Inbox => false,
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
