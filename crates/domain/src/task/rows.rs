//! The rows that the ledger reads and writes, many at once.

use chrono::{DateTime, NaiveDate, Utc};
use diesel::{
    PgConnection, QueryableByName, RunQueryDsl,
    sql_types::{Array, BigInt, Bool, Date, Integer, Nullable, SmallInt, Text, Timestamptz, Uuid},
};

use super::{
    AgentType, Run, RunState, Settings, Usage,
    run::{Asked, Bounds},
    told::NewLine,
    webhook::Events,
};
use crate::{
    Result,
    db::prepared::prepared,
    id::{EventId, InputId, LeaseId, RunId, SubscriptionId, TaskId, TenantId},
    person::Locale,
};

/// A run with what is needed of its task and of the question that was asked last.
#[derive(Clone, Debug, QueryableByName)]
pub(super) struct Row {
    #[diesel(sql_type = Uuid)]
    pub(super) id: RunId,
    #[diesel(sql_type = Uuid)]
    pub(super) task_id: TaskId,
    #[diesel(sql_type = Uuid)]
    pub(super) tenant_id: TenantId,
    #[diesel(sql_type = SmallInt)]
    pub(super) agent_type: AgentType,
    #[diesel(sql_type = Text)]
    pub(super) model: String,
    #[diesel(sql_type = Text)]
    pub(super) title: String,
    #[diesel(sql_type = Nullable<Text>)]
    pub(super) metadata: Option<String>,
    #[diesel(sql_type = Nullable<Uuid>)]
    pub(super) endpoint_id: Option<SubscriptionId>,
    #[diesel(sql_type = SmallInt)]
    webhook_events: i16,
    #[diesel(sql_type = Nullable<Text>)]
    pub(super) notify_email: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    notify_language: Option<String>,
    #[diesel(sql_type = Uuid)]
    pub(super) trace: uuid::Uuid,
    #[diesel(sql_type = Bool)]
    pub(super) sampled: bool,
    #[diesel(sql_type = BigInt)]
    pub(super) output_seq: i64,
    #[diesel(sql_type = Nullable<Uuid>)]
    pub(super) last_event: Option<EventId>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub(super) due_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = SmallInt)]
    state: RunState,
    #[diesel(sql_type = Nullable<Integer>)]
    max_seconds: Option<i32>,
    #[diesel(sql_type = Nullable<BigInt>)]
    max_tokens: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    max_cost_micros: Option<i64>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    deadline_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Timestamptz)]
    queued_at: DateTime<Utc>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    held_until: Option<DateTime<Utc>>,
    #[diesel(sql_type = SmallInt)]
    attempt: i16,
    #[diesel(sql_type = Nullable<Uuid>)]
    lease: Option<LeaseId>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    lease_until: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    attempt_started_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    attempt_deadline: Option<DateTime<Utc>>,
    #[diesel(sql_type = BigInt)]
    ran_ms: i64,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    ended_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Bool)]
    told_started: bool,
    #[diesel(sql_type = Nullable<SmallInt>)]
    percent: Option<i16>,
    #[diesel(sql_type = Nullable<Text>)]
    progress_message: Option<String>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    progress_told_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Bool)]
    progress_waits: bool,
    #[diesel(sql_type = Nullable<BigInt>)]
    checkpoint_seq: Option<i64>,
    #[diesel(sql_type = BigInt)]
    input_tokens: i64,
    #[diesel(sql_type = BigInt)]
    output_tokens: i64,
    #[diesel(sql_type = BigInt)]
    cost_micros: i64,
    #[diesel(sql_type = BigInt)]
    attempt_input_tokens: i64,
    #[diesel(sql_type = BigInt)]
    attempt_output_tokens: i64,
    #[diesel(sql_type = BigInt)]
    attempt_cost_micros: i64,
    #[diesel(sql_type = BigInt)]
    output_bytes: i64,
    #[diesel(sql_type = Nullable<Uuid>)]
    asked_id: Option<InputId>,
    #[diesel(sql_type = Nullable<Array<Text>>)]
    asked_choices: Option<Vec<String>>,
    #[diesel(sql_type = Nullable<Text>)]
    asked_schema: Option<String>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    asked_expires_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Text>)]
    asked_answer: Option<String>,
}

