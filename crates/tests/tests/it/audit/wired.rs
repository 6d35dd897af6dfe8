//! What callers do to the things of their tenant: one entry for each change, with who, what and from where; none for what
//! changes nothing, and no secret in any.

use chrono::TimeDelta;
use hookyard_domain::{
    audit::{Chain, verify::verify},
    delivery::DeliveryState,
};
use hookyard_tests::system::System;
use serde_json::{Value, json};

use super::{
    exported,
    scene::{Scene, text, url},
};

#[tokio::test]
async fn subscribing_is_told_once_and_again_only_when_it_changes_something() {
    let mut scene = Scene::start().await;
    let body = json!({"url": url("a"), "event_type": "NewCompanySynchronized", "filter": {"payload.n": 1}});
    let (answer, mut entries) = scene.entries(scene.post("/zapier/hook", body.clone()), 200).await;
    let hook = text(&answer["id"]);
    let entry = entries.remove(0);
    assert_eq!(entries, [] as [Value; 0]);
    let told = |state: &str, reason: Value, expires_at: Value| {
        json!({"url": url("a"), "event_type": "NewCompanySynchronized", "pattern": "read.completed.initial",
            "filter": {"payload.n": 1}, "state": state, "state_reason": reason, "expires_at": expires_at})
    };
    assert_eq!(
        (&entry["action"], &entry["object"], &entry["before"], &entry["after"]),
        (
            &json!("hook.subscribed"),
            &json!({"kind": "hook", "id": hook}),
            &Value::Null,
            &told("pending", Value::Null, Value::Null)
        )
    );
    for _ in 0..2 {
        assert_eq!(scene.none(scene.post("/zapier/hook", body.clone()), 200).await["id"], json!(hook));
    }
    // An expiry is new, the same one is not, and none is new again.
    let end =
        (scene.system.clock.now() + TimeDelta::days(1)).to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    let mut expiring = body.clone();
    expiring["expiration_date"] = json!(end);
    let of_hook = ("hook", hook.as_str());
    let (_, entry) =
        scene.one(scene.post("/zapier/hook", expiring.clone()), 200, "hook.updated", of_hook).await;
    assert_eq!(entry["before"], told("pending", Value::Null, Value::Null));
    assert_eq!(entry["after"], told("pending", Value::Null, json!(end)));
    scene.none(scene.post("/zapier/hook", expiring), 200).await;
    scene.one(scene.post("/zapier/hook", body.clone()), 200, "hook.updated", of_hook).await;
    // A hook that was disabled is enabled by it.
    let disable = scene.post(format!("/v1/hooks/{hook}/disable"), json!({}));
    scene.one(disable, 200, "hook.disabled", of_hook).await;
    let (_, entry) = scene.one(scene.post("/zapier/hook", body.clone()), 200, "hook.enabled", of_hook).await;
    assert_eq!(entry["before"], told("disabled", json!("disabled by its owner"), Value::Null));
    assert_eq!(entry["after"], told("pending", Value::Null, Value::Null));
    // An answer that is given again is no deed.
    let other = json!({"url": url("b")});
    let keyed = |scene: &Scene| scene.post("/zapier/hook", other.clone()).header("idempotency-key", "k");
    let (first, entries) = scene.entries(keyed(&scene), 200).await;
    assert_eq!(entries.len(), 1);
    assert_eq!(scene.none(keyed(&scene), 200).await, first);
    // Nor is what is refused.
    scene.none(scene.post("/zapier/hook", json!({"url": "https://evil.example/"})), 422).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_subscribe_fifty_times_at_once_is_told_once() {
    let scene = Scene::start().await;
    let body = json!({"url": url("a")}).to_string();
    let all: tokio::task::JoinSet<_> = (0..50)
        .map(|_| {
            let (client, body) = (scene.client.clone(), body.clone());
            async move { client.post("/zapier/hook", body).await.expect(200)["id"].clone() }
        })
        .collect();
    let mut ids = all.join_all().await;
    ids.dedup();
    assert_eq!(ids.len(), 1);
    let told = exported(&scene.client).await;
    assert_eq!(told.iter().map(|entry| &entry["action"]).collect::<Vec<_>>(), ["hook.subscribed"]);
}

#[tokio::test]
async fn what_is_done_to_a_hook_is_told() {
    let mut scene = Scene::start().await;
    let hook = scene.hook(json!({"url": url("a"), "event_type": "a.b"})).await;
    let of_hook = ("hook", hook.as_str());
    let at = |what: &str| format!("/v1/hooks/{hook}/{what}");

    let (_, entry) = scene.one(scene.request("GET", at("secret")), 200, "hook.secret_shown", of_hook).await;
    assert_eq!((&entry["before"], &entry["after"]), (&Value::Null, &Value::Null));

    let (_, entry) = scene.one(scene.post(at("disable"), json!({})), 200, "hook.disabled", of_hook).await;
    assert_eq!(
        (&entry["before"]["state"], &entry["after"]["state"]),
        (&json!("pending"), &json!("disabled"))
    );
    assert_eq!(entry["after"]["state_reason"], "disabled by its owner");
    scene.none(scene.post(at("disable"), json!({})), 200).await;
    scene.none(scene.post(at("test"), json!({})), 409).await;
    let (_, entry) = scene.one(scene.post(at("enable"), json!({})), 200, "hook.enabled", of_hook).await;
    assert_eq!(
        (&entry["before"]["state"], &entry["after"]["state"]),
        (&json!("disabled"), &json!("pending"))
    );
    scene.none(scene.post(at("enable"), json!({})), 200).await;

    // What is read or only tried out is not told.
    for path in ["/v1/hooks", &format!("/v1/hooks/{hook}"), "/v1/events", "/v1/audit"] {
        scene.none(scene.request("GET", path), 200).await;
    }
    scene.none(scene.post(at("test"), json!({})), 202).await;

    let since = scene.system.clock.now() - TimeDelta::minutes(1);
    for n in 0..3 {
        scene.none(scene.post("/events", json!({"event_type": "a.b", "payload": {"n": n}})), 202).await;
    }
    scene.system.clock.advance(TimeDelta::seconds(1));
    let until = scene.system.clock.now();
    let [since, until] = [since, until].map(|at| at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true));
    let range = json!({"since": since, "until": until});
    let mut dry = range.clone();
    dry["dry_run"] = json!(true);
    assert_eq!(scene.none(scene.post(at("replay"), dry), 202).await["queued"], 3);
    let (_, entry) = scene.one(scene.post(at("replay"), range.clone()), 202, "hook.replayed", of_hook).await;
    let told = json!({"since": since, "until": until, "after": null, "which": "missed", "queued": 3});
    assert_eq!((&entry["before"], &entry["after"]), (&Value::Null, &told));
    assert_eq!(scene.none(scene.post(at("replay"), range), 202).await["queued"], 0);

    let (_, entry) =
        scene.one(scene.request("DELETE", format!("/v1/hooks/{hook}")), 200, "hook.removed", of_hook).await;
    assert_eq!((&entry["before"]["url"], &entry["after"]), (&json!(url("a")), &Value::Null));
    scene.none(scene.request("DELETE", format!("/v1/hooks/{hook}")), 200).await;
    scene.none(scene.request("GET", at("secret")), 404).await;
}

