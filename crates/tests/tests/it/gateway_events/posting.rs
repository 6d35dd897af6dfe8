//! One event at a time: what becomes of it, and what is wrong with those that are refused.

use std::time::Duration;

use hookyard_domain::{
    delivery::fan_out::{self, Hold},
    event::{store, waiting},
    id::{ClaimId, EventId},
    subscription::directory::Directory,
};
use hookyard_gateway::LargeIntegers;
use hookyard_messaging::{Message, Queue};
use hookyard_tests::system::{Options, System};
use serde_json::json;

use super::{count_events, event};

#[tokio::test]
async fn an_event_can_be_read_as_soon_as_it_is_accepted() {
    let system = System::start().await;
    let client = system.client().await;
    let mut rings = system.bus.consume(Queue::EventAccepted, 10).await;
    let body = r#"{"event_type":"order.created","payload":{"b":1.0,"a":"é","2":[1e21]},"ignored":true,
        "metadata":{"order":"7","correlation_id":"c-1"},"timestamp":"2025-01-01T01:00:00+01:00"}"#;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let request =
        client.request("POST", "/events").header("traceparent", trace).header("user-agent", "tester/1");
    let reply = request.json(body).send().await;
    let accepted = reply.expect(202);
    let id = accepted["event_id"].as_str().unwrap();
    let created_at = accepted["created_at"].as_str().unwrap();
    assert_eq!(
        reply.text(),
        format!(r#"{{"event_id":"{id}","status":"accepted","created_at":"{created_at}"}}"#)
    );

    let shown = client.get(&format!("/v1/events/{id}")).await;
    assert_eq!(
        shown.text(),
        format!(
            r#"{{"id":"{id}","event_id":"{id}","event_type":"order.created","timestamp":"2025-01-01T00:00:00.000Z","payload":{{"2":[1e+21],"b":1,"a":"é"}},"metadata":{{"correlation_id":"c-1","source_ip":"127.0.0.1","user_agent":"tester/1","order":"7"}},"created_at":"{created_at}","state":"accepted","deliveries":{{"pending":0,"delivered":0,"dead":0,"cancelled":0}}}}"#
        )
    );
    let ring = tokio::time::timeout(Duration::from_secs(5), rings.recv()).await.unwrap().unwrap();
    let Message::EventAccepted { group, .. } = *ring.message() else { panic!("{:?}", ring.message()) };
    let event_id: EventId = id.parse().unwrap();
    let standing = Directory::default().standing();
    let read = system.db.run(move |conn| waiting::read(conn, &[group], &standing)).await.unwrap();
    assert!(read.behind, "nothing is known of subscriptions yet");
    assert_eq!(
        read.events.iter().map(|event| (event.group, event.id)).collect::<Vec<_>>(),
        [(group, event_id)]
    );
    let tenant = read.events[0].tenant;
    let stored = system.db.run(move |conn| store::load(conn, &[(tenant, event_id)])).await.unwrap();
    assert_eq!(
        (stored[0].trace.as_u128(), stored[0].sampled),
        (0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, true)
    );
    let now = system.clock.now();
    let take = move |conn: &mut hookyard_domain::db::Conn| {
        let hold = Hold { claim: ClaimId::new(now), now, until: now };
        fan_out::take(conn, &[group], &[], &[], hold)
    };
    assert_eq!(system.db.once(take).await.unwrap(), [group].into());
    assert_eq!(system.db.once(take).await.unwrap(), [].into(), "it is taken once");
    let shown = client.get(&format!("/v1/events/{id}")).await.expect(200);
    assert_eq!(shown["state"], "unmatched");
}

#[tokio::test]
async fn what_is_not_given_is_filled_in() {
    let system = System::start().await;
    let client = system.client().await;
    let request =
        client.request("POST", "/events").header("x-request-id", "r-7").header("traceparent", "nonsense");
    let id = request.json(event("a", &json!({}))).send().await.expect(202)["event_id"].clone();
    let shown = client.get(&format!("/v1/events/{}", id.as_str().unwrap())).await.expect(200);
    assert_eq!(
        shown["metadata"],
        json!({"correlation_id": "r-7", "source_ip": "127.0.0.1", "user_agent": null})
    );
    assert_eq!(shown["timestamp"], shown["created_at"]);
}

