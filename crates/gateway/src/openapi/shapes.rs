//! The shapes of bodies that are read or written member by member, so that no type of the code could describe them.
//! They are told in the document and used nowhere else.

use serde_json::Value;
use utoipa::ToSchema;

/// A page of a list.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes pages in the OpenAPI document")]
pub(crate) struct PageOf<T> {
    /// The entries.
    data: Vec<T>,
    /// Send this as `cursor` to get the next page; `null` on the last one.
    next_cursor: Option<String>,
    /// Whether there is a next page.
    has_more: bool,
}

/// An event to post.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct EventRequest {
    /// What kind of thing happened: words separated by full stops.
    #[schema(example = "order.created")]
    event_type: String,
    /// What happened.
    #[schema(value_type = Object)]
    payload: Value,
    /// What goes along. `correlation_id`, `source_ip` and `user_agent` must be texts; without them the request's own are
    /// taken. At most 16 KiB.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Value>,
    /// When it happened: RFC 3339 with an offset; now by default.
    #[schema(format = DateTime)]
    timestamp: Option<String>,
    /// When it is delivered, to whoever is subscribed then: RFC 3339 with an offset, at most 7 days ahead; at once by default. It
    /// also stands in the metadata.
    #[schema(format = DateTime)]
    deliver_at: Option<String>,
}

/// Events to post.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct BatchRequest {
    /// 1 to 100.
    #[schema(min_items = 1, max_items = 100)]
    events: Vec<EventRequest>,
}

/// What whoever posts an event is told.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the answer in the OpenAPI document")]
pub(crate) struct EventAccepted {
    /// The event's id.
    event_id: String,
    /// Always `accepted`.
    #[schema(example = "accepted")]
    status: String,
    /// When it was accepted.
    #[schema(format = DateTime)]
    created_at: String,
    /// What the payload breaks of its type's schema, where that is no reason to refuse it.
    warnings: Option<Vec<SchemaProblem>>,
}

/// An event as it is kept.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes events in the OpenAPI document")]
pub(crate) struct KeptEvent {
    /// The event's id.
    #[schema(example = "evt_01hzy3v9k2s8d4f6g8h0j2k4m6")]
    id: String,
    /// The same again.
    #[schema(example = "evt_01hzy3v9k2s8d4f6g8h0j2k4m6")]
    event_id: String,
    /// What kind of thing happened.
    #[schema(example = "order.created")]
    event_type: String,
    /// When it happened.
    #[schema(format = DateTime)]
    timestamp: String,
    /// What happened; `null` when it was purged.
    #[schema(value_type = Option<Object>, required)]
    payload: Value,
    /// `correlation_id`, `source_ip` and `user_agent` (a text or `null` each), and what the caller added.
    #[schema(value_type = Object)]
    metadata: Value,
    /// When it was accepted.
    #[schema(format = DateTime)]
    created_at: String,
    /// When the payload was purged: by hand, or by its age. Not there while the payload is.
    #[schema(format = DateTime)]
    payload_purged_at: Option<String>,
}

/// An event with what became of it.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes events in the OpenAPI document")]
pub(crate) struct StoredEvent {
    #[serde(flatten)]
    event: KeptEvent,
    /// `accepted`, `unmatched`, `pending`, `dead`, `delivered` or `cancelled`.
    state: String,
    /// How many of its deliveries are in which state.
    #[schema(inline)]
    deliveries: Counts,
}

/// Deliveries by state.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes events in the OpenAPI document")]
pub(crate) struct Counts {
    /// Under way.
    pending: u64,
    /// Arrived.
    delivered: u64,
    /// In the dead letters.
    dead: u64,
    /// Cancelled or discarded.
    cancelled: u64,
}

/// A type of event to make.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct EventTypeRequest {
    /// The type: words separated by full stops.
    #[schema(example = "order.created")]
    name: String,
    /// What has happened, for people; at most 500 characters.
    #[schema(max_length = 500)]
    description: Option<String>,
    /// A JSON Schema (2020-12) of payloads: at most 64 KiB and 32 levels, holding all that it refers to.
    #[schema(value_type = Option<Object>)]
    schema: Option<Value>,
    /// What happens to a posted payload that breaks the schema: `off` (the default), `warn` or `reject`.
    #[schema(example = "reject")]
    validation: Option<String>,
    /// A payload to show, such as the samples in Zapier's editor; it has to keep the schema. At most 64 KiB.
    #[schema(value_type = Option<Object>)]
    example: Option<Value>,
    /// Other names under which one can subscribe; at most 10.
    #[schema(max_items = 10)]
    aliases: Option<Vec<String>>,
    /// The part of the product that it belongs to: 1 to 50 characters.
    #[schema(min_length = 1, max_length = 50)]
    feature_group: Option<String>,
    /// Still sent, but subscribers should move on.
    deprecated: Option<bool>,
    /// Takes neither new hooks nor events.
    archived: Option<bool>,
}

