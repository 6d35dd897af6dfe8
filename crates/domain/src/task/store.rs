//! Making tasks with their first run, making new runs, and forgetting.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use diesel::{
    OptionalExtension, PgConnection, QueryableByName, RunQueryDsl,
    sql_types::{Array, BigInt, Bool, Integer, Jsonb, Nullable, SmallInt, Text, Timestamptz, Uuid},
};

use super::{AgentType, NewTask, RunState, Settings, budget};
use crate::{
    Error, Result,
    db::prepared::prepared,
    id::{RunId, SubscriptionId, TaskId, TenantId},
    person::Locale,
    subscription::{
        Kind,
        endpoint::{self, Named},
    },
    vault::Vault,
};

/// Stores tasks, each with its first run, in one statement; and finds or makes the endpoints that they name. Returns, for each,
/// why it is refused: its tenant's budget is used up. Belongs into a transaction.
///
/// # Errors
/// When the database is away; nothing is stored then.
pub fn create(
    conn: &mut PgConnection,
    settings: &Settings,
    vault: &Vault,
    tasks: &[NewTask],
    now: DateTime<Utc>,
) -> Result<Vec<Option<String>>> {
    let mut tenants: Vec<TenantId> = tasks.iter().map(|task| task.tenant).collect();
    tenants.sort_unstable();
    tenants.dedup();
    let spent = budget::spent(conn, &tenants, now)?;
    let refused: Vec<Option<String>> = tasks.iter().map(|task| spent.get(&task.tenant).cloned()).collect();
    let tasks: Vec<&NewTask> = tasks.iter().filter(|task| !spent.contains_key(&task.tenant)).collect();
    put(conn, settings, vault, &tasks, now)?;
    Ok(refused)
}

/// Stores tasks whose budgets were looked at, each with its first run; and finds or makes the endpoints that they name. Belongs
/// into a transaction.
///
/// # Errors
/// When the database is away; nothing is stored then.
pub fn put(
    conn: &mut PgConnection,
    settings: &Settings,
    vault: &Vault,
    tasks: &[&NewTask],
    now: DateTime<Utc>,
) -> Result<()> {
    let endpoints = endpoints(conn, vault, tasks, now)?;
    insert(conn, settings, tasks, &endpoints, now)
}

