//! The shapes of bodies that are read or written member by member, so that no type of the code could describe them.
//! They are told in the document and used nowhere else.

use serde_json::Value;
use utoipa::ToSchema;

use crate::handlers::samples::EventBody;

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
}

/// An event with what became of it.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes events in the OpenAPI document")]
pub(crate) struct StoredEvent {
    #[serde(flatten)]
    event: EventBody,
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
    /// A payload to show, such as the samples in Zapier's editor.
    #[schema(value_type = Option<Object>)]
    example: Option<Value>,
    /// Other names under which one can subscribe; at most 10.
    #[schema(max_items = 10)]
    aliases: Option<Vec<String>>,
    /// Still sent, but subscribers should move on.
    deprecated: Option<bool>,
    /// Takes no new hooks.
    archived: Option<bool>,
}

/// What to change.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct EventTypePatch {
    /// What has happened, for people; at most 500 characters.
    #[schema(max_length = 500)]
    description: Option<String>,
    /// A payload to show; `null` takes it away.
    #[schema(value_type = Option<Object>)]
    example: Option<Value>,
    /// All other names from now on; at most 10.
    #[schema(max_items = 10)]
    aliases: Option<Vec<String>>,
    /// Still sent, but subscribers should move on.
    deprecated: Option<bool>,
    /// Takes no new hooks.
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
    /// What is wrong with it.
    reason: Option<String>,
}
