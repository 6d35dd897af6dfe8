//! All live subscriptions in memory, exact at every look.
//!
//! [`Directory::refresh`] reads what changed since the last look, in the caller's transaction. Whatever was committed
//! before that transaction's statement is seen, so that an event never misses a hook that was subscribed before the
//! event was accepted. One indexed query, usually without a row; no look-up per event.

mod stored;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use chrono::{DateTime, Utc};
use diesel::{PgConnection, RunQueryDsl, pg::PgRowByRowLoadingMode, sql_types::BigInt};

use self::stored::{Row, parsed, refresh_statement};
use super::{EventPattern, HookState, Kind, Subscription};
use crate::{
    Result,
    db::prepared::prepared,
    event::EventType,
    id::{SubscriptionId, TenantId},
    vault::Vault,
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

impl Standing {
    /// Whether the content of events of this tenant may be looked at.
    #[must_use]
    pub fn may_filter(&self, tenant: TenantId) -> bool {
        self.filtering.as_ref().is_none_or(|tenants| tenants.contains(&tenant))
    }

    /// Whether this snapshot has all that the other has seen.
    #[must_use]
    pub const fn has_seen_all_of(&self, other: &Self) -> bool {
        other.seen <= self.seen
    }
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
