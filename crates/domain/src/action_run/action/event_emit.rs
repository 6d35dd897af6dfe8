//! `event.emit`: an event of the tenant's, as `POST /events` would take it.

use serde_json::json;

use super::{Action, Plan, Scene, Wrong};
use crate::{
    catalogue::rules::Refused,
    event::Draft,
    wire::{Json, Object},
};

pub(super) const ACTION: Action = Action {
    key: "event.emit",
    title: "Emit an event",
    description: "Stores an event and delivers it to every hook that wants it, as POST /events does.",
    fields: || {
        json!({
            "type": "object",
            "required": ["event_type", "payload"],
            "properties": {
                "event_type": {"type": "string", "title": "Event type", "description": "Such as order.created.", "maxLength": 128},
                "payload": {"type": "object", "title": "Payload", "description": "What happened."},
                "metadata": {"type": "object", "title": "Metadata", "description": "For filters; correlation_id, source_ip and user_agent are texts."},
                "timestamp": {"type": "string", "format": "date-time", "title": "When it happened"},
            },
        })
    },
    plan,
};

fn plan(input: Object, scene: &Scene<'_>) -> Result<Plan, Wrong> {
    let draft = Draft::parse(Json::Object(input), scene.now)?;
    let Some(rules) = scene.rules else { return Ok(Plan::Emit(Box::new(draft), Vec::new())) };
    match draft.judged_by(rules) {
        Ok(warnings) => Ok(Plan::Emit(Box::new(draft), warnings)),
        Err(refused) => {
            let reason = refused.reason(draft.event_type());
            let (field, path) = match refused {
                Refused::Archived => ("event_type", String::new()),
                Refused::Schema(violations) => {
                    ("payload", violations.into_iter().next().map(|first| first.path).unwrap_or_default())
                }
            };
            Err(Wrong { field, path, reason })
        }
    }
}