#[tokio::test]
async fn unsubscribing_is_told_for_each_hook() {
    let mut scene = Scene::start().await;
    let mut hooks = vec![
        scene.hook(json!({"url": url("a"), "event_type": "a.b"})).await,
        scene.hook(json!({"url": url("a"), "event_type": "c.d"})).await,
    ];
    let by_url = json!({"url": url("a")}).to_string();
    let (_, entries) = scene.entries(scene.request("DELETE", "/zapier/hook").json(&by_url), 200).await;
    let mut told: Vec<String> = entries.iter().map(|entry| text(&entry["object"]["id"])).collect();
    told.sort();
    hooks.sort();
    assert_eq!(told, hooks);
    assert!(entries.iter().all(|entry| entry["action"] == "hook.unsubscribed"), "{entries:?}");
    scene.none(scene.request("DELETE", "/zapier/hook").json(&by_url), 200).await;
    for (way, path) in [("DELETE", "/zapier/hook/{}"), ("POST", "/zapier/hook/unsubscribe?id={}")] {
        let hook = scene.hook(json!({"url": url("b")})).await;
        let request = |scene: &Scene| scene.request(way, path.replace("{}", &hook));
        scene.one(request(&scene), 200, "hook.unsubscribed", ("hook", &hook)).await;
        scene.none(request(&scene), 200).await;
    }
}

