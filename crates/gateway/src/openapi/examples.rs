//! Examples of objects that many operations answer with, told once by the name of their schema.

use serde_json::{Value, json};

/// An example of a named schema, or of a page of them.
pub(super) fn of(schema: &Value) -> Option<Value> {
    let name = |schema: &Value| schema["$ref"].as_str()?.rsplit('/').next().map(str::to_owned);
    if let Some(name) = name(schema) {
        return named(&name);
    }
    let entry = named(&name(&schema["properties"]["data"]["items"])?)?;
    Some(json!({"data": [entry], "next_cursor": null, "has_more": false}))
}

fn named(name: &str) -> Option<Value> {
    match name {
        "AuditEntry" => Some(audit_entry()),
        "Hook" => Some(hook()),
        "Consumer" => Some(super::consumer_shapes::consumer()),
        "Session" => Some(session()),
        "User" => Some(user()),
        "Invitation" => Some(invitation()),
        "Delivery" => Some(delivery()),
        "DeliveryDetail" => Some(detail()),
        "Message" => Some(message()),
        "MessageDetail" => {
            let mut detail = message();
            detail["tries"] = json!([{"number": 1, "started_at": "2025-11-12T15:45:00.100Z", "latency_ms": 182, "status": 500, "reason": "http_500", "reply": "it is the database"}]);
            Some(detail)
        }
        "Recovery" => Some(recovery()),
        "EnabledHook" => Some(with_recovery(hook())),
        "EnabledConsumer" => Some(with_recovery(super::consumer_shapes::consumer())),
        "DeadLetter" => {
            let mut letter = detail();
            letter["event"] = event();
            Some(letter)
        }
        "Gaps" => Some(gaps()),
        "Key" => Some(key()),
        "NewKey" => Some(shown(key(), "ct_Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4Zm9vYmFyYmE")),
        "SourceKey" => Some(source_key()),
        "NewSourceKey" => Some(shown(source_key(), "src_Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4Zm9vYmFyYmE")),
        "ActionRunCreated" => Some(json!({"data": {"type": "run", "id": "arun_01hzy3v9k2s8d4f6g8h0j2k4m6"}})),
        "ActionRunShown" => Some(json!({"data": action_run()})),
        "ActionRunList" => Some(json!({
            "data": [action_run()],
            "links": {"next": null, "prev": null},
            "meta": {"count": 1, "limit": 50, "offset": 0}
        })),
        "ActionShown" => Some(json!({"data": action()})),
        "ActionList" => Some(json!({"data": [action()]})),
        "AuthenticationShown" => Some(json!({"data": authentication()})),
        "AuthenticationTest" => Some(json!({"data": {
            "type": "authentication_test",
            "id": "auth_01hzy3v9k2s8d4f6g8h0j2k4m6",
            "success": false,
            "detail": "url does not let these credentials in: it answered 401"
        }})),
        "AuthenticationList" => Some(json!({"data": [authentication()]})),
        _ => super::automation_examples::named(name)
            .or_else(|| super::worker_examples::named(name))
            .or_else(|| super::inbox_shapes::named(name)),
    }
}

fn gaps() -> Value {
    let nobodys = |sequence: i64, through: i64, state: &str| {
        json!({
            "sequence": sequence, "through": through, "state": state, "reason": null, "delivery_id": null, "event_id": null,
            "event_type": null, "attempts": null, "next_attempt_at": null
        })
    };
    json!({
        "data": [
            {
                "sequence": 17,
                "through": 17,
                "state": "dead",
                "reason": "http_500",
                "delivery_id": "dlv_01hzy3v9k2s8d4f6g8h0j2k4m601hzy3v9k2s8d4f6g8h0j2k4m7",
                "event_id": "evt_01hzy3v9k2s8d4f6g8h0j2k4m6",
                "event_type": "order.created",
                "attempts": 4,
                "next_attempt_at": null
            },
            nobodys(19, 1004, "void")
        ],
        "next_cursor": null,
        "has_more": false,
        "from": 17,
        "to": 1005,
        "last": 1005
    })
}

fn message() -> Value {
    json!({
        "id": "dlv_01hzy3v9k2s8d4f6g8h0j2k4m601hzy3v9k2s8d4f6g8h0j2k4m7",
        "event_id": "evt_01hzy3v9k2s8d4f6g8h0j2k4m6",
        "event_type": "order.created",
        "endpoint_id": "hook_01hzy3v9k2s8d4f6g8h0j2k4m7",
        "kind": "consumer",
        "url": "https://example.com/webhooks",
        "status": "Attempting",
        "state": "pending",
        "attempts": 1,
        "last_status": 500,
        "last_reason": "http_500",
        "next_attempt_at": "2025-11-12T15:45:05.731Z",
        "created_at": "2025-11-12T15:45:00.000Z",
        "settled_at": null
    })
}

