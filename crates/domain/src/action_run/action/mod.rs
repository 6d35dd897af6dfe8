//! The actions: what each takes and what it plans to do. A new one is a file here and a line in [`ACTIONS`].

mod email_send;
mod event_emit;
mod http_request;
mod task_run;

use chrono::{DateTime, Utc};
use serde_json::Value;

pub use http_request::{Expected, HttpPlan};

use crate::{
    catalogue::{rules::TenantRules, schema::Violation},
    email::Email,
    event::{self, DraftError},
    task::{self, model::Models, webhook::WebhookUrls},
    wire::{Json, Object, parse_stored},
};

/// An action.
#[derive(Debug)]
pub struct Action {
    /// What it is asked for by.
    pub key: &'static str,
    /// What it is called.
    pub title: &'static str,
    /// What it does.
    pub description: &'static str,
    /// Its input, as JSON Schema.
    pub fields: fn() -> Value,
    plan: fn(Object, &Scene<'_>) -> Result<Plan, Wrong>,
}

/// Every action.
pub static ACTIONS: &[Action] =
    &[email_send::ACTION, event_emit::ACTION, http_request::ACTION, task_run::ACTION];

/// What actions have to know of the installation.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// Which models there are.
    pub models: &'a Models,
    /// Which webhooks tasks may have.
    pub urls: &'a WebhookUrls,
    /// Whether there is a mail server.
    pub mail: bool,
    /// What the tenant takes of some types of events, if it has said so.
    pub rules: Option<&'a TenantRules>,
    /// The time.
    pub now: DateTime<Utc>,
}

/// What is wrong with an input.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {reason}")]
pub struct Wrong {
    /// The field that is at fault.
    pub field: &'static str,
    /// Where in the field: a JSON Pointer; empty for all of it.
    pub path: String,
    /// What is wrong with it, continuing its name: "is missing".
    pub reason: String,
}

/// What a run is going to do.
#[derive(Debug)]
pub enum Plan {
    /// Emit an event, although its payload breaks this of its schema.
    Emit(Box<event::Draft>, Vec<Violation>),
    /// Send a mail.
    Mail(Email),
    /// Have a task done, and wait for its end.
    Task(Box<task::Draft>),
    /// Ask somebody by HTTP.
    Request(Box<HttpPlan>),
}

impl Action {
    /// The action of this key.
    #[must_use]
    pub fn find(key: &str) -> Option<&'static Self> {
        ACTIONS.iter().find(|action| action.key == key)
    }

    /// Checks an input and says what is to be done.
    ///
    /// # Errors
    /// The first field that is missing or not acceptable.
    pub fn plan(&self, input: Object, scene: &Scene<'_>) -> Result<Plan, Wrong> {
        (self.plan)(input, scene)
    }

    /// As [`Action::plan`], of an input that was stored.
    ///
    /// # Errors
    /// As [`Action::plan`].
    pub fn plan_stored(&self, input: &str, scene: &Scene<'_>) -> Result<Plan, Wrong> {
        match parse_stored(input.as_bytes()) {
            Ok(Json::Object(input)) => self.plan(input, scene),
            Ok(_) | Err(_) => Err(wrong("input", "cannot be read")),
        }
    }
}

fn wrong(field: &'static str, reason: impl Into<String>) -> Wrong {
    Wrong { field, path: String::new(), reason: reason.into() }
}

impl From<DraftError> for Wrong {
    fn from(error: DraftError) -> Self {
        wrong(error.field, error.reason)
    }
}

/// A member, unless it is absent or null.
fn given(input: &mut Object, name: &str) -> Option<Json> {
    input.remove(name).filter(|value| !value.is_null())
}

