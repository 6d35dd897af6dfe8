//! The breaker of an endpoint: after failures in a row its deliverer leaves it alone for a while, then makes one try as a probe.
//!
//! The breaker lives in the memory of the deliverer that has the endpoint in hand; what is here is what it has told. A deliverer that
//! was killed tells nothing more, so what has happened at the endpoint since counts, too (docs/decisions/0047).

use chrono::{DateTime, TimeDelta, Utc};
use diesel::{
    OptionalExtension, PgConnection, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Array, Integer, Timestamptz, Uuid},
};

use super::condition::Condition;
use crate::{
    Result,
    id::{SubscriptionId, TenantId},
};

/// What a deliverer tells when the breaker of an endpoint changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It opened, or stays open because the probe failed.
    Open {
        /// Since when it is open.
        opened_at: DateTime<Utc>,
        /// When the next probe may be made.
        next_probe_at: DateTime<Utc>,
        /// Failures in a row.
        failures: u32,
    },
    /// It closed: the endpoint has answered.
    Closed,
}

/// What was told last of an endpoint whose breaker is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, QueryableByName)]
pub struct Told {
    /// Since when.
    #[diesel(sql_type = Timestamptz)]
    pub opened_at: DateTime<Utc>,
    /// When the next probe may be made.
    #[diesel(sql_type = Timestamptz)]
    pub next_probe_at: DateTime<Utc>,
    /// Failures in a row.
    #[diesel(sql_type = Integer)]
    pub failures: i32,
}

/// Where a breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breaker {
    /// Everything goes.
    Closed,
    /// Nothing goes before the next probe.
    Open(Told),
    /// The next try is the probe.
    HalfOpen(Told),
}

impl Breaker {
    /// The word for it on the wire.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open(_) => "open",
            Self::HalfOpen(_) => "half_open",
        }
    }

    /// What was told of it, unless it is closed.
    #[must_use]
    pub const fn told(&self) -> Option<Told> {
        match self {
            Self::Closed => None,
            Self::Open(told) | Self::HalfOpen(told) => Some(*told),
        }
    }
}

/// The rule: where the breaker stands by what was told, and by what has happened at the endpoint since. An endpoint that has answered
/// after the breaker opened is spoken to again, whoever knows; and of one that takes no events there is nothing to hold back.
#[must_use]
pub fn standing(told: Option<Told>, condition: &Condition, now: DateTime<Utc>) -> Breaker {
    let Some(told) = told else { return Breaker::Closed };
    let answered = condition.last_status.is_some_and(|status| status < 500)
        && condition.last_attempt_at.is_some_and(|at| told.opened_at < at);
    let arrived = condition.last_delivered_at.is_some_and(|at| told.opened_at < at);
    if answered || arrived || !condition.state.takes_events() {
        Breaker::Closed
    } else if now < told.next_probe_at {
        Breaker::Open(told)
    } else {
        Breaker::HalfOpen(told)
    }
}

