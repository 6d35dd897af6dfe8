//! The errors that the document tells: one line for each `error_code`, with an example of what a caller reads.
//!
//! A route names its own codes in `x-errors`; those that follow from what a route is (it has a body, it needs a scope) are
//! added to it here. The examples are rendered by the type that renders the real ones.

use actix_web::http::Method;
use hookyard_chassis::{
    api_error::{ApiError, Shape},
    request_id::RequestId,
};
use serde_json::{Map, Value, json};

use crate::{access::Access, routes::Entry};

/// An error that callers may read.
#[derive(Debug)]
struct Known {
    code: &'static str,
    status: u16,
    /// When it happens.
    when: &'static str,
    /// An example of its text.
    message: &'static str,
    field: Option<&'static str>,
    reason: Option<&'static str>,
}

const fn known(
    code: &'static str,
    status: u16,
    when: &'static str,
    message: &'static str,
    field: Option<&'static str>,
    reason: Option<&'static str>,
) -> Known {
    Known { code, status, when, message, field, reason }
}

#[rustfmt::skip] // a table
static KNOWN: &[Known] = &[
    known("INVALID_JSON", 400, "The body is not JSON.", "invalid JSON at byte 12: unexpected character", None, Some("unexpected character")),
    known("INVALID_BODY", 400, "The body is JSON and no object.", "the body has to be a JSON object", None, None),
    known("INCOMPLETE_BODY", 400, "The connection broke off within the body.", "the body ended before it was complete", None, None),
    known("MISSING_URL", 400, "No URL is given, or it is no text.", "the webhook URL is missing: `url` is not there", Some("url"), Some("is not there")),
    known("MISSING_SELECTION", 400, "The body does not say which objects are meant.", "say which: `ids`, or `all: true` with `hook_id`, `since` and `until` as wanted", Some("ids"), Some("is not there")),
    known("INVALID_PARAMETER", 400, "A parameter of the query is unknown or has an unusable value.", "the parameter `limit` must be a whole number from 1 to 100", Some("limit"), Some("must be a whole number from 1 to 100")),
    known("INVALID_ID", 400, "The id in the path is none.", "the id in the path is not one: `hook` ids look like `hook_01hzy3v9k2s8d4f6g8h0j2k4m6`", Some("id"), Some("`hook` ids look like `hook_01hzy3v9k2s8d4f6g8h0j2k4m6`")),
    known("INVALID_IDEMPOTENCY_KEY", 400, "The Idempotency-Key is empty, too long, or given twice.", "the Idempotency-Key must have 1 to 255 printable ASCII characters", Some("Idempotency-Key"), Some("must have 1 to 255 printable ASCII characters")),
    known("INVALID_ACTION_RUN", 400, "The run that is asked for has no such action, or an unusable input.", "url is missing", Some("data.inputs.url"), None),
    known("INVALID_CALLBACK_URL", 400, "The URL of the callback is not https on a public address, or too long.", "callback_url must be on a public address", Some("data.callback_url"), None),
    known("INVALID_AUTHENTICATION", 400, "The connection lacks something, or its credentials are not taken.", "url does not let these credentials in: it answered 401", Some("url"), None),
    known("UNAUTHORIZED", 401, "No credential is shown, or it is unknown, expired or revoked.", "the credential is unknown, expired or revoked", None, None),
    known("BUDGET_EXCEEDED", 402, "What the tenant may use this month is used up.", "the tokens that may be used this month are used up; raise the budget or wait for the next month", None, None),
    known("INSUFFICIENT_PERMISSIONS", 403, "The credential lacks the scope.", "this credential lacks the scope `hooks:write`; it has: hooks:read", Some("scope"), Some("hooks:write")),
    known("WORK_NOT_ALLOWED", 403, "The worker token does not allow such tasks.", "this worker token does not allow tasks of the type `plan`", Some("agent_types"), Some("this worker token does not allow tasks of the type `plan`")),
    known("EVENT_TYPE_NOT_ALLOWED", 403, "The key may publish events of other types only.", "`order.created` is not among the types that this key may publish", Some("event_type"), Some("`order.created` is not among the types that this key may publish")),
    known("CROSS_SITE_REQUEST", 403, "A page of another site uses a person's session.", "this request comes from a page of another site; use a key instead of the session", None, None),
    known("CSRF_TOKEN_INVALID", 403, "A request with a session lacks `X-CSRF-Token`.", "a request with a session needs the header X-CSRF-Token; GET /v1/session tells it", Some("X-CSRF-Token"), None),
    known("WRONG_PASSWORD", 403, "The current password is wrong.", "the current password is wrong", None, None),
    known("NOT_FOUND", 404, "There is no such object, or it is another tenant's.", "hook not found", None, None),
    known("REQUEST_TIMEOUT", 408, "The body took too long to arrive.", "the body did not arrive within 30000 ms", None, None),
    known("STALE_LEASE", 409, "The lease token is not the one under which the run is held now.", "the lease token is not the one under which the run is held now; stop the work", None, None),
    known("CONFLICT", 409, "What is there contradicts the request.", "there is an event type `order.created` already", None, None),
    known("IDEMPOTENCY_IN_FLIGHT", 409, "A request with the same Idempotency-Key still runs after 10 s.", "a request with this Idempotency-Key is still running, ask again later", None, None),
    known("HOOK_DISABLED", 409, "The hook takes no deliveries until it is enabled.", "the hook is disabled; enable it, or subscribe it again, first", None, None),
    known("HOOK_DELETED", 409, "The hook is gone.", "the hook is deleted; subscribe it again first", None, None),
    known("CONSUMER_DISABLED", 409, "The consumer takes no deliveries until it is enabled.", "the consumer is disabled; enable it first", None, None),
    known("CONSUMER_DELETED", 409, "The consumer is gone.", "the consumer is deleted; make a new one", None, None),
    known("TASK_ENDPOINT_DISABLED", 409, "The webhook of tasks takes no deliveries.", "this webhook of tasks takes no deliveries; a task that names its URL enables it again", None, None),
    known("CALLBACK_ENDPOINT_GONE", 409, "The endpoint of a callback was not used for a day and is removed.", "the endpoint of this callback is gone; POST /v2/action-runs/{id}/callback brings it back", None, None),
    known("DELIVERIES_PENDING", 409, "The event still has to get somewhere.", "deliveries of the event are under way: 2; wait for them, or cancel them with `cancel_pending=true`", None, None),
    known("EVENT_SCHEDULED", 409, "The event waits for its `deliver_at`.", "the event waits for its `deliver_at`; purge it with `cancel_pending=true`, and it is sent to nobody", None, None),
    known("EVENT_FANNING_OUT", 409, "The event was accepted a moment ago.", "the event is being fanned out at this moment; try again in a second", None, None),
    known("PAYLOAD_PURGED", 409, "The payload of the event is gone.", "the payload of this event was purged: there is nothing left to send", None, None),
    known("DELIVERY_PENDING", 409, "The delivery has not ended yet.", "the delivery is still under way", None, None),
    known("RECOVERY_RUNNING", 409, "A recovery of the endpoint has not ended.", "a recovery of this endpoint is under way; wait for its end, or cancel it", None, None),
    known("RECOVERY_ENDED", 409, "The recovery has ended otherwise.", "the recovery has ended already", None, None),
    known("INPUT_CLOSED", 410, "It was possible once: the task has ended, or the time is over.", "the time for an answer is over", None, None),
    known("RUN_ENDED", 410, "The run has ended, or the lease or the time of the attempt is over.", "the run has ended, it is cancelled; stop the work", None, None),
    known("PAYLOAD_TOO_LARGE", 413, "The body is too large.", "the body is larger than the allowed 65536 bytes", None, None),
    known("UNSUPPORTED_MEDIA_TYPE", 415, "The body is of another type, or compressed.", "the Content-Type has to be application/json", None, None),
    known("INVALID_EVENT", 422, "The event breaks a rule.", "payload must be a JSON object", Some("payload"), Some("must be a JSON object")),
    known("INVALID_BATCH", 422, "The batch has no list of 1 to 100 events.", "events must hold 1 to 100 events, not 101", Some("events"), Some("must hold 1 to 100 events, not 101")),
    known("INVALID_WEBHOOK_URL", 422, "The URL is not one that hooks may have.", "the webhook URL must be on hooks.zapier.com", Some("url"), Some("must be on hooks.zapier.com")),
    known("INVALID_EVENT_TYPE", 422, "The event type is neither a type nor a pattern, or is archived.", "event_type must be one type, not 2; subscribe once for each, or with a pattern", Some("event_type"), Some("must be one type, not 2; subscribe once for each, or with a pattern")),
    known("INVALID_FILTER", 422, "The filter cannot be understood.", "the filter cannot be used: `filter.payload.total.$gte` needs a number or a text", Some("filter.payload.total.$gte"), Some("needs a number or a text")),
    known("INVALID_TRANSFORMATION", 422, "The transformation cannot be understood, or makes what cannot be sent.", "the transformation cannot be used: `transformation.body.order.$from` must be a place such as customer.name", Some("transformation.body.order.$from"), Some("must be a place such as customer.name")),
    known("INVALID_HEADERS", 422, "A header has an unusable or reserved name, or an unusable value.", "headers.host is reserved: Hookyard sets it itself, or it belongs to the connection", Some("headers.host"), Some("is reserved: Hookyard sets it itself, or it belongs to the connection")),
    known("INVALID_CERTIFICATE", 422, "The client certificate is none, does not fit its key, or is not valid now.", "client_certificate does not fit the private key", Some("client_certificate"), Some("does not fit the private key")),
    known("INVALID_EXPIRATION_DATE", 422, "The expiry is no time, or is over.", "expiration_date must lie in the future", Some("expiration_date"), Some("must lie in the future")),
    known("INVALID_SECRET", 422, "The secret is empty or too long.", "secret is none: a webhook secret has 1 to 256 bytes, this one has 257", Some("secret"), Some("is none: a webhook secret has 1 to 256 bytes, this one has 257")),
    known("INVALID_FIELD", 422, "A member of the body has an unusable value.", "until must be after `since`", Some("until"), Some("must be after `since`")),
    known("INVALID_SCHEMA", 422, "The JSON Schema cannot be used.", "schema /properties/total/type: \"numbr\" is not valid", Some("schema"), Some("/properties/total/type: \"numbr\" is not valid")),
    known("INVALID_OPENAPI", 422, "The OpenAPI document cannot be read, or describes what cannot be taken.", "document /webhooks/order created: `order created` is no event type", Some("document"), Some("/webhooks/order created: `order created` is no event type")),
    known("EVENT_TYPE_ARCHIVED", 422, "The event's type is archived.", "event_type `order.created` is archived and takes no new events", Some("event_type"), Some("`order.created` is archived and takes no new events")),
    known("SCHEMA_MISMATCH", 422, "The payload breaks the schema of its type, which rejects such.", "payload does not match the schema of `order.created`: /total: value is not of type \"number\"", Some("payload"), Some("does not match the schema of `order.created`: /total: value is not of type \"number\"")),
    known("IDEMPOTENCY_MISMATCH", 422, "The Idempotency-Key was used for another request.", "this Idempotency-Key was used for another request; use a new key for a new request", Some("Idempotency-Key"), None),
    known("WRONG_CODE", 422, "The code of the second factor is wrong, or was used already.", "code is wrong, or was used already", Some("code"), Some("is wrong, or was used already")),
    known("TOO_MANY_TRIES", 429, "Too many passwords or codes were wrong; `Retry-After` tells when the pause ends.", "too many wrong passwords or codes; come back when the pause ends", None, None),
    known("RATE_LIMITED", 429, "The credential's limit is spent; `Retry-After` tells when it is not.", "more than 60 requests in a minute, come back when the window ends", None, None),
    known("INTERNAL", 500, "A defect of ours.", "something went wrong on our side, the request id finds it in our logs", None, None),
    known("OVERLOADED", 503, "Too many requests at the moment; `Retry-After` tells when to come back.", "all database connections are in use", None, None),
    known("UNAVAILABLE", 503, "Something that is needed is away; `Retry-After` tells when to come back.", "the database is away, try again", None, None),
];

