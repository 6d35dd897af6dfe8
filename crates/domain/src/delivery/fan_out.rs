//! From groups of events to deliveries: a group is gone when its deliveries are there.
//!
//! An event that very many want is not made into deliveries at once; what is left of it is a group of its own: [`super::large`].

mod foreseen;

use std::{borrow::Cow, collections::HashSet};

use chrono::{DateTime, Utc};
use diesel::{
    PgConnection, QueryableByName, RunQueryDsl,
    result::{DatabaseErrorKind, Error::DatabaseError},
    sql_types::{Array, BigInt, Nullable, SmallInt, Timestamptz, Uuid},
};

pub use foreseen::{Foreseen, Numbers};

use super::{NewDelivery, sequence, store::split};
use crate::{
    Result,
    db::prepared::prepared,
    id::{ClaimId, DeliveryId, EventGroupId, EventId, SubscriptionId, TenantId},
    subscription::directory::{Standing, behind},
};

/// Deliveries, each with the group that owes it.
pub type Owed = (EventGroupId, NewDelivery);

/// An event of a group whose hooks are too many to be made at once: what is left for later.
#[derive(Clone, Debug)]
pub struct Rest {
    /// The group that the event is of.
    pub group: EventGroupId,
    /// Owner.
    pub tenant: TenantId,
    /// The event.
    pub event: EventId,
    /// Since when it waits.
    pub since: DateTime<Utc>,
    /// The hooks that want it.
    pub wanted: Vec<SubscriptionId>,
}

/// Under whose claim deliveries are made, and until when they are held for those who are rung.
#[derive(Clone, Copy, Debug)]
pub struct Hold {
    /// The claim.
    pub claim: ClaimId,
    /// When they are made.
    pub now: DateTime<Utc>,
    /// When the lease ends.
    pub until: DateTime<Utc>,
}

/// Takes groups of events and makes their deliveries, numbered ([`sequence`]), in one statement. Returns the groups that were taken;
/// of one that somebody else has taken, or is taking, no delivery is made. What is left of events that very many want becomes groups
/// for [`super::large::claim`]. Deliveries that stand in a line are held back, as by [`super::store::insert`]. One that exists already stays as it
/// is, and no number is spent on it. Not within a transaction.
///
/// # Errors
/// When the database is away; nothing is taken then.
pub fn take(
    conn: &mut PgConnection,
    groups: &[EventGroupId],
    deliveries: &[Owed],
    rests: &[Rest],
    hold: Hold,
) -> Result<HashSet<EventGroupId>> {
    Ok(make(conn, groups, Source::Whole { rests }, deliveries, hold)?.groups)
}

/// What a ring has told of groups.
#[derive(Clone, Debug)]
pub struct Told {
    /// What the deliveries were made of.
    pub standing: Standing,
    /// All events of the groups.
    pub events: Vec<(EventGroupId, TenantId, EventId)>,
    /// Whether somebody wants to know the numbers that the deliveries are given.
    pub numbers: bool,
}

/// What was taken of groups.
#[derive(Clone, Debug, Default)]
pub struct Taken {
    /// The groups.
    pub groups: HashSet<EventGroupId>,
    /// The numbers of their deliveries, where they were asked for.
    pub numbers: Numbers,
}

/// As [`take`], of events that were not read. Takes only groups that have exactly these events, and none if subscriptions have changed
/// since the snapshot was taken: rows decide what a ring is worth. The deliveries wait for nobody and do not expire.
///
/// # Errors
/// When the database is away; nothing is taken then.
pub fn take_told(
    conn: &mut PgConnection,
    groups: &[EventGroupId],
    told: &Told,
    deliveries: &[Owed],
    hold: Hold,
) -> Result<Taken> {
    make(conn, groups, Source::Told(told), deliveries, hold)
}

