//! The envelope of a batch, `{"events": […]}`: it is cut into the texts of its events, each of which is then parsed by
//! itself, so that one that is refused harms no other and memory is that of one.

use std::fmt;

use hookyard_chassis::api_error::ApiError;
use hookyard_domain::event::MAX_BODY_BYTES;
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, SeqAccess, Visitor},
};
use serde_json::{error::Category, value::RawValue};

use crate::problem;

/// Events in a batch at most (contract §2).
pub(crate) const MAX_EVENTS: usize = 100;

/// Cuts a batch into the texts of its events.
///
/// # Errors
/// 400 `INVALID_JSON`, or 422 `INVALID_BATCH` when it is no object with 1 to [`MAX_EVENTS`] `events`.
pub(crate) fn split(text: &[u8]) -> Result<Vec<&str>, ApiError> {
    #[derive(Deserialize)]
    struct Envelope<'a> {
        #[serde(borrow, default)]
        events: Option<&'a RawValue>,
    }
    let trimmed = text.trim_ascii_start();
    if trimmed.is_empty() {
        return Err(ApiError::bad_request("INVALID_JSON", "the body is empty, a JSON object is expected"));
    }
    if trimmed[0] != b'{' {
        // Whether it is JSON at all is told first.
        return match serde_json::from_slice::<IgnoredAny>(text) {
            Ok(_) => Err(problem::invalid("INVALID_BATCH", "batch", "must be a JSON object")),
            Err(error) => Err(not_json(text, &error)),
        };
    }
    let envelope: Envelope<'_> = serde_json::from_slice(text).map_err(|error| not_json(text, &error))?;
    let Some(events) = envelope.events else {
        return Err(problem::invalid("INVALID_BATCH", "events", "is missing"));
    };
    let list: Events<'_> = serde_json::from_str(events.get())
        .map_err(|_| problem::invalid("INVALID_BATCH", "events", "must be an array"))?;
    match list.length {
        1..=MAX_EVENTS => Ok(list.texts),
        length => {
            let reason = format!("must hold 1 to {MAX_EVENTS} events, not {length}");
            Err(problem::invalid("INVALID_BATCH", "events", &reason))
        }
    }
}

/// Refuses an event of a batch that would be refused alone.
///
/// # Errors
/// 413.
pub(crate) fn check_size(text: &str) -> Result<(), ApiError> {
    if text.len() > MAX_BODY_BYTES { Err(ApiError::payload_too_large(MAX_BODY_BYTES)) } else { Ok(()) }
}

/// The first events as texts, and how many there are: a body can hold millions.
struct Events<'a> {
    texts: Vec<&'a str>,
    length: usize,
}

impl<'de> Deserialize<'de> for Events<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;

        impl<'de> Visitor<'de> for List {
            type Value = Events<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut events = Events { texts: Vec::new(), length: 0 };
                while events.texts.len() < MAX_EVENTS {
                    let Some(text) = list.next_element::<&'de RawValue>()? else { break };
                    events.texts.push(text.get());
                }
                events.length = events.texts.len();
                if events.length == MAX_EVENTS {
                    while list.next_element::<IgnoredAny>()?.is_some() {
                        events.length += 1;
                    }
                }
                Ok(events)
            }
        }

        deserializer.deserialize_seq(List)
    }
}

fn not_json(text: &[u8], error: &serde_json::Error) -> ApiError {
    if error.classify() == Category::Data && std::str::from_utf8(text).is_ok() {
        // Only a name can be at fault: the values are not looked at.
        return problem::invalid("INVALID_BATCH", "events", "is given more than once");
    }
    let told = error.to_string();
    let reason = told.rsplit_once(" at line ").map_or(told.as_str(), |(reason, _place)| reason);
    let message = format!("invalid JSON at byte {}: {reason}", offset(text, error));
    ApiError::bad_request("INVALID_JSON", message).reason(reason)
}

/// Where the parser stopped, in bytes: it tells a line and a column, both from 1.
fn offset(text: &[u8], error: &serde_json::Error) -> usize {
    let lines = text.split_inclusive(|byte| *byte == b'\n').take(error.line().saturating_sub(1));
    (lines.map(<[u8]>::len).sum::<usize>() + error.column().saturating_sub(1)).min(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &[u8]) -> (u16, &'static str, String) {
        let error = split(text).unwrap_err();
        (error.status().as_u16(), error.code(), error.message().to_owned())
    }

    #[test]
    fn a_batch_is_cut_into_its_events() {
        let text =
            br#" {"x": [1e999, "\ud800"], "events": [ {"a": 9007199254740993}, 5 ,"\ud800", {"b":[[]]}] } "#;
        assert_eq!(split(text).unwrap(), [r#"{"a": 9007199254740993}"#, "5", r#""\ud800""#, r#"{"b":[[]]}"#]);
    }

    #[test]
    fn one_hundred_is_the_limit() {
        let batch = |length: usize| format!(r#"{{"events":[{}]}}"#, vec!["{}"; length].join(","));
        assert_eq!(split(batch(100).as_bytes()).unwrap().len(), 100);
        for (length, told) in [(0, "not 0"), (101, "not 101"), (100_000, "not 100000")] {
            let (status, code, message) = refused(batch(length).as_bytes());
            assert_eq!((status, code), (422, "INVALID_BATCH"));
            assert!(message.ends_with(told), "{message}");
        }
    }

    #[test]
    fn what_is_wrong_with_an_envelope_is_told() {
        let deep = format!(r#"{{"events":{}"#, "[".repeat(200_000));
        for (text, status, code) in [
            (&b""[..], 400, "INVALID_JSON"),
            (b" \n", 400, "INVALID_JSON"),
            (b"{", 400, "INVALID_JSON"),
            (b"[", 400, "INVALID_JSON"),
            (b"{\"events\":[{}]} x", 400, "INVALID_JSON"),
            (b"{\"events\":[{]}", 400, "INVALID_JSON"),
            (b"{\"events\":[\"\xff\"]}", 400, "INVALID_JSON"),
            (b"{\"\xff\":1,\"events\":[{}]}", 400, "INVALID_JSON"),
            (deep.as_bytes(), 400, "INVALID_JSON"),
            (b"[]", 422, "INVALID_BATCH"),
            (b"null", 422, "INVALID_BATCH"),
            (b"{}", 422, "INVALID_BATCH"),
            (b"{\"events\":null}", 422, "INVALID_BATCH"),
            (b"{\"events\":{}}", 422, "INVALID_BATCH"),
            (b"{\"events\":[],\"events\":[{}]}", 422, "INVALID_BATCH"),
        ] {
            let (found, found_code, message) = refused(text);
            let shown = String::from_utf8_lossy(&text[..text.len().min(60)]);
            assert_eq!((found, found_code), (status, code), "{shown}: {message}");
        }
        assert_eq!(refused(b"{\"a\":1,\n\"events\":[}").2, "invalid JSON at byte 18: expected value",);
    }
}
