//! Who may pass the gateway and how often: credentials, scopes, limits over two gateways, idempotency keys.

mod bursts;
mod idempotency;

use std::time::{Duration, Instant};

use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::TimeDelta;
use diesel::{QueryableByName, RunQueryDsl, sql_query, sql_types::BigInt};
use hookyard_domain::credential::{Kind, Limits, Scope, store};
use hookyard_tests::{
    http::{Client, Reply},
    system::{Options, System, unlimited},
};
use serde_json::json;
use tokio::task::JoinSet;

const EVENT: &str = r#"{"event_type":"order.created","payload":{"id":1}}"#;

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    n: i64,
}

async fn events_stored(system: &System) -> i64 {
    let count = |conn: &mut diesel::PgConnection| {
        Ok(sql_query("SELECT count(*) AS n FROM events").get_result::<Count>(conn)?.n)
    };
    system.db.once(count).await.unwrap()
}

/// Sends the same request many times at once, by turns to each of the clients.
async fn at_once<F>(clients: &[Client], count: usize, send: impl Fn(Client) -> F) -> Vec<Reply>
where
    F: Future<Output = Reply> + Send + 'static,
{
    let all: JoinSet<Reply> = clients.iter().cycle().take(count).cloned().map(send).collect();
    all.join_all().await
}

async fn post_event(client: Client) -> Reply {
    client.post("/events", EVENT).await
}

fn number(reply: &Reply, header: &str) -> i64 {
    let value = reply.header(header).unwrap_or_else(|| panic!("no {header} in {reply:?}"));
    value.parse().unwrap_or_else(|_| panic!("{header}: {value}"))
}

#[tokio::test]
async fn a_key_is_taken_in_each_of_its_forms() {
    let system = System::start().await;
    let (key, tenant) = (system.key(&[Scope::EventsWrite]).await, system.tenant);
    let basic = |text: String| format!("Basic {}", STANDARD.encode(text));
    for (name, value) in [
        ("Authorization", format!("Bearer {key}")),
        ("authorization", format!("bearer {key}")),
        ("authorization", format!("BASIC {}", STANDARD.encode(&key))),
        ("authorization", basic(format!("{}:{key}", tenant.uuid()))),
        ("authorization", basic(format!("{key}:"))),
        ("X-API-Key", key.clone()),
    ] {
        let reply =
            system.anonymous().request("POST", "/events").header(name, &value).json(EVENT).send().await;
        assert_eq!(reply.status, 202, "{name}: {value}: {}", reply.text());
    }
}

#[tokio::test]
async fn whoever_has_no_valid_key_is_told_how_to_get_in() {
    let mut options = Options::default();
    options.gateway.gateway.unauthenticated_limit = 0;
    let system = System::with(options).await;
    let key = system.key(&[Scope::Admin]).await;
    let (revoked_id, revoked) = system.key_of(system.tenant, &[Scope::EventsWrite], unlimited()).await;
    let (expired_id, expired) = system.key_of(system.tenant, &[Scope::EventsWrite], unlimited()).await;
    let now = system.clock.now();
    system
        .db
        .run(move |conn| {
            sql_query("UPDATE credentials SET expires_at = $2 WHERE id = $1")
                .bind::<diesel::sql_types::Uuid, _>(expired_id)
                .bind::<diesel::sql_types::Timestamptz, _>(now)
                .execute(conn)?;
            Ok(())
        })
        .await
        .unwrap();
    system.revoke(system.tenant, revoked_id).await;
    let other = system.tenant("Other").await;
    let foreign = format!("Basic {}", STANDARD.encode(format!("{}:{key}", other.uuid())));
    let none = r#"Bearer realm="hookyard""#;
    let invalid = r#"Bearer realm="hookyard", error="invalid_token""#;
    for (name, value, challenge) in [
        ("x-nothing", String::new(), none),
        ("authorization", "Bearer ct_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".to_owned(), invalid),
        ("authorization", format!("Bearer {revoked}"), invalid),
        ("authorization", format!("Bearer {expired}"), invalid),
        ("authorization", "Basic !!!".to_owned(), invalid),
        ("authorization", "Digest username=\"x\"".to_owned(), invalid),
        ("authorization", foreign, invalid),
        ("x-api-key", "é".to_owned(), invalid),
    ] {
        let reply = system.anonymous().request("GET", "/v1/events").header(name, &value).send().await;
        assert_eq!(reply.error(), (401, "UNAUTHORIZED".to_owned()), "{name}: {value}");
        assert_eq!(reply.header("www-authenticate"), Some(challenge), "{name}: {value}");
    }
    let path = format!("/v1/events?api_key={key}&access_token={key}&key={key}");
    assert_eq!(system.anonymous().get(&path).await.status, 401, "never in the query");
}

