//! `/zapier/event-types`: choices and fields for the editor of Zaps.

use hookyard_domain::{catalogue::seed, credential::Scope};
use hookyard_tests::system::System;
use serde_json::{Value, json};

use super::{create, patch};

fn keys(fields: &Value) -> Vec<&str> {
    fields.as_array().unwrap().iter().map(|field| field["key"].as_str().unwrap()).collect()
}

fn field<'a>(fields: &'a Value, key: &str) -> &'a Value {
    fields.as_array().unwrap().iter().find(|field| field["key"] == key).unwrap_or(&Value::Null)
}

#[tokio::test]
async fn a_dropdown_has_every_type_that_takes_hooks() {
    let system = System::start().await;
    let client = system.client().await;
    create(&client, json!({"name": "order.created", "description": "An order.", "feature_group": "Orders"}))
        .await;
    create(&client, json!({"name": "order.lost", "archived": true})).await;
    patch(&client, "task.started", json!({"deprecated": true})).await.expect(200);
    let choices = client.get("/zapier/event-types").await.expect(200);
    let choices = choices.as_array().unwrap();
    assert_eq!(choices.len(), seed().len() + 1);
    let of = |key: &str| choices.iter().find(|choice| choice["key"] == key).cloned().unwrap_or_default();
    assert_eq!(
        of("order.created"),
        json!({"id": "order.created", "key": "order.created", "label": "Order Created",
            "description": "An order.", "feature_group": "Orders", "deprecated": false})
    );
    assert_eq!(of("task.started")["label"], "Task Started (deprecated)");
    assert_eq!(of("order.lost"), Value::Null);
    // The key that Zapier has may ask, and nobody else's types are there.
    let other = system.tenant("Other").await;
    let key = system.key_of(other, &[Scope::HooksRead], super::unlimited()).await.1;
    let theirs = client.with_key(&key).get("/zapier/event-types").await.expect(200);
    assert_eq!(theirs.as_array().unwrap().len(), seed().len());
}

#[tokio::test]
async fn fields_are_known_before_the_first_event() {
    let system = System::start().await;
    let client = system.client().await;
    let schema = json!({"type": "object", "properties": {
        "id": {"type": "integer", "title": "Order Number"}, "customer": {"type": "object", "properties": {"name": {"type": "string"}}},
        "lines": {"type": "array", "items": {"type": "object", "properties": {"sku": {"type": "string"}}}},
        "paid_at": {"type": ["string", "null"], "format": "date-time"}, "tags": {"type": "array", "items": {"type": "string"}}}});
    create(&client, json!({"name": "order.created", "schema": schema, "aliases": ["OrderCreated"]})).await;
    let fields = client.get("/zapier/event-types/OrderCreated/fields").await.expect(200);
    assert_eq!(
        keys(&fields),
        [
            "id",
            "event_id",
            "event_type",
            "timestamp",
            "payload__customer__name",
            "payload__id",
            "payload__lines[]sku",
            "payload__paid_at",
            "payload__tags",
            "metadata__correlation_id",
            "metadata__source_ip",
            "metadata__user_agent",
            "created_at"
        ]
    );
    let number = field(&fields, "payload__id");
    assert_eq!(
        (&number["label"], &number["type"], &number["sample"]),
        (&json!("Order Number"), &json!("integer"), &json!(1))
    );
    assert_eq!(field(&fields, "payload__paid_at")["type"], "datetime");
    assert_eq!(field(&fields, "payload__tags")["list"], true);
    assert!(
        fields
            .as_array()
            .unwrap()
            .iter()
            .all(|field| field["label"].as_str().is_some_and(|label| !label.is_empty()))
    );
    // The sample that the editor shows is made of the same schema.
    let sample = client.get("/zapier/hook/sample?event_type=OrderCreated").await.expect(200);
    assert_eq!(sample[0]["payload"]["lines"], json!([{"sku": "text"}]));
    // As soon as there is an event, its values are the samples.
    let event = json!({"event_type": "order.created", "payload": {"id": 42, "lines": [{"sku": "A-1"}]}});
    client.post_json("/events", &event).await.expect(202);
    let fields = client.get("/zapier/event-types/order.created/fields").await.expect(200);
    assert_eq!(field(&fields, "payload__id")["sample"], 42);
    assert_eq!(field(&fields, "payload__lines[]sku")["sample"], "A-1");
}

#[tokio::test]
async fn without_a_schema_events_and_examples_tell_the_fields() {
    let system = System::start().await;
    let client = system.client().await;
    create(&client, json!({"name": "a.b", "example": {"total": 1.5, "at": "2025-01-15T10:00:00Z"}})).await;
    let fields = client.get("/zapier/event-types/a.b/fields").await.expect(200);
    assert_eq!(
        (&field(&fields, "payload__total")["type"], &field(&fields, "payload__at")["type"]),
        (&json!("number"), &json!("datetime"))
    );
    for payload in [json!({"old": true}), json!({"new": "x"})] {
        client.post_json("/events", &json!({"event_type": "a.b", "payload": payload})).await.expect(202);
    }
    let fields = client.get("/zapier/event-types/a.b/fields").await.expect(200);
    assert!(keys(&fields).contains(&"payload__old") && keys(&fields).contains(&"payload__new"), "{fields}");
    // Of a type that nobody knows there is the made-up sample.
    let unknown = client.get("/zapier/event-types/nobody.knows/fields").await.expect(200);
    assert_eq!(field(&unknown, "event_type")["sample"], "nobody.knows");
    assert_eq!(field(&unknown, "payload__message")["type"], "string");
}

#[tokio::test]
async fn patterns_have_the_fields_of_all_they_match() {
    let system = System::start().await;
    let client = system.client().await;
    let fields = client.get("/zapier/event-types/DataConnectionStatusChanged/fields").await.expect(200);
    assert!(keys(&fields).contains(&"payload__connection__platformName"), "{fields}");
    let fields = client.get("/zapier/event-types/task.*/fields").await.expect(200);
    for key in ["payload__status", "payload__question", "payload__percent"] {
        assert!(keys(&fields).contains(&key), "{key}");
    }
    let unique: std::collections::HashSet<&str> = keys(&fields).into_iter().collect();
    assert_eq!(unique.len(), keys(&fields).len());
    create(&client, json!({"name": "gone", "archived": true})).await;
    for name in ["gone", "a..b", "a%20b", "%00"] {
        let reply = client.get(&format!("/zapier/event-types/{name}/fields")).await;
        assert_eq!(reply.error(), (422, "INVALID_EVENT_TYPE".to_owned()), "{name}");
    }
}
