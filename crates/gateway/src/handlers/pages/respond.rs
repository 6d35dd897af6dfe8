//! `/respond/{token}`: whoever has the link that went out with a question may answer it, once, without a key: a person with
//! a form, or a program with JSON.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header::ACCEPT},
    web::{Data, Path},
};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    audit::{self, Action, Entry, ObjectKind, ObjectRef},
    db::Conn,
    event::wire_time,
    task::{
        self, Refused, form,
        input::{self, Answered, InputRow},
    },
    wire::{Json, parse_as_javascript},
};
use hookyard_portal::respond::{self as page, Trouble};
use serde::Serialize;
use serde_json::{json, value::RawValue};
use utoipa::ToSchema;

use crate::{
    access::{stranger, visitor::Visitor},
    body::FormBody,
    context::Context,
    handlers::automation::{
        of_refused,
        tasks_change::{Taken, settle},
    },
    problem,
};

/// The largest answer that is read, in bytes: what a form makes of the largest one.
const MAX_BYTES: usize = 256 << 10;

/// A question that is open, for programs.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OpenQuestion)]
pub(crate) struct View {
    /// The question's id.
    #[schema(example = "770e8400-e29b-41d4-a716-446655440002")]
    request_id: String,
    /// The task.
    #[schema(example = "550e8400-e29b-41d4-a716-446655440000")]
    task_id: String,
    /// What it is called.
    #[schema(example = "Pay the invoice")]
    title: String,
    /// The question.
    #[schema(example = "Which of the two invoices is the right one?")]
    question: String,
    /// The answers it may have.
    choices: Option<Vec<String>>,
    /// A JSON Schema that the answer has to follow.
    #[schema(value_type = Option<Object>)]
    schema: Option<Box<RawValue>>,
    /// Until when it can be answered.
    #[schema(example = "2025-01-26T10:31:00.000Z", format = DateTime)]
    expires_at: String,
    /// Whether it can be answered now.
    #[schema(example = true)]
    open: bool,
}

async fn find(context: &Context, token: &str) -> Result<InputRow, ApiError> {
    let unknown = || ApiError::not_found("this link is not one of ours");
    let input = context.ledger.links.read(token).ok_or_else(unknown)?;
    let found = context.db.once(move |conn| input::by_link(conn, input)).await.map_err(problem::of)?;
    found.ok_or_else(unknown)
}

/// Whether whoever asks wants to read a page.
fn wants_page(request: &HttpRequest) -> bool {
    let accept = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accept.contains("text/html")
}

/// An error, as a page for those who want one.
fn told(
    context: &Context,
    visitor: &Visitor,
    as_page: bool,
    error: ApiError,
) -> Result<HttpResponse, ApiError> {
    if !as_page {
        return Err(error);
    }
    let shown = hookyard_portal::error::error(visitor.locale, error.status().as_u16(), error.code());
    Ok(visitor.show(context, error.status(), shown))
}

/// Show a question
///
/// What `respond_url` of `task_needs_input` leads to: a page for people (English or French) when `text/html` is accepted, else
/// JSON. Looking at it answers nothing.
#[utoipa::path(
    get,
    path = "/respond/{token}",
    operation_id = "show_question",
    tag = "Tasks",
    params(("token" = String, Path, description = "The last part of the link.", example = "dwDoQOKbQdSncUQcRGVUAALoRtXxXW0pVvQq1tJvJkzPQp0sYbXk1g")),
    responses((status = 200, description = "The question.", body = View)),
    extensions(("x-errors" = json!(["NOT_FOUND", "RATE_LIMITED"])))
)]
pub(crate) async fn show(
    context: Data<Context>,
    visitor: Visitor,
    request: HttpRequest,
    token: Path<String>,
) -> Result<HttpResponse, ApiError> {
    let as_page = wants_page(&request);
    let found = match stranger::count(&context, visitor.peer).await {
        Ok(()) => find(&context, &token).await,
        Err(error) => Err(error),
    };
    let row = match found {
        Ok(row) => row,
        Err(error) => return told(&context, &visitor, as_page, error),
    };
    let open = row.is_open(context.clock.now());
    if as_page {
        return Ok(if open {
            asked(&context, &visitor, &row, &[], None)
        } else {
            closed(&context, &visitor, &row)
        });
    }
    Ok(HttpResponse::Ok().json(View {
        request_id: row.id.to_string(),
        task_id: row.task_id.to_string(),
        title: row.title,
        question: row.question,
        choices: row.choices,
        schema: row.schema.and_then(|text| RawValue::from_string(text).ok()),
        expires_at: wire_time(row.expires_at),
        open,
    }))
}

fn asked(
    context: &Context,
    visitor: &Visitor,
    row: &InputRow,
    sent: &[(String, String)],
    wrong: Option<Trouble<'_>>,
) -> HttpResponse {
    let until = row.expires_at.format("%Y-%m-%d %H:%M UTC").to_string();
    let asked = page::Question {
        locale: visitor.locale,
        title: &row.title,
        question: &row.question,
        choices: row.choices.as_deref().unwrap_or_default(),
        form: &form::of(row.schema.as_deref()),
        schema: row.schema.as_deref(),
        until: &until,
        sent,
    };
    let status = if wrong.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    visitor.show(context, status, page::question(&asked, wrong))
}

fn closed(context: &Context, visitor: &Visitor, row: &InputRow) -> HttpResponse {
    let (status, shown) = if row.answer.is_some() {
        (StatusCode::CONFLICT, page::answered(visitor.locale))
    } else {
        (StatusCode::GONE, page::over(visitor.locale))
    };
    visitor.show(context, status, shown)
}

