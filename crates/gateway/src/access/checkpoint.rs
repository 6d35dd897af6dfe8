//! The middleware around every route: authentication, limit, scope, the headers of the limit, and figures.

use std::{
    future::{Ready, ready},
    net::IpAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use actix_web::{
    Error, HttpMessage, HttpRequest,
    dev::{Service, ServiceRequest, ServiceResponse, Transform, forward_ready},
    http::header::{
        CACHE_CONTROL, HeaderMap, HeaderName, HeaderValue, STRICT_TRANSPORT_SECURITY, WWW_AUTHENTICATE,
    },
    web::Data,
};
use chrono::{DateTime, Utc};
use futures_util::future::LocalBoxFuture;
use hookyard_chassis::{api_error::ApiError, request_id::RequestId};
use hookyard_domain::{
    audit::{self, Action, Actor, ActorKind, Entry, ObjectKind, ObjectRef},
    credential::{Kind, Limits},
    rate_limit::Bucket,
};
use serde_json::json;

use super::{
    Access, Caller, Principal,
    authenticate::Shown,
    browser::{self, X_CSRF_TOKEN},
    head,
    limiter::Allowance,
    peer, reached, visitor,
};
use crate::{context::Context, handlers::pages, metrics::RouteFigures, settings::WINDOW};

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// What an unlimited credential reads as its limit and as what remains: the largest number every client can hold.
const UNLIMITED: u32 = i32::MAX as u32;

/// What a place asks of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Demand {
    /// What the table says.
    Route(Access),
    /// Nothing; a valid credential is counted all the same: errors for unknown paths and methods.
    Known,
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
        Self::with(context, Demand::Route(access), route, bucket)
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
        head::check(request)?;
        if matches!(self.demand, Demand::Route(access) if access.is_open()) {
            return Ok(None);
        }
        let context = &self.context;
        let shown = Shown::of(request, &context.browsers);
        let now = context.clock.now();
        let peer = peer::of(request, &context.settings.http.trusted_proxies);
        let known = context.authenticator.known(&shown, now).await;
        let principal = match (known, self.demand) {
            (Ok(Some(credential)), _) => Principal::Credential(credential),
            // Such an answer costs nothing, so it is not worth a query.
            (Ok(None) | Err(_), Demand::Known) => return Ok(None),
            (Err(error), Demand::Route(_)) => return Err(error.into()),
            (Ok(None), Demand::Route(_)) => {
                let request_id = request.extensions().get::<RequestId>().cloned();
                let stranger = Stranger { checkpoint: self, shown: &shown, peer, request_id, now };
                match stranger.look_up().await? {
                    Some(principal) => principal,
                    None => return Err(stranger.refuse().await),
                }
            }
        };
        match &principal {
            Principal::Credential(credential) => context.usage.note(credential.id, now),
            Principal::Person(session) => visitor::note_seen(context, session, now),
        }
        let allowance = self.count(&principal, peer, now).await?;
        if let Err(error) = self.may_pass(request, &shown, &principal) {
            return Err(Refusal { error, allowance: Some(allowance) });
        }
        let request_id = request.extensions().get::<RequestId>().cloned();
        request.extensions_mut().insert(Caller { principal, peer, route: self.route, request_id });
        Ok(Some(allowance))
    }

    /// What is asked of a principal who is known and whose request is counted.
    fn may_pass(&self, request: &HttpRequest, shown: &Shown, principal: &Principal) -> Result<(), ApiError> {
        if let Shown::Session(token) = shown {
            self.is_own_page(request, token)?;
        }
        match self.demand {
            Demand::Route(access) => permits(access, principal),
            Demand::Known => Ok(()),
        }
    }

    /// A request that changes something and is made with a cookie has to come from a page of ours.
    fn is_own_page(&self, request: &HttpRequest, token: &str) -> Result<(), ApiError> {
        if browser::is_safe(request.method()) {
            return Ok(());
        }
        if self.context.browsers.is_cross_site(request.headers()) {
            let message = "this request comes from a page of another site; use a key instead of the session";
            return Err(ApiError::forbidden("CROSS_SITE_REQUEST", message));
        }
        let shown = request.headers().get(&X_CSRF_TOKEN).and_then(|value| value.to_str().ok());
        if shown.is_some_and(|shown| browser::is_csrf_token(shown, token)) {
            return Ok(());
        }
        let message = "a request with a session needs the header X-CSRF-Token; GET /v1/session tells it";
        Err(ApiError::forbidden("CSRF_TOKEN_INVALID", message).field("X-CSRF-Token"))
    }

    /// What is not for everybody is kept by no cache; where browsers find us over TLS, they never come without again.
    fn keep_private(&self, headers: &mut HeaderMap) {
        if self.demand != Demand::Route(Access::Public) && !headers.contains_key(CACHE_CONTROL) {
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
        if self.context.browsers.is_secure() {
            headers.insert(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
        }
    }

    /// Counts the request.
    async fn count(
        &self,
        principal: &Principal,
        peer: Option<IpAddr>,
        now: DateTime<Utc>,
    ) -> Result<Allowance, Refusal> {
        let context = &self.context;
        let settings = &context.settings.gateway;
        // What actions do is counted for the tenant as a whole.
        let of_tenant = self.bucket == Bucket::Actions;
        let subject = if of_tenant { principal.tenant().uuid() } else { principal.subject() };
        let own = match principal {
            Principal::Credential(credential) => credential.limits,
            Principal::Person(_) => settings.person_limits(),
        };
        let of_address = settings.limit(Bucket::ActionsOfAddress, &own);
        if of_tenant && of_address > 0 {
            let bucket = (peer::subject(peer), Bucket::ActionsOfAddress);
            let counted = context.limiter.ask(bucket, of_address, now).await?;
            if !counted.granted {
                return Err(spent(counted, now));
            }
        }
        let limit = settings.limit(self.bucket, &own);
        if limit == 0 {
            return Ok(Allowance {
                granted: true,
                limit: UNLIMITED,
                remaining: UNLIMITED,
                resets_at: now + WINDOW,
                is_last: false,
            });
        }
        // What is not known to be left is not left.
        let uncounted = |error: ApiError| {
            let resets_at = now + WINDOW;
            let allowance = Allowance { granted: false, limit, remaining: 0, resets_at, is_last: false };
            Refusal { error, allowance: Some(allowance) }
        };
        let allowance = context.limiter.ask((subject, self.bucket), limit, now).await.map_err(uncounted)?;
        if allowance.granted {
            if let Principal::Credential(credential) = principal
                && allowance.is_last
            {
                reached::tell(context, credential, self.bucket, &allowance, now);
            }
            return Ok(allowance);
        }
        // What goes beyond the limit may be a burst that is allowed once in an hour.
        if self.bucket == Bucket::HookWrites {
            let burst = settings.hook_write_burst(&own);
            if burst > 0 {
                let bucket = (subject, Bucket::HookWriteBurst);
                let beyond = context.limiter.ask(bucket, burst, now).await.map_err(uncounted)?;
                if beyond.granted {
                    return Ok(Allowance { granted: true, ..allowance });
                }
            }
        }
        Err(spent(allowance, now))
    }
}

/// Whether a route lets a principal pass.
fn permits(access: Access, principal: &Principal) -> Result<(), ApiError> {
    let scopes = principal.scopes();
    match (access, principal) {
        (Access::Public | Access::Page, _) => Ok(()),
        (Access::Worker, Principal::Credential(credential)) if credential.kind == Kind::Worker => Ok(()),
        (Access::Worker, _) => {
            Err(insufficient("only a worker token may do this; POST /v1/automation/worker-tokens makes one"))
        }
        (Access::Scope(scope), _) if scopes.permit(scope) => Ok(()),
        (Access::Managed(scope, _), Principal::Credential(_)) if scopes.permit(scope) => Ok(()),
        (Access::Managed(_, role) | Access::Person(role), Principal::Person(session))
            if role <= session.role =>
        {
            Ok(())
        }
        (Access::Scope(scope) | Access::Managed(scope, _), Principal::Credential(_)) => {
            let message = format!("this credential lacks the scope `{scope}`; it has: {scopes}");
            Err(insufficient(&message).field("scope").reason(scope.as_str()))
        }
        (Access::Scope(scope), Principal::Person(session)) => {
            let message = format!("the role {} does not have the scope `{scope}`", session.role);
            Err(insufficient(&message).field("scope").reason(scope.as_str()))
        }
        (Access::Managed(_, role) | Access::Person(role), Principal::Person(session)) => {
            let message = format!("this needs the role {role}, yours is {}", session.role);
            Err(insufficient(&message).field("role").reason(role.as_str()))
        }
        (Access::Person(_), Principal::Credential(_)) => {
            Err(insufficient("only a person who is logged in may do this, not a key"))
        }
    }
}

fn insufficient(message: &str) -> ApiError {
    ApiError::forbidden("INSUFFICIENT_PERMISSIONS", message)
}

/// A request without a credential that is known here.
struct Stranger<'a> {
    checkpoint: &'a Checkpoint,
    shown: &'a Shown,
    peer: Option<IpAddr>,
    request_id: Option<RequestId>,
    now: DateTime<Utc>,
}

