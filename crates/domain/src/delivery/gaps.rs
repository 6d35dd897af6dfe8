//! Which numbers of a subscription did not arrive: what a receiver asks that has seen a hole, and what is sent to close it.
//!
//! Every number that was given is accounted for: its delivery stands somewhere, or was dropped with its partition, or the number is
//! void, because a crash of Postgres has left it without a delivery ([`super::sequence`]).

use chrono::{DateTime, Utc};
use diesel::{
    OptionalExtension, PgConnection, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Array, BigInt, Binary, Bool, Nullable, SmallInt, Text, Timestamptz, Uuid},
};

use super::{DeliveryState, replay::Again};
use crate::{
    Result,
    id::{EventId, SubscriptionId, TenantId},
    subscription::Kind,
};

/// Numbers that are looked at in one request at the most.
pub const MAX_NUMBERS: i64 = 10_000;

/// Deliveries that are sent again in one request at the most.
pub const MAX_AT_ONCE: i64 = 1_000;

/// Bytes of events that are read in one request, about; one event is always read.
const PAGE_BYTES: i64 = 4 << 20;

/// What a subscription has counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// What it is.
    pub kind: Kind,
    /// The number given last; 0 before the first.
    pub last: i64,
    /// Ranges of void numbers, first and last of each, in order.
    pub void: Vec<(i64, i64)>,
}

/// What a subscription of the tenant has counted; `None` for one that does not count, such as an endpoint of tasks.
///
/// # Errors
/// When the database is away.
pub fn counted(
    conn: &mut PgConnection,
    tenant: TenantId,
    subscription: SubscriptionId,
) -> Result<Option<Counted>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = SmallInt)]
        kind: Kind,
        #[diesel(sql_type = BigInt)]
        last: i64,
        #[diesel(sql_type = Array<BigInt>)]
        void_from: Vec<i64>,
        #[diesel(sql_type = Array<BigInt>)]
        void_to: Vec<i64>,
    }
    // After a crash the counter goes on behind what it had reserved, when it is used next; what lies between is void already.
    let row: Option<Row> = sql_query(
        "WITH q AS (SELECT q.void, q.last, CASE WHEN g.id = q.generation THEN q.last ELSE q.reserved END AS given \
            FROM subscription_sequences q LEFT JOIN sequence_generation g ON g.one WHERE q.subscription_id = $2), \
         void AS (SELECT r FROM q, unnest(q.void + int8multirange(int8range(q.last, q.given, '(]'))) AS r ORDER BY r) \
         SELECT s.kind, COALESCE((SELECT given FROM q), 0) AS last, \
            ARRAY(SELECT lower(r) FROM void) AS void_from, ARRAY(SELECT upper(r) - 1 FROM void) AS void_to \
         FROM subscriptions s WHERE s.tenant_id = $1 AND s.id = $2",
    )
    .bind::<Uuid, _>(tenant)
    .bind::<Uuid, _>(subscription)
    .get_result(conn)
    .optional()?;
    Ok(row.filter(|row| row.kind.is_matched()).map(|row| Counted {
        kind: row.kind,
        last: row.last,
        void: row.void_from.into_iter().zip(row.void_to).collect(),
    }))
}

/// A number whose delivery is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, QueryableByName)]
pub struct Numbered {
    /// The number.
    #[diesel(sql_type = BigInt)]
    pub sequence: i64,
    /// Where its delivery stands.
    #[diesel(sql_type = SmallInt)]
    pub state: DeliveryState,
}

/// The deliveries with numbers of this range, in order. The caller has made sure whose they are, and that the range has at most
/// [`MAX_NUMBERS`].
///
/// # Errors
/// When the database is away.
pub fn numbered(
    conn: &mut PgConnection,
    subscription: SubscriptionId,
    (from, to): (i64, i64),
) -> Result<Vec<Numbered>> {
    Ok(sql_query(
        "SELECT d.sequence, d.state FROM deliveries d \
         WHERE d.subscription_id = $1 AND d.sequence >= $2 AND d.sequence <= $3 ORDER BY d.sequence",
    )
    .bind::<Uuid, _>(subscription)
    .bind::<BigInt, _>(from)
    .bind::<BigInt, _>(to)
    .load(conn)?)
}

