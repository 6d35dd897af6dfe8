//! Reading events: pages by key, with the state of their deliveries.

mod ways;

use std::{borrow::Cow, cmp::Reverse};

use chrono::{DateTime, Utc};
use diesel::{
    PgConnection, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{BigInt, Bool, Jsonb, Nullable, Timestamptz, Uuid},
};

pub use self::ways::LOOKED_AT;
use self::ways::Way;
pub(crate) use self::ways::last_looked_at;
use super::{store::StoredEvent, wire_time};
use crate::{
    Result,
    db::{partition, prepared::planned_for_values},
    id::{EventId, TenantId},
    wire::{Json, Object, to_canonical},
};

/// Where an event stands, over all its deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventState {
    /// Accepted, not fanned out yet: in a moment, or at the time that it was scheduled for.
    Accepted,
    /// Nobody wanted it.
    Unmatched,
    /// At least one delivery is under way, or still to be made.
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

impl EventQuery {
    /// The same as `limit`; none when that is below zero.
    fn most(&self) -> usize {
        usize::try_from(self.limit).unwrap_or(0)
    }
}

/// An event and how its deliveries stand.
#[derive(Clone, Debug, QueryableByName)]
pub struct ListedEvent {
    /// The event itself.
    #[diesel(embed)]
    pub event: StoredEvent,
    /// What is left of it when its payload was purged.
    #[diesel(embed)]
    pub left: Left,
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

/// What an event without its payload is told by.
#[derive(Clone, Debug, QueryableByName)]
pub struct Left {
    /// When it happened.
    #[diesel(sql_type = Timestamptz)]
    pub occurred_at: DateTime<Utc>,
    /// Its metadata; `None` while the payload is there, and the metadata are part of the body.
    #[diesel(sql_type = Nullable<Jsonb>)]
    pub metadata: Option<serde_json::Value>,
    /// When the payload was purged.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub payload_purged_at: Option<DateTime<Utc>>,
}

/// The columns of [`Left`].
const LEFT: &str =
    "e.occurred_at, CASE WHEN e.body = '' THEN e.metadata END AS metadata, e.payload_purged_at";

impl ListedEvent {
    /// The event as its owner reads it: the stored bytes, or, without the payload, the same members with `payload` `null` and
    /// `payload_purged_at` at the end.
    #[must_use]
    pub fn shown(&self) -> Cow<'_, [u8]> {
        if !self.event.is_purged() {
            return Cow::Borrowed(&self.event.body);
        }
        let id = self.event.id.to_string();
        let metadata = self.left.metadata.as_ref().map_or(Json::Null, Json::from_serde);
        let purged = self.left.payload_purged_at.unwrap_or(self.event.created_at);
        let event = Object::from_iter([
            ("id", Json::from(id.as_str())),
            ("event_id", Json::from(id.as_str())),
            ("event_type", Json::from(self.event.event_type.as_str())),
            ("timestamp", Json::from(wire_time(self.left.occurred_at))),
            ("payload", Json::Null),
            ("metadata", metadata),
            ("created_at", Json::from(wire_time(self.event.created_at))),
            ("payload_purged_at", Json::from(wire_time(purged))),
        ]);
        Cow::Owned(to_canonical(&event.into()))
    }

    /// Where the event stands.
    #[must_use]
    pub fn state(&self) -> EventState {
        let made = self.pending + self.delivered + self.dead + self.cancelled;
        if self.waits && made == 0 {
            EventState::Accepted
        } else if self.waits || self.pending > 0 {
            EventState::Pending
        } else if self.dead > 0 {
            EventState::Dead
        } else if self.delivered > 0 {
            EventState::Delivered
        } else if self.cancelled > 0 {
            EventState::Cancelled
        } else {
            EventState::Unmatched
        }
    }
}

/// Counts of an event's deliveries, and whether it still waits for its fan-out.
const STANDING: &str = "SELECT count(*) FILTER (WHERE d.state = 0) AS pending, \
     count(*) FILTER (WHERE d.state = 1) AS delivered, count(*) FILTER (WHERE d.state = 2) AS dead, \
     count(*) FILTER (WHERE d.state IN (3, 4)) AS cancelled FROM deliveries d WHERE d.event_id = e.id";

/// Of an event of tenant `$1`. The groups, with what is left of those that are gone, are read once and not for each event.
const WAITS: &str = "(e.id = ANY(ARRAY(SELECT k.id FROM event_groups g CROSS JOIN LATERAL unnest(g.tenant_ids, g.event_ids) AS k (t, id) \
        WHERE k.t = $1)) \
     OR EXISTS (SELECT FROM scheduled_events w WHERE w.id = e.id))";

/// A page of events.
#[derive(Clone, Debug, Default)]
pub struct Listed {
    /// The events, newest first.
    pub events: Vec<ListedEvent>,
    /// Where the look has ended before it was known whether there are more: the last event that was looked at.
    pub looked_up_to: Option<EventId>,
}

/// A page of events, newest first.
///
/// Pages are cut by id, which is unique and grows, so that events that arrive meanwhile neither repeat nor hide any.
///
/// # Errors
/// When the database is away.
pub fn list(conn: &mut PgConnection, tenant: TenantId, query: &EventQuery) -> Result<Listed> {
    planned_for_values(conn, |conn| {
        let ways = Way::to(query.state);
        let most = query.most();
        let (mut events, mut end) = (Vec::new(), None);
        for way in &ways {
            let found = way.find(conn, tenant, query)?;
            end = end.max(found.looked_up_to);
            events.extend(found.events);
        }
        if ways.len() > 1 {
            events.sort_by_key(|listed: &ListedEvent| Reverse(listed.event.id));
            events.dedup_by_key(|listed| listed.event.id);
        }
        // What lies behind where one of the looks has ended comes with the next page, together with what that look finds there.
        events.retain(|listed| end.is_none_or(|end| listed.event.id >= end));
        let looked_up_to = end.filter(|_| events.len() < most);
        events.truncate(most);
        Ok(Listed { events, looked_up_to })
    })
}

/// One event of a tenant with the state of its deliveries.
///
/// # Errors
/// When the database is away.
pub fn show(conn: &mut PgConnection, tenant: TenantId, id: EventId) -> Result<Option<ListedEvent>> {
    let rows: Vec<ListedEvent> = sql_query(format!(
        "SELECT {stored}, {LEFT}, pending, delivered, dead, cancelled, {WAITS} AS waits \
         FROM events e CROSS JOIN LATERAL ({STANDING} AND d.event_id = {event}) AS standing \
         WHERE e.tenant_id = $1 AND e.id = {event}",
        stored = super::store::STORED,
        event = partition::constant(id)
    ))
    .bind::<Uuid, _>(tenant)
    .load(conn)?;
    Ok(rows.into_iter().next())
}
