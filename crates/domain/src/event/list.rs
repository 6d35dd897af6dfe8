//! Reading events: pages by key, with the state of their deliveries.

use chrono::{DateTime, Utc};
use diesel::{
    PgConnection, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{BigInt, Bool, Jsonb, Nullable, Text, Uuid},
};

use super::store::StoredEvent;
use crate::{
    Result,
    db::prepared::planned_for_values,
    id::{EventId, TenantId, first_uuid_at},
};

/// Where an event stands, over all its deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventState {
    /// Accepted, not fanned out yet: in a moment, or at the time that it was scheduled for.
    Accepted,
    /// Nobody wanted it.
    Unmatched,
    /// At least one delivery is under way.
    Pending,
    /// At least one delivery is in the dead letters, none is under way.
    Dead,
    /// No delivery is under way or dead, and at least one arrived.
    Delivered,
    /// Every delivery was cancelled or discarded.
    Cancelled,
}

impl EventState {
    /// The word for it on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Unmatched => "unmatched",
            Self::Pending => "pending",
            Self::Dead => "dead",
            Self::Delivered => "delivered",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Which events by state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateFilter {
    /// In exactly this state.
    Is(EventState),
    /// Not fanned out yet, or with a delivery that is under way or dead.
    Undelivered,
}

impl std::str::FromStr for StateFilter {
    type Err = ();
    fn from_str(text: &str) -> std::result::Result<Self, ()> {
        Ok(Self::Is(match text {
            "undelivered" => return Ok(Self::Undelivered),
            "accepted" => EventState::Accepted,
            "unmatched" => EventState::Unmatched,
            "pending" => EventState::Pending,
            "dead" => EventState::Dead,
            "delivered" => EventState::Delivered,
            "cancelled" => EventState::Cancelled,
            _ => return Err(()),
        }))
    }
}

/// Which events, all conditions together.
#[derive(Clone, Debug, Default)]
pub struct EventQuery {
    /// Of this type.
    pub event_type: Option<String>,
    /// Accepted at or after.
    pub since: Option<DateTime<Utc>>,
    /// Accepted before.
    pub until: Option<DateTime<Utc>>,
    /// In this state.
    pub state: Option<StateFilter>,
    /// Whose metadata contain these members.
    pub metadata: Option<serde_json::Value>,
    /// Only events older than this one: the cursor.
    pub before: Option<EventId>,
    /// At most so many.
    pub limit: i64,
}

/// An event and how its deliveries stand.
#[derive(Clone, Debug, QueryableByName)]
pub struct ListedEvent {
    /// The event itself.
    #[diesel(embed)]
    pub event: StoredEvent,
    /// Deliveries under way.
    #[diesel(sql_type = BigInt)]
    pub pending: i64,
    /// Deliveries that arrived.
    #[diesel(sql_type = BigInt)]
    pub delivered: i64,
    /// Deliveries in the dead letters.
    #[diesel(sql_type = BigInt)]
    pub dead: i64,
    /// Deliveries that were cancelled or discarded.
    #[diesel(sql_type = BigInt)]
    pub cancelled: i64,
    #[diesel(sql_type = Bool)]
    waits: bool,
}

impl ListedEvent {
    /// Where the event stands.
    #[must_use]
    pub fn state(&self) -> EventState {
        if self.pending > 0 {
            EventState::Pending
        } else if self.dead > 0 {
            EventState::Dead
        } else if self.delivered > 0 {
            EventState::Delivered
        } else if self.cancelled > 0 {
            EventState::Cancelled
        } else if self.waits {
            EventState::Accepted
        } else {
            EventState::Unmatched
        }
    }
}

/// Counts of an event's deliveries, and whether it still waits for its fan-out.
const STANDING: &str = "SELECT count(*) FILTER (WHERE d.state = 0) AS pending, \
     count(*) FILTER (WHERE d.state = 1) AS delivered, count(*) FILTER (WHERE d.state = 2) AS dead, \
     count(*) FILTER (WHERE d.state IN (3, 4)) AS cancelled FROM deliveries d WHERE d.event_id = e.id";

const WAITS: &str = "(EXISTS (SELECT FROM event_groups g WHERE e.id = ANY(g.event_ids)) \
     OR EXISTS (SELECT FROM scheduled_events w WHERE w.id = e.id))";

/// A page of events, newest first.
///
/// Pages are cut by id, which is unique and grows, so that events that arrive meanwhile neither repeat nor hide any.
///
/// # Errors
/// When the database is away.
pub fn list(conn: &mut PgConnection, tenant: TenantId, query: &EventQuery) -> Result<Vec<ListedEvent>> {
    let state = match query.state {
        None => "true".to_owned(),
        Some(StateFilter::Undelivered) => format!(
            "(e.id IN (SELECT u.event_id FROM deliveries u WHERE u.tenant_id = $1 AND u.state IN (0, 2) \
               AND ($3 IS NULL OR u.event_id >= $3)) OR {WAITS})"
        ),
        Some(StateFilter::Is(EventState::Accepted)) => WAITS.to_owned(),
        Some(StateFilter::Is(EventState::Unmatched)) => {
            format!("pending + delivered + dead + cancelled = 0 AND NOT {WAITS}")
        }
        Some(StateFilter::Is(EventState::Pending)) => "pending > 0".to_owned(),
        Some(StateFilter::Is(EventState::Dead)) => "pending = 0 AND dead > 0".to_owned(),
        Some(StateFilter::Is(EventState::Delivered)) => "pending + dead = 0 AND delivered > 0".to_owned(),
        Some(StateFilter::Is(EventState::Cancelled)) => {
            "pending + dead + delivered = 0 AND cancelled > 0".to_owned()
        }
    };
    planned_for_values(conn, |conn| {
        Ok(sql_query(format!(
            "SELECT {stored}, pending, delivered, dead, cancelled, {WAITS} AS waits \
         FROM events e CROSS JOIN LATERAL ({STANDING}) AS standing \
         WHERE e.tenant_id = $1 AND ($2 IS NULL OR e.event_type = $2) \
           AND ($3 IS NULL OR e.id >= $3) AND ($4 IS NULL OR e.id < $4) AND ($5 IS NULL OR e.id < $5) \
           AND ($6 IS NULL OR e.metadata @> $6) AND {state} \
         ORDER BY e.id DESC LIMIT $7",
            stored = super::store::STORED
        ))
        .bind::<Uuid, _>(tenant)
        .bind::<Nullable<Text>, _>(&query.event_type)
        .bind::<Nullable<Uuid>, _>(query.since.map(first_uuid_at))
        .bind::<Nullable<Uuid>, _>(query.until.map(first_uuid_at))
        .bind::<Nullable<Uuid>, _>(query.before)
        .bind::<Nullable<Jsonb>, _>(&query.metadata)
        .bind::<BigInt, _>(query.limit)
        .load(conn)?)
    })
}

/// One event of a tenant with the state of its deliveries.
///
/// # Errors
/// When the database is away.
pub fn show(conn: &mut PgConnection, tenant: TenantId, id: EventId) -> Result<Option<ListedEvent>> {
    let rows: Vec<ListedEvent> = sql_query(format!(
        "SELECT {stored}, pending, delivered, dead, cancelled, {WAITS} AS waits \
         FROM events e CROSS JOIN LATERAL ({STANDING}) AS standing WHERE e.tenant_id = $1 AND e.id = $2",
        stored = super::store::STORED
    ))
    .bind::<Uuid, _>(tenant)
    .bind::<Uuid, _>(id)
    .load(conn)?;
    Ok(rows.into_iter().next())
}
