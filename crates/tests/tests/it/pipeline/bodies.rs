//! What a deliverer reads at once: however many deliveries are rung, and of however many days, no more bodies than it says.

use std::collections::HashSet;

use chrono::TimeDelta;
use hookyard_domain::{
    db::Conn,
    delivery::{
        rung::{self, BODIES_AT_ONCE, EventToSend},
        store::claim_due,
    },
    id::{ClaimId, DeliveryId, EventId},
    subscription::directory::Directory,
};
use hookyard_messaging::Bus;
use serde_json::json;

use super::stage::Stage;

/// So many events, of so many bytes each, on each of two days; up to 32 are read together with their deliveries.
#[tokio::test(flavor = "multi_thread")]
async fn deliveries_of_two_days_bring_no_more_bodies_than_those_of_one() {
    for (events, size) in [(30, 60 << 10), (40, 100 << 10), (4, 900 << 10)] {
        let stage = Stage::with(Bus::in_process(), |_, engine| engine.deliverers = 0).await;
        let hook = stage.hook("in", json!({})).await;
        let text = "x".repeat(size);
        for day in 0..2 {
            for n in 0..events {
                let event = stage.post("a.b", json!({"n": [day, n], "text": text})).await;
                assert_eq!(stage.goes_to(&event).await, std::slice::from_ref(&hook));
            }
            stage.advance(TimeDelta::days(1).num_milliseconds());
        }
        let (now, db) = (stage.system.clock.now(), stage.system.db.clone());
        let claim = ClaimId::new(now);
        let lease = now + TimeDelta::minutes(1);
        let held = db.once(move |conn| claim_due(conn, now, lease, claim, 1_000)).await.unwrap();
        let keys: Vec<(ClaimId, DeliveryId)> = held.iter().map(|held| (claim, held.id)).collect();
        assert_eq!(keys.len(), 2 * events);
        let read = move |conn: &mut Conn| rung::read(conn, &keys, &Directory::default().standing());
        let mut found = db.once(read).await.unwrap();
        assert_eq!(found.held.len(), 2 * events);
        let mut read: HashSet<EventId> = HashSet::new();
        loop {
            at_once(&found.events, size);
            for event in found.events {
                assert!(read.insert(event.id), "read twice");
            }
            if found.unread.is_empty() {
                break;
            }
            let unread = found.unread;
            let before = unread.len();
            found = db.once(move |conn| rung::read_more(conn, &unread)).await.unwrap();
            assert!(!found.events.is_empty() && found.unread.len() < before);
        }
        assert_eq!(read.len(), 2 * events);
        stage.close().await;
    }
}

/// The last one may go beyond the bound.
fn at_once(events: &[EventToSend], size: usize) {
    let bytes: usize = events.iter().map(|event| event.body.len()).sum();
    let largest = size + 1_024;
    assert!(events.iter().all(|event| (size..largest).contains(&event.body.len())));
    assert!(bytes < BODIES_AT_ONCE + largest, "{bytes} bytes of {} events", events.len());
}
