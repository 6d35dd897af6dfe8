//! `POST /webhooks/{id}/preview` and `POST /v1/hooks/{id}/preview`: what changed terms of an endpoint would have made of the events of
//! the last week. Nothing is stored.

use std::time::{Duration, Instant};

use actix_web::{http::StatusCode, web::Data};
use chrono::{DateTime, TimeDelta, Utc};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    Result as DomainResult, catalogue,
    db::Conn,
    event::wire_time,
    id::{EventId, SubscriptionId, TenantId},
    recovery::{BODIES_AT_ONCE, Candidate, preview as page_of},
    subscription::{
        Subscription,
        consumer::{Transformed, envelope},
        single,
    },
    wire::{Json, parse_stored},
};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{
    consumers,
    fields::Fields,
    hooks,
    zapier::{Wanted, event_type_of, subscribe},
};
use crate::{
    access::{
        Caller,
        idempotent::{Reply, idempotent},
    },
    body::{JsonBody, SMALL},
    context::Context,
    paging::Id,
};

/// How far back events are looked at.
const DAYS: TimeDelta = TimeDelta::days(7);

/// Events that are looked at when nobody says, and at the most.
const LOOKED_AT: i32 = 1_000;
const MOST_LOOKED_AT: i32 = 10_000;

/// After this time the answer is what there is.
const LONG_ENOUGH: Duration = Duration::from_secs(8);

/// Examples of each effect.
const EXAMPLES: usize = 3;

/// Larger bodies are not shown.
const SHOWN_BYTES: usize = 16 << 10;

/// What becomes of an event at an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fate {
    /// It is not sent.
    Nothing,
    /// This is sent.
    Sent(Vec<u8>),
    /// The transformation makes no body of it. Why.
    Unmakeable(String),
}

/// What a change does to an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Effect {
    Added,
    Dropped,
    Changed,
    Failing,
    Unchanged,
    Neither,
}

impl Effect {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Dropped => "dropped",
            Self::Changed => "changed",
            Self::Failing => "failing",
            Self::Unchanged => "unchanged",
            Self::Neither => "neither",
        }
    }

    fn of(before: &Fate, after: &Fate) -> Self {
        match (before, after) {
            (_, Fate::Unmakeable(_)) => Self::Failing,
            (Fate::Nothing, Fate::Nothing) => Self::Neither,
            (Fate::Nothing | Fate::Unmakeable(_), Fate::Sent(_)) => Self::Added,
            (Fate::Sent(_) | Fate::Unmakeable(_), Fate::Nothing) => Self::Dropped,
            (Fate::Sent(before), Fate::Sent(after)) if before == after => Self::Unchanged,
            (Fate::Sent(_), Fate::Sent(_)) => Self::Changed,
        }
    }
}

/// What a change would have made of the latest events.
#[derive(Debug, Default, Serialize, ToSchema)]
#[schema(as = Preview)]
pub(crate) struct View {
    /// Events accepted since then were looked at, the newest first.
    #[schema(format = DateTime)]
    since: String,
    /// How many: events that neither the endpoint nor the change names by type may be passed over.
    looked_at: usize,
    /// Whether all of these days were looked at; `false`: there are more events than `limit`, or it took too long.
    complete: bool,
    /// Sent after the change, and not before.
    added: usize,
    /// Sent before, and not after.
    dropped: usize,
    /// Sent before and after, with another body.
    changed: usize,
    /// Sent before and after, byte for byte the same.
    unchanged: usize,
    /// Of which the changed transformation makes no body: such deliveries end as dead letters.
    failing: usize,
    /// Sent neither before nor after.
    neither: usize,
    /// The newest of those with an effect, at most 3 of each.
    examples: Vec<Example>,
}

