//! Rings that tell what a group holds: rows decide what that is worth.

use chrono::TimeDelta;
use hookyard_domain::{
    credential::Scope,
    db::Conn,
    delivery::{
        NewDelivery, Profile,
        fan_out::{self, Hold, Owed, Taken, Told},
    },
    event::store::overdue_groups,
    id::{ClaimId, DeliveryId, EventGroupId, EventId, SubscriptionId, TenantId},
    subscription::directory::Directory,
};
use hookyard_messaging::{Accepted, AcceptedEvent, Bus, Message, Queue};
use hookyard_tests::engine::{Engine, RunningEngine};
use serde_json::json;

use super::stage::{Stage, text, until};

/// Two events in one group that nobody has heard of.
async fn two_events(stage: &Stage) -> (EventGroupId, Vec<EventId>) {
    let event = |n: u32| json!({"event_type": "order.created", "payload": {"n": n}});
    let batch = json!({"events": [event(1), event(2)]});
    let answer = stage.client.post_json("/events/batch", &batch).await.expect(202);
    let ids = answer["results"].as_array().unwrap().iter().map(|one| text(&one["event_id"]).parse().unwrap());
    let ids = ids.collect();
    let late = stage.system.clock.now() + TimeDelta::minutes(1);
    let groups = stage.system.db.once(move |conn| overdue_groups(conn, late, 10)).await.unwrap();
    assert_eq!(groups.len(), 1);
    (groups[0], ids)
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_the_row_says_is_taken_and_only_with_all_subscriptions() {
    let stage = Stage::still().await;
    let hook: SubscriptionId = stage.hook("in", json!({})).await.parse().unwrap();
    let (group, events) = two_events(&stage).await;
    let (tenant, now, db) = (stage.system.tenant, stage.system.clock.now(), stage.system.db.clone());
    let hold = Hold { claim: ClaimId::new(now), now, until: now + TimeDelta::seconds(30) };
    let (first, second) = (events[0], events[1]);
    let directory = Directory::default();
    let refresh = async || {
        let snapshot = directory.clone();
        db.once(move |conn| snapshot.refresh(conn)).await.unwrap();
    };
    let take = async |told: &[(TenantId, EventId)]| {
        let told = Told {
            standing: directory.standing(),
            events: told.iter().map(|(tenant, event)| (group, *tenant, *event)).collect(),
            numbers: true,
        };
        let owed: Vec<Owed> = told
            .events
            .iter()
            .map(|(group, tenant, event)| {
                let id = DeliveryId { event: *event, subscription: hook };
                (*group, NewDelivery::plain(id, *tenant, Profile::Hook))
            })
            .collect();
        let work = move |conn: &mut Conn| fan_out::take_told(conn, &[group], &told, &owed, hold);
        let Taken { groups, numbers } = db.once(work).await.unwrap();
        assert_eq!(numbers.len(), 2 * groups.len());
        groups.len()
    };
    let right = [(tenant, first), (tenant, second)];
    assert_eq!(take(&right).await, 0, "nothing is known of subscriptions yet");
    refresh().await;
    let (foreign, unknown) = (TenantId::new(now), EventId::new(now));
    for wrong in [
        vec![],
        vec![(tenant, first)],
        vec![(tenant, first), (tenant, first)],
        vec![(tenant, first), (tenant, unknown)],
        vec![(tenant, first), (foreign, second)],
        vec![(tenant, first), (tenant, second), (tenant, unknown)],
        vec![(tenant, first), (tenant, second), (tenant, second)],
    ] {
        assert_eq!(take(&wrong).await, 0, "{wrong:?}");
    }
    stage.hook("later", json!({})).await;
    assert_eq!(take(&right).await, 0, "a subscription is not known");
    // While a transaction of whoever else is open, the snapshot may lack what it changes.
    until("it is taken", async || {
        refresh().await;
        match take(&right).await {
            1 => Ok(()),
            none => Err(none),
        }
    })
    .await;
    assert_eq!(take(&right).await, 0, "it is taken once");
    for event in events {
        assert_eq!(stage.delivery(&event.to_string(), &hook.to_string()).await["state"], "pending");
    }
    stage.close().await;
}

/// Whoever rings may be wrong: of another tenant's hooks none gets anything, and those who are owed it get it.
#[tokio::test(flavor = "multi_thread")]
async fn a_ring_that_is_wrong_sends_nothing_to_others_and_loses_nothing() {
    let mut stage = Stage::still().await;
    stage.hook("in", json!({})).await;
    let other = stage.system.tenant("Other").await;
    let (group, events) = two_events(&stage).await;
    let bus = Bus::in_process();
    let engine = Engine { registry_bus: Some(bus.clone()), ..Engine::default() };
    let system = &mut stage.system;
    system.engine = RunningEngine::start(Some(&engine), &system.database, &system.bus, &system.clock);
    let told = |event: &EventId| AcceptedEvent {
        tenant: other,
        id: *event,
        event_type: "order.created".parse().unwrap(),
    };
    let accepted = Accepted { since: system.clock.now(), events: events.iter().map(told).collect() };
    let message = Message::EventAccepted { group, accepted: Some(accepted) };
    let trace = hookyard_domain::trace::TraceContext::fresh();
    bus.publish(Queue::EventAccepted, &message, &trace).await.unwrap();
    for event in &events {
        assert_eq!(stage.goes_to(&event.to_string()).await.len(), 1);
    }
    let stranger = stage.system.key_of(other, &[Scope::Admin], hookyard_tests::system::unlimited()).await.1;
    let client = stage.system.anonymous().with_key(&stranger);
    for event in &events {
        client.get(&format!("/v1/events/{event}/deliveries")).await.expect(404);
    }
    stage.close().await;
}
