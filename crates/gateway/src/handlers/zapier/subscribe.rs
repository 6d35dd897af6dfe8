//! `POST /zapier/hook`: somebody wants events at a URL.

use actix_web::{HttpRequest, http::StatusCode, web::Data};
use chrono::{DateTime, Utc};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    audit::{Action, Entry},
    catalogue,
    event::wire_time,
    id::SubscriptionId,
    subscription::{
        Filter, HookState, UrlRules,
        store::{self, HookView, NewHook, Subscribed},
    },
    wire::{Json, SigningSecret, WebhookSecret},
};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{Wanted, event_type_of};
use crate::{
    access::{
        Caller,
        idempotent::{Reply, idempotent, key},
    },
    body::{JsonBody, SMALL},
    context::Context,
    handlers::{
        audited,
        fields::{Fields, parse_time, text_of},
    },
    problem,
};

/// A checked subscribe.
#[derive(Debug)]
struct Subscribe {
    url: String,
    event_type: Option<String>,
    /// Canonical JSON.
    filter: Option<String>,
    expires_at: Option<DateTime<Utc>>,
    secret: Option<WebhookSecret>,
}

impl Subscribe {
    fn parse(body: &[u8], rules: &UrlRules, now: DateTime<Utc>) -> Result<Self, ApiError> {
        let fields = Fields::parse(body)?;
        // An optional member that the user left empty comes as an empty text.
        let given = |name| fields.get(name).filter(|value| value.as_str() != Some(""));
        let event_type = given("event_type").map(event_type_of).transpose()?.flatten();
        Ok(Self {
            url: url(&fields, rules)?,
            event_type: event_type.map(str::to_owned),
            filter: match given("filter") {
                None => None,
                Some(json) => Some(filter(json)?),
            },
            expires_at: match given("expiration_date") {
                None => None,
                Some(json) => {
                    let wrong =
                        |reason: &str| problem::invalid("INVALID_EXPIRATION_DATE", "expiration_date", reason);
                    let at = text_of(json).and_then(parse_time).map_err(wrong)?;
                    if at <= now {
                        return Err(wrong("must lie in the future"));
                    }
                    Some(at)
                }
            },
            secret: match given("secret") {
                None => None,
                Some(json) => {
                    let wrong = |reason: &str| problem::invalid("INVALID_SECRET", "secret", reason);
                    let text = text_of(json).map_err(wrong)?;
                    Some(WebhookSecret::parse(text).map_err(|error| wrong(&format!("is none: {error}")))?)
                }
            },
        })
    }
}

fn url(fields: &Fields, rules: &UrlRules) -> Result<String, ApiError> {
    let missing = |reason: &str| {
        ApiError::bad_request("MISSING_URL", format!("the webhook URL is missing: `url` {reason}"))
            .field("url")
            .reason(reason)
    };
    let value = fields.get("url").ok_or_else(|| missing("is not there"))?;
    if value.as_string().is_none() {
        return Err(missing("must be a string"));
    }
    let refused = |reason: &str| {
        ApiError::unprocessable("INVALID_WEBHOOK_URL", format!("the webhook URL {reason}"))
            .field("url")
            .reason(reason)
    };
    let text = text_of(value).map_err(refused)?;
    rules.check(text).map_err(|error| refused(&error.to_string()))?;
    Ok(text.to_owned())
}

/// The filter of a hook as canonical JSON.
///
/// # Errors
/// 422 `INVALID_FILTER` with the place.
pub(in crate::handlers) fn filter(json: &Json) -> Result<String, ApiError> {
    match Filter::parse(json) {
        Ok(filter) => Ok(filter.canonical_text()),
        Err(error) => {
            let message = format!("the filter cannot be used: {error}");
            Err(ApiError::unprocessable("INVALID_FILTER", message).field(error.path).reason(error.reason))
        }
    }
}

/// What a subscriber is told.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SubscribeAnswer {
    /// Always `success`.
    #[schema(example = "success")]
    status: &'static str,
    /// The hook's id, for unsubscribing and for `/v1/hooks/{id}`.
    #[schema(value_type = String, example = "hook_01hzy3v9k2s8d4f6g8h0j2k4m6")]
    id: String,
    /// Where deliveries go, as sent.
    #[schema(example = "https://hooks.zapier.com/hooks/standard/1234567/abcdef0123456789/")]
    url: String,
    /// When the hook was first subscribed.
    #[schema(format = DateTime, example = "2025-11-12T14:30:00.000Z")]
    created_at: String,
    /// Only when there was such a hook already.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'static str>,
    /// As sent; missing when none was.
    #[serde(skip_serializing_if = "Option::is_none")]
    event_type: Option<String>,
    /// In canonical form; missing when none was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    filter: Option<Box<RawValue>>,
    /// When the hook ends by itself; missing when none was sent. Zapier subscribes again before.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    expiration_date: Option<String>,
}

impl SubscribeAnswer {
    fn of(subscribed: Subscribed) -> Self {
        let Subscribed { hook, before } = subscribed;
        let HookView { id, url, event_type, filter, created_at, expires_at, .. } = hook;
        Self {
            status: "success",
            id: id.to_string(),
            url,
            created_at: wire_time(created_at),
            message: before.is_some().then_some("Webhook already subscribed"),
            event_type,
            filter: filter.and_then(|text| RawValue::from_string(text).ok()),
            expiration_date: expires_at.map(wire_time),
        }
    }
}

