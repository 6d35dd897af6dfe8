//! The events of tasks (source 1) and those by which Hookyard tells what became of hooks.

use super::Line;

pub(super) fn lines() -> Vec<Line> {
    vec![
        task("started", &["task_started"], "A worker took a task.", "running", "null", "null"),
        Line::new(
            "task.progress",
            &["task_progress"],
            "A running task told how far it is.",
            concat!(
                r#"{"event":"task_progress","run_id":"660e8400-e29b-41d4-a716-446655440001","#,
                r#""task_id":"550e8400-e29b-41d4-a716-446655440000","status":"running","result":null,"error":null,"#,
                r#""timestamp":"2025-01-15T10:33:00.000Z","percent":40,"message":"reading the third chapter"}"#
            ),
        ),
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
        Line::new(
            "task.needs_input",
            &["task_needs_input"],
            "A task waits for an answer.",
            concat!(
                r#"{"event":"task_needs_input","run_id":"660e8400-e29b-41d4-a716-446655440001","#,
                r#""task_id":"550e8400-e29b-41d4-a716-446655440000","status":"needs_input","result":null,"error":null,"#,
                r#""timestamp":"2025-01-15T10:35:00.000Z","request_id":"770e8400-e29b-41d4-a716-446655440002","#,
                r#""question":"Which of the two invoices is the right one?","choices":["the first","the second"],"#,
                r#""schema":null,"expires_at":"2025-01-22T10:35:00.000Z","#,
                r#""respond_url":"https://hookyard.example.com/respond/dwDoQOKbQdSncUQcRGVUAALoRtXxXW0pVvQq1tJvJkzPQp0sYbXk1g"}"#
            ),
        ),
        task("cancelled", &["task_cancelled"], "A task was cancelled.", "cancelled", "null", "null"),
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
    Line::new(format!("task.{word}"), aliases, description, example)
}

fn hook(name: &str, description: &str, reason: &str) -> Line {
    let example = format!(
        concat!(
            r#"{{"hook_id":"hook_01hzy3v9k2s8d4f6g8h0j2k4m6","url":"https://hooks.zapier.com/hooks/standard/1/ab12cd34/","#,
            r#""reason":"{reason}","cancelled_deliveries":3}}"#
        ),
        reason = reason
    );
    Line::new(name, &[], description, example)
}
