//! `/v1/inboxes`: events that are fetched instead of sent (contract §2). Here inboxes are made, shown, changed and deleted; messages are
//! leased in `lease`, acknowledged and given back in `settle`, and read in order in `messages` and `stream`.

pub(crate) mod lease;
pub(crate) mod messages;
pub(crate) mod settle;
pub(crate) mod stream;
mod view;
mod wish;

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web::Data};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    Error,
    audit::{Action, Entry, ObjectKind, ObjectRef},
    catalogue,
    db::Conn,
    id::{SubscriptionId, TenantId},
    subscription::{
        self, HookState,
        inbox::{
            deleted,
            store::{self, InboxQuery, InboxView, NewInbox},
        },
    },
};
use serde::Serialize;
use utoipa::ToSchema;

use self::{
    view::{CountsView, Detail, View},
    wish::Wish,
};
use super::{audited, fields::invalid};
use crate::{
    access::{
        Caller,
        idempotent::{Reply, idempotent, key},
    },
    body::{JsonBody, SMALL},
    context::Context,
    openapi::{InboxPatch, InboxRequest},
    paging::{Id, Page, Query},
    problem,
};

const NOT_FOUND: Error = Error::NotFound { what: "inbox" };

/// An inbox of the tenant in whatever state.
fn found(conn: &mut Conn, tenant: TenantId, id: SubscriptionId) -> Result<InboxView, Error> {
    store::find(conn, tenant, id)?.ok_or(NOT_FOUND)
}

/// An inbox of the tenant that is not deleted.
pub(super) fn live(conn: &mut Conn, tenant: TenantId, id: SubscriptionId) -> Result<InboxView, Error> {
    found(conn, tenant, id).and_then(|inbox| if inbox.is_deleted() { Err(NOT_FOUND) } else { Ok(inbox) })
}

/// The same, locked until the transaction ends.
fn locked(conn: &mut Conn, tenant: TenantId, id: SubscriptionId) -> Result<InboxView, Error> {
    store::lock(conn, tenant, id)?.filter(|inbox| !inbox.is_deleted()).ok_or(NOT_FOUND)
}

/// An entry about an inbox of the caller's.
fn entry(caller: &Caller, action: Action, id: SubscriptionId) -> Entry {
    Entry::new(caller.tenant(), action, ObjectRef::new(ObjectKind::Inbox, id))
}

/// Create an inbox
///
/// From now on it gets every event that matches: one of its types or patterns (without any, everything that is posted), one of the tags
/// if there are any, and the filter. Nothing is sent; messages wait until they are leased, or read. Nothing is stored when anything is
/// not acceptable.
#[utoipa::path(
    post,
    path = "/v1/inboxes",
    operation_id = "create_inbox",
    tag = "Inboxes",
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition of this very request give the same answer, for 48 h; 1 to 255 printable ASCII characters.")
    ),
    request_body(content = InboxRequest, examples(
        ("plain" = (summary = "Everything that is posted", value = json!({"name": "warehouse"}))),
        ("everything" = (summary = "With everything", value = json!({"name": "warehouse", "event_types": ["order.*"], "tags": ["region:uk"], "filter": {"payload.total": {"$gte": 10}}, "max_leases": 5, "ttl_seconds": 86400, "paused": false})))
    )),
    responses((status = 201, description = "Made.", body = View)),
    extensions(("x-errors" = json!(["INVALID_EVENT_TYPE", "INVALID_FILTER", "INVALID_FIELD", "INVALID_BODY", "CONFLICT"])))
)]
pub(crate) async fn create(
    context: Data<Context>,
    caller: Caller,
    request: HttpRequest,
    query: Query,
    body: JsonBody<SMALL>,
) -> Result<Reply, ApiError> {
    query.finish()?;
    let now = context.clock.now();
    let wish = Wish::parse(&body)?;
    if wish.name.is_none() {
        return Err(invalid("name", "is missing"));
    }
    let key = key(&request, &caller, &body)?;
    let most = context.settings.gateway.inboxes;
    idempotent(&context, key, move |conn| {
        let new = NewInbox {
            id: SubscriptionId::new(now),
            tenant: caller.tenant(),
            credential: caller.credential().map(|credential| credential.id),
            terms: wish.apply(wish::nothing(), &catalogue::of_tenant(conn, caller.tenant())?)?,
            paused: wish.paused.unwrap_or(false),
            now,
        };
        store::insert(conn, &new, most)?;
        let made = found(conn, new.tenant, new.id)?;
        let entry = entry(&caller, Action::InboxCreated, new.id).after(view::told(&made));
        audited::record(conn, &caller, &entry, now)?;
        Ok(Reply::json(StatusCode::CREATED, &View::from(made))?)
    })
    .await
}

