//! How a delivery looks in every list that shows some.

use hookyard_domain::{
    delivery::{DeliveryState, inspect::DeliveryView},
    event::wire_time,
};
use serde::Serialize;
use utoipa::ToSchema;

/// A delivery as it leaves.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Delivery)]
pub(crate) struct View {
    /// Identity: the event and the hook.
    #[schema(example = "dlv_01hzy3v9k2s8d4f6g8h0j2k4m601hzy3v9k2s8d4f6g8h0j2k4m7")]
    id: String,
    /// What is delivered.
    event_id: String,
    /// The event's type.
    event_type: String,
    /// `hook`, `task` (a webhook of a task), `callback` (of an action run), `consumer`, `inbox` (a message that waits in one) or `farewell` (the reverse
    /// unsubscribe of a hook).
    #[schema(example = "hook")]
    kind: &'static str,
    /// To whom: the hook, or the endpoint of tasks.
    hook_id: String,
    /// Its number among the deliveries of the hook, as `x-hookyard-sequence` tells it; `null` of a task, a callback and a farewell.
    #[schema(minimum = 1, example = 17)]
    sequence: Option<i64>,
    /// Where it goes.
    url: String,
    /// `pending`, `delivered`, `dead`, `cancelled` or `discarded`.
    #[schema(example = "delivered")]
    state: &'static str,
    /// Tries so far.
    attempts: i16,
    /// Times the receiver asked for later.
    deferrals: i16,
    /// HTTP status of the last try.
    last_status: Option<i16>,
    /// What came of the last try, as a word.
    last_reason: Option<String>,
    /// When the next try is due; only while the delivery is pending, and `null` while it waits for the delivery before it.
    next_attempt_at: Option<String>,
    /// When it ended.
    settled_at: Option<String>,
}

impl From<DeliveryView> for View {
    fn from(delivery: DeliveryView) -> Self {
        let DeliveryView { delivery: row, event_type, url } = delivery;
        let pending = row.state == DeliveryState::Pending;
        Self {
            id: row.id().to_string(),
            event_id: row.event_id.to_string(),
            kind: row.profile.as_str(),
            hook_id: row.subscription_id.to_string(),
            sequence: row.sequence,
            state: row.state.as_str(),
            attempts: row.attempts,
            deferrals: row.deferrals,
            last_status: row.last_status,
            last_reason: row.last_reason,
            next_attempt_at: row.next_attempt_at.filter(|_| pending).map(wire_time),
            settled_at: row.settled_at.map(wire_time),
            event_type,
            url,
        }
    }
}
