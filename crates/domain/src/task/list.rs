//! Reading tasks: one, a list with filters, the runs of one, and figures over all.

use chrono::{DateTime, Utc};
use diesel::{
    OptionalExtension, PgConnection, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{BigInt, Integer, Jsonb, Nullable, SmallInt, Text, Timestamptz, Uuid},
};

use super::{AgentType, RunState, Usage, webhook::Events};
use crate::{
    Result,
    db::prepared::{planned_for_values, prepared},
    id::{RunId, TaskId, TenantId, WorkerId},
};

/// A task with its latest run.
#[derive(Clone, Debug, QueryableByName)]
#[expect(missing_docs, reason = "each is a column of tasks or task_runs, which the migration explains")]
pub struct TaskRow {
    #[diesel(sql_type = Uuid)]
    pub id: TaskId,
    #[diesel(sql_type = Uuid)]
    pub run_id: RunId,
    #[diesel(sql_type = Integer)]
    pub number: i32,
    #[diesel(sql_type = SmallInt)]
    pub state: RunState,
    #[diesel(sql_type = Text)]
    pub title: String,
    #[diesel(sql_type = Text)]
    pub description: String,
    #[diesel(sql_type = SmallInt)]
    pub agent_type: AgentType,
    #[diesel(sql_type = Text)]
    pub model: String,
    #[diesel(sql_type = SmallInt)]
    pub priority: i16,
    #[diesel(sql_type = Nullable<Text>)]
    pub webhook_url: Option<String>,
    #[diesel(sql_type = SmallInt)]
    webhook_events: i16,
    #[diesel(sql_type = Nullable<Text>)]
    pub notify_email: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    pub notify_language: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    pub metadata: Option<String>,
    #[diesel(sql_type = Integer)]
    pub timeout_s: i32,
    #[diesel(sql_type = Nullable<Integer>)]
    pub max_seconds: Option<i32>,
    #[diesel(sql_type = Nullable<BigInt>)]
    pub max_tokens: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    pub max_cost_micros: Option<i64>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub deadline_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub started_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub ended_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = BigInt)]
    pub ran_ms: i64,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub attempt_started_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Integer)]
    pub claims: i32,
    #[diesel(sql_type = Nullable<Uuid>)]
    pub worker_id: Option<WorkerId>,
    #[diesel(sql_type = Nullable<SmallInt>)]
    pub percent: Option<i16>,
    #[diesel(sql_type = Nullable<Text>)]
    pub progress_message: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    pub result: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    pub summary: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    pub error: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    pub error_code: Option<String>,
    #[diesel(sql_type = BigInt)]
    input_tokens: i64,
    #[diesel(sql_type = BigInt)]
    output_tokens: i64,
    #[diesel(sql_type = BigInt)]
    cost_micros: i64,
    #[diesel(sql_type = BigInt)]
    pub output_seq: i64,
}

impl TaskRow {
    /// What the run used.
    #[must_use]
    pub fn usage(&self) -> Usage {
        Usage::of_columns([self.input_tokens, self.output_tokens, self.cost_micros])
    }

    /// The events that its webhook is told.
    #[must_use]
    pub fn webhook_events(&self) -> Events {
        Events::of_bits(self.webhook_events)
    }

    /// For how long it was held, in milliseconds.
    #[must_use]
    pub fn runtime_ms(&self, now: DateTime<Utc>) -> i64 {
        self.ran_ms + self.attempt_started_at.map_or(0, |since| (now - since).num_milliseconds().max(0))
    }
}

const COLUMNS: &str = "t.id, r.id AS run_id, r.number, r.state, t.title, t.description, t.agent_type, t.model, t.priority, \
     t.webhook_url, t.webhook_events, t.notify_email, t.notify_language, t.metadata, t.timeout_s, t.max_seconds, \
     t.max_tokens, t.max_cost_micros, t.deadline_at, t.created_at, r.started_at, r.ended_at, r.ran_ms, \
     r.attempt_started_at, r.claims, r.worker_id, r.percent, r.progress_message, r.result, r.summary, r.error, \
     r.error_code, r.input_tokens, r.output_tokens, r.cost_micros, r.output_seq";

/// A task with its latest run.
///
/// # Errors
/// When the database is away.
pub fn show(conn: &mut PgConnection, tenant: TenantId, task: TaskId) -> Result<Option<TaskRow>> {
    Ok(prepared(format!(
        "SELECT {COLUMNS} FROM tasks t JOIN task_runs r ON r.id = t.run_id WHERE t.id = $2 AND t.tenant_id = $1"
    ))
    .bind::<Uuid, _>(tenant)
    .bind::<Uuid, _>(task)
    .get_result(conn)
    .optional()?)
}

/// The runs of a task, the latest first.
///
/// # Errors
/// When the database is away.
pub fn runs(conn: &mut PgConnection, tenant: TenantId, task: TaskId) -> Result<Vec<TaskRow>> {
    Ok(prepared(format!(
        "SELECT {COLUMNS} FROM tasks t JOIN task_runs r ON r.task_id = t.id WHERE t.id = $2 AND t.tenant_id = $1 \
         ORDER BY r.number DESC LIMIT 1000"
    ))
    .bind::<Uuid, _>(tenant)
    .bind::<Uuid, _>(task)
    .load(conn)?)
}

/// What a list shows.
#[derive(Clone, Debug, Default)]
pub struct TaskQuery {
    /// In this state.
    pub state: Option<RunState>,
    /// Of this type.
    pub agent_type: Option<AgentType>,
    /// With this in the title, in whatever case.
    pub title: Option<String>,
    /// With this in the metadata.
    pub labels: Option<serde_json::Value>,
    /// How many.
    pub limit: i64,
    /// After how many.
    pub offset: i64,
}