/// What was sent.
enum Sent {
    /// A form: names of fields, and what was written into them.
    Form(Vec<(String, String)>),
    /// JSON.
    Json(Json),
}

fn read(body: &FormBody<MAX_BYTES>) -> Result<Sent, ApiError> {
    if let Some(form) = body.form() {
        // Browsers end lines with CR and LF.
        let pairs = url::form_urlencoded::parse(form)
            .map(|(name, value)| (name.into_owned(), value.replace("\r\n", "\n")));
        return Ok(Sent::Form(pairs.collect()));
    }
    let text = body.json().ok_or_else(|| {
        ApiError::unsupported_media_type("application/json or application/x-www-form-urlencoded")
    })?;
    let json = parse_as_javascript(text).map_err(|error| problem::of_json(&error))?;
    let missing = || problem::invalid("INVALID_FIELD", "answer", "is missing");
    let answer = json.get("answer").filter(|answer| !answer.is_null()).cloned().ok_or_else(missing)?;
    Ok(Sent::Json(answer))
}

/// The answer that a form gives; `None` when it gives none.
fn meant(schema: Option<&str>, sent: &[(String, String)]) -> Option<Json> {
    let value = |wanted: &str| sent.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
    if let Some(text) = value(page::ANSWER) {
        return (!text.trim().is_empty()).then(|| task::answer::meant(schema, text));
    }
    match form::of(schema) {
        form::Form::Fields(fields) if sent.iter().any(|(name, _)| name.starts_with(page::MEMBER)) => {
            Some(form::filled(&fields, |name| value(&format!("{}{name}", page::MEMBER))))
        }
        _ => None,
    }
}

/// Answer a question by its link
///
/// Once: the same answer again is answered with 200, another one with 409. Takes JSON (`{"answer": …}`) or the form of the page,
/// which is answered with a page. An answer that is none of the `choices` or does not follow the `schema` is refused (422) and can
/// be sent again. The link holds as long as the question does.
#[utoipa::path(
    post,
    path = "/respond/{token}",
    operation_id = "answer_question",
    tag = "Tasks",
    params(("token" = String, Path, description = "The last part of the link.", example = "dwDoQOKbQdSncUQcRGVUAALoRtXxXW0pVvQq1tJvJkzPQp0sYbXk1g")),
    request_body(content = crate::openapi::LinkAnswerRequest, example = json!({"answer": "the second"})),
    responses((status = 200, description = "Taken, now or before.", body = Taken)),
    extensions(("x-errors" = json!(["NOT_FOUND", "CONFLICT", "INPUT_CLOSED", "INVALID_FIELD", "INVALID_JSON", "RATE_LIMITED"])))
)]
pub(crate) async fn answer(
    context: Data<Context>,
    visitor: Visitor,
    token: Path<String>,
    body: FormBody<MAX_BYTES>,
) -> Result<HttpResponse, ApiError> {
    let as_page = body.form().is_some();
    match take(&context, &visitor, &token, &body).await {
        Ok(response) => Ok(response),
        Err(error) => told(&context, &visitor, as_page, error),
    }
}

async fn take(
    context: &Data<Context>,
    visitor: &Visitor,
    token: &str,
    body: &FormBody<MAX_BYTES>,
) -> Result<HttpResponse, ApiError> {
    stranger::count(context, visitor.peer).await?;
    let row = find(context, token).await?;
    let sent = read(body)?;
    let (given, sent) = match sent {
        Sent::Json(json) => (json, None),
        Sent::Form(pairs) => match meant(row.schema.as_deref(), &pairs) {
            Some(answer) => (answer, Some(pairs)),
            None => return Ok(asked(context, visitor, &row, &pairs, Some(Trouble::Empty))),
        },
    };
    let from = visitor.peer.map_or_else(|| "an unknown address".to_owned(), |peer| peer.to_string());
    let by = format!("the link, from {from}");
    let actor = visitor.actor(&by);
    let (ledger, now, asked_row) = (context.ledger.clone(), context.clock.now(), row.clone());
    let work = move |conn: &mut Conn| {
        let row = asked_row;
        let answered = input::answer(conn, &ledger, row.tenant_id, row.id, &given, &by, now)?;
        if matches!(answered, Answered::Taken(_)) {
            let entry = Entry::new(
                row.tenant_id,
                Action::TaskAnswered,
                ObjectRef::new(ObjectKind::Task, row.task_id),
            )
            .after(json!({"request_id": row.id.to_string(), "run_id": row.run_id.to_string()}));
            audit::record(conn, &actor, &entry, now)?;
        }
        Ok(answered)
    };
    let answered = context.db.run(work).await.map_err(problem::of)?;
    let Some(sent) = sent else {
        let state = settle(context, &answered, row.state)?;
        return Ok(HttpResponse::Ok().json(Taken {
            task_id: row.task_id.to_string(),
            run_id: row.run_id.to_string(),
            request_id: row.id.to_string(),
            status: state.as_str(),
        }));
    };
    match &answered {
        Answered::Taken(_) | Answered::Repeated => {
            settle(context, &answered, row.state)?;
            Ok(visitor.show(context, StatusCode::OK, page::thanks(visitor.locale)))
        }
        Answered::Refused(Refused::Answer(bad)) => {
            Ok(asked(context, visitor, &row, &sent, Some(Trouble::Refused(bad))))
        }
        Answered::Refused(Refused::Conflict(_)) => {
            Ok(visitor.show(context, StatusCode::CONFLICT, page::answered(visitor.locale)))
        }
        Answered::Refused(Refused::Ended(_) | Refused::Expired) => {
            Ok(visitor.show(context, StatusCode::GONE, page::over(visitor.locale)))
        }
        Answered::Refused(refused) => Err(of_refused(refused)),
    }
}
