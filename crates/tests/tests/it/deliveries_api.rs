//! Deliveries and dead letters from outside: reading them, sending them again, giving them up.

#![expect(clippy::unwrap_used, reason = "all of this file is a test, its helpers too")]

use chrono::TimeDelta;
use hookyard_domain::{
    delivery::DeliveryState,
    id::{DeliveryId, EventId, SubscriptionId},
};
use hookyard_tests::{http::Client, outcomes::settle_due, system::System};
use serde_json::{Value, json};

/// A hook with some events on their way to it.
struct Scene {
    system: System,
    client: Client,
    hook: String,
    /// Oldest first.
    deliveries: Vec<String>,
    /// Between two events each.
    times: Vec<String>,
}

impl Scene {
    async fn with(events: usize) -> Self {
        let system = System::start().await;
        let client = system.client().await;
        let hook = subscribe(&client, "a").await;
        let (mut deliveries, mut times) = (Vec::new(), Vec::new());
        for number in 0..events {
            times.push(system.clock.now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true));
            system.clock.advance(TimeDelta::milliseconds(5));
            deliveries.push(deliver(&client, &hook, number).await);
        }
        Self { system, client, hook, deliveries, times }
    }

    async fn settle(&self, state: DeliveryState) -> usize {
        settle_due(&self.system, state, 500, b"no\xff").await.len()
    }

    async fn states(&self) -> Vec<String> {
        let mut states = Vec::new();
        for id in &self.deliveries {
            let shown = self.client.get(&format!("/v1/deliveries/{id}")).await.expect(200);
            states.push(shown["state"].as_str().unwrap().to_owned());
        }
        states
    }
}

async fn subscribe(client: &Client, path: &str) -> String {
    let url = format!("https://hooks.zapier.com/hooks/standard/1/{path}/");
    client.post_json("/zapier/hook", &json!({"url": url})).await.expect(200)["id"]
        .as_str()
        .unwrap()
        .to_owned()
}

async fn deliver(client: &Client, hook: &str, number: usize) -> String {
    let event = client
        .post_json("/events", &json!({"event_type": "a.b", "payload": {"n": number}}))
        .await
        .expect(202);
    let body = json!({"event_id": event["event_id"]});
    assert_eq!(client.post_json(&format!("/v1/hooks/{hook}/replay"), &body).await.expect(202)["queued"], 1);
    let event: EventId = event["event_id"].as_str().unwrap().parse().unwrap();
    DeliveryId { event, subscription: hook.parse::<SubscriptionId>().unwrap() }.to_string()
}

