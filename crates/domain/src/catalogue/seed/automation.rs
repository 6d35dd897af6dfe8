//! The events of tasks (source 1) and those by which Hookyard tells what became of hooks and of what it was asked.

use super::{Line, list_of, one_of, shape};

pub(super) fn lines() -> Vec<Line> {
    vec![
        task("started", &["task_started"], "A worker took a task.", "running", "null", "null"),
        Line {
            schema: of_task("task_progress", &[("percent?", "number?"), ("message?", "string?")]),
            example: concat!(
                r#"{"event":"task_progress","run_id":"660e8400-e29b-41d4-a716-446655440001","#,
                r#""task_id":"550e8400-e29b-41d4-a716-446655440000","status":"running","result":null,"error":null,"#,
                r#""timestamp":"2025-01-15T10:33:00.000Z","percent":40,"message":"reading the third chapter"}"#
            )
            .to_owned(),
            ..of_tasks("task.progress", &["task_progress"], "A running task told how far it is.")
        },
        task(
            "completed",
            &["task_completed"],
            "A task was completed; the result is there.",
            "completed",
            r#""The quarter closed 12 % above plan.""#,
            "null",
        ),
        task(
            "failed",
            &["task_failed"],
            "A task failed for good.",
            "failed",
            "null",
            r#""the attempt took too long""#,
        ),
        Line {
            schema: of_task(
                "task_needs_input",
                &[
                    ("request_id", "string"),
                    ("question", "string"),
                    ("choices?", r#"{"type":["array","null"],"items":{"type":"string"}}"#),
                    ("schema?", "object?"),
                    ("expires_at", "time"),
                    ("respond_url", "url"),
                ],
            ),
            example: concat!(
                r#"{"event":"task_needs_input","run_id":"660e8400-e29b-41d4-a716-446655440001","#,
                r#""task_id":"550e8400-e29b-41d4-a716-446655440000","status":"needs_input","result":null,"error":null,"#,
                r#""timestamp":"2025-01-15T10:35:00.000Z","request_id":"770e8400-e29b-41d4-a716-446655440002","#,
                r#""question":"Which of the two invoices is the right one?","choices":["the first","the second"],"#,
                r#""schema":null,"expires_at":"2025-01-22T10:35:00.000Z","#,
                r#""respond_url":"https://hookyard.example.com/respond/dwDoQOKbQdSncUQcRGVUAALoRtXxXW0pVvQq1tJvJkzPQp0sYbXk1g"}"#
            )
            .to_owned(),
            ..of_tasks("task.needs_input", &["task_needs_input"], "A task waits for an answer.")
        },
        task("cancelled", &["task_cancelled"], "A task was cancelled.", "cancelled", "null", "null"),
        action_run(),
        Line {
            name: "rateLimit.reached".to_owned(),
            aliases: &[],
            feature_group: "Limits",
            description: "A key has made as many requests as it may in a minute; told once in an hour.".to_owned(),
            schema: shape(&[
                ("key_id", "string"),
                ("key_name", "string"),
                ("limit", &one_of(&["requests", "hook_writes", "samples"])),
                ("requests", "integer"),
                ("window_seconds", "integer"),
                ("resets_at", "time"),
            ]),
            example: concat!(
                r#"{"key_id":"key_01hzy3v9k2s8d4f6g8h0j2k4m6","key_name":"crm","limit":"requests","requests":60,"#,
                r#""window_seconds":60,"resets_at":"2025-01-15T10:36:00.000Z"}"#
            )
            .to_owned(),
        },
        Line {
            name: "delivery.failed".to_owned(),
            aliases: &[],
            feature_group: "Hooks",
            description: "Deliveries to a hook have ended without success and are dead letters now.".to_owned(),
            schema: shape(&[
                ("hook_id", "string"),
                ("url", "url"),
                ("count", "integer"),
                ("event_ids", &list_of(r#"{"type":"string"}"#)),
                ("last_reason", "string"),
                ("last_status", "integer?"),
            ]),
            example: concat!(
                r#"{"hook_id":"hook_01hzy3v9k2s8d4f6g8h0j2k4m6","url":"https://hooks.zapier.com/hooks/standard/1/ab12cd34/","#,
                r#""count":1,"event_ids":["evt_01hzy3v9k2s8d4f6g8h0j2k4m6"],"last_reason":"http_500","last_status":500}"#
            )
            .to_owned(),
        },
        warning(),
        hook(
            "hook.disabled",
            "A hook was disabled, by its receiver's refusals or by its owner; nothing is delivered to it any more.",
            "the receiver refused 5 deliveries in a row",
        ),
        hook(
            "hook.removed",
            "A hook is gone: its receiver said so, or its time was over.",
            "the receiver answered 410",
        ),
    ]
}

/// A line about tasks that lacks its schema and its example.
fn of_tasks(name: &str, aliases: &'static [&'static str], description: &str) -> Line {
    Line {
        name: name.to_owned(),
        aliases,
        feature_group: "Tasks",
        description: description.to_owned(),
        schema: String::new(),
        example: String::new(),
    }
}

/// The schema of the events of tasks, with what one of them has besides.
fn of_task(event: &str, more: &[(&str, &str)]) -> String {
    let event = one_of(&[event]);
    let members = [
        ("event", event.as_str()),
        ("run_id", "string"),
        ("task_id", "string"),
        ("status", "string"),
        ("result", "any"),
        ("error", "string?"),
        ("timestamp", "time"),
    ];
    shape(&members.into_iter().chain(more.iter().copied()).collect::<Vec<_>>())
}

fn task(
    word: &str,
    aliases: &'static [&'static str],
    description: &str,
    status: &str,
    result: &str,
    error: &str,
) -> Line {
    let example = format!(
        concat!(
            r#"{{"event":"task_{word}","run_id":"660e8400-e29b-41d4-a716-446655440001","#,
            r#""task_id":"550e8400-e29b-41d4-a716-446655440000","status":"{status}","result":{result},"error":{error},"#,
            r#""timestamp":"2025-01-15T10:35:00.000Z"}}"#
        ),
        word = word,
        status = status,
        result = result,
        error = error
    );
    Line {
        schema: of_task(&format!("task_{word}"), &[]),
        example,
        ..of_tasks(&format!("task.{word}"), aliases, description)
    }
}

fn action_run() -> Line {
    let error = shape(&[("code", "string"), ("title", "string"), ("detail", "string")]);
    let data = shape(&[
        ("type", &one_of(&["run"])),
        ("id", "string"),
        ("status", &one_of(&["success", "error"])),
        ("results", &list_of(r#"{"type":"object"}"#)),
        ("errors", &list_of(&error)),
    ]);
    Line {
        name: "action_run.finished".to_owned(),
        aliases: &[],
        feature_group: "Action runs",
        description: "A run of an action has ended, well or not.".to_owned(),
        schema: shape(&[("data", &data)]),
        example: concat!(
            r#"{"data":{"type":"run","id":"arun_01hzy3v9k2s8d4f6g8h0j2k4m6","status":"success","#,
            r#""results":[{"event_id":"evt_01hzy3v9k2s8d4f6g8h0j2k4m6","event_type":"order.created","#,
            r#""created_at":"2025-01-15T10:35:00.000Z"}],"errors":[]}}"#
        )
        .to_owned(),
    }
}

fn warning() -> Line {
    Line {
        name: "hook.warning".to_owned(),
        aliases: &[],
        feature_group: "Hooks",
        description: "Deliveries to a hook fail; it is at 50, 70 or 90 percent of the way to being disabled.".to_owned(),
        schema: shape(&[
            ("hook_id", "string"),
            ("url", "url"),
            ("percent", "integer"),
            ("reason", "string"),
            ("last_reason", "string"),
            ("last_status", "integer?"),
            ("consecutive_failures", "integer"),
            ("failing_since", "time?"),
            ("refusals_left", "integer?"),
            ("disables_at", "time?"),
        ]),
        example: concat!(
            r#"{"hook_id":"hook_01hzy3v9k2s8d4f6g8h0j2k4m6","url":"https://hooks.zapier.com/hooks/standard/1/ab12cd34/","#,
            r#""percent":50,"reason":"The receiver refuses us: it wants a credential, or does not accept ours.","#,
            r#""last_reason":"http_401","last_status":401,"consecutive_failures":3,"#,
            r#""failing_since":"2025-01-15T10:35:00.000Z","refusals_left":2,"disables_at":null}"#
        )
        .to_owned(),
    }
}

fn hook(name: &str, description: &str, reason: &str) -> Line {
    let example = format!(
        concat!(
            r#"{{"hook_id":"hook_01hzy3v9k2s8d4f6g8h0j2k4m6","url":"https://hooks.zapier.com/hooks/standard/1/ab12cd34/","#,
            r#""reason":"{reason}","cancelled_deliveries":3}}"#
        ),
        reason = reason
    );
    Line {
        name: name.to_owned(),
        aliases: &[],
        feature_group: "Hooks",
        description: description.to_owned(),
        schema: shape(&[
            ("hook_id", "string"),
            ("url", "url"),
            ("reason", "string"),
            ("cancelled_deliveries", "integer"),
        ]),
        example,
    }
}
