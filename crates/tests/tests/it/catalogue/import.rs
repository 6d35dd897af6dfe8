//! Event types from an OpenAPI document, over HTTP and by the operator's command.

use hookyard_tests::{
    processes::{environment, operate, run, run_unread},
    system::System,
};
use serde_json::{Value, json};

use super::{all, create, patch};

const PATH: &str = "/v1/event-types/import/openapi";

fn document() -> Value {
    json!({"openapi": "3.1.0", "info": {"title": "Shop", "version": "1"},
        "webhooks": {
            "order.created": {"post": {"summary": "An order was placed.", "tags": ["Orders"],
                "requestBody": {"content": {"application/json": {
                    "schema": {"$ref": "#/components/schemas/Order"}, "example": {"id": 7, "customer": {"name": "Ada"}}}}}}},
            "order.deleted": {"post": {"summary": "An order is gone.", "deprecated": true}}},
        "components": {"schemas": {
            "Order": {"type": "object", "required": ["id"], "properties": {"id": {"type": "integer"}, "customer": {"$ref": "#/components/schemas/Customer"}}},
            "Customer": {"type": "object", "properties": {"name": {"type": "string"}}}}}})
}

#[tokio::test]
async fn a_document_is_taken_once_and_changes_nothing_the_second_time() {
    let system = System::start().await;
    let client = system.client().await;
    create(&client, json!({"name": "order.deleted", "description": "Old.", "aliases": ["OrderDeleted"]}))
        .await;
    let dry = client.post_json(&format!("{PATH}?dry_run=true"), &document()).await.expect(200);
    let changed = json!([{"name": "order.deleted", "changed": ["description", "deprecated"]}]);
    assert_eq!(
        dry,
        json!({"dry_run": true, "created": ["order.created"], "updated": changed, "unchanged": [], "skipped": []})
    );
    assert_eq!(all(&client, "own=true").await.len(), 1, "nothing was changed");
    let url = format!("{PATH}?validation=reject");
    let first = client.post_json(&url, &document()).await.expect(200);
    assert_eq!((&first["created"], &first["updated"]), (&dry["created"], &changed));
    let shown = client.get("/v1/event-types/order.created").await.expect(200);
    assert_eq!(
        (&shown["description"], &shown["feature_group"], &shown["validation"], &shown["example"]),
        (
            &json!("An order was placed."),
            &json!("Orders"),
            &json!("reject"),
            &json!({"id": 7, "customer": {"name": "Ada"}})
        )
    );
    let deleted = client.get("/v1/event-types/OrderDeleted").await.expect(200);
    assert_eq!((&deleted["deprecated"], &deleted["validation"]), (&json!(true), &json!("off")));
    // It counts at once, with what the schema refers to.
    let event = json!({"event_type": "order.created", "payload": {"id": 1, "customer": {"name": 5}}});
    assert_eq!(client.post_json("/events", &event).await.expect(422)["details"]["path"], "/customer/name");
    // What the document does not speak of stays.
    patch(&client, "order.created", json!({"validation": "warn", "aliases": ["OrderCreated"]}))
        .await
        .expect(200);
    let second = client.post_json(&url, &document()).await.expect(200);
    assert_eq!(
        second,
        json!({"dry_run": false, "created": [], "updated": [], "unchanged": ["order.created", "order.deleted"], "skipped": []})
    );
    let kept = client.get("/v1/event-types/OrderCreated").await.expect(200);
    assert_eq!((&kept["validation"], &kept["aliases"]), (&json!("warn"), &json!(["OrderCreated"])));
    let audit = client.get("/v1/audit?limit=100").await.expect(200);
    let told: Vec<&str> =
        audit["data"].as_array().unwrap().iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    let told = |action: &str| told.iter().filter(|there| **there == action).count();
    assert_eq!((told("event_type.created"), told("event_type.updated")), (2, 2));
}