/// Whose deliveries are made.
#[derive(Clone, Copy)]
enum Source<'a> {
    /// Whole groups, of which something may be left.
    Whole { rests: &'a [Rest] },
    /// Whole groups that nobody has read.
    Told(&'a Told),
}

impl Source<'_> {
    /// The statement that takes the groups, without what it returns.
    fn taking(self) -> String {
        let whole = |condition: &str| {
            format!(
                "DELETE FROM event_groups WHERE id IN (SELECT id FROM event_groups g \
                    WHERE g.id = ANY($8) AND g.wanted IS NULL{condition} ORDER BY g.id FOR UPDATE SKIP LOCKED)"
            )
        };
        match self {
            Self::Whole { .. } => whole(""),
            Self::Told(_) => whole(&format!(
                " AND NOT {} AND (SELECT count(*) = cardinality(g.event_ids) AND count(DISTINCT k.e) = cardinality(g.event_ids) \
                       AND bool_and(EXISTS (SELECT FROM unnest(g.tenant_ids, g.event_ids) AS h (t, e) WHERE h.t = k.t AND h.e = k.e)) \
                    FROM unnest($11, $12, $13) AS k (g, t, e) WHERE k.g = g.id)",
                behind("$10")
            )),
        }
    }

    /// Whether the numbers of the deliveries are returned.
    const fn numbers(self) -> bool {
        matches!(self, Self::Told(Told { numbers: true, .. }))
    }

    fn rests(&self) -> &[Rest] {
        match self {
            Self::Whole { rests } => rests,
            Self::Told(_) => &[],
        }
    }
}

fn make(
    conn: &mut PgConnection,
    groups: &[EventGroupId],
    source: Source<'_>,
    deliveries: &[Owed],
    hold: Hold,
) -> Result<Taken> {
    let mut missing = Cow::Borrowed(deliveries);
    loop {
        match make_new(conn, groups, source, &missing, hold) {
            // Hardly ever: somebody has sent one of the events again before it was fanned out.
            Err(DatabaseError(DatabaseErrorKind::UniqueViolation, error)) => {
                let there = sequence::existing(conn, missing.iter().map(|(_, new)| new.id))?;
                if there.is_empty() {
                    return Err(DatabaseError(DatabaseErrorKind::UniqueViolation, error).into());
                }
                missing.to_mut().retain(|(_, new)| !there.contains(&new.id));
            }
            taken => return Ok(taken?),
        }
    }
}

