//! Answering the question of a task: by the API, by the link as a program, and by the link as a person.

use hookyard_domain::{
    id::InputId,
    task::{Question, Step, Usage, claim::ClaimedRun, respond::RespondLinks},
};
use hookyard_tests::{
    http::{Client, Reply},
    secrets::vault,
    system::System,
};
use serde_json::json;

use super::api::{held, report};

struct Asking {
    system: System,
    client: Client,
    held: ClaimedRun,
    input: InputId,
    path: String,
}

async fn asking(choices: Option<&[&str]>, schema: Option<&str>) -> Asking {
    let system = System::start().await;
    let client = system.client().await;
    let held = held(&system, &client, &json!({"title": "Pay <b>it</b>", "description": "d"})).await;
    let input = InputId::new(system.clock.now());
    let question = Question {
        question: "Which of the <i>two</i>?".to_owned(),
        choices: choices.map(|choices| choices.iter().map(ToString::to_string).collect()),
        schema: schema.map(str::to_owned),
    };
    report(&system, &held, Step::Ask { input, question, usage: Usage::default() }).await;
    let path = format!("/respond/{}", RespondLinks::new(&vault(), "").token(input));
    Asking { system, client, held, input, path }
}

impl Asking {
    async fn form(&self, text: &str) -> Reply {
        let request = self.system.anonymous().request("POST", &self.path);
        request
            .header("content-type", "application/x-www-form-urlencoded")
            .body(format!("answer={text}"))
            .send()
            .await
    }

    async fn json(&self, body: &str) -> Reply {
        self.system.anonymous().post(&self.path, body).await
    }

    async fn page(&self, language: &str) -> Reply {
        let request = self.system.anonymous().request("GET", &self.path);
        request.header("accept", "text/html,*/*").header("accept-language", language).send().await
    }