impl Row {
    /// The events that go to the endpoint.
    pub(super) fn webhook_events(&self) -> Events {
        Events::of_bits(self.webhook_events)
    }

    /// The language of mail about it.
    pub(super) fn notify_locale(&self) -> Locale {
        self.notify_language.as_deref().map_or_else(Locale::default, Locale::of_stored)
    }

    /// As the rules see it.
    pub(super) fn run(&self) -> Run {
        let unsigned = |number: i64| u64::try_from(number).unwrap_or(0);
        let asked = self.asked_id.zip(self.asked_expires_at).map(|(input, expires_at)| Asked {
            input,
            choices: self.asked_choices.clone(),
            schema: self.asked_schema.clone(),
            expires_at,
            answer: self.asked_answer.clone(),
        });
        Run {
            state: self.state,
            bounds: Bounds {
                max_seconds: self.max_seconds.and_then(|seconds| u32::try_from(seconds).ok()),
                max_tokens: self.max_tokens.map(unsigned),
                max_cost_micros: self.max_cost_micros.map(unsigned),
                deadline_at: self.deadline_at,
            },
            queued_at: self.queued_at,
            held_until: self.held_until,
            attempt: u16::try_from(self.attempt).unwrap_or(0),
            lease: self.lease,
            lease_until: self.lease_until,
            attempt_started_at: self.attempt_started_at,
            attempt_deadline: self.attempt_deadline,
            ran_ms: unsigned(self.ran_ms),
            ended_at: self.ended_at,
            told_started: self.told_started,
            percent: self.percent.and_then(|percent| u8::try_from(percent).ok()),
            progress_message: self.progress_message.clone(),
            progress_told_at: self.progress_told_at,
            progress_waits: self.progress_waits,
            checkpoint_seq: self.checkpoint_seq.map(unsigned),
            result: None,
            summary: None,
            error: None,
            error_code: None,
            usage: Usage::of_columns([self.input_tokens, self.output_tokens, self.cost_micros]),
            attempt_usage: Usage::of_columns([
                self.attempt_input_tokens,
                self.attempt_output_tokens,
                self.attempt_cost_micros,
            ]),
            output_bytes: unsigned(self.output_bytes),
            asked,
        }
    }
}

/// Runs, locked in the order of their ids until the transaction ends. Of every tenant: whose a run is, is looked at by the
/// ledger.
pub(super) fn lock(conn: &mut PgConnection, runs: &[RunId]) -> Result<Vec<Row>> {
    Ok(prepared(concat!(
        "SELECT r.id, r.task_id, r.tenant_id, r.agent_type, r.model, t.title, t.metadata, t.endpoint_id, ",
        "t.webhook_events, t.notify_email, t.notify_language, t.trace, t.sampled, r.output_seq, r.last_event, r.due_at, ",
        "r.state, t.max_seconds, t.max_tokens, t.max_cost_micros, t.deadline_at, r.queued_at, r.held_until, r.attempt, r.lease, r.lease_until, ",
        "r.attempt_started_at, r.attempt_deadline, r.ran_ms, r.ended_at, r.told_started, r.percent, ",
        "r.progress_message, r.progress_told_at, r.progress_waits, r.checkpoint_seq, r.input_tokens, r.output_tokens, ",
        "r.cost_micros, r.attempt_input_tokens, r.attempt_output_tokens, r.attempt_cost_micros, r.output_bytes, ",
        "q.id AS asked_id, q.choices AS asked_choices, q.schema AS asked_schema, q.expires_at AS asked_expires_at, q.answer AS asked_answer ",
        "FROM task_runs r JOIN tasks t ON t.id = r.task_id LEFT JOIN LATERAL ( ",
        "SELECT i.id, i.choices, i.schema, i.expires_at, i.answer FROM task_inputs i WHERE i.run_id = r.id ",
        "ORDER BY i.id DESC LIMIT 1) q ON true ",
        "WHERE r.id = ANY($1) ORDER BY r.id FOR UPDATE OF r"
    ))
    .bind::<Array<Uuid>, _>(runs)
    .load(conn)?)
}

