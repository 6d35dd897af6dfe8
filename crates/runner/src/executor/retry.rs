//! What to do about a call that failed: a table, and the waits between calls.

use std::time::Duration;

use hookyard_egress::FailureKind;

use crate::executor::{Failure, call::Trouble};

/// How patient a job is.
#[derive(Clone, Debug)]
pub struct Patience {
    /// Longest silence of a provider, before its reply and inside of it.
    pub silence: Duration,
    /// Most calls for one job.
    pub calls: u32,
    /// The wait after the first failed call; doubled with every further one.
    pub first_wait: Duration,
    /// The longest wait within a job. A provider that asks for a longer one is asked again by the next attempt.
    pub longest_wait: Duration,
}

/// What follows.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The same call again after this wait; the failure is for the case that there is no time for it.
    Again {
        wait: Duration,
        failure: Failure,
    },
    Final(Failure),
}

/// Judges the failure of call number `tried`, counted from 1. `jitter` from 0 to 1 shortens our own waits by up to a fifth.
pub(crate) fn judge(trouble: &Trouble, tried: u32, patience: &Patience, jitter: f64) -> Verdict {
    let failure = failure_of(trouble);
    if !failure.retryable || patience.calls <= tried {
        return Verdict::Final(failure);
    }
    let own = patience.first_wait.saturating_mul(1 << (tried - 1).min(16)).min(patience.longest_wait);
    let wait = match failure.retry_after {
        Some(asked) if asked > patience.longest_wait => return Verdict::Final(failure),
        Some(asked) => asked,
        None => own.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 5.0),
    };
    Verdict::Again { wait, failure }
}

fn failure_of(trouble: &Trouble) -> Failure {
    match trouble {
        Trouble::Status { status, kind, message, retry_after } => {
            let mut failure = of_status(*status, kind, message);
            failure.retry_after = retry_after.filter(|_| failure.retryable);
            failure
        }
        Trouble::InStream { kind, message } => of_kind(kind, message),
        Trouble::Network { kind, detail } => {
            let (code, retryable) = match kind {
                FailureKind::Timeout => ("provider_timeout", true),
                FailureKind::Forbidden | FailureKind::InvalidUrl => ("provider_unreachable", false),
                FailureKind::Dns
                | FailureKind::Connect
                | FailureKind::Tls
                | FailureKind::Reset
                | FailureKind::Protocol => ("provider_unreachable", true),
            };
            say(code, retryable, &format!("the provider of the model cannot be reached: {detail}"))
        }
        Trouble::Cut => say("provider_cut", true, "the stream of the model ended before its reply did"),
        Trouble::Unreadable(what) => {
            say("provider_unreadable", true, &format!("the reply of the model cannot be read: {what}"))
        }
        Trouble::TooLong => say("result_too_long", false, "the reply of the model is longer than 240 KiB"),
    }
}

fn of_status(status: u16, kind: &str, message: &str) -> Failure {
    // A rate limit passes, an empty account does not; both are 429.
    if matches!(kind, "insufficient_quota" | "billing_error") {
        return said(
            "provider_quota",
            false,
            "the account with the provider of the model has no credit",
            message,
        );
    }
    match status {
        400 | 413 | 422 => said("provider_rejected", false, "the provider rejected the request", message),
        401 => said("provider_key", false, "the provider does not accept the API key", message),
        403 => said("provider_forbidden", false, "the API key may not use this model", message),
        404 => said("model_not_found", false, "the provider does not know this model", message),
        408 => said("provider_timeout", true, "the provider ran out of time", message),
        429 => said("provider_rate_limited", true, "the provider limits our rate", message),
        529 => said("provider_overloaded", true, "the provider is overloaded", message),
        500.. => said("provider_error", true, &format!("the provider failed with status {status}"), message),
        _ => {
            said("provider_rejected", false, &format!("the provider answered with status {status}"), message)
        }
    }
}

fn of_kind(kind: &str, message: &str) -> Failure {
    match kind {
        "insufficient_quota" | "billing_error" => of_status(429, kind, message),
        "invalid_request_error" => of_status(400, kind, message),
        "authentication_error" => of_status(401, kind, message),
        "permission_error" => of_status(403, kind, message),
        "not_found_error" => of_status(404, kind, message),
        "rate_limit_error" | "rate_limit_exceeded" => of_status(429, kind, message),
        "overloaded_error" => of_status(529, kind, message),
        _ => said("provider_error", true, "the provider failed in the middle of its reply", message),
    }
}

