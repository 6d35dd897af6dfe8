//! `GET /v1/audit` and its export: who may read what, in which order, how much at once.

use chrono::{DateTime, TimeDelta, Utc};
use hookyard_domain::{
    audit::{Chain, Digest, Mark, Recorded},
    credential::Scope,
    id::{CredentialId, TenantId},
};
use hookyard_tests::{
    http::{Client, Reply},
    system::{System, unlimited},
};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use super::{exported, write};

fn places(page: &Value) -> Vec<i64> {
    page["data"].as_array().unwrap().iter().map(|entry| entry["seq"].as_i64().unwrap()).collect()
}

fn head(reply: &Reply) -> Mark {
    reply.header("x-audit-head").unwrap().parse().unwrap()
}

async fn hook(client: &Client, path: &str) -> String {
    let url = format!("https://hooks.zapier.com/hooks/standard/1/{path}/");
    let answer = client.post_json("/zapier/hook", &json!({"url": url})).await.expect(200);
    answer["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn entries_are_found_by_action_object_actor_and_time() {
    let system = System::start().await;
    let (first, one) = system.key_of(system.tenant, &[Scope::Admin], unlimited()).await;
    let (second, two) = system.key_of(system.tenant, &[Scope::Admin], unlimited()).await;
    let (one, two) = (system.anonymous().with_key(&one), system.anonymous().with_key(&two));
    let a = hook(&one, "a").await;
    system.clock.advance(TimeDelta::seconds(10));
    let b = hook(&two, "b").await;
    let between = system.clock.now() + TimeDelta::seconds(1);
    system.clock.advance(TimeDelta::seconds(10));
    for action in ["disable", "enable"] {
        two.post(&format!("/v1/hooks/{a}/{action}"), "").await.expect(200);
    }
    let between = between.to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
    let expect = async |query: String, expected: &[i64]| {
        let page = one.get(&format!("/v1/audit?{query}")).await.expect(200);
        assert_eq!(places(&page), expected, "{query}");
        page
    };
    expect(String::new(), &[4, 3, 2, 1]).await;
    expect("action=hook.subscribed".into(), &[2, 1]).await;
    expect("action=key.created".into(), &[]).await;
    expect(format!("object={a}"), &[4, 3, 1]).await;
    expect(format!("object={b}&action=hook.disabled"), &[]).await;
    expect(format!("actor={first}"), &[1]).await;
    expect(format!("actor={second}"), &[4, 3, 2]).await;
    expect(format!("actor={second}&object={a}&action=hook.enabled"), &[4]).await;
    expect(format!("since={between}"), &[4, 3]).await;
    expect(format!("until={between}"), &[2, 1]).await;
    let at = exported(&one).await[2]["at"].as_str().unwrap().to_owned();
    expect(format!("since={at}"), &[4, 3]).await;
    expect(format!("until={at}"), &[2, 1]).await;
    let page = expect("limit=3".into(), &[4, 3, 2]).await;
    assert_eq!((&page["has_more"], &page["next_cursor"]), (&json!(true), &json!("2")));
    let last = expect("limit=3&cursor=2".into(), &[1]).await;
    assert_eq!((&last["has_more"], &last["next_cursor"]), (&json!(false), &Value::Null));
    expect("limit=4".into(), &[4, 3, 2, 1]).await;
    expect(format!("object={}", "x".repeat(200)), &[]).await;
    for query in [
        "action=key.eaten".to_owned(),
        "object=".to_owned(),
        format!("object={}", "x".repeat(201)),
        "object=%00".to_owned(),
        "actor=alice".to_owned(),
        "actor=hook_01hzy3v9k2s8d4f6g8h0j2k4m6".to_owned(),
        "since=yesterday".to_owned(),
        "since=2025-01-02T00:00:00Z&until=2025-01-01T00:00:00Z".to_owned(),
        "cursor=-1".to_owned(),
        "cursor=key_1".to_owned(),
        "limit=0".to_owned(),
        "limit=101".to_owned(),
        "tenant=7".to_owned(),
    ] {
        let reply = one.get(&format!("/v1/audit?{query}")).await;
        assert_eq!(reply.error(), (400, "INVALID_PARAMETER".to_owned()), "{query}");
    }
}

#[tokio::test]
async fn a_page_has_a_hundred_entries_at_the_most_and_pages_have_every_entry_once() {
    let system = System::start().await;
    let client = system.client().await;
    write(&system, system.tenant, 101).await;
    let first = client.get("/v1/audit?limit=100").await.expect(200);
    assert_eq!(places(&first), (2..=101).rev().collect::<Vec<_>>());
    let cursor = first["next_cursor"].as_str().unwrap();
    // What is written meanwhile shifts nothing.
    write(&system, system.tenant, 1).await;
    let second = client.get(&format!("/v1/audit?limit=100&cursor={cursor}")).await.expect(200);
    assert_eq!((places(&second), &second["has_more"]), (vec![1], &json!(false)));
}

#[tokio::test]
async fn an_export_is_the_list_and_its_head_is_the_last_line() {
    let system = System::start().await;
    let client = system.client().await;
    let empty = client.get("/v1/audit/export").await;
    assert_eq!((empty.status, empty.text().as_str(), head(&empty).seq), (200, "", 0));
    assert_eq!(head(&empty).hash, Digest::genesis(Chain::Tenant(system.tenant)));
    // More than two reads of a hundred.
    write(&system, system.tenant, 205).await;
    let reply = client.get("/v1/audit/export").await;
    assert_eq!(reply.header("content-type"), Some("application/x-ndjson"));
    let lines: Vec<String> = reply.text().lines().map(str::to_owned).collect();
    let mut listed = Vec::new();
    let mut cursor = String::new();
    loop {
        let reply = client.get(&format!("/v1/audit?limit=100{cursor}")).await;
        assert_eq!(head(&reply).seq, 205);
        let page = reply.expect(200);
        listed.extend(page["data"].as_array().unwrap().clone());
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    listed.reverse();
    let told: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(told, listed);
    assert_eq!(told.len(), 205);
    assert_eq!(told[204]["hash"], head(&reply).hash.to_string());
    for (since, expected) in [(1, 205), (2, 204), (101, 105), (205, 1), (206, 0)] {
        let reply = client.get(&format!("/v1/audit/export?since_seq={since}")).await;
        assert_eq!(reply.text().lines().collect::<Vec<_>>(), lines[205 - expected..], "{since}");
    }
    for query in ["since_seq=0", "since_seq=-1", "since_seq=x", "limit=5"] {
        let reply = client.get(&format!("/v1/audit/export?{query}")).await;
        assert_eq!(reply.error(), (400, "INVALID_PARAMETER".to_owned()), "{query}");
    }
}

/// Whoever has an export and the rule can follow the chain without us.
#[tokio::test]
async fn an_export_holds_all_that_the_hashes_are_over() {
    #[derive(Deserialize)]
    struct Line<'a> {
        seq: i64,
        tenant_id: String,
        at: DateTime<Utc>,
        actor: Who,
        action: String,
        object: What,
        #[serde(borrow)]
        before: Option<&'a RawValue>,
        #[serde(borrow)]
        after: Option<&'a RawValue>,
        hash: String,
    }
    #[derive(Deserialize)]
    struct Who {
        kind: String,
        id: Option<String>,
        name: String,
        address: Option<String>,
        request_id: Option<String>,
    }
    #[derive(Deserialize)]
    struct What {
        kind: String,
        id: String,
    }
    let system = System::start().await;
    let client = system.client().await;
    let id = hook(&client, "a").await;
    for action in ["disable", "enable"] {
        client.post(&format!("/v1/hooks/{id}/{action}"), "").await.expect(200);
    }
    let reply = client.get("/v1/audit/export").await;
    let mut previous = Digest::genesis(Chain::Tenant(system.tenant));
    for text in reply.text().lines() {
        let line: Line<'_> = serde_json::from_str(text).unwrap();
        let side = |side: Option<&RawValue>| side.map(|side| side.get().to_owned());
        assert_eq!(line.actor.kind, "credential");
        let recorded = Recorded {
            tenant_id: line.tenant_id.parse::<TenantId>().unwrap().uuid(),
            seq: line.seq,
            at: line.at,
            actor_kind: 2,
            actor_id: line.actor.id.map(|id| id.parse::<CredentialId>().unwrap().uuid()),
            actor_name: line.actor.name,
            address: line.actor.address,
            request_id: line.actor.request_id,
            action: line.action,
            object_kind: line.object.kind,
            object_id: line.object.id,
            before: side(line.before),
            after: side(line.after),
            hash: Vec::new(),
        };
        previous = Digest::of(&previous, &recorded);
        assert_eq!(previous.to_string(), line.hash, "{text}");
    }
    assert_eq!((head(&reply).seq, head(&reply).hash), (3, previous));
}

#[tokio::test]
async fn only_an_administrator_of_the_tenant_reads_its_log() {
    let system = System::start().await;
    let client = system.client().await;
    let id = hook(&client, "a").await;
    let other = system.tenant("Other").await;
    let (_, key) = system.key_of(other, &[Scope::Admin], unlimited()).await;
    let stranger = system.anonymous().with_key(&key);
    assert_eq!(exported(&stranger).await, [] as [Value; 0]);
    let theirs = stranger.get("/v1/audit").await;
    assert_eq!((head(&theirs).chain, head(&theirs).seq), (Chain::Tenant(other), 0));
    assert_eq!(theirs.expect(200)["data"], json!([]));
    assert_eq!(stranger.get(&format!("/v1/audit?object={id}")).await.expect(200)["data"], json!([]));
    hook(&stranger, "b").await;
    assert_eq!((exported(&stranger).await.len(), exported(&client).await.len()), (1, 1));
    let every = [Scope::HooksRead, Scope::HooksWrite, Scope::EventsRead, Scope::EventsWrite];
    let lesser = system.anonymous().with_key(&system.key(&every).await);
    for path in ["/v1/audit", "/v1/audit/export"] {
        assert_eq!(lesser.get(path).await.error(), (403, "INSUFFICIENT_PERMISSIONS".to_owned()), "{path}");
        assert_eq!(system.anonymous().get(path).await.error().0, 401, "{path}");
        for method in ["POST", "PUT", "PATCH", "DELETE"] {
            assert_eq!(client.request(method, path).send().await.error().0, 405, "{method} {path}");
        }
    }
}
