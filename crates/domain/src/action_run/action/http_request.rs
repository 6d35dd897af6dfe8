//! `http.request`: a request through the guarded client. Its body may be a template: `{{name}}` is what `data` has under that
//! name; what it has not stays as it is.

use std::time::Duration;

use serde_json::json;
use url::Url;

use super::{Action, Plan, Wrong, given, text, wrong};
use crate::wire::{Json, Object, to_canonical};

/// The longest URL, in bytes.
const MAX_URL: usize = 2048;
/// Headers at most.
const MAX_HEADERS: usize = 30;
/// The longest value of a header, in bytes.
const MAX_VALUE: usize = 4096;
/// The largest body, in bytes.
const MAX_BODY: usize = 256 << 10;
/// Seconds that a request may take.
const TIMEOUT_S: (i64, i64) = (1, 30);
/// Methods, and whether one of them may be sent twice without harm (RFC 9110 §9.2.2).
const METHODS: [(&str, bool); 6] =
    [("GET", true), ("HEAD", true), ("POST", false), ("PUT", true), ("PATCH", false), ("DELETE", true)];
/// Headers that are ours to say.
const OURS: [&str; 8] =
    ["host", "connection", "content-length", "transfer-encoding", "upgrade", "te", "trailer", "expect"];

pub(super) const ACTION: Action = Action {
    key: "http.request",
    title: "Make an HTTP request",
    description: "Asks any public server and captures up to 64 KiB of its reply. What may have been sent is not sent twice, unless the request is idempotent.",
    fields: || {
        json!({
            "type": "object",
            "required": ["url"],
            "properties": {
                "url": {"type": "string", "format": "uri", "title": "URL", "maxLength": MAX_URL},
                "method": {"type": "string", "title": "Method", "enum": METHODS.map(|(name, _)| name), "default": "GET"},
                "headers": {"type": "object", "title": "Headers", "additionalProperties": {"type": "string"}, "maxProperties": MAX_HEADERS},
                "body": {"title": "Body", "description": "A text, or an object or a list that is sent as JSON. {{name}} in its texts is what `data` has under that name."},
                "data": {"type": "object", "title": "Values for the body"},
                "expected_status": {"title": "Expected status", "description": "A status or a list of them; any other is a failure. By default every 2xx."},
                "idempotent": {"type": "boolean", "title": "Idempotent", "description": "Whether it may be sent twice without harm. By default true for GET, HEAD, PUT and DELETE."},
                "timeout_seconds": {"type": "integer", "title": "Seconds it may take", "minimum": TIMEOUT_S.0, "maximum": TIMEOUT_S.1, "default": TIMEOUT_S.1},
            },
        })
    },
    plan: |input, _scene| plan(input).map(|plan| Plan::Request(Box::new(plan))),
};

/// A request that is going to be made.
#[derive(Clone, Debug)]
pub struct HttpPlan {
    /// The method, in capitals.
    pub method: &'static str,
    /// Where to.
    pub url: Url,
    /// Names, in small letters, and values.
    pub headers: Vec<(String, String)>,
    /// What is sent.
    pub body: Vec<u8>,
    /// Which answers are good.
    pub expected: Expected,
    /// Whether it may be sent twice.
    pub idempotent: bool,
    /// How long it may take.
    pub timeout: Duration,
}

/// Which statuses are good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Every 2xx.
    Success,
    /// These.
    These(Vec<u16>),
}

impl Expected {
    /// Whether a status is.
    #[must_use]
    pub fn has(&self, status: u16) -> bool {
        match self {
            Self::Success => (200..300).contains(&status),
            Self::These(these) => these.contains(&status),
        }
    }
}

fn plan(mut input: Object) -> Result<HttpPlan, Wrong> {
    let url = text(&mut input, "url", MAX_URL)?;
    let url = Url::parse(&url)
        .ok()
        .filter(|url| {
            matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.password().is_none()
        })
        .ok_or_else(|| wrong("url", "must be an http or https URL without a user"))?;
    let (method, harmless) = match given(&mut input, "method") {
        None => METHODS[0],
        Some(value) => {
            let name = value.as_str().unwrap_or_default().to_ascii_uppercase();
            let found = METHODS.into_iter().find(|(known, _)| *known == name);
            found.ok_or_else(|| wrong("method", "must be GET, HEAD, POST, PUT, PATCH or DELETE"))?
        }
    };
    let mut headers = headers(&mut input)?;
    let data = match given(&mut input, "data") {
        None => Object::new(),
        Some(Json::Object(data)) => data,
        Some(_) => return Err(wrong("data", "must be an object")),
    };
    let body = match given(&mut input, "body") {
        None => Vec::new(),
        Some(_) if matches!(method, "GET" | "HEAD") => {
            return Err(wrong("body", format!("must not be given with {method}")));
        }
        Some(Json::String(template)) => filled(&template.to_str_lossy(), &data).into_bytes(),
        Some(template) => {
            if !headers.iter().any(|(name, _)| name == "content-type") {
                headers.push(("content-type".to_owned(), "application/json".to_owned()));
            }
            to_canonical(&filled_json(template, &data))
        }
    };
    if body.len() > MAX_BODY {
        return Err(wrong("body", format!("must have at most {MAX_BODY} bytes")));
    }
    let idempotent = match given(&mut input, "idempotent") {
        None => harmless,
        Some(value) => value.as_bool().ok_or_else(|| wrong("idempotent", "must be true or false"))?,
    };
    let seconds = match given(&mut input, "timeout_seconds") {
        None => TIMEOUT_S.1,
        Some(value) => value
            .as_integer()
            .filter(|seconds| (TIMEOUT_S.0..=TIMEOUT_S.1).contains(seconds))
            .ok_or_else(|| wrong("timeout_seconds", "must be an integer from 1 to 30"))?,
    };
    let timeout = Duration::from_secs(u64::try_from(seconds).unwrap_or(1));
    Ok(HttpPlan { method, url, headers, body, expected: expected(&mut input)?, idempotent, timeout })
}

