//! Callbacks: the body to the letter, the token, the tries, and sending again.

use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use hookyard_tests::receiver::{Answer, Received};
use serde_json::{Value, json};

use super::{NOBODY, Stage, emit};
use crate::signing_keys::verified;

const PATIENCE: Duration = Duration::from_secs(30);

fn claims(callback: &Received) -> Value {
    let token = callback.header("zapier-callback-signature");
    let claims = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    serde_json::from_slice(&claims).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn success_and_error_are_told_to_the_letter_and_verified_with_source_3s_snippet() {
    let stage = Stage::new().await;
    let url = stage.receiver.url("/done");
    let good = stage.run(&json!({"action": "event.emit", "input": emit(), "callback_url": url})).await;
    let run = stage.ended(&good).await;
    let told = stage.receiver.wait_for("/done", 1, PATIENCE).await.remove(0);
    let event = run["results"][0].clone();
    let expected = format!(
        r#"{{"data":{{"type":"run","id":"{good}","status":"success","results":[{{"event_id":{},"event_type":"order.created","created_at":{}}}],"errors":[]}}}}"#,
        event["event_id"], event["created_at"]
    );
    assert_eq!(String::from_utf8(told.body.clone()).unwrap(), expected);
    assert_eq!((told.method.as_str(), told.header("content-type")), ("POST", "application/json"));
    assert!(!told.headers.contains_key("x-triggersapi-signature"));

    let closed = format!("http://127.0.0.1:{}/", hookyard_tests::processes::free_port());
    let input = json!({"url": closed, "method": "POST", "expected_status": 200});
    let bad = json!({"action": "http.request", "input": input, "callback_url": stage.receiver.url("/bad")});
    let bad = stage.run(&bad).await;
    // Not reached: three more tries, within twenty seconds by the clock of the system.
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(700)).await;
        stage.system.clock.advance(chrono::TimeDelta::seconds(16));
    }
    let run = stage.ended(&bad).await;
    assert_eq!((&run["status"], &run["results"]), (&json!("error"), &json!([])));
    let failed = stage.receiver.wait_for("/bad", 1, PATIENCE).await.remove(0);
    let body = failed.json();
    assert_eq!(body["data"]["errors"][0]["code"], "partner", "{body}");
    let members: Vec<&str> = body["data"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(members, ["errors", "id", "results", "status", "type"]);

    let event = claims(&told);
    assert_eq!((&event["sub"], &event["iss"]), (&json!(good), &json!(hookyard_tests::runner::ORIGIN)));
    assert_eq!(event["exp"].as_i64().unwrap() - event["iat"].as_i64().unwrap(), 300);
    assert_eq!(event["jti"], told.header("x-delivery-id"));
    let jwks = format!("http://{}/.well-known/jwks.json", stage.system.gateways[0].addr);
    let case = |callback: &Received| {
        let body = String::from_utf8(callback.body.clone()).unwrap();
        json!({"token": callback.header("zapier-callback-signature"), "body": body})
    };
    let mut swapped = case(&told);
    swapped["body"] = json!("{}");
    assert_eq!(verified(&jwks, &[case(&told), swapped]), ["ok", "AssertionError"]);
    let run = stage.wait(&good, |run| run["callback"]["status"] == "delivered").await;
    assert_eq!((&run["callback"]["attempts"], &run["callback"]["url"]), (&json!(1), &json!(url)));
}

#[tokio::test(flavor = "multi_thread")]
async fn three_tries_within_seconds_each_signed_anew_and_then_it_can_be_sent_again() {
    let stage = Stage::new().await;
    stage.receiver.script("/down", [Answer::status(500), Answer::status(503), Answer::status(502)]);
    let body = json!({"action": "event.emit", "input": emit(), "callback_url": stage.receiver.url("/down")});
    let id = stage.run(&body).await;
    let tries = stage.receiver.wait_for("/down", 3, PATIENCE).await;
    let run = stage.wait(&id, |run| run["callback"]["status"] == "failed").await;
    assert_eq!(
        (&run["status"], &run["callback"]["attempts"]),
        (&json!("success"), &json!(3)),
        "polling answers"
    );
    let apart = |a: usize, b: usize| tries[b].at.duration_since(tries[a].at).as_secs_f64();
    assert!(
        (0.9..3.0).contains(&apart(0, 1)) && (2.9..6.0).contains(&apart(1, 2)),
        "{} {}",
        apart(0, 1),
        apart(1, 2)
    );
    let tokens: Vec<&str> = tries.iter().map(|one| one.header("zapier-callback-signature")).collect();
    assert!(tokens[0] != tokens[1] && tokens[1] != tokens[2], "signed anew");
    for one in &tries {
        assert_eq!((&claims(one)["sub"], &claims(one)["jti"]), (&json!(id), &claims(&tries[0])["jti"]));
        assert_eq!(one.body, tries[0].body);
    }
    let dead = stage.client.get("/v1/dead-letters").await.expect(200);
    assert_eq!(dead["data"][0]["id"], run["callback"]["delivery_id"], "{dead}");

    let again = stage.client.post(&format!("/v2/action-runs/{id}/callback"), "").await.expect(202);
    assert_eq!(again["data"]["callback"]["status"], "pending");
    stage.wait(&id, |run| run["callback"]["status"] == "delivered").await;
    assert_eq!(stage.receiver.count("/down"), 4);
    assert_eq!(stage.system.audited(Some(stage.system.tenant)).await, ["delivery.retried"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_below_500_is_final() {
    let stage = Stage::new().await;
    for status in [301, 400, 401, 404, 408, 410, 429] {
        let path = format!("/final-{status}");
        stage.receiver.answer(&path, Answer::status(status).with("retry-after", "1"));
        let url = stage.receiver.url(&path);
        let id = stage.run(&json!({"action": "event.emit", "input": emit(), "callback_url": url})).await;
        stage.wait(&id, |run| run["callback"]["status"] == "failed").await;
    }
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    for status in [301, 400, 401, 404, 408, 410, 429] {
        assert_eq!(stage.receiver.count(&format!("/final-{status}")), 1, "{status}");
    }
    // The endpoint lives on: the next run is told there.
    stage.receiver.answer("/final-410", Answer::status(200));
    let url = stage.receiver.url("/final-410");
    let id = stage.run(&json!({"action": "event.emit", "input": emit(), "callback_url": url})).await;
    stage.wait(&id, |run| run["callback"]["status"] == "delivered").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_is_reached_it_is_tried_three_times_and_polling_answers() {
    let stage = Stage::new().await;
    let id = stage.run(&json!({"action": "event.emit", "input": emit(), "callback_url": NOBODY})).await;
    let run = stage.wait(&id, |run| run["callback"]["status"] == "failed").await;
    assert_eq!((&run["status"], &run["callback"]["attempts"]), (&json!("success"), &json!(3)), "{run}");
    let path = format!("/v1/deliveries/{}", run["callback"]["delivery_id"].as_str().unwrap());
    let tries = stage.client.get(&path).await.expect(200)["tries"].clone();
    let reasons: Vec<&Value> = tries.as_array().unwrap().iter().map(|one| &one["reason"]).collect();
    assert_eq!(reasons, ["connect"; 3], "{tries}");
}
