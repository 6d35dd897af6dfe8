//! One try: the headers, the signatures, the request, and what its reply means.

use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use hookyard_domain::{
    delivery::{Attempt, Outcome, Profile, RetryAfter},
    event,
    id::EventId,
    wire::WebhookSecret,
};
use hookyard_egress::{
    Egress, Failure, FailureKind, HeaderMap, HeaderName, HeaderValue, MAX_KEPT, Method, Reply, Request,
};

use crate::job::Job;

/// What came of a try.
#[derive(Debug)]
pub(crate) struct Tried {
    pub(crate) outcome: Outcome,
    pub(crate) attempt: Attempt,
    pub(crate) latency: Duration,
    /// All that was read of the reply to a question that arrived.
    pub(crate) said: Option<Vec<u8>>,
}

/// Makes one try. `task_secret` signs webhooks of tasks that have no secret of their own.
pub(crate) async fn send(
    egress: &Egress,
    job: &Job,
    task_secret: Option<&WebhookSecret>,
    now: DateTime<Utc>,
) -> Tried {
    let body = body(job);
    let number = job.held.attempts.saturating_add(1);
    let request = Request {
        method: if job.held.profile == Profile::Farewell { Method::DELETE } else { Method::POST },
        url: job.hook.url.clone(),
        headers: headers(job, &body, task_secret, number, now),
        body,
        timeout: job.held.profile.timeout(),
    };
    let asks = job.held.profile == Profile::Task && job.event.asks;
    let result = if asks { egress.ask(request).await } else { egress.send(request).await };
    let (outcome, latency, mut reply) = match result {
        Ok(Reply { status, retry_after, excerpt, latency }) => {
            (Outcome::Status { code: status, retry_after: retry_after.map(hint) }, latency, excerpt)
        }
        Err(Failure { kind, detail, latency }) => (failed(kind), latency, detail.into_bytes()),
    };
    let said = (asks && outcome.is_success()).then(|| reply.clone());
    reply.truncate(MAX_KEPT);
    let attempt = Attempt {
        number,
        started_at: now,
        latency_ms: u32::try_from(latency.as_millis()).unwrap_or(u32::MAX),
        status: outcome.status(),
        reason: outcome.word().into_owned(),
        reply,
    };
    Tried { outcome, attempt, latency, said }
}

/// The message id of Standard Webhooks: the same on every try, also of a replay, so that a receiver knows a message that
/// it has seen.
fn message_id(event: EventId) -> String {
    event.to_string().replacen("evt_", "msg_", 1)
}

/// What is sent: the stored bytes. Of a task's event its payload, which is a webhook of source 1; nothing is serialised anew.
pub(crate) fn body(job: &Job) -> Bytes {
    match job.held.profile {
        Profile::Hook | Profile::Callback | Profile::Consumer => job.event.body.clone(),
        Profile::Task => event::payload(&job.event.body)
            .map(|payload| job.event.body.slice_ref(payload))
            .unwrap_or_else(|| job.event.body.clone()),
        Profile::Farewell => Bytes::new(),
    }
}

fn headers(
    job: &Job,
    body: &[u8],
    task_secret: Option<&WebhookSecret>,
    number: u16,
    now: DateTime<Utc>,
) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(12);
    let mut put = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    put("traceparent", &job.event.trace.child().to_string());
    if job.held.profile == Profile::Farewell {
        return headers;
    }
    let id = message_id(job.event.id);
    let timestamp = now.timestamp();
    put("content-type", "application/json");
    put("webhook-id", &id);
    put("webhook-timestamp", &timestamp.to_string());
    put("webhook-signature", &job.secrets.signing.standard_webhooks(&id, timestamp, body));
    let secret = job.secrets.webhook.as_ref();
    if job.held.profile == Profile::Task {
        if let Some(secret) = secret.or(task_secret) {
            put("x-codetether-signature", &secret.codetether(body));
        }
    } else if let Some(secret) = secret {
        put("x-triggersapi-signature", &secret.triggers_api(body));
    }
    put("x-event-id", &job.event.id.to_string());
    put("x-delivery-id", &job.held.id.to_string());
    put("x-attempt", &number.to_string());
    if let Some(id) = &job.event.correlation_id {
        // A correlation id may be any text; one that a header cannot hold is sent as a form would encode it.
        if id.bytes().all(|byte| (0x21..0x7f).contains(&byte)) {
            put("x-correlation-id", id);
        } else {
            put("x-correlation-id", &url::form_urlencoded::byte_serialize(id.as_bytes()).collect::<String>());
        }
    }
    headers
}

fn hint(retry_after: hookyard_egress::RetryAfter) -> RetryAfter {
    match retry_after {
        hookyard_egress::RetryAfter::Seconds(seconds) => RetryAfter::Seconds(seconds),
        hookyard_egress::RetryAfter::At(at) => RetryAfter::At(at.into()),
    }
}

fn failed(kind: FailureKind) -> Outcome {
    match kind {
        FailureKind::Forbidden => Outcome::Forbidden,
        FailureKind::Dns => Outcome::Dns,
        FailureKind::Connect => Outcome::Connect,
        FailureKind::Tls => Outcome::Tls,
        FailureKind::Timeout => Outcome::Timeout,
        FailureKind::Reset => Outcome::Reset,
        // A URL that cannot be requested passed the checks of subscribing: as wrong as a reply that is not HTTP.
        FailureKind::Protocol | FailureKind::InvalidUrl => Outcome::Protocol,
    }
}
