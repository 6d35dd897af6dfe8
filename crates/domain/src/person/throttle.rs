//! Wrong passwords and codes, counted by account and by address: after ten within a quarter of an hour there is a pause, and
//! each further one is twice as long.
//!
//! A try is counted before it is looked at, so that of many at the same moment exactly ten are looked at, and given back when
//! it was right.

use std::net::IpAddr;

use chrono::{DateTime, TimeDelta, Utc};
use diesel::{
    OptionalExtension, PgConnection, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Binary, Integer, Nullable, Timestamptz},
};
use ring::digest::{SHA256, digest};

use crate::Result;

/// Failures within [`WINDOW`] after which there is a pause.
pub const MAX_FAILURES: i32 = 10;

/// The time in which failures are counted together, and the first pause.
pub const WINDOW: TimeDelta = TimeDelta::minutes(15);

/// The longest pause. What lies back longer is forgotten.
pub const LONGEST: TimeDelta = TimeDelta::hours(24);

/// What is throttled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subject([u8; 32]);

impl Subject {
    /// An account, whether there is one of this address or not.
    #[must_use]
    pub fn account(email: &str) -> Self {
        Self::of(b"account:", email.as_bytes())
    }

    /// Where somebody comes from: an IPv4 address, or an IPv6 /64, which is what one subscriber has.
    #[must_use]
    pub fn address(address: Option<IpAddr>) -> Self {
        match address {
            Some(IpAddr::V4(address)) => Self::of(b"v4:", &address.octets()),
            Some(IpAddr::V6(address)) => Self::of(b"v6:", &address.octets()[..8]),
            None => Self::of(b"unknown:", b""),
        }
    }

    fn of(kind: &[u8], what: &[u8]) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, &[kind, what].concat()).as_ref());
        Self(hash)
    }
}

/// What is known of a subject.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, QueryableByName)]
struct State {
    #[diesel(sql_type = Integer)]
    failures: i32,
    #[diesel(sql_type = Integer)]
    pauses: i32,
    #[diesel(sql_type = Timestamptz)]
    started_at: DateTime<Utc>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    blocked_until: Option<DateTime<Utc>>,
}

/// Whether a try may be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Yes. If it is wrong, `begins` tells whether a pause begins with it.
    Go {
        /// For which subject a pause begins with this try.
        begins: Option<Subject>,
    },
    /// Not before this.
    Wait {
        /// When the pause ends.
        until: DateTime<Utc>,
    },
}

impl State {
    fn new(now: DateTime<Utc>) -> Self {
        Self { failures: 0, pauses: 0, started_at: now, blocked_until: None }
    }

    fn pause(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.blocked_until.filter(|until| *until > now)
    }

    /// Counts a try. Returns whether a pause begins with it.
    fn charge(&mut self, now: DateTime<Utc>) -> bool {
        let since = self.blocked_until.unwrap_or(self.started_at);
        if now - since >= LONGEST {
            *self = Self::new(now);
        } else if self.blocked_until.is_some() || now - self.started_at >= WINDOW {
            *self = Self { failures: 0, started_at: now, blocked_until: None, ..*self };
        }
        self.failures += 1;
        if self.failures < MAX_FAILURES {
            return false;
        }
        let longer = 1_i32 << self.pauses.clamp(0, 10);
        self.pauses += 1;
        self.blocked_until = Some(now + (WINDOW * longer).min(LONGEST));
        true
    }

    /// Takes back a try that was right.
    fn refund(&mut self) {
        self.failures = (self.failures - 1).max(0);
        if self.failures == MAX_FAILURES - 1 && self.blocked_until.is_some() {
            self.blocked_until = None;
            self.pauses -= 1;
        }
    }
}

/// Counts a try against all subjects, unless one of them has to wait. Belongs into a transaction.
///
/// # Errors
/// When the database is away.
pub fn charge(conn: &mut PgConnection, subjects: &[Subject], now: DateTime<Utc>) -> Result<Verdict> {
    // Before any lock: whoever tries during a pause, thousands of times, costs one look.
    for subject in subjects {
        if let Some(until) = find(conn, subject, false)?.and_then(|state| state.pause(now)) {
            return Ok(Verdict::Wait { until });
        }
    }
    let mut states = Vec::with_capacity(subjects.len());
    for subject in in_order(subjects) {
        let state = lock(conn, &subject, now)?;
        if let Some(until) = state.pause(now) {
            return Ok(Verdict::Wait { until });
        }
        states.push((subject, state));
    }
    let mut begins = None;
    for (subject, mut state) in states {
        if state.charge(now) {
            begins = begins.or(Some(subject));
        }
        store(conn, &subject, &state)?;
    }
    Ok(Verdict::Go { begins })
}

