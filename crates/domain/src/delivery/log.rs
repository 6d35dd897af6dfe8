//! The message log: deliveries of a tenant with four statuses (contract §4), found by type, time, endpoint and status, each by an
//! index.

use chrono::{DateTime, Utc};
use diesel::{
    PgConnection, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Array, BigInt, Nullable, Text, Timestamptz, Uuid},
};

use super::{
    DeliveryState,
    inspect::{DeliveryQuery, DeliveryView, NAMES, ROW, VIEWED},
    page::{self, Condition},
};
use crate::{
    Result,
    db::{partition, prepared::planned_for_values},
    event::list::{EventQuery, last_looked_at},
    id::{DeliveryId, EventId, SubscriptionId, TenantId, first_uuid_at},
    subscription::EventPattern,
};

/// Types of a tenant that are looked through for those that match a pattern. Where there are more, events are, [`LOOKED_AT`](crate::event::list::LOOKED_AT) for a page.
const TYPES: i64 = 1_000;

/// How a message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// On its way, and not tried yet.
    Sending,
    /// Tried without success, and tried again.
    Attempting,
    /// Arrived.
    Success,
    /// Ended without having arrived.
    Failure,
}

impl Status {
    /// Every status.
    pub const ALL: [Self; 4] = [Self::Sending, Self::Attempting, Self::Success, Self::Failure];

    /// The word for it on the wire (contract §4).
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sending => "Sending",
            Self::Attempting => "Attempting",
            Self::Success => "Success",
            Self::Failure => "Failure",
        }
    }

    /// The status of a delivery in this state with so many tries.
    #[must_use]
    pub const fn of(state: DeliveryState, attempts: i16) -> Self {
        match state {
            DeliveryState::Pending if attempts == 0 => Self::Sending,
            DeliveryState::Pending => Self::Attempting,
            DeliveryState::Delivered => Self::Success,
            DeliveryState::Dead | DeliveryState::Cancelled | DeliveryState::Discarded => Self::Failure,
        }
    }

    /// The same as a condition.
    const fn condition(self) -> Condition {
        match self {
            Self::Sending => Condition::rare("d.state IN (0, 2) AND d.state = 0 AND d.attempts = 0"),
            Self::Attempting => Condition::rare("d.state IN (0, 2) AND d.state = 0 AND d.attempts > 0"),
            Self::Success => Condition::common("d.state = 1"),
            Self::Failure => Condition::rare("d.state IN (2, 3, 4)"),
        }
    }
}

impl std::str::FromStr for Status {
    type Err = ();
    fn from_str(text: &str) -> std::result::Result<Self, ()> {
        Self::ALL.into_iter().find(|status| status.as_str().eq_ignore_ascii_case(text)).ok_or(())
    }
}

/// A message as its owner sees it.
#[derive(Clone, Debug, QueryableByName)]
pub struct MessageView {
    /// The delivery.
    #[diesel(embed)]
    pub delivery: DeliveryView,
    /// When the event was accepted.
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
}

/// A page of messages.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Those of the newest events first.
    pub messages: Vec<MessageView>,
    /// Where the next page begins although this one is not full: so far was looked.
    pub looked_up_to: Option<DeliveryId>,
}

/// Which messages of a tenant, all conditions together.
#[derive(Clone, Debug, Default)]
pub struct LogQuery {
    /// To this endpoint.
    pub endpoint: Option<SubscriptionId>,
    /// With this status.
    pub status: Option<Status>,
    /// Of types that match.
    pub types: Option<EventPattern>,
    /// Of events accepted at or after.
    pub since: Option<DateTime<Utc>>,
    /// Of events accepted before.
    pub until: Option<DateTime<Utc>>,
    /// Only what comes after this one in the list: the cursor.
    pub after: Option<DeliveryId>,
    /// At most so many.
    pub limit: i64,
}

impl LogQuery {
    /// The same, whatever the types and the status.
    fn of_any_type(&self) -> DeliveryQuery {
        let Self { endpoint, since, until, after, limit, .. } = *self;
        DeliveryQuery { subscription: endpoint, state: None, since, until, after, limit }
    }
}

/// The statement of [`list`] without a condition on types, for an endpoint or all.
#[must_use]
pub fn statement(status: Option<Status>, of_an_endpoint: bool) -> String {
    page::statement(condition(status), of_an_endpoint)
}

fn condition(status: Option<Status>) -> Condition {
    status.map_or(Condition::common("true"), Status::condition)
}

/// The statement of [`list`] with a condition on types, whose parameters come last. The range stands for events and for deliveries, so that
/// either can be begun with.
#[must_use]
pub fn statement_of_types(status: Option<Status>) -> String {
    let status = condition(status).sql;
    format!(
        "SELECT {ROW}, {NAMES}, e.created_at FROM {VIEWED} WHERE d.tenant_id = $1 AND e.tenant_id = $1 \
           AND ($2 IS NULL OR d.subscription_id = $2) AND {status} \
           AND ($3 IS NULL OR d.event_id >= $3 AND e.id >= $3) AND ($4 IS NULL OR d.event_id < $4 AND e.id < $4) \
           AND ($5 IS NULL OR d.event_id <= $5 AND e.id <= $5 AND (d.event_id, d.subscription_id) < ($5, $6)) \
           AND ($8 IS NULL OR e.event_type = ANY($8)) AND ($9 IS NULL OR e.event_type ~ $9) \
         ORDER BY d.event_id DESC, d.subscription_id DESC LIMIT $7"
    )
}

