//! What can come of a try, sorted by what it means (contract §7).

use std::borrow::Cow;

use chrono::{DateTime, Utc};

/// What a receiver said in `Retry-After` (RFC 9110 §10.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryAfter {
    /// So many seconds from now.
    Seconds(u64),
    /// At this moment.
    At(DateTime<Utc>),
}

/// What came of a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A reply.
    Status {
        /// Its status.
        code: u16,
        /// Its `Retry-After`.
        retry_after: Option<RetryAfter>,
    },
    /// Not complete in time.
    Timeout,
    /// The name has no address.
    Dns,
    /// No connection.
    Connect,
    /// No handshake, or a bad certificate.
    Tls,
    /// The connection broke.
    Reset,
    /// The reply is not HTTP.
    Protocol,
    /// The name leads to an address that is not allowed; nothing was sent.
    Forbidden,
    /// The consumer's transformation makes no body of the event; nothing was sent.
    Untransformable,
}

/// What outcomes have in common: a row of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// 2xx.
    Success,
    /// 3xx: never followed.
    Redirect,
    /// 401, 403.
    Refused,
    /// 408, 425.
    TooEarly,
    /// 410.
    Gone,
    /// 429.
    Throttled,
    /// 503 with `Retry-After`.
    Overloaded,
    /// Any other 4xx.
    ClientError,
    /// 5xx, and statuses that HTTP does not have.
    ServerError,
    /// Time-out, DNS, TCP, TLS, reset, not HTTP.
    Network,
    /// The name leads to an address that is not allowed.
    Forbidden,
    /// There is no body that could be sent.
    Untransformable,
}

impl Class {
    /// Every class.
    pub const ALL: [Self; 12] = [
        Self::Success,
        Self::Redirect,
        Self::Refused,
        Self::TooEarly,
        Self::Gone,
        Self::Throttled,
        Self::Overloaded,
        Self::ClientError,
        Self::ServerError,
        Self::Network,
        Self::Forbidden,
        Self::Untransformable,
    ];

    /// The word for it in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Redirect => "redirect",
            Self::Refused => "refused",
            Self::TooEarly => "too_early",
            Self::Gone => "gone",
            Self::Throttled => "throttled",
            Self::Overloaded => "overloaded",
            Self::ClientError => "client_error",
            Self::ServerError => "server_error",
            Self::Network => "network",
            Self::Forbidden => "forbidden",
            Self::Untransformable => "untransformable",
        }
    }
}

impl Outcome {
    /// The class of the outcome.
    #[must_use]
    pub const fn class(&self) -> Class {
        match self {
            Self::Status { code: 200..=299, .. } => Class::Success,
            Self::Status { code: 300..=399, .. } => Class::Redirect,
            Self::Status { code: 401 | 403, .. } => Class::Refused,
            Self::Status { code: 408 | 425, .. } => Class::TooEarly,
            Self::Status { code: 410, .. } => Class::Gone,
            Self::Status { code: 429, .. } => Class::Throttled,
            Self::Status { code: 503, retry_after: Some(_) } => Class::Overloaded,
            Self::Status { code: 400..=499, .. } => Class::ClientError,
            Self::Status { .. } => Class::ServerError,
            Self::Timeout | Self::Dns | Self::Connect | Self::Tls | Self::Reset | Self::Protocol => {
                Class::Network
            }
            Self::Forbidden => Class::Forbidden,
            Self::Untransformable => Class::Untransformable,
        }
    }

    /// Whether the delivery arrived.
    #[must_use]
    pub const fn is_success(&self) -> bool {
        matches!(self.class(), Class::Success)
    }

    /// Whether the endpoint failed as a machine fails, so that leaving it alone may help.
    #[must_use]
    pub const fn is_ill(&self) -> bool {
        match self.class() {
            Class::ServerError | Class::Network | Class::Overloaded => true,
            Class::Success
            | Class::Redirect
            | Class::Refused
            | Class::TooEarly
            | Class::Gone
            | Class::Throttled
            | Class::ClientError
            | Class::Forbidden
            | Class::Untransformable => false,
        }
    }

    /// The HTTP status, if there was one.
    #[must_use]
    pub const fn status(&self) -> Option<u16> {
        match self {
            Self::Status { code, .. } => Some(*code),
            Self::Timeout
            | Self::Dns
            | Self::Connect
            | Self::Tls
            | Self::Reset
            | Self::Protocol
            | Self::Forbidden
            | Self::Untransformable => None,
        }
    }

    /// What the receiver asked for.
    #[must_use]
    pub const fn retry_after(&self) -> Option<RetryAfter> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            Self::Timeout
            | Self::Dns
            | Self::Connect
            | Self::Tls
            | Self::Reset
            | Self::Protocol
            | Self::Forbidden
            | Self::Untransformable => None,
        }
    }

    /// The outcome as a stable word: `delivered`, `http_500`, `timeout`, …
    #[must_use]
    pub fn word(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Status { code: 200..=299, .. } => "delivered",
            Self::Status { code, .. } => return Cow::Owned(format!("http_{code}")),
            Self::Timeout => "timeout",
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Reset => "reset",
            Self::Protocol => "protocol",
            Self::Forbidden => "forbidden_address",
            Self::Untransformable => "untransformable",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_stable() {
        let status = |code| Outcome::Status { code, retry_after: None };
        let words =
            [status(204), status(302), status(599), Outcome::Timeout, Outcome::Forbidden].map(|o| o.word());
        assert_eq!(words, ["delivered", "http_302", "http_599", "timeout", "forbidden_address"]);
    }
}
