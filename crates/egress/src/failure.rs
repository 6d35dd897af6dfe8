//! Why there was no reply, read from the chain of causes and not from the text of an error, but for one that is nothing but text. What
//! follows from it (retry, disable) is the delivery's rule.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use tower::timeout::error::Elapsed;

use crate::resolver::{ForbiddenAnswer, LookupFailed};
use crate::target::Refusal;

/// Longest [`Failure::detail`], in bytes.
const MAX_DETAIL: usize = 200;

/// How the text of rustls begins for what the other side says about TLS.
const ALERT: &str = "received fatal alert: ";

/// No reply came, or not all of it in time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Failure {
    /// What to do about it.
    pub kind: FailureKind,
    /// For a person: at most 200 bytes on one line, without the URL, without the address that a name resolved to.
    pub detail: String,
    /// From the call of `send` to the failure.
    pub latency: Duration,
}

/// The kinds of failure which contract §7 tells apart, and those that help a person to mend a receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// The guard refused the address: it, or one that its name resolves to, is not public.
    Forbidden,
    /// The name has no address, or no name server answered.
    Dns,
    /// No TCP connection: refused, unreachable.
    Connect,
    /// The handshake failed, or the certificate is not good for this host.
    Tls,
    /// The connection was not made in time, or the reply was not complete in time.
    Timeout,
    /// The connection ended before the reply was complete.
    Reset,
    /// What came back is not HTTP.
    Protocol,
    /// The URL cannot be requested at all: scheme, userinfo, length.
    InvalidUrl,
}

impl FailureKind {
    /// The word for logs, metrics and rows: `forbidden`, `dns`, `connect`, `tls`, `timeout`, `reset`, `protocol`,
    /// `invalid_url`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Forbidden => "forbidden",
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Reset => "reset",
            Self::Protocol => "protocol",
            Self::InvalidUrl => "invalid_url",
        }
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A refusal as the failure of a request.
pub(crate) fn refused(refusal: Refusal) -> (FailureKind, String) {
    let kind = match refusal {
        Refusal::Address(_) => FailureKind::Forbidden,
        Refusal::Scheme | Refusal::Userinfo | Refusal::NoHost | Refusal::NoService => FailureKind::InvalidUrl,
    };
    (kind, refusal.to_string())
}

/// A URL that passed the guard, and that no request can be made of.
pub(crate) fn unrequestable() -> (FailureKind, String) {
    (FailureKind::InvalidUrl, "the address cannot be requested".to_owned())
}

