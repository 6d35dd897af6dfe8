//! Queries on hooks, and on where a subscription stands.

use chrono::{DateTime, Utc};
use diesel::{
    OptionalExtension, PgConnection, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{BigInt, Binary, Nullable, SmallInt, Text, Timestamptz, Uuid},
};
use ring::digest::{SHA256, digest};

use super::{
    HookState, Kind, Record,
    ending::take_back,
    record::{self, forget_failures},
};
use crate::{
    Error, Result,
    db::prepared::{planned_for_values, prepared},
    id::{CredentialId, SubscriptionId, TenantId},
    vault::{
        Vault, VaultError,
        columns::{HOOK_WEBHOOK_SECRET, SIGNING_SECRET},
    },
    wire::{SigningSecret, WebhookSecret},
};

/// A subscription to be stored.
#[derive(Clone, Debug)]
pub struct NewHook {
    /// Identity, if there is no such hook yet.
    pub id: SubscriptionId,
    /// Owner.
    pub tenant: TenantId,
    /// Who asked for it.
    pub credential: Option<CredentialId>,
    /// Where deliveries go, as written.
    pub url: String,
    /// Which type, as written: may be an alias.
    pub event_type: Option<String>,
    /// Which type or pattern that stands for.
    pub pattern: Option<String>,
    /// Canonical JSON of the filter.
    pub filter: Option<String>,
    /// Standard Webhooks secret.
    pub signing_secret: SigningSecret,
    /// Secret of `X-TriggersAPI-Signature`.
    pub webhook_secret: Option<WebhookSecret>,
    /// When it ends by itself.
    pub expires_at: Option<DateTime<Utc>>,
    /// Now.
    pub now: DateTime<Utc>,
}

impl NewHook {
    /// SHA-256 over what makes a hook the same hook: url, event type and filter, each with its length, so that no two
    /// different hooks read alike.
    fn identity(&self) -> Vec<u8> {
        let mut text = Vec::new();
        for part in [Some(&self.url), self.event_type.as_ref(), self.filter.as_ref()] {
            match part {
                None => text.push(0),
                Some(part) => {
                    text.push(1);
                    text.extend_from_slice(&(part.len() as u64).to_be_bytes());
                    text.extend_from_slice(part.as_bytes());
                }
            }
        }
        digest(&SHA256, &text).as_ref().to_vec()
    }
}

/// A hook as its owner sees it.
#[derive(Clone, Debug, QueryableByName)]
pub struct HookView {
    /// Identity.
    #[diesel(sql_type = Uuid)]
    pub id: SubscriptionId,
    /// Where deliveries go.
    #[diesel(sql_type = Text)]
    pub url: String,
    /// Which type, as written.
    #[diesel(sql_type = Nullable<Text>)]
    pub event_type: Option<String>,
    /// Which type or pattern that stands for.
    #[diesel(sql_type = Nullable<Text>)]
    pub pattern: Option<String>,
    /// Canonical JSON of the filter.
    #[diesel(sql_type = Nullable<Text>)]
    pub filter: Option<String>,
    /// Where it stands.
    #[diesel(sql_type = SmallInt)]
    pub state: HookState,
    /// Why, if it is not obvious.
    #[diesel(sql_type = Nullable<Text>)]
    pub state_reason: Option<String>,
    /// When it ends by itself.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was subscribed.
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    #[diesel(sql_type = Timestamptz)]
    pub updated_at: DateTime<Utc>,
    /// How its deliveries fared.
    #[diesel(embed)]
    pub record: Record,
}

/// Reads [`HookView`]s; a condition on the subscriptions `s` follows.
pub(super) fn view() -> String {
    format!(
        "SELECT s.id, s.url, s.event_type, s.pattern, s.filter, s.state, s.state_reason, s.expires_at, s.created_at, s.updated_at, \
            {} FROM subscriptions s {}",
        record::COLUMNS,
        record::JOINED
    )
}

