//! Making, showing, listing, changing, switching and deleting consumers.

use chrono::TimeDelta;
use serde_json::{Value, json};

use super::{URL, body, count, made, patch, start};
use crate::pipeline::stage::text;

#[tokio::test]
async fn a_consumer_is_made_with_little_and_shown_with_everything() {
    let (_system, client) = start().await;
    let made = made(&client, json!({})).await;
    let id = text(&made["id"]).to_owned();
    let public_key = text(&made["public_key"]);
    assert!(public_key.starts_with("whpk_") && public_key.len() == 5 + 44, "{public_key}");
    assert_eq!(
        made,
        json!({"id": id, "url": URL, "description": "", "eventTypes": ["order.created"], "patterns": ["order.created"],
            "companyTags": [], "filter": null, "disabled": false, "state": "pending", "state_reason": null, "method": "POST",
            "headers": {}, "rate_limit": null, "ttl_seconds": null, "ordering_key": null, "transformation": null,
            "client_certificate": null, "public_key": public_key, "previous": null, "delivery_count": 0, "failure_count": 0,
            "consecutive_failures": 0, "last_delivered_at": null, "last_attempt_at": null, "last_status": null,
            "last_reason": null, "created_at": made["created_at"], "updated_at": made["created_at"]})
    );
    assert_eq!(client.get(&format!("/webhooks/{id}")).await.expect(200), made);
    // It is no hook of the other routes.
    assert_eq!(client.get(&format!("/v1/hooks/{id}")).await.status, 404);
    assert_eq!(client.get("/v1/hooks").await.expect(200)["data"], json!([]));
}

#[tokio::test]
async fn what_zapier_makes_is_called_by_its_event_types() {
    let (_system, client) = start().await;
    let zap = "https://hooks.zapier.com/hooks/standard/1/2/";
    for (said, called) in [
        (json!({}), "Zapier: order.created"),
        (json!({"eventTypes": ["order.created", "order.paid"]}), "Zapier: order.created, order.paid"),
        (json!({"description": "orders to the warehouse"}), "orders to the warehouse"),
        (json!({"description": ""}), ""),
    ] {
        let mut body = body(said);
        body["url"] = json!(zap);
        let made = client.post_json("/webhooks", &body).await.expect(201);
        assert_eq!(made["description"], called, "{body}");
    }
}

#[tokio::test]
async fn everything_that_is_said_is_shown_again_but_the_secrets() {
    let (_system, client) = start().await;
    let said = json!({
        "eventTypes": ["NewCompanySynchronized", "order.*", "read.completed.initial", "order.*"],
        "companyTags": ["region:uk", "tier:a:b", "region:uk"],
        "description": "orders to the warehouse",
        "headers": {"Authorization": "Bearer top-secret", "x-shop": "7"},
        "method": "PUT",
        "rate_limit": 25,
        "ttl_seconds": 3600,
        "ordering_key": "payload.order.id",
        "filter": {"payload.total": {"$gte": 10}},
        "transformation": {"cancel": {"payload.test": true}, "body": {"order": {"$from": "payload.order.id"}}},
        "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "disabled": true,
        "zap_id": 7
    });
    let reply = client.post_json("/webhooks", &body(said.clone())).await;
    assert!(!reply.text().contains("top-secret") && !reply.text().contains("whsec_"), "{}", reply.text());
    let made = reply.expect(201);
    for name in
        ["description", "method", "rate_limit", "ttl_seconds", "ordering_key", "filter", "transformation"]
    {
        assert_eq!(made[name], said[name], "{name}");
    }
    assert_eq!(made["eventTypes"], json!(["NewCompanySynchronized", "order.*", "read.completed.initial"]));
    assert_eq!(made["patterns"], json!(["read.completed.initial", "order.*"]));
    assert_eq!(made["companyTags"], json!(["region:uk", "tier:a:b"]));
    assert_eq!(made["headers"], json!({"authorization": "********", "x-shop": "********"}));
    assert_eq!((&made["disabled"], &made["state"]), (&json!(true), &json!("disabled")));
    assert_eq!(made["state_reason"], "disabled by its owner");
    let secret = client.get(&format!("/webhooks/{}/secret", text(&made["id"]))).await;
    assert_eq!(secret.header("cache-control"), Some("no-store"));
    let secret = secret.expect(200);
    assert_eq!((&secret["secret"], &secret["public_key"]), (&said["secret"], &made["public_key"]));
}

