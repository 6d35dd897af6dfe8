//! What is said on the bus, and its wire format: JSON with the field `kind`.
//!
//! A message carries ids and what never changes of things, never bodies or states. The format may grow and never changes; the tests below hold it.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use hookyard_domain::{
    event::EventType,
    id::{ClaimId, DeliveryId, EventGroupId, EventId, SettlementId, SubscriptionId, TenantId},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

/// A ring of the doorbell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Message {
    /// A group of events is committed and waits for its fan-out.
    EventAccepted {
        /// The group, a row of `event_groups`.
        group: EventGroupId,
        /// All that was accepted, when that is little: who fans it out need not read it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        accepted: Option<Accepted>,
    },
    /// Deliveries are due and held for whoever takes this message.
    DeliveryDue {
        /// The lease that the deliveries were written with.
        claim: ClaimId,
        /// The deliveries, up to some hundred: one string of base64url (RFC 4648 §5, no padding) over 32 bytes for each,
        /// the event's UUID and the subscription's.
        #[serde(serialize_with = "pack", deserialize_with = "unpack")]
        deliveries: Vec<DeliveryId>,
    },
    /// Outcomes of deliveries wait to be applied to the health of their subscriptions.
    DeliverySettled {
        /// The reports, rows of `settlements`.
        settlements: Vec<SettlementId>,
    },
    /// Runs of tasks wait for the built-in executor. Which ones is asked of the database: who is first is decided there.
    TaskQueued {},
    /// Something may be leased or read in these inboxes. To everybody, not in a queue.
    InboxFilled {
        /// Which.
        inboxes: Vec<SubscriptionId>,
    },
}

/// The events of a group that their tenants have posted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// Since when they wait.
    pub since: DateTime<Utc>,
    /// The events.
    pub events: Vec<AcceptedEvent>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceptedEvent {
    /// Owner.
    pub tenant: TenantId,
    /// Identity.
    pub id: EventId,
    /// What kind of thing happened.
    pub event_type: EventType,
}

/// Bytes that are not a message of this version.
#[derive(Debug, thiserror::Error)]
#[error("not a message of this version")]
pub struct MessageError(#[source] serde_json::Error);

impl Message {
    /// The wire form.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, MessageError> {
        serde_json::to_vec(self).map_err(MessageError)
    }

    /// Reads the wire form; fields that a later version added are passed over.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, MessageError> {
        serde_json::from_slice(bytes).map_err(MessageError)
    }
}

/// Bytes of one delivery inside `deliveries`.
const DELIVERY_BYTES: usize = 32;

fn pack<S: Serializer>(deliveries: &[DeliveryId], serializer: S) -> Result<S::Ok, S::Error> {
    let mut bytes = Vec::with_capacity(deliveries.len() * DELIVERY_BYTES);
    for delivery in deliveries {
        bytes.extend_from_slice(delivery.event.uuid().as_bytes());
        bytes.extend_from_slice(delivery.subscription.uuid().as_bytes());
    }
    serializer.serialize_str(&BASE64_URL_SAFE_NO_PAD.encode(bytes))
}

