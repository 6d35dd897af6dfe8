//! The rows of action runs: making them, putting them off, reading them, and forgetting. Taking them is `claim`.

use chrono::{DateTime, Utc};
use diesel::{
    OptionalExtension, PgConnection, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Array, BigInt, Bool, Nullable, SmallInt, Text, Timestamptz, Uuid},
};

use super::RunState;
use crate::{
    Result,
    db::prepared::{planned_for_values, prepared},
    id::{ActionRunId, ConnectionId, EventId, LeaseId, SubscriptionId, TaskId, TenantId},
    task,
    trace::TraceContext,
    vault::Vault,
};

/// A run that is to be stored.
#[derive(Clone, Debug)]
pub struct NewRun {
    /// Identity.
    pub id: ActionRunId,
    /// Owner.
    pub tenant: TenantId,
    /// The action's key.
    pub action: &'static str,
    /// Canonical JSON.
    pub input: String,
    /// Who it is elsewhere.
    pub connection: Option<ConnectionId>,
    /// Where its callback goes.
    pub endpoint: Option<SubscriptionId>,
    /// Who asked.
    pub created_by: Option<uuid::Uuid>,
    /// The trace of the request.
    pub trace: TraceContext,
}

/// Stores runs. Due at once.
///
/// # Errors
/// When the database is away.
pub fn insert(conn: &mut PgConnection, new: &[NewRun], now: DateTime<Utc>) -> Result<()> {
    macro_rules! column {
        ($value:expr) => {
            new.iter().map($value).collect::<Vec<_>>()
        };
    }
    prepared(
        "INSERT INTO action_runs (id, tenant_id, action, input, endpoint_id, connection_id, created_by, trace, sampled, \
            state, attempt, due_at, lease, created_at) \
         SELECT i, t, a, p, e, c, b, r, s, 0, 0, $10, '00000000-0000-0000-0000-000000000000', $10 \
         FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9) AS new (i, t, a, p, e, c, b, r, s)",
    )
    .bind::<Array<Uuid>, _>(column!(|run| run.id))
    .bind::<Array<Uuid>, _>(column!(|run| run.tenant))
    .bind::<Array<Text>, _>(column!(|run| run.action))
    .bind::<Array<Text>, _>(column!(|run| run.input.as_str()))
    .bind::<Array<Nullable<Uuid>>, _>(column!(|run| run.endpoint))
    .bind::<Array<Nullable<Uuid>>, _>(column!(|run| run.connection))
    .bind::<Array<Nullable<Uuid>>, _>(column!(|run| run.created_by))
    .bind::<Array<Uuid>, _>(column!(|run| run.trace.trace_uuid()))
    .bind::<Array<Bool>, _>(column!(|run| run.trace.sampled))
    .bind::<Timestamptz, _>(now)
    .execute(conn)?;
    Ok(())
}

/// A run that somebody holds.
#[derive(Clone, Debug, QueryableByName)]
#[expect(missing_docs, reason = "each is a column of action_runs, which the migration explains")]
pub struct HeldRun {
    #[diesel(sql_type = Uuid)]
    pub id: ActionRunId,
    #[diesel(sql_type = Uuid)]
    pub tenant_id: TenantId,
    #[diesel(sql_type = Text)]
    pub action: String,
    #[diesel(sql_type = Text)]
    pub input: String,
    #[diesel(sql_type = SmallInt)]
    pub attempt: i16,
    #[diesel(sql_type = Uuid)]
    pub lease: LeaseId,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub sent_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Uuid>)]
    pub task_id: Option<TaskId>,
    #[diesel(sql_type = Nullable<Uuid>)]
    pub connection_id: Option<ConnectionId>,
    #[diesel(sql_type = Nullable<Uuid>)]
    pub created_by: Option<uuid::Uuid>,
    #[diesel(sql_type = Uuid)]
    trace: uuid::Uuid,
    #[diesel(sql_type = Bool)]
    sampled: bool,
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
}

impl HeldRun {
    /// The trace of the request that asked for it.
    #[must_use]
    pub fn trace(&self) -> TraceContext {
        TraceContext::of(self.trace, self.sampled)
    }
}

