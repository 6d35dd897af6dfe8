//! From the body of a request to a task: the checks of contract §5. Unknown members are ignored, `{{…}}` is left as it is.

use chrono::{DateTime, Utc};

use super::{
    AgentType,
    model::{Models, Resolved},
    run::{clean, cut},
    webhook::{Events, WebhookUrls},
};
use crate::{
    event::{DraftError, parse_time, without_nul},
    id::{RunId, ScheduleId, TaskId, TenantId},
    person::Locale,
    trace::TraceContext,
    wire::{Json, Object, WebhookSecret, to_canonical},
};

/// The longest title, in characters.
pub const MAX_TITLE_CHARS: usize = 200;
/// The longest description, in characters.
pub const MAX_DESCRIPTION_CHARS: usize = 100_000;
/// The largest `metadata`, as canonical JSON, in bytes.
pub const MAX_METADATA_BYTES: usize = 16 << 10;
/// Seconds that an attempt may take: least, most, and what it is when nothing is said.
pub const TIMEOUT_S: (u32, u32, u32) = (60, 604_800, 600);
/// Capabilities that a task may ask for.
pub const MAX_CAPABILITIES: usize = 10;
/// The longest capability, in characters.
pub const MAX_CAPABILITY_CHARS: usize = 64;
/// The highest `max_cost`, in US dollars.
pub const MAX_COST: f64 = 1_000_000.0;
/// The longest e-mail address, in characters (RFC 5321).
const MAX_EMAIL_CHARS: usize = 254;

/// A checked request for a task.
#[derive(Clone, Debug)]
pub struct Draft {
    title: String,
    description: String,
    agent_type: AgentType,
    model: Resolved,
    priority: i16,
    capabilities: Vec<String>,
    webhook: Option<Webhook>,
    notify_email: Option<String>,
    notify_language: Option<Locale>,
    metadata: Object,
    timeout_s: u32,
    max_seconds: Option<u32>,
    max_tokens: Option<u64>,
    max_cost_micros: Option<u64>,
    deadline_at: Option<DateTime<Utc>>,
}

/// Where the steps of a task are told.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// Where.
    pub url: url::Url,
    /// Which events go there.
    pub events: Events,
    /// Key of `X-CodeTether-Signature`, if this task has one of its own.
    pub secret: Option<WebhookSecret>,
}

/// A task that is ready to be stored, with its first run.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "each is a column of tasks, which the migration explains")]
pub struct NewTask {
    pub id: TaskId,
    pub run: RunId,
    pub tenant: TenantId,
    pub title: String,
    pub description: String,
    pub agent_type: AgentType,
    pub model: Resolved,
    pub priority: i16,
    pub capabilities: Vec<String>,
    pub webhook: Option<Webhook>,
    pub notify_email: Option<String>,
    pub notify_language: Option<Locale>,
    pub metadata: Option<String>,
    pub labels: Option<serde_json::Value>,
    pub timeout_s: u32,
    pub max_seconds: Option<u32>,
    pub max_tokens: Option<u64>,
    pub max_cost_micros: Option<u64>,
    pub deadline_at: Option<DateTime<Utc>>,
    pub schedule: Option<ScheduleId>,
    pub created_by: Option<uuid::Uuid>,
    pub trace: TraceContext,
    pub created_at: DateTime<Utc>,
}

fn wrong(field: &'static str, reason: impl Into<String>) -> DraftError {
    DraftError { field, reason: reason.into() }
}

/// A text of so many characters, with what no database holds replaced by U+FFFD: lone surrogates and U+0000.
fn text(value: &Json, field: &'static str, least: usize, most: usize) -> Result<String, DraftError> {
    let Some(string) = value.as_string() else { return Err(wrong(field, "must be a string")) };
    let text = clean(string.to_str_lossy().into_owned());
    let enough = if least > 0 { !text.trim().is_empty() } else { true };
    if !enough || text.chars().nth(most).is_some() {
        return Err(wrong(field, format!("must have {least} to {most} characters")));
    }
    Ok(text)
}

fn integer(value: &Json, field: &'static str, least: i64, most: i64) -> Result<i64, DraftError> {
    value
        .as_integer()
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| wrong(field, format!("must be an integer from {least} to {most}")))
}

/// A member, unless it is absent or null.
fn given(object: &mut Object, name: &str) -> Option<Json> {
    object.remove(name).filter(|value| !value.is_null())
}

