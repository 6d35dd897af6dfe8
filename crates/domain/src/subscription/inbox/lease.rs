//! Leasing: the oldest messages of an inbox become one reader's for a while. Whoever has a lease shows its token; when it ends without
//! a word, the message is given to the next one.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use diesel::{
    PgConnection, QueryableByName, RunQueryDsl,
    sql_types::{Array, BigInt, Binary, Bool, Nullable, SmallInt, Text, Timestamptz, Uuid},
};

use super::{LEASE_EXPIRED, MAX_BYTES_AT_ONCE, OVER_LEASED, quarantine, spent, store};
use crate::{
    Error, Result,
    db::prepared::prepared,
    delivery::{
        DeliveryState, EXPIRED,
        store::{by_partition, nobody},
    },
    id::{ClaimId, EventGroupId, EventId, SubscriptionId, TenantId},
    retention::PAYLOAD_PURGED,
};

/// Finds the oldest messages of the inbox $2 of the tenant $1 that nobody has at $3, and locks them: those whose lease has ended, then those
/// that wait, at most $4, and of several no more than $5 bytes together; a larger one comes alone, unless others are taken already ($6).
/// What somebody else is leasing is passed over.
///
/// `OFFSET 0` keeps the planner from reading all events of the tenant to join some, and `(SELECT 0)` from walking through everything that is
/// pending anywhere. What is found is written by a statement that
/// names its partition, as all statements on batches do.
pub const FIND: &str = "WITH lapsed AS MATERIALIZED (\
        SELECT d.event_id, d.sequence, d.tries, d.due_at, d.last_reason, d.expires_at, \
           d.claim <> '00000000-0000-0000-0000-000000000000' AS overdue \
        FROM deliveries d WHERE d.subscription_id = $2 AND d.profile = 5 AND d.state IN (0, 2) AND d.state = (SELECT 0::smallint) \
           AND d.leased_until IS NOT NULL AND d.leased_until <= $3 \
        ORDER BY d.leased_until LIMIT $4 FOR UPDATE SKIP LOCKED), \
     waiting AS MATERIALIZED (\
        SELECT d.event_id, d.sequence, d.tries, d.due_at, d.last_reason, d.expires_at, false AS overdue \
        FROM deliveries d WHERE d.subscription_id = $2 AND d.profile = 5 AND d.state IN (0, 2) AND d.state = (SELECT 0::smallint) \
           AND d.leased_until IS NULL \
        ORDER BY d.sequence LIMIT $4 - (SELECT count(*) FROM lapsed) FOR UPDATE SKIP LOCKED), \
     sized AS (\
        SELECT k.*, v.body, row_number() OVER arrival AS place, sum(COALESCE(octet_length(v.body), 0)) OVER arrival AS bytes \
        FROM (TABLE lapsed UNION ALL TABLE waiting) k \
           LEFT JOIN LATERAL (SELECT body FROM events WHERE tenant_id = $1 AND id = k.event_id OFFSET 0) v ON true \
        WINDOW arrival AS (ORDER BY k.sequence)) \
     SELECT event_id, sequence, tries, due_at, last_reason, expires_at, overdue, body FROM sized \
     WHERE bytes <= $5 OR (place = 1 AND NOT $6) ORDER BY sequence";

/// How often it is asked again within one request when what was found had to be put aside.
const TURNS: usize = 10;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Whose.
    pub tenant: TenantId,
    /// Of which inbox.
    pub inbox: SubscriptionId,
    /// A token for each message, as many as are wanted; each is used once.
    pub tokens: Vec<ClaimId>,
    /// Until when they are nobody else's.
    pub until: DateTime<Utc>,
}

