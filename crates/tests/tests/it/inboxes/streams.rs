//! Inboxes read in order: pages and server-sent events with a cursor, which miss nothing and lease nothing.

use std::time::Duration;

use diesel::{RunQueryDsl, sql_query};
use hookyard_messaging::Bus;
use hookyard_tests::{amqp, http::Client};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{ack, counts, fill, inbox, lease, sequences};
use crate::pipeline::stage::{Stage, text};

/// Ids, names and data of the events in a stream.
fn events(text: &str) -> Vec<(i64, String, Value)> {
    let of = |block: &str, name: &str| {
        block.lines().find_map(|line| line.split_once(name)).map(|(_, rest)| rest.trim().to_owned())
    };
    let blocks = text.split("\n\n").filter(|block| block.contains("event: "));
    let event = |block: &str| {
        let data: Value = serde_json::from_str(&of(block, "data: ")?).ok()?;
        Some((of(block, "id: ")?.parse().ok()?, of(block, "event: ")?, data))
    };
    blocks.filter_map(event).collect()
}

fn ids(events: &[(i64, String, Value)]) -> Vec<i64> {
    events.iter().map(|(id, _, _)| *id).collect()
}

/// Follows for a second from a place on.
async fn follow(client: &Client, inbox: &str, last: &str) -> Vec<(i64, String, Value)> {
    let path = format!("/v1/inboxes/{inbox}/messages/stream?seconds=1");
    let reply = client.request("GET", &path).header("last-event-id", last).send().await;
    assert_eq!(
        (reply.status, reply.header("content-type")),
        (200, Some("text/event-stream")),
        "{}",
        reply.text()
    );
    events(&reply.text())
}

/// A stream that is open.
struct Open {
    stream: TcpStream,
    text: String,
}

impl Open {
    async fn new(client: &Client, addr: std::net::SocketAddr, inbox: &str) -> Self {
        let path = format!("/v1/inboxes/{inbox}/messages/stream?last_event_id=latest");
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(&client.request("GET", &path).bytes()).await.unwrap();
        let mut open = Self { stream, text: String::new() };
        open.read_until("retry: ").await;
        open
    }

