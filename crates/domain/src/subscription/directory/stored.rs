//! Subscriptions as they are stored, and what matching and delivering see of them: patterns, filter and transformation read, secrets
//! opened.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use diesel::{
    QueryableByName,
    sql_types::{Array, BigInt, Binary, Integer, Nullable, SmallInt, Text, Timestamptz, Uuid},
};

use crate::{
    db::snapshot::HORIZON,
    id::{SubscriptionId, TenantId},
    subscription::{
        Consumer, EventPattern, Filter, HookState, Kind, Secrets, Subscription,
        consumer::{ClientCertificate, Headers, Keys, Place, Previous, Transformation},
    },
    vault::{
        Column, Place as Sealed, Vault, VaultError,
        columns::{
            CONSUMER_CERTIFICATE_KEY, CONSUMER_HEADERS, CONSUMER_PREVIOUS_KEY, CONSUMER_PREVIOUS_SECRET,
            CONSUMER_SIGNING_KEY, HOOK_WEBHOOK_SECRET, SIGNING_SECRET, TENANT_WEBHOOK_SECRET,
        },
    },
    wire::{SecretError, SigningKey, SigningSecret, WebhookSecret},
};

#[derive(QueryableByName)]
pub(super) struct Row {
    #[diesel(sql_type = BigInt)]
    pub(super) horizon: i64,
    #[diesel(sql_type = Nullable<Uuid>)]
    pub(super) id: Option<SubscriptionId>,
    #[diesel(sql_type = Nullable<Uuid>)]
    pub(super) tenant_id: Option<TenantId>,
    #[diesel(sql_type = Nullable<SmallInt>)]
    pub(super) kind: Option<Kind>,
    #[diesel(sql_type = Nullable<Text>)]
    url: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    pattern: Option<EventPattern>,
    #[diesel(sql_type = Nullable<Text>)]
    filter: Option<String>,
    #[diesel(sql_type = Nullable<SmallInt>)]
    pub(super) state: Option<HookState>,
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
pub(super) fn refresh_statement() -> String {
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

pub(super) fn parsed(
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
