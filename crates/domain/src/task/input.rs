//! Questions of runs and their answers: by the API, by the link in the webhook, or in the receiver's reply to it.

use chrono::{DateTime, Utc};
use diesel::{
    OptionalExtension, PgConnection, QueryableByName, RunQueryDsl,
    sql_types::{Array, Nullable, Text, Timestamptz, Uuid},
};

use super::{
    Ledger, Question, Refused, RunState, Step,
    ledger::{By, Move, Written},
    run::clean,
};
use crate::{
    Result,
    db::prepared::prepared,
    id::{InputId, RunId, TaskId, TenantId},
    wire::{Json, to_canonical},
};

/// What a batch changes of questions.
#[derive(Debug, Default)]
pub(super) struct Changes {
    kept: Vec<(RunId, TenantId, InputId, Question, DateTime<Utc>)>,
    answered: Vec<(InputId, String, String)>,
    closed: Vec<RunId>,
}

impl Changes {
    pub(super) fn keep(
        &mut self,
        (run, tenant): (RunId, TenantId),
        input: InputId,
        question: Question,
        expires_at: DateTime<Utc>,
    ) {
        self.kept.push((run, tenant, input, question, expires_at));
    }

    pub(super) fn answer(&mut self, input: InputId, answer: String, by: String) {
        self.answered.push((input, answer, by));
    }

    pub(super) fn close(&mut self, run: RunId) {
        self.closed.push(run);
    }
}