/// Notes, before a request is sent, that it may have been; for `until` the run is ours. Whether it still was.
///
/// # Errors
/// When the database is away.
pub fn sending(
    conn: &mut PgConnection,
    held: &HeldRun,
    now: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Result<bool> {
    let noted = prepared(
        "UPDATE action_runs SET sent_at = $3, due_at = $4 WHERE tenant_id = $5 AND id = $1 AND lease = $2 AND state = 1",
    )
    .bind::<Uuid, _>(held.id)
    .bind::<Uuid, _>(held.lease)
    .bind::<Timestamptz, _>(now)
    .bind::<Timestamptz, _>(until)
    .bind::<Uuid, _>(held.tenant_id)
    .execute(conn)?;
    Ok(noted == 1)
}

/// Gives a run back until `at`; what it noted of a request is forgotten when `unsent`. One that is not held any more stays as it is.
///
/// # Errors
/// When the database is away.
pub fn put_off(conn: &mut PgConnection, held: &HeldRun, at: DateTime<Utc>, unsent: bool) -> Result<()> {
    prepared(
        "UPDATE action_runs SET due_at = $3, lease = '00000000-0000-0000-0000-000000000000', \
            state = CASE WHEN task_id IS NULL THEN 0 ELSE 1 END, sent_at = CASE WHEN $5 THEN NULL ELSE sent_at END \
         WHERE tenant_id = $4 AND id = $1 AND lease = $2 AND state = 1",
    )
    .bind::<Uuid, _>(held.id)
    .bind::<Uuid, _>(held.lease)
    .bind::<Timestamptz, _>(at)
    .bind::<Uuid, _>(held.tenant_id)
    .bind::<Bool, _>(unsent)
    .execute(conn)?;
    Ok(())
}

/// What came of asking for a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Awaiting {
    /// The task is stored, and the run waits for it.
    Task,
    /// Its tenant's budget is used up.
    Refused(String),
    /// The run is not held any more; nothing was stored.
    Lost,
}

/// Stores the task that a run waits for, and lets it wait until `at`. Belongs into a transaction.
///
/// # Errors
/// When the database is away.
pub fn await_task(
    conn: &mut PgConnection,
    (settings, vault): (&task::Settings, &Vault),
    held: &HeldRun,
    new: task::NewTask,
    now: DateTime<Utc>,
    at: DateTime<Utc>,
) -> Result<Awaiting> {
    let waits = prepared(
        "UPDATE action_runs SET task_id = $3, due_at = $4, lease = '00000000-0000-0000-0000-000000000000' \
         WHERE tenant_id = $5 AND id = $1 AND lease = $2 AND state = 1 AND task_id IS NULL",
    )
    .bind::<Uuid, _>(held.id)
    .bind::<Uuid, _>(held.lease)
    .bind::<Uuid, _>(new.id)
    .bind::<Timestamptz, _>(at)
    .bind::<Uuid, _>(held.tenant_id)
    .execute(conn)?;
    if waits == 0 {
        return Ok(Awaiting::Lost);
    }
    let refused = task::store::create(conn, settings, vault, &[new], now)?;
    let Some(reason) = refused.into_iter().next().flatten() else { return Ok(Awaiting::Task) };
    // It is ours once more, to be ended.
    prepared("UPDATE action_runs SET task_id = NULL, lease = $2 WHERE tenant_id = $3 AND id = $1")
        .bind::<Uuid, _>(held.id)
        .bind::<Uuid, _>(held.lease)
        .bind::<Uuid, _>(held.tenant_id)
        .execute(conn)?;
    Ok(Awaiting::Refused(reason))
}