    async fn status(&self) -> String {
        let shown = self.client.get(&format!("/v1/automation/tasks/{}", self.held.task)).await.expect(200);
        shown["status"].as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn an_answer_by_the_api_is_taken_once() {
    let asking = asking(None, None).await;
    let path = format!("/v1/automation/tasks/{}/input", asking.held.task);
    let body = json!({"request_id": asking.input, "answer": {"invoice": 2}});
    let taken = asking.client.post_json(&path, &body).await.expect(200);
    assert_eq!(taken["status"], "queued");
    asking.client.post_json(&path, &body).await.expect(200);
    let other = json!({"request_id": asking.input, "answer": "the first"});
    assert_eq!(asking.client.post_json(&path, &other).await.error(), (409, "CONFLICT".to_owned()));
    for (body, status) in [
        (json!({"answer": 1}), 422),
        (json!({"request_id": asking.input}), 422),
        (json!({"request_id": "x", "answer": 1}), 422),
        (json!({"request_id": InputId::new(asking.system.clock.now()), "answer": 1}), 404),
    ] {
        assert_eq!(asking.client.post_json(&path, &body).await.status, status, "{body}");
    }
    let runs =
        asking.client.get(&format!("/v1/automation/tasks/{}/runs", asking.held.task)).await.expect(200);
    assert_eq!(runs["questions"][0]["answer"], json!({"invoice": 2}));
    assert_eq!(runs["questions"][0]["answered_by"], "API key test");
    let audit = asking.client.get("/v1/audit?action=task.answered").await.expect(200);
    assert_eq!(audit["data"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_program_answers_by_the_link_without_a_key_and_once() {
    let asking = asking(Some(&["the first", "the second"]), None).await;
    let shown = asking.system.anonymous().get(&asking.path).await.expect(200);
    assert_eq!((&shown["open"], &shown["choices"]), (&json!(true), &json!(["the first", "the second"])));
    assert_eq!(asking.json(r#"{"answer":"the third"}"#).await.error(), (422, "INVALID_FIELD".to_owned()));
    assert_eq!(asking.json("{}").await.error(), (422, "INVALID_FIELD".to_owned()));
    assert_eq!(asking.status().await, "needs_input", "looking at it and failing to answer answers nothing");
    assert_eq!(asking.json(r#"{"answer":"the second"}"#).await.expect(200)["status"], "queued");
    assert_eq!(asking.json(r#"{"answer":"the second"}"#).await.status, 200);
    assert_eq!(asking.json(r#"{"answer":"the first"}"#).await.error(), (409, "CONFLICT".to_owned()));
    assert_eq!(asking.system.anonymous().get(&asking.path).await.expect(200)["open"], false);
    let audit = asking.client.get("/v1/audit?action=task.answered").await.expect(200);
    assert_eq!(audit["data"][0]["actor"]["kind"], "nobody", "{audit}");
    let forged = format!("/respond/{}", "A".repeat(54));
    assert_eq!(
        asking.system.anonymous().post(&forged, r#"{"answer":1}"#).await.error(),
        (404, "NOT_FOUND".to_owned())
    );
    let plain = asking
        .system
        .anonymous()
        .request("POST", &asking.path)
        .header("content-type", "text/plain")
        .body("x");
    assert_eq!(plain.send().await.status, 415);
}

#[tokio::test]
async fn a_person_answers_with_a_form_in_english_or_french() {
    let asking = asking(None, Some(r#"{"type":"integer"}"#)).await;
    let page = asking.page("en").await;
    assert!(
        page.text().contains("A task asks you") && page.text().contains("Which of the &lt;i&gt;two"),
        "{}",
        page.text()
    );
    assert!(asking.page("fr-CA").await.text().contains("Une tâche vous pose une question"));
    let wrong = asking.form("two").await;
    assert!(wrong.status == 422 && wrong.text().contains("does not follow the schema"), "{}", wrong.text());
    assert!(wrong.text().contains(">two</textarea>"), "what was typed is still there: {}", wrong.text());
    assert_eq!(asking.status().await, "needs_input");
    for (name, value) in [("x-frame-options", "DENY"), ("cache-control", "no-store")] {
        assert_eq!(page.header(name), Some(value));
    }
    let empty = asking.form("+").await;
    assert!(empty.status == 422 && empty.text().contains("Please write or choose"), "{}", empty.text());
    let taken = asking.form("2").await;
    assert!(taken.status == 200 && taken.text().contains("Thank you"), "{}", taken.text());
    assert_eq!(asking.status().await, "queued");
    let runs =
        asking.client.get(&format!("/v1/automation/tasks/{}/runs", asking.held.task)).await.expect(200);
    assert_eq!(runs["questions"][0]["answer"], json!(2), "it has a schema: the text is read as JSON");
    assert_eq!(asking.form("2").await.status, 200);
    let other = asking.form("3").await;
    assert!(other.status == 409 && other.text().contains("answered already"), "{}", other.text());
    assert_eq!(asking.page("en").await.status, 409);
    let forged =
        asking.system.anonymous().request("GET", "/respond/x").header("accept", "text/html").send().await;
    assert!(forged.status == 404 && forged.text().contains("<!DOCTYPE html>"), "{}", forged.text());
}

#[tokio::test]
async fn a_question_that_is_too_old_or_of_an_ended_task_is_gone() {
    let asking = asking(None, None).await;
    asking.client.delete(&format!("/v1/automation/tasks/{}", asking.held.task)).await.expect(200);
    assert_eq!(asking.json(r#"{"answer":1}"#).await.error(), (410, "INPUT_CLOSED".to_owned()));
    assert_eq!(asking.form("1").await.status, 410);
    assert!(asking.page("en").await.text().contains("can no longer be answered"));
    let late = self::asking(None, None).await;
    late.system.clock.advance(chrono::TimeDelta::days(7));
    assert_eq!(late.json(r#"{"answer":1}"#).await.error(), (410, "INPUT_CLOSED".to_owned()));
}

const ORDER: &str =
    r##"{"type":"object","properties":{"amount":{"type":"integer","minimum":5}},"required":["amount"]}"##;

#[tokio::test]
async fn an_answer_that_breaks_the_schema_is_refused_wherever_it_comes_in() {
    let asking = asking(None, Some(ORDER)).await;
    let api = format!("/v1/automation/tasks/{}/input", asking.held.task);
    for (answer, reason) in [
        (json!("five"), "does not follow the schema (type: \"object\")"),
        (json!({}), "does not follow the schema (required: [\"amount\"])"),
        (json!({"amount": 4}), "does not follow the schema at /amount (minimum: 5)"),
        (json!({"amount": 5.5}), "does not follow the schema at /amount (type: \"integer\")"),
    ] {
        let by_key =
            asking.client.post_json(&api, &json!({"request_id": asking.input, "answer": answer})).await;
        let by_link = asking.json(&json!({"answer": answer}).to_string()).await;
        for refused in [by_key, by_link] {
            assert_eq!(refused.error(), (422, "INVALID_FIELD".to_owned()), "{answer}");
            let told = refused.json()["details"].clone();
            assert_eq!((&told["field"], &told["reason"]), (&json!("answer"), &json!(reason)), "{answer}");
        }
    }
    let french = asking
        .system
        .anonymous()
        .request("POST", &asking.path)
        .header("content-type", "application/x-www-form-urlencoded")
        .header("accept-language", "fr")
        .body("answer=%7B%22amount%22%3A4%7D");
    let page = french.send().await;
    assert_eq!(page.status, 422);
    assert!(page.text().contains("ne suit pas le schéma à /amount (minimum: 5)"), "{}", page.text());
    assert_eq!(asking.status().await, "needs_input");
    let taken = asking.form("%7B%22amount%22%3A5%7D").await;
    assert!(taken.status == 200, "{}", taken.text());
    let runs =
        asking.client.get(&format!("/v1/automation/tasks/{}/runs", asking.held.task)).await.expect(200);
    assert_eq!(runs["questions"][0]["answer"], json!({"amount": 5}));
}

#[tokio::test]
async fn an_answer_may_be_as_large_as_64_kib_and_no_larger() {
    let asking = asking(None, None).await;
    // With its quotation marks it has one byte too many.
    let large = |bytes: usize| json!({"answer": "x".repeat(bytes - 2)}).to_string();
    let refused = asking.json(&large(65_537)).await;
    assert_eq!(refused.error(), (422, "INVALID_FIELD".to_owned()));
    assert_eq!(asking.json(&large(65_536)).await.status, 200);
}

#[tokio::test]
async fn a_flat_schema_is_a_form_with_a_field_for_each_property() {
    let schema = json!({"type": "object", "required": ["day", "seats"], "properties": {
        "day": {"type": "string", "format": "date", "title": "Travel day", "description": "Local <b>time</b>"},
        "seats": {"type": "integer", "minimum": 2},
        "window": {"type": "boolean"},
        "class": {"enum": ["first", "second"], "default": "second"}}});
    let asking = asking(None, Some(&schema.to_string())).await;
    let page = asking.page("fr").await.text();
    for part in [
        r#"name="member.day" type="date""#,
        "Travel day (obligatoire)",
        "Local &lt;b&gt;time",
        r#"name="member.seats" type="number" step="1""#,
        r#"<option value="true">Oui</option>"#,
        r#"<option value="second" selected>second</option>"#,
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(!page.contains("JSON"), "nobody has to write JSON: {page}");
    let send = async |body: &'static str| {
        let request = asking.system.anonymous().request("POST", &asking.path);
        request.header("content-type", "application/x-www-form-urlencoded").body(body).send().await
    };
    let refused = send("member.day=2026-12-24&member.seats=1&member.window=&member.class=first").await;
    assert_eq!(refused.status, 422);
    let told = refused.text();
    assert!(told.contains("at /seats (minimum: 2)"), "{told}");
    assert!(told.contains(r#"value="2026-12-24""#), "what was typed is still there: {told}");
    for nothing in ["", "member.=1", "other=1"] {
        let request = asking.system.anonymous().request("POST", &asking.path);
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(nothing);
        assert_eq!(request.send().await.status, 422, "{nothing}");
    }
    assert_eq!(asking.status().await, "needs_input");
    let taken = send("member.day=2026-12-24&member.seats=2&member.window=false&member.class=").await;
    assert!(taken.status == 200 && taken.text().contains("Thank you"), "{}", taken.text());
    let runs =
        asking.client.get(&format!("/v1/automation/tasks/{}/runs", asking.held.task)).await.expect(200);
    assert_eq!(runs["questions"][0]["answer"], json!({"day": "2026-12-24", "seats": 2, "window": false}));
}