#[tokio::test]
async fn consumers_are_listed_by_state_type_and_tag_in_pages() {
    let (system, client) = start().await;
    let mut all = Vec::new();
    for more in [
        json!({}),
        json!({"eventTypes": ["a.b", "c.*"], "companyTags": ["k:v"]}),
        json!({"disabled": true}),
        json!({"eventTypes": ["c.*"]}),
    ] {
        all.push(text(&made(&client, more).await["id"]).to_owned());
        system.clock.advance(TimeDelta::milliseconds(2));
    }
    client.delete(&format!("/webhooks/{}", all[0])).await.expect(200);
    let expect = async |query: &str, places: &[usize]| {
        let page = client.get(&format!("/webhooks{query}")).await.expect(200);
        let ids: Vec<&str> = page["data"].as_array().unwrap().iter().map(|one| text(&one["id"])).collect();
        assert_eq!(ids, places.iter().map(|place| all[*place].as_str()).collect::<Vec<_>>(), "{query}");
        page
    };
    expect("", &[3, 2, 1]).await;
    expect("?state=deleted", &[0]).await;
    expect("?state=disabled", &[2]).await;
    expect("?event_type=c.*", &[3, 1]).await;
    expect("?event_type=a.b&tag=k:v", &[1]).await;
    expect("?tag=k:w", &[]).await;
    let first = expect("?limit=2", &[3, 2]).await;
    expect(&format!("?limit=2&cursor={}", text(&first["next_cursor"])), &[1]).await;
    for query in ["state=on", "event_type=%20", "tag=k", "limit=0", "limit=101", "cursor=x", "sate=pending"] {
        let reply = client.get(&format!("/webhooks?{query}")).await;
        assert_eq!(reply.error(), (400, "INVALID_PARAMETER".to_owned()), "{query}");
    }
}

#[tokio::test]
async fn what_is_not_in_a_change_stays_and_null_takes_away() {
    let (system, client) = start().await;
    let before = made(
        &client,
        json!({"description": "d", "companyTags": ["k:v"], "headers": {"x-a": "1"}, "rate_limit": 5, "ttl_seconds": 60,
            "ordering_key": "payload.id", "filter": {"payload.x": 1}, "transformation": {"pick": ["a"]}, "method": "PUT"}),
    )
    .await;
    let id = text(&before["id"]).to_owned();
    system.clock.advance(TimeDelta::seconds(1));
    let same = patch(&client, &id, &json!({})).await.expect(200);
    let told = |consumer: &Value| {
        let mut told = consumer.clone();
        told.as_object_mut().unwrap().remove("updated_at");
        told
    };
    assert_eq!(told(&same), told(&before));
    let url = "https://receiver.example/in?x=1";
    let changed =
        patch(&client, &id, &json!({"url": url, "eventTypes": ["task_completed"]})).await.expect(200);
    let mut expected = before.clone();
    (expected["url"], expected["eventTypes"], expected["patterns"]) =
        (json!(url), json!(["task_completed"]), json!(["task.completed"]));
    assert_eq!(told(&changed), told(&expected));
    let nothing = json!({"description": null, "companyTags": null, "headers": null, "rate_limit": null, "ttl_seconds": null,
        "ordering_key": null, "filter": null, "transformation": null, "method": null, "client_certificate": null, "url": null});
    let bare = patch(&client, &id, &nothing).await.expect(200);
    let plain = made(&client, json!({"url": url, "eventTypes": ["task_completed"]})).await;
    let unlike = ["id", "created_at", "updated_at", "public_key"];
    for (name, value) in
        plain.as_object().unwrap().iter().filter(|(name, _)| !unlike.contains(&name.as_str()))
    {
        assert_eq!(&bare[name], value, "{name}");
    }
}

