//! All live subscriptions in memory, exact at every look.
//!
//! [`Directory::refresh`] reads what changed since the last look, in the caller's transaction. Whatever was committed
//! before that transaction's statement is seen, so that an event never misses a hook that was subscribed before the
//! event was accepted. One indexed query, usually without a row; no look-up per event.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use chrono::{DateTime, Utc};
use diesel::{
    PgConnection, QueryableByName, RunQueryDsl,
    sql_types::{BigInt, Binary, Nullable, SmallInt, Text, Timestamptz, Uuid},
};

use super::{EventPattern, Filter, HookState, Kind, Secrets, Subscription};
use crate::{
    Result,
    db::prepared::prepared,
    event::EventType,
    id::{SubscriptionId, TenantId},
    vault::{
        Place, Vault, VaultError,
        columns::{HOOK_WEBHOOK_SECRET, SIGNING_SECRET, TENANT_WEBHOOK_SECRET},
    },
    wire::{SecretError, SigningSecret, WebhookSecret, parse_stored},
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
    /// Of the tenants whose hooks filter, how many of them do.
    filters: HashMap<TenantId, usize>,
}

/// What a snapshot goes by, for queries that tell whether it is behind.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Transactions below this one had ended when we last looked.
    pub(crate) seen: i64,
    /// The tenants whose hooks filter; `None` when they are many.
    pub(crate) filtering: Option<Vec<TenantId>>,
}

/// Tenants with filters that are named to a query; when there are more, any tenant may have some.
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
}

/// One statement is one snapshot: the horizon and the rows are of the same instant. Rows from above the ceiling were
/// written by another life of the cluster (a restored dump) and were read at the first look.
///
/// A tenant's secret counts for hooks without one; whoever changes it touches the tenant's hooks.
const REFRESH: &str = "SELECT h.horizon, s.id, s.tenant_id, s.kind, s.url, s.pattern, s.filter, s.state, s.signing_secret, \
     s.webhook_secret, (SELECT t.webhook_secret FROM tenants t WHERE t.id = s.tenant_id) AS tenant_webhook_secret, \
     s.expires_at \
     FROM (SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS horizon, \
                  pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS ceiling) h \
     LEFT JOIN subscriptions s ON s.changed_in >= $1 AND ($1 = 0 OR s.changed_in < h.ceiling) \
     AND ($1 > 0 OR s.state <> 4)";

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
        let rows: Vec<Row> = prepared(REFRESH).bind::<BigInt, _>(seen).load(conn)?;
        self.lock().take(rows, self.vault.as_ref());
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
    fn take(&mut self, rows: Vec<Row>, vault: Option<&Vault>) {
        for row in rows {
            self.seen = row.horizon;
            let Some((id, tenant)) = row.id.zip(row.tenant_id) else { continue };
            let state = row.state.unwrap_or(HookState::Deleted);
            self.forget(id);
            // Only whoever delivers has to do with endpoints of tasks, of which there may be very many.
            if state == HookState::Deleted || (row.kind == Some(Kind::Task) && vault.is_none()) {
                continue;
            }
            match parsed(id, tenant, state, row, vault) {
                Ok(subscription) => self.remember(Arc::new(subscription)),
                Err(reason) => {
                    tracing::error!(hook.id = %id, reason, "a stored hook cannot be used and is left out");
                }
            }
        }
    }

    fn forget(&mut self, id: SubscriptionId) {
        let Some(old) = self.by_id.remove(&id) else { return };
        if old.state.takes_events() && old.filter.is_some() {
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
        if let Some(event_type) = old.pattern.as_ref().and_then(EventPattern::is_exact)
            && let Some(list) = hooks.exact.get_mut(event_type)
        {
            list.retain(|hook| hook.id != id);
            if list.is_empty() {
                hooks.exact.remove(event_type);
            }
        }
        if hooks.exact.is_empty() && hooks.broad.is_empty() {
            self.by_tenant.remove(&old.tenant);
        }
    }

    fn remember(&mut self, hook: Arc<Subscription>) {
        self.by_id.insert(hook.id, Arc::clone(&hook));
        if hook.kind != Kind::Hook || !hook.state.takes_events() {
            return;
        }
        if hook.filter.is_some() {
            *self.filters.entry(hook.tenant).or_default() += 1;
        }
        let hooks = self.by_tenant.entry(hook.tenant).or_default();
        match hook.pattern.as_ref().and_then(EventPattern::is_exact) {
            Some(event_type) => hooks.exact.entry(event_type.clone()).or_default().push(hook),
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
    let filter = match &row.filter {
        None => None,
        Some(filter) => {
            let json = parse_stored(filter.as_bytes()).map_err(|error| text(&error))?;
            Some(Filter::parse(&json).map_err(|error| text(&error))?)
        }
    };
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
        kind: row.kind.unwrap_or(Kind::Hook),
        url: row.url.unwrap_or_default().parse().map_err(|error: url::ParseError| text(&error))?,
        pattern: row.pattern,
        filter,
        state,
        secrets,
        expires_at: row.expires_at,
    })
}

/// Why there are no secrets to sign with.
#[derive(Debug, thiserror::Error)]
enum Unopened {
    #[error("a secret cannot be opened: {0}")]
    Sealed(VaultError),
    #[error("{0}")]
    Refused(SecretError),
}

fn opened(
    id: SubscriptionId,
    tenant: TenantId,
    row: &Row,
    vault: &Vault,
) -> std::result::Result<Secrets, Unopened> {
    let open = |place: Place, sealed: &[u8]| {
        let plain = vault.open(&place, sealed).map_err(Unopened::Sealed)?;
        String::from_utf8(plain).map_err(|_| Unopened::Sealed(VaultError::Damaged))
    };
    let signing = open(SIGNING_SECRET.at(id.uuid()), row.signing_secret.as_deref().unwrap_or_default())?;
    let webhook = match (&row.webhook_secret, &row.tenant_webhook_secret) {
        (Some(own), _) => Some(open(HOOK_WEBHOOK_SECRET.at(id.uuid()), own)?),
        (None, Some(tenants)) => Some(open(TENANT_WEBHOOK_SECRET.at(tenant.uuid()), tenants)?),
        (None, None) => None,
    };
    Ok(Secrets {
        signing: SigningSecret::parse(&signing).map_err(Unopened::Refused)?,
        webhook: webhook.map(|text| WebhookSecret::parse(&text)).transpose().map_err(Unopened::Refused)?,
    })
}