/// What a subscribe found or made.
#[derive(Clone, Debug)]
pub struct Subscribed {
    /// The hook.
    pub hook: HookView,
    /// What it was before, if there was one: then it was left as it is, renewed, or brought back from disabled.
    pub before: Option<HookView>,
}

/// Hooks may be unsubscribed while they are subscribed; so often it is tried to find or to make one.
const TURNS: usize = 5;

/// Subscribes: makes the hook unless there is a live one with the same url, event type and filter. One that was
/// disabled takes events again. Safe under a race of the same request. Belongs into a transaction.
///
/// # Errors
/// When the database is away; [`Error::Locked`] when others keep making and deleting the hook.
pub fn subscribe(conn: &mut PgConnection, vault: &Vault, hook: &NewHook) -> Result<Subscribed> {
    for _turn in 0..TURNS {
        let (id, before) = if insert(conn, vault, hook)? {
            (hook.id, None)
        } else if let Some(before) = live_twin(conn, hook)? {
            if before.state == HookState::Disabled {
                take_back(conn, hook.tenant, before.id, hook.now)?;
            }
            renew(conn, vault, before.id, hook)?;
            (before.id, Some(before))
        } else {
            continue; // It was deleted between the two statements.
        };
        let hook = find(conn, hook.tenant, id)?.ok_or(Error::NotFound { what: "hook" })?;
        return Ok(Subscribed { hook, before });
    }
    Err(Error::Locked)
}

/// The secret of `X-TriggersAPI-Signature` as it is kept at the hook with this id: sealed for one hook it does not open at
/// another.
fn sealed_for(vault: &Vault, id: SubscriptionId, hook: &NewHook) -> Option<Vec<u8>> {
    let secret = hook.webhook_secret.as_ref()?;
    Some(vault.seal(&HOOK_WEBHOOK_SECRET.at(id.uuid()), secret.expose().as_bytes()))
}

/// Makes the hook; not when there is a live one like it. Waits for others who are making or deleting it.
fn insert(conn: &mut PgConnection, vault: &Vault, hook: &NewHook) -> Result<bool> {
    let inserted = sql_query(
        "INSERT INTO subscriptions (id, tenant_id, kind, url, event_type, pattern, filter, identity, state, \
            signing_secret, webhook_secret, credential_id, expires_at, created_at, updated_at) \
         VALUES ($1, $2, 0, $3, $4, $5, $6, $7, 0, $8, $9, $10, $11, $12, $12) \
         ON CONFLICT (tenant_id, identity) WHERE state <> 4 DO NOTHING",
    )
    .bind::<Uuid, _>(hook.id)
    .bind::<Uuid, _>(hook.tenant)
    .bind::<Text, _>(&hook.url)
    .bind::<Nullable<Text>, _>(&hook.event_type)
    .bind::<Nullable<Text>, _>(&hook.pattern)
    .bind::<Nullable<Text>, _>(&hook.filter)
    .bind::<Binary, _>(hook.identity())
    .bind::<Binary, _>(
        vault.seal(&SIGNING_SECRET.at(hook.id.uuid()), hook.signing_secret.expose().as_bytes()),
    )
    .bind::<Nullable<Binary>, _>(sealed_for(vault, hook.id, hook))
    .bind::<Nullable<Uuid>, _>(hook.credential)
    .bind::<Nullable<Timestamptz>, _>(hook.expires_at)
    .bind::<Timestamptz, _>(hook.now)
    .execute(conn)?;
    Ok(inserted == 1)
}

/// The live hook with the same url, event type and filter, locked until the transaction ends.
fn live_twin(conn: &mut PgConnection, hook: &NewHook) -> Result<Option<HookView>> {
    Ok(sql_query(format!(
        "{} WHERE s.tenant_id = $1 AND s.identity = $2 AND s.state <> 4 FOR UPDATE OF s",
        view()
    ))
    .bind::<Uuid, _>(hook.tenant)
    .bind::<Binary, _>(hook.identity())
    .get_result(conn)
    .optional()?)
}

