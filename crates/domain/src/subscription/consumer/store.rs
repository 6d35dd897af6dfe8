//! Queries on consumers. A consumer is a row in `subscriptions` and one in `consumers`; whoever changes the second touches the
//! first, so that snapshots hear of it.

use chrono::{DateTime, Utc};
use diesel::{
    OptionalExtension, PgConnection, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Array, BigInt, Binary, Integer, Nullable, SmallInt, Text, Timestamptz, Uuid},
};
use ring::digest::{SHA256, digest};

use super::{
    ClientCertificate, Headers, MAX_CONSUMERS, Method,
    keys::{set_certificate, set_headers},
};
use crate::{
    Error, Result,
    db::prepared::planned_for_values,
    id::{CredentialId, SubscriptionId, TenantId},
    subscription::{HookState, Kind, Record, record},
    vault::{
        Vault,
        columns::{CONSUMER_SIGNING_KEY, SIGNING_SECRET},
    },
    wire::{SigningKey, SigningSecret},
};

/// What the owner of a consumer says in plain.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Where deliveries go, as written.
    pub url: String,
    /// For people.
    pub description: String,
    /// Which types, as written: may be aliases.
    pub event_types: Vec<String>,
    /// Which types or patterns those stand for.
    pub patterns: Vec<String>,
    /// Of which companies.
    pub tags: Vec<String>,
    /// Canonical JSON of the filter.
    pub filter: Option<String>,
    /// How deliveries are sent.
    pub method: Method,
    /// Deliveries per second.
    pub rate_limit: Option<i32>,
    /// After how many seconds an event is not sent any more.
    pub ttl_s: Option<i32>,
    /// The place in an event that it is ordered by.
    pub ordering_key: Option<String>,
    /// Canonical JSON of the transformation.
    pub transformation: Option<String>,
}

/// A consumer to be stored.
#[derive(Debug)]
pub struct NewConsumer {
    /// Identity.
    pub id: SubscriptionId,
    /// Owner.
    pub tenant: TenantId,
    /// Who asked for it.
    pub credential: Option<CredentialId>,
    /// What its owner says.
    pub terms: Terms,
    /// Whether it takes events.
    pub disabled: bool,
    /// Further headers.
    pub headers: Headers,
    /// What it shows to receivers that ask.
    pub certificate: Option<ClientCertificate>,
    /// Signs `v1`.
    pub secret: SigningSecret,
    /// Signs `v1a`.
    pub signing_key: SigningKey,
    /// Now.
    pub now: DateTime<Utc>,
}

/// Why a consumer is disabled that its owner disabled.
pub const BY_OWNER: &str = "disabled by its owner";

/// A consumer as its owner sees it.
#[derive(Clone, Debug, QueryableByName)]
pub struct ConsumerView {
    /// Identity.
    #[diesel(sql_type = Uuid)]
    pub id: SubscriptionId,
    /// Where deliveries go.
    #[diesel(sql_type = Text)]
    pub url: String,
    /// For people.
    #[diesel(sql_type = Text)]
    pub description: String,
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
    /// How deliveries are sent: `POST` or `PUT`.
    #[diesel(sql_type = Text)]
    pub method: String,
    /// The names of further headers.
    #[diesel(sql_type = Array<Text>)]
    pub header_names: Vec<String>,
    /// Deliveries per second.
    #[diesel(sql_type = Nullable<Integer>)]
    pub rate_limit: Option<i32>,
    /// After how many seconds an event is not sent any more.
    #[diesel(sql_type = Nullable<Integer>)]
    pub ttl_s: Option<i32>,
    /// The place in an event that it is ordered by.
    #[diesel(sql_type = Nullable<Text>)]
    pub ordering_key: Option<String>,
    /// Canonical JSON of the transformation.
    #[diesel(sql_type = Nullable<Text>)]
    pub transformation: Option<String>,
    /// The chain of the client certificate, as PEM.
    #[diesel(sql_type = Nullable<Text>)]
    pub certificate: Option<String>,
    /// Until when that is valid.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub certificate_until: Option<DateTime<Utc>>,
    /// `whpk_…`: verifies `v1a`.
    #[diesel(sql_type = Text)]
    pub public_key: String,
    /// The same from before the last rotation.
    #[diesel(sql_type = Nullable<Text>)]
    pub previous_public_key: Option<String>,
    /// Until when secret and key from before the last rotation sign, too.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub previous_until: Option<DateTime<Utc>>,
    /// Where it stands.
    #[diesel(sql_type = SmallInt)]
    pub state: HookState,
    /// Why, if it is not obvious.
    #[diesel(sql_type = Nullable<Text>)]
    pub state_reason: Option<String>,
    /// When it was made.
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    #[diesel(sql_type = Timestamptz)]
    pub updated_at: DateTime<Utc>,
    /// How its deliveries fared.
    #[diesel(embed)]
    pub record: Record,
}

