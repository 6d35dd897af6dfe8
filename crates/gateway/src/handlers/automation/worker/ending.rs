//! How a worker lets go of a run: it asks, completes, fails, or gives it back.

use actix_web::HttpResponse;
use chrono::TimeDelta;
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    id::InputId,
    task::{Failure, Question, Step, step::MAX_CHOICES},
};

use super::{
    LARGE,
    report::{Report, Taken, Used, canonical, spoken},
};
use crate::{
    body::SMALL,
    handlers::fields::{Fields, invalid},
};

/// The longest wait before the next attempt, in seconds: a day.
const MAX_RETRY_AFTER_S: i32 = 86_400;
/// The longest code of a failure, in characters.
const MAX_CODE: usize = 64;

/// Ask for input
///
/// The owner is asked, and the worker lets go of the run: with the answer it is queued again, for whoever takes it next, who
/// finds question and answer in `inputs` and what `checkpoint` left. `choices` are the answers it may have; `schema` is a JSON
/// Schema (2020-12, at most 16 KiB, no references to elsewhere or to itself) that the answer has to follow: one that cannot
/// be used is refused (422).
#[utoipa::path(
    post,
    path = "/v1/automation/worker/runs/{id}/needs-input",
    operation_id = "report_question",
    tag = "Workers",
    params(
        ("id" = String, Path, description = "The run.", example = "660e8400-e29b-41d4-a716-446655440001"),
        ("X-Lease-Token" = Option<String>, Header, description = "The lease token, if it is not in the body.")
    ),
    request_body(content = crate::openapi::QuestionRequest, example = json!({"lease_token": "880e8400-e29b-41d4-a716-446655440003", "question": "Which one?", "choices": ["the first", "the second"]})),
    responses((status = 200, description = "The owner is asked.", body = Taken)),
    extensions(("x-errors" = json!(["STALE_LEASE", "RUN_ENDED", "INVALID_FIELD", "INVALID_BODY"])))
)]
pub(crate) async fn needs_input(report: Report<{ 128 << 10 }>) -> Result<HttpResponse, ApiError> {
    let fields = &report.fields;
    let question = spoken(fields, "question")?.ok_or_else(|| invalid("question", "is missing"))?;
    let choices = fields.texts("choices", MAX_CHOICES)?;
    let choices = choices.map(|choices| choices.into_iter().map(str::to_owned).collect());
    let schema = match fields.get("schema") {
        Some(schema) if schema.as_object().is_none() => return Err(invalid("schema", "must be an object")),
        schema => schema.map(canonical),
    };
    let used = Used::of(fields)?.unwrap_or_default();
    let (input, models) = (InputId::new(report.context.clock.now()), report.context.models.clone());
    let question = Question { question, choices, schema };
    report
        .make(move |reported| Step::Ask { input, question, usage: used.usage(&models, &reported.resolved) })
        .await
}

/// Complete a run
///
/// `result` is a text, or any JSON, of at most 256 KiB; `summary` is the result in short, by default its beginning. The run has
/// ended then: a repetition is answered with 410.
#[utoipa::path(
    post,
    path = "/v1/automation/worker/runs/{id}/complete",
    operation_id = "report_completion",
    tag = "Workers",
    params(
        ("id" = String, Path, description = "The run.", example = "660e8400-e29b-41d4-a716-446655440001"),
        ("X-Lease-Token" = Option<String>, Header, description = "The lease token, if it is not in the body.")
    ),
    request_body(content = crate::openapi::CompleteRequest, example = json!({"lease_token": "880e8400-e29b-41d4-a716-446655440003", "result": "The page is at https://shop.example/new.", "usage": {"input_tokens": 412, "output_tokens": 96}})),
    responses((status = 200, description = "Completed.", body = Taken, example = json!({"run_id": "660e8400-e29b-41d4-a716-446655440001", "task_id": "550e8400-e29b-41d4-a716-446655440000", "status": "completed"}))),
    extensions(("x-errors" = json!(["STALE_LEASE", "RUN_ENDED", "INVALID_FIELD", "INVALID_BODY"])))
)]
pub(crate) async fn complete(report: Report<LARGE>) -> Result<HttpResponse, ApiError> {
    let fields = &report.fields;
    let result = match fields.get("result") {
        None => return Err(invalid("result", "is missing")),
        Some(value) => match value.as_string() {
            Some(text) => text.to_str_lossy().into_owned(),
            None => canonical(value),
        },
    };
    let summary = spoken(fields, "summary")?;
    let used = Used::of(fields)?.unwrap_or_default();
    let models = report.context.models.clone();
    report
        .make(move |reported| Step::Complete {
            result,
            summary,
            usage: used.usage(&models, &reported.resolved),
        })
        .await
}

