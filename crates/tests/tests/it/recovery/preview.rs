//! Changes that are tried on the events of the last week.

use chrono::TimeDelta;
use hookyard_domain::{clock::Clock, id::EventId, recovery::preview};
use hookyard_messaging::Bus;
use hookyard_tests::system::System;
use serde_json::{Value, json};

use super::{consumer, orders};
use crate::{
    pipeline::stage::Stage,
    retention::{Filling, fill, hook},
};

async fn tried(stage: &Stage, path: &str, change: Value) -> Value {
    stage.client.post_json(path, &change).await.expect(200)
}

fn counts(view: &Value) -> [i64; 6] {
    ["added", "dropped", "changed", "unchanged", "failing", "neither"]
        .map(|name| view[name].as_i64().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_a_consumer_is_shown_on_what_has_happened() {
    let stage = Stage::open(Bus::in_process()).await;
    let id = consumer(&stage, "c", json!({"filter": {"payload.n": {"$lt": 4}}})).await;
    let events = orders(&stage, 6).await;
    stage.post("invoice.created", json!({"n": 1})).await;
    stage.advance(5);
    let path = format!("/webhooks/{id}/preview");
    let terms = async || {
        let shown = stage.client.get(&format!("/webhooks/{id}")).await.expect(200);
        ["eventTypes", "companyTags", "filter", "transformation"].map(|name| shown[name].clone())
    };
    let before = terms().await;

    let nothing = tried(&stage, &path, json!({})).await;
    assert_eq!(
        (counts(&nothing), &nothing["looked_at"], &nothing["complete"]),
        ([0, 0, 0, 4, 0, 3], &json!(7), &json!(true))
    );
    assert_eq!(nothing["examples"], json!([]));

    let other = tried(&stage, &path, json!({"filter": {"payload.n": {"$gte": 2}}})).await;
    assert_eq!(counts(&other), [2, 2, 0, 2, 0, 1], "{other}");
    // The newest first.
    let example = &other["examples"][0];
    assert_eq!(
        (&example["event_id"], &example["effect"], &example["before"]),
        (&json!(events[5]), &json!("added"), &Value::Null)
    );
    assert_eq!(
        (&example["after"]["eventType"], &example["after"]["payload"]),
        (&json!("order.created"), &json!({"n": 5}))
    );

    let all =
        tried(&stage, &path, json!({"filter": null, "eventTypes": ["order.*", "invoice.created"]})).await;
    assert_eq!(counts(&all), [3, 0, 0, 4, 0, 0], "{all}");
    let tags = tried(&stage, &path, json!({"companyTags": ["region:uk"]})).await;
    assert_eq!(counts(&tags), [0, 4, 0, 0, 0, 3], "{tags}");
    assert_eq!(tags["examples"].as_array().unwrap().len(), 3, "three of each at the most");

    let shape =
        json!({"transformation": {"cancel": {"payload.n": 0}, "body": {"number": {"$from": "payload.n"}}}});
    let shaped = tried(&stage, &path, shape).await;
    assert_eq!(counts(&shaped), [0, 1, 3, 0, 0, 3], "{shaped}");
    let changed =
        shaped["examples"].as_array().unwrap().iter().find(|one| one["effect"] == "changed").unwrap();
    assert_eq!((&changed["before"]["payload"], &changed["after"]), (&json!({"n": 3}), &json!({"number": 3})));

    let broken = json!({"transformation": {"body": {"$from": "payload.n"}}});
    let refused = stage.client.post_json(&path, &broken).await;
    if refused.status == 200 {
        let view = refused.json();
        assert_eq!(counts(&view), [0, 0, 0, 0, 4, 3], "{view}");
        assert!(view["examples"][0]["reason"].as_str().unwrap().contains("object"), "{view}");
    } else {
        assert_eq!(refused.error(), (422, "INVALID_TRANSFORMATION".to_owned()));
    }
    // Nothing of it was saved, and what is refused is refused with its place, as when it is saved.
    assert_eq!(terms().await, before);
    for (change, code, field) in [
        (json!({"filter": {"payload.n": {"$more": 1}}}), "INVALID_FILTER", "filter"),
        (json!({"transformation": {"pick": 1}}), "INVALID_TRANSFORMATION", "transformation.pick"),
        (
            json!({"transformation": {"cancel": {"a": {"$x": 1}}}}),
            "INVALID_TRANSFORMATION",
            "transformation.cancel",
        ),
        (json!({"eventTypes": ["a b"]}), "INVALID_EVENT_TYPE", "eventTypes[0]"),
        (json!({"companyTags": ["x"]}), "INVALID_FIELD", "companyTags[0]"),
        (json!({"limit": 0}), "INVALID_FIELD", "limit"),
        (json!({"limit": 10_001}), "INVALID_FIELD", "limit"),
    ] {
        let saved =
            stage.client.request("PATCH", &format!("/webhooks/{id}")).json(change.to_string()).send().await;
        let reply = stage.client.post_json(&path, &change).await;
        assert_eq!(reply.error(), (422, code.to_owned()), "{change}");
        let told = reply.json()["details"]["field"].clone();
        assert!(told.as_str().unwrap().starts_with(field), "{change}: {told}");
        if field != "limit" {
            assert_eq!((saved.error(), &saved.json()["details"]), (reply.error(), &reply.json()["details"]));
        }
    }
    stage.client.delete(&format!("/webhooks/{id}")).await.expect(200);
    assert_eq!(stage.client.post_json(&path, &json!({})).await.error(), (409, "CONSUMER_DELETED".to_owned()));
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_a_hook_is_shown_and_says_when_it_was_cut() {
    let stage = Stage::open(Bus::in_process()).await;
    orders(&stage, 2).await;
    // Longer ago than a week.
    stage.system.clock.advance(TimeDelta::days(7));
    let hook = stage.hook("h", json!({"event_type": "order.created"})).await;
    for n in 0..30 {
        let event_type = if n % 3 == 0 { "order.closed" } else { "order.created" };
        stage.post(event_type, json!({"n": n})).await;
    }
    stage.advance(5);
    let path = format!("/v1/hooks/{hook}/preview");
    let same = tried(&stage, &path, json!({})).await;
    assert_eq!(
        (counts(&same), &same["looked_at"]),
        ([0, 0, 0, 20, 0, 0], &json!(20)),
        "only its types are looked at"
    );
    let more = tried(&stage, &path, json!({"event_type": "order.*"})).await;
    assert_eq!((counts(&more), &more["complete"]), ([10, 0, 0, 20, 0, 0], &json!(true)));
    let exact = tried(&stage, &path, json!({"event_type": "order.*", "limit": 30})).await;
    assert_eq!((&exact["looked_at"], &exact["complete"]), (&json!(30), &json!(true)));
    let cut = tried(&stage, &path, json!({"event_type": "order.*", "limit": 29})).await;
    assert_eq!((&cut["looked_at"], &cut["complete"]), (&json!(29), &json!(false)));
    let filtered =
        tried(&stage, &path, json!({"event_type": null, "filter": {"payload.n": {"$lt": 3}}})).await;
    assert_eq!(counts(&filtered), [1, 18, 0, 2, 0, 9], "{filtered}");
    for (change, code) in [
        (json!({"event_type": "a..b"}), "INVALID_EVENT_TYPE"),
        (json!({"filter": {"a": {"$x": 1}}}), "INVALID_FILTER"),
        (json!({"limit": "all"}), "INVALID_FIELD"),
    ] {
        assert_eq!(stage.client.post_json(&path, &change).await.error(), (422, code.to_owned()), "{change}");
    }
    stage.close().await;
}

/// However few of them are wanted, so many events are gone through at once and not more.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_rare_is_looked_for_in_steps() {
    let system = System::start().await;
    let (tenant, until) = (system.tenant, Clock::system().now() - TimeDelta::minutes(1));
    let since = until - TimeDelta::days(2);
    let id = hook(&system.db, tenant, since).await;
    fill(&system.db, Filling { tenant, hook: id, events: 25_000, since, until, payload: 64 }).await;
    let walk = async |event_type: &str| {
        let types = vec![event_type.to_owned()];
        let (mut found, mut pages, mut before): (Vec<EventId>, _, _) = (Vec::new(), 0, None);
        loop {
            let types = types.clone();
            let page =
                system.db.once(move |conn| preview(conn, tenant, since, Some(types.as_slice()), before, 500));
            let page = page.await.unwrap();
            found.extend(page.events.iter().map(|event| event.id));
            pages += 1;
            if page.is_last {
                return (found, pages);
            }
            assert_ne!(page.up_to, before, "it goes on");
            before = page.up_to;
        }
    };
    assert_eq!(walk("nothing.like.it").await, (Vec::new(), 3));
    let (found, _) = walk("order.paid").await;
    assert_eq!(found.len(), 2_500);
    assert!(found.is_sorted_by(|newer, older| newer > older), "each once, the newest first");
    // As many as may be looked at, over the end of the first step.
    let client = system.client().await;
    let path = format!("/v1/hooks/{id}/preview");
    let cut = client.post_json(&path, &json!({"limit": 10_000})).await.expect(200);
    assert_eq!((&cut["looked_at"], &cut["complete"]), (&json!(10_000), &json!(false)));
}
