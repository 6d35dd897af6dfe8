//! Events that very many hooks want: made part by part, each delivery once, and nobody else waits for them.

use chrono::TimeDelta;
use diesel::{QueryableByName, RunQueryDsl, sql_query, sql_types::BigInt};
use futures_util::{StreamExt as _, stream};
use hookyard_domain::{
    db::Conn,
    delivery::{
        NewDelivery, Profile,
        fan_out::{self, Claimed, Hold, Owed, Rest},
    },
    event::store::overdue_groups,
    id::{ClaimId, DeliveryId, EventId, SubscriptionId},
};
use hookyard_messaging::Bus;
use hookyard_tests::engine::{Engine, RunningEngine};
use serde_json::json;

use super::stage::{Stage, text, until};

/// With more deliveries than this an event is made part by part.
const LARGE: usize = 512;

#[derive(Debug, PartialEq, Eq, QueryableByName)]
struct Standing {
    #[diesel(sql_type = BigInt)]
    made: i64,
    #[diesel(sql_type = BigInt)]
    groups: i64,
}

/// How many deliveries of an event there are, and how many groups wait with it, at one time.
async fn standing(stage: &Stage, event: &str) -> Standing {
    let event: EventId = event.parse().unwrap();
    let read = move |conn: &mut Conn| {
        Ok(sql_query(format!(
            "SELECT (SELECT count(*) FROM deliveries WHERE event_id = '{0}') AS made, \
               (SELECT count(*) FROM event_groups WHERE '{0}' = ANY(event_ids)) AS groups",
            event.uuid()
        ))
        .get_result(conn)?)
    };
    stage.system.db.once(read).await.unwrap()
}

/// Subscribes so many hooks at `/many`.
async fn hooks(stage: &Stage, count: usize, event_type: &str) -> Vec<String> {
    stream::iter(0..count)
        .map(async |_| stage.hook("many", json!({"event_type": event_type})).await)
        .buffer_unordered(8)
        .collect()
        .await
}

async fn state(stage: &Stage, event: &str) -> String {
    text(&stage.client.get(&format!("/v1/events/{event}")).await.expect(200)["state"]).to_owned()
}

