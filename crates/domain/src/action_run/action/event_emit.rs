//! `event.emit`: an event of the tenant's, as `POST /events` would take it.

use serde_json::json;

use super::{Action, Plan};
use crate::{event::Draft, wire::Json};

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
    plan: |input, scene| Ok(Plan::Emit(Box::new(Draft::parse(Json::Object(input), scene.now)?))),
};
