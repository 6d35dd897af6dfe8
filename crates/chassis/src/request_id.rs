//! The middleware around every HTTP service of ours: a request id in, on the response and in every log line; one line
//! per request; and the finish of every answer: error bodies, and the headers that tell browsers to be careful. It
//! measures and limits nothing.

use std::convert::Infallible;
use std::fmt;
use std::future::{Future, Ready, ready};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::body::{BoxBody, EitherBody, MessageBody};
use actix_web::dev::{Payload, Service, ServiceRequest, ServiceResponse, Transform, forward_ready};
use actix_web::http::header::{
    CONTENT_SECURITY_POLICY, HeaderMap, HeaderName, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use actix_web::http::{Method, StatusCode};
use actix_web::{Error, FromRequest, HttpMessage, HttpRequest};
use futures_util::FutureExt;
use tracing::Instrument;

use crate::api_error::{self, ApiError, Shape};

/// The header that brings a request id and takes it back.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id that is taken from a caller, in bytes.
const MAX_LEN: usize = 128;

/// A request that takes longer is worth a line even when such lines are not asked for.
const SLOW: Duration = Duration::from_secs(1);

/// What a request is called in responses and logs.
///
/// Invariant: 1 to 128 characters of `A-Z a-z 0-9 . _ -`, so it can stand in a header, in JSON and in a log as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// `None` when the text breaks the invariant.
    pub fn parse(text: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let valid = (1..=MAX_LEN).contains(&text.len()) && text.bytes().all(plain);
        valid.then(|| Self(text.into()))
    }

    /// A new one: a UUIDv7 in 32 hexadecimal digits, so ids sort by time.
    fn generate() -> Self {
        let mut buffer = uuid::Uuid::encode_buffer();
        Self(Arc::from(&*uuid::Uuid::now_v7().simple().encode_lower(&mut buffer)))
    }

    /// The caller's own id when it is valid.
    fn of_headers(headers: &HeaderMap) -> Self {
        let sent = headers.get(X_REQUEST_ID).and_then(|value| value.to_str().ok());
        sent.and_then(Self::parse).unwrap_or_else(Self::generate)
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn header_value(&self) -> HeaderValue {
        // The invariant makes the fallback unreachable.
        HeaderValue::from_str(&self.0).unwrap_or_else(|_impossible| HeaderValue::from_static("-"))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// As the argument of a handler: the id of its request.
impl FromRequest for RequestId {
    type Error = Infallible;
    type Future = Ready<Result<Self, Infallible>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        let known = request.extensions().get::<Self>().cloned();
        ready(Ok(known.unwrap_or_else(|| Self::of_headers(request.headers()))))
    }
}

/// The middleware; wrap it around everything else: `App::new().wrap(RequestIds)`, as the last `wrap`.
///
/// - Takes the caller's `X-Request-Id` or makes one, puts it into the request's extensions and on every response.
/// - Runs the request in a span `request{request_id}`.
/// - Puts headers on every response that keep browsers from doing more with it than is meant ([`careful`]).
/// - Completes error responses: our own with the request id and in the shape of the path, actix's and empty ones too.
/// - Turns a panic of a handler into a 500, where actix would drop the connection.
/// - Logs `request` under the target `hookyard::access`: at `info` when it failed on our side or took over a second,
///   otherwise at `debug`, as a line per request costs more than many a request. Never the path or the query, which
///   may hold secrets: the route's pattern.
#[derive(Debug, Clone, Copy)]
pub struct RequestIds;

impl<S, B> Transform<S, ServiceRequest> for RequestIds
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
    S::Future: 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = Error;
    type Transform = RequestIdsService<S>;
    type InitError = ();
    type Future = Ready<Result<Self::Transform, ()>>;

    fn new_transform(&self, inner: S) -> Self::Future {
        ready(Ok(RequestIdsService { inner }))
    }
}

/// What [`RequestIds`] makes of a service.
#[derive(Debug)]
pub struct RequestIdsService<S> {
    inner: S,
}

impl<S, B> Service<ServiceRequest> for RequestIdsService<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
    S::Future: 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Error>>>>;

    forward_ready!(inner);

    fn call(&self, request: ServiceRequest) -> Self::Future {
        let started = Instant::now();
        let id = RequestId::of_headers(request.headers());
        let shape = Shape::of_path(request.path());
        let method = request.method().clone();
        request.extensions_mut().insert(id.clone());
        // At the level of errors, so that the span is there for every line that is logged at all.
        let span = tracing::error_span!("request", request_id = id.as_str());
        let answer = span.in_scope(|| self.inner.call(request));
        let answer = async move {
            let outcome = match AssertUnwindSafe(answer).catch_unwind().await {
                Ok(Ok(response)) => Ok(finish(response, &id, shape)),
                // No response that could be finished: the error has to know how to render itself.
                Ok(Err(error)) => Err(api_error::of_error(&error).for_request(id, shape)),
                // The panic hook has logged it.
                Err(_panic) => Err(ApiError::internal_logged().for_request(id, shape)),
            };
            match &outcome {
                Ok(response) => {
                    log(&method, response.status(), started, || response.request().match_pattern())
                }
                Err(error) => log(&method, error.status(), started, || None),
            }
            outcome.map_err(Error::from)
        };
        Box::pin(answer.instrument(span))
    }
}

