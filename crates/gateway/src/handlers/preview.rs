//! `POST /webhooks/{id}/preview` and `POST /v1/hooks/{id}/preview`: what changed terms of an endpoint would have made of the events of
//! the last week. Nothing is stored. What a change makes of an event is in `comparison`.

mod comparison;

use actix_web::{http::StatusCode, web::Data};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    catalogue,
    id::SubscriptionId,
    subscription::{Subscription, single},
};
use utoipa::ToSchema;

use self::comparison::{View, compare};
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

/// Events that are looked at when nobody says, and at the most.
const LOOKED_AT: i32 = 1_000;
const MOST_LOOKED_AT: i32 = 10_000;

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
