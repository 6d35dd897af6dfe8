//! `hookyard keys` and `hookyard source-keys` beside a gateway that runs.

use hookyard_domain::credential::Scope;
use hookyard_tests::{
    processes::{Environment, environment, operate, run},
    system::{System, unlimited},
};
use serde_json::Value;

use super::{EVENT, audited, text};

fn at(system: &System) -> Environment {
    environment("", &[("DATABASE_URL", &system.database.url())])
}

/// Whether a command succeeds, and what it says.
fn told(arguments: &[&str], environment: &Environment) -> (bool, String) {
    let output = run(arguments, environment);
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_makes_shows_changes_and_ends_keys() {
    let system = System::start().await;
    let (environment, tenant) = (at(&system), system.tenant.to_string());
    let create = ["keys", "create", "--tenant", &tenant, "--name", "crm", "--json"];
    let made = operate(&[&create[..], &["--scopes", "admin", "--rate-limit", "2"]].concat(), &environment);
    let (key, id) = (text(&made["key"]), text(&made["key_id"]));
    let shown = operate(&["keys", "show", &id], &environment);
    assert_eq!((&shown["name"], &shown["rate_limit"]), (&Value::from("crm"), &Value::from(2)));
    assert!(!shown.to_string().contains(&key));
    let client = system.anonymous().with_key(&key);
    for status in [200, 200, 429] {
        assert_eq!(client.get("/v1/events").await.status, status);
    }
    let changed = operate(
        &["keys", "update", &id, "--rate-limit", "0", "--hook-write-burst", "default", "--name", "shop"],
        &environment,
    );
    assert_eq!((&changed["name"], &changed["rate_limit"]), (&Value::from("shop"), &Value::from(0)));
    assert_eq!(client.get("/v1/events").await.status, 200, "at once");
    for (arguments, said) in [
        (&["keys", "update", &id, "--scopes", "hooks:read"][..], "last admin key"),
        (&["keys", "update", &id, "--rate-limit=-1"], "whole number"),
        (&["keys", "update", &id, "--expires-at", "2020-01-01T00:00:00Z"], "in the past"),
        (&["keys", "revoke", &id], "last admin key"),
        (&["keys", "show", "key_00000000000000000000000000"], "not found"),
    ] {
        let (success, text) = told(arguments, &environment);
        assert!(!success && text.contains(said), "{arguments:?}: {text}");
    }
    let (success, text) = told(&["keys", "revoke", &id, "--force"], &environment);
    assert!(success, "{text}");
    assert_eq!(client.get("/v1/events").await.status, 401, "when the command has ended");
    assert_eq!(audited(&system).await, ["key.created", "key.updated", "key.revoked"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_rotates_the_integration_key() {
    let system = System::start().await;
    let (environment, tenant) = (at(&system), system.tenant.to_string());
    let rotate = ["keys", "rotate-integration", "--tenant", &tenant, "--json"];
    let first = operate(&rotate, &environment);
    assert_eq!(text(&first["client_id"]), system.tenant.uuid().to_string());
    let client = system.anonymous().with_key(&text(&first["key"]));
    assert_eq!(client.get("/v1/hooks").await.status, 200);
    let second = operate(&rotate, &environment);
    assert_eq!(client.get("/v1/hooks").await.status, 401, "when the command has ended");
    let client = system.anonymous().with_key(&text(&second["key"]));
    assert_eq!(client.get("/v1/hooks").await.status, 200);
    let (success, said) = told(&["keys", "list", "--tenant", &tenant], &environment);
    assert!(success && said.is_empty(), "it is no API key: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_makes_and_ends_source_keys() {
    let system = System::start().await;
    let (environment, tenant) = (at(&system), system.tenant.to_string());
    let create = ["source-keys", "create", "--tenant", &tenant, "--name", "shop", "--json", "--event-types"];
    let made = operate(&[&create[..], &["order.*,invoice.sent"]].concat(), &environment);
    let client = system.anonymous().with_key(&text(&made["key"]));
    assert_eq!(client.post("/events", EVENT).await.status, 202);
    assert_eq!(client.post("/events", EVENT.replace("order", "x")).await.error().1, "EVENT_TYPE_NOT_ALLOWED");
    let (success, said) = told(&["source-keys", "list", "--tenant", &tenant, "--json"], &environment);
    assert!(success && said.contains("order.*") && !said.contains(&text(&made["key"])), "{said}");
    let many = vec!["a.b"; 51].join(",");
    let (success, said) = told(&[&create[..], &[&many]].concat(), &environment);
    assert!(!success && said.contains("at most 50"), "{said}");
    let (success, said) = told(&["source-keys", "revoke", &text(&made["key_id"])], &environment);
    assert!(success, "{said}");
    assert_eq!(client.post("/events", EVENT).await.status, 401);
    // Somebody else's keys are not touched by it.
    let other = system.key_of(system.tenant, &[Scope::EventsWrite], unlimited()).await.1;
    assert_eq!(system.anonymous().with_key(&other).post("/events", EVENT).await.status, 202);
}
