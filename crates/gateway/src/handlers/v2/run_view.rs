//! How action runs leave.

use hookyard_domain::{
    action_run::store::RunRow,
    delivery::{DeliveryState, inspect::DeliveryView},
    event::wire_time,
    id::DeliveryId,
};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// What whoever asks for a run is told.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ActionRunCreated)]
pub(crate) struct Created {
    data: Reference,
}

/// A run by its name.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ActionRunReference)]
pub(crate) struct Reference {
    /// Always `run`.
    #[serde(rename = "type")]
    #[schema(example = "run")]
    kind: &'static str,
    /// The run's id.
    #[schema(example = "arun_01hzy3v9k2s8d4f6g8h0j2k4m6")]
    id: String,
}

impl Created {
    pub(crate) fn new(id: String) -> Self {
        Self { data: Reference { kind: "run", id } }
    }
}

/// A run, alone.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ActionRunShown)]
pub(crate) struct Shown {
    pub(crate) data: View,
}

/// A run.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ActionRun)]
pub(crate) struct View {
    /// Always `run`.
    #[serde(rename = "type")]
    #[schema(example = "run")]
    kind: &'static str,
    /// The run's id.
    #[schema(example = "arun_01hzy3v9k2s8d4f6g8h0j2k4m6")]
    id: String,
    /// The same.
    #[schema(example = "arun_01hzy3v9k2s8d4f6g8h0j2k4m6")]
    run_id: String,
    /// `queued`, `running`, `success` or `error`.
    #[schema(example = "success")]
    status: &'static str,
    /// What came of it; empty while it has not ended, and when it failed.
    #[schema(value_type = Vec<Object>)]
    results: Box<RawValue>,
    /// Why it failed: `code` (`user`, `authentication`, `partner`, `system`, `throttled`, `hydration`), `title`, `detail`.
    #[schema(value_type = Vec<Object>)]
    errors: Box<RawValue>,
    /// The action's key.
    #[schema(example = "event.emit")]
    action: String,
    /// The task that it waits for, or waited for.
    task_id: Option<String>,
    /// When it was asked for.
    #[schema(format = DateTime)]
    created_at: String,
    /// When it was begun.
    #[schema(format = DateTime)]
    started_at: Option<String>,
    /// When it ended.
    #[schema(format = DateTime)]
    completed_at: Option<String>,
    /// Its callback, if one is wanted.
    callback: Option<Callback>,
}

/// The callback of a run.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ActionRunCallback)]
pub(crate) struct Callback {
    /// Where it goes.
    url: Option<String>,
    /// The delivery, once the run has ended: its tries are at `GET /v1/deliveries/{id}`.
    delivery_id: Option<String>,
    /// `waiting` for the end of the run, `pending`, `delivered`, `failed` or `cancelled`. Not told in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "delivered")]
    status: Option<&'static str>,
    /// Tries so far. Not told in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    attempts: Option<i16>,
}

/// The delivery of a run's callback, once it has ended.
pub(crate) fn delivery_of(row: &RunRow) -> Option<DeliveryId> {
    Some(DeliveryId { event: row.event_id?, subscription: row.endpoint_id? })
}

impl View {
    /// A run of a list.
    pub(crate) fn listed(row: RunRow) -> Self {
        let callback = row.endpoint_id.map(|_| Callback {
            url: row.callback_url.clone(),
            delivery_id: delivery_of(&row).map(|id| id.to_string()),
            status: None,
            attempts: None,
        });
        let list = |text: Option<String>| {
            text.and_then(|text| RawValue::from_string(text).ok()).unwrap_or_else(nothing)
        };
        Self {
            kind: "run",
            id: row.id.to_string(),
            run_id: row.id.to_string(),
            status: row.state.as_str(),
            results: list(row.results),
            errors: list(row.errors),
            action: row.action,
            task_id: row.task_id.map(|id| id.to_string()),
            created_at: wire_time(row.created_at),
            started_at: row.started_at.map(wire_time),
            completed_at: row.ended_at.map(wire_time),
            callback,
        }
    }

    /// A run with what became of its callback.
    pub(crate) fn shown(row: RunRow, delivery: Option<DeliveryView>) -> Self {
        let mut view = Self::listed(row);
        if let Some(callback) = &mut view.callback {
            callback.status =
                Some(delivery.as_ref().map_or("waiting", |delivery| word(delivery.delivery.state)));
            callback.attempts = Some(delivery.map_or(0, |delivery| delivery.delivery.attempts));
        }
        view
    }
}

const fn word(state: DeliveryState) -> &'static str {
    match state {
        DeliveryState::Pending => "pending",
        DeliveryState::Delivered => "delivered",
        DeliveryState::Dead => "failed",
        DeliveryState::Cancelled | DeliveryState::Discarded => "cancelled",
    }
}

/// `[]`
fn nothing() -> Box<RawValue> {
    RawValue::from_string("[]".to_owned()).unwrap_or_else(|_| Box::default())
}

/// A page of runs.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ActionRunList)]
pub(crate) struct Listed {
    /// The runs, newest first.
    pub(crate) data: Vec<View>,
    /// The pages beside this one.
    pub(crate) links: Links,
    /// Where this page is.
    pub(crate) meta: Meta,
}

/// The pages beside one.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PageLinks)]
pub(crate) struct Links {
    /// The next page; `null` at the end.
    #[schema(example = "https://hooks.example.com/v2/action-runs?limit=50&offset=50")]
    pub(crate) next: Option<String>,
    /// The page before; `null` at the beginning.
    pub(crate) prev: Option<String>,
}

/// Where a page is.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PageMeta)]
pub(crate) struct Meta {
    /// How many there are in all.
    #[schema(example = 120)]
    pub(crate) count: i64,
    /// As it was asked for.
    #[schema(example = 50)]
    pub(crate) limit: i64,
    /// As it was asked for.
    #[schema(example = 0)]
    pub(crate) offset: i64,
}