fn said(code: &'static str, retryable: bool, what: &str, message: &str) -> Failure {
    if message.is_empty() {
        say(code, retryable, what)
    } else {
        say(code, retryable, &format!("{what}: {message}"))
    }
}

fn say(code: &'static str, retryable: bool, message: &str) -> Failure {
    Failure { code, message: message.to_owned(), retryable, retry_after: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience {
        silence: Duration::from_secs(60),
        calls: 4,
        first_wait: Duration::from_secs(1),
        longest_wait: Duration::from_secs(30),
    };

    fn status(status: u16, kind: &str) -> Trouble {
        Trouble::Status { status, kind: kind.to_owned(), message: "m".to_owned(), retry_after: None }
    }

    #[test]
    fn what_passes_is_tried_again_and_what_stays_is_not() {
        let in_stream = |kind: &str| Trouble::InStream { kind: kind.to_owned(), message: String::new() };
        let network = |kind| Trouble::Network { kind, detail: "d".to_owned() };
        for (trouble, code, retryable) in [
            (status(400, "invalid_request_error"), "provider_rejected", false),
            (status(401, "authentication_error"), "provider_key", false),
            (status(403, "permission_error"), "provider_forbidden", false),
            (status(404, "not_found_error"), "model_not_found", false),
            (status(408, ""), "provider_timeout", true),
            (status(413, "request_too_large"), "provider_rejected", false),
            (status(418, ""), "provider_rejected", false),
            (status(301, ""), "provider_rejected", false),
            (status(429, "rate_limit_error"), "provider_rate_limited", true),
            (status(429, "insufficient_quota"), "provider_quota", false),
            (status(500, "api_error"), "provider_error", true),
            (status(502, ""), "provider_error", true),
            (status(529, "overloaded_error"), "provider_overloaded", true),
            (in_stream("overloaded_error"), "provider_overloaded", true),
            (in_stream("api_error"), "provider_error", true),
            (in_stream("server_error"), "provider_error", true),
            (in_stream("invalid_request_error"), "provider_rejected", false),
            (in_stream("rate_limit_exceeded"), "provider_rate_limited", true),
            (network(FailureKind::Timeout), "provider_timeout", true),
            (network(FailureKind::Connect), "provider_unreachable", true),
            (network(FailureKind::Reset), "provider_unreachable", true),
            (network(FailureKind::Dns), "provider_unreachable", true),
            (network(FailureKind::InvalidUrl), "provider_unreachable", false),
            (Trouble::Cut, "provider_cut", true),
            (Trouble::Unreadable("x"), "provider_unreadable", true),
            (Trouble::TooLong, "result_too_long", false),
        ] {
            let failure = failure_of(&trouble);
            assert_eq!((failure.code, failure.retryable), (code, retryable), "{trouble:?}");
            assert!(failure.message.len() < 250, "{trouble:?}");
        }
    }

    #[test]
    fn waits_double_up_to_the_longest_and_calls_end() {
        let wait = |tried, jitter| match judge(&status(500, ""), tried, &PATIENCE, jitter) {
            Verdict::Again { wait, .. } => Some(wait.as_millis()),
            Verdict::Final(_) => None,
        };
        assert_eq!(
            [wait(1, 0.0), wait(2, 0.0), wait(3, 0.0), wait(4, 0.0)],
            [Some(1000), Some(2000), Some(4000), None]
        );
        assert_eq!(wait(1, 1.0), Some(800));
        let many = Patience { calls: 100, ..PATIENCE };
        let Verdict::Again { wait, .. } = judge(&status(500, ""), 99, &many, 0.0) else { panic!() };
        assert_eq!(wait, PATIENCE.longest_wait);
    }

    #[test]
    fn the_provider_s_own_wait_is_kept_while_a_job_has_the_patience() {
        let asked = |seconds| Trouble::Status {
            status: 429,
            kind: String::new(),
            message: String::new(),
            retry_after: Some(Duration::from_secs(seconds)),
        };
        let verdict = judge(&asked(30), 1, &PATIENCE, 1.0);
        assert!(
            matches!(verdict, Verdict::Again { wait, .. } if wait == Duration::from_secs(30)),
            "{verdict:?}"
        );
        let Verdict::Final(failure) = judge(&asked(31), 1, &PATIENCE, 1.0) else { panic!() };
        assert_eq!((failure.retryable, failure.retry_after), (true, Some(Duration::from_secs(31))));
    }
}
