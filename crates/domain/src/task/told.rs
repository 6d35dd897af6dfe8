//! What is told of a run: the bodies of its events, which are the bodies of its webhooks, and the lines that listeners see.
//! The order of the members is part of the contract (§5).

use chrono::{DateTime, Utc};

use super::{Run, Usage, respond::RespondLinks, rows::Row, step::Telling};
use crate::{
    Error, Result,
    event::{self, EventType, NewEvent, Origin, Provenance, wire_time},
    id::RunId,
    trace::TraceContext,
    wire::{Json, Object, parse_stored, to_canonical},
};

impl Telling {
    /// What comes after `task.` in the type of the event, and after `task_` in its body.
    pub(super) const fn word(&self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Progress => "progress",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::NeedsInput { .. } => "needs_input",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state that the run had when this was told.
    const fn status(&self) -> &'static str {
        match self {
            Self::Started | Self::Progress => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::NeedsInput { .. } => "needs_input",
            Self::Cancelled => "cancelled",
        }
    }
}

fn integer(value: u64) -> Json {
    i64::try_from(value).ok().and_then(crate::wire::Number::from_integer).map_or(Json::Null, Json::from)
}

/// The body of a webhook: what the event's payload is.
pub(super) fn body(
    row: &Row,
    run: &Run,
    telling: &Telling,
    links: &RespondLinks,
    at: DateTime<Utc>,
) -> Object {
    let result = run.result.as_deref().filter(|_| matches!(telling, Telling::Completed));
    let error = run.error.as_deref().filter(|_| matches!(telling, Telling::Failed | Telling::Cancelled));
    let mut body = Object::new();
    body.insert("event", Json::from(format!("task_{}", telling.word())));
    body.insert("run_id", Json::from(row.id.to_string()));
    body.insert("task_id", Json::from(row.task_id.to_string()));
    body.insert("status", Json::from(telling.status()));
    body.insert("result", Json::from(result.map(str::to_owned)));
    body.insert("error", Json::from(error.map(str::to_owned)));
    body.insert("timestamp", Json::from(wire_time(at)));
    match telling {
        Telling::Progress => {
            body.insert("percent", Json::from(run.percent.map(u32::from)));
            body.insert("message", Json::from(run.progress_message.clone()));
        }
        Telling::NeedsInput { input, question, expires_at } => {
            let choices = question
                .choices
                .as_ref()
                .map(|choices| choices.iter().map(|choice| Json::from(choice.as_str())).collect::<Vec<_>>());
            body.insert("request_id", Json::from(input.to_string()));
            body.insert("question", Json::from(question.question.as_str()));
            body.insert("choices", Json::from(choices));
            body.insert("schema", stored(question.schema.as_deref()));
            body.insert("expires_at", Json::from(wire_time(*expires_at)));
            body.insert("respond_url", Json::from(links.link(*input)));
        }
        Telling::Started | Telling::Completed | Telling::Failed | Telling::Cancelled => {}
    }
    body
}

/// JSON that we wrote ourselves.
fn stored(text: Option<&str>) -> Json {
    text.and_then(|text| parse_stored(text.as_bytes()).ok()).unwrap_or(Json::Null)
}

/// The event that tells it. Its metadata says which task it is about.
pub(super) fn event(
    row: &Row,
    run: &Run,
    telling: &Telling,
    links: &RespondLinks,
    at: DateTime<Utc>,
) -> Result<NewEvent> {
    let event_type: EventType =
        format!("task.{}", telling.word()).parse().map_err(|error| Error::Database(Box::new(error)))?;
    let mut task = Object::new();
    task.insert("title", Json::from(row.title.as_str()));
    task.insert("agent_type", Json::from(row.agent_type.as_str()));
    task.insert("model", Json::from(row.model.as_str()));
    task.insert("metadata", stored(Some(row.metadata.as_deref().unwrap_or("{}"))));
    let mut metadata = Object::new();
    metadata.insert("task", Json::from(task));
    let draft = event::Draft::of(event_type, body(row, run, telling, links, at)).with_metadata(metadata);
    Ok(draft.accept(
        Origin::System,
        &Provenance {
            tenant: row.tenant_id,
            now: at,
            source_ip: None,
            user_agent: Some("Hookyard"),
            request_id: &row.id.to_string(),
            trace: TraceContext::of(row.trace, row.sampled),
        },
    ))
}

/// Kinds of lines in `task_outputs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineKind {
    /// Where the run stands.
    Status,
    /// How far it is.
    Progress,
    /// A piece of what it writes.
    Output,
}

impl LineKind {
    /// The name of the event in a stream.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Progress => "progress",
            Self::Output => "output",
        }
    }

    pub(super) const fn code(self) -> i16 {
        self as i16
    }

    pub(super) const fn of_code(code: i16) -> Self {
        match code {
            0 => Self::Status,
            1 => Self::Progress,
            _ => Self::Output,
        }
    }
}

/// A line that listeners see.
#[derive(Clone, Debug)]
pub(super) struct NewLine {
    pub(super) run: RunId,
    pub(super) seq: i64,
    pub(super) kind: LineKind,
    pub(super) data: String,
}

/// Where the run stands; for its end also what came of it, but for the result itself, which may be large.
pub(super) fn status_line(run: &Run, at: DateTime<Utc>) -> String {
    let mut line = Object::new();
    line.insert("status", Json::from(run.state.as_str()));
    line.insert("attempt", Json::from(u32::from(run.attempt)));
    line.insert("error", Json::from(run.error.clone()));
    line.insert("error_code", Json::from(run.error_code.clone()));
    line.insert("timestamp", Json::from(wire_time(at)));
    written(line)
}

pub(super) fn progress_line(run: &Run, at: DateTime<Utc>) -> String {
    let mut line = Object::new();
    line.insert("percent", Json::from(run.percent.map(u32::from)));
    line.insert("message", Json::from(run.progress_message.clone()));
    line.insert("timestamp", Json::from(wire_time(at)));
    written(line)
}

pub(super) fn output_line(run: &Run, text: &str) -> String {
    let mut line = Object::new();
    line.insert("attempt", Json::from(u32::from(run.attempt)));
    line.insert("text", Json::from(text));
    written(line)
}

fn written(object: Object) -> String {
    String::from_utf8_lossy(&to_canonical(&Json::Object(object))).into_owned()
}

/// Usage as it leaves.
#[must_use]
pub fn usage(usage: Usage) -> Json {
    let mut told = Object::new();
    told.insert("input_tokens", integer(usage.input_tokens));
    told.insert("output_tokens", integer(usage.output_tokens));
    told.insert("total_tokens", integer(usage.tokens()));
    let dollars = crate::wire::Number::new(usage.cost_micros as f64 / 1e6);
    told.insert("cost_usd", dollars.map_or(Json::Null, Json::from));
    Json::Object(told)
}