/// Numbers that a receiver may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hole {
    /// The delivery with this number.
    Delivery(i64),
    /// From the first to the second number there never was a delivery that could have been kept.
    Void(i64, i64),
    /// From the first to the second number deliveries were dropped with their day.
    Dropped(i64, i64),
}

impl Hole {
    /// Its last number.
    #[must_use]
    pub const fn last(self) -> i64 {
        match self {
            Self::Delivery(last) | Self::Void(_, last) | Self::Dropped(_, last) => last,
        }
    }
}

/// The holes in a range, in order: what did not arrive of the deliveries that are there, with `all` what did, too, and the numbers
/// between them.
#[must_use]
pub fn holes(numbered: &[Numbered], void: &[(i64, i64)], (from, to): (i64, i64), all: bool) -> Vec<Hole> {
    let mut holes = Vec::new();
    let mut next = from;
    for row in numbered {
        nobodys(&mut holes, void, (next, row.sequence - 1));
        if all || row.state != DeliveryState::Delivered {
            holes.push(Hole::Delivery(row.sequence));
        }
        next = row.sequence + 1;
    }
    nobodys(&mut holes, void, (next, to));
    holes
}

/// Numbers of which there is no delivery: void or dropped, by turns.
fn nobodys(holes: &mut Vec<Hole>, void: &[(i64, i64)], (from, to): (i64, i64)) {
    let mut next = from;
    for &(first, last) in void {
        let (first, last) = (first.max(next), last.min(to));
        if first <= last {
            if next < first {
                holes.push(Hole::Dropped(next, first - 1));
            }
            holes.push(Hole::Void(first, last));
            next = last + 1;
        }
    }
    if next <= to {
        holes.push(Hole::Dropped(next, to));
    }
}

/// A delivery in a hole, as its receiver sees it.
#[derive(Clone, Debug, QueryableByName)]
pub struct Missed {
    /// Its number.
    #[diesel(sql_type = BigInt)]
    pub sequence: i64,
    /// What is delivered.
    #[diesel(sql_type = Uuid)]
    pub event_id: EventId,
    /// Where it stands.
    #[diesel(sql_type = SmallInt)]
    pub state: DeliveryState,
    /// All tries so far.
    #[diesel(sql_type = SmallInt)]
    pub attempts: i16,
    /// The next try, while pending; `None` when it waits for another delivery.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// What came of the last try, or why it was cancelled.
    #[diesel(sql_type = Nullable<Text>)]
    pub last_reason: Option<String>,
    /// The event's type; `None` when the event is gone.
    #[diesel(sql_type = Nullable<Text>)]
    pub event_type: Option<String>,
    /// The event's canonical body, when it was asked for and is there.
    #[diesel(sql_type = Nullable<Binary>)]
    pub body: Option<Vec<u8>>,
}

/// Deliveries by their numbers, in order; with bodies only as many as a page may have bytes, but at least one. The caller has made
/// sure whose they are.
///
/// # Errors
/// When the database is away.
pub fn missed(
    conn: &mut PgConnection,
    subscription: SubscriptionId,
    numbers: &[i64],
    bodies: bool,
) -> Result<Vec<Missed>> {
    // The size is known without reading the body; where the event is gone it is nothing, and the others' sizes count all the same.
    Ok(sql_query(
        "SELECT * FROM (SELECT d.sequence, d.event_id, d.state, d.attempts, \
            NULLIF(d.next_attempt_at, 'infinity') AS next_attempt_at, d.last_reason, e.event_type, \
            CASE WHEN $3 THEN e.body END AS body, \
            sum(COALESCE(octet_length(e.body), 0)) OVER (ORDER BY d.sequence) - COALESCE(octet_length(e.body), 0) AS before \
         FROM deliveries d LEFT JOIN events e ON e.tenant_id = d.tenant_id AND e.id = d.event_id \
         WHERE d.subscription_id = $1 AND d.sequence = ANY($2)) AS missed \
         WHERE NOT $3 OR before <= $4 ORDER BY sequence",
    )
    .bind::<Uuid, _>(subscription)
    .bind::<Array<BigInt>, _>(numbers)
    .bind::<Bool, _>(bodies)
    .bind::<BigInt, _>(PAGE_BYTES)
    .load(conn)?)
}

