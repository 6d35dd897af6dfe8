//! From a posted JSON value to an event: the checks of contract §2 and the canonical body.

use chrono::{DateTime, TimeDelta, Utc};

use super::{EventType, NewEvent, Origin, wire_time};
use crate::{
    catalogue::{
        rules::{Refused, TenantRules},
        schema::Violation,
    },
    id::{EventId, TenantId},
    trace::TraceContext,
    wire::{Json, Object, to_canonical},
};

/// The largest event that is accepted, as posted: 1 MiB (contract §2).
pub const MAX_BODY_BYTES: usize = 1 << 20;

/// The largest `metadata` that is accepted, as canonical JSON: 16 KiB.
pub const MAX_METADATA_BYTES: usize = 16 << 10;

/// How far ahead an event may be scheduled.
const MAX_AHEAD: TimeDelta = TimeDelta::days(7);

/// Members that delivered metadata always has, in this order.
const METADATA: [&str; 3] = ["correlation_id", "source_ip", "user_agent"];

/// A checked request to store an event.
#[derive(Clone, Debug)]
pub struct Draft {
    event_type: EventType,
    payload: Json,
    metadata: Object,
    timestamp: Option<DateTime<Utc>>,
    deliver_at: Option<DateTime<Utc>>,
}

/// What is wrong with a posted event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {reason}")]
pub struct DraftError {
    /// The member that is at fault.
    pub field: &'static str,
    /// What is wrong with it, continuing its name: "is missing".
    pub reason: String,
}

/// What is known of an event besides what the caller wrote.
#[derive(Clone, Debug)]
pub struct Provenance<'a> {
    /// The owner.
    pub tenant: TenantId,
    /// Time of acceptance.
    pub now: DateTime<Utc>,
    /// The peer, unless the caller named another source.
    pub source_ip: Option<&'a str>,
    /// The caller's program, unless it named another.
    pub user_agent: Option<&'a str>,
    /// Stands for a correlation id that the caller did not give.
    pub request_id: &'a str,
    /// The caller's trace.
    pub trace: TraceContext,
}

fn wrong(field: &'static str, reason: impl Into<String>) -> DraftError {
    DraftError { field, reason: reason.into() }
}

impl Draft {
    /// Checks `{event_type, payload, metadata?, timestamp?, deliver_at?}`. Unknown members are ignored.
    ///
    /// An event with `deliver_at` is accepted at once and fanned out then: whoever is subscribed at that time gets it. It may be
    /// at most [`MAX_AHEAD`] from now; one that lies in the past is the same as none. It is kept in the metadata, too, so that it
    /// can be seen and asked for.
    ///
    /// # Errors
    /// Names the first member that is missing or not acceptable.
    pub fn parse(json: Json, now: DateTime<Utc>) -> Result<Self, DraftError> {
        let Json::Object(mut object) = json else {
            return Err(wrong("event", "must be a JSON object"));
        };
        let event_type = match object.remove("event_type") {
            None | Some(Json::Null) => return Err(wrong("event_type", "is missing")),
            Some(value) => match value.as_str() {
                None => return Err(wrong("event_type", "must be a string")),
                Some(text) => {
                    text.parse::<EventType>().map_err(|error| wrong("event_type", error.to_string()))?
                }
            },
        };
        let payload = match object.remove("payload") {
            None | Some(Json::Null) => return Err(wrong("payload", "is missing")),
            Some(payload @ Json::Object(_)) => payload,
            Some(_) => return Err(wrong("payload", "must be a JSON object")),
        };
        let mut metadata = match object.remove("metadata") {
            None | Some(Json::Null) => Object::new(),
            Some(Json::Object(metadata)) => metadata,
            Some(_) => return Err(wrong("metadata", "must be a JSON object")),
        };
        for key in METADATA {
            if metadata.get(key).is_some_and(|value| !value.is_null() && value.as_str().is_none()) {
                return Err(wrong("metadata", format!("has a `{key}` that is not a string")));
            }
        }
        let timestamp = match object.remove("timestamp") {
            None | Some(Json::Null) => None,
            Some(value) => Some(parse_time(&value).map_err(|reason| wrong("timestamp", reason))?),
        };
        let deliver_at = match object.remove("deliver_at") {
            None | Some(Json::Null) => None,
            Some(value) => Some(parse_time(&value).map_err(|reason| wrong("deliver_at", reason))?),
        };
        if deliver_at.is_some_and(|at| MAX_AHEAD < at - now) {
            return Err(wrong(
                "deliver_at",
                format!("must lie within {} days from now", MAX_AHEAD.num_days()),
            ));
        }
        if let Some(at) = deliver_at {
            metadata.insert("deliver_at", Json::from(wire_time(at)));
        }
        let deliver_at = deliver_at.filter(|at| now < *at);
        let draft = Self { event_type, payload, metadata, timestamp, deliver_at };
        if to_canonical(&Json::Object(draft.metadata.clone())).len() > MAX_METADATA_BYTES {
            return Err(wrong("metadata", format!("is larger than {MAX_METADATA_BYTES} bytes")));
        }
        Ok(draft)
    }

