//! Warnings of a subscription's owner on the way to its being disabled: at 50, 70 and 90 percent of it, once in each run of
//! failures, by the event `hook.warning` and by mail to the tenant's admins.

use chrono::{DateTime, Utc};
use diesel::{
    PgConnection, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Array, Integer, Nullable, SmallInt, Text, Timestamptz, Uuid},
};

use super::{
    FAILING_TO_DISABLE, Health, HealthChange, Kind, REFUSALS_TO_DISABLE, Report, diagnosis::Problem,
};
use crate::{
    Result,
    email::{self, letter::Letter},
    event::{self, wire_time},
    id::{EventGroupId, SubscriptionId, TenantId},
    person::{Locale, Role},
    vault::Vault,
    wire::{Json, Object},
};

/// The stages, in percent of the way.
pub const STAGES: [u8; 3] = [50, 70, 90];

/// People who get a mail, at most.
const MAX_RECIPIENTS: i64 = 20;

/// What is said of a failure of which nothing more is known.
const UNKNOWN: &str = "Deliveries fail.";

/// The event that warns.
const WARNING: &str = "hook.warning";

/// How far a subscription is on its way to being disabled, in percent: by refusals in a row, and by time unless it is a hook,
/// which no time disables.
#[must_use]
pub fn progress(kind: Kind, refusals: u32, failing_since: Option<DateTime<Utc>>, now: DateTime<Utc>) -> u8 {
    let of_refusals = u64::from(refusals) * 100 / u64::from(REFUSALS_TO_DISABLE);
    let of_time = failing_since.filter(|_| kind != Kind::Hook).map_or(0, |since| {
        let failing = u64::try_from((now - since).num_milliseconds()).unwrap_or(0);
        failing * 100 / FAILING_TO_DISABLE.num_milliseconds().unsigned_abs().max(1)
    });
    u8::try_from(of_refusals.max(of_time)).unwrap_or(u8::MAX).min(100)
}

/// The stage that a report has brought a subscription to; `None` for one that is healthy enough, has ended, or has no owner who
/// subscribed it.
#[must_use]
pub fn stage(health: &Health, change: &HealthChange, report: &Report) -> Option<u8> {
    let owned = !matches!(health.kind, Kind::Task | Kind::Callback);
    if !owned || change.ended.is_some() || !change.state.takes_events() {
        return None;
    }
    let failing_since = if report.delivered > 0 { report.first_failure_at } else { health.failing_since };
    let reached = progress(health.kind, change.consecutive_refusals, failing_since, report.last_attempt_at);
    STAGES.into_iter().rev().find(|stage| *stage <= reached)
}

/// A subscription whose owner is to be warned now.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
pub struct Raised {
    /// Which.
    #[diesel(sql_type = Uuid)]
    pub subscription_id: SubscriptionId,
    /// The stage.
    #[diesel(sql_type = SmallInt)]
    pub warned: i16,
    /// When the first of the failures happened since which nothing has arrived.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub failing_since: Option<DateTime<Utc>>,
    /// Tries that failed since the last that arrived.
    #[diesel(sql_type = Integer)]
    pub consecutive_failures: i32,
}

/// Notes stages that were reached. Returns those of which nobody has been warned in this run of failures. Belongs into the
/// transaction that has written the health.
///
/// # Errors
/// When the database is away.
pub fn raise(conn: &mut PgConnection, stages: &[(SubscriptionId, u8)]) -> Result<Vec<Raised>> {
    if stages.is_empty() {
        return Ok(Vec::new());
    }
    Ok(sql_query(
        "UPDATE subscription_health h SET warned = k.s, warned_for = h.first_failure_at \
         FROM unnest($1, $2) AS k (i, s) WHERE h.subscription_id = k.i AND \
            (h.warned_for IS DISTINCT FROM h.first_failure_at OR h.warned < k.s) \
         RETURNING h.subscription_id, h.warned, h.first_failure_at AS failing_since, h.consecutive_failures",
    )
    .bind::<Array<Uuid>, _>(stages.iter().map(|(id, _)| *id).collect::<Vec<_>>())
    .bind::<Array<SmallInt>, _>(stages.iter().map(|(_, stage)| i16::from(*stage)).collect::<Vec<_>>())
    .load(conn)?)
}