fn ids(page: &Value) -> Vec<&str> {
    page["data"].as_array().unwrap().iter().map(|delivery| delivery["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn deliveries_are_found_by_hook_state_and_time_in_pages() {
    let scene = Scene::with(5).await;
    let other = subscribe(&scene.client, "b").await;
    scene.settle(DeliveryState::Dead).await;
    scene.client.post(&format!("/v1/dead-letters/{}/retry", scene.deliveries[1]), "").await.expect(202);
    let expect = async |query: String, places: &[usize]| {
        let page = scene.client.get(&format!("/v1/deliveries?{query}")).await.expect(200);
        let expected: Vec<&str> = places.iter().map(|place| scene.deliveries[*place].as_str()).collect();
        assert_eq!(ids(&page), expected, "{query}");
        page
    };
    expect(String::new(), &[4, 3, 2, 1, 0]).await;
    expect("state=dead".into(), &[4, 3, 2, 0]).await;
    expect("state=pending".into(), &[1]).await;
    expect("state=delivered".into(), &[]).await;
    expect(format!("hook_id={}", scene.hook), &[4, 3, 2, 1, 0]).await;
    expect(format!("hook_id={other}"), &[]).await;
    expect(format!("since={}", scene.times[3]), &[4, 3]).await;
    expect(format!("until={}", scene.times[3]), &[2, 1, 0]).await;
    expect(format!("since={}&until={}", scene.times[1], scene.times[2]), &[1]).await;
    expect("limit=100".into(), &[4, 3, 2, 1, 0]).await;
    let first = expect("limit=3".into(), &[4, 3, 2]).await;
    let last = expect(format!("limit=3&cursor={}", first["next_cursor"].as_str().unwrap()), &[1, 0]).await;
    assert_eq!(
        (&first["has_more"], &last["has_more"], &last["next_cursor"]),
        (&json!(true), &json!(false), &Value::Null)
    );
    for query in [
        "state=lost",
        "hook_id=7",
        "since=x",
        "since=2025-01-02T00:00:00Z&until=2025-01-01T00:00:00Z",
        "cursor=evt_1",
        "limit=0",
        "limit=101",
        "hook=7",
    ] {
        let reply = scene.client.get(&format!("/v1/deliveries?{query}")).await;
        assert_eq!(reply.error(), (400, "INVALID_PARAMETER".to_owned()), "{query}");
    }
}

#[tokio::test]
async fn a_delivery_is_shown_with_its_tries() {
    let scene = Scene::with(1).await;
    let path = format!("/v1/deliveries/{}", scene.deliveries[0]);
    let waiting = scene.client.get(&path).await.expect(200);
    assert!(waiting["next_attempt_at"].is_string() && waiting["tries"] == json!([]), "{waiting}");
    scene.settle(DeliveryState::Dead).await;
    scene.client.post(&format!("{path}/retry"), "").await.expect(202);
    scene.settle(DeliveryState::Delivered).await;
    let shown = scene.client.get(&path).await.expect(200);
    let attempt = |number: u32| {
        json!({"number": number, "started_at": shown["tries"][number as usize - 1]["started_at"], "latency_ms": 12,
            "status": 500, "reason": "test", "reply": "no\u{fffd}"})
    };
    assert_eq!(shown["tries"], json!([attempt(1), attempt(2)]));
    assert_eq!(
        (&shown["state"], &shown["attempts"], &shown["last_status"], &shown["next_attempt_at"]),
        (&json!("delivered"), &json!(2), &json!(500), &Value::Null)
    );
    assert_eq!(shown["hook_id"], json!(scene.hook));
}

#[tokio::test]
async fn a_delivery_that_has_ended_is_sent_again() {
    let scene = Scene::with(1).await;
    let path = format!("/v1/deliveries/{}/retry", scene.deliveries[0]);
    assert_eq!(scene.client.post(&path, "").await.error(), (409, "DELIVERY_PENDING".to_owned()));
    for state in
        [DeliveryState::Delivered, DeliveryState::Dead, DeliveryState::Cancelled, DeliveryState::Discarded]
    {
        assert_eq!(scene.settle(state).await, 1);
        let again = scene.client.post(&path, "").await.expect(202);
        assert_eq!(
            (&again["id"], &again["state"]),
            (&json!(scene.deliveries[0]), &json!("pending")),
            "{state:?}"
        );
    }
    scene.settle(DeliveryState::Dead).await;
    let request = || scene.client.request("POST", &path).header("idempotency-key", "k").send();
    let first = request().await.expect(202);
    assert_eq!(request().await.expect(202), first, "the key makes it one");
    scene.settle(DeliveryState::Dead).await;
    scene.client.post(&format!("/v1/hooks/{}/disable", scene.hook), "").await.expect(200);
    for path in [path, format!("/v1/dead-letters/{}/retry", scene.deliveries[0])] {
        assert_eq!(scene.client.post(&path, "").await.error(), (409, "HOOK_DISABLED".to_owned()), "{path}");
    }
}

#[tokio::test]
async fn a_dead_letter_is_inspected_retried_and_discarded() {
    let scene = Scene::with(2).await;
    let path = |at: usize| format!("/v1/dead-letters/{}", scene.deliveries[at]);
    assert_eq!(scene.client.get(&path(0)).await.error().0, 404, "it is not dead yet");
    scene.settle(DeliveryState::Dead).await;
    let letters = scene.client.get("/v1/dead-letters").await.expect(200);
    assert_eq!(ids(&letters), [scene.deliveries[1].as_str(), scene.deliveries[0].as_str()]);
    let shown = scene.client.get(&path(0)).await;
    let event = shown.expect(200)["event"].clone();
    assert_eq!((&event["payload"], &event["id"]), (&json!({"n": 0}), &shown.json()["event_id"]));
    assert_eq!(shown.json()["tries"].as_array().unwrap().len(), 1);
    // The event is told byte for byte.
    let stored = scene.client.get(&format!("/v1/events/{}", event["id"].as_str().unwrap())).await.text();
    let body = shown.text().split_once(r#""event":"#).unwrap().1.strip_suffix("}}").unwrap().to_owned();
    assert!(stored.starts_with(&body), "{stored}\n{body}");

    let moved = json!({"moved": 1, "ids": [scene.deliveries[0]], "has_more": false});
    assert_eq!(scene.client.post(&format!("{}/retry", path(0)), "").await.expect(202), moved);
    assert_eq!(scene.client.post(&format!("{}/retry", path(0)), "").await.error().0, 404);
    let moved = json!({"moved": 1, "ids": [scene.deliveries[1]], "has_more": false});
    assert_eq!(scene.client.delete(&path(1)).await.expect(200), moved);
    assert_eq!(scene.client.delete(&path(1)).await.error().0, 404);
    assert_eq!(scene.states().await, ["pending", "discarded"]);
    assert_eq!(scene.client.get("/v1/dead-letters").await.expect(200)["data"], json!([]));
}

#[tokio::test]
async fn many_dead_letters_are_moved_at_once() {
    let scene = Scene::with(6).await;
    scene.settle(DeliveryState::Dead).await;
    let post = |what: &'static str, body: Value| {
        let client = scene.client.clone();
        async move { client.post_json(&format!("/v1/dead-letters/{what}"), &body).await }
    };
    for body in
        [json!({}), json!({"all": false}), json!({"hook_id": scene.hook}), json!({"since": scene.times[0]})]
    {
        for what in ["retry", "discard"] {
            let reply = post(what, body.clone()).await;
            assert_eq!(reply.error(), (400, "MISSING_SELECTION".to_owned()), "{what} {body}");
        }
    }
    assert_eq!(scene.states().await, ["dead"; 6]);
    let unknown = "dlv_01hzy3v9k2s8d4f6g8h0j2k4m601hzy3v9k2s8d4f6g8h0j2k4m7";
    let some =
        post("retry", json!({"ids": [scene.deliveries[0], scene.deliveries[0], unknown]})).await.expect(202);
    assert_eq!(some, json!({"moved": 1, "ids": [scene.deliveries[0]], "has_more": false}));
    let range = json!({"all": true, "hook_id": scene.hook, "since": scene.times[1], "until": scene.times[3]});
    assert_eq!(post("discard", range).await.expect(200)["moved"], 2);
    assert_eq!(scene.states().await, ["pending", "discarded", "discarded", "dead", "dead", "dead"]);
    let other = subscribe(&scene.client, "b").await;
    assert_eq!(post("retry", json!({"all": true, "hook_id": other})).await.expect(202)["moved"], 0);
    assert_eq!(post("retry", json!({"all": true})).await.expect(202)["moved"], 3);
    assert_eq!(scene.states().await, ["pending", "discarded", "discarded", "pending", "pending", "pending"]);
    // Dead letters of a hook that takes no events stay.
    scene.settle(DeliveryState::Dead).await;
    scene.client.post(&format!("/v1/hooks/{}/disable", scene.hook), "").await.expect(200);
    assert_eq!(post("retry", json!({"all": true})).await.expect(202)["moved"], 0);
}
