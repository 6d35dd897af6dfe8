//! Zapier's own platform code as an OAuth client: the connection of the app in `fixtures/zapier-oauth-app`, as Zapier makes
//! and keeps it.

use chrono::TimeDelta;
use hookyard_domain::person::Role;
use hookyard_tests::tools;
use serde_json::{Value, json};

use super::stage::{App, Stage, answered, text};

async fn zapier(stage: &Stage, app: &App, step: &str, bundle: Value) -> Value {
    let env = json!({
        "BASE_URL": format!("http://{}", stage.system.gateways[0].addr),
        "CLIENT_ID": app.id.to_string(), "CLIENT_SECRET": app.secret,
    });
    let input = json!({"step": step, "env": env, "bundle": bundle}).to_string();
    let mut node = tools::node("zapier-platform-core");
    node.arg(tools::fixture("zapier-oauth-app/run.js"));
    let printed = tokio::task::spawn_blocking(move || tools::run(node, &input)).await.unwrap();
    // The platform may log before the outcome.
    let outcome = printed.lines().last().unwrap_or_default();
    serde_json::from_str(outcome).unwrap_or_else(|error| panic!("{error}: {printed}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_made_refreshed_when_it_is_refused_and_shared_by_twenty_zaps() {
    let stage = Stage::open().await;
    let (person, app) = (stage.person(Role::Admin).await, stage.app().await);
    let state = "eyJ0IjoiMTIzIn0=:1tXyZ:a+b/c==";
    let input = json!({"state": state, "redirect_uri": app.redirect});
    let url = zapier(&stage, &app, "authorizeUrl", json!({"inputData": input})).await;
    let query = text(&url, "result").split_once("/oauth/authorize?").unwrap().1.to_owned();
    let back = stage.press(&person, &query, "allow").await;
    assert!(back.header("location").unwrap().starts_with(&app.redirect), "{back:?}");
    assert_eq!(answered(&back, "state").as_deref(), Some(state), "{back:?}");

    let input = json!({"code": answered(&back, "code"), "redirect_uri": app.redirect, "state": state});
    let connected = zapier(&stage, &app, "getAccessToken", json!({"inputData": input})).await;
    let mut connection = connected["result"].clone();
    assert!(connection["access_token"].is_string() && connection["refresh_token"].is_string(), "{connected}");
    let tested = zapier(&stage, &app, "test", json!({"authData": connection})).await;
    assert!(tested["result"]["data"].is_array(), "{tested}");

    // Zapier refreshes when it is told 401, and only then.
    stage.system.clock.advance(TimeDelta::seconds(3_601));
    let expired = zapier(&stage, &app, "test", json!({"authData": connection})).await;
    assert_eq!(expired["error"]["name"], "RefreshAuthError", "{expired}");
    let bundle = json!({"authData": connection, "times": 20});
    let refreshed = zapier(&stage, &app, "refreshAccessToken", bundle).await;
    let pairs = refreshed.as_array().unwrap();
    assert_eq!(pairs.len(), 20);
    for pair in pairs {
        let access = pair["result"]["access_token"].as_str().unwrap_or_else(|| panic!("{pair}"));
        assert_eq!(stage.opens(access).await, [200]);
    }
    // Zapier keeps whichever came last.
    connection = pairs[7]["result"].clone();
    stage.system.clock.advance(TimeDelta::seconds(3_601));
    let again = zapier(&stage, &app, "refreshAccessToken", json!({"authData": connection})).await;
    let tested = zapier(&stage, &app, "test", json!({"authData": again["result"]})).await;
    assert!(tested["result"]["data"].is_array(), "{tested}");
}
