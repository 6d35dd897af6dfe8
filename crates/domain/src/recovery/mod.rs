//! Recoveries: sending again what did not arrive at an endpoint, event by event through a range of time, at a pace that the
//! endpoint bears (contract §4; what is called what is Svix's: *recover* resends what failed, *replay missing* sends what was never
//! tried).
//!
//! A recovery is a row with a cursor. Whoever runs it holds a lease, looks at some events, and moves the cursor in the transaction
//! that puts deliveries on their way, under the claim: no event is looked at twice, whoever is killed when (docs/decisions/0045).
//! First it counts, so that it can tell how far it is.

mod candidates;
pub mod step;
pub mod store;

use chrono::{DateTime, TimeDelta, Utc};
use diesel::{
    deserialize::{self, FromSql, FromSqlRow},
    expression::AsExpression,
    pg::{Pg, PgValue},
    sql_types::SmallInt,
};

pub use candidates::{
    BODIES_AT_ONCE, Candidate, PAGE_BYTES, Page, Range, candidates, count, preview, statement,
};

use crate::{
    delivery::replay::Again,
    subscription::{EventPattern, Subscription},
    wire::parse_stored,
};

/// Which events are sent again, by what became of them at the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, AsExpression, FromSqlRow)]
#[diesel(sql_type = SmallInt)]
pub enum Which {
    /// Those that ended without having arrived: dead letters, and what was cancelled. Not what somebody gave up, nor what the
    /// endpoint's own transformation cancelled.
    Failed,
    /// Those that were never on their way here: the endpoint was disabled, made later, or wanted something else.
    Missing,
    /// Both.
    Undelivered,
    /// Both, with those that somebody gave up and that a transformation cancelled.
    NotArrived,
    /// All, also those that arrived.
    All,
}

/// Where a recovery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, AsExpression, FromSqlRow)]
#[diesel(sql_type = SmallInt)]
pub enum RecoveryState {
    /// It counts what there is to look at.
    Counting,
    /// It looks at events and sends them.
    Running,
    /// Everything was looked at, and is on its way.
    Completed,
    /// Somebody stopped it.
    Cancelled,
    /// The endpoint takes no events any more.
    Stopped,
}

macro_rules! coded {
    ($name:ident $what:literal { $($variant:ident $code:literal $word:literal;)+ }) => {
        impl $name {
            /// Every one of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The word for it on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// How the database keeps it.
            #[must_use]
            pub const fn code(self) -> i16 {
                match self { $(Self::$variant => $code,)+ }
            }
        }

        impl std::str::FromStr for $name {
            type Err = ();
            fn from_str(text: &str) -> Result<Self, ()> {
                Self::ALL.iter().copied().find(|one| one.as_str() == text).ok_or(())
            }
        }

        impl FromSql<SmallInt, Pg> for $name {
            fn from_sql(bytes: PgValue<'_>) -> deserialize::Result<Self> {
                let code = <i16 as FromSql<SmallInt, Pg>>::from_sql(bytes)?;
                let found = Self::ALL.iter().copied().find(|one| one.code() == code);
                found.ok_or_else(|| format!(concat!("no ", $what, " {}"), code).into())
            }
        }
    };
}

coded!(Which "selection of a recovery" {
    Failed 0 "failed";
    Missing 1 "missing";
    Undelivered 2 "undelivered";
    NotArrived 3 "missed";
    All 4 "all";
});

coded!(RecoveryState "state of a recovery" {
    Counting 0 "counting";
    Running 1 "running";
    Completed 2 "completed";
    Cancelled 3 "cancelled";
    Stopped 4 "stopped";
});

impl RecoveryState {
    /// Whether nothing happens any more.
    #[must_use]
    pub const fn has_ended(self) -> bool {
        match self {
            Self::Counting | Self::Running => false,
            Self::Completed | Self::Cancelled | Self::Stopped => true,
        }
    }
}

/// What is wanted of an event that a recovery looks at: what the endpoint wants now, and the types that were asked for.
#[derive(Debug)]
pub struct Wanted<'a> {
    endpoint: &'a Subscription,
    /// `None` = all that the endpoint wants.
    types: Option<&'a [EventPattern]>,
}

impl<'a> Wanted<'a> {
    /// What this endpoint wants of these types.
    #[must_use]
    pub const fn new(endpoint: &'a Subscription, types: Option<&'a [EventPattern]>) -> Self {
        Self { endpoint, types }
    }