/// Writes the event that warns, of this problem. Returns its group, to be rung after the commit.
///
/// # Errors
/// When the database is away.
pub fn tell(
    conn: &mut PgConnection,
    raised: &Raised,
    (report, change, kind): (&Report, &HealthChange, Kind),
    problem: Option<Problem>,
    url: &str,
    now: DateTime<Utc>,
) -> Result<EventGroupId> {
    let mut payload = Object::new();
    payload.insert("hook_id", Json::from(raised.subscription_id.to_string()));
    payload.insert("url", Json::from(url));
    payload.insert("percent", Json::from(i32::from(raised.warned)));
    let explanation = problem.map_or(UNKNOWN, |problem| problem.words(Locale::En).explanation);
    payload.insert("reason", Json::from(explanation));
    payload.insert("last_reason", Json::from(report.last_reason.as_str()));
    payload.insert("last_status", Json::from(report.last_status.map(u32::from)));
    payload.insert("consecutive_failures", Json::from(raised.consecutive_failures));
    payload.insert("failing_since", Json::from(raised.failing_since.map(wire_time)));
    let left = REFUSALS_TO_DISABLE.saturating_sub(change.consecutive_refusals);
    payload.insert("refusals_left", Json::from((change.consecutive_refusals > 0).then_some(left)));
    payload.insert("disables_at", Json::from(disables_at(kind, raised.failing_since).map(wire_time)));
    event::own::insert(conn, report.tenant, WARNING, payload, now)
}

/// When nothing but failures will have happened for too long; `None` for a hook, which no time disables.
#[must_use]
pub fn disables_at(kind: Kind, failing_since: Option<DateTime<Utc>>) -> Option<DateTime<Utc>> {
    failing_since
        .filter(|_| kind != Kind::Hook)
        .and_then(|since| since.checked_add_signed(FAILING_TO_DISABLE))
}

/// What is told by mail.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// The subscription.
    pub subscription: SubscriptionId,
    /// Where it delivers.
    pub url: &'a str,
    /// How far it is on its way to being disabled, in percent; 100 when it was disabled.
    pub percent: u8,
    /// What is wrong, as far as is known.
    pub problem: Option<Problem>,
    /// Where more is told.
    pub link: &'a str,
}

