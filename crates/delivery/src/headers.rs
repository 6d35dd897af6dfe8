//! The headers of a try, its signatures among them.

use std::fmt::{Display, Write as _};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use hookyard_domain::{delivery::Profile, id::EventId, subscription::consumer};
use hookyard_egress::{HeaderMap, HeaderName, HeaderValue};

use crate::{job::Job, sender::Signing};

/// Bytes that the values of most tries need.
const USUAL: usize = 512;

/// Headers that the client adds: `accept`, `user-agent`, `host`, `content-length`.
const ADDED: usize = 4;

/// Headers of which all values are parts of one text: it is allocated once for all of them, and copying a part of a text that is shared, as
/// the client does for requests over TLS, allocates nothing.
#[derive(Debug)]
struct Headers {
    text: String,
    /// Their names, each with the end of its value.
    ends: Vec<(HeaderName, usize)>,
}

impl Headers {
    fn new() -> Self {
        Self { text: String::with_capacity(USUAL), ends: Vec::with_capacity(14) }
    }

    fn put(&mut self, name: &'static str, value: impl Display) {
        self.put_as(HeaderName::from_static(name), value);
    }

    fn put_as(&mut self, name: HeaderName, value: impl Display) {
        // A text takes whatever is written.
        let _never_fails = write!(self.text, "{value}");
        self.ends.push((name, self.text.len()));
    }

    /// A value that no header can have is left out.
    fn into_map(self) -> HeaderMap {
        let text = Bytes::from(self.text);
        let (mut headers, mut start) = (HeaderMap::with_capacity(self.ends.len() + ADDED), 0);
        for (name, end) in self.ends {
            if let Ok(value) = HeaderValue::from_maybe_shared(text.slice(start..end)) {
                headers.insert(name, value);
            }
            start = end;
        }
        headers
    }
}

/// The message id of Standard Webhooks: the same on every try, also of a replay, so that a receiver knows a message that
/// it has seen.
fn message_id(event: EventId) -> String {
    event.to_string().replacen("evt_", "msg_", 1)
}

/// The headers of a try with this body, its `number`th.
pub(crate) fn of(job: &Job, body: &[u8], signing: Signing<'_>, number: u16, now: DateTime<Utc>) -> HeaderMap {
    let mut headers = Headers::new();
    headers.put("traceparent", job.event.trace.child());
    if job.held.profile == Profile::Farewell {
        return headers.into_map();
    }
    let id = message_id(job.event.id);
    let timestamp = now.timestamp();
    headers.put("content-type", "application/json");
    headers.put("webhook-id", &id);
    headers.put("webhook-timestamp", timestamp);
    let signing_secret = &job.secrets.signing;
    let sign = |text: &[u8]| match &job.secrets.consumer {
        Some(keys) => consumer::signatures(signing_secret, keys, &id, now, text),
        None => signing_secret.standard_webhooks(&id, timestamp, text),
    };
    headers.put("webhook-signature", sign(body));
    // Signed by itself, as a message that is the number: the body was signed before there was one, and whoever verifies bodies
    // verifies numbers, too (docs/decisions/0049).
    if let Some(sequence) = job.held.sequence {
        let sequence = sequence.to_string();
        headers.put("x-hookyard-sequence-signature", sign(sequence.as_bytes()));
        headers.put("x-hookyard-sequence", sequence);
    }
    let secret = job.secrets.webhook.as_ref();
    match job.held.profile {
        Profile::Task => {
            if let Some(secret) = secret.or(signing.task_secret) {
                headers.put("x-codetether-signature", secret.codetether(body));
            }
        }
        Profile::Callback => headers.put("zapier-callback-signature", signing.token.unwrap_or_default()),
        Profile::Consumer | Profile::Farewell | Profile::Inbox => {}
        Profile::Hook => {
            if let Some(secret) = secret {
                headers.put("x-triggersapi-signature", secret.triggers_api(body));
            }
        }
    }
    headers.put("x-event-id", job.event.id);
    headers.put("x-delivery-id", job.held.id);
    headers.put("x-attempt", number);
    if let Some(id) = &job.event.correlation_id {
        // A correlation id may be any text; one that a header cannot hold is sent as a form would encode it.
        if id.bytes().all(|byte| (0x21..0x7f).contains(&byte)) {
            headers.put("x-correlation-id", id);
        } else {
            headers.put(
                "x-correlation-id",
                url::form_urlencoded::byte_serialize(id.as_bytes()).collect::<String>(),
            );
        }
    }
    // None of them has the name of one of ours.
    for (name, value) in job.secrets.consumer.iter().flat_map(|keys| keys.headers.iter()) {
        if let Ok(name) = HeaderName::from_bytes(name.as_bytes()) {
            headers.put_as(name, value);
        }
    }
    headers.into_map()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_the_part_of_the_text_that_was_written_for_it() {
        let mut headers = Headers::new();
        headers.put("x-attempt", 3);
        headers.put("x-empty", "");
        headers.put("x-broken", "no\nheader");
        headers.put("x-last", "é");
        let map = headers.into_map();
        let values = |name: &str| map.get(name).map(HeaderValue::as_bytes);
        assert_eq!(values("x-attempt"), Some(&b"3"[..]));
        assert_eq!(values("x-empty"), Some(&b""[..]));
        assert_eq!(values("x-broken"), None);
        assert_eq!(values("x-last"), Some("é".as_bytes()));
        assert_eq!(map.len(), 3);
    }
}
