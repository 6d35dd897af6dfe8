//! The catalogue from outside: the starting catalogue, types of one's own, changes, and what is refused.

#![expect(clippy::unwrap_used, reason = "all of this file is a test, its helpers too")]

mod import;
mod limits;
mod validation;
mod zapier;

use hookyard_domain::{catalogue::seed, credential::Scope};
use hookyard_messaging::Bus;
use hookyard_tests::{
    http::Client,
    system::{System, unlimited},
};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::pipeline::stage::Stage;

async fn all(client: &Client, query: &str) -> Vec<Value> {
    let mut entries = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = client.get(&format!("/v1/event-types?limit=100&{query}{cursor}")).await.expect(200);
        entries.extend(page["data"].as_array().unwrap().clone());
        match page["next_cursor"].as_str() {
            None => return entries,
            Some(next) => cursor = format!("&cursor={next}"),
        }
    }
}

async fn create(client: &Client, body: Value) -> Value {
    client.post_json("/v1/event-types", &body).await.expect(201)
}

async fn patch(client: &Client, name: &str, body: Value) -> hookyard_tests::http::Reply {
    client.request("PATCH", &format!("/v1/event-types/{name}")).json(body.to_string()).send().await
}

#[tokio::test]
async fn every_tenant_has_the_starting_catalogue() {
    let system = System::start().await;
    let client = system.client().await;
    let entries = all(&client, "").await;
    let names: Vec<&str> = entries.iter().map(|entry| entry["name"].as_str().unwrap()).collect();
    assert_eq!(names.len(), seed().len());
    assert!(
        names.is_sorted()
            && entries.iter().all(|entry| entry["own"] == false
                && entry["example"].is_object()
                && entry["schema"].is_object()
                && entry["validation"] == "off")
    );
    let tasks = all(&client, "feature_group=Tasks").await;
    assert!(tasks.len() >= 6 && tasks.iter().all(|entry| entry["feature_group"] == "Tasks"), "{tasks:?}");
    let written = all(&client, "pattern=*.write.successful").await;
    assert!(
        written.len() == 18
            && written.iter().all(|entry| entry["name"].as_str().unwrap().ends_with(".write.successful"))
    );
    let shown = client.get("/v1/event-types/NewCompanySynchronized").await.expect(200);
    assert_eq!(
        (&shown["name"], &shown["aliases"]),
        (&json!("read.completed.initial"), &json!(["NewCompanySynchronized"]))
    );
    let small = client.get("/v1/event-types?limit=1").await.expect(200);
    assert_eq!((small["data"].as_array().unwrap().len(), &small["next_cursor"]), (1, &json!(names[0])));
}

#[tokio::test]
async fn a_tenant_adds_and_changes_its_own_types() {
    let system = System::start().await;
    let client = system.client().await;
    let body = json!({"name": "order.created", "description": "An order was placed.", "example": {"n": 1.0}, "aliases": ["OrderCreated"], "x": 1});
    let made = create(&client, body.clone()).await;
    assert_eq!(
        made,
        json!({"name": "order.created", "description": "An order was placed.", "schema": null, "validation": "off",
            "example": {"n": 1}, "aliases": ["OrderCreated"], "feature_group": null, "deprecated": false,
            "archived": false, "own": true, "created_at": made["created_at"], "updated_at": made["created_at"]})
    );
    assert_eq!(client.post_json("/v1/event-types", &body).await.error(), (409, "CONFLICT".to_owned()));
    assert_eq!(client.get("/v1/event-types/OrderCreated").await.expect(200), made);
    // Subscribing and samples know it at once.
    let samples = client.get("/zapier/hook/sample?event_type=OrderCreated").await.expect(200);
    assert_eq!(
        (&samples[0]["event_type"], &samples[0]["payload"]),
        (&json!("order.created"), &json!({"n": 1}))
    );

    system.clock.advance(chrono::TimeDelta::seconds(1));
    let changed = patch(
        &client,
        "order.created",
        json!({"deprecated": true, "example": null, "name": "order.created"}),
    )
    .await
    .expect(200);
    assert_eq!(
        (
            &changed["deprecated"],
            &changed["example"],
            &changed["aliases"],
            &changed["description"],
            &changed["created_at"]
        ),
        (&json!(true), &Value::Null, &made["aliases"], &made["description"], &made["created_at"])
    );
    assert_ne!(changed["updated_at"], made["updated_at"]);
    let archived = patch(&client, "order.created", json!({"archived": true})).await.expect(200);
    assert_eq!(archived["archived"], true);
    let subscribe = |event_type: &'static str| {
        let body = json!({"url": "https://hooks.zapier.com/x", "event_type": event_type});
        let client = client.clone();
        async move { client.post_json("/zapier/hook", &body).await }
    };
    assert_eq!(subscribe("OrderCreated").await.error(), (422, "INVALID_EVENT_TYPE".to_owned()));
    let has = |entries: Vec<Value>| entries.iter().any(|entry| entry["name"] == "order.created");
    assert!(!has(all(&client, "").await) && has(all(&client, "archived=true").await));
}

