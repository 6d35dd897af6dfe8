//! What the public port does for browsers that are misled, for clients that mean harm, and for itself.

use std::time::Duration;

use chrono::TimeDelta;
use diesel::{QueryableByName, RunQueryDsl, sql_query, sql_types::BigInt};
use hookyard_tests::{
    http::{Client, Reply, raw},
    system::{Options, System},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};

const CAREFUL: [(&str, &str); 4] = [
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("x-frame-options", "DENY"),
    ("cross-origin-resource-policy", "same-origin"),
];

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    n: i64,
}

async fn count(system: &System, sql: &'static str) -> i64 {
    system.db.once(move |conn| Ok(sql_query(sql).get_result::<Count>(conn)?.n)).await.unwrap()
}

#[tokio::test]
async fn every_answer_tells_browsers_to_be_careful() {
    let system = System::start().await;
    let (anonymous, client) = (system.anonymous(), system.client().await);
    for (request, status, private) in [
        (client.request("GET", "/v1/hooks"), 200, true),
        (client.request("POST", "/events").json("{"), 400, true),
        (client.request("GET", "/v1/hooks/hook_00000000000000000000000000"), 404, true),
        (client.request("PUT", "/v1/hooks"), 405, true),
        (client.request("GET", "/nowhere"), 404, true),
        (anonymous.request("GET", "/v1/hooks"), 401, true),
        (anonymous.request("GET", "/livez"), 200, true),
        (anonymous.request("GET", "/docs"), 200, false),
        (anonymous.request("GET", "/openapi.json"), 200, false),
    ] {
        let what = format!("{request:?}");
        let reply = request.header("origin", "https://evil.example").send().await;
        assert_eq!(reply.status, status, "{what}");
        for (name, value) in CAREFUL {
            assert_eq!(reply.header(name), Some(value), "{name} of {what}");
        }
        let policy = reply.header("content-security-policy").unwrap_or_default();
        assert!(policy.contains("frame-ancestors 'none'"), "{what}: {policy}");
        assert_eq!(reply.header("cache-control") == Some("no-store"), private, "{what}");
        assert_eq!(reply.header("strict-transport-security"), None, "{what}: there is no TLS");
        assert_eq!(reply.header("server"), None, "{what}");
        let opened = reply.headers.iter().find(|(name, _)| name.starts_with("access-control-"));
        assert_eq!(opened, None, "{what}");
    }
}

#[tokio::test]
async fn pages_of_other_origins_are_not_let_in() {
    let system = System::start().await;
    for path in ["/events", "/v1/hooks", "/v1/keys", "/nowhere"] {
        let reply = system
            .anonymous()
            .request("OPTIONS", path)
            .header("origin", "https://evil.example")
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization")
            .send()
            .await;
        assert!([404, 405].contains(&reply.status), "{path}: {}", reply.status);
        assert!(reply.headers.iter().all(|(name, _)| !name.starts_with("access-control-")), "{reply:?}");
    }
}

