//! The language of mail about a task: as the task says, else as the request prefers, else English.

use hookyard_domain::{email, id::ClaimId};
use hookyard_tests::{
    http::Client,
    secrets::vault,
    system::{Options, System},
};
use serde_json::{Value, json};

async fn with_mail() -> System {
    let mut options = Options::default();
    options.gateway.mail.host = Some("mail.example.com".to_owned());
    options.gateway.mail.from = Some("hookyard@example.com".to_owned());
    System::with(options).await
}

/// What is posted by whoever prefers this language.
async fn post(client: &Client, path: &str, language: &str, body: &Value) -> Value {
    let request = client.request("POST", path).header("accept-language", language);
    request.json(body.to_string()).send().await.expect(201)
}

/// The subject of the one mail that waits.
async fn subject(system: &System) -> String {
    let now = system.clock.now();
    let claim = move |conn: &mut hookyard_domain::db::Conn| {
        email::store::claim_due(conn, &vault(), ClaimId::new(now), now, now + chrono::TimeDelta::hours(1), 10)
    };
    let mails = system.db.run(claim).await.unwrap();
    assert_eq!(mails.len(), 1, "{mails:?}");
    mails[0].email.subject.clone()
}

#[tokio::test]
async fn mail_is_written_in_the_language_that_was_chosen() {
    const FRENCH: &str = "Tâche annulée\u{a0}: Prêt";
    let system = with_mail().await;
    let client = system.client().await;
    for (prefers, chosen, expected, shown) in [
        ("", json!(null), "Task cancelled: Prêt", json!(null)),
        ("fr-CA,fr;q=0.9,en;q=0.5", json!(null), FRENCH, json!("fr")),
        ("fr", json!("en"), "Task cancelled: Prêt", json!("en")),
        ("en", json!("fr"), FRENCH, json!("fr")),
        ("de", json!(null), "Task cancelled: Prêt", json!(null)),
    ] {
        let body = json!({"title": "Prêt", "description": "d", "notify_email": "ada@example.com",
            "notify_language": chosen});
        let task = post(&client, "/v1/automation/tasks", prefers, &body).await;
        let path = format!("/v1/automation/tasks/{}", task["task_id"].as_str().unwrap());
        let cancelled = client.delete(&path).await.expect(200);
        assert_eq!(cancelled["notify_language"], shown, "{prefers} {chosen}");
        assert_eq!(subject(&system).await, expected, "{prefers} {chosen}");
    }
    let bad = json!({"title": "t", "description": "d", "notify_language": "de"});
    let refused = client.post_json("/v1/automation/tasks", &bad).await;
    assert_eq!((refused.status, &refused.json()["details"]["field"]), (422, &json!("notify_language")));
    // Whoever wants no mail has said nothing of a language.
    let body = json!({"title": "t", "description": "d"});
    let task = post(&client, "/v1/automation/tasks", "fr", &body).await;
    let path = format!("/v1/automation/tasks/{}", task["task_id"].as_str().unwrap());
    assert_eq!(client.get(&path).await.expect(200)["notify_language"], json!(null));
}

#[tokio::test]
async fn a_schedule_keeps_the_language_of_whoever_made_it() {
    let system = with_mail().await;
    let client = system.client().await;
    let body = json!({"name": "n", "cron": "0 9 * * *",
        "task": {"title": "Prêt", "description": "d", "notify_email": "ada@example.com"}});
    let schedule = post(&client, "/v1/automation/schedules", "fr", &body).await;
    assert_eq!(schedule["task"]["notify_language"], "fr");
    let id = schedule["id"].as_str().unwrap();
    let made = post(&client, &format!("/v1/automation/schedules/{id}/run"), "en", &json!({})).await;
    client.delete(&format!("/v1/automation/tasks/{}", made["task_id"].as_str().unwrap())).await.expect(200);
    assert_eq!(subject(&system).await, "Tâche annulée\u{a0}: Prêt");
    let change = json!({"task": {"title": "Prêt", "description": "d", "notify_email": "ada@example.com"}});
    let request = client.request("PATCH", &format!("/v1/automation/schedules/{id}"));
    let changed = request.header("accept-language", "en").json(change.to_string()).send().await.expect(200);
    assert_eq!(changed["task"]["notify_language"], json!(null));
}
