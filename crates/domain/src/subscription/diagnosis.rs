//! What is wrong with a receiver: what a failed try says about it, and in [`Words`] what its owner can do.

mod words;

use std::time::Duration;

pub use words::Words;

/// What keeps a receiver from taking deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The name has no address.
    Dns,
    /// Nobody listens, or the way there is blocked.
    Refused,
    /// Its certificate is signed by nobody who is trusted here, often because an intermediate one is missing.
    TlsChain,
    /// Its certificate is for another name.
    TlsName,
    /// Its certificate is not valid any more, or not yet.
    TlsExpired,
    /// It wants a client certificate, or does not accept ours.
    ClientCertificate,
    /// TLS fails otherwise.
    Tls,
    /// It takes too long.
    Timeout,
    /// It breaks connections off.
    Reset,
    /// It does not speak HTTP.
    NotHttp,
    /// Its name leads to an address that is not public.
    Forbidden,
    /// It sends elsewhere.
    Redirect,
    /// 401, 403: it wants a credential.
    Unauthorized,
    /// 404, 405: nothing is there.
    NotFound,
    /// 410: it is gone for good.
    Gone,
    /// 429: it has had enough for now.
    Throttled,
    /// Any other 4xx: it does not take what is sent.
    Rejected,
    /// 5xx: it fails itself.
    ServerError,
    /// The transformation of the consumer makes nothing of the event that could be sent.
    Untransformable,
    /// It answers, and takes nearly as long as it may.
    Slow,
}

/// A receiver that takes more than this share of the time that it has is slow.
const SLOW: f64 = 0.5;

/// What stands before the name of what a receiver says about TLS, in the words of rustls.
const ALERT: &str = "received fatal alert: ";

/// What a receiver says about certificates is about ours: it lacks one, or does not accept it. Some servers say `HandshakeFailure` when
/// they lack one, but that is also what they say when the two have no cipher in common.
const OF_CERTIFICATES: [&str; 9] = [
    "CertificateRequired",
    "NoCertificate",
    "BadCertificate",
    "UnsupportedCertificate",
    "CertificateRevoked",
    "CertificateExpired",
    "CertificateUnknown",
    "UnknownCA",
    "AccessDenied",
];

impl Problem {
    /// Every problem.
    pub const ALL: [Self; 20] = [
        Self::Dns,
        Self::Refused,
        Self::TlsChain,
        Self::TlsName,
        Self::TlsExpired,
        Self::ClientCertificate,
        Self::Tls,
        Self::Timeout,
        Self::Reset,
        Self::NotHttp,
        Self::Forbidden,
        Self::Redirect,
        Self::Unauthorized,
        Self::NotFound,
        Self::Gone,
        Self::Throttled,
        Self::Rejected,
        Self::ServerError,
        Self::Untransformable,
        Self::Slow,
    ];

    /// What a failed try says: the word of its outcome ([`crate::delivery::Outcome::word`]), and what is known besides, which
    /// is only looked at where the word says too little. `None` for one that did not fail.
    #[must_use]
    pub fn of(word: &str, detail: &str) -> Option<Self> {
        if let Some(code) = word.strip_prefix("http_").and_then(|code| code.parse::<u16>().ok()) {
            return Some(match code {
                300..=399 => Self::Redirect,
                401 | 403 => Self::Unauthorized,
                404 | 405 => Self::NotFound,
                408 => Self::Timeout,
                410 => Self::Gone,
                425 | 429 => Self::Throttled,
                400..=499 => Self::Rejected,
                _ => Self::ServerError,
            });
        }
        match word {
            "timeout" => Some(Self::Timeout),
            "dns" => Some(Self::Dns),
            "connect" => Some(Self::Refused),
            "tls" => Some(Self::of_tls(detail)),
            "reset" => Some(Self::Reset),
            "protocol" => Some(Self::NotHttp),
            "forbidden_address" => Some(Self::Forbidden),
            "untransformable" => Some(Self::Untransformable),
            _ => None,
        }
    }

    /// The words are rustls's.
    fn of_tls(detail: &str) -> Self {
        if let Some((_, alert)) = detail.split_once(ALERT) {
            return if OF_CERTIFICATES.contains(&alert) { Self::ClientCertificate } else { Self::Tls };
        }
        if detail.contains("UnknownIssuer")
            || detail.contains("self-signed")
            || detail.contains("CaUsedAsEndEntity")
            || detail.contains("BadSignature")
        {
            Self::TlsChain
        } else if detail.contains("not valid for name") {
            Self::TlsName
        } else if ["expired", "Expired", "not valid yet"].iter().any(|word| detail.contains(word)) {
            Self::TlsExpired
        } else {
            Self::Tls
        }
    }

