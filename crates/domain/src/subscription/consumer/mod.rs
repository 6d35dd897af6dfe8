//! Consumers: the fourth kind of subscription (contract §4). What they have in common with hooks (where to, which events, how it
//! goes there) is the subscription; here stands what they alone can ask for.

pub mod headers;
pub mod keys;
pub mod place;
pub mod store;
pub mod tags;
mod transformation;

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use ring::digest::{Context, SHA256};

pub use headers::Headers;
pub use place::Place;
pub use transformation::{
    MAX_RESULT_BYTES as MAX_TRANSFORMED_BYTES, NOTHING, TransformError, Transformation, Transformed,
};

use crate::{
    id::SubscriptionId,
    wire::{Json, SigningKey, SigningSecret},
};

/// The most consumers of a tenant.
pub const MAX_CONSUMERS: i64 = 50;
/// The most event types or patterns of one.
pub const MAX_EVENT_TYPES: usize = 100;
/// The longest description, in characters.
pub const MAX_DESCRIPTION_CHARS: usize = 500;
/// The fastest pace, in deliveries per second.
pub const MAX_RATE: i32 = 10_000;
/// The shortest and the longest time after which an event is not sent any more, in seconds: half a minute to a week.
pub const TTL_S: std::ops::RangeInclusive<i32> = 30..=604_800;
/// For how long the secret and the key from before a rotation sign beside the new ones (contract §4).
pub const OVERLAP: TimeDelta = TimeDelta::hours(24);

/// The method of a consumer's deliveries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// `POST`
    #[default]
    Post,
    /// `PUT`
    Put,
}

impl Method {
    /// The word for it on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Post => "POST",
            Self::Put => "PUT",
        }
    }
}

impl std::str::FromStr for Method {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Post, Self::Put].into_iter().find(|method| method.as_str() == text).ok_or(())
    }
}

/// What a consumer has besides what every subscription has, as matching and delivering see it.
#[derive(Debug)]
pub struct Consumer {
    /// At least one of them, if there are any.
    pub tags: Vec<String>,
    /// How its deliveries are sent.
    pub method: Method,
    /// Deliveries per second.
    pub rate: Option<u32>,
    /// After which time an event is not sent any more.
    pub ttl: Option<TimeDelta>,
    /// What it is ordered by.
    pub ordering: Option<Place>,
    /// What is made of its events.
    pub transformation: Option<Transformation>,
    /// Since when it has a transformation, or when it got the one that it had; `None` = it never had one.
    pub transformed_since: Option<DateTime<Utc>>,
}

impl Consumer {
    /// Whether the content of an event has to be read to know what becomes of it here.
    #[must_use]
    pub fn reads_content(&self) -> bool {
        !self.tags.is_empty() || self.ordering.is_some()
    }

    /// The line that an event stands in at this consumer, which has the id `own`: events with the same key, one after the other.
    /// `None` without a key.
    #[must_use]
    pub fn line(&self, own: SubscriptionId, event: &Json) -> Option<uuid::Uuid> {
        let key = self.ordering.as_ref()?.find(event)?;
        match key {
            Json::String(_) | Json::Number(_) | Json::Bool(_) => {
                Some(line_of(own, &crate::wire::to_canonical(key)))
            }
            Json::Null | Json::Array(_) | Json::Object(_) => None,
        }
    }
}

/// The line of a key. A UUIDv8 (RFC 9562 §5.8): it tells no time, unlike the lines of runs. Each consumer has its own: lines are
/// looked up and walked through by this id alone, and a key such as `1` is everybody's.
#[must_use]
fn line_of(own: SubscriptionId, key: &[u8]) -> uuid::Uuid {
    let mut digest = Context::new(&SHA256);
    digest.update(own.uuid().as_bytes());
    digest.update(key);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest.finish().as_ref()[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// What signs and authenticates the deliveries of a consumer, beside the secret that every subscription has.
#[derive(Debug)]
pub struct Keys {
    /// Signs `v1a`.
    pub signing: SigningKey,
    /// From before the last rotation.
    pub previous: Option<Previous>,
    /// Further headers.
    pub headers: Headers,
    /// What is shown to receivers that ask for a client certificate.
    pub certificate: Option<ClientCertificate>,
}

/// What signed before the last rotation, and goes on for a while.
#[derive(Debug)]
pub struct Previous {
    /// Signs `v1`.
    pub secret: SigningSecret,
    /// Signs `v1a`.
    pub signing: SigningKey,
    /// Until then.
    pub until: DateTime<Utc>,
}

/// A client certificate with its key, both as PEM. That they fit together was checked when they were given.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate, and those that lead to its authority.
    pub chain: String,
    /// The private key.
    pub key: String,
    /// Until when it is valid.
    pub until: DateTime<Utc>,
}

/// Tells until when, and nothing of the key.
impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientCertificate(until {})", self.until)
    }
}

