//! All live subscriptions in memory, exact at every look.
//!
//! [`Directory::refresh`] reads what changed since the last look, in the caller's transaction. Whatever was committed
//! before that transaction's statement is seen, so that an event never misses a hook that was subscribed before the
//! event was accepted. One indexed query, usually without a row; no look-up per event.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use chrono::{DateTime, TimeDelta, Utc};
use diesel::{
    PgConnection, QueryableByName, RunQueryDsl,
    pg::PgRowByRowLoadingMode,
    sql_types::{Array, BigInt, Binary, Integer, Nullable, SmallInt, Text, Timestamptz, Uuid},
};

use super::{
    Consumer, EventPattern, Filter, HookState, Kind, Secrets, Subscription,
    consumer::{ClientCertificate, Headers, Keys, Place, Previous, Transformation},
};
use crate::{
    Result,
    db::{prepared::prepared, snapshot::HORIZON},
    event::EventType,
    id::{SubscriptionId, TenantId},
    vault::{
        Column, Place as Sealed, Vault, VaultError,
        columns::{
            CONSUMER_CERTIFICATE_KEY, CONSUMER_HEADERS, CONSUMER_PREVIOUS_KEY, CONSUMER_PREVIOUS_SECRET,
            CONSUMER_SIGNING_KEY, HOOK_WEBHOOK_SECRET, SIGNING_SECRET, TENANT_WEBHOOK_SECRET,
        },
    },
    wire::{SecretError, SigningKey, SigningSecret, WebhookSecret},
};

/// The snapshot. Clones share it. By default it leaves the secrets of hooks sealed.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    /// Opens the secrets of hooks, for whoever signs.
    vault: Option<Vault>,
    inner: Arc<Mutex<Inner>>,
    /// Held from the reading of rows until they are taken: of two that read at the same time, the older must not be taken
    /// after the younger, or a hook that was deleted between them would come back.
    looking: Arc<Mutex<()>>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Transactions below this one had ended when we last looked.
    seen: i64,
    by_id: HashMap<SubscriptionId, Arc<Subscription>>,
    by_tenant: HashMap<TenantId, Hooks>,
    /// Of the tenants whose hooks look at the content of events, how many of them do.
    filters: HashMap<TenantId, usize>,
}

/// What a snapshot goes by, for queries that tell whether it is behind.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Transactions below this one had ended when we last looked.
    pub(crate) seen: i64,
    /// The tenants whose hooks look at the content of events; `None` when they are many.
    pub(crate) filtering: Option<Vec<TenantId>>,
}

/// Tenants with such hooks that are named to a query; when there are more, any tenant may have some.
const FILTERING: usize = 64;

/// SQL that tells whether a snapshot of [`Standing::seen`] is behind what the statement sees: `$n` is that number. A statement
/// that sees an event sees all subscriptions that were answered before it was accepted.
pub(crate) fn behind(parameter: &str) -> String {
    format!(
        "({parameter} = 0 OR EXISTS (SELECT FROM subscriptions c WHERE c.changed_in >= {parameter} \
         AND c.changed_in < pg_snapshot_xmax(pg_current_snapshot())::text::bigint))"
    )
}

/// The subscriptions of one tenant that take events.
#[derive(Debug, Default)]
struct Hooks {
    /// By the one type they want.
    exact: HashMap<EventType, Vec<Arc<Subscription>>>,
    /// With a wildcard, or for everything.
    broad: Vec<Arc<Subscription>>,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = BigInt)]
    horizon: i64,
    #[diesel(sql_type = Nullable<Uuid>)]
    id: Option<SubscriptionId>,
    #[diesel(sql_type = Nullable<Uuid>)]
    tenant_id: Option<TenantId>,
    #[diesel(sql_type = Nullable<SmallInt>)]
    kind: Option<Kind>,
    #[diesel(sql_type = Nullable<Text>)]
    url: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    pattern: Option<EventPattern>,
    #[diesel(sql_type = Nullable<Text>)]
    filter: Option<String>,
    #[diesel(sql_type = Nullable<SmallInt>)]
    state: Option<HookState>,
    #[diesel(sql_type = Nullable<Binary>)]
    signing_secret: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Binary>)]
    webhook_secret: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Binary>)]
    tenant_webhook_secret: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    expires_at: Option<DateTime<Utc>>,
    #[diesel(embed)]
    consumer: ConsumerRow,
}