/// An OpenAPI document, 3.0 or later 3.x, at most 4 MiB.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct OpenApiDocument {
    /// The version of OpenAPI.
    #[schema(example = "3.1.0")]
    openapi: String,
    /// What the described product sends by itself.
    #[schema(value_type = Option<Object>)]
    webhooks: Option<Value>,
    /// Its operations, which may have callbacks.
    #[schema(value_type = Option<Object>)]
    paths: Option<Value>,
    /// What they refer to.
    #[schema(value_type = Option<Object>)]
    components: Option<Value>,
}

/// Something that is wrong, and where.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes answers in the OpenAPI document")]
pub(crate) struct SchemaProblem {
    /// JSON Pointer (RFC 6901); empty for the whole.
    #[schema(example = "/lines/0/price")]
    path: String,
    /// What.
    reason: String,
}

/// What to change.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct EventTypePatch {
    /// What has happened, for people; at most 500 characters.
    #[schema(max_length = 500)]
    description: Option<String>,
    /// A JSON Schema (2020-12) of payloads; `null` takes it away.
    #[schema(value_type = Option<Object>)]
    schema: Option<Value>,
    /// What happens to a posted payload that breaks the schema: `off`, `warn` or `reject`.
    validation: Option<String>,
    /// A payload to show; `null` takes it away.
    #[schema(value_type = Option<Object>)]
    example: Option<Value>,
    /// All other names from now on; at most 10.
    #[schema(max_items = 10)]
    aliases: Option<Vec<String>>,
    /// The part of the product that it belongs to; `null` takes it away.
    #[schema(min_length = 1, max_length = 50)]
    feature_group: Option<String>,
    /// Still sent, but subscribers should move on.
    deprecated: Option<bool>,
    /// Takes neither new hooks nor events.
    archived: Option<bool>,
}

/// An API key to make.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct KeyRequest {
    /// Name, for people.
    #[schema(min_length = 1, max_length = 50)]
    name: String,
    /// What it may do: `hooks:read`, `hooks:write`, `events:read`, `events:write`, `admin`, and so on.
    #[schema(min_items = 1)]
    scopes: Vec<String>,
    /// Requests per minute; 0 is unlimited. The setting `gateway.rate_limit` by default.
    #[schema(minimum = 0)]
    rate_limit: Option<i32>,
    /// Subscribing, changing and unsubscribing hooks per minute; 0 is unlimited.
    #[schema(minimum = 0)]
    hook_write_limit: Option<i32>,
    /// How many more of these may pass within an hour; 0 is none.
    #[schema(minimum = 0)]
    hook_write_burst: Option<i32>,
    /// Samples per minute; 0 is unlimited.
    #[schema(minimum = 0)]
    sample_limit: Option<i32>,
    /// Until when it holds: RFC 3339 with an offset; without one it holds until it is revoked.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
}

/// What to change of an API key. `null` takes a limit or the end away.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct KeyPatch {
    /// Name, for people.
    #[schema(min_length = 1, max_length = 50)]
    name: Option<String>,
    /// All that it may do from now on.
    #[schema(min_items = 1)]
    scopes: Option<Vec<String>>,
    /// Requests per minute; 0 is unlimited.
    #[schema(minimum = 0)]
    rate_limit: Option<i32>,
    /// Subscribing, changing and unsubscribing hooks per minute; 0 is unlimited.
    #[schema(minimum = 0)]
    hook_write_limit: Option<i32>,
    /// How many more of these may pass within an hour; 0 is none.
    #[schema(minimum = 0)]
    hook_write_burst: Option<i32>,
    /// Samples per minute; 0 is unlimited.
    #[schema(minimum = 0)]
    sample_limit: Option<i32>,
    /// Until when it holds: RFC 3339 with an offset.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
}

/// A source key to make.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct SourceKeyRequest {
    /// Name, for people.
    #[schema(min_length = 1, max_length = 50)]
    name: String,
    /// The types of events, or patterns of them, that it may publish.
    #[schema(min_items = 1, max_items = 50)]
    event_types: Vec<String>,
    /// Requests per minute; 0 is unlimited. The setting `gateway.rate_limit` by default.
    #[schema(minimum = 0)]
    rate_limit: Option<i32>,
    /// Until when it holds: RFC 3339 with an offset; without one it holds until it is revoked.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
}

/// What to change of a session.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct SessionPatch {
    /// The tenant to look at: one of `tenants`.
    tenant_id: Option<String>,
    /// `en` or `fr`.
    locale: Option<String>,
}

/// A new password.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct PasswordChange {
    /// The one until now.
    current_password: String,
    /// The one from now on: 12 to 128 characters, none of the commonest, without the person's name or address.
    #[schema(min_length = 12, max_length = 128)]
    new_password: String,
}

