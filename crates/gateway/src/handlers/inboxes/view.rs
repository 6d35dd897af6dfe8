//! How an inbox and what is in it look wherever they are shown.

use chrono::{DateTime, Utc};
use hookyard_domain::{
    event::wire_time,
    subscription::inbox::store::{COUNTED, Counts, InboxView},
};
use serde::Serialize;
use serde_json::{Value, json, value::RawValue};
use utoipa::ToSchema;

/// An inbox: which events it gets, and how they are given out.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Inbox)]
pub(crate) struct View {
    /// Identity.
    #[schema(example = "hook_01hzy3v9k2s8d4f6g8h0j2k4m6")]
    id: String,
    /// What it is called.
    #[schema(example = "warehouse")]
    name: String,
    /// Which types, as they were written; empty = everything that is posted.
    #[schema(example = json!(["order.*"]))]
    event_types: Vec<String>,
    /// The types or patterns that these stand for.
    #[schema(example = json!(["order.*"]))]
    patterns: Vec<String>,
    /// Only events of companies with one of these tags; empty = all.
    #[schema(example = json!(["region:uk"]))]
    tags: Vec<String>,
    /// Which of those events; `null` = all.
    #[schema(value_type = Option<Object>)]
    filter: Option<Box<RawValue>>,
    /// How often a message may be leased; one that is not acknowledged then is quarantined.
    #[schema(example = 10, minimum = 1, maximum = 1000)]
    max_leases: i16,
    /// Seconds after which a message that was not acknowledged is not given out any more; `null` = as long as it is kept.
    #[schema(minimum = 30)]
    ttl_seconds: Option<i32>,
    /// Whether nothing is leased. Events go on coming in.
    paused: bool,
    /// `active`, `paused` or `deleted`.
    #[schema(example = "active")]
    state: &'static str,
    /// When it was made.
    #[schema(format = DateTime)]
    created_at: String,
    /// When it was last changed.
    #[schema(format = DateTime)]
    updated_at: String,
}

impl From<InboxView> for View {
    fn from(inbox: InboxView) -> Self {
        let state = state(&inbox);
        Self {
            id: inbox.id.to_string(),
            name: inbox.name,
            event_types: inbox.event_types,
            patterns: inbox.patterns,
            tags: inbox.tags,
            filter: inbox.filter.and_then(|text| RawValue::from_string(text).ok()),
            max_leases: inbox.max_leases,
            ttl_seconds: inbox.ttl_s,
            paused: inbox.paused_at.is_some(),
            state,
            created_at: wire_time(inbox.created_at),
            updated_at: wire_time(inbox.updated_at),
        }
    }
}

/// The word for where it stands.
fn state(inbox: &InboxView) -> &'static str {
    if inbox.is_deleted() {
        "deleted"
    } else if inbox.paused_at.is_some() {
        "paused"
    } else {
        "active"
    }
}

/// What is in an inbox. Numbers are counted up to 100,000.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = InboxCounts)]
pub(crate) struct CountsView {
    /// May be leased.
    #[schema(example = 3, minimum = 0, maximum = 100000)]
    waiting: i64,
    /// Somebody's at the moment.
    #[schema(example = 1, minimum = 0, maximum = 100000)]
    leased: i64,
    /// Released for later.
    #[schema(example = 0, minimum = 0, maximum = 100000)]
    delayed: i64,
    /// Leased too often: dead letters.
    #[schema(example = 0, minimum = 0, maximum = 100000)]
    quarantined: i64,
    /// Since when the oldest waits of those that were never leased, or were released; `null` = there is none.
    #[schema(format = DateTime)]
    oldest_waiting_at: Option<String>,
    /// The same in seconds; 0 = there is none.
    #[schema(example = 12, minimum = 0)]
    oldest_waiting_seconds: i64,
    /// The number of the newest message that is kept; 0 = there is none.
    #[schema(example = 17, minimum = 0)]
    last_sequence: i64,
}

impl CountsView {
    pub(super) fn new(counts: &Counts, now: DateTime<Utc>) -> Self {
        Self {
            waiting: counts.waiting.min(COUNTED),
            leased: counts.leased,
            delayed: counts.delayed,
            quarantined: counts.quarantined,
            oldest_waiting_at: counts.oldest_at.map(wire_time),
            oldest_waiting_seconds: counts.oldest_at.map_or(0, |at| (now - at).num_seconds().max(0)),
            last_sequence: counts.last_sequence.unwrap_or(0),
        }
    }
}

/// An inbox with what is in it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = InboxDetail)]
pub(crate) struct Detail {
    #[serde(flatten)]
    pub(super) inbox: View,
    /// What is in it.
    pub(super) messages: CountsView,
}

/// What the audit log is told of an inbox.
pub(super) fn told(inbox: &InboxView) -> Value {
    let filter = inbox.filter.as_ref().and_then(|text| serde_json::from_str::<Value>(text).ok());
    json!({
        "name": inbox.name,
        "event_types": inbox.event_types,
        "tags": inbox.tags,
        "filter": filter,
        "max_leases": inbox.max_leases,
        "ttl_seconds": inbox.ttl_s,
        "state": state(inbox),
    })
}

/// An event as it leaves within a message: its stored bytes; `null` when they are not kept any more.
pub(super) fn event(body: Vec<u8>) -> Option<Box<RawValue>> {
    let text = String::from_utf8(body).ok()?;
    RawValue::from_string(text).ok()
}