#[tokio::test]
async fn what_cannot_be_taken_is_told_and_nothing_of_the_rest_is_stored() {
    let system = System::start().await;
    let client = system.client().await;
    create(&client, json!({"name": "other", "aliases": ["order.deleted"]})).await;
    let mut broken = document();
    broken["webhooks"]["no type"] = json!({"post": {}});
    broken["components"]["schemas"]["Customer"]["type"] = json!("objekt");
    let told = client.post_json(PATH, &broken).await.expect(422);
    assert_eq!(
        (&told["error_code"], &told["details"]["field"]),
        (&json!("INVALID_OPENAPI"), &json!("document"))
    );
    let problems = told["details"]["problems"].as_array().unwrap();
    let paths: Vec<&str> = problems.iter().map(|problem| problem["path"].as_str().unwrap()).collect();
    assert_eq!(
        paths,
        [
            "/webhooks/no type",
            "/webhooks/order.created/post/requestBody/content/application~1json/schema/$defs/Customer/type",
            "/webhooks/order.deleted/post"
        ]
    );
    assert_eq!(all(&client, "own=true").await.len(), 1);
    broken["webhooks"]["order.paid"] = json!({"post": {}});
    let some = client.post_json(&format!("{PATH}?skip_invalid=true"), &broken).await.expect(200);
    assert_eq!((&some["created"], some["skipped"].as_array().unwrap().len()), (&json!(["order.paid"]), 3));
    for (query, body, status, code) in [
        ("", "{".to_owned(), 400, "INVALID_JSON"),
        ("", "[]".to_owned(), 422, "INVALID_OPENAPI"),
        ("", r#"{"openapi":"3.1.0"}"#.to_owned(), 422, "INVALID_OPENAPI"),
        ("?dry_run=maybe", document().to_string(), 400, "INVALID_PARAMETER"),
        ("?validation=strict", document().to_string(), 400, "INVALID_PARAMETER"),
        ("?payload_member=data", document().to_string(), 422, "INVALID_OPENAPI"),
        ("?x=1", document().to_string(), 400, "INVALID_PARAMETER"),
        ("", format!("{{\"a\":\"{}\"}}", "x".repeat((4 << 20) - 7)), 413, "PAYLOAD_TOO_LARGE"),
        ("", format!("{{\"a\":\"{}\"}}", "x".repeat((4 << 20) - 8)), 422, "INVALID_OPENAPI"),
    ] {
        let reply = client.request("POST", &format!("{PATH}{query}")).json(&body).send().await;
        let shown = &body[..body.len().min(60)];
        assert_eq!(reply.error(), (status, code.to_owned()), "{query} {shown}");
    }
}

#[tokio::test]
async fn a_tenant_has_room_for_a_thousand_types() {
    let system = System::start().await;
    let client = system.client().await;
    let of = |from: usize, to: usize| {
        let webhooks: serde_json::Map<String, Value> =
            (from..to).map(|n| (format!("t.n{n}"), json!({"post": {}}))).collect();
        json!({"openapi": "3.1.0", "webhooks": webhooks})
    };
    for query in ["", "?dry_run=true"] {
        let refused = client.post_json(&format!("{PATH}{query}"), &of(0, 1_001)).await;
        assert_eq!(refused.error(), (409, "CONFLICT".to_owned()), "{query}");
    }
    assert!(all(&client, "own=true").await.is_empty());
    let made = client.post_json(PATH, &of(0, 1_000)).await.expect(200);
    assert_eq!(made["created"].as_array().unwrap().len(), 1_000);
    assert_eq!(client.post_json("/v1/event-types", &json!({"name": "more"})).await.error().0, 409);
    assert_eq!(patch(&client, "task.started", json!({"deprecated": true})).await.error().0, 409);
    patch(&client, "t.n1", json!({"deprecated": true})).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_imports_a_file() {
    let system = System::start().await;
    let client = system.client().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shop.yaml");
    let yaml = "openapi: 3.0.3\ninfo: {title: Shop, version: '1'}\nx-webhooks:\n  order.created:\n    post:\n      \
         summary: An order was placed.\n      requestBody:\n        content:\n          application/json:\n            \
         schema:\n              type: object\n              properties:\n                \
         note: {type: string, nullable: true}\n      responses:\n        200: {description: fine}\n";
    std::fs::write(&file, yaml).unwrap();
    let (tenant, file) = (system.tenant.to_string(), file.display().to_string());
    let environment = environment("", &[("DATABASE_URL", &system.database.url())]);
    let import = ["event-types", "import", &file, "--tenant", &tenant];
    let dry = operate(&[&import[..], &["--dry-run", "--json"]].concat(), &environment);
    assert_eq!((&dry["created"], &dry["dry_run"]), (&json!(["order.created"]), &json!(true)));
    assert!(all(&client, "own=true").await.is_empty());
    let said = |arguments: &[&str]| {
        let output = run(&[&import[..], arguments].concat(), &environment);
        let said = [&output.stdout[..], &output.stderr[..]].concat();
        (output.status.success(), String::from_utf8(said).unwrap())
    };
    let (success, text) = said(&["--validation", "reject"]);
    assert!(success && text.contains("1 created, 0 updated, 0 unchanged, 0 skipped"), "{text}");
    let (success, text) = said(&[]);
    assert!(success && text.contains("0 created, 0 updated, 1 unchanged"), "{text}");
    // When the command has ended, it counts.
    let event = |note: Value| json!({"event_type": "order.created", "payload": {"note": note}});
    assert_eq!(client.post_json("/events", &event(Value::Null)).await.status, 202);
    assert_eq!(client.post_json("/events", &event(json!(5))).await.error().0, 422);
    let unread = run_unread(&["event-types", "list", "--tenant", &tenant], &environment);
    assert!(unread.status.success(), "a reader that has enough is no error: {unread:?}");
    let listed = run(&["event-types", "list", "--tenant", &tenant], &environment);
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.contains("order.created  schema: reject  own  An order was placed."), "{listed}");
    let audit = client.get("/v1/audit?action=event_type.created").await.expect(200);
    assert_eq!(audit["data"][0]["actor"]["kind"], "operator");
    std::fs::write(folder.path().join("shop.yaml"), yaml.replace("order.created", "no type")).unwrap();
    let (success, text) = said(&[]);
    assert!(!success && text.contains("/x-webhooks/no type"), "{text}");
    let (success, text) = said(&["--validation", "strict"]);
    assert!(!success && text.contains("off, warn or reject"), "{text}");
}
