//! Reading an inbox without leasing: everything that came, in order, from a place on. The place is the number that the fan-out gave, in the
//! order of its commits, so that whoever goes on after a number misses nothing that had a smaller one.

use chrono::{DateTime, Utc};
use diesel::{
    PgConnection, QueryableByName, RunQueryDsl,
    sql_types::{BigInt, Binary, Bool, Nullable, SmallInt, Text, Timestamptz, Uuid},
};

use crate::{
    Result,
    db::prepared::prepared,
    delivery::DeliveryState,
    id::{DeliveryId, EventId, SubscriptionId, TenantId},
};

/// Where a message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageState {
    /// It may be leased.
    Waiting,
    /// It is somebody's.
    Leased,
    /// It was released for later.
    Delayed,
    /// It is done.
    Acknowledged,
    /// It was leased too often: a dead letter.
    Quarantined,
    /// It ended otherwise: it expired, or the inbox was deleted.
    Cancelled,
    /// It was quarantined, and somebody gave it up.
    Discarded,
}

impl MessageState {
    /// Every state.
    pub const ALL: [Self; 7] = [
        Self::Waiting,
        Self::Leased,
        Self::Delayed,
        Self::Acknowledged,
        Self::Quarantined,
        Self::Cancelled,
        Self::Discarded,
    ];

    /// The word for it on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Leased => "leased",
            Self::Delayed => "delayed",
            Self::Acknowledged => "acknowledged",
            Self::Quarantined => "quarantined",
            Self::Cancelled => "cancelled",
            Self::Discarded => "discarded",
        }
    }
}

/// A message as it is read.
#[derive(Clone, Debug, QueryableByName)]
pub struct LoggedMessage {
    /// Its event.
    #[diesel(sql_type = Uuid)]
    pub event_id: EventId,
    /// Its inbox.
    #[diesel(sql_type = Uuid)]
    pub subscription_id: SubscriptionId,
    /// Its place.
    #[diesel(sql_type = BigInt)]
    pub sequence: i64,
    #[diesel(sql_type = SmallInt)]
    state: DeliveryState,
    /// Leases since it came, or since it was requeued.
    #[diesel(sql_type = SmallInt)]
    pub lease_count: i16,
    /// Until when it is somebody's, or delayed.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub leased_until: Option<DateTime<Utc>>,
    #[diesel(sql_type = Bool)]
    held: bool,
    /// Since when it is in the inbox.
    #[diesel(sql_type = Timestamptz)]
    pub available_at: DateTime<Utc>,
    /// When it ended.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub settled_at: Option<DateTime<Utc>>,
    /// What came of the last lease, as a word or as a reader's words.
    #[diesel(sql_type = Nullable<Text>)]
    pub last_reason: Option<String>,
    /// The event as it is stored; `None` when it is not kept any more.
    #[diesel(sql_type = Nullable<Binary>)]
    pub body: Option<Vec<u8>>,
}

impl LoggedMessage {
    /// As the delivery that it is.
    #[must_use]
    pub fn delivery(&self) -> DeliveryId {
        DeliveryId { event: self.event_id, subscription: self.subscription_id }
    }

    /// Where it stands at this moment.
    #[must_use]
    pub fn state(&self, now: DateTime<Utc>) -> MessageState {
        match self.state {
            DeliveryState::Pending => match self.leased_until {
                Some(until) if now < until && self.held => MessageState::Leased,
                Some(until) if now < until => MessageState::Delayed,
                Some(_) | None => MessageState::Waiting,
            },
            DeliveryState::Delivered => MessageState::Acknowledged,
            DeliveryState::Dead => MessageState::Quarantined,
            DeliveryState::Cancelled => MessageState::Cancelled,
            DeliveryState::Discarded => MessageState::Discarded,
        }
    }
}

/// Which messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// All.
    All,
    /// Those that are quarantined.
    Quarantined,
}

