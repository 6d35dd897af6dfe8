//! Client libraries that Hookyard has nothing to do with: `oauth4webapi` in node, Authlib in Python. Each begins, a person
//! allows it, and each goes on to refresh, use and give back its tokens.

use std::process::Command;

use hookyard_domain::{credential::Scope, person::Role};
use hookyard_tests::tools;
use serde_json::{Value, json};

use super::stage::{App, Person, Stage, ZAPIER};

async fn run(mut command: Command, script: &str, input: Value) -> Value {
    command.arg(tools::fixture(script));
    let printed = tokio::task::spawn_blocking(move || tools::run(command, &input.to_string())).await.unwrap();
    serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}: {printed}"))
}

/// Begins with the library, lets the person allow it, and ends with the library.
async fn connect(
    stage: &Stage,
    person: &Person,
    app: &App,
    authentication: &str,
    library: fn() -> Command,
    script: &str,
) -> Value {
    let issuer = format!("http://{}", stage.system.gateways[0].addr);
    let mut input = json!({
        "step": "begin", "issuer": issuer, "client_id": app.id.to_string(), "secret": app.secret,
        "authentication": authentication, "redirect_uri": app.redirect, "scope": "hooks:read hooks:write",
    });
    let begun = run(library(), script, input.clone()).await;
    let url = begun["url"].as_str().unwrap_or_else(|| panic!("{begun}"));
    let query = url.strip_prefix(&format!("{issuer}/oauth/authorize?")).unwrap_or_else(|| panic!("{url}"));
    let mut answer = stage.ask(Some(person), query).await;
    if answer.status == 200 {
        answer = stage.send_form(person, query, &super::stage::csrf(&answer), "allow").await;
    }
    input["step"] = json!("finish");
    input["callback"] = json!(answer.header("location").unwrap_or_else(|| panic!("{answer:?}")));
    input["verifier"] = begun["verifier"].clone();
    input["state"] = begun["state"].clone();
    let outcome = run(library(), script, input).await;
    assert!(outcome.get("failed").is_none(), "{authentication}: {outcome}");
    assert_ne!(outcome["tokens"]["refresh_token"], outcome["next"]["refresh_token"], "{outcome}");
    assert_eq!((&outcome["used"], &outcome["error"]), (&json!(200), &json!("invalid_grant")), "{outcome}");
    outcome
}

#[tokio::test(flavor = "multi_thread")]
async fn oauth4webapi_connects_in_every_way() {
    let stage = Stage::open().await;
    let person = stage.person(Role::Admin).await;
    let (app, scopes) = (stage.app().await, [Scope::HooksRead, Scope::HooksWrite]);
    let public = stage.app_with(None, true, &["http://127.0.0.1/callback"], &scopes).await;
    for (app, authentication) in [(&app, "post"), (&app, "basic"), (&public, "none")] {
        let library = || tools::node("oauth4webapi");
        let outcome = connect(&stage, &person, app, authentication, library, "oauth/oauth4webapi.js").await;
        assert_eq!(outcome["after"], json!(401), "given back is not taken: {outcome}");
        let active = if authentication == "none" { Value::Null } else { json!(true) };
        assert_eq!(outcome["introspected"]["active"], active, "{outcome}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn authlib_connects_in_every_way() {
    let stage = Stage::open().await;
    let person = stage.person(Role::Admin).await;
    let scopes = [Scope::HooksRead, Scope::HooksWrite];
    let app = stage.app_with(None, false, &[ZAPIER], &scopes).await;
    let public = stage.app_with(None, true, &["http://localhost/callback"], &scopes).await;
    for (app, authentication) in [(&app, "post"), (&app, "basic"), (&public, "none")] {
        let outcome =
            connect(&stage, &person, app, authentication, tools::python, "oauth/authlib_client.py").await;
        assert_eq!(outcome["revoked"], json!(200), "{outcome}");
    }
}
