//! `/webhooks`: consumers (contract §4). Here they are made, shown, changed and deleted; `switch` tests and switches them, `secret`
//! shows and rotates what signs their deliveries.

pub(crate) mod secret;
pub(crate) mod switch;
pub(super) mod view;
pub(super) mod wish;

use std::sync::{Arc, OnceLock};

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web::Data};
use chrono::{DateTime, Utc};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    Error,
    audit::{Action, Entry, ObjectKind, ObjectRef},
    catalogue,
    db::Conn,
    delivery,
    id::{EventGroupId, SubscriptionId, TenantId},
    subscription::{
        self, EventPattern, HookState, Kind,
        consumer::{
            Headers, Transformation, keys,
            store::{self, ConsumerQuery, ConsumerView, NewConsumer},
        },
    },
    wire::{SigningKey, SigningSecret, parse_stored},
};
use serde_json::json;

use self::{view::View, wish::Wish};
use super::{audited, endpoints, hooks::Deleted, rings, samples};
use crate::{
    access::{
        Caller,
        idempotent::{Refusal, Reply, idempotent, key},
    },
    body::JsonBody,
    context::Context,
    openapi::{ConsumerPatch, ConsumerRequest},
    paging::{Id, Page, Query, invalid_parameter},
    problem,
};

/// Bodies hold a chain of certificates and a key, a transformation and a filter at the most.
pub(super) const BODY: usize = 256 << 10;

/// Types on whose examples a transformation is tried.
const TRIED: usize = 20;

/// A consumer of the tenant in whatever state.
pub(super) fn found(conn: &mut Conn, tenant: TenantId, id: SubscriptionId) -> Result<ConsumerView, Error> {
    store::find(conn, tenant, id)?.ok_or(Error::NotFound { what: "consumer" })
}

/// The same, locked until the transaction ends.
fn locked(conn: &mut Conn, tenant: TenantId, id: SubscriptionId) -> Result<ConsumerView, Error> {
    store::lock(conn, tenant, id)?.ok_or(Error::NotFound { what: "consumer" })
}

/// 409 for consumers that are gone.
fn is_there(consumer: &ConsumerView) -> Result<(), ApiError> {
    if consumer.state == HookState::Deleted { takes_events(consumer) } else { Ok(()) }
}

/// 409 for consumers that take no deliveries.
pub(super) fn takes_events(consumer: &ConsumerView) -> Result<(), ApiError> {
    endpoints::takes_events(Kind::Consumer, consumer.state)
}

/// An entry about a consumer of the caller's.
fn entry(caller: &Caller, action: Action, id: SubscriptionId) -> Entry {
    Entry::new(caller.tenant(), action, ObjectRef::new(ObjectKind::Consumer, id))
}