/// At the slowest pace: one delivery in 50 ms.
#[tokio::test(flavor = "multi_thread")]
async fn up_to_512_deliveries_are_made_at_once_and_513_are_not() {
    let stage = Stage::with(Bus::in_process(), |_, engine| engine.registry.large_fan_out_per_s = 20).await;
    stage.receiver.hold("many");
    hooks(&stage, LARGE, "big.*").await;
    let small = stage.post("big.small", json!({})).await;
    until("it is fanned out", async || match standing(&stage, &small).await {
        Standing { groups: 0, made } => Ok(made),
        waits => Err(waits),
    })
    .await;
    assert_eq!(standing(&stage, &small).await, Standing { made: LARGE as i64, groups: 0 });

    // One more, and a consumer and an inbox, which are never left for later.
    hooks(&stage, 1, "big.large").await;
    let consumer = json!({"url": stage.receiver.url("consumer"), "eventTypes": ["big.large"], "ordering_key": "payload.k"});
    stage.client.post_json("/webhooks", &consumer).await.expect(201);
    let inbox = json!({"name": "in", "event_types": ["big.large"]});
    let inbox = text(&stage.client.post_json("/v1/inboxes", &inbox).await.expect(201)["id"]).to_owned();
    stage.hook("other", json!({"event_type": "other.one"})).await;
    let large = stage.post("big.large", json!({"k": 1})).await;
    // While the others are made, these have it, and so has whoever waits for another event.
    stage.received("consumer", 1).await;
    let messages = stage.client.get(&format!("/v1/inboxes/{inbox}")).await.expect(200)["messages"].clone();
    assert_eq!(messages["waiting"], 1, "{messages}");
    stage.post("other.one", json!({})).await;
    stage.received("other", 1).await;
    let found = standing(&stage, &large).await;
    assert!(found.made < LARGE as i64 && found.groups == 1, "{found:?}");
    // Even if all that are made have ended, the event has not.
    assert_eq!(state(&stage, &large).await, "pending");
    for (filter, listed) in
        [("pending", true), ("undelivered", true), ("accepted", false), ("delivered", false)]
    {
        let page =
            stage.client.get(&format!("/v1/events?event_type=big.large&state={filter}")).await.expect(200);
        assert_eq!(!page["data"].as_array().unwrap().is_empty(), listed, "{filter}: {page}");
    }
    // Its line does not wait for hooks.
    stage.post("big.large", json!({"k": 1})).await;
    stage.received("consumer", 2).await;
    assert_eq!(standing(&stage, &large).await.groups, 1);
    stage.receiver.release("many");
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_event_reaches_each_once_whoever_goes_on_with_it() {
    let stage = Stage::with(Bus::in_process(), |_, engine| {
        (engine.registries, engine.deliverers) = (3, 2);
        engine.registry.large_fan_out_per_s = 4_000;
    })
    .await;
    let many = hooks(&stage, LARGE + 188, "big.event").await;
    let events =
        [stage.post("big.event", json!({"n": 1})).await, stage.post("big.event", json!({"n": 2})).await];
    stage.received("many", many.len() * events.len()).await;
    for event in &events {
        until("all is delivered", async || match state(&stage, event).await.as_str() {
            "delivered" => Ok(()),
            other => Err(other.to_owned()),
        })
        .await;
        assert_eq!(standing(&stage, event).await, Standing { made: many.len() as i64, groups: 0 });
    }
    assert_eq!(stage.receiver.count("many"), many.len() * events.len(), "each once");
    for hook in [&many[0], &many[many.len() - 1]] {
        let mut numbers = Vec::new();
        for event in &events {
            numbers.push(stage.delivery(event, hook).await["sequence"].as_i64().unwrap());
        }
        numbers.sort_unstable();
        assert_eq!(numbers, [1, 2]);
    }
    stage.close().await;
}

/// Each step by hand, and then a registry that takes over from one that was killed in the middle.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_holds_the_rest_goes_on_and_nobody_else() {
    let mut stage =
        Stage::with(Bus::in_process(), |_, engine| (engine.registries, engine.deliverers) = (0, 0)).await;
    let count = LARGE + 8;
    let mut hooks: Vec<SubscriptionId> =
        hooks(&stage, count, "big.event").await.iter().map(|hook| hook.parse().unwrap()).collect();
    hooks.sort_unstable();
    let posted = stage.post("big.event", json!({})).await;
    let event: EventId = posted.parse().unwrap();
    // Somebody has it sent to one of them before anybody has fanned it out.
    let replay = json!({"event_id": posted});
    stage.client.post_json(&format!("/v1/hooks/{}/replay", hooks[1]), &replay).await.expect(202);
    let (tenant, now, db) = (stage.system.tenant, stage.system.clock.now(), stage.system.db.clone());
    let hold = |claim: ClaimId, after_s: i64| {
        let now = now + TimeDelta::seconds(after_s);
        Hold { claim, now, until: now + TimeDelta::seconds(30) }
    };
    let owed = |group, hooks: &[SubscriptionId]| -> Vec<Owed> {
        let id = |hook: &SubscriptionId| DeliveryId { event, subscription: *hook };
        hooks.iter().map(|hook| (group, NewDelivery::plain(id(hook), tenant, Profile::Hook))).collect()
    };
    let (first, second) = (ClaimId::new(now), ClaimId::new(now));

    let hold_first = hold(first, 0);
    let taken = db.once(move |conn| {
        let groups = overdue_groups(conn, now + TimeDelta::minutes(1), 10)?;
        let rest = Rest { group: groups[0], tenant, event, since: now };
        let taken = fan_out::take(conn, &groups, &[], &[rest], hold_first)?;
        // Whoever comes late makes no second rest; and the relay does not take what is left for a group of its own.
        assert!(fan_out::take(conn, &groups, &[], &[rest], hold_first)?.is_empty());
        assert!(overdue_groups(conn, now + TimeDelta::minutes(1), 10)?.is_empty());
        Ok(taken)
    });
    assert_eq!(taken.await.unwrap().len(), 1);
    assert_eq!(state(&stage, &posted).await, "pending");

    let claimed = db.once(move |conn| fan_out::claim(conn, hold_first)).await.unwrap().unwrap();
    assert_eq!(claimed.made_up_to.uuid(), uuid::Uuid::nil());
    let group = claimed.group;
    // Two parts, the first with the delivery that is there already.
    for (part, made) in [(0..4, 4), (4..10, 10)] {
        let (some, up_to) = (owed(group, &hooks[part.clone()]), hooks[part.end - 1]);
        let held = db.once(move |conn| fan_out::go_on(conn, group, &some, Some(up_to), hold_first));
        assert!(held.await.unwrap());
        assert_eq!(standing(&stage, &posted).await, Standing { made, groups: 1 });
    }
    // Nobody has it while it is held; then somebody has, from where the first was, and the first makes nothing any more.
    let (early, late) = (hold(second, 29), hold(second, 30));
    assert_eq!(db.once(move |conn| fan_out::claim(conn, early)).await.unwrap(), None);
    let again = db.once(move |conn| fan_out::claim(conn, late)).await.unwrap();
    assert_eq!(again, Some(Claimed { group, made_up_to: hooks[9] }));
    for up_to in [Some(hooks[19]), None] {
        let some = owed(group, &hooks[10..20]);
        assert!(!db.once(move |conn| fan_out::go_on(conn, group, &some, up_to, hold_first)).await.unwrap());
    }
    assert_eq!(standing(&stage, &posted).await, Standing { made: 10, groups: 1 });
    // Given back by whoever has it, not by whoever had it.
    db.once(move |conn| fan_out::give_back(conn, &[group], hold_first)).await.unwrap();
    assert_eq!(db.once(move |conn| fan_out::claim(conn, early)).await.unwrap(), None);
    db.once(move |conn| fan_out::give_back(conn, &[group], late)).await.unwrap();

    let system = &mut stage.system;
    system.clock.advance(TimeDelta::seconds(61));
    system.engine =
        RunningEngine::start(Some(&Engine::default()), &system.database, &system.bus, &system.clock);
    stage.received("many", count).await;
    until("all is delivered", async || match state(&stage, &posted).await.as_str() {
        "delivered" => Ok(()),
        other => Err(other.to_owned()),
    })
    .await;
    assert_eq!(standing(&stage, &posted).await, Standing { made: count as i64, groups: 0 });
    assert_eq!(stage.receiver.count("many"), count, "each once");
    let sequence = stage.delivery(&posted, &hooks[1].to_string()).await["sequence"].clone();
    assert_eq!(sequence, 1, "no number is spent on what was there");
    stage.close().await;
}
