//! Endpoints of tasks, and of callbacks: the second and the third kind of subscription. Nobody subscribes them; a task or an
//! action run names a URL, and the endpoint is found or made.
//!
//! An endpoint is a subscription so that its deliveries are isolated, paced, judged and shown like all others. It never takes
//! part in matching and is no hook of the API. Zapier's callback URLs are one per Zap run: what nobody has named for a while is
//! removed ([`remove_unused`]), and forgotten when its deliveries are.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, TimeDelta, Utc};
use diesel::{
    OptionalExtension, PgConnection, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Array, BigInt, Binary, Nullable, SmallInt, Text, Timestamptz, Uuid},
};
use ring::{
    digest::{SHA256, digest},
    hmac,
};
use url::Url;

use super::{HookState, Kind, store::HookView};
use crate::{
    Error, Result,
    db::prepared::prepared,
    id::{SubscriptionId, TaskId, TenantId},
    vault::{
        Vault,
        columns::{HOOK_WEBHOOK_SECRET, SIGNING_SECRET},
    },
    wire::{SigningSecret, WebhookSecret},
};

/// An endpoint that nobody has named for so long is removed, unless something is still to be delivered there.
pub const UNUSED: TimeDelta = TimeDelta::hours(24);

/// That an endpoint was named is written down at most once in this time: the row is shared by all tasks that name it.
const TOUCH: TimeDelta = TimeDelta::hours(1);

/// Endpoints may be removed while they are looked for; so often it is tried to find or to make them.
const TURNS: usize = 5;

/// An endpoint as a task names it.
#[derive(Clone, Debug)]
pub struct Named<'a> {
    /// [`Kind::Task`] or [`Kind::Callback`].
    pub kind: Kind,
    /// Whose.
    pub tenant: TenantId,
    /// Where webhooks go.
    pub url: &'a Url,
    /// Signs `X-CodeTether-Signature`; without one the tenant's does, else that of the settings. One of the form `whsec_…`
    /// signs the Standard Webhooks triple, too; else the endpoint has a secret of its own for that.
    pub secret: Option<&'a WebhookSecret>,
}

impl Named<'_> {
    /// What makes an endpoint the same endpoint: kind, url and secret. The secret goes in under a key of the vault, so that
    /// nobody who can read the table can try secrets against it.
    fn identity(&self, key: &hmac::Key) -> Vec<u8> {
        let mut text = match self.kind {
            Kind::Hook | Kind::Consumer | Kind::Inbox | Kind::Task => b"task endpoint\0".to_vec(),
            Kind::Callback => b"callback endpoint\0".to_vec(),
        };
        text.extend_from_slice(&(self.url.as_str().len() as u64).to_be_bytes());
        text.extend_from_slice(self.url.as_str().as_bytes());
        if let Some(secret) = self.secret {
            text.extend_from_slice(hmac::sign(key, secret.expose().as_bytes()).as_ref());
        }
        digest(&SHA256, &text).as_ref().to_vec()
    }
}

/// The endpoints that tasks name, in their order: found or made. One that was disabled takes deliveries again, for its owner
/// has named it. Safe under a race of the same names, in a transaction or without.
///
/// # Errors
/// When the database is away; [`Error::Locked`] when others keep making and removing them.
pub fn of_tasks(
    conn: &mut PgConnection,
    vault: &Vault,
    named: &[Named<'_>],
    now: DateTime<Utc>,
) -> Result<Vec<SubscriptionId>> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &vault.derive("task endpoint identity"));
    let identities: Vec<(TenantId, Vec<u8>)> =
        named.iter().map(|named| (named.tenant, named.identity(&key))).collect();
    // In order, so that two who make the same endpoints do not wait for each other.
    let mut missing: BTreeMap<&(TenantId, Vec<u8>), &Named<'_>> = identities.iter().zip(named).collect();
    let mut known: HashMap<(TenantId, Vec<u8>), SubscriptionId> = HashMap::with_capacity(missing.len());
    for _turn in 0..TURNS {
        let mut found = live(conn, missing.keys().copied())?;
        let stale: Vec<SubscriptionId> =
            found.iter().filter(|row| row.is_stale(now)).map(|row| row.id).collect();
        if !stale.is_empty() {
            let touched = touch(conn, &stale, now)?;
            // Removed meanwhile: made anew in the next turn.
            found.retain(|row| !row.is_stale(now) || touched.contains(&row.id));
        }
        for row in found {
            let identity = (row.tenant_id, row.identity);
            missing.remove(&identity);
            known.insert(identity, row.id);
        }
        if missing.is_empty() {
            let ids = identities.iter().filter_map(|identity| known.get(identity).copied());
            return Ok(ids.collect());
        }
        // Looked for once more in the next turn: somebody else may be making the same ones.
        make(conn, vault, &missing, now)?;
    }
    Err(Error::Locked)
}

