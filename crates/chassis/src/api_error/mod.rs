//! The one type that renders errors over HTTP, in the two shapes of the contract (§1). A constructor per reaction of
//! a caller; which error of a service becomes which of them is decided there.
//!
//! Rendering needs the request: its id belongs into the body and its path decides the shape. Both are known to
//! [`crate::request_id::RequestIds`], which finishes every error response; a handler just returns the error.

mod framework;

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::http::header::{
    ALLOW, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;

pub use framework::{configure, method_not_allowed};
pub(crate) use framework::{of_error, of_response};

use crate::request_id::{RequestId, X_REQUEST_ID, careful};

/// A text that a person reads has fewer characters than this (contract §1).
const TEXT_LIMIT: usize = 250;

/// Problems that one error tells, at most.
const MAX_PROBLEMS: usize = 20;

/// An error as a caller is to see it.
///
/// Its texts are specific, English and under 250 characters (longer ones are cut). It tells nothing of what is inside:
/// [`ApiError::internal`] logs its cause and keeps it.
#[derive(Clone)]
pub struct ApiError(Box<Parts>);

#[derive(Clone)]
struct Parts {
    status: StatusCode,
    code: &'static str,
    message: String,
    field: Option<Cow<'static, str>>,
    path: Option<String>,
    reason: Option<String>,
    problems: Vec<Problem>,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Only in errors that leave through the framework, past the response that the middleware could finish.
    request: Option<(RequestId, Shape)>,
}

/// One of several things that are wrong with what was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Where: a JSON Pointer (RFC 6901).
    pub path: String,
    /// What.
    pub reason: String,
}

/// How an error body looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// `{"error", "error_code", "details": {"field", "path", "reason", "problems"}, "request_id"}`.
    Native,
    /// `{"errors": [{"status", "code", "title", "detail", "source"}]}`, as JSON:API has it.
    V2,
}

impl Shape {
    /// The shape of the errors at a path: [`Shape::V2`] under `/v2`.
    pub fn of_path(path: &str) -> Self {
        match path.strip_prefix("/v2") {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => Self::V2,
            Some(_) | None => Self::Native,
        }
    }
}

impl ApiError {
    /// Any other status than those below. `code` is `UPPER_SNAKE` and never changes once published.
    pub fn new(status: StatusCode, code: &'static str, message: impl AsRef<str>) -> Self {
        let message = shorten(message.as_ref());
        let (field, path, reason) = (None, None, None);
        let (problems, headers) = (Vec::new(), Vec::new());
        Self(Box::new(Parts { status, code, message, field, path, reason, problems, headers, request: None }))
    }

    /// 400: the request cannot be understood.
    pub fn bad_request(code: &'static str, message: impl AsRef<str>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// 401 `UNAUTHORIZED` with `WWW-Authenticate: Bearer`: no credential that is valid.
    pub fn unauthorized(message: impl AsRef<str>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", message)
            .header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
    }

    /// 403: a valid credential that may not do this.
    pub fn forbidden(code: &'static str, message: impl AsRef<str>) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, message)
    }

    /// 404 `NOT_FOUND`: not there, or not the caller's.
    pub fn not_found(message: impl AsRef<str>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", message)
    }

    /// 405 `METHOD_NOT_ALLOWED` with `Allow`.
    pub fn method_not_allowed(allow: &'static str) -> Self {
        let message = format!("this method is not allowed here, allowed: {allow}");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", message)
            .header(ALLOW, HeaderValue::from_static(allow))
    }

    /// 409: the state of what is there does not permit this.
    pub fn conflict(code: &'static str, message: impl AsRef<str>) -> Self {
        Self::new(StatusCode::CONFLICT, code, message)
    }

    /// 413 `PAYLOAD_TOO_LARGE`.
    pub fn payload_too_large(limit_bytes: usize) -> Self {
        let message = format!("the body is larger than the allowed {limit_bytes} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE", message)
    }

    /// 415 `UNSUPPORTED_MEDIA_TYPE`. `accepted` is what the route takes, for example `application/json`.
    pub fn unsupported_media_type(accepted: &str) -> Self {
        let message = format!("the Content-Type has to be {accepted}");
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE", message)
    }

    /// 422: understood, and not acceptable.
    pub fn unprocessable(code: &'static str, message: impl AsRef<str>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, message)
    }

    /// 429 with `Retry-After`.
    pub fn too_many_requests(code: &'static str, message: impl AsRef<str>, retry_after: Duration) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, code, message).retry_after(retry_after)
    }

    /// 503 `UNAVAILABLE` with `Retry-After`: overloaded, or something that is needed is away.
    pub fn unavailable(message: impl AsRef<str>, retry_after: Duration) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", message).retry_after(retry_after)
    }

    /// 500 `INTERNAL`. Logs the cause with its sources, here and once, and does not tell it.
    pub fn internal(cause: impl Into<anyhow::Error>) -> Self {
        let cause = cause.into();
        tracing::error!(error = format!("{cause:#}"), "request failed");
        Self::internal_logged()
    }

    /// For a cause that is in the log already.
    pub(crate) fn internal_logged() -> Self {
        let message = "something went wrong on our side, the request id finds it in our logs";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL", message)
    }

