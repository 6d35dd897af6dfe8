//! `/v1/hooks/{id}/activity` and `/webhooks/{id}/activity`: how busy an endpoint was in the last six hours, and how much of it arrived.

use actix_web::{HttpResponse, web::Data};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    event::wire_time,
    id::SubscriptionId,
    subscription::{
        Kind,
        activity::{self, SLOT, Slot},
    },
};
use serde::Serialize;
use utoipa::ToSchema;

use super::endpoints;
use crate::{
    access::Caller,
    context::Context,
    paging::{Id, Query},
    problem,
};

/// The activity of an endpoint.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Activity)]
pub(crate) struct View {
    /// Whose.
    endpoint_id: String,
    /// From then on.
    #[schema(format = DateTime)]
    since: String,
    /// Tries that arrived.
    #[schema(minimum = 0)]
    delivered: i64,
    /// Tries that failed.
    #[schema(minimum = 0)]
    failed: i64,
    /// The part of the tries that arrived, 0 to 1; `null` when there was none.
    #[schema(example = 0.987)]
    success_rate: Option<f64>,
    /// The last six hours in slots of ten minutes, oldest first; the last one is still filling.
    slots: Vec<SlotView>,
}

/// Ten minutes of it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ActivitySlot)]
pub(crate) struct SlotView {
    /// When they began.
    #[schema(format = DateTime)]
    from: String,
    /// When they end.
    #[schema(format = DateTime)]
    to: String,
    /// Tries that arrived.
    #[schema(minimum = 0)]
    delivered: i64,
    /// Tries that failed.
    #[schema(minimum = 0)]
    failed: i64,
}

impl From<&Slot> for SlotView {
    fn from(slot: &Slot) -> Self {
        Self {
            from: wire_time(slot.slot),
            to: wire_time(slot.slot + SLOT),
            delivered: slot.delivered,
            failed: slot.failed,
        }
    }
}

/// Show the activity of a hook
///
/// How many tries arrived and failed in the last six hours.
#[utoipa::path(
    get,
    path = "/v1/hooks/{id}/activity",
    operation_id = "show_hook_activity",
    tag = "Hooks",
    params(("id" = String, Path, description = "The hook's id.", example = "hook_01hzy3v9k2s8d4f6g8h0j2k4m6")),
    responses((status = 200, description = "Its activity.", body = View, example = json!({"endpoint_id": "hook_01hzy3v9k2s8d4f6g8h0j2k4m6", "since": "2025-11-12T09:50:00.000Z", "delivered": 297, "failed": 3, "success_rate": 0.99, "slots": [{"from": "2025-11-12T09:50:00.000Z", "to": "2025-11-12T10:00:00.000Z", "delivered": 297, "failed": 3}]})))
)]
pub(crate) async fn show(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<SubscriptionId>,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    query.finish()?;
    answer(&context, &caller, id, (&[Kind::Hook], "hook")).await
}

/// Show the activity of a consumer
///
/// As that of a hook: how many tries arrived and failed in the last six hours.
#[utoipa::path(
    get,
    path = "/webhooks/{id}/activity",
    operation_id = "show_consumer_activity",
    tag = "Consumers",
    params(("id" = String, Path, description = "The consumer's id.", example = "hook_01hzy3v9k2s8d4f6g8h0j2k4m6")),
    responses((status = 200, description = "Its activity.", body = View, example = json!({"endpoint_id": "hook_01hzy3v9k2s8d4f6g8h0j2k4m6", "since": "2025-11-12T09:50:00.000Z", "delivered": 297, "failed": 3, "success_rate": 0.99, "slots": [{"from": "2025-11-12T09:50:00.000Z", "to": "2025-11-12T10:00:00.000Z", "delivered": 297, "failed": 3}]})))
)]
pub(crate) async fn show_consumer(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<SubscriptionId>,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    query.finish()?;
    answer(&context, &caller, id, (&[Kind::Consumer], "consumer")).await
}

async fn answer(
    context: &Context,
    caller: &Caller,
    id: SubscriptionId,
    kinds: (&'static [Kind], &'static str),
) -> Result<HttpResponse, ApiError> {
    let (tenant, now) = (caller.tenant(), context.clock.now());
    let read = move |conn: &mut hookyard_domain::db::Conn| {
        endpoints::found(conn, tenant, id, kinds)?;
        activity::recent(conn, tenant, id, now)
    };
    let slots = context.db.once(read).await.map_err(problem::of)?;
    let view = View {
        endpoint_id: id.to_string(),
        since: wire_time(slots.first().map_or(now, |slot| slot.slot)),
        delivered: slots.iter().map(|slot| slot.delivered).sum(),
        failed: slots.iter().map(|slot| slot.failed).sum(),
        success_rate: activity::success_rate(&slots),
        slots: slots.iter().map(SlotView::from).collect(),
    };
    Ok(HttpResponse::Ok().json(view))
}
