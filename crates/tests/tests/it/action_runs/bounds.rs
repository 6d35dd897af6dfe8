//! Every bound of a request, at N and N+1, as whoever asks meets it.

use std::{collections::BTreeMap, sync::mpsc};

use diesel::{RunQueryDsl as _, sql_query};
use hookyard_domain::{
    credential::{Limits, Scope},
    db::Conn,
};
use hookyard_tests::{
    engine::Engine,
    system::{Options, System},
};
use serde_json::{Value, json};

use super::{Stage, emit};

/// How many of these requests got which status, and what those were told that did not pass.
async fn statuses(
    system: &System,
    key: &str,
    addresses: impl Iterator<Item = String>,
) -> (BTreeMap<u16, usize>, Option<Value>) {
    let client = system.anonymous().with_key(key);
    let (mut statuses, mut told) = (BTreeMap::new(), None);
    for address in addresses {
        let reply = client.request("GET", "/v2/actions").header("x-forwarded-for", &address).send().await;
        *statuses.entry(reply.status).or_default() += 1;
        if reply.status != 200 {
            let wait: u32 = reply.header("retry-after").unwrap().parse().unwrap();
            assert!((1..=60).contains(&wait), "{wait} whole seconds");
            told = Some(reply.json()["errors"][0].clone());
        }
    }
    (statuses, told)
}

