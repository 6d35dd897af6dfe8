//! Leases: who has a message, for how long, and what becomes of it.

use chrono::TimeDelta;
use hookyard_domain::{
    id::{ClaimId, EventId},
    subscription::inbox::{
        lease::{self as leasing, Wanted},
        settle::{self, Held, Outcome, Settlement},
    },
};
use hookyard_messaging::Bus;
use serde_json::{Value, json};

use super::{ack, ask, counts, fill, filled, inbox, lease, say, sequences};
use crate::pipeline::stage::{Stage, text, time};

async fn stage() -> Stage {
    Stage::open(Bus::in_process()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_come_first_and_each_has_a_token_of_its_own() {
    let stage = stage().await;
    let id = inbox(&stage.client, json!({})).await;
    fill(&stage, &id, 25).await;
    assert_eq!(counts(&stage.client, &id).await["last_sequence"], 25);
    // Ten for five minutes when nothing is said.
    let answer = stage.client.post(&format!("/v1/inboxes/{id}/messages/lease"), "").await.expect(200);
    assert_eq!(answer["paused"], false);
    let first = answer["messages"].as_array().unwrap().clone();
    assert_eq!(sequences(&first), (1..=10).collect::<Vec<_>>());
    let now = stage.system.clock.now();
    let mut payloads = Vec::new();
    for message in &first {
        assert_eq!(message["lease_count"], 1);
        assert_eq!(message["last_reason"], Value::Null);
        payloads.push(message["event"]["payload"]["n"].as_i64().unwrap());
        assert_eq!(text(&message["id"]).replacen("msg_", "evt_", 1), text(&message["event"]["id"]));
        let left = time(&message["leased_until"]) - now;
        assert!(TimeDelta::seconds(270) < left && left <= TimeDelta::seconds(300), "{left}");
        assert!(time(&message["available_at"]) <= now);
    }
    payloads.sort_unstable();
    payloads.dedup();
    assert_eq!(payloads.len(), 10);
    let mut tokens: Vec<&str> = first.iter().map(|message| text(&message["lease_token"])).collect();
    tokens.sort_unstable();
    tokens.dedup();
    assert_eq!(tokens.len(), 10);
    let second = lease(&stage.client, &id, 100).await;
    assert_eq!(sequences(&second), (11..=25).collect::<Vec<_>>());
    assert!(lease(&stage.client, &id, 100).await.is_empty());
    let now = counts(&stage.client, &id).await;
    assert_eq!((&now["waiting"], &now["leased"]), (&json!(0), &json!(25)));
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_acknowledged_is_done_and_may_be_said_twice() {
    let stage = stage().await;
    let id = inbox(&stage.client, json!({})).await;
    fill(&stage, &id, 3).await;
    let held = lease(&stage.client, &id, 2).await;
    assert_eq!(ack(&stage.client, &id, &held[..1]).await, ["acknowledged"]);
    // Whoever did not hear the answer asks again; together with another, and with a token that is none.
    let mut wrong = held[1].clone();
    wrong["lease_token"] = held[0]["lease_token"].clone();
    assert_eq!(ack(&stage.client, &id, &[wrong.clone()]).await, ["gone"]);
    assert_eq!(ack(&stage.client, &id, &held).await, ["acknowledged", "acknowledged"]);
    assert_eq!(ack(&stage.client, &id, &[wrong.clone(), held[1].clone()]).await, ["gone", "acknowledged"]);
    // The right token and a wrong one for the same message, whichever is the smaller.
    let mut crossed = held[0].clone();
    crossed["lease_token"] = held[1]["lease_token"].clone();
    let both = [held[0].clone(), crossed, wrong.clone(), held[1].clone()];
    assert_eq!(ack(&stage.client, &id, &both).await, ["acknowledged", "gone", "gone", "acknowledged"]);
    // Done is done, for every other word.
    assert_eq!(say(&stage.client, &id, "release", &held, json!({})).await, ["gone", "gone"]);
    assert_eq!(say(&stage.client, &id, "extend", &held, json!({})).await, ["gone", "gone"]);
    stage.advance(3_700_000);
    assert_eq!(sequences(&lease(&stage.client, &id, 10).await), [3]);
    // Another inbox knows nothing of it.
    let other = inbox(&stage.client, json!({})).await;
    assert_eq!(ack(&stage.client, &other, &held[..1]).await, ["gone"]);
    // It is a delivery like others.
    let delivery = stage.delivery(text(&held[0]["event"]["id"]), &id).await;
    assert_eq!(
        (&delivery["state"], &delivery["kind"], &delivery["attempts"], &delivery["last_reason"]),
        (&json!("delivered"), &json!("inbox"), &json!(1), &json!("acknowledged"))
    );
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_ends_gives_the_message_to_the_next_and_the_token_decides() {
    let stage = stage().await;
    let id = inbox(&stage.client, json!({})).await;
    fill(&stage, &id, 3).await;
    let late = lease(&stage.client, &id, 2).await;
    stage.advance(59_000);
    assert_eq!(sequences(&lease(&stage.client, &id, 1).await), [3], "its lease has not ended");
    stage.advance(1_000);
    // Nobody else has it: who is late may still say that it is done.
    assert_eq!(ack(&stage.client, &id, &late[..1]).await, ["acknowledged"]);
    let again = lease(&stage.client, &id, 10).await;
    assert_eq!(sequences(&again), [2]);
    assert_eq!((&again[0]["lease_count"], &again[0]["last_reason"]), (&json!(2), &json!("lease_expired")));
    assert_ne!(again[0]["lease_token"], late[1]["lease_token"]);
    // Somebody else has it.
    for what in ["ack", "release", "extend"] {
        assert_eq!(say(&stage.client, &id, what, &late[1..], json!({})).await, ["gone"], "{what}");
    }
    assert_eq!(ack(&stage.client, &id, &again).await, ["acknowledged"]);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_released_message_comes_back_at_its_place_or_later() {
    let stage = stage().await;
    let id = inbox(&stage.client, json!({})).await;
    fill(&stage, &id, 4).await;
    let held = lease(&stage.client, &id, 3).await;
    let reason = json!({"reason": "the warehouse is closed"});
    assert_eq!(say(&stage.client, &id, "release", &held[1..2], reason).await, ["released"]);
    assert_eq!(
        say(&stage.client, &id, "release", &held[..1], json!({"delay_seconds": 30})).await,
        ["released"]
    );
    let now = counts(&stage.client, &id).await;
    let told = (&now["waiting"], &now["leased"], &now["delayed"]);
    assert_eq!(told, (&json!(2), &json!(1), &json!(1)));
    // The second stands before the fourth, the first waits.
    let next = lease(&stage.client, &id, 10).await;
    assert_eq!(sequences(&next), [2, 4]);
    assert_eq!(
        (&next[0]["lease_count"], &next[0]["last_reason"]),
        (&json!(2), &json!("the warehouse is closed"))
    );
    stage.advance(30_000);
    let delayed = lease(&stage.client, &id, 10).await;
    assert_eq!(sequences(&delayed), [1]);
    assert_eq!((&delayed[0]["lease_count"], &delayed[0]["last_reason"]), (&json!(2), &json!("released")));
    // The token of before the delay is nobody's.
    assert_eq!(ack(&stage.client, &id, &held[..1]).await, ["gone"]);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_is_extended_lasts_from_then_on() {
    let stage = stage().await;
    let id = inbox(&stage.client, json!({})).await;
    fill(&stage, &id, 2).await;
    let held = lease(&stage.client, &id, 2).await;
    stage.advance(50_000);
    // Tokens are crossed in one request: each outcome is that of its token.
    let (mut first, mut second) = (held[0].clone(), held[1].clone());
    first["lease_token"] = held[1]["lease_token"].clone();
    second["lease_token"] = held[0]["lease_token"].clone();
    let four = [held[0].clone(), first, second, held[1].clone()];
    let told = say(&stage.client, &id, "extend", &four, json!({"lease_seconds": 10})).await;
    assert_eq!(told, ["extended", "gone", "gone", "extended"]);
    assert_eq!(
        say(&stage.client, &id, "extend", &held[..1], json!({"lease_seconds": 60})).await,
        ["extended"]
    );
    stage.advance(20_000);
    assert_eq!(sequences(&lease(&stage.client, &id, 10).await), [2]);
    stage.advance(40_000);
    // It has ended, and nobody has been given it.
    assert_eq!(
        say(&stage.client, &id, "extend", &held[..1], json!({"lease_seconds": 5})).await,
        ["extended"]
    );
    assert_eq!(sequences(&lease(&stage.client, &id, 10).await), [0; 0]);
    stage.advance(5_000);
    assert_eq!(sequences(&lease(&stage.client, &id, 10).await), [1]);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_mebibytes_are_leased_together_and_a_larger_event_alone() {
    let stage = stage().await;
    let id = inbox(&stage.client, json!({})).await;
    for n in 0..12 {
        stage.post("n.large", json!({"n": n, "text": "x".repeat(900 << 10)})).await;
    }
    filled(&stage.client, &id, 12).await;
    let first = lease(&stage.client, &id, 100).await;
    assert_eq!(sequences(&first), (1..=9).collect::<Vec<_>>());
    assert_eq!(counts(&stage.client, &id).await["waiting"], 3, "what had no room is not leased");
    assert_eq!(sequences(&lease(&stage.client, &id, 100).await), [10, 11, 12]);
    let page = stage.client.get(&format!("/v1/inboxes/{id}/messages")).await.expect(200);
    assert_eq!((page["data"].as_array().unwrap().len(), &page["has_more"]), (9, &json!(true)));
    assert_eq!(page["next_cursor"], "9");
    // A stream reads them in smaller pages, one for each of these.
    let path = format!("/v1/inboxes/{id}/messages/stream?seconds=2");
    let streamed = stage.client.get(&path).await;
    assert_eq!(streamed.text().matches("event: message").count(), 12);
    stage.close().await;
}

/// Also when others had to be put aside, and it is looked for more.
#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_room_is_not_leased_behind_what_was_put_aside() {
    let stage = stage().await;
    let id = inbox(&stage.client, json!({"max_leases": 1})).await;
    fill(&stage, &id, 1).await;
    lease(&stage.client, &id, 1).await;
    for n in 0..10 {
        stage.post("n.large", json!({"n": n, "text": "x".repeat(900 << 10)})).await;
    }
    filled(&stage.client, &id, 10).await;
    stage.advance(60_000);
    assert_eq!(sequences(&lease(&stage.client, &id, 100).await), (2..=10).collect::<Vec<_>>());
    let now = counts(&stage.client, &id).await;
    assert_eq!((&now["waiting"], &now["quarantined"]), (&json!(1), &json!(1)));
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_reaches_the_messages_of_another_tenant() {
    let stage = stage().await;
    let id = inbox(&stage.client, json!({})).await;
    fill(&stage, &id, 1).await;
    let held = lease(&stage.client, &id, 1).await;
    let other = stage.system.tenant("Other").await;
    let scopes = [hookyard_domain::credential::Scope::Admin];
    let key = stage.system.key_of(other, &scopes, hookyard_tests::system::unlimited()).await.1;
    let stranger = stage.system.anonymous().with_key(&key);
    let theirs = inbox(&stranger, json!({})).await;
    assert_eq!(ack(&stranger, &theirs, &held).await, ["gone"], "with the token of another's message");
    assert_eq!(ask(&stranger, &theirs, json!({})).await["messages"], json!([]));
    assert_eq!(ack(&stage.client, &id, &held).await, ["acknowledged"]);
    stage.close().await;
}

/// Ids of days that nothing is kept of: dropped by retention, or made up.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_kept_any_more_keeps_no_other_message_from_being_settled() {
    let stage = stage().await;
    let id = inbox(&stage.client, json!({})).await;
    fill(&stage, &id, 3).await;
    let held = lease(&stage.client, &id, 3).await;
    let now = stage.system.clock.now();
    let of_day = |days: i64| {
        let event = EventId::new(now + TimeDelta::days(days)).to_string();
        json!({"id": event.replacen("evt_", "msg_", 1), "lease_token": held[0]["lease_token"]})
    };
    let (past, yesterday, future) = (of_day(-400), of_day(-1), of_day(400));
    let mixed = [past.clone(), held[0].clone(), yesterday, held[1].clone(), future.clone()];
    let expected = ["gone", "acknowledged", "gone", "acknowledged", "gone"];
    assert_eq!(ack(&stage.client, &id, &mixed).await, expected);
    assert_eq!(ack(&stage.client, &id, &[past, future]).await, ["gone", "gone"]);
    assert_eq!(
        say(&stage.client, &id, "extend", &[of_day(-400), held[2].clone()], json!({})).await[1],
        "extended"
    );
    let page = stage.client.get(&format!("/v1/inboxes/{id}/messages")).await.expect(200);
    let states: Vec<&str> = page["data"].as_array().unwrap().iter().map(|one| text(&one["state"])).collect();
    assert_eq!(states, ["acknowledged", "acknowledged", "leased"], "as it was answered");
    stage.close().await;
}

/// What a gateway does with messages that it has leased for somebody whose connection has ended meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_heard_of_goes_back_as_if_it_had_never_been_leased() {
    let stage = stage().await;
    let id = inbox(&stage.client, json!({"max_leases": 1})).await;
    fill(&stage, &id, 2).await;
    let (tenant, now) = (stage.system.tenant, stage.system.clock.now());
    let tokens = vec![ClaimId::new(now), ClaimId::new(now)];
    let wanted = Wanted { tenant, inbox: id.parse().unwrap(), tokens, until: now + TimeDelta::seconds(60) };
    let (of, wanted_again) = ((tenant, wanted.inbox), wanted.clone());
    let taken = stage.system.db.run(move |conn| leasing::lease(conn, &wanted, now)).await.unwrap();
    let held: Vec<Held> = taken.messages.iter().map(|message| (message.event, message.token)).collect();
    assert_eq!(held.len(), 2);
    assert_eq!(counts(&stage.client, &id).await["leased"], 2);
    let back = move |conn: &mut hookyard_domain::db::Conn| {
        settle::settle(conn, of, &held, &Settlement::Untake, i16::MAX, now)
    };
    assert_eq!(stage.system.db.run(back).await.unwrap(), [Outcome::Released; 2]);
    // Each has its only lease before it, in its place; with a token that was used before, too.
    let taken = stage.system.db.run(move |conn| leasing::lease(conn, &wanted_again, now)).await.unwrap();
    let told: Vec<(i64, u16, Option<String>)> = taken
        .messages
        .into_iter()
        .map(|message| (message.sequence, message.lease_count, message.last_reason))
        .collect();
    assert_eq!(told, [(1, 1, None), (2, 1, None)]);
    stage.close().await;
}
