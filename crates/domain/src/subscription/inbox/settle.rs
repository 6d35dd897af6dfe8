//! What became of leased messages: acknowledged, given back, or kept for longer. Every statement names the token under which a message is
//! held, so that a reader who overslept changes nothing once somebody else has it.
//!
//! The token decides, not the clock: who is late may still acknowledge a message that nobody else has been given meanwhile.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use chrono::{DateTime, Utc};
use diesel::{
    PgConnection, QueryableByName, RunQueryDsl,
    sql_types::{Array, Nullable, SmallInt, Text, Timestamptz, Uuid},
};

use super::OVER_LEASED;
use crate::{
    Result,
    db::{partition, prepared::prepared},
    delivery::{
        DeliveryState,
        store::{by_partition, nobody},
    },
    id::{ClaimId, EventId, SubscriptionId, TenantId, first_uuid_at},
};

/// A message with the token under which somebody holds it.
pub type Held = (EventId, ClaimId);

/// What is to become of the messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// They are done.
    Acknowledge,
    /// They go back, to be leased again.
    Release {
        /// Not before then; `None` = at once, in their place.
        at: Option<DateTime<Utc>>,
        /// The reader's words.
        reason: Option<String>,
    },
    /// They stay his for longer, or shorter.
    Extend {
        /// Until then.
        until: DateTime<Utc>,
    },
    /// They go back as if they had never been leased: nobody heard of them.
    Untake,
}

/// What became of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is done; also when it was acknowledged under this token before.
    Acknowledged,
    /// It may be leased again.
    Released,
    /// It went back once too often.
    Quarantined,
    /// It is his for longer.
    Extended,
    /// The token is not the one under which it is held; nothing was changed.
    Gone,
}

impl Outcome {
    /// The word for it on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Acknowledged => "acknowledged",
            Self::Released => "released",
            Self::Quarantined => "quarantined",
            Self::Extended => "extended",
            Self::Gone => "gone",
        }
    }
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Uuid)]
    event_id: EventId,
    #[diesel(sql_type = Uuid)]
    token: ClaimId,
    #[diesel(sql_type = SmallInt)]
    state: DeliveryState,
}

/// Settles messages of one inbox. Returns what became of each, in the order in which they were named. Belongs into a transaction.
///
/// # Errors
/// When the database is away.
pub fn settle(
    conn: &mut PgConnection,
    (tenant, inbox): (TenantId, SubscriptionId),
    held: &[Held],
    settlement: &Settlement,
    max_leases: i16,
    now: DateTime<Utc>,
) -> Result<Vec<Outcome>> {
    let mut outcomes: HashMap<Held, Outcome> = HashMap::with_capacity(held.len());
    // The token of nobody opens nothing. In order, so that two who name the same messages do not wait for each other.
    let named: BTreeSet<Held> = held.iter().copied().filter(|(_, token)| *token != nobody()).collect();
    let mut partitions = by_partition(named, |(event, _)| *event);
    keep_existing(conn, &mut partitions, now)?;
    for (table, held) in partitions {
        let rows = change(conn, &table, (tenant, inbox), &held, settlement, (max_leases, now))?;
        for row in rows {
            outcomes.insert((row.event_id, row.token), outcome(settlement, row.state));
        }
        if *settlement == Settlement::Acknowledge {
            let missing: Vec<Held> =
                held.iter().copied().filter(|held| !outcomes.contains_key(held)).collect();
            for held in acknowledged_before(conn, &table, (tenant, inbox), &missing)? {
                outcomes.insert(held, Outcome::Acknowledged);
            }
        }
    }
    Ok(held.iter().map(|held| outcomes.get(held).copied().unwrap_or(Outcome::Gone)).collect())
}

/// Leaves out partitions that do not exist: retention has dropped them, or somebody made the ids up. Asked before, because within a
/// transaction a statement that fails takes the others with it.
fn keep_existing(
    conn: &mut PgConnection,
    partitions: &mut BTreeMap<String, Vec<Held>>,
    now: DateTime<Utc>,
) -> Result<()> {
    #[derive(QueryableByName)]
    struct Name {
        #[diesel(sql_type = Text)]
        name: String,
    }
    // That of today is always there, and nearly always the only one.
    let today = partition::holding("deliveries", EventId::from_uuid(first_uuid_at(now)));
    if partitions.keys().all(|table| *table == today) {
        return Ok(());
    }
    let names: Vec<&str> = partitions.keys().map(String::as_str).collect();
    let rows: Vec<Name> =
        prepared("SELECT name FROM unnest($1) AS known (name) WHERE to_regclass(name) IS NOT NULL")
            .bind::<Array<Text>, _>(names)
            .load(conn)?;
    let there: HashSet<String> = rows.into_iter().map(|row| row.name).collect();
    partitions.retain(|table, _| there.contains(table));
    Ok(())
}

