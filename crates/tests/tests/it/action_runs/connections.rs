//! Connections: tried when they are saved, sealed, shown to their origin alone, with access tokens that are kept.

use hookyard_tests::receiver::{Answer, Receiver};
use serde_json::{Value, json};

use super::Stage;

/// A run of a GET there with this connection.
async fn get(stage: &Stage, url: &str, connection: &Value) -> Value {
    let body = json!({"action": "http.request", "authentication": connection, "input": {"url": url}});
    let id = stage.run(&body).await;
    stage.ended(&id).await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_is_tried_kept_and_shown_to_its_origin_alone() {
    let stage = Stage::new().await;
    let elsewhere = Receiver::start().await;
    let url = stage.receiver.url("/me");
    for (more, name, value) in [
        (json!({"type": "bearer", "token": "secret-1"}), "authorization", "Bearer secret-1"),
        (
            json!({"type": "basic", "username": "Aladdin", "password": "open sesame"}),
            "authorization",
            "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
        ),
        (json!({"type": "header", "header": "X-Shop-Key", "value": "secret-3"}), "x-shop-key", "secret-3"),
    ] {
        let mut body = json!({"name": "Shop", "url": url});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let tried = stage.receiver.count("/me");
        let made = stage.client.post_json("/v2/authentications", &body).await.expect(201);
        let got = stage.receiver.at("/me").remove(tried);
        assert_eq!((got.method.as_str(), got.header(name)), ("GET", value), "tried");
        let id = &made["data"]["id"];
        let shown =
            stage.client.get(&format!("/v2/authentications/{}", id.as_str().unwrap())).await.expect(200);
        assert_eq!(shown, made);
        assert!(!shown.to_string().contains("secret") && !shown.to_string().contains("sesame"));
        let run = get(&stage, &stage.receiver.url("/data"), id).await;
        assert_eq!(run["status"], "success", "{run}");
        assert_eq!(stage.receiver.at("/data").pop().unwrap().header(name), value);
        let run = get(&stage, &elsewhere.url("/stolen"), id).await;
        assert_eq!(
            (&run["errors"][0]["code"], &run["errors"][0]["title"]),
            (&json!("user"), &json!("Another origin"))
        );
    }
    assert_eq!(elsewhere.count("/stolen"), 0);
    let listed = stage.client.get("/v2/authentications").await.expect(200);
    assert_eq!(listed["data"].as_array().unwrap().len(), 3);
    let audit = stage.system.audited(Some(stage.system.tenant)).await;
    assert_eq!(audit, ["connection.created"; 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_are_not_taken_are_not_kept() {
    let stage = Stage::new().await;
    stage.receiver.answer("/me", Answer::status(401));
    let body = json!({"name": "Shop", "url": stage.receiver.url("/me"), "type": "bearer", "token": "wrong"});
    let told = stage.client.post_json("/v2/authentications", &body).await.expect(400);
    assert_eq!(
        (&told["errors"][0]["code"], &told["errors"][0]["source"]["pointer"]),
        (&json!("INVALID_AUTHENTICATION"), &json!("/url"))
    );
    let lacking = stage.client.post_json("/v2/authentications", &json!({"name": "Shop"})).await.expect(400);
    assert_eq!(lacking["errors"][0]["source"]["pointer"], "/url");
    assert_eq!(stage.client.get("/v2/authentications").await.expect(200)["data"], json!([]));
    let unknown = json!({"action": "http.request", "authentication": "auth_01hzy3v9k2s8d4f6g8h0j2k4m6", "input": {"url": "https://example.com/"}});
    let told = stage.client.post_json("/v2/action-runs", &unknown).await.expect(400);
    assert_eq!(told["errors"][0]["source"]["pointer"], "/authentication");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_access_token_is_fetched_kept_and_fetched_again() {
    let stage = Stage::new().await;
    let token = |text: &str| {
        let mut answer = Answer::status(200);
        answer.body = json!({"access_token": text, "token_type": "Bearer", "expires_in": 3600}).to_string();
        answer
    };
    stage.receiver.script("/token", [token("first"), token("second"), token("third")]);
    let body = json!({
        "name": "Shop", "type": "oauth2", "url": stage.receiver.url("/me"), "token_url": stage.receiver.url("/token"),
        "client_id": "the client", "client_secret": "its secret", "scope": "read",
    });
    let made = stage.client.post_json("/v2/authentications", &body).await.expect(201);
    let asked = stage.receiver.at("/token").remove(0);
    assert_eq!(asked.header("authorization"), "Basic dGhlK2NsaWVudDppdHMrc2VjcmV0");
    assert_eq!(asked.body, b"grant_type=client_credentials&scope=read");
    let (id, data) = (&made["data"]["id"], stage.receiver.url("/data"));
    let shown = || stage.receiver.at("/data").pop().unwrap().header("authorization").to_owned();
    for _ in 0..2 {
        assert_eq!(get(&stage, &data, id).await["status"], "success");
        assert_eq!(shown(), "Bearer first");
    }
    stage.system.clock.advance(chrono::TimeDelta::seconds(3_600));
    assert_eq!(get(&stage, &data, id).await["status"], "success");
    assert_eq!((shown().as_str(), stage.receiver.count("/token")), ("Bearer second", 2));
    stage.receiver.script("/data", [Answer::status(401)]);
    assert_eq!(get(&stage, &data, id).await["errors"][0]["code"], "authentication");
    assert_eq!(get(&stage, &data, id).await["status"], "success");
    assert_eq!((shown().as_str(), stage.receiver.count("/token")), ("Bearer third", 3));
}

/// The header that the last request to this path had.
fn shown(stage: &Stage, path: &str) -> String {
    stage.receiver.at(path).pop().unwrap().header("authorization").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_changed_when_it_is_let_in_and_stays_as_it_is_when_not() {
    let stage = Stage::new().await;
    let (client, elsewhere) = (&stage.client, Receiver::start().await);
    let body = json!({"name": "Shop", "url": stage.receiver.url("me"), "type": "bearer", "token": "first"});
    let made = client.post_json("/v2/authentications", &body).await.expect(201)["data"].clone();
    let path = format!("/v2/authentications/{}", made["id"].as_str().unwrap());
    let change = async |body: Value| client.request("PATCH", &path).json(body.to_string()).send().await;
    assert_eq!(made["tested_at"], made["created_at"]);

    let renamed = change(json!({"name": "Store"})).await.expect(200)["data"].clone();
    assert_eq!((&renamed["name"], &renamed["tested_at"]), (&json!("Store"), &made["tested_at"]));
    assert_eq!(stage.receiver.count("me"), 1, "a name needs no trial");

    let rotated = change(json!({"token": "second"})).await.expect(200)["data"].clone();
    assert_eq!((shown(&stage, "me").as_str(), &rotated["name"]), ("Bearer second", &json!("Store")));
    assert_ne!(rotated["tested_at"], made["tested_at"]);
    assert_eq!(get(&stage, &stage.receiver.url("data"), &made["id"]).await["status"], "success");
    assert_eq!(shown(&stage, "data"), "Bearer second");

    // Not let in: nothing changes.
    stage.receiver.script("me", [Answer::status(403)]);
    let told = change(json!({"token": "wrong", "name": "Wrong"})).await.expect(400);
    assert_eq!(
        (&told["errors"][0]["code"], &told["errors"][0]["source"]["pointer"]),
        (&json!("INVALID_AUTHENTICATION"), &json!("/url"))
    );
    assert_eq!(client.get(&path).await.expect(200)["data"], rotated);
    get(&stage, &stage.receiver.url("data"), &made["id"]).await;
    assert_eq!(shown(&stage, "data"), "Bearer second");

    // Moving it home does not read it.
    let told = change(json!({"url": elsewhere.url("home")})).await.expect(400);
    assert_eq!(told["errors"][0]["source"]["pointer"], "/token", "{told}");
    assert_eq!(elsewhere.count("home"), 0);
    let moved = change(json!({"url": elsewhere.url("home"), "token": "third"})).await.expect(200);
    assert_eq!(moved["data"]["origin"], elsewhere.prefix().trim_end_matches('/'));
    assert_eq!(elsewhere.at("home").remove(0).header("authorization"), "Bearer third");
    let run = get(&stage, &stage.receiver.url("data"), &made["id"]).await;
    assert_eq!(run["errors"][0]["title"], "Another origin", "{run}");

    let told = change(json!({"type": "basic", "username": "a"})).await.expect(400);
    assert_eq!(told["errors"][0]["source"]["pointer"], "/password");
    let other = json!({"type": "basic", "username": "a", "password": "b"});
    assert_eq!(change(other).await.expect(200)["data"]["scheme"], "basic");
    for (chars, status) in [(100, 200), (101, 400)] {
        assert_eq!(change(json!({"name": "é".repeat(chars)})).await.status, status, "{chars}");
    }
    assert_eq!(change(json!([1])).await.status, 400);
    client.delete(&path).await.expect(200);
    assert_eq!(change(json!({"name": "x"})).await.status, 404);
    let audit = stage.system.audited(Some(stage.system.tenant)).await;
    let mut expected = vec!["connection.created"];
    expected.extend(["connection.changed"; 5]);
    expected.push("connection.deleted");
    assert_eq!(audit, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_changes_a_connection_does_not_overwrite_what_somebody_else_has_changed_meanwhile() {
    let stage = Stage::new().await;
    let client = &stage.client;
    let body = json!({"name": "Shop", "url": stage.receiver.url("me"), "type": "bearer", "token": "first"});
    let made = client.post_json("/v2/authentications", &body).await.expect(201)["data"].clone();
    let path = format!("/v2/authentications/{}", made["id"].as_str().unwrap());
    stage.receiver.hold("me");
    let slow = tokio::spawn({
        let request = client.request("PATCH", &path).json(json!({"token": "slow"}).to_string());
        request.send()
    });
    stage.receiver.wait_for("me", 2, std::time::Duration::from_secs(20)).await;
    let quick = client.request("PATCH", &path).json(json!({"name": "Quick"}).to_string()).send().await;
    quick.expect(200);
    stage.receiver.release("me");
    let refused = slow.await.unwrap().expect(409);
    assert_eq!(refused["errors"][0]["code"], "CONFLICT", "{refused}");
    assert_eq!(client.get(&path).await.expect(200)["data"]["name"], "Quick");
    get(&stage, &stage.receiver.url("data"), &made["id"]).await;
    assert_eq!(shown(&stage, "data"), "Bearer first");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_tested_again_and_says_how_it_went() {
    let stage = Stage::new().await;
    let client = &stage.client;
    let token = |text: &str| {
        let mut answer = Answer::status(200);
        answer.body = json!({"access_token": text, "token_type": "Bearer", "expires_in": 3600}).to_string();
        answer
    };
    stage.receiver.script("token", [token("first"), token("second"), Answer::status(401)]);
    let body = json!({
        "name": "Shop", "type": "oauth2", "url": stage.receiver.url("me"), "token_url": stage.receiver.url("token"),
        "client_id": "c", "client_secret": "s",
    });
    let made = client.post_json("/v2/authentications", &body).await.expect(201)["data"].clone();
    let id = made["id"].as_str().unwrap();
    let path = format!("/v2/authentications/{id}");
    let test = async || client.post(&format!("{path}/test"), "").await.expect(200)["data"].clone();

    assert_eq!(
        test().await,
        json!({"type": "authentication_test", "id": id, "success": true, "detail": null})
    );
    assert_eq!(shown(&stage, "me"), "Bearer second");
    let after = client.get(&path).await.expect(200)["data"].clone();
    assert_ne!(after["tested_at"], made["tested_at"]);
    assert_eq!(after["updated_at"], made["updated_at"]);
    // The access token that it fetched is used.
    get(&stage, &stage.receiver.url("data"), &made["id"]).await;
    assert_eq!((shown(&stage, "data").as_str(), stage.receiver.count("token")), ("Bearer second", 2));

    let refused = test().await;
    assert_eq!(refused["success"], false);
    assert_eq!(refused["detail"], "client_secret is not taken: the token endpoint answered 401");
    stage.receiver.answer("me", Answer::status(401));
    stage.receiver.script("token", [token("third")]);
    assert_eq!(test().await["detail"], "url does not let these credentials in: it answered 401");
    assert_eq!(client.get(&path).await.expect(200)["data"], after, "a failed test changes nothing");
    assert_eq!(client.post("/v2/authentications/auth_01hzy3v9k2s8d4f6g8h0j2k4m6/test", "").await.status, 404);
    let audit = stage.system.audited(Some(stage.system.tenant)).await;
    assert_eq!(audit, ["connection.created", "connection.tested", "connection.tested", "connection.tested"]);
}
