//! Who gets a run: the built-in executor, fairly over tenants, or an external worker, of its tenant's runs. A claim is the
//! one change of a run outside the ledger: a compare-and-set from `queued` to `running`, with a new lease.

use chrono::{DateTime, Utc};
use diesel::{
    PgConnection, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Array, BigInt, Bool, Integer, Nullable, SmallInt, Text, Timestamptz, Uuid},
};

use super::{AgentType, Settings, Usage};
use crate::{
    Result,
    db::prepared::prepared,
    id::{LeaseId, RunId, TaskId, TenantId, WorkerId},
};

/// Only one claims for the built-in executor at a time, so that no tenant gets more than its share: "hooktask" in ASCII.
const LOCK: i64 = 0x686f_6f6b_7461_736b;

/// Tenants that are looked at in one claim.
const TENANTS: i64 = 1_000;

/// What the next attempt was left by the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Its place.
    pub seq: u64,
    /// Anything.
    pub data: String,
}

/// A run that somebody holds now, with everything that is needed to do it.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "each is a column of tasks or task_runs, which the migration explains")]
pub struct ClaimedRun {
    pub run: RunId,
    pub task: TaskId,
    pub tenant: TenantId,
    /// Must be shown with every report.
    pub lease: LeaseId,
    pub lease_until: DateTime<Utc>,
    /// From 1; since the run was made or its last question was answered.
    pub attempt: u16,
    /// Which run of the task it is, from 1.
    pub number: u32,
    pub title: String,
    pub description: String,
    pub agent_type: AgentType,
    pub model: String,
    pub resolved: String,
    pub priority: i16,
    pub metadata: Option<String>,
    pub max_tokens: Option<u64>,
    pub max_cost_micros: Option<u64>,
    /// What earlier attempts used.
    pub usage_before: Usage,
    /// When the attempt has to be over.
    pub attempt_deadline: DateTime<Utc>,
    pub deadline_at: Option<DateTime<Utc>>,
    pub checkpoint: Option<Checkpoint>,
    pub created_at: DateTime<Utc>,
    /// When this run was queued (again): how long it waited.
    pub queued_at: DateTime<Utc>,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Uuid)]
    id: RunId,
    #[diesel(sql_type = Uuid)]
    task_id: TaskId,
    #[diesel(sql_type = Uuid)]
    tenant_id: TenantId,
    #[diesel(sql_type = Uuid)]
    lease: LeaseId,
    #[diesel(sql_type = Timestamptz)]
    lease_until: DateTime<Utc>,
    #[diesel(sql_type = SmallInt)]
    attempt: i16,
    #[diesel(sql_type = Integer)]
    number: i32,
    #[diesel(sql_type = Text)]
    title: String,
    #[diesel(sql_type = Text)]
    description: String,
    #[diesel(sql_type = SmallInt)]
    agent_type: AgentType,
    #[diesel(sql_type = Text)]
    model: String,
    #[diesel(sql_type = Text)]
    resolved: String,
    #[diesel(sql_type = SmallInt)]
    priority: i16,
    #[diesel(sql_type = Nullable<Text>)]
    metadata: Option<String>,
    #[diesel(sql_type = Nullable<BigInt>)]
    max_tokens: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    max_cost_micros: Option<i64>,
    #[diesel(sql_type = BigInt)]
    input_tokens: i64,
    #[diesel(sql_type = BigInt)]
    output_tokens: i64,
    #[diesel(sql_type = BigInt)]
    cost_micros: i64,
    #[diesel(sql_type = Timestamptz)]
    attempt_deadline: DateTime<Utc>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    deadline_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<BigInt>)]
    checkpoint_seq: Option<i64>,
    #[diesel(sql_type = Nullable<Text>)]
    checkpoint: Option<String>,
    #[diesel(sql_type = Timestamptz)]
    created_at: DateTime<Utc>,
    #[diesel(sql_type = Timestamptz)]
    queued_at: DateTime<Utc>,
}

impl From<Row> for ClaimedRun {
    fn from(row: Row) -> Self {
        let unsigned = |number: i64| u64::try_from(number).unwrap_or(0);
        let checkpoint =
            row.checkpoint_seq.zip(row.checkpoint).map(|(seq, data)| Checkpoint { seq: unsigned(seq), data });
        Self {
            run: row.id,
            task: row.task_id,
            tenant: row.tenant_id,
            lease: row.lease,
            lease_until: row.lease_until,
            attempt: u16::try_from(row.attempt).unwrap_or(1),
            number: u32::try_from(row.number).unwrap_or(1),
            title: row.title,
            description: row.description,
            agent_type: row.agent_type,
            model: row.model,
            resolved: row.resolved,
            priority: row.priority,
            metadata: row.metadata,
            max_tokens: row.max_tokens.map(unsigned),
            max_cost_micros: row.max_cost_micros.map(unsigned),
            usage_before: Usage::of_columns([row.input_tokens, row.output_tokens, row.cost_micros]),
            attempt_deadline: row.attempt_deadline,
            deadline_at: row.deadline_at,
            checkpoint,
            created_at: row.created_at,
            queued_at: row.queued_at,
        }
    }
}

