//! The bodies of consumers' requests, and an example of a consumer, for the OpenAPI document.

use serde_json::{Value, json};
use utoipa::ToSchema;

/// A consumer to make.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct ConsumerRequest {
    /// Where deliveries go: `https://…` on a public host; at most 2048 characters.
    #[schema(max_length = 2048)]
    url: String,
    /// Which events: types, aliases of the catalogue, or patterns with `*` for a word.
    #[serde(rename = "eventTypes")]
    #[schema(min_items = 1, max_items = 100)]
    event_types: Vec<String>,
    /// The key of the `v1` signatures: `whsec_` and base64 of 24 to 64 bytes; one is made when none is given.
    secret: Option<String>,
    #[serde(flatten)]
    rest: ConsumerMembers,
}

/// What to change of a consumer; what is missing stays as it is.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct ConsumerPatch {
    /// Where deliveries go.
    #[schema(max_length = 2048)]
    url: Option<String>,
    /// Which events.
    #[serde(rename = "eventTypes")]
    #[schema(min_items = 1, max_items = 100)]
    event_types: Option<Vec<String>>,
    #[serde(flatten)]
    rest: ConsumerMembers,
}

/// What can be said of a consumer besides; `null` is nothing.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct ConsumerMembers {
    /// Whether nothing is delivered until it is enabled.
    disabled: Option<bool>,
    /// Only events of companies with one of these tags, `key:value`, at most 128 characters each.
    #[serde(rename = "companyTags")]
    #[schema(max_items = 10)]
    company_tags: Option<Vec<String>>,
    /// What it is for; without one, a new consumer whose URL is Zapier's is called by its types.
    #[schema(max_length = 500)]
    description: Option<String>,
    /// Which of those events, by their content.
    #[schema(value_type = Option<Object>)]
    filter: Option<Value>,
    /// `POST` or `PUT`.
    #[schema(example = "POST")]
    method: Option<String>,
    /// Further headers: at most 20, values of at most 1024 characters, no names that Hookyard sets itself.
    #[schema(value_type = Option<Object>)]
    headers: Option<Value>,
    /// Deliveries per second at the most.
    #[schema(minimum = 1, maximum = 10000)]
    rate_limit: Option<i32>,
    /// Seconds after which an event that has not arrived is not sent any more.
    #[schema(minimum = 30, maximum = 604800)]
    ttl_seconds: Option<i32>,
    /// A place in the event: events with the same value there go one after the other, in the order in which they were posted.
    #[schema(max_length = 256, example = "payload.order.id")]
    ordering_key: Option<String>,
    /// What is made of events before they are sent: `cancel`, and `pick` and `rename`, or `body`.
    #[schema(value_type = Option<Object>)]
    transformation: Option<Value>,
    /// What is shown to a receiver that asks for a client certificate.
    client_certificate: Option<ClientCertificateRequest>,
}

/// A client certificate with its key.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct ClientCertificateRequest {
    /// The certificate, and those that lead to its authority: PEM, at most 5.
    certificate: String,
    /// Its private key: PEM, not encrypted. Never shown again.
    private_key: String,
}

/// A test of a consumer.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct ConsumerTest {
    /// Of which type; the first of the consumer's by default.
    #[serde(rename = "eventType")]
    event_type: Option<String>,
}

/// A rotation of a consumer's secret.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct SecretRequest {
    /// The new secret: `whsec_` and base64 of 24 to 64 bytes; one is made when none is given.
    secret: Option<String>,
}

/// A consumer as it is shown.
pub(super) fn consumer() -> Value {
    json!({
        "id": "hook_01hzy3v9k2s8d4f6g8h0j2k4m6",
        "url": "https://example.com/webhooks",
        "description": "orders to the warehouse",
        "eventTypes": ["order.created"],
        "patterns": ["order.created"],
        "companyTags": ["region:uk"],
        "filter": null,
        "disabled": false,
        "state": "active",
        "state_reason": null,
        "method": "POST",
        "headers": {"authorization": "********"},
        "rate_limit": 25,
        "ttl_seconds": 86400,
        "ordering_key": "payload.order.id",
        "transformation": {"body": {"order": {"$from": "payload.order.id"}}},
        "client_certificate": null,
        "public_key": "whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
        "previous": null,
        "delivery_count": 1042,
        "failure_count": 3,
        "consecutive_failures": 0,
        "last_delivered_at": "2025-11-12T15:45:00.731Z",
        "last_attempt_at": "2025-11-12T15:45:00.731Z",
        "last_status": 204,
        "last_reason": "delivered",
        "created_at": "2025-11-12T14:30:00.000Z",
        "updated_at": "2025-11-12T14:31:07.210Z"
    })
}
