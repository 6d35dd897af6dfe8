//! How hooks end: refused too often, gone, switched off by their owner, unsubscribed, expired.

use chrono::TimeDelta;
use hookyard_messaging::Bus;
use hookyard_tests::receiver::{Answer, Received};
use serde_json::{Value, json};

use super::stage::{Stage, delivery_id, text, until};

/// The reverse unsubscribes that came to `/path`.
fn farewells(stage: &Stage, path: &str) -> Vec<Received> {
    stage.receiver.at(path).into_iter().filter(|one| one.method == "DELETE").collect()
}

/// What a listener for events about hooks was told.
fn told(stage: &Stage, path: &str) -> Vec<Value> {
    stage.receiver.at(path).iter().map(Received::json).collect()
}

pub(super) async fn the_fifth_refusal_in_a_row_disables_and_the_fourth_does_not(bus: Bus) {
    let stage = Stage::open(bus).await;
    stage.hook("news", json!({"event_type": "hook.disabled"})).await;
    stage.hook("everything", json!({})).await;
    let hook = stage.hook("guarded", json!({"event_type": "refused.*"})).await;
    let statuses = [401, 403, 401, 403, 200, 403, 401, 403, 401];
    stage.receiver.script("guarded", statuses.map(Answer::status));
    stage.answer("guarded", 401);
    for status in statuses {
        let event = stage.post("refused.one", json!({})).await;
        let (end, state) = if status == 200 { ("delivered", "active") } else { ("dead", "failing") };
        stage.ended(&event, &hook, end).await;
        stage.in_state(&hook, state).await;
    }
    stage.counted(&hook, 1, 8).await;
    assert_eq!(farewells(&stage, "guarded").len(), 0, "four in a row, twice, are not enough");
    // One that waits when the end comes is cancelled.
    let waiting = stage.post_and_fail("refused.waiting", "guarded", &hook).await;
    stage.counted(&hook, 1, 11).await;
    assert_eq!(stage.shown(&hook).await["state"], "failing", "a 500 ends the row of refusals");
    let mut last = String::new();
    for _ in 0..5 {
        last = stage.post("refused.one", json!({})).await;
        stage.ended(&last, &hook, "dead").await;
    }
    let shown = stage.in_state(&hook, "disabled").await;
    let reason = "the receiver refused 5 deliveries in a row, the last with http_401";
    assert_eq!(shown["state_reason"], reason);
    stage.counted(&hook, 1, 16).await;
    stage.ended(&waiting, &hook, "cancelled").await;

    let said_goodbye = until("the receiver is told", async || {
        let farewells = farewells(&stage, "guarded");
        if farewells.is_empty() { Err(()) } else { Ok(farewells) }
    })
    .await;
    assert!(said_goodbye[0].body.is_empty());
    assert!(said_goodbye[0].header("user-agent").starts_with("Hookyard/"));
    let news = stage.received("news", 1).await[0].json();
    assert_eq!(news["event_type"], "hook.disabled");
    assert_eq!(
        (text(&news["payload"]["hook_id"]), &news["payload"]["url"], &news["payload"]["reason"]),
        (hook.as_str(), &json!(stage.receiver.url("guarded")), &json!(reason))
    );
    // Nothing goes there any more: neither a new event nor a second farewell, though the first was answered with 401.
    let after = stage.post("refused.late", json!({})).await;
    assert!(!stage.goes_to(&after).await.contains(&hook));
    let before = stage.receiver.count("guarded");
    stage.let_everything_happen().await;
    assert_eq!((stage.receiver.count("guarded"), farewells(&stage, "guarded").len()), (before, 1));
    assert_eq!(told(&stage, "news").len(), 1);
    let heard = told(&stage, "everything");
    assert!(heard.iter().all(|event| event["event_type"] != "hook.disabled"), "nobody asked there");
    let retry = stage.client.post(&format!("/v1/deliveries/{}/retry", delivery_id(&last, &hook)), "").await;
    assert_eq!(retry.error(), (409, "HOOK_DISABLED".to_owned()));
    stage.close().await;
}

pub(super) async fn gone_removes_the_hook_and_cancels_what_waits(bus: Bus) {
    let stage = Stage::open(bus).await;
    stage.hook("news", json!({"event_type": "hook.*"})).await;
    let hook = stage.hook("gone", json!({"event_type": "gone.*"})).await;
    let waiting = stage.post_and_fail("gone.first", "gone", &hook).await;
    stage.answer("gone", 410);
    let fatal = stage.post("gone.second", json!({})).await;
    let delivery = stage.ended(&fatal, &hook, "dead").await;
    assert_eq!(delivery["last_status"], 410);
    let shown = stage.in_state(&hook, "deleted").await;
    assert_eq!(shown["state_reason"], "the receiver answered 410 Gone");
    stage.ended(&waiting, &hook, "cancelled").await;
    let news = stage.received("news", 1).await[0].json();
    assert_eq!(news["event_type"], "hook.removed");
    assert_eq!(text(&news["payload"]["hook_id"]), hook);
    let (before, late) = (stage.receiver.count("gone"), stage.post("gone.third", json!({})).await);
    assert_eq!(stage.goes_to(&late).await, [] as [String; 0]);
    stage.let_everything_happen().await;
    assert_eq!(stage.receiver.count("gone"), before);
    assert_eq!((farewells(&stage, "gone").len(), told(&stage, "news").len()), (0, 1), "it knows");
    // Whoever subscribes again begins anew.
    stage.answer("gone", 200);
    let again = stage.hook("gone", json!({"event_type": "gone.*"})).await;
    assert_ne!(again, hook);
    let event = stage.post("gone.fourth", json!({})).await;
    stage.ended(&event, &again, "delivered").await;
    stage.close().await;
}