/// What a change would have made of an event.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PreviewExample)]
pub(crate) struct Example {
    /// The event.
    event_id: String,
    /// Its type.
    event_type: String,
    /// When it was accepted.
    #[schema(format = DateTime)]
    created_at: String,
    /// `added`, `dropped`, `changed` or `failing`.
    effect: &'static str,
    /// The body before the change; `null` when nothing was sent, or when it is larger than 16 KiB.
    #[schema(value_type = Option<Object>)]
    before: Option<Box<RawValue>>,
    /// The body after the change, likewise.
    #[schema(value_type = Option<Object>)]
    after: Option<Box<RawValue>>,
    /// Why there is no body after the change; only with `failing`.
    reason: Option<String>,
}

/// A change of a hook to try.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct HookPreview {
    /// Which events: a type, an alias of the catalogue, or a pattern; `null` is all, left out is as it is.
    #[schema(example = "order.*")]
    event_type: Option<String>,
    /// Which events of those; `null` is all, left out is as it is.
    #[schema(value_type = Option<Object>)]
    filter: Option<serde_json::Value>,
    /// Events to look at, 1 to 10,000; 1,000 by default.
    #[schema(minimum = 1, maximum = 10_000)]
    limit: Option<i32>,
}

/// A change of a consumer to try.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct ConsumerPreview {
    /// Which events: types, aliases of the catalogue, or patterns.
    #[serde(rename = "eventTypes")]
    #[schema(min_items = 1, max_items = 100)]
    event_types: Option<Vec<String>>,
    /// Only events of companies with one of these tags.
    #[serde(rename = "companyTags")]
    #[schema(max_items = 10)]
    company_tags: Option<Vec<String>>,
    /// Which of those events, by their content; `null` is all.
    #[schema(value_type = Option<Object>)]
    filter: Option<serde_json::Value>,
    /// What is made of them; `null` is nothing.
    #[schema(value_type = Option<Object>)]
    transformation: Option<serde_json::Value>,
    /// Events to look at, 1 to 10,000; 1,000 by default.
    #[schema(minimum = 1, maximum = 10_000)]
    limit: Option<i32>,
}

fn limit(body: &[u8]) -> Result<usize, ApiError> {
    let asked = Fields::parse(body)?.integer("limit", 1..=MOST_LOOKED_AT)?;
    Ok(usize::try_from(asked.unwrap_or(LOOKED_AT)).unwrap_or(1))
}

/// Try a change of a consumer
///
/// What the events of the last seven days would have come to with another choice of events, another filter, other tags or another
/// transformation: which would be sent in addition, which no longer, and which with another body. The body is that of a change, and is
/// refused for the same reasons; nothing is stored.
#[utoipa::path(
    post,
    path = "/webhooks/{id}/preview",
    operation_id = "preview_consumer",
    tag = "Consumers",
    params(("id" = String, Path, description = "The consumer's id.", example = "hook_01hzy3v9k2s8d4f6g8h0j2k4m6")),
    request_body(content = ConsumerPreview, example = json!({"filter": {"payload.total": {"$gte": 100}}})),
    responses((status = 200, description = "What it would have come to.", body = View, example = json!({"since": "2025-11-05T14:30:00.000Z", "looked_at": 412, "complete": true, "added": 0, "dropped": 37, "changed": 0, "unchanged": 375, "failing": 0, "neither": 0, "examples": [{"event_id": "evt_01hzy3v9k2s8d4f6g8h0j2k4m6", "event_type": "order.created", "created_at": "2025-11-12T14:30:00.000Z", "effect": "dropped", "before": {"id": "evt_01hzy3v9k2s8d4f6g8h0j2k4m6", "eventType": "order.created", "generatedDate": "2025-11-12T14:30:00.000Z", "payload": {"total": 12}}, "after": null, "reason": null}]}))),
    extensions(("x-errors" = json!(["INVALID_EVENT_TYPE", "INVALID_FILTER", "INVALID_TRANSFORMATION", "INVALID_FIELD", "INVALID_BODY", "CONSUMER_DELETED"])))
)]
pub(crate) async fn preview_consumer(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<SubscriptionId>,
    body: JsonBody<{ consumers::BODY }>,
) -> Result<Reply, ApiError> {
    let now = context.clock.now();
    let change = consumers::Change::parse(&body, &context, now)?;
    let most = limit(&body)?;
    idempotent(&context, None, move |conn| {
        let tenant = caller.tenant();
        let (before, after) = change.of(conn, tenant, id)?;
        let both = [before, after].map(|terms| single::of_consumer((tenant, id), &terms));
        let [before, after] = both;
        let parsed = |one: Result<Subscription, String>| {
            one.map_err(|reason| ApiError::internal(anyhow::anyhow!(reason)))
        };
        let view = compare(conn, tenant, (&parsed(before)?, &parsed(after)?), (most, now))?;
        Ok(Reply::json(StatusCode::OK, &view)?)
    })
    .await
}

