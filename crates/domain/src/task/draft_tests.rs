use super::*;
use crate::{subscription::UrlRules, task::model, wire::parse};

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp_millis(1_800_000_000_000).unwrap()
}

fn draft(text: &str) -> Result<Draft, String> {
    let models = Models::new(&model::Settings::default()).unwrap();
    let urls = WebhookUrls::new(UrlRules::default());
    Draft::parse(parse(text.as_bytes()).unwrap(), &models, &urls, now()).map_err(|error| error.to_string())
}

/// A task with this member besides what is required.
fn with(member: &str) -> Result<Draft, String> {
    draft(&format!(r#"{{"title":"t","description":"d",{member}}}"#))
}

#[test]
fn the_body_of_source_1_is_taken_as_it_is() {
    let task = draft(
        r#"{
          "title": "Analyze customer feedback",
          "description": "Analyze the following customer feedback and summarize key points: {{feedback_text}}",
          "agent_type": "general",
          "model": "claude-sonnet",
          "webhook_url": "https://hooks.zapier.com/hooks/catch/123/abc/",
          "priority": 0
        }"#,
    )
    .unwrap()
    .accept(TenantId::new(now()), None, TraceContext::fresh(), now());
    assert_eq!(task.title, "Analyze customer feedback");
    assert!(task.description.ends_with(": {{feedback_text}}"));
    assert_eq!((task.agent_type, task.model.alias.as_str()), (AgentType::General, "claude-sonnet"));
    let webhook = task.webhook.as_ref().unwrap();
    assert_eq!(webhook.url.as_str(), "https://hooks.zapier.com/hooks/catch/123/abc/");
    assert_eq!(webhook.events, Events::USUAL);
    assert_eq!((task.timeout_s, task.metadata.clone(), task.built_in()), (600, None, true));
}

#[test]
fn a_callback_of_zapier_is_told_the_end_whatever_was_chosen() {
    let task = with(
        r#""webhook_url":"https://zapier.com/hooks/callback/1/2/3/","webhook_events":["task_started","task_progress"]"#,
    )
    .unwrap();
    assert_eq!(task.webhook.unwrap().events, Events::TERMINAL);
}

#[test]
fn every_bound_holds_at_its_end_and_not_beyond() {
    let text = |field: &str, chars: usize| {
        let other = if field == "title" { "description" } else { "title" };
        draft(&format!(r#"{{"{field}":"{}","{other}":"x"}}"#, "é".repeat(chars))).is_ok()
    };
    assert!(text("title", 1) && text("title", 200) && !text("title", 201) && !text("title", 0));
    assert!(text("description", 100_000) && !text("description", 100_001) && !text("description", 0));
    let member = |name: &str, value: &str| with(&format!(r#""{name}":{value}"#)).is_ok();
    for (name, good, bad) in [
        ("priority", &["0", "100", "null"][..], &["-1", "101", "1.5", "\"1\""][..]),
        ("task_timeout_seconds", &["60", "604800"], &["59", "604801"]),
        ("max_seconds", &["1", "604800"], &["0", "604801"]),
        ("max_tokens", &["1", "1000000000"], &["0", "1000000001", "1.5"]),
        ("max_cost", &["0.000001", "1000000"], &["0", "-1", "1000001", "\"1\""]),
        ("agent_type", &["\"build\"", "\"plan\"", "null"], &["\"General\"", "\"\"", "1"]),
        ("model", &["\"gpt-4o\"", "null"], &["\"gpt\"", "1"]),
        ("deadline_at", &["\"2027-01-15T08:00:01Z\""], &["\"2027-01-15T08:00:00Z\"", "\"tomorrow\"", "1"]),
        ("metadata", &["{}", "{\"a\":{\"b\":1}}"], &["[]", "\"x\"", "1"]),
        (
            "notify_email",
            &["\"ada@example.com\"", "\"a.b+c@mail.example.co.uk\"", "\"é@exämple.fr\""],
            &[
                "\"ada\"",
                "\"ada@localhost\"",
                "\"a b@example.com\"",
                "\"a@b@example.com\"",
                "\"a@.com\"",
                "\"a@example.com\\n\"",
                "1",
            ],
        ),
        ("notify_language", &["\"en\"", "\"fr\"", "null"], &["\"de\"", "\"FR\"", "\"\"", "1"]),
        ("webhook_events", &["[\"task_progress\"]"], &["[]", "[\"x\"]", "\"task_progress\""]),
        (
            "webhook_url",
            &["\"https://example.com/x\""],
            &["\"http://example.com/x\"", "\"https://10.0.0.1/\"", "\"\"", "1"],
        ),
        ("webhook_secret", &["\"s\""], &["\"\"", "1"]),
        ("capabilities", &["[]", "[\"gpu\",\"gpu\"]"], &["[\"\"]", "\"gpu\"", "[1]"]),
    ] {
        for value in good {
            assert!(member(name, value), "{name}: {value}");
        }
        for value in bad {
            assert!(!member(name, value), "{name}: {value}");
        }
    }
    // {"k":"…"} is 8 bytes around the text.
    let metadata = |bytes: usize| with(&format!(r#""metadata":{{"k":"{}"}}"#, "x".repeat(bytes - 8))).is_ok();
    assert!(metadata(MAX_METADATA_BYTES) && !metadata(MAX_METADATA_BYTES + 1));
    let capabilities = |count: usize, chars: usize| {
        let list: Vec<String> = (0..count).map(|n| format!("\"{n}{}\"", "c".repeat(chars - 1))).collect();
        with(&format!(r#""capabilities":[{}]"#, list.join(","))).is_ok()
    };
    assert!(capabilities(9, 64) && capabilities(10, 2) && !capabilities(11, 3) && !capabilities(1, 65));
}

#[test]
fn what_is_wrong_is_named() {
    for (text, told) in [
        ("[]", "task must be a JSON object"),
        ("{}", "title is missing"),
        (r#"{"title":null}"#, "title is missing"),
        (r#"{"title":5}"#, "title must be a string"),
        (r#"{"title":"  "}"#, "title must have 1 to 200 characters"),
        (r#"{"title":"t"}"#, "description is missing"),
        (
            r#"{"title":"t","description":"d","model":"gpt-5"}"#,
            "model must be one of claude-haiku, claude-opus, claude-sonnet, gpt-4o, gpt-4o-mini, offline",
        ),
        (
            r#"{"title":"t","description":"d","webhook_url":"https://localhost/x"}"#,
            "webhook_url must be on a public host",
        ),
    ] {
        assert_eq!(draft(text).unwrap_err(), told, "{text}");
    }
}

#[test]
fn what_no_database_holds_is_replaced() {
    let task = draft(r#"{"title":"a\u0000b\ud83d","description":"d","metadata":{"k\u0000":"\u0000","n":1}}"#)
        .unwrap()
        .accept(TenantId::new(now()), None, TraceContext::fresh(), now());
    assert_eq!(task.title, "a\u{fffd}b\u{fffd}");
    assert_eq!(task.metadata.as_deref(), Some(r#"{"k\u0000":"\u0000","n":1}"#), "as it was given");
    assert_eq!(task.labels, Some(serde_json::json!({"k": "", "n": 1})));
}