    /// Names the field of the request that is to blame, for example `url`.
    #[must_use]
    pub fn field(mut self, field: impl Into<Cow<'static, str>>) -> Self {
        self.0.field = Some(field.into());
        self
    }

    /// Says what is wrong with the field.
    #[must_use]
    pub fn reason(mut self, reason: impl AsRef<str>) -> Self {
        self.0.reason = Some(shorten(reason.as_ref()));
        self
    }

    /// Names the place within the field that is to blame: a JSON Pointer (RFC 6901). Empty for all of it.
    #[must_use]
    pub fn path(mut self, pointer: impl Into<String>) -> Self {
        self.0.path = Some(pointer.into());
        self
    }

    /// Tells all that is wrong, where there may be several things. The first [`MAX_PROBLEMS`] are kept.
    #[must_use]
    pub fn problems(mut self, problems: impl IntoIterator<Item = Problem>) -> Self {
        let told = problems.into_iter().take(MAX_PROBLEMS);
        self.0.problems = told.map(|it| Problem { reason: shorten(&it.reason), ..it }).collect();
        self
    }

    /// Sets `Retry-After`, in whole seconds (Zapier reads a date as nothing), rounded up, at least 1.
    #[must_use]
    pub fn retry_after(self, wait: Duration) -> Self {
        let seconds = wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)).max(1);
        self.header(RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// Sets a header of the response.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.retain(|(there, _value)| *there != name);
        self.0.headers.push((name, value));
        self
    }

    /// The status of the response.
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// The `error_code`.
    pub fn code(&self) -> &'static str {
        self.0.code
    }

    /// The text for a person.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The body as JSON; for responses that carry errors of single items, too.
    pub fn body(&self, shape: Shape, request_id: Option<&RequestId>) -> serde_json::Value {
        let Parts { status, code, message, field, path, reason, problems, .. } = &*self.0;
        let body = match shape {
            Shape::Native => serde_json::to_value(Native {
                error: message,
                error_code: code,
                details: (field.is_some() || reason.is_some()).then_some(Details {
                    field: field.as_deref(),
                    path: path.as_deref(),
                    reason: reason.as_deref(),
                    problems,
                }),
                request_id: request_id.map(RequestId::as_str),
            }),
            Shape::V2 => {
                let detail = reason.as_ref().map(|reason| shorten(&format!("{message}: {reason}")));
                let error = V2Error {
                    status: status.as_str(),
                    code,
                    title: status.canonical_reason().unwrap_or("Error"),
                    detail: detail.as_deref().unwrap_or(message),
                    source: field.as_deref().map(|field| Source {
                        pointer: pointer(field) + path.as_deref().unwrap_or_default(),
                    }),
                };
                serde_json::to_value(V2Body { errors: [error] })
            }
        };
        // Structs of texts always serialise; an empty body would still carry the status.
        body.unwrap_or_default()
    }

    /// Lets the error render itself completely, where no middleware will see its response.
    pub(crate) fn for_request(mut self, id: RequestId, shape: Shape) -> Self {
        self.0.request = Some((id, shape));
        self
    }

    pub(crate) fn write_headers(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.0.headers {
            headers.insert(name.clone(), value.clone());
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        self.0.status
    }

    fn error_response(&self) -> HttpResponse<BoxBody> {
        let (id, shape) = match &self.0.request {
            Some((id, shape)) => (Some(id), *shape),
            None => (None, Shape::Native),
        };
        let body = self.body(shape, id).to_string();
        let mut response = HttpResponse::with_body(self.0.status, BoxBody::new(body));
        self.write_headers(response.headers_mut());
        if let Some(id) = id {
            response.headers_mut().insert(X_REQUEST_ID, id.header_value());
            careful(response.headers_mut());
        }
        response
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.0.status.as_u16(), self.0.code, self.0.message)
    }
}

impl fmt::Debug for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for ApiError {}

#[derive(Serialize)]
struct Native<'a> {
    error: &'a str,
    error_code: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details<'a>>,
    request_id: Option<&'a str>,
}

#[derive(Serialize)]
struct Details<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "<[Problem]>::is_empty")]
    problems: &'a [Problem],
}

#[derive(Serialize)]
struct V2Body<'a> {
    errors: [V2Error<'a>; 1],
}

/// JSON:API 1.1, "Error Objects": the status is a text there.
#[derive(Serialize)]
struct V2Error<'a> {
    status: &'a str,
    code: &'a str,
    title: &'a str,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<Source>,
}

#[derive(Serialize)]
struct Source {
    pointer: String,
}

/// `data.callback_url` is `/data/callback_url` as a JSON pointer (RFC 6901).
fn pointer(field: &str) -> String {
    let steps = field.split('.').map(|step| step.replace('~', "~0").replace('/', "~1"));
    steps.fold(String::new(), |pointer, step| pointer + "/" + &step)
}

/// Cuts a text to the limit of the contract, at a character and with an ellipsis.
pub(crate) fn shorten(text: &str) -> String {
    match text.char_indices().nth(TEXT_LIMIT - 1) {
        None => text.to_owned(),
        Some(_too_long) => text.chars().take(TEXT_LIMIT - 2).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests;