#[derive(QueryableByName)]
struct Live {
    #[diesel(sql_type = Uuid)]
    id: SubscriptionId,
    #[diesel(sql_type = Uuid)]
    tenant_id: TenantId,
    #[diesel(sql_type = Binary)]
    identity: Vec<u8>,
    #[diesel(sql_type = SmallInt)]
    state: HookState,
    #[diesel(sql_type = Timestamptz)]
    updated_at: DateTime<Utc>,
}

impl Live {
    fn is_stale(&self, now: DateTime<Utc>) -> bool {
        self.state == HookState::Disabled || now - self.updated_at >= TOUCH
    }
}

fn live<'a>(
    conn: &mut PgConnection,
    identities: impl Iterator<Item = &'a (TenantId, Vec<u8>)>,
) -> Result<Vec<Live>> {
    let (tenants, identities): (Vec<TenantId>, Vec<&[u8]>) =
        identities.map(|(tenant, identity)| (*tenant, identity.as_slice())).unzip();
    Ok(prepared(
        "SELECT s.id, s.tenant_id, s.identity, s.state, s.updated_at FROM unnest($1, $2) AS k (tenant_id, identity) \
         JOIN subscriptions s ON s.tenant_id = k.tenant_id AND s.identity = k.identity AND s.state <> 4",
    )
    .bind::<Array<Uuid>, _>(tenants)
    .bind::<Array<Binary>, _>(identities)
    .load(conn)?)
}

/// Writes down that endpoints were named. Those that were disabled begin anew. Returns those that are still there.
fn touch(conn: &mut PgConnection, ids: &[SubscriptionId], now: DateTime<Utc>) -> Result<Vec<SubscriptionId>> {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    prepared(
        "UPDATE subscription_health SET consecutive_failures = 0, consecutive_refusals = 0, first_failure_at = NULL \
         WHERE subscription_id IN (SELECT id FROM subscriptions WHERE id = ANY($1) AND state = 3)",
    )
    .bind::<Array<Uuid>, _>(&ids)
    .execute(conn)?;
    let rows: Vec<IdRow> = prepared(
        "UPDATE subscriptions s SET state = CASE WHEN s.state = 3 THEN 0 ELSE s.state END, \
            state_reason = CASE WHEN s.state = 3 THEN NULL ELSE s.state_reason END, \
            updated_at = GREATEST(s.updated_at, $2) \
         FROM (SELECT id FROM subscriptions WHERE id = ANY($1) AND state <> 4 ORDER BY id FOR UPDATE) k \
         WHERE s.id = k.id RETURNING s.id",
    )
    .bind::<Array<Uuid>, _>(&ids)
    .bind::<Timestamptz, _>(now)
    .load(conn)?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}

#[derive(QueryableByName)]
struct IdRow {
    #[diesel(sql_type = Uuid)]
    id: SubscriptionId,
}