/// The `webhook-signature` of a consumer's delivery: `v1` and `v1a`, and while a rotation overlaps those of before, too. New ones
/// stand first.
#[must_use]
pub fn signatures(
    secret: &SigningSecret,
    keys: &Keys,
    message_id: &str,
    now: DateTime<Utc>,
    body: &[u8],
) -> String {
    let timestamp = now.timestamp();
    let previous = keys.previous.as_ref().filter(|previous| now < previous.until);
    let mut all = vec![secret.standard_webhooks(message_id, timestamp, body)];
    all.extend(previous.map(|previous| previous.secret.standard_webhooks(message_id, timestamp, body)));
    all.push(keys.signing.standard_webhooks(message_id, timestamp, body));
    all.extend(previous.map(|previous| previous.signing.standard_webhooks(message_id, timestamp, body)));
    all.join(" ")
}

/// The body of a consumer's delivery without a transformation: `{id, eventType, generatedDate, payload}` (contract §4). The parts
/// are those of the stored body, byte for byte. `None` when that is no body of an event.
#[must_use]
pub fn envelope(event: &[u8]) -> Option<Vec<u8>> {
    #[derive(serde::Deserialize)]
    struct Stored<'a> {
        #[serde(borrow)]
        id: &'a serde_json::value::RawValue,
        #[serde(borrow)]
        event_type: &'a serde_json::value::RawValue,
        #[serde(borrow)]
        timestamp: &'a serde_json::value::RawValue,
        #[serde(borrow)]
        payload: &'a serde_json::value::RawValue,
    }
    let stored: Stored<'_> = serde_json::from_slice(event).ok()?;
    let payload = stored.payload.get();
    let mut body = Vec::with_capacity(payload.len() + 256);
    for (name, value) in [
        (&br#"{"id":"#[..], stored.id),
        (br#","eventType":"#, stored.event_type),
        (br#","generatedDate":"#, stored.timestamp),
        (br#","payload":"#, stored.payload),
    ] {
        body.extend_from_slice(name);
        body.extend_from_slice(value.get().as_bytes());
    }
    body.push(b'}');
    Some(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{parse, parse_stored, to_canonical};

    #[test]
    fn the_envelope_has_four_members_and_is_canonical() {
        let event = br#"{"id":"evt_1","event_id":"evt_1","event_type":"a.b","timestamp":"2025-01-01T00:00:00.000Z","payload":{"b":1,"a":"\ud800"},"metadata":{"payload":2},"created_at":"x"}"#;
        let body = envelope(event).unwrap();
        assert_eq!(
            String::from_utf8(body.clone()).unwrap(),
            r#"{"id":"evt_1","eventType":"a.b","generatedDate":"2025-01-01T00:00:00.000Z","payload":{"b":1,"a":"\ud800"}}"#
        );
        assert_eq!(to_canonical(&parse_stored(&body).unwrap()), body);
        assert_eq!(envelope(b"{}"), None);
    }

    #[test]
    fn both_rotations_of_both_keys_sign_until_the_overlap_ends() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let secret = || SigningSecret::generate(&mut rand::rng());
        let (new, key) = (secret(), || SigningKey::generate(&mut rand::rng()).unwrap());
        let previous = Previous { secret: secret(), signing: key(), until: now + OVERLAP };
        let keys =
            Keys { signing: key(), previous: Some(previous), headers: Headers::default(), certificate: None };
        let versions = |at| {
            let signed = signatures(&new, &keys, "msg_1", at, b"{}");
            signed.split(' ').map(|one| one.split(',').next().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(versions(now + OVERLAP - TimeDelta::seconds(1)), ["v1", "v1", "v1a", "v1a"]);
        assert_eq!(versions(now + OVERLAP), ["v1", "v1a"]);
        let first = signatures(&new, &keys, "msg_1", now, b"{}");
        assert!(first.starts_with(&new.standard_webhooks("msg_1", now.timestamp(), b"{}")));
    }

    #[test]
    fn the_same_key_is_the_same_line_and_what_is_no_key_is_none() {
        let consumer = Consumer {
            tags: Vec::new(),
            method: Method::Post,
            rate: None,
            ttl: None,
            ordering: Some(Place::parse("payload.k").unwrap()),
            transformation: None,
            transformed_since: None,
        };
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let (own, other) = (SubscriptionId::new(now), SubscriptionId::new(now));
        let line_at = |own, payload: &str| {
            consumer.line(own, &parse(format!(r#"{{"payload":{payload}}}"#).as_bytes()).unwrap())
        };
        let line = |payload: &str| line_at(own, payload);
        assert_ne!(line(r#"{"k":"a"}"#), line_at(other, r#"{"k":"a"}"#), "another consumer's");
        assert_eq!(line(r#"{"k":"a"}"#), line(r#"{"x":1,"k":"a"}"#));
        assert_ne!(line(r#"{"k":"a"}"#), line(r#"{"k":"b"}"#));
        assert_ne!(line(r#"{"k":1}"#), line(r#"{"k":"1"}"#));
        assert_eq!(line(r#"{"k":1.0}"#), line(r#"{"k":1}"#));
        assert!(line(r#"{"k":true}"#).is_some_and(|line| line.get_version_num() == 8));
        for none in ["{}", r#"{"k":null}"#, r#"{"k":[]}"#, r#"{"k":{}}"#] {
            assert_eq!(line(none), None, "{none}");
        }
    }
}
