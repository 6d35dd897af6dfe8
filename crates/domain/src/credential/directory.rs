//! Live credentials in memory, so that a request costs a hash and a look-up.
//!
//! Refreshed by what changed (see `subscription::directory`). A token that is not known is asked for in the database, so
//! that a new key works at once. A snapshot that is older than [`MAX_AGE`] must not be used; so whoever waits for so long
//! after the commit of a revocation knows that the credential is refused everywhere ([`known_everywhere`],
//! docs/decisions/0012).

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use diesel::{
    PgConnection, QueryableByName, RunQueryDsl,
    sql_types::{Array, BigInt, Binary, Integer, Nullable, SmallInt, Text, Timestamptz, Uuid},
};

use super::{Credential, Kind, Limits, Scope, TokenHash, Work};
use crate::{
    Result,
    db::{prepared::prepared, snapshot::HORIZON},
    id::{CredentialId, TenantId},
    subscription::EventPattern,
    task::AgentType,
};

/// What a process knows of credentials counts for so long. The same for all processes: it is part of the protocol
/// between them, and no setting.
pub const MAX_AGE: Duration = Duration::from_millis(500);

/// Returns when a change of credentials that was committed before is known wherever requests are answered: a key that was
/// revoked is refused from then on.
///
/// Clocks of different machines may run apart by a little, hence the margin.
pub async fn known_everywhere() {
    tokio::time::sleep(MAX_AGE + MAX_AGE / 50).await;
}

/// The snapshot. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    inner: Arc<RwLock<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    seen: i64,
    /// When the last refresh began.
    as_of: Option<Instant>,
    /// How many refreshes there were.
    generation: u64,
    by_hash: HashMap<TokenHash, Arc<Credential>>,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = BigInt)]
    horizon: i64,
    #[diesel(sql_type = Nullable<Uuid>)]
    id: Option<CredentialId>,
    #[diesel(sql_type = Nullable<Uuid>)]
    tenant_id: Option<TenantId>,
    #[diesel(sql_type = Nullable<SmallInt>)]
    kind: Option<Kind>,
    #[diesel(sql_type = Nullable<Text>)]
    name: Option<String>,
    #[diesel(sql_type = Nullable<Binary>)]
    token_hash: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Array<Text>>)]
    scopes: Option<Vec<String>>,
    #[diesel(sql_type = Nullable<Array<Text>>)]
    event_types: Option<Vec<String>>,
    #[diesel(sql_type = Nullable<Array<SmallInt>>)]
    agent_types: Option<Vec<i16>>,
    #[diesel(sql_type = Nullable<Array<Text>>)]
    models: Option<Vec<String>>,
    #[diesel(sql_type = Nullable<Integer>)]
    rate_limit: Option<i32>,
    #[diesel(sql_type = Nullable<Integer>)]
    hook_write_limit: Option<i32>,
    #[diesel(sql_type = Nullable<Integer>)]
    hook_write_burst: Option<i32>,
    #[diesel(sql_type = Nullable<Integer>)]
    sample_limit: Option<i32>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    expires_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    revoked_at: Option<DateTime<Utc>>,
}

const COLUMNS: &str = "h.horizon, c.id, c.tenant_id, c.kind, c.name, c.token_hash, c.scopes, c.event_types, c.agent_types, \
     c.models, c.rate_limit, c.hook_write_limit, c.hook_write_burst, c.sample_limit, c.expires_at, c.revoked_at";