fn recovery() -> Value {
    json!({
        "id": "rec_01hzy3v9k2s8d4f6g8h0j2k4m6",
        "endpoint_id": "hook_01hzy3v9k2s8d4f6g8h0j2k4m6",
        "which": "failed",
        "state": "running",
        "reason": null,
        "summary": "200 of 412 events have been looked at, 180 were put on their way.",
        "since": "2025-11-12T00:00:00.000Z",
        "until": "2025-11-12T15:45:00.000Z",
        "event_types": null,
        "per_second": 10,
        "total": 412,
        "examined": 200,
        "queued": 180,
        "skipped": 20,
        "under_way": 7,
        "requested_by": {"kind": "credential", "id": "key_01hzy3v9k2s8d4f6g8h0j2k4m6", "name": "API key support"},
        "created_at": "2025-11-12T15:45:00.000Z",
        "updated_at": "2025-11-12T15:45:18.200Z",
        "ended_at": null
    })
}

fn with_recovery(mut endpoint: Value) -> Value {
    endpoint["recovery"] = recovery();
    endpoint
}

fn action_run() -> Value {
    json!({
        "type": "run",
        "id": "arun_01hzy3v9k2s8d4f6g8h0j2k4m6",
        "run_id": "arun_01hzy3v9k2s8d4f6g8h0j2k4m6",
        "status": "success",
        "results": [{
            "event_id": "evt_01hzy3v9k2s8d4f6g8h0j2k4m6",
            "event_type": "order.created",
            "created_at": "2025-11-12T15:45:00.731Z"
        }],
        "errors": [],
        "action": "event.emit",
        "task_id": null,
        "created_at": "2025-11-12T15:45:00.000Z",
        "started_at": "2025-11-12T15:45:00.100Z",
        "completed_at": "2025-11-12T15:45:00.731Z",
        "callback": {
            "url": "https://your-app.example.com/zapier/callbacks",
            "delivery_id": "dlv_01hzy3v9k2s8d4f6g8h0j2k4m601hzy3v9k2s8d4f6g8h0j2k4m7",
            "status": "delivered",
            "attempts": 1
        }
    })
}

fn action() -> Value {
    json!({
        "type": "action",
        "id": "event.emit",
        "key": "event.emit",
        "title": "Emit an event",
        "description": "Stores an event and delivers it to every hook that wants it, as POST /events does.",
        "available": true,
        "input_schema": {"type": "object", "required": ["event_type", "payload"]}
    })
}

fn authentication() -> Value {
    json!({
        "type": "authentication",
        "id": "auth_01hzy3v9k2s8d4f6g8h0j2k4m6",
        "name": "Shop",
        "scheme": "bearer",
        "origin": "https://api.example.com",
        "created_at": "2025-11-12T15:45:00.000Z",
        "updated_at": "2025-11-12T15:45:00.000Z",
        "tested_at": "2025-11-12T15:45:00.000Z"
    })
}

fn key() -> Value {
    json!({
        "id": "key_01hzy3v9k2s8d4f6g8h0j2k4m6",
        "name": "crm",
        "prefix": "ct_Zm9vYmFy",
        "scopes": ["events:write"],
        "rate_limit": 600,
        "hook_write_limit": null,
        "hook_write_burst": null,
        "sample_limit": null,
        "created_at": "2025-11-12T14:30:00.000Z",
        "expires_at": "2027-01-01T00:00:00.000Z",
        "revoked_at": null,
        "last_used_at": null
    })
}

fn source_key() -> Value {
    json!({
        "id": "key_01hzy3v9k2s8d4f6g8h0j2k4m6",
        "name": "billing",
        "prefix": "src_Zm9vYmF",
        "event_types": ["invoice.*", "order.paid"],
        "rate_limit": 0,
        "created_at": "2025-11-12T14:30:00.000Z",
        "expires_at": null,
        "revoked_at": null,
        "last_used_at": null
    })
}

/// The same with the key, as in the answer that makes it.
fn shown(mut view: Value, key: &str) -> Value {
    view["key"] = key.into();
    view
}

