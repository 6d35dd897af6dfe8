//! Sixteen readers at two gateways, some of whom die: no message is leased twice within its lease, none is lost, each is acknowledged once.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use chrono::{DateTime, Utc};
use hookyard_messaging::Bus;
use hookyard_tests::{amqp, engine::Engine, http::Client, system::Options};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{ack, ask, counts, inbox};
use crate::pipeline::stage::{Stage, text, time, until};

const READERS: usize = 16;
const MESSAGES: usize = 240;

/// A lease: which of the message's it was, when it ended, and when it had been given at the latest.
type Lease = (i64, DateTime<Utc>, DateTime<Utc>);

/// Every lease that was given, and every acknowledgement that was taken, by message.
#[derive(Default)]
struct Book {
    leases: HashMap<String, Vec<Lease>>,
    acknowledged: HashMap<String, usize>,
    over: bool,
}

impl Book {
    fn lease(&mut self, message: &Value, now: DateTime<Utc>) {
        let lease = (message["lease_count"].as_i64().unwrap(), time(&message["leased_until"]), now);
        self.leases.entry(text(&message["id"]).to_owned()).or_default().push(lease);
    }

    /// No lease began within another.
    fn check(&mut self) {
        for (id, leases) in &mut self.leases {
            leases.sort_unstable();
            for pair in leases.windows(2) {
                let ((before, until, _), (after, _, given)) = (pair[0], pair[1]);
                assert!(before < after, "{id} had the lease {after} twice");
                assert!(until <= given, "{id} was leased again within its lease");
            }
        }
    }
}

/// Leases and acknowledges until all is over; every fifth lease of some readers is forgotten, as by a reader that died.
async fn reader(number: usize, client: Client, stage: Arc<Stage>, inbox: String, book: Arc<Mutex<Book>>) {
    for turn in 0.. {
        let wanted = json!({"lease_seconds": 30, "lease_limit": 1 + (number + turn) % 7, "wait_seconds": 1});
        let answer = ask(&client, &inbox, wanted).await;
        let messages = answer["messages"].as_array().unwrap().clone();
        {
            let (mut book, now) = (book.lock().unwrap(), stage.system.clock.now());
            messages.iter().for_each(|message| book.lease(message, now));
            if book.over {
                return;
            }
        }
        if messages.is_empty() || (number.is_multiple_of(3) && turn < 15 && turn % 5 == 1) {
            continue;
        }
        tokio::time::sleep(Duration::from_millis((number as u64 * 7 + turn as u64 * 3) % 20)).await;
        for (message, status) in messages.iter().zip(ack(&client, &inbox, &messages).await) {
            if status == "acknowledged" {
                let mut book = book.lock().unwrap();
                *book.acknowledged.entry(text(&message["id"]).to_owned()).or_default() += 1;
            } else {
                // Its lease had ended, and another has it.
                assert_eq!(status, "gone");
            }
        }
    }
}

async fn no_message_is_leased_twice_or_lost(bus: Bus) {
    let settings = |options: &mut Options, engine: &mut Engine| {
        options.gateways = 2;
        options.database.pool_size = 10;
        engine.registries = 2;
    };
    let stage = Arc::new(Stage::with(bus, settings).await);
    let inbox = inbox(&stage.client, json!({"max_leases": 100})).await;
    let book = Arc::<Mutex<Book>>::default();
    let mut readers = JoinSet::new();
    for number in 0..READERS {
        let client = stage.client.at(stage.system.gateways[number % 2].addr);
        readers.spawn(reader(number, client, Arc::clone(&stage), inbox.clone(), Arc::clone(&book)));
    }
    let mut posted = HashSet::new();
    for at in 0..MESSAGES / 8 {
        let events: Vec<Value> =
            (0..8).map(|n| json!({"event_type": "n.a", "payload": {"n": at * 8 + n}})).collect();
        let answer = stage.client.post_json("/events/batch", &json!({"events": events})).await;
        for result in answer.json()["results"].as_array().unwrap() {
            posted.insert(text(&result["event_id"]).replacen("evt_", "msg_", 1));
        }
    }
    until("everything is acknowledged", async || {
        let done = book.lock().unwrap().acknowledged.len();
        if done == MESSAGES {
            return Ok(());
        }
        // What was forgotten is leased again.
        stage.advance(3_000);
        tokio::time::sleep(Duration::from_millis(100)).await;
        Err(done)
    })
    .await;
    book.lock().unwrap().over = true;
    while let Some(ended) = readers.join_next().await {
        ended.unwrap();
    }
    let mut book = std::mem::take(&mut *book.lock().unwrap());
    book.check();
    assert_eq!(book.acknowledged.keys().cloned().collect::<HashSet<_>>(), posted);
    assert!(book.acknowledged.values().all(|count| *count == 1), "acknowledged twice");
    assert!(book.leases.values().any(|leases| leases.len() > 1), "nobody died");
    let now = counts(&stage.client, &inbox).await;
    assert_eq!((&now["waiting"], &now["leased"], &now["quarantined"]), (&json!(0), &json!(0), &json!(0)));
    assert_eq!(now["last_sequence"], MESSAGES);
}

#[tokio::test(flavor = "multi_thread")]
async fn over_the_bus_of_the_process() {
    no_message_is_leased_twice_or_lost(Bus::in_process()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_the_broker() {
    amqp::with_bus(no_message_is_leased_twice_or_lost).await;
}
