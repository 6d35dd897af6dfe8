//! Bodies of requests: how large, of which type, how long they may take, and how many bytes of them may be in memory.
//! What is in them is the handler's.

use std::{ops::Deref, sync::Arc, time::Duration};

use actix_web::{
    FromRequest, HttpRequest,
    dev::Payload,
    http::{
        StatusCode,
        header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap},
    },
    web::Data,
};
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, future::LocalBoxFuture};
use hookyard_chassis::api_error::ApiError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{context::Context, problem};

/// The largest body of routes that take a small object, such as a hook: 64 KiB.
pub(crate) const SMALL: usize = 64 << 10;

/// The bytes of bodies that may be in memory at the same time.
#[derive(Clone, Debug)]
pub(crate) struct BodyBudget(Arc<Semaphore>);

/// A share of the [`BodyBudget`]; it is given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Reserved {
    budget: BodyBudget,
    permit: Option<OwnedSemaphorePermit>,
}

impl BodyBudget {
    pub(crate) fn new(bytes: u32) -> Self {
        Self(Arc::new(Semaphore::new(bytes as usize)))
    }

    /// A share of nothing, to be grown.
    fn open(&self) -> Reserved {
        Reserved { budget: self.clone(), permit: None }
    }

    /// Bytes that are free.
    pub(crate) fn free(&self) -> usize {
        self.0.available_permits()
    }
}

impl Reserved {
    /// Takes more; 503 `OVERLOADED` when there is no more.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), ApiError> {
        let more = u32::try_from(bytes)
            .ok()
            .and_then(|bytes| Arc::clone(&self.budget.0).try_acquire_many_owned(bytes).ok())
            .ok_or_else(|| problem::overloaded("too many bytes are being received at the moment"))?;
        match &mut self.permit {
            Some(permit) => permit.merge(more),
            none => *none = Some(more),
        }
        Ok(())
    }

    /// Makes the share at least this large.
    pub(crate) fn cover(&mut self, bytes: usize) -> Result<(), ApiError> {
        let held = self.permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        if held < bytes { self.grow(bytes - held) } else { Ok(()) }
    }
}

/// The argument of a handler that takes JSON of at most `LIMIT` bytes. It may be empty.
///
/// Errors: 413 above the limit, 415 for another type or a compressed body, 408 when it takes too long, 503
/// `OVERLOADED` when too many bytes are in memory, 400 when the connection breaks off.
#[derive(Debug)]
pub(crate) struct JsonBody<const LIMIT: usize> {
    bytes: Bytes,
    reserved: Reserved,
}

impl<const LIMIT: usize> JsonBody<LIMIT> {
    /// The bytes and the share of memory they take.
    pub(crate) fn into_parts(self) -> (Bytes, Reserved) {
        (self.bytes, self.reserved)
    }
}

impl<const LIMIT: usize> Deref for JsonBody<LIMIT> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl<const LIMIT: usize> FromRequest for JsonBody<LIMIT> {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let checked = check_head(request.headers(), LIMIT);
        let context = request.app_data::<Data<Context>>().cloned();
        let payload = payload.take();
        Box::pin(async move {
            let announced = checked?;
            let Some(context) = context else {
                return Err(ApiError::internal(anyhow::anyhow!("a route without its context")));
            };
            let patience = context.settings.http.body_timeout();
            let read = read(payload, announced, LIMIT, context.bodies.open());
            match tokio::time::timeout(patience, read).await {
                Ok(outcome) => outcome.map(|(bytes, reserved)| Self { bytes, reserved }),
                Err(_elapsed) => Err(too_slow(patience)),
            }
        })
    }
}

/// The argument of a handler that takes a form of a program (`application/x-www-form-urlencoded`) of at most `LIMIT` bytes. Forms
/// of people are `access::form`'s.
///
/// Errors: those of [`JsonBody`], but that another type is the handler's to refuse.
#[derive(Debug)]
pub(crate) struct FormBody<const LIMIT: usize> {
    bytes: Bytes,
    is_form: bool,
    is_json: bool,
    _reserved: Reserved,
}

impl<const LIMIT: usize> FormBody<LIMIT> {
    /// The bytes, if they are said to be a form.
    pub(crate) fn form(&self) -> Option<&[u8]> {
        self.is_form.then_some(&*self.bytes)
    }

    /// The bytes, if they are said to be JSON, or nothing is said of them.
    pub(crate) fn json(&self) -> Option<&[u8]> {
        self.is_json.then_some(&*self.bytes)
    }
}