/// Gives a try back that was right, and forgets the failures of `cleared`. Belongs into a transaction.
///
/// # Errors
/// When the database is away.
pub fn refund(
    conn: &mut PgConnection,
    subjects: &[Subject],
    cleared: Option<Subject>,
    now: DateTime<Utc>,
) -> Result<()> {
    for subject in in_order(subjects) {
        let mut state = lock(conn, &subject, now)?;
        if cleared == Some(subject) {
            state = State::new(now);
        } else {
            state.refund();
        }
        store(conn, &subject, &state)?;
    }
    Ok(())
}

/// Removes what no longer counts. Returns how many.
///
/// # Errors
/// When the database is away.
pub fn forget_old(conn: &mut PgConnection, now: DateTime<Utc>) -> Result<usize> {
    Ok(sql_query("DELETE FROM throttles WHERE COALESCE(blocked_until, started_at) < $1")
        .bind::<Timestamptz, _>(now - LONGEST)
        .execute(conn)?)
}

/// Two tries that lock the same subjects do so in the same order.
fn in_order(subjects: &[Subject]) -> Vec<Subject> {
    let mut subjects = subjects.to_vec();
    subjects.sort_unstable();
    subjects.dedup();
    subjects
}

fn find(conn: &mut PgConnection, subject: &Subject, lock: bool) -> Result<Option<State>> {
    let lock = if lock { " FOR UPDATE" } else { "" };
    let sql =
        format!("SELECT failures, pauses, started_at, blocked_until FROM throttles WHERE subject = $1{lock}");
    Ok(sql_query(sql).bind::<Binary, _>(&subject.0[..]).get_result(conn).optional()?)
}

fn lock(conn: &mut PgConnection, subject: &Subject, now: DateTime<Utc>) -> Result<State> {
    sql_query(
        "INSERT INTO throttles (subject, failures, pauses, started_at) VALUES ($1, 0, 0, $2) ON CONFLICT DO NOTHING",
    )
    .bind::<Binary, _>(&subject.0[..])
    .bind::<Timestamptz, _>(now)
    .execute(conn)?;
    Ok(find(conn, subject, true)?.unwrap_or_else(|| State::new(now)))
}

fn store(conn: &mut PgConnection, subject: &Subject, state: &State) -> Result<()> {
    sql_query(
        "UPDATE throttles SET failures = $2, pauses = $3, started_at = $4, blocked_until = $5 WHERE subject = $1",
    )
    .bind::<Binary, _>(&subject.0[..])
    .bind::<Integer, _>(state.failures)
    .bind::<Integer, _>(state.pauses)
    .bind::<Timestamptz, _>(state.started_at)
    .bind::<Nullable<Timestamptz>, _>(state.blocked_until)
    .execute(conn)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(60 * minutes, 0).unwrap()
    }

    fn charged(state: &mut State, times: i32, now: DateTime<Utc>) -> Vec<bool> {
        (0..times).map(|_| state.charge(now)).collect()
    }

    #[test]
    fn the_tenth_failure_within_the_window_begins_a_pause() {
        let mut state = State::new(at(0));
        assert_eq!(charged(&mut state, 9, at(0)), [false; 9]);
        assert_eq!(state.pause(at(0)), None);
        assert!(state.charge(at(14)));
        assert_eq!(state.pause(at(28)), Some(at(29)));
        assert_eq!(state.pause(at(29)), None);
    }

    #[test]
    fn failures_of_another_window_do_not_count() {
        let mut state = State::new(at(0));
        charged(&mut state, 9, at(0));
        assert!(!state.charge(at(15)));
        assert_eq!(state.failures, 1);
    }

    #[test]
    fn each_pause_is_twice_as_long_up_to_a_day_and_forgotten_after_one() {
        let mut state = State::new(at(0));
        let mut now = at(0);
        for minutes in [15, 30, 60, 120, 240, 480, 960, 1440, 1440] {
            charged(&mut state, 9, now);
            assert!(state.charge(now));
            assert_eq!(state.blocked_until, Some(now + TimeDelta::minutes(minutes)), "{minutes}");
            now += TimeDelta::minutes(minutes);
        }
        now += LONGEST;
        charged(&mut state, 10, now);
        assert_eq!(state.blocked_until, Some(now + WINDOW));
    }

    #[test]
    fn what_was_right_is_given_back() {
        let mut state = State::new(at(0));
        charged(&mut state, 10, at(0));
        state.refund();
        assert_eq!(state, State { failures: 9, ..State::new(at(0)) });
        state.refund();
        assert_eq!(state.failures, 8);
    }

    #[test]
    fn a_subscriber_has_a_network_of_version_6() {
        let address = |text: &str| Subject::address(Some(text.parse().unwrap()));
        assert_eq!(address("2001:db8:0:1::1"), address("2001:db8:0:1:ffff::2"));
        assert_ne!(address("2001:db8:0:1::1"), address("2001:db8:0:2::1"));
        assert_ne!(address("192.0.2.1"), address("192.0.2.2"));
        assert_ne!(Subject::account("a@b.example"), Subject::account("b@b.example"));
    }
}