/// Reads the messages of the inbox $2 of the tenant $1 with numbers above $3, at most $4 of them and $5 bytes. `OFFSET 0`
/// keeps the planner from reading all events of the tenant to join some, and `(SELECT 2)` from walking through all dead letters.
#[must_use]
pub fn statement(which: Which) -> String {
    let condition = match which {
        Which::All => "",
        Which::Quarantined => {
            " AND d.state IN (0, 2) AND d.state = (SELECT 2::smallint) AND d.leased_until IS NULL"
        }
    };
    format!(
        "WITH page AS MATERIALIZED (SELECT d.* FROM deliveries d \
               WHERE d.subscription_id = $2 AND d.tenant_id = $1 AND d.profile = 5 AND d.sequence > $3{condition} \
               ORDER BY d.sequence LIMIT $4), \
            sized AS (SELECT p.*, e.body, row_number() OVER arrival AS place, count(*) OVER () AS found, \
                  sum(COALESCE(octet_length(e.body), 0)) OVER arrival AS bytes \
               FROM page p LEFT JOIN LATERAL (SELECT body FROM events WHERE tenant_id = $1 AND id = p.event_id OFFSET 0) e ON true \
               WINDOW arrival AS (ORDER BY p.sequence)) \
         SELECT event_id, subscription_id, sequence, state, tries AS lease_count, leased_until, \
            claim <> '00000000-0000-0000-0000-000000000000' AS held, due_at AS available_at, settled_at, last_reason, body, found \
         FROM sized WHERE place = 1 OR bytes <= $5 ORDER BY sequence"
    )
}

/// The messages of an inbox of a tenant with numbers above `after`, in order: at most `limit`, and of several no more than
/// `bytes` together. Returns whether there are more.
///
/// # Errors
/// When the database is away.
pub fn after(
    conn: &mut PgConnection,
    (tenant, inbox): (TenantId, SubscriptionId),
    which: Which,
    after: i64,
    (limit, bytes): (i64, i64),
) -> Result<(Vec<LoggedMessage>, bool)> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(embed)]
        message: LoggedMessage,
        #[diesel(sql_type = BigInt)]
        found: i64,
    }
    let rows: Vec<Row> = prepared(statement(which))
        .bind::<Uuid, _>(tenant)
        .bind::<Uuid, _>(inbox)
        .bind::<BigInt, _>(after)
        // One more tells whether there is more.
        .bind::<BigInt, _>(limit + 1)
        .bind::<BigInt, _>(bytes)
        .load(conn)?;
    let found = rows.first().map_or(0, |row| row.found);
    let mut messages: Vec<LoggedMessage> = rows.into_iter().map(|row| row.message).collect();
    messages.truncate(usize::try_from(limit).unwrap_or(0));
    let more = i64::try_from(messages.len()).unwrap_or(0) < found;
    Ok((messages, more))
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn the_state_of_a_message_is_that_of_its_delivery_and_its_lease() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let (past, future) = (Some(now), Some(now + TimeDelta::milliseconds(1)));
        let state = |state, leased_until, held| {
            let message = LoggedMessage {
                event_id: EventId::new(now),
                subscription_id: SubscriptionId::new(now),
                sequence: 1,
                state,
                lease_count: 0,
                leased_until,
                held,
                available_at: now,
                settled_at: None,
                last_reason: None,
                body: None,
            };
            message.state(now).as_str()
        };
        for (delivery, leased_until, held, expected) in [
            (DeliveryState::Pending, None, false, "waiting"),
            (DeliveryState::Pending, future, true, "leased"),
            (DeliveryState::Pending, past, true, "waiting"),
            (DeliveryState::Pending, future, false, "delayed"),
            (DeliveryState::Pending, past, false, "waiting"),
            (DeliveryState::Delivered, None, true, "acknowledged"),
            (DeliveryState::Dead, None, false, "quarantined"),
            (DeliveryState::Cancelled, future, true, "cancelled"),
            (DeliveryState::Discarded, None, false, "discarded"),
        ] {
            assert_eq!(state(delivery, leased_until, held), expected, "{delivery:?} {leased_until:?} {held}");
        }
    }
}