/// List inboxes
///
/// Newest first, without the deleted.
#[utoipa::path(
    get,
    path = "/v1/inboxes",
    operation_id = "list_inboxes",
    tag = "Inboxes",
    params(
        ("cursor" = Option<String>, Query, description = "`next_cursor` of an earlier page."),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 100, description = "Entries on a page, 1 to 100; 50 by default.")
    ),
    responses((status = 200, description = "A page of inboxes.", body = inline(crate::openapi::PageOf<View>)))
)]
pub(crate) async fn list(
    context: Data<Context>,
    caller: Caller,
    mut query: Query,
) -> Result<HttpResponse, ApiError> {
    let limit = query.limit()?;
    let asked = InboxQuery { before: query.cursor::<SubscriptionId>()?, limit: limit + 1 };
    query.finish()?;
    let tenant = caller.tenant();
    let rows = context.db.once(move |conn| store::list(conn, tenant, asked)).await.map_err(problem::of)?;
    Ok(Page::new(rows, limit, |inbox| inbox.id).map(View::from).respond())
}

/// Show an inbox
///
/// With what is in it: how many messages wait, are leased, delayed and quarantined, and since when the oldest waits. Deleted inboxes can be
/// shown, too.
#[utoipa::path(
    get,
    path = "/v1/inboxes/{id}",
    operation_id = "show_inbox",
    tag = "Inboxes",
    params(("id" = String, Path, description = "The inbox's id.", example = "hook_01hzy3v9k2s8d4f6g8h0j2k4m6")),
    responses((status = 200, description = "The inbox.", body = Detail))
)]
pub(crate) async fn show(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<SubscriptionId>,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    query.finish()?;
    let (tenant, now) = (caller.tenant(), context.clock.now());
    let (inbox, counts) = context
        .db
        .once(move |conn| Ok((found(conn, tenant, id)?, store::counts(conn, tenant, id, now)?)))
        .await
        .map_err(problem::of)?;
    let detail = Detail { inbox: inbox.into(), messages: CountsView::new(&counts, now) };
    Ok(HttpResponse::Ok().json(detail))
}

/// Change an inbox
///
/// What is not in the body stays as it is; `null` takes away what can be taken away. Messages that are in it stay; `max_leases` counts for
/// them from now on, `ttl_seconds` for those that come.
#[utoipa::path(
    patch,
    path = "/v1/inboxes/{id}",
    operation_id = "change_inbox",
    tag = "Inboxes",
    params(("id" = String, Path, description = "The inbox's id.", example = "hook_01hzy3v9k2s8d4f6g8h0j2k4m6")),
    request_body(content = InboxPatch, example = json!({"event_types": ["order.*", "invoice.*"], "max_leases": 3})),
    responses((status = 200, description = "The inbox as it is now.", body = View)),
    extensions(("x-errors" = json!(["INVALID_EVENT_TYPE", "INVALID_FILTER", "INVALID_FIELD", "INVALID_BODY"])))
)]
pub(crate) async fn update(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<SubscriptionId>,
    body: JsonBody<SMALL>,
) -> Result<Reply, ApiError> {
    let now = context.clock.now();
    let wish = Wish::parse(&body)?;
    let resumes = wish.paused == Some(false);
    let reply = idempotent(&context, None, move |conn| {
        let tenant = caller.tenant();
        let before = locked(conn, tenant, id)?;
        let terms = wish.apply(before.terms(), &catalogue::of_tenant(conn, tenant)?)?;
        store::update(conn, tenant, id, &terms, now)?;
        if let Some(paused) = wish.paused {
            store::set_paused(conn, tenant, id, paused, now)?;
        }
        let after = found(conn, tenant, id)?;
        let (was, is) = (view::told(&before), view::told(&after));
        if was != is {
            let entry = entry(&caller, Action::InboxUpdated, id).before(was).after(is);
            audited::record(conn, &caller, &entry, now)?;
        }
        Ok(Reply::json(StatusCode::OK, &View::from(after))?)
    })
    .await?;
    if resumes {
        context.bus.ring_inboxes(&[id]);
    }
    Ok(reply)
}