impl ConsumerView {
    /// What its owner has said.
    #[must_use]
    pub fn terms(&self) -> Terms {
        Terms {
            url: self.url.clone(),
            description: self.description.clone(),
            event_types: self.event_types.clone(),
            patterns: self.patterns.clone(),
            tags: self.tags.clone(),
            filter: self.filter.clone(),
            method: self.method.parse().unwrap_or_default(),
            rate_limit: self.rate_limit,
            ttl_s: self.ttl_s,
            ordering_key: self.ordering_key.clone(),
            transformation: self.transformation.clone(),
        }
    }
}

fn view() -> String {
    format!(
        "SELECT s.id, s.url, c.description, c.event_types, c.patterns, c.tags, s.filter, c.method, c.header_names, c.rate_limit, \
            c.ttl_s, c.ordering_key, c.transformation, c.certificate, c.certificate_until, c.public_key, c.previous_public_key, \
            c.previous_until, s.state, s.state_reason, s.created_at, s.updated_at, {} \
         FROM subscriptions s JOIN consumers c ON c.id = s.id {}",
        record::COLUMNS,
        record::JOINED
    )
}

/// Adds a consumer. Belongs into a transaction.
///
/// # Errors
/// [`Error::Conflict`] when the tenant has [`MAX_CONSUMERS`]; when the database is away.
pub fn insert(conn: &mut PgConnection, vault: &Vault, new: &NewConsumer) -> Result<()> {
    #[derive(QueryableByName)]
    struct Count {
        #[diesel(sql_type = BigInt)]
        count: i64,
    }
    // One after the other, so that two who add the last one do not both find room.
    crate::catalogue::store::lock(conn, new.tenant)?;
    let there: Count = sql_query(
        "SELECT count(*) AS count FROM subscriptions WHERE tenant_id = $1 AND kind = 3 AND state <> 4",
    )
    .bind::<Uuid, _>(new.tenant)
    .get_result(conn)?;
    if there.count >= MAX_CONSUMERS {
        let reason =
            format!("a tenant can have {MAX_CONSUMERS} consumers; delete one that is not needed any more");
        return Err(Error::Conflict { reason });
    }
    let state = if new.disabled { HookState::Disabled } else { HookState::Pending };
    let identity = digest(&SHA256, &[&b"consumer\0"[..], new.id.uuid().as_bytes()].concat());
    sql_query(
        "INSERT INTO subscriptions (id, tenant_id, kind, url, filter, identity, state, state_reason, signing_secret, \
            credential_id, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11)",
    )
    .bind::<Uuid, _>(new.id)
    .bind::<Uuid, _>(new.tenant)
    .bind::<SmallInt, _>(Kind::Consumer.code())
    .bind::<Text, _>(&new.terms.url)
    .bind::<Nullable<Text>, _>(&new.terms.filter)
    .bind::<Binary, _>(identity.as_ref())
    .bind::<SmallInt, _>(state)
    .bind::<Nullable<Text>, _>(new.disabled.then_some(BY_OWNER))
    .bind::<Binary, _>(vault.seal(&SIGNING_SECRET.at(new.id.uuid()), new.secret.expose().as_bytes()))
    .bind::<Nullable<Uuid>, _>(new.credential)
    .bind::<Timestamptz, _>(new.now)
    .execute(conn)?;
    sql_query(
        "INSERT INTO consumers (id, description, event_types, patterns, tags, method, header_names, signing_key, public_key, \
            rate_limit, ttl_s, ordering_key, transformation, transformed_since) \
         VALUES ($1, $2, $3, $4, $5, $6, '{}', $7, $8, $9, $10, $11, $12, CASE WHEN $12 IS NOT NULL THEN $13 END)",
    )
    .bind::<Uuid, _>(new.id)
    .bind::<Text, _>(&new.terms.description)
    .bind::<Array<Text>, _>(&new.terms.event_types)
    .bind::<Array<Text>, _>(&new.terms.patterns)
    .bind::<Array<Text>, _>(&new.terms.tags)
    .bind::<Text, _>(new.terms.method.as_str())
    .bind::<Binary, _>(vault.seal(&CONSUMER_SIGNING_KEY.at(new.id.uuid()), new.signing_key.expose()))
    .bind::<Text, _>(new.signing_key.public_key())
    .bind::<Nullable<Integer>, _>(new.terms.rate_limit)
    .bind::<Nullable<Integer>, _>(new.terms.ttl_s)
    .bind::<Nullable<Text>, _>(&new.terms.ordering_key)
    .bind::<Nullable<Text>, _>(&new.terms.transformation)
    .bind::<Timestamptz, _>(new.now)
    .execute(conn)?;
    if !new.headers.is_empty() {
        set_headers(conn, vault, new.id, &new.headers)?;
    }
    if new.certificate.is_some() {
        set_certificate(conn, vault, new.id, new.certificate.as_ref())?;
    }
    Ok(())
}