/// Proof that it is the person who asks.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct PasswordProof {
    /// The password; not needed of somebody who has none.
    password: Option<String>,
}

/// Proof that the authenticator has the key.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct TotpCode {
    /// The 6 digits that it shows.
    code: String,
}

/// What to change of a person.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct UserPatch {
    /// `admin`, `developer` or `viewer`.
    role: String,
}

/// Whom to invite.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct InvitationRequest {
    /// E-mail address.
    #[schema(max_length = 254)]
    email: String,
    /// `admin`, `developer` or `viewer`.
    role: String,
}

/// How every error looks.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes errors in the OpenAPI document")]
pub(super) struct Error {
    /// What is wrong, for people; fewer than 250 characters.
    error: String,
    /// What is wrong, for programs. Never changes.
    #[schema(example = "NOT_FOUND")]
    error_code: String,
    /// Missing when no single field is to blame.
    #[schema(inline)]
    details: Option<Details>,
    /// Finds the request in the logs; also in `X-Request-Id`.
    request_id: String,
}

/// Which field of the request is to blame.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes errors in the OpenAPI document")]
pub(super) struct Details {
    /// The field, parameter or header.
    field: Option<String>,
    /// Where in the field: a JSON Pointer (RFC 6901).
    path: Option<String>,
    /// What is wrong with it.
    reason: Option<String>,
    /// All that is wrong, where there may be several things; at most 20.
    problems: Option<Vec<SchemaProblem>>,
}

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

/// A run of an action that is asked for. All of it may be within `data`, where the input is called `inputs`.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct ActionRunRequest {
    /// The action's key, from `GET /v2/actions`.
    #[schema(example = "event.emit")]
    action: Option<String>,
    /// A connection, from `POST /v2/authentications`: for `http.request`.
    authentication: Option<String>,
    /// What the action takes.
    #[schema(value_type = Option<Object>)]
    input: Option<Value>,
    /// Where the result is told: https on a public address, at most 2048 characters.
    #[schema(max_length = 2048)]
    callback_url: Option<String>,
    /// The same members once more, for clients that wrap them.
    #[schema(value_type = Option<Object>)]
    data: Option<Value>,
}

/// What is wrong, under `/v2`.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct ErrorV2 {
    /// One error.
    errors: Vec<ErrorV2Item>,
}

/// An error, as JSON:API has it.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct ErrorV2Item {
    /// The status, as text.
    #[schema(example = "400")]
    status: String,
    /// For programs.
    #[schema(example = "INVALID_CALLBACK_URL")]
    code: String,
    /// The status in words.
    #[schema(example = "Bad Request")]
    title: String,
    /// For people.
    detail: String,
    /// What is to blame: a JSON pointer into the body.
    #[schema(value_type = Option<Object>)]
    source: Option<Value>,
}

/// A connection that is made. Which other members there are depends on `type`.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct AuthenticationRequest {
    /// What it is called.
    #[schema(min_length = 1, max_length = 100)]
    name: String,
    /// `bearer`, `basic`, `header` or `oauth2`.
    r#type: String,
    /// Where the credentials are tried, with GET. They are shown to its origin alone.
    #[schema(max_length = 2048)]
    url: String,
    /// Of `bearer`.
    token: Option<String>,
    /// Of `basic`.
    username: Option<String>,
    /// Of `basic`.
    password: Option<String>,
    /// Of `header`: its name.
    header: Option<String>,
    /// Of `header`.
    value: Option<String>,
    /// Of `oauth2`: where access tokens are fetched.
    token_url: Option<String>,
    /// Of `oauth2`.
    client_id: Option<String>,
    /// Of `oauth2`.
    client_secret: Option<String>,
    /// Of `oauth2`.
    scope: Option<String>,
}

/// What changes of a connection. What is not named stays as it is; the members are those of a new one.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct AuthenticationChange {
    /// What it is called.
    #[schema(min_length = 1, max_length = 100)]
    name: Option<String>,
    /// `bearer`, `basic`, `header` or `oauth2`. Another one takes nothing over from the credentials.
    r#type: Option<String>,
    /// Where the credentials are tried, with GET. On another origin the secret has to be given again.
    #[schema(max_length = 2048)]
    url: Option<String>,
    /// Of `bearer`.
    token: Option<String>,
    /// Of `basic`.
    username: Option<String>,
    /// Of `basic`.
    password: Option<String>,
    /// Of `header`: its name.
    header: Option<String>,
    /// Of `header`.
    value: Option<String>,
    /// Of `oauth2`: where access tokens are fetched. On another origin `client_secret` has to be given again.
    token_url: Option<String>,
    /// Of `oauth2`.
    client_id: Option<String>,
    /// Of `oauth2`.
    client_secret: Option<String>,
    /// Of `oauth2`; `null` for none.
    scope: Option<String>,
}

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