/// Takes over what a repeated subscribe brings: the expiry, a secret, and that the hook is wanted.
fn renew(conn: &mut PgConnection, vault: &Vault, id: SubscriptionId, hook: &NewHook) -> Result<()> {
    sql_query(
        "UPDATE subscriptions SET state = CASE WHEN state = 3 THEN 0 ELSE state END, \
            state_reason = CASE WHEN state = 3 THEN NULL ELSE state_reason END, \
            webhook_secret = COALESCE($3, webhook_secret), expires_at = $4, updated_at = $5 \
         WHERE tenant_id = $1 AND id = $2",
    )
    .bind::<Uuid, _>(hook.tenant)
    .bind::<Uuid, _>(id)
    .bind::<Nullable<Binary>, _>(sealed_for(vault, id, hook))
    .bind::<Nullable<Timestamptz>, _>(hook.expires_at)
    .bind::<Timestamptz, _>(hook.now)
    .execute(conn)?;
    forget_failures(conn, id)
}

/// One hook of a tenant, also a deleted one.
///
/// # Errors
/// When the database is away.
pub fn find(conn: &mut PgConnection, tenant: TenantId, id: SubscriptionId) -> Result<Option<HookView>> {
    Ok(sql_query(format!("{} WHERE s.tenant_id = $1 AND s.id = $2 AND s.kind = 0", view()))
        .bind::<Uuid, _>(tenant)
        .bind::<Uuid, _>(id)
        .get_result(conn)
        .optional()?)
}

/// The live hooks of a tenant with this URL, in order of their ids: who ends all of them locks them so.
///
/// # Errors
/// When the database is away.
pub fn with_url(conn: &mut PgConnection, tenant: TenantId, url: &str) -> Result<Vec<HookView>> {
    let found = "WHERE s.tenant_id = $1 AND s.url = $2 AND s.kind = 0 AND s.state <> 4 ORDER BY s.id";
    Ok(sql_query(format!("{} {found}", view())).bind::<Uuid, _>(tenant).bind::<Text, _>(url).load(conn)?)
}

/// Which hooks of a tenant.
#[derive(Clone, Debug, Default)]
pub struct HookQuery {
    /// In this state; without one, all but the deleted.
    pub state: Option<HookState>,
    /// For this type, as written at subscribe.
    pub event_type: Option<String>,
    /// Only hooks older than this one: the cursor.
    pub before: Option<SubscriptionId>,
    /// At most so many.
    pub limit: i64,
}

/// A page of hooks, newest first.
///
/// # Errors
/// When the database is away.
pub fn list(conn: &mut PgConnection, tenant: TenantId, query: &HookQuery) -> Result<Vec<HookView>> {
    planned_for_values(conn, |conn| {
        Ok(sql_query(format!(
            "{} WHERE s.tenant_id = $1 AND s.kind = 0 AND (($2 IS NULL AND s.state <> 4) OR s.state = $2) \
           AND ($3 IS NULL OR s.event_type = $3) AND ($4 IS NULL OR s.id < $4) ORDER BY s.id DESC LIMIT $5",
            view()
        ))
        .bind::<Uuid, _>(tenant)
        .bind::<Nullable<SmallInt>, _>(query.state.map(HookState::code))
        .bind::<Nullable<Text>, _>(&query.event_type)
        .bind::<Nullable<Uuid>, _>(query.before)
        .bind::<BigInt, _>(query.limit)
        .load(conn)?)
    })
}

/// The signing secret of a hook.
///
/// # Errors
/// When the database is away, or the secret cannot be opened.
pub fn signing_secret(
    conn: &mut PgConnection,
    vault: &Vault,
    tenant: TenantId,
    id: SubscriptionId,
) -> Result<Option<SigningSecret>> {
    signing_secret_of(conn, vault, Kind::Hook, tenant, id)
}

