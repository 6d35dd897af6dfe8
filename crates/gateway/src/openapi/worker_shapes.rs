//! The shapes of what workers say, and of the tokens that they say it with, for the OpenAPI document.

use serde_json::Value;
use utoipa::ToSchema;

/// What an attempt of a worker used so far.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct WorkerUsage {
    /// Tokens that the model read.
    #[schema(minimum = 0)]
    input_tokens: Option<u64>,
    /// Tokens that it wrote.
    #[schema(minimum = 0)]
    output_tokens: Option<u64>,
    /// US dollars; by default what the tokens cost as the installation's prices say.
    #[schema(minimum = 0)]
    cost_usd: Option<f64>,
}

/// Who asks for work.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct ClaimingWorker {
    /// What the worker calls itself; workers of one token are told apart by it.
    #[schema(min_length = 1, max_length = 100)]
    name: String,
    /// Which program it is.
    #[schema(max_length = 50)]
    version: Option<String>,
    /// `general`, `plan`, `build`, `explore`; all that the token allows by default.
    #[schema(min_items = 1)]
    agent_types: Option<Vec<String>>,
    /// Models, by the names that tasks call them; all that the token allows by default.
    #[schema(min_items = 1, max_items = 20)]
    models: Option<Vec<String>>,
    /// What else it is able to do: tasks that ask for capabilities go to workers that have all of them.
    #[schema(max_items = 50)]
    capabilities: Option<Vec<String>>,
}

/// A worker that asks for work.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct ClaimRequest {
    /// Who asks.
    #[schema(inline)]
    worker: ClaimingWorker,
    /// Tasks at most, 1 to 10; 1 by default.
    #[schema(minimum = 1, maximum = 10)]
    limit: Option<u32>,
    /// How long the answer may wait for a task, 0 to 30; 0 by default.
    #[schema(minimum = 0, maximum = 30)]
    wait_seconds: Option<u32>,
}

/// Who takes nothing new.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct DrainRequest {
    /// The worker of the token with this name; all of them by default.
    #[schema(min_length = 1, max_length = 100)]
    name: Option<String>,
}

/// A sign of life.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct HeartbeatRequest {
    /// The lease token, if it is not in the header `X-Lease-Token`.
    #[schema(example = "880e8400-e29b-41d4-a716-446655440003")]
    lease_token: Option<String>,
    /// What was used in this attempt so far.
    #[schema(inline)]
    usage: Option<WorkerUsage>,
}

/// How far a run is: at least one of the two.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct ProgressRequest {
    /// The lease token, if it is not in the header `X-Lease-Token`.
    #[schema(example = "880e8400-e29b-41d4-a716-446655440003")]
    lease_token: Option<String>,
    /// 0 to 100; never less than before.
    #[schema(minimum = 0, maximum = 100)]
    percent: Option<u8>,
    /// In words; at most 500 characters.
    #[schema(max_length = 500)]
    message: Option<String>,
}

/// A piece of output.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct OutputRequest {
    /// The lease token, if it is not in the header `X-Lease-Token`.
    #[schema(example = "880e8400-e29b-41d4-a716-446655440003")]
    lease_token: Option<String>,
    /// At most 64 KiB.
    text: String,
}

/// Something for the next attempt.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct CheckpointRequest {
    /// The lease token, if it is not in the header `X-Lease-Token`.
    #[schema(example = "880e8400-e29b-41d4-a716-446655440003")]
    lease_token: Option<String>,
    /// Rises from checkpoint to checkpoint.
    #[schema(minimum = 0)]
    seq: i32,
    /// Any JSON of at most 256 KiB.
    #[schema(value_type = Object)]
    data: Value,
}

/// A question to the owner.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct QuestionRequest {
    /// The lease token, if it is not in the header `X-Lease-Token`.
    #[schema(example = "880e8400-e29b-41d4-a716-446655440003")]
    lease_token: Option<String>,
    /// The question.
    #[schema(min_length = 1, max_length = 4000)]
    question: String,
    /// The answers it may have.
    #[schema(min_items = 1, max_items = 50)]
    choices: Option<Vec<String>>,
    /// A JSON Schema (2020-12) that the answer has to follow, of at most 16 KiB, without references to elsewhere or to itself.
    #[schema(value_type = Option<Object>)]
    schema: Option<Value>,
    /// What was used in this attempt so far.
    #[schema(inline)]
    usage: Option<WorkerUsage>,
}

/// The result of a run.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct CompleteRequest {
    /// The lease token, if it is not in the header `X-Lease-Token`.
    #[schema(example = "880e8400-e29b-41d4-a716-446655440003")]
    lease_token: Option<String>,
    /// A text, or any JSON, of at most 256 KiB.
    result: String,
    /// The result in short; its beginning by default.
    summary: Option<String>,
    /// What was used in this attempt so far.
    #[schema(inline)]
    usage: Option<WorkerUsage>,
}

/// Why a run did not succeed.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct FailRequest {
    /// The lease token, if it is not in the header `X-Lease-Token`.
    #[schema(example = "880e8400-e29b-41d4-a716-446655440003")]
    lease_token: Option<String>,
    /// For people; 2,000 characters are kept.
    message: String,
    /// For programs: 1 to 64 letters, digits, `_`, `-` and `.`; `worker_failed` by default.
    #[schema(min_length = 1, max_length = 64)]
    code: Option<String>,
    /// Whether another attempt may succeed; false by default.
    retryable: Option<bool>,
    /// Seconds until then, 0 to 86,400.
    #[schema(minimum = 0, maximum = 86_400)]
    retry_after: Option<u32>,
    /// What was used in this attempt so far.
    #[schema(inline)]
    usage: Option<WorkerUsage>,
}

/// A run that is given back.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct ReleaseRequest {
    /// The lease token, if it is not in the header `X-Lease-Token`.
    #[schema(example = "880e8400-e29b-41d4-a716-446655440003")]
    lease_token: Option<String>,
}

/// A worker token to make.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct WorkerTokenRequest {
    /// Name, for people.
    #[schema(min_length = 1, max_length = 50)]
    name: String,
    /// The types of tasks that it may take; all by default.
    #[schema(min_items = 1)]
    agent_types: Option<Vec<String>>,
    /// The models of tasks that it may take, by the names that tasks call them; all by default.
    #[schema(min_items = 1, max_items = 20)]
    models: Option<Vec<String>>,
    /// Requests per minute; 0, which is unlimited, by default: reports are many.
    #[schema(minimum = 0)]
    rate_limit: Option<i32>,
    /// Until when it holds: RFC 3339 with an offset; without one it holds until it is revoked.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
}
