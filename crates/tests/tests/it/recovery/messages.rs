//! The message log, and the activity of endpoints.

use chrono::TimeDelta;
use hookyard_messaging::Bus;
use hookyard_tests::receiver::Answer;
use serde_json::{Value, json};

use super::{consumer, orders};
use crate::pipeline::stage::{Stage, delivery_id, text, until};

async fn log(stage: &Stage, query: &str) -> Value {
    stage.client.get(&format!("/v1/messages?{query}")).await.expect(200)
}

fn ids(page: &Value) -> Vec<&str> {
    page["data"].as_array().unwrap().iter().map(|one| text(&one["id"])).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_found_by_status_type_time_and_endpoint() {
    let stage = Stage::open(Bus::in_process()).await;
    let good = consumer(&stage, "good", json!({"eventTypes": ["order.*", "read.completed.initial"]})).await;
    let bad = consumer(&stage, "bad", json!({})).await;
    stage.answer("bad", 500);
    let mut events = orders(&stage, 1).await;
    events.push(stage.post("read.completed.initial", json!({})).await);
    stage.advance(5);
    let noon = stage.system.clock.now();
    stage.advance(5);
    events.push(stage.post("order.closed", json!({})).await);
    for event in &events {
        stage.ended(event, &good, "delivered").await;
    }
    for event in [&events[0], &events[2]] {
        stage.tried(event, &bad, 1).await;
    }
    // The first is cancelled, and the last is sent again: it has failed twice and is tried once more.
    stage.client.post(&format!("/webhooks/{bad}/disable"), "").await.expect(200);
    stage.ended(&events[0], &bad, "cancelled").await;
    stage.ended(&events[2], &bad, "cancelled").await;
    stage.client.post(&format!("/webhooks/{bad}/enable"), "").await.expect(200);
    stage
        .client
        .post_json(&format!("/webhooks/{bad}/replay"), &json!({"event_id": events[2]}))
        .await
        .expect(202);
    stage.tried(&events[2], &bad, 2).await;
    let id = |event: usize, endpoint: &str| delivery_id(&events[event], endpoint);
    let (g0, g1, g2, b0, b2) = (id(0, &good), id(1, &good), id(2, &good), id(0, &bad), id(2, &bad));
    // Of one event, the newer endpoint stands first.
    for (query, expected) in [
        (String::new(), vec![&b2, &g2, &g1, &b0, &g0]),
        ("status=Success".into(), vec![&g2, &g1, &g0]),
        ("status=Attempting".into(), vec![&b2]),
        ("status=failure".into(), vec![&b0]),
        ("status=Sending".into(), vec![]),
        (format!("endpoint_id={bad}"), vec![&b2, &b0]),
        (format!("endpoint_id={bad}&status=Failure"), vec![&b0]),
        ("event_type=order.created".into(), vec![&b0, &g0]),
        ("event_type=order.*".into(), vec![&b2, &g2, &b0, &g0]),
        ("event_type=*".into(), vec![&b2, &g2, &g1, &b0, &g0]),
        ("event_type=NewCompanySynchronized".into(), vec![&g1]),
        ("event_type=nothing.of.this".into(), vec![]),
        (format!("until={}", time(noon)), vec![&g1, &b0, &g0]),
        (format!("since={}", time(noon)), vec![&b2, &g2]),
        (format!("since={}&event_type=order.*&endpoint_id={good}&status=Success", time(noon)), vec![&g2]),
    ] {
        assert_eq!(ids(&log(&stage, &query).await), expected, "{query}");
    }
    // Pages do not move when something comes meanwhile.
    let first = log(&stage, "limit=2").await;
    assert_eq!(ids(&first), [&b2, &g2]);
    stage.post("order.created", json!({})).await;
    let second = log(&stage, &format!("limit=2&cursor={}", text(&first["next_cursor"]))).await;
    assert_eq!((ids(&second), &second["has_more"]), (vec![g1.as_str(), &b0], &json!(true)));
    let last = log(&stage, &format!("limit=2&cursor={}", text(&second["next_cursor"]))).await;
    assert_eq!((ids(&last), &last["has_more"]), (vec![g0.as_str()], &json!(false)));
    for query in [
        "status=pending",
        "endpoint_id=7",
        "event_type=a..b",
        "event_type=%00",
        "since=x",
        "since=2025-01-02T00:00:00Z&until=2025-01-01T00:00:00Z",
        "cursor=evt_1",
        "limit=0",
        "limit=101",
        "state=dead",
    ] {
        let reply = stage.client.get(&format!("/v1/messages?{query}")).await;
        assert_eq!(reply.error(), (400, "INVALID_PARAMETER".to_owned()), "{query}");
    }
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_wait_for_their_first_try_are_found_until_they_end() {
    // Nobody delivers: what was fanned out waits.
    let stage = Stage::with(Bus::in_process(), |_, engine| engine.deliverers = 0).await;
    let waiting = consumer(&stage, "waiting", json!({})).await;
    let disabled = consumer(&stage, "disabled", json!({})).await;
    let mut events = Vec::new();
    for _ in 0..3 {
        events.extend(orders(&stage, 1).await);
    }
    let newest_first = |endpoint: &str| -> Vec<String> {
        events.iter().rev().map(|event| delivery_id(event, endpoint)).collect()
    };
    let (sending, ended) = (newest_first(&waiting), newest_first(&disabled));
    assert_eq!(log(&stage, "status=Sending").await["data"].as_array().unwrap().len(), 6);
    // One that was never tried and is cancelled is not on its way any more.
    stage.client.post(&format!("/webhooks/{disabled}/disable"), "").await.expect(200);
    for event in &events {
        stage.ended(event, &disabled, "cancelled").await;
    }
    let none: &[String] = &[];
    for (query, expected) in [
        ("status=Sending".to_owned(), sending.as_slice()),
        (format!("status=sending&endpoint_id={waiting}&event_type=order.*"), sending.as_slice()),
        (format!("status=Sending&endpoint_id={disabled}"), none),
        ("status=Attempting".to_owned(), none),
        ("status=Success".to_owned(), none),
        ("status=Failure".to_owned(), ended.as_slice()),
    ] {
        assert_eq!(ids(&log(&stage, &query).await), expected, "{query}");
    }
    let first = log(&stage, "status=Sending&limit=2").await;
    assert_eq!((ids(&first), &first["has_more"]), (vec![sending[0].as_str(), &sending[1]], &json!(true)));
    let rest = format!("status=Sending&limit=2&cursor={}", text(&first["next_cursor"]));
    let last = log(&stage, &rest).await;
    assert_eq!((ids(&last), &last["has_more"]), (vec![sending[2].as_str()], &json!(false)));
    let shown = stage.client.get(&format!("/v1/messages/{}", sending[0])).await.expect(200);
    assert_eq!(
        (&shown["status"], &shown["attempts"], &shown["tries"], &shown["settled_at"]),
        (&json!("Sending"), &json!(0), &json!([]), &Value::Null)
    );
    stage.close().await;
}

fn time(at: chrono::DateTime<chrono::Utc>) -> String {
    at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_shown_with_its_tries_and_the_next() {
    let stage = Stage::open(Bus::in_process()).await;
    let id = consumer(&stage, "flaky", json!({})).await;
    stage.receiver.script("flaky", [Answer { body: "no room".to_owned(), ..Answer::status(503) }]);
    let event = orders(&stage, 1).await.remove(0);
    stage.tried(&event, &id, 1).await;
    let path = format!("/v1/messages/{}", delivery_id(&event, &id));
    let shown = stage.client.get(&path).await.expect(200);
    assert_eq!(
        (&shown["status"], &shown["kind"], &shown["attempts"], &shown["last_status"]),
        (&json!("Attempting"), &json!("consumer"), &json!(1), &json!(503))
    );
    assert!(shown["next_attempt_at"].is_string() && shown["settled_at"].is_null(), "{shown}");
    let attempt = &shown["tries"][0];
    assert_eq!(
        (&attempt["number"], &attempt["status"], &attempt["reply"], &attempt["reason"]),
        (&json!(1), &json!(503), &json!("no room"), &json!("http_503"))
    );
    assert!(attempt["latency_ms"].is_u64() && attempt["started_at"].is_string());
    stage.advance_beyond(crate::pipeline::stage::time(&shown["next_attempt_at"]));
    stage.ended(&event, &id, "delivered").await;
    let shown = stage.client.get(&path).await.expect(200);
    assert_eq!(
        (&shown["status"], &shown["next_attempt_at"], shown["tries"].as_array().unwrap().len()),
        (&json!("Success"), &Value::Null, 2)
    );
    let unknown = "/v1/messages/dlv_01hzy3v9k2s8d4f6g8h0j2k4m601hzy3v9k2s8d4f6g8h0j2k4m7";
    assert_eq!(stage.client.get(unknown).await.error().0, 404);
    assert_eq!(stage.client.get("/v1/messages/evt_1").await.error(), (400, "INVALID_ID".to_owned()));
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_activity_of_six_hours_is_counted_in_slots() {
    let stage = Stage::open(Bus::in_process()).await;
    let id = consumer(&stage, "busy", json!({})).await;
    let path = format!("/webhooks/{id}/activity");
    let idle = stage.client.get(&path).await.expect(200);
    assert_eq!((&idle["success_rate"], idle["slots"].as_array().unwrap().len()), (&Value::Null, 36));
    let counted = async |delivered: i64, failed: i64| {
        until("the tries are counted", async || {
            let shown = stage.client.get(&path).await.expect(200);
            let sums = (shown["delivered"].as_i64(), shown["failed"].as_i64());
            if sums == (Some(delivered), Some(failed)) { Ok(shown) } else { Err(shown) }
        })
        .await
    };
    stage.receiver.script("busy", [Answer::status(500)]);
    let events = orders(&stage, 1).await;
    stage.tried(&events[0], &id, 1).await;
    counted(0, 1).await;
    // Another slot.
    stage.system.clock.advance(TimeDelta::minutes(10));
    let more = orders(&stage, 2).await;
    for event in events.iter().chain(&more) {
        stage.ended(event, &id, "delivered").await;
    }
    let shown = counted(3, 1).await;
    assert_eq!(shown["success_rate"], json!(0.75), "{shown}");
    let slots = shown["slots"].as_array().unwrap();
    let filled: Vec<(i64, i64)> = slots
        .iter()
        .map(|slot| (slot["delivered"].as_i64().unwrap(), slot["failed"].as_i64().unwrap()))
        .filter(|counts| *counts != (0, 0))
        .collect();
    assert_eq!(filled, [(0, 1), (3, 0)], "{shown}");
    assert_eq!(slots[35]["delivered"], 3, "the last one is now");
    assert_eq!(shown["since"], slots[0]["from"]);
    // Six hours later it is forgotten.
    stage.system.clock.advance(TimeDelta::hours(6));
    assert_eq!(stage.client.get(&path).await.expect(200)["success_rate"], Value::Null);
    stage.close().await;
}
