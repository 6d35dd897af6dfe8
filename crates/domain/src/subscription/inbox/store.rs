//! Queries on inboxes. An inbox is a row in `subscriptions` and one in `inboxes`; whoever changes the second touches the first, so that
//! snapshots hear of it.

use chrono::{DateTime, Utc};
use diesel::{
    OptionalExtension, PgConnection, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Array, BigInt, Binary, Integer, Nullable, SmallInt, Text, Timestamptz, Uuid},
};
use ring::digest::{SHA256, digest};

use super::address;
use crate::{
    Error, Result,
    db::prepared::{planned_for_values, prepared},
    id::{CredentialId, SubscriptionId, TenantId},
    subscription::{HookState, Kind},
};

/// What the owner of an inbox says.
#[derive(Clone, Debug)]
pub struct Terms {
    /// For people.
    pub name: String,
    /// Which types, as written: may be aliases. None = everything.
    pub event_types: Vec<String>,
    /// Which types or patterns those stand for.
    pub patterns: Vec<String>,
    /// Of which companies.
    pub tags: Vec<String>,
    /// Canonical JSON of the filter.
    pub filter: Option<String>,
    /// How often a message may be leased before it is quarantined.
    pub max_leases: i16,
    /// After how many seconds a message is not given out any more.
    pub ttl_s: Option<i32>,
}

/// An inbox to be stored.
#[derive(Clone, Debug)]
pub struct NewInbox {
    /// Identity.
    pub id: SubscriptionId,
    /// Owner.
    pub tenant: TenantId,
    /// Who asked for it.
    pub credential: Option<CredentialId>,
    /// What its owner says.
    pub terms: Terms,
    /// Whether nothing is leased.
    pub paused: bool,
    /// Now.
    pub now: DateTime<Utc>,
}

/// An inbox as its owner sees it.
#[derive(Clone, Debug, QueryableByName)]
pub struct InboxView {
    /// Identity.
    #[diesel(sql_type = Uuid)]
    pub id: SubscriptionId,
    /// For people.
    #[diesel(sql_type = Text)]
    pub name: String,
    /// Which types, as written.
    #[diesel(sql_type = Array<Text>)]
    pub event_types: Vec<String>,
    /// Which types or patterns those stand for.
    #[diesel(sql_type = Array<Text>)]
    pub patterns: Vec<String>,
    /// Of which companies.
    #[diesel(sql_type = Array<Text>)]
    pub tags: Vec<String>,
    /// Canonical JSON of the filter.
    #[diesel(sql_type = Nullable<Text>)]
    pub filter: Option<String>,
    /// How often a message may be leased before it is quarantined.
    #[diesel(sql_type = SmallInt)]
    pub max_leases: i16,
    /// After how many seconds a message is not given out any more.
    #[diesel(sql_type = Nullable<Integer>)]
    pub ttl_s: Option<i32>,
    /// Since when nothing is leased.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub paused_at: Option<DateTime<Utc>>,
    /// Active, or deleted.
    #[diesel(sql_type = SmallInt)]
    pub state: HookState,
    /// When it was made.
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    #[diesel(sql_type = Timestamptz)]
    pub updated_at: DateTime<Utc>,
}

impl InboxView {
    /// What its owner has said.
    #[must_use]
    pub fn terms(&self) -> Terms {
        Terms {
            name: self.name.clone(),
            event_types: self.event_types.clone(),
            patterns: self.patterns.clone(),
            tags: self.tags.clone(),
            filter: self.filter.clone(),
            max_leases: self.max_leases,
            ttl_s: self.ttl_s,
        }
    }

    /// Whether it is deleted.
    #[must_use]
    pub fn is_deleted(&self) -> bool {
        self.state == HookState::Deleted
    }
}

const VIEW: &str = "SELECT s.id, i.name, i.event_types, i.patterns, i.tags, s.filter, i.max_leases, i.ttl_s, i.paused_at, s.state, \
     s.created_at, s.updated_at FROM subscriptions s JOIN inboxes i ON i.id = s.id";

