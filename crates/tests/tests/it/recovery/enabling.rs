//! An endpoint that is enabled with what was kept for it, in one step.

use chrono::TimeDelta;
use diesel::{
    RunQueryDsl as _, sql_query,
    sql_types::{Timestamptz, Uuid},
};
use hookyard_domain::{event::wire_time, id::DeliveryId};
use hookyard_messaging::Bus;
use serde_json::{Value, json};

use super::{completed, consumer, orders};
use crate::pipeline::stage::{Stage, text};

fn delivery(event: &str, endpoint: &str) -> DeliveryId {
    DeliveryId { event: event.parse().unwrap(), subscription: endpoint.parse().unwrap() }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_kept_is_sent_when_an_endpoint_is_enabled() {
    let stage = Stage::open(Bus::in_process()).await;
    for (path, kind) in [("hook", "/v1/hooks"), ("consumer", "/webhooks")] {
        let id = match path {
            "hook" => stage.hook(path, json!({"event_type": "order.*"})).await,
            _ => consumer(&stage, path, json!({})).await,
        };
        // Long ago, and given up: not kept.
        let arrived = orders(&stage, 1).await.remove(0);
        stage.ended(&arrived, &id, "delivered").await;
        stage.answer(path, 500);
        let waits = orders(&stage, 2).await;
        for event in &waits {
            stage.tried(event, &id, 1).await;
        }
        stage.client.post(&format!("{kind}/{id}/disable"), "").await.expect(200);
        let missed = orders(&stage, 3).await;
        stage.answer(path, 200);
        let before = stage.receiver.count(path);
        let enabled = stage
            .client
            .post_json(&format!("{kind}/{id}/enable"), &json!({"replay": true}))
            .await
            .expect(200);
        assert_eq!(enabled["state"], "pending", "{enabled}");
        let recovery = &enabled["recovery"];
        assert_eq!(
            (&recovery["which"], text(&recovery["endpoint_id"])),
            (&json!("undelivered"), id.as_str())
        );
        let ended = completed(&stage, recovery).await;
        assert_eq!(ended["queued"], 5, "{ended}");
        for event in waits.iter().chain(&missed) {
            stage.ended(event, &id, "delivered").await;
        }
        let farewells = usize::from(path == "hook");
        let got = stage.receiver.at(path).split_off(before);
        assert!(got.iter().filter(|one| one.method == "POST").count() == 5, "{got:?}");
        assert!(got.len() <= 5 + farewells);
        // Enabled already: only with a time, and then a recovery is all that it is.
        let again = |replay: Value| {
            let client = stage.client.clone();
            let path = format!("{kind}/{id}/enable");
            async move { client.post_json(&path, &json!({"replay": replay})).await }
        };
        // Who has not got the answer asks once more.
        let same = again(json!(true)).await.expect(200);
        assert_eq!((&same["recovery"]["id"], &same["recovery"]["queued"]), (&recovery["id"], &json!(5)));
        let other = json!({"per_second": 7});
        assert_eq!(again(other).await.error(), (422, "INVALID_FIELD".to_owned()));
        assert_eq!(again(json!(false)).await.expect(200)["recovery"], Value::Null);
        let since = super::beginning(&stage);
        let chosen =
            json!({"since": since, "which": "all", "event_types": ["order.created"], "per_second": 7});
        let enabled = again(chosen).await.expect(200);
        assert_eq!(
            (&enabled["recovery"]["per_second"], &enabled["recovery"]["which"]),
            (&json!(7), &json!("all"))
        );
        completed(&stage, &enabled["recovery"]).await;
        // Another enabling, without a replay: that recovery was not its.
        stage.client.post(&format!("{kind}/{id}/disable"), "").await.expect(200);
        stage.advance(5);
        stage.client.post(&format!("{kind}/{id}/enable"), "").await.expect(200);
        assert_eq!(again(json!(true)).await.error(), (422, "INVALID_FIELD".to_owned()));
        stage.client.delete(&format!("{kind}/{id}")).await.expect(200);
    }
    stage.close().await;
}

/// And nothing else of the time before: not what had failed by then.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_accepted_long_before_is_kept_too() {
    let stage = Stage::open(Bus::in_process()).await;
    let id = consumer(&stage, "kept", json!({})).await;
    let due = stage.system.clock.now() + TimeDelta::days(6);
    let later = json!({"event_type": "order.created", "payload": {"n": 0}, "deliver_at": wire_time(due)});
    let scheduled = text(&stage.client.post_json("/events", &later).await.expect(202)["event_id"]).to_owned();
    stage.answer("kept", 500);
    let waits = orders(&stage, 1).await.remove(0);
    stage.tried(&waits, &id, 1).await;
    let failed = orders(&stage, 1).await.remove(0);
    stage.tried(&failed, &id, 1).await;
    // Four days under way, or failed long ago.
    let (waiting, dead, tenant) = (delivery(&waits, &id), delivery(&failed, &id), stage.system.tenant);
    let now = stage.system.clock.now();
    let moved = stage.system.db.once(move |conn| {
        let end = "UPDATE deliveries SET state = 2, settled_at = $4 WHERE event_id = $2 AND subscription_id = $3 AND tenant_id = $1";
        let wait = "UPDATE deliveries SET next_attempt_at = $4 WHERE event_id = $2 AND subscription_id = $3 AND tenant_id = $1";
        for (statement, id, at) in [(end, dead, now), (wait, waiting, now + TimeDelta::days(9))] {
            let query = sql_query(statement).bind::<Uuid, _>(tenant).bind::<Uuid, _>(id.event);
            query.bind::<Uuid, _>(id.subscription).bind::<Timestamptz, _>(at).execute(conn)?;
        }
        Ok(())
    });
    moved.await.unwrap();
    stage.advance_beyond(now + TimeDelta::days(4));
    stage.client.post(&format!("/webhooks/{id}/disable"), "").await.expect(200);
    stage.ended(&waits, &id, "cancelled").await;
    stage.advance_beyond(due);
    assert_eq!(stage.goes_to(&scheduled).await, Vec::<String>::new());
    let missed = orders(&stage, 1).await.remove(0);
    stage.answer("kept", 200);
    let enabled =
        stage.client.post_json(&format!("/webhooks/{id}/enable"), &json!({"replay": true})).await.expect(200);
    let ended = completed(&stage, &enabled["recovery"]).await;
    // Our own event of the disabling is looked at, too.
    assert_eq!(ended["queued"], 3, "{ended}");
    for event in [&waits, &scheduled, &missed] {
        stage.ended(event, &id, "delivered").await;
    }
    assert_eq!(stage.delivery(&failed, &id).await["state"], "dead");
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_is_refused_leaves_it_disabled() {
    let stage = Stage::open(Bus::in_process()).await;
    let id = consumer(&stage, "kept", json!({"disabled": true})).await;
    for (replay, code) in [
        (json!("yes"), "INVALID_FIELD"),
        (json!(1), "INVALID_FIELD"),
        (json!({"which": "some"}), "INVALID_FIELD"),
        (json!({"per_second": 0}), "INVALID_FIELD"),
        (json!({"event_types": ["a b"]}), "INVALID_EVENT_TYPE"),
    ] {
        let reply =
            stage.client.post_json(&format!("/webhooks/{id}/enable"), &json!({"replay": replay})).await;
        assert_eq!(reply.error(), (422, code.to_owned()), "{replay}");
        let shown = stage.client.get(&format!("/webhooks/{id}")).await.expect(200);
        assert_eq!(shown["state"], "disabled", "{replay}");
    }
    assert_eq!(stage.client.get("/v1/recoveries").await.expect(200)["data"], json!([]));
    stage.close().await;
}
