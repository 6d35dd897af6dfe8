//! How a task looks wherever one is shown.

use chrono::{DateTime, Utc};
use hookyard_domain::{
    event::wire_time,
    task::{Usage, list::TaskRow},
};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// What was used, over all attempts of the run.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TaskUsage)]
pub(crate) struct UsageView {
    /// Tokens that the model read.
    #[schema(example = 412)]
    input_tokens: u64,
    /// Tokens that it wrote.
    #[schema(example = 96)]
    output_tokens: u64,
    /// Both together.
    #[schema(example = 508)]
    total_tokens: u64,
    /// What that cost, in US dollars.
    #[schema(example = 0.002676)]
    cost_usd: f64,
}

impl From<Usage> for UsageView {
    fn from(usage: Usage) -> Self {
        Self {
            input_tokens: usage.input_tokens,
            output_tokens: usage.output_tokens,
            total_tokens: usage.tokens(),
            cost_usd: usage.cost_micros as f64 / 1e6,
        }
    }
}

/// How far a run is, as it says itself.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TaskProgress)]
pub(crate) struct ProgressView {
    /// 0 to 100.
    #[schema(example = 40)]
    percent: Option<i16>,
    /// In words.
    #[schema(example = "reading the third chapter")]
    message: Option<String>,
}

/// A task with its latest run.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Task)]
pub(crate) struct View {
    /// The task.
    #[schema(example = "550e8400-e29b-41d4-a716-446655440000")]
    task_id: String,
    /// The run that this is about: the latest of the task.
    #[schema(example = "660e8400-e29b-41d4-a716-446655440001")]
    run_id: String,
    /// Which run of the task it is, from 1.
    #[schema(example = 1)]
    run_number: i32,
    /// Where it stands: `queued`, `running`, `needs_input`, `completed`, `failed` or `cancelled`.
    #[schema(example = "completed")]
    status: &'static str,
    /// What the task is called.
    #[schema(example = "Analyze customer feedback")]
    title: String,
    /// What is to be done.
    #[schema(
        example = "Analyze the following customer feedback and summarize key points: great support, slow export."
    )]
    description: String,
    /// `general`, `plan`, `build` or `explore`.
    #[schema(example = "general")]
    agent_type: &'static str,
    /// The model, by the name that the task called it.
    #[schema(example = "claude-sonnet")]
    model: String,
    /// 0 to 100; higher goes first.
    #[schema(example = 0)]
    priority: i16,
    /// When the task was made.
    #[schema(example = "2025-01-19T10:30:00.000Z", format = DateTime)]
    created_at: String,
    /// When somebody began with the run.
    #[schema(example = "2025-01-19T10:30:01.000Z", format = DateTime)]
    started_at: Option<String>,
    /// When the run ended, however it did.
    #[schema(example = "2025-01-19T10:35:00.000Z", format = DateTime)]
    completed_at: Option<String>,
    /// For how long somebody had it, in seconds, over all attempts.
    #[schema(example = 299.2)]
    runtime_seconds: f64,
    /// How often somebody began with the run.
    #[schema(example = 1)]
    attempts: i32,
    /// How far it is.
    progress: ProgressView,
    /// What came of it.
    #[schema(example = "The feedback praises support and asks for a faster export.")]
    result: Option<String>,
    /// The result in short.
    #[schema(example = "The feedback praises support and asks for a faster export.")]
    result_summary: Option<String>,
    /// Why it failed or was cancelled, for people.
    error: Option<String>,
    /// Why it failed, for programs.
    error_code: Option<String>,
    /// What was used.
    usage: UsageView,
    /// Where its steps are told.
    #[schema(example = "https://hooks.zapier.com/hooks/catch/123/abc/")]
    webhook_url: Option<String>,
    /// Which steps are.
    #[schema(example = json!(["task_started", "task_completed", "task_failed", "task_needs_input", "task_cancelled"]))]
    webhook_events: Vec<&'static str>,
    /// Who gets a mail at the end, and when it asks something.
    notify_email: Option<String>,
    /// In which language: `en` or `fr`; `null` = English, because nobody said.
    notify_language: Option<String>,
    /// As it was given.
    #[schema(value_type = Object)]
    metadata: Box<RawValue>,
    /// Seconds that an attempt may take.
    #[schema(example = 600)]
    task_timeout_seconds: i32,
    /// Seconds that all attempts together may take.
    max_seconds: Option<i32>,
    /// Tokens that may be used.
    max_tokens: Option<i64>,
    /// US dollars that may be spent.
    max_cost: Option<f64>,
    /// When the result is of no use any more.
    #[schema(format = DateTime)]
    deadline_at: Option<String>,
    /// The worker that has or had it; `null` = the built-in executor, or nobody yet.
    worker_id: Option<String>,
}

impl View {
    pub(crate) fn new(row: TaskRow, now: DateTime<Utc>) -> Self {
        let metadata = row.metadata.clone().unwrap_or_else(|| "{}".to_owned());
        Self {
            task_id: row.id.to_string(),
            run_id: row.run_id.to_string(),
            run_number: row.number,
            status: row.state.as_str(),
            agent_type: row.agent_type.as_str(),
            created_at: wire_time(row.created_at),
            started_at: row.started_at.map(wire_time),
            completed_at: row.ended_at.map(wire_time),
            runtime_seconds: row.runtime_ms(now) as f64 / 1e3,
            attempts: row.claims,
            progress: ProgressView { percent: row.percent, message: row.progress_message.clone() },
            usage: row.usage().into(),
            webhook_events: row.webhook_events().names(),
            // It was written as JSON.
            metadata: RawValue::from_string(metadata).unwrap_or_else(|_| RawValue::NULL.to_owned()),
            task_timeout_seconds: row.timeout_s,
            max_seconds: row.max_seconds,
            max_tokens: row.max_tokens,
            max_cost: row.max_cost_micros.map(|micros| micros as f64 / 1e6),
            deadline_at: row.deadline_at.map(wire_time),
            worker_id: row.worker_id.map(|worker| worker.to_string()),
            title: row.title,
            description: row.description,
            model: row.model,
            priority: row.priority,
            result: row.result,
            result_summary: row.summary,
            error: row.error,
            error_code: row.error_code,
            webhook_url: row.webhook_url,
            notify_email: row.notify_email,
            notify_language: row.notify_language,
        }
    }
}