/// As [`make`], of deliveries none of which exists.
fn make_new(
    conn: &mut PgConnection,
    groups: &[EventGroupId],
    source: Source<'_>,
    deliveries: &[Owed],
    hold: Hold,
) -> diesel::QueryResult<Taken> {
    let rests = source.rests();
    let (events, subscriptions) = split(deliveries.iter().map(|(_, new)| new.id));
    let news = || deliveries.iter().map(|(_, new)| new);
    // Nearly always nothing of it: those who do not wait in lines, do not expire and are few need not pay for it.
    let with_options = matches!(source, Source::Whole { .. })
        && (!rests.is_empty() || news().any(|new| new.ordering.is_some() || new.expires_at.is_some()));
    let (columns, values, parameters, names) = if with_options {
        (
            ", next_attempt_at, claim, ordering, expires_at",
            "CASE WHEN o IS NULL THEN $6 ELSE 'infinity' END, \
               CASE WHEN o IS NULL THEN $7 ELSE '00000000-0000-0000-0000-000000000000' END, o, x",
            ", $10, $11",
            ", o, x",
        )
    } else {
        (", next_attempt_at, claim", "$6, $7", "", "")
    };
    let left = if rests.is_empty() {
        ""
    } else {
        // An event is left of one group only, so its id names what is left of it.
        ", rest AS (INSERT INTO event_groups (id, tenant_ids, event_ids, created_at, wanted, claimed_until) \
            SELECT r.e, ARRAY[r.t], ARRAY[r.e], r.w, \
               ARRAY(SELECT k.s FROM unnest($16, $17) AS k (e, s) WHERE k.e = r.e ORDER BY k.s), $5 \
            FROM unnest($12, $13, $14, $15) AS r (g, t, e, w) JOIN taken ON taken.id = r.g)"
    };
    let (returning, numbers) = if source.numbers() {
        (
            " RETURNING event_id, subscription_id, sequence",
            " UNION ALL SELECT event_id, subscription_id, sequence FROM made",
        )
    } else {
        ("", "")
    };
    // Within one subscription numbers go by the events' ids. A full join, which has the same rows here, cannot be made by comparing
    // each of thousands of deliveries with each counter, as the planner, who expects ten, would have it.
    let statement = prepared(format!(
        "WITH taken AS ({} RETURNING id), \
         new AS MATERIALIZED (SELECT e, s, t, p{names}, row_number() OVER (PARTITION BY s ORDER BY e DESC) - 1 AS behind \
            FROM unnest($1, $2, $3, $4, $9{parameters}) AS new (e, s, t, p, g{names}) JOIN taken ON taken.id = new.g), \
         numbers AS ({}), \
         made AS (INSERT INTO deliveries (event_id, subscription_id, tenant_id, profile, state, tries, attempts, \
               deferrals, due_at{columns}, sequence) \
            SELECT e, s, t, p, 0, 0, 0, 0, $5, {values}, numbers.last - behind \
            FROM new FULL JOIN numbers ON numbers.subscription_id = new.s{returning}){left} \
         SELECT id, NULL::uuid AS subscription_id, NULL::bigint AS sequence FROM taken{numbers}",
        source.taking(),
        sequence::give("SELECT s, count(*) FROM new GROUP BY s ORDER BY s")
    ))
    .bind::<Array<Uuid>, _>(events)
    .bind::<Array<Uuid>, _>(subscriptions)
    .bind::<Array<Uuid>, _>(news().map(|new| new.tenant).collect::<Vec<_>>())
    .bind::<Array<SmallInt>, _>(news().map(|new| new.profile).collect::<Vec<_>>())
    .bind::<Timestamptz, _>(hold.now)
    .bind::<Timestamptz, _>(hold.until)
    .bind::<Uuid, _>(hold.claim)
    .bind::<Array<Uuid>, _>(groups)
    .bind::<Array<Uuid>, _>(deliveries.iter().map(|(group, _)| *group).collect::<Vec<_>>());
    let rows: Vec<Row> = if let Source::Told(Told { standing, events, .. }) = source {
        statement
            .bind::<BigInt, _>(standing.seen)
            .bind::<Array<Uuid>, _>(events.iter().map(|(group, _, _)| *group).collect::<Vec<_>>())
            .bind::<Array<Uuid>, _>(events.iter().map(|(_, tenant, _)| *tenant).collect::<Vec<_>>())
            .bind::<Array<Uuid>, _>(events.iter().map(|(_, _, event)| *event).collect::<Vec<_>>())
            .load(conn)?
    } else if with_options {
        let statement = statement
            .bind::<Array<Nullable<Uuid>>, _>(news().map(|new| new.ordering).collect::<Vec<_>>())
            .bind::<Array<Nullable<Timestamptz>>, _>(news().map(|new| new.expires_at).collect::<Vec<_>>());
        if rests.is_empty() {
            statement.load(conn)?
        } else {
            let wanted = || rests.iter().flat_map(|rest| rest.wanted.iter().map(|hook| (rest.event, *hook)));
            statement
                .bind::<Array<Uuid>, _>(rests.iter().map(|rest| rest.group).collect::<Vec<_>>())
                .bind::<Array<Uuid>, _>(rests.iter().map(|rest| rest.tenant).collect::<Vec<_>>())
                .bind::<Array<Uuid>, _>(rests.iter().map(|rest| rest.event).collect::<Vec<_>>())
                .bind::<Array<Timestamptz>, _>(rests.iter().map(|rest| rest.since).collect::<Vec<_>>())
                .bind::<Array<Uuid>, _>(wanted().map(|(event, _)| event).collect::<Vec<_>>())
                .bind::<Array<Uuid>, _>(wanted().map(|(_, hook)| hook).collect::<Vec<_>>())
                .load(conn)?
        }
    } else {
        statement.load(conn)?
    };
    Ok(Taken::of(&rows))
}

/// A group, or a delivery that was made, with its number.
#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Uuid)]
    id: uuid::Uuid,
    #[diesel(sql_type = Nullable<Uuid>)]
    subscription_id: Option<SubscriptionId>,
    #[diesel(sql_type = Nullable<BigInt>)]
    sequence: Option<i64>,
}

impl Row {
    /// Of a delivery, which it is and its number.
    fn number(&self) -> Option<(DeliveryId, i64)> {
        let id = DeliveryId { event: EventId::from_uuid(self.id), subscription: self.subscription_id? };
        Some((id, self.sequence?))
    }
}

impl Taken {
    fn of(rows: &[Row]) -> Self {
        let groups = rows.iter().filter(|row| row.subscription_id.is_none());
        Self {
            groups: groups.map(|row| EventGroupId::from_uuid(row.id)).collect(),
            numbers: rows.iter().filter_map(Row::number).collect(),
        }
    }
}
