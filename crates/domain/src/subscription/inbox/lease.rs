//! Leasing: the oldest messages of an inbox become one reader's for a while. Whoever has a lease shows its token; when it ends without
//! a word, the message is given to the next one.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use diesel::{
    PgConnection, QueryableByName, RunQueryDsl,
    sql_types::{Array, BigInt, Binary, Nullable, SmallInt, Text, Timestamptz, Uuid},
};

use super::{MAX_BYTES_AT_ONCE, store};
use crate::{
    Error, Result,
    db::prepared::prepared,
    delivery::DeliveryState,
    id::{ClaimId, EventId, SubscriptionId, TenantId},
};

/// Leases the oldest messages of the inbox $2 of the tenant $1, at $3, until $4: those whose lease has ended, then those that wait, as many
/// as there are tokens in $5, and of several no more than $7 bytes together. What has expired, or was leased $6 times, ends instead and
/// comes back as such: whoever got too few of them asks again. What somebody else is leasing is passed over.
///
/// One statement, so that nothing that was found is taken by somebody else before it is written.
pub const LEASE: &str = "WITH lapsed AS MATERIALIZED (\
        SELECT d.event_id AS e, d.sequence AS s, d.tries >= $6 AS spent, \
           d.claim <> '00000000-0000-0000-0000-000000000000' AS overdue, COALESCE(d.expires_at <= $3, false) AS late \
        FROM deliveries d WHERE d.subscription_id = $2 AND d.profile = 5 AND d.state = 0 AND d.leased_until IS NOT NULL \
           AND d.leased_until <= $3 \
        ORDER BY d.leased_until LIMIT cardinality($5) FOR UPDATE SKIP LOCKED), \
     waiting AS MATERIALIZED (\
        SELECT d.event_id AS e, d.sequence AS s, d.tries >= $6 AS spent, false AS overdue, \
           COALESCE(d.expires_at <= $3, false) AS late \
        FROM deliveries d WHERE d.subscription_id = $2 AND d.profile = 5 AND d.state = 0 AND d.state IN (0, 2) \
           AND d.leased_until IS NULL \
        ORDER BY d.sequence LIMIT cardinality($5) - (SELECT count(*) FROM lapsed) FOR UPDATE SKIP LOCKED), \
     sized AS (\
        SELECT k.*, row_number() OVER arrival AS place, sum(COALESCE(octet_length(v.body), 0)) OVER arrival AS bytes \
        FROM (TABLE lapsed UNION ALL TABLE waiting) k LEFT JOIN events v ON v.tenant_id = $1 AND v.id = k.e \
        WINDOW arrival AS (ORDER BY k.s)), \
     chosen AS MATERIALIZED (\
        SELECT z.*, z.spent OR z.late AS ended FROM sized z WHERE z.place = 1 OR z.bytes <= $7), \
     moved AS (\
        UPDATE deliveries d SET \
           state = CASE WHEN c.late THEN 3 WHEN c.spent THEN 2 ELSE 0 END, \
           settled_at = CASE WHEN c.ended THEN $3 END, \
           last_reason = CASE WHEN c.late THEN 'expired' WHEN c.overdue AND c.spent THEN 'over_leased' \
              WHEN c.overdue THEN 'lease_expired' ELSE d.last_reason END, \
           tries = CASE WHEN c.ended THEN d.tries ELSE d.tries + 1 END, \
           attempts = CASE WHEN c.ended THEN d.attempts ELSE LEAST(d.attempts::integer + 1, 32767) END, \
           claim = CASE WHEN c.ended THEN '00000000-0000-0000-0000-000000000000' ELSE ($5)[c.place] END, \
           leased_until = CASE WHEN NOT c.ended THEN $4 END \
        FROM chosen c WHERE d.event_id = c.e AND d.subscription_id = $2 \
        RETURNING d.event_id, d.sequence, d.state, d.claim, d.tries, d.due_at, d.last_reason) \
     SELECT m.event_id, m.sequence, m.state, m.claim, m.tries, m.due_at, m.last_reason, v.body \
     FROM moved m LEFT JOIN events v ON m.state = 0 AND v.tenant_id = $1 AND v.id = m.event_id ORDER BY m.sequence";

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
    /// The event as it is stored; `None` when it is not kept any more.
    pub body: Option<Vec<u8>>,
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
    /// When there was nothing: the end of the first lease or delay.
    pub next_at: Option<DateTime<Utc>>,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Uuid)]
    event_id: EventId,
    #[diesel(sql_type = BigInt)]
    sequence: i64,
    #[diesel(sql_type = SmallInt)]
    state: DeliveryState,
    #[diesel(sql_type = Uuid)]
    claim: ClaimId,
    #[diesel(sql_type = SmallInt)]
    tries: i16,
    #[diesel(sql_type = Timestamptz)]
    due_at: DateTime<Utc>,
    #[diesel(sql_type = Nullable<Text>)]
    last_reason: Option<String>,
    #[diesel(sql_type = Nullable<Binary>)]
    body: Option<Vec<u8>>,
}

/// Leases the oldest messages that nobody has. Belongs into a transaction, so that the inbox is what was read of it.
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
    let mut bytes = MAX_BYTES_AT_ONCE;
    for _turn in 0..TURNS {
        let tokens = wanted.tokens.get(taken.messages.len()..).unwrap_or_default();
        if tokens.is_empty() || bytes <= 0 {
            break;
        }
        let rows: Vec<Row> = prepared(LEASE)
            .bind::<Uuid, _>(wanted.tenant)
            .bind::<Uuid, _>(wanted.inbox)
            .bind::<Timestamptz, _>(now)
            .bind::<Timestamptz, _>(wanted.until)
            .bind::<Array<Uuid>, _>(tokens)
            .bind::<SmallInt, _>(inbox.max_leases)
            .bind::<BigInt, _>(bytes)
            .load(conn)?;
        let mut ended = 0;
        for row in rows {
            if row.state != DeliveryState::Pending {
                ended += 1;
                taken.quarantined += usize::from(row.state == DeliveryState::Dead);
                continue;
            }
            bytes -= i64::try_from(row.body.as_ref().map_or(0, Vec::len)).unwrap_or(0);
            taken.messages.push(Leased {
                event: row.event_id,
                sequence: row.sequence,
                token: row.claim,
                lease_count: u16::try_from(row.tries).unwrap_or(0),
                available_at: row.due_at,
                last_reason: row.last_reason,
                body: row.body,
            });
        }
        // Nothing was in the way: there is no more, or no room for more.
        if ended == 0 {
            break;
        }
    }
    if taken.messages.is_empty() {
        taken.next_at = next_at(conn, wanted.inbox)?;
    }
    Ok(taken)
}

/// When the first of the leases and delays of an inbox ends.
fn next_at(conn: &mut PgConnection, inbox: SubscriptionId) -> Result<Option<DateTime<Utc>>> {
    #[derive(QueryableByName)]
    struct First {
        #[diesel(sql_type = Timestamptz)]
        leased_until: DateTime<Utc>,
    }
    let first: Vec<First> = prepared(
        "SELECT d.leased_until FROM deliveries d WHERE d.subscription_id = $1 AND d.profile = 5 AND d.state = 0 \
            AND d.leased_until IS NOT NULL ORDER BY d.leased_until LIMIT 1",
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
