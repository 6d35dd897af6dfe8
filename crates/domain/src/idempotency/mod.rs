//! `Idempotency-Key`: the same request twice does its work once (contract §1).
//!
//! The key is written in the transaction that does the work, so that both are there or neither. A second request with
//! the same key waits at the unique index for the first to end: no state «in flight», nothing to clean up after a crash.

use std::collections::HashSet;

use chrono::{DateTime, TimeDelta, Utc};
use diesel::{
    OptionalExtension, PgConnection, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Array, Binary, SmallInt, Text, Timestamptz, Uuid},
};
use ring::digest::{SHA256, digest};

use crate::{Result, db::prepared::prepared, id::TenantId};

/// How long a key is remembered, in hours.
pub const KEPT_HOURS: i64 = 48;

/// How long a request waits for another with the same key that is still running, in seconds.
pub const PATIENCE_S: u32 = 10;

/// An answer is written within this time of what it tells of.
const AROUND: TimeDelta = TimeDelta::minutes(10);

/// The longest key, in characters.
pub const MAX_KEY_CHARS: usize = 255;

/// A key in its scope: tenant, method and route.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Whose key.
    pub tenant: TenantId,
    /// Method and route, such as `POST /events`.
    pub route: &'static str,
    /// What the caller sent.
    pub key: String,
    /// SHA-256 of the request's body and query.
    pub request_hash: [u8; 32],
}

/// A key that is not acceptable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must have 1 to {MAX_KEY_CHARS} printable ASCII characters")]
pub struct KeyError;

impl Key {
    /// A key as the caller sent it, for a request with this body.
    ///
    /// # Errors
    /// When it is empty, too long, or has other than printable ASCII characters.
    pub fn new(
        tenant: TenantId,
        route: &'static str,
        key: &str,
        request: &[u8],
    ) -> std::result::Result<Self, KeyError> {
        let printable = key.bytes().all(|byte| (0x20..0x7f).contains(&byte));
        if key.trim().is_empty() || key.len() > MAX_KEY_CHARS || !printable {
            return Err(KeyError);
        }
        let mut request_hash = [0; 32];
        request_hash.copy_from_slice(digest(&SHA256, request).as_ref());
        Ok(Self { tenant, route, key: key.to_owned(), request_hash })
    }

    /// What makes it the same key, whatever the request.
    #[must_use]
    pub fn place(&self) -> (TenantId, &'static str, &str) {
        (self.tenant, self.route, &self.key)
    }
}

/// What was answered before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Earlier {
    /// To the same request: this.
    Same {
        /// HTTP status.
        status: u16,
        /// Body.
        body: Vec<u8>,
    },
    /// The key was used for another request.
    Different,
}

/// Writes keys with their answers. Returns, for each, what was answered before, or `None` when the key is new and this
/// transaction has it now.
///
/// Keys that another transaction is writing are waited for: up to [`PATIENCE_S`], then [`crate::Error::Locked`].
///
/// # Errors
/// As said; and when the database is away.
pub fn claim(
    conn: &mut PgConnection,
    claims: &[(Key, u16, Vec<u8>)],
    now: DateTime<Utc>,
) -> Result<Vec<Option<Earlier>>> {
    sql_query(format!("SET LOCAL lock_timeout = '{PATIENCE_S}s'")).execute(conn)?;
    // In order, so that two transactions with the same keys wait one way.
    let mut order: Vec<usize> = (0..claims.len()).collect();
    order.sort_by(|a, b| claims[*a].0.cmp(&claims[*b].0));
    let mut new = insert(conn, order.iter().map(|at| &claims[*at]), now)?;
    let mut earlier = vec![None; claims.len()];
    for at in order {
        let (key, status, body) = &claims[at];
        // Of a key that is there twice, the first has it.
        if new.remove(&(key.tenant, key.route.to_owned(), key.key.clone())) {
            continue;
        }
        earlier[at] = match find(conn, key)? {
            Some(stored) if stored.created_at > now - TimeDelta::hours(KEPT_HOURS) => {
                Some(stored.compared(key))
            }
            // Too old to count, or removed just now: it is ours.
            Some(_) | None => {
                overwrite(conn, key, *status, body, now)?;
                None
            }
        };
    }
    Ok(earlier)
}

/// Tenant, route and key.
type Place = (TenantId, String, String);

