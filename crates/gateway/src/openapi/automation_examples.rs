//! Examples of what the routes around tasks answer, by the name of the schema.

use serde_json::{Value, json};

pub(super) fn named(name: &str) -> Option<Value> {
    match name {
        "Task" => Some(task()),
        "TaskList" => Some(json!({"tasks": [task()], "total": 1, "limit": 50, "offset": 0})),
        "TaskRuns" => Some(json!({"runs": [task()], "questions": []})),
        "Schedule" => Some(schedule()),
        "Schedules" => Some(json!({"schedules": [schedule()]})),
        "TaskCreated" => Some(json!({
            "task_id": "550e8400-e29b-41d4-a716-446655440000",
            "run_id": "660e8400-e29b-41d4-a716-446655440001",
            "status": "queued",
            "title": "Analyze customer feedback",
            "description": "Summarize: The export fails. Support was friendly.",
            "created_at": "2025-01-26T06:24:34.030Z",
            "model": "claude-sonnet"
        })),
        "TaskRetried" => Some(json!({
            "task_id": "550e8400-e29b-41d4-a716-446655440000",
            "run_id": "770e8400-e29b-41d4-a716-446655440002",
            "run_number": 2,
            "status": "queued"
        })),
        "TaskDeliveries" => Some(json!({
            "deliveries": [
                {
                    "id": "dlv_01hzy3v9kqf9vt784gnmr6adfc01hzy3v9kpf4hbd7hwmhjk9pqm",
                    "event_id": "evt_01hzy3v9kqf9vt784gnmr6adfc",
                    "event_type": "task.started",
                    "kind": "task",
                    "hook_id": "hook_01hzy3v9kpf4hbd7hwmhjk9pqm",
                    "url": "https://hooks.zapier.com/hooks/catch/123/abc/",
                    "state": "pending",
                    "attempts": 1,
                    "deferrals": 0,
                    "last_status": null,
                    "last_reason": "dns",
                    "next_attempt_at": "2025-01-26T06:24:39.187Z",
                    "settled_at": null,
                    "tries": [
                        {
                            "number": 1,
                            "started_at": "2025-01-26T06:24:34.048Z",
                            "latency_ms": 1,
                            "status": null,
                            "reason": "dns",
                            "reply": "the name cannot be resolved: failed to lookup address information: Name or service not known"
                        }
                    ]
                }
            ]
        })),
        "TaskWebhook" => Some(json!({
            "hook_id": "hook_01hzy3v9kpf4hbd7hwmhjk9pqm",
            "url": "https://hooks.zapier.com/hooks/catch/123/abc/",
            "state": "pending",
            "state_reason": null,
            "signing_secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
        })),
        "UsageReport" => Some(json!({
            "usage": [
                {
                    "month": "2025-01",
                    "model": "claude-sonnet",
                    "agent_type": "general",
                    "runs": 2,
                    "input_tokens": 0,
                    "output_tokens": 0,
                    "total_tokens": 0,
                    "cost_usd": 0.0
                }
            ],
            "total": {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0, "cost_usd": 0.0}
        })),
        "TaskBudget" => Some(json!({
            "monthly_tokens": null,
            "monthly_cost": null,
            "month": "2025-01",
            "used": {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0, "cost_usd": 0.0}
        })),
        "LlmKeys" => Some(json!({
            "keys": [
                {
                    "provider": "anthropic",
                    "has_own_key": false,
                    "set_at": null,
                    "has_key_of_installation": false
                },
                {
                    "provider": "openai",
                    "has_own_key": false,
                    "set_at": null,
                    "has_key_of_installation": false
                }
            ]
        })),
        "LlmKey" => Some(json!({
            "provider": "anthropic",
            "has_own_key": true,
            "set_at": "2025-01-26T06:24:35.173Z",
            "has_key_of_installation": false
        })),
        "TaskStats" => Some(json!({
            "statuses": [
                {"status": "queued", "tasks": 0, "oldest_seconds": null},
                {"status": "running", "tasks": 0, "oldest_seconds": null}
            ],
            "hours": [
                {
                    "hour": "2025-01-26T06:00:00.000Z",
                    "completed": 2,
                    "failed": 0,
                    "cancelled": 0,
                    "average_wait_ms": 7
                }
            ]
        })),
        "AutomationMe" => Some(json!({
            "label": "Acme (API key main)",
            "tenant_id": "ten_01hzy3v9kxf00a3ntd5k8wnsbm",
            "tenant_name": "Acme",
            "name": "API key main",
            "kind": "credential",
            "scopes": ["admin"],
            "expires_at": null
        })),
        "ScheduleHistory" => Some(json!({
            "ticks": [
                {
                    "tick": "2025-01-26T06:24:35.249Z",
                    "outcome": "run_by_hand",
                    "task_id": "770e8400-e29b-41d4-a716-446655440002",
                    "reason": null,
                    "fired_at": "2025-01-26T06:24:35.249Z"
                }
            ]
        })),
        "ScheduleDeleted" => Some(json!({"status": "deleted", "id": "770e8400-e29b-41d4-a716-446655440002"})),
        "OpenQuestion" => Some(json!({
            "request_id": "770e8400-e29b-41d4-a716-446655440002",
            "task_id": "770e8400-e29b-41d4-a716-446655440002",
            "title": "Build the page",
            "question": "Which colour?",
            "choices": ["red", "blue"],
            "schema": null,
            "expires_at": "2025-01-03T06:24:35.414Z",
            "open": true
        })),
        "TaskAnswered" => Some(json!({
            "task_id": "770e8400-e29b-41d4-a716-446655440002",
            "run_id": "770e8400-e29b-41d4-a716-446655440002",
            "request_id": "770e8400-e29b-41d4-a716-446655440002",
            "status": "queued"
        })),
        _ => None,
    }
}