/// Create a consumer
///
/// From now on every event that matches is sent to the URL: one of its types or patterns, one of the tags if there are any, and
/// the filter. A tenant can have 50. Nothing is stored when anything is not acceptable.
#[utoipa::path(
    post,
    path = "/webhooks",
    operation_id = "create_consumer",
    tag = "Consumers",
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition of this very request give the same answer, for 48 h; 1 to 255 printable ASCII characters.")
    ),
    request_body(content = ConsumerRequest, examples(
        ("plain" = (summary = "Where to, and which events", value = json!({"url": "https://example.com/webhooks", "eventTypes": ["order.*", "NewCompanySynchronized"]}))),
        ("everything" = (summary = "With everything", value = json!({"url": "https://example.com/webhooks", "eventTypes": ["order.created"], "companyTags": ["region:uk"], "description": "orders to the warehouse", "headers": {"authorization": "Bearer abc"}, "method": "PUT", "rate_limit": 25, "ttl_seconds": 86400, "ordering_key": "payload.order.id", "filter": {"payload.total": {"$gte": 10}}, "transformation": {"cancel": {"payload.test": true}, "body": {"order": {"$from": "payload.order.id"}}}})))
    )),
    responses((status = 201, description = "Made.", body = View)),
    extensions(("x-errors" = json!(["MISSING_URL", "INVALID_WEBHOOK_URL", "INVALID_EVENT_TYPE", "INVALID_FILTER", "INVALID_TRANSFORMATION", "INVALID_HEADERS", "INVALID_CERTIFICATE", "INVALID_SECRET", "INVALID_FIELD", "INVALID_BODY", "CONFLICT"])))
)]
pub(crate) async fn create(
    context: Data<Context>,
    caller: Caller,
    request: HttpRequest,
    query: Query,
    body: JsonBody<BODY>,
) -> Result<Reply, ApiError> {
    query.finish()?;
    let now = context.clock.now();
    let wish = Wish::parse(&body, &context, now)?;
    if wish.url.is_none() {
        let message = "the webhook URL is missing: `url` is not there";
        return Err(ApiError::bad_request("MISSING_URL", message).field("url").reason("is not there"));
    }
    if wish.event_types.is_none() {
        return Err(problem::invalid("INVALID_EVENT_TYPE", "eventTypes", "is missing"));
    }
    let key = key(&request, &caller, &body)?;
    let vault = context.vault.clone();
    let signing_key = SigningKey::generate(&mut rand::rng()).map_err(ApiError::internal)?;
    idempotent(&context, key, move |conn| {
        let terms = wish.made(&catalogue::of_tenant(conn, caller.tenant())?)?;
        if let Some(Some(transformation)) = &wish.transformation {
            try_out(conn, caller.tenant(), transformation, &terms.patterns)?;
        }
        let new = NewConsumer {
            id: SubscriptionId::new(now),
            tenant: caller.tenant(),
            credential: caller.credential().map(|credential| credential.id),
            terms,
            disabled: wish.disabled.unwrap_or(false),
            headers: wish.headers.unwrap_or_else(Headers::default),
            certificate: wish.certificate.flatten(),
            secret: wish.secret.unwrap_or_else(|| SigningSecret::generate(&mut rand::rng())),
            signing_key,
            now,
        };
        store::insert(conn, &vault, &new)?;
        let made = found(conn, new.tenant, new.id)?;
        let entry = entry(&caller, Action::ConsumerCreated, new.id).after(view::told(&made));
        audited::record(conn, &caller, &entry, now)?;
        Ok(Reply::json(StatusCode::CREATED, &View::of(made, now))?)
    })
    .await
}

/// A change that is only tried: its checks are those of one that is saved.
#[derive(Debug)]
pub(super) struct Change(Wish);

impl Change {
    /// Reads the body of a change.
    ///
    /// # Errors
    /// The first member that is not acceptable.
    pub(super) fn parse(body: &[u8], context: &Context, now: DateTime<Utc>) -> Result<Self, ApiError> {
        Wish::parse(body, context, now).map(Self)
    }

    /// The terms of a consumer before and after the change.
    ///
    /// # Errors
    /// 404; 409 for a consumer that is gone; 422 as when it is saved.
    pub(super) fn of(
        &self,
        conn: &mut Conn,
        tenant: TenantId,
        id: SubscriptionId,
    ) -> Result<(store::Terms, store::Terms), Refusal> {
        let consumer = found(conn, tenant, id)?;
        is_there(&consumer)?;
        let before = consumer.terms();
        let after = self.0.apply(before.clone(), &catalogue::of_tenant(conn, tenant)?)?;
        if let Some(Some(transformation)) = &self.0.transformation {
            try_out(conn, tenant, transformation, &after.patterns)?;
        }
        Ok((before, after))
    }
}

/// Tries a transformation on what the events of these types look like.
fn try_out(
    conn: &mut Conn,
    tenant: TenantId,
    transformation: &Transformation,
    patterns: &[String],
) -> Result<(), Refusal> {
    for pattern in patterns.iter().take(TRIED) {
        let body = samples::example(conn, tenant, Some(pattern))?.body();
        let event = parse_stored(&body).map_err(ApiError::internal)?;
        wish::tried(transformation, &event)?;
    }
    Ok(())
}