/// A message that is somebody's.
#[derive(Clone, Debug)]
pub struct Leased {
    /// Its event.
    pub event: EventId,
    /// Its place in the inbox.
    pub sequence: i64,
    /// What shows that it is his.
    pub token: ClaimId,
    /// The how manyth lease this is, from 1; a requeue begins anew.
    pub lease_count: u16,
    /// Since when it is in the inbox.
    pub available_at: DateTime<Utc>,
    /// Why it was not acknowledged before: the last reader's words, `released`, or `lease_expired`.
    pub last_reason: Option<String>,
    /// The event as it is stored.
    pub body: Vec<u8>,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Taken {
    /// Oldest first.
    pub messages: Vec<Leased>,
    /// The inbox is paused: nothing was looked for.
    pub paused: bool,
    /// How many were quarantined because they had been leased too often.
    pub quarantined: usize,
    /// The events that tell so, to be rung after the commit.
    pub told: Vec<EventGroupId>,
    /// When there was nothing: the end of the first lease or delay; now, when there may be something behind what had to be put aside.
    pub next_at: Option<DateTime<Utc>>,
}

#[derive(QueryableByName)]
struct Found {
    #[diesel(sql_type = Uuid)]
    event_id: EventId,
    #[diesel(sql_type = BigInt)]
    sequence: i64,
    #[diesel(sql_type = SmallInt)]
    tries: i16,
    #[diesel(sql_type = Timestamptz)]
    due_at: DateTime<Utc>,
    #[diesel(sql_type = Nullable<Text>)]
    last_reason: Option<String>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    expires_at: Option<DateTime<Utc>>,
    /// Whether its lease has ended without a word.
    #[diesel(sql_type = Bool)]
    overdue: bool,
    #[diesel(sql_type = Nullable<Binary>)]
    body: Option<Vec<u8>>,
}

/// What becomes of a message that somebody would be given: its state, and the reason if there is a new one. Without a payload there is
/// nothing to give: it was purged while the message was put back.
fn fate(found: &Found, max_leases: i16, now: DateTime<Utc>) -> (DeliveryState, Option<&'static str>) {
    let late = found.expires_at.is_some_and(|end| end <= now);
    let spent = found.tries >= max_leases;
    match (late, spent, found.overdue) {
        _ if found.body.as_ref().is_none_or(Vec::is_empty) => {
            (DeliveryState::Cancelled, Some(PAYLOAD_PURGED))
        }
        (true, _, _) => (DeliveryState::Cancelled, Some(EXPIRED)),
        (false, true, true) => (DeliveryState::Dead, Some(OVER_LEASED)),
        // It was given back with a reason; then fewer leases were allowed.
        (false, true, false) => (DeliveryState::Dead, None),
        (false, false, true) => (DeliveryState::Pending, Some(LEASE_EXPIRED)),
        (false, false, false) => (DeliveryState::Pending, None),
    }
}

/// Leases the oldest messages that nobody has. What has expired, or was leased too often, ends instead. Belongs into a transaction.
///
/// # Errors
/// [`Error::NotFound`] when the tenant has no such inbox, or it is deleted; when the database is away.
pub fn lease(conn: &mut PgConnection, wanted: &Wanted, now: DateTime<Utc>) -> Result<Taken> {
    let inbox = store::find(conn, wanted.tenant, wanted.inbox)?
        .filter(|inbox| !inbox.is_deleted())
        .ok_or(Error::NotFound { what: "inbox" })?;
    let mut taken = Taken::default();
    if inbox.paused_at.is_some() {
        taken.paused = true;
        return Ok(taken);
    }
    let (mut bytes, mut more) = (MAX_BYTES_AT_ONCE, true);
    for _turn in 0..TURNS {
        let tokens = wanted.tokens.get(taken.messages.len()..).unwrap_or_default();
        if tokens.is_empty() || bytes <= 0 {
            break;
        }
        let found: Vec<Found> = prepared(FIND)
            .bind::<Uuid, _>(wanted.tenant)
            .bind::<Uuid, _>(wanted.inbox)
            .bind::<Timestamptz, _>(now)
            .bind::<BigInt, _>(i64::try_from(tokens.len()).unwrap_or(i64::MAX))
            .bind::<BigInt, _>(bytes)
            .bind::<Bool, _>(!taken.messages.is_empty())
            .load(conn)?;
        let fates: Vec<Fate> = found
            .iter()
            .zip(tokens)
            .map(|(found, token)| {
                let (state, reason) = fate(found, inbox.max_leases, now);
                Fate { event: found.event_id, state, reason, token: *token }
            })
            .collect();
        write(conn, wanted, &fates, now)?;
        let ended = fates.iter().filter(|fate| fate.state != DeliveryState::Pending).count();
        let dead = fates.iter().filter(|fate| fate.state == DeliveryState::Dead);
        let mut dead: Vec<EventId> = dead.map(|fate| fate.event).collect();
        // There was nothing else: many may stand in the way.
        if ended > 0 && ended == fates.len() {
            dead.extend(spent::end(conn, wanted.inbox, inbox.max_leases, now)?);
        }
        taken.quarantined += dead.len();
        taken.told.extend(quarantine::tell(conn, wanted.tenant, &inbox, &dead, OVER_LEASED, now)?);
        for (found, fate) in found.into_iter().zip(fates) {
            if fate.state != DeliveryState::Pending {
                continue;
            }
            let body = found.body.unwrap_or_default();
            bytes -= i64::try_from(body.len()).unwrap_or(0);
            taken.messages.push(Leased {
                event: found.event_id,
                sequence: found.sequence,
                token: fate.token,
                lease_count: u16::try_from(found.tries).unwrap_or(0).saturating_add(1),
                available_at: found.due_at,
                last_reason: fate.reason.map(str::to_owned).or(found.last_reason),
                body,
            });
        }
        // Nothing was in the way: there is no more, or no room for more.
        if ended == 0 {
            more = false;
            break;
        }
    }
    if taken.messages.is_empty() {
        taken.next_at = if more { Some(now) } else { next_at(conn, wanted.inbox)? };
    }
    Ok(taken)
}

/// What becomes of one message.
struct Fate {
    event: EventId,
    state: DeliveryState,
    reason: Option<&'static str>,
    token: ClaimId,
}

/// Writes what becomes of messages that are locked.
fn write(conn: &mut PgConnection, wanted: &Wanted, fates: &[Fate], now: DateTime<Utc>) -> Result<()> {
    for (table, fates) in by_partition(fates, |fate| fate.event) {
        prepared(format!(
            "UPDATE {table} d SET state = k.state, settled_at = CASE WHEN k.state <> 0 THEN $5 END, \
               last_reason = COALESCE(k.reason, d.last_reason), \
               tries = CASE WHEN k.state = 0 THEN d.tries + 1 ELSE d.tries END, \
               attempts = CASE WHEN k.state = 0 THEN LEAST(d.attempts::integer + 1, 32767) ELSE d.attempts END, \
               claim = CASE WHEN k.state = 0 THEN k.token ELSE $8 END, \
               leased_until = CASE WHEN k.state = 0 THEN $6 END \
             FROM unnest($1, $2, $3, $4) AS k (e, state, reason, token) \
             WHERE d.event_id = k.e AND d.subscription_id = $7 AND d.state + 0 = 0"
        ))
        .bind::<Array<Uuid>, _>(fates.iter().map(|fate| fate.event).collect::<Vec<_>>())
        .bind::<Array<SmallInt>, _>(fates.iter().map(|fate| fate.state.code()).collect::<Vec<_>>())
        .bind::<Array<Nullable<Text>>, _>(fates.iter().map(|fate| fate.reason).collect::<Vec<_>>())
        .bind::<Array<Uuid>, _>(fates.iter().map(|fate| fate.token).collect::<Vec<_>>())
        .bind::<Timestamptz, _>(now)
        .bind::<Timestamptz, _>(wanted.until)
        .bind::<Uuid, _>(wanted.inbox)
        .bind::<Uuid, _>(nobody())
        .execute(conn)?;
    }
    Ok(())
}

/// When the first of the leases and delays of an inbox ends.
fn next_at(conn: &mut PgConnection, inbox: SubscriptionId) -> Result<Option<DateTime<Utc>>> {
    #[derive(QueryableByName)]
    struct First {
        #[diesel(sql_type = Timestamptz)]
        leased_until: DateTime<Utc>,
    }
    let first: Vec<First> = prepared(
        "SELECT d.leased_until FROM deliveries d WHERE d.subscription_id = $1 AND d.profile = 5 AND d.state IN (0, 2) \
            AND d.state = (SELECT 0::smallint) AND d.leased_until IS NOT NULL ORDER BY d.leased_until LIMIT 1",
    )
    .bind::<Uuid, _>(inbox)
    .load(conn)?;
    Ok(first.first().map(|first| first.leased_until))
}

/// The newest numbers of some inboxes, for those who follow them: a system path over tenants, which returns numbers and nothing else.
///
/// # Errors
/// When the database is away.
pub fn newest(conn: &mut PgConnection, inboxes: &[SubscriptionId]) -> Result<HashMap<SubscriptionId, i64>> {
    #[derive(QueryableByName)]
    struct Newest {
        #[diesel(sql_type = Uuid)]
        subscription_id: SubscriptionId,
        #[diesel(sql_type = BigInt)]
        last: i64,
    }
    let rows: Vec<Newest> =
        prepared("SELECT subscription_id, last FROM subscription_sequences WHERE subscription_id = ANY($1)")
            .bind::<Array<Uuid>, _>(inboxes)
            .load(conn)?;
    Ok(rows.into_iter().map(|row| (row.subscription_id, row.last)).collect())
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn who_would_be_given_a_message_gets_it_unless_it_has_ended() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let (past, future) = (Some(now), Some(now + TimeDelta::milliseconds(1)));
        let kept = Some(b"{}".to_vec());
        let found = |tries, expires_at, overdue, body| Found {
            event_id: EventId::new(now),
            sequence: 1,
            tries,
            due_at: now,
            last_reason: None,
            expires_at,
            overdue,
            body,
        };
        for body in [None, Some(Vec::new())] {
            let purged = found(0, None, false, body);
            assert_eq!(fate(&purged, 2, now), (DeliveryState::Cancelled, Some("payload_purged")));
        }
        for (tries, expires_at, overdue, expected) in [
            (0, None, false, (DeliveryState::Pending, None)),
            (1, future, false, (DeliveryState::Pending, None)),
            (1, None, true, (DeliveryState::Pending, Some("lease_expired"))),
            (2, None, true, (DeliveryState::Dead, Some("over_leased"))),
            (2, future, false, (DeliveryState::Dead, None)),
            (3, None, true, (DeliveryState::Dead, Some("over_leased"))),
            (0, past, false, (DeliveryState::Cancelled, Some("expired"))),
            (2, past, true, (DeliveryState::Cancelled, Some("expired"))),
        ] {
            let found = found(tries, expires_at, overdue, kept.clone());
            assert_eq!(fate(&found, 2, now), expected, "{tries} {expires_at:?} {overdue}");
        }
    }
}
