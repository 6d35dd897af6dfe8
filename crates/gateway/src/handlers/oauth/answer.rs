//! Answers of the token, revocation and introspection routes: JSON that nobody keeps, and errors as RFC 6749 §5.2 has them. What is
//! no OAuth error (a limit, the database away) leaves as everywhere.

use actix_web::{
    HttpResponse, HttpResponseBuilder,
    http::{
        StatusCode,
        header::{CACHE_CONTROL, PRAGMA, WWW_AUTHENTICATE},
    },
};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::oauth::{ErrorCode, Refused};
use serde::Serialize;
use utoipa::ToSchema;

use crate::problem;

/// An error of OAuth (RFC 6749 §5.2).
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OAuthError {
    /// Which one.
    #[schema(example = "invalid_grant")]
    error: &'static str,
    /// Why, for the developer of the client.
    #[schema(example = "the code has expired")]
    error_description: String,
}

/// Why a request is not answered with what was asked for.
#[derive(Debug)]
pub(super) enum Failure {
    /// Refused, as OAuth has it.
    Refused(Refused),
    /// The client is not who it says; told in the way it used.
    WrongClient {
        /// Whether it used `Authorization: Basic`.
        basic: bool,
    },
    /// Anything else.
    Api(ApiError),
}

impl Failure {
    pub(super) fn invalid_request(description: &str) -> Self {
        Self::Refused(Refused::new(ErrorCode::InvalidRequest, description))
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

impl From<hookyard_domain::Error> for Failure {
    fn from(error: hookyard_domain::Error) -> Self {
        Self::Api(problem::of(error))
    }
}

/// JSON that no cache may keep.
pub(super) fn json(body: &impl Serialize) -> HttpResponse {
    unkept(StatusCode::OK).json(body)
}

/// The answer of a failure.
pub(super) fn of_failure(failure: Failure) -> Result<HttpResponse, ApiError> {
    match failure {
        Failure::Api(error) => Err(error),
        Failure::Refused(Refused { code, description, .. }) => {
            let error = OAuthError { error: code.as_str(), error_description: description };
            Ok(unkept(StatusCode::BAD_REQUEST).json(error))
        }
        Failure::WrongClient { basic } => {
            let error = OAuthError {
                error: ErrorCode::InvalidClient.as_str(),
                error_description: "the client is unknown, or did not show its secret".to_owned(),
            };
            if !basic {
                return Ok(unkept(StatusCode::BAD_REQUEST).json(error));
            }
            let challenge = (WWW_AUTHENTICATE, "Basic realm=\"hookyard\", charset=\"UTF-8\"");
            Ok(unkept(StatusCode::UNAUTHORIZED).insert_header(challenge).json(error))
        }
    }
}

/// RFC 6749 §5.1.
fn unkept(status: StatusCode) -> HttpResponseBuilder {
    let mut response = HttpResponse::build(status);
    response.insert_header((CACHE_CONTROL, "no-store")).insert_header((PRAGMA, "no-cache"));
    response
}
