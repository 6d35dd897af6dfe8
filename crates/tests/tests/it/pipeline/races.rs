//! What happens at the same moment: hooks that come and go while events are accepted.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use chrono::TimeDelta;
use futures_util::future::join_all;
use hookyard_domain::{
    delivery::{Attempt, DeliveryState, Fate, Settled, settlement, store as deliveries},
    id::{ClaimId, EventId, SettlementId, SubscriptionId},
    subscription::{HookState, directory::Directory, store},
};
use hookyard_messaging::Bus;
use serde_json::json;

use super::stage::{Stage, until};
use crate::retention::number;

pub(super) async fn a_hook_that_was_subscribed_before_an_event_gets_it(bus: Bus) {
    let stage = Stage::with(bus, |options, engine| {
        options.gateways = 2;
        (engine.registries, engine.deliverers) = (2, 2);
    })
    .await;
    let (client, stage) = (stage.client.at(stage.system.gateways[1].addr), &stage);
    let asker = async |asker: usize| {
        for round in 0..50 {
            let (path, event_type) = (format!("race{asker}_{round}"), format!("race.a{asker}.r{round}"));
            let hook = stage.hook(&path, json!({"event_type": event_type})).await;
            // At the other gateway, at once.
            let event = super::stage::post(&client, &event_type, json!({})).await;
            assert_eq!(stage.goes_to(&event).await, std::slice::from_ref(&hook), "{asker} {round}");
            stage.ended(&event, &hook, "delivered").await;
            // And from the unsubscribe on, none.
            stage.client.delete(&format!("/v1/hooks/{hook}")).await.expect(200);
            let event = super::stage::post(&client, &event_type, json!({})).await;
            assert_eq!(stage.goes_to(&event).await, [] as [String; 0], "{asker} {round}");
        }
    };
    join_all((0..4).map(asker)).await;
    for asker in 0..4 {
        for round in 0..50 {
            assert_eq!(stage.receiver.count(&format!("race{asker}_{round}")), 1);
        }
    }
}

/// The connection broke while outcomes were written, and nobody knows whether they were; others came meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn outcomes_that_are_written_again_count_once() {
    let stage = Stage::with(Bus::in_process(), |_, engine| engine.deliverers = 0).await;
    stage.hook("a", json!({})).await;
    for n in 0..4 {
        let event = stage.post("a.b", json!({"n": n})).await;
        assert_eq!(stage.goes_to(&event).await.len(), 1);
    }
    let (db, late) = (&stage.system.db, stage.system.clock.now() + TimeDelta::minutes(5));
    let held = db
        .once(move |conn| {
            deliveries::claim_due(conn, late, late + TimeDelta::minutes(1), ClaimId::new(late), 10)
        })
        .await
        .unwrap();
    assert_eq!(held.len(), 4);
    let settled: Vec<Settled> = held
        .into_iter()
        .map(|held| Settled {
            held,
            attempt: Attempt {
                number: 1,
                started_at: late,
                latency_ms: 12,
                status: Some(200),
                reason: "success".to_owned(),
                reply: Vec::new(),
            },
            fate: Fate::Ended(DeliveryState::Delivered),
        })
        .collect();
    // How many are written, and how many settlements there are then.
    for (count, settlements) in [(2, 1), (2, 1), (3, 2), (3, 2), (4, 3)] {
        let mut some = settled[..count].to_vec();
        if count == 4 {
            // One whose day retention has dropped.
            some[0].held.id.event = EventId::new(late - TimeDelta::days(400));
        }
        db.once(move |conn| settlement::settle(conn, &some, SettlementId::new(late), &[], late))
            .await
            .unwrap();
        let rows = [
            number(db, "SELECT count(*) AS n FROM attempts WHERE number = 1 AND status = 200").await,
            number(db, "SELECT count(*) AS n FROM deliveries WHERE state = 1 AND attempts = 1").await,
        ];
        assert_eq!(rows, [count as i64; 2]);
        assert_eq!(
            number(db, "SELECT count(DISTINCT id) AS n FROM settlements").await,
            settlements,
            "{count}"
        );
    }
    stage.close().await;
}

/// Many readers refresh one snapshot, as the workers of a registry do; an older look must not undo a younger one.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_many_refresh_stays_exact() {
    let stage = Stage::still().await;
    let directory = Directory::default();
    let stop = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let (db, directory, stop) = (stage.system.db.clone(), directory.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let directory = directory.clone();
                    db.once(move |conn| directory.refresh(conn)).await.unwrap();
                }
            })
        })
        .collect();
    let tenant = stage.system.tenant;
    let mut gone: Vec<SubscriptionId> = Vec::new();
    for round in 0..300 {
        let hook: SubscriptionId = stage.hook(&format!("h{round}"), json!({})).await.parse().unwrap();
        let (directory, now) = (directory.clone(), stage.system.clock.now());
        gone.push(hook);
        let gone = gone.clone();
        stage
            .system
            .db
            .once(move |conn| {
                for state in [HookState::Active, HookState::Failing, HookState::Deleted] {
                    store::set_state(conn, tenant, hook, state, None, now)?;
                    directory.refresh(conn)?;
                    let known = directory.get(hook).map(|hook| hook.state);
                    assert_eq!(known, (state != HookState::Deleted).then_some(state), "round {round}");
                }
                for hook in gone {
                    assert!(directory.get(hook).is_none(), "a deleted hook came back, round {round}");
                }
                Ok(())
            })
            .await
            .unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.await.unwrap();
    }
    until("nothing is left", async || if directory.is_empty() { Ok(()) } else { Err(directory.len()) }).await;
    stage.close().await;
}