/// Writes down what changed. Several deliverers may tell of one endpoint; the last counts.
///
/// # Errors
/// When the database is away.
pub fn tell(conn: &mut PgConnection, changes: &[(SubscriptionId, Change)]) -> Result<()> {
    let (mut closed, mut open) = (Vec::new(), Vec::new());
    for (id, change) in changes {
        match change {
            Change::Closed => closed.push(*id),
            Change::Open { opened_at, next_probe_at, failures } => {
                open.push((*id, *opened_at, *next_probe_at, i32::try_from(*failures).unwrap_or(i32::MAX)));
            }
        }
    }
    // In order, so that two who tell of the same endpoints wait one way.
    open.sort_unstable_by_key(|(id, ..)| *id);
    if !closed.is_empty() {
        sql_query(
            "DELETE FROM endpoint_breakers WHERE subscription_id IN \
                (SELECT subscription_id FROM endpoint_breakers WHERE subscription_id = ANY($1) ORDER BY subscription_id FOR UPDATE)",
        )
        .bind::<Array<Uuid>, _>(closed)
        .execute(conn)?;
    }
    if !open.is_empty() {
        sql_query(
            "INSERT INTO endpoint_breakers (subscription_id, opened_at, next_probe_at, failures) \
             SELECT * FROM unnest($1, $2, $3, $4) ON CONFLICT (subscription_id) DO UPDATE SET \
                opened_at = excluded.opened_at, next_probe_at = excluded.next_probe_at, failures = excluded.failures",
        )
        .bind::<Array<Uuid>, _>(open.iter().map(|(id, ..)| *id).collect::<Vec<_>>())
        .bind::<Array<Timestamptz>, _>(open.iter().map(|(_, opened, ..)| *opened).collect::<Vec<_>>())
        .bind::<Array<Timestamptz>, _>(open.iter().map(|(_, _, probe, _)| *probe).collect::<Vec<_>>())
        .bind::<Array<Integer>, _>(open.iter().map(|(.., failures)| *failures).collect::<Vec<_>>())
        .execute(conn)?;
    }
    Ok(())
}

/// What was told last of an endpoint of a tenant.
///
/// # Errors
/// When the database is away.
pub fn find(conn: &mut PgConnection, tenant: TenantId, id: SubscriptionId) -> Result<Option<Told>> {
    Ok(sql_query(
        "SELECT b.opened_at, b.next_probe_at, b.failures FROM endpoint_breakers b \
         JOIN subscriptions s ON s.id = b.subscription_id WHERE s.tenant_id = $1 AND s.id = $2",
    )
    .bind::<Uuid, _>(tenant)
    .bind::<Uuid, _>(id)
    .get_result(conn)
    .optional()?)
}

/// Forgets what nobody has told of for a day.
///
/// # Errors
/// When the database is away.
pub fn forget_old(conn: &mut PgConnection, now: DateTime<Utc>) -> Result<()> {
    // What somebody is telling of just then is not old.
    sql_query(
        "DELETE FROM endpoint_breakers WHERE subscription_id IN \
            (SELECT subscription_id FROM endpoint_breakers WHERE next_probe_at < $1 ORDER BY subscription_id FOR UPDATE SKIP LOCKED)",
    )
    .bind::<Timestamptz, _>(now - TimeDelta::days(1))
    .execute(conn)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subscription::{HookState, Kind};

    #[test]
    fn a_breaker_is_what_was_told_unless_the_endpoint_has_answered_since() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let s = TimeDelta::seconds;
        let told = |probe| Told { opened_at: now - s(10), next_probe_at: now + s(probe), failures: 20 };
        let condition = |state, status, attempt: i64, delivered: Option<i64>| Condition {
            id: SubscriptionId::new(now),
            kind: Kind::Consumer,
            url: String::new(),
            state,
            state_reason: None,
            consecutive_failures: 20,
            consecutive_refusals: 0,
            first_failure_at: None,
            last_delivered_at: delivered.map(|ago| now - s(ago)),
            last_attempt_at: Some(now - s(attempt)),
            last_status: status,
            last_reason: None,
            warned: 0,
        };
        let failing = HookState::Failing;
        for (probe, state, status, attempt, delivered, expected) in [
            (5, failing, Some(500), 11, None, "open"),
            (0, failing, Some(500), 11, None, "half_open"),
            (-60, failing, None, 5, Some(60), "half_open"),
            (5, failing, Some(404), 5, None, "closed"),
            (5, failing, Some(404), 11, None, "open"),
            (5, failing, Some(500), 5, Some(6), "closed"),
            (5, HookState::Disabled, Some(500), 5, None, "closed"),
        ] {
            let condition = condition(state, status, attempt, delivered);
            assert_eq!(standing(Some(told(probe)), &condition, now).as_str(), expected, "{probe} {status:?}");
        }
        let condition = condition(failing, Some(500), 5, None);
        assert_eq!(standing(None, &condition, now), Breaker::Closed);
    }
}