    /// A draft that Hookyard itself makes.
    #[must_use]
    pub fn of(event_type: EventType, payload: Object) -> Self {
        Self {
            event_type,
            payload: Json::Object(payload),
            metadata: Object::new(),
            timestamp: None,
            deliver_at: None,
        }
    }

    /// The draft with more metadata, behind what delivered metadata always has.
    #[must_use]
    pub fn with_metadata(mut self, metadata: Object) -> Self {
        self.metadata = metadata;
        self
    }

    /// The type the event will have.
    #[must_use]
    pub fn event_type(&self) -> &EventType {
        &self.event_type
    }

    /// Whether the catalogue lets it in. Returns what its payload breaks although it does.
    ///
    /// # Errors
    /// Why it does not.
    pub fn judged_by(&self, rules: &TenantRules) -> Result<Vec<Violation>, Refused> {
        rules.judge(&self.event_type, &self.payload)
    }

    /// Marks the event as a test in its metadata.
    #[must_use]
    pub fn marked_as_test(mut self) -> Self {
        self.metadata.insert("test", Json::Bool(true));
        self
    }

    /// Gives the draft its identity and makes the bytes that receivers will get.
    #[must_use]
    pub fn accept(self, origin: Origin, provenance: &Provenance<'_>) -> NewEvent {
        let id = EventId::new(provenance.now);
        let occurred_at = self.timestamp.unwrap_or(provenance.now);
        let mut given = self.metadata;
        let mut metadata = Object::new();
        let known = [Some(provenance.request_id), provenance.source_ip, provenance.user_agent];
        for (key, known) in METADATA.into_iter().zip(known) {
            let value = match given.remove(key) {
                Some(value) if !value.is_null() => value,
                Some(_) | None => known.map_or(Json::Null, Json::from),
            };
            metadata.insert(key, value);
        }
        for (key, value) in given {
            metadata.insert(key, value);
        }
        let metadata = Json::Object(metadata);
        let filterable = without_nul(metadata.to_serde());

        let text = id.to_string();
        let mut event = Object::new();
        event.insert("id", Json::from(text.as_str()));
        event.insert("event_id", Json::from(text.as_str()));
        event.insert("event_type", Json::from(self.event_type.as_str()));
        event.insert("timestamp", Json::from(wire_time(occurred_at)));
        event.insert("payload", self.payload);
        event.insert("metadata", metadata);
        event.insert("created_at", Json::from(wire_time(provenance.now)));
        NewEvent {
            tenant: provenance.tenant,
            id,
            event_type: self.event_type,
            origin,
            occurred_at,
            created_at: provenance.now,
            due_at: self.deliver_at,
            metadata: filterable,
            trace: provenance.trace,
            body: to_canonical(&Json::Object(event)),
        }
    }
}

/// RFC 3339 with an offset; the years Postgres and JavaScript both print with four digits.
pub(crate) fn parse_time(value: &Json) -> Result<DateTime<Utc>, String> {
    let text = value.as_str().ok_or("must be a string")?;
    let time = DateTime::parse_from_rfc3339(text)
        .map_err(|_| "must be an RFC 3339 time with an offset, such as 2026-11-21T10:30:00.000Z".to_owned())?
        .to_utc();
    if (1970..=9999).contains(&chrono::Datelike::year(&time)) {
        Ok(time)
    } else {
        Err("must lie between the years 1970 and 9999".to_owned())
    }
}

