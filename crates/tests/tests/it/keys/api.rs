//! `/v1/keys`.

use chrono::TimeDelta;
use hookyard_domain::{
    credential::{Kind, Scope, Token, store, store::NewCredential},
    event::wire_time,
    person::Role,
};
use hookyard_tests::{
    http::{Client, Reply},
    session::Session,
    system::{System, unlimited},
};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{EVENT, audited, count, everywhere, stands_in, text, two_gateways, with_status};

async fn make(client: &Client, body: &Value) -> Value {
    client.post_json("/v1/keys", body).await.expect(201)
}

/// Makes this many keys at once, by turns at each of the clients.
async fn race(clients: &[Client], path: &'static str, body: &Value, many: usize, key: bool) -> Vec<Reply> {
    let send = |client: &Client| {
        let request = client.request("POST", path).json(body.to_string());
        if key { request.header("idempotency-key", "race").send() } else { request.send() }
    };
    clients.iter().cycle().take(many).map(send).collect::<JoinSet<_>>().join_all().await
}

#[tokio::test]
async fn a_key_is_made_used_shown_changed_and_revoked() {
    let system = two_gateways().await;
    let admin = system.client().await;
    let end = wire_time(system.clock.now() + TimeDelta::days(1));
    let body = json!({"name": "crm", "scopes": ["events:write"], "rate_limit": 0, "hook_write_limit": 5,
        "hook_write_burst": 7, "sample_limit": 9, "expires_at": end});
    let reply = admin.post_json("/v1/keys", &body).await;
    let made = reply.expect(201);
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    let (key, id) = (text(&made["key"]), text(&made["id"]));
    assert!(key.len() == 46 && key.starts_with("ct_") && key.starts_with(&text(&made["prefix"])), "{made}");
    let path = format!("/v1/keys/{id}");
    let shown = admin.get(&path).await.expect(200);
    let expected = json!({"id": id, "name": "crm", "prefix": made["prefix"], "scopes": ["events:write"],
        "rate_limit": 0, "hook_write_limit": 5, "hook_write_burst": 7, "sample_limit": 9,
        "created_at": made["created_at"], "expires_at": end, "revoked_at": null, "last_used_at": null});
    assert_eq!(shown, expected);
    for client in everywhere(&system, &key) {
        assert_eq!(client.post("/events", EVENT).await.status, 202);
        assert_eq!(client.get("/v1/events").await.status, 403);
    }
    let patch = json!({"name": "shop", "scopes": ["events:read"], "expires_at": null, "sample_limit": null});
    let changed = admin.request("PATCH", &path).json(patch.to_string()).send().await.expect(200);
    assert_eq!(
        (&changed["name"], &changed["scopes"], &changed["expires_at"], &changed["sample_limit"]),
        (&json!("shop"), &json!(["events:read"]), &Value::Null, &Value::Null)
    );
    assert_eq!(changed["hook_write_burst"], 7, "what is not given stays");
    // The very next requests, everywhere.
    for client in everywhere(&system, &key) {
        assert_eq!(client.post("/events", EVENT).await.status, 403);
        assert_eq!(client.get("/v1/events").await.status, 200);
    }
    let mut unchanged = admin.request("PATCH", &path).json(patch.to_string()).send().await.expect(200);
    // That it was used just now may be known already.
    unchanged["last_used_at"] = changed["last_used_at"].clone();
    assert_eq!(unchanged, changed);
    let revoked = admin.delete(&path).await.expect(200);
    assert!(revoked["revoked_at"].is_string(), "{revoked}");
    for client in everywhere(&system, &key) {
        assert_eq!(client.get("/v1/events").await.status, 401);
    }
    assert_eq!(admin.delete(&path).await.expect(200)["revoked_at"], revoked["revoked_at"], "again");
    let late = admin.request("PATCH", &path).json("{}").send().await;
    assert_eq!(late.error(), (409, "CONFLICT".to_owned()));
    assert_eq!(audited(&system).await, ["key.created", "key.updated", "key.revoked"]);
    for table in ["credentials", "audit_log", "idempotency_keys"] {
        assert!(!stands_in(&system, table, &key).await, "the key stands in {table}");
    }
}

