//! A recovery that is started with the enabling of an endpoint, in one step: what may be asked for, and the answer.

use chrono::{DateTime, TimeDelta, Utc};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    db::Conn,
    id::SubscriptionId,
    recovery::{
        Which,
        store::{self, Recovery},
    },
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{view::View, wish::Wish};
use crate::{
    access::{Caller, idempotent::Refusal},
    handlers::{
        consumers,
        fields::{Fields, invalid},
        hook_view,
    },
    settings::GatewaySettings,
};

/// No transaction that enables an endpoint takes longer.
const ENABLING: TimeDelta = TimeDelta::seconds(30);

impl Wish {
    /// Starts the job for an endpoint that is enabled in this transaction: with what it lacks because it was disabled. Who asks once
    /// more, because the answer was lost, is answered with the job that is there.
    ///
    /// # Errors
    /// As [`Wish::start`]; 422 when it was not disabled, and no time is given.
    pub(in crate::handlers) fn start_enabled(
        &self,
        conn: &mut Conn,
        caller: &Caller,
        (endpoint, disabled_at): (SubscriptionId, Option<DateTime<Utc>>),
        now: DateTime<Utc>,
    ) -> Result<Recovery, Refusal> {
        if disabled_at.is_none() {
            let made = store::of_enabling(conn, caller.tenant(), endpoint)?;
            if let Some(made) = made.filter(|made| self.is_again(made)) {
                return Ok(made);
            }
        }
        let (since, kept_from) = match (self.since, disabled_at) {
            (Some(since), _) => (since, None),
            (None, Some(at)) => (store::kept_since(conn, caller.tenant(), endpoint, at)?, Some(at)),
            (None, None) => {
                return Err(invalid("replay", "must have `since`, as the endpoint is not disabled").into());
            }
        };
        // Events that are accepted while this commits are fanned out without it, or with it; either way they get one delivery.
        let until = self.until.unwrap_or(now + ENABLING);
        self.start_until(conn, caller, (endpoint, since, until), kept_from, now)
    }

    /// Whether this asks for the very job that was made with an enabling. One with a time that has ended may be wanted once more.
    fn is_again(&self, made: &Recovery) -> bool {
        let range = match self.since {
            None => made.kept_from.is_some(),
            Some(since) => made.since == since && !made.state.has_ended(),
        };
        range
            && self.until.is_none_or(|until| until == made.until)
            && (self.which, self.per_second) == (made.which, made.per_second)
            && self.event_types == made.event_types
    }
}

/// What is asked for with an enabling: `replay` is `true`, or says more.
///
/// # Errors
/// 422 `INVALID_FIELD`.
pub(in crate::handlers) fn with_enabling(
    body: &[u8],
    settings: &GatewaySettings,
    now: DateTime<Utc>,
) -> Result<Option<Wish>, ApiError> {
    let fields = Fields::parse(body)?;
    let Some(replay) = fields.get("replay") else { return Ok(None) };
    match replay.as_bool() {
        Some(false) => Ok(None),
        Some(true) => Wish::parse(&Fields::parse(b"")?, Which::Undelivered, settings, now).map(Some),
        None => match fields.object("replay") {
            Ok(Some(more)) => Wish::parse(&more, Which::Undelivered, settings, now).map(Some),
            Ok(None) | Err(_) => Err(invalid("replay", "must be true, false or an object")),
        },
    }
}

/// What may be said with an enabling.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct EnableRequest {
    /// `true`, or which events and how fast: starts a recovery of what was kept, in the same step.
    #[schema(value_type = serde_json::Value, required = false)]
    replay: Option<serde_json::Value>,
}

/// An endpoint that was enabled, and the recovery that was started with it.
#[derive(Debug, Serialize)]
pub(in crate::handlers) struct Enabled<T> {
    #[serde(flatten)]
    pub(in crate::handlers) endpoint: T,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::handlers) recovery: Option<View>,
}

/// A hook that was enabled, and the recovery that was started with it.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the answer in the OpenAPI document")]
pub(crate) struct EnabledHook {
    #[serde(flatten)]
    hook: hook_view::View,
    /// The recovery; missing when none was asked for.
    recovery: Option<View>,
}

/// A consumer that was enabled, and the recovery that was started with it.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the answer in the OpenAPI document")]
pub(crate) struct EnabledConsumer {
    #[serde(flatten)]
    consumer: consumers::view::View,
    /// The recovery; missing when none was asked for.
    recovery: Option<View>,
}