/// A run as its owner sees it.
#[derive(Clone, Debug, QueryableByName)]
#[expect(missing_docs, reason = "each is a column of action_runs, which the migration explains")]
pub struct RunRow {
    #[diesel(sql_type = Uuid)]
    pub id: ActionRunId,
    #[diesel(sql_type = Text)]
    pub action: String,
    #[diesel(sql_type = SmallInt)]
    pub state: RunState,
    #[diesel(sql_type = Nullable<Text>)]
    pub results: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    pub errors: Option<String>,
    #[diesel(sql_type = Nullable<Uuid>)]
    pub endpoint_id: Option<SubscriptionId>,
    /// Where its callback goes.
    #[diesel(sql_type = Nullable<Text>)]
    pub callback_url: Option<String>,
    #[diesel(sql_type = Nullable<Uuid>)]
    pub event_id: Option<EventId>,
    #[diesel(sql_type = Nullable<Uuid>)]
    pub task_id: Option<TaskId>,
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub started_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub ended_at: Option<DateTime<Utc>>,
}

const COLUMNS: &str = "r.id, r.action, r.state, r.results, r.errors, r.endpoint_id, s.url AS callback_url, r.event_id, r.task_id, \
     r.created_at, r.started_at, r.ended_at";

/// One run.
///
/// # Errors
/// When the database is away.
pub fn find(conn: &mut PgConnection, tenant: TenantId, id: ActionRunId) -> Result<Option<RunRow>> {
    Ok(prepared(format!(
        "SELECT {COLUMNS} FROM action_runs r LEFT JOIN subscriptions s ON s.id = r.endpoint_id \
         WHERE r.tenant_id = $1 AND r.id = $2"
    ))
    .bind::<Uuid, _>(tenant)
    .bind::<Uuid, _>(id)
    .get_result(conn)
    .optional()?)
}

/// A page of runs, newest first, and how many there are in all.
///
/// # Errors
/// When the database is away.
pub fn list(
    conn: &mut PgConnection,
    tenant: TenantId,
    state: Option<RunState>,
    limit: i64,
    offset: i64,
) -> Result<(Vec<RunRow>, i64)> {
    #[derive(QueryableByName)]
    struct Count {
        #[diesel(sql_type = BigInt)]
        total: i64,
    }
    let state = state.map(RunState::code);
    planned_for_values(conn, |conn| {
        let rows = sql_query(format!(
            "SELECT {COLUMNS} FROM action_runs r LEFT JOIN subscriptions s ON s.id = r.endpoint_id \
             WHERE r.tenant_id = $1 AND ($2 IS NULL OR r.state = $2) ORDER BY r.id DESC LIMIT $3 OFFSET $4"
        ))
        .bind::<Uuid, _>(tenant)
        .bind::<Nullable<SmallInt>, _>(state)
        .bind::<BigInt, _>(limit)
        .bind::<BigInt, _>(offset)
        .load(conn)?;
        let count: Count = sql_query(
            "SELECT count(*) AS total FROM action_runs WHERE tenant_id = $1 AND ($2 IS NULL OR state = $2)",
        )
        .bind::<Uuid, _>(tenant)
        .bind::<Nullable<SmallInt>, _>(state)
        .get_result(conn)?;
        Ok((rows, count.total))
    })
}

/// Lets the callback of a run go to another endpoint of the same URL.
///
/// # Errors
/// When the database is away.
pub fn move_callback(
    conn: &mut PgConnection,
    tenant: TenantId,
    id: ActionRunId,
    endpoint: SubscriptionId,
) -> Result<()> {
    prepared("UPDATE action_runs SET endpoint_id = $3 WHERE tenant_id = $1 AND id = $2")
        .bind::<Uuid, _>(tenant)
        .bind::<Uuid, _>(id)
        .bind::<Uuid, _>(endpoint)
        .execute(conn)?;
    Ok(())
}

/// Deletes runs that ended before this time. At most `limit`; returns how many.
///
/// # Errors
/// When the database is away.
pub fn forget_ended(conn: &mut PgConnection, before: DateTime<Utc>, limit: i64) -> Result<usize> {
    Ok(prepared(
        "DELETE FROM action_runs WHERE id IN (SELECT id FROM action_runs WHERE state >= 2 AND ended_at < $1 LIMIT $2 \
            FOR UPDATE SKIP LOCKED)",
    )
    .bind::<Timestamptz, _>(before)
    .bind::<BigInt, _>(limit)
    .execute(conn)?)
}