/// A page of tasks, newest first, and how many there are in all.
///
/// # Errors
/// When the database is away.
pub fn list(conn: &mut PgConnection, tenant: TenantId, query: &TaskQuery) -> Result<(Vec<TaskRow>, i64)> {
    #[derive(QueryableByName)]
    struct Total {
        #[diesel(sql_type = BigInt)]
        total: i64,
    }
    // Only what is asked for stands in the text: a plan for conditions that may be absent walks whole tables.
    let mut conditions = "r.tenant_id = $1 AND r.latest".to_owned();
    for (given, condition) in [
        (query.state.is_some(), " AND r.state = $2"),
        (query.agent_type.is_some(), " AND r.agent_type = $3"),
        (query.title.is_some(), " AND strpos(lower(t.title), lower($4)) > 0"),
        (query.labels.is_some(), " AND t.labels @> $5"),
    ] {
        if given {
            conditions.push_str(condition);
        }
    }
    // The types of parameters that do not stand in the text have to be told.
    let unused = "($2::smallint IS NULL OR true) AND ($3::smallint IS NULL OR true) AND ($4::text IS NULL OR true) \
                  AND ($5::jsonb IS NULL OR true)";
    let from = if query.title.is_some() || query.labels.is_some() {
        "task_runs r JOIN tasks t ON t.id = r.task_id"
    } else {
        "task_runs r"
    };
    planned_for_values(conn, |conn| {
        let total: Total =
            sql_query(format!("SELECT count(*) AS total FROM {from} WHERE {conditions} AND {unused}"))
                .bind::<Uuid, _>(tenant)
                .bind::<Nullable<SmallInt>, _>(query.state)
                .bind::<Nullable<SmallInt>, _>(query.agent_type)
                .bind::<Nullable<Text>, _>(query.title.as_deref())
                .bind::<Nullable<Jsonb>, _>(query.labels.as_ref())
                .get_result(conn)?;
        let tasks = sql_query(format!(
            "SELECT {COLUMNS} FROM task_runs r JOIN tasks t ON t.id = r.task_id WHERE {conditions} AND {unused} \
             ORDER BY r.task_id DESC LIMIT $6 OFFSET $7"
        ))
        .bind::<Uuid, _>(tenant)
        .bind::<Nullable<SmallInt>, _>(query.state)
        .bind::<Nullable<SmallInt>, _>(query.agent_type)
        .bind::<Nullable<Text>, _>(query.title.as_deref())
        .bind::<Nullable<Jsonb>, _>(query.labels.as_ref())
        .bind::<BigInt, _>(query.limit)
        .bind::<BigInt, _>(query.offset)
        .load(conn)?;
        Ok((tasks, total.total))
    })
}

/// How many tasks stand where, and how long the first of those that wait has waited.
#[derive(Clone, Debug, QueryableByName)]
pub struct StateCount {
    /// Where.
    #[diesel(sql_type = SmallInt)]
    pub state: RunState,
    /// How many.
    #[diesel(sql_type = BigInt)]
    pub tasks: i64,
    /// The oldest among them.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub oldest: Option<DateTime<Utc>>,
}

/// Counts of a tenant's tasks by state.
///
/// # Errors
/// When the database is away.
pub fn counts(conn: &mut PgConnection, tenant: TenantId) -> Result<Vec<StateCount>> {
    Ok(prepared(
        "SELECT state, count(*) AS tasks, CASE WHEN state < 3 THEN min(queued_at) END AS oldest FROM task_runs \
         WHERE tenant_id = $1 AND latest GROUP BY state ORDER BY state",
    )
    .bind::<Uuid, _>(tenant)
    .load(conn)?)
}

/// What ended in an hour.
#[derive(Clone, Debug, QueryableByName)]
pub struct Hour {
    /// Its beginning.
    #[diesel(sql_type = Timestamptz)]
    pub hour: DateTime<Utc>,
    /// Runs that were completed.
    #[diesel(sql_type = BigInt)]
    pub completed: i64,
    /// Runs that failed.
    #[diesel(sql_type = BigInt)]
    pub failed: i64,
    /// Runs that were cancelled.
    #[diesel(sql_type = BigInt)]
    pub cancelled: i64,
    /// How long they had waited before somebody took them, in milliseconds, on average.
    #[diesel(sql_type = Nullable<BigInt>)]
    pub wait_ms: Option<i64>,
}

/// What ended since then, hour by hour; hours in which nothing ended are left out.
///
/// # Errors
/// When the database is away.
pub fn hours(conn: &mut PgConnection, tenant: TenantId, since: DateTime<Utc>) -> Result<Vec<Hour>> {
    Ok(prepared(
        "SELECT date_trunc('hour', r.ended_at) AS hour, count(*) FILTER (WHERE r.state = 3) AS completed, \
            count(*) FILTER (WHERE r.state = 4) AS failed, count(*) FILTER (WHERE r.state = 5) AS cancelled, \
            (avg(extract(epoch FROM r.started_at - t.created_at)) FILTER (WHERE r.number = 1) * 1000)::bigint AS wait_ms \
         FROM task_runs r JOIN tasks t ON t.id = r.task_id \
         WHERE r.tenant_id = $1 AND r.ended_at >= $2 AND r.ended_at IS NOT NULL GROUP BY 1 ORDER BY 1",
    )
    .bind::<Uuid, _>(tenant)
    .bind::<Timestamptz, _>(since)
    .load(conn)?)
}
