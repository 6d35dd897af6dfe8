//! Which error leaves: a failure of the domain, an event or a JSON text that is refused, each becomes the one type that
//! renders errors (`chassis::ApiError`). How it looks is decided there.

use std::time::Duration;

use actix_web::http::StatusCode;
use hookyard_chassis::api_error::{ApiError, Problem};
use hookyard_domain::{
    Error,
    catalogue::{rules::Refused, schema::Violation},
    event::{DraftError, EventType},
    wire::JsonError,
};

/// After a wait for a connection or a lock: the next request may find one.
const SOON: Duration = Duration::from_secs(1);
/// The database is being restarted: not worth hammering.
const LATER: Duration = Duration::from_secs(2);

/// What a caller is told of a failed domain operation. Defects are logged here, once; what passes is told by readiness.
pub(crate) fn of(error: Error) -> ApiError {
    match error {
        Error::NotFound { what } => ApiError::not_found(format!("{what} not found")),
        Error::Conflict { reason } => ApiError::conflict("CONFLICT", reason),
        Error::Invalid { field, reason } => {
            ApiError::unprocessable("INVALID_FIELD", format!("{field} {reason}")).field(field).reason(reason)
        }
        Error::BudgetExceeded { reason } => {
            ApiError::new(StatusCode::PAYMENT_REQUIRED, "BUDGET_EXCEEDED", reason)
        }
        Error::Busy { .. } => overloaded("all database connections are in use"),
        Error::Away(_) => {
            tracing::debug!(error = error.chain(), "request refused");
            ApiError::unavailable("the database is away, try again", LATER)
        }
        Error::Locked => {
            ApiError::unavailable("another request is changing the same object, try again", SOON)
        }
        Error::Sealed(_) | Error::Database(_) => ApiError::internal(anyhow::Error::new(error)),
    }
}

/// 503 `OVERLOADED`: nothing is wrong with the request, there are too many.
pub(crate) fn overloaded(message: &str) -> ApiError {
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "OVERLOADED", message).retry_after(SOON)
}

/// 422 with the field and what is wrong with it; `reason` continues the field: "is missing".
pub(crate) fn invalid(code: &'static str, field: &'static str, reason: &str) -> ApiError {
    ApiError::unprocessable(code, format!("{field} {reason}")).field(field).reason(reason)
}

/// 400 `INVALID_JSON`: a text that is not JSON, or JSON that no receiver would read as it was meant. The text tells the
/// place, and the field is the path of the value if there is one.
pub(crate) fn of_json(error: &JsonError) -> ApiError {
    let refused = ApiError::bad_request("INVALID_JSON", error.to_string()).reason(error.reason());
    if error.path().is_empty() { refused } else { refused.field(error.path().to_owned()) }
}

/// An event that breaks a rule of contract §2.
pub(crate) fn of_draft(error: &DraftError) -> ApiError {
    invalid("INVALID_EVENT", error.field, &error.reason)
}

/// An event that its type's entry in the catalogue does not let in.
pub(crate) fn of_refused(refused: &Refused, event_type: &EventType) -> ApiError {
    let reason = refused.reason(event_type);
    match refused {
        Refused::Archived => invalid("EVENT_TYPE_ARCHIVED", "event_type", &reason),
        Refused::Schema(violations) => {
            let first = violations.first().map(|first| first.path.clone()).unwrap_or_default();
            invalid("SCHEMA_MISMATCH", "payload", &reason).path(first).problems(violations.iter().map(told))
        }
    }
}

/// What is wrong at a place, as callers read it.
pub(crate) fn told(violation: &Violation) -> Problem {
    Problem { path: violation.path.clone(), reason: violation.reason.clone() }
}

#[cfg(test)]
mod tests {
    use hookyard_domain::{vault::VaultError, wire::parse};

    use super::*;

    fn told(error: &ApiError) -> (u16, &'static str) {
        (error.status().as_u16(), error.code())
    }

    #[test]
    fn each_failure_has_its_status() {
        let cause = || "secret".into();
        for (error, expected) in [
            (Error::NotFound { what: "hook" }, (404, "NOT_FOUND")),
            (Error::Conflict { reason: "no".to_owned() }, (409, "CONFLICT")),
            (Error::Invalid { field: "url", reason: "is bad".to_owned() }, (422, "INVALID_FIELD")),
            (Error::BudgetExceeded { reason: "spent".to_owned() }, (402, "BUDGET_EXCEEDED")),
            (Error::Busy { waited: SOON }, (503, "OVERLOADED")),
            (Error::Away(cause()), (503, "UNAVAILABLE")),
            (Error::Locked, (503, "UNAVAILABLE")),
            (Error::Sealed(VaultError::Damaged), (500, "INTERNAL")),
            (Error::Database(cause()), (500, "INTERNAL")),
        ] {
            let error = of(error);
            assert_eq!(told(&error), expected);
            assert!(!error.message().contains("secret"));
        }
    }

    #[test]
    fn a_text_that_is_not_taken_is_told_where() {
        for (text, field) in [
            ("{", None),
            ("\u{feff}{}", None),
            (r#"{"a":[1,9007199254740993]}"#, Some("a[1]")),
            (r#"{"a":1e999}"#, Some("a")),
        ] {
            let error = of_json(&parse(text.as_bytes()).unwrap_err());
            assert_eq!(told(&error), (400, "INVALID_JSON"), "{text}");
            let details = &error.body(hookyard_chassis::api_error::Shape::Native, None)["details"];
            assert_eq!(details["field"].as_str(), field, "{text}");
        }
    }
}