    async fn read_until(&mut self, what: &str) {
        let read = async {
            while !self.text.contains(what) {
                let mut buffer = [0; 4096];
                let count = self.stream.read(&mut buffer).await.unwrap();
                assert!(count > 0, "the stream ended: {}", self.text);
                self.text.push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        };
        let in_time = tokio::time::timeout(Duration::from_secs(30), read).await;
        assert!(in_time.is_ok(), "{what} did not come: {}", self.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_reads_in_order_sees_everything_once_and_changes_nothing() {
    let stage = Stage::open(Bus::in_process()).await;
    let id = inbox(&stage.client, json!({})).await;
    fill(&stage, &id, 7).await;
    let held = lease(&stage.client, &id, 2).await;
    ack(&stage.client, &id, &held[..1]).await;
    let before = counts(&stage.client, &id).await;
    let (mut cursor, mut seen) = (String::from("after=0"), Vec::new());
    loop {
        let page = stage.client.get(&format!("/v1/inboxes/{id}/messages?limit=3&{cursor}")).await.expect(200);
        seen.extend(page["data"].as_array().unwrap().clone());
        if page["has_more"] == false {
            assert_eq!(page["next_cursor"], Value::Null);
            break;
        }
        cursor = format!("cursor={}", text(&page["next_cursor"]));
    }
    assert_eq!(sequences(&seen), (1..=7).collect::<Vec<_>>());
    let states: Vec<&str> = seen.iter().map(|one| text(&one["state"])).collect();
    assert_eq!(states[..3], ["acknowledged", "leased", "waiting"]);
    assert_eq!(seen[1]["leased_until"], held[1]["leased_until"]);
    assert_eq!(seen[0]["event"], held[0]["event"]);
    // The token of a lease is for whoever has it.
    assert!(seen.iter().all(|one| one.get("lease_token").is_none()));
    let streamed = follow(&stage.client, &id, "").await;
    assert_eq!(ids(&streamed), (1..=7).collect::<Vec<_>>());
    assert!(streamed.iter().zip(&seen).all(|((_, name, data), one)| name == "message" && data == one));
    assert_eq!(counts(&stage.client, &id).await["leased"], before["leased"]);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_goes_on_where_it_was_and_tells_what_is_missing() {
    let stage = Stage::open(Bus::in_process()).await;
    let id = inbox(&stage.client, json!({})).await;
    fill(&stage, &id, 130).await;
    // More than a page.
    assert_eq!(ids(&follow(&stage.client, &id, "3").await), (4..=130).collect::<Vec<_>>());
    assert_eq!(ids(&follow(&stage.client, &id, "130").await), [0; 0]);
    assert_eq!(ids(&follow(&stage.client, &id, "latest").await), [0; 0]);
    // What retention has taken, and what a crash has left without a message.
    let gone = "DELETE FROM deliveries WHERE profile = 5 AND (sequence <= 10 OR sequence BETWEEN 21 AND 24)";
    stage.system.db.run(move |conn| Ok(sql_query(gone).execute(conn)?)).await.unwrap();
    let told = follow(&stage.client, &id, "4").await;
    assert_eq!(told[0], (10, "gap".to_owned(), json!({"from": 5, "to": 10})));
    assert_eq!((told[1].0, told[1].1.as_str()), (11, "message"));
    assert_eq!(told[11], (24, "gap".to_owned(), json!({"from": 21, "to": 24})));
    assert_eq!(ids(&told).last(), Some(&130));
    // Whoever begins has missed nothing.
    assert_eq!(follow(&stage.client, &id, "").await[0].1, "message");
    for bad in ["-1", "x", "1.5", "99999999999999999999"] {
        let path = format!("/v1/inboxes/{id}/messages/stream");
        let reply = stage.client.request("GET", &path).header("last-event-id", bad).send().await;
        assert_eq!(reply.error(), (400, "INVALID_PARAMETER".to_owned()), "{bad}");
    }
    stage.close().await;
}

/// Messages come to whoever follows, at each gateway.
async fn streams_hear_of_messages_as_they_come(bus: Bus) {
    let stage = Stage::with(bus, |options, _| options.gateways = 2).await;
    let id = inbox(&stage.client, json!({})).await;
    fill(&stage, &id, 1).await;
    let addrs = [stage.system.gateways[0].addr, stage.system.gateways[1].addr];
    let mut first = Open::new(&stage.client, addrs[0], &id).await;
    let mut second = Open::new(&stage.client, addrs[1], &id).await;
    for n in 2..6 {
        stage.post("n.a", json!({"n": n})).await;
        for open in [&mut first, &mut second] {
            open.read_until(&format!("id: {n}\n")).await;
        }
    }
    for open in [first, second] {
        let seen: Vec<&str> = open.text.lines().filter_map(|line| line.strip_prefix("id: ")).collect();
        assert_eq!(seen, ["2", "3", "4", "5"]);
    }
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_hear_rings_over_the_bus_of_the_process() {
    streams_hear_of_messages_as_they_come(Bus::in_process()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_hear_rings_over_the_broker() {
    amqp::with_bus(streams_hear_of_messages_as_they_come).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_follows_as_many_inboxes_as_the_settings_say() {
    let stage = Stage::with(Bus::in_process(), |options, _| options.gateway.gateway.inbox_streams = 2).await;
    let id = inbox(&stage.client, json!({})).await;
    let addr = stage.system.gateways[0].addr;
    let (first, _second) =
        (Open::new(&stage.client, addr, &id).await, Open::new(&stage.client, addr, &id).await);
    let path = format!("/v1/inboxes/{id}/messages/stream?seconds=1");
    let refused = stage.client.get(&path).await;
    assert_eq!(refused.error(), (503, "OVERLOADED".to_owned()));
    assert!(refused.header("retry-after").is_some());
    drop(first);
    crate::pipeline::stage::until("a place is free", async || {
        let reply = stage.client.get(&path).await;
        if reply.status == 200 { Ok(()) } else { Err(reply.status) }
    })
    .await;
    stage.close().await;
}