#[tokio::test]
async fn bad_bodies_are_told_what_is_wrong() {
    let system = System::start().await;
    let client = system.client().await;
    let deep = |depth: usize| {
        format!(
            r#"{{"event_type":"a","payload":{}{}}}"#,
            r#"{"a":"#.repeat(depth),
            "1".to_owned() + &"}".repeat(depth)
        )
    };
    let table: Vec<(Vec<u8>, u16, &str, Option<&str>)> = vec![
        (b"".to_vec(), 400, "INVALID_JSON", None),
        (b" \n ".to_vec(), 400, "INVALID_JSON", None),
        (b"{".to_vec(), 400, "INVALID_JSON", None),
        (b"{'event_type':'a'}".to_vec(), 400, "INVALID_JSON", None),
        (b"\xef\xbb\xbf{}".to_vec(), 400, "INVALID_JSON", None),
        (b"{\"event_type\":\"a\",\"payload\":{\"x\":\"\xff\xfe\"}}".to_vec(), 400, "INVALID_JSON", None),
        (b"\x00\x01\x02".to_vec(), 400, "INVALID_JSON", None),
        (b"{} {}".to_vec(), 400, "INVALID_JSON", None),
        (b"{\"event_type\":\"a\",\"payload\":{\"n\":01}}".to_vec(), 400, "INVALID_JSON", None),
        (b"{\"event_type\":\"a\",\"payload\":{\"n\":NaN}}".to_vec(), 400, "INVALID_JSON", None),
        ("[".repeat(100_000).into_bytes(), 400, "INVALID_JSON", None),
        (deep(100_000).into_bytes(), 400, "INVALID_JSON", None),
        (
            b"{\"event_type\":\"a\",\"payload\":{\"n\":1e999}}".to_vec(),
            400,
            "INVALID_JSON",
            Some("payload.n"),
        ),
        (deep(128).into_bytes(), 400, "INVALID_JSON", None),
        (b"null".to_vec(), 422, "INVALID_EVENT", Some("event")),
        (b"[]".to_vec(), 422, "INVALID_EVENT", Some("event")),
        (b"\"x\"".to_vec(), 422, "INVALID_EVENT", Some("event")),
        (b"{}".to_vec(), 422, "INVALID_EVENT", Some("event_type")),
        (b"{\"event_type\":null,\"payload\":{}}".to_vec(), 422, "INVALID_EVENT", Some("event_type")),
        (b"{\"event_type\":7,\"payload\":{}}".to_vec(), 422, "INVALID_EVENT", Some("event_type")),
        (b"{\"event_type\":\"\",\"payload\":{}}".to_vec(), 422, "INVALID_EVENT", Some("event_type")),
        (b"{\"event_type\":\"a\"}".to_vec(), 422, "INVALID_EVENT", Some("payload")),
        (b"{\"event_type\":\"a\",\"payload\":[]}".to_vec(), 422, "INVALID_EVENT", Some("payload")),
        (b"{\"event_type\":\"a\",\"payload\":\"{}\"}".to_vec(), 422, "INVALID_EVENT", Some("payload")),
        (
            b"{\"event_type\":\"a\",\"payload\":{},\"metadata\":[]}".to_vec(),
            422,
            "INVALID_EVENT",
            Some("metadata"),
        ),
        (
            b"{\"event_type\":\"a\",\"payload\":{},\"timestamp\":\"yesterday\"}".to_vec(),
            422,
            "INVALID_EVENT",
            Some("timestamp"),
        ),
        (
            b"{\"event_type\":\"a\",\"payload\":{},\"timestamp\":1700000000}".to_vec(),
            422,
            "INVALID_EVENT",
            Some("timestamp"),
        ),
        (
            json!({"event_type": "a", "payload": {}, "metadata": {"x": "y".repeat(17 << 10)}})
                .to_string()
                .into_bytes(),
            422,
            "INVALID_EVENT",
            Some("metadata"),
        ),
    ];
    for (body, status, code, field) in table {
        let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        let reply = client.post("/events", &body).await;
        assert_eq!(reply.status, status, "{shown}: {}", reply.text());
        assert_eq!(reply.error(), (status, code.to_owned()), "{shown}");
        if let Some(field) = field {
            assert_eq!(reply.json()["details"]["field"], field, "{shown}");
            assert!(reply.json()["details"]["reason"].is_string(), "{shown}");
        }
    }
    assert_eq!(system.db.once(count_events).await.unwrap(), 0);
    for (body, accepted) in
        [(deep(127), true), (r#"{"event_type":"a","payload":{"\u0000":"\ud800"}}"#.to_owned(), true)]
    {
        assert_eq!(
            client.post("/events", &body).await.status == 202,
            accepted,
            "{}",
            &body[..60.min(body.len())]
        );
    }
}

#[tokio::test]
async fn large_integers_are_read_as_javascript_does_or_refused() {
    let body = r#"{"event_type":"a","payload":{"n":[1763689999123456789]}}"#;
    let system = System::start().await;
    let client = system.client().await;
    let id = client.post("/events", body).await.expect(202)["event_id"].as_str().unwrap().to_owned();
    let shown = client.get(&format!("/v1/events/{id}")).await.text();
    assert!(shown.contains(r#""payload":{"n":[1763689999123456800]}"#), "{shown}");

    let mut options = Options::default();
    options.gateway.gateway.large_integers = LargeIntegers::Refuse;
    let strict = System::with(options).await;
    let reply = strict.client().await.post("/events", body).await;
    assert_eq!(reply.error(), (400, "INVALID_JSON".to_owned()));
    assert_eq!(reply.json()["details"]["field"], "payload.n[0]");
}
