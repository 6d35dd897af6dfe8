//! `/v1/source-keys`, and what such a key publishes.

use hookyard_domain::credential::Scope;
use hookyard_tests::{
    http::Client,
    system::{Options, System},
};
use serde_json::json;
use tokio::task::JoinSet;

use super::{audited, count, everywhere, stands_in, text, two_gateways, with_status};

#[tokio::test]
async fn a_source_key_publishes_what_it_names_and_nothing_else() {
    let system = two_gateways().await;
    let admin = system.client().await;
    let body = json!({"name": "billing", "event_types": ["invoice.*", "order.paid"], "rate_limit": 0});
    let reply = admin.post_json("/v1/source-keys", &body).await;
    let made = reply.expect(201);
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    let (key, id) = (text(&made["key"]), text(&made["id"]));
    assert!(key.starts_with("src_") && key.len() == 47, "{made}");
    let event = |event_type: &str| json!({"event_type": event_type, "payload": {}});
    for client in everywhere(&system, &key) {
        for (event_type, status) in [
            ("invoice.sent", 202),
            ("order.paid", 202),
            ("order.created", 403),
            ("invoice", 403),
            ("invoice.sent.twice", 403),
            ("order.paid.late", 403),
        ] {
            let reply = client.post_json("/events", &event(event_type)).await;
            assert_eq!(reply.status, status, "{event_type}: {}", reply.text());
            if status == 403 {
                assert_eq!(reply.error().1, "EVENT_TYPE_NOT_ALLOWED");
                assert_eq!(reply.json()["details"]["field"], "event_type");
            }
        }
        let batch =
            json!({"events": [event("invoice.sent"), event("order.created"), event("order.paid"), {}]});
        let reply = client.post_json("/events/batch", &batch).await.expect(202);
        let codes: Vec<_> = (0..4).map(|n| reply["results"][n]["error_code"].as_str()).collect();
        assert_eq!(codes, [None, Some("EVENT_TYPE_NOT_ALLOWED"), None, Some("INVALID_EVENT")]);
        assert_eq!((&reply["accepted"], &reply["rejected"]), (&json!(2), &json!(2)));
        for path in ["/v1/events", "/v1/hooks", "/v1/keys", "/v1/source-keys"] {
            assert_eq!(
                client.get(path).await.error(),
                (403, "INSUFFICIENT_PERMISSIONS".to_owned()),
                "{path}"
            );
        }
    }
    assert_eq!(count(&system, "SELECT count(*) AS n FROM events").await, 8, "refused events are not stored");
    // What another key has posted is not given away to this one, even under its Idempotency-Key.
    let keyed = |client: &Client| {
        let request = client.request("POST", "/events").header("idempotency-key", "k");
        request.json(event("order.created").to_string()).send()
    };
    assert_eq!(keyed(&admin).await.status, 202);
    assert_eq!(keyed(&system.anonymous().with_key(&key)).await.error().1, "EVENT_TYPE_NOT_ALLOWED");

    let listed = admin.get("/v1/source-keys").await.expect(200);
    assert_eq!(listed["data"][0]["event_types"], json!(["invoice.*", "order.paid"]));
    let path = format!("/v1/source-keys/{id}");
    assert!(admin.delete(&path).await.expect(200)["revoked_at"].is_string());
    for client in everywhere(&system, &key) {
        assert_eq!(client.post_json("/events", &event("order.paid")).await.status, 401, "the very next");
    }
    admin.delete(&path).await.expect(200);
    assert_eq!(audited(&system).await, ["source_key.created", "source_key.revoked"]);
    for table in ["credentials", "audit_log", "idempotency_keys"] {
        assert!(!stands_in(&system, table, &key).await, "the key stands in {table}");
    }
}

#[tokio::test]
async fn fifty_stay_fifty_in_a_race() {
    let system = System::with(Options { gateways: 2, ..Options::default() }).await;
    let clients = everywhere(&system, &system.key(&[Scope::Admin]).await);
    let send = |client: &Client| {
        client.request("POST", "/v1/source-keys").json(r#"{"name":"s","event_types":["a.b"]}"#).send()
    };
    let before = clients.iter().cycle().take(45).map(send).collect::<JoinSet<_>>().join_all().await;
    assert_eq!(with_status(&before, 201), 45);
    let race = clients.iter().cycle().take(20).map(send).collect::<JoinSet<_>>().join_all().await;
    assert_eq!((with_status(&race, 201), with_status(&race, 409)), (5, 15), "{race:?}");
}

#[tokio::test]
async fn types_are_named_1_to_50() {
    let system = System::start().await;
    let admin = system.client().await;
    for (types, status) in [
        (vec!["a.b"; 50], 201),
        (vec!["a.b"; 51], 422),
        (vec![], 422),
        (vec!["not a type"], 422),
        (vec!["*"], 201),
    ] {
        let reply = admin.post_json("/v1/source-keys", &json!({"name": "s", "event_types": types})).await;
        assert_eq!(reply.status, status, "{types:?}: {}", reply.text());
        if status == 422 {
            assert_eq!(reply.json()["details"]["field"], "event_types");
        }
    }
    assert_eq!(admin.post("/v1/source-keys", r#"{"name":"s"}"#).await.error().1, "INVALID_FIELD");
    // It is a key of events only, whatever is asked for.
    let asked = json!({"name": "s", "event_types": ["*"], "scopes": ["admin"]});
    let made = admin.post_json("/v1/source-keys", &asked).await.expect(201);
    let client = system.anonymous().with_key(&text(&made["key"]));
    assert_eq!(client.get("/v1/keys").await.status, 403);
}
