//! How a subscription fares and why: its counters, the last try that failed, and how fast it answers. For whoever owns it; the
//! words are [`diagnosis`](super::diagnosis)'s, the command that repeats that try [`command`](super::command)'s.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::{
    OptionalExtension, PgConnection, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Array, Binary, Bool, Integer, Nullable, SmallInt, Text, Timestamptz, Uuid},
};

use super::{
    HookState, Kind, Report,
    diagnosis::Problem,
    warning::{disables_at, progress},
};
use crate::{
    Result,
    db::prepared::planned_for_values,
    delivery::Profile,
    id::{DeliveryId, EventId, SubscriptionId, TenantId},
};

/// Deliveries that are looked at for the last failure: those of so many of the newest events.
const LOOKED_AT: i32 = 200;

/// Tries by which the pace is judged.
const PACE_OF: i32 = 20;

/// Fewer answers say nothing about the pace.
const PACE_AT_LEAST: usize = 5;

/// The condition of a subscription.
#[derive(Clone, Debug, QueryableByName)]
pub struct Condition {
    /// Which.
    #[diesel(sql_type = Uuid)]
    pub id: SubscriptionId,
    /// What it is.
    #[diesel(sql_type = SmallInt)]
    pub kind: Kind,
    /// Where deliveries go.
    #[diesel(sql_type = Text)]
    pub url: String,
    /// Where it stands.
    #[diesel(sql_type = SmallInt)]
    pub state: HookState,
    /// Why.
    #[diesel(sql_type = Nullable<Text>)]
    pub state_reason: Option<String>,
    /// Tries that failed since the last that arrived.
    #[diesel(sql_type = Integer)]
    pub consecutive_failures: i32,
    /// 401 and 403 in a row.
    #[diesel(sql_type = Integer)]
    pub consecutive_refusals: i32,
    /// When the first of those failures happened.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub first_failure_at: Option<DateTime<Utc>>,
    /// When the last delivery arrived.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub last_delivered_at: Option<DateTime<Utc>>,
    /// When the last try ended.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub last_attempt_at: Option<DateTime<Utc>>,
    /// Its HTTP status.
    #[diesel(sql_type = Nullable<SmallInt>)]
    pub last_status: Option<i16>,
    /// Its outcome, as a word.
    #[diesel(sql_type = Nullable<Text>)]
    pub last_reason: Option<String>,
    /// The last stage of which the owner was warned in this run of failures, in percent; 0 for none.
    #[diesel(sql_type = SmallInt)]
    pub warned: i16,
}

impl Condition {
    /// How far it is on its way to being disabled, in percent.
    #[must_use]
    pub fn progress(&self, now: DateTime<Utc>) -> u8 {
        if !self.state.takes_events() {
            return 100;
        }
        let refusals = u32::try_from(self.consecutive_refusals).unwrap_or(0);
        progress(self.kind, refusals, self.first_failure_at, now)
    }

    /// When nothing but failures will have happened for too long.
    #[must_use]
    pub fn disables_at(&self) -> Option<DateTime<Utc>> {
        disables_at(self.kind, self.first_failure_at).filter(|_| self.state.takes_events())
    }

    /// What is wrong now: what the last try says, or that answers come late.
    #[must_use]
    pub fn problem(&self, failure: Option<&Failure>, pace: Option<Pace>) -> Option<Problem> {
        let word = self.last_reason.as_deref().unwrap_or_default();
        of_failure(word, failure)
            .or_else(|| pace.and_then(|pace| Problem::of_pace(pace.median, pace.timeout)))
    }
}

/// A try that failed.
#[derive(Clone, Debug, QueryableByName)]
pub struct Failure {
    /// Of which event.
    #[diesel(sql_type = Uuid)]
    pub event_id: EventId,
    /// To whom.
    #[diesel(sql_type = Uuid)]
    pub subscription_id: SubscriptionId,
    /// How it was tried.
    #[diesel(sql_type = SmallInt)]
    pub profile: Profile,
    /// Which try.
    #[diesel(sql_type = SmallInt)]
    pub number: i16,
    /// When it began.
    #[diesel(sql_type = Timestamptz)]
    pub started_at: DateTime<Utc>,
    /// How long it took.
    #[diesel(sql_type = Integer)]
    pub latency_ms: i32,
    /// HTTP status, if there was one.
    #[diesel(sql_type = Nullable<SmallInt>)]
    pub status: Option<i16>,
    /// What came of it, as a word.
    #[diesel(sql_type = Text)]
    pub reason: String,
    /// The first KiB of the reply; without a reply what went wrong.
    #[diesel(sql_type = Nullable<Binary>)]
    pub reply: Option<Vec<u8>>,
    /// Whether the delivery is signed with a secret of the tenant's choice, too.
    #[diesel(sql_type = Bool)]
    pub has_secret: bool,
}

impl Failure {
    /// The delivery.
    #[must_use]
    pub fn delivery(&self) -> DeliveryId {
        DeliveryId { event: self.event_id, subscription: self.subscription_id }
    }

    /// The reply, or what went wrong, as text.
    #[must_use]
    pub fn detail(&self) -> String {
        String::from_utf8_lossy(self.reply.as_deref().unwrap_or_default()).into_owned()
    }
}

