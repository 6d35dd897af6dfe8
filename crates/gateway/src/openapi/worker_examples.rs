//! Examples of what workers and their owners are answered with, by the name of the schema.

use serde_json::{Value, json};

pub(super) fn named(name: &str) -> Option<Value> {
    match name {
        "WorkerClaim" => Some(claim()),
        "WorkersDraining" => Some(json!({"draining": ["build-7"]})),
        "WorkerHeartbeat" => Some(json!({
            "lease_until": "2025-01-19T10:32:00.000Z", "lease_seconds": 120.0, "cancel_requested": false
        })),
        "WorkerReport" => Some(json!({
            "run_id": "660e8400-e29b-41d4-a716-446655440001",
            "task_id": "550e8400-e29b-41d4-a716-446655440000",
            "status": "running"
        })),
        "Workers" => Some(json!({"workers": [worker()]})),
        "WorkerToken" => Some(token()),
        "NewWorkerToken" => {
            let mut made = token();
            made["token"] = "wk_Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4Zm9vYmFyYmE".into();
            Some(made)
        }
        _ => None,
    }
}

fn claim() -> Value {
    json!({
        "worker_id": "990e8400-e29b-41d4-a716-446655440004",
        "tasks": [{
            "task_id": "550e8400-e29b-41d4-a716-446655440000",
            "run_id": "660e8400-e29b-41d4-a716-446655440001",
            "lease_token": "880e8400-e29b-41d4-a716-446655440003",
            "lease_until": "2025-01-19T10:32:00.000Z",
            "lease_seconds": 120.0,
            "timeout_seconds": 600.0,
            "deadline_at": null,
            "attempt": 1,
            "number": 1,
            "title": "Build the landing page",
            "description": "A page with a form, in the style of the shop.",
            "agent_type": "build",
            "model": "claude-sonnet",
            "resolved_model": "anthropic:claude-sonnet-4-5",
            "priority": 0,
            "metadata": {"shop": "7"},
            "max_tokens": null,
            "max_cost": null,
            "tokens_used_before": 0,
            "checkpoint": null,
            "inputs": [],
            "created_at": "2025-01-19T10:30:00.000Z"
        }]
    })
}

fn worker() -> Value {
    json!({
        "id": "990e8400-e29b-41d4-a716-446655440004",
        "name": "build-7",
        "token_id": "key_01hzy3v9k2s8d4f6g8h0j2k4m6",
        "status": "busy",
        "version": "1.4",
        "agent_types": ["build"],
        "models": null,
        "capabilities": ["docker"],
        "tasks": [{
            "task_id": "550e8400-e29b-41d4-a716-446655440000",
            "run_id": "660e8400-e29b-41d4-a716-446655440001",
            "title": "Build the landing page",
            "since": "2025-01-19T10:30:00.000Z"
        }],
        "last_seen_at": "2025-01-19T10:30:40.000Z",
        "created_at": "2025-01-19T08:00:00.000Z"
    })
}

fn token() -> Value {
    json!({
        "id": "key_01hzy3v9k2s8d4f6g8h0j2k4m6",
        "name": "builders",
        "prefix": "wk_Zm9vYmFy",
        "agent_types": ["build", "explore"],
        "models": null,
        "rate_limit": 0,
        "created_at": "2025-01-19T08:00:00.000Z",
        "expires_at": null,
        "revoked_at": null,
        "last_used_at": null
    })
}