fn make(
    conn: &mut PgConnection,
    vault: &Vault,
    missing: &BTreeMap<&(TenantId, Vec<u8>), &Named<'_>>,
    now: DateTime<Utc>,
) -> Result<()> {
    let (mut ids, mut kinds, mut tenants, mut urls, mut identities, mut signing, mut secrets) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for ((tenant, identity), named) in missing {
        let id = SubscriptionId::new(now);
        let own = named.secret.and_then(|secret| SigningSecret::parse(secret.expose()).ok());
        let signs = own.unwrap_or_else(|| SigningSecret::generate(&mut rand::rng()));
        signing.push(vault.seal(&SIGNING_SECRET.at(id.uuid()), signs.expose().as_bytes()));
        secrets.push(
            named
                .secret
                .map(|secret| vault.seal(&HOOK_WEBHOOK_SECRET.at(id.uuid()), secret.expose().as_bytes())),
        );
        ids.push(id);
        kinds.push(named.kind.code());
        tenants.push(*tenant);
        urls.push(named.url.as_str());
        identities.push(identity.as_slice());
    }
    prepared(
        "INSERT INTO subscriptions (id, tenant_id, kind, url, identity, state, signing_secret, webhook_secret, created_at, \
            updated_at) \
         SELECT i, t, k, u, d, 0, s, w, $8, $8 FROM unnest($1, $2, $3, $4, $5, $6, $7) AS new (i, t, u, d, s, w, k) \
         ON CONFLICT (tenant_id, identity) WHERE state <> 4 DO NOTHING",
    )
    .bind::<Array<Uuid>, _>(ids)
    .bind::<Array<Uuid>, _>(tenants)
    .bind::<Array<Text>, _>(urls)
    .bind::<Array<Binary>, _>(identities)
    .bind::<Array<Binary>, _>(signing)
    .bind::<Array<Nullable<Binary>>, _>(secrets)
    .bind::<Array<SmallInt>, _>(kinds)
    .bind::<Timestamptz, _>(now)
    .execute(conn)?;
    Ok(())
}

/// The endpoint of a task, if it has one.
///
/// # Errors
/// When the database is away.
pub fn of(conn: &mut PgConnection, tenant: TenantId, task: TaskId) -> Result<Option<SubscriptionId>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Uuid)]
        endpoint_id: SubscriptionId,
    }
    let row: Option<Row> = sql_query(
        "SELECT endpoint_id FROM tasks WHERE tenant_id = $1 AND id = $2 AND endpoint_id IS NOT NULL",
    )
    .bind::<Uuid, _>(tenant)
    .bind::<Uuid, _>(task)
    .get_result(conn)
    .optional()?;
    Ok(row.map(|row| row.endpoint_id))
}

/// One endpoint of a tenant, also a removed one.
///
/// # Errors
/// When the database is away.
pub fn find(conn: &mut PgConnection, tenant: TenantId, id: SubscriptionId) -> Result<Option<HookView>> {
    Ok(sql_query(format!(
        "{} WHERE s.tenant_id = $1 AND s.id = $2 AND s.kind IN (1, 2)",
        super::store::view()
    ))
    .bind::<Uuid, _>(tenant)
    .bind::<Uuid, _>(id)
    .get_result(conn)
    .optional()?)
}

/// The secret with which an endpoint's Standard Webhooks triple is signed.
///
/// # Errors
/// When the database is away, or the secret cannot be opened.
pub fn signing_secret(
    conn: &mut PgConnection,
    vault: &Vault,
    tenant: TenantId,
    id: SubscriptionId,
) -> Result<Option<SigningSecret>> {
    super::store::signing_secret_of(conn, vault, Kind::Task, tenant, id)
}