#[tokio::test]
async fn what_is_sent_again_or_given_up_is_told() {
    let mut scene = Scene::start().await;
    let hook = scene.hook(json!({"url": url("a")})).await;
    let deliveries = scene.deliver(&hook, 13).await;
    let of = |at: usize| ("delivery", deliveries[at].as_str());
    scene.none(scene.post(format!("/v1/deliveries/{}/retry", deliveries[0]), json!({})), 409).await;
    scene.settle(DeliveryState::Dead).await;

    let retry = scene.post(format!("/v1/deliveries/{}/retry", deliveries[0]), json!({}));
    let (_, entry) = scene.one(retry, 202, "delivery.retried", of(0)).await;
    assert_eq!(
        (&entry["before"], &entry["after"]),
        (&json!({"state": "dead"}), &json!({"state": "pending"}))
    );

    let letter = |at: usize| format!("/v1/dead-letters/{}", deliveries[at]);
    let retry = |scene: &Scene| scene.post(format!("{}/retry", letter(1)), json!({}));
    scene.one(retry(&scene), 202, "dead_letters.retried", of(1)).await;
    scene.none(retry(&scene), 404).await;
    scene.one(scene.request("DELETE", letter(2)), 200, "dead_letters.discarded", of(2)).await;
    scene.none(scene.request("DELETE", letter(2)), 404).await;

    let many = ("dead_letters", "many");
    let some = json!({"ids": [deliveries[3]]});
    let discard = |scene: &Scene| scene.post("/v1/dead-letters/discard", some.clone());
    let (_, entry) = scene.one(discard(&scene), 200, "dead_letters.discarded", many).await;
    assert_eq!(entry["after"], json!({"count": 1, "first_ids": [deliveries[3]]}));
    assert_eq!(scene.none(discard(&scene), 200).await["moved"], 0);
    let (_, entry) = scene
        .one(scene.post("/v1/dead-letters/retry", json!({"all": true})), 202, "dead_letters.retried", many)
        .await;
    // Nine are left: all are named. Ten would be, an eleventh would not.
    assert_eq!(
        (&entry["after"]["count"], entry["after"]["first_ids"].as_array().unwrap().len()),
        (&json!(9), 9)
    );
    scene.settle(DeliveryState::Dead).await;
    let (_, entry) = scene
        .one(
            scene.post("/v1/dead-letters/discard", json!({"all": true})),
            200,
            "dead_letters.discarded",
            many,
        )
        .await;
    assert_eq!(
        (&entry["after"]["count"], entry["after"]["first_ids"].as_array().unwrap().len()),
        (&json!(11), 10)
    );
    assert_eq!(scene.none(scene.post("/v1/dead-letters/retry", json!({"all": true})), 202).await["moved"], 0);
}

