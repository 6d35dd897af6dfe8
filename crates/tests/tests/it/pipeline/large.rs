//! Events that very many hooks want: made part by part, each delivery once, and nobody else waits for them.

use chrono::TimeDelta;
use diesel::{
    QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Array, BigInt, Uuid},
};
use futures_util::{StreamExt as _, stream};
use hookyard_domain::{
    db::Conn,
    delivery::{
        fan_out::{self, Hold, Rest},
        large,
    },
    event::store::overdue_groups,
    id::{ClaimId, EventId, SubscriptionId},
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

/// How many deliveries came to the [`hooks`]. Whoever is disabled also hears of that, without a body.
fn received(stage: &Stage) -> usize {
    stage
        .receiver
        .received()
        .iter()
        .filter(|one| one.path.starts_with("/many?") && !one.body.is_empty())
        .count()
}

async fn all_received(stage: &Stage, count: usize) {
    until("all is received", async || match received(stage) {
        so_far if so_far >= count => Ok(()),
        so_far => Err(so_far),
    })
    .await;
}

/// Subscribes so many hooks, each with an address of its own.
async fn hooks(stage: &Stage, count: usize, event_type: &str) -> Vec<String> {
    stream::iter(0..count)
        .map(async |at| {
            let url = format!("{}?{event_type}={at}", stage.receiver.url("many"));
            stage.hook_at(&url, json!({"event_type": event_type})).await
        })
        .buffer_unordered(8)
        .collect()
        .await
}

async fn state(stage: &Stage, event: &str) -> String {
    text(&stage.client.get(&format!("/v1/events/{event}")).await.expect(200)["state"]).to_owned()
}

async fn all_delivered(stage: &Stage, event: &str) {
    until("all is delivered", async || match state(stage, event).await.as_str() {
        "delivered" => Ok(()),
        other => Err(other.to_owned()),
    })
    .await;
}

/// At the slowest pace: one delivery in 50 ms.
#[tokio::test(flavor = "multi_thread")]
async fn up_to_512_deliveries_are_made_at_once_and_513_are_not() {
    let stage = Stage::with(Bus::in_process(), |_, engine| engine.registry.large_fan_out_per_s = 20).await;
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
    // All that are made have ended but the message in the inbox, and the event has not.
    until("nothing is under way", async || {
        let shown = stage.client.get(&format!("/v1/events/{large}")).await.expect(200);
        let counts = &shown["deliveries"];
        if counts["pending"] == 1 && counts["delivered"] != 0 && shown["state"] == "pending" {
            Ok(())
        } else {
            Err(shown)
        }
    })
    .await;
    for (filter, listed) in
        [("pending", true), ("undelivered", true), ("accepted", false), ("delivered", false)]
    {
        let path = format!("/v1/events?event_type=big.large&state={filter}");
        let page = stage.client.get(&path).await.expect(200);
        assert_eq!(!page["data"].as_array().unwrap().is_empty(), listed, "{filter}: {page}");
    }
    // Its line does not wait for hooks.
    stage.post("big.large", json!({"k": 1})).await;
    stage.received("consumer", 2).await;
    assert_eq!(standing(&stage, &large).await.groups, 1);
    // Whoever has its payload purged does not wait for those that are not made.
    let purge = format!("/v1/events/{large}/payload?cancel_pending=true");
    stage.client.delete(&purge).await.expect(200);
    let found = standing(&stage, &large).await;
    assert!(found.made < LARGE as i64 && found.groups == 0, "{found:?}");
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
    let mut events =
        vec![stage.post("big.event", json!({"n": 1})).await, stage.post("big.event", json!({"n": 2})).await];
    all_received(&stage, many.len() * 2).await;
    // What is not written down yet would be sent again after a leap of the clock.
    for event in &events {
        all_delivered(&stage, event).await;
    }
    let due = (stage.system.clock.now() + TimeDelta::minutes(5)).to_rfc3339();
    let scheduled = json!({"event_type": "big.event", "payload": {"n": 3}, "deliver_at": due});
    events
        .push(text(&stage.client.post_json("/events", &scheduled).await.expect(202)["event_id"]).to_owned());
    stage.advance(300_001);
    all_received(&stage, many.len() * 3).await;
    for event in &events {
        all_delivered(&stage, event).await;
        assert_eq!(standing(&stage, event).await, Standing { made: many.len() as i64, groups: 0 });
    }
    assert_eq!(received(&stage), many.len() * events.len(), "each once");
    for hook in [&many[0], &many[many.len() - 1]] {
        let mut numbers = Vec::new();
        for event in &events {
            numbers.push(stage.delivery(event, hook).await["sequence"].as_i64().unwrap());
        }
        numbers.sort_unstable();
        assert_eq!(numbers, [1, 2, 3]);
    }
    stage.close().await;
}

/// Each step by hand, and then a registry that takes over from one that was killed in the middle.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_holds_the_rest_goes_on_and_nobody_else() {
    let mut stage = Stage::still().await;
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
    let (first, second) = (ClaimId::new(now), ClaimId::new(now));

    let (hold_first, wanted) = (hold(first, 0), hooks.iter().rev().copied().collect::<Vec<_>>());
    let taken = db.once(move |conn| {
        let groups = overdue_groups(conn, now + TimeDelta::minutes(1), 10)?;
        let rests = [Rest { group: groups[0], tenant, event, since: now, wanted }];
        let taken = fan_out::take(conn, &groups, &[], &rests, hold_first)?;
        // Whoever comes late makes no second rest; and the relay does not take what is left for a group of its own.
        assert!(fan_out::take(conn, &groups, &[], &rests, hold_first)?.is_empty());
        assert!(overdue_groups(conn, now + TimeDelta::minutes(1), 10)?.is_empty());
        Ok(taken)
    });
    assert_eq!(taken.await.unwrap().len(), 1);
    assert_eq!(state(&stage, &posted).await, "pending");

    let claim = async |hold: Hold, busy: &[_], enough: &[_]| {
        let (busy, enough) = (busy.to_vec(), enough.to_vec());
        db.once(move |conn| large::claim(conn, &busy, &enough, hold)).await.unwrap()
    };
    assert_eq!(claim(hold_first, &[], &[tenant]).await, None, "it has enough of this tenant");
    let claimed = claim(hold_first, &[tenant], &[]).await.unwrap();
    assert_eq!((claimed.tenant, claimed.since.timestamp_micros()), (tenant, now.timestamp_micros()));
    let group = claimed.group;
    let go_on = async |claim: ClaimId, most: i32| {
        let hold = Hold { claim: ClaimId::new(now), ..hold_first };
        let step = db.once(move |conn| large::go_on(conn, group, claim, most, hold)).await.unwrap();
        step.map(|step| {
            let mut made: Vec<SubscriptionId> = step.made.iter().map(|new| new.id.subscription).collect();
            made.sort_unstable();
            (made, step.is_last)
        })
    };
    // Two parts, the first with the delivery that is there already.
    assert_eq!(go_on(first, 4).await, Some((vec![hooks[0], hooks[2], hooks[3]], false)));
    assert_eq!(standing(&stage, &posted).await, Standing { made: 4, groups: 1 });
    assert_eq!(go_on(first, 6).await, Some((hooks[4..10].to_vec(), false)));
    assert_eq!(standing(&stage, &posted).await, Standing { made: 10, groups: 1 });
    // A crash of Postgres takes the last part back, and with it how far it was: nobody goes on behind a hole.
    let part = hooks[4..10].to_vec();
    let crash = move |conn: &mut Conn| {
        sql_query("UPDATE event_groups SET made = 4").execute(conn)?;
        sql_query("DELETE FROM deliveries WHERE subscription_id = ANY($1)")
            .bind::<Array<Uuid>, _>(part)
            .execute(conn)?;
        Ok(())
    };
    db.run(crash).await.unwrap();
    assert_eq!(go_on(first, 6).await, Some((hooks[4..10].to_vec(), false)));
    // Nobody has it while it is held; then somebody has, from where the first was, and the first makes nothing any more.
    let (early, late) = (hold(second, 29), hold(second, 30));
    assert_eq!(claim(early, &[], &[]).await, None);
    assert_eq!(claim(late, &[], &[]).await, Some(claimed));
    assert_eq!(go_on(first, 10).await, None);
    db.once(move |conn| large::finish(conn, group, second)).await.unwrap();
    assert_eq!(standing(&stage, &posted).await, Standing { made: 10, groups: 1 }, "it is not done");
    // Given back by whoever has it, not by whoever had it.
    let give_back =
        async |claim, now| db.once(move |conn| large::give_back(conn, &[group], claim, now)).await.unwrap();
    give_back(first, early.now).await;
    assert_eq!(claim(early, &[], &[]).await, None);
    give_back(second, early.now).await;

    // One of those that wait for it is disabled before its turn, and gets it when it is enabled and asks for what it missed.
    let last = hooks[count - 1].to_string();
    stage.client.post(&format!("/v1/hooks/{last}/disable"), "").await.expect(200);
    let system = &mut stage.system;
    system.clock.advance(TimeDelta::seconds(61));
    system.engine =
        RunningEngine::start(Some(&Engine::default()), &system.database, &system.bus, &system.clock);
    all_received(&stage, count - 1).await;
    stage.ended(&posted, &last, "cancelled").await;
    stage.client.post_json(&format!("/v1/hooks/{last}/enable"), &json!({"replay": true})).await.expect(200);
    all_delivered(&stage, &posted).await;
    stage.ended(&posted, &last, "delivered").await;
    assert_eq!(standing(&stage, &posted).await, Standing { made: count as i64, groups: 0 });
    assert_eq!(received(&stage), count, "each once");
    let sequence = stage.delivery(&posted, &hooks[1].to_string()).await["sequence"].clone();
    assert_eq!(sequence, 1, "no number is spent on what was there");
    stage.close().await;
}
