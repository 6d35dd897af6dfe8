//! The middleware around every route: authentication, limit, scope, the headers of the limit, and figures.

use std::{
    future::{Ready, ready},
    rc::Rc,
    time::{Duration, Instant},
};

use actix_web::{
    Error, HttpMessage, HttpRequest,
    dev::{Service, ServiceRequest, ServiceResponse, Transform, forward_ready},
    http::header::{HeaderMap, HeaderName, HeaderValue, WWW_AUTHENTICATE},
    web::Data,
};
use chrono::{DateTime, Utc};
use futures_util::future::LocalBoxFuture;
use hookyard_chassis::{api_error::ApiError, request_id::RequestId};
use hookyard_domain::{
    credential::{Limits, Scope},
    rate_limit::Bucket,
};

use super::{Access, Caller, authenticate::Shown, limiter::Allowance, peer};
use crate::{context::Context, metrics::RouteFigures, settings::WINDOW};

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// What an unlimited credential reads as its limit and as what remains: the largest number every client can hold.
const UNLIMITED: u32 = i32::MAX as u32;

/// What a place asks of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Demand {
    /// Nothing.
    Nothing,
    /// Nothing; a valid credential is counted all the same: errors for unknown paths and methods.
    Known,
    /// A credential with this scope.
    Scope(Scope),
}

/// The checkpoint of one route.
#[derive(Clone, Debug)]
pub(crate) struct Checkpoint {
    context: Data<Context>,
    demand: Demand,
    bucket: Bucket,
    route: &'static str,
    figures: Rc<RouteFigures>,
}

impl Checkpoint {
    /// The checkpoint of a route of the table.
    pub(crate) fn new(context: &Data<Context>, route: &'static str, access: Access, bucket: Bucket) -> Self {
        let demand = match access {
            Access::Public => Demand::Nothing,
            Access::Scope(scope) => Demand::Scope(scope),
        };
        Self::with(context, demand, route, bucket)
    }

    /// The checkpoint of what is no route: unknown paths, and methods that a path does not have. Whoever shows a valid
    /// credential there is told its limit as everywhere.
    pub(crate) fn elsewhere(context: &Data<Context>) -> Self {
        Self::with(context, Demand::Known, "unmatched", Bucket::Requests)
    }

    fn with(context: &Data<Context>, demand: Demand, route: &'static str, bucket: Bucket) -> Self {
        let figures = Rc::new(context.metrics.route(route));
        Self { context: context.clone(), demand, bucket, route, figures }
    }

    async fn admit(&self, request: &HttpRequest) -> Result<Option<Allowance>, Refusal> {
        let shown = match self.demand {
            Demand::Nothing => return Ok(None),
            Demand::Known | Demand::Scope(_) => Shown::of(request.headers()),
        };
        let context = &self.context;
        let now = context.clock.now();
        let peer = peer::of(request, &context.settings.http.trusted_proxies);
        let credential = match (context.authenticator.known(&shown, now), self.demand) {
            (Some(credential), _) => credential,
            // Such an answer costs nothing, so it is not worth a query.
            (None, Demand::Known | Demand::Nothing) => return Ok(None),
            (None, Demand::Scope(_)) => {
                let stranger = Stranger { checkpoint: self, shown: &shown, peer: peer::subject(peer), now };
                match stranger.look_up().await? {
                    Some(credential) => credential,
                    None => return Err(stranger.refuse().await),
                }
            }
        };
        context.usage.note(credential.id, now);
        let limit = context.settings.gateway.limit(self.bucket, &credential.limits);
        let allowance = match limit {
            0 => Allowance { granted: true, limit: UNLIMITED, remaining: UNLIMITED, resets_at: now + WINDOW },
            limit => context.limiter.ask((credential.id.uuid(), self.bucket), limit, now).await?,
        };
        if !allowance.granted {
            return Err(spent(allowance, now));
        }
        if let Demand::Scope(scope) = self.demand
            && !credential.scopes.permit(scope)
        {
            let message = format!("this credential lacks the scope `{scope}`; it has: {}", credential.scopes);
            let error = ApiError::forbidden("INSUFFICIENT_PERMISSIONS", message)
                .field("scope")
                .reason(scope.as_str());
            return Err(Refusal { error, allowance: Some(allowance) });
        }
        let request_id = request.extensions().get::<RequestId>().cloned();
        let caller = Caller { credential, peer, route: self.route, request_id };
        request.extensions_mut().insert(caller);
        Ok(Some(allowance))
    }
}

/// A request without a credential that is known here.
struct Stranger<'a> {
    checkpoint: &'a Checkpoint,
    shown: &'a Shown,
    peer: uuid::Uuid,
    now: DateTime<Utc>,
}

