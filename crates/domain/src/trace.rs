//! W3C Trace Context (<https://www.w3.org/TR/trace-context/>): the part that travels, `traceparent`.
//!
//! Hookyard carries a caller's trace through its queues to the receiver; it exports no spans itself.

use std::{fmt, str::FromStr};

use uuid::Uuid;

/// One position in a distributed trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace, non-zero.
    pub trace: u128,
    /// The span of whoever speaks, non-zero.
    pub span: u64,
    /// Whether the caller records this trace (bit 0 of the flags).
    pub sampled: bool,
}

/// A `traceparent` header that does not follow the specification; the specification asks to start a new trace then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a W3C traceparent")]
pub struct TraceError;

impl TraceContext {
    /// A new trace that nobody records.
    #[must_use]
    pub fn fresh() -> Self {
        Self { trace: rand::random::<u128>().max(1), span: fresh_span(), sampled: false }
    }

    /// A new span of a stored trace.
    #[must_use]
    pub fn of(trace: Uuid, sampled: bool) -> Self {
        Self { trace: trace.as_u128().max(1), span: fresh_span(), sampled }
    }

    /// The next hop of the same trace.
    #[must_use]
    pub fn child(self) -> Self {
        Self { span: fresh_span(), ..self }
    }

    /// The trace as it is stored beside an event.
    #[must_use]
    pub fn trace_uuid(self) -> Uuid {
        Uuid::from_u128(self.trace)
    }
}

fn fresh_span() -> u64 {
    rand::random::<u64>().max(1)
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }
}

impl FromStr for TraceContext {
    type Err = TraceError;
    fn from_str(text: &str) -> Result<Self, TraceError> {
        let lower_hex = |part: &str| part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let mut parts = text.trim().split('-');
        let mut part = |length: usize| {
            parts.next().filter(|part| part.len() == length && lower_hex(part)).ok_or(TraceError)
        };
        let (version, trace, span, flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
        // Later versions may add fields; version 00 has exactly these four.
        if version == "ff" || (version == "00" && parts.next().is_some()) {
            return Err(TraceError);
        }
        let trace = u128::from_str_radix(trace, 16).map_err(|_| TraceError)?;
        let span = u64::from_str_radix(span, 16).map_err(|_| TraceError)?;
        let flags = u8::from_str_radix(flags, 16).map_err(|_| TraceError)?;
        if trace == 0 || span == 0 {
            return Err(TraceError);
        }
        Ok(Self { trace, span, sampled: flags & 1 == 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_specifications_example_survives() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let context: TraceContext = text.parse().unwrap();
        assert_eq!(context.to_string(), text);
        assert!(context.sampled);
        assert_eq!(context.child().trace, context.trace);
        assert_ne!(context.child().span, context.span);
        assert!(format!("cc{}-what", &text[2..]).parse::<TraceContext>().is_ok(), "a later version");
    }

    #[test]
    fn broken_headers_are_refused() {
        for bad in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-000f067aa0ba902b7-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(bad.parse::<TraceContext>(), Err(TraceError), "{bad}");
        }
    }
}
