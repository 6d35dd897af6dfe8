//! Reading deliveries and their tries.

use chrono::{DateTime, Utc};
use diesel::{
    PgConnection, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Array, BigInt, Binary, Integer, Nullable, SmallInt, Text, Timestamptz, Uuid},
};

use super::{
    DeliveryState, Profile,
    page::{self, Condition},
};
use crate::{
    Result,
    db::{partition, prepared::planned_for_values},
    id::{DeliveryId, EventId, RunId, SubscriptionId, TaskId, TenantId},
};

/// A delivery as its owner sees it.
#[derive(Clone, Debug, QueryableByName)]
pub struct DeliveryView {
    /// The delivery.
    #[diesel(embed)]
    pub delivery: DeliveryRow,
    /// The event's type.
    #[diesel(sql_type = Text)]
    pub event_type: String,
    /// Where it goes.
    #[diesel(sql_type = Text)]
    pub url: String,
}

/// What is known of a delivery without its event and its hook.
#[derive(Clone, Debug, QueryableByName)]
pub struct DeliveryRow {
    /// What is delivered.
    #[diesel(sql_type = Uuid)]
    pub event_id: EventId,
    /// To whom.
    #[diesel(sql_type = Uuid)]
    pub subscription_id: SubscriptionId,
    /// How it is tried.
    #[diesel(sql_type = SmallInt)]
    pub profile: Profile,
    /// Where it stands.
    #[diesel(sql_type = SmallInt)]
    pub state: DeliveryState,
    /// All tries so far.
    #[diesel(sql_type = SmallInt)]
    pub attempts: i16,
    /// Times the receiver asked for later.
    #[diesel(sql_type = SmallInt)]
    pub deferrals: i16,
    /// The next try, while pending; `None` when it waits for another delivery.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// When it ended.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub settled_at: Option<DateTime<Utc>>,
    /// Status of the last try.
    #[diesel(sql_type = Nullable<SmallInt>)]
    pub last_status: Option<i16>,
    /// What came of the last try, as a word.
    #[diesel(sql_type = Nullable<Text>)]
    pub last_reason: Option<String>,
    /// Its number among the deliveries of its subscription, if that counts.
    #[diesel(sql_type = Nullable<BigInt>)]
    pub sequence: Option<i64>,
}

impl DeliveryRow {
    /// The delivery's identity.
    #[must_use]
    pub fn id(&self) -> DeliveryId {
        DeliveryId { event: self.event_id, subscription: self.subscription_id }
    }
}

impl DeliveryView {
    /// The delivery's identity.
    #[must_use]
    pub fn id(&self) -> DeliveryId {
        self.delivery.id()
    }
}

/// The columns of a [`DeliveryRow`].
pub(super) const ROW: &str = "d.event_id, d.subscription_id, d.profile, d.state, d.attempts, d.deferrals, \
     NULLIF(d.next_attempt_at, 'infinity') AS next_attempt_at, d.settled_at, d.last_status, d.last_reason, d.sequence";

/// The other columns of a [`DeliveryView`].
pub(super) const NAMES: &str = "e.event_type, s.url";

pub(super) const VIEWED: &str = "deliveries d \
     JOIN events e ON e.tenant_id = d.tenant_id AND e.id = d.event_id JOIN subscriptions s ON s.id = d.subscription_id";

/// One try as its owner sees it.
#[derive(Clone, Debug, QueryableByName)]
pub struct AttemptView {
    /// Which try, from 1.
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
    /// The first KiB of the reply.
    #[diesel(sql_type = Nullable<Binary>)]
    pub reply: Option<Vec<u8>>,
}

/// Which deliveries of a tenant, all conditions together.
#[derive(Clone, Debug, Default)]
pub struct DeliveryQuery {
    /// To this hook.
    pub subscription: Option<SubscriptionId>,
    /// In this state.
    pub state: Option<DeliveryState>,
    /// Of events accepted at or after.
    pub since: Option<DateTime<Utc>>,
    /// Of events accepted before.
    pub until: Option<DateTime<Utc>>,
    /// Only what comes after this one in the list: the cursor.
    pub after: Option<DeliveryId>,
    /// At most so many.
    pub limit: i64,
}

/// A page of deliveries, those of the newest events first.
///
/// # Errors
/// When the database is away.
pub fn list(conn: &mut PgConnection, tenant: TenantId, query: &DeliveryQuery) -> Result<Vec<DeliveryView>> {
    let condition = match query.state {
        None => Condition::common("true"),
        Some(DeliveryState::Pending) => Condition::rare("d.state = 0 AND d.state IN (0, 2)"),
        Some(DeliveryState::Delivered) => Condition::common("d.state = 1"),
        Some(DeliveryState::Dead) => Condition::rare("d.state = 2"),
        Some(DeliveryState::Cancelled) => Condition::rare("d.state = 3"),
        Some(DeliveryState::Discarded) => Condition::rare("d.state = 4"),
    };
    let found = page::of(conn, tenant, condition, query)?;
    Ok(found.into_iter().map(|message| message.delivery).collect())
}

