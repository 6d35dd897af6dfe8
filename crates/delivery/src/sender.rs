//! One try: the request, and what its reply means.

use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use hookyard_domain::{
    delivery::{Attempt, Outcome, Profile, RetryAfter},
    event,
    subscription::consumer,
    wire::WebhookSecret,
};
use hookyard_egress::{Egress, Failure, FailureKind, Identity, MAX_KEPT, Method, Reply, Request};

use crate::{headers, job::Job};

/// What came of a try.
#[derive(Debug)]
pub(crate) struct Tried {
    pub(crate) outcome: Outcome,
    pub(crate) attempt: Attempt,
    pub(crate) latency: Duration,
    /// All that was read of the reply to a question that arrived.
    pub(crate) said: Option<Vec<u8>>,
}

/// What a try is signed with besides the secrets of its endpoint.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signing<'a> {
    /// Signs webhooks of tasks that have no secret of their own.
    pub(crate) task_secret: Option<&'a WebhookSecret>,
    /// The token of a callback.
    pub(crate) token: Option<&'a str>,
    /// Who we are to a receiver that asks for a client certificate.
    pub(crate) identity: Option<&'a Identity>,
}

/// Makes one try, with this body: [`body`].
pub(crate) async fn send(
    egress: &Egress,
    job: &Job,
    body: Bytes,
    signing: Signing<'_>,
    now: DateTime<Utc>,
) -> Tried {
    let number = job.held.attempts.saturating_add(1);
    let request = Request {
        method: method(job),
        url: job.hook.url.clone(),
        headers: headers::of(job, &body, signing, number, now),
        body,
        timeout: job.held.profile.timeout(),
    };
    let asks = job.held.profile == Profile::Task && job.event.asks;
    let result = match (signing.identity, asks) {
        (Some(identity), _) => egress.send_as(identity, request).await,
        (None, true) => egress.ask(request).await,
        (None, false) => egress.send(request).await,
    };
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

/// The record of a try that ended before anything was sent, and why.
pub(crate) fn unsent(job: &Job, outcome: &Outcome, reason: &str, now: DateTime<Utc>) -> Attempt {
    let mut reply = reason.as_bytes().to_vec();
    reply.truncate(MAX_KEPT);
    Attempt {
        number: job.held.attempts.saturating_add(1),
        started_at: now,
        latency_ms: 0,
        status: None,
        reason: outcome.word().into_owned(),
        reply,
    }
}

fn method(job: &Job) -> Method {
    match (job.held.profile, &job.hook.consumer) {
        (Profile::Farewell, _) => Method::DELETE,
        (_, Some(consumer)) => match consumer.method {
            consumer::Method::Post => Method::POST,
            consumer::Method::Put => Method::PUT,
        },
        (_, None) => Method::POST,
    }
}

/// What is sent: the stored bytes. Of an event of a task or a run its payload, which is a webhook of source 1 or a callback of
/// source 3, to a consumer the envelope of contract §4 around it; nothing is serialised anew. What a transformation makes is not
/// made here.
pub(crate) fn body(job: &Job) -> Bytes {
    match job.held.profile {
        Profile::Hook | Profile::Inbox => job.event.body.clone(),
        Profile::Consumer => {
            consumer::envelope(&job.event.body).map_or_else(|| job.event.body.clone(), Bytes::from)
        }
        Profile::Task | Profile::Callback => event::payload(&job.event.body)
            .map(|payload| job.event.body.slice_ref(payload))
            .unwrap_or_else(|| job.event.body.clone()),
        Profile::Farewell => Bytes::new(),
    }
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