#[tokio::test]
async fn a_new_key_works_at_once_and_a_revoked_one_stops() {
    let system = System::with(Options { gateways: 2, ..Options::default() }).await;
    let (id, key) = system.key_of(system.tenant, &[Scope::EventsWrite], unlimited()).await;
    for gateway in &system.gateways {
        assert_eq!(Client::new(gateway.addr).with_key(&key).post("/events", EVENT).await.status, 202);
    }
    system.revoke(system.tenant, id).await;
    // The very next request, on each of them.
    for gateway in &system.gateways {
        assert_eq!(Client::new(gateway.addr).with_key(&key).post("/events", EVENT).await.status, 401);
    }
}

#[tokio::test]
async fn a_scope_that_is_missing_is_named() {
    let system = System::start().await;
    let client = system.anonymous().with_key(&system.key(&[Scope::EventsRead, Scope::HooksRead]).await);
    let reply = client.post("/events", EVENT).await;
    assert_eq!(reply.error(), (403, "INSUFFICIENT_PERMISSIONS".to_owned()));
    assert_eq!(reply.json()["details"], json!({"field": "scope", "reason": "events:write"}));
    assert!(reply.json()["error"].as_str().unwrap().contains("hooks:read, events:read"), "{}", reply.text());
    assert_eq!(client.get("/v1/events").await.status, 200);
    let admin = system.anonymous().with_key(&system.key(&[Scope::Admin]).await);
    assert_eq!(admin.post("/events", EVENT).await.status, 202);
    assert_eq!(admin.get("/v1/events").await.status, 200);
}

#[tokio::test]
async fn exactly_as_many_pass_as_may_over_two_gateways() {
    let system = System::with(Options { gateways: 2, ..Options::default() }).await;
    let limits = Limits { requests: Some(20), ..unlimited() };
    let (_, key) = system.key_of(system.tenant, &[Scope::EventsWrite], limits).await;
    let clients: Vec<_> =
        system.gateways.iter().map(|gateway| Client::new(gateway.addr).with_key(&key)).collect();
    let replies = at_once(&clients, 60, post_event).await;
    let mut remaining: Vec<i64> = Vec::new();
    for reply in &replies {
        assert_eq!(number(reply, "x-ratelimit-limit"), 20);
        let reset = number(reply, "x-ratelimit-reset") - system.clock.now().timestamp();
        // Told in whole seconds, rounded up.
        assert!((1..=61).contains(&reset), "{reset}");
        match reply.status {
            202 => remaining.push(number(reply, "x-ratelimit-remaining")),
            _ => {
                assert_eq!(reply.error(), (429, "RATE_LIMITED".to_owned()));
                assert_eq!(number(reply, "x-ratelimit-remaining"), 0);
                assert!((1..=60).contains(&number(reply, "retry-after")), "{reply:?}");
            }
        }
    }
    remaining.sort_unstable();
    assert_eq!(remaining, (0..20).collect::<Vec<i64>>(), "each place was given once");
    assert_eq!(events_stored(&system).await, 20);

    system.clock.advance(TimeDelta::seconds(60));
    let again = at_once(&clients, 21, post_event).await;
    assert_eq!(again.iter().filter(|reply| reply.status == 202).count(), 20, "the window is over");
    assert_eq!(again.iter().filter(|reply| reply.status == 429).count(), 1);
}