/// What a consumer, or an inbox, has beside its subscription; nothing of it for the other kinds.
#[derive(QueryableByName)]
struct ConsumerRow {
    #[diesel(sql_type = Nullable<Array<Text>>)]
    patterns: Option<Vec<EventPattern>>,
    #[diesel(sql_type = Nullable<Array<Text>>)]
    tags: Option<Vec<String>>,
    #[diesel(sql_type = Nullable<Text>)]
    method: Option<String>,
    #[diesel(sql_type = Nullable<Integer>)]
    rate_limit: Option<i32>,
    #[diesel(sql_type = Nullable<Integer>)]
    ttl_s: Option<i32>,
    #[diesel(sql_type = Nullable<Text>)]
    ordering_key: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    transformation: Option<String>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    transformed_since: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Binary>)]
    headers: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Binary>)]
    signing_key: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Binary>)]
    previous_secret: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Binary>)]
    previous_key: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    previous_until: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Text>)]
    certificate: Option<String>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    certificate_until: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Binary>)]
    certificate_key: Option<Vec<u8>>,
}

/// One statement is one snapshot: the horizon and the rows are of the same instant. Rows from above the ceiling were
/// written by another life of the cluster (a restored dump) and were read at the first look.
///
/// A tenant's secret counts for hooks without one; whoever changes it touches the tenant's hooks. What consumers and inboxes have is looked up
/// for each of them (`OFFSET 0` keeps the planner from reading them all), as nearly always there is none.
fn refresh_statement() -> String {
    format!(
        "SELECT h.horizon, s.id, s.tenant_id, s.kind, s.url, s.pattern, s.filter, s.state, s.signing_secret, \
     s.webhook_secret, (SELECT t.webhook_secret FROM tenants t WHERE t.id = s.tenant_id) AS tenant_webhook_secret, \
     s.expires_at, COALESCE(c.patterns, i.patterns) AS patterns, COALESCE(c.tags, i.tags) AS tags, c.method, c.rate_limit, \
     COALESCE(c.ttl_s, i.ttl_s) AS ttl_s, c.ordering_key, c.transformation, c.transformed_since, c.headers, \
     c.signing_key, c.previous_secret, c.previous_key, c.previous_until, c.certificate, c.certificate_until, c.certificate_key \
     FROM {HORIZON} \
     LEFT JOIN subscriptions s ON s.changed_in >= $1 AND ($1 = 0 OR s.changed_in < h.ceiling) \
     AND ($1 > 0 OR s.state <> 4) \
     LEFT JOIN LATERAL (SELECT * FROM consumers k WHERE k.id = s.id AND s.kind = 3 OFFSET 0) c ON true \
     LEFT JOIN LATERAL (SELECT * FROM inboxes k WHERE k.id = s.id AND s.kind = 4 OFFSET 0) i ON true"
    )
}

impl Directory {
    /// A snapshot with the secrets of hooks, opened when they are read.
    #[must_use]
    pub fn with_secrets(vault: Vault) -> Self {
        Self { vault: Some(vault), ..Self::default() }
    }

    /// Brings the snapshot up to what is committed now.
    ///
    /// # Errors
    /// When the database is away; the snapshot then stays as it was.
    pub fn refresh(&self, conn: &mut PgConnection) -> Result<()> {
        let _one_at_a_time = self.looking.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = self.lock().seen;
        let rows = prepared(refresh_statement()).bind::<BigInt, _>(seen);
        // Row by row: the rows of 100,000 subscriptions need more memory than what is kept of them, and it would not be given back.
        // Until the last one is here nothing counts as seen, and what was taken is read again.
        let mut horizon = seen;
        for row in rows.load_iter::<Row, PgRowByRowLoadingMode>(conn)? {
            let row = row?;
            horizon = row.horizon;
            self.lock().take(row, self.vault.as_ref());
        }
        self.lock().seen = horizon;
        Ok(())
    }