/// Tenants with runs that wait: one look into the index for each, however many runs it has. Then how much room each has, and
/// the runs at the front of each queue, as many as its share.
///
/// `$1` most runs at the same time of a tenant, `$2` runs wanted, `$3` tenants looked at
pub const CHOICE: &str = "WITH RECURSIVE tenants (tenant_id) AS ( \
        (SELECT tenant_id FROM task_runs WHERE state = 0 AND held_until IS NULL AND built_in ORDER BY tenant_id LIMIT 1) \
        UNION ALL \
        SELECT (SELECT r.tenant_id FROM task_runs r \
                WHERE r.state = 0 AND r.held_until IS NULL AND r.built_in AND r.tenant_id > t.tenant_id \
                ORDER BY r.tenant_id LIMIT 1) \
        FROM tenants t WHERE t.tenant_id IS NOT NULL), \
     room AS MATERIALIZED (SELECT t.tenant_id, busy.runs AS busy, $1 - busy.runs AS room \
        FROM (SELECT tenant_id FROM tenants WHERE tenant_id IS NOT NULL LIMIT $3) t CROSS JOIN LATERAL ( \
            SELECT count(*) AS runs FROM task_runs x \
            WHERE x.tenant_id = t.tenant_id AND x.state = 1 AND x.worker_id IS NULL) busy \
        WHERE busy.runs < $1), \
     share AS MATERIALIZED (SELECT GREATEST(1, CEIL($2::numeric / GREATEST(1, count(*))))::bigint AS runs FROM room) \
     SELECT front.id FROM room CROSS JOIN share CROSS JOIN LATERAL ( \
        SELECT r.id, row_number() OVER (ORDER BY r.priority DESC, r.id) AS place FROM task_runs r \
        WHERE r.tenant_id = room.tenant_id AND r.state = 0 AND r.held_until IS NULL AND r.built_in \
        ORDER BY r.priority DESC, r.id LIMIT LEAST(room.room, share.runs)) front \
     ORDER BY front.place + room.busy, front.id LIMIT $2";

/// Takes the chosen runs, those of them that are still to be had.
const TAKE: &str = "WITH chosen AS MATERIALIZED (SELECT k.id, k.lease FROM unnest($1, $2) AS k (id, lease) \
        JOIN task_runs r ON r.id = k.id WHERE r.state + 0 = 0 AND r.held_until IS NULL FOR UPDATE OF r SKIP LOCKED) \
     UPDATE task_runs r SET state = 1, lease = c.lease, lease_until = $3 + make_interval(secs => $4), worker_id = $5, \
        attempt = r.attempt + 1, claims = r.claims + 1, started_at = COALESCE(r.started_at, $3), \
        attempt_started_at = $3, attempt_input_tokens = 0, attempt_output_tokens = 0, attempt_cost_micros = 0, \
        attempt_deadline = LEAST($3 + make_interval(secs => r.timeout_s), t.deadline_at, \
            $3 + make_interval(secs => t.max_seconds) - r.ran_ms * interval '1 millisecond'), \
        due_at = LEAST($3 + make_interval(secs => $4), $3 + make_interval(secs => r.timeout_s), t.deadline_at, \
            $3 + make_interval(secs => t.max_seconds) - r.ran_ms * interval '1 millisecond') \
     FROM chosen c, tasks t WHERE r.id = c.id AND t.id = r.task_id \
     RETURNING r.id, r.task_id, r.tenant_id, r.lease, r.lease_until, r.attempt, r.number, t.title, t.description, \
        r.agent_type, r.model, r.resolved, r.priority, t.metadata, t.max_tokens, t.max_cost_micros, r.input_tokens, \
        r.output_tokens, r.cost_micros, r.attempt_deadline, t.deadline_at, r.checkpoint_seq, r.checkpoint, t.created_at, \
        r.queued_at";

#[derive(QueryableByName)]
struct Chosen {
    #[diesel(sql_type = Uuid)]
    id: RunId,
}

fn take(
    conn: &mut PgConnection,
    settings: &Settings,
    chosen: Vec<Chosen>,
    worker: Option<WorkerId>,
    now: DateTime<Utc>,
) -> Result<Vec<ClaimedRun>> {
    if chosen.is_empty() {
        return Ok(Vec::new());
    }
    let runs: Vec<RunId> = chosen.iter().map(|row| row.id).collect();
    // Leases are fences, not secrets of order: random ones.
    let leases: Vec<LeaseId> = runs.iter().map(|_| LeaseId::from_uuid(uuid::Uuid::new_v4())).collect();
    let rows: Vec<Row> = prepared(TAKE)
        .bind::<Array<Uuid>, _>(runs.as_slice())
        .bind::<Array<Uuid>, _>(leases)
        .bind::<Timestamptz, _>(now)
        .bind::<diesel::sql_types::Double, _>(f64::from(settings.heartbeat_s))
        .bind::<Nullable<Uuid>, _>(worker)
        .load(conn)?;
    let mut claimed: Vec<ClaimedRun> = rows.into_iter().map(ClaimedRun::from).collect();
    let place = |run: &RunId| runs.iter().position(|chosen| chosen == run);
    claimed.sort_by_key(|claimed| place(&claimed.run));
    Ok(claimed)
}

