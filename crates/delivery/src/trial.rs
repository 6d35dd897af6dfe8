//! One try from its beginning to its judgement: sends, judges, and hands the outcome on to be written.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use hookyard_domain::{
    clock::Clock,
    delivery::{
        Attempt, CANCELLED_BY_TRANSFORMATION, DeliveryState, Effect, Fate, Outcome, Profile, Settled,
        Standing, Verdict, judge,
    },
};

use crate::{
    body::Body,
    dispatch::{Deps, Sign},
    job::Job,
    sender::{self, Signing, Tried},
    settle::Note,
};

/// What judging needs besides the try.
#[derive(Clone, Debug)]
pub(crate) struct Verdicts {
    clock: Clock,
}

impl Verdicts {
    pub(crate) fn new(clock: Clock) -> Self {
        Self { clock }
    }
}

/// After this, what could not be signed or kept is looked at again.
const UNSIGNED: TimeDelta = TimeDelta::seconds(1);

/// Makes a try and writes it down. Returns what it says about the endpoint, and how long it took; `None` when nothing was sent, so that
/// the receiver has nothing to do with it.
pub(crate) async fn run(deps: &Deps, verdicts: &Verdicts, job: Job) -> Option<(Sign, Duration)> {
    let body = match deps.bodies.of(&job).await {
        Ok(Body::Sent(body)) => body,
        Ok(Body::Cancelled) => {
            let reason = CANCELLED_BY_TRANSFORMATION;
            deps.settler.note(Note::Cancelled { held: job.held, reason }).await;
            return None;
        }
        Ok(Body::None(reason)) => {
            let outcome = Outcome::Untransformable;
            let attempt = sender::unsent(&job, &outcome, &reason, verdicts.clock.now());
            settle(deps, verdicts, job, outcome, attempt, Duration::ZERO).await;
            return None;
        }
        Err(error) => {
            tracing::warn!(delivery.id = %job.held.id, error = error.chain(), "a transformed body cannot be kept yet");
            let at = verdicts.clock.now() + UNSIGNED;
            deps.settler.note(Note::Parked { held: job.held, at, number: None }).await;
            return None;
        }
    };
    let identity = match deps.identities.of(&deps.egress, &job) {
        Ok(identity) => identity,
        Err(reason) => {
            let attempt = sender::unsent(&job, &Outcome::Tls, &reason, verdicts.clock.now());
            let sign = settle(deps, verdicts, job, Outcome::Tls, attempt, Duration::ZERO).await;
            return Some((sign, Duration::ZERO));
        }
    };
    let token = if job.held.profile == Profile::Callback {
        match deps.callbacks.token(&job, body.clone(), verdicts.clock.now()).await {
            Ok(token) => Some(token),
            Err(error) => {
                tracing::warn!(delivery.id = %job.held.id, error = error.chain(), "a callback cannot be signed yet");
                let at = verdicts.clock.now() + UNSIGNED;
                deps.settler.note(Note::Parked { held: job.held, at, number: None }).await;
                return None;
            }
        }
    } else {
        None
    };
    let signing = Signing {
        task_secret: deps.task_secret.as_deref(),
        token: token.as_deref(),
        identity: identity.as_deref(),
    };
    let Tried { outcome, attempt, latency, said } =
        sender::send(&deps.egress, &job, body, signing, verdicts.clock.now()).await;
    // Before the outcome: whoever dies in between is told again, and the same answer twice is one.
    if let Some(said) = said
        && let Err(error) = deps.answers.take(&job, &said).await
    {
        tracing::warn!(
            delivery.id = %job.held.id,
            error = error.chain(),
            "an answer in a reply cannot be written; the question is sent again when its lease ends"
        );
        return Some((Sign::Answered, latency));
    }
    let sign = settle(deps, verdicts, job, outcome, attempt, latency).await;
    Some((sign, latency))
}

/// Judges an outcome and hands it on to be written. Returns what it says about the endpoint.
async fn settle(
    deps: &Deps,
    verdicts: &Verdicts,
    job: Job,
    outcome: Outcome,
    attempt: Attempt,
    latency: Duration,
) -> Sign {
    let now = verdicts.clock.now();
    let standing = Standing {
        tries_spent: job.held.tries,
        deferrals: job.held.deferrals,
        first_due_at: job.held.due_at,
    };
    let (verdict, effect) = judge(job.held.profile, &outcome, &standing, now, rand::random());
    let sign = sign(&outcome, &verdict, now, &verdicts.clock);
    deps.metrics.tried(job.lane, &outcome, latency);
    if matches!(effect, Effect::FailingAudited | Effect::DisableAudited) {
        tracing::warn!(
            hook.id = %job.hook.id,
            tenant.id = %job.held.tenant,
            delivery.id = %job.held.id,
            "a hook's name leads to a forbidden address; nothing was sent"
        );
    }
    // What expires before its next try ends then: the sweep brings it, and nothing is sent.
    let in_time = |at: DateTime<Utc>| job.held.expires_at.map_or(at, |end| at.min(end));
    let fate = match verdict {
        Verdict::Delivered => Fate::Ended(DeliveryState::Delivered),
        Verdict::RetryAt { at } => Fate::Retry { at: in_time(at) },
        Verdict::Deferred { at } => Fate::Deferred { at: in_time(at) },
        // Nobody wants to send a good-bye again: it is no dead letter.
        Verdict::Dead if job.held.profile == Profile::Farewell => Fate::Ended(DeliveryState::Discarded),
        Verdict::Dead => Fate::Ended(DeliveryState::Dead),
    };
    let settled = Settled { held: job.held, attempt, fate };
    deps.settler.note(Note::Tried { settled, outcome, effect }).await;
    sign
}

/// What an outcome says about the endpoint's condition.
fn sign(outcome: &Outcome, verdict: &Verdict, now: DateTime<Utc>, clock: &Clock) -> Sign {
    if let Verdict::Deferred { at } = verdict {
        let wait = at.signed_duration_since(now).to_std().unwrap_or_default();
        return Sign::Pause(clock.instant() + wait);
    }
    if outcome.is_ill() { Sign::Ill } else { Sign::Answered }
}
