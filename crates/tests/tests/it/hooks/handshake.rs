//! Subscribing and unsubscribing as Zapier does it (contract §3, source 4).

use std::collections::HashSet;

use chrono::TimeDelta;
use hookyard_domain::{credential::Scope, subscription};
use hookyard_tests::system::unlimited;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{delivery, hook, post, replay, start, state, subscribe, unsubscribe, zap};

#[tokio::test]
async fn a_hook_is_subscribed_once() {
    let (system, client) = start().await;
    let first = subscribe(&client, &json!({"url": zap("a")})).await;
    let (id, created_at) = (&first["id"], &first["created_at"]);
    assert_eq!(first, json!({"status": "success", "id": id, "url": zap("a"), "created_at": created_at}));
    assert!(id.as_str().unwrap().starts_with("hook_"));
    system.clock.advance(TimeDelta::seconds(5));
    let again = subscribe(&client, &json!({"url": zap("a")})).await;
    assert_eq!(
        again,
        json!({"status": "success", "id": id, "url": zap("a"), "created_at": created_at,
            "message": "Webhook already subscribed"})
    );
}

#[tokio::test]
async fn everything_that_is_given_comes_back_and_the_secret_does_not() {
    let (system, client) = start().await;
    let expiry = system.clock.now() + TimeDelta::days(1);
    let body = json!({
        "url": zap("a"),
        "event_type": ["NewCompanySynchronized"],
        "filter": {"payload.total": {"$gte": 1.0}},
        "expiration_date": expiry.to_rfc3339(),
        "secret": "very-secret",
        "zap_id": 18446744073709551615_u64,
        "subscription": {"anything": [null]},
    });
    let reply = client.post_json("/zapier/hook", &body).await;
    assert!(!reply.text().contains("secret"), "{}", reply.text());
    let told = reply.expect(200);
    assert_eq!(
        told,
        json!({"status": "success", "id": told["id"], "url": zap("a"), "created_at": told["created_at"],
            "event_type": "NewCompanySynchronized", "filter": {"payload.total": {"$gte": 1}},
            "expiration_date": hookyard_domain::event::wire_time(expiry)})
    );
    let shown = client.get(&format!("/v1/hooks/{}", told["id"].as_str().unwrap())).await;
    assert!(!shown.text().contains("secret"), "{}", shown.text());
    let shown = shown.expect(200);
    assert_eq!((&shown["pattern"], &shown["state"]), (&json!("read.completed.initial"), &json!("pending")));
}

#[tokio::test]
async fn optional_members_may_be_empty() {
    let (_system, client) = start().await;
    let plain = hook(&client, &json!({"url": zap("a")})).await;
    for empty in [json!(null), json!("")] {
        let body = json!({"url": zap("a"), "event_type": empty, "filter": empty, "expiration_date": empty, "secret": empty});
        assert_eq!(hook(&client, &body).await, plain);
    }
}

#[tokio::test]
async fn hooks_differ_by_url_type_and_filter() {
    let (_system, client) = start().await;
    let mut ids = HashSet::new();
    for body in [
        json!({"url": zap("a")}),
        json!({"url": zap("b")}),
        json!({"url": zap("a"), "event_type": "order.created"}),
        json!({"url": zap("a"), "event_type": "order.*"}),
        json!({"url": zap("a"), "event_type": "order.created", "filter": {"payload.a": 1}}),
        json!({"url": zap("a"), "event_type": "order.created", "filter": {"payload.a": 2}}),
    ] {
        assert!(ids.insert(hook(&client, &body).await), "{body}");
        assert!(!ids.insert(hook(&client, &body).await), "{body}");
    }
    let listed = client.get("/v1/hooks?limit=100").await.expect(200);
    assert_eq!(listed["data"].as_array().unwrap().len(), ids.len());
}