/// Replaces what the owner says. Belongs into a transaction that has the consumer from [`lock`].
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
        "UPDATE subscriptions SET url = $3, filter = $4, updated_at = $5 WHERE tenant_id = $1 AND id = $2",
    )
    .bind::<Uuid, _>(tenant)
    .bind::<Uuid, _>(id)
    .bind::<Text, _>(&terms.url)
    .bind::<Nullable<Text>, _>(&terms.filter)
    .bind::<Timestamptz, _>(now)
    .execute(conn)?;
    sql_query(
        "UPDATE consumers SET description = $2, event_types = $3, patterns = $4, tags = $5, method = $6, rate_limit = $7, \
            ttl_s = $8, ordering_key = $9, transformation = $10, \
            transformed_since = CASE WHEN transformation IS NULL AND $10 IS NOT NULL THEN $11 ELSE transformed_since END \
         WHERE id = $1",
    )
    .bind::<Uuid, _>(id)
    .bind::<Text, _>(&terms.description)
    .bind::<Array<Text>, _>(&terms.event_types)
    .bind::<Array<Text>, _>(&terms.patterns)
    .bind::<Array<Text>, _>(&terms.tags)
    .bind::<Text, _>(terms.method.as_str())
    .bind::<Nullable<Integer>, _>(terms.rate_limit)
    .bind::<Nullable<Integer>, _>(terms.ttl_s)
    .bind::<Nullable<Text>, _>(&terms.ordering_key)
    .bind::<Nullable<Text>, _>(&terms.transformation)
    .bind::<Timestamptz, _>(now)
    .execute(conn)?;
    Ok(())
}

/// One consumer of a tenant, also a deleted one.
///
/// # Errors
/// When the database is away.
pub fn find(conn: &mut PgConnection, tenant: TenantId, id: SubscriptionId) -> Result<Option<ConsumerView>> {
    found(conn, tenant, id, "")
}

/// As [`find`], locked until the transaction ends.
///
/// # Errors
/// When the database is away.
pub fn lock(conn: &mut PgConnection, tenant: TenantId, id: SubscriptionId) -> Result<Option<ConsumerView>> {
    found(conn, tenant, id, " FOR UPDATE OF s")
}

fn found(
    conn: &mut PgConnection,
    tenant: TenantId,
    id: SubscriptionId,
    locked: &str,
) -> Result<Option<ConsumerView>> {
    Ok(sql_query(format!("{} WHERE s.tenant_id = $1 AND s.id = $2 AND s.kind = 3{locked}", view()))
        .bind::<Uuid, _>(tenant)
        .bind::<Uuid, _>(id)
        .get_result(conn)
        .optional()?)
}

/// Which consumers of a tenant.
#[derive(Clone, Debug, Default)]
pub struct ConsumerQuery {
    /// In this state; without one, all but the deleted.
    pub state: Option<HookState>,
    /// For this type or pattern, as written.
    pub event_type: Option<String>,
    /// With this tag.
    pub tag: Option<String>,
    /// Only consumers older than this one: the cursor.
    pub before: Option<SubscriptionId>,
    /// At most so many.
    pub limit: i64,
}

/// A page of consumers, newest first.
///
/// # Errors
/// When the database is away.
pub fn list(conn: &mut PgConnection, tenant: TenantId, query: &ConsumerQuery) -> Result<Vec<ConsumerView>> {
    planned_for_values(conn, |conn| {
        Ok(sql_query(format!(
            "{} WHERE s.tenant_id = $1 AND s.kind = 3 AND (($2 IS NULL AND s.state <> 4) OR s.state = $2) \
               AND ($3 IS NULL OR $3 = ANY(c.event_types)) AND ($4 IS NULL OR $4 = ANY(c.tags)) \
               AND ($5 IS NULL OR s.id < $5) ORDER BY s.id DESC LIMIT $6",
            view()
        ))
        .bind::<Uuid, _>(tenant)
        .bind::<Nullable<SmallInt>, _>(query.state.map(HookState::code))
        .bind::<Nullable<Text>, _>(&query.event_type)
        .bind::<Nullable<Text>, _>(&query.tag)
        .bind::<Nullable<Uuid>, _>(query.before)
        .bind::<BigInt, _>(query.limit)
        .load(conn)?)
    })
}

/// Lets go what still waits for its turn at a consumer that is not ordered any more. Belongs into the transaction of [`update`].
///
/// # Errors
/// When the database is away.
pub fn leave_lines(
    conn: &mut PgConnection,
    tenant: TenantId,
    id: SubscriptionId,
    now: DateTime<Utc>,
) -> Result<()> {
    sql_query(
        "UPDATE deliveries SET ordering = NULL, \
            next_attempt_at = CASE WHEN next_attempt_at = 'infinity' THEN $3 ELSE next_attempt_at END, \
            due_at = CASE WHEN next_attempt_at = 'infinity' THEN $3 ELSE due_at END \
         WHERE tenant_id = $1 AND subscription_id = $2 AND state IN (0, 2) AND state = 0 AND ordering IS NOT NULL",
    )
    .bind::<Uuid, _>(tenant)
    .bind::<Uuid, _>(id)
    .bind::<Timestamptz, _>(now)
    .execute(conn)?;
    Ok(())
}