/// A text of 1 to so many characters.
fn text(input: &mut Object, field: &'static str, most: usize) -> Result<String, Wrong> {
    let value = given(input, field).ok_or_else(|| wrong(field, "is missing"))?;
    let text = value.as_str().ok_or_else(|| wrong(field, "must be a string"))?;
    if text.trim().is_empty() || text.chars().nth(most).is_some() || text.contains('\0') {
        return Err(wrong(field, format!("must have 1 to {most} characters, without U+0000")));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{subscription::UrlRules, wire::parse};

    fn planned(key: &str, input: &str, mail: bool) -> Result<Plan, String> {
        let models = Models::new(&task::model::Settings::default()).unwrap();
        let urls = WebhookUrls::new(UrlRules::new(&[]).unwrap());
        let scene = Scene { models: &models, urls: &urls, mail, rules: None, now: DateTime::UNIX_EPOCH };
        let input = parse(input.as_bytes()).unwrap().into_object().unwrap();
        Action::find(key).unwrap().plan(input, &scene).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (key, input, expected) in [
            ("event.emit", r#"{"payload":{}}"#, "event_type is missing"),
            ("event.emit", r#"{"event_type":"a.b"}"#, "payload is missing"),
            ("email.send", r#"{"subject":"a","text":"b"}"#, "to is missing"),
            (
                "email.send",
                r#"{"to":"x","subject":"a","text":"b"}"#,
                "to must be an e-mail address, such as ada@example.com",
            ),
            (
                "email.send",
                r#"{"to":"a@b","subject":"","text":"b"}"#,
                "subject must have 1 to 150 characters, without U+0000",
            ),
            ("task.run", r#"{"title":"a"}"#, "description is missing"),
            ("http.request", "{}", "url is missing"),
            ("http.request", r#"{"url":"ftp://a.b/"}"#, "url must be an http or https URL without a user"),
            (
                "http.request",
                r#"{"url":"https://u:p@a.b/"}"#,
                "url must be an http or https URL without a user",
            ),
            (
                "http.request",
                r#"{"url":"https://a.b/","method":"BREW"}"#,
                "method must be GET, HEAD, POST, PUT, PATCH or DELETE",
            ),
            (
                "http.request",
                r#"{"url":"https://a.b/","headers":{"a b":"c"}}"#,
                "headers must be an object of names and texts that a request can have",
            ),
            (
                "http.request",
                r#"{"url":"https://a.b/","headers":{"Host":"c"}}"#,
                "headers must be an object of names and texts that a request can have",
            ),
            (
                "http.request",
                r#"{"url":"https://a.b/","expected_status":99}"#,
                "expected_status must be a status from 100 to 599, or a list of them",
            ),
            (
                "http.request",
                r#"{"url":"https://a.b/","timeout_seconds":31}"#,
                "timeout_seconds must be an integer from 1 to 30",
            ),
            ("http.request", r#"{"url":"https://a.b/","body":"x"}"#, "body must not be given with GET"),
        ] {
            assert_eq!(planned(key, input, true).unwrap_err(), expected, "{key} {input}");
        }
        let mail = r#"{"to":"Ada@Example.com","subject":"a","text":"b"}"#;
        assert!(planned("email.send", mail, false).unwrap_err().contains("mail"));
        assert!(
            matches!(planned("email.send", mail, true), Ok(Plan::Mail(email)) if email.to == "ada@example.com")
        );
        assert!(Action::find("http.requests").is_none());
    }

    #[test]
    fn every_action_says_what_it_takes() {
        for action in ACTIONS {
            let fields = (action.fields)();
            assert_eq!(fields["type"], "object", "{}", action.key);
            assert!(fields["properties"].as_object().is_some_and(|fields| !fields.is_empty()));
            assert!(fields["required"].as_array().is_some_and(|fields| !fields.is_empty()));
        }
    }

    #[test]
    fn a_request_is_made_of_its_template() {
        let plan = |input: &str| match planned("http.request", input, false) {
            Ok(Plan::Request(plan)) => *plan,
            other => panic!("{other:?}"),
        };
        let made = plan(
            r#"{"url":"https://a.b/x","method":"post","body":{"hello":"{{name}}","n":"{{n}}","all":"{{name}} has {{n}}","left":"{{other}}"},
                "data":{"name":"Ada \"A\"","n":7},"headers":{"X-A":"1"},"expected_status":[200,201]}"#,
        );
        assert_eq!(
            String::from_utf8(made.body).unwrap(),
            r#"{"hello":"Ada \"A\"","n":7,"all":"Ada \"A\" has 7","left":"{{other}}"}"#
        );
        assert_eq!(made.method, "POST");
        assert!(!made.idempotent && made.expected.has(201) && !made.expected.has(204));
        assert!(made.headers.contains(&("content-type".to_owned(), "application/json".to_owned())));
        let plain =
            plan(r#"{"url":"https://a.b/x","method":"PUT","body":"Hi {{name}}","data":{"name":"Ada"}}"#);
        assert_eq!((plain.body.as_slice(), plain.idempotent), (&b"Hi Ada"[..], true));
        assert!(plain.expected.has(204) && !plain.expected.has(302));
        assert!(plan(r#"{"url":"https://a.b/x","method":"POST","idempotent":true}"#).idempotent);
        assert!(!plan(r#"{"url":"https://a.b/x","method":"DELETE","idempotent":false}"#).idempotent);
    }
}
