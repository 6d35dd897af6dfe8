//! External workers: who they are, what they can do, and what each is doing.

use chrono::{DateTime, TimeDelta, Utc};
use diesel::{
    OptionalExtension, PgConnection, QueryableByName, RunQueryDsl,
    sql_types::{Array, Bool, Nullable, SmallInt, Text, Timestamptz, Uuid},
};

use super::AgentType;
use crate::{
    Result,
    db::prepared::prepared,
    id::{CredentialId, LeaseId, RunId, TaskId, TenantId, WorkerId},
};

/// A worker as it introduces itself.
#[derive(Clone, Debug)]
pub struct NewWorker {
    /// Whose tasks it does.
    pub tenant: TenantId,
    /// The token that it shows.
    pub credential: CredentialId,
    /// What it calls itself; one row for each name of a token.
    pub name: String,
    /// What it can do.
    pub agent_types: Vec<AgentType>,
    /// With which models; `None` = any.
    pub models: Option<Vec<String>>,
    /// What else it is able to do.
    pub capabilities: Vec<String>,
    /// Which program it is.
    pub version: Option<String>,
}

/// A worker.
#[derive(Clone, Debug, QueryableByName)]
pub struct WorkerRow {
    /// Identity.
    #[diesel(sql_type = Uuid)]
    pub id: WorkerId,
    /// The token that it shows.
    #[diesel(sql_type = Uuid)]
    pub credential_id: CredentialId,
    /// What it calls itself.
    #[diesel(sql_type = Text)]
    pub name: String,
    /// What it can do.
    #[diesel(sql_type = Array<SmallInt>)]
    pub agent_types: Vec<AgentType>,
    /// With which models.
    #[diesel(sql_type = Nullable<Array<Text>>)]
    pub models: Option<Vec<String>>,
    /// What else it is able to do.
    #[diesel(sql_type = Array<Text>)]
    pub capabilities: Vec<String>,
    /// Which program it is.
    #[diesel(sql_type = Nullable<Text>)]
    pub version: Option<String>,
    /// Whether it takes nothing new.
    #[diesel(sql_type = Bool)]
    pub draining: bool,
    /// When it was heard of last.
    #[diesel(sql_type = Timestamptz)]
    pub last_seen_at: DateTime<Utc>,
    /// When it was heard of first.
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
}

/// A run that a worker holds.
#[derive(Clone, Debug, QueryableByName)]
pub struct Doing {
    /// Who.
    #[diesel(sql_type = Uuid)]
    pub worker_id: WorkerId,
    /// Which run.
    #[diesel(sql_type = Uuid)]
    pub run_id: RunId,
    /// Of which task.
    #[diesel(sql_type = Uuid)]
    pub task_id: TaskId,
    /// What that is called.
    #[diesel(sql_type = Text)]
    pub title: String,
    /// Since when.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub since: Option<DateTime<Utc>>,
}

const COLUMNS: &str =
    "id, credential_id, name, agent_types, models, capabilities, version, draining, last_seen_at, created_at";

/// A worker introduces itself, for the first time or again; whoever was draining takes work again. Returns its identity.
///
/// # Errors
/// When the database is away.
pub fn seen(conn: &mut PgConnection, worker: &NewWorker, now: DateTime<Utc>) -> Result<WorkerRow> {
    Ok(prepared(format!(
        "INSERT INTO workers (id, tenant_id, credential_id, name, agent_types, models, capabilities, version, last_seen_at, \
            created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9) \
         ON CONFLICT (tenant_id, credential_id, name) DO UPDATE SET agent_types = $5, models = $6, capabilities = $7, \
            version = $8, last_seen_at = $9, draining = false RETURNING {COLUMNS}"
    ))
    .bind::<Uuid, _>(WorkerId::new(now))
    .bind::<Uuid, _>(worker.tenant)
    .bind::<Uuid, _>(worker.credential)
    .bind::<Text, _>(&worker.name)
    .bind::<Array<SmallInt>, _>(&worker.agent_types)
    .bind::<Nullable<Array<Text>>, _>(worker.models.as_ref())
    .bind::<Array<Text>, _>(&worker.capabilities)
    .bind::<Nullable<Text>, _>(worker.version.as_deref())
    .bind::<Timestamptz, _>(now)
    .get_result(conn)?)
}

/// How long a worker is silent before it counts as stale (contract §5).
pub const STALE_AFTER: TimeDelta = TimeDelta::seconds(120);

/// How much the time at which a worker was last heard of may lag behind: reports are many, and none needs a write of its own.
const SEEN_AGAIN_AFTER: TimeDelta = TimeDelta::seconds(10);

/// A run as the worker sees it who reports on it.
#[derive(Clone, Debug, QueryableByName)]
pub struct Reported {
    /// Of which task.
    #[diesel(sql_type = Uuid)]
    pub task_id: TaskId,
    /// With which model, as `provider:model`.
    #[diesel(sql_type = Text)]
    pub resolved: String,
    /// Under which lease it is held, if it is.
    #[diesel(sql_type = Nullable<Uuid>)]
    pub lease: Option<LeaseId>,
    /// Who holds it, if it is a worker.
    #[diesel(sql_type = Nullable<Uuid>)]
    pub worker_id: Option<WorkerId>,
}