fn finish<B: MessageBody>(
    response: ServiceResponse<B>,
    id: &RequestId,
    shape: Shape,
) -> ServiceResponse<EitherBody<B>> {
    let error = api_error::of_response(&response);
    let mut response = response.map_body(|head, body| match error {
        // Other headers stay: a middleware may have added them, such as those of a rate limit.
        Some(error) => {
            error.write_headers(head.headers_mut());
            EitherBody::right(BoxBody::new(error.body(shape, Some(id)).to_string()))
        }
        None => EitherBody::left(body),
    });
    response.headers_mut().insert(X_REQUEST_ID, id.header_value());
    careful(response.headers_mut());
    response
}

/// What tells browsers to guess no type, to send nobody our addresses, and to show an answer in no frame and to no page of
/// another origin. No `Access-Control-` header is ever sent: no other origin may read. What a handler says counts first.
pub(crate) fn careful(headers: &mut HeaderMap) {
    const CAREFUL: [(HeaderName, &str); 5] = [
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (X_FRAME_OPTIONS, "DENY"),
        (CONTENT_SECURITY_POLICY, "frame-ancestors 'none'"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in CAREFUL {
        if !headers.contains_key(&name) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
}

fn log(method: &Method, status: StatusCode, started: Instant, route: impl FnOnce() -> Option<String>) {
    const TARGET: &str = "hookyard::access";
    let took = started.elapsed();
    let duration_ms = took.as_secs_f64() * 1000.0;
    let status_code = status.as_u16();
    // The pattern costs an allocation; the macros evaluate their fields only when the line is wanted.
    let route = || route().unwrap_or_else(|| "unmatched".to_owned());
    if status.is_server_error() || SLOW < took {
        tracing::info!(target: TARGET, %method, route = route(), status = status_code, duration_ms, "request");
    } else {
        tracing::debug!(target: TARGET, %method, route = route(), status = status_code, duration_ms, "request");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_1_to_128_plain_characters() {
        for (text, valid) in [
            (String::new(), false),
            ("a".to_owned(), true),
            ("0aZ._-".to_owned(), true),
            ("a".repeat(128), true),
            ("a".repeat(129), false),
            ("a b".to_owned(), false),
            ("a/b".to_owned(), false),
            ("é".to_owned(), false),
            ("a\nb".to_owned(), false),
        ] {
            assert_eq!(RequestId::parse(&text).is_some(), valid, "{text:?}");
        }
    }

    #[test]
    fn new_ids_are_valid_and_differ() {
        let (first, second) = (RequestId::generate(), RequestId::generate());
        assert_ne!(first, second);
        assert_eq!(RequestId::parse(first.as_str()), Some(first.clone()));
        assert_eq!(first.as_str().len(), 32);
    }

    #[derive(Clone, Default)]
    struct Lines(Arc<std::sync::Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// The lines of two requests, one of which fails on our side, at a level.
    async fn lines(level: tracing::Level) -> Vec<serde_json::Value> {
        use actix_web::test::{TestRequest, call_service, init_service};
        use actix_web::{App, HttpResponse, web};

        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .with_max_level(level)
            .with_writer(move || writer.clone())
            .finish();
        let _logging = tracing::subscriber::set_default(subscriber);
        let app = App::new()
            .route("/answers/{token}", web::get().to(async || HttpResponse::Ok().finish()))
            .route("/away", web::get().to(async || HttpResponse::ServiceUnavailable().finish()))
            .wrap(RequestIds);
        let app = init_service(app).await;
        for path in ["/answers/hunter2?key=hunter2", "/away"] {
            let request = TestRequest::get().uri(path).insert_header((X_REQUEST_ID, "r-1")).to_request();
            call_service(&app, request).await;
        }
        let written = lines.0.lock().unwrap().clone();
        let written = String::from_utf8(written).unwrap();
        assert!(!written.contains("hunter2"), "{written}");
        let lines = written.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        lines.filter(|line| line["target"] == "hookyard::access").collect()
    }

    #[actix_web::test]
    async fn a_request_leaves_a_line_with_its_route_and_no_secret() {
        let all = lines(tracing::Level::DEBUG).await;
        let told = |line: &serde_json::Value| {
            let fields = &line["fields"];
            assert!(fields["duration_ms"].is_f64(), "{line}");
            (
                line["level"].clone(),
                fields["method"].clone(),
                fields["route"].clone(),
                fields["status"].clone(),
            )
        };
        let told: Vec<_> = all.iter().map(told).collect();
        let expected = [
            ("DEBUG".into(), "GET".into(), "/answers/{token}".into(), 200.into()),
            ("INFO".into(), "GET".into(), "/away".into(), 503.into()),
        ];
        assert_eq!(told, expected);
        assert_eq!(all[0]["span"]["request_id"], "r-1");
    }

    #[actix_web::test]
    async fn ordinary_requests_leave_no_line_by_default() {
        assert_eq!(lines(tracing::Level::INFO).await.len(), 1);
    }
}
