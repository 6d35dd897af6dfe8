//! What the owner of hooks can see and do: list, show, secret, test, enable, disable, delete, replay.

use chrono::TimeDelta;
use hookyard_domain::delivery::DeliveryState;
use hookyard_tests::outcomes::settle_due;
use serde_json::{Value, json};

use super::{delivery, hook, post, replay, start, state, zap};

fn ids(page: &Value) -> Vec<&str> {
    page["data"].as_array().unwrap().iter().map(|hook| hook["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn hooks_are_listed_by_state_and_type_in_pages() {
    let (system, client) = start().await;
    let mut all = Vec::new();
    for (url, event_type) in [("a", "a.b"), ("b", "a.b"), ("c", "c.d"), ("d", "c.*")] {
        all.push(hook(&client, &json!({"url": zap(url), "event_type": event_type})).await);
        system.clock.advance(TimeDelta::milliseconds(2));
    }
    client.delete(&format!("/v1/hooks/{}", all[0])).await.expect(200);
    client.post(&format!("/v1/hooks/{}/disable", all[1]), "").await.expect(200);
    let expect = async |query: &str, places: &[usize]| {
        let page = client.get(&format!("/v1/hooks{query}")).await.expect(200);
        assert_eq!(
            ids(&page),
            places.iter().map(|place| all[*place].as_str()).collect::<Vec<_>>(),
            "{query}"
        );
        page
    };
    expect("", &[3, 2, 1]).await;
    expect("?state=deleted", &[0]).await;
    expect("?state=disabled", &[1]).await;
    expect("?state=pending&event_type=c.d", &[2]).await;
    expect("?event_type=c.*", &[3]).await;
    expect("?event_type=nobody.wants", &[]).await;
    expect("?limit=100", &[3, 2, 1]).await;
    let first = expect("?limit=2", &[3, 2]).await;
    assert_eq!(first["has_more"], true);
    expect(&format!("?limit=2&cursor={}", first["next_cursor"].as_str().unwrap()), &[1]).await;
    for query in ["state=on", "event_type=%20", "limit=0", "limit=101", "cursor=evt_1", "sate=pending"] {
        let reply = client.get(&format!("/v1/hooks?{query}")).await;
        assert_eq!(reply.error(), (400, "INVALID_PARAMETER".to_owned()), "{query}");
    }
}

#[tokio::test]
async fn a_hook_is_shown_with_everything_that_is_known() {
    let (_system, client) = start().await;
    let id = hook(&client, &json!({"url": zap("a"), "event_type": "a.b", "filter": {"payload.x": 1}})).await;
    let shown = client.get(&format!("/v1/hooks/{id}")).await.expect(200);
    assert_eq!(
        shown,
        json!({"id": id, "url": zap("a"), "description": "Zapier: a.b", "event_type": "a.b", "pattern": "a.b", "filter": {"payload.x": 1},
            "state": "pending", "state_reason": null, "delivery_count": 0, "failure_count": 0,
            "consecutive_failures": 0, "last_delivered_at": null, "last_attempt_at": null, "last_status": null,
            "last_reason": null, "expires_at": null, "created_at": shown["created_at"],
            "updated_at": shown["created_at"]})
    );
    client.delete(&format!("/v1/hooks/{id}")).await.expect(200);
    let shown = client.get(&format!("/v1/hooks/{id}")).await.expect(200);
    assert_eq!(
        (&shown["state"], &shown["state_reason"]),
        (&json!("deleted"), &json!("deleted by its owner"))
    );
}

#[tokio::test]
async fn a_secret_is_shown_to_whoever_may_change_the_hook() {
    let (_system, client) = start().await;
    let id = hook(&client, &json!({"url": zap("a")})).await;
    let reply = client.get(&format!("/v1/hooks/{id}/secret")).await;
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    let secret = reply.expect(200);
    let text = secret["signing_secret"].as_str().unwrap();
    assert!(text.starts_with("whsec_") && text.len() == 6 + 44, "{text}");
    assert_eq!(client.get(&format!("/v1/hooks/{id}/secret")).await.expect(200), secret);
    client.delete(&format!("/v1/hooks/{id}")).await.expect(200);
    assert_eq!(client.get(&format!("/v1/hooks/{id}/secret")).await.error().0, 404);
}

#[tokio::test]
async fn a_test_goes_to_one_hook_only() {
    let (system, client) = start().await;
    let id = hook(
        &client,
        &json!({"url": zap("a"), "event_type": "NewCompanySynchronized", "filter": {"payload.x": 1}}),
    )
    .await;
    let other = hook(&client, &json!({"url": zap("b")})).await;
    let path = format!("/v1/hooks/{id}/test");
    let request = || client.request("POST", &path).header("idempotency-key", "k").send();
    let first = request().await.expect(202);
    assert_eq!(request().await.expect(202), first, "the key makes it one test");
    assert_eq!(first["status"], "queued");
    let event = client.get(&format!("/v1/events/{}", first["event_id"].as_str().unwrap())).await.expect(200);
    assert_eq!(
        (&event["event_type"], &event["metadata"]["test"]),
        (&json!("read.completed.initial"), &json!(true))
    );
    assert!(event["payload"]["referenceCompany"].is_object());
    let due = settle_due(&system, DeliveryState::Delivered, 200, b"{}").await;
    assert_eq!(
        due.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [first["delivery_id"].as_str().unwrap()]
    );
    assert_eq!(client.get(&format!("/v1/deliveries?hook_id={other}")).await.expect(200)["data"], json!([]));
    // It goes nowhere else afterwards.
    let reply =
        client.post_json(&format!("/v1/hooks/{other}/replay"), &json!({"event_id": first["event_id"]})).await;
    assert_eq!(reply.error(), (422, "INVALID_FIELD".to_owned()));
    for (action, code) in [("disable", "HOOK_DISABLED"), ("delete", "HOOK_DELETED")] {
        match action {
            "disable" => client.post(&format!("/v1/hooks/{id}/disable"), "").await.expect(200),
            _ => client.delete(&format!("/v1/hooks/{id}")).await.expect(200),
        };
        assert_eq!(client.post(&path, "").await.error(), (409, code.to_owned()));
    }
}

#[tokio::test]
async fn a_hook_is_disabled_once_and_enabled_once() {
    let (system, client) = start().await;
    let (event, id) = (post(&client, "a.b", json!({})).await, hook(&client, &json!({"url": zap("a")})).await);
    replay(&client, &id, &json!({"event_id": event})).await;
    let disable = || client.request("POST", &format!("/v1/hooks/{id}/disable")).send();
    let (first, second) = tokio::join!(disable(), disable());
    for reply in [first, second, disable().await] {
        let shown = reply.expect(200);
        assert_eq!(
            (&shown["state"], &shown["state_reason"]),
            (&json!("disabled"), &json!("disabled by its owner"))
        );
    }
    assert_eq!(delivery(&client, &event, &id).await["state"], "cancelled");
    let told = client.get("/v1/events?event_type=hook.disabled").await.expect(200);
    assert_eq!(told["data"].as_array().unwrap().len(), 1, "the owner is told once: {told}");
    assert_eq!(told["data"][0]["payload"]["hook_id"], json!(id));
    assert_eq!(told["data"][0]["payload"]["cancelled_deliveries"], 1);
    // The reverse unsubscribe is a delivery of that event.
    let due = settle_due(&system, DeliveryState::Delivered, 200, b"").await;
    assert_eq!(due, [super::delivery_id(told["data"][0]["id"].as_str().unwrap(), &id)]);
    for body in [json!({"event_id": event}), json!({"since": "2020-01-01T00:00:00Z"})] {
        let reply = client.post_json(&format!("/v1/hooks/{id}/replay"), &body).await;
        assert_eq!(reply.error(), (409, "HOOK_DISABLED".to_owned()));
    }
    for _ in 0..2 {
        let shown = client.post(&format!("/v1/hooks/{id}/enable"), "").await.expect(200);
        assert_eq!((&shown["state"], &shown["state_reason"]), (&json!("pending"), &json!(null)));
    }
    client.delete(&format!("/v1/hooks/{id}")).await.expect(200);
    for action in ["enable", "disable"] {
        let reply = client.post(&format!("/v1/hooks/{id}/{action}"), "").await;
        assert_eq!(reply.error(), (409, "HOOK_DELETED".to_owned()), "{action}");
    }
    assert_eq!(client.delete(&format!("/v1/hooks/{id}")).await.expect(200)["status"], "deleted");
    assert_eq!(state(&client, &id).await, "deleted");
}

#[tokio::test]
async fn a_range_is_replayed_to_what_the_hook_wants() {
    let (system, client) = start().await;
    let id = hook(
        &client,
        &json!({"url": zap("a"), "event_type": "order.*", "filter": {"payload.n": {"$gte": 2}}}),
    )
    .await;
    let since = system.clock.now();
    let mut events = Vec::new();
    for n in 0..40 {
        events.push(post(&client, "order.created", json!({"n": n})).await);
        post(&client, "user.created", json!({"n": n})).await;
        system.clock.advance(TimeDelta::milliseconds(2));
    }
    let range = |rest: Value| {
        let mut body = json!({"since": since.to_rfc3339()});
        body.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        body
    };
    let told = |queued: usize, dry_run: bool| json!({"queued": queued, "examined": 80, "has_more": false, "resume_after": null, "dry_run": dry_run});
    // Up to now is before the latest millisecond.
    system.clock.advance(TimeDelta::seconds(1));
    assert_eq!(replay(&client, &id, &range(json!({"dry_run": true}))).await, told(38, true));
    assert_eq!(client.get("/v1/deliveries").await.expect(200)["data"], json!([]));
    assert_eq!(replay(&client, &id, &range(json!({}))).await, told(38, false));
    let again = replay(&client, &id, &range(json!({}))).await;
    assert_eq!(
        (&again["queued"], &again["examined"]),
        (&json!(0), &json!(42)),
        "what is under way is left alone"
    );
    assert_eq!(settle_due(&system, DeliveryState::Delivered, 200, b"").await.len(), 38);
    assert_eq!(replay(&client, &id, &range(json!({"which": "missed"}))).await["queued"], 0);
    assert_eq!(replay(&client, &id, &range(json!({"which": "all"}))).await["queued"], 38);
    let after = replay(&client, &id, &range(json!({"which": "missed", "after": events[20]}))).await;
    assert!(after["examined"].as_u64().unwrap() < 25, "{after}");
    // One event goes whatever the hook wants.
    settle_due(&system, DeliveryState::Delivered, 200, b"").await;
    assert_eq!(replay(&client, &id, &json!({"event_id": events[0]})).await["queued"], 1);
    assert_eq!(delivery(&client, &events[0], &id).await["state"], "pending");
    let unknown = json!({"event_id": "evt_01hzy3v9k2s8d4f6g8h0j2k4m6"});
    assert_eq!(client.post_json(&format!("/v1/hooks/{id}/replay"), &unknown).await.error().0, 404);
}