impl Stranger<'_> {
    /// A key that was made a moment ago is only in the database. A peer that has spent its limit is not asked for
    /// there: its new key works with the next refresh.
    async fn look_up(
        &self,
    ) -> Result<Option<std::sync::Arc<hookyard_domain::credential::Credential>>, Refusal> {
        let limit = self.limit();
        if limit > 0
            && let Some(refused) = self.checkpoint.context.limiter.spent(self.subject(), limit, self.now)
        {
            return Err(spent(refused, self.now));
        }
        Ok(self.checkpoint.context.authenticator.looked_up(self.shown, self.now).await?)
    }

    async fn refuse(&self) -> Refusal {
        let context = &self.checkpoint.context;
        context.metrics.unauthenticated.inc();
        let limit = self.limit();
        let allowance = match limit {
            0 => None,
            limit => match context.limiter.ask(self.subject(), limit, self.now).await {
                Ok(allowance) if !allowance.granted => return spent(allowance, self.now),
                Ok(allowance) => Some(allowance),
                Err(error) => return error.into(),
            },
        };
        let (message, challenge) = match self.shown {
            Shown::Nothing => (
                "a credential is needed: Authorization: Bearer KEY, Basic, or X-API-Key",
                "Bearer realm=\"hookyard\"",
            ),
            Shown::Malformed | Shown::Token { .. } => (
                "the credential is unknown, expired or revoked",
                "Bearer realm=\"hookyard\", error=\"invalid_token\"",
            ),
        };
        let error =
            ApiError::unauthorized(message).header(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        Refusal { error, allowance }
    }

    fn limit(&self) -> u32 {
        self.checkpoint.context.settings.gateway.limit(Bucket::Unauthenticated, &Limits::default())
    }

    fn subject(&self) -> (uuid::Uuid, Bucket) {
        (self.peer, Bucket::Unauthenticated)
    }
}

/// Why a request does not pass, and what is left of its limit.
struct Refusal {
    error: ApiError,
    allowance: Option<Allowance>,
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Self { error, allowance: None }
    }
}

fn spent(allowance: Allowance, now: DateTime<Utc>) -> Refusal {
    // The window may have been begun a moment after this request came, or by a gateway whose clock is ahead.
    let wait = (allowance.resets_at - now).to_std().unwrap_or(Duration::ZERO).min(WINDOW);
    let message =
        format!("more than {} requests in a minute, come back when the window ends", allowance.limit);
    Refusal { error: ApiError::too_many_requests("RATE_LIMITED", message, wait), allowance: Some(allowance) }
}

fn tell(allowance: &Allowance, headers: &mut HeaderMap) {
    // Rounded up, so that whoever waits until then is not early.
    let millis = allowance.resets_at.timestamp_millis();
    let reset = millis.div_euclid(1000) + i64::from(millis.rem_euclid(1000) > 0);
    headers.insert(LIMIT, HeaderValue::from(allowance.limit));
    headers.insert(REMAINING, HeaderValue::from(allowance.remaining));
    headers.insert(RESET, HeaderValue::from(reset));
}

impl<S> Transform<S, ServiceRequest> for Checkpoint
where
    S: Service<ServiceRequest, Response = ServiceResponse, Error = Error> + 'static,
    S::Future: 'static,
{
    type Response = ServiceResponse;
    type Error = Error;
    type Transform = Guarded<S>;
    type InitError = ();
    type Future = Ready<Result<Self::Transform, ()>>;

    fn new_transform(&self, inner: S) -> Self::Future {
        ready(Ok(Guarded { inner: Rc::new(inner), checkpoint: Rc::new(self.clone()) }))
    }
}

/// A route behind its checkpoint.
pub(crate) struct Guarded<S> {
    inner: Rc<S>,
    checkpoint: Rc<Checkpoint>,
}

impl<S> Service<ServiceRequest> for Guarded<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse, Error = Error> + 'static,
    S::Future: 'static,
{
    type Response = ServiceResponse;
    type Error = Error;
    type Future = LocalBoxFuture<'static, Result<ServiceResponse, Error>>;

    forward_ready!(inner);

    fn call(&self, request: ServiceRequest) -> Self::Future {
        let (inner, checkpoint) = (Rc::clone(&self.inner), Rc::clone(&self.checkpoint));
        Box::pin(async move {
            let started = Instant::now();
            let (mut response, allowance) = match checkpoint.admit(request.request()).await {
                Ok(allowance) => match inner.call(request).await {
                    Ok(response) => (response, allowance),
                    Err(error) => return Err(error),
                },
                Err(refusal) => (request.error_response(refusal.error), refusal.allowance),
            };
            if let Some(allowance) = &allowance {
                tell(allowance, response.headers_mut());
            }
            checkpoint.figures.observe(response.status(), started.elapsed());
            Ok(response)
        })
    }
}

#[cfg(test)]
mod tests {
    use actix_web::ResponseError;

    use super::*;

    #[test]
    fn the_reset_is_never_told_too_early() {
        let told = |millis| {
            let mut headers = HeaderMap::new();
            let resets_at = DateTime::from_timestamp_millis(millis).unwrap();
            tell(&Allowance { granted: true, limit: 60, remaining: 59, resets_at }, &mut headers);
            ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"]
                .map(|name| headers.get(name).unwrap().to_str().unwrap().to_owned())
        };
        assert_eq!(told(60_000), ["60", "59", "60"]);
        assert_eq!(told(60_001), ["60", "59", "61"]);
    }

    #[test]
    fn waiting_is_told_in_whole_seconds() {
        let at = |millis| DateTime::from_timestamp_millis(millis).unwrap();
        for (now, wait) in
            [(-500, "60"), (0, "60"), (59_001, "1"), (59_999, "1"), (60_000, "1"), (61_000, "1")]
        {
            let allowance = Allowance { granted: false, limit: 60, remaining: 0, resets_at: at(60_000) };
            let response = spent(allowance, at(now)).error.error_response();
            assert_eq!(response.headers().get("retry-after").unwrap(), wait, "{now}");
        }
    }
}
