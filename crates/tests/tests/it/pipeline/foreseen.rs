//! Small events are stored together with their deliveries, where nothing stands against it: within one process, and over a broker where
//! the gateway has a snapshot of its own.

use std::{sync::Arc, time::Duration};

use chrono::TimeDelta;
use diesel::{RunQueryDsl, sql_query, sql_types::Uuid};
use hookyard_chassis::metrics::Registry;
use hookyard_domain::{
    Error,
    db::Conn,
    delivery::{
        NewDelivery, Profile,
        fan_out::{Foreseen, Hold, Numbers},
    },
    event::{NewEvent, Origin, store::overdue_groups, wire_time},
    id::{ClaimId, DeliveryId, EventGroupId, EventId, SubscriptionId},
    subscription::directory::Directory,
    trace::TraceContext,
};
use hookyard_messaging::{Bus, Foresight};
use hookyard_tests::{
    amqp,
    engine::{Engine, RunningEngine},
    system::System,
};
use serde_json::json;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::stage::{self, Stage, text, until};

const COUNTER: &str = "hookyard_registry_foreseen_events_total";

fn counted(metrics: &Registry) -> u64 {
    stage::counted(metrics, COUNTER)
}

/// A stage whose registry counts here.
async fn stage() -> (Stage, Registry) {
    let metrics = Registry::new("test").unwrap();
    let counting = metrics.clone();
    let stage =
        Stage::with(Bus::in_process(), move |_, engine| engine.registry_metrics = Some(counting)).await;
    (stage, metrics)
}

/// Until the registry knows all subscriptions: while others change some in the same server, it may have to look more than once.
async fn until_foreseen(stage: &Stage, metrics: &Registry) -> String {
    until("an event is foreseen", async || {
        let before = counted(metrics);
        let event = stage.post("order.created", json!({})).await;
        stage.goes_to(&event).await;
        if counted(metrics) == before + 1 { Ok(event) } else { Err(event) }
    })
    .await
}

async fn groups(stage: &Stage) -> usize {
    let late = stage.system.clock.now() + TimeDelta::minutes(1);
    stage.system.db.once(move |conn| overdue_groups(conn, late, 10)).await.unwrap().len()
}

