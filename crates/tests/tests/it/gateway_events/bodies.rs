//! Bodies as bytes: their type, their length, how long they take, and any bytes at all.

use hookyard_tests::{
    http::raw,
    system::{Options, System},
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::json;
use tokio::task::JoinSet;

use super::{MIB, event, event_of};

#[tokio::test]
async fn a_body_has_a_type() {
    let system = System::start().await;
    let client = system.client().await;
    for (content_type, expected) in [
        (Some("application/json"), 202),
        (Some("application/json; charset=utf-8"), 202),
        (Some("APPLICATION/JSON;x=y"), 202),
        (Some("application/cloudevents+json"), 202),
        (None, 202),
        (Some("text/plain"), 415),
        (Some("application/x-www-form-urlencoded"), 415),
        (Some("application/xml"), 415),
    ] {
        let request = client.request("POST", "/events").body(event("a", &json!({})));
        let request =
            content_type.iter().fold(request, |request, value| request.header("content-type", value));
        let reply = request.send().await;
        assert_eq!(reply.status, expected, "{content_type:?}: {}", reply.text());
        if expected == 415 {
            assert_eq!(reply.error().1, "UNSUPPORTED_MEDIA_TYPE");
        }
    }
    let zipped = client
        .request("POST", "/events")
        .header("content-encoding", "gzip")
        .json("\u{1f}\u{8b}")
        .send()
        .await;
    assert_eq!(zipped.error(), (415, "UNSUPPORTED_MEDIA_TYPE".to_owned()));
}

#[tokio::test]
async fn a_body_ends_at_one_mebibyte() {
    let system = System::start().await;
    let client = system.client().await;
    assert_eq!(client.post("/events", event_of(MIB)).await.status, 202);
    for bytes in [MIB + 1, 3 * MIB, 20 * MIB] {
        let reply = client.post("/events", event_of(bytes)).await;
        assert_eq!(reply.error(), (413, "PAYLOAD_TOO_LARGE".to_owned()), "{bytes}");
    }
    // Without an announced length it has to be counted.
    for (bytes, expected) in [(MIB, 202), (MIB + 1, 413), (5 * MIB, 413)] {
        let mut chunked = client.request("POST", "/events").header("transfer-encoding", "chunked").bytes();
        for chunk in event_of(bytes).as_bytes().chunks(10_000) {
            chunked.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            chunked.extend_from_slice(chunk);
            chunked.extend_from_slice(b"\r\n");
        }
        chunked.extend_from_slice(b"0\r\n\r\n");
        let reply = raw(system.gateways[0].addr, chunked).await.expect("an answer");
        assert_eq!(reply.status, expected, "{bytes}: {}", reply.text());
    }
    assert_eq!(client.post("/events", event("a", &json!({}))).await.status, 202);
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for_long() {
    let mut options = Options::default();
    options.gateway.http.body_timeout_ms = 200;
    options.gateway.http.head_timeout_ms = 300;
    let system = System::with(options).await;
    let mut half = system.client().await.request("POST", "/events").json("0123456789").bytes();
    half.truncate(half.len() - 5);
    let reply = raw(system.gateways[0].addr, half.clone()).await.expect("an answer");
    assert_eq!(reply.error(), (408, "REQUEST_TIMEOUT".to_owned()));
    half.truncate(40);
    let reply = raw(system.gateways[0].addr, half).await.expect("an answer");
    assert_eq!(reply.status, 408);
}

#[tokio::test]
async fn bytes_of_any_kind_never_break_the_gateway() {
    let system = System::start().await;
    let client = system.client().await;
    let seed = rand::random();
    let mut random = StdRng::seed_from_u64(seed);
    let good = br#"{"event_type":"a.b","payload":{"n":[1,2.5e3,"\u00e9",null,true],"o":{}},"metadata":{"k":"v"},"timestamp":"2026-11-21T00:00:00Z"}"#;
    let mut requests = JoinSet::new();
    for number in 0..600 {
        let mut body = if number % 3 == 0 {
            (0..random.random_range(0..200)).map(|_| random.random()).collect()
        } else {
            good.to_vec()
        };
        for _ in 0..random.random_range(1..4) {
            if body.is_empty() {
                break;
            }
            let at = random.random_range(0..body.len());
            match random.random_range(0..3) {
                0 => body[at] = random.random(),
                1 => drop(body.remove(at)),
                _ => body.truncate(at),
            }
        }
        let (client, path) = (client.clone(), if number % 2 == 0 { "/events" } else { "/events/batch" });
        requests.spawn(async move { (client.post(path, &body).await, body) });
        if number % 50 == 49 {
            while let Some(done) = requests.join_next().await {
                let (reply, body) = done.unwrap();
                assert!(
                    [202, 400, 422].contains(&reply.status),
                    "seed {seed}: {:?}: {}",
                    String::from_utf8_lossy(&body),
                    reply.text()
                );
                if reply.status != 202 {
                    reply.error();
                }
            }
        }
    }
}
