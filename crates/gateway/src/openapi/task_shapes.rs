//! The shapes of bodies about tasks: made, answered, scheduled, and what they may use, for the OpenAPI document.

use serde_json::Value;
use utoipa::ToSchema;

/// A task to make.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct TaskRequest {
    /// What the task is called: 1 to 200 characters.
    #[schema(min_length = 1, max_length = 200)]
    title: String,
    /// What is to be done: 1 to 100,000 characters. The work itself may stand in it, such as a text to be summarized.
    #[schema(min_length = 1, max_length = 100_000)]
    description: String,
    /// `general` (the default) and `plan` are done by the built-in executor or by a worker, `build` and `explore` by workers
    /// only.
    #[schema(example = "general")]
    agent_type: Option<String>,
    /// One of the models that `GET /v1/automation` names, or `provider:model`.
    #[schema(example = "claude-sonnet")]
    model: Option<String>,
    /// Where each step is told with a POST: https. One on `zapier.com/hooks/callback/` is told the end only.
    #[schema(max_length = 2048)]
    webhook_url: Option<String>,
    /// Which steps: `task_started`, `task_progress`, `task_completed`, `task_failed`, `task_needs_input`, `task_cancelled`. All
    /// but `task_progress` by default.
    webhook_events: Option<Vec<String>>,
    /// Key of `X-CodeTether-Signature`; the tenant's or the installation's by default. 1 to 256 bytes.
    webhook_secret: Option<String>,
    /// 0 to 100; higher goes first. 0 by default.
    #[schema(minimum = 0, maximum = 100)]
    priority: Option<u8>,
    /// Who gets a mail at the end, and when an answer is needed.
    notify_email: Option<String>,
    /// In which language: `en` or `fr`. By default the one of the two that `Accept-Language` of this request prefers, else
    /// English.
    notify_language: Option<String>,
    /// Anything; comes back with the task and in its events. At most 16 KiB.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Value>,
    /// When the result is of no use any more: RFC 3339 with an offset, in the future.
    #[schema(format = DateTime)]
    deadline_at: Option<String>,
    /// Seconds that an attempt may take: 60 to 604,800; 600 by default.
    #[schema(minimum = 60, maximum = 604_800)]
    task_timeout_seconds: Option<u32>,
    /// Seconds that all attempts together may take: 1 to 604,800.
    #[schema(minimum = 1, maximum = 604_800)]
    max_seconds: Option<u32>,
    /// Tokens, read and written, that the task may use.
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    max_tokens: Option<u64>,
    /// US dollars that the task may cost.
    max_cost: Option<f64>,
    /// What a worker has to be able to do; such a task is done by workers only. At most 10.
    #[schema(max_items = 10)]
    capabilities: Option<Vec<String>>,
}

/// Why a task is cancelled.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct CancelRequest {
    /// For people; at most 500 characters.
    #[schema(max_length = 500)]
    reason: Option<String>,
}

/// An answer to a question of a task.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct AnswerRequest {
    /// The question, from `task_needs_input`.
    request_id: String,
    /// The answer: one of the choices, if there are some, else any JSON; at most 64 KiB.
    answer: Value,
}

/// An answer by a link.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct LinkAnswerRequest {
    /// The answer: one of the choices, if there are some, else any JSON; at most 64 KiB.
    answer: Value,
}

/// A schedule to make.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct ScheduleRequest {
    /// What it is called: 1 to 200 characters.
    #[schema(min_length = 1, max_length = 200)]
    name: String,
    /// Minute, hour, day of month, month, day of week.
    #[schema(example = "0 9 * * MON-FRI")]
    cron: String,
    /// The time zone in which that is meant; `UTC` by default.
    #[schema(example = "Europe/Paris")]
    time_zone: Option<String>,
    /// Whether it ticks; true by default.
    enabled: Option<bool>,
    /// What becomes of ticks that passed while nobody fired: `skip` (the default), `once` or `all`.
    missed: Option<String>,
    /// The task that it makes, without `deadline_at` and `webhook_secret`.
    task: TaskRequest,
}

/// What to change of a schedule.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct SchedulePatch {
    /// What it is called.
    #[schema(min_length = 1, max_length = 200)]
    name: Option<String>,
    /// Minute, hour, day of month, month, day of week.
    cron: Option<String>,
    /// The time zone in which that is meant.
    time_zone: Option<String>,
    /// Whether it ticks.
    enabled: Option<bool>,
    /// `skip`, `once` or `all`.
    missed: Option<String>,
    /// The task that it makes.
    #[schema(value_type = Option<Object>)]
    task: Option<Value>,
}

/// What may be used in a month.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct BudgetRequest {
    /// Tokens, read and written.
    #[schema(minimum = 0)]
    monthly_tokens: Option<i64>,
    /// US dollars.
    #[schema(minimum = 0)]
    monthly_cost: Option<f64>,
}

/// A key at a provider of language models.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct LlmKeyRequest {
    /// The key; 1 to 500 characters.
    #[schema(min_length = 1, max_length = 500)]
    api_key: String,
}