pub(super) async fn an_owner_disables_and_enables(bus: Bus) {
    let stage = Stage::open(bus).await;
    let hook = stage.hook("switch", json!({"event_type": "switched.*"})).await;
    let since = stage.system.clock.now() - TimeDelta::seconds(1);
    let waiting = stage.post_and_fail("switched.first", "switch", &hook).await;
    stage.client.post(&format!("/v1/hooks/{hook}/disable"), "").await.expect(200);
    until("the receiver is told", async || {
        if farewells(&stage, "switch").len() == 1 { Ok(()) } else { Err(stage.receiver.count("switch")) }
    })
    .await;
    stage.ended(&waiting, &hook, "cancelled").await;
    let missed = stage.post("switched.second", json!({})).await;
    assert_eq!(stage.goes_to(&missed).await, [] as [String; 0]);
    stage.let_everything_happen().await;
    assert_eq!(farewells(&stage, "switch").len(), 1);
    let posts = stage.receiver.count("switch") - 1;
    stage.client.post(&format!("/v1/hooks/{hook}/enable"), "").await.expect(200);
    assert_eq!(stage.shown(&hook).await["state"], "pending");
    let event = stage.post("switched.third", json!({})).await;
    stage.ended(&event, &hook, "delivered").await;
    stage.in_state(&hook, "active").await;
    assert_eq!(stage.receiver.count("switch") - 1, posts + 1, "what was cancelled stays cancelled");
    // What it missed can be had.
    let body = json!({"since": since.to_rfc3339()});
    let replayed = stage.client.post_json(&format!("/v1/hooks/{hook}/replay"), &body).await.expect(202);
    assert_eq!(replayed["queued"], 2, "{replayed}");
    stage.ended(&missed, &hook, "delivered").await;
    stage.ended(&waiting, &hook, "delivered").await;
    stage.close().await;
}

pub(super) async fn unsubscribing_cancels_what_waits(bus: Bus) {
    let stage = Stage::open(bus).await;
    let ways: [&str; 4] = ["body", "query", "path", "post"];
    let mut waiting = Vec::new();
    for way in ways {
        // Asked for later, so that nothing happens while we unsubscribe.
        stage.receiver.answer(way, Answer::status(429).with("Retry-After", "600"));
        waiting.push(stage.hook(way, json!({"event_type": "leaving.*"})).await);
    }
    let event = stage.post("leaving.soon", json!({})).await;
    for hook in &waiting {
        stage.tried(&event, hook, 1).await;
    }
    for (way, hook) in ways.into_iter().zip(&waiting) {
        let url = stage.receiver.url(way);
        let body = json!({"url": url}).to_string();
        let reply = match way {
            "body" => stage.client.request("DELETE", "/zapier/hook").json(body).send().await,
            "query" => stage.client.delete(&format!("/zapier/hook?url={url}")).await,
            "path" => stage.client.delete(&format!("/zapier/hook/{hook}")).await,
            _ => stage.client.post("/zapier/hook/unsubscribe", body).await,
        };
        assert_eq!(reply.expect(200), json!({"status": "deleted", "url": url}));
        let delivery = stage.delivery(&event, hook).await;
        assert_eq!(
            (&delivery["state"], &delivery["last_reason"]),
            (&json!("cancelled"), &json!("unsubscribed"))
        );
        stage.answer(way, 200);
    }
    stage.advance(700_000);
    stage.let_everything_happen().await;
    for way in ways {
        assert_eq!(stage.receiver.count(way), 1, "{way}: neither a retry nor a farewell");
    }
    stage.close().await;
}

pub(super) async fn a_hook_ends_when_its_time_is_over(bus: Bus) {
    let stage = Stage::open(bus).await;
    stage.hook("news", json!({"event_type": "hook.removed"})).await;
    let end = stage.system.clock.now() + TimeDelta::minutes(10);
    let hook =
        stage.hook("guest", json!({"event_type": "guest.*", "expiration_date": end.to_rfc3339()})).await;
    let event = stage.post("guest.one", json!({})).await;
    stage.ended(&event, &hook, "delivered").await;
    stage.receiver.answer("guest", Answer::status(429).with("Retry-After", "900"));
    let waiting = stage.post("guest.two", json!({})).await;
    stage.tried(&waiting, &hook, 1).await;
    stage.advance_beyond(end);
    let late = stage.post("guest.three", json!({})).await;
    assert_eq!(stage.goes_to(&late).await, [] as [String; 0], "at once, whenever somebody looks after it");
    let shown = stage.in_state(&hook, "deleted").await;
    assert_eq!(shown["state_reason"], "expired");
    stage.ended(&waiting, &hook, "cancelled").await;
    let news = stage.received("news", 1).await[0].json();
    assert_eq!(
        (
            text(&news["payload"]["hook_id"]),
            &news["payload"]["reason"],
            &news["payload"]["cancelled_deliveries"]
        ),
        (hook.as_str(), &json!("expired"), &json!(1))
    );
    stage.advance(900_000);
    stage.let_everything_happen().await;
    assert_eq!(stage.receiver.count("guest"), 2);
    stage.close().await;
}
