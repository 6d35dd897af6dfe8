//! Live credentials in memory, so that a request costs a hash and a look-up.
//!
//! Refreshed by what changed (see `subscription::directory`). A token that is not known is asked for in the database,
//! so that a new key works at once; a revoked one stops working with the next refresh.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use chrono::{DateTime, Utc};
use diesel::{
    PgConnection, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Array, BigInt, Binary, Integer, Nullable, Text, Timestamptz, Uuid},
};

use super::{Credential, Limits, Scope, TokenHash};
use crate::{
    Result,
    id::{CredentialId, TenantId},
};

/// The snapshot. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    inner: Arc<RwLock<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    seen: i64,
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
    #[diesel(sql_type = Nullable<Text>)]
    name: Option<String>,
    #[diesel(sql_type = Nullable<Binary>)]
    token_hash: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Array<Text>>)]
    scopes: Option<Vec<String>>,
    #[diesel(sql_type = Nullable<Integer>)]
    rate_limit: Option<i32>,
    #[diesel(sql_type = Nullable<Integer>)]
    hook_write_limit: Option<i32>,
    #[diesel(sql_type = Nullable<Integer>)]
    sample_limit: Option<i32>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    expires_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    revoked_at: Option<DateTime<Utc>>,
}

const COLUMNS: &str = "h.horizon, c.id, c.tenant_id, c.name, c.token_hash, c.scopes, c.rate_limit, c.hook_write_limit, \
     c.sample_limit, c.expires_at, c.revoked_at \
     FROM (SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS horizon, \
                  pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS ceiling) h LEFT JOIN credentials c ON";

impl Directory {
    /// The credential that this token stands for, if it is known here and has not expired.
    #[must_use]
    pub fn get(&self, hash: &TokenHash, now: DateTime<Utc>) -> Option<Arc<Credential>> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        let (known, credential) = inner.by_hash.get_key_value(hash)?;
        let live = known.matches(hash) && credential.expires_at.is_none_or(|end| now < end);
        live.then(|| Arc::clone(credential))
    }

    /// Brings the snapshot up to what is committed now.
    ///
    /// # Errors
    /// When the database is away; the snapshot then stays as it was.
    pub fn refresh(&self, conn: &mut PgConnection) -> Result<()> {
        let seen = self.inner.read().unwrap_or_else(PoisonError::into_inner).seen;
        let rows: Vec<Row> = sql_query(format!(
            "SELECT {COLUMNS} c.changed_in >= $1 AND ($1 = 0 OR c.changed_in < h.ceiling)"
        ))
        .bind::<BigInt, _>(seen)
        .load(conn)?;
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        for row in rows {
            inner.seen = inner.seen.max(row.horizon);
            inner.take(row);
        }
        Ok(())
    }

    /// Asks the database for a token that is not known here.
    ///
    /// # Errors
    /// When the database is away.
    pub fn look_up(&self, conn: &mut PgConnection, hash: &TokenHash) -> Result<()> {
        let rows: Vec<Row> = sql_query(format!("SELECT {COLUMNS} c.token_hash = $1"))
            .bind::<Binary, _>(hash.bytes())
            .load(conn)?;
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        for row in rows {
            inner.take(row);
        }
        Ok(())
    }
}

impl Inner {
    fn take(&mut self, row: Row) {
        let Some(((id, tenant), hash)) = row.id.zip(row.tenant_id).zip(row.token_hash) else { return };
        let Some(hash) = TokenHash::from_bytes(&hash) else { return };
        if row.revoked_at.is_some() {
            self.by_hash.remove(&hash);
            return;
        }
        let limit = |limit: Option<i32>| limit.map(|n| u32::try_from(n).unwrap_or(0));
        let credential = Credential {
            id,
            tenant,
            name: row.name.unwrap_or_default(),
            // A scope that this version does not know permits nothing here.
            scopes: row
                .scopes
                .unwrap_or_default()
                .iter()
                .filter_map(|scope| scope.parse::<Scope>().ok())
                .collect(),
            limits: Limits {
                requests: limit(row.rate_limit),
                hook_writes: limit(row.hook_write_limit),
                samples: limit(row.sample_limit),
            },
            expires_at: row.expires_at,
        };
        self.by_hash.insert(hash, Arc::new(credential));
    }
}
