//! `task.run`: a task, as `POST /v1/automation/tasks` would take it, and the wait for its end.

use serde_json::json;

use super::{Action, Plan};
use crate::{
    task::{Draft, draft},
    wire::Json,
};

pub(super) const ACTION: Action = Action {
    key: "task.run",
    title: "Run a task",
    description: "Has a task done and ends when the task has: with its result, or with why it failed.",
    fields: || {
        json!({
            "type": "object",
            "required": ["title", "description"],
            "properties": {
                "title": {"type": "string", "title": "Title", "minLength": 1, "maxLength": draft::MAX_TITLE_CHARS},
                "description": {"type": "string", "title": "Description", "description": "What is to be done.", "minLength": 1, "maxLength": draft::MAX_DESCRIPTION_CHARS},
                "agent_type": {"type": "string", "title": "Agent type", "enum": ["general", "plan", "build", "explore"], "default": "general"},
                "model": {"type": "string", "title": "Model", "description": "One of GET /v1/automation/."},
                "priority": {"type": "integer", "title": "Priority", "minimum": 0, "maximum": 100, "default": 0},
                "task_timeout_seconds": {"type": "integer", "title": "Seconds an attempt may take", "minimum": draft::TIMEOUT_S.0, "maximum": draft::TIMEOUT_S.1, "default": draft::TIMEOUT_S.2},
                "metadata": {"type": "object", "title": "Metadata"},
            },
        })
    },
    plan: |input, scene| {
        let draft = Draft::parse(Json::Object(input), scene.models, scene.urls, scene.now)?;
        Ok(Plan::Task(Box::new(draft)))
    },
};