/// Try a change of a hook
///
/// What the events of the last seven days would have come to with another event type or filter: which would be sent in addition, and
/// which no longer. Nothing is stored.
#[utoipa::path(
    post,
    path = "/v1/hooks/{id}/preview",
    operation_id = "preview_hook",
    tag = "Hooks",
    params(("id" = String, Path, description = "The hook's id.", example = "hook_01hzy3v9k2s8d4f6g8h0j2k4m6")),
    request_body(content = HookPreview, example = json!({"event_type": "order.*", "filter": null})),
    responses((status = 200, description = "What it would have come to.", body = View, example = json!({"since": "2025-11-05T14:30:00.000Z", "looked_at": 412, "complete": true, "added": 37, "dropped": 0, "changed": 0, "unchanged": 375, "failing": 0, "neither": 0, "examples": []}))),
    extensions(("x-errors" = json!(["INVALID_EVENT_TYPE", "INVALID_FILTER", "INVALID_FIELD", "INVALID_BODY", "HOOK_DELETED"])))
)]
pub(crate) async fn preview_hook(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<SubscriptionId>,
    body: JsonBody<SMALL>,
) -> Result<Reply, ApiError> {
    let now = context.clock.now();
    let fields = Fields::parse(&body)?;
    let written = match fields.get("event_type") {
        None => None,
        Some(value) => event_type_of(value)?.map(str::to_owned),
    };
    let filter = fields.get("filter").map(subscribe::filter).transpose()?;
    let (says_type, says_filter) = (fields.mentions("event_type"), fields.mentions("filter"));
    let most = limit(&body)?;
    idempotent(&context, None, move |conn| {
        let tenant = caller.tenant();
        let hook = hooks::found(conn, tenant, id)?;
        hooks::is_there(&hook)?;
        let pattern = match (&written, says_type) {
            (Some(written), _) => {
                Some(Wanted::of(written, &catalogue::of_tenant(conn, tenant)?)?.pattern_text)
            }
            (None, true) => None,
            (None, false) => hook.pattern.clone(),
        };
        let filter = if says_filter { filter } else { hook.filter.clone() };
        let of = |pattern: Option<&str>, filter: Option<&str>| {
            let parsed = single::of_hook((tenant, id), &hook.url, pattern, filter);
            parsed.map_err(|reason| ApiError::internal(anyhow::anyhow!(reason)))
        };
        let before = of(hook.pattern.as_deref(), hook.filter.as_deref())?;
        let after = of(pattern.as_deref(), filter.as_deref())?;
        let view = compare(conn, tenant, (&before, &after), (most, now))?;
        Ok(Reply::json(StatusCode::OK, &view)?)
    })
    .await
}

