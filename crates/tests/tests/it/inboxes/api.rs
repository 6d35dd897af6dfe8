//! Making, showing, listing, changing, pausing and deleting inboxes.

use chrono::TimeDelta;
use hookyard_domain::credential::Scope;
use hookyard_messaging::Bus;
use hookyard_tests::system::{Options, System, unlimited};
use serde_json::json;

use super::{ack, counts, fill, inbox, lease};
use crate::pipeline::stage::{Stage, text};

#[tokio::test]
async fn an_inbox_is_made_with_a_name_and_shown_with_everything() {
    let system = System::start().await;
    let client = system.client().await;
    let made = client.post_json("/v1/inboxes", &json!({"name": "warehouse"})).await.expect(201);
    let id = text(&made["id"]).to_owned();
    assert!(id.starts_with("hook_"));
    assert_eq!(
        made,
        json!({"id": id, "name": "warehouse", "event_types": [], "patterns": [], "tags": [], "filter": null, "max_leases": 10,
            "ttl_seconds": null, "paused": false, "state": "active", "created_at": made["created_at"],
            "updated_at": made["created_at"]})
    );
    let mut shown = client.get(&format!("/v1/inboxes/{id}")).await.expect(200);
    let counts = shown.as_object_mut().unwrap().remove("messages").unwrap();
    assert_eq!(shown, made);
    assert_eq!(
        counts,
        json!({"waiting": 0, "leased": 0, "delayed": 0, "quarantined": 0, "oldest_waiting_at": null,
            "oldest_waiting_seconds": 0, "last_sequence": 0})
    );
    // It is no hook and no consumer of the other routes.
    for path in ["/v1/hooks", "/webhooks"] {
        assert_eq!(client.get(&format!("{path}/{id}")).await.status, 404, "{path}");
        assert_eq!(client.get(path).await.expect(200)["data"], json!([]));
    }
}

#[tokio::test]
async fn what_is_said_is_shown_and_changed_member_by_member() {
    let system = System::start().await;
    let client = system.client().await;
    let said = json!({"name": "orders", "event_types": ["NewCompanySynchronized", "order.*"], "tags": ["region:uk"],
        "filter": {"payload.total": {"$gte": 10}}, "max_leases": 3, "ttl_seconds": 3600, "paused": true, "zap": 7});
    let made = client.post_json("/v1/inboxes", &said).await.expect(201);
    for name in ["name", "event_types", "tags", "filter", "max_leases", "ttl_seconds", "paused"] {
        assert_eq!(made[name], said[name], "{name}");
    }
    assert_eq!(made["patterns"], json!(["read.completed.initial", "order.*"]));
    assert_eq!(made["state"], "paused");
    let path = format!("/v1/inboxes/{}", text(&made["id"]));
    let patch = async |body: serde_json::Value| {
        client.request("PATCH", &path).json(body.to_string()).send().await.expect(200)
    };
    let mut same = patch(json!({})).await;
    same["updated_at"] = made["updated_at"].clone();
    assert_eq!(same, made);
    let changed =
        patch(json!({"name": "all", "filter": null, "tags": null, "ttl_seconds": null, "max_leases": null,
        "event_types": [], "paused": false}))
        .await;
    let expected = json!({"name": "all", "event_types": [], "patterns": [], "tags": [], "filter": null, "max_leases": 10,
        "ttl_seconds": null, "paused": false, "state": "active"});
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(changed[name], *value, "{name}");
    }
    assert_eq!(system.audited(Some(system.tenant)).await, ["inbox.created", "inbox.updated"]);
}

#[tokio::test]
async fn inboxes_are_listed_in_pages_without_the_deleted() {
    let system = System::start().await;
    let client = system.client().await;
    let mut all = Vec::new();
    for _ in 0..4 {
        all.push(inbox(&client, json!({})).await);
        system.clock.advance(TimeDelta::milliseconds(2));
    }
    let gone = client.delete(&format!("/v1/inboxes/{}", all[1])).await.expect(200);
    assert_eq!(gone, json!({"status": "deleted", "id": all[1]}));
    client.delete(&format!("/v1/inboxes/{}", all[1])).await.expect(200);
    assert_eq!(client.get(&format!("/v1/inboxes/{}", all[1])).await.expect(200)["state"], "deleted");
    let first = client.get("/v1/inboxes?limit=2").await.expect(200);
    let ids = |page: &serde_json::Value| {
        page["data"].as_array().unwrap().iter().map(|one| text(&one["id"]).to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&first), [all[3].clone(), all[2].clone()]);
    let next = client.get(&format!("/v1/inboxes?limit=2&cursor={}", text(&first["next_cursor"]))).await;
    assert_eq!(ids(&next.expect(200)), [all[0].clone()]);
    // Nothing can be done with it any more.
    for (method, path) in [("PATCH", ""), ("POST", "/pause"), ("POST", "/messages/lease")] {
        let reply = client.request(method, &format!("/v1/inboxes/{}{path}", all[1])).json("{}").send().await;
        assert_eq!(reply.error(), (404, "NOT_FOUND".to_owned()), "{method} {path}");
    }
    let audited = system.audited(Some(system.tenant)).await;
    assert_eq!(audited.iter().filter(|action| *action == "inbox.deleted").count(), 1);
}

