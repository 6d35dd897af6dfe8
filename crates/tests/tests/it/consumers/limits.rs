//! Everything that is refused, at the limit and one beyond it; and that nothing is stored then.

use hookyard_domain::subscription::consumer::{
    MAX_CONSUMERS, MAX_DESCRIPTION_CHARS, MAX_EVENT_TYPES, MAX_RATE, TTL_S, headers::MAX_HEADERS,
    tags::MAX_TAGS,
};
use serde_json::{Value, json};

use super::{body, count, made, start};
use crate::pipeline::stage::text;

#[tokio::test]
async fn what_is_wrong_is_told_with_its_place_and_nothing_is_stored() {
    let (_system, client) = start().await;
    let with = |more: Value| body(more);
    let without = |name: &str| {
        let mut body = body(json!({}));
        body.as_object_mut().unwrap().remove(name);
        body
    };
    let table = [
        (without("url"), 400, "MISSING_URL", "url"),
        (with(json!({"url": null})), 400, "MISSING_URL", "url"),
        (with(json!({"url": 5})), 422, "INVALID_WEBHOOK_URL", "url"),
        (with(json!({"url": "http://receiver.example/"})), 422, "INVALID_WEBHOOK_URL", "url"),
        (with(json!({"url": "https://10.0.0.1/"})), 422, "INVALID_WEBHOOK_URL", "url"),
        (with(json!({"url": "https://[fd00::1]/"})), 422, "INVALID_WEBHOOK_URL", "url"),
        (with(json!({"url": "https://169.254.169.254/"})), 422, "INVALID_WEBHOOK_URL", "url"),
        (with(json!({"url": "https://u:p@receiver.example/"})), 422, "INVALID_WEBHOOK_URL", "url"),
        (without("eventTypes"), 422, "INVALID_EVENT_TYPE", "eventTypes"),
        (with(json!({"eventTypes": []})), 422, "INVALID_EVENT_TYPE", "eventTypes"),
        (with(json!({"eventTypes": "order.created"})), 422, "INVALID_EVENT_TYPE", "eventTypes"),
        (with(json!({"eventTypes": ["a.b", 5]})), 422, "INVALID_EVENT_TYPE", "eventTypes"),
        (with(json!({"eventTypes": ["a.b", "a..b"]})), 422, "INVALID_EVENT_TYPE", "eventTypes[1]"),
        (with(json!({"disabled": "yes"})), 422, "INVALID_FIELD", "disabled"),
        (with(json!({"companyTags": "k:v"})), 422, "INVALID_FIELD", "companyTags"),
        (with(json!({"companyTags": ["k:v", "novalue"]})), 422, "INVALID_FIELD", "companyTags[1]"),
        (with(json!({"description": 5})), 422, "INVALID_FIELD", "description"),
        (with(json!({"headers": ["x"]})), 422, "INVALID_HEADERS", "headers"),
        (with(json!({"headers": {"x": 5}})), 422, "INVALID_HEADERS", "headers.x"),
        (
            with(json!({"headers": {"Webhook-Signature": "x"}})),
            422,
            "INVALID_HEADERS",
            "headers.Webhook-Signature",
        ),
        (with(json!({"headers": {"Host": "x"}})), 422, "INVALID_HEADERS", "headers.Host"),
        (with(json!({"headers": {"x": "a\r\nb"}})), 422, "INVALID_HEADERS", "headers.x"),
        (with(json!({"method": "DELETE"})), 422, "INVALID_FIELD", "method"),
        (with(json!({"rate_limit": 1.5})), 422, "INVALID_FIELD", "rate_limit"),
        (with(json!({"ordering_key": "a..b"})), 422, "INVALID_FIELD", "ordering_key"),
        (
            with(json!({"filter": {"payload.x": {"$near": 1}}})),
            422,
            "INVALID_FILTER",
            "filter.payload.x.$near",
        ),
        (with(json!({"transformation": "x => x"})), 422, "INVALID_TRANSFORMATION", "transformation"),
        (
            with(json!({"transformation": {"body": {"a": {"b": {"$from": 7}}}}})),
            422,
            "INVALID_TRANSFORMATION",
            "transformation.body.a.b.$from",
        ),
        (with(json!({"secret": "whsec_short"})), 422, "INVALID_SECRET", "secret"),
        (
            with(json!({"client_certificate": {"certificate": "x"}})),
            422,
            "INVALID_CERTIFICATE",
            "client_certificate",
        ),
        (
            with(json!({"client_certificate": {"certificate": "x", "private_key": "y"}})),
            422,
            "INVALID_CERTIFICATE",
            "client_certificate",
        ),
    ];
    for (body, status, code, field) in table {
        let reply = client.post_json("/webhooks", &body).await;
        assert_eq!(reply.error(), (status, code.to_owned()), "{body}: {}", reply.text());
        let told = reply.json();
        assert_eq!(told["details"]["field"], field, "{body}: {told}");
        assert!(text(&told["error"]).chars().count() < 250, "{told}");
    }
    for (text, code) in [("[]", "INVALID_BODY"), ("{", "INVALID_JSON"), ("", "MISSING_URL")] {
        assert_eq!(client.post("/webhooks", text).await.error(), (400, code.to_owned()), "{text}");
    }
    assert_eq!(count(&client).await, 0);
}

