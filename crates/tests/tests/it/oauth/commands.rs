//! The operator's commands: apps for everybody, and tokens of services.

use hookyard_domain::{clock::Clock, service_token};
use hookyard_tests::{
    database::Database,
    processes::{Environment, environment, new_tenant, operate, run},
    secrets::{MASTER_KEY, vault},
};
use serde_json::{Value, json};

use super::stage::{ZAPIER, text};

fn on(database: &Database) -> Environment {
    let url = database.url();
    environment(
        "http://127.0.0.1:9/",
        &[
            ("DATABASE_URL", url.as_str()),
            ("AMQP_URL", "amqp://guest:guest@127.0.0.1:1/%2f"),
            ("HOOKYARD__SECRETS__MASTER_KEY", MASTER_KEY),
        ],
    )
}

fn said(arguments: &[&str], environment: &Environment) -> (bool, String) {
    let output = run(arguments, environment);
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_makes_apps_lists_them_changes_their_secrets_and_ends_them() {
    let database = Database::create().await;
    let environment = on(&database);
    let (tenant, _) = new_tenant("Acme", &environment);
    let create = |more: &[&str]| {
        let fixed = ["oauth", "clients", "create", "--json", "--name", "Zapier", "--redirect-uri"];
        operate(&[&fixed[..], more].concat(), &environment)
    };
    let made = create(&[ZAPIER, "--scopes", "hooks:read,events:read"]);
    assert!(text(&made, "client_secret").starts_with("cs_"), "{made}");
    assert_eq!(made["scopes"], json!(["hooks:read", "events:read"]));
    assert!(made["tenant_id"].is_null());
    let own = create(&["com.example.app:/cb", "--public", "--tenant", &tenant]);
    assert!(own["client_secret"].is_null() && own["public"] == true && own["tenant_id"] == tenant, "{own}");
    let id = text(&made, "client_id");

    let list = |more: &[&str]| -> Vec<Value> {
        let (good, printed) = said(&[&["oauth", "clients", "list", "--json"], more].concat(), &environment);
        assert!(good, "{printed}");
        printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    assert_eq!(list(&[]).len(), 2);
    assert_eq!(list(&["--tenant", &tenant])[0]["client_id"], own["client_id"]);
    let rotated = operate(&["oauth", "clients", "rotate-secret", id, "--json"], &environment);
    assert_ne!(rotated["client_secret"], made["client_secret"]);
    assert!(
        !said(&["oauth", "clients", "rotate-secret", text(&own, "client_id")], &environment).0,
        "it has none"
    );
    assert_eq!(said(&["oauth", "clients", "revoke", id], &environment), (true, format!("revoked {id}\n")));
    assert!(list(&[])[0]["revoked_at"].is_string());

    for (arguments, blamed) in [
        (
            &["oauth", "clients", "create", "--name", "x", "--redirect-uri", "http://a.example/"][..],
            "--redirect-uri",
        ),
        (&["oauth", "clients", "create", "--name", "", "--redirect-uri", ZAPIER], "--name"),
        (&["oauth", "clients", "create", "--name", "x"], "--redirect-uri"),
        (&["oauth", "clients", "revoke", "oac_01hzy3v9k2s8d4f6g8h0j2k4m6"], "not found"),
    ] {
        let (good, told) = said(arguments, &environment);
        assert!(!good && told.contains(blamed), "{arguments:?}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_token_is_printed_for_minutes() {
    let database = Database::create().await;
    let environment = on(&database);
    let (good, token) = said(&["service-token", "--service", "delivery"], &environment);
    assert!(good, "{token}");
    let now = Clock::system().now();
    assert_eq!(service_token::verify(&vault(), token.trim(), now), Ok("delivery".parse().unwrap()));
    for (seconds, taken) in [("300", true), ("1", true), ("301", false), ("0", false)] {
        let (good, _) = said(&["service-token", "--service", "delivery", "--seconds", seconds], &environment);
        assert_eq!(good, taken, "{seconds}");
    }
    assert!(!said(&["service-token", "--service", "No Service"], &environment).0);
}