impl Directory {
    /// The credential that this token stands for, if it is known here and has not expired.
    #[must_use]
    pub fn get(&self, hash: &TokenHash, now: DateTime<Utc>) -> Option<Arc<Credential>> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        let (known, credential) = inner.by_hash.get_key_value(hash)?;
        let live = known.matches(hash) && credential.expires_at.is_none_or(|end| now < end);
        live.then(|| Arc::clone(credential))
    }

    /// Whether the snapshot may be used: its last refresh began no longer than [`MAX_AGE`] ago.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        inner.as_of.is_some_and(|as_of| as_of.elapsed() <= MAX_AGE)
    }

    /// Brings the snapshot up to what was committed at `as_of`, the instant at which the caller began to ask, and at which
    /// it therefore is up to date at the least.
    ///
    /// # Errors
    /// When the database is away; the snapshot then stays as it was.
    pub fn refresh(&self, conn: &mut PgConnection, as_of: Instant) -> Result<()> {
        let seen = self.inner.read().unwrap_or_else(PoisonError::into_inner).seen;
        let rows: Vec<Row> = prepared(format!(
            "SELECT {COLUMNS} FROM {HORIZON} LEFT JOIN credentials c ON c.changed_in >= $1 AND CASE $1 WHEN 0 \
                THEN c.revoked_at IS NULL AND (c.expires_at IS NULL OR c.expires_at > now() - interval '1 day') \
                ELSE c.changed_in < h.ceiling END"
        ))
        .bind::<BigInt, _>(seen)
        .load(conn)?;
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        for row in rows {
            inner.seen = inner.seen.max(row.horizon);
            inner.take(row);
        }
        inner.generation += 1;
        inner.as_of = inner.as_of.max(Some(as_of));
        Ok(())
    }

    /// Asks the database for a token that is not known here. Returns `false` when there was a refresh meanwhile, which may
    /// have seen more: ask again.
    ///
    /// # Errors
    /// When the database is away.
    pub fn look_up(&self, conn: &mut PgConnection, hash: &TokenHash) -> Result<bool> {
        let generation = self.inner.read().unwrap_or_else(PoisonError::into_inner).generation;
        let rows: Vec<Row> =
            prepared(format!("SELECT {COLUMNS} FROM {HORIZON} LEFT JOIN credentials c ON c.token_hash = $1"))
                .bind::<Binary, _>(hash.bytes())
                .load(conn)?;
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        if inner.generation != generation {
            return Ok(false);
        }
        for row in rows {
            inner.take(row);
        }
        Ok(true)
    }

    /// Forgets what has expired.
    pub fn forget_expired(&self, now: DateTime<Utc>) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        inner.by_hash.retain(|_, credential| credential.expires_at.is_none_or(|end| now < end));
    }
}

impl Inner {
    fn take(&mut self, row: Row) {
        let Some(((id, tenant), hash)) = row.id.zip(row.tenant_id).zip(row.token_hash) else { return };
        let (Some(hash), Some(kind)) = (TokenHash::from_bytes(&hash), row.kind) else { return };
        if row.revoked_at.is_some() {
            self.by_hash.remove(&hash);
            return;
        }
        let limit = |limit: Option<i32>| limit.map(|n| u32::try_from(n).unwrap_or(0));
        let credential = Credential {
            id,
            tenant,
            kind,
            name: row.name.unwrap_or_default(),
            // A scope that this version does not know permits nothing here.
            scopes: row
                .scopes
                .unwrap_or_default()
                .iter()
                .filter_map(|scope| scope.parse::<Scope>().ok())
                .collect(),
            // A pattern that this version does not know permits nothing here.
            event_types: row.event_types.map(|patterns| {
                patterns.iter().filter_map(|pattern| pattern.parse::<EventPattern>().ok()).collect()
            }),
            work: Work {
                // A type that this version does not know is not given out here.
                agent_types: row.agent_types.map(|codes| {
                    AgentType::ALL.into_iter().filter(|agent| codes.contains(&agent.code())).collect()
                }),
                models: row.models,
            },
            limits: Limits {
                requests: limit(row.rate_limit),
                hook_writes: limit(row.hook_write_limit),
                hook_write_burst: limit(row.hook_write_burst),
                samples: limit(row.sample_limit),
            },
            expires_at: row.expires_at,
        };
        self.by_hash.insert(hash, Arc::new(credential));
    }
}
