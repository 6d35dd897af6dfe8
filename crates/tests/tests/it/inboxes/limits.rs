//! Everything that is refused, at the limit and one beyond it; and that nothing is stored then.

use hookyard_domain::{
    id::{ClaimId, EventId},
    subscription::inbox::{MAX_AT_ONCE, MAX_NAME_CHARS, MAX_REASON_CHARS},
};
use hookyard_tests::system::System;
use serde_json::{Value, json};

use super::inbox;
use crate::pipeline::stage::text;

#[tokio::test]
async fn what_is_wrong_is_told_with_its_place_and_nothing_is_stored() {
    let system = System::start().await;
    let client = system.client().await;
    let table = [
        (json!({}), "INVALID_FIELD", "name"),
        (json!({"name": 5}), "INVALID_FIELD", "name"),
        (json!({"name": " "}), "INVALID_FIELD", "name"),
        (json!({"name": "a\nb"}), "INVALID_FIELD", "name"),
        (json!({"name": "n", "event_types": "a.b"}), "INVALID_EVENT_TYPE", "event_types"),
        (json!({"name": "n", "event_types": ["a.b", 5]}), "INVALID_EVENT_TYPE", "event_types"),
        (json!({"name": "n", "event_types": ["a.b", "a..b"]}), "INVALID_EVENT_TYPE", "event_types[1]"),
        (json!({"name": "n", "tags": "k:v"}), "INVALID_FIELD", "tags"),
        (json!({"name": "n", "tags": ["k:v", "novalue"]}), "INVALID_FIELD", "tags[1]"),
        (
            json!({"name": "n", "filter": {"payload.x": {"$near": 1}}}),
            "INVALID_FILTER",
            "filter.payload.x.$near",
        ),
        (json!({"name": "n", "max_leases": 1.5}), "INVALID_FIELD", "max_leases"),
        (json!({"name": "n", "ttl_seconds": "60"}), "INVALID_FIELD", "ttl_seconds"),
        (json!({"name": "n", "paused": "yes"}), "INVALID_FIELD", "paused"),
    ];
    let there = inbox(&client, json!({})).await;
    for (body, code, field) in table {
        let reply = client.post_json("/v1/inboxes", &body).await;
        assert_eq!(reply.error(), (422, code.to_owned()), "{body}: {}", reply.text());
        assert_eq!(reply.json()["details"]["field"], field, "{body}");
        if body.get("name").is_some() {
            let reply =
                client.request("PATCH", &format!("/v1/inboxes/{there}")).json(body.to_string()).send().await;
            assert_eq!(reply.error(), (422, code.to_owned()), "{body}: {}", reply.text());
        }
    }
    for (text, code) in [("[]", "INVALID_BODY"), ("{", "INVALID_JSON")] {
        assert_eq!(client.post("/v1/inboxes", text).await.error(), (400, code.to_owned()), "{text}");
    }
    let listed = client.get("/v1/inboxes").await.expect(200);
    assert_eq!(listed["data"].as_array().unwrap().len(), 1);
    assert_eq!(listed["data"][0]["name"], "test");
}

#[tokio::test]
async fn every_limit_of_an_inbox_holds_at_n_and_n_plus_one() {
    let system = System::start().await;
    let client = system.client().await;
    let types =
        |count: usize| json!({"event_types": (0..count).map(|at| format!("a.t{at}")).collect::<Vec<_>>()});
    let tags = |count: usize| json!({"tags": (0..count).map(|at| format!("k:{at}")).collect::<Vec<_>>()});
    for (good, bad) in [
        (json!({"name": "é".repeat(MAX_NAME_CHARS)}), json!({"name": "é".repeat(MAX_NAME_CHARS + 1)})),
        (types(100), types(101)),
        (tags(10), tags(11)),
        (json!({"max_leases": 1}), json!({"max_leases": 0})),
        (json!({"max_leases": 1_000}), json!({"max_leases": 1_001})),
        (json!({"ttl_seconds": 30}), json!({"ttl_seconds": 29})),
        (json!({"ttl_seconds": 604_800}), json!({"ttl_seconds": 604_801})),
    ] {
        inbox(&client, good).await;
        let mut body = json!({"name": "n"});
        body.as_object_mut().unwrap().extend(bad.as_object().unwrap().clone());
        assert_eq!(client.post_json("/v1/inboxes", &body).await.status, 422, "{bad}");
    }
}

