//! How deliveries fared, as hooks and consumers show it.

use hookyard_domain::{event::wire_time, subscription::Record};
use serde::Serialize;
use utoipa::ToSchema;

/// What is counted of a hook or a consumer.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DeliveryRecord)]
pub(crate) struct RecordView {
    /// Deliveries that arrived.
    #[schema(minimum = 0)]
    delivery_count: i64,
    /// Tries that failed.
    #[schema(minimum = 0)]
    failure_count: i64,
    /// Tries that failed since the last that arrived.
    #[schema(minimum = 0)]
    consecutive_failures: i32,
    /// When the last delivery arrived.
    #[schema(format = DateTime)]
    last_delivered_at: Option<String>,
    /// When the last try ended.
    #[schema(format = DateTime)]
    last_attempt_at: Option<String>,
    /// HTTP status of the last try, if it had one.
    last_status: Option<i16>,
    /// What came of the last try, as a word.
    last_reason: Option<String>,
}

impl From<Record> for RecordView {
    fn from(record: Record) -> Self {
        Self {
            delivery_count: record.delivery_count,
            failure_count: record.failure_count,
            consecutive_failures: record.consecutive_failures,
            last_delivered_at: record.last_delivered_at.map(wire_time),
            last_attempt_at: record.last_attempt_at.map(wire_time),
            last_status: record.last_status,
            last_reason: record.last_reason,
        }
    }
}
