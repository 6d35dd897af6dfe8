//! One request of an action, and what its reply means for the run.

use std::time::Duration;

use chrono::TimeDelta;
use hookyard_domain::{
    action_run::{Failure, FailureCode, Outcome, action::HttpPlan},
    wire::{Json, Number, Object, parse_as_javascript},
};
use hookyard_egress::{Egress, FailureKind, HeaderMap, HeaderName, HeaderValue, MAX_READ, Method, Request};

/// The waits between tries of a request that may be sent again.
const WAITS: [TimeDelta; 3] = [TimeDelta::seconds(1), TimeDelta::seconds(4), TimeDelta::seconds(15)];

/// What becomes of the run.
#[derive(Debug)]
pub(super) enum Next {
    /// It ends.
    End(Outcome),
    /// It is tried again.
    Again {
        /// After this.
        wait: TimeDelta,
        /// Whether it is sure that nothing was sent.
        unsent: bool,
    },
}

pub(super) async fn send(egress: &Egress, plan: &HttpPlan, attempt: i16) -> Next {
    let mut headers = HeaderMap::with_capacity(plan.headers.len());
    for (name, value) in &plan.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name.as_str()), HeaderValue::from_str(value)) {
            headers.insert(name, value);
        }
    }
    let method = Method::from_bytes(plan.method.as_bytes()).unwrap_or(Method::GET);
    let request = Request {
        method,
        url: plan.url.clone(),
        headers,
        body: plan.body.clone().into(),
        timeout: plan.timeout,
    };
    let wait = usize::try_from(attempt).ok().and_then(|tries| WAITS.get(tries.saturating_sub(1))).copied();
    match egress.ask(request).await {
        Ok(reply) => {
            replied(plan, &Heard { status: reply.status, body: &reply.excerpt, latency: reply.latency }, wait)
        }
        Err(failure) => missed(plan, failure.kind, &failure.detail, wait),
    }
}

struct Heard<'a> {
    status: u16,
    body: &'a [u8],
    latency: Duration,
}

fn replied(plan: &HttpPlan, heard: &Heard<'_>, wait: Option<TimeDelta>) -> Next {
    let status = heard.status;
    if plan.expected.has(status) {
        return Next::End(Ok(vec![captured(heard)]));
    }
    let passes = matches!(status, 408 | 425 | 429 | 500..=599);
    if let Some(wait) = wait.filter(|_| passes && plan.idempotent) {
        return Next::Again { wait, unsent: false };
    }
    let code = match status {
        401 | 403 => FailureCode::Authentication,
        429 => FailureCode::Throttled,
        400..=499 => FailureCode::User,
        _ => FailureCode::Partner,
    };
    let mut said: String = String::from_utf8_lossy(heard.body).chars().take(120).collect();
    said.retain(|c| !c.is_control());
    Next::End(Err(Failure::new(code, "Unexpected status", format!("the server answered {status}: {said}"))))
}

fn missed(plan: &HttpPlan, kind: FailureKind, detail: &str, wait: Option<TimeDelta>) -> Next {
    let end = |code, title| Next::End(Err(Failure::new(code, title, detail)));
    match kind {
        FailureKind::Forbidden => end(FailureCode::User, "Address not allowed"),
        FailureKind::InvalidUrl => end(FailureCode::User, "Invalid URL"),
        FailureKind::Dns | FailureKind::Connect | FailureKind::Tls => match wait {
            Some(wait) => Next::Again { wait, unsent: true },
            None => end(FailureCode::Partner, "Not reached"),
        },
        FailureKind::Timeout | FailureKind::Reset | FailureKind::Protocol => {
            match wait.filter(|_| plan.idempotent) {
                Some(wait) => Next::Again { wait, unsent: false },
                None => end(FailureCode::Partner, "No reply"),
            }
        }
    }
}

/// What was captured of a reply: JSON as it is, anything else as text.
fn captured(heard: &Heard<'_>) -> Json {
    let number = |number: u64| {
        i64::try_from(number).ok().and_then(Number::from_integer).map_or(Json::Null, Json::from)
    };
    let millis = u64::try_from(heard.latency.as_millis()).unwrap_or(u64::MAX);
    let cut = heard.body.len() >= MAX_READ;
    let body = match parse_as_javascript(heard.body) {
        Ok(json) if !cut => json,
        Ok(_) | Err(_) => Json::from(String::from_utf8_lossy(heard.body).into_owned()),
    };
    let mut result = Object::new();
    result.insert("status", number(heard.status.into()));
    result.insert("body", body);
    result.insert("truncated", Json::from(cut));
    result.insert("latency_ms", number(millis));
    Json::Object(result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hookyard_domain::action_run::action::Expected;

    fn plan(idempotent: bool) -> HttpPlan {
        HttpPlan {
            method: "POST",
            url: "https://example.com/".parse().unwrap(),
            headers: Vec::new(),
            body: Vec::new(),
            expected: Expected::Success,
            idempotent,
            timeout: Duration::from_secs(1),
        }
    }

    fn word(next: &Next) -> String {
        match next {
            Next::End(Ok(_)) => "success".to_owned(),
            Next::End(Err(failure)) => failure.code.as_str().to_owned(),
            Next::Again { unsent, .. } => format!("again {unsent}"),
        }
    }

    #[test]
    fn what_may_have_been_sent_is_sent_again_only_when_that_does_no_harm() {
        let wait = Some(WAITS[0]);
        for (status, harmful, harmless) in [
            (200, "success", "success"),
            (302, "partner", "partner"),
            (401, "authentication", "authentication"),
            (404, "user", "user"),
            (429, "throttled", "again false"),
            (500, "partner", "again false"),
        ] {
            let heard = Heard { status, body: b"{}", latency: Duration::ZERO };
            let said = [false, true].map(|idempotent| word(&replied(&plan(idempotent), &heard, wait)));
            assert_eq!(said, [harmful, harmless], "{status}");
        }
        for (kind, harmful, harmless) in [
            (FailureKind::Forbidden, "user", "user"),
            (FailureKind::Dns, "again true", "again true"),
            (FailureKind::Connect, "again true", "again true"),
            (FailureKind::Timeout, "partner", "again false"),
            (FailureKind::Reset, "partner", "again false"),
        ] {
            let said = [false, true].map(|idempotent| word(&missed(&plan(idempotent), kind, "x", wait)));
            assert_eq!(said, [harmful, harmless], "{kind:?}");
        }
        assert_eq!(word(&missed(&plan(true), FailureKind::Connect, "x", None)), "partner", "tries are spent");
    }

    #[test]
    fn a_reply_is_captured_as_json_or_as_text() {
        let of = |body: &[u8]| captured(&Heard { status: 200, body, latency: Duration::ZERO });
        assert_eq!(of(br#"{"a":[1]}"#).get("body").unwrap().to_serde(), serde_json::json!({"a": [1]}));
        assert_eq!(of(b"hi \xff").get("body").unwrap().as_str(), Some("hi \u{fffd}"));
        let long = vec![b'a'; MAX_READ];
        assert_eq!(of(&long).get("truncated"), Some(&Json::Bool(true)));
    }
}