/// Writes a mail to each admin of the tenant, in their language.
///
/// # Errors
/// When the database is away.
pub fn mail(
    conn: &mut PgConnection,
    vault: &Vault,
    tenant: TenantId,
    told: &Told<'_>,
    now: DateTime<Utc>,
) -> Result<()> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        email: String,
        #[diesel(sql_type = Text)]
        locale: String,
    }
    let admins: Vec<Row> = sql_query(
        "SELECT u.email, u.locale FROM memberships m JOIN users u ON u.id = m.user_id \
         WHERE m.tenant_id = $1 AND m.role = $2 AND u.disabled_at IS NULL ORDER BY m.user_id LIMIT $3",
    )
    .bind::<Uuid, _>(tenant)
    .bind::<SmallInt, _>(Role::Admin.code())
    .bind::<diesel::sql_types::BigInt, _>(MAX_RECIPIENTS)
    .load(conn)?;
    for admin in admins {
        let locale = Locale::of_stored(&admin.locale);
        let words = told.problem.map(|problem| problem.words(locale));
        let letter = Letter::HookInTrouble {
            url: told.url,
            percent: told.percent,
            explanation: words.map_or("", |words| words.explanation),
            advice: words.map_or("", |words| words.advice),
            link: told.link,
        };
        email::store::enqueue(conn, vault, Some(tenant), &letter.to(&admin.email, locale), now)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::subscription::{Ended, HookState};

    #[test]
    fn the_way_is_measured_by_refusals_and_by_time() {
        let now = DateTime::UNIX_EPOCH + TimeDelta::days(30);
        let since = |hours: i64| Some(now - TimeDelta::hours(hours));
        for (kind, refusals, failing_since, expected) in [
            (Kind::Hook, 0, None, 0),
            (Kind::Hook, 2, None, 40),
            (Kind::Hook, 3, since(1_000), 60),
            (Kind::Hook, 9, None, 100),
            (Kind::Task, 0, since(59), 49),
            (Kind::Task, 0, since(60), 50),
            (Kind::Task, 0, since(108), 90),
            (Kind::Task, 4, since(60), 80),
            (Kind::Task, 0, since(-5), 0),
            (Kind::Task, 0, since(10_000), 100),
            (Kind::Consumer, 0, None, 0),
            (Kind::Consumer, 0, since(59), 49),
            (Kind::Consumer, 0, since(60), 50),
            (Kind::Consumer, 4, since(60), 80),
            (Kind::Consumer, 0, since(108), 90),
            (Kind::Consumer, 0, since(120), 100),
        ] {
            assert_eq!(
                progress(kind, refusals, failing_since, now),
                expected,
                "{kind:?} {refusals} {failing_since:?}"
            );
        }
    }

    /// The stage to which a report brings a consumer that has failed since then, with no refusal.
    fn stage_of_consumer(failing_since: DateTime<Utc>, report: &Report) -> Option<u8> {
        let (kind, state) = (Kind::Consumer, HookState::Active);
        let failing_since = Some(failing_since);
        let health = Health { kind, state, failing_since, consecutive_refusals: 0, forbidden: false };
        let change = HealthChange { state, consecutive_refusals: 0, ended: None, turned_forbidden: false };
        stage(&health, &change, report)
    }

    #[test]
    fn the_owner_of_a_consumer_is_warned_from_the_very_moment_on_at_which_a_stage_is_reached() {
        let since = DateTime::UNIX_EPOCH;
        let stage_after = |failing: TimeDelta| {
            let at = since + failing;
            stage_of_consumer(since, &Report::new(SubscriptionId::new(at), TenantId::new(at), at))
        };
        let mut before = None;
        for (hours, percent) in [(60, 50), (84, 70), (108, 90)] {
            let reached = TimeDelta::hours(hours);
            assert_eq!(stage_after(reached - TimeDelta::milliseconds(1)), before, "before {percent}");
            assert_eq!(stage_after(reached), Some(percent));
            before = Some(percent);
        }
    }

    #[test]
    fn what_arrives_ends_the_time_that_counts() {
        let now = DateTime::UNIX_EPOCH + TimeDelta::days(30);
        let since = now - TimeDelta::hours(119);
        let report = Report::new(SubscriptionId::new(now), TenantId::new(now), now);
        assert_eq!(stage_of_consumer(since, &report), Some(90));
        let arrived = Report { delivered: 1, first_failure_at: Some(now), ..report };
        assert_eq!(stage_of_consumer(since, &arrived), None);
    }

    #[test]
    fn only_who_is_owned_and_lives_is_warned_of() {
        let now = DateTime::UNIX_EPOCH;
        let report = Report::new(SubscriptionId::new(now), TenantId::new(now), now);
        let stage_of = |kind, consecutive_refusals, state, ended| {
            let health =
                Health { kind, state, failing_since: None, consecutive_refusals: 0, forbidden: false };
            stage(
                &health,
                &HealthChange { state, consecutive_refusals, ended, turned_forbidden: false },
                &report,
            )
        };
        use HookState::{Disabled, Failing};
        for (kind, refusals, state, ended, expected) in [
            (Kind::Hook, 2, Failing, None, None),
            (Kind::Hook, 3, Failing, None, Some(50)),
            (Kind::Hook, 4, Failing, None, Some(70)),
            (Kind::Hook, 5, Disabled, Some(Ended::Refused), None),
            (Kind::Hook, 4, Disabled, None, None),
            (Kind::Task, 4, Failing, None, None),
            (Kind::Callback, 4, Failing, None, None),
        ] {
            assert_eq!(stage_of(kind, refusals, state, ended), expected, "{kind:?} {refusals} {state:?}");
        }
    }
}