/// Holds the counter of a hook, as a long transaction does, until the sender is dropped.
async fn hold_counter(stage: &Stage, hook: &str) -> (oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
    let (db, hook) = (stage.system.database.engine_pool(), hook.parse::<SubscriptionId>().unwrap());
    let ((held, is_held), (release, released)) = (oneshot::channel(), oneshot::channel::<()>());
    let holding = tokio::spawn(async move {
        let work = move |conn: &mut Conn| {
            sql_query("SELECT 1 FROM subscription_sequences WHERE subscription_id = $1 FOR UPDATE")
                .bind::<Uuid, _>(hook)
                .execute(conn)?;
            held.send(()).unwrap();
            let _dropped = released.blocking_recv();
            Ok(())
        };
        db.run(work).await.unwrap();
    });
    is_held.await.unwrap();
    (release, holding)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_foreseen_arrives_once_at_everybody_who_wants_it() {
    let (stage, metrics) = stage().await;
    let wanted = json!({"event_type": "order.created"});
    let hooks = [stage.hook("one", wanted.clone()).await, stage.hook("two", wanted).await];
    stage.hook("other", json!({"event_type": "other.type"})).await;
    let event = until_foreseen(&stage, &metrics).await;
    for hook in &hooks {
        stage.ended(&event, hook, "delivered").await;
    }
    assert_eq!(stage.goes_to(&event).await.len(), 2);
    let batch = json!({"events": [
        {"event_type": "other.type", "payload": {}}, {"event_type": "nobody.wants", "payload": {}}]});
    let answer = stage.client.post_json("/events/batch", &batch).await.expect(202);
    let ids: Vec<&str> =
        answer["results"].as_array().unwrap().iter().map(|one| text(&one["event_id"])).collect();
    stage.received("other", 1).await;
    assert_eq!((stage.goes_to(ids[0]).await.len(), stage.goes_to(ids[1]).await.len()), (1, 0));
    assert_eq!(groups(&stage).await, 0);
    let (one, two) = (stage.receiver.count("one"), stage.receiver.count("two"));
    assert_eq!(one, two, "each of them has each event");
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_filtered_waits_in_line_or_comes_later_is_not_foreseen() {
    let (stage, metrics) = stage().await;
    let hook = stage.hook("in", json!({})).await;
    let event = until_foreseen(&stage, &metrics).await;
    stage.ended(&event, &hook, "delivered").await;
    let before = counted(&metrics);
    let due = stage.system.clock.now() + TimeDelta::hours(1);
    let later = json!({"event_type": "order.created", "payload": {}, "deliver_at": wire_time(due)});
    stage.client.post_json("/events", &later).await.expect(202);
    // Nine at once are more than a ring tells of.
    let nine: Vec<_> = (0..9).map(|n| json!({"event_type": "order.created", "payload": {"n": n}})).collect();
    let answer = stage.client.post_json("/events/batch", &json!({"events": nine})).await.expect(202);
    for one in answer["results"].as_array().unwrap() {
        stage.ended(text(&one["event_id"]), &hook, "delivered").await;
    }
    let body = json!({"event_type": "order.created", "payload": {}}).to_string();
    let request = stage.client.request("POST", "/events").header("idempotency-key", "once");
    let keyed = request.json(body).send().await.expect(202);
    stage.ended(text(&keyed["event_id"]), &hook, "delivered").await;
    stage.hook("filtered", json!({"event_type": "an.other", "filter": {"payload.n": 1}})).await;
    for _ in 0..3 {
        let event = stage.post("order.created", json!({})).await;
        stage.ended(&event, &hook, "delivered").await;
    }
    assert_eq!(counted(&metrics), before);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_posts_does_not_wait_for_a_counter_that_somebody_holds() {
    let (stage, metrics) = stage().await;
    let hook = stage.hook("in", json!({})).await;
    until_foreseen(&stage, &metrics).await;
    let before = counted(&metrics);
    let (release, holding) = hold_counter(&stage, &hook).await;
    // It would wait for as long as the counter is held, which is until it was answered.
    let event = stage.post("order.created", json!({})).await;
    assert_eq!(groups(&stage).await, 1, "its fan-out is owed");
    drop(release);
    holding.await.unwrap();
    stage.ended(&event, &hook, "delivered").await;
    assert_eq!((counted(&metrics), groups(&stage).await), (before, 0));
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_registry_is_away_events_wait_and_none_is_lost() {
    let (mut stage, metrics) = stage().await;
    let hook = stage.hook("in", json!({})).await;
    until_foreseen(&stage, &metrics).await;
    stage.system.engine.stop().await;
    let event = stage.post("order.created", json!({})).await;
    assert_eq!(groups(&stage).await, 1);
    let system = &mut stage.system;
    system.engine =
        RunningEngine::start(Some(&Engine::default()), &system.database, &system.bus, &system.clock);
    stage.ended(&event, &hook, "delivered").await;
    stage.close().await;
}

/// Foresees for the gateway of a stage as `hookyard gateway` does, until `stop` is cancelled; with what it counts.
fn gateway_foresees(stage: &Stage, stop: &CancellationToken) -> (Arc<dyn Foresight>, Registry) {
    let metrics = Registry::new("test").unwrap();
    let engine = Engine { registry_metrics: Some(metrics.clone()), ..Engine::default() };
    let System { database, bus, clock, .. } = &stage.system;
    let deps = engine.foreseer(database.engine_pool(), bus, clock);
    (hookyard_registry::foresee(deps, stop.clone()).unwrap(), metrics)
}

#[tokio::test(flavor = "multi_thread")]
async fn over_a_broker_a_gateway_foresees_by_itself() {
    amqp::with_bus(|bus| async {
        let stage = Stage::with(bus, |_, _| {}).await;
        let (hook, other) = (stage.hook("in", json!({})).await, stage.hook("other", json!({})).await);
        let stop = CancellationToken::new();
        let (foresight, metrics) = gateway_foresees(&stage, &stop);
        let event = until_foreseen(&stage, &metrics).await;
        for hook in [&hook, &other] {
            stage.ended(&event, hook, "delivered").await;
        }
        // It sees that a subscription has changed, by itself, as no registry tells it.
        stage.client.delete(&format!("/zapier/hook/{other}")).await;
        let event = until_foreseen(&stage, &metrics).await;
        assert_eq!(stage.goes_to(&event).await.len(), 1);
        stage.ended(&event, &hook, "delivered").await;
        // The registries go on where there is nobody who foresees.
        let before = counted(&metrics);
        stop.cancel();
        let event = stage.post("order.created", json!({})).await;
        stage.ended(&event, &hook, "delivered").await;
        drop(foresight);
        let event = stage.post("order.created", json!({})).await;
        stage.ended(&event, &hook, "delivered").await;
        assert_eq!((counted(&metrics), groups(&stage).await), (before, 0));
        stage.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_broker_a_gateway_foresees_nothing() {
    let stage = Stage::with(amqp::away(), |_, engine| (engine.registries, engine.deliverers) = (0, 0)).await;
    stage.hook("in", json!({})).await;
    let (foresight, metrics) = gateway_foresees(&stage, &CancellationToken::new());
    // It could, after this look.
    foresight.outdated();
    tokio::time::sleep(Duration::from_millis(300)).await;
    for owed in 1..=3 {
        stage.post("order.created", json!({})).await;
        assert_eq!(groups(&stage).await, owed, "a relay comes for it, and no lease has to end first");
    }
    assert_eq!(counted(&metrics), 0);
    stage.system.bus.close().await;
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_writes_all_of_it_or_leaves_the_fan_out_owed() {
    let stage = Stage::still().await;
    let hooks = [stage.hook("one", json!({})).await, stage.hook("two", json!({})).await];
    let ids: Vec<SubscriptionId> = hooks.iter().map(|hook| hook.parse().unwrap()).collect();
    let (tenant, clock, db) = (stage.system.tenant, stage.system.clock.clone(), stage.system.db.clone());
    let directory = Directory::default();
    let store = async |deliver: bool| -> (Vec<NewEvent>, hookyard_domain::Result<Option<Numbers>>) {
        let now = clock.now();
        let event = |_| NewEvent {
            tenant,
            id: EventId::new(now),
            event_type: "order.created".parse().unwrap(),
            origin: Origin::Posted,
            occurred_at: now,
            created_at: now,
            due_at: None,
            metadata: json!({}),
            trace: TraceContext::fresh(),
            body: b"{}".to_vec(),
        };
        let mut events: Vec<NewEvent> = (0..3).map(event).collect();
        events.sort_by_key(|event| event.id);
        let new = |event: &NewEvent, subscription: &SubscriptionId| {
            let id = DeliveryId { event: event.id, subscription: *subscription };
            NewDelivery::plain(id, tenant, Profile::Hook)
        };
        // In no order, and not every hook wants every event.
        let all = events.iter().rev().flat_map(|event| ids.iter().map(move |id| new(event, id)));
        let deliveries = all.filter(|new| new.id != DeliveryId { event: events[1].id, subscription: ids[1] });
        let foreseen = Foreseen {
            standing: directory.standing(),
            deliveries: if deliver { deliveries.collect() } else { Vec::new() },
            hold: Hold { claim: ClaimId::new(now), now, until: now + TimeDelta::seconds(30) },
        };
        let stored = events.clone();
        let group = EventGroupId::new(now);
        let work = move |conn: &mut Conn| foreseen.store(conn, group, &stored);
        (events, db.once(work).await)
    };
    let shown = async |event: &NewEvent| stage.client.get(&format!("/v1/events/{}", event.id)).await.status;
    let (events, numbers) = store(true).await;
    assert_eq!(numbers.unwrap(), None, "nothing is known of subscriptions");
    assert_eq!((groups(&stage).await, shown(&events[2]).await), (1, 200));
    let refresh = async || {
        let snapshot = directory.clone();
        db.once(move |conn| snapshot.refresh(conn)).await.unwrap();
    };
    // While a transaction of whoever else is open, the snapshot may lack what it changes.
    let (events, numbers) = until("it is made", async || {
        refresh().await;
        match store(true).await {
            (events, Ok(Some(numbers))) => Ok((events, numbers)),
            (_, other) => Err(other),
        }
    })
    .await;
    let number = |event: usize, hook: usize| {
        numbers.get(&DeliveryId { event: events[event].id, subscription: ids[hook] }).copied()
    };
    assert_eq!([0, 1, 2].map(|event| number(event, 0)), [Some(1), Some(2), Some(3)]);
    assert_eq!([0, 1, 2].map(|event| number(event, 1)), [Some(1), None, Some(2)]);
    for (event, hook, sequence) in [(1, 0, 2), (2, 1, 2)] {
        let shown = stage.delivery(&events[event].id.to_string(), &hooks[hook]).await;
        assert_eq!((&shown["sequence"], &shown["state"]), (&json!(sequence), &json!("pending")), "{shown}");
    }
    let owed = groups(&stage).await;
    let (release, holding) = hold_counter(&stage, &hooks[1]).await;
    let (events, numbers) = tokio::time::timeout(Duration::from_secs(20), store(true)).await.unwrap();
    assert!(matches!(numbers, Err(Error::Locked)), "{numbers:?}");
    assert_eq!((groups(&stage).await, shown(&events[0]).await), (owed, 404), "nothing is stored");
    let (events, numbers) = store(false).await;
    assert_eq!(numbers.unwrap(), Some(Numbers::new()), "whom nobody wants needs no counter");
    assert_eq!((groups(&stage).await, shown(&events[0]).await), (owed, 200));
    drop(release);
    holding.await.unwrap();
    let (_, numbers) = store(true).await;
    let mut given: Vec<i64> = numbers.unwrap().unwrap().into_values().collect();
    given.sort_unstable();
    assert_eq!(given, [3, 4, 4, 5, 6], "none was spent on what was not stored");
    stage.close().await;
}