#[tokio::test]
async fn without_a_limit_of_its_own_a_key_has_the_default() {
    let system = System::start().await;
    let (_, key) = system.key_of(system.tenant, &[Scope::EventsWrite], Limits::default()).await;
    let client = system.anonymous().with_key(&key);
    for remaining in (0..60).rev() {
        let reply = client.post("/events", EVENT).await;
        assert_eq!((reply.status, number(&reply, "x-ratelimit-remaining")), (202, remaining));
    }
    assert_eq!(client.post("/events", EVENT).await.error(), (429, "RATE_LIMITED".to_owned()));
    assert_eq!(
        system.client().await.post("/events", EVENT).await.status,
        202,
        "another key of the same tenant"
    );
}

#[tokio::test]
async fn every_answer_to_a_key_tells_its_limit() {
    let system = System::start().await;
    let (_, key) =
        system.key_of(system.tenant, &[Scope::EventsWrite, Scope::EventsRead], Limits::default()).await;
    let client = system.anonymous().with_key(&key);
    let unlimited = system.client().await;
    for (request, status) in [
        (client.request("GET", "/v1/events"), 200),
        (client.request("HEAD", "/v1/events"), 200),
        (client.request("POST", "/events").json("{"), 400),
        (client.request("POST", "/events").json("{}"), 422),
        (client.request("POST", "/events").header("content-type", "text/plain").body("x"), 415),
        (client.request("POST", "/events").json(" ".repeat((1 << 20) + 1)), 413),
        (client.request("GET", "/v1/events/evt_00000000000000000000000000"), 404),
        (client.request("GET", "/v1/events/x"), 400),
        (client.request("PUT", "/events"), 405),
        (client.request("GET", "/nowhere"), 404),
        (unlimited.request("GET", "/v1/events"), 200),
    ] {
        let told = format!("{request:?}");
        let reply = request.send().await;
        assert_eq!(reply.status, status, "{told}: {}", reply.text());
        for header in ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"] {
            assert!(number(&reply, header) > 0, "{told}");
        }
    }
    let reply = unlimited.get("/v1/events").await;
    assert_eq!(number(&reply, "x-ratelimit-limit"), i64::from(i32::MAX));
    assert_eq!(number(&reply, "x-ratelimit-remaining"), i64::from(i32::MAX));
}

#[tokio::test]
async fn whoever_guesses_keys_is_slowed_down_by_address() {
    let mut options = Options::default();
    options.gateway.gateway.unauthenticated_limit = 5;
    options.gateway.http.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let system = System::with(options).await;
    let guess = |from: &'static str, key: &'static str| {
        let request = system.anonymous().request("GET", "/v1/events").header("x-forwarded-for", from);
        if key.is_empty() { request.send() } else { request.header("x-api-key", key).send() }
    };
    for key in ["", "ct_1", "ct_2", "", "ct_3"] {
        assert_eq!(guess("198.51.100.7", key).await.status, 401);
    }
    for key in ["", "ct_4"] {
        let reply = guess("198.51.100.7", key).await;
        assert_eq!(reply.error(), (429, "RATE_LIMITED".to_owned()));
        assert!(number(&reply, "retry-after") >= 1);
    }
    assert_eq!(guess("198.51.100.8", "").await.status, 401, "somebody else");
    assert_eq!(system.anonymous().get("/livez").await.status, 200, "probes are not counted");
    let known = system.client().await;
    assert_eq!(
        known.request("GET", "/v1/events").header("x-forwarded-for", "198.51.100.8").send().await.status,
        200
    );
    system.clock.advance(TimeDelta::seconds(60));
    assert_eq!(guess("198.51.100.7", "").await.status, 401);
}