    /// How far this snapshot goes, to be asked about with the next query.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let inner = self.lock();
        let filtering = (inner.filters.len() <= FILTERING).then(|| inner.filters.keys().copied().collect());
        Standing { seen: inner.seen, filtering }
    }

    /// The subscription with this id, whatever its state, unless it is deleted.
    #[must_use]
    pub fn get(&self, id: SubscriptionId) -> Option<Arc<Subscription>> {
        self.lock().by_id.get(&id).cloned()
    }

    /// The subscriptions of a tenant that want events of this type now; filters are not asked yet.
    #[must_use]
    pub fn wanting(
        &self,
        tenant: TenantId,
        event_type: &EventType,
        now: DateTime<Utc>,
    ) -> Vec<Arc<Subscription>> {
        let inner = self.lock();
        let Some(hooks) = inner.by_tenant.get(&tenant) else { return Vec::new() };
        let exact = hooks.exact.get(event_type).into_iter().flatten();
        exact.chain(&hooks.broad).filter(|hook| hook.wants_type(event_type, now)).cloned().collect()
    }

    /// How many subscriptions are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().by_id.len()
    }

    /// Whether none is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A panic while the lock was held cannot leave the maps half changed in a way that matters: the next refresh
    /// reads the same rows again.
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn take(&mut self, row: Row, vault: Option<&Vault>) {
        let Some((id, tenant)) = row.id.zip(row.tenant_id) else { return };
        let state = row.state.unwrap_or(HookState::Deleted);
        self.forget(id);
        // Only whoever delivers has to do with endpoints of tasks and callbacks, of which there may be very many, and not with
        // inboxes, which have nothing to sign with.
        let of_no_use = |kind: Kind| if vault.is_none() { !kind.is_matched() } else { kind == Kind::Inbox };
        if state == HookState::Deleted || row.kind.is_some_and(of_no_use) {
            return;
        }
        match parsed(id, tenant, state, row, vault) {
            Ok(subscription) => self.remember(Arc::new(subscription)),
            Err(reason) => {
                tracing::error!(hook.id = %id, reason, "a stored hook cannot be used and is left out");
            }
        }
    }

    fn forget(&mut self, id: SubscriptionId) {
        let Some(old) = self.by_id.remove(&id) else { return };
        if old.kind.is_matched() && old.state.takes_events() && old.reads_content() {
            let left = self.filters.get_mut(&old.tenant).map(|count| {
                *count -= 1;
                *count
            });
            if left == Some(0) {
                self.filters.remove(&old.tenant);
            }
        }
        let Some(hooks) = self.by_tenant.get_mut(&old.tenant) else { return };
        hooks.broad.retain(|hook| hook.id != id);
        for event_type in old.patterns.iter().filter_map(EventPattern::is_exact) {
            if let Some(list) = hooks.exact.get_mut(event_type) {
                list.retain(|hook| hook.id != id);
                if list.is_empty() {
                    hooks.exact.remove(event_type);
                }
            }
        }
        if hooks.exact.is_empty() && hooks.broad.is_empty() {
            self.by_tenant.remove(&old.tenant);
        }
    }

    fn remember(&mut self, hook: Arc<Subscription>) {
        self.by_id.insert(hook.id, Arc::clone(&hook));
        if !hook.kind.is_matched() || !hook.state.takes_events() {
            return;
        }
        if hook.reads_content() {
            *self.filters.entry(hook.tenant).or_default() += 1;
        }
        let hooks = self.by_tenant.entry(hook.tenant).or_default();
        // Either here or there, so that nobody gets an event twice.
        let exact: Option<Vec<&EventType>> = hook.patterns.iter().map(EventPattern::is_exact).collect();
        match exact.filter(|exact| !exact.is_empty()) {
            Some(exact) => {
                for event_type in exact {
                    hooks.exact.entry(event_type.clone()).or_default().push(Arc::clone(&hook));
                }
            }
            None => hooks.broad.push(hook),
        }
    }
}

fn parsed(
    id: SubscriptionId,
    tenant: TenantId,
    state: HookState,
    row: Row,
    vault: Option<&Vault>,
) -> std::result::Result<Subscription, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let filter = row.filter.as_deref().map(Filter::stored).transpose()?;
    let kind = row.kind.unwrap_or(Kind::Hook);
    let has_more = matches!(kind, Kind::Consumer | Kind::Inbox);
    let consumer = has_more.then(|| consumer_of(&row.consumer)).transpose()?.map(Box::new);
    let secrets = match vault.map(|vault| opened(id, tenant, &row, vault)) {
        None => None,
        Some(Ok(secrets)) => Some(Arc::new(secrets)),
        Some(Err(Unopened::Sealed(reason @ VaultError::UnknownKey(_)))) => {
            tracing::error!(hook.id = %id, %reason, "the secrets of a hook cannot be opened; its deliveries wait");
            None
        }
        Some(Err(reason)) => return Err(text(&reason)),
    };
    Ok(Subscription {
        id,
        tenant,
        kind,
        url: row.url.unwrap_or_default().parse().map_err(|error: url::ParseError| text(&error))?,
        patterns: match row.consumer.patterns {
            Some(patterns) => patterns.into(),
            None => row.pattern.into_iter().collect(),
        },
        filter,
        state,
        secrets,
        expires_at: row.expires_at,
        consumer,
    })
}

