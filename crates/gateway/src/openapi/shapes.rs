//! The shapes of what many operations answer: pages of a list, and errors.
//!
//! All shapes are of bodies that are read or written member by member, so that no type of the code could describe them.
//! They are told in the document and used nowhere else.

use serde_json::Value;
use utoipa::ToSchema;

use super::event_shapes::SchemaProblem;

/// A page of a list.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes pages in the OpenAPI document")]
pub(crate) struct PageOf<T> {
    /// The entries.
    data: Vec<T>,
    /// Send this as `cursor` to get the next page; `null` on the last one.
    next_cursor: Option<String>,
    /// Whether there is a next page.
    has_more: bool,
}

/// How every error looks.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes errors in the OpenAPI document")]
pub(super) struct Error {
    /// What is wrong, for people; fewer than 250 characters.
    error: String,
    /// What is wrong, for programs. Never changes.
    #[schema(example = "NOT_FOUND")]
    error_code: String,
    /// Missing when no single field is to blame.
    #[schema(inline)]
    details: Option<Details>,
    /// Finds the request in the logs; also in `X-Request-Id`.
    request_id: String,
}

/// Which field of the request is to blame.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes errors in the OpenAPI document")]
pub(super) struct Details {
    /// The field, parameter or header.
    field: Option<String>,
    /// Where in the field: a JSON Pointer (RFC 6901).
    path: Option<String>,
    /// What is wrong with it.
    reason: Option<String>,
    /// All that is wrong, where there may be several things; at most 20.
    problems: Option<Vec<SchemaProblem>>,
}

/// What is wrong, under `/v2`.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct ErrorV2 {
    /// One error.
    errors: Vec<ErrorV2Item>,
}

/// An error, as JSON:API has it.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct ErrorV2Item {
    /// The status, as text.
    #[schema(example = "400")]
    status: String,
    /// For programs.
    #[schema(example = "INVALID_CALLBACK_URL")]
    code: String,
    /// The status in words.
    #[schema(example = "Bad Request")]
    title: String,
    /// For people.
    detail: String,
    /// What is to blame: a JSON pointer into the body.
    #[schema(value_type = Option<Object>)]
    source: Option<Value>,
}