#[tokio::test]
async fn a_type_of_the_starting_catalogue_can_be_changed_by_a_tenant_for_itself() {
    let system = System::start().await;
    let client = system.client().await;
    let changed = patch(&client, "task.completed", json!({"description": "Ours."})).await.expect(200);
    assert_eq!((&changed["own"], &changed["aliases"]), (&json!(true), &json!(["task_completed"])));
    let own = all(&client, "own=true").await;
    assert_eq!(own.len(), 1);
    let other = system.tenant("Other").await;
    let theirs = client.with_key(&system.key_of(other, &[Scope::Admin], unlimited()).await.1);
    let shown = theirs.get("/v1/event-types/task_completed").await.expect(200);
    assert_eq!(shown["own"], false);
    assert_ne!(shown["description"], "Ours.");
    assert_eq!(patch(&client, "task_completed", json!({})).await.error(), (404, "NOT_FOUND".to_owned()));
}

#[tokio::test]
async fn bad_types_are_told_what_is_wrong() {
    let system = System::start().await;
    let client = system.client().await;
    create(&client, json!({"name": "a.b", "aliases": ["AB"]})).await;
    for (body, status, code) in [
        (json!({}), 422, "INVALID_FIELD"),
        (json!({"name": 5}), 422, "INVALID_FIELD"),
        (json!({"name": "a b"}), 422, "INVALID_FIELD"),
        (json!({"name": "a.*"}), 422, "INVALID_FIELD"),
        (json!({"name": "a\u{0}"}), 422, "INVALID_FIELD"),
        (json!({"name": "x", "schema": true}), 422, "INVALID_SCHEMA"),
        (json!({"name": "x", "schema": {"type": "objekt"}}), 422, "INVALID_SCHEMA"),
        (json!({"name": "x", "schema": {"$ref": "http://127.0.0.1:1/schema.json"}}), 422, "INVALID_SCHEMA"),
        (json!({"name": "x", "schema": {"title": "x".repeat(65_536 - 11)}}), 422, "INVALID_SCHEMA"),
        (json!({"name": "x", "validation": "reject"}), 422, "INVALID_FIELD"),
        (json!({"name": "x", "schema": {}, "validation": 1}), 422, "INVALID_FIELD"),
        (json!({"name": "x", "schema": {"required": ["id"]}, "example": {}}), 422, "INVALID_FIELD"),
        (json!({"name": "x", "feature_group": "é".repeat(51)}), 422, "INVALID_FIELD"),
        (json!({"name": "x", "example": {"a": "x".repeat(65_536 - 7)}}), 422, "INVALID_FIELD"),
        (json!({"name": "x", "example": "text"}), 422, "INVALID_FIELD"),
        (json!({"name": "x", "description": "é".repeat(501)}), 422, "INVALID_FIELD"),
        (json!({"name": "x", "description": "\u{0}"}), 422, "INVALID_FIELD"),
        (
            json!({"name": "x", "aliases": (0..11).map(|n| format!("x{n}")).collect::<Vec<_>>()}),
            422,
            "INVALID_FIELD",
        ),
        (json!({"name": "x", "aliases": ["x"]}), 422, "INVALID_FIELD"),
        (json!({"name": "x", "aliases": ["y", "y"]}), 422, "INVALID_FIELD"),
        (json!({"name": "x", "aliases": ["a.b"]}), 409, "CONFLICT"),
        (json!({"name": "x", "aliases": ["AB"]}), 409, "CONFLICT"),
        (json!({"name": "x", "aliases": ["task_completed"]}), 409, "CONFLICT"),
        (json!({"name": "x", "aliases": ["DataConnectionStatusChanged"]}), 409, "CONFLICT"),
        (json!({"name": "AB"}), 409, "CONFLICT"),
        (json!({"name": "NewCompanySynchronized"}), 409, "CONFLICT"),
        (json!({"name": "x", "archived": "no"}), 422, "INVALID_FIELD"),
    ] {
        let reply = client.post_json("/v1/event-types", &body).await;
        assert_eq!(reply.error(), (status, code.to_owned()), "{body}");
    }
    assert_eq!(client.get("/v1/event-types/x").await.error().0, 404, "nothing of it was stored");
    assert_eq!(patch(&client, "a.b", json!({"aliases": ["task_completed"]})).await.error().0, 409);
    assert_eq!(patch(&client, "a.b", json!({"name": "c"})).await.error(), (422, "INVALID_FIELD".to_owned()));
    assert_eq!(client.get("/v1/event-types/AB").await.expect(200)["name"], "a.b", "nothing of it was stored");
    let bounds = json!({"name": "x", "description": "é".repeat(500), "aliases": (0..10).map(|n| format!("x{n}")).collect::<Vec<_>>(),
        "schema": {"title": "x".repeat(65_536 - 12)}, "example": {"a": "x".repeat(65_536 - 8)}, "feature_group": "é".repeat(50)});
    create(&client, bounds).await;
}