/// The endpoint of a task that runs once more: the same, or the live one like it, named anew. One that was removed as unused
/// is brought back; `None` when it is forgotten altogether. Belongs into a transaction.
///
/// # Errors
/// When the database is away; [`Error::Locked`] when others keep making and removing it.
pub fn again(
    conn: &mut PgConnection,
    tenant: TenantId,
    id: SubscriptionId,
    now: DateTime<Utc>,
) -> Result<Option<SubscriptionId>> {
    for _turn in 0..TURNS {
        let found: Vec<Live> = prepared(
            "SELECT s.id, s.tenant_id, s.identity, s.state, s.updated_at FROM subscriptions o \
             JOIN subscriptions s ON s.tenant_id = o.tenant_id AND s.identity = o.identity \
             WHERE o.tenant_id = $1 AND o.id = $2 AND o.kind IN (1, 2) ORDER BY s.state",
        )
        .bind::<Uuid, _>(tenant)
        .bind::<Uuid, _>(id)
        .load(conn)?;
        let Some(first) = found.first() else { return Ok(None) };
        if first.state != HookState::Deleted {
            if !first.is_stale(now) || touch(conn, &[first.id], now)?.contains(&first.id) {
                return Ok(Some(first.id));
            }
            continue;
        }
        // Nobody has made another like it: otherwise that one would be unique.
        let revived = prepared(
            "UPDATE subscriptions s SET state = 0, state_reason = NULL, updated_at = $3 \
             WHERE s.tenant_id = $1 AND s.id = $2 AND s.kind IN (1, 2) AND s.state = 4 AND NOT EXISTS \
                (SELECT FROM subscriptions o WHERE o.tenant_id = $1 AND o.identity = s.identity AND o.state <> 4)",
        )
        .bind::<Uuid, _>(tenant)
        .bind::<Uuid, _>(id)
        .bind::<Timestamptz, _>(now)
        .execute(conn)?;
        if revived == 1 {
            return Ok(Some(id));
        }
    }
    Err(Error::Locked)
}

/// Removes endpoints that nobody has named for [`UNUSED`] and that have nothing under way, no dead letter and no task that has
/// not ended: for them the deliverers need no memory any more. At most `limit`; returns how many.
///
/// # Errors
/// When the database is away.
pub fn remove_unused(conn: &mut PgConnection, now: DateTime<Utc>, limit: i64) -> Result<usize> {
    Ok(sql_query(
        "UPDATE subscriptions SET state = 4, state_reason = 'unused', updated_at = $1 WHERE id IN \
            (SELECT s.id FROM subscriptions s WHERE s.kind IN (1, 2) AND s.state <> 4 AND s.updated_at < $2 \
               AND NOT EXISTS (SELECT FROM deliveries d WHERE d.subscription_id = s.id AND d.state IN (0, 2)) \
               AND NOT EXISTS (SELECT FROM tasks t JOIN task_runs r ON r.id = t.run_id \
                  WHERE t.endpoint_id = s.id AND r.state < 3) \
               AND NOT EXISTS (SELECT FROM action_runs a WHERE a.endpoint_id = s.id AND a.state < 2) \
             LIMIT $3 FOR UPDATE OF s SKIP LOCKED)",
    )
    .bind::<Timestamptz, _>(now)
    .bind::<Timestamptz, _>(now - UNUSED)
    .bind::<BigInt, _>(limit)
    .execute(conn)?)
}

/// Deletes endpoints that were removed before this time, when no delivery and no task names them any more. At most `limit`; returns how
/// many.
///
/// # Errors
/// When the database is away.
pub fn forget_removed(conn: &mut PgConnection, before: DateTime<Utc>, limit: i64) -> Result<usize> {
    Ok(sql_query(
        "WITH gone AS MATERIALIZED (SELECT s.id FROM subscriptions s \
            WHERE s.kind IN (1, 2) AND s.state = 4 AND s.updated_at < $1 \
              AND NOT EXISTS (SELECT FROM deliveries d WHERE d.subscription_id = s.id) \
              AND NOT EXISTS (SELECT FROM tasks t WHERE t.endpoint_id = s.id) \
              AND NOT EXISTS (SELECT FROM action_runs a WHERE a.endpoint_id = s.id) \
            LIMIT $2 FOR UPDATE OF s SKIP LOCKED), \
         counters AS (DELETE FROM subscription_health WHERE subscription_id IN (SELECT id FROM gone)) \
         DELETE FROM subscriptions WHERE id IN (SELECT id FROM gone)",
    )
    .bind::<Timestamptz, _>(before)
    .bind::<BigInt, _>(limit)
    .execute(conn)?)
}
