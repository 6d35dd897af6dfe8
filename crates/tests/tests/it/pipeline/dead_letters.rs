//! Deliveries that ended without success: found, looked at, sent again, given up.

use hookyard_messaging::Bus;
use serde_json::{Value, json};

use super::stage::{Stage, delivery_id, text};

fn ids(page: &Value) -> Vec<&str> {
    page["data"].as_array().unwrap().iter().map(|one| text(&one["id"])).collect()
}

pub(super) async fn they_are_listed_shown_retried_and_discarded(bus: Bus) {
    let stage = Stage::open(bus).await;
    stage.answer("letters", 404);
    let hook = stage.hook("letters", json!({"event_type": "letter.*"})).await;
    let mut letters = Vec::new();
    for number in 0..5 {
        let event = stage.post("letter.sent", json!({"n": number})).await;
        stage.ended(&event, &hook, "dead").await;
        letters.push((delivery_id(&event, &hook), event));
        stage.advance(2);
    }
    let listed = async || stage.client.get(&format!("/v1/dead-letters?hook_id={hook}")).await.expect(200);
    let newest_first: Vec<&str> = letters.iter().rev().map(|(id, _)| id.as_str()).collect();
    assert_eq!(ids(&listed().await), newest_first);
    let shown = stage.client.get(&format!("/v1/dead-letters/{}", letters[0].0)).await;
    let sent = String::from_utf8(stage.receiver.at("letters")[0].body.clone()).unwrap();
    assert!(shown.text().contains(&format!(r#""event":{sent}"#)), "byte for byte: {}", shown.text());
    let shown = shown.expect(200);
    assert_eq!((&shown["tries"][0]["status"], &shown["state"]), (&json!(404), &json!("dead")));

    // Retried while the receiver still refuses: dead again, with all tries counted.
    let path = |at: usize| format!("/v1/dead-letters/{}", letters[at].0);
    stage.client.post(&format!("{}/retry", path(0)), "").await.expect(202);
    let again = stage.tried(&letters[0].1, &hook, 2).await;
    assert_eq!((&again["state"], again["tries"].as_array().unwrap().len()), (&json!("dead"), 2));
    // A retried one has four tries before it again.
    stage.answer("letters", 500);
    stage.client.post(&format!("{}/retry", path(0)), "").await.expect(202);
    for (number, wait) in [(3, 1), (4, 4), (5, 9)] {
        stage.tried(&letters[0].1, &hook, number).await;
        stage.advance(wait * 1_000);
    }
    let again = stage.ended(&letters[0].1, &hook, "dead").await;
    assert_eq!(again["attempts"], 6);

    stage.answer("letters", 200);
    assert_eq!(stage.client.delete(&path(1)).await.expect(200)["moved"], 1);
    stage.client.post(&format!("{}/retry", path(0)), "").await.expect(202);
    let arrived = stage.ended(&letters[0].1, &hook, "delivered").await;
    assert_eq!(arrived["attempts"], 7);
    let selected = json!({"ids": [letters[2].0, letters[0].0]});
    let moved = stage.client.post_json("/v1/dead-letters/retry", &selected).await.expect(202);
    assert_eq!(moved["ids"], json!([letters[2].0]), "what arrived is no dead letter");
    stage.ended(&letters[2].1, &hook, "delivered").await;
    let all = json!({"all": true, "hook_id": hook});
    assert_eq!(stage.client.post_json("/v1/dead-letters/retry", &all).await.expect(202)["moved"], 2);
    for (_, event) in &letters[3..] {
        stage.ended(event, &hook, "delivered").await;
    }
    assert_eq!(ids(&listed().await), [] as [&str; 0]);
    assert_eq!(
        stage.client.post(&format!("{}/retry", path(1)), "").await.error().0,
        404,
        "discarded is discarded"
    );
    stage.let_everything_happen().await;
    assert_eq!(stage.receiver.count("letters"), 5 + 1 + 4 + 1 + 1 + 2);
    assert_eq!(stage.delivery(&letters[1].1, &hook).await["state"], "discarded");
    // Many at once are given up as well.
    stage.answer("letters", 422);
    let event = stage.post("letter.sent", json!({})).await;
    stage.ended(&event, &hook, "dead").await;
    let given_up = stage.client.post_json("/v1/dead-letters/discard", &all).await.expect(200);
    assert_eq!(given_up["ids"], json!([delivery_id(&event, &hook)]));
    stage.close().await;
}

pub(super) async fn undelivered_since_is_one_question(bus: Bus) {
    let stage = Stage::open(bus).await;
    let hook = stage.hook("mixed", json!({"event_type": "mixed.*"})).await;
    let mut events = Vec::new();
    let mut since = stage.system.clock.now();
    for (number, status) in [404, 404, 200, 200, 503].into_iter().enumerate() {
        if number == 1 {
            since = stage.system.clock.now();
            stage.advance(5);
        }
        stage.answer("mixed", status);
        let event = stage.post("mixed.one", json!({})).await;
        stage.tried(&event, &hook, 1).await;
        events.push(event);
        stage.advance(5);
    }
    let unmatched = stage.post("nobody.wants", json!({})).await;
    assert_eq!(stage.goes_to(&unmatched).await, [] as [String; 0]);
    let listed = async |query: String| {
        let page = stage.client.get(&format!("/v1/events?{query}")).await.expect(200);
        ids(&page).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let since = since.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    assert_eq!(
        listed(format!("state=undelivered&since={since}")).await,
        [events[4].clone(), events[1].clone()]
    );
    assert_eq!(listed("state=dead".to_owned()).await, [events[1].clone(), events[0].clone()]);
    assert_eq!(listed("state=delivered".to_owned()).await, [events[3].clone(), events[2].clone()]);
    assert_eq!(listed("state=unmatched".to_owned()).await, [unmatched]);
    stage.close().await;
}