    /// Whether bodies have to be read to know it.
    #[must_use]
    pub fn reads_content(&self) -> bool {
        self.endpoint.reads_content()
    }

    /// The types that may be wanted, where they can be told without patterns.
    #[must_use]
    pub fn exact_types(&self) -> Option<Vec<String>> {
        let asked: Option<Vec<String>> = self.types.and_then(|types| {
            types.iter().map(|one| one.is_exact().map(|exact| exact.as_str().to_owned())).collect()
        });
        asked.or_else(|| {
            let own = self.endpoint.exact_types()?;
            Some(own.into_iter().map(str::to_owned).collect())
        })
    }

    /// The event as it is sent again, if it is wanted.
    #[must_use]
    pub fn of(&self, event: &Candidate) -> Option<Again> {
        let asked = self.types.is_none_or(|types| types.iter().any(|one| one.matches(&event.event_type)));
        if !asked || !self.endpoint.names(&event.event_type, event.origin) {
            return None;
        }
        if !self.reads_content() {
            return Some((event.id, None));
        }
        // Our own bytes can be read; an event that cannot matches no filter.
        let json = parse_stored(event.body.as_deref().unwrap_or_default()).ok()?;
        let line =
            || self.endpoint.consumer.as_ref().and_then(|consumer| consumer.line(self.endpoint.id, &json));
        self.endpoint.admits(&json).then(|| (event.id, line()))
    }
}

/// How many deliveries may be put on their way now: no more than the pace gives for a second, and no more than fit beside those
/// that have not ended yet.
#[must_use]
pub fn budget(per_second: u32, most_under_way: usize, under_way: usize) -> usize {
    (per_second as usize).min(most_under_way.saturating_sub(under_way))
}

/// When the next step is due after so many deliveries: when the pace has room for another. A step that came a little late is made
/// up for; one that came later than a second is not, so that there is no burst.
#[must_use]
pub fn next_due(due_at: DateTime<Utc>, queued: usize, per_second: u32, now: DateTime<Utc>) -> DateTime<Utc> {
    let from = if now - due_at < TimeDelta::seconds(1) { due_at } else { now };
    let micros = (queued as u64).saturating_mul(1_000_000) / u64::from(per_second.max(1));
    from + TimeDelta::microseconds(i64::try_from(micros).unwrap_or(i64::MAX / 4))
}

/// When a recovery without room looks again, that last went on at `updated_at`: the longer it waits, the less often, every five
/// seconds in the end.
#[must_use]
pub fn room_again(updated_at: DateTime<Utc>, now: DateTime<Utc>) -> DateTime<Utc> {
    now + ((now - updated_at) / 4).clamp(TimeDelta::milliseconds(200), TimeDelta::seconds(5))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_for_room_looks_less_and_less_often() {
        let since = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let ms = TimeDelta::milliseconds;
        for (waited, expected) in
            [(-1_000, 200), (0, 200), (800, 200), (4_000, 1_000), (20_000, 5_000), (3_600_000, 5_000)]
        {
            let now = since + ms(waited);
            assert_eq!((room_again(since, now) - now).num_milliseconds(), expected, "{waited}");
        }
    }

    #[test]
    fn a_step_keeps_to_the_pace_and_to_what_is_under_way() {
        for (per_second, most, under_way, expected) in
            [(10, 100, 0, 10), (10, 100, 95, 5), (10, 100, 100, 0), (10, 100, 200, 0), (1_000, 100, 0, 100)]
        {
            assert_eq!(budget(per_second, most, under_way), expected);
        }
    }

    #[test]
    fn what_is_late_is_made_up_for_within_a_second_only() {
        let due = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let ms = TimeDelta::milliseconds;
        for (late, queued, per_second, expected) in [
            (0, 10, 10, 1_000),
            (999, 10, 10, 1_000),
            (1_000, 10, 10, 2_000),
            (60_000, 5, 10, 60_500),
            (0, 0, 10, 0),
            (300, 1, 3, 333),
        ] {
            let next = next_due(due, queued, per_second, due + ms(late));
            assert_eq!((next - due).num_milliseconds(), expected, "{late} {queued}");
        }
    }

    #[test]
    fn words_and_codes_lead_back() {
        for which in Which::ALL {
            assert_eq!(which.as_str().parse(), Ok(*which));
        }
        let ended: Vec<bool> = RecoveryState::ALL.iter().map(|state| state.has_ended()).collect();
        assert_eq!(ended, [false, false, true, true, true]);
        assert_eq!("over".parse::<RecoveryState>(), Err(()));
    }
}