impl Draft {
    /// Checks the body of `POST /v1/automation/tasks`.
    ///
    /// # Errors
    /// Names the first member that is missing or not acceptable.
    pub fn parse(
        json: Json,
        models: &Models,
        urls: &WebhookUrls,
        now: DateTime<Utc>,
    ) -> Result<Self, DraftError> {
        let Json::Object(mut object) = json else { return Err(wrong("task", "must be a JSON object")) };
        let required = |object: &mut Object, field: &'static str, most| {
            let value = given(object, field).ok_or_else(|| wrong(field, "is missing"))?;
            text(&value, field, 1, most)
        };
        let title = required(&mut object, "title", MAX_TITLE_CHARS)?;
        let description = required(&mut object, "description", MAX_DESCRIPTION_CHARS)?;
        let agent_type = match given(&mut object, "agent_type") {
            None => AgentType::General,
            Some(value) => value
                .as_str()
                .unwrap_or_default()
                .parse()
                .map_err(|error: super::AgentTypeError| wrong("agent_type", error.to_string()))?,
        };
        let model = match given(&mut object, "model") {
            None => models.resolve(None),
            Some(value) => match value.as_str() {
                None => return Err(wrong("model", "must be a string")),
                Some(name) => models.resolve(Some(name)),
            },
        }
        .map_err(|error| wrong("model", cut(&error.to_string(), 200)))?;
        let priority = match given(&mut object, "priority") {
            None => 0,
            Some(value) => integer(&value, "priority", 0, 100)?,
        };
        let (least, most, usual) = TIMEOUT_S;
        let timeout_s = match given(&mut object, "task_timeout_seconds") {
            None => usual,
            Some(value) => seconds(&value, "task_timeout_seconds", least, most)?,
        };
        let max_seconds = match given(&mut object, "max_seconds") {
            None => None,
            Some(value) => Some(seconds(&value, "max_seconds", 1, most)?),
        };
        let max_tokens = match given(&mut object, "max_tokens") {
            None => None,
            Some(value) => {
                let tokens = integer(&value, "max_tokens", 1, 1_000_000_000)?;
                Some(u64::try_from(tokens).unwrap_or(0))
            }
        };
        let max_cost_micros = match given(&mut object, "max_cost") {
            None => None,
            Some(value) => Some(cost(&value)?),
        };
        let deadline_at = match given(&mut object, "deadline_at") {
            None => None,
            Some(value) => {
                let at = parse_time(&value).map_err(|reason| wrong("deadline_at", reason))?;
                if at <= now {
                    return Err(wrong("deadline_at", "must lie in the future"));
                }
                Some(at)
            }
        };
        let capabilities = match given(&mut object, "capabilities") {
            None => Vec::new(),
            Some(value) => capabilities(&value)?,
        };
        Ok(Self {
            title,
            description,
            agent_type,
            model,
            priority: i16::try_from(priority).unwrap_or(0),
            capabilities,
            webhook: webhook(&mut object, urls)?,
            notify_email: given(&mut object, "notify_email").map(|value| email(&value)).transpose()?,
            notify_language: given(&mut object, "notify_language")
                .map(|value| language(&value))
                .transpose()?,
            metadata: metadata(&mut object)?,
            timeout_s,
            max_seconds,
            max_tokens,
            max_cost_micros,
            deadline_at,
        })
    }

    /// Gives the draft its identity.
    #[must_use]
    pub fn accept(
        self,
        tenant: TenantId,
        created_by: Option<uuid::Uuid>,
        trace: TraceContext,
        now: DateTime<Utc>,
    ) -> NewTask {
        let metadata = Json::Object(self.metadata);
        let empty = metadata.as_object().is_none_or(Object::is_empty);
        let canonical = || String::from_utf8_lossy(&to_canonical(&metadata)).into_owned();
        NewTask {
            id: TaskId::new(now),
            run: RunId::new(now),
            tenant,
            title: self.title,
            description: self.description,
            agent_type: self.agent_type,
            model: self.model,
            priority: self.priority,
            capabilities: self.capabilities,
            webhook: self.webhook,
            notify_email: self.notify_email,
            notify_language: self.notify_language,
            metadata: (!empty).then(canonical),
            labels: (!empty).then(|| without_nul(metadata.to_serde())),
            timeout_s: self.timeout_s,
            max_seconds: self.max_seconds,
            max_tokens: self.max_tokens,
            max_cost_micros: self.max_cost_micros,
            deadline_at: self.deadline_at,
            schedule: None,
            created_by,
            trace,
            created_at: now,
        }
    }
}