#[tokio::test]
async fn a_change_that_is_refused_changes_nothing() {
    let (_system, client) = start().await;
    let before = made(&client, json!({"description": "d"})).await;
    let id = text(&before["id"]).to_owned();
    for (change, code) in [
        (json!({"description": "other", "rate_limit": 0}), "INVALID_FIELD"),
        (json!({"description": "other", "eventTypes": ["not a type"]}), "INVALID_EVENT_TYPE"),
        (
            json!({"description": "other", "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}),
            "INVALID_SECRET",
        ),
        (json!({"description": "other", "headers": {"x": "********"}}), "INVALID_HEADERS"),
    ] {
        let reply = patch(&client, &id, &change).await;
        assert_eq!(reply.error(), (422, code.to_owned()), "{change}");
        assert_eq!(client.get(&format!("/webhooks/{id}")).await.expect(200), before, "{change}");
    }
}

#[tokio::test]
async fn headers_do_not_go_to_another_origin_unless_they_are_said_again() {
    let (_system, client) = start().await;
    let before = made(&client, json!({"headers": {"authorization": "Bearer top-secret"}})).await;
    let id = text(&before["id"]).to_owned();
    for url in ["https://other.example/webhooks", "https://receiver.example:8443/webhooks"] {
        let reply = patch(&client, &id, &json!({"url": url})).await;
        assert_eq!(reply.error(), (422, "INVALID_HEADERS".to_owned()), "{url}");
        assert_eq!(reply.json()["details"]["field"], "headers", "{url}");
        assert_eq!(client.get(&format!("/webhooks/{id}")).await.expect(200), before, "{url}");
    }
    // The same origin, written otherwise.
    for url in ["https://receiver.example/elsewhere", "https://RECEIVER.example:443/elsewhere"] {
        assert_eq!(patch(&client, &id, &json!({"url": url})).await.expect(200)["url"], url);
    }
    let moved = json!({"url": "https://other.example/in", "headers": {"x-other": "1"}});
    let moved = patch(&client, &id, &moved).await.expect(200);
    assert_eq!(moved["headers"], json!({"x-other": "********"}));
    let bare = json!({"url": "https://third.example/in", "headers": null});
    assert_eq!(patch(&client, &id, &bare).await.expect(200)["headers"], json!({}));
    // Nothing to keep, nothing to say.
    patch(&client, &id, &json!({"url": URL})).await.expect(200);
}

#[tokio::test]
async fn a_consumer_is_switched_and_deleted_once() {
    let (_system, client) = start().await;
    let id = text(&made(&client, json!({})).await["id"]).to_owned();
    let switch = async |action: &str| client.post(&format!("/webhooks/{id}/{action}"), "").await;
    for _ in 0..2 {
        assert_eq!(switch("disable").await.expect(200)["state"], "disabled");
    }
    let told = client.get("/v1/events?event_type=hook.disabled").await.expect(200);
    assert_eq!(told["data"].as_array().unwrap().len(), 1, "the owner is told once: {told}");
    let test = client.post(&format!("/webhooks/{id}/test"), "").await;
    assert_eq!(test.error(), (409, "CONSUMER_DISABLED".to_owned()));
    for _ in 0..2 {
        assert_eq!(switch("enable").await.expect(200)["state"], "pending");
    }
    assert_eq!(patch(&client, &id, &json!({"disabled": true})).await.expect(200)["disabled"], true);
    assert_eq!(patch(&client, &id, &json!({"disabled": false})).await.expect(200)["disabled"], false);
    for _ in 0..2 {
        assert_eq!(client.delete(&format!("/webhooks/{id}")).await.expect(200)["status"], "deleted");
    }
    assert_eq!(client.get(&format!("/webhooks/{id}")).await.expect(200)["state"], "deleted");
    assert_eq!(client.get(&format!("/webhooks/{id}/secret")).await.status, 404);
    for action in ["enable", "disable", "test", "secret/rotate"] {
        assert_eq!(switch(action).await.error(), (409, "CONSUMER_DELETED".to_owned()), "{action}");
    }
    assert_eq!(patch(&client, &id, &json!({})).await.error(), (409, "CONSUMER_DELETED".to_owned()));
    assert_eq!(count(&client).await, 0);
}

#[tokio::test]
async fn the_same_request_makes_one_consumer() {
    let (_system, client) = start().await;
    let request = || {
        client
            .request("POST", "/webhooks")
            .header("idempotency-key", "k")
            .json(body(json!({})).to_string())
            .send()
    };
    let (first, second) = tokio::join!(request(), request());
    assert_eq!(first.expect(201), second.expect(201));
    assert_eq!(count(&client).await, 1);
    // Without a key it is another one, also with the same URL.
    made(&client, json!({})).await;
    assert_eq!(count(&client).await, 2);
}

#[tokio::test]
async fn the_audit_log_tells_what_was_done_and_no_secret() {
    let (_system, client) = start().await;
    let made = made(&client, json!({"headers": {"authorization": "Bearer top-secret"}})).await;
    let id = text(&made["id"]).to_owned();
    patch(&client, &id, &json!({"description": "new"})).await.expect(200);
    patch(&client, &id, &json!({"headers": {"authorization": "Bearer other-secret"}})).await.expect(200);
    client.get(&format!("/webhooks/{id}/secret")).await.expect(200);
    client.post(&format!("/webhooks/{id}/secret/rotate"), "").await.expect(200);
    client.post(&format!("/webhooks/{id}/disable"), "").await.expect(200);
    client.post(&format!("/webhooks/{id}/enable"), "").await.expect(200);
    client.delete(&format!("/webhooks/{id}")).await.expect(200);
    let page = client.get("/v1/audit?limit=100").await;
    let shown = page.text().to_owned();
    assert!(
        !shown.contains("top-secret") && !shown.contains("other-secret") && !shown.contains("whsec_"),
        "{shown}"
    );
    let page = page.expect(200);
    let entries = page["data"].as_array().unwrap().iter();
    let mut actions: Vec<&str> =
        entries.filter(|one| one["object"]["id"] == json!(id)).map(|one| text(&one["action"])).collect();
    actions.reverse();
    assert_eq!(
        actions,
        [
            "consumer.created",
            "consumer.updated",
            "consumer.updated",
            "consumer.secret_shown",
            "consumer.secret_rotated",
            "consumer.disabled",
            "consumer.enabled",
            "consumer.deleted"
        ],
        "{shown}"
    );
}