fn headers(input: &mut Object) -> Result<Vec<(String, String)>, Wrong> {
    let refused = || wrong("headers", "must be an object of names and texts that a request can have");
    let given = match given(input, "headers") {
        None => return Ok(Vec::new()),
        Some(Json::Object(given)) if given.len() <= MAX_HEADERS => given,
        Some(_) => return Err(refused()),
    };
    let mut headers = Vec::with_capacity(given.len());
    for (name, value) in given.iter() {
        let name = name.to_str_lossy().to_ascii_lowercase();
        let value = value.as_str().ok_or_else(refused)?;
        // RFC 9110 §5.1 and §5.5.
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let good = !name.is_empty()
            && name.len() <= 128
            && name.bytes().all(token)
            && !OURS.contains(&name.as_str())
            && value.len() <= MAX_VALUE
            && value.bytes().all(|byte| byte == b'\t' || (0x20..0x7f).contains(&byte));
        if !good {
            return Err(refused());
        }
        headers.push((name, value.to_owned()));
    }
    Ok(headers)
}

fn expected(input: &mut Object) -> Result<Expected, Wrong> {
    let refused = || wrong("expected_status", "must be a status from 100 to 599, or a list of them");
    let status = |value: &Json| {
        let status = value.as_integer().filter(|status| (100..600).contains(status));
        status.and_then(|status| u16::try_from(status).ok()).ok_or_else(refused)
    };
    match given(input, "expected_status") {
        None => Ok(Expected::Success),
        Some(Json::Array(list)) if !list.is_empty() && list.len() <= 50 => {
            Ok(Expected::These(list.iter().map(status).collect::<Result<_, _>>()?))
        }
        Some(Json::Array(_)) => Err(refused()),
        Some(one) => Ok(Expected::These(vec![status(&one)?])),
    }
}

/// The name in a text that is nothing but `{{name}}`.
fn lone(template: &str) -> Option<&str> {
    let name = template.strip_prefix("{{")?.strip_suffix("}}")?.trim();
    (!name.contains(['{', '}'])).then_some(name)
}

/// What a value is within a text: texts as they are, the rest as JSON.
fn as_text(value: &Json) -> String {
    match value.as_string() {
        Some(text) => text.to_str_lossy().into_owned(),
        None => String::from_utf8_lossy(&to_canonical(value)).into_owned(),
    }
}

/// A text with its names filled in, once: what is filled in is not looked at again.
fn filled(template: &str, data: &Object) -> String {
    let mut made = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(begin) = rest.find("{{") {
        let Some(length) = rest[begin..].find("}}") else { break };
        let (before, name) = (&rest[..begin], &rest[begin + 2..begin + length]);
        made.push_str(before);
        match data.get(name.trim()) {
            Some(value) => made.push_str(&as_text(value)),
            None => made.push_str(&rest[begin..begin + length + 2]),
        }
        rest = &rest[begin + length + 2..];
    }
    made.push_str(rest);
    made
}

/// JSON with its names filled in: a text that is nothing but a name becomes the value itself.
fn filled_json(template: Json, data: &Object) -> Json {
    match template {
        Json::String(text) => {
            let text = text.to_str_lossy();
            match lone(&text).and_then(|name| data.get(name)) {
                Some(value) => value.clone(),
                None => Json::from(filled(&text, data)),
            }
        }
        Json::Array(items) => Json::Array(items.into_iter().map(|item| filled_json(item, data)).collect()),
        Json::Object(members) => {
            let mut made = Object::new();
            for (name, value) in members.iter() {
                made.insert(name.clone(), filled_json(value.clone(), data));
            }
            Json::Object(made)
        }
        other @ (Json::Null | Json::Bool(_) | Json::Number(_)) => other,
    }
}
