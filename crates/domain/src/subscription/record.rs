//! How the deliveries of a subscription fared, counted.

use chrono::{DateTime, Utc};
use diesel::{
    QueryableByName,
    sql_types::{BigInt, Integer, Nullable, SmallInt, Text, Timestamptz},
};

/// What is counted of a subscription.
#[derive(Clone, Debug, QueryableByName)]
pub struct Record {
    /// Deliveries that arrived.
    #[diesel(sql_type = BigInt)]
    pub delivery_count: i64,
    /// Tries that failed.
    #[diesel(sql_type = BigInt)]
    pub failure_count: i64,
    /// Tries that failed since the last that arrived.
    #[diesel(sql_type = Integer)]
    pub consecutive_failures: i32,
    /// When the last delivery arrived.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub last_delivered_at: Option<DateTime<Utc>>,
    /// When the last try ended.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub last_attempt_at: Option<DateTime<Utc>>,
    /// Its HTTP status.
    #[diesel(sql_type = Nullable<SmallInt>)]
    pub last_status: Option<i16>,
    /// Its outcome in words.
    #[diesel(sql_type = Nullable<Text>)]
    pub last_reason: Option<String>,
}

/// The columns of [`Record`], of [`JOINED`].
pub(super) const COLUMNS: &str = "COALESCE(h.delivery_count, 0) AS delivery_count, COALESCE(h.failure_count, 0) AS failure_count, \
     COALESCE(h.consecutive_failures, 0) AS consecutive_failures, h.last_delivered_at, h.last_attempt_at, h.last_status, \
     h.last_reason";

/// Where they are, beside the subscriptions `s`. Who has had no delivery has no row.
pub(super) const JOINED: &str = "LEFT JOIN subscription_health h ON h.subscription_id = s.id";
