//! The middleware around every route: authentication, limit, scope, the headers of the limit, and figures.
//! Counting is in `limit`; whoever shows no credential that is known goes through `unauthenticated`.

pub(super) mod limit;
mod unauthenticated;

use std::{
    future::{Ready, ready},
    rc::Rc,
    time::Instant,
};

use actix_web::{
    Error, HttpMessage, HttpRequest,
    dev::{Service, ServiceRequest, ServiceResponse, Transform, forward_ready},
    http::header::{CACHE_CONTROL, HeaderMap, HeaderValue, STRICT_TRANSPORT_SECURITY},
    web::Data,
};
use futures_util::future::LocalBoxFuture;
use hookyard_chassis::{api_error::ApiError, request_id::RequestId};
use hookyard_domain::{credential::Kind, rate_limit::Bucket};

use self::{
    limit::{Refusal, tell},
    unauthenticated::Stranger,
};
use super::{
    Access, Caller, Principal,
    authenticate::Shown,
    browser::{self, X_CSRF_TOKEN},
    head,
    limiter::Allowance,
    peer, visitor,
};
use crate::{context::Context, handlers::pages, metrics::RouteFigures};

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