#[tokio::test(flavor = "multi_thread")]
async fn by_default_an_address_has_60_requests_a_minute_and_a_tenant_150() {
    let mut options = Options::default();
    options.gateway.http.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let system = System::with(options).await;
    let key = system.key_of(system.tenant, &[Scope::AutomationRead], Limits::default()).await.1;
    let (counted, told) = statuses(&system, &key, (0..61).map(|_| "192.0.2.1".to_owned())).await;
    assert_eq!(counted, BTreeMap::from([(200, 60), (429, 1)]));
    let told = told.unwrap();
    assert_eq!((&told["code"], &told["status"]), (&json!("RATE_LIMITED"), &json!("429")));
    // 60 have passed, whatever their address: 90 are left to the tenant, from wherever they come.
    let others = (0..91).map(|n| format!("198.51.100.{}", n % 3));
    let (counted, told) = statuses(&system, &key, others).await;
    assert_eq!(counted, BTreeMap::from([(200, 90), (429, 1)]));
    assert!(told.unwrap()["detail"].as_str().unwrap().contains("150"));
    // Another tenant at another address is not held up.
    let other = system.tenant("Other").await;
    let key = system.key_of(other, &[Scope::AutomationRead], Limits::default()).await.1;
    let (counted, _) = statuses(&system, &key, std::iter::once("203.0.113.9".to_owned())).await;
    assert_eq!(counted, BTreeMap::from([(200, 1)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_the_queue_holds_is_told_to_come_back() {
    let mut options = Options::default();
    options.gateway.gateway.queue_requests = 2;
    let system = System::with(options).await;
    let client = system.client().await;
    // Nothing can be stored while somebody holds the table.
    let (locked, is_locked) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let db = system.db.clone();
    let holding = tokio::spawn(async move {
        db.run(move |conn: &mut Conn| {
            sql_query("LOCK TABLE action_runs IN ACCESS EXCLUSIVE MODE").execute(conn)?;
            let _asked = locked.send(());
            let _until = released.recv();
            Ok(())
        })
        .await
    });
    tokio::task::spawn_blocking(move || is_locked.recv().unwrap()).await.unwrap();
    let body = json!({"action": "event.emit", "input": emit()});
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..40 {
        let (client, body) = (client.clone(), body.clone());
        asked.spawn(async move { client.post_json("/v2/action-runs", &body).await });
    }
    let mut refused = 0;
    // Two groups are being stored, and two requests wait.
    while refused < 20 {
        let reply = asked.join_next().await.unwrap().unwrap();
        let error = reply.expect(503)["errors"][0].clone();
        assert_eq!((&error["code"], &error["status"]), (&json!("OVERLOADED"), &json!("503")), "{error}");
        assert_eq!(error["detail"], "too many action runs wait to be stored");
        let wait: u32 = reply.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=60).contains(&wait));
        refused += 1;
    }
    release.send(()).unwrap();
    holding.await.unwrap().unwrap();
    let mut stored = 0;
    while let Some(reply) = asked.join_next().await {
        match reply.unwrap().status {
            200 => stored += 1,
            503 => refused += 1,
            status => panic!("{status}"),
        }
    }
    assert!(stored + refused == 40 && 3 <= stored, "{stored} stored, {refused} refused");
    assert_eq!(client.get("/v2/action-runs").await.expect(200)["meta"]["count"], stored);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_and_inputs_have_their_bounds() {
    let system = System::start().await;
    let client = system.client().await;
    for (query, status) in [
        ("limit=1", 200),
        ("limit=100", 200),
        ("limit=0", 400),
        ("limit=101", 400),
        ("limit=x", 400),
        ("offset=0", 200),
        ("offset=1000000", 200),
        ("offset=1000001", 400),
        ("offset=-1", 400),
        ("status=running", 200),
        ("status=done", 400),
        ("cursor=x", 400),
    ] {
        let reply = client.get(&format!("/v2/action-runs?{query}")).await;
        assert_eq!(reply.status, status, "{query}: {}", reply.text());
        assert_eq!(reply.json()["errors"].is_array(), status == 400);
    }
    let request = |field: &str, value: Value| {
        let mut input = json!({"url": "https://example.com/", "method": "POST"});
        input[field] = value;
        json!({"action": "http.request", "input": input})
    };
    let headers =
        |count: usize| (0..count).map(|n| (format!("x-{n}"), json!("v"))).collect::<serde_json::Map<_, _>>();
    let url = |bytes: usize| json!(format!("https://example.com/{}", "a".repeat(bytes - 20)));
    let event = |bytes: usize| {
        let emit =
            |filler: usize| json!({"event_type": "order.created", "payload": {"a": "x".repeat(filler)}});
        let rest = emit(0).to_string().len();
        json!({"action": "event.emit", "input": emit(bytes - rest)})
    };
    for (body, field, good) in [
        (request("body", json!("x".repeat(256 << 10))), "body", true),
        (request("body", json!("x".repeat((256 << 10) + 1))), "body", false),
        (request("headers", headers(30).into()), "headers", true),
        (request("headers", headers(31).into()), "headers", false),
        (request("headers", json!({"x": "v".repeat(4096)})), "headers", true),
        (request("headers", json!({"x": "v".repeat(4097)})), "headers", false),
        (request("url", url(2048)), "url", true),
        (request("url", url(2049)), "url", false),
        (request("timeout_seconds", json!(1)), "timeout_seconds", true),
        (request("timeout_seconds", json!(30)), "timeout_seconds", true),
        (request("timeout_seconds", json!(0)), "timeout_seconds", false),
        (request("timeout_seconds", json!(31)), "timeout_seconds", false),
        (request("expected_status", json!(100)), "expected_status", true),
        (request("expected_status", json!(599)), "expected_status", true),
        (request("expected_status", json!(600)), "expected_status", false),
        (request("expected_status", json!(vec![200; 50])), "expected_status", true),
        (request("expected_status", json!(vec![200; 51])), "expected_status", false),
        (event(1 << 20), "payload", true),
    ] {
        let reply = client.post_json("/v2/action-runs", &body).await;
        if good {
            reply.expect(200);
            continue;
        }
        let error = reply.expect(400)["errors"][0].clone();
        assert_eq!(error["source"]["pointer"], format!("/input/{field}"), "{error}");
    }
    let most = (1 << 20) + (16 << 10);
    for (bytes, status) in [(most, 400), (most + 1, 413)] {
        let body = format!("\"{}\"", "x".repeat(bytes - 2));
        let reply = client.post("/v2/action-runs", body).await;
        assert_eq!(reply.status, status);
        assert!(reply.json()["errors"].is_array());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_request_makes_one_run_whatever_happens_around_it() {
    let stage = Stage::with(Engine::default()).await;
    let client = &stage.client;
    let ask = async |key: String, body: &Value| {
        let request = client.request("POST", "/v2/action-runs").header("idempotency-key", key);
        request.json(body.to_string()).send().await
    };
    // A race of fifty.
    let body = json!({"action": "event.emit", "input": emit(), "callback_url": stage.receiver.url("cb")});
    let replies = futures_util::future::join_all((0..50).map(|_| ask("race".to_owned(), &body))).await;
    let ids: std::collections::BTreeSet<String> =
        replies.iter().map(|reply| reply.expect(200)["data"]["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), 1);
    let first = replies.iter().filter(|reply| reply.header("idempotent-replayed").is_none()).count();
    assert_eq!(
        (first, client.get("/v2/action-runs").await.expect(200)["meta"]["count"].as_i64()),
        (1, Some(1))
    );
    // Another body.
    let other = json!({"action": "event.emit", "input": emit()});
    assert_eq!(ask("race".to_owned(), &other).await.error(), (422, "IDEMPOTENCY_MISMATCH".to_owned()));
    for (chars, status) in [(255, 200), (256, 400)] {
        assert_eq!(ask("k".repeat(chars), &other).await.status, status, "{chars}");
    }
    // What was refused leaves no key behind.
    let unknown = json!({"action": "http.request", "authentication": "auth_01hzy3v9k2s8d4f6g8h0j2k4m6", "input": {"url": "https://example.com/"}});
    assert_eq!(ask("refused".to_owned(), &unknown).await.status, 400);
    assert_eq!(ask("refused".to_owned(), &other).await.status, 200);
    // Nobody is told of a run that is refused, however closely the same requests follow each other; another one behind them
    // counts.
    for round in 0..5 {
        let key = format!("refused-{round}");
        let replies = futures_util::future::join_all((0..50).map(|_| ask(key.clone(), &unknown))).await;
        assert!(replies.iter().all(|reply| reply.status == 400), "{:?}", replies.iter().map(|r| r.status));
        let key = format!("mixed-{round}");
        let bodies = (0..50).map(|n| if n % 2 == 0 { &unknown } else { &other });
        let replies = futures_util::future::join_all(bodies.map(|body| ask(key.clone(), body))).await;
        let good: std::collections::BTreeSet<String> = (replies.iter().skip(1).step_by(2))
            .map(|reply| reply.expect(200)["data"]["id"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(good.len(), 1);
        let id = good.first().unwrap();
        client.get(&format!("/v2/action-runs/{id}")).await.expect(200);
        for reply in replies.iter().step_by(2) {
            assert!(matches!(reply.status, 400 | 422), "{}", reply.status);
        }
    }
    // What was answered is answered again, though the connection is gone.
    let made = json!({"name": "Shop", "type": "bearer", "url": stage.receiver.url("me"), "token": "t"});
    let connection = client.post_json("/v2/authentications", &made).await.expect(201)["data"]["id"].clone();
    let body = json!({"action": "http.request", "authentication": connection, "input": {"url": stage.receiver.url("x")}});
    let first = ask("gone".to_owned(), &body).await.expect(200);
    client.delete(&format!("/v2/authentications/{}", connection.as_str().unwrap())).await.expect(200);
    assert_eq!(ask("gone".to_owned(), &body).await.expect(200), first);
    assert_eq!(client.post_json("/v2/action-runs", &body).await.status, 400);
}