/// A page of messages, those of the newest events first. Pages are cut by event and endpoint, so that what comes meanwhile neither
/// repeats nor hides any.
///
/// # Errors
/// When the database is away.
pub fn list(conn: &mut PgConnection, tenant: TenantId, query: &LogQuery) -> Result<Found> {
    let asked = query.of_any_type();
    let Some(pattern) = &query.types else {
        let messages = page::of(conn, tenant, condition(query.status), &asked)?;
        return Ok(Found { messages, looked_up_to: None });
    };
    let types = match pattern.is_exact() {
        Some(exact) => Some(vec![exact.as_str().to_owned()]),
        None => matching(conn, tenant, pattern)?,
    };
    let Some(types) = types else {
        return looked_for(conn, tenant, query.status, asked, pattern);
    };
    let messages = of_types(conn, tenant, query.status, &asked, (Some(types), None))?;
    Ok(Found { messages, looked_up_to: None })
}

/// Messages of these types, or of types that match an expression.
fn of_types(
    conn: &mut PgConnection,
    tenant: TenantId,
    status: Option<Status>,
    query: &DeliveryQuery,
    (types, expression): (Option<Vec<String>>, Option<String>),
) -> Result<Vec<MessageView>> {
    planned_for_values(conn, |conn| {
        Ok(page::with_parameters(statement_of_types(status), tenant, query)
            .bind::<Nullable<Array<Text>>, _>(types)
            .bind::<Nullable<Text>, _>(expression)
            .load(conn)?)
    })
}

/// Messages of a tenant with so many types that those which match a pattern are not known: its events are looked at one after the other, but
/// no more than [`LOOKED_AT`](crate::event::list::LOOKED_AT). A page of what is rare is short then, and says where to go on.
fn looked_for(
    conn: &mut PgConnection,
    tenant: TenantId,
    status: Option<Status>,
    query: DeliveryQuery,
    pattern: &EventPattern,
) -> Result<Found> {
    // Of the event of the cursor there may be more messages.
    let beyond = |id: DeliveryId| {
        EventId::from_uuid(uuid::Uuid::from_u128(id.event.uuid().as_u128().saturating_add(1)))
    };
    let (since, until, before) = (query.since, query.until, query.after.map(beyond));
    let events = EventQuery { since, until, before, ..EventQuery::default() };
    let last = planned_for_values(conn, |conn| last_looked_at(conn, tenant, &events))?;
    // To the millisecond, as all of the range.
    let last = last.map(EventId::accepted_at);
    let window = DeliveryQuery { since: last.or(query.since), ..query };
    let messages = of_types(conn, tenant, status, &window, (None, Some(pattern.expression())))?;
    let is_full = i64::try_from(messages.len()).unwrap_or(i64::MAX) >= window.limit;
    // Before everything of that millisecond.
    let looked_up_to = last.filter(|_| !is_full).map(|last| DeliveryId {
        event: EventId::from_uuid(first_uuid_at(last)),
        subscription: SubscriptionId::from_uuid(uuid::Uuid::nil()),
    });
    Ok(Found { messages, looked_up_to })
}

/// The types of a tenant's events that match a pattern; `None` when it has too many types to look through. Each type is one step
/// down an index, however many events it has.
fn matching(
    conn: &mut PgConnection,
    tenant: TenantId,
    pattern: &EventPattern,
) -> Result<Option<Vec<String>>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        event_type: crate::event::EventType,
    }
    let rows: Vec<Row> = planned_for_values(conn, |conn| {
        Ok(sql_query(
            "WITH RECURSIVE types (event_type) AS (\
                (SELECT event_type FROM events WHERE tenant_id = $1 ORDER BY event_type LIMIT 1) \
                UNION ALL \
                SELECT (SELECT e.event_type FROM events e WHERE e.tenant_id = $1 AND e.event_type > t.event_type \
                   ORDER BY e.event_type LIMIT 1) FROM types t WHERE t.event_type IS NOT NULL) \
             SELECT event_type FROM types WHERE event_type IS NOT NULL LIMIT $2",
        )
        .bind::<Uuid, _>(tenant)
        .bind::<BigInt, _>(TYPES + 1)
        .load(conn)?)
    })?;
    if i64::try_from(rows.len()).unwrap_or(i64::MAX) > TYPES {
        return Ok(None);
    }
    let matching = rows.into_iter().filter(|row| pattern.matches(&row.event_type));
    Ok(Some(matching.map(|row| row.event_type.as_str().to_owned()).collect()))
}

/// One message of a tenant.
///
/// # Errors
/// When the database is away.
pub fn find(conn: &mut PgConnection, tenant: TenantId, id: DeliveryId) -> Result<Option<MessageView>> {
    let event = partition::constant(id.event);
    let rows: Vec<MessageView> = sql_query(format!(
        "SELECT {ROW}, {NAMES}, e.created_at FROM {VIEWED} \
         WHERE d.event_id = {event} AND d.subscription_id = $2 AND d.tenant_id = $1"
    ))
    .bind::<Uuid, _>(tenant)
    .bind::<Uuid, _>(id.subscription)
    .load(conn)?;
    Ok(rows.into_iter().next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_has_one_status() {
        for (state, attempts, expected) in [
            (DeliveryState::Pending, 0, Status::Sending),
            (DeliveryState::Pending, 1, Status::Attempting),
            (DeliveryState::Delivered, 1, Status::Success),
            (DeliveryState::Dead, 4, Status::Failure),
            (DeliveryState::Cancelled, 0, Status::Failure),
            (DeliveryState::Discarded, 4, Status::Failure),
        ] {
            assert_eq!(Status::of(state, attempts), expected, "{state:?}");
        }
        assert_eq!("success".parse(), Ok(Status::Success));
        assert_eq!("Attempting".parse(), Ok(Status::Attempting));
        assert_eq!("pending".parse::<Status>(), Err(()));
    }
}
