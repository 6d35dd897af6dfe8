//! One try to prove who one is, with a password or a code: counted before it is looked at, given back when it was right, and
//! audited when it brings a pause.

use std::time::Duration;

use chrono::{DateTime, Utc};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    audit::{self, Action, Actor, Entry, ObjectKind, ObjectRef},
    person::throttle::{self, Subject, Verdict},
};
use serde_json::json;

use crate::{context::Context, problem};

/// A try that may be looked at. Has to be told how it ended.
#[derive(Debug)]
#[must_use]
pub(crate) struct Try {
    subjects: [Subject; 2],
    begins: Option<Subject>,
    now: DateTime<Utc>,
}

/// Counts a try for an account. 429 `TOO_MANY_TRIES` during a pause.
pub(crate) async fn begin(context: &Context, account: &str, actor: &Actor) -> Result<Try, ApiError> {
    let now = context.clock.now();
    let subjects = [Subject::account(account), Subject::address(actor.address)];
    let verdict = context.db.run(move |conn| throttle::charge(conn, &subjects, now)).await;
    match verdict.map_err(problem::of)? {
        Verdict::Go { begins } => Ok(Try { subjects, begins, now }),
        Verdict::Wait { until } => {
            context.metrics.log_ins("throttled").inc();
            Err(paused((until - now).to_std().unwrap_or(Duration::ZERO)))
        }
    }
}

/// 429 `TOO_MANY_TRIES`.
fn paused(wait: Duration) -> ApiError {
    let message = "too many wrong passwords or codes; come back when the pause ends";
    ApiError::too_many_requests("TOO_MANY_TRIES", message, wait)
}

impl Try {
    /// It was right. `clears` is whether the account's failures are forgotten: when nothing more has to be proved.
    pub(crate) async fn right(self, context: &Context, clears: bool) -> Result<(), ApiError> {
        let Self { subjects, now, .. } = self;
        let cleared = clears.then_some(subjects[0]);
        context.db.run(move |conn| throttle::refund(conn, &subjects, cleared, now)).await.map_err(problem::of)
    }

    /// It was wrong.
    pub(crate) async fn wrong(self, context: &Context, account: &str, actor: Actor) -> Result<(), ApiError> {
        context.metrics.log_ins("wrong").inc();
        let Some(begins) = self.begins else { return Ok(()) };
        let by = if begins == self.subjects[0] { "account" } else { "address" };
        let entry = Entry::new(None, Action::LoginThrottled, ObjectRef::new(ObjectKind::Login, account))
            .after(json!({ "throttled": by }));
        let now = self.now;
        context.db.run(move |conn| audit::record(conn, &actor, &entry, now)).await.map_err(problem::of)
    }
}