impl NewTask {
    /// Whether the built-in executor may take it.
    #[must_use]
    pub fn built_in(&self) -> bool {
        self.agent_type.built_in() && self.capabilities.is_empty()
    }
}

fn seconds(value: &Json, field: &'static str, least: u32, most: u32) -> Result<u32, DraftError> {
    let seconds = integer(value, field, least.into(), most.into())?;
    Ok(u32::try_from(seconds).unwrap_or(most))
}

fn cost(value: &Json) -> Result<u64, DraftError> {
    let dollars = value.as_f64().filter(|dollars| *dollars > 0.0 && *dollars <= MAX_COST);
    let dollars = dollars
        .ok_or_else(|| wrong("max_cost", format!("must be US dollars, above 0, at most {MAX_COST}")))?;
    // Positive and bounded; at least the smallest amount there is.
    Ok(((dollars * 1e6).round() as u64).max(1))
}

fn capabilities(value: &Json) -> Result<Vec<String>, DraftError> {
    let wrong = || {
        wrong(
            "capabilities",
            format!("must be at most {MAX_CAPABILITIES} strings of 1 to {MAX_CAPABILITY_CHARS} characters"),
        )
    };
    let list = value.as_array().filter(|list| list.len() <= MAX_CAPABILITIES).ok_or_else(wrong)?;
    let mut found: Vec<String> = Vec::with_capacity(list.len());
    for item in list {
        let word = item.as_str().filter(|word| {
            !word.is_empty() && word.chars().nth(MAX_CAPABILITY_CHARS).is_none() && !word.contains('\0')
        });
        let word = word.ok_or_else(wrong)?.to_owned();
        if !found.contains(&word) {
            found.push(word);
        }
    }
    Ok(found)
}

fn webhook(object: &mut Object, urls: &WebhookUrls) -> Result<Option<Webhook>, DraftError> {
    let events = match given(object, "webhook_events") {
        None => None,
        Some(value) => Some(Events::parse(&value).map_err(|reason| wrong("webhook_events", reason))?),
    };
    let secret = match given(object, "webhook_secret") {
        None => None,
        Some(value) => {
            let text = value.as_str().ok_or_else(|| wrong("webhook_secret", "must be a string"))?;
            let secret = WebhookSecret::parse(text);
            Some(secret.map_err(|error| wrong("webhook_secret", error.to_string()))?)
        }
    };
    let Some(url) = given(object, "webhook_url") else { return Ok(None) };
    let url = url.as_str().ok_or_else(|| wrong("webhook_url", "must be a string"))?;
    let checked = urls.check(url).map_err(|reason| wrong("webhook_url", reason))?;
    let events = if checked.is_callback { Events::TERMINAL } else { events.unwrap_or(Events::USUAL) };
    Ok(Some(Webhook { url: checked.url, events, secret }))
}

/// One plain address: that it exists is told by the mail.
fn email(value: &Json) -> Result<String, DraftError> {
    let refused = || wrong("notify_email", "must be an e-mail address, such as ada@example.com");
    let text = value.as_str().ok_or_else(refused)?;
    let (local, domain) = text.rsplit_once('@').ok_or_else(refused)?;
    let dots = |part: &str| !part.is_empty() && part.split('.').all(|word| !word.is_empty());
    let atom = |c: char| c.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c);
    let name = |c: char| c.is_alphanumeric() || c == '-' || c == '.';
    let good = text.chars().nth(MAX_EMAIL_CHARS).is_none()
        && local.len() <= 64
        && dots(local)
        && local.chars().all(atom)
        && dots(domain)
        && domain.contains('.')
        && domain.chars().all(name);
    if good { Ok(text.to_owned()) } else { Err(refused()) }
}

fn language(value: &Json) -> Result<Locale, DraftError> {
    value.as_str().and_then(Locale::parse).ok_or_else(|| wrong("notify_language", "must be en or fr"))
}

fn metadata(object: &mut Object) -> Result<Object, DraftError> {
    let metadata = match given(object, "metadata") {
        None => Object::new(),
        Some(Json::Object(metadata)) => metadata,
        Some(_) => return Err(wrong("metadata", "must be a JSON object")),
    };
    if to_canonical(&Json::Object(metadata.clone())).len() > MAX_METADATA_BYTES {
        return Err(wrong("metadata", format!("is larger than {MAX_METADATA_BYTES} bytes")));
    }
    Ok(metadata)
}

#[cfg(test)]
#[path = "draft_tests.rs"]
mod tests;