impl<const LIMIT: usize> FromRequest for FormBody<LIMIT> {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let checked = check_length(request.headers(), LIMIT);
        let essence =
            request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()?.split(';').next());
        let is_form =
            essence.is_some_and(|text| text.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded"));
        let content_type = request.headers().get(CONTENT_TYPE);
        let is_json = content_type.is_none_or(|value| value.to_str().is_ok_and(is_json));
        let context = request.app_data::<Data<Context>>().cloned();
        let payload = payload.take();
        Box::pin(async move {
            let announced = checked?;
            let Some(context) = context else {
                return Err(ApiError::internal(anyhow::anyhow!("a route without its context")));
            };
            let patience = context.settings.http.body_timeout();
            let read = read(payload, announced, LIMIT, context.bodies.open());
            match tokio::time::timeout(patience, read).await {
                Ok(outcome) => outcome.map(|(bytes, _reserved)| Self { bytes, is_form, is_json, _reserved }),
                Err(_elapsed) => Err(too_slow(patience)),
            }
        })
    }
}

fn too_slow(patience: Duration) -> ApiError {
    let message = format!("the body did not arrive within {} ms", patience.as_millis());
    ApiError::new(StatusCode::REQUEST_TIMEOUT, "REQUEST_TIMEOUT", message)
}

/// What the head tells: the type, and the length if it is announced.
fn check_head(headers: &HeaderMap, limit: usize) -> Result<usize, ApiError> {
    if let Some(value) = headers.get(CONTENT_TYPE)
        && !value.to_str().is_ok_and(is_json)
    {
        return Err(ApiError::unsupported_media_type("application/json"));
    }
    check_length(headers, limit)
}

/// The length if it is announced; it is that of the body itself, which is not compressed.
fn check_length(headers: &HeaderMap, limit: usize) -> Result<usize, ApiError> {
    if let Some(coding) = headers.get(CONTENT_ENCODING)
        && !coding.as_bytes().eq_ignore_ascii_case(b"identity")
    {
        let message = "compressed bodies are not accepted, send it without Content-Encoding";
        return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE", message));
    }
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    match announced {
        Some(length) if length > limit => Err(ApiError::payload_too_large(limit)),
        Some(length) => Ok(length),
        None => Ok(0),
    }
}

/// `application/json` or any `+json` (RFC 6839), with whatever parameters.
fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let suffixed = essence
        .strip_suffix("+json")
        .is_some_and(|rest| rest.split_once('/').is_some_and(|(_, sub)| !sub.is_empty()));
    essence.is_empty() || essence == "application/json" || essence == "text/json" || suffixed
}

/// Bytes count when they are there, not when they are announced: announcing costs a client nothing.
async fn read(
    mut payload: Payload,
    announced: usize,
    limit: usize,
    mut reserved: Reserved,
) -> Result<(Bytes, Reserved), ApiError> {
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    let mut length = 0;
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|_broken| {
            ApiError::bad_request("INCOMPLETE_BODY", "the body ended before it was complete")
        })?;
        length += chunk.len();
        if length > limit {
            return Err(ApiError::payload_too_large(limit));
        }
        reserved.grow(chunk.len())?;
        if first.is_empty() {
            // Most bodies come in one piece and are not copied.
            first = chunk;
        } else {
            if rest.is_empty() {
                rest.reserve(announced.clamp(first.len() + chunk.len(), limit));
                rest.extend_from_slice(&first);
            }
            rest.extend_from_slice(&chunk);
        }
    }
    Ok((if rest.is_empty() { first } else { rest.freeze() }, reserved))
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    #[test]
    fn json_has_many_names() {
        for (text, expected) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/json;profile=\"x\"", true),
            ("application/cloudevents+json", true),
            ("application/problem+json; charset=utf-8", true),
            ("text/json", true),
            ("text/plain", false),
            ("application/x-www-form-urlencoded", false),
            ("multipart/form-data; boundary=json", false),
            ("+json", false),
            ("application/+json2", false),
        ] {
            assert_eq!(is_json(text), expected, "{text}");
        }
    }

    #[test]
    fn a_length_is_refused_before_it_is_read() {
        let mut headers = HeaderMap::new();
        assert_eq!(check_head(&headers, 10).unwrap(), 0);
        for (length, status) in [("10", None), ("11", Some(413))] {
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static(length));
            assert_eq!(
                check_head(&headers, 10).err().map(|error| error.status().as_u16()),
                status,
                "{length}"
            );
        }
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("1"));
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        assert_eq!(check_head(&headers, 10).unwrap_err().status().as_u16(), 415);
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("identity"));
        assert!(check_head(&headers, 10).is_ok());
    }

    #[test]
    fn the_budget_is_given_back() {
        let budget = BodyBudget::new(100);
        let mut share = budget.open();
        share.grow(60).unwrap();
        assert_eq!(share.grow(41).unwrap_err().code(), "OVERLOADED");
        share.cover(50).unwrap();
        assert_eq!(budget.free(), 40);
        share.cover(100).unwrap();
        assert_eq!(budget.free(), 0);
        drop(share);
        assert_eq!(budget.free(), 100);
    }
}
