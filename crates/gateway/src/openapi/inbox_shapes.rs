//! The shapes of bodies that inboxes are asked with, and examples of what they answer.

use serde_json::{Value, json};
use utoipa::ToSchema;

/// An inbox to make.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct InboxRequest {
    /// What it is called, for people.
    #[schema(min_length = 1, max_length = 100)]
    name: String,
    #[serde(flatten)]
    rest: InboxMembers,
}

/// What to change of an inbox; what is missing stays as it is.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct InboxPatch {
    /// What it is called, for people.
    #[schema(min_length = 1, max_length = 100)]
    name: Option<String>,
    #[serde(flatten)]
    rest: InboxMembers,
}

/// What can be said of an inbox besides; `null` is nothing.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct InboxMembers {
    /// Which events: types, aliases of the catalogue, or patterns with `*` for a word. Without any, everything that is posted.
    #[schema(max_items = 100)]
    event_types: Option<Vec<String>>,
    /// Only events of companies with one of these tags, `key:value`, at most 128 characters each.
    #[schema(max_items = 10)]
    tags: Option<Vec<String>>,
    /// Which of those events, by their content.
    #[schema(value_type = Option<Object>)]
    filter: Option<Value>,
    /// How often a message may be leased; one that is not acknowledged then is quarantined. 10 by default.
    #[schema(minimum = 1, maximum = 1000)]
    max_leases: Option<i32>,
    /// Seconds after which a message that was not acknowledged is not given out any more.
    #[schema(minimum = 30, maximum = 604800)]
    ttl_seconds: Option<i32>,
    /// Whether nothing is leased.
    paused: Option<bool>,
}

/// What a reader wants.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct LeaseRequest {
    /// For how long the messages are nobody else's. 300 by default.
    #[schema(minimum = 1, maximum = 3600)]
    lease_seconds: Option<i32>,
    /// How many messages at the most. 10 by default.
    #[schema(minimum = 1, maximum = 100)]
    lease_limit: Option<i32>,
    /// How long the answer waits for a message. 0 by default.
    #[schema(minimum = 0, maximum = 60)]
    wait_seconds: Option<i32>,
}

/// A message with the token of its lease.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct HeldMessage {
    /// The message.
    #[schema(example = "msg_01hzy3v9k2s8d4f6g8h0j2k4m6")]
    id: String,
    /// What the lease gave with it.
    #[schema(example = "clm_01hzy3v9k2s8d4f6g8h0j2k4m7")]
    lease_token: String,
}

/// Messages that are done.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct AckRequest {
    /// Which.
    #[schema(min_items = 1, max_items = 100)]
    messages: Vec<HeldMessage>,
}

/// Messages to be given back.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct GiveBackRequest {
    /// Which.
    #[schema(min_items = 1, max_items = 100)]
    messages: Vec<HeldMessage>,
    /// After how many seconds they may be leased again; 0, at once and at their place, by default.
    #[schema(minimum = 0, maximum = 3600)]
    delay_seconds: Option<i32>,
    /// Why, for the next reader.
    #[schema(max_length = 500)]
    reason: Option<String>,
}

/// Messages to be kept for longer.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct ExtendRequest {
    /// Which.
    #[schema(min_items = 1, max_items = 100)]
    messages: Vec<HeldMessage>,
    /// For how long from now. 300 by default.
    #[schema(minimum = 1, maximum = 3600)]
    lease_seconds: Option<i32>,
}

pub(super) fn named(name: &str) -> Option<Value> {
    match name {
        "Inbox" => Some(inbox()),
        "InboxDetail" => {
            let mut detail = inbox();
            detail["messages"] = json!({
                "waiting": 3, "leased": 1, "delayed": 0, "quarantined": 0,
                "oldest_waiting_at": "2025-11-12T15:45:00.731Z", "oldest_waiting_seconds": 12, "last_sequence": 17
            });
            Some(detail)
        }
        "Lease" => Some(json!({
            "messages": [{
                "id": "msg_01hzy3v9k2s8d4f6g8h0j2k4m6",
                "sequence": 17,
                "lease_token": "clm_01hzy3v9k2s8d4f6g8h0j2k4m7",
                "lease_count": 1,
                "leased_until": "2025-11-12T15:50:00.731Z",
                "available_at": "2025-11-12T15:45:00.731Z",
                "last_reason": null,
                "event": super::examples::event()
            }],
            "paused": false
        })),
        "SettledMessages" => Some(json!({
            "settled": 1,
            "messages": [{"id": "msg_01hzy3v9k2s8d4f6g8h0j2k4m6", "status": "acknowledged"}]
        })),
        _ => None,
    }
}

fn inbox() -> Value {
    json!({
        "id": "hook_01hzy3v9k2s8d4f6g8h0j2k4m6",
        "name": "warehouse",
        "event_types": ["order.*"],
        "patterns": ["order.*"],
        "tags": ["region:uk"],
        "filter": null,
        "max_leases": 10,
        "ttl_seconds": null,
        "paused": false,
        "state": "active",
        "created_at": "2025-11-12T14:30:00.000Z",
        "updated_at": "2025-11-12T14:31:07.210Z"
    })
}