fn audit_entry() -> Value {
    json!({
        "seq": 17,
        "tenant_id": "ten_01hzy3v9k2s8d4f6g8h0j2k4m6",
        "at": "2025-11-12T15:45:00.731204Z",
        "actor": {
            "kind": "credential",
            "id": "key_01hzy3v9k2s8d4f6g8h0j2k4m6",
            "name": "API key zapier",
            "address": "203.0.113.45",
            "request_id": "01939d2f9a7b7c4e8f1d2c3b4a596877"
        },
        "action": "hook.disabled",
        "object": {"kind": "hook", "id": "hook_01hzy3v9k2s8d4f6g8h0j2k4m6"},
        "before": {"state": "active"},
        "after": {"state": "disabled", "state_reason": "disabled by its owner"},
        "hash": "d9cb9af868c2b9ea005769e857222559da2dc4b23991baa985035df3596f2693"
    })
}

fn hook() -> Value {
    json!({
        "id": "hook_01hzy3v9k2s8d4f6g8h0j2k4m6",
        "url": "https://hooks.zapier.com/hooks/standard/1234567/abcdef0123456789/",
        "description": "Zapier: order.created",
        "event_type": "order.created",
        "pattern": "order.created",
        "filter": null,
        "state": "active",
        "state_reason": null,
        "delivery_count": 1042,
        "failure_count": 3,
        "consecutive_failures": 0,
        "last_delivered_at": "2025-11-12T15:45:00.731Z",
        "last_attempt_at": "2025-11-12T15:45:00.731Z",
        "last_status": 200,
        "last_reason": "delivered",
        "expires_at": null,
        "created_at": "2025-11-12T14:30:00.000Z",
        "updated_at": "2025-11-12T14:31:07.210Z"
    })
}

fn session() -> Value {
    let tenant = json!({"id": "ten_01hzy3v9k2s8d4f6g8h0j2k4m6", "client_id": "018ffc3d-a662-c9a4-d23c-c888420917d4", "name": "Acme", "role": "viewer"});
    json!({
        "user": {"id": "usr_01hzy3v9k2s8d4f6g8h0j2k4m6", "email": "ada@example.com", "name": "Ada", "locale": "en", "second_factor": true},
        "tenant": tenant,
        "role": "viewer",
        "scopes": ["hooks:read", "events:read"],
        "csrf_token": "q8y3n0c5Kk1uVtqk0R9yXqQqv1qS2f3e4d5c6b7a8Zw",
        "tenants": [tenant]
    })
}

fn user() -> Value {
    json!({
        "id": "usr_01hzy3v9k2s8d4f6g8h0j2k4m6",
        "email": "ada@example.com",
        "name": "Ada",
        "role": "developer",
        "second_factor": true,
        "disabled": false,
        "created_at": "2025-11-12T14:30:00.000Z",
        "last_login_at": "2025-11-12T15:45:00.731Z"
    })
}

fn invitation() -> Value {
    json!({
        "id": "inv_01hzy3v9k2s8d4f6g8h0j2k4m6",
        "email": "ada@example.com",
        "role": "developer",
        "created_at": "2025-11-12T14:30:00.000Z",
        "expires_at": "2025-11-19T14:30:00.000Z",
        "invite_url": "https://hooks.example.com/invitations/inv_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"
    })
}

fn delivery() -> Value {
    json!({
        "id": "dlv_01hzy3v9k2s8d4f6g8h0j2k4m601hzy3v9k2s8d4f6g8h0j2k4m7",
        "event_id": "evt_01hzy3v9k2s8d4f6g8h0j2k4m6",
        "event_type": "order.created",
        "kind": "hook",
        "hook_id": "hook_01hzy3v9k2s8d4f6g8h0j2k4m7",
        "sequence": 17,
        "url": "https://hooks.zapier.com/hooks/standard/1234567/abcdef0123456789/",
        "state": "dead",
        "attempts": 1,
        "deferrals": 0,
        "last_status": 404,
        "last_reason": "not found",
        "next_attempt_at": null,
        "settled_at": "2025-11-12T15:45:00.731Z"
    })
}

fn detail() -> Value {
    let mut detail = delivery();
    detail["tries"] = json!([{
        "number": 1,
        "started_at": "2025-11-12T15:45:00.540Z",
        "latency_ms": 191,
        "status": 404,
        "reason": "not found",
        "reply": "{\"status\":\"error\"}"
    }]);
    detail
}

pub(super) fn event() -> Value {
    json!({
        "id": "evt_01hzy3v9k2s8d4f6g8h0j2k4m6",
        "event_id": "evt_01hzy3v9k2s8d4f6g8h0j2k4m6",
        "event_type": "order.created",
        "timestamp": "2025-11-12T15:45:00.000Z",
        "payload": {"order": 1042},
        "metadata": {"correlation_id": "corr_xyz789", "source_ip": "203.0.113.45", "user_agent": "shop/2.1"},
        "created_at": "2025-11-12T15:45:00.250Z"
    })
}
