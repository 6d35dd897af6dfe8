//! Reading events: pages by key, with the state of their deliveries.

use std::{borrow::Cow, cmp::Reverse};

use chrono::{DateTime, TimeDelta, Utc};
use diesel::{
    PgConnection, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{BigInt, Bool, Jsonb, Nullable, Text, Timestamptz, Uuid},
};

use super::{store::StoredEvent, wire_time};
use crate::{
    Result,
    clock::Clock,
    db::{partition, prepared::planned_for_values},
    id::{EventId, TenantId, first_uuid_at},
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

/// A condition, and that the event is fanned out: only that of events that satisfy the condition, not of all that are looked at.
fn and_fanned_out(condition: &str) -> String {
    format!("CASE WHEN {condition} THEN NOT waits ELSE false END")
}

/// Events that a page looks at for conditions that no index knows together: metadata, states that are the absence of something, a type
/// among what is pending. A page of rare ones is short then, and says where to go on.
pub const LOOKED_AT: i64 = 10_000;

/// What counts as near.
const NEAR: TimeDelta = TimeDelta::days(1);

/// A page of events.
#[derive(Clone, Debug, Default)]
pub struct Listed {
    /// The events, newest first.
    pub events: Vec<ListedEvent>,
    /// Where the look has ended before it was known whether there are more: the last event that was looked at.
    pub looked_up_to: Option<EventId>,
}

/// Events of tenant `$1` that wait for their fan-out, or for their time.
const WAITING: &str = "SELECT k.id FROM event_groups g CROSS JOIN LATERAL unnest(g.tenant_ids, g.event_ids) AS k (t, id) \
     WHERE k.t = $1 AND ($5 IS NULL OR k.id < $5) \
     UNION ALL SELECT w.id FROM scheduled_events w WHERE w.tenant_id = $1 AND ($5 IS NULL OR w.id < $5)";

/// How events in a state are found.
enum Way {
    /// By looking at the tenant's events one after the other, for this.
    Look(String),
    /// By what is known of these: `c` (id), and then this.
    Known(String, String),
}

impl Way {
    /// What waits, and of that what satisfies a condition.
    fn waiting(condition: &str) -> Self {
        Self::Known(WAITING.to_owned(), condition.to_owned())
    }

    fn of(state: Option<StateFilter>) -> Self {
        let undelivered = |which: &str| {
            format!(
                "SELECT u.event_id AS id FROM deliveries u WHERE u.tenant_id = $1 AND u.state IN (0, 2){which} \
                   AND ($3 IS NULL OR u.event_id >= $3) AND ($4 IS NULL OR u.event_id < $4) \
                   AND ($5 IS NULL OR u.event_id < $5)"
            )
        };
        match state {
            None => Self::Look("true".to_owned()),
            Some(StateFilter::Undelivered) => Self::Known(undelivered(""), "true".to_owned()),
            Some(StateFilter::Is(EventState::Accepted)) => {
                Self::waiting("pending + delivered + dead + cancelled = 0")
            }
            Some(StateFilter::Is(EventState::Pending)) => {
                Self::Known(undelivered(" AND u.state = 0"), "pending > 0".to_owned())
            }
            Some(StateFilter::Is(EventState::Dead)) => {
                Self::Known(undelivered(" AND u.state = 2"), and_fanned_out("pending = 0 AND dead > 0"))
            }
            Some(StateFilter::Is(EventState::Unmatched)) => {
                Self::Look(and_fanned_out("pending + delivered + dead + cancelled = 0"))
            }
            Some(StateFilter::Is(EventState::Delivered)) => {
                Self::Look(and_fanned_out("pending + dead = 0 AND delivered > 0"))
            }
            Some(StateFilter::Is(EventState::Cancelled)) => {
                Self::Look(and_fanned_out("pending + dead + delivered = 0 AND cancelled > 0"))
            }
        }
    }
}

/// What of the tenant's events is asked for that their index knows.
const ASKED: &str = "e.tenant_id = $1 AND ($2 IS NULL OR e.event_type = $2) \
     AND ($3 IS NULL OR e.id >= $3) AND ($4 IS NULL OR e.id < $4) AND ($5 IS NULL OR e.id < $5)";

/// A page of events, newest first.
///
/// Pages are cut by id, which is unique and grows, so that events that arrive meanwhile neither repeat nor hide any.
///
/// # Errors
/// When the database is away.
pub fn list(conn: &mut PgConnection, tenant: TenantId, query: &EventQuery) -> Result<Listed> {
    planned_for_values(conn, |conn| {
        let ways = match query.state {
            // What waits is read before what it turns into, so that what is fanned out meanwhile is not missed. Each goes by an index
            // of its own, in order; both together would be read whole and sorted.
            Some(StateFilter::Undelivered) => vec![Way::waiting("true"), Way::of(query.state)],
            // Of a large event some deliveries may have ended before the others are made.
            Some(StateFilter::Is(EventState::Pending)) => {
                vec![Way::waiting("pending + delivered + dead + cancelled > 0"), Way::of(query.state)]
            }
            None | Some(StateFilter::Is(_)) => vec![Way::of(query.state)],
        };
        let most = usize::try_from(query.limit).unwrap_or(0);
        let (mut events, mut end) = (Vec::new(), None);
        for way in &ways {
            let found = near_first(conn, tenant, query, way)?;
            let may_end_early = match way {
                Way::Look(_) => query.state.is_some() || query.metadata.is_some(),
                Way::Known(..) => true,
            };
            if found.len() < most && may_end_early {
                end = end.max(last_looked_at(conn, tenant, query, way)?);
            }
            events.extend(found);
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

/// A page of events in whatever state is nearly always full of those of the last day: they are asked first, so that only their
/// partitions are planned for. If they fill it, it is the page that all of them would fill.
fn near_first(
    conn: &mut PgConnection,
    tenant: TenantId,
    query: &EventQuery,
    way: &Way,
) -> Result<Vec<ListedEvent>> {
    if query.state.is_none() && query.since.is_none() {
        // Where it is looked first changes nothing of what is found.
        let newest = query.before.map(EventId::accepted_at).or(query.until);
        let now = Clock::system().now();
        let near = EventQuery {
            since: Some(newest.unwrap_or(now) - NEAR),
            // Nothing is accepted tomorrow.
            until: query.until.or_else(|| query.before.is_none().then(|| now + NEAR)),
            ..query.clone()
        };
        let found = page(conn, tenant, &near, way)?;
        if found.len() >= usize::try_from(query.limit).unwrap_or(usize::MAX) {
            return Ok(found);
        }
    }
    page(conn, tenant, query, way)
}

fn page(
    conn: &mut PgConnection,
    tenant: TenantId,
    query: &EventQuery,
    way: &Way,
) -> Result<Vec<ListedEvent>> {
    Ok(sql_query(statement(way, query.state.is_none()))
        .bind::<Uuid, _>(tenant)
        .bind::<Nullable<Text>, _>(&query.event_type)
        .bind::<Nullable<Uuid>, _>(query.since.map(first_uuid_at))
        .bind::<Nullable<Uuid>, _>(query.until.map(first_uuid_at))
        .bind::<Nullable<Uuid>, _>(query.before)
        .bind::<Nullable<Jsonb>, _>(&query.metadata)
        .bind::<BigInt, _>(query.limit)
        .load(conn)?)
}

/// The statement of a page; its parameters are those of [`list`]. In whatever state: deliveries are looked for in the days in which
/// events are.
fn statement(way: &Way, in_any_state: bool) -> String {
    let columns =
        format!("SELECT {}, {LEFT}, pending, delivered, dead, cancelled, waits", super::store::STORED);
    let from = if in_any_state {
        " AND ($3 IS NULL OR d.event_id >= $3) AND ($4 IS NULL OR d.event_id < $4)"
    } else {
        ""
    };
    let standing = format!(
        "CROSS JOIN LATERAL ({STANDING}{from}) AS standing CROSS JOIN LATERAL (SELECT {WAITS} AS waits) AS w"
    );
    let metadata = "($6 IS NULL OR e.metadata @> $6)";
    match way {
        Way::Look(state) => format!(
            "{columns} FROM (SELECT * FROM events e WHERE {ASKED} ORDER BY e.id DESC LIMIT {LOOKED_AT}) e {standing} \
             WHERE {metadata} AND {state} ORDER BY e.id DESC LIMIT $7"
        ),
        Way::Known(ids, state) => format!(
            "{columns} FROM (SELECT DISTINCT c.id FROM ({ids}) c ORDER BY c.id DESC LIMIT {LOOKED_AT}) c \
             JOIN events e ON e.tenant_id = $1 AND e.id = c.id {standing} \
             WHERE {ASKED} AND {metadata} AND {state} ORDER BY c.id DESC LIMIT $7"
        ),
    }
}

/// The last event that a page can have looked at; `None` when there are not that many.
fn last_looked_at(
    conn: &mut PgConnection,
    tenant: TenantId,
    query: &EventQuery,
    way: &Way,
) -> Result<Option<EventId>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Uuid)]
        id: EventId,
    }
    let looked_at = match way {
        Way::Look(_) => format!("SELECT e.id FROM events e WHERE {ASKED} ORDER BY e.id DESC"),
        Way::Known(ids, _) => format!("SELECT DISTINCT c.id FROM ({ids}) c ORDER BY c.id DESC"),
    };
    let rows: Vec<Row> = sql_query(format!("{looked_at} OFFSET {} LIMIT 1", LOOKED_AT - 1))
        .bind::<Uuid, _>(tenant)
        .bind::<Nullable<Text>, _>(&query.event_type)
        .bind::<Nullable<Uuid>, _>(query.since.map(first_uuid_at))
        .bind::<Nullable<Uuid>, _>(query.until.map(first_uuid_at))
        .bind::<Nullable<Uuid>, _>(query.before)
        .load(conn)?;
    Ok(rows.into_iter().next().map(|row| row.id))
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