#[tokio::test]
async fn every_limit_holds_at_n_and_n_plus_one() {
    let (_system, client) = start().await;
    let types =
        |count: usize| json!({"eventTypes": (0..count).map(|at| format!("a.t{at}")).collect::<Vec<_>>()});
    let tags =
        |count: usize| json!({"companyTags": (0..count).map(|at| format!("k:{at}")).collect::<Vec<_>>()});
    let tag = |chars: usize| json!({"companyTags": [format!("k:{}", "é".repeat(chars - 2))]});
    let headers = |count: usize| {
        let headers: serde_json::Map<String, Value> =
            (0..count).map(|at| (format!("x-{at}"), json!("v"))).collect();
        json!({"headers": headers})
    };
    let url = |bytes: usize| {
        let head = "https://receiver.example/";
        json!({"url": format!("{head}{}", "a".repeat(bytes - head.len()))})
    };
    let description = |chars: usize| json!({"description": "é".repeat(chars)});
    let pairs = [
        (types(MAX_EVENT_TYPES), types(MAX_EVENT_TYPES + 1)),
        (tags(MAX_TAGS), tags(MAX_TAGS + 1)),
        (tag(128), tag(129)),
        (headers(MAX_HEADERS), headers(MAX_HEADERS + 1)),
        (json!({"headers": {"x": "v".repeat(1024)}}), json!({"headers": {"x": "v".repeat(1025)}})),
        (url(2048), url(2049)),
        (description(MAX_DESCRIPTION_CHARS), description(MAX_DESCRIPTION_CHARS + 1)),
        (json!({"rate_limit": 1}), json!({"rate_limit": 0})),
        (json!({"rate_limit": MAX_RATE}), json!({"rate_limit": MAX_RATE + 1})),
        (json!({"ttl_seconds": TTL_S.start()}), json!({"ttl_seconds": TTL_S.start() - 1})),
        (json!({"ttl_seconds": TTL_S.end()}), json!({"ttl_seconds": TTL_S.end() + 1})),
        (json!({"ordering_key": "a".repeat(256)}), json!({"ordering_key": "a".repeat(257)})),
    ];
    let accepted = pairs.len();
    for (good, bad) in pairs {
        made(&client, good).await;
        let reply = client.post_json("/webhooks", &body(bad.clone())).await;
        assert_eq!(reply.status, 422, "{bad}: {}", reply.text());
    }
    assert_eq!(count(&client).await, accepted);
}

#[tokio::test]
async fn a_tenant_has_fifty_consumers_and_no_more_whoever_is_quicker() {
    let (system, client) = start().await;
    for _ in 0..MAX_CONSUMERS - 2 {
        made(&client, json!({})).await;
    }
    // Three at once for two places.
    let request = async || client.post_json("/webhooks", &body(json!({}))).await.status;
    let (first, second, third) = tokio::join!(request(), request(), request());
    let mut statuses = [first, second, third];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 201, 409]);
    let full = client.post_json("/webhooks", &body(json!({}))).await;
    assert_eq!(full.error(), (409, "CONFLICT".to_owned()));
    assert!(full.text().contains("50 consumers"), "{}", full.text());
    assert_eq!(count(&client).await, 50);
    // Hooks have no part in it, another tenant neither, and a deleted one leaves its place.
    client
        .post_json("/zapier/hook", &json!({"url": "https://hooks.zapier.com/hooks/standard/1/a/"}))
        .await
        .expect(200);
    let other = system.tenant("Other").await;
    let key = system
        .key_of(other, &[hookyard_domain::credential::Scope::Admin], hookyard_tests::system::unlimited())
        .await
        .1;
    made(&system.anonymous().with_key(&key), json!({})).await;
    let first = client.get("/webhooks?limit=1").await.expect(200)["data"][0]["id"].clone();
    client.delete(&format!("/webhooks/{}", text(&first))).await.expect(200);
    made(&client, json!({})).await;
}