pub(super) fn write(conn: &mut PgConnection, changes: &Changes, now: DateTime<Utc>) -> Result<()> {
    // Questions are rare: one statement each.
    for (run, tenant, input, question, expires_at) in &changes.kept {
        prepared(
            "INSERT INTO task_inputs (id, run_id, tenant_id, question, choices, schema, asked_at, expires_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind::<Uuid, _>(*input)
        .bind::<Uuid, _>(*run)
        .bind::<Uuid, _>(*tenant)
        .bind::<Text, _>(&question.question)
        .bind::<Nullable<Array<Text>>, _>(question.choices.as_ref())
        .bind::<Nullable<Text>, _>(question.schema.as_deref())
        .bind::<Timestamptz, _>(now)
        .bind::<Timestamptz, _>(*expires_at)
        .execute(conn)?;
    }
    for (input, answer, by) in &changes.answered {
        prepared("UPDATE task_inputs SET answer = $2, answered_at = $3, answered_by = $4 WHERE id = $1")
            .bind::<Uuid, _>(*input)
            .bind::<Text, _>(answer)
            .bind::<Timestamptz, _>(now)
            .bind::<Text, _>(by)
            .execute(conn)?;
    }
    if !changes.closed.is_empty() {
        prepared("UPDATE task_inputs SET closed_at = $2 WHERE run_id = ANY($1) AND answer IS NULL AND closed_at IS NULL")
            .bind::<Array<Uuid>, _>(&changes.closed)
            .bind::<Timestamptz, _>(now)
            .execute(conn)?;
    }
    Ok(())
}

/// A question as people see it.
#[derive(Clone, Debug, QueryableByName)]
pub struct InputRow {
    /// Identity: the `request_id`.
    #[diesel(sql_type = Uuid)]
    pub id: InputId,
    /// The run that asks.
    #[diesel(sql_type = Uuid)]
    pub run_id: RunId,
    /// Its task.
    #[diesel(sql_type = Uuid)]
    pub task_id: TaskId,
    /// Whose.
    #[diesel(sql_type = Uuid)]
    pub tenant_id: TenantId,
    /// What the task is called.
    #[diesel(sql_type = Text)]
    pub title: String,
    /// Where the run stands.
    #[diesel(sql_type = diesel::sql_types::SmallInt)]
    pub state: RunState,
    /// The question.
    #[diesel(sql_type = Text)]
    pub question: String,
    /// The answers it may have.
    #[diesel(sql_type = Nullable<Array<Text>>)]
    pub choices: Option<Vec<String>>,
    /// Canonical JSON of a schema.
    #[diesel(sql_type = Nullable<Text>)]
    pub schema: Option<String>,
    /// When it was asked.
    #[diesel(sql_type = Timestamptz)]
    pub asked_at: DateTime<Utc>,
    /// Until when it can be answered.
    #[diesel(sql_type = Timestamptz)]
    pub expires_at: DateTime<Utc>,
    /// Canonical JSON of the answer.
    #[diesel(sql_type = Nullable<Text>)]
    pub answer: Option<String>,
    /// When that came.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub answered_at: Option<DateTime<Utc>>,
    /// From whom.
    #[diesel(sql_type = Nullable<Text>)]
    pub answered_by: Option<String>,
}

impl InputRow {
    /// Whether an answer is taken.
    #[must_use]
    pub fn is_open(&self, now: DateTime<Utc>) -> bool {
        self.answer.is_none() && self.state == RunState::NeedsInput && self.expires_at > now
    }
}

const ROW: &str = "SELECT i.id, i.run_id, r.task_id, i.tenant_id, t.title, r.state, i.question, i.choices, i.schema, \
     i.asked_at, i.expires_at, i.answer, i.answered_at, i.answered_by \
     FROM task_inputs i JOIN task_runs r ON r.id = i.run_id JOIN tasks t ON t.id = r.task_id";

/// A question, whoever owns it: for whoever shows the link that was made for it.
///
/// # Errors
/// When the database is away.
pub fn by_link(conn: &mut PgConnection, input: InputId) -> Result<Option<InputRow>> {
    Ok(prepared(format!("{ROW} WHERE i.id = $1")).bind::<Uuid, _>(input).get_result(conn).optional()?)
}

/// The questions of a task's runs, in the order in which they were asked.
///
/// # Errors
/// When the database is away.
pub fn of_task(conn: &mut PgConnection, tenant: TenantId, task: TaskId) -> Result<Vec<InputRow>> {
    Ok(prepared(format!("{ROW} WHERE r.task_id = $2 AND i.tenant_id = $1 ORDER BY i.id LIMIT 1000"))
        .bind::<Uuid, _>(tenant)
        .bind::<Uuid, _>(task)
        .load(conn)?)
}

/// What became of an answer.
#[derive(Clone, Debug)]
pub enum Answered {
    /// The run is queued again; there is something to be rung.
    Taken(Written),
    /// The same answer was given before.
    Repeated,
    /// It was not taken.
    Refused(Refused),
}

/// Answers a question. The same answer again is [`Answered::Repeated`], another is refused as a conflict. Belongs into a
/// transaction.
///
/// # Errors
/// When the database is away.
pub fn answer(
    conn: &mut PgConnection,
    ledger: &Ledger,
    tenant: TenantId,
    input: InputId,
    answer: &Json,
    by: &str,
    now: DateTime<Utc>,
) -> Result<Answered> {
    let row = by_link(conn, input)?.filter(|row| row.tenant_id == tenant);
    let Some(row) = row else { return Ok(Answered::Refused(Refused::Unknown)) };
    let answer = clean(String::from_utf8_lossy(&to_canonical(answer)).into_owned());
    if let Some(before) = row.answer {
        return Ok(if before == answer {
            Answered::Repeated
        } else {
            Answered::Refused(Refused::Conflict(
                "this question was answered already, and otherwise".to_owned(),
            ))
        });
    }
    let step = Step::Answer { input, answer, by: by.to_owned() };
    let written = ledger.apply(conn, &[Move { run: row.run_id, by: By::Owner(tenant), step }], now)?;
    Ok(match written.results.first() {
        Some(Err(refused)) => Answered::Refused(refused.clone()),
        Some(Ok(applied)) if !applied.changed => Answered::Repeated,
        Some(Ok(_)) | None => Answered::Taken(written),
    })
}

/// A question and its answer, as an executor that goes on needs them.
#[derive(Clone, Debug, QueryableByName)]
pub struct Exchange {
    /// The question.
    #[diesel(sql_type = Text)]
    pub question: String,
    /// Canonical JSON of the answer.
    #[diesel(sql_type = Nullable<Text>)]
    pub answer: Option<String>,
}

/// What a run asked so far, in order. For whoever holds it: a named system path.
///
/// # Errors
/// When the database is away.
pub fn conversation(conn: &mut PgConnection, run: RunId) -> Result<Vec<Exchange>> {
    Ok(prepared("SELECT question, answer FROM task_inputs WHERE run_id = $1 ORDER BY id")
        .bind::<Uuid, _>(run)
        .load(conn)?)
}