#[tokio::test]
async fn fifty_identical_subscribes_make_one_hook() {
    let (_system, client) = start().await;
    let mut all = JoinSet::new();
    for _ in 0..50 {
        let client = client.clone();
        all.spawn(async move { subscribe(&client, &json!({"url": zap("race"), "event_type": "a.b"})).await });
    }
    let answers: Vec<Value> = all.join_all().await;
    let of = |name: &str| answers.iter().map(|answer| answer[name].to_string()).collect::<HashSet<_>>();
    assert_eq!((of("id").len(), of("created_at").len()), (1, 1));
    assert_eq!(answers.iter().filter(|answer| answer["message"].is_null()).count(), 1);
    assert_eq!(client.get("/v1/hooks").await.expect(200)["data"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_key_makes_a_repeated_subscribe_the_same() {
    let (_system, client) = start().await;
    let send = |url: String, key: &'static str| {
        let request = client.request("POST", "/zapier/hook").header("idempotency-key", key);
        request.json(json!({"url": url}).to_string()).send()
    };
    let first = send(zap("a"), "k").await;
    let again = send(zap("a"), "k").await;
    assert_eq!((again.status, again.body), (200, first.body), "without `message`: it is the first answer");
    assert_eq!(again.headers.iter().find(|(name, _)| name == "idempotent-replayed").unwrap().1, "true");
    assert_eq!(send(zap("b"), "k").await.error(), (422, "IDEMPOTENCY_MISMATCH".to_owned()));
    // A refused request leaves the key free.
    assert_eq!(send("nonsense".to_owned(), "l").await.error(), (422, "INVALID_WEBHOOK_URL".to_owned()));
    assert_eq!(send(zap("b"), "l").await.status, 200);
}

#[tokio::test]
async fn two_tenants_may_have_the_same_url() {
    let (system, ours) = start().await;
    let other = system.tenant("Other").await;
    let theirs = ours.with_key(&system.key_of(other, &[Scope::Admin], unlimited()).await.1);
    let (our, their) =
        (hook(&ours, &json!({"url": zap("a")})).await, hook(&theirs, &json!({"url": zap("a")})).await);
    assert_ne!(our, their);
    // By id, too: the other's hook is not there.
    for body in [json!({"url": zap("a")}), json!({"id": our}), json!({"id": our, "url": zap("a")})] {
        unsubscribe(&theirs, &body).await.expect(200);
    }
    assert_eq!(
        (state(&ours, &our).await, state(&theirs, &their).await),
        ("pending".to_owned(), "deleted".to_owned())
    );
}

#[tokio::test]
async fn unsubscribing_works_in_every_spelling() {
    let (_system, client) = start().await;
    let gone = json!({"status": "deleted", "url": zap("a")});
    let encoded = zap("a").replace(':', "%3A").replace('/', "%2F");
    for spelling in 0..7 {
        let id = hook(&client, &json!({"url": zap("a")})).await;
        let send = || async {
            let json = |method, path: &str, body: Value| client.request(method, path).json(body.to_string());
            match spelling {
                0 => json("DELETE", "/zapier/hook", json!({"url": zap("a"), "zap": {"id": 1}})),
                1 => json("DELETE", "/zapier/hook", json!({"id": id, "url": zap("a")})),
                2 => client.request("DELETE", &format!("/zapier/hook?url={encoded}")),
                3 => client.request("DELETE", &format!("/zapier/hook?id={id}&url={encoded}")),
                4 => client
                    .request("DELETE", &format!("/zapier/hook/{id}"))
                    .json(json!({"url": zap("a")}).to_string()),
                5 => json("POST", "/zapier/hook/unsubscribe", json!({"url": zap("a")})),
                _ => client.request("POST", &format!("/zapier/hook/unsubscribe?url={encoded}")),
            }
            .send()
            .await
        };
        assert_eq!(send().await.expect(200), gone, "{spelling}");
        assert_eq!(state(&client, &id).await, "deleted");
        let mut again = gone.clone();
        again["message"] = json!("Webhook already deleted or not found");
        assert_eq!(send().await.expect(200), again, "{spelling}");
    }
}

#[tokio::test]
async fn unsubscribing_what_is_not_there_is_no_error() {
    let (_system, client) = start().await;
    let message = "Webhook already deleted or not found";
    for (body, url) in [
        (json!({"url": zap("never")}), json!(zap("never"))),
        (json!({"url": "not even a url \u{0}"}), json!(null)),
        (json!({"url": "not even a url"}), json!("not even a url")),
        (json!({"id": "hook_01hzy3v9k2s8d4f6g8h0j2k4m6"}), json!(null)),
        (json!({"id": "nonsense"}), json!(null)),
    ] {
        let reply = unsubscribe(&client, &body).await;
        if body["url"].as_str().is_some_and(|url| url.contains('\0')) {
            // No text that could be anything's URL.
            assert_eq!(reply.error(), (400, "MISSING_URL".to_owned()));
        } else {
            assert_eq!(
                reply.expect(200),
                json!({"status": "deleted", "url": url, "message": message}),
                "{body}"
            );
        }
    }
    let reply = client.delete("/zapier/hook/nonsense").await.expect(200);
    assert_eq!(reply["message"], message);
    assert_eq!(client.delete("/zapier/hook?url=a%00b").await.expect(200)["message"], message);
}

#[tokio::test]
async fn a_url_stands_for_all_its_hooks_and_with_a_type_for_one() {
    let (_system, client) = start().await;
    let one = hook(&client, &json!({"url": zap("a"), "event_type": "a.b"})).await;
    let two = hook(&client, &json!({"url": zap("a"), "event_type": "NewCompanySynchronized"})).await;
    let three = hook(&client, &json!({"url": zap("a")})).await;
    let four = hook(&client, &json!({"url": zap("b")})).await;
    unsubscribe(&client, &json!({"url": zap("a"), "event_type": "a.b"})).await.expect(200);
    let states = || async {
        let mut states = Vec::new();
        for id in [&one, &two, &three, &four] {
            states.push(state(&client, id).await);
        }
        states
    };
    assert_eq!(states().await, ["deleted", "pending", "pending", "pending"]);
    // The type may be named as it was written, or as what it stands for.
    unsubscribe(&client, &json!({"url": zap("a"), "event_type": "read.completed.initial"})).await.expect(200);
    assert_eq!(states().await, ["deleted", "deleted", "pending", "pending"]);
    unsubscribe(&client, &json!({"url": zap("a")})).await.expect(200);
    assert_eq!(states().await, ["deleted", "deleted", "deleted", "pending"]);
    let again = hook(&client, &json!({"url": zap("a")})).await;
    assert_ne!(again, three, "a deleted hook does not come back");
}

#[tokio::test]
async fn what_is_under_way_to_a_hook_ends_with_it() {
    let (_system, client) = start().await;
    let (event, id) = (post(&client, "a.b", json!({})).await, hook(&client, &json!({"url": zap("a")})).await);
    replay(&client, &id, &json!({"event_id": event})).await;
    assert_eq!(delivery(&client, &event, &id).await["state"], "pending");
    unsubscribe(&client, &json!({"url": zap("a")})).await.expect(200);
    let ended = delivery(&client, &event, &id).await;
    assert_eq!((&ended["state"], &ended["last_reason"]), (&json!("cancelled"), &json!("unsubscribed")));
}

#[tokio::test]
async fn a_disabled_hook_is_brought_back_by_subscribing_again() {
    let (_system, client) = start().await;
    let id = hook(&client, &json!({"url": zap("a")})).await;
    client.post(&format!("/v1/hooks/{id}/disable"), "").await.expect(200);
    assert_eq!(state(&client, &id).await, "disabled");
    let again = subscribe(&client, &json!({"url": zap("a")})).await;
    assert_eq!((&again["id"], &again["message"]), (&json!(id), &json!("Webhook already subscribed")));
    assert_eq!(state(&client, &id).await, "pending");
}

/// The rules themselves are the domain's; here is that they are asked.
#[tokio::test]
async fn only_urls_of_zapier_are_taken() {
    let (_system, client) = start().await;
    let rules = subscription::UrlRules::new(&["http://127.0.0.1".to_owned()]).unwrap();
    for url in [
        "https://hooks.zapier.com/hooks/standard/1/ab/",
        "https://hooks.zapier.com/fake-subscription-url",
        "https://hooks.zapier.com:443/x",
        "https://zapier.com/hooks/standard/1/ab/",
        "https://zapier.com/app/",
        "https://evilzapier.com/hooks/standard/1/ab/",
        "https://hooks.zapier.com.evil.example/",
        "https://hooks.zapier.com@evil.example/",
        "http://hooks.zapier.com/hooks/standard/1/ab/",
        "https://hooks.zapier.com:8443/x",
        "ftp://hooks.zapier.com/",
        "javascript:alert(1)",
        "//hooks.zapier.com/",
        "hooks.zapier.com",
        "",
        " ",
    ] {
        let reply = client.post_json("/zapier/hook", &json!({"url": url})).await;
        match rules.check(url) {
            Ok(_) => assert_eq!(reply.expect(200)["url"], url),
            Err(error) => {
                assert_eq!(reply.error(), (422, "INVALID_WEBHOOK_URL".to_owned()), "{url}");
                assert_eq!(
                    reply.json()["details"],
                    json!({"field": "url", "reason": error.to_string()}),
                    "{url}"
                );
            }
        }
    }
}
