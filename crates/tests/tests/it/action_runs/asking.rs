//! What can be asked for, in both shapes; what is refused, with pointers; lists and limits.

use std::collections::BTreeSet;

use hookyard_domain::credential::{Limits, Scope};
use hookyard_tests::system::{Options, System};
use serde_json::{Value, json};

use super::emit;

#[tokio::test(flavor = "multi_thread")]
async fn both_shapes_make_a_run_with_and_without_a_slash() {
    let system = System::start().await;
    let client = system.client().await;
    let plain = json!({"action": "event.emit", "authentication": null, "input": emit()});
    let wrapped = json!({"data": {"action": "event.emit", "authentication": null, "inputs": emit()}});
    let mut ids = BTreeSet::new();
    for path in ["/v2/action-runs", "/v2/action-runs/"] {
        for body in [&plain, &wrapped] {
            let made = client.post_json(path, body).await.expect(200);
            let id = made["data"]["id"].as_str().unwrap().to_owned();
            assert_eq!(made, json!({"data": {"type": "run", "id": id}}));
            assert!(id.starts_with("arun_"));
            let shown = client.get(&format!("{path}/{id}").replace("//", "/")).await.expect(200);
            let slashed = client.get(&format!("/v2/action-runs/{id}/")).await.expect(200);
            assert_eq!(shown, slashed);
            let data = &shown["data"];
            assert_eq!(
                (&data["id"], &data["run_id"], &data["status"]),
                (&json!(id), &json!(id), &json!("queued"))
            );
            assert_eq!(
                (&data["results"], &data["errors"], &data["callback"]),
                (&json!([]), &json!([]), &Value::Null)
            );
            ids.insert(id);
        }
    }
    assert_eq!(ids.len(), 4);
    let page = client.get("/v2/action-runs?limit=3&status=queued").await.expect(200);
    assert_eq!(page["meta"], json!({"count": 4, "limit": 3, "offset": 0}));
    assert_eq!(page["links"]["prev"], Value::Null);
    let next = page["links"]["next"].as_str().unwrap();
    let next = client.get(&next[next.find("/v2").unwrap()..]).await.expect(200);
    assert_eq!(next["links"]["next"], Value::Null);
    assert!(next["links"]["prev"].as_str().unwrap().ends_with("limit=3&offset=0&status=queued"));
    let listed: BTreeSet<String> = [&page, &next]
        .iter()
        .flat_map(|page| page["data"].as_array().unwrap())
        .map(|run| run["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(listed, ids);
    assert_eq!(client.get("/v2/action-runs?status=success").await.expect(200)["meta"]["count"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_request_makes_one_run() {
    let system = System::start().await;
    let client = system.client().await;
    let body = json!({"action": "event.emit", "input": emit()}).to_string();
    let asked = async || {
        client.request("POST", "/v2/action-runs").header("idempotency-key", "k").json(&body).send().await
    };
    let (first, second) = (asked().await, asked().await);
    assert_eq!(first.expect(200), second.expect(200));
    assert_eq!(second.header("idempotent-replayed"), Some("true"));
    assert_eq!(client.get("/v2/action-runs").await.expect(200)["meta"]["count"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn callback_urls_are_https_and_public_and_not_too_long() {
    // As in production: nothing is opened.
    let egress = hookyard_egress::Settings::default();
    let options = Options { egress, extra_url_prefixes: Vec::new(), ..Options::default() };
    let system = System::with(options).await;
    let client = system.client().await;
    let long = |bytes: usize| format!("https://example.com/{}", "a".repeat(bytes - 20));
    for (url, good) in [
        ("https://your-app.example.com/zapier/callbacks".to_owned(), true),
        ("https://8.8.8.8/in".to_owned(), true),
        (long(2048), true),
        (long(2049), false),
        ("http://your-app.example.com/in".to_owned(), false),
        ("ftp://example.com/".to_owned(), false),
        ("https://10.0.0.1/in".to_owned(), false),
        ("https://172.16.0.1/in".to_owned(), false),
        ("https://172.31.255.255/in".to_owned(), false),
        ("https://192.168.1.1/in".to_owned(), false),
        ("https://127.0.0.1/in".to_owned(), false),
        ("https://169.254.169.254/latest".to_owned(), false),
        ("https://[::1]/in".to_owned(), false),
        ("https://[fd00::1]/in".to_owned(), false),
        ("https://localhost/in".to_owned(), false),
        ("https://user@example.com/in".to_owned(), false),
        ("not a url".to_owned(), false),
        (String::new(), false),
    ] {
        let wrapped = json!({"data": {"action": "event.emit", "inputs": emit(), "callback_url": url}});
        let reply = client.post_json("/v2/action-runs", &wrapped).await;
        if good {
            reply.expect(200);
            continue;
        }
        let told = reply.expect(400);
        let error = &told["errors"][0];
        assert_eq!(error["code"], "INVALID_CALLBACK_URL", "{url}: {told}");
        assert_eq!(
            (&error["status"], &error["source"]["pointer"]),
            (&json!("400"), &json!("/data/callback_url"))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_told_in_the_shape_of_v2() {
    let system = System::start().await;
    let client = system.client().await;
    for (body, pointer) in [
        (json!({"action": "http.request", "input": {"url": "ftp://x/"}}), "/input/url"),
        (json!({"data": {"action": "event.emit", "inputs": {"payload": {}}}}), "/data/inputs/event_type"),
        (json!({"action": "core:89sg4uhs5g85gh53hso59hs399hgs59"}), "/action"),
        (json!({"action": "email.send", "input": {"to": "a@b.c", "subject": "s", "text": "t"}}), "/input/to"),
    ] {
        let told = client.post_json("/v2/action-runs", &body).await.expect(400);
        assert_eq!(told["errors"][0]["source"]["pointer"], pointer, "{told}");
        assert_eq!(told["errors"][0]["code"], "INVALID_ACTION_RUN");
    }
    assert_eq!(client.post("/v2/action-runs", "[1").await.status, 400);
    let unknown = client.get("/v2/action-runs/arun_01hzy3v9k2s8d4f6g8h0j2k4m6").await.expect(404);
    assert_eq!(unknown["errors"][0]["code"], "NOT_FOUND");
    let actions = client.get("/v2/actions").await.expect(200);
    let keys: Vec<&str> =
        actions["data"].as_array().unwrap().iter().map(|action| action["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["email.send", "event.emit", "http.request", "task.run"]);
    assert_eq!(actions["data"][0]["available"], false, "there is no mail server");
    let one = client.get("/v2/actions/http.request").await.expect(200);
    assert_eq!(one["data"]["input_schema"]["required"], json!(["url"]));
    assert_eq!(client.get("/v2/actions/eat.cake").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_and_an_address_have_their_limits() {
    for (action_limit, action_address_limit) in [(3, 100), (100, 3)] {
        let mut options = Options::default();
        (options.gateway.gateway.action_limit, options.gateway.gateway.action_address_limit) =
            (action_limit, action_address_limit);
        let system = System::with(options).await;
        // Two keys of a tenant share its limit; an own limit of requests is no limit of these.
        let limits = Limits { requests: Some(1), ..Limits::default() };
        let one = system.key_of(system.tenant, &[Scope::AutomationRead], limits).await.1;
        let other = system.key_of(system.tenant, &[Scope::AutomationRead], Limits::default()).await.1;
        let mut statuses = Vec::new();
        for key in [&one, &other, &one, &other] {
            let reply = system.anonymous().with_key(key).get("/v2/actions").await;
            statuses.push(reply.status);
            if reply.status == 429 {
                let wait: u32 = reply.header("retry-after").unwrap().parse().unwrap();
                assert!((1..=60).contains(&wait));
                assert_eq!(reply.json()["errors"][0]["code"], "RATE_LIMITED");
            }
        }
        assert_eq!(statuses, [200, 200, 200, 429], "{action_limit} {action_address_limit}");
        let free =
            system.key_of(system.tenant, &[Scope::AutomationRead], hookyard_tests::system::unlimited());
        assert_eq!(system.anonymous().with_key(&free.await.1).get("/v2/actions").await.status, 200);
    }
}