impl Stranger<'_> {
    /// A session is always asked for. A key that was made a moment ago is only in the database, too; but a peer that has
    /// spent its limit is not asked for there: its new key works with the next refresh.
    async fn look_up(&self) -> Result<Option<Principal>, Refusal> {
        let context = &self.checkpoint.context;
        if let Shown::Session(token) = self.shown {
            let session = context.authenticator.session(token, self.now).await?;
            return Ok(session.map(|session| Principal::Person(Arc::new(session))));
        }
        let limit = self.limit();
        if limit > 0
            && let Some(refused) = context.limiter.spent(self.subject(), limit, self.now)
        {
            return Err(spent(refused, self.now));
        }
        Ok(context.authenticator.looked_up(self.shown, self.now).await?.map(Principal::Credential))
    }

    async fn refuse(&self) -> Refusal {
        let context = &self.checkpoint.context;
        context.metrics.unauthenticated.inc();
        let limit = self.limit();
        let allowance = match limit {
            0 => None,
            limit => match context.limiter.ask(self.subject(), limit, self.now).await {
                Ok(allowance) if !allowance.granted => return spent(allowance, self.now),
                Ok(allowance) => {
                    if allowance.is_last {
                        self.tell_audit(limit).await;
                    }
                    Some(allowance)
                }
                Err(error) => return error.into(),
            },
        };
        let (message, challenge) = match self.shown {
            Shown::Nothing => (
                "a credential is needed: Authorization: Bearer KEY, Basic, or X-API-Key",
                "Bearer realm=\"hookyard\"",
            ),
            Shown::Session(_) => ("the session has ended, log in again", "Bearer realm=\"hookyard\""),
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
        (peer::subject(self.peer), Bucket::Unauthenticated)
    }

    /// Tells the audit log that this peer is refused from now on, once in a window. The entries are counted, too: with many
    /// addresses nobody fills the log.
    async fn tell_audit(&self, limit: u32) {
        let context = &self.checkpoint.context;
        let entries = (uuid::Uuid::nil(), Bucket::Unauthenticated);
        let counted = context.limiter.ask(entries, THROTTLED_ENTRIES, self.now).await;
        if !counted.is_ok_and(|allowance| allowance.granted) {
            return;
        }
        let actor = Actor {
            kind: ActorKind::Nobody,
            id: None,
            name: "no valid credential".to_owned(),
            address: self.peer,
            request_id: self.request_id.as_ref().map(ToString::to_string),
        };
        let address = self.peer.map_or_else(|| "unknown".to_owned(), |peer| peer.to_string());
        let object = ObjectRef::new(ObjectKind::Address, address);
        let entry = Entry::new(None, Action::CredentialThrottled, object)
            .after(json!({"requests": limit, "seconds": WINDOW.as_secs()}));
        let (db, now) = (context.db.clone(), self.now);
        context.afterwards.spawn(async move {
            if let Err(error) = db.run(move |conn| audit::record(conn, &actor, &entry, now)).await {
                tracing::debug!(error = error.chain(), "the audit log was not told of a throttled address");
            }
        });
    }
}

