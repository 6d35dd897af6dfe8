//! The shapes of events that are posted and kept, and of the catalogue of their types, for the OpenAPI document.

use serde_json::Value;
use utoipa::ToSchema;

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