/// The deliveries of a range that have ended, those that arrived only with `all`: what can be sent again. In order, at most `limit`:
/// their numbers, events and lines.
///
/// # Errors
/// When the database is away.
pub fn to_send(
    conn: &mut PgConnection,
    subscription: SubscriptionId,
    (from, to): (i64, i64),
    all: bool,
    limit: i64,
) -> Result<Vec<(i64, Again)>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        sequence: i64,
        #[diesel(sql_type = Uuid)]
        event_id: EventId,
        #[diesel(sql_type = Nullable<Uuid>)]
        ordering: Option<uuid::Uuid>,
    }
    let rows: Vec<Row> = sql_query(
        "SELECT d.sequence, d.event_id, d.ordering FROM deliveries d \
         WHERE d.subscription_id = $1 AND d.sequence >= $2 AND d.sequence <= $3 \
           AND (d.state IN (2, 3, 4) OR ($4 AND d.state = 1)) ORDER BY d.sequence LIMIT $5",
    )
    .bind::<Uuid, _>(subscription)
    .bind::<BigInt, _>(from)
    .bind::<BigInt, _>(to)
    .bind::<Bool, _>(all)
    .bind::<BigInt, _>(limit)
    .load(conn)?;
    Ok(rows.into_iter().map(|row| (row.sequence, (row.event_id, row.ordering))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_accounted_for() {
        use DeliveryState::{Cancelled, Dead, Delivered, Pending};
        use Hole::{Delivery, Dropped, Void};
        let rows = |rows: &[(i64, DeliveryState)]| -> Vec<Numbered> {
            rows.iter().map(|&(sequence, state)| Numbered { sequence, state }).collect()
        };
        let arrived = rows(&[(1, Delivered), (2, Delivered), (3, Delivered)]);
        let mixed = rows(&[(4, Pending), (5, Delivered), (6, Dead), (9, Cancelled)]);
        let none: &[(i64, i64)] = &[];
        for (numbered, void, range, all, expected) in [
            (&arrived, none, (1, 3), false, vec![]),
            (&arrived, none, (1, 3), true, vec![Delivery(1), Delivery(2), Delivery(3)]),
            (
                &rows(&[(4, Pending), (6, Dead)]),
                none,
                (4, 6),
                false,
                vec![Delivery(4), Dropped(5, 5), Delivery(6)],
            ),
            (&mixed, none, (4, 9), false, vec![Delivery(4), Delivery(6), Dropped(7, 8), Delivery(9)]),
            (&mixed, &[(7, 8)], (4, 9), false, vec![Delivery(4), Delivery(6), Void(7, 8), Delivery(9)]),
            // A void range that reaches over both ends, and one that splits what was dropped.
            (&rows(&[]), &[(1, 100)], (20, 30), false, vec![Void(20, 30)]),
            (
                &rows(&[]),
                &[(5, 6), (8, 8)],
                (1, 10),
                false,
                vec![Dropped(1, 4), Void(5, 6), Dropped(7, 7), Void(8, 8), Dropped(9, 10)],
            ),
            (&rows(&[]), none, (5, 5), true, vec![Dropped(5, 5)]),
            (&rows(&[]), none, (5, 4), true, vec![]),
        ] {
            assert_eq!(holes(numbered, void, range, all), expected, "{range:?} {void:?}");
        }
    }
}