#[tokio::test]
async fn behind_tls_browsers_never_come_without() {
    let mut options = Options::default();
    options.gateway.http.public_url = Some("https://hooks.example.com".parse().unwrap());
    let system = System::with(options).await;
    for path in ["/livez", "/v1/hooks", "/docs", "/nowhere"] {
        let reply = system.anonymous().get(path).await;
        assert_eq!(reply.header("strict-transport-security"), Some("max-age=31536000"), "{path}");
    }
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused_and_harms_nobody() {
    let system = System::start().await;
    let client = system.client().await;
    let long = |bytes: usize| format!("/v1/hooks?cursor={}", "x".repeat(bytes - 17));
    assert_eq!(client.get(&long(8 << 10)).await.error().1, "INVALID_PARAMETER", "it is read");
    assert_eq!(client.get(&long((8 << 10) + 1)).await.error(), (414, "URI_TOO_LONG".to_owned()));
    let with_header =
        |bytes: usize| client.request("GET", "/v1/hooks").header("x-padding", "x".repeat(bytes)).send();
    assert_eq!(with_header(30 << 10).await.status, 200);
    assert_eq!(with_header(33 << 10).await.error(), (431, "HEADERS_TOO_LARGE".to_owned()));
    let many = |headers: usize| {
        let request = client.request("GET", "/v1/hooks");
        (0..headers).fold(request, |request, n| request.header(&format!("x-{n}"), "1"))
    };
    assert_eq!(many(80).send().await.status, 200);
    let addr = system.gateways[0].addr;
    for round in 0..20 {
        for bytes in [
            many(500).bytes(),
            client.request("GET", "/v1/hooks").header("x-padding", "x".repeat(300 << 10)).bytes(),
            client.request("GET", &long(70_000)).bytes(),
            b"GET / HTTP/9.9\r\n\r\n".to_vec(),
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec(),
            b"GET /v1/hooks HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n".to_vec(),
            b"GET /v1/hooks HTTP/1.1\r\nhost: a\r\ntransfer-encoding: x\r\ncontent-length: 6\r\n\r\n"
                .to_vec(),
        ] {
            let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
            // Closed without an answer, or refused.
            if let Some(reply) = raw(addr, bytes).await {
                assert!((400..500).contains(&reply.status), "round {round}: {shown}: {}", reply.status);
            }
        }
    }
    assert_eq!(client.get("/v1/hooks").await.status, 200);
}

#[tokio::test]
async fn clients_that_send_a_head_drop_by_drop_are_sent_away() {
    let mut options = Options::default();
    options.gateway.http.head_timeout_ms = 1_500;
    let system = System::with(options).await;
    let addr = system.gateways[0].addr;
    let drop_by_drop = move || async move {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let mut answer = Vec::new();
        for byte in
            b"GET /livez HTTP/1.1\r\nhost: test\r\nx-slow: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa".iter().cycle()
        {
            let sent = stream.write_all(&[*byte]).await;
            let read = tokio::time::timeout(Duration::from_millis(50), stream.read_buf(&mut answer)).await;
            if sent.is_err() || matches!(read, Ok(Ok(0) | Err(_))) {
                break;
            }
        }
        answer
    };
    let slow: JoinSet<Vec<u8>> = (0..30).map(|_| drop_by_drop()).collect();
    let answers = tokio::time::timeout(Duration::from_secs(30), slow.join_all()).await;
    for answer in answers.expect("nobody is kept") {
        assert!(
            answer.is_empty() || Reply::parse(&answer).status == 408,
            "{}",
            String::from_utf8_lossy(&answer)
        );
    }
    assert_eq!(system.anonymous().get("/livez").await.status, 200);
}

/// What guessing costs: an answer. Nobody else feels it, and it is told once in a minute.
#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_wrong_keys_are_refused_throttled_and_told_once() {
    const GUESSES: usize = 10_000;
    let mut options = Options { gateways: 2, ..Options::default() };
    options.gateway.http.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let system = System::with(options).await;
    let from = |client: &Client, address: &str| {
        client.request("GET", "/v1/events").header("x-forwarded-for", address).send()
    };
    let known = system.client().await;
    let clients: Vec<Client> = system.gateways.iter().map(|gateway| Client::new(gateway.addr)).collect();
    let guess = async |clients: &[Client], address: &'static str, many: usize| {
        let mut workers = JoinSet::new();
        for worker in 0..20 {
            let client = clients[worker % clients.len()].clone();
            workers.spawn(async move {
                let mut told = (0, 0);
                for n in 0..many / 20 {
                    let key = format!("ct_{worker}_{n}");
                    let request = client.with_key(&key).request("GET", "/v1/events");
                    match request.header("x-forwarded-for", address).send().await.status {
                        401 => told.0 += 1,
                        429 => told.1 += 1,
                        status => panic!("{status}"),
                    }
                }
                told
            });
        }
        workers.join_all().await.into_iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    };
    assert_eq!(guess(&clients, "198.51.100.7", GUESSES).await, (60, GUESSES - 60));
    // Somebody else, and somebody with a key at the same address.
    assert_eq!(from(&clients[0], "198.51.100.8").await.status, 401);
    assert_eq!(from(&known, "198.51.100.7").await.status, 200);
    let told = "SELECT count(*) AS n FROM audit_log WHERE action = 'credential.throttled' AND actor_kind = 4 \
         AND object_kind = 'address' AND object_id = '198.51.100.7' AND address = '198.51.100.7'";
    assert_eq!(count(&system, told).await, 1);
    assert_eq!(count(&system, "SELECT count(*) AS n FROM audit_log").await, 1);
    let rows = count(&system, "SELECT count(*) AS n FROM rate_windows").await;
    assert!(rows <= 3, "{rows} rows for two addresses and the count of entries");
    system.clock.advance(TimeDelta::seconds(60));
    assert_eq!(guess(&clients, "198.51.100.7", 100).await, (60, 40));
    // The entry is written behind the answer.
    for _ in 0..100 {
        if count(&system, told).await == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(count(&system, told).await, 2, "a new window");
    // One fewer than the limit is not worth an entry.
    assert_eq!(guess(&clients, "198.51.100.9", 40).await, (40, 0));
    assert_eq!(count(&system, "SELECT count(*) AS n FROM audit_log").await, 2);
}

#[tokio::test]
async fn an_address_cannot_be_made_up() {
    let mut options = Options::default();
    options.gateway.gateway.unauthenticated_limit = 3;
    options.gateway.http.trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()];
    let system = System::with(options).await;
    let mut told = Vec::new();
    for n in 0..6 {
        let request = system.anonymous().request("GET", "/v1/events");
        let request = request.header("x-forwarded-for", format!("198.51.100.{n}"));
        told.push(request.header("forwarded", format!("for=198.51.100.{n}")).send().await.status);
    }
    assert_eq!(told, [401, 401, 401, 429, 429, 429], "the peer is no trusted proxy");
}
