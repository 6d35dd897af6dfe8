//! Leases that wait for a message: what wakes them, and who is given nothing.

use std::time::{Duration, Instant};

use hookyard_messaging::Bus;
use hookyard_tests::{amqp, http::Client};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, net::TcpStream, task::JoinHandle};

use super::{ack, ask, counts, fill, filled, inbox, lease, say, sequences};
use crate::pipeline::stage::{Stage, until};

/// A lease that waits, and when it was answered.
fn waiting(client: &Client, inbox: &str, seconds: u32) -> JoinHandle<(Value, Instant)> {
    let (client, inbox) = (client.clone(), inbox.to_owned());
    tokio::spawn(async move {
        let answer = ask(&client, &inbox, json!({"lease_limit": 5, "wait_seconds": seconds})).await;
        (answer, Instant::now())
    })
}

/// Waits until so many readers wait at the gateway.
async fn readers(client: &Client, count: usize) {
    until(&format!("{count} readers wait"), async || {
        let text = client.get("/metrics").await.text();
        let line = format!("hookyard_inbox_readers_waiting {count}\n");
        if text.contains(&line) { Ok(()) } else { Err("not yet") }
    })
    .await;
}

/// Posts at one gateway wake who waits at the other.
async fn a_lease_that_waits_hears_of_a_message_wherever_it_comes_from(bus: Bus) {
    let stage = Stage::with(bus, |options, _| options.gateways = 2).await;
    let id = inbox(&stage.client, json!({})).await;
    let there = stage.client.at(stage.system.gateways[1].addr);
    // Hears of it by a ring: the quickest of three is quicker than the look that comes each second could be thrice.
    let mut slowest = Duration::ZERO;
    for _ in 0..3 {
        let waits = waiting(&there, &id, 30);
        readers(&there, 1).await;
        let posted = Instant::now();
        stage.post("n.a", json!({})).await;
        let (answer, at) = waits.await.unwrap();
        assert_eq!(answer["messages"].as_array().unwrap().len(), 1);
        slowest = slowest.max(at - posted);
        assert_eq!(ack(&stage.client, &id, answer["messages"].as_array().unwrap()).await, ["acknowledged"]);
    }
    assert!(slowest < Duration::from_secs(10), "{slowest:?}");
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rings_wake_leases_over_the_bus_of_the_process() {
    a_lease_that_waits_hears_of_a_message_wherever_it_comes_from(Bus::in_process()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rings_wake_leases_over_the_broker() {
    amqp::with_bus(a_lease_that_waits_hears_of_a_message_wherever_it_comes_from).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_ring_a_message_is_found_a_second_later() {
    // The registry rings on a bus that nobody hears.
    let stage =
        Stage::with(Bus::in_process(), |_, engine| engine.registry_bus = Some(Bus::in_process())).await;
    let id = inbox(&stage.client, json!({})).await;
    let waits = waiting(&stage.client, &id, 30);
    readers(&stage.client, 1).await;
    stage.post("n.a", json!({})).await;
    stage.advance(2_100);
    let (answer, _) = waits.await.unwrap();
    assert_eq!(answer["messages"].as_array().unwrap().len(), 1);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_lease_a_release_and_a_resume_wake_who_waits() {
    let stage = Stage::open(Bus::in_process()).await;
    let id = inbox(&stage.client, json!({})).await;
    fill(&stage, &id, 1).await;
    // A lease of a second, which nobody settles.
    let held = ask(&stage.client, &id, json!({"lease_seconds": 1})).await["messages"].clone();
    assert_eq!(sequences(held.as_array().unwrap()), [1]);
    let (answer, _) = waiting(&stage.client, &id, 30).await.unwrap();
    let held = answer["messages"].as_array().unwrap().clone();
    assert_eq!((sequences(&held), &held[0]["lease_count"]), (vec![1], &json!(2)));
    let waits = waiting(&stage.client, &id, 30);
    readers(&stage.client, 1).await;
    assert_eq!(say(&stage.client, &id, "release", &held, json!({})).await, ["released"]);
    let held = waits.await.unwrap().0["messages"].as_array().unwrap().clone();
    assert_eq!(sequences(&held), [1]);
    stage.client.post(&format!("/v1/inboxes/{id}/pause"), "").await.expect(200);
    stage.post("n.a", json!({})).await;
    filled(&stage.client, &id, 1).await;
    let waits = waiting(&stage.client, &id, 30);
    readers(&stage.client, 1).await;
    stage.client.post(&format!("/v1/inboxes/{id}/resume"), "").await.expect(200);
    let (answer, _) = waits.await.unwrap();
    assert_eq!(
        (sequences(answer["messages"].as_array().unwrap()), &answer["paused"]),
        (vec![2], &json!(false))
    );
    // Who waits at an inbox that is deleted learns it.
    let path = format!("/v1/inboxes/{id}/messages/lease");
    let waits = {
        let (client, path) = (stage.client.clone(), path.clone());
        tokio::spawn(async move { client.post(&path, r#"{"wait_seconds":30}"#).await })
    };
    readers(&stage.client, 1).await;
    stage.client.delete(&format!("/v1/inboxes/{id}")).await.expect(200);
    assert_eq!(waits.await.unwrap().error(), (404, "NOT_FOUND".to_owned()));
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_wait_each_message_goes_to_one() {
    let stage = Stage::open(Bus::in_process()).await;
    let id = inbox(&stage.client, json!({})).await;
    let waits: Vec<_> = (0..8).map(|_| waiting(&stage.client, &id, 3)).collect();
    readers(&stage.client, 8).await;
    for n in 0..8 {
        stage.post("n.a", json!({"n": n})).await;
    }
    let mut got = Vec::new();
    for wait in waits {
        got.extend(sequences(wait.await.unwrap().0["messages"].as_array().unwrap()));
    }
    got.extend(sequences(&lease(&stage.client, &id, 10).await));
    got.sort_unstable();
    assert_eq!(got, (1..=8).collect::<Vec<_>>());
    readers(&stage.client, 0).await;
    stage.close().await;
}

/// Who has hung up is given nothing (decision 36).
#[tokio::test(flavor = "multi_thread")]
async fn who_hangs_up_while_waiting_is_given_nothing() {
    let stage = Stage::open(Bus::in_process()).await;
    let id = inbox(&stage.client, json!({"max_leases": 1})).await;
    for _ in 0..5 {
        let path = format!("/v1/inboxes/{id}/messages/lease");
        let request = stage.client.request("POST", &path).json(r#"{"wait_seconds":30}"#).bytes();
        let mut stream = TcpStream::connect(stage.system.gateways[0].addr).await.unwrap();
        stream.write_all(&request).await.unwrap();
        readers(&stage.client, 1).await;
        drop(stream);
        readers(&stage.client, 0).await;
    }
    fill(&stage, &id, 1).await;
    // It was leased to nobody: this is its first lease, and its only one.
    let held = lease(&stage.client, &id, 1).await;
    assert_eq!((sequences(&held), &held[0]["lease_count"]), (vec![1], &json!(1)));
    assert_eq!(counts(&stage.client, &id).await["quarantined"], 0);
    stage.close().await;
}
