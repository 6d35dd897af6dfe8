//! `/v1/automation`: tasks, what makes them by the clock, and what they use (contract §5).

pub(crate) mod about;
pub(crate) mod budgets;
pub(crate) mod llm_keys;
pub(crate) mod schedules;
pub(crate) mod stats;
pub(crate) mod stream;
pub(crate) mod task_view;
pub(crate) mod tasks;
pub(crate) mod tasks_change;
pub(crate) mod webhooks;
pub(crate) mod worker;
pub(crate) mod workers;

use actix_web::HttpRequest;
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{event::DraftError, person::Locale, task::Refused, wire::Json};

use crate::{access::visitor::accepted_locale, problem};

/// Whoever asks for mail about a task and names no language is written to in the one that the request prefers.
pub(super) fn in_language_of(request: &HttpRequest, task: &mut Json) {
    let given = |name| task.get(name).is_some_and(|value| !value.is_null());
    let locale = accepted_locale(request.headers());
    if locale != Locale::default()
        && given("notify_email")
        && !given("notify_language")
        && let Some(task) = task.as_object_mut()
    {
        task.insert("notify_language", Json::from(locale.as_str()));
    }
}

/// A task or a schedule that breaks a rule of contract §5.
pub(super) fn of_draft(error: &DraftError) -> ApiError {
    match error.field {
        "webhook_url" => problem::invalid("INVALID_WEBHOOK_URL", error.field, &error.reason),
        field => problem::invalid("INVALID_FIELD", field, &error.reason),
    }
}

/// What somebody is told whose step of a run was not taken.
pub(super) fn of_refused(refused: &Refused) -> ApiError {
    match refused {
        Refused::Unknown => ApiError::not_found("there is no such question"),
        Refused::Ended(state) => gone(&format!("the task is {state} already")),
        Refused::Expired => gone("the time for an answer is over"),
        Refused::Field { field, reason } => problem::invalid("INVALID_FIELD", field, reason),
        Refused::Answer(bad) => problem::invalid("INVALID_FIELD", "answer", &bad.to_string()),
        Refused::Conflict(reason) => ApiError::conflict("CONFLICT", reason.clone()),
        Refused::Stale => ApiError::conflict("CONFLICT", refused.to_string()),
    }
}

/// 410: it was possible once.
fn gone(message: &str) -> ApiError {
    ApiError::new(actix_web::http::StatusCode::GONE, "INPUT_CLOSED", message)
}

/// The states by the words that callers may use for them.
pub(super) const STATES: &str = "queued (pending), running (in_progress, working), needs_input, completed (done, \
     succeeded), failed (error) or cancelled (canceled)";