const EVERYWHERE: [&str; 1] = ["INTERNAL"];
const WITH_ACCESS: [&str; 5] =
    ["UNAUTHORIZED", "INSUFFICIENT_PERMISSIONS", "RATE_LIMITED", "OVERLOADED", "UNAVAILABLE"];
/// Of requests that change something, made with a session.
const WITH_SESSION: [&str; 2] = ["CROSS_SITE_REQUEST", "CSRF_TOKEN_INVALID"];
const WITH_BODY: [&str; 5] =
    ["INVALID_JSON", "INCOMPLETE_BODY", "REQUEST_TIMEOUT", "PAYLOAD_TOO_LARGE", "UNSUPPORTED_MEDIA_TYPE"];
const WITH_KEY: [&str; 3] = ["INVALID_IDEMPOTENCY_KEY", "IDEMPOTENCY_MISMATCH", "IDEMPOTENCY_IN_FLIGHT"];

/// Every code that a route may answer with: its own, and those that follow from what it is. `-CODE` among its own takes
/// one of the latter away.
pub(super) fn codes(entry: &Entry, operation: &Value) -> Vec<String> {
    let own: Vec<&str> =
        operation["x-errors"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let parameter = |place: &str, name: &str| {
        let parameters = operation["parameters"].as_array();
        parameters
            .into_iter()
            .flatten()
            .any(|there| there["in"] == place && (name.is_empty() || there["name"] == name))
    };
    let mut codes: Vec<&str> = own.iter().filter(|code| !code.starts_with('-')).copied().collect();
    let mut add = |more: &[&'static str]| codes.extend(more);
    if entry.access == Access::Page {
        // People are told in HTML.
        return Vec::new();
    }
    if entry.access == Access::Public {
        // What is public needs nothing that could be away.
    } else {
        add(&EVERYWHERE);
        add(&WITH_ACCESS);
        if entry.method != Method::GET {
            add(&WITH_SESSION);
        }
        // Lists refuse parameters that they do not know, whether they have some or not.
        if entry.method == Method::GET || parameter("query", "") {
            add(&["INVALID_PARAMETER"]);
        }
    }
    if operation.get("requestBody").is_some() {
        add(&WITH_BODY);
    }
    if parameter("header", "Idempotency-Key") {
        add(&WITH_KEY);
    }
    if parameter("path", "id") {
        add(&["INVALID_ID"]);
    }
    if parameter("path", "") {
        add(&["NOT_FOUND"]);
    }
    codes.retain(|code| !own.iter().any(|taken| taken.strip_prefix('-') == Some(*code)));
    codes.sort_unstable();
    codes.dedup();
    codes.into_iter().map(str::to_owned).collect()
}

/// The responses of these codes, by status.
///
/// # Errors
/// The code that is not in the table.
pub(super) fn responses(codes: &[String], shape: Shape) -> Result<Map<String, Value>, String> {
    let mut responses = Map::new();
    let schema = match shape {
        Shape::Native => "#/components/schemas/Error",
        Shape::V2 => "#/components/schemas/ErrorV2",
    };
    for code in codes {
        let known = KNOWN.iter().find(|known| known.code == code).ok_or_else(|| code.clone())?;
        let response = responses.entry(known.status.to_string()).or_insert_with(|| {
            json!({
                "description": "",
                "headers": headers(known.status),
                "content": {"application/json": {"schema": {"$ref": schema}, "examples": {}}},
            })
        });
        response["content"]["application/json"]["examples"][known.code] =
            json!({"summary": known.when, "value": known.example(shape)});
        let described = match response["description"].as_str() {
            None | Some("") => format!("`{}`: {}", known.code, known.when),
            Some(before) => format!("{before} `{}`: {}", known.code, known.when),
        };
        response["description"] = described.into();
    }
    Ok(responses)
}

fn headers(status: u16) -> Value {
    let mut headers = json!({"X-Request-Id": {"$ref": "#/components/headers/X-Request-Id"}});
    if matches!(status, 429 | 503) {
        headers["Retry-After"] = json!({"$ref": "#/components/headers/Retry-After"});
    }
    if status == 401 {
        headers["WWW-Authenticate"] = json!({"$ref": "#/components/headers/WWW-Authenticate"});
    }
    headers
}

impl Known {
    fn example(&self, shape: Shape) -> Value {
        // Both cannot fail for what stands above; a test renders every line.
        let status = actix_web::http::StatusCode::from_u16(self.status).unwrap_or_default();
        let id = RequestId::parse("01939d2f9a7b7c4e8f1d2c3b4a596877");
        let mut error = ApiError::new(status, self.code, self.message);
        if let Some(field) = self.field {
            error = error.field(field);
        }
        if let Some(reason) = self.reason {
            error = error.reason(reason);
        }
        error.body(shape, id.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_stands_once_and_has_a_complete_example() {
        for (at, known) in KNOWN.iter().enumerate() {
            assert!(KNOWN[..at].iter().all(|before| before.code != known.code), "{}", known.code);
            let example = known.example(Shape::Native);
            assert_eq!(example["error_code"], known.code);
            assert_eq!(example["error"], known.message, "{} is cut", known.code);
            assert!(example["request_id"].is_string() && (400..600).contains(&known.status), "{example}");
            assert!(known.when.ends_with('.'), "{}", known.code);
        }
    }

    #[test]
    fn codes_of_one_status_stand_together() {
        let codes = ["OVERLOADED", "UNAVAILABLE", "NOT_FOUND"].map(str::to_owned);
        let responses = responses(&codes, Shape::Native).unwrap();
        assert_eq!(responses.keys().collect::<Vec<_>>(), ["404", "503"]);
        let examples = responses["503"]["content"]["application/json"]["examples"].as_object().unwrap();
        assert_eq!(examples.len(), 2);
        assert!(responses["503"]["headers"]["Retry-After"].is_object());
        assert_eq!(super::responses(&["NONSENSE".to_owned()], Shape::V2), Err("NONSENSE".to_owned()));
    }
}