/// Adds an inbox, unless the tenant has `most` already. Belongs into a transaction.
///
/// # Errors
/// [`Error::Conflict`] when the tenant has `most`; when the database is away.
pub fn insert(conn: &mut PgConnection, new: &NewInbox, most: u32) -> Result<()> {
    #[derive(QueryableByName)]
    struct Count {
        #[diesel(sql_type = BigInt)]
        count: i64,
    }
    // One after the other, so that two who add the last one do not both find room.
    crate::catalogue::store::lock(conn, new.tenant)?;
    let there: Count = sql_query(
        "SELECT count(*) AS count FROM subscriptions WHERE tenant_id = $1 AND kind = 4 AND state <> 4",
    )
    .bind::<Uuid, _>(new.tenant)
    .get_result(conn)?;
    if there.count >= i64::from(most) {
        let reason = format!("a tenant can have {most} inboxes; delete one that is not needed any more");
        return Err(Error::Conflict { reason });
    }
    let identity = digest(&SHA256, &[&b"inbox\0"[..], new.id.uuid().as_bytes()].concat());
    sql_query(
        "INSERT INTO subscriptions (id, tenant_id, kind, url, filter, identity, state, credential_id, created_at, updated_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9)",
    )
    .bind::<Uuid, _>(new.id)
    .bind::<Uuid, _>(new.tenant)
    .bind::<SmallInt, _>(Kind::Inbox.code())
    .bind::<Text, _>(address(new.id))
    .bind::<Nullable<Text>, _>(&new.terms.filter)
    .bind::<Binary, _>(identity.as_ref())
    .bind::<SmallInt, _>(HookState::Active)
    .bind::<Nullable<Uuid>, _>(new.credential)
    .bind::<Timestamptz, _>(new.now)
    .execute(conn)?;
    sql_query(
        "INSERT INTO inboxes (id, name, event_types, patterns, tags, max_leases, ttl_s, paused_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind::<Uuid, _>(new.id)
    .bind::<Text, _>(&new.terms.name)
    .bind::<Array<Text>, _>(&new.terms.event_types)
    .bind::<Array<Text>, _>(&new.terms.patterns)
    .bind::<Array<Text>, _>(&new.terms.tags)
    .bind::<SmallInt, _>(new.terms.max_leases)
    .bind::<Nullable<Integer>, _>(new.terms.ttl_s)
    .bind::<Nullable<Timestamptz>, _>(new.paused.then_some(new.now))
    .execute(conn)?;
    Ok(())
}

/// Replaces what the owner says. Belongs into a transaction that has the inbox from [`lock`].
///
/// # Errors
/// When the database is away.
pub fn update(
    conn: &mut PgConnection,
    tenant: TenantId,
    id: SubscriptionId,
    terms: &Terms,
    now: DateTime<Utc>,
) -> Result<()> {
    sql_query(
        "UPDATE subscriptions SET filter = $3, updated_at = $4 WHERE tenant_id = $1 AND id = $2 AND kind = 4",
    )
    .bind::<Uuid, _>(tenant)
    .bind::<Uuid, _>(id)
    .bind::<Nullable<Text>, _>(&terms.filter)
    .bind::<Timestamptz, _>(now)
    .execute(conn)?;
    sql_query(
        "UPDATE inboxes SET name = $2, event_types = $3, patterns = $4, tags = $5, max_leases = $6, ttl_s = $7 WHERE id = $1",
    )
    .bind::<Uuid, _>(id)
    .bind::<Text, _>(&terms.name)
    .bind::<Array<Text>, _>(&terms.event_types)
    .bind::<Array<Text>, _>(&terms.patterns)
    .bind::<Array<Text>, _>(&terms.tags)
    .bind::<SmallInt, _>(terms.max_leases)
    .bind::<Nullable<Integer>, _>(terms.ttl_s)
    .execute(conn)?;
    Ok(())
}

/// Pauses an inbox, or lets it go on. Belongs into a transaction that has the inbox from [`lock`]. Snapshots need not hear of it: a
/// paused inbox gets events as before.
///
/// # Errors
/// When the database is away.
pub fn set_paused(
    conn: &mut PgConnection,
    tenant: TenantId,
    id: SubscriptionId,
    paused: bool,
    now: DateTime<Utc>,
) -> Result<()> {
    sql_query(
        "UPDATE inboxes i SET paused_at = CASE WHEN $3 THEN COALESCE(i.paused_at, $4) END FROM subscriptions s \
         WHERE i.id = $2 AND s.id = i.id AND s.tenant_id = $1",
    )
    .bind::<Uuid, _>(tenant)
    .bind::<Uuid, _>(id)
    .bind::<diesel::sql_types::Bool, _>(paused)
    .bind::<Timestamptz, _>(now)
    .execute(conn)?;
    sql_query("UPDATE subscriptions SET updated_at = $3 WHERE tenant_id = $1 AND id = $2 AND kind = 4")
        .bind::<Uuid, _>(tenant)
        .bind::<Uuid, _>(id)
        .bind::<Timestamptz, _>(now)
        .execute(conn)?;
    Ok(())
}

/// One inbox of a tenant, also a deleted one.
///
/// # Errors
/// When the database is away.
pub fn find(conn: &mut PgConnection, tenant: TenantId, id: SubscriptionId) -> Result<Option<InboxView>> {
    found(conn, tenant, id, "")
}

/// As [`find`], locked until the transaction ends.
///
/// # Errors
/// When the database is away.
pub fn lock(conn: &mut PgConnection, tenant: TenantId, id: SubscriptionId) -> Result<Option<InboxView>> {
    found(conn, tenant, id, " FOR UPDATE OF s")
}

fn found(
    conn: &mut PgConnection,
    tenant: TenantId,
    id: SubscriptionId,
    locked: &str,
) -> Result<Option<InboxView>> {
    Ok(prepared(format!("{VIEW} WHERE s.tenant_id = $1 AND s.id = $2 AND s.kind = 4{locked}"))
        .bind::<Uuid, _>(tenant)
        .bind::<Uuid, _>(id)
        .get_result(conn)
        .optional()?)
}

/// Which inboxes of a tenant.
#[derive(Clone, Copy, Debug)]
pub struct InboxQuery {
    /// Only inboxes older than this one: the cursor.
    pub before: Option<SubscriptionId>,
    /// At most so many.
    pub limit: i64,
}

/// A page of inboxes, newest first, without the deleted.
///
/// # Errors
/// When the database is away.
pub fn list(conn: &mut PgConnection, tenant: TenantId, query: InboxQuery) -> Result<Vec<InboxView>> {
    planned_for_values(conn, |conn| {
        Ok(sql_query(format!(
            "{VIEW} WHERE s.tenant_id = $1 AND s.kind = 4 AND s.state <> 4 AND ($2 IS NULL OR s.id < $2) \
             ORDER BY s.id DESC LIMIT $3"
        ))
        .bind::<Uuid, _>(tenant)
        .bind::<Nullable<Uuid>, _>(query.before)
        .bind::<BigInt, _>(query.limit)
        .load(conn)?)
    })
}

/// Messages are counted up to so many.
pub const COUNTED: i64 = 100_000;

/// What is in an inbox. Numbers end at [`COUNTED`].
#[derive(Clone, Copy, Debug, QueryableByName)]
pub struct Counts {
    /// May be leased.
    #[diesel(sql_type = BigInt)]
    pub waiting: i64,
    /// Somebody's at the moment.
    #[diesel(sql_type = BigInt)]
    pub leased: i64,
    /// Released for later.
    #[diesel(sql_type = BigInt)]
    pub delayed: i64,
    /// Leased too often.
    #[diesel(sql_type = BigInt)]
    pub quarantined: i64,
    /// Since when the oldest of those that were never leased, or released, waits.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub oldest_at: Option<DateTime<Utc>>,
    /// The number of the newest message that is kept; `None` = there is none.
    #[diesel(sql_type = Nullable<BigInt>)]
    pub last_sequence: Option<i64>,
}

/// Counts what is in an inbox of a tenant, by the indexes of inboxes: the conditions fit no index of what others have under way.
///
/// # Errors
/// When the database is away.
pub fn counts(
    conn: &mut PgConnection,
    tenant: TenantId,
    id: SubscriptionId,
    now: DateTime<Utc>,
) -> Result<Counts> {
    // Each state by itself, so that many of one take nothing from the other.
    let [waiting, quarantined] = [0, 2].map(|state| {
        format!(
            "(SELECT count(*) FROM (SELECT FROM deliveries d WHERE d.subscription_id = (SELECT id FROM own) \
               AND d.profile = 5 AND d.state IN (0, 2) AND d.state = (SELECT {state}::smallint) AND d.leased_until IS NULL \
               LIMIT {COUNTED}) p)"
        )
    });
    Ok(prepared(format!(
        "WITH own AS MATERIALIZED (SELECT id FROM subscriptions WHERE tenant_id = $1 AND id = $2 AND kind = 4), \
            put AS (SELECT {waiting} AS waiting, {quarantined} AS quarantined), \
            held AS (SELECT count(*) FILTER (WHERE leased_until <= $3) AS over, \
                  count(*) FILTER (WHERE leased_until > $3 AND claim <> '00000000-0000-0000-0000-000000000000') AS leased, \
                  count(*) FILTER (WHERE leased_until > $3 AND claim = '00000000-0000-0000-0000-000000000000') AS delayed \
               FROM (SELECT d.leased_until, d.claim FROM deliveries d WHERE d.subscription_id = (SELECT id FROM own) \
                  AND d.profile = 5 AND d.state IN (0, 2) AND d.state = (SELECT 0::smallint) AND d.leased_until IS NOT NULL \
                  ORDER BY d.leased_until LIMIT {COUNTED}) h) \
         SELECT LEAST(p.waiting + h.over, {COUNTED}) AS waiting, h.leased, h.delayed, p.quarantined, \
            (SELECT d.due_at FROM deliveries d WHERE d.subscription_id = (SELECT id FROM own) AND d.profile = 5 \
               AND d.state IN (0, 2) AND d.state = (SELECT 0::smallint) AND d.leased_until IS NULL ORDER BY d.sequence LIMIT 1) AS oldest_at, \
            (SELECT d.sequence FROM deliveries d WHERE d.subscription_id = (SELECT id FROM own) AND d.profile = 5 \
               AND d.sequence IS NOT NULL ORDER BY d.sequence DESC LIMIT 1) AS last_sequence \
         FROM put p, held h"
    ))
    .bind::<Uuid, _>(tenant)
    .bind::<Uuid, _>(id)
    .bind::<Timestamptz, _>(now)
    .get_result(conn)?)
}
