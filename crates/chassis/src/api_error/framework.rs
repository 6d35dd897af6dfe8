//! What actix answers by itself (bodies that do not parse, unknown routes, wrong methods), made to answer as
//! everything else does. Requests that are not HTTP at all never come here: actix closes them with a bare 400.

use actix_web::body::{BodySize, MessageBody};
use actix_web::dev::{ServiceResponse, fn_service};
use actix_web::error::{
    Error, JsonPayloadError, PathError, PayloadError, QueryPayloadError, UrlencodedError,
};
use actix_web::http::StatusCode;
use actix_web::web::{FormConfig, JsonConfig, PathConfig, PayloadConfig, QueryConfig, ServiceConfig};
use actix_web::{HttpResponse, Route, web};

use super::ApiError;

/// For `App::configure`: bodies up to `body_limit_bytes`, JSON errors for every extractor, and 404 for unknown routes.
///
/// Needs [`crate::request_id::RequestIds`] around it, which completes the bodies.
pub fn configure(body_limit_bytes: usize) -> impl FnOnce(&mut ServiceConfig) + Clone {
    move |config| {
        config
            .app_data(
                JsonConfig::default()
                    .limit(body_limit_bytes)
                    .error_handler(move |error, _request| json_error(&error, body_limit_bytes).into()),
            )
            .app_data(
                FormConfig::default()
                    .limit(body_limit_bytes)
                    .error_handler(move |error, _request| form_error(&error, body_limit_bytes).into()),
            )
            .app_data(PayloadConfig::new(body_limit_bytes))
            .app_data(PathConfig::default().error_handler(|error, _request| path_error(&error).into()))
            .app_data(QueryConfig::default().error_handler(|error, _request| query_error(&error).into()))
            .default_service(fn_service(async |request: actix_web::dev::ServiceRequest| {
                let (request, _payload) = request.into_parts();
                Ok::<_, Error>(ServiceResponse::from_err(no_such_route(), request))
            }));
    }
}

/// The `default_service` of a resource, for the methods that it has no route for. `allow` is the value of `Allow`, for
/// example `GET, POST`.
pub fn method_not_allowed(allow: &'static str) -> Route {
    web::route().to(move || async move { Err::<HttpResponse, _>(ApiError::method_not_allowed(allow)) })
}

/// The error that a response stands for, if it is one that has not been rendered by a handler itself: an [`ApiError`],
/// an error of actix, or a status without a body (a resource's own 405).
pub(crate) fn of_response<B: MessageBody>(response: &ServiceResponse<B>) -> Option<ApiError> {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return None;
    }
    if let Some(error) = response.response().error() {
        return Some(of_error(error));
    }
    match response.response().body().size() {
        BodySize::None | BodySize::Sized(0) => Some(of_status(status)),
        BodySize::Sized(_) | BodySize::Stream => None,
    }
}

/// Our own error as it is, and whatever else actix or one of its extractors made, by its type and then by its status.
pub(crate) fn of_error(error: &Error) -> ApiError {
    if let Some(ours) = error.as_error::<ApiError>() {
        return ours.clone();
    }
    if let Some(payload) = error.as_error::<PayloadError>() {
        return payload_error(payload);
    }
    let status = error.as_response_error().status_code();
    if status.is_server_error() {
        tracing::error!(error = %error, "request failed");
    }
    of_status(status)
}

fn of_status(status: StatusCode) -> ApiError {
    match status {
        StatusCode::UNAUTHORIZED => ApiError::unauthorized("a valid credential is needed"),
        StatusCode::FORBIDDEN => ApiError::forbidden("FORBIDDEN", "this is not permitted"),
        StatusCode::NOT_FOUND => no_such_route(),
        StatusCode::METHOD_NOT_ALLOWED => {
            ApiError::new(status, "METHOD_NOT_ALLOWED", "this method is not allowed here")
        }
        StatusCode::PAYLOAD_TOO_LARGE => too_large(),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            ApiError::new(status, "UNSUPPORTED_MEDIA_TYPE", "this Content-Type is not accepted here")
        }
        StatusCode::INTERNAL_SERVER_ERROR => ApiError::internal_logged(),
        _ if status.is_server_error() => {
            ApiError::new(status, "UNAVAILABLE", "this does not work at present")
        }
        _ => ApiError::new(status, "BAD_REQUEST", "the request cannot be understood"),
    }
}

fn no_such_route() -> ApiError {
    ApiError::not_found("there is nothing at this path")
}

/// When the place that refused the body does not tell the limit.
fn too_large() -> ApiError {
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE", "the body is larger than allowed here")
}

fn payload_error(error: &PayloadError) -> ApiError {
    match error {
        PayloadError::Overflow => too_large(),
        PayloadError::EncodingCorrupted => {
            ApiError::bad_request("INVALID_BODY", "the body does not match its Content-Encoding")
        }
        PayloadError::UnknownLength => {
            ApiError::bad_request("INVALID_BODY", "the length of the body is unknown")
        }
        // The connection broke, or the caller sent less than announced. PayloadError is non_exhaustive.
        _ => ApiError::bad_request("INCOMPLETE_BODY", "the body ended before it was complete"),
    }
}

fn json_error(error: &JsonPayloadError, limit_bytes: usize) -> ApiError {
    match error {
        JsonPayloadError::OverflowKnownLength { .. } | JsonPayloadError::Overflow { .. } => {
            ApiError::payload_too_large(limit_bytes)
        }
        JsonPayloadError::ContentType => ApiError::unsupported_media_type("application/json"),
        JsonPayloadError::Deserialize(error) if error.is_data() => {
            ApiError::bad_request("INVALID_BODY", "the body is not what is expected here")
                .reason(error.to_string())
        }
        JsonPayloadError::Deserialize(error) => {
            ApiError::bad_request("INVALID_JSON", "the body is not valid JSON").reason(error.to_string())
        }
        JsonPayloadError::Payload(PayloadError::Overflow) => ApiError::payload_too_large(limit_bytes),
        JsonPayloadError::Payload(error) => payload_error(error),
        // Only `Serialize` is left, which reading never gives. JsonPayloadError is non_exhaustive.
        _ => ApiError::bad_request("INVALID_BODY", "the body cannot be read"),
    }
}

fn form_error(error: &UrlencodedError, limit_bytes: usize) -> ApiError {
    match error {
        UrlencodedError::Overflow { .. } | UrlencodedError::Payload(PayloadError::Overflow) => {
            ApiError::payload_too_large(limit_bytes)
        }
        UrlencodedError::ContentType => ApiError::unsupported_media_type("application/x-www-form-urlencoded"),
        UrlencodedError::Parse(error) => {
            ApiError::bad_request("INVALID_BODY", "the form is not what is expected here")
                .reason(error.to_string())
        }
        UrlencodedError::Payload(error) => payload_error(error),
        _ => ApiError::bad_request("INVALID_BODY", "the form cannot be read"),
    }
}

fn path_error(error: &PathError) -> ApiError {
    let refused = ApiError::bad_request("INVALID_PATH", "a part of the path is not valid");
    match error {
        PathError::Deserialize(error) => refused.reason(error.to_string()),
        _ => refused,
    }
}

fn query_error(error: &QueryPayloadError) -> ApiError {
    let refused = ApiError::bad_request("INVALID_QUERY", "the query string is not what is expected here");
    match error {
        QueryPayloadError::Deserialize(error) => refused.reason(error.to_string()),
        _ => refused,
    }
}