/// Takes runs for the built-in executor: fair over tenants, of each no more than `concurrency` at the same time, and of each the
/// highest priority first, then the oldest. Belongs into a transaction: only one claims at a time.
///
/// # Errors
/// When the database is away.
pub fn claim_built_in(
    conn: &mut PgConnection,
    settings: &Settings,
    limit: u32,
    now: DateTime<Utc>,
) -> Result<Vec<ClaimedRun>> {
    if limit == 0 {
        return Ok(Vec::new());
    }
    sql_query(format!("SELECT pg_advisory_xact_lock({LOCK})")).execute(conn)?;
    let chosen: Vec<Chosen> = prepared(CHOICE)
        .bind::<BigInt, _>(i64::from(settings.concurrency))
        .bind::<BigInt, _>(i64::from(limit))
        .bind::<BigInt, _>(TENANTS)
        .load(conn)?;
    take(conn, settings, chosen, None, now)
}

/// What a worker can do.
#[derive(Clone, Debug)]
pub struct WorkerWants {
    /// Who.
    pub worker: WorkerId,
    /// Whose runs.
    pub tenant: TenantId,
    /// Types of agents.
    pub agent_types: Vec<AgentType>,
    /// Models, by the names that tasks call them; `None` = any.
    pub models: Option<Vec<String>>,
    /// What it is able to do.
    pub capabilities: Vec<String>,
}

/// Runs that a worker can do, the highest priority first, then the oldest.
///
/// `$1` tenant, `$2` types, `$3` any model, `$4` models, `$5` capabilities, `$6` runs wanted
pub const WORKER_CHOICE: &str = "SELECT front.id FROM unnest($2) AS a (agent_type) CROSS JOIN LATERAL ( \
        SELECT r.id, r.priority FROM task_runs r \
        WHERE r.tenant_id = $1 AND r.agent_type = a.agent_type AND r.state = 0 AND r.held_until IS NULL \
          AND ($3 OR r.model = ANY($4)) AND r.capabilities <@ $5 \
        ORDER BY r.priority DESC, r.id LIMIT $6 FOR UPDATE OF r SKIP LOCKED) front \
     ORDER BY front.priority DESC, front.id LIMIT $6";

/// Takes runs for a worker. Belongs into a transaction.
///
/// # Errors
/// When the database is away.
pub fn claim_for_worker(
    conn: &mut PgConnection,
    settings: &Settings,
    wants: &WorkerWants,
    limit: u32,
    now: DateTime<Utc>,
) -> Result<Vec<ClaimedRun>> {
    let any: Vec<String> = Vec::new();
    let chosen: Vec<Chosen> = prepared(WORKER_CHOICE)
        .bind::<Uuid, _>(wants.tenant)
        .bind::<Array<SmallInt>, _>(&wants.agent_types)
        .bind::<Bool, _>(wants.models.is_none())
        .bind::<Array<Text>, _>(wants.models.as_ref().unwrap_or(&any))
        .bind::<Array<Text>, _>(&wants.capabilities)
        .bind::<BigInt, _>(i64::from(limit))
        .load(conn)?;
    take(conn, settings, chosen, Some(wants.worker), now)
}

/// A type of work that waits at a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, QueryableByName)]
pub struct Waiting {
    /// Whose.
    #[diesel(sql_type = Uuid)]
    pub tenant_id: TenantId,
    /// What kind.
    #[diesel(sql_type = SmallInt)]
    pub agent_type: AgentType,
}

/// The front of each queue, if there is one: with `EXISTS` instead, Postgres may read all that waits and sort out whose it is.
///
/// `$1` tenants, `$2` types
pub const WAITING: &str = "SELECT t.tenant_id, a.agent_type FROM unnest($1) AS t (tenant_id) \
     CROSS JOIN unnest($2) AS a (agent_type) \
     CROSS JOIN LATERAL (SELECT FROM task_runs r WHERE r.tenant_id = t.tenant_id AND r.agent_type = a.agent_type \
        AND r.state = 0 AND r.held_until IS NULL ORDER BY r.priority DESC, r.id LIMIT 1) front";

/// Which types of work wait at these tenants: for workers that wait for work.
///
/// # Errors
/// When the database is away.
pub fn waiting(conn: &mut PgConnection, tenants: &[TenantId]) -> Result<Vec<Waiting>> {
    if tenants.is_empty() {
        return Ok(Vec::new());
    }
    Ok(prepared(WAITING)
        .bind::<Array<Uuid>, _>(tenants)
        .bind::<Array<SmallInt>, _>(AgentType::ALL.to_vec())
        .load(conn)?)
}
