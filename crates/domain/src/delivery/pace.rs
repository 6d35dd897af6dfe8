//! The pace of endpoints, over all deliverers: each slot of time is given away once.
//!
//! A row says until when the slots of an endpoint are taken. A deliverer takes some of them at once, ahead of the time at which it
//! uses them; what it does not use is lost to everybody, so it takes what it has to do, and not much more than for a moment.

use chrono::{DateTime, TimeDelta, Utc};
use diesel::{
    OptionalExtension, PgConnection, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{BigInt, Timestamptz, Uuid},
};

use crate::{Result, db::prepared::prepared, id::SubscriptionId};

/// How far ahead slots are given away.
pub const AHEAD: TimeDelta = TimeDelta::seconds(1);

/// The answer to whoever asks for slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// These: the first at this time, each of the others one step later.
    From(DateTime<Utc>),
    /// None: all are taken until then.
    Until(DateTime<Utc>),
}

/// The time between two slots of a pace, which is not 0.
#[must_use]
pub fn step(per_second: u32) -> TimeDelta {
    TimeDelta::microseconds(1_000_000 / i64::from(per_second.max(1)))
}

/// Takes so many slots of an endpoint, unless all are taken for [`AHEAD`].
///
/// # Errors
/// When the database is away.
pub fn take(
    conn: &mut PgConnection,
    endpoint: SubscriptionId,
    per_second: u32,
    slots: u32,
    now: DateTime<Utc>,
) -> Result<Taken> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Timestamptz)]
        taken_until: DateTime<Utc>,
    }
    let length = step(per_second) * i32::try_from(slots).unwrap_or(i32::MAX);
    let micros = length.num_microseconds().unwrap_or(i64::MAX);
    let row: Option<Row> = prepared(
        "INSERT INTO endpoint_paces AS p (subscription_id, taken_until) VALUES ($1, $2 + $3 * interval '1 microsecond') \
         ON CONFLICT (subscription_id) DO UPDATE \
            SET taken_until = CASE WHEN p.taken_until > $5 THEN $2 ELSE GREATEST(p.taken_until, $2) END \
               + $3 * interval '1 microsecond' \
            WHERE p.taken_until < $4 OR p.taken_until > $5 \
         RETURNING taken_until",
    )
    .bind::<Uuid, _>(endpoint)
    .bind::<Timestamptz, _>(now)
    .bind::<BigInt, _>(micros)
    .bind::<Timestamptz, _>(now + AHEAD)
    // Nobody takes so far ahead: it was a clock that was wrong.
    .bind::<Timestamptz, _>(now + AHEAD * 10)
    .get_result(conn)
    .optional()?;
    if let Some(row) = row {
        return Ok(Taken::From(row.taken_until - length));
    }
    let row: Option<Row> = prepared("SELECT taken_until FROM endpoint_paces WHERE subscription_id = $1")
        .bind::<Uuid, _>(endpoint)
        .get_result(conn)
        .optional()?;
    Ok(Taken::Until(row.map_or(now, |row| row.taken_until)))
}

/// Forgets endpoints that nobody has sent to for a while.
///
/// # Errors
/// When the database is away.
pub fn forget_old(conn: &mut PgConnection, now: DateTime<Utc>) -> Result<()> {
    sql_query("DELETE FROM endpoint_paces WHERE taken_until < $1")
        .bind::<Timestamptz, _>(now - TimeDelta::hours(1))
        .execute(conn)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_the_part_of_a_second() {
        for (per_second, micros) in [(1, 1_000_000), (3, 333_333), (10_000, 100), (0, 1_000_000)] {
            assert_eq!(step(per_second), TimeDelta::microseconds(micros));
        }
    }
}
