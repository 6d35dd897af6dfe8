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
