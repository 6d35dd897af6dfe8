//! What is refused and how: bad bodies, bounds, limits, scopes, other tenants' hooks, and bytes of any kind.

use chrono::TimeDelta;
use hookyard_domain::credential::{Limits, Scope};
use hookyard_tests::system::{System, unlimited};
use serde_json::{Value, json};

use super::{hook, post, start, zap};

#[tokio::test]
async fn bad_subscribes_are_told_what_is_wrong() {
    let (system, client) = start().await;
    let past = (system.clock.now() - TimeDelta::seconds(1)).to_rfc3339();
    let with = |name: &str, value: Value| {
        let mut body = json!({"url": zap("a")});
        body[name] = value;
        body.to_string()
    };
    let table: Vec<(String, u16, &str, Value)> = vec![
        (String::new(), 400, "MISSING_URL", json!("url")),
        ("{}".into(), 400, "MISSING_URL", json!("url")),
        (r#"{"url":null}"#.into(), 400, "MISSING_URL", json!("url")),
        (r#"{"url":5}"#.into(), 400, "MISSING_URL", json!("url")),
        (r#"{"url":["https://hooks.zapier.com/x"]}"#.into(), 400, "MISSING_URL", json!("url")),
        ("[]".into(), 400, "INVALID_BODY", Value::Null),
        ("null".into(), 400, "INVALID_BODY", Value::Null),
        ("{\"url\":".into(), 400, "INVALID_JSON", Value::Null),
        (r#"{"url":"\u0000"}"#.into(), 422, "INVALID_WEBHOOK_URL", json!("url")),
        (r#"{"url":"\ud800"}"#.into(), 422, "INVALID_WEBHOOK_URL", json!("url")),
        (with("event_type", json!("not a type")), 422, "INVALID_EVENT_TYPE", json!("event_type")),
        (with("event_type", json!(["a", "b"])), 422, "INVALID_EVENT_TYPE", json!("event_type")),
        (with("event_type", json!([])), 422, "INVALID_EVENT_TYPE", json!("event_type")),
        (with("event_type", json!(7)), 422, "INVALID_EVENT_TYPE", json!("event_type")),
        (with("event_type", json!({})), 422, "INVALID_EVENT_TYPE", json!("event_type")),
        (with("filter", json!([])), 422, "INVALID_FILTER", json!("filter")),
        (with("filter", json!("x")), 422, "INVALID_FILTER", json!("filter")),
        (with("filter", json!({"a": {"$regex": "x"}})), 422, "INVALID_FILTER", json!("filter.a.$regex")),
        (
            with("expiration_date", json!("tomorrow")),
            422,
            "INVALID_EXPIRATION_DATE",
            json!("expiration_date"),
        ),
        (with("expiration_date", json!(past)), 422, "INVALID_EXPIRATION_DATE", json!("expiration_date")),
        (with("expiration_date", json!(5)), 422, "INVALID_EXPIRATION_DATE", json!("expiration_date")),
        (
            with("expiration_date", json!("99999-01-01T00:00:00Z")),
            422,
            "INVALID_EXPIRATION_DATE",
            json!("expiration_date"),
        ),
        (with("secret", json!(5)), 422, "INVALID_SECRET", json!("secret")),
        (with("secret", json!("a\u{0}b")), 422, "INVALID_SECRET", json!("secret")),
    ];
    for (body, status, code, field) in table {
        let reply = client.post("/zapier/hook", &body).await;
        assert_eq!(reply.error(), (status, code.to_owned()), "{body}");
        assert_eq!(reply.json()["details"]["field"], field, "{body}");
    }
    assert_eq!(client.get("/v1/hooks").await.expect(200)["data"], json!([]));
}

#[tokio::test]
async fn lengths_end_where_they_are_said_to() {
    let (_system, client) = start().await;
    let url = |length: usize| zap(&"x".repeat(length - zap("").len()));
    let status = |body: Value| {
        let client = client.clone();
        async move { client.post_json("/zapier/hook", &body).await.status }
    };
    assert_eq!(status(json!({"url": url(2048)})).await, 200);
    assert_eq!(status(json!({"url": url(2049)})).await, 422);
    assert_eq!(status(json!({"url": zap("s"), "secret": "x".repeat(256)})).await, 200);
    assert_eq!(status(json!({"url": zap("s"), "secret": "x".repeat(257)})).await, 422);
    let padded = |length: usize| {
        let empty = json!({"url": zap("p"), "pad": ""}).to_string().len();
        json!({"url": zap("p"), "pad": "x".repeat(length - empty)})
    };
    assert_eq!(status(padded(64 << 10)).await, 200);
    assert_eq!(status(padded((64 << 10) + 1)).await, 413);
}

#[tokio::test]
async fn hook_writes_have_a_limit_of_their_own() {
    let system = System::start().await;
    let limits =
        Limits { requests: Some(0), hook_writes: Some(3), hook_write_burst: Some(0), samples: Some(2) };
    let client = system.anonymous().with_key(&system.key_of(system.tenant, &[Scope::Admin], limits).await.1);
    let writes = [("POST", "/zapier/hook"), ("DELETE", "/zapier/hook"), ("POST", "/zapier/hook/unsubscribe")];
    for (place, (method, path)) in writes.into_iter().enumerate() {
        let reply = client.request(method, path).json(json!({"url": zap("a")}).to_string()).send().await;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.header("x-ratelimit-remaining"), Some((2 - place).to_string().as_str()));
    }
    let refused = client.post_json("/zapier/hook", &json!({"url": zap("a")})).await;
    assert_eq!(refused.error(), (429, "RATE_LIMITED".to_owned()));
    assert!(refused.header("retry-after").unwrap().parse::<u32>().is_ok_and(|wait| (1..=60).contains(&wait)));
    for expected in [200, 200, 429] {
        assert_eq!(client.get("/zapier/hook/sample").await.status, expected);
    }
    assert_eq!(client.get("/v1/hooks").await.status, 200, "reading has another limit");
}

/// Every route of hooks, deliveries and dead letters, with the scope it needs.
fn routes(hook: &str, delivery: &str) -> Vec<(&'static str, String, Scope)> {
    use Scope::{HooksRead, HooksWrite};
    vec![
        ("POST", "/zapier/hook".into(), HooksWrite),
        ("DELETE", "/zapier/hook".into(), HooksWrite),
        ("POST", "/zapier/hook/unsubscribe".into(), HooksWrite),
        ("DELETE", format!("/zapier/hook/{hook}"), HooksWrite),
        ("GET", "/zapier/hook/sample".into(), HooksRead),
        ("GET", "/v1/hooks".into(), HooksRead),
        ("GET", format!("/v1/hooks/{hook}"), HooksRead),
        ("GET", format!("/v1/hooks/{hook}/secret"), HooksWrite),
        ("POST", format!("/v1/hooks/{hook}/test"), HooksWrite),
        ("POST", format!("/v1/hooks/{hook}/enable"), HooksWrite),
        ("POST", format!("/v1/hooks/{hook}/disable"), HooksWrite),
        ("POST", format!("/v1/hooks/{hook}/replay"), HooksWrite),
        ("DELETE", format!("/v1/hooks/{hook}"), HooksWrite),
        ("GET", "/v1/deliveries".into(), HooksRead),
        ("GET", format!("/v1/deliveries/{delivery}"), HooksRead),
        ("POST", format!("/v1/deliveries/{delivery}/retry"), HooksWrite),
        ("GET", "/v1/dead-letters".into(), HooksRead),
        ("POST", "/v1/dead-letters/retry".into(), HooksWrite),
        ("POST", "/v1/dead-letters/discard".into(), HooksWrite),
        ("GET", format!("/v1/dead-letters/{delivery}"), HooksRead),
        ("POST", format!("/v1/dead-letters/{delivery}/retry"), HooksWrite),
        ("DELETE", format!("/v1/dead-letters/{delivery}"), HooksWrite),
    ]
}

#[tokio::test]
async fn each_route_needs_its_scope() {
    let (system, admin) = start().await;
    let id = hook(&admin, &json!({"url": zap("a")})).await;
    let event = post(&admin, "a.b", json!({})).await;
    let delivery = super::delivery_id(&event, &id).to_string();
    let others = |needed: Scope| {
        Scope::ALL.into_iter().filter(move |scope| *scope != needed && *scope != Scope::Admin)
    };
    let lacking_read = system.key(&others(Scope::HooksRead).collect::<Vec<_>>()).await;
    let lacking_write = system.key(&others(Scope::HooksWrite).collect::<Vec<_>>()).await;
    for (method, path, scope) in routes(&id, &delivery) {
        let lacking = if scope == Scope::HooksRead { &lacking_read } else { &lacking_write };
        let reply = admin.with_key(lacking).request(method, &path).send().await;
        assert_eq!(reply.error(), (403, "INSUFFICIENT_PERMISSIONS".to_owned()), "{method} {path}");
        let reply = system.anonymous().request(method, &path).send().await;
        assert_eq!(reply.error(), (401, "UNAUTHORIZED".to_owned()), "{method} {path}");
        assert!(reply.header("www-authenticate").unwrap().starts_with("Bearer"));
    }
}

#[tokio::test]
async fn another_tenants_hooks_are_not_there() {
    let (system, ours) = start().await;
    let other = system.tenant("Other").await;
    let theirs = ours.with_key(&system.key_of(other, &[Scope::Admin], unlimited()).await.1);
    let id = hook(&ours, &json!({"url": zap("a")})).await;
    let event = post(&ours, "a.b", json!({})).await;
    super::replay(&ours, &id, &json!({"event_id": event})).await;
    let delivery = super::delivery_id(&event, &id).to_string();
    for (method, path, _) in routes(&id, &delivery) {
        if !path.contains('_') || path.starts_with("/zapier/") {
            continue;
        }
        let body = json!({"event_id": event}).to_string();
        let reply = theirs.request(method, &path).json(body).send().await;
        assert_eq!(reply.error(), (404, "NOT_FOUND".to_owned()), "{method} {path}");
    }
    for list in ["/v1/hooks", "/v1/deliveries", "/v1/dead-letters"] {
        assert_eq!(theirs.get(list).await.expect(200)["data"], json!([]), "{list}");
    }
    let body = json!({"ids": [delivery]});
    assert_eq!(theirs.post_json("/v1/dead-letters/retry", &body).await.expect(202)["moved"], 0);
    assert_eq!(super::state(&ours, &id).await, "pending");
    assert_eq!(super::delivery(&ours, &event, &id).await["state"], "pending");
}

#[tokio::test]
async fn bytes_of_any_kind_are_answered_with_4xx() {
    let (_system, client) = start().await;
    let id = hook(&client, &json!({"url": zap("a")})).await;
    let event = post(&client, "a.b", json!({})).await;
    let delivery = super::delivery_id(&event, &id).to_string();
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let bodies: Vec<Vec<u8>> = vec![
        b"\xff\xfe".to_vec(),
        b"\0".to_vec(),
        deep.clone().into_bytes(),
        format!(r#"{{"url":{deep}}}"#).into_bytes(),
        format!(r#"{{"filter":{deep},"url":"https://hooks.zapier.com/x"}}"#).into_bytes(),
        br#"{"url":"https://hooks.zapier.com/\u0000"}"#.to_vec(),
        br#"{"url":"https://hooks.zapier.com/x","event_type":"\u0000"}"#.to_vec(),
        br#"{"event_id":"evt_\u0000","since":"\u0000","ids":["\u0000"],"name":"\u0000","all":1e999}"#
            .to_vec(),
        br#"{"ids":[null],"since":-1,"until":{},"which":[],"dry_run":"x"}"#.to_vec(),
        br#"{"since":"1970-01-01T00:00:00Z","until":"1970-01-01T00:00:00.000000001Z","after":"\ud800"}"#
            .to_vec(),
        br#"{"url":1e999}"#.to_vec(),
    ];
    for (method, path, _) in routes(&id, &delivery) {
        for body in &bodies {
            let reply = client.request(method, &path).json(body).send().await;
            assert!(
                reply.status < 500,
                "{method} {path}: {} for {:?}",
                reply.text(),
                String::from_utf8_lossy(&body[..body.len().min(80)])
            );
            if reply.status >= 400 {
                reply.error();
            }
        }
    }
    for query in [
        "event_type=%00",
        "event_type=%ff%fe",
        "state=%00",
        "cursor=%00",
        "limit=%00",
        "limit=-1",
        "hook_id=%00",
        "since=%00",
        "until=0000-00-00",
        "a=1&a=2",
        "%00=%00",
        "own=%00",
        "limit=99999999999999999999",
    ] {
        for path in
            ["/v1/hooks", "/v1/deliveries", "/v1/dead-letters", "/zapier/hook/sample", "/v1/event-types"]
        {
            let reply = client.get(&format!("{path}?{query}")).await;
            assert!(reply.status < 500, "{path}?{query}: {}", reply.text());
        }
    }
    for part in ["%00", "%ff%fe", "..%2f..", "hook_", &"x".repeat(5_000), "*", "a%20b"] {
        for path in
            ["/v1/hooks/", "/v1/deliveries/", "/v1/dead-letters/", "/v1/event-types/", "/zapier/hook/"]
        {
            for method in ["GET", "DELETE", "PATCH", "POST"] {
                let reply = client.request(method, &format!("{path}{part}")).json("{}").send().await;
                assert!(reply.status < 500, "{method} {path}{part}: {}", reply.text());
            }
        }
    }
}