    /// A receiver that answers in time, but only just: half of its answers take so long.
    #[must_use]
    pub fn of_pace(median: Duration, timeout: Duration) -> Option<Self> {
        (median.as_secs_f64() >= timeout.as_secs_f64() * SLOW).then_some(Self::Slow)
    }

    /// The word for it on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Refused => "connection_refused",
            Self::TlsChain => "tls_chain",
            Self::TlsName => "tls_name",
            Self::TlsExpired => "tls_expired",
            Self::ClientCertificate => "client_certificate",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Reset => "connection_reset",
            Self::NotHttp => "not_http",
            Self::Forbidden => "forbidden_address",
            Self::Redirect => "redirect",
            Self::Unauthorized => "unauthorized",
            Self::NotFound => "not_found",
            Self::Gone => "gone",
            Self::Throttled => "throttled",
            Self::Rejected => "rejected",
            Self::ServerError => "server_error",
            Self::Untransformable => "untransformable",
            Self::Slow => "slow",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::Outcome;

    #[test]
    fn each_failure_is_told_apart() {
        for (word, detail, expected) in [
            ("delivered", "", None),
            ("dns", "the name cannot be resolved: no such host", Some(Problem::Dns)),
            ("connect", "no connection: Connection refused (os error 111)", Some(Problem::Refused)),
            ("tls", "tls failed: invalid peer certificate: UnknownIssuer", Some(Problem::TlsChain)),
            (
                "tls",
                "tls failed: invalid peer certificate: certificate not valid for name \"a\"; certificate is only valid for",
                Some(Problem::TlsName),
            ),
            (
                "tls",
                "tls failed: invalid peer certificate: certificate expired: verification time 1 (UNIX), but certificate is not valid after 0",
                Some(Problem::TlsExpired),
            ),
            ("tls", "tls failed: invalid peer certificate: Expired", Some(Problem::TlsExpired)),
            ("tls", "tls failed: invalid peer certificate: BadSignature", Some(Problem::TlsChain)),
            ("tls", "tls failed: received fatal alert: HandshakeFailure", Some(Problem::Tls)),
            ("timeout", "no reply within 5000 ms", Some(Problem::Timeout)),
            ("reset", "", Some(Problem::Reset)),
            ("protocol", "", Some(Problem::NotHttp)),
            ("forbidden_address", "", Some(Problem::Forbidden)),
            ("untransformable", "", Some(Problem::Untransformable)),
            ("http_302", "", Some(Problem::Redirect)),
            ("http_401", "", Some(Problem::Unauthorized)),
            ("http_403", "", Some(Problem::Unauthorized)),
            ("http_404", "", Some(Problem::NotFound)),
            ("http_410", "", Some(Problem::Gone)),
            ("http_422", "", Some(Problem::Rejected)),
            ("http_429", "", Some(Problem::Throttled)),
            ("http_503", "", Some(Problem::ServerError)),
        ] {
            assert_eq!(Problem::of(word, detail), expected, "{word} {detail}");
        }
    }

    #[test]
    fn what_a_receiver_says_about_certificates_is_about_ours() {
        for (alert, expected) in [
            ("CertificateRequired", Problem::ClientCertificate),
            ("BadCertificate", Problem::ClientCertificate),
            ("UnsupportedCertificate", Problem::ClientCertificate),
            ("CertificateRevoked", Problem::ClientCertificate),
            ("CertificateExpired", Problem::ClientCertificate),
            ("CertificateUnknown", Problem::ClientCertificate),
            ("UnknownCA", Problem::ClientCertificate),
            ("AccessDenied", Problem::ClientCertificate),
            ("NoCertificate", Problem::ClientCertificate),
            ("HandshakeFailure", Problem::Tls),
            ("ProtocolVersion", Problem::Tls),
            ("UnrecognisedName", Problem::Tls),
            ("BadCertificateStatusResponse", Problem::Tls),
        ] {
            let detail = format!("tls failed: received fatal alert: {alert}");
            assert_eq!(Problem::of("tls", &detail), Some(expected), "{alert}");
        }
    }

    #[test]
    fn every_outcome_that_is_a_failure_has_words() {
        let statuses = (100..600).map(|code| Outcome::Status { code, retry_after: None });
        let others = [
            Outcome::Timeout,
            Outcome::Dns,
            Outcome::Connect,
            Outcome::Tls,
            Outcome::Reset,
            Outcome::Protocol,
            Outcome::Forbidden,
            Outcome::Untransformable,
        ];
        for outcome in statuses.chain(others) {
            assert_eq!(Problem::of(&outcome.word(), "").is_none(), outcome.is_success(), "{outcome:?}");
        }
    }

    #[test]
    fn half_of_the_time_is_slow() {
        let timeout = Duration::from_secs(5);
        assert_eq!(Problem::of_pace(Duration::from_millis(2_499), timeout), None);
        assert_eq!(Problem::of_pace(Duration::from_millis(2_500), timeout), Some(Problem::Slow));
    }
}