const fn outcome(settlement: &Settlement, state: DeliveryState) -> Outcome {
    match (settlement, state) {
        (Settlement::Acknowledge, _) => Outcome::Acknowledged,
        (Settlement::Extend { .. }, _) => Outcome::Extended,
        (Settlement::Release { .. }, DeliveryState::Dead) => Outcome::Quarantined,
        (Settlement::Release { .. } | Settlement::Untake, _) => Outcome::Released,
    }
}

fn change(
    conn: &mut PgConnection,
    table: &str,
    (tenant, inbox): (TenantId, SubscriptionId),
    held: &[Held],
    settlement: &Settlement,
    (max_leases, now): (i16, DateTime<Utc>),
) -> diesel::QueryResult<Vec<Row>> {
    // `+ 0` keeps the planner from walking an index of everything that is pending instead of looking each key up.
    const HELD: &str = "FROM unnest($1, $2) AS k (e, c) WHERE d.event_id = k.e AND d.subscription_id = $3 \
         AND d.tenant_id = $4 AND d.claim = k.c AND d.profile = 5 AND d.state + 0 = 0 AND d.leased_until IS NOT NULL \
         RETURNING d.event_id, k.c AS token, d.state";
    let (events, tokens): (Vec<EventId>, Vec<ClaimId>) = held.iter().copied().unzip();
    let update = |set: &str| {
        prepared(format!("UPDATE {table} d SET {set} {HELD}"))
            .bind::<Array<Uuid>, _>(events.clone())
            .bind::<Array<Uuid>, _>(tokens.clone())
            .bind::<Uuid, _>(inbox)
            .bind::<Uuid, _>(tenant)
    };
    match settlement {
        // The token stays, so that whoever did not hear the answer may ask again.
        Settlement::Acknowledge => {
            update("state = 1, settled_at = $5, last_reason = 'acknowledged', leased_until = NULL")
                .bind::<Timestamptz, _>(now)
                .load(conn)
        }
        Settlement::Extend { until } => {
            update("leased_until = $5").bind::<Timestamptz, _>(*until).load(conn)
        }
        Settlement::Release { at, reason } => update(
            "state = CASE WHEN d.tries >= $5 THEN 2 ELSE 0 END, settled_at = CASE WHEN d.tries >= $5 THEN $6 END, \
             last_reason = COALESCE($8, CASE WHEN d.tries >= $5 THEN $9 ELSE 'released' END), \
             leased_until = CASE WHEN d.tries < $5 THEN $7 END, claim = $10",
        )
        .bind::<SmallInt, _>(max_leases)
        .bind::<Timestamptz, _>(now)
        .bind::<Nullable<Timestamptz>, _>(*at)
        .bind::<Nullable<Text>, _>(reason.as_deref())
        .bind::<Text, _>(OVER_LEASED)
        .bind::<Uuid, _>(nobody())
        .load(conn),
        Settlement::Untake => update(
            "tries = GREATEST(d.tries - 1, 0), attempts = GREATEST(d.attempts - 1, 0), leased_until = NULL, claim = $5",
        )
        .bind::<Uuid, _>(nobody())
        .load(conn),
    }
}

/// Which of these were acknowledged under their token already: a second acknowledgement, or one that came at the same time.
fn acknowledged_before(
    conn: &mut PgConnection,
    table: &str,
    (tenant, inbox): (TenantId, SubscriptionId),
    missing: &[Held],
) -> Result<Vec<Held>> {
    #[derive(QueryableByName)]
    struct Key {
        #[diesel(sql_type = Uuid)]
        event_id: EventId,
        #[diesel(sql_type = Uuid)]
        claim: ClaimId,
    }
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    let (events, tokens): (Vec<EventId>, Vec<ClaimId>) = missing.iter().copied().unzip();
    let rows: Vec<Key> = prepared(format!(
        "SELECT d.event_id, d.claim FROM unnest($1, $2) AS k (e, c) JOIN {table} d ON d.event_id = k.e \
            AND d.subscription_id = $3 AND d.tenant_id = $4 AND d.claim = k.c AND d.profile = 5 AND d.state + 0 = 1"
    ))
    .bind::<Array<Uuid>, _>(events)
    .bind::<Array<Uuid>, _>(tokens)
    .bind::<Uuid, _>(inbox)
    .bind::<Uuid, _>(tenant)
    .load(conn)?;
    Ok(rows.into_iter().map(|row| (row.event_id, row.claim)).collect())
}