/// What is gone.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeletedInbox {
    /// Always `deleted`.
    #[schema(example = "deleted")]
    status: &'static str,
    /// The inbox.
    id: String,
}

/// Delete an inbox
///
/// Messages that were not acknowledged are cancelled, of a large inbox some within the next minutes; leases end, and the place is free for
/// another. Deleting it again is answered with 200, too.
#[utoipa::path(
    delete,
    path = "/v1/inboxes/{id}",
    operation_id = "delete_inbox",
    tag = "Inboxes",
    params(("id" = String, Path, description = "The inbox's id.", example = "hook_01hzy3v9k2s8d4f6g8h0j2k4m6")),
    responses((status = 200, description = "It is gone.", body = inline(DeletedInbox), example = json!({"status": "deleted", "id": "hook_01hzy3v9k2s8d4f6g8h0j2k4m6"})))
)]
pub(crate) async fn delete(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<SubscriptionId>,
) -> Result<HttpResponse, ApiError> {
    let now = context.clock.now();
    let gone = move |conn: &mut Conn| {
        let tenant = caller.tenant();
        let inbox = store::lock(conn, tenant, id)?.ok_or(NOT_FOUND)?;
        let reason = Some("deleted by its owner");
        if subscription::store::set_state(conn, tenant, id, HookState::Deleted, reason, now)? {
            // The registry goes on with what is left in a large one.
            deleted::cancel_first(conn, tenant, id, now)?;
            let entry = entry(&caller, Action::InboxDeleted, id).before(view::told(&inbox));
            audited::record(conn, &caller, &entry, now)?;
        }
        Ok(())
    };
    context.db.run(gone).await.map_err(problem::of)?;
    // Whoever waits there learns that it is gone.
    context.bus.ring_inboxes(&[id]);
    Ok(HttpResponse::Ok().json(DeletedInbox { status: "deleted", id: id.to_string() }))
}

/// Pause an inbox
///
/// Nothing is leased until it is resumed: leases are answered as if the inbox were empty, with `paused`. Events go on coming in, and what is
/// leased may be acknowledged. Nothing happens to an inbox that is paused already.
#[utoipa::path(
    post,
    path = "/v1/inboxes/{id}/pause",
    operation_id = "pause_inbox",
    tag = "Inboxes",
    params(("id" = String, Path, description = "The inbox's id.", example = "hook_01hzy3v9k2s8d4f6g8h0j2k4m6")),
    responses((status = 200, description = "The inbox as it is now.", body = View))
)]
pub(crate) async fn pause(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<SubscriptionId>,
) -> Result<HttpResponse, ApiError> {
    switch(&context, caller, id, true).await
}

/// Resume an inbox
///
/// Messages are leased again, also to those who wait for one already.
#[utoipa::path(
    post,
    path = "/v1/inboxes/{id}/resume",
    operation_id = "resume_inbox",
    tag = "Inboxes",
    params(("id" = String, Path, description = "The inbox's id.", example = "hook_01hzy3v9k2s8d4f6g8h0j2k4m6")),
    responses((status = 200, description = "The inbox as it is now.", body = View))
)]
pub(crate) async fn resume(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<SubscriptionId>,
) -> Result<HttpResponse, ApiError> {
    switch(&context, caller, id, false).await
}

async fn switch(
    context: &Data<Context>,
    caller: Caller,
    id: SubscriptionId,
    paused: bool,
) -> Result<HttpResponse, ApiError> {
    let now = context.clock.now();
    let switched = move |conn: &mut Conn| {
        let tenant = caller.tenant();
        let before = locked(conn, tenant, id)?;
        if before.paused_at.is_some() == paused {
            return Ok(before);
        }
        store::set_paused(conn, tenant, id, paused, now)?;
        let after = found(conn, tenant, id)?;
        let action = if paused { Action::InboxPaused } else { Action::InboxResumed };
        let entry = entry(&caller, action, id).before(view::told(&before)).after(view::told(&after));
        audited::record(conn, &caller, &entry, now)?;
        Ok(after)
    };
    let inbox = context.db.run(switched).await.map_err(problem::of)?;
    if !paused {
        context.bus.ring_inboxes(&[id]);
    }
    Ok(HttpResponse::Ok().json(View::from(inbox)))
}
