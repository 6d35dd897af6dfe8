//! How consumers fare: when their owners are warned, when they begin anew, what is told of what is wrong, and the command that repeats
//! a failed try.

use std::process::Command;

use chrono::TimeDelta;
use hookyard_domain::{email, person::Role};
use hookyard_messaging::Bus;
use hookyard_tests::receiver::Answer;
use serde_json::{Value, json};

use super::consumer;
use crate::{
    hook_health::mails,
    pipeline::stage::{Stage, text, time, until},
};

const DAY_MS: i64 = 86_400_000;

async fn health(stage: &Stage, id: &str) -> Value {
    stage.client.get(&format!("/webhooks/{id}/health")).await.expect(200)
}

async fn counted(stage: &Stage, id: &str, failures: i64) -> Value {
    until("the failures are counted", async || {
        let shown = health(stage, id).await;
        if shown["consecutive_failures"].as_i64() >= Some(failures) { Ok(shown) } else { Err(shown) }
    })
    .await
}

/// A stage that writes mails.
async fn with_mail() -> Stage {
    Stage::with(Bus::in_process(), |_, engine| {
        engine.runner.mail = email::Settings {
            host: Some("127.0.0.1".to_owned()),
            from: Some("hookyard@example.com".to_owned()),
            ..email::Settings::default()
        };
        // Left alone by its breaker, it would have no try at the hour that a test has chosen.
        engine.delivery.breaker_failures = 1_000;
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_is_warned_at_half_seven_tenths_and_nine_tenths_of_five_days_once_each() {
    let stage = with_mail().await;
    stage.system.person("ada@example.com", Role::Admin).await;
    stage.hook("news", json!({"event_type": "hook.*"})).await;
    stage.answer("hopeless", 500);
    let id = consumer(&stage, "hopeless", json!({})).await;
    let event = stage.post("order.created", json!({})).await;
    stage.tried(&event, &id, 1).await;
    let first = counted(&stage, &id, 1).await;
    let since = time(&first["first_failure_at"]);
    let mut told = Vec::new();
    for (hours, percent, warned) in
        [(59, 49, 0), (60, 50, 50), (61, 50, 50), (84, 70, 70), (85, 70, 70), (108, 90, 90), (109, 90, 90)]
    {
        stage.advance_beyond(since + TimeDelta::hours(hours));
        let event = stage.post("order.created", json!({})).await;
        let delivery = stage.tried(&event, &id, 1).await;
        let tried = time(&delivery["tries"][0]["started_at"]);
        let shown = until("the try is counted", async || {
            let shown = health(&stage, &id).await;
            if time(&shown["last_attempt_at"]) >= tried { Ok(shown) } else { Err(shown) }
        })
        .await;
        let disabling = &shown["disabling"];
        assert_eq!(
            (&disabling["percent"], &disabling["warned"], &disabling["refusals_left"]),
            (&json!(percent), &json!(warned), &Value::Null),
            "{hours} h"
        );
        assert_eq!(time(&disabling["disables_at"]), since + TimeDelta::days(5), "{shown}");
        if warned > 0 && told.last() != Some(&warned) {
            told.push(warned);
            let news = stage.received("news", told.len()).await.remove(told.len() - 1).json();
            let payload = &news["payload"];
            assert_eq!(
                (
                    &news["event_type"],
                    text(&payload["hook_id"]),
                    &payload["percent"],
                    &payload["last_status"]
                ),
                (&json!("hook.warning"), id.as_str(), &json!(warned), &json!(500))
            );
            assert_eq!(
                (&payload["failing_since"], &payload["disables_at"], &payload["refusals_left"]),
                (&shown["first_failure_at"], &disabling["disables_at"], &Value::Null)
            );
            let described = stage.client.get("/v1/event-types/hook.warning").await.expect(200);
            assert!(jsonschema::validator_for(&described["schema"]).unwrap().is_valid(payload), "{payload}");
        }
        // What is counted is told in the same transaction.
        let stored = stage.client.get("/v1/events?event_type=hook.warning").await.expect(200);
        assert_eq!(stored["data"].as_array().unwrap().len(), told.len(), "{hours} h: {stored}");
    }
    assert_eq!(stage.receiver.count("news"), 3);
    let mails = mails(&stage.system).await;
    let subjects: Vec<&str> = mails.iter().map(|mail| mail.1.as_str()).collect();
    let expected = [50, 70, 90].map(|n: u8| format!("A webhook fails: {n} % of the way to being disabled"));
    assert_eq!(subjects, expected);
    for (_, _, mail) in &mails {
        assert!(mail.contains(&format!("/webhooks/{id}/health")) && !mail.contains("/v1/hooks/"), "{mail}");
    }
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_enabled_after_five_days_of_failures_begins_anew_and_its_mail_leads_to_its_health() {
    let stage = with_mail().await;
    stage.system.person("ada@example.com", Role::Admin).await;
    stage.answer("hopeless", 500);
    let id = consumer(&stage, "hopeless", json!({})).await;
    let event = stage.post("order.created", json!({})).await;
    stage.tried(&event, &id, 1).await;
    counted(&stage, &id, 1).await;
    stage.advance(5 * DAY_MS + 1);
    stage.post("order.created", json!({})).await;
    let shown = until("it is disabled", async || {
        let shown = health(&stage, &id).await;
        if shown["state"] == "disabled" { Ok(shown) } else { Err(shown) }
    })
    .await;
    assert!(text(&shown["state_reason"]).contains("five days"), "{shown}");
    let mails = mails(&stage.system).await;
    let mail = &mails.last().unwrap().2;
    assert!(mail.contains(&format!("/webhooks/{id}/health")) && !mail.contains("/v1/hooks/"), "{mail}");
    stage.client.post(&format!("/webhooks/{id}/enable"), "").await.expect(200);
    let anew = health(&stage, &id).await;
    assert_eq!(
        (
            &anew["state"],
            &anew["consecutive_failures"],
            &anew["first_failure_at"],
            &anew["disabling"]["percent"]
        ),
        (&json!("pending"), &json!(0), &Value::Null, &json!(0))
    );
    let event = stage.post("order.created", json!({})).await;
    stage.tried(&event, &id, 1).await;
    let failed = counted(&stage, &id, 1).await;
    assert_eq!(
        (&failed["state"], &failed["disabling"]["percent"], &failed["disabling"]["warned"]),
        (&json!("pending"), &json!(0), &json!(0)),
        "{failed}"
    );
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_transformed_is_said_in_words_and_no_command_repeats_it() {
    let stage = Stage::open(Bus::in_process()).await;
    let id = consumer(&stage, "in", json!({"transformation": {"body": {"$from": "payload.lines"}}})).await;
    let event = stage.post("order.created", json!({"lines": [1]})).await;
    stage.ended(&event, &id, "dead").await;
    let shown = counted(&stage, &id, 1).await;
    assert_eq!(
        (&shown["problem"]["kind"], &shown["last_failure"]["reason"], &shown["curl"]),
        (&json!("untransformable"), &json!("untransformable"), &Value::Null)
    );
    assert!(text(&shown["summary"]).contains(text(&shown["problem"]["explanation"])), "{shown}");
    let path = format!("/webhooks/{id}/health");
    let french = stage.client.request("GET", &path).header("accept-language", "fr").send().await.expect(200);
    assert_eq!(french["problem"]["kind"], "untransformable");
    assert!(text(&french["problem"]["explanation"]).starts_with("La transformation"), "{french}");
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_sends_what_the_consumer_was_sent() {
    let stage = Stage::open(Bus::in_process()).await;
    let headers = json!({"authorization": "Bearer top-secret", "x-shop": "shop-7"});
    for (path, more) in [
        ("plain", json!({"headers": headers})),
        (
            "made",
            json!({"headers": headers, "method": "PUT", "transformation": {"body": {"who": {"$from": "payload.name"}}}}),
        ),
    ] {
        let failing = Answer { body: "it is the database".to_owned(), ..Answer::status(422) };
        stage.receiver.answer(path, failing);
        let id = consumer(&stage, path, more).await;
        let event = stage.post("order.created", json!({"name": "O'Hara"})).await;
        stage.tried(&event, &id, 1).await;
        let command = text(&counted(&stage, &id, 1).await["curl"]).to_owned();
        let sent = stage.received(path, 1).await.remove(0);
        for secret in ["top-secret", "shop-7"] {
            assert!(!command.contains(secret), "{secret} in {command}");
        }
        for signature in sent.header("webhook-signature").split(' ') {
            assert!(!command.contains(signature), "{signature} in {command}");
        }
        let run = command.clone();
        let output =
            tokio::task::spawn_blocking(move || Command::new("sh").args(["-c", &run]).output().unwrap())
                .await
                .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains("422") && said.ends_with("it is the database"), "{said} of {command}");
        let again = stage.received(path, 2).await.remove(1);
        assert_eq!((&again.method, &again.body), (&sent.method, &sent.body), "{path}");
        for name in
            ["webhook-id", "webhook-timestamp", "x-event-id", "x-delivery-id", "x-attempt", "content-type"]
        {
            assert_eq!(again.header(name), sent.header(name), "{name}");
        }
        assert_eq!(again.header("webhook-signature"), "v1,*** v1a,***");
        assert_eq!((again.header("authorization"), again.header("x-shop")), ("***", "***"));
        assert!(!again.headers.contains_key("x-triggersapi-signature"));
        stage.client.delete(&format!("/webhooks/{id}")).await.expect(200);
    }
    stage.close().await;
}
