//! How a hook looks wherever one is shown.

use hookyard_domain::{
    event::wire_time,
    subscription::{store::HookView, zapier},
};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::record_view::RecordView;

/// A hook: who wants which events where, and how it fared.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Hook)]
pub(crate) struct View {
    /// Identity.
    #[schema(example = "hook_01hzy3v9k2s8d4f6g8h0j2k4m6")]
    id: String,
    /// Where deliveries go.
    #[schema(example = "https://hooks.zapier.com/hooks/standard/1234567/abcdef0123456789/")]
    url: String,
    /// What it is for: of one whose URL is Zapier's, its event type; else empty.
    #[schema(example = "Zapier: order.created")]
    description: String,
    /// Which type, as it was written at the subscribe; `null` = all.
    #[schema(example = "order.created")]
    event_type: Option<String>,
    /// The type or pattern that this stands for.
    #[schema(example = "order.created")]
    pattern: Option<String>,
    /// Which of those events; `null` = all.
    #[schema(value_type = Option<Object>)]
    filter: Option<Box<RawValue>>,
    /// `pending`, `active` and `failing` hooks are delivered to.
    #[schema(value_type = HookStateWord)]
    state: &'static str,
    /// Why it is in that state, if that is not obvious.
    state_reason: Option<String>,
    #[serde(flatten)]
    record: RecordView,
    /// When it ends by itself.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
    /// When it was subscribed.
    #[schema(format = DateTime)]
    created_at: String,
    /// When it was last changed.
    #[schema(format = DateTime)]
    updated_at: String,
}

/// The states of a hook.
#[derive(Debug, ToSchema)]
#[schema(as = HookState, rename_all = "snake_case")]
#[expect(dead_code, reason = "the type describes the states in the OpenAPI document")]
pub(crate) enum HookStateWord {
    Pending,
    Active,
    Failing,
    Disabled,
    Deleted,
}

impl From<HookView> for View {
    fn from(hook: HookView) -> Self {
        let types: Vec<&str> = hook.event_type.as_deref().into_iter().collect();
        Self {
            id: hook.id.to_string(),
            description: zapier::description(&hook.url, &types).unwrap_or_default(),
            url: hook.url,
            event_type: hook.event_type,
            pattern: hook.pattern,
            filter: hook.filter.and_then(|text| RawValue::from_string(text).ok()),
            state: hook.state.as_str(),
            state_reason: hook.state_reason,
            record: hook.record.into(),
            expires_at: hook.expires_at.map(wire_time),
            created_at: wire_time(hook.created_at),
            updated_at: wire_time(hook.updated_at),
        }
    }
}
