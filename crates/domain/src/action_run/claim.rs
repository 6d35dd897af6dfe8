//! Who gets taken next: tenants take turns, so that one with ten thousand runs does not hold up another's one.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use diesel::{
    PgConnection, QueryableByName, RunQueryDsl,
    sql_types::{Array, BigInt, Timestamptz, Uuid},
};

use super::store::HeldRun;
use crate::{
    Result,
    db::prepared::prepared,
    id::{ActionRunId, LeaseId, TenantId},
};

/// Tenants that are looked at in one claim; with more that wait at once, the rest come when these are served.
const TENANTS: i64 = 1_000;

/// What a runner wants.
#[derive(Clone, Debug)]
pub struct Wants {
    /// Runs at most.
    pub runs: i64,
    /// Runs of one tenant that it has under way at most.
    pub of_tenant: i64,
    /// Runs that it has under way, by tenant.
    pub busy: HashMap<TenantId, i64>,
}

/// The tenants that have runs, by one look into the index for each, and of these the ones whose first is due by another: however
/// many runs wait, for their turn or for a task. Then how much room each has, and the front of its queue, as many runs as an
/// equal share. Whoever has least under way goes first.
///
/// `$1` the time, `$2` runs wanted, `$3` and `$4` tenants and what they have under way, `$5` most runs of a tenant, `$6`
/// tenants looked at
pub const CHOICE: &str = "WITH RECURSIVE tenants (tenant_id) AS ( \
        (SELECT tenant_id FROM action_runs WHERE state < 2 ORDER BY tenant_id LIMIT 1) \
        UNION ALL \
        SELECT (SELECT r.tenant_id FROM action_runs r \
                WHERE r.state < 2 AND r.tenant_id > t.tenant_id ORDER BY r.tenant_id LIMIT 1) \
        FROM tenants t WHERE t.tenant_id IS NOT NULL), \
     room AS MATERIALIZED (SELECT t.tenant_id, COALESCE(b.runs, 0) AS busy, $5 - COALESCE(b.runs, 0) AS room \
        FROM (SELECT t.tenant_id FROM tenants t WHERE (SELECT r.due_at FROM action_runs r \
                WHERE r.tenant_id = t.tenant_id AND r.state < 2 ORDER BY r.due_at LIMIT 1) <= $1 LIMIT $6) t \
        LEFT JOIN unnest($3, $4) AS b (tenant_id, runs) ON b.tenant_id = t.tenant_id \
        WHERE COALESCE(b.runs, 0) < $5), \
     share AS MATERIALIZED (SELECT GREATEST(1, CEIL($2::numeric / GREATEST(1, count(*))))::bigint AS runs FROM room) \
     SELECT front.id FROM room CROSS JOIN share CROSS JOIN LATERAL ( \
        SELECT r.id, r.due_at, row_number() OVER (ORDER BY r.due_at, r.id) AS place FROM action_runs r \
        WHERE r.tenant_id = room.tenant_id AND r.state < 2 AND r.due_at <= $1 \
        ORDER BY r.due_at, r.id LIMIT LEAST(room.room, share.runs)) front \
     ORDER BY front.place + room.busy, front.due_at, front.id LIMIT $2";

/// Takes the chosen runs, those of them that are still to be had. A look at the task that a run waits for is no attempt.
///
/// `$1` runs, `$2` the time, `$3` the lease, `$4` its end
pub const TAKE: &str = "WITH chosen AS MATERIALIZED (SELECT r.id FROM unnest($1) AS k (id) JOIN action_runs r ON r.id = k.id \
        WHERE r.state + 0 < 2 AND r.due_at <= $2 FOR UPDATE OF r SKIP LOCKED) \
     UPDATE action_runs r SET state = 1, lease = $3, due_at = $4, started_at = COALESCE(r.started_at, $2), \
        attempt = CASE WHEN r.task_id IS NULL THEN LEAST(r.attempt + 1, 30000) ELSE r.attempt END \
     FROM chosen c WHERE r.id = c.id \
     RETURNING r.id, r.tenant_id, r.action, r.input, r.attempt, r.lease, r.sent_at, r.task_id, r.connection_id, \
        r.created_by, r.trace, r.sampled, r.created_at";

/// Takes runs that are due: tenants in turns, of each the longest due first. What somebody else is taking is passed over.
///
/// # Errors
/// When the database is away.
pub fn claim(
    conn: &mut PgConnection,
    wants: &Wants,
    now: DateTime<Utc>,
    lease_until: DateTime<Utc>,
) -> Result<Vec<HeldRun>> {
    #[derive(QueryableByName)]
    struct Chosen {
        #[diesel(sql_type = Uuid)]
        id: ActionRunId,
    }
    let (tenants, runs): (Vec<TenantId>, Vec<i64>) = wants.busy.iter().map(|(id, runs)| (*id, *runs)).unzip();
    let chosen: Vec<Chosen> = prepared(CHOICE)
        .bind::<Timestamptz, _>(now)
        .bind::<BigInt, _>(wants.runs)
        .bind::<Array<Uuid>, _>(tenants)
        .bind::<Array<BigInt>, _>(runs)
        .bind::<BigInt, _>(wants.of_tenant)
        .bind::<BigInt, _>(TENANTS)
        .load(conn)?;
    if chosen.is_empty() {
        return Ok(Vec::new());
    }
    Ok(prepared(TAKE)
        .bind::<Array<Uuid>, _>(chosen.into_iter().map(|row| row.id).collect::<Vec<_>>())
        .bind::<Timestamptz, _>(now)
        .bind::<Uuid, _>(LeaseId::new(now))
        .bind::<Timestamptz, _>(lease_until)
        .load(conn)?)
}
