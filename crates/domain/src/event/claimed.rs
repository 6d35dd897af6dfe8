//! Events of many requests, some of which are stored only if their request is the first with its `Idempotency-Key`: keys, events
//! and the group that owes them a fan-out are written by one statement.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use diesel::{
    PgConnection, QueryableByName, RunQueryDsl,
    sql_types::{Array, Binary, Bool, Jsonb, Nullable, SmallInt, Text, Timestamptz, Uuid},
};

use super::NewEvent;
use crate::{
    Result,
    db::prepared::prepared,
    id::{EventGroupId, TenantId},
    idempotency::Key,
};

/// How long the statement waits for another transaction that is writing one of its keys, in milliseconds: such a transaction
/// is a statement like this one, and ends within some. Those without a key stand behind it.
pub const PATIENCE_MS: u32 = 50;

/// A request with a key: what is answered to it, and the events that it posts.
#[derive(Clone, Debug)]
pub struct Request {
    /// The key; no other request of the same statement is in its [place](Key::place).
    pub key: Key,
    /// HTTP status of the answer.
    pub status: u16,
    /// Body of the answer.
    pub body: Vec<u8>,
    /// The events.
    pub events: Vec<NewEvent>,
}

/// Stores `plain` events, writes the keys that nobody has used, and stores the events of their requests. Returns the keys that
/// are this statement's now; of the other requests nothing is written, and `idempotency::claim` tells what was answered to them.
///
/// # Errors
/// [`crate::Error::Locked`] when another transaction keeps writing one of the keys for more than [`PATIENCE_MS`]; and when the
/// database is away. Nothing is written then.
pub fn insert(
    conn: &mut PgConnection,
    group: EventGroupId,
    plain: &[NewEvent],
    requests: &[Request],
    now: DateTime<Utc>,
) -> Result<HashSet<Key>> {
    #[derive(QueryableByName)]
    struct Claimed {
        #[diesel(sql_type = Uuid)]
        tenant_id: TenantId,
        #[diesel(sql_type = Text)]
        route: String,
        #[diesel(sql_type = Text)]
        key: String,
    }
    // In order, so that two statements with the same keys wait one way.
    let mut sorted: Vec<&Request> = requests.iter().collect();
    sorted.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    let keys = || sorted.iter().map(|request| &request.key);
    let of_requests =
        sorted.iter().flat_map(|request| request.events.iter().map(|event| (Some(&request.key), event)));
    let events: Vec<(Option<&Key>, &NewEvent)> =
        plain.iter().map(|event| (None, event)).chain(of_requests).collect();
    let scheduled = events.iter().any(|(_, event)| event.due_at.is_some());
    let (columns, parameters, now_only, later) = if scheduled {
        (
            ", due",
            ", $21",
            "WHERE due IS NULL",
            ", later AS (INSERT INTO scheduled_events (id, tenant_id, due_at) \
                SELECT id, tenant, due FROM new WHERE due IS NOT NULL)",
        )
    } else {
        ("", "", "", "")
    };
    let statement = prepared(format!(
        "WITH patience AS MATERIALIZED (SELECT set_config('lock_timeout', '{PATIENCE_MS}ms', true)), \
         claimed AS (\
            INSERT INTO idempotency_keys (tenant_id, route, key, request_hash, status, response, created_at) \
            SELECT t, r, k, h, s, b, $7 FROM patience, unnest($1, $2, $3, $4, $5, $6) AS key (t, r, k, h, s, b) \
            ON CONFLICT DO NOTHING RETURNING tenant_id, route, key), \
         new AS MATERIALIZED (\
            SELECT e.* FROM unnest($8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19{parameters}) AS e \
               (tenant, id, type, origin, occurred, created, metadata, trace, sampled, body, route, key{columns}) \
            LEFT JOIN claimed c ON c.tenant_id = e.tenant AND c.route = e.route AND c.key = e.key \
            WHERE e.key IS NULL OR c.key IS NOT NULL), \
         stored AS (\
            INSERT INTO events (tenant_id, id, event_type, origin, occurred_at, created_at, metadata, trace, sampled, body) \
            SELECT tenant, id, type, origin, occurred, created, metadata, trace, sampled, body FROM new), \
         owed AS (\
            INSERT INTO event_groups (id, tenant_ids, event_ids, created_at) \
            SELECT $20, array_agg(tenant), array_agg(id), min(created) FROM new {now_only} HAVING count(*) > 0){later} \
         SELECT tenant_id, route, key FROM claimed"
    ))
    .bind::<Array<Uuid>, _>(keys().map(|key| key.tenant).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(keys().map(|key| key.route).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(keys().map(|key| key.key.as_str()).collect::<Vec<_>>())
    .bind::<Array<Binary>, _>(keys().map(|key| key.request_hash.as_slice()).collect::<Vec<_>>())
    .bind::<Array<SmallInt>, _>(
        sorted.iter().map(|request| i16::try_from(request.status).unwrap_or(0)).collect::<Vec<_>>(),
    )
    .bind::<Array<Binary>, _>(sorted.iter().map(|request| request.body.as_slice()).collect::<Vec<_>>())
    .bind::<Timestamptz, _>(now)
    .bind::<Array<Uuid>, _>(events.iter().map(|(_, event)| event.tenant).collect::<Vec<_>>())
    .bind::<Array<Uuid>, _>(events.iter().map(|(_, event)| event.id).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(events.iter().map(|(_, event)| event.event_type.as_str()).collect::<Vec<_>>())
    .bind::<Array<SmallInt>, _>(events.iter().map(|(_, event)| event.origin as i16).collect::<Vec<_>>())
    .bind::<Array<Timestamptz>, _>(events.iter().map(|(_, event)| event.occurred_at).collect::<Vec<_>>())
    .bind::<Array<Timestamptz>, _>(events.iter().map(|(_, event)| event.created_at).collect::<Vec<_>>())
    .bind::<Array<Jsonb>, _>(events.iter().map(|(_, event)| &event.metadata).collect::<Vec<_>>())
    .bind::<Array<Uuid>, _>(events.iter().map(|(_, event)| event.trace.trace_uuid()).collect::<Vec<_>>())
    .bind::<Array<Bool>, _>(events.iter().map(|(_, event)| event.trace.sampled).collect::<Vec<_>>())
    .bind::<Array<Binary>, _>(events.iter().map(|(_, event)| event.body.as_slice()).collect::<Vec<_>>())
    .bind::<Array<Nullable<Text>>, _>(events.iter().map(|(key, _)| key.map(|key| key.route)).collect::<Vec<_>>())
    .bind::<Array<Nullable<Text>>, _>(
        events.iter().map(|(key, _)| key.map(|key| key.key.as_str())).collect::<Vec<_>>(),
    )
    .bind::<Uuid, _>(group);
    let claimed: Vec<Claimed> = if scheduled {
        let due: Vec<Option<DateTime<Utc>>> = events.iter().map(|(_, event)| event.due_at).collect();
        statement.bind::<Array<Nullable<Timestamptz>>, _>(due).load(conn)?
    } else {
        statement.load(conn)?
    };
    let claimed: HashSet<(TenantId, &str, &str)> =
        claimed.iter().map(|row| (row.tenant_id, row.route.as_str(), row.key.as_str())).collect();
    let ours = |key: &&Key| claimed.contains(&key.place());
    Ok(keys().filter(ours).cloned().collect())
}