#[tokio::test]
async fn lists_are_pages_of_one_kind_and_hold_no_key() {
    let system = System::start().await;
    let admin = system.client().await;
    let mut ids = Vec::new();
    for n in 0..4 {
        let made = make(&admin, &json!({"name": format!("k{n}"), "scopes": ["hooks:read"]})).await;
        ids.insert(0, text(&made["id"]));
    }
    admin.post("/v1/source-keys", r#"{"name":"s","event_types":["*"]}"#).await.expect(201);
    admin.post("/webhooks/integrationKeys/zapier", "").await.expect(201);
    let first = admin.get("/v1/keys?limit=3").await.expect(200);
    let cursor = text(&first["next_cursor"]);
    let second = admin.get(&format!("/v1/keys?limit=3&cursor={cursor}")).await.expect(200);
    let both = first["data"].as_array().unwrap().iter().chain(second["data"].as_array().unwrap());
    let listed: Vec<String> = both.map(|key| text(&key["id"])).collect();
    // The last is the admin's own.
    assert_eq!((listed.len(), &listed[..4], &second["has_more"]), (5, &ids[..], &json!(false)));
    assert!(first["data"][0].get("key").is_none());
    assert_eq!(admin.get("/v1/keys?x=1").await.error().1, "INVALID_PARAMETER");
}

#[tokio::test]
async fn a_tenant_has_ten_live_keys_and_not_eleven() {
    let system = System::start().await;
    let admin = system.client().await;
    let end = wire_time(system.clock.now() + TimeDelta::seconds(30));
    let mut last = Value::Null;
    for n in 2..=10 {
        let mut body = json!({"name": format!("k{n}"), "scopes": ["hooks:read"]});
        if n == 2 {
            body["expires_at"] = json!(end);
        }
        last = make(&admin, &body).await;
    }
    let one_more = json!({"name": "k11", "scopes": ["hooks:read"]});
    assert_eq!(admin.post_json("/v1/keys", &one_more).await.error(), (409, "CONFLICT".to_owned()));
    admin.delete(&format!("/v1/keys/{}", text(&last["id"]))).await.expect(200);
    make(&admin, &one_more).await;
    assert_eq!(admin.post_json("/v1/keys", &one_more).await.status, 409);
    system.clock.advance(TimeDelta::seconds(31));
    make(&admin, &one_more).await;
    assert_eq!(admin.post_json("/v1/keys", &one_more).await.status, 409, "one had expired");
}

#[tokio::test]
async fn ten_stay_ten_in_a_race() {
    let system = two_gateways().await;
    let key = system.key(&[Scope::Admin]).await;
    let body = json!({"name": "racer", "scopes": ["hooks:read"]});
    let replies = race(&everywhere(&system, &key), "/v1/keys", &body, 30, false).await;
    assert_eq!((with_status(&replies, 201), with_status(&replies, 409)), (9, 21), "{replies:?}");
    assert_eq!(count(&system, "SELECT count(*) AS n FROM credentials WHERE revoked_at IS NULL").await, 10);
}

#[tokio::test]
async fn the_same_request_fifty_times_makes_one_key_and_tells_it_once() {
    let system = two_gateways().await;
    let admin = system.key(&[Scope::Admin]).await;
    let body = json!({"name": "racer", "scopes": ["hooks:read"]});
    let source = json!({"name": "racer", "event_types": ["*"]});
    for (path, body) in [("/v1/keys", body), ("/v1/source-keys", source)] {
        let replies = race(&everywhere(&system, &admin), path, &body, 50, true).await;
        assert_eq!(with_status(&replies, 201), 50, "{replies:?}");
        let ids: std::collections::HashSet<String> =
            replies.iter().map(|reply| text(&reply.json()["id"])).collect();
        assert_eq!(ids.len(), 1, "{ids:?}");
        let told: Vec<&Reply> = replies.iter().filter(|reply| !reply.json()["key"].is_null()).collect();
        assert_eq!(told.len(), 1, "the key is told to the first only");
        assert_eq!(told[0].header("idempotent-replayed"), None);
        let again = replies.iter().filter(|reply| reply.header("idempotent-replayed") == Some("true"));
        assert_eq!(again.count(), 49);
        let key = text(&told[0].json()["key"]);
        for table in ["credentials", "audit_log", "idempotency_keys"] {
            assert!(!stands_in(&system, table, &key).await, "the key stands in {table}");
        }
        // The search would find it.
        assert!(stands_in(&system, "idempotency_keys", &ids.into_iter().next().unwrap()).await);
    }
}

#[tokio::test]
async fn the_last_admin_key_goes_by_force_only() {
    let system = System::start().await;
    let (id, key) = system.key_of(system.tenant, &[Scope::Admin], unlimited()).await;
    let admin = system.anonymous().with_key(&key);
    make(&admin, &json!({"name": "reader", "scopes": ["hooks:read"]})).await;
    let path = format!("/v1/keys/{id}");
    let demoted = r#"{"scopes":["hooks:read"]}"#;
    assert_eq!(admin.delete(&path).await.error(), (409, "CONFLICT".to_owned()));
    assert_eq!(admin.request("PATCH", &path).json(demoted).send().await.error().0, 409);
    let second = make(&admin, &json!({"name": "second", "scopes": ["admin"]})).await;
    admin.delete(&format!("/v1/keys/{}", text(&second["id"]))).await.expect(200);
    assert_eq!(admin.delete(&path).await.error().0, 409, "it is the last again");
    assert_eq!(admin.delete(&format!("{path}?force=maybe")).await.error().0, 400);
    let forced = format!("{path}?force=true");
    admin.request("PATCH", &forced).json(demoted).send().await.expect(200);
    assert_eq!(admin.delete(&forced).await.error().0, 403, "it is no admin key any more");
    let other = system.client().await;
    other.delete(&path).await.expect(200);
    assert_eq!(admin.get("/v1/hooks").await.status, 401);
}

#[tokio::test]
async fn limits_that_are_changed_count_at_once_and_exactly() {
    let system = two_gateways().await;
    let admin = system.client().await;
    let made = make(&admin, &json!({"name": "k", "scopes": ["events:read"], "rate_limit": 2})).await;
    let clients = everywhere(&system, &text(&made["key"]));
    let passed = async |many: usize| {
        let send = |client: &Client| client.request("GET", "/v1/events").send();
        let replies = clients.iter().cycle().take(many).map(send).collect::<JoinSet<_>>().join_all().await;
        assert_eq!(with_status(&replies, 200) + with_status(&replies, 429), many, "{replies:?}");
        with_status(&replies, 200)
    };
    let path = format!("/v1/keys/{}", text(&made["id"]));
    let mut limit = json!(2);
    for (send, pass, next) in
        [(2, 2, json!(5)), (3, 3, json!(5)), (6, 0, json!(0)), (12, 12, json!(4)), (12, 0, json!(null))]
    {
        assert_eq!(passed(send).await, pass, "of {send} with a limit of {limit}");
        let patch = json!({"rate_limit": next}).to_string();
        assert_eq!(admin.request("PATCH", &path).json(patch).send().await.expect(200)["rate_limit"], next);
        limit = next;
    }
}

#[tokio::test]
async fn what_is_not_acceptable_is_named() {
    let system = System::start().await;
    let admin = system.client().await;
    let long = "n".repeat(51);
    for (body, field) in [
        (json!({"scopes": ["admin"]}), "name"),
        (json!({"name": "", "scopes": ["admin"]}), "name"),
        (json!({"name": long, "scopes": ["admin"]}), "name"),
        (json!({"name": "k"}), "scopes"),
        (json!({"name": "k", "scopes": []}), "scopes"),
        (json!({"name": "k", "scopes": ["hooks"]}), "scopes"),
        (json!({"name": "k", "scopes": ["admin"], "rate_limit": -1}), "rate_limit"),
        (json!({"name": "k", "scopes": ["admin"], "hook_write_burst": 1.5}), "hook_write_burst"),
        (json!({"name": "k", "scopes": ["admin"], "expires_at": "2020-01-01T00:00:00Z"}), "expires_at"),
        (json!({"name": "k", "scopes": ["admin"], "expires_at": "tomorrow"}), "expires_at"),
    ] {
        let reply = admin.post_json("/v1/keys", &body).await;
        assert_eq!(reply.error(), (422, "INVALID_FIELD".to_owned()), "{body}");
        assert_eq!(reply.json()["details"]["field"], field, "{body}");
    }
    assert_eq!(admin.get("/v1/keys/hook_01hzy3v9k2s8d4f6g8h0j2k4m6").await.error().1, "INVALID_ID");
    let source = admin.post("/v1/source-keys", r#"{"name":"s","event_types":["*"]}"#).await.expect(201);
    let elsewhere = format!("/v1/keys/{}", text(&source["id"]));
    for reply in [
        admin.get(&elsewhere).await,
        admin.delete(&elsewhere).await,
        admin.request("PATCH", &elsewhere).json("{}").send().await,
    ] {
        assert_eq!(reply.error(), (404, "NOT_FOUND".to_owned()), "a key of another kind");
    }
}

/// What an hour's consent allows must not outlive it.
#[tokio::test]
async fn an_oauth_client_makes_no_keys() {
    let system = System::start().await;
    let token = Token::with_prefix(Kind::OAuthAccess.prefix(), rand::random());
    let scopes = [Scope::Admin].into_iter().collect();
    let new = NewCredential {
        limits: unlimited(),
        ..NewCredential::new(Kind::OAuthAccess, &token, system.tenant, "app", scopes, system.clock.now())
    };
    system.db.run(move |conn| store::insert(conn, &new)).await.unwrap();
    let client = system.anonymous().with_key(token.expose());
    assert_eq!(client.get("/v1/keys").await.status, 200);
    for (path, body) in [
        ("/v1/keys", r#"{"name":"k","scopes":["hooks:read"]}"#),
        ("/v1/source-keys", r#"{"name":"k","event_types":["*"]}"#),
        ("/webhooks/integrationKeys/zapier", ""),
    ] {
        assert_eq!(client.post(path, body).await.error(), (403, "INSUFFICIENT_PERMISSIONS".to_owned()));
    }
}

#[tokio::test]
async fn a_person_makes_keys_on_a_page_of_ours_only() {
    let system = System::start().await;
    let session = Session::of(&system, system.tenant, Role::Admin).await;
    let request =
        || system.anonymous().request("POST", "/v1/keys").json(r#"{"name":"mine","scopes":["hooks:read"]}"#);
    let made = session.sign(request()).send().await.expect(201);
    let refused = session.sign_without_token(request()).send().await;
    assert_eq!(refused.error(), (403, "CSRF_TOKEN_INVALID".to_owned()));
    assert!(refused.header("x-ratelimit-limit").is_some(), "{refused:?}");
    let crossed = session.sign(request().header("sec-fetch-site", "cross-site")).send().await;
    assert_eq!(crossed.error(), (403, "CROSS_SITE_REQUEST".to_owned()));
    assert!(made["key"].is_string());
    let by_person = "SELECT count(*) AS n FROM credentials c JOIN memberships m ON m.user_id = c.created_by \
         WHERE c.name = 'mine' AND m.role = 2";
    assert_eq!(count(&system, by_person).await, 1);
}
