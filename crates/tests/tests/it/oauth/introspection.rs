//! What is told about tokens, and to whom; service tokens of our own processes.

use chrono::TimeDelta;
use hookyard_domain::{
    credential::Scope,
    person::Role,
    service_token::{self, MAX_LIFE, ServiceName, ServiceTokenError},
    vault::{MasterKey, Vault},
};
use hookyard_tests::{http::Reply, secrets::vault, tools};
use serde_json::{Value, json};

use super::stage::{App, Stage, form, refused, text};

async fn as_service(stage: &Stage, service_token: &str, token: &str) -> Reply {
    let request = stage.http().with_key(service_token).request("POST", "/oauth/introspect");
    request
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form(&[("token", token)]))
        .send()
        .await
}

async fn as_client(stage: &Stage, app: &App, token: &str) -> Reply {
    let id = app.id.to_string();
    let mut members = vec![("client_id", id.as_str()), ("token", token)];
    members.extend(app.secret.as_deref().map(|secret| ("client_secret", secret)));
    stage.post("/oauth/introspect", &members).await
}

fn inactive() -> Value {
    json!({"active": false})
}

#[tokio::test]
async fn a_service_is_told_about_every_credential_and_a_client_about_its_own() {
    let stage = Stage::open().await;
    let (person, app, other) = (stage.person(Role::Admin).await, stage.app().await, stage.app().await);
    let tokens = stage.tokens(&person, &app).await;
    let (access, refresh) = (text(&tokens, "access_token"), text(&tokens, "refresh_token"));
    let now = stage.system.clock.now();
    let service = service_token::issue(&vault(), &"delivery".parse().unwrap(), now, MAX_LIFE);
    let told = as_service(&stage, &service, access).await.expect(200);
    let expected = json!({
        "active": true, "scope": "hooks:read hooks:write", "client_id": app.id.to_string(),
        "username": person.email, "sub": person.id.to_string(), "tenant_id": stage.system.tenant.to_string(),
        "token_type": "Bearer", "iat": told["iat"], "exp": told["iat"].as_i64().unwrap() + 3600,
        "iss": format!("http://{}", stage.system.gateways[0].addr),
    });
    assert_eq!(told, expected);
    assert!((told["iat"].as_i64().unwrap() - now.timestamp()).abs() <= 5, "{told}");
    assert_eq!(as_client(&stage, &app, access).await.expect(200), expected);
    let told = as_service(&stage, &service, refresh).await.expect(200);
    assert_eq!((&told["active"], told.get("token_type"), told.get("exp")), (&json!(true), None, None));
    let key = stage.system.key(&[Scope::EventsRead]).await;
    let told = as_service(&stage, &service, &key).await.expect(200);
    assert_eq!((&told["scope"], told.get("client_id")), (&json!("events:read"), None));

    for (reply, why) in [
        (as_client(&stage, &other, access).await, "another client's"),
        (as_client(&stage, &app, &key).await, "a key"),
        (as_client(&stage, &app, "at_nothing").await, "unknown"),
        (as_service(&stage, &service, "").await, "empty"),
    ] {
        if why == "empty" {
            assert_eq!(refused(&reply), (400, "invalid_request".to_owned()));
        } else {
            assert_eq!(reply.expect(200), inactive(), "{why}");
        }
    }
    stage.system.clock.advance(TimeDelta::seconds(3_600));
    assert_eq!(as_client(&stage, &app, access).await.expect(200), inactive(), "expired");
    stage.refresh(&app, refresh).await.expect(200);
    stage.system.clock.advance(TimeDelta::seconds(61));
    assert_eq!(as_client(&stage, &app, refresh).await.expect(200), inactive(), "used");
}

#[tokio::test]
async fn nobody_else_is_told_anything() {
    let stage = Stage::open().await;
    let (person, app) = (stage.person(Role::Admin).await, stage.app().await);
    let public = stage.app_with(None, true, &["https://spa.example/"], &[Scope::HooksRead]).await;
    let tokens = stage.tokens(&person, &app).await;
    let access = text(&tokens, "access_token");
    let now = stage.system.clock.now();
    let service: ServiceName = "delivery".parse().unwrap();
    let other = Vault::new(MasterKey::from_bytes([8; 32]), Vec::new());
    for token in [
        service_token::issue(&other, &service, now, MAX_LIFE),
        service_token::issue(&vault(), &service, now - TimeDelta::seconds(301), MAX_LIFE),
        stage.system.key(&[Scope::Admin]).await,
        access.to_owned(),
    ] {
        assert_eq!(
            refused(&as_service(&stage, &token, access).await),
            (401, "invalid_client".to_owned()),
            "{token}"
        );
    }
    assert_eq!(refused(&as_client(&stage, &public, access).await), (400, "invalid_client".to_owned()));
    let mut wrong = app.clone();
    wrong.secret = Some("cs_wrong".to_owned());
    assert_eq!(refused(&as_client(&stage, &wrong, access).await), (400, "invalid_client".to_owned()));
    assert_eq!(
        refused(&stage.post("/oauth/introspect", &[("token", access)]).await),
        (400, "invalid_request".to_owned())
    );
}

#[test]
fn pyjwt_reads_service_tokens_and_makes_them() {
    let now = hookyard_domain::clock::Clock::system().now();
    let token = service_token::issue(&vault(), &"registry".parse().unwrap(), now, MAX_LIFE);
    let key: String = vault().derive("service token").iter().map(|byte| format!("{byte:02x}")).collect();
    let mut python = tools::python();
    python.arg(tools::fixture("oauth/service_token.py"));
    let told: Value =
        serde_json::from_str(&tools::run(python, &json!({"token": token, "key": key}).to_string())).unwrap();
    let iat = now.timestamp();
    assert_eq!(told["claims"], json!({"iss": "registry", "aud": "hookyard", "iat": iat, "exp": iat + 300}));
    assert_eq!(told["header"], json!({"alg": "HS256", "typ": "JWT"}));
    let verify = |name: &str| service_token::verify(&vault(), told["made"][name].as_str().unwrap(), now);
    assert_eq!(verify("good"), Ok("python".parse().unwrap()));
    assert_eq!(verify("long"), Err(ServiceTokenError::Time));
    assert_eq!(verify("other"), Err(ServiceTokenError::Malformed));
    assert_eq!(verify("none"), Err(ServiceTokenError::Malformed));
    assert_eq!(verify("hs512"), Err(ServiceTokenError::Malformed));
}