/// The deliveries of one event.
///
/// # Errors
/// When the database is away.
pub fn of_event(
    conn: &mut PgConnection,
    tenant: TenantId,
    event: EventId,
    after: Option<SubscriptionId>,
    limit: i64,
) -> Result<Vec<DeliveryView>> {
    let event = partition::constant(event);
    Ok(sql_query(format!(
        "SELECT {ROW}, {NAMES} FROM {VIEWED} WHERE d.event_id = {event} AND d.tenant_id = $1 \
           AND ($2 IS NULL OR d.subscription_id < $2) ORDER BY d.subscription_id DESC LIMIT $3"
    ))
    .bind::<Uuid, _>(tenant)
    .bind::<Nullable<Uuid>, _>(after)
    .bind::<BigInt, _>(limit)
    .load(conn)?)
}

/// A run whose webhooks are looked at.
#[derive(Clone, Copy, Debug, QueryableByName)]
pub struct RunOfWebhooks {
    /// The run.
    #[diesel(sql_type = Uuid)]
    pub id: RunId,
    /// Where its webhooks go.
    #[diesel(sql_type = Uuid)]
    pub endpoint_id: SubscriptionId,
    /// Its last event.
    #[diesel(sql_type = Uuid)]
    pub last_event: EventId,
}

/// The latest run of a task; `None` without a task, a webhook, or anything reported.
///
/// # Errors
/// When the database is away.
pub fn latest_run(conn: &mut PgConnection, tenant: TenantId, task: TaskId) -> Result<Option<RunOfWebhooks>> {
    let rows: Vec<RunOfWebhooks> = sql_query(
        "SELECT r.id, t.endpoint_id, r.last_event FROM tasks t JOIN task_runs r ON r.id = t.run_id \
         WHERE t.tenant_id = $1 AND t.id = $2 AND t.endpoint_id IS NOT NULL AND r.last_event IS NOT NULL",
    )
    .bind::<Uuid, _>(tenant)
    .bind::<Uuid, _>(task)
    .load(conn)?;
    Ok(rows.into_iter().next())
}

/// The webhook deliveries of a run, in the order in which they stand in line.
///
/// # Errors
/// When the database is away.
pub fn of_run(
    conn: &mut PgConnection,
    tenant: TenantId,
    run: &RunOfWebhooks,
    limit: i64,
) -> Result<Vec<DeliveryView>> {
    // By the endpoint and between the ids of the run and of its last event, whose times they tell: runs need no index of their
    // own among deliveries.
    planned_for_values(conn, |conn| {
        Ok(sql_query(format!(
            "SELECT {ROW}, {NAMES} FROM {VIEWED} WHERE d.subscription_id = $2 AND d.tenant_id = $1 AND d.ordering = $3 \
               AND d.event_id >= $4 AND d.event_id <= $5 ORDER BY d.event_id LIMIT $6"
        ))
        .bind::<Uuid, _>(tenant)
        .bind::<Uuid, _>(run.endpoint_id)
        .bind::<Uuid, _>(run.id)
        .bind::<Uuid, _>(uuid::Uuid::from_u128(run.id.uuid().as_u128() >> 80 << 80))
        .bind::<Uuid, _>(run.last_event)
        .bind::<BigInt, _>(limit)
        .load(conn)?)
    })
}

/// The tries of many deliveries, in the order of [`DeliveryId`] and number. The caller has made sure whose they are.
///
/// # Errors
/// When the database is away.
pub fn attempts_of(conn: &mut PgConnection, ids: &[DeliveryId]) -> Result<Vec<(DeliveryId, AttemptView)>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Uuid)]
        event_id: EventId,
        #[diesel(sql_type = Uuid)]
        subscription_id: SubscriptionId,
        #[diesel(embed)]
        attempt: AttemptView,
    }
    let (events, subscriptions) = super::store::split(ids.iter().copied());
    let rows: Vec<Row> = planned_for_values(conn, |conn| {
        Ok(sql_query(
            "SELECT a.event_id, a.subscription_id, a.number, a.started_at, a.latency_ms, a.status, a.reason, a.reply \
             FROM unnest($1, $2) AS k (e, s) JOIN attempts a ON a.event_id = k.e AND a.subscription_id = k.s \
             ORDER BY a.event_id, a.subscription_id, a.number",
        )
        .bind::<Array<Uuid>, _>(events)
        .bind::<Array<Uuid>, _>(subscriptions)
        .load(conn)?)
    })?;
    let id = |row: &Row| DeliveryId { event: row.event_id, subscription: row.subscription_id };
    Ok(rows.into_iter().map(|row| (id(&row), row.attempt)).collect())
}

/// One delivery of a tenant.
///
/// # Errors
/// When the database is away.
pub fn find(conn: &mut PgConnection, tenant: TenantId, id: DeliveryId) -> Result<Option<DeliveryView>> {
    let event = partition::constant(id.event);
    let rows: Vec<DeliveryView> = sql_query(format!(
        "SELECT {ROW}, {NAMES} FROM {VIEWED} WHERE d.event_id = {event} AND d.subscription_id = $2 AND d.tenant_id = $1"
    ))
    .bind::<Uuid, _>(tenant)
    .bind::<Uuid, _>(id.subscription)
    .load(conn)?;
    Ok(rows.into_iter().next())
}

/// The tries of a delivery, first to last. The caller has made sure whose it is.
///
/// # Errors
/// When the database is away.
pub fn attempts(conn: &mut PgConnection, id: DeliveryId) -> Result<Vec<AttemptView>> {
    let event = partition::constant(id.event);
    Ok(sql_query(format!(
        "SELECT number, started_at, latency_ms, status, reason, reply FROM attempts \
         WHERE event_id = {event} AND subscription_id = $1 ORDER BY number"
    ))
    .bind::<Uuid, _>(id.subscription)
    .load(conn)?)
}
