//! Who gets an event, how often, and in which words.

use chrono::TimeDelta;
use hookyard_domain::{credential::Scope, id::TenantId, wire::WebhookSecret};
use hookyard_messaging::Bus;
use hookyard_tests::{receiver::Received, secrets::vault, system::unlimited};
use serde_json::{Value, json};

use super::stage::{Stage, post, subscribe, text, until};

/// What was posted to `/path`; other methods are other matters.
fn posted(stage: &Stage, path: &str) -> Vec<Received> {
    stage.receiver.at(path).into_iter().filter(|one| one.method == "POST").collect()
}

pub(super) async fn every_matching_hook_gets_an_event_once_and_nobody_else(bus: Bus) {
    let stage = Stage::open(bus).await;
    let typed = |event_type: &str| json!({"event_type": event_type});
    let soon = (stage.system.clock.now() + TimeDelta::minutes(5)).to_rfc3339();
    let filtered = |least: u32| json!({"filter": {"payload.total": {"$gte": least}}});
    let hooks = [
        ("all", json!({})),
        ("exact", typed("order.created")),
        ("alias", typed("NewCompanySynchronized")),
        ("pattern", typed("*.write.successful")),
        ("star", typed("order.*")),
        ("filter", filtered(100)),
        ("both", json!({"event_type": "order.*", "filter": {"payload.total": {"$lt": 1000}}})),
        // Not these.
        ("other", typed("order.deleted")),
        ("shorter", typed("*.write")),
        ("strict", filtered(1000)),
        ("disabled", json!({})),
        ("deleted", json!({})),
        ("expired", json!({"expiration_date": soon})),
    ];
    let mut ids = std::collections::HashMap::new();
    for (path, more) in hooks {
        ids.insert(path, stage.hook(path, more).await);
    }
    let tenant = stage.system.tenant("Foreign").await;
    let key = stage.system.key_of(tenant, &[Scope::Admin], unlimited()).await.1;
    let foreign = stage.system.anonymous().with_key(&key);
    subscribe(&foreign, &stage.receiver.url("foreign"), json!({})).await;
    stage.client.post(&format!("/v1/hooks/{}/disable", ids["disabled"]), "").await.expect(200);
    stage.client.delete(&format!("/v1/hooks/{}", ids["deleted"])).await.expect(200);
    stage.advance(301_000);

    let expected: [(&str, Value, &[&str]); 4] = [
        ("order.created", json!({"total": 150}), &["all", "exact", "star", "filter", "both"]),
        ("order.created", json!({"total": 50}), &["all", "exact", "star", "both"]),
        ("read.completed.initial", json!({}), &["all", "alias"]),
        ("invoices.write.successful", json!({"total": [99, 100]}), &["all", "pattern", "filter"]),
    ];
    let mut events = Vec::new();
    for (event_type, payload, paths) in &expected {
        let event = stage.post(event_type, payload.clone()).await;
        let mut wanted: Vec<String> = paths.iter().map(|path| ids[path].clone()).collect();
        wanted.sort();
        assert_eq!(stage.goes_to(&event).await, wanted, "{event_type} {payload}");
        for path in *paths {
            stage.ended(&event, &ids[path], "delivered").await;
        }
        events.push((event, paths));
    }
    stage.let_everything_happen().await;
    for path in ids.keys().chain(&["foreign"]) {
        let got: Vec<String> =
            posted(&stage, path).iter().map(|one| one.header("x-event-id").to_owned()).collect();
        let wanted: Vec<String> =
            events.iter().filter(|(_, paths)| paths.contains(path)).map(|(event, _)| event.clone()).collect();
        // The hook for everything gets the probes of this test, too.
        let mut got: Vec<String> =
            got.into_iter().filter(|id| events.iter().any(|(event, _)| event == id)).collect();
        got.sort();
        assert_eq!(got, wanted, "at /{path}");
    }
    // The other tenant's event goes to the other tenant.
    let event = post(&foreign, "order.created", json!({})).await;
    let got = stage.received("foreign", 1).await;
    assert_eq!((got.len(), got[0].header("x-event-id")), (1, event.as_str()));
    assert_eq!(stage.client.get(&format!("/v1/events/{event}")).await.error().0, 404);
    stage.close().await;
}