fn unpack<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<DeliveryId>, D::Error> {
    struct Packed;

    impl de::Visitor<'_> for Packed {
        type Value = Vec<DeliveryId>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "base64url of {DELIVERY_BYTES} bytes for each delivery")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
            let wrong = || E::invalid_value(de::Unexpected::Other("text"), &self);
            let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| wrong())?;
            let (ids, rest) = bytes.as_chunks::<16>();
            let (pairs, odd) = ids.as_chunks::<2>();
            if !rest.is_empty() || !odd.is_empty() {
                return Err(wrong());
            }
            let delivery = |[event, subscription]: &[[u8; 16]; 2]| DeliveryId {
                event: EventId::from_uuid(Uuid::from_bytes(*event)),
                subscription: SubscriptionId::from_uuid(Uuid::from_bytes(*subscription)),
            };
            Ok(pairs.iter().map(delivery).collect())
        }
    }

    deserializer.deserialize_str(Packed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uuid(number: u128) -> Uuid {
        Uuid::from_u128(0x0190_163d_8694_739b_aea5_966c_26f8_0000 + number)
    }

    fn delivery(event: u128, subscription: u128) -> DeliveryId {
        DeliveryId {
            event: EventId::from_uuid(uuid(event)),
            subscription: SubscriptionId::from_uuid(uuid(subscription)),
        }
    }

    #[test]
    fn the_wire_format_is_what_it_was() {
        let due = |deliveries| Message::DeliveryDue { claim: ClaimId::from_uuid(uuid(2)), deliveries };
        for (message, text) in [
            (
                Message::EventAccepted { group: EventGroupId::from_uuid(uuid(1)), accepted: None },
                r#"{"kind":"event_accepted","group":"0190163d-8694-739b-aea5-966c26f80001"}"#,
            ),
            (
                Message::EventAccepted {
                    group: EventGroupId::from_uuid(uuid(1)),
                    accepted: Some(Accepted {
                        since: DateTime::from_timestamp_micros(1_800_000_000_000_001).unwrap(),
                        events: vec![AcceptedEvent {
                            tenant: TenantId::from_uuid(uuid(8)),
                            id: EventId::from_uuid(uuid(3)),
                            event_type: "order.created".parse().unwrap(),
                        }],
                    }),
                },
                concat!(
                    r#"{"kind":"event_accepted","group":"0190163d-8694-739b-aea5-966c26f80001","accepted":{"#,
                    r#""since":"2027-01-15T08:00:00.000001Z","events":[{"tenant":"0190163d-8694-739b-aea5-966c26f80008","#,
                    r#""id":"0190163d-8694-739b-aea5-966c26f80003","event_type":"order.created"}]}}"#
                ),
            ),
            (
                due(vec![delivery(3, 4), delivery(3, 5)]),
                concat!(
                    r#"{"kind":"delivery_due","claim":"0190163d-8694-739b-aea5-966c26f80002","deliveries":""#,
                    "AZAWPYaUc5uupZZsJvgAAwGQFj2GlHObrqWWbCb4AAQBkBY9hpRzm66llmwm-AADAZAWPYaUc5uupZZsJvgABQ",
                    r#""}"#
                ),
            ),
            (
                due(vec![]),
                r#"{"kind":"delivery_due","claim":"0190163d-8694-739b-aea5-966c26f80002","deliveries":""}"#,
            ),
            (
                Message::DeliverySettled { settlements: vec![SettlementId::from_uuid(uuid(6))] },
                r#"{"kind":"delivery_settled","settlements":["0190163d-8694-739b-aea5-966c26f80006"]}"#,
            ),
            (Message::TaskQueued {}, r#"{"kind":"task_queued"}"#),
            (
                Message::InboxFilled { inboxes: vec![SubscriptionId::from_uuid(uuid(7))] },
                r#"{"kind":"inbox_filled","inboxes":["0190163d-8694-739b-aea5-966c26f80007"]}"#,
            ),
        ] {
            assert_eq!(String::from_utf8(message.to_bytes().unwrap()).unwrap(), text);
            assert_eq!(Message::from_bytes(text.as_bytes()).unwrap(), message);
        }
    }

    #[test]
    fn a_later_version_may_add_a_field() {
        let text = r#"{"group":"0190163d-8694-739b-aea5-966c26f80001","kind":"event_accepted","since":7}"#;
        let message = Message::EventAccepted { group: EventGroupId::from_uuid(uuid(1)), accepted: None };
        assert_eq!(Message::from_bytes(text.as_bytes()).unwrap(), message);
    }

    #[test]
    fn what_is_not_a_message_is_refused() {
        for bad in [
            "",
            "{",
            "null",
            "[]",
            r#"{"kind":"task_burnt","task":"0190163d-8694-739b-aea5-966c26f80001"}"#,
            r#"{"kind":"event_accepted"}"#,
            r#"{"kind":"event_accepted","group":7}"#,
            r#"{"kind":"event_accepted","group":"0190163d-8694-739b-aea5-966c26f80001","accepted":[]}"#,
            r#"{"kind":"event_accepted","group":"grp_0"}"#,
            r#"{"kind":"delivery_due","claim":"0190163d-8694-739b-aea5-966c26f80002","deliveries":[]}"#,
            r#"{"kind":"delivery_due","claim":"0190163d-8694-739b-aea5-966c26f80002","deliveries":"AZAWPQ"}"#,
            r#"{"kind":"delivery_due","claim":"0190163d-8694-739b-aea5-966c26f80002","deliveries":"AZAWPYaUc5uupZZsJvgAAw"}"#,
            r#"{"kind":"delivery_due","claim":"0190163d-8694-739b-aea5-966c26f80002","deliveries":"*"}"#,
        ] {
            assert!(Message::from_bytes(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_full_message_of_deliveries_stays_below_twelve_kilobytes() {
        let deliveries = (0..256).map(|number| delivery(number, 1)).collect();
        let message = Message::DeliveryDue { claim: ClaimId::from_uuid(uuid(2)), deliveries };
        let bytes = message.to_bytes().unwrap();
        assert!(bytes.len() < 12_000, "{}", bytes.len());
        assert_eq!(Message::from_bytes(&bytes).unwrap(), message);
    }
}