/// A run as it is to be written.
#[derive(Debug)]
pub(super) struct Changed {
    pub(super) id: RunId,
    pub(super) run: Run,
    pub(super) checkpoint: Option<String>,
    pub(super) output_seq: i64,
    pub(super) last_event: Option<EventId>,
}

fn large(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Writes runs back, in one statement.
pub(super) fn write(conn: &mut PgConnection, settings: &Settings, changed: &[Changed]) -> Result<()> {
    if changed.is_empty() {
        return Ok(());
    }
    macro_rules! column {
        ($take:expr) => {
            changed.iter().map($take).collect::<Vec<_>>()
        };
    }
    prepared(concat!(
        "UPDATE task_runs r SET state = n.state, queued_at = n.queued_at, held_until = n.held_until, ",
        "attempt = n.attempt, lease = n.lease, lease_until = n.lease_until, ",
        "attempt_started_at = n.attempt_started_at, attempt_deadline = n.attempt_deadline, ran_ms = n.ran_ms, ",
        "due_at = n.due_at, ended_at = n.ended_at, told_started = n.told_started, percent = n.percent, ",
        "progress_message = n.progress_message, progress_told_at = n.progress_told_at, ",
        "progress_waits = n.progress_waits, checkpoint_seq = n.checkpoint_seq, ",
        "checkpoint = CASE WHEN n.checkpoint_seq IS NOT NULL THEN COALESCE(n.checkpoint, r.checkpoint) END, ",
        "result = n.result, summary = n.summary, error = n.error, error_code = n.error_code, ",
        "input_tokens = n.input_tokens, output_tokens = n.output_tokens, cost_micros = n.cost_micros, ",
        "attempt_input_tokens = n.attempt_input_tokens, attempt_output_tokens = n.attempt_output_tokens, ",
        "attempt_cost_micros = n.attempt_cost_micros, output_seq = n.output_seq, output_bytes = n.output_bytes, ",
        "last_event = n.last_event ",
        "FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, ",
        "$22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32) AS n (id, state, queued_at, held_until, attempt, ",
        "lease, lease_until, attempt_started_at, attempt_deadline, ran_ms, due_at, ended_at, told_started, percent, ",
        "progress_message, progress_told_at, progress_waits, checkpoint_seq, checkpoint, result, summary, error, ",
        "error_code, input_tokens, output_tokens, cost_micros, attempt_input_tokens, attempt_output_tokens, ",
        "attempt_cost_micros, output_seq, output_bytes, last_event) WHERE r.id = n.id"
    ))
    .bind::<Array<Uuid>, _>(column!(|c| c.id))
    .bind::<Array<SmallInt>, _>(column!(|c| c.run.state))
    .bind::<Array<Timestamptz>, _>(column!(|c| c.run.queued_at))
    .bind::<Array<Nullable<Timestamptz>>, _>(column!(|c| c.run.held_until))
    .bind::<Array<SmallInt>, _>(column!(|c| i16::try_from(c.run.attempt).unwrap_or(i16::MAX)))
    .bind::<Array<Nullable<Uuid>>, _>(column!(|c| c.run.lease))
    .bind::<Array<Nullable<Timestamptz>>, _>(column!(|c| c.run.lease_until))
    .bind::<Array<Nullable<Timestamptz>>, _>(column!(|c| c.run.attempt_started_at))
    .bind::<Array<Nullable<Timestamptz>>, _>(column!(|c| c.run.attempt_deadline))
    .bind::<Array<BigInt>, _>(column!(|c| large(c.run.ran_ms)))
    .bind::<Array<Nullable<Timestamptz>>, _>(column!(|c| c.run.due_at(settings)))
    .bind::<Array<Nullable<Timestamptz>>, _>(column!(|c| c.run.ended_at))
    .bind::<Array<Bool>, _>(column!(|c| c.run.told_started))
    .bind::<Array<Nullable<SmallInt>>, _>(column!(|c| c.run.percent.map(i16::from)))
    .bind::<Array<Nullable<Text>>, _>(column!(|c| c.run.progress_message.as_deref()))
    .bind::<Array<Nullable<Timestamptz>>, _>(column!(|c| c.run.progress_told_at))
    .bind::<Array<Bool>, _>(column!(|c| c.run.progress_waits))
    .bind::<Array<Nullable<BigInt>>, _>(column!(|c| c.run.checkpoint_seq.map(large)))
    .bind::<Array<Nullable<Text>>, _>(column!(|c| c.checkpoint.as_deref()))
    .bind::<Array<Nullable<Text>>, _>(column!(|c| c.run.result.as_deref()))
    .bind::<Array<Nullable<Text>>, _>(column!(|c| c.run.summary.as_deref()))
    .bind::<Array<Nullable<Text>>, _>(column!(|c| c.run.error.as_deref()))
    .bind::<Array<Nullable<Text>>, _>(column!(|c| c.run.error_code.as_deref()))
    .bind::<Array<BigInt>, _>(column!(|c| large(c.run.usage.input_tokens)))
    .bind::<Array<BigInt>, _>(column!(|c| large(c.run.usage.output_tokens)))
    .bind::<Array<BigInt>, _>(column!(|c| large(c.run.usage.cost_micros)))
    .bind::<Array<BigInt>, _>(column!(|c| large(c.run.attempt_usage.input_tokens)))
    .bind::<Array<BigInt>, _>(column!(|c| large(c.run.attempt_usage.output_tokens)))
    .bind::<Array<BigInt>, _>(column!(|c| large(c.run.attempt_usage.cost_micros)))
    .bind::<Array<BigInt>, _>(column!(|c| c.output_seq))
    .bind::<Array<BigInt>, _>(column!(|c| large(c.run.output_bytes)))
    .bind::<Array<Nullable<Uuid>>, _>(column!(|c| c.last_event))
    .execute(conn)?;
    Ok(())
}

/// Keeps lines for listeners.
pub(super) fn insert_lines(conn: &mut PgConnection, lines: &[NewLine]) -> Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    prepared("INSERT INTO task_outputs (run_id, seq, kind, data) SELECT * FROM unnest($1, $2, $3, $4)")
        .bind::<Array<Uuid>, _>(lines.iter().map(|line| line.run).collect::<Vec<_>>())
        .bind::<Array<BigInt>, _>(lines.iter().map(|line| line.seq).collect::<Vec<_>>())
        .bind::<Array<SmallInt>, _>(lines.iter().map(|line| line.kind.code()).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(lines.iter().map(|line| line.data.as_str()).collect::<Vec<_>>())
        .execute(conn)?;
    Ok(())
}

/// What was used, in the row it belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct UsageKey {
    pub(super) tenant: TenantId,
    pub(super) month: NaiveDate,
    pub(super) model: String,
    pub(super) agent_type: AgentType,
}

