//! What a receiver is told that has missed something, and how it gets it.

use hookyard_domain::delivery::gaps::{MAX_AT_ONCE, MAX_NUMBERS};
use hookyard_messaging::Bus;
use serde_json::{Value, json};

use super::{execute, gaps};
use crate::pipeline::stage::{Stage, delivery_id, text, time};

/// Posts an event that ends in this state at the hook on `/in`.
async fn ending(stage: &Stage, hook: &str, status: u16, state: &str) -> String {
    stage.answer("in", status);
    let event = stage.post("order.created", json!({"status": status})).await;
    stage.ended(&event, hook, state).await;
    event
}

fn states(page: &Value) -> Vec<(i64, &str)> {
    let data = page["data"].as_array().unwrap();
    data.iter().map(|gap| (gap["sequence"].as_i64().unwrap(), text(&gap["state"]))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_number_that_did_not_arrive_is_told_with_what_became_of_it() {
    let stage = Stage::open(Bus::in_process()).await;
    let hook = stage.hook("in", json!({})).await;
    let empty = gaps(&stage, &hook, "").await;
    assert_eq!(
        empty,
        json!({"data": [], "next_cursor": null, "has_more": false, "from": 1, "to": 0, "last": 0})
    );
    let arrived = ending(&stage, &hook, 200, "delivered").await;
    let dead = ending(&stage, &hook, 404, "dead").await;
    let discarded = ending(&stage, &hook, 404, "dead").await;
    stage.client.delete(&format!("/v1/dead-letters/{}", delivery_id(&discarded, &hook))).await.expect(200);
    ending(&stage, &hook, 200, "delivered").await;
    stage.answer("in", 500);
    let waiting = stage.post("order.created", json!({"n": 5})).await;
    let tried = stage.tried(&waiting, &hook, 1).await;
    let page = gaps(&stage, &hook, "").await;
    assert_eq!(states(&page), [(2, "dead"), (3, "discarded"), (5, "pending")]);
    assert_eq!((&page["to"], &page["last"], &page["has_more"]), (&json!(5), &json!(5), &json!(false)));
    assert_eq!(
        page["data"][0],
        json!({
            "sequence": 2, "through": 2, "state": "dead", "reason": "http_404", "delivery_id": delivery_id(&dead, &hook),
            "event_id": dead, "event_type": "order.created", "attempts": 1, "next_attempt_at": null
        })
    );
    assert_eq!(time(&page["data"][2]["next_attempt_at"]), time(&tried["next_attempt_at"]));
    // A part of it, and what arrived, too.
    assert_eq!(states(&gaps(&stage, &hook, "?from=3&to=4").await), [(3, "discarded")]);
    let all = gaps(&stage, &hook, "?from=1&to=2&all=true").await;
    assert_eq!(states(&all), [(1, "delivered"), (2, "dead")]);
    // With what was to be sent: byte for byte the stored event.
    let page = gaps(&stage, &hook, "?to=2&all=true&include=payload").await;
    let stored = stage.receiver.at("in")[0].json();
    assert_eq!((&page["data"][0]["event"], &page["data"][0]["event_id"]), (&stored, &json!(arrived)));
    assert_eq!(page["data"][1]["event"]["payload"], json!({"status": 404}));
    // What is not known yet: nothing is said of it.
    assert_eq!(states(&gaps(&stage, &hook, "?from=6").await), []);
    // Disabled: what waited is cancelled. Deleted: it is told all the same.
    stage.client.post(&format!("/v1/hooks/{hook}/disable"), "").await.expect(200);
    let page = gaps(&stage, &hook, "?from=5").await;
    assert_eq!(states(&page), [(5, "cancelled")]);
    stage.client.delete(&format!("/v1/hooks/{hook}")).await.expect(200);
    assert_eq!(gaps(&stage, &hook, "?from=5").await, page);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_cut_by_number_and_what_nobody_has_is_told_in_ranges() {
    let stage = Stage::open(Bus::in_process()).await;
    let hook = stage.hook("in", json!({})).await;
    stage.answer("in", 404);
    let mut events = Vec::new();
    for n in 0..10 {
        let event = stage.post("order.created", json!({"n": n})).await;
        stage.ended(&event, &hook, "dead").await;
        events.push(event);
    }
    // Past the retention: 3 to 5 and 8. Of those 4 is void, and so is what was never reached.
    execute(&stage, "DELETE FROM deliveries WHERE sequence IN (3, 4, 5, 8)").await;
    execute(&stage, "UPDATE subscription_sequences SET void = '{[4,5)}'").await;
    let (mut seen, mut query, mut pages) = (Vec::new(), "?limit=3".to_owned(), 0);
    loop {
        let page = gaps(&stage, &hook, &query).await;
        for gap in page["data"].as_array().unwrap() {
            seen.push((gap["sequence"].clone(), gap["through"].clone(), text(&gap["state"]).to_owned()));
        }
        pages += 1;
        match page["next_cursor"].as_str() {
            Some(cursor) => query = format!("?limit=3&cursor={cursor}"),
            None => break,
        }
    }
    let expected = [
        (1, 1, "dead"),
        (2, 2, "dead"),
        (3, 3, "dropped"),
        (4, 4, "void"),
        (5, 5, "dropped"),
        (6, 6, "dead"),
        (7, 7, "dead"),
        (8, 8, "dropped"),
        (9, 9, "dead"),
        (10, 10, "dead"),
    ];
    let expected: Vec<_> =
        expected.iter().map(|&(from, to, state)| (json!(from), json!(to), state.to_owned())).collect();
    assert_eq!((seen, pages), (expected, 4));
    // What is dropped in a row is one entry, also at the end of what is asked for.
    execute(&stage, "DELETE FROM deliveries").await;
    let page = gaps(&stage, &hook, "?from=5&to=9").await;
    assert_eq!(page["data"].as_array().unwrap().len(), 1, "{page}");
    assert_eq!((&page["data"][0]["sequence"], &page["data"][0]["through"]), (&json!(5), &json!(9)));
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_payloads_ends_when_it_is_large() {
    let stage = Stage::open(Bus::in_process()).await;
    let hook = stage.hook("in", json!({})).await;
    stage.answer("in", 404);
    for n in 0..8 {
        let payload = json!({"n": n, "text": "x".repeat(1_000_000)});
        let event = stage.post("order.created", payload).await;
        stage.ended(&event, &hook, "dead").await;
    }
    let (mut seen, mut query, mut pages) = (Vec::new(), "?include=payload".to_owned(), 0);
    loop {
        let page = gaps(&stage, &hook, &query).await;
        let some = page["data"].as_array().unwrap();
        assert!(!some.is_empty() && some.len() < 8, "{}", some.len());
        seen.extend(some.iter().map(|gap| gap["event"]["payload"]["n"].clone()));
        pages += 1;
        match page["next_cursor"].as_str() {
            Some(cursor) => query = format!("?include=payload&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!((json!(seen), pages), (json!([0, 1, 2, 3, 4, 5, 6, 7]), 2));
    stage.close().await;
}

/// Its event is dropped a moment before it.
#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_without_its_event_keeps_its_place_among_payloads() {
    let stage = Stage::open(Bus::in_process()).await;
    let hook = stage.hook("in", json!({})).await;
    stage.answer("in", 404);
    for n in 1..=8 {
        let payload = json!({"n": n, "text": "x".repeat(1_000_000)});
        let event = stage.post("order.created", payload).await;
        stage.ended(&event, &hook, "dead").await;
    }
    execute(
        &stage,
        "DELETE FROM events WHERE id IN (SELECT event_id FROM deliveries WHERE sequence IN (1, 3, 8))",
    )
    .await;
    let (mut seen, mut query, mut pages) = (Vec::new(), "?include=payload".to_owned(), 0);
    loop {
        let page = gaps(&stage, &hook, &query).await;
        for gap in page["data"].as_array().unwrap() {
            let number = gap["sequence"].as_i64().unwrap();
            assert_eq!(gap["state"], "dead", "{number}");
            let payload = &gap["event"]["payload"]["n"];
            assert_eq!(*payload, if [1, 3, 8].contains(&number) { Value::Null } else { json!(number) });
            seen.push(number);
        }
        pages += 1;
        match page["next_cursor"].as_str() {
            Some(cursor) => query = format!("?include=payload&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!((seen, pages), ((1..=8).collect::<Vec<i64>>(), 2));
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hole_is_sent_again_under_its_numbers() {
    let stage = Stage::open(Bus::in_process()).await;
    let hook = stage.hook("in", json!({})).await;
    for (status, state) in [(200, "delivered"), (404, "dead"), (404, "dead"), (200, "delivered")] {
        ending(&stage, &hook, status, state).await;
    }
    stage.answer("in", 200);
    let deliver = async |body: Value| {
        stage.client.post_json(&format!("/v1/subscriptions/{hook}/gaps/deliver"), &body).await
    };
    assert_eq!(
        deliver(json!({"from": 1, "to": 2})).await.expect(202),
        json!({"queued": 1, "has_more": false, "resume_from": null})
    );
    assert_eq!(stage.received("in", 5).await[4].header("x-hookyard-sequence"), "2");
    // What it has lost itself.
    assert_eq!(deliver(json!({"from": 4, "to": 4})).await.expect(202)["queued"], 0);
    assert_eq!(deliver(json!({"from": 4, "to": 4, "all": true})).await.expect(202)["queued"], 1);
    let got = stage.received("in", 6).await;
    assert_eq!(
        (got[5].header("x-hookyard-sequence"), got[5].header("webhook-id")),
        ("4", got[3].header("webhook-id"))
    );
    let told = stage.system.audited(Some(stage.system.tenant)).await;
    assert_eq!(told.iter().filter(|action| *action == "gaps.delivered").count(), 2, "{told:?}");
    // Not to a hook that takes nothing.
    stage.client.post(&format!("/v1/hooks/{hook}/disable"), "").await.expect(200);
    assert_eq!(deliver(json!({"from": 1})).await.error(), (409, "HOOK_DISABLED".to_owned()));
    stage.client.delete(&format!("/v1/hooks/{hook}")).await.expect(200);
    assert_eq!(deliver(json!({"from": 1})).await.error(), (409, "HOOK_DELETED".to_owned()));
    stage.close().await;
}

/// Gives a hook so many dead letters, by their rows.
async fn fill(stage: &Stage, rows: i64) {
    execute(
        stage,
        "INSERT INTO events (tenant_id, id, event_type, origin, occurred_at, created_at, metadata, trace, sampled, body) \
         SELECT e.tenant_id, overlay(e.id::text placing lpad(to_hex(n), 12, '0') from 25)::uuid, e.event_type, 0, now(), now(), \
            '{}', e.trace, false, e.body FROM events e, generate_series(2, 10500) n",
    )
    .await;
    execute(
        stage,
        "INSERT INTO deliveries (event_id, subscription_id, tenant_id, profile, state, tries, attempts, deferrals, due_at, \
            next_attempt_at, claim, sequence) \
         SELECT overlay(d.event_id::text placing lpad(to_hex(n), 12, '0') from 25)::uuid, d.subscription_id, d.tenant_id, 0, 2, 1, 1, \
            0, now(), now(), d.claim, n FROM deliveries d, generate_series(2, 10500) n WHERE d.sequence = 1",
    )
    .await;
    let set = move |conn: &mut hookyard_domain::db::Conn| {
        use diesel::RunQueryDsl as _;
        Ok(diesel::sql_query("UPDATE subscription_sequences SET last = $1, reserved = $1 + 1000")
            .bind::<diesel::sql_types::BigInt, _>(rows)
            .execute(conn)?)
    };
    stage.system.db.once(set).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_numbers_are_asked_for_and_a_thousand_sent_and_not_one_more() {
    let stage = Stage::with(Bus::in_process(), |_, engine| engine.deliverers = 0).await;
    let hook = stage.hook("in", json!({})).await;
    let event = stage.post("order.created", json!({})).await;
    stage.goes_to(&event).await;
    fill(&stage, 10_500).await;
    let path = format!("/v1/subscriptions/{hook}/gaps");
    let asked = async |query: &str| stage.client.get(&format!("{path}?{query}")).await;
    let page = asked(&format!("from=1&to={MAX_NUMBERS}")).await.expect(200);
    assert_eq!(
        (&page["to"], &page["last"], &page["has_more"]),
        (&json!(10_000), &json!(10_500), &json!(true))
    );
    assert_eq!(
        asked(&format!("from=1&to={}", MAX_NUMBERS + 1)).await.error(),
        (400, "INVALID_PARAMETER".to_owned())
    );
    let page = asked("from=200").await.expect(200);
    assert_eq!((&page["from"], &page["to"]), (&json!(200), &json!(10_199)));
    // The last page of all.
    let page = asked("from=501&cursor=10490").await.expect(200);
    assert_eq!((page["data"].as_array().unwrap().len(), &page["has_more"]), (10, &json!(false)));
    for (query, field) in [
        ("from=0", "from"),
        ("to=0", "to"),
        ("from=5&to=4", "to"),
        ("include=everything", "include"),
        ("all=1", "all"),
        ("limit=101", "limit"),
        ("cursor=x", "cursor"),
        ("since=1", "since"),
    ] {
        let reply = asked(query).await;
        assert_eq!(reply.error(), (400, "INVALID_PARAMETER".to_owned()), "{query}");
        assert_eq!(reply.json()["details"]["field"], field, "{query}");
    }
    // The first one is pending.
    let deliver = async |body: Value| stage.client.post_json(&format!("{path}/deliver"), &body).await;
    let first = MAX_AT_ONCE + 1;
    assert_eq!(
        deliver(json!({"from": 1, "to": first})).await.expect(202),
        json!({"queued": MAX_AT_ONCE, "has_more": false, "resume_from": null})
    );
    assert_eq!(
        deliver(json!({"from": first + 1, "to": 2 * first})).await.expect(202),
        json!({"queued": MAX_AT_ONCE, "has_more": true, "resume_from": 2 * first})
    );
    for (body, status, code) in [
        (json!({}), 400, "MISSING_SELECTION"),
        (json!({"from": 0}), 422, "INVALID_FIELD"),
        (json!({"from": 1, "to": MAX_NUMBERS + 1}), 422, "INVALID_FIELD"),
        (json!({"from": 1, "all": "yes"}), 422, "INVALID_FIELD"),
    ] {
        assert_eq!(deliver(body.clone()).await.error(), (status, code.to_owned()), "{body}");
    }
    // Who does not count has no gaps.
    for id in ["hook_00000000000000000000000001", &hook.replace("hook_", "evt_")] {
        let reply = stage.client.get(&format!("/v1/subscriptions/{id}/gaps")).await;
        let expected = if id.starts_with("evt_") { (400, "INVALID_ID") } else { (404, "NOT_FOUND") };
        assert_eq!(reply.error(), (expected.0, expected.1.to_owned()), "{id}");
    }
    stage.close().await;
}