pub(super) async fn a_delivery_says_who_sent_what_and_which_try_it_is(bus: Bus) {
    let stage = Stage::open(bus).await;
    let secret = stage.hook("secret", json!({"secret": "s3cret"})).await;
    stage.hook("plain", json!({})).await;
    let signing_tenant = TenantId::new(stage.system.clock.now());
    let now = stage.system.clock.now();
    let tenants = WebhookSecret::parse("tenant's").unwrap();
    let insert = move |conn: &mut hookyard_domain::db::Conn| {
        hookyard_domain::tenant::store::insert(conn, signing_tenant, "Signs", Some((&vault(), &tenants)), now)
    };
    stage.system.db.run(insert).await.unwrap();
    let key = stage.system.key_of(signing_tenant, &[Scope::Admin], unlimited()).await.1;
    let signing = stage.system.anonymous().with_key(&key);
    subscribe(&signing, &stage.receiver.url("tenant"), json!({})).await;
    subscribe(&signing, &stage.receiver.url("own"), json!({"secret": "own"})).await;

    let caller = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let body = r#"{"event_type":"order.created","payload":{"z":1.0,"a":"é"},"metadata":{"correlation_id":"corr 1/é","shop":7}}"#;
    let reply = stage.client.request("POST", "/events").header("traceparent", caller).json(body).send().await;
    let event = text(&reply.expect(202)["event_id"]).to_owned();
    let got = stage.received("secret", 1).await.remove(0);
    assert_eq!((got.method.as_str(), got.path.as_str()), ("POST", "/secret"));
    assert_eq!(got.header("content-type"), "application/json");
    assert!(got.header("user-agent").starts_with("Hookyard/"), "{}", got.header("user-agent"));
    assert_eq!(got.header("x-event-id"), event);
    assert_eq!(got.header("x-delivery-id"), super::stage::delivery_id(&event, &secret));
    assert_eq!(got.header("x-attempt"), "1");
    assert_eq!(got.header("x-correlation-id"), "corr+1%2F%C3%A9", "what a header cannot hold is encoded");
    assert_eq!(got.header("content-length"), got.body.len().to_string());
    // The trace goes on, in a span of ours.
    let trace: Vec<&str> = got.header("traceparent").split('-').collect();
    assert_eq!((trace[0], trace[1], trace[3]), ("00", "4bf92f3577b34da6a3ce929d0e0e4736", "01"));
    assert!(trace[2].len() == 16 && trace[2] != "00f067aa0ba902b7", "{trace:?}");
    // Standard Webhooks.
    assert_eq!(got.header("webhook-id"), event.replacen("evt_", "msg_", 1));
    let sent_at: i64 = got.header("webhook-timestamp").parse().unwrap();
    assert!((stage.system.clock.now().timestamp() - sent_at).abs() < 60, "{sent_at}");
    assert!(got.header("webhook-signature").starts_with("v1,"), "{}", got.header("webhook-signature"));

    // The bytes are those of the stored event, which is shown with two members more.
    let shown = stage.client.get(&format!("/v1/events/{event}")).await;
    let sent = String::from_utf8(got.body.clone()).unwrap();
    let rest = shown.text().strip_prefix(sent.strip_suffix('}').unwrap()).map(str::to_owned);
    assert!(rest.as_ref().is_some_and(|rest| rest.starts_with(r#","state":""#)), "{sent}\n{}", shown.text());
    let mut members = shown.json();
    for member in ["state", "deliveries"] {
        members.as_object_mut().unwrap().remove(member).unwrap();
    }
    assert_eq!(got.json(), members);
    assert!(sent.contains(r#""payload":{"z":1,"a":"é"}"#), "{sent}");
    let names: Vec<&str> = members.as_object().unwrap().keys().map(String::as_str).collect();
    for name in ["id", "event_id", "event_type", "timestamp", "payload", "metadata", "created_at"] {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
    assert_eq!(names.len(), 7);
    for time in ["timestamp", "created_at"] {
        let time = text(&members[time]);
        assert!(time.len() == 24 && time.ends_with('Z'), "{time}");
    }

    // Signed with the hook's secret, else with the tenant's, else not.
    assert!(!stage.received("plain", 1).await[0].headers.contains_key("x-triggersapi-signature"));
    let event = post(&signing, "order.created", json!({"a": 1})).await;
    for (path, secret) in [("secret", "s3cret"), ("tenant", "tenant's"), ("own", "own")] {
        let got = stage.received(path, 1).await.remove(0);
        let expected = hookyard_domain::wire::WebhookSecret::parse(secret).unwrap().triggers_api(&got.body);
        assert_eq!(got.header("x-triggersapi-signature"), expected, "{path}");
    }
    // Without a correlation id of the caller's there is one of ours, the same as in the body.
    let got = stage.received("own", 1).await.remove(0);
    assert_eq!(got.header("x-event-id"), event);
    assert_eq!(got.header("x-correlation-id"), text(&got.json()["metadata"]["correlation_id"]));
    assert_eq!(got.header("traceparent").len(), 55);
    stage.close().await;
}

pub(super) async fn a_batch_reaches_every_hook_exactly_once(bus: Bus) {
    let stage = Stage::open(bus).await;
    let mut hooks = Vec::new();
    for path in ["a", "b", "c"] {
        hooks.push(stage.hook(path, json!({"event_type": "batch.item"})).await);
    }
    let mut events: Vec<Value> =
        (0..99).map(|n| json!({"event_type": "batch.item", "payload": {"n": n}})).collect();
    events.insert(50, json!({"event_type": "batch.item", "payload": "bad"}));
    let answer = stage.client.post_json("/events/batch", &json!({"events": events})).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    for (path, hook) in ["a", "b", "c"].into_iter().zip(&hooks) {
        until("all are counted", async || {
            let shown = stage.shown(hook).await;
            if shown["delivery_count"] == 99 { Ok(()) } else { Err(shown) }
        })
        .await;
        let mut numbers: Vec<i64> =
            stage.receiver.at(path).iter().map(|got| got.json()["payload"]["n"].as_i64().unwrap()).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..99).collect::<Vec<i64>>(), "at /{path}");
    }
    stage.close().await;
}