#[tokio::test]
async fn every_limit_of_a_lease_holds_at_n_and_n_plus_one() {
    let system = System::start().await;
    let client = system.client().await;
    let id = inbox(&client, json!({})).await;
    let status = async |path: &str, body: Value| {
        client.post_json(&format!("/v1/inboxes/{id}/messages/{path}"), &body).await.status
    };
    for (good, bad) in [
        (json!({"lease_seconds": 1}), json!({"lease_seconds": 0})),
        (json!({"lease_seconds": 3_600}), json!({"lease_seconds": 3_601})),
        (json!({"lease_limit": 1}), json!({"lease_limit": 0})),
        (json!({"lease_limit": 100}), json!({"lease_limit": 101})),
        (json!({"wait_seconds": 0}), json!({"wait_seconds": -1})),
        (json!({"lease_limit": 1.0}), json!({"wait_seconds": 61})),
        (json!({}), json!({"wait_seconds": "5"})),
    ] {
        assert_eq!(status("lease", good.clone()).await, 200, "{good}");
        assert_eq!(status("lease", bad.clone()).await, 422, "{bad}");
    }
    let now = system.clock.now();
    let message = || {
        let id = EventId::new(now).to_string().replacen("evt_", "msg_", 1);
        json!({"id": id, "lease_token": ClaimId::new(now).to_string()})
    };
    let messages = |count: usize, more: Value| {
        let mut body = json!({"messages": (0..count).map(|_| message()).collect::<Vec<_>>()});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    for path in ["ack", "release", "extend"] {
        assert_eq!(status(path, messages(MAX_AT_ONCE, json!({}))).await, 200, "{path}");
        assert_eq!(status(path, messages(MAX_AT_ONCE + 1, json!({}))).await, 422, "{path}");
        assert_eq!(status(path, messages(0, json!({}))).await, 422, "{path}");
    }
    for (path, good, bad) in [
        ("release", json!({"delay_seconds": 3_600}), json!({"delay_seconds": 3_601})),
        ("release", json!({"delay_seconds": 0}), json!({"delay_seconds": -1})),
        (
            "release",
            json!({"reason": "é".repeat(MAX_REASON_CHARS)}),
            json!({"reason": "é".repeat(MAX_REASON_CHARS + 1)}),
        ),
        ("extend", json!({"lease_seconds": 3_600}), json!({"lease_seconds": 3_601})),
        ("extend", json!({"lease_seconds": 1}), json!({"lease_seconds": 0})),
    ] {
        assert_eq!(status(path, messages(1, good.clone())).await, 200, "{path} {good}");
        assert_eq!(status(path, messages(1, bad.clone())).await, 422, "{path} {bad}");
    }
}

#[tokio::test]
async fn a_settlement_that_cannot_be_read_names_the_place() {
    let system = System::start().await;
    let client = system.client().await;
    let path = format!("/v1/inboxes/{}/messages/ack", inbox(&client, json!({})).await);
    let message =
        json!({"id": "msg_01hzy3v9k2s8d4f6g8h0j2k4m6", "lease_token": "clm_01hzy3v9k2s8d4f6g8h0j2k4m7"});
    let with = |name: &str, value: Value| {
        let mut changed = message.clone();
        changed[name] = value;
        json!({"messages": [message, changed]})
    };
    for (body, field) in [
        (json!({}), "messages"),
        (json!({"messages": {}}), "messages"),
        (json!({"messages": [5]}), "messages[0].id"),
        (json!({"messages": [{}]}), "messages[0].id"),
        (with("id", json!("evt_01hzy3v9k2s8d4f6g8h0j2k4m6")), "messages[1].id"),
        (with("id", json!(7)), "messages[1].id"),
        (with("lease_token", json!("x")), "messages[1].lease_token"),
        (with("lease_token", json!(null)), "messages[1].lease_token"),
    ] {
        let reply = client.post_json(&path, &body).await;
        assert_eq!(reply.error(), (422, "INVALID_FIELD".to_owned()), "{body}");
        assert_eq!(text(&reply.json()["details"]["field"]), field, "{body}");
    }
    // Names of nothing are not found out by asking.
    let nobody = json!({"messages": [{"id": message["id"], "lease_token": "clm_00000000000000000000000000"}, message]});
    let told = client.post_json(&path, &nobody).await.expect(200);
    assert_eq!(told["messages"][0]["status"], "gone");
    assert_eq!((&told["settled"], &told["messages"][1]["status"]), (&json!(0), &json!("gone")));
    for query in
        ["after=-1", "after=x", "after=1&cursor=1", "state=waiting", "limit=0", "limit=101", "befor=1"]
    {
        let path = path.replace("/ack", &format!("?{query}"));
        assert_eq!(client.get(&path).await.error(), (400, "INVALID_PARAMETER".to_owned()), "{query}");
    }
}
