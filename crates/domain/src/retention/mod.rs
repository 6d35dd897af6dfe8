//! What is kept, and for how long. Whole days go by dropping their partitions (`db::partition`); payloads may go before, by their
//! age ([`payload`]) or one by one ([`purge`]), and what they belonged to stays listed. [`inventory`] tells what there is.
//!
//! An event without its payload has an empty `body`, which no accepted event has. Nothing is sent of it any more: whoever puts a
//! delivery back on the schedule asks for events that still have theirs (docs/decisions/0052).

mod catch_up;
pub mod inventory;
pub mod payload;
pub mod purge;
mod rewrite;

/// Why a delivery was cancelled whose event has no payload any more: it was purged, or it got too old while nobody was waiting.
pub const PAYLOAD_PURGED: &str = "payload_purged";
