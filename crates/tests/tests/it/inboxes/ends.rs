//! Messages that nobody acknowledges: quarantined, requeued, given up, expired.

use hookyard_domain::subscription::inbox::deleted;
use hookyard_messaging::Bus;
use serde_json::{Value, json};

use super::{ack, ask, counts, fill, filled, inbox, lease, many, say, sequences};
use crate::{
    pipeline::stage::{Stage, text, until},
    retention::{execute, number},
};

async fn dead_letters(stage: &Stage, inbox: &str) -> Vec<Value> {
    let page = stage.client.get(&format!("/v1/dead-letters?hook_id={inbox}")).await.expect(200);
    page["data"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_leased_too_often_is_quarantined_as_a_dead_letter_and_can_be_requeued() {
    let stage = Stage::open(Bus::in_process()).await;
    let id = inbox(&stage.client, json!({"max_leases": 2})).await;
    fill(&stage, &id, 3).await;
    // The first is forgotten twice, the second is given back twice, the third waits behind them.
    for count in [1, 2] {
        let held = lease(&stage.client, &id, 2).await;
        assert_eq!(sequences(&held), [1, 2]);
        assert!(held.iter().all(|message| message["lease_count"] == count));
        let back = say(&stage.client, &id, "release", &held[1..], json!({"reason": "too heavy"})).await;
        assert_eq!(back, [if count == 2 { "quarantined" } else { "released" }]);
        stage.advance(60_000);
    }
    // Whoever asks next gets what comes behind it.
    assert_eq!(sequences(&lease(&stage.client, &id, 1).await), [3]);
    let now = counts(&stage.client, &id).await;
    assert_eq!((&now["quarantined"], &now["leased"], &now["waiting"]), (&json!(2), &json!(1), &json!(0)));
    let page = stage.client.get(&format!("/v1/inboxes/{id}/messages?state=quarantined")).await.expect(200);
    let told: Vec<(i64, &str, &str)> = page["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["sequence"].as_i64().unwrap(), text(&one["state"]), text(&one["last_reason"])))
        .collect();
    assert_eq!(told, [(1, "quarantined", "over_leased"), (2, "quarantined", "too heavy")]);
    // They stand among the dead letters, and are requeued and given up there.
    let letters = dead_letters(&stage, &id).await;
    assert_eq!(letters.len(), 2);
    assert!(letters.iter().all(|letter| letter["kind"] == "inbox" && letter["state"] == "dead"));
    let second = text(&page["data"][1]["delivery_id"]).to_owned();
    stage.client.delete(&format!("/v1/dead-letters/{second}")).await.expect(200);
    let all = json!({"all": true, "hook_id": id});
    assert_eq!(stage.client.post_json("/v1/dead-letters/retry", &all).await.expect(202)["moved"], 1);
    let again = lease(&stage.client, &id, 10).await;
    assert_eq!(sequences(&again), [1]);
    assert_eq!(again[0]["lease_count"], 1, "it begins anew");
    assert_eq!(ack(&stage.client, &id, &again).await, ["acknowledged"]);
    // One that was given up, or is done, can be had again, too.
    stage.client.post(&format!("/v1/deliveries/{second}/retry"), "").await.expect(202);
    assert_eq!(sequences(&lease(&stage.client, &id, 10).await), [2]);
    let audited = stage.system.audited(Some(stage.system.tenant)).await;
    assert_eq!(
        audited,
        ["inbox.created", "dead_letters.discarded", "dead_letters.retried", "delivery.retried"]
    );
    stage.let_everything_happen().await;
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_for_many_gets_them_although_others_have_to_be_put_aside_first() {
    let stage = Stage::open(Bus::in_process()).await;
    let id = inbox(&stage.client, json!({"max_leases": 1})).await;
    fill(&stage, &id, 6).await;
    lease(&stage.client, &id, 4).await;
    stage.advance(60_000);
    assert_eq!(sequences(&lease(&stage.client, &id, 2).await), [5, 6]);
    assert_eq!(counts(&stage.client, &id).await["quarantined"], 4);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_was_not_acknowledged_in_time_expires() {
    let stage = Stage::open(Bus::in_process()).await;
    let id = inbox(&stage.client, json!({"ttl_seconds": 60})).await;
    fill(&stage, &id, 2).await;
    let held = lease(&stage.client, &id, 1).await;
    stage.advance(61_000);
    let event = stage.post("n.a", json!({})).await;
    filled(&stage.client, &id, 3).await;
    assert_eq!(sequences(&lease(&stage.client, &id, 10).await), [3]);
    assert_eq!(ack(&stage.client, &id, &held).await, ["gone"]);
    let page = stage.client.get(&format!("/v1/inboxes/{id}/messages")).await.expect(200);
    for at in [0, 1] {
        let told = &page["data"][at];
        assert_eq!(
            (&told["state"], &told["last_reason"]),
            (&json!("cancelled"), &json!("expired")),
            "{told}"
        );
    }
    assert_eq!(page["data"][2]["state"], "leased");
    let _third = event;
    stage.close().await;
}

/// How many messages there are of which this is true.
async fn ended(stage: &Stage, condition: &str) -> i64 {
    number(&stage.system.db, &format!("SELECT count(*) AS n FROM deliveries WHERE {condition}")).await
}

/// Whoever waits gets what stands behind thousands that nobody is given any more.
#[tokio::test(flavor = "multi_thread")]
async fn thousands_that_have_ended_keep_nobody_from_what_stands_behind_them() {
    let stage = Stage::open(Bus::in_process()).await;
    let id = inbox(&stage.client, json!({"event_types": ["n.*"], "max_leases": 2})).await;
    let now = stage.system.clock.now();
    many(&stage, &id, 25_000, &format!("expires_at = '{}'", now.to_rfc3339())).await;
    fill(&stage, &id, 1).await;
    let answer = ask(&stage.client, &id, json!({"lease_limit": 1, "wait_seconds": 60})).await;
    let got = answer["messages"].as_array().unwrap();
    assert_eq!(sequences(got), [25_001]);
    assert_eq!(ended(&stage, "state = 3 AND last_reason = 'expired'").await, 25_000);
    assert_eq!(ack(&stage.client, &id, got).await, ["acknowledged"]);
    // The same with what was leased too often: one event tells of each thousand, at most.
    let listener = inbox(&stage.client, json!({"event_types": ["delivery.failed"]})).await;
    let overdue = format!(
        "tries = 2, claim = gen_random_uuid(), leased_until = '{0}', settled_at = NULL, expires_at = NULL, state = 0",
        now.to_rfc3339()
    );
    let again = format!("UPDATE deliveries SET {overdue} WHERE state = 3 AND sequence <= 3000");
    assert_eq!(execute(&stage.system.db, &again).await, 3_000);
    assert_eq!(ask(&stage.client, &id, json!({"lease_limit": 1})).await["messages"], json!([]));
    assert_eq!(ended(&stage, "state = 2 AND last_reason = 'over_leased'").await, 3_000);
    filled(&stage.client, &listener, 3).await;
    let told = lease(&stage.client, &listener, 10).await;
    let told: i64 = told.iter().map(|one| one["event"]["payload"]["count"].as_i64().unwrap()).sum();
    assert_eq!(told, 3_000);
    stage.close().await;
}

/// A message whose payload was purged between the look at the event and the retry.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_without_a_payload_is_cancelled_instead_of_leased() {
    let stage = Stage::open(Bus::in_process()).await;
    let id = inbox(&stage.client, json!({})).await;
    fill(&stage, &id, 3).await;
    let purged = "UPDATE events SET body = '', payload_purged_at = now() \
        WHERE id = (SELECT event_id FROM deliveries WHERE profile = 5 AND sequence = 1)";
    assert_eq!(execute(&stage.system.db, purged).await, 1);
    let held = lease(&stage.client, &id, 2).await;
    assert_eq!(sequences(&held), [2, 3]);
    assert!(held.iter().all(|message| message["event"]["payload"].is_object()));
    let page = stage.client.get(&format!("/v1/inboxes/{id}/messages")).await.expect(200);
    let first = &page["data"][0];
    assert_eq!((&first["state"], &first["last_reason"]), (&json!("cancelled"), &json!("payload_purged")));
    stage.close().await;
}

/// A large inbox is emptied piece by piece, and so is one into which a fan-out has put something after it was deleted.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_stays_pending_in_a_deleted_inbox() {
    let stage = Stage::open(Bus::in_process()).await;
    let id = inbox(&stage.client, json!({})).await;
    let other = inbox(&stage.client, json!({})).await;
    many(&stage, &id, 2 * deleted::AT_ONCE + 10, "tries = 0").await;
    fill(&stage, &other, 2).await;
    lease(&stage.client, &id, 5).await;
    stage.client.delete(&format!("/v1/inboxes/{id}")).await.expect(200);
    let emptied = async |cancelled: i64| {
        until("nothing is pending", async || {
            let now = ended(&stage, "state = 3 AND last_reason = 'inbox deleted'").await;
            if now == cancelled { Ok(()) } else { Err(now) }
        })
        .await;
    };
    emptied(2 * deleted::AT_ONCE + 12).await;
    // What a fan-out puts in that did not know of the deletion.
    let late = "UPDATE deliveries SET state = 0, settled_at = NULL, last_reason = NULL WHERE state = 3 AND sequence <= 3";
    assert_eq!(execute(&stage.system.db, late).await, 3);
    emptied(2 * deleted::AT_ONCE + 12).await;
    // Others keep theirs.
    assert_eq!(counts(&stage.client, &other).await["waiting"], 2);
    stage.close().await;
}

/// Whoever listens to `delivery.failed` is told, but not because of itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_quarantine_is_told_to_who_listens() {
    let stage = Stage::open(Bus::in_process()).await;
    let id = inbox(&stage.client, json!({"event_types": ["n.*"], "max_leases": 1})).await;
    let listener = inbox(&stage.client, json!({"event_types": ["delivery.failed"], "max_leases": 1})).await;
    fill(&stage, &id, 3).await;
    let held = lease(&stage.client, &id, 2).await;
    let back = say(&stage.client, &id, "release", &held[..1], json!({"reason": "too heavy"})).await;
    assert_eq!(back, ["quarantined"]);
    // Two events that were not accepted together may be fanned out in either order.
    filled(&stage.client, &listener, 1).await;
    stage.advance(60_000);
    assert_eq!(sequences(&lease(&stage.client, &id, 10).await), [3]);
    filled(&stage.client, &listener, 2).await;
    let told = lease(&stage.client, &listener, 10).await;
    for (message, (event, reason)) in told.iter().zip([(&held[0], "too heavy"), (&held[1], "over_leased")]) {
        let payload = &message["event"]["payload"];
        assert_eq!(payload["event_ids"], json!([event["event"]["id"]]), "{payload}");
        assert_eq!(
            (&payload["hook_id"], &payload["count"], &payload["last_reason"], &payload["last_status"]),
            (&json!(id), &json!(1), &json!(reason), &Value::Null)
        );
    }
    // The listener's own are told to nobody.
    assert_eq!(say(&stage.client, &listener, "release", &told, json!({})).await, ["quarantined"; 2]);
    let event = stage.post("n.a", json!({})).await;
    stage.goes_to(&event).await;
    assert_eq!(counts(&stage.client, &listener).await["last_sequence"], 2);
    stage.close().await;
}