pub(super) fn signing_secret_of(
    conn: &mut PgConnection,
    vault: &Vault,
    kind: Kind,
    tenant: TenantId,
    id: SubscriptionId,
) -> Result<Option<SigningSecret>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Binary)]
        signing_secret: Vec<u8>,
    }
    let row: Option<Row> =
        sql_query("SELECT signing_secret FROM subscriptions WHERE tenant_id = $1 AND id = $2 AND kind = $3 AND state <> 4")
            .bind::<Uuid, _>(tenant)
            .bind::<Uuid, _>(id)
            .bind::<SmallInt, _>(kind.code())
            .get_result(conn)
            .optional()?;
    let Some(row) = row else { return Ok(None) };
    let plain = vault.open(&SIGNING_SECRET.at(id.uuid()), &row.signing_secret).map_err(Error::Sealed)?;
    let secret = std::str::from_utf8(&plain).ok().and_then(|text| SigningSecret::parse(text).ok());
    secret.map(Some).ok_or(Error::Sealed(VaultError::Damaged))
}

/// Moves a hook to another state, unless it is deleted. Returns whether it was there.
///
/// # Errors
/// When the database is away.
pub fn set_state(
    conn: &mut PgConnection,
    tenant: TenantId,
    id: SubscriptionId,
    state: HookState,
    reason: Option<&str>,
    now: DateTime<Utc>,
) -> Result<bool> {
    let changed = prepared(
        "UPDATE subscriptions SET state = $3, state_reason = $4, updated_at = $5 \
         WHERE tenant_id = $1 AND id = $2 AND state <> 4",
    )
    .bind::<Uuid, _>(tenant)
    .bind::<Uuid, _>(id)
    .bind::<SmallInt, _>(state)
    .bind::<Nullable<Text>, _>(reason)
    .bind::<Timestamptz, _>(now)
    .execute(conn)?;
    forget_failures(conn, id)?;
    Ok(changed == 1)
}

/// Keeps the state of a subscription of a tenant as it is until the transaction ends: who wants to end it waits, and then cancels what was
/// put on its way meanwhile. Belongs before whoever asks for the state.
///
/// # Errors
/// When the database is away.
pub fn keep_state(conn: &mut PgConnection, tenant: TenantId, id: SubscriptionId) -> Result<()> {
    prepared("SELECT FROM subscriptions WHERE tenant_id = $1 AND id = $2 FOR SHARE")
        .bind::<Uuid, _>(tenant)
        .bind::<Uuid, _>(id)
        .execute(conn)?;
    Ok(())
}

/// The owner has seen a sample: its pending hooks of that type become active (contract §3).
///
/// # Errors
/// When the database is away.
pub fn activate_pending(
    conn: &mut PgConnection,
    tenant: TenantId,
    event_type: Option<&str>,
    now: DateTime<Utc>,
) -> Result<()> {
    // In order, so that two who change the same hooks wait one way.
    sql_query(
        "UPDATE subscriptions SET state = 1, updated_at = $3 WHERE id IN \
            (SELECT id FROM subscriptions WHERE tenant_id = $1 AND kind = 0 AND state = 0 \
                AND ($2 IS NULL OR event_type IS NULL OR event_type = $2) ORDER BY id FOR UPDATE)",
    )
    .bind::<Uuid, _>(tenant)
    .bind::<Nullable<Text>, _>(event_type)
    .bind::<Timestamptz, _>(now)
    .execute(conn)?;
    Ok(())
}

/// Hooks whose time is over, removed now. Returns them with their owners.
///
/// # Errors
/// When the database is away.
pub fn remove_expired(
    conn: &mut PgConnection,
    now: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<(TenantId, SubscriptionId, String)>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Uuid)]
        tenant_id: TenantId,
        #[diesel(sql_type = Uuid)]
        id: SubscriptionId,
        #[diesel(sql_type = Text)]
        url: String,
    }
    let rows: Vec<Row> = sql_query(
        "UPDATE subscriptions SET state = 4, state_reason = 'expired', updated_at = $1 WHERE id IN \
            (SELECT id FROM subscriptions WHERE state < 3 AND expires_at <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED) \
         RETURNING tenant_id, id, url",
    )
    .bind::<Timestamptz, _>(now)
    .bind::<BigInt, _>(limit)
    .load(conn)?;
    Ok(rows.into_iter().map(|row| (row.tenant_id, row.id, row.url)).collect())
}