/// How fast a receiver answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Half of the latest answers took so long, or longer.
    pub median: Duration,
    /// How long they may take.
    pub timeout: Duration,
}

/// The condition of a subscription of one of these kinds.
///
/// # Errors
/// When the database is away.
pub fn find(
    conn: &mut PgConnection,
    tenant: TenantId,
    id: SubscriptionId,
    kinds: &[Kind],
) -> Result<Option<Condition>> {
    Ok(sql_query(
        "SELECT s.id, s.kind, s.url, s.state, s.state_reason, COALESCE(h.consecutive_failures, 0) AS consecutive_failures, \
            COALESCE(h.consecutive_refusals, 0) AS consecutive_refusals, h.first_failure_at, h.last_delivered_at, \
            h.last_attempt_at, h.last_status, h.last_reason, \
            CASE WHEN h.warned_for = h.first_failure_at THEN h.warned ELSE 0 END::smallint AS warned \
         FROM subscriptions s LEFT JOIN subscription_health h ON h.subscription_id = s.id \
         WHERE s.tenant_id = $1 AND s.id = $2 AND s.kind = ANY($3)",
    )
    .bind::<Uuid, _>(tenant)
    .bind::<Uuid, _>(id)
    .bind::<Array<SmallInt>, _>(kinds.iter().map(|kind| kind.code()).collect::<Vec<_>>())
    .get_result(conn)
    .optional()?)
}

/// The latest try of a subscription that failed, among those of the newest events.
///
/// # Errors
/// When the database is away.
pub fn last_failure(
    conn: &mut PgConnection,
    tenant: TenantId,
    id: SubscriptionId,
) -> Result<Option<Failure>> {
    planned_for_values(conn, |conn| {
        Ok(sql_query(
            "WITH recent AS MATERIALIZED (SELECT event_id, subscription_id, profile FROM deliveries \
                WHERE subscription_id = $2 AND tenant_id = $1 ORDER BY event_id DESC LIMIT $3) \
             SELECT a.event_id, a.subscription_id, r.profile, a.number, a.started_at, a.latency_ms, a.status, a.reason, a.reply, \
                COALESCE(s.webhook_secret, t.webhook_secret) IS NOT NULL AS has_secret \
             FROM recent r JOIN attempts a ON a.event_id = r.event_id AND a.subscription_id = r.subscription_id \
             JOIN subscriptions s ON s.id = r.subscription_id JOIN tenants t ON t.id = s.tenant_id \
             WHERE a.reason <> 'delivered' AND r.profile <> $4 ORDER BY a.started_at DESC LIMIT 1",
        )
        .bind::<Uuid, _>(tenant)
        .bind::<Uuid, _>(id)
        .bind::<Integer, _>(LOOKED_AT)
        .bind::<SmallInt, _>(Profile::Farewell.code())
        .get_result(conn)
        .optional()?)
    })
}

/// What is wrong according to the last try of a report, as exactly as is known. Belongs behind the try: what it left is read where its word
/// says too little.
///
/// # Errors
/// When the database is away.
pub fn problem_of(conn: &mut PgConnection, report: &Report) -> Result<Option<Problem>> {
    let word = report.last_reason.as_str();
    let problem = Problem::of(word, "");
    if problem != Some(Problem::Tls) {
        return Ok(problem);
    }
    Ok(of_failure(word, last_failure(conn, report.tenant, report.subscription)?.as_ref()))
}

/// What the word of the last try says, and the latest failure besides, if that is the same try as far as its word tells.
fn of_failure(word: &str, failure: Option<&Failure>) -> Option<Problem> {
    let detail = failure.filter(|failure| failure.reason == word).map(Failure::detail);
    Problem::of(word, detail.as_deref().unwrap_or_default())
}

/// How fast a subscription has answered lately; `None` while there is too little to say.
///
/// # Errors
/// When the database is away.
pub fn pace(conn: &mut PgConnection, tenant: TenantId, id: SubscriptionId) -> Result<Option<Pace>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = SmallInt)]
        profile: Profile,
        #[diesel(sql_type = Integer)]
        latency_ms: i32,
    }
    let mut rows: Vec<Row> = planned_for_values(conn, |conn| {
        Ok(sql_query(
            "WITH recent AS MATERIALIZED (SELECT event_id, subscription_id, profile FROM deliveries \
                WHERE subscription_id = $2 AND tenant_id = $1 ORDER BY event_id DESC LIMIT $3) \
             SELECT r.profile, a.latency_ms FROM recent r \
             JOIN attempts a ON a.event_id = r.event_id AND a.subscription_id = r.subscription_id \
             WHERE a.reason = 'delivered'",
        )
        .bind::<Uuid, _>(tenant)
        .bind::<Uuid, _>(id)
        .bind::<Integer, _>(PACE_OF)
        .load(conn)?)
    })?;
    rows.sort_unstable_by_key(|row| row.latency_ms);
    if rows.len() < PACE_AT_LEAST {
        return Ok(None);
    }
    Ok(rows.get(rows.len() / 2).map(|row| Pace {
        median: Duration::from_millis(u64::try_from(row.latency_ms).unwrap_or(0)),
        timeout: row.profile.timeout(),
    }))
}