#[tokio::test]
async fn known_keys_go_on_while_the_database_is_away() {
    let system = System::start().await;
    let unlimited = system.client().await;
    let (_, key) = system.key_of(system.tenant, &[Scope::EventsWrite], Limits::default()).await;
    let limited = system.anonymous().with_key(&key);
    for client in [&unlimited, &limited] {
        assert_eq!(client.post("/events", EVENT).await.status, 202);
    }
    system.database.set_away(true).await;
    // Nobody has to ask the database for this answer.
    assert_eq!(unlimited.post("/events", "{").await.status, 400);
    for (client, body) in
        [(&unlimited, EVENT), (&limited, "{"), (&system.anonymous().with_key("ct_unknown"), EVENT)]
    {
        let reply = client.post("/events", body).await;
        let (status, code) = reply.error();
        assert!(status == 503 && ["UNAVAILABLE", "OVERLOADED"].contains(&code.as_str()), "{}", reply.text());
        assert!(number(&reply, "retry-after") >= 1);
    }
    let ready = system.anonymous().get("/readyz").await.expect(503);
    assert_eq!(ready["status"], "not_ready", "{ready}");
    assert_eq!(system.anonymous().get("/livez").await.status, 200);
    system.database.set_away(false).await;
    let end = Instant::now() + Duration::from_secs(20);
    while limited.post("/events", EVENT).await.status != 202 {
        assert!(Instant::now() < end, "the gateway does not come back");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(unlimited.post("/events", EVENT).await.status, 202);
}

#[tokio::test]
async fn the_last_use_of_a_key_is_written() {
    let mut system = System::start().await;
    let (id, key) = system.key_of(system.tenant, &[Scope::EventsWrite], unlimited()).await;
    assert_eq!(system.anonymous().with_key(&key).post("/events", EVENT).await.status, 202);
    system.stop().await;
    let tenant = system.tenant;
    let keys = system.db.once(move |conn| store::list(conn, tenant, Kind::ApiKey)).await.unwrap();
    let used = keys.iter().find(|key| key.id == id).unwrap().last_used_at;
    assert!(used.is_some_and(|at| system.clock.now() - at < TimeDelta::minutes(1)), "{used:?}");
}

#[tokio::test]
async fn what_is_not_there_is_told_in_json() {
    let system = System::start().await;
    let anonymous = system.anonymous();
    assert_eq!(anonymous.get("/nowhere").await.error(), (404, "NOT_FOUND".to_owned()));
    assert_eq!(anonymous.get("/v1/events/a/b/c").await.error(), (404, "NOT_FOUND".to_owned()));
    for (method, path, allow) in
        [("GET", "/events", "POST"), ("DELETE", "/v1/events", "GET, HEAD"), ("POST", "/livez", "GET, HEAD")]
    {
        let reply = anonymous.request(method, path).send().await;
        assert_eq!(reply.error(), (405, "METHOD_NOT_ALLOWED".to_owned()), "{method} {path}");
        assert_eq!(reply.header("allow"), Some(allow));
    }
    let reply = anonymous.request("GET", "/nowhere").header("x-request-id", "mine-1").send().await;
    assert_eq!(reply.header("x-request-id"), Some("mine-1"));
}

#[tokio::test]
async fn the_port_tells_how_it_is() {
    let mut options = Options::default();
    options.gateway.http.metrics = false;
    let silent = System::with(options).await;
    assert_eq!(silent.anonymous().get("/metrics").await.status, 404);
    let system = System::start().await;
    let anonymous = system.anonymous();
    assert_eq!(anonymous.get("/livez").await.expect(200), json!({"status": "alive"}));
    let ready = anonymous.get("/readyz").await.expect(200);
    assert_eq!(ready["status"], "ready", "{ready}");
    assert_eq!(system.client().await.post("/events", EVENT).await.status, 202);
    assert_eq!(anonymous.get("/v1/events").await.status, 401);
    let text = anonymous.get("/metrics").await.text();
    for line in [
        r#"hookyard_http_requests_total{class="2xx",route="POST /events"} 1"#,
        r#"hookyard_http_requests_total{class="4xx",route="GET /v1/events"} 1"#,
        "hookyard_events_accepted_total 1",
        "hookyard_ingest_waiting 0",
        "hookyard_ingest_group_events_count 1",
        "hookyard_http_body_bytes 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
    }
}