/// List consumers
///
/// Newest first, without the deleted unless `state=deleted` asks for them.
#[utoipa::path(
    get,
    path = "/webhooks",
    operation_id = "list_consumers",
    tag = "Consumers",
    params(
        ("state" = Option<String>, Query, description = "Only consumers in this state: `pending`, `active`, `failing`, `disabled` or `deleted`."),
        ("event_type" = Option<String>, Query, description = "Only consumers with exactly this event type or pattern among theirs.", example = "order.created"),
        ("tag" = Option<String>, Query, description = "Only consumers with this tag.", example = "region:uk"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of an earlier page."),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 100, description = "Entries on a page, 1 to 100; 50 by default.")
    ),
    responses((status = 200, description = "A page of consumers.", body = inline(crate::openapi::PageOf<View>)))
)]
pub(crate) async fn list(
    context: Data<Context>,
    caller: Caller,
    mut query: Query,
) -> Result<HttpResponse, ApiError> {
    let event_type = query.text("event_type");
    // Nothing else was stored, and not every text can be looked for.
    if event_type.as_ref().is_some_and(|text| text.parse::<EventPattern>().is_err()) {
        return Err(invalid_parameter(
            "event_type",
            "must be an event type or a pattern, such as order.created",
        ));
    }
    let tag = query.text("tag");
    if tag.as_ref().is_some_and(|tag| subscription::consumer::tags::check(tag).is_err()) {
        return Err(invalid_parameter("tag", "must be a tag such as region:uk"));
    }
    let limit = query.limit()?;
    let asked = ConsumerQuery {
        state: query.value("state", "pending, active, failing, disabled or deleted")?,
        event_type,
        tag,
        before: query.cursor::<SubscriptionId>()?,
        limit: limit + 1,
    };
    query.finish()?;
    let (tenant, now) = (caller.tenant(), context.clock.now());
    let rows = context.db.once(move |conn| store::list(conn, tenant, &asked)).await.map_err(problem::of)?;
    Ok(Page::new(rows, limit, |consumer| consumer.id).map(|consumer| View::of(consumer, now)).respond())
}

/// Show a consumer
///
/// With its state, its counters and what came of the last try. Deleted consumers can be shown, too.
#[utoipa::path(
    get,
    path = "/webhooks/{id}",
    operation_id = "show_consumer",
    tag = "Consumers",
    params(("id" = String, Path, description = "The consumer's id.", example = "hook_01hzy3v9k2s8d4f6g8h0j2k4m6")),
    responses((status = 200, description = "The consumer.", body = View))
)]
pub(crate) async fn show(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<SubscriptionId>,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    query.finish()?;
    let (tenant, now) = (caller.tenant(), context.clock.now());
    let consumer = context.db.once(move |conn| found(conn, tenant, id)).await.map_err(problem::of)?;
    Ok(HttpResponse::Ok().json(View::of(consumer, now)))
}

