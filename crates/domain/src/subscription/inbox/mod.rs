//! Inboxes: the fifth kind of subscription (contract §2). What they have in common with hooks and consumers (which events) is the
//! subscription; nothing is sent. Their deliveries are messages, which wait until somebody leases them ([`lease`]) and says what became
//! of them ([`settle`]), or reads them in order ([`log`]).
//!
//! A message is a delivery with the profile `Inbox`: pending while it waits or is leased, delivered when it was acknowledged, dead when
//! it is quarantined. So dead letters, replays, retention and «undelivered since» know it without more (docs/decisions/0050).

pub mod deleted;
pub mod lease;
pub mod log;
pub mod quarantine;
pub mod settle;
mod spent;
pub mod store;

use std::fmt;

use crate::id::{EventId, SubscriptionId};

/// The longest name, in characters.
pub const MAX_NAME_CHARS: usize = 100;
/// How often a message may be leased before it is quarantined.
pub const MAX_LEASES: std::ops::RangeInclusive<i32> = 1..=1_000;
/// The same when nothing is said.
pub const DEFAULT_MAX_LEASES: i32 = 10;
/// Messages that one request leases, or settles, at the most.
pub const MAX_AT_ONCE: usize = 100;
/// Bytes of events that one request leases, or reads, at the most; one that is larger comes alone.
pub const MAX_BYTES_AT_ONCE: i64 = 8 << 20;
/// The same for a page of a stream, which its gateway holds until the client reads on.
pub const MAX_BYTES_STREAMED: i64 = 512 << 10;
/// How long a lease lasts, in seconds: 1 to 3,600, and 300 when nothing is said.
pub const LEASE_S: std::ops::RangeInclusive<i32> = 1..=3_600;
/// How long a lease lasts when nothing is said, in seconds.
pub const DEFAULT_LEASE_S: i32 = 300;
/// After how many seconds a released message may be leased again, at the most.
pub const MAX_DELAY_S: i32 = 3_600;
/// The longest reason that is kept with a released message, in characters.
pub const MAX_REASON_CHARS: usize = 500;

/// Why a message is quarantined that was leased too often.
pub const OVER_LEASED: &str = "over_leased";
/// Why a message is leased again whose lease has ended without a word.
pub const LEASE_EXPIRED: &str = "lease_expired";

/// The address of an inbox, where other subscriptions have a URL: it has no receiver.
#[must_use]
pub fn address(id: SubscriptionId) -> String {
    format!("inbox:{id}")
}

/// The name of a message: that of its event, as the `webhook-id` of a delivery has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MessageId(pub EventId);

/// A text that names no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("message ids look like `msg_01hzy3v9k2s8d4f6g8h0j2k4m6`")]
pub struct MessageIdError;

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_string().replacen("evt_", "msg_", 1))
    }
}

impl std::str::FromStr for MessageId {
    type Err = MessageIdError;
    fn from_str(text: &str) -> Result<Self, MessageIdError> {
        let digits = text.strip_prefix("msg_").ok_or(MessageIdError)?;
        format!("evt_{digits}").parse().map(Self).map_err(|_| MessageIdError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_named_as_its_event_is() {
        let event = EventId::from_uuid(uuid::Uuid::from_u128(7));
        assert_eq!(MessageId(event).to_string(), "msg_00000000000000000000000007");
        assert_eq!("msg_00000000000000000000000007".parse(), Ok(MessageId(event)));
        for bad in
            ["", "msg_", "msg_7", "evt_00000000000000000000000007", "msg_evt_0000000000000000000000000"]
        {
            assert_eq!(bad.parse::<MessageId>(), Err(MessageIdError), "{bad}");
        }
    }

    #[test]
    fn an_address_is_a_url_without_a_host() {
        let id = SubscriptionId::from_uuid(uuid::Uuid::from_u128(7));
        let url: url::Url = address(id).parse().unwrap();
        assert_eq!((url.scheme(), url.has_host()), ("inbox", false));
    }
}