/// Adds to what was used; in the order of the keys, so that two who add do not wait for each other.
pub(super) fn add_usage(
    conn: &mut PgConnection,
    sums: &std::collections::BTreeMap<UsageKey, (i64, Usage)>,
) -> Result<()> {
    if sums.is_empty() {
        return Ok(());
    }
    let of = |at: usize| sums.values().map(move |(_, usage)| usage.columns()[at]).collect::<Vec<_>>();
    prepared(concat!(
        "INSERT INTO task_usage AS u (tenant_id, month, model, agent_type, runs, input_tokens, output_tokens, cost_micros) ",
        "SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8) ",
        "ON CONFLICT (tenant_id, month, model, agent_type) DO UPDATE SET runs = u.runs + EXCLUDED.runs, ",
        "input_tokens = u.input_tokens + EXCLUDED.input_tokens, ",
        "output_tokens = u.output_tokens + EXCLUDED.output_tokens, cost_micros = u.cost_micros + EXCLUDED.cost_micros"
    ))
    .bind::<Array<Uuid>, _>(sums.keys().map(|key| key.tenant).collect::<Vec<_>>())
    .bind::<Array<Date>, _>(sums.keys().map(|key| key.month).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(sums.keys().map(|key| key.model.as_str()).collect::<Vec<_>>())
    .bind::<Array<SmallInt>, _>(sums.keys().map(|key| key.agent_type).collect::<Vec<_>>())
    .bind::<Array<BigInt>, _>(sums.values().map(|(runs, _)| *runs).collect::<Vec<_>>())
    .bind::<Array<BigInt>, _>(of(0))
    .bind::<Array<BigInt>, _>(of(1))
    .bind::<Array<BigInt>, _>(of(2))
    .execute(conn)?;
    Ok(())
}