/// Change a consumer
///
/// What is not in the body stays as it is; `null` takes away what can be taken away. `headers` and `client_certificate` are
/// replaced as a whole, and have to be given again (or taken away) when `url` gets another origin. `disabled` is the same as enabling or disabling it. The secret is rotated, not changed. What is under way
/// goes where the consumer says now.
#[utoipa::path(
    patch,
    path = "/webhooks/{id}",
    operation_id = "change_consumer",
    tag = "Consumers",
    params(("id" = String, Path, description = "The consumer's id.", example = "hook_01hzy3v9k2s8d4f6g8h0j2k4m6")),
    request_body(content = ConsumerPatch, examples(
        ("types" = (summary = "Other event types", value = json!({"eventTypes": ["order.*", "invoice.*"]}))),
        ("slower" = (summary = "A pace, and no transformation any more", value = json!({"rate_limit": 5, "transformation": null})))
    )),
    responses((status = 200, description = "The consumer as it is now.", body = View)),
    extensions(("x-errors" = json!(["INVALID_WEBHOOK_URL", "INVALID_EVENT_TYPE", "INVALID_FILTER", "INVALID_TRANSFORMATION", "INVALID_HEADERS", "INVALID_CERTIFICATE", "INVALID_SECRET", "INVALID_FIELD", "INVALID_BODY", "CONSUMER_DELETED"])))
)]
pub(crate) async fn update(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<SubscriptionId>,
    body: JsonBody<BODY>,
) -> Result<Reply, ApiError> {
    let now = context.clock.now();
    let wish = Wish::parse(&body, &context, now)?;
    if wish.secret.is_some() {
        let reason = "is not changed but rotated: POST /webhooks/{id}/secret/rotate";
        return Err(problem::invalid("INVALID_SECRET", "secret", reason));
    }
    let vault = context.vault.clone();
    let told: Arc<OnceLock<EventGroupId>> = Arc::default();
    let ended = Arc::clone(&told);
    let reply = idempotent(&context, None, move |conn| {
        let tenant = caller.tenant();
        let before = locked(conn, tenant, id)?;
        is_there(&before)?;
        wish.gives_again(&before)?;
        let terms = wish.apply(before.terms(), &catalogue::of_tenant(conn, tenant)?)?;
        if let Some(Some(transformation)) = &wish.transformation {
            try_out(conn, tenant, transformation, &terms.patterns)?;
        }
        store::update(conn, tenant, id, &terms, now)?;
        if terms.ordering_key != before.ordering_key {
            store::leave_lines(conn, tenant, id, now)?;
        }
        if let Some(headers) = &wish.headers {
            keys::set_headers(conn, &vault, id, headers)?;
        }
        if let Some(certificate) = &wish.certificate {
            keys::set_certificate(conn, &vault, id, certificate.as_ref())?;
        }
        if let Some(group) = switch::switched(conn, &before, wish.disabled, (tenant, now))? {
            let _first = ended.set(group);
        }
        let after = found(conn, tenant, id)?;
        let (was, is) = (view::told(&before), view::told(&after));
        if was != is || wish.headers.is_some() || wish.certificate.is_some() {
            let entry = entry(&caller, Action::ConsumerUpdated, id).before(was).after(is);
            audited::record(conn, &caller, &entry, now)?;
        }
        Ok(Reply::json(StatusCode::OK, &View::of(after, now))?)
    })
    .await?;
    if let Some(group) = told.get() {
        rings::events_accepted(&context, *group);
    }
    Ok(reply)
}

/// Delete a consumer
///
/// What is under way is cancelled, and the place is free for another. Deleting it again is answered with 200, too.
#[utoipa::path(
    delete,
    path = "/webhooks/{id}",
    operation_id = "delete_consumer",
    tag = "Consumers",
    params(("id" = String, Path, description = "The consumer's id.", example = "hook_01hzy3v9k2s8d4f6g8h0j2k4m6")),
    responses((status = 200, description = "It is gone.", body = inline(Deleted), example = json!({"status": "deleted", "id": "hook_01hzy3v9k2s8d4f6g8h0j2k4m6", "url": "https://example.com/webhooks"})))
)]
pub(crate) async fn delete(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<SubscriptionId>,
) -> Result<HttpResponse, ApiError> {
    let now = context.clock.now();
    let consumer = context.db.run(move |conn| gone(conn, &caller, id, now)).await.map_err(problem::of)?;
    Ok(HttpResponse::Ok().json(json!({"status": "deleted", "id": id.to_string(), "url": consumer.url})))
}

fn gone(
    conn: &mut Conn,
    caller: &Caller,
    id: SubscriptionId,
    now: DateTime<Utc>,
) -> Result<ConsumerView, Error> {
    let tenant = caller.tenant();
    let consumer = locked(conn, tenant, id)?;
    let reason = Some("deleted by its owner");
    if subscription::store::set_state(conn, tenant, id, HookState::Deleted, reason, now)? {
        delivery::cancelling::begin(conn, tenant, id, now, "consumer deleted")?;
        let entry = entry(caller, Action::ConsumerDeleted, id).before(view::told(&consumer));
        audited::record(conn, caller, &entry, now)?;
    }
    Ok(consumer)
}
