//! `Retry-After` (RFC 9110 §10.2.3) as it was said. Clamping it and giving it a default is the delivery's rule.

use std::time::SystemTime;

use http::header::{HeaderMap, RETRY_AFTER};

/// What a receiver asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryAfter {
    /// Seconds from now. A number too great for the type is `u64::MAX`.
    Seconds(u64),
    /// A moment, from any of the three date formats of RFC 9110 §5.6.7. It may lie in the past.
    At(SystemTime),
}

/// `None`: absent, or not readable, which the contract treats alike.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<RetryAfter> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // All digits: it can only fail by being too great.
        return Some(RetryAfter::Seconds(text.parse().unwrap_or(u64::MAX)));
    }
    httpdate::parse_http_date(text).ok().map(RetryAfter::At)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use http::header::{HeaderMap, HeaderValue};

    use super::{RetryAfter, retry_after};

    #[test]
    fn seconds_and_dates_are_read_and_nonsense_is_nothing() {
        let moment = RetryAfter::At(UNIX_EPOCH + Duration::from_secs(784_111_777));
        for (text, expected) in [
            ("0", Some(RetryAfter::Seconds(0))),
            ("120", Some(RetryAfter::Seconds(120))),
            (" 7 ", Some(RetryAfter::Seconds(7))),
            ("99999999999999999999999", Some(RetryAfter::Seconds(u64::MAX))),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(moment)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(moment)),
            ("Sun Nov  6 08:49:37 1994", Some(moment)),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("+5", None),
            ("soon", None),
            ("Sun, 99 Nov 1994 08:49:37 GMT", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("retry-after", HeaderValue::from_str(text).unwrap());
            assert_eq!(retry_after(&headers), expected, "{text:?}");
        }
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }
}