/// A run of the tenant on which a worker reports; whoever holds it was heard of. Whether it is the worker that reports is
/// told by the lease, not here.
///
/// # Errors
/// When the database is away.
pub fn reported(
    conn: &mut PgConnection,
    tenant: TenantId,
    run: RunId,
    now: DateTime<Utc>,
) -> Result<Option<Reported>> {
    let reported: Option<Reported> = prepared(
        "SELECT task_id, resolved, lease, worker_id FROM task_runs WHERE id = $1 AND tenant_id = $2",
    )
    .bind::<Uuid, _>(run)
    .bind::<Uuid, _>(tenant)
    .get_result(conn)
    .optional()?;
    if let Some(worker) = reported.as_ref().and_then(|reported| reported.worker_id) {
        prepared("UPDATE workers SET last_seen_at = $3 WHERE id = $1 AND last_seen_at < $2")
            .bind::<Uuid, _>(worker)
            .bind::<Timestamptz, _>(now - SEEN_AGAIN_AFTER)
            .bind::<Timestamptz, _>(now)
            .execute(conn)?;
    }
    Ok(reported)
}

/// Workers of a token take nothing new: the one of this name, or all of them. Returns their names.
///
/// # Errors
/// When the database is away.
pub fn drain(
    conn: &mut PgConnection,
    tenant: TenantId,
    credential: CredentialId,
    name: Option<&str>,
) -> Result<Vec<String>> {
    #[derive(QueryableByName)]
    struct Drained {
        #[diesel(sql_type = Text)]
        name: String,
    }
    let rows: Vec<Drained> = prepared(
        "UPDATE workers SET draining = true WHERE tenant_id = $1 AND credential_id = $2 AND ($3 IS NULL OR name = $3) \
         RETURNING name",
    )
    .bind::<Uuid, _>(tenant)
    .bind::<Uuid, _>(credential)
    .bind::<Nullable<Text>, _>(name)
    .load(conn)?;
    let mut names: Vec<String> = rows.into_iter().map(|row| row.name).collect();
    names.sort_unstable();
    Ok(names)
}

/// Workers were heard of.
///
/// # Errors
/// When the database is away.
pub fn touch(conn: &mut PgConnection, workers: &[WorkerId], now: DateTime<Utc>) -> Result<()> {
    if !workers.is_empty() {
        prepared("UPDATE workers SET last_seen_at = $2 WHERE id = ANY($1) AND last_seen_at < $2")
            .bind::<Array<Uuid>, _>(workers)
            .bind::<Timestamptz, _>(now)
            .execute(conn)?;
    }
    Ok(())
}

/// A worker of a tenant.
///
/// # Errors
/// When the database is away.
pub fn find(conn: &mut PgConnection, tenant: TenantId, worker: WorkerId) -> Result<Option<WorkerRow>> {
    Ok(prepared(format!("SELECT {COLUMNS} FROM workers WHERE tenant_id = $1 AND id = $2"))
        .bind::<Uuid, _>(tenant)
        .bind::<Uuid, _>(worker)
        .get_result(conn)
        .optional()?)
}

/// The workers of a tenant, those that were heard of last first.
///
/// # Errors
/// When the database is away.
pub fn list(conn: &mut PgConnection, tenant: TenantId) -> Result<Vec<WorkerRow>> {
    Ok(prepared(format!(
        "SELECT {COLUMNS} FROM workers WHERE tenant_id = $1 ORDER BY last_seen_at DESC, id LIMIT 1000"
    ))
    .bind::<Uuid, _>(tenant)
    .load(conn)?)
}

/// What the workers of a tenant are doing.
///
/// # Errors
/// When the database is away.
pub fn doing(conn: &mut PgConnection, tenant: TenantId) -> Result<Vec<Doing>> {
    Ok(prepared(
        "SELECT r.worker_id, r.id AS run_id, r.task_id, t.title, r.attempt_started_at AS since FROM workers w \
         JOIN task_runs r ON r.worker_id = w.id AND r.state = 1 JOIN tasks t ON t.id = r.task_id \
         WHERE w.tenant_id = $1 ORDER BY r.id LIMIT 10000",
    )
    .bind::<Uuid, _>(tenant)
    .load(conn)?)
}

/// Forgets workers that were not heard of for long and hold nothing. A named system path.
///
/// # Errors
/// When the database is away.
pub fn forget(conn: &mut PgConnection, seen_before: DateTime<Utc>) -> Result<usize> {
    Ok(prepared(
        "DELETE FROM workers w WHERE w.last_seen_at < $1 \
         AND NOT EXISTS (SELECT 1 FROM task_runs r WHERE r.worker_id = w.id AND r.state = 1)",
    )
    .bind::<Timestamptz, _>(seen_before)
    .execute(conn)?)
}
