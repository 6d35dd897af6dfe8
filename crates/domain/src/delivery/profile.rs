//! How each kind of delivery is tried: data, not code (contract §7). A new kind is a new row.

use std::time::Duration;

use diesel::{
    deserialize::{self, FromSql, FromSqlRow},
    expression::AsExpression,
    pg::{Pg, PgValue},
    serialize::{self, Output, ToSql},
    sql_types::SmallInt,
};

/// The kind of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, AsExpression, FromSqlRow)]
#[diesel(sql_type = SmallInt)]
pub enum Profile {
    /// To a REST hook.
    Hook,
    /// Of the end of an action run.
    Callback,
    /// To a webhook consumer.
    Consumer,
    /// Of a task's progress.
    Task,
    /// The reverse unsubscribe of a hook that we disable: `DELETE <url>`, once, whatever comes back.
    Farewell,
}

/// One row of the table of profiles.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// The longest a try may take, from resolving the name to the end of the reply.
    pub timeout: Duration,
    /// The waits between tries, each counted from the failed try before it (docs/decisions/0008).
    pub waits: &'static [Duration],
    /// Waits are longer or shorter by at most this share.
    pub jitter: f64,
    /// How often the receiver may ask for later before it counts as a failure.
    pub max_deferrals: u16,
    /// For how long it may.
    pub deferral_horizon: Duration,
}

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const DAY: Duration = s(86_400);
const LONG: &[Duration] = &[s(5), s(300), s(1_800), s(7_200), s(18_000), s(36_000), s(36_000)];

const HOOK: Schedule = Schedule {
    timeout: s(5),
    waits: &[s(1), s(4), s(9)],
    jitter: 0.0,
    max_deferrals: 10,
    deferral_horizon: DAY,
};
const CALLBACK: Schedule =
    Schedule { timeout: s(10), waits: &[s(1), s(3)], jitter: 0.0, max_deferrals: 0, deferral_horizon: DAY };
const CONSUMER: Schedule =
    Schedule { timeout: s(15), waits: LONG, jitter: 0.2, max_deferrals: 10, deferral_horizon: DAY };
const TASK: Schedule = Schedule { timeout: s(10), ..CONSUMER };
const FAREWELL: Schedule =
    Schedule { timeout: s(5), waits: &[], jitter: 0.0, max_deferrals: 0, deferral_horizon: DAY };

impl Profile {
    /// Every profile.
    pub const ALL: [Self; 5] = [Self::Hook, Self::Callback, Self::Consumer, Self::Task, Self::Farewell];

    /// Whether its deliveries are numbered: those to somebody who has subscribed to events ([`super::sequence`]).
    #[must_use]
    pub const fn is_numbered(self) -> bool {
        match self {
            Self::Hook | Self::Consumer => true,
            Self::Callback | Self::Task | Self::Farewell => false,
        }
    }

    /// The profile's row.
    #[must_use]
    pub const fn schedule(self) -> &'static Schedule {
        match self {
            Self::Hook => &HOOK,
            Self::Callback => &CALLBACK,
            Self::Consumer => &CONSUMER,
            Self::Task => &TASK,
            Self::Farewell => &FAREWELL,
        }
    }

    /// The longest a try may take.
    #[must_use]
    pub const fn timeout(self) -> Duration {
        self.schedule().timeout
    }

    /// The word for it on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hook => "hook",
            Self::Callback => "callback",
            Self::Consumer => "consumer",
            Self::Task => "task",
            Self::Farewell => "farewell",
        }
    }

    /// How the database keeps it.
    #[must_use]
    pub const fn code(self) -> i16 {
        match self {
            Self::Hook => 0,
            Self::Callback => 1,
            Self::Consumer => 2,
            Self::Task => 3,
            Self::Farewell => 4,
        }
    }
}

impl ToSql<SmallInt, Pg> for Profile {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        ToSql::<SmallInt, Pg>::to_sql(&self.code(), &mut out.reborrow())
    }
}

impl FromSql<SmallInt, Pg> for Profile {
    fn from_sql(bytes: PgValue<'_>) -> deserialize::Result<Self> {
        let code = <i16 as FromSql<SmallInt, Pg>>::from_sql(bytes)?;
        Self::ALL
            .into_iter()
            .find(|profile| profile.code() == code)
            .ok_or_else(|| format!("no delivery profile {code}").into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedules_are_the_contracts() {
        let waits =
            |profile: Profile| profile.schedule().waits.iter().map(Duration::as_secs).collect::<Vec<_>>();
        assert_eq!(waits(Profile::Hook), [1, 4, 9]);
        assert_eq!(waits(Profile::Callback), [1, 3]);
        for profile in [Profile::Consumer, Profile::Task] {
            assert_eq!(waits(profile), [5, 300, 1_800, 7_200, 18_000, 36_000, 36_000]);
            let hours = waits(profile).iter().sum::<u64>() as f64 / 3_600.0;
            assert!((27.55..27.65).contains(&hours), "27.6 h, not {hours}");
        }
        let seconds = |profile: Profile| profile.timeout().as_secs();
        assert_eq!(Profile::ALL.map(seconds), [5, 10, 15, 10, 5]);
    }
}