/// Writes those that are not there yet, in this order, and returns which those were.
fn insert<'a>(
    conn: &mut PgConnection,
    claims: impl Iterator<Item = &'a (Key, u16, Vec<u8>)> + Clone,
    now: DateTime<Utc>,
) -> Result<HashSet<Place>> {
    #[derive(QueryableByName)]
    struct Written {
        #[diesel(sql_type = Uuid)]
        tenant_id: TenantId,
        #[diesel(sql_type = Text)]
        route: String,
        #[diesel(sql_type = Text)]
        key: String,
    }
    let keys = || claims.clone().map(|(key, _, _)| key);
    let written: Vec<Written> = prepared(
        "INSERT INTO idempotency_keys (tenant_id, route, key, request_hash, status, response, created_at) \
         SELECT t, r, k, h, s, b, $7 FROM unnest($1, $2, $3, $4, $5, $6) AS new (t, r, k, h, s, b) \
         ON CONFLICT DO NOTHING RETURNING tenant_id, route, key",
    )
    .bind::<Array<Uuid>, _>(keys().map(|key| key.tenant).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(keys().map(|key| key.route).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(keys().map(|key| key.key.as_str()).collect::<Vec<_>>())
    .bind::<Array<Binary>, _>(keys().map(|key| key.request_hash.as_slice()).collect::<Vec<_>>())
    .bind::<Array<SmallInt>, _>(claims.clone().map(|(_, status, _)| small(*status)).collect::<Vec<_>>())
    .bind::<Array<Binary>, _>(claims.clone().map(|(_, _, body)| body.as_slice()).collect::<Vec<_>>())
    .bind::<Timestamptz, _>(now)
    .load(conn)?;
    Ok(written.into_iter().map(|row| (row.tenant_id, row.route, row.key)).collect())
}

fn small(status: u16) -> i16 {
    i16::try_from(status).unwrap_or(0)
}

/// Stores the answer that was not known when the key was claimed.
///
/// # Errors
/// When the database is away.
pub fn overwrite(
    conn: &mut PgConnection,
    key: &Key,
    status: u16,
    body: &[u8],
    now: DateTime<Utc>,
) -> Result<()> {
    prepared(
        "INSERT INTO idempotency_keys (tenant_id, route, key, request_hash, status, response, created_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7) \
         ON CONFLICT (tenant_id, route, key) DO UPDATE SET request_hash = excluded.request_hash, \
            status = excluded.status, response = excluded.response, created_at = excluded.created_at",
    )
    .bind::<Uuid, _>(key.tenant)
    .bind::<Text, _>(key.route)
    .bind::<Text, _>(&key.key)
    .bind::<Binary, _>(key.request_hash.as_slice())
    .bind::<SmallInt, _>(small(status))
    .bind::<Binary, _>(body)
    .bind::<Timestamptz, _>(now)
    .execute(conn)?;
    Ok(())
}

/// Gives a key back that this transaction has claimed: its request was refused.
///
/// # Errors
/// When the database is away.
pub fn release(conn: &mut PgConnection, key: &Key) -> Result<()> {
    prepared("DELETE FROM idempotency_keys WHERE tenant_id = $1 AND route = $2 AND key = $3")
        .bind::<Uuid, _>(key.tenant)
        .bind::<Text, _>(key.route)
        .bind::<Text, _>(&key.key)
        .execute(conn)?;
    Ok(())
}

#[derive(QueryableByName)]
struct Stored {
    #[diesel(sql_type = Binary)]
    request_hash: Vec<u8>,
    #[diesel(sql_type = SmallInt)]
    status: i16,
    #[diesel(sql_type = Binary)]
    response: Vec<u8>,
    #[diesel(sql_type = Timestamptz)]
    created_at: DateTime<Utc>,
}

impl Stored {
    fn compared(self, key: &Key) -> Earlier {
        if self.request_hash == key.request_hash {
            Earlier::Same { status: u16::try_from(self.status).unwrap_or(200), body: self.response }
        } else {
            Earlier::Different
        }
    }
}

fn find(conn: &mut PgConnection, key: &Key) -> Result<Option<Stored>> {
    Ok(prepared(
        "SELECT request_hash, status, response, created_at FROM idempotency_keys \
         WHERE tenant_id = $1 AND route = $2 AND key = $3",
    )
    .bind::<Uuid, _>(key.tenant)
    .bind::<Text, _>(key.route)
    .bind::<Text, _>(&key.key)
    .get_result(conn)
    .optional()?)
}

/// Takes what answers say about the payload of a thing out of those that were kept for it: the `warnings` that came with its
/// acceptance, which name places and values. `named` is the thing's id, `at` when the request was answered, more or less.
///
/// # Errors
/// When the database is away.
pub fn forget_details(
    conn: &mut PgConnection,
    tenant: TenantId,
    named: &str,
    at: DateTime<Utc>,
) -> Result<()> {
    #[derive(QueryableByName)]
    struct Answer {
        #[diesel(sql_type = Text)]
        route: String,
        #[diesel(sql_type = Text)]
        key: String,
        #[diesel(sql_type = Binary)]
        response: Vec<u8>,
    }
    let answers: Vec<Answer> = sql_query(
        "SELECT route, key, response FROM idempotency_keys \
         WHERE tenant_id = $1 AND created_at >= $2 AND created_at < $3 AND position($4 IN response) > 0",
    )
    .bind::<Uuid, _>(tenant)
    .bind::<Timestamptz, _>(at - AROUND)
    .bind::<Timestamptz, _>(at + AROUND)
    .bind::<Binary, _>(named.as_bytes())
    .load(conn)?;
    for Answer { route, key, response } in answers {
        let Some(without) = without_details(&response, named) else { continue };
        sql_query(
            "UPDATE idempotency_keys SET response = $4 WHERE tenant_id = $1 AND route = $2 AND key = $3",
        )
        .bind::<Uuid, _>(tenant)
        .bind::<Text, _>(route)
        .bind::<Text, _>(key)
        .bind::<Binary, _>(without)
        .execute(conn)?;
    }
    Ok(())
}

/// The answer without the warnings about this event; `None` when it has none.
fn without_details(response: &[u8], named: &str) -> Option<Vec<u8>> {
    let mut answer: serde_json::Value = serde_json::from_slice(response).ok()?;
    let mut removed = false;
    let mut remove = |entry: &mut serde_json::Value| {
        if entry["event_id"] == named
            && let Some(entry) = entry.as_object_mut()
        {
            removed |= entry.remove("warnings").is_some();
        }
    };
    match answer.get_mut("results").and_then(serde_json::Value::as_array_mut) {
        Some(results) => results.iter_mut().for_each(&mut remove),
        None => remove(&mut answer),
    }
    removed.then(|| answer.to_string().into_bytes())
}

/// Removes keys that no longer count, some thousand at a time. Returns how many.
///
/// # Errors
/// When the database is away.
pub fn forget_old(conn: &mut PgConnection, now: DateTime<Utc>) -> Result<usize> {
    Ok(sql_query(
        "DELETE FROM idempotency_keys WHERE created_at < $1 AND ctid = ANY(ARRAY(\
            SELECT ctid FROM idempotency_keys WHERE created_at < $1 ORDER BY created_at LIMIT 5000))",
    )
    .bind::<Timestamptz, _>(now - TimeDelta::hours(KEPT_HOURS))
    .execute(conn)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_of_a_payload_leaves_an_answer() {
        let without = |text: &str| {
            without_details(text.as_bytes(), "evt_1")
                .map(|left| serde_json::from_slice::<serde_json::Value>(&left).unwrap().to_string())
        };
        let of = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap().to_string();
        assert_eq!(
            without(r#"{"event_id":"evt_1","warnings":[{"reason":"x"}]}"#),
            Some(of(r#"{"event_id":"evt_1"}"#))
        );
        assert_eq!(
            without(
                r#"{"results":[{"event_id":"evt_1","warnings":[1]},{"event_id":"evt_2","warnings":[2]}]}"#
            ),
            Some(of(r#"{"results":[{"event_id":"evt_1"},{"event_id":"evt_2","warnings":[2]}]}"#))
        );
        for nothing in
            [r#"{"event_id":"evt_1"}"#, r#"{"event_id":"evt_2","warnings":[]}"#, "[]", "1", "nothing"]
        {
            assert_eq!(without(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn keys_are_bounded() {
        let tenant = TenantId::new(DateTime::UNIX_EPOCH);
        let key = |text: &str| Key::new(tenant, "POST /events", text, b"").is_ok();
        assert!(key("a") && key(&"x".repeat(MAX_KEY_CHARS)));
        assert!(!key("") && !key(" ") && !key(&"x".repeat(MAX_KEY_CHARS + 1)) && !key("é") && !key("a\n"));
    }
}