/// What a subscriber sends.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct SubscribeRequest {
    /// Where deliveries go: `https://hooks.zapier.com/…`, or `https://zapier.com/hooks/…`; at most 2048 characters.
    #[schema(
        max_length = 2048,
        example = "https://hooks.zapier.com/hooks/standard/1234567/abcdef0123456789/"
    )]
    url: String,
    /// Which events: a type, an alias of the catalogue, or a pattern with `*` for a word, such as `*.write.successful`.
    /// Without it, all events. A list with one entry is taken, too.
    #[schema(example = "order.created")]
    event_type: Option<String>,
    /// Which events of those, by their content.
    #[schema(value_type = Option<Object>)]
    filter: Option<serde_json::Value>,
    /// When the hook ends by itself: RFC 3339 with an offset, in the future.
    #[schema(format = DateTime, example = "2027-01-01T00:00:00Z")]
    expiration_date: Option<String>,
    /// Key of `X-TriggersAPI-Signature` on deliveries to this hook, 1 to 256 bytes; else the tenant's. Never shown again.
    #[schema(min_length = 1, max_length = 256)]
    secret: Option<String>,
}

/// Subscribe a URL
///
/// From now on every event that matches is sent to the URL with `POST`, once in the normal case. The same URL, event type
/// and filter again is the same hook: the answer has its first `created_at` and a `message`; the expiry and the secret
/// are renewed. A hook that was disabled takes events again.
///
/// Members that are not known are ignored. Optional members may be empty or `null`.
#[utoipa::path(
    post,
    path = "/zapier/hook",
    operation_id = "subscribe_hook",
    tag = "REST hooks",
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition of this very request give the same answer, for 48 h; 1 to 255 printable ASCII characters.")
    ),
    request_body(
        content = SubscribeRequest,
        description = "Only `url` is needed.",
        examples(
            ("zapier" = (summary = "As Zapier sends it", value = json!({"url": "https://hooks.zapier.com/hooks/standard/1234567/abcdef0123456789/", "event_type": "order.created"}))),
            ("everything" = (summary = "Every event", value = json!({"url": "https://hooks.zapier.com/hooks/standard/1234567/abcdef0123456789/"})))
        )
    ),
    responses((
        status = 200,
        description = "Subscribed, or there already.",
        body = SubscribeAnswer,
        examples(
            ("new" = (summary = "A new hook", value = json!({"status": "success", "id": "hook_01hzy3v9k2s8d4f6g8h0j2k4m6", "url": "https://hooks.zapier.com/hooks/standard/1234567/abcdef0123456789/", "created_at": "2025-11-12T14:30:00.000Z", "event_type": "order.created"}))),
            ("again" = (summary = "The same again", value = json!({"status": "success", "id": "hook_01hzy3v9k2s8d4f6g8h0j2k4m6", "url": "https://hooks.zapier.com/hooks/standard/1234567/abcdef0123456789/", "created_at": "2025-11-12T14:30:00.000Z", "message": "Webhook already subscribed", "event_type": "order.created"})))
        )
    )),
    extensions(("x-errors" = json!(["MISSING_URL", "INVALID_WEBHOOK_URL", "INVALID_EVENT_TYPE", "INVALID_FILTER", "INVALID_EXPIRATION_DATE", "INVALID_SECRET", "INVALID_BODY"])))
)]
pub(crate) async fn subscribe(
    context: Data<Context>,
    caller: Caller,
    request: HttpRequest,
    body: JsonBody<SMALL>,
) -> Result<Reply, ApiError> {
    let now = context.clock.now();
    let wish = Subscribe::parse(&body, &context.url_rules, now)?;
    let key = key(&request, &caller, &body)?;
    let (signing_secret, vault) = (SigningSecret::generate(&mut rand::rng()), context.vault.clone());
    idempotent(&context, key, move |conn| {
        let wanted = match &wish.event_type {
            None => None,
            Some(written) => Some(Wanted::of(written, &catalogue::of_tenant(conn, caller.tenant())?)?),
        };
        let (event_type, pattern) = wanted.map(|wanted| (wanted.written, wanted.pattern_text)).unzip();
        let hook = NewHook {
            id: SubscriptionId::new(now),
            tenant: caller.tenant(),
            credential: caller.credential().map(|credential| credential.id),
            url: wish.url,
            event_type,
            pattern,
            filter: wish.filter,
            signing_secret,
            webhook_secret: wish.secret,
            expires_at: wish.expires_at,
            now,
        };
        let subscribed = store::subscribe(conn, &vault, &hook)?;
        if let Some(entry) = told(&caller, &subscribed, hook.webhook_secret.is_some()) {
            audited::record(conn, &caller, &entry, now)?;
        }
        Ok(Reply::json(StatusCode::OK, &SubscribeAnswer::of(subscribed))?)
    })
    .await
}

/// What the audit log is told: nothing when the same was asked for again.
fn told(caller: &Caller, subscribed: &Subscribed, secret_given: bool) -> Option<Entry> {
    let Subscribed { hook, before } = subscribed;
    let mut after = audited::hook(hook);
    if secret_given {
        // That one was given, and no more. Whether it differs from the one before is not looked at.
        after["signing"] = "given".into();
    }
    match before {
        None => Some(audited::of_hook(caller, Action::HookSubscribed, hook.id).after(after)),
        Some(before) => {
            let action = renewal(before, hook, secret_given)?;
            Some(audited::of_hook(caller, action, hook.id).before(audited::hook(before)).after(after))
        }
    }
}

/// What subscribing a hook again did to it.
fn renewal(before: &HookView, after: &HookView, secret_given: bool) -> Option<Action> {
    if before.state == HookState::Disabled {
        Some(Action::HookEnabled)
    } else if secret_given || before.expires_at != after.expires_at {
        Some(Action::HookUpdated)
    } else {
        None
    }
}