#[tokio::test]
async fn the_same_request_with_a_key_makes_one_inbox() {
    let system = System::start().await;
    let client = system.client().await;
    let make = || {
        client.request("POST", "/v1/inboxes").header("idempotency-key", "k").json(r#"{"name":"once"}"#).send()
    };
    let (first, second) = (make().await, make().await);
    assert_eq!(first.expect(201), second.expect(201));
    assert_eq!(second.header("idempotent-replayed"), Some("true"));
}

#[tokio::test]
async fn a_tenant_has_as_many_inboxes_as_the_settings_say_whoever_is_quicker() {
    let mut options = Options::default();
    options.gateway.gateway.inboxes = 3;
    let system = System::with(options).await;
    let client = system.client().await;
    let first = inbox(&client, json!({})).await;
    // Three at once for two places.
    let request = async || client.post("/v1/inboxes", r#"{"name":"n"}"#).await.status;
    let (one, two, three) = tokio::join!(request(), request(), request());
    let mut statuses = [one, two, three];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 201, 409]);
    let full = client.post("/v1/inboxes", r#"{"name":"n"}"#).await;
    assert_eq!(full.error(), (409, "CONFLICT".to_owned()));
    // Another tenant has its own, and a deleted one leaves its place.
    let other = system.tenant("Other").await;
    let key = system.key_of(other, &[Scope::Admin], unlimited()).await.1;
    inbox(&system.anonymous().with_key(&key), json!({})).await;
    client.delete(&format!("/v1/inboxes/{first}")).await.expect(200);
    inbox(&client, json!({})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_inbox_fills_and_gives_nothing_out() {
    let stage = Stage::open(Bus::in_process()).await;
    let id = inbox(&stage.client, json!({})).await;
    fill(&stage, &id, 2).await;
    let held = lease(&stage.client, &id, 1).await;
    let path = format!("/v1/inboxes/{id}/messages/lease");
    for _twice in 0..2 {
        let paused = stage.client.post(&format!("/v1/inboxes/{id}/pause"), "").await.expect(200);
        assert_eq!((&paused["paused"], &paused["state"]), (&json!(true), &json!("paused")));
    }
    assert_eq!(stage.client.post(&path, "").await.expect(200), json!({"messages": [], "paused": true}));
    // What is leased may be settled, and events go on coming in.
    assert_eq!(ack(&stage.client, &id, &held).await, ["acknowledged"]);
    fill(&stage, &id, 1).await;
    stage.client.post(&format!("/v1/inboxes/{id}/resume"), "").await.expect(200);
    assert_eq!(lease(&stage.client, &id, 10).await.len(), 2);
    let audited = stage.system.audited(Some(stage.system.tenant)).await;
    assert_eq!(audited, ["inbox.created", "inbox.paused", "inbox.resumed"]);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_cancels_what_waits_and_what_is_leased() {
    let stage = Stage::open(Bus::in_process()).await;
    let id = inbox(&stage.client, json!({})).await;
    fill(&stage, &id, 3).await;
    let held = lease(&stage.client, &id, 2).await;
    assert_eq!(ack(&stage.client, &id, &held[..1]).await, ["acknowledged"]);
    stage.client.delete(&format!("/v1/inboxes/{id}")).await.expect(200);
    let path = format!("/v1/inboxes/{id}/messages/ack");
    let body = json!({"messages": [{"id": held[1]["id"], "lease_token": held[1]["lease_token"]}]});
    assert_eq!(stage.client.post_json(&path, &body).await.error(), (404, "NOT_FOUND".to_owned()));
    let listed = stage.client.get(&format!("/v1/inboxes/{id}/messages")).await.expect(200);
    let states: Vec<&str> =
        listed["data"].as_array().unwrap().iter().map(|one| text(&one["state"])).collect();
    assert_eq!(states, ["acknowledged", "cancelled", "cancelled"]);
    assert_eq!(counts(&stage.client, &id).await["leased"], 0);
    // Nothing comes in any more.
    let event = stage.post("n.a", json!({})).await;
    assert_eq!(stage.goes_to(&event).await, [""; 0]);
    stage.close().await;
}