/// Say that it did not succeed
///
/// With `retryable` the run is queued again while it has attempts left, after `retry_after` seconds; else it has failed, with
/// `code` and `message`.
#[utoipa::path(
    post,
    path = "/v1/automation/worker/runs/{id}/fail",
    operation_id = "report_failure",
    tag = "Workers",
    params(
        ("id" = String, Path, description = "The run.", example = "660e8400-e29b-41d4-a716-446655440001"),
        ("X-Lease-Token" = Option<String>, Header, description = "The lease token, if it is not in the body.")
    ),
    request_body(content = crate::openapi::FailRequest, example = json!({"lease_token": "880e8400-e29b-41d4-a716-446655440003", "message": "the repository cannot be reached", "code": "unreachable", "retryable": true, "retry_after": 30})),
    responses((status = 200, description = "Queued again, or failed.", body = Taken)),
    extensions(("x-errors" = json!(["STALE_LEASE", "RUN_ENDED", "INVALID_FIELD", "INVALID_BODY"])))
)]
pub(crate) async fn fail(report: Report<SMALL>) -> Result<HttpResponse, ApiError> {
    let fields = &report.fields;
    let message = spoken(fields, "message")?.filter(|text| !text.trim().is_empty());
    let message = message.ok_or_else(|| invalid("message", "is missing"))?;
    let code = code_of(fields)?;
    let retryable = fields.flag("retryable")?.unwrap_or(false);
    let retry_after = fields.integer("retry_after", 0..=MAX_RETRY_AFTER_S)?;
    let retry_after = retry_after.map(|seconds| TimeDelta::seconds(seconds.into()));
    let used = Used::of(fields)?.unwrap_or_default();
    let models = report.context.models.clone();
    let failure = Failure { code, message, retryable, retry_after };
    report.make(move |reported| Step::Fail { failure, usage: used.usage(&models, &reported.resolved) }).await
}

/// A word for programs.
fn code_of(fields: &Fields) -> Result<String, ApiError> {
    let Some(code) = fields.text("code")? else { return Ok("worker_failed".to_owned()) };
    let word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    if code.is_empty() || code.len() > MAX_CODE || !code.bytes().all(word) {
        let reason = format!("must have 1 to {MAX_CODE} letters, digits, underscores, hyphens or full stops");
        return Err(invalid("code", &reason));
    }
    Ok(code.to_owned())
}

/// Give a run back
///
/// As if the worker had never taken it: the attempt does not count, and somebody else takes the run at once.
#[utoipa::path(
    post,
    path = "/v1/automation/worker/runs/{id}/release",
    operation_id = "release_run",
    tag = "Workers",
    params(
        ("id" = String, Path, description = "The run.", example = "660e8400-e29b-41d4-a716-446655440001"),
        ("X-Lease-Token" = Option<String>, Header, description = "The lease token, if it is not in the body.")
    ),
    request_body(content = crate::openapi::ReleaseRequest, example = json!({"lease_token": "880e8400-e29b-41d4-a716-446655440003"})),
    responses((status = 200, description = "It is queued.", body = Taken)),
    extensions(("x-errors" = json!(["STALE_LEASE", "RUN_ENDED", "INVALID_FIELD", "INVALID_BODY"])))
)]
pub(crate) async fn release(report: Report<SMALL>) -> Result<HttpResponse, ApiError> {
    report.make(|_| Step::Release).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_a_word() {
        let code = |text: &str| {
            code_of(&Fields::parse(format!(r#"{{"code":{text}}}"#).as_bytes()).unwrap()).map_err(|e| e.code())
        };
        assert_eq!(code("null"), Ok("worker_failed".to_owned()));
        assert_eq!(code("\"exit.75-a_B\""), Ok("exit.75-a_B".to_owned()));
        assert!(code(&format!("\"{}\"", "c".repeat(64))).is_ok());
        for bad in [&format!("\"{}\"", "c".repeat(65)), "\"\"", "\"a b\"", "5", "\"é\""] {
            assert_eq!(code(bad), Err("INVALID_FIELD"), "{bad}");
        }
    }
}