fn compare(
    conn: &mut Conn,
    tenant: TenantId,
    (before, after): (&Subscription, &Subscription),
    (most, now): (usize, DateTime<Utc>),
) -> DomainResult<View> {
    let (since, started) = (now - DAYS, Instant::now());
    let mut view = View { since: wire_time(since), ..View::default() };
    let types: Option<Vec<String>> = before.exact_types().zip(after.exact_types()).map(|(before, after)| {
        let mut both: Vec<String> = before.into_iter().chain(after).map(str::to_owned).collect();
        both.sort_unstable();
        both.dedup();
        both
    });
    let mut cursor: Option<EventId> = None;
    loop {
        // One more than may be looked at tells whether there are more.
        let left = most - view.looked_at;
        let page = page_of(conn, tenant, since, types.as_deref(), cursor, BODIES_AT_ONCE.min(left + 1))?;
        for event in page.events.iter().take(left) {
            view.add(event, fate(before, event), fate(after, event));
        }
        view.looked_at += page.events.len().min(left);
        if page.is_last && page.events.len() <= left {
            view.complete = true;
            return Ok(view);
        }
        if view.looked_at == most || LONG_ENOUGH < started.elapsed() {
            return Ok(view);
        }
        cursor = page.up_to;
    }
}

/// What is sent of an event.
fn fate(endpoint: &Subscription, event: &Candidate) -> Fate {
    if !endpoint.names(&event.event_type, event.origin) {
        return Fate::Nothing;
    }
    let body = event.body.as_deref().unwrap_or_default();
    let transformation = endpoint.consumer.as_ref().and_then(|consumer| consumer.transformation.as_ref());
    let json: Option<Json> = if endpoint.reads_content() || transformation.is_some() {
        // Our own bytes can be read; an event that cannot matches no filter.
        let Ok(json) = parse_stored(body) else { return Fate::Nothing };
        if !endpoint.admits(&json) {
            return Fate::Nothing;
        }
        Some(json)
    } else {
        None
    };
    match (transformation, json) {
        (Some(transformation), Some(json)) => match transformation.apply(&json) {
            Ok(Transformed::Body(body)) => Fate::Sent(body),
            Ok(Transformed::Cancelled) => Fate::Nothing,
            Err(error) => Fate::Unmakeable(format!("the transformation {error}")),
        },
        (_, _) if endpoint.consumer.is_some() => envelope(body).map_or(Fate::Nothing, Fate::Sent),
        (_, _) => Fate::Sent(body.to_vec()),
    }
}

impl View {
    fn add(&mut self, event: &Candidate, before: Fate, after: Fate) {
        let effect = Effect::of(&before, &after);
        let count = match effect {
            Effect::Added => &mut self.added,
            Effect::Dropped => &mut self.dropped,
            Effect::Changed => &mut self.changed,
            Effect::Failing => &mut self.failing,
            Effect::Unchanged => &mut self.unchanged,
            Effect::Neither => &mut self.neither,
        };
        *count += 1;
        if *count > EXAMPLES || matches!(effect, Effect::Unchanged | Effect::Neither) {
            return;
        }
        let shown = |fate: &Fate| match fate {
            Fate::Sent(body) if body.len() <= SHOWN_BYTES => {
                let text = String::from_utf8(body.clone()).ok()?;
                RawValue::from_string(text).ok()
            }
            Fate::Sent(_) | Fate::Nothing | Fate::Unmakeable(_) => None,
        };
        self.examples.push(Example {
            event_id: event.id.to_string(),
            event_type: event.event_type.to_string(),
            created_at: wire_time(event.created_at),
            effect: effect.as_str(),
            before: shown(&before),
            after: shown(&after),
            reason: match after {
                Fate::Unmakeable(reason) => Some(reason),
                Fate::Nothing | Fate::Sent(_) => None,
            },
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_effect_is_what_differs() {
        let (nothing, sent, other) = (Fate::Nothing, Fate::Sent(b"1".to_vec()), Fate::Sent(b"2".to_vec()));
        let none = Fate::Unmakeable("x".to_owned());
        for (before, after, expected) in [
            (&nothing, &nothing, "neither"),
            (&nothing, &sent, "added"),
            (&sent, &nothing, "dropped"),
            (&sent, &sent, "unchanged"),
            (&sent, &other, "changed"),
            (&sent, &none, "failing"),
            (&nothing, &none, "failing"),
            (&none, &sent, "added"),
            (&none, &nothing, "dropped"),
        ] {
            assert_eq!(Effect::of(before, after).as_str(), expected, "{before:?} {after:?}");
        }
    }
}