fn endpoints(
    conn: &mut PgConnection,
    vault: &Vault,
    tasks: &[&NewTask],
    now: DateTime<Utc>,
) -> Result<HashMap<TaskId, SubscriptionId>> {
    let with: Vec<(TaskId, Named<'_>)> = tasks
        .iter()
        .filter_map(|task| {
            let webhook = task.webhook.as_ref()?;
            let named = Named {
                kind: Kind::Task,
                tenant: task.tenant,
                url: &webhook.url,
                secret: webhook.secret.as_ref(),
            };
            Some((task.id, named))
        })
        .collect();
    if with.is_empty() {
        return Ok(HashMap::new());
    }
    let (ids, named): (Vec<TaskId>, Vec<Named<'_>>) = with.into_iter().unzip();
    Ok(ids.into_iter().zip(endpoint::of_tasks(conn, vault, &named, now)?).collect())
}

/// The timer of a run that waits from now on.
fn due_at(settings: &Settings, deadline_at: Option<DateTime<Utc>>, now: DateTime<Utc>) -> DateTime<Utc> {
    let queue = now + settings.queue_deadline();
    deadline_at.map_or(queue, |deadline| deadline.min(queue))
}

fn insert(
    conn: &mut PgConnection,
    settings: &Settings,
    tasks: &[&NewTask],
    endpoints: &HashMap<TaskId, SubscriptionId>,
    now: DateTime<Utc>,
) -> Result<()> {
    if tasks.is_empty() {
        return Ok(());
    }
    macro_rules! column {
        ($take:expr) => {
            tasks.iter().map($take).collect::<Vec<_>>()
        };
    }
    let large = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let seconds = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    // unnest flattens arrays of arrays: capabilities travel as jsonb and become text[] again.
    let capabilities = column!(|t| serde_json::Value::from(t.capabilities.clone()));
    prepared(concat!(
        "WITH new AS MATERIALIZED (SELECT n.*, ",
        "ARRAY(SELECT jsonb_array_elements_text(n.capability_list)) AS capabilities ",
        "FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, ",
        "$22, $23, $24, $25, $26, $27, $28, $29) ",
        "AS n (id, run_id, tenant_id, title, description, agent_type, model, resolved, priority, capability_list, ",
        "endpoint_id, webhook_url, webhook_events, notify_email, metadata, labels, timeout_s, max_seconds, max_tokens, ",
        "max_cost_micros, deadline_at, schedule_id, created_by, trace, sampled, built_in, due_at, created_at, ",
        "notify_language)), ",
        "made AS (INSERT INTO tasks (id, run_id, tenant_id, title, description, agent_type, model, resolved, priority, ",
        "capabilities, endpoint_id, webhook_url, webhook_events, notify_email, metadata, labels, timeout_s, ",
        "max_seconds, max_tokens, max_cost_micros, deadline_at, schedule_id, created_by, trace, sampled, created_at, ",
        "notify_language) ",
        "SELECT id, run_id, tenant_id, title, description, agent_type, model, resolved, priority, capabilities, ",
        "endpoint_id, webhook_url, webhook_events, notify_email, metadata, labels, timeout_s, max_seconds, max_tokens, ",
        "max_cost_micros, deadline_at, schedule_id, created_by, trace, sampled, created_at, notify_language FROM new) ",
        "INSERT INTO task_runs (id, task_id, tenant_id, number, latest, state, agent_type, model, resolved, priority, ",
        "capabilities, built_in, timeout_s, queued_at, due_at) ",
        "SELECT run_id, id, tenant_id, 1, true, 0, agent_type, model, resolved, priority, capabilities, built_in, ",
        "timeout_s, created_at, due_at FROM new"
    ))
    .bind::<Array<Uuid>, _>(column!(|t| t.id))
    .bind::<Array<Uuid>, _>(column!(|t| t.run))
    .bind::<Array<Uuid>, _>(column!(|t| t.tenant))
    .bind::<Array<Text>, _>(column!(|t| t.title.as_str()))
    .bind::<Array<Text>, _>(column!(|t| t.description.as_str()))
    .bind::<Array<SmallInt>, _>(column!(|t| t.agent_type))
    .bind::<Array<Text>, _>(column!(|t| t.model.alias.as_str()))
    .bind::<Array<Text>, _>(column!(|t| t.model.stored()))
    .bind::<Array<SmallInt>, _>(column!(|t| t.priority))
    .bind::<Array<Jsonb>, _>(capabilities)
    .bind::<Array<Nullable<Uuid>>, _>(column!(|t| endpoints.get(&t.id).copied()))
    .bind::<Array<Nullable<Text>>, _>(column!(|t| t.webhook.as_ref().map(|webhook| webhook.url.as_str())))
    .bind::<Array<SmallInt>, _>(column!(|t| t.webhook.as_ref().map_or(0, |webhook| webhook.events.bits())))
    .bind::<Array<Nullable<Text>>, _>(column!(|t| t.notify_email.as_deref()))
    .bind::<Array<Nullable<Text>>, _>(column!(|t| t.metadata.as_deref()))
    .bind::<Array<Nullable<Jsonb>>, _>(column!(|t| t.labels.as_ref()))
    .bind::<Array<Integer>, _>(column!(|t| seconds(t.timeout_s)))
    .bind::<Array<Nullable<Integer>>, _>(column!(|t| t.max_seconds.map(seconds)))
    .bind::<Array<Nullable<BigInt>>, _>(column!(|t| t.max_tokens.map(large)))
    .bind::<Array<Nullable<BigInt>>, _>(column!(|t| t.max_cost_micros.map(large)))
    .bind::<Array<Nullable<Timestamptz>>, _>(column!(|t| t.deadline_at))
    .bind::<Array<Nullable<Uuid>>, _>(column!(|t| t.schedule))
    .bind::<Array<Nullable<Uuid>>, _>(column!(|t| t.created_by))
    .bind::<Array<Uuid>, _>(column!(|t| t.trace.trace_uuid()))
    .bind::<Array<Bool>, _>(column!(|t| t.trace.sampled))
    .bind::<Array<Bool>, _>(column!(|t| t.built_in()))
    .bind::<Array<Timestamptz>, _>(column!(|t| due_at(settings, t.deadline_at, now)))
    .bind::<Array<Timestamptz>, _>(column!(|t| t.created_at))
    .bind::<Array<Nullable<Text>>, _>(column!(|t| t.notify_language.map(Locale::as_str)))
    .execute(conn)?;
    Ok(())
}

/// A new run of a task.
#[derive(Clone, Debug)]
pub struct Retried {
    /// The new run.
    pub run: RunId,
    /// Which run of the task it is.
    pub number: i32,
    /// What kind of work it is.
    pub agent_type: AgentType,
}

/// Makes a new run of a task whose last run has ended. Belongs into a transaction.
///
/// # Errors
/// There is no such task; its last run has not ended, its deadline has passed, or the tenant's budget is used up; or the
/// database is away.
pub fn retry(
    conn: &mut PgConnection,
    settings: &Settings,
    tenant: TenantId,
    task: TaskId,
    now: DateTime<Utc>,
) -> Result<Retried> {
    #[derive(QueryableByName)]
    struct Last {
        #[diesel(sql_type = Uuid)]
        id: RunId,
        #[diesel(sql_type = Integer)]
        number: i32,
        #[diesel(sql_type = SmallInt)]
        state: RunState,
        #[diesel(sql_type = SmallInt)]
        agent_type: AgentType,
        #[diesel(sql_type = Nullable<Timestamptz>)]
        deadline_at: Option<DateTime<Utc>>,
        #[diesel(sql_type = Nullable<Uuid>)]
        endpoint_id: Option<SubscriptionId>,
    }
    let last: Option<Last> = prepared(
        "SELECT r.id, r.number, r.state, r.agent_type, t.deadline_at, t.endpoint_id FROM tasks t \
         JOIN task_runs r ON r.id = t.run_id WHERE t.tenant_id = $1 AND t.id = $2 FOR UPDATE OF t, r",
    )
    .bind::<Uuid, _>(tenant)
    .bind::<Uuid, _>(task)
    .get_result(conn)
    .optional()?;
    let last = last.ok_or(Error::NotFound { what: "task" })?;
    let conflict = |reason: String| Err(Error::Conflict { reason });
    if !last.state.is_terminal() {
        return conflict(format!("the task is {}; only one that has ended can be retried", last.state));
    }
    if last.deadline_at.is_some_and(|deadline| deadline <= now) {
        return conflict("the deadline of the task has passed; make a new task".to_owned());
    }
    budget::check(conn, tenant, now)?;
    let endpoint = match last.endpoint_id {
        Some(endpoint) => endpoint::again(conn, tenant, endpoint, now)?,
        None => None,
    };
    let (run, number) = (RunId::new(now), last.number + 1);
    prepared("UPDATE task_runs SET latest = false WHERE id = $1").bind::<Uuid, _>(last.id).execute(conn)?;
    prepared(
        "INSERT INTO task_runs (id, task_id, tenant_id, number, latest, state, agent_type, model, resolved, priority, \
            capabilities, built_in, timeout_s, queued_at, due_at) \
         SELECT $1, task_id, tenant_id, $3, true, 0, agent_type, model, resolved, priority, capabilities, built_in, \
            timeout_s, $4, $5 FROM task_runs WHERE id = $2",
    )
    .bind::<Uuid, _>(run)
    .bind::<Uuid, _>(last.id)
    .bind::<Integer, _>(number)
    .bind::<Timestamptz, _>(now)
    .bind::<Timestamptz, _>(due_at(settings, last.deadline_at, now))
    .execute(conn)?;
    prepared("UPDATE tasks SET run_id = $2, endpoint_id = $3 WHERE id = $1")
        .bind::<Uuid, _>(task)
        .bind::<Uuid, _>(run)
        .bind::<Nullable<Uuid>, _>(endpoint)
        .execute(conn)?;
    Ok(Retried { run, number, agent_type: last.agent_type })
}

/// Removes tasks that were made too long ago and have ended, with all that belongs to them; so many at most. Returns how many. A
/// named system path.
///
/// # Errors
/// When the database is away.
pub fn forget(conn: &mut PgConnection, settings: &Settings, limit: i64, now: DateTime<Utc>) -> Result<usize> {
    Ok(prepared(
        "DELETE FROM tasks WHERE id IN (SELECT t.id FROM tasks t JOIN task_runs r ON r.id = t.run_id \
            WHERE t.created_at < $1 AND r.state >= 3 ORDER BY t.created_at LIMIT $2)",
    )
    .bind::<Timestamptz, _>(now - TimeDelta::days(settings.retention_days.into()))
    .bind::<BigInt, _>(limit)
    .execute(conn)?)
}
