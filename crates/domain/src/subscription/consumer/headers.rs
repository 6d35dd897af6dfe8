//! Further headers of a consumer's deliveries: which names are ours, and how they are kept.

use std::fmt;

/// The most headers.
pub const MAX_HEADERS: usize = 20;
/// The longest name, in bytes.
pub const MAX_NAME_BYTES: usize = 64;
/// The longest value, in bytes.
pub const MAX_VALUE_BYTES: usize = 1024;

/// What stands for a value wherever headers are shown.
pub const MASK: &str = "********";

/// Names that say how the message is framed, what it is, or that it is ours.
const RESERVED: [&str; 22] = [
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "x-attempt",
    "x-codetether-signature",
    "x-correlation-id",
    "x-delivery-id",
    "x-event-id",
    "x-triggersapi-signature",
];

/// What reserved names begin with.
const RESERVED_PREFIXES: [&str; 4] = ["webhook-", "proxy-", "x-hookyard-", "zapier-callback-"];

/// Checked headers, names in lower case.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    /// Checks headers.
    ///
    /// # Errors
    /// The name that is at fault, empty when it is their number, and what is wrong, continuing the name.
    pub fn new<'a>(given: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, (String, String)> {
        let mut headers: Vec<(String, String)> = Vec::new();
        for (name, value) in given {
            let wrong = |reason: &str| Err((name.chars().take(MAX_NAME_BYTES).collect(), reason.to_owned()));
            if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(is_token) {
                return wrong("is not the name of a header: 1 to 64 letters, digits and - _ . and the like");
            }
            let lower = name.to_ascii_lowercase();
            if RESERVED.contains(&lower.as_str())
                || RESERVED_PREFIXES.iter().any(|prefix| lower.starts_with(prefix))
            {
                return wrong("is reserved: Hookyard sets it itself, or it belongs to the connection");
            }
            if headers.iter().any(|(there, _)| *there == lower) {
                return wrong("is given twice");
            }
            if value == MASK {
                return wrong("is masked; send the value itself");
            }
            let printable = |byte: u8| matches!(byte, b' '..=b'~' | b'\t');
            if value.is_empty()
                || value.len() > MAX_VALUE_BYTES
                || value.trim() != value
                || !value.bytes().all(printable)
            {
                return wrong(
                    "must have a value of 1 to 1024 printable ASCII characters, no blanks around it",
                );
            }
            headers.push((lower, value.to_owned()));
        }
        if headers.len() > MAX_HEADERS {
            return Err((String::new(), format!("must be at most {MAX_HEADERS}, not {}", headers.len())));
        }
        Ok(Self(headers))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The names.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        self.0.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// As JSON, to be sealed and stored.
    pub(super) fn expose(&self) -> Vec<u8> {
        serde_json::to_vec(&self.0).unwrap_or_default()
    }

    /// What was stored.
    pub(in crate::subscription) fn stored(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok().map(Self)
    }
}

/// RFC 9110 §5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Tells the names, and no value.
impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Headers").field(&self.names()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_ours_or_the_connections_are_refused() {
        for name in RESERVED.into_iter().chain([
            "Host",
            "WEBHOOK-Signature",
            "proxy-authorization",
            "webhook-x",
            "X-Hookyard-Sequence",
        ]) {
            let (at, reason) = Headers::new([(name, "x")]).unwrap_err();
            assert!(at == name && reason.starts_with("is reserved"), "{name}: {reason}");
        }
        for name in ["authorization", "X-Api-Key", "x-my_header.v2", "cookie"] {
            assert_eq!(Headers::new([(name, "x y")]).unwrap().names(), [name.to_lowercase()]);
        }
        for name in ["", "a b", "a:b", "é", "a\n"] {
            assert!(Headers::new([(name, "x")]).is_err(), "{name:?}");
        }
        assert!(Headers::new([("a", "1"), ("A", "2")]).is_err());
    }

    #[test]
    fn headers_are_bounded() {
        let of = |count: usize| {
            let names: Vec<String> = (0..count).map(|at| format!("x-{at}")).collect();
            Headers::new(names.iter().map(|name| (name.as_str(), "v"))).is_ok()
        };
        assert!(of(MAX_HEADERS) && !of(MAX_HEADERS + 1));
        let named = |bytes: usize| Headers::new([("n".repeat(bytes).as_str(), "v")]).is_ok();
        assert!(named(MAX_NAME_BYTES) && !named(MAX_NAME_BYTES + 1));
        let valued = |bytes: usize| Headers::new([("n", "v".repeat(bytes).as_str())]).is_ok();
        assert!(valued(MAX_VALUE_BYTES) && !valued(MAX_VALUE_BYTES + 1));
        for bad in ["", " x", "x ", "é", "a\r\nb", "\0", MASK] {
            assert!(Headers::new([("n", bad)]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_is_stored_reads_back_and_debug_tells_no_value() {
        let headers = Headers::new([("Authorization", "Bearer top"), ("x", "y")]).unwrap();
        assert_eq!(Headers::stored(&headers.expose()), Some(headers.clone()));
        assert_eq!(format!("{headers:?}"), r#"Headers(["authorization", "x"])"#);
    }
}