/// Postgres' jsonb cannot hold U+0000. The column is for filters only, the body keeps every character.
pub(crate) fn without_nul(value: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::String(text) if text.contains('\0') => Value::String(text.replace('\0', "")),
        Value::Array(items) => Value::Array(items.into_iter().map(without_nul).collect()),
        Value::Object(members) => Value::Object(
            members.into_iter().map(|(key, value)| (key.replace('\0', ""), without_nul(value))).collect(),
        ),
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::parse;

    fn draft(text: &str) -> Result<Draft, String> {
        Draft::parse(parse(text.as_bytes()).unwrap(), DateTime::UNIX_EPOCH).map_err(|error| error.to_string())
    }

    fn provenance(now: DateTime<Utc>) -> Provenance<'static> {
        Provenance {
            tenant: TenantId::new(now),
            now,
            source_ip: Some("192.0.2.1"),
            user_agent: None,
            request_id: "req-1",
            trace: TraceContext::fresh(),
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let table = [
            ("[]", "event must be a JSON object"),
            ("{}", "event_type is missing"),
            (r#"{"event_type":5}"#, "event_type must be a string"),
            (r#"{"event_type":"a"}"#, "payload is missing"),
            (r#"{"event_type":"a","payload":null}"#, "payload is missing"),
            (r#"{"event_type":"a","payload":"{}"}"#, "payload must be a JSON object"),
            (r#"{"event_type":"a","payload":[]}"#, "payload must be a JSON object"),
            (r#"{"event_type":"a","payload":{},"metadata":3}"#, "metadata must be a JSON object"),
            (
                r#"{"event_type":"a","payload":{},"metadata":{"source_ip":3}}"#,
                "metadata has a `source_ip` that is not a string",
            ),
            (
                r#"{"event_type":"a","payload":{},"timestamp":"yesterday"}"#,
                "timestamp must be an RFC 3339 time with an offset, such as 2026-11-21T10:30:00.000Z",
            ),
            (r#"{"event_type":"a","payload":{},"timestamp":1}"#, "timestamp must be a string"),
            (
                r#"{"event_type":"a","payload":{},"timestamp":"0001-01-01T00:00:00Z"}"#,
                "timestamp must lie between the years 1970 and 9999",
            ),
        ];
        for (text, expected) in table {
            assert_eq!(draft(text).unwrap_err(), expected, "{text}");
        }
    }

    #[test]
    fn a_time_to_deliver_lies_within_a_week() {
        let at = |text: &str| draft(&format!(r#"{{"event_type":"a","payload":{{}},"deliver_at":"{text}"}}"#));
        let scheduled = at("1970-01-08T00:00:00Z").unwrap();
        let event = scheduled.accept(Origin::Posted, &provenance(DateTime::UNIX_EPOCH));
        assert_eq!(event.due_at, DateTime::from_timestamp(7 * 86_400, 0));
        assert_eq!(event.metadata["deliver_at"], "1970-01-08T00:00:00.000Z");
        assert_eq!(at("1970-01-08T00:00:00.001Z").unwrap_err(), "deliver_at must lie within 7 days from now");
        let past = at("1970-01-01T00:00:00Z").unwrap();
        assert_eq!(past.accept(Origin::Posted, &provenance(DateTime::UNIX_EPOCH)).due_at, None);
        assert!(at("soon").unwrap_err().starts_with("deliver_at must be an RFC 3339 time"));
    }

    #[test]
    fn metadata_is_bounded() {
        let with = |length: usize| {
            // {"k":"…"} is 8 bytes around the text.
            draft(&format!(
                r#"{{"event_type":"a","payload":{{}},"metadata":{{"k":"{}"}}}}"#,
                "x".repeat(length - 8)
            ))
        };
        assert!(with(MAX_METADATA_BYTES).is_ok());
        assert!(with(MAX_METADATA_BYTES + 1).is_err());
    }

    #[test]
    fn the_body_has_the_seven_members_in_order() {
        let now = DateTime::from_timestamp_millis(1_763_720_000_123).unwrap();
        let event = draft(
            r#"{"event_type":"order.created","payload":{"b":1.0,"a":"é\u0000"},"x":1,
                "metadata":{"z":"\u0000","user_agent":"me"},"timestamp":"2025-01-01T01:00:00+01:00"}"#,
        )
        .unwrap()
        .accept(Origin::Posted, &provenance(now));
        let id = event.id.to_string();
        assert_eq!(
            String::from_utf8(event.body).unwrap(),
            format!(
                r#"{{"id":"{id}","event_id":"{id}","event_type":"order.created","timestamp":"2025-01-01T00:00:00.000Z","payload":{{"b":1,"a":"é\u0000"}},"metadata":{{"correlation_id":"req-1","source_ip":"192.0.2.1","user_agent":"me","z":"\u0000"}},"created_at":"2025-11-21T10:13:20.123Z"}}"#
            )
        );
        assert_eq!(event.metadata["z"], "", "jsonb cannot hold U+0000");
    }
}