#[tokio::test]
async fn fifty_identical_requests_with_a_key_make_one_type() {
    let system = System::start().await;
    let client = system.client().await;
    let mut requests = JoinSet::new();
    for _ in 0..50 {
        let request = client.request("POST", "/v1/event-types").header("idempotency-key", "k");
        requests.spawn(request.json(r#"{"name":"a.b"}"#).send());
    }
    let replies = requests.join_all().await;
    let replayed = replies.iter().filter(|reply| reply.header("idempotent-replayed").is_some()).count();
    assert_eq!(replayed, 49);
    for reply in &replies {
        assert_eq!((reply.status, &reply.body), (201, &replies[0].body));
    }
}

#[tokio::test]
async fn two_types_cannot_take_the_same_alias_at_the_same_time() {
    let system = System::start().await;
    let client = system.client().await;
    let mut requests = JoinSet::new();
    for n in 0..20 {
        let body = json!({"name": format!("t{n}"), "aliases": ["wanted"]}).to_string();
        requests.spawn(client.request("POST", "/v1/event-types").json(body).send());
    }
    let replies = requests.join_all().await;
    let made = replies.iter().filter(|reply| reply.status == 201).count();
    assert_eq!(made, 1);
    assert!(
        replies
            .iter()
            .filter(|reply| reply.status != 201)
            .all(|reply| reply.error() == (409, "CONFLICT".to_owned()))
    );
}

#[tokio::test]
async fn each_route_needs_its_scope() {
    let system = System::start().await;
    let (read, write) = (system.key(&[Scope::EventsRead]).await, system.key(&[Scope::EventsWrite]).await);
    for (method, path, key) in [
        ("GET", "/v1/event-types", &write),
        ("GET", "/v1/event-types/a", &write),
        ("POST", "/v1/event-types", &read),
        ("PATCH", "/v1/event-types/a", &read),
    ] {
        let reply = system.anonymous().with_key(key).request(method, path).json("{}").send().await;
        assert_eq!(reply.error(), (403, "INSUFFICIENT_PERMISSIONS".to_owned()), "{method} {path}");
        assert_eq!(system.anonymous().request(method, path).send().await.error().0, 401);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_posted_under_an_alias_is_none_of_the_type() {
    let stage = Stage::open(Bus::in_process()).await;
    let described = json!({"name": "order.created", "aliases": ["OrderCreated"], "schema": {"required": ["id"]},
        "validation": "reject"});
    create(&stage.client, described).await;
    let by_type = stage.hook("type", json!({"event_type": "order.created"})).await;
    let by_alias = stage.hook("alias", json!({"event_type": "OrderCreated"})).await;
    let everything = stage.hook("everything", json!({})).await;
    let without_id = json!({"event_type": "order.created", "payload": {}});
    let refused = stage.client.post_json("/events", &without_id).await;
    assert_eq!(refused.error(), (422, "SCHEMA_MISMATCH".to_owned()));
    // Under the alias it is taken as it is, and reaches neither who named the type nor who named the alias.
    let under_alias = stage.post("OrderCreated", json!({})).await;
    assert_eq!(stage.goes_to(&under_alias).await, std::slice::from_ref(&everything));
    let shown = stage.client.get(&format!("/v1/events/{under_alias}")).await.expect(200);
    assert_eq!(shown["event_type"], "OrderCreated");
    let of_the_type = stage.post("order.created", json!({"id": 1})).await;
    let mut wanted = vec![by_type, by_alias, everything];
    wanted.sort();
    assert_eq!(stage.goes_to(&of_the_type).await, wanted);
    stage.close().await;
}