/// Entries in the audit log about throttled addresses, per minute and over all gateways.
const THROTTLED_ENTRIES: u32 = 60;

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
    Refusal { error: too_many(allowance, now), allowance: Some(allowance) }
}

/// 429 `RATE_LIMITED`, and when to come back.
pub(super) fn too_many(allowance: Allowance, now: DateTime<Utc>) -> ApiError {
    // The window may have been begun a moment after this request came, or by a gateway whose clock is ahead.
    let wait = (allowance.resets_at - now).to_std().unwrap_or(Duration::ZERO).min(WINDOW);
    let message =
        format!("more than {} requests in a minute, come back when the window ends", allowance.limit);
    ApiError::too_many_requests("RATE_LIMITED", message, wait)
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
            if checkpoint.demand == Demand::Route(Access::Page) {
                response = pages::errors_as_pages(response, &checkpoint.context);
            }
            checkpoint.keep_private(response.headers_mut());
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
            tell(
                &Allowance { granted: true, limit: 60, remaining: 59, resets_at, is_last: false },
                &mut headers,
            );
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
            let resets_at = at(60_000);
            let allowance = Allowance { granted: false, limit: 60, remaining: 0, resets_at, is_last: false };
            let response = spent(allowance, at(now)).error.error_response();
            assert_eq!(response.headers().get("retry-after").unwrap(), wait, "{now}");
        }
    }
}