fn consumer_of(row: &ConsumerRow) -> std::result::Result<Consumer, String> {
    Ok(Consumer {
        tags: row.tags.clone().unwrap_or_default(),
        method: row.method.as_deref().and_then(|method| method.parse().ok()).unwrap_or_default(),
        rate: row.rate_limit.and_then(|rate| u32::try_from(rate).ok()),
        ttl: row.ttl_s.map(|seconds| TimeDelta::seconds(i64::from(seconds))),
        ordering: row.ordering_key.as_deref().map(Place::parse).transpose()?,
        transformation: row.transformation.as_deref().map(Transformation::stored).transpose()?,
        transformed_since: row.transformed_since,
    })
}

/// Why there are no secrets to sign with.
#[derive(Debug, thiserror::Error)]
enum Unopened {
    #[error("a secret cannot be opened: {0}")]
    Sealed(VaultError),
    #[error("{0}")]
    Refused(SecretError),
    #[error("a consumer's keys cannot be read")]
    Unreadable,
}

fn opened(
    id: SubscriptionId,
    tenant: TenantId,
    row: &Row,
    vault: &Vault,
) -> std::result::Result<Secrets, Unopened> {
    let open = |place: Sealed, sealed: &[u8]| {
        let plain = vault.open(&place, sealed).map_err(Unopened::Sealed)?;
        String::from_utf8(plain).map_err(|_| Unopened::Sealed(VaultError::Damaged))
    };
    let signing = open(SIGNING_SECRET.at(id.uuid()), row.signing_secret.as_deref().unwrap_or_default())?;
    let webhook = match (&row.webhook_secret, &row.tenant_webhook_secret) {
        (Some(own), _) => Some(open(HOOK_WEBHOOK_SECRET.at(id.uuid()), own)?),
        (None, Some(tenants)) => Some(open(TENANT_WEBHOOK_SECRET.at(tenant.uuid()), tenants)?),
        (None, None) => None,
    };
    let keys = row.consumer.signing_key.is_some().then(|| keys(id, &row.consumer, vault)).transpose()?;
    Ok(Secrets {
        signing: SigningSecret::parse(&signing).map_err(Unopened::Refused)?,
        webhook: webhook.map(|text| WebhookSecret::parse(&text)).transpose().map_err(Unopened::Refused)?,
        consumer: keys.map(Box::new),
    })
}

fn keys(id: SubscriptionId, row: &ConsumerRow, vault: &Vault) -> std::result::Result<Keys, Unopened> {
    let open = |column: Column, sealed: &Option<Vec<u8>>| {
        let open = |sealed: &Vec<u8>| vault.open(&column.at(id.uuid()), sealed).map_err(Unopened::Sealed);
        sealed.as_ref().map(open).transpose()
    };
    let text = |plain: Vec<u8>| String::from_utf8(plain).map_err(|_| Unopened::Unreadable);
    let key = |seed: Vec<u8>| SigningKey::from_seed(&seed).map_err(|_| Unopened::Unreadable);
    let signing = open(CONSUMER_SIGNING_KEY, &row.signing_key)?.ok_or(Unopened::Unreadable)?;
    let secret = open(CONSUMER_PREVIOUS_SECRET, &row.previous_secret)?;
    let previous = match (secret, open(CONSUMER_PREVIOUS_KEY, &row.previous_key)?, row.previous_until) {
        (Some(secret), Some(seed), Some(until)) => Some(Previous {
            secret: SigningSecret::parse(&text(secret)?).map_err(Unopened::Refused)?,
            signing: key(seed)?,
            until,
        }),
        (_, _, _) => None,
    };
    let headers = open(CONSUMER_HEADERS, &row.headers)?;
    let headers = headers.map(|json| Headers::stored(&json).ok_or(Unopened::Unreadable)).transpose()?;
    let sealed_key = open(CONSUMER_CERTIFICATE_KEY, &row.certificate_key)?;
    let certificate = match (&row.certificate, sealed_key, row.certificate_until) {
        (Some(chain), Some(key), Some(until)) => {
            Some(ClientCertificate { chain: chain.clone(), key: text(key)?, until })
        }
        (_, _, _) => None,
    };
    Ok(Keys { signing: key(signing)?, previous, headers: headers.unwrap_or_default(), certificate })
}