fn task() -> Value {
    json!({
        "task_id": "550e8400-e29b-41d4-a716-446655440000",
        "run_id": "660e8400-e29b-41d4-a716-446655440001",
        "run_number": 1,
        "status": "completed",
        "title": "Analyze customer feedback",
        "description": "Summarize: The export fails. Support was friendly.",
        "agent_type": "general",
        "model": "claude-sonnet",
        "priority": 0,
        "created_at": "2025-01-26T06:24:34.030Z",
        "started_at": "2025-01-26T06:24:34.034Z",
        "completed_at": "2025-01-26T06:24:34.039Z",
        "runtime_seconds": 0.004,
        "attempts": 1,
        "progress": {"percent": null, "message": null},
        "result": "Offline analysis (no language model was used)\n\nKey points:\n- The export fails.",
        "result_summary": "Sentiment: mixed. Topics: export fails, support, friendly",
        "error": null,
        "error_code": null,
        "usage": {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0, "cost_usd": 0.0},
        "webhook_url": "https://hooks.zapier.com/hooks/catch/123/abc/",
        "webhook_events": [
            "task_started",
            "task_completed",
            "task_failed",
            "task_needs_input",
            "task_cancelled"
        ],
        "notify_email": null,
        "notify_language": null,
        "metadata": {},
        "task_timeout_seconds": 600,
        "max_seconds": null,
        "max_tokens": null,
        "max_cost": null,
        "deadline_at": null,
        "worker_id": null
    })
}

fn schedule() -> Value {
    json!({
        "id": "770e8400-e29b-41d4-a716-446655440002",
        "name": "weekly",
        "cron": "0 9 * * 1",
        "time_zone": "Europe/Paris",
        "enabled": true,
        "missed": "skip",
        "task": {"title": "t", "description": "summarize: nothing"},
        "next_at": "2025-01-30T08:00:00.000Z",
        "created_at": "2025-01-26T06:24:35.233Z",
        "updated_at": "2025-01-26T06:24:35.233Z"
    })
}