/// Whether it happened while `connecting` is for the client to say; `connect_timeout` is only for the text.
pub(crate) fn classify(
    error: &(dyn Error + 'static),
    connecting: bool,
    connect_timeout: Duration,
) -> (FailureKind, String) {
    for cause in Causes(Some(error)) {
        if let Some(forbidden) = cause.downcast_ref::<ForbiddenAnswer>() {
            return (FailureKind::Forbidden, forbidden.to_string());
        }
        if let Some(LookupFailed(source)) = cause.downcast_ref::<LookupFailed>() {
            return (FailureKind::Dns, say("the name cannot be resolved", source));
        }
    }
    if Causes(Some(error)).any(is_timeout) {
        let text = match connecting {
            true => format!("no connection within {} ms", connect_timeout.as_millis()),
            false => "the connection timed out".to_owned(),
        };
        return (FailureKind::Timeout, text);
    }
    if error.downcast_ref::<reqwest::Error>().is_some_and(reqwest::Error::is_builder) {
        return unrequestable();
    }
    // Outer causes summarise inner ones: the innermost that says something decides.
    let mut found = None;
    for cause in Causes(Some(error)) {
        found = judge(cause, connecting).or(found);
    }
    found.unwrap_or_else(|| match connecting {
        true => (FailureKind::Connect, "no connection".to_owned()),
        false => (FailureKind::Protocol, "the exchange failed".to_owned()),
    })
}

fn is_timeout(cause: &(dyn Error + 'static)) -> bool {
    cause.is::<Elapsed>()
        || cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_timeout)
        || cause.downcast_ref::<reqwest::Error>().is_some_and(reqwest::Error::is_timeout)
        || cause.downcast_ref::<io::Error>().is_some_and(|socket| socket.kind() == io::ErrorKind::TimedOut)
}

fn judge(cause: &(dyn Error + 'static), connecting: bool) -> Option<(FailureKind, String)> {
    if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
        return Some((FailureKind::Tls, say("tls failed", tls)));
    }
    if let Some(http) = cause.downcast_ref::<hyper::Error>() {
        return Some(match http.is_incomplete_message() || http.is_closed() || http.is_canceled() {
            true => (FailureKind::Reset, say("the connection ended before the reply", http)),
            false => (FailureKind::Protocol, say("the reply is not valid http", http)),
        });
    }
    let socket = cause.downcast_ref::<io::Error>()?;
    if socket.get_ref().is_some_and(|inner| inner.is::<io::Error>() || inner.is::<rustls::Error>()) {
        return None; // only an envelope
    }
    // With TLS 1.3 a receiver refuses our certificate, or that we have none, after the handshake: when its reply is read. Of such an error
    // h2 keeps kind and text only.
    if socket.kind() == io::ErrorKind::InvalidData
        && socket.get_ref().is_some_and(|inner| inner.to_string().starts_with(ALERT))
    {
        return Some((FailureKind::Tls, say("tls failed", socket)));
    }
    Some(match socket.kind() {
        io::ErrorKind::UnexpectedEof if connecting => {
            (FailureKind::Tls, "tls failed: the connection ended during the handshake".to_owned())
        }
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::NotConnected
        | io::ErrorKind::UnexpectedEof => (FailureKind::Reset, say("the connection was lost", socket)),
        _ if connecting => (FailureKind::Connect, say("no connection", socket)),
        _ => (FailureKind::Protocol, say("the reply is not valid http", socket)),
    })
}

/// `io::Error::source` skips the error that it wraps, which is where rustls hides.
struct Causes<'a>(Option<&'a (dyn Error + 'static)>);

impl<'a> Iterator for Causes<'a> {
    type Item = &'a (dyn Error + 'static);

    fn next(&mut self) -> Option<Self::Item> {
        let current = self.0?;
        self.0 = match current.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => current.source(),
        };
        Some(current)
    }
}

/// One line, bounded: certificates and name servers choose parts of these texts.
fn say(what: &str, cause: &dyn fmt::Display) -> String {
    let mut text = format!("{what}: {cause}").replace(char::is_control, " ");
    text.truncate(text.floor_char_boundary(MAX_DETAIL));
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::{ALERT, Causes, FailureKind, MAX_DETAIL, judge, say};

    #[test]
    fn a_cause_inside_of_io_errors_is_found() {
        let tls = rustls::Error::HandshakeNotComplete;
        let error = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, tls));
        assert!(Causes(Some(&error)).any(|cause| cause.is::<rustls::Error>()));
    }

    #[test]
    fn an_alert_after_the_handshake_is_a_failure_of_tls_over_http_1_and_2() {
        let alert = rustls::Error::AlertReceived(rustls::AlertDescription::CertificateRequired);
        let text = alert.to_string();
        assert_eq!(text, format!("{ALERT}CertificateRequired"));
        let expected = Some((FailureKind::Tls, format!("tls failed: {text}")));
        assert_eq!(judge(&alert, false), expected);
        let as_h2_keeps_it = io::Error::new(io::ErrorKind::InvalidData, text);
        assert_eq!(judge(&as_h2_keeps_it, false), expected);
        let other = io::Error::new(io::ErrorKind::InvalidData, "no alert");
        assert_eq!(judge(&other, false).map(|(kind, _)| kind), Some(FailureKind::Protocol));
    }

    #[test]
    fn a_text_from_outside_stays_short_and_on_one_line() {
        let text = say("tls failed", &format!("a\r\nb\0{}", "é".repeat(500)));
        assert!(text.starts_with("tls failed: a  b "), "{text}");
        assert!(text.len() <= MAX_DETAIL && text.len() > MAX_DETAIL - 4);
    }
}