#[tokio::test]
async fn changes_of_the_catalogue_are_told() {
    let mut scene = Scene::start().await;
    let of = ("event_type", "order.created");
    let new = json!({"name": "order.created", "description": "An order.", "aliases": ["OrderCreated"],
        "example": {"order": 1, "card": {"token": "tok_1"}}});
    let (_, entry) =
        scene.one(scene.post("/v1/event-types", new.clone()), 201, "event_type.created", of).await;
    let told = |deprecated: bool| {
        json!({"description": "An order.", "aliases": ["OrderCreated"], "example": {"order": 1, "card": {}},
            "schema": null, "validation": "off", "feature_group": null, "deprecated": deprecated, "archived": false})
    };
    assert_eq!((&entry["before"], &entry["after"]), (&Value::Null, &told(false)));
    scene.none(scene.post("/v1/event-types", new), 409).await;
    let patch = |scene: &Scene, name: &str, body: Value| {
        scene.request("PATCH", format!("/v1/event-types/{name}")).json(body.to_string())
    };
    let change = patch(&scene, "order.created", json!({"deprecated": true}));
    let (_, entry) = scene.one(change, 200, "event_type.updated", of).await;
    assert_eq!((&entry["before"], &entry["after"]), (&told(false), &told(true)));
    scene.none(patch(&scene, "order.created", json!({"deprecated": true})), 200).await;
    scene.none(patch(&scene, "order.created", json!({"aliases": ["order.created"]})), 422).await;
    // A type of the starting catalogue becomes the tenant's own, even if nothing else changes.
    let ours = ("event_type", "task.started");
    scene.one(patch(&scene, "task.started", json!({})), 200, "event_type.updated", ours).await;
    scene.none(patch(&scene, "task.started", json!({})), 200).await;
}

#[tokio::test]
async fn no_secret_is_told() {
    let mut scene = Scene::start().await;
    let secrets = ["first-webhook-secret", "second-webhook-secret"];
    let body = |secret: &str| json!({"url": url("a"), "secret": secret});
    let (answer, entries) = scene.entries(scene.post("/zapier/hook", body(secrets[0])), 200).await;
    assert_eq!(entries[0]["after"]["signing"], "given");
    let hook = text(&answer["id"]);
    let of_hook = ("hook", hook.as_str());
    let (_, entry) =
        scene.one(scene.post("/zapier/hook", body(secrets[1])), 200, "hook.updated", of_hook).await;
    assert_eq!((&entry["after"]["signing"], &entry["before"]["signing"]), (&json!("given"), &Value::Null));
    let shown = scene.request("GET", format!("/v1/hooks/{hook}/secret"));
    let (shown, _) = scene.one(shown, 200, "hook.secret_shown", of_hook).await;
    for action in ["disable", "enable"] {
        scene.entries(scene.post(format!("/v1/hooks/{hook}/{action}"), json!({})), 200).await;
    }
    scene.entries(scene.request("DELETE", format!("/v1/hooks/{hook}")), 200).await;
    let log = scene.client.get("/v1/audit/export").await.text();
    assert_eq!(log.lines().count(), 6);
    let signing = text(&shown["signing_secret"]);
    for secret in [secrets[0], secrets[1], &signing, signing.trim_start_matches("whsec_"), &scene.key.1] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
    let tenant = scene.system.tenant;
    let verified = scene.system.db.run(move |conn| verify(conn, Chain::Tenant(tenant), &[])).await.unwrap();
    assert_eq!((verified.end.seq, verified.flaw), (6, None));
}

#[tokio::test]
async fn an_answer_that_failed_leaves_neither_a_change_nor_an_entry() {
    let mut scene = Scene::start().await;
    // Whatever keeps the entry from being written keeps the change from being made.
    let break_log = "ALTER TABLE audit_log RENAME TO audit_log_away";
    let mend = "ALTER TABLE audit_log_away RENAME TO audit_log";
    let run = async |system: &System, statement: &'static str| {
        system
            .db
            .run(move |conn| {
                super::forge(conn, statement);
                Ok(())
            })
            .await
            .unwrap();
    };
    run(&scene.system, break_log).await;
    let reply = scene.client.post_json("/zapier/hook", &json!({"url": url("a")})).await;
    assert_eq!(reply.error(), (500, "INTERNAL".to_owned()));
    run(&scene.system, mend).await;
    assert_eq!(scene.client.get("/v1/hooks").await.expect(200)["data"], json!([]));
    assert_eq!(exported(&scene.client).await, [] as [Value; 0]);
    scene.hook(json!({"url": url("a")})).await;
}
