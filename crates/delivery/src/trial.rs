//! One try from its beginning to its judgement: sends, judges, and hands the outcome on to be written.

use std::time::Duration;

use chrono::{DateTime, Utc};
use hookyard_domain::{
    clock::Clock,
    delivery::{DeliveryState, Effect, Fate, Outcome, Profile, Settled, Standing, Verdict, judge},
};

use crate::{
    dispatch::{Deps, Sign},
    job::Job,
    sender::{self, Tried},
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

/// Makes a try and writes it down. Returns what it says about the endpoint, and how long it took.
pub(crate) async fn run(deps: &Deps, verdicts: &Verdicts, job: Job) -> (Sign, Duration) {
    let Tried { outcome, attempt, latency, said } =
        sender::send(&deps.egress, &job, deps.task_secret.as_deref(), verdicts.clock.now()).await;
    // Before the outcome: whoever dies in between is told again, and the same answer twice is one.
    if let Some(said) = said
        && let Err(error) = deps.answers.take(&job, &said).await
    {
        tracing::warn!(
            delivery.id = %job.held.id,
            error = error.chain(),
            "an answer in a reply cannot be written; the question is sent again when its lease ends"
        );
        return (Sign::Answered, latency);
    }
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
    let fate = match verdict {
        Verdict::Delivered => Fate::Ended(DeliveryState::Delivered),
        Verdict::RetryAt { at } => Fate::Retry { at },
        Verdict::Deferred { at } => Fate::Deferred { at },
        // Nobody wants to send a good-bye again: it is no dead letter.
        Verdict::Dead if job.held.profile == Profile::Farewell => Fate::Ended(DeliveryState::Discarded),
        Verdict::Dead => Fate::Ended(DeliveryState::Dead),
    };
    let settled = Settled { held: job.held, attempt, fate };
    deps.settler.note(Note::Tried { settled, outcome, effect, ring: job.ring }).await;
    (sign, latency)
}

/// What an outcome says about the endpoint's condition.
fn sign(outcome: &Outcome, verdict: &Verdict, now: DateTime<Utc>, clock: &Clock) -> Sign {
    if let Verdict::Deferred { at } = verdict {
        let wait = at.signed_duration_since(now).to_std().unwrap_or_default();
        return Sign::Pause(clock.instant() + wait);
    }
    if outcome.is_ill() { Sign::Ill } else { Sign::Answered }
}
