//! `kill -9` of the gateway and of the registry while an inbox is read: no message is lost, none is leased twice within its lease, and all
//! are acknowledged.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use hookyard_tests::{
    broker::Broker,
    http::{Client, Reply, raw},
    postgres::Postgres,
    processes::new_tenant,
    sink::Sink,
};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{START, Services};

const EVENTS: usize = 200;
const READERS: usize = 8;

/// Longer than everything that is killed takes to come back.
const PATIENCE: Duration = Duration::from_secs(120);

/// A request that may meet a gateway that is dying; `None` when it is not answered.
async fn attempt(client: &Client, api: SocketAddr, path: String, body: Value) -> Option<Reply> {
    let bytes = client.request("POST", &path).json(body.to_string()).bytes();
    // A connection that breaks within an answer is a panic of the plain client.
    tokio::spawn(raw(api, bytes)).await.ok().flatten().filter(|reply| reply.status == 200)
}

/// When the last lease of each message ended.
type Leases = Arc<Mutex<HashMap<String, DateTime<Utc>>>>;

async fn reader(client: Client, api: SocketAddr, inbox: String, leases: Leases, over: Arc<AtomicBool>) {
    while !over.load(Ordering::Relaxed) {
        let path = format!("/v1/inboxes/{inbox}/messages");
        let wanted = json!({"lease_seconds": 2, "lease_limit": 3, "wait_seconds": 1});
        let Some(reply) = attempt(&client, api, format!("{path}/lease"), wanted).await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        #[expect(clippy::disallowed_methods, reason = "the leases are those of real processes")]
        let now = Utc::now();
        let answer = reply.json();
        let mut held = Vec::new();
        for message in answer["messages"].as_array().unwrap() {
            let until = DateTime::parse_from_rfc3339(message["leased_until"].as_str().unwrap()).unwrap();
            let before =
                leases.lock().unwrap().insert(message["id"].as_str().unwrap().to_owned(), until.to_utc());
            assert!(before.is_none_or(|before| before <= now), "leased again within its lease: {message}");
            held.push(json!({"id": message["id"], "lease_token": message["lease_token"]}));
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
        if !held.is_empty() {
            attempt(&client, api, format!("{path}/ack"), json!({"messages": held})).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_killed_no_message_is_lost_or_leased_twice() {
    let sink = Sink::start().await;
    let (postgres, broker) = (Postgres::running(), Broker::running());
    let mut services = Services::start(&sink, &postgres, &broker, &[]);
    services.wait_until_ready();
    let (_, key) = new_tenant("Acme", &services.environment);
    let (api, client) = (services.api, Client::new(services.api).with_key(&key));
    let made = client.post_json("/v1/inboxes", &json!({"name": "n", "max_leases": 1000})).await.expect(201);
    let inbox = made["id"].as_str().unwrap().to_owned();
    let (leases, over) = (Leases::default(), Arc::new(AtomicBool::new(false)));
    let mut readers = JoinSet::new();
    for _ in 0..READERS {
        readers.spawn(reader(client.clone(), api, inbox.clone(), Arc::clone(&leases), Arc::clone(&over)));
    }
    for round in 0..4 {
        let events: Vec<Value> =
            (0..EVENTS / 4).map(|n| json!({"event_type": "n.a", "payload": {"n": n}})).collect();
        client.post_json("/events/batch", &json!({"events": events})).await.expect(202);
        tokio::time::sleep(Duration::from_millis(150)).await;
        if round % 2 == 0 {
            services.gateway.kill_and_restart();
            services.gateway.wait_until_ready(START);
        } else {
            services.registry.kill_and_restart();
            services.registry.wait_until_ready(START);
        }
    }
    let end = Instant::now() + PATIENCE;
    let path = format!("/v1/inboxes/{inbox}");
    loop {
        let now = client.get(&path).await.expect(200)["messages"].clone();
        if now["last_sequence"].as_u64() >= Some(EVENTS as u64) && now["waiting"] == 0 && now["leased"] == 0 {
            break;
        }
        assert!(Instant::now() < end, "{now}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    over.store(true, Ordering::Relaxed);
    while let Some(ended) = readers.join_next().await {
        ended.unwrap();
    }
    let (mut cursor, mut seen) = (0, Vec::new());
    loop {
        let page = client.get(&format!("{path}/messages?limit=100&after={cursor}")).await.expect(200);
        for message in page["data"].as_array().unwrap() {
            assert_eq!(message["state"], "acknowledged", "{message}");
            cursor = message["sequence"].as_i64().unwrap();
            seen.push(message["id"].clone());
        }
        if page["has_more"] == false {
            break;
        }
    }
    assert_eq!(seen.len(), EVENTS);
    services.stop();
}
