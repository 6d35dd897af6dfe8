//! What the operator does with commands of the real binary, and how they read the log.

use hookyard_domain::{id::TenantId, vault::MasterKey};
use hookyard_tests::{
    database::Database,
    processes::{Environment, environment, new_key, operate, run},
    secrets::{MASTER_KEY, vault},
    system::System,
};
use serde_json::{Value, json};

use super::{at, told, write};

/// `hookyard audit list --json` of a tenant, newest first.
fn listed(tenant: &str, more: &[&str], environment: &Environment) -> Vec<Value> {
    let output = run(&[&["audit", "list", "--tenant", tenant, "--json"], more].concat(), environment);
    let (good, text) = told(&output);
    assert!(good, "{text}");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_does_is_told() {
    let database = Database::create().await;
    let environment = environment("", &[("DATABASE_URL", &database.url())]);
    let made = operate(
        &["tenants", "create", "--name", "Acme", "--webhook-secret", "first-secret", "--json"],
        &environment,
    );
    let tenant = made["tenant_id"].as_str().unwrap();
    let set = ["tenants", "set-webhook-secret", "--tenant", tenant];
    let good = |arguments: &[&str]| assert!(run(arguments, &environment).status.success(), "{arguments:?}");
    good(&[&set[..], &["--webhook-secret", "second-secret"]].concat());
    good(&set);
    good(&set); // There is none any more: nothing is done.
    let (_kept, first) = new_key(tenant, &[], &environment);
    let (id, second) = new_key(tenant, &["--rate-limit", "0"], &environment);
    good(&["keys", "revoke", &id]);
    good(&["keys", "revoke", &id]); // It is revoked already.
    good(&["keys", "list", "--tenant", tenant]);
    assert!(!run(&["keys", "revoke", "key_00000000000000000000000000"], &environment).status.success());

    let mut entries = listed(tenant, &[], &environment);
    entries.reverse();
    let account = account();
    for entry in &entries {
        let actor =
            json!({"kind": "operator", "id": null, "name": account, "address": null, "request_id": null});
        assert_eq!((&entry["actor"], &entry["tenant_id"]), (&actor, &json!(tenant)), "{entry}");
    }
    let told: Vec<Value> =
        entries.iter().map(|entry| json!([entry["action"], entry["before"], entry["after"]])).collect();
    let key = |key: &str, limit: Value| {
        json!({"name": "test", "prefix": key[..11], "scopes": ["admin"], "rate_limit": limit,
            "hook_write_limit": null, "sample_limit": null, "expires_at": null})
    };
    assert_eq!(
        told,
        [
            json!(["tenant.created", null, {"name": "Acme", "signs": true}]),
            json!(["tenant.secret_set", {"signs": true}, {"signs": true}]),
            json!(["tenant.secret_set", {"signs": true}, {"signs": false}]),
            json!(["key.created", null, key(&first, Value::Null)]),
            json!(["key.created", null, key(&second, json!(0))]),
            json!(["key.revoked", {"name": "test", "prefix": second[..11], "scopes": ["admin"], "expires_at": null,
            "last_used_at": null}, null]),
        ]
    );
    assert_eq!(entries[5]["object"], json!({"kind": "key", "id": id}));
    let text = Value::from(entries).to_string();
    for secret in ["first-secret", "second-secret", &first, &second] {
        assert!(!text.contains(secret), "{secret} is in the log");
    }
}

/// The name of the account that this test runs under.
fn account() -> String {
    let output = std::process::Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_listed_and_exported() {
    let system = System::start().await;
    let (tenant, environment) = (system.tenant.to_string(), at(&system));
    write(&system, system.tenant, 3).await;
    let places =
        |entries: &[Value]| entries.iter().map(|entry| entry["seq"].as_i64().unwrap()).collect::<Vec<_>>();
    assert_eq!(places(&listed(&tenant, &[], &environment)), [3, 2, 1]);
    assert_eq!(places(&listed(&tenant, &["--limit", "2"], &environment)), [3, 2]);
    assert_eq!(places(&listed(&tenant, &["--object", "key-2"], &environment)), [2]);
    assert_eq!(places(&listed(&tenant, &["--action", "key.revoked"], &environment)), [] as [i64; 0]);
    let later = (system.clock.now() + chrono::TimeDelta::minutes(1)).to_rfc3339();
    assert_eq!(places(&listed(&tenant, &["--since", &later], &environment)), [] as [i64; 0]);
    let (good, text) = told(&run(&["audit", "list", "--tenant", &tenant], &environment));
    assert!(good && text.lines().next().unwrap().ends_with("key.created  key key-3  by alice"), "{text}");

    let export = |arguments: &[&str]| told(&run(&[&["audit", "export"], arguments].concat(), &environment));
    let (_, all) = export(&["--tenant", &tenant]);
    let client = system.client().await;
    assert_eq!(all, client.get("/v1/audit/export").await.text(), "the same as over HTTP");
    assert_eq!(export(&["--tenant", &tenant, "--since-seq", "3"]).1.lines().count(), 1);
    assert_eq!(export(&["--installation"]), (true, String::new()));
    // Of another tenant there is nothing.
    assert_eq!(
        export(&["--tenant", &TenantId::from_uuid(uuid::Uuid::from_u128(7)).to_string()]),
        (true, String::new())
    );
    for wrong in [
        &["audit", "list"][..],
        &["audit", "export"],
        &["audit", "export", "--tenant", &tenant, "--installation"],
        &["audit", "export", "--tenant", &tenant, "--since-seq", "0"],
        &["audit", "list", "--tenant", &tenant, "--action", "key.eaten"],
        &["audit", "list", "--tenant", &tenant, "--limit", "0"],
        &["audit", "list", "--tenant", &tenant, "--limit", "10001"],
    ] {
        assert_eq!(run(wrong, &environment).status.code(), Some(2), "{wrong:?}");
    }
    assert_eq!(listed(&tenant, &["--limit", "10000"], &environment).len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_of_secrets_is_told_in_the_chain_of_the_installation() {
    let system = System::start().await;
    let (other, client) = (MasterKey::from_bytes([9; 32]), system.client().await);
    for path in ["a", "b"] {
        let url = format!("https://hooks.zapier.com/hooks/standard/1/{path}/");
        client.post_json("/zapier/hook", &json!({"url": url})).await.expect(200);
    }
    let rotate = environment(
        "",
        &[
            ("DATABASE_URL", &system.database.url()),
            ("HOOKYARD__SECRETS__MASTER_KEY", &other.expose()),
            ("HOOKYARD__SECRETS__PREVIOUS_MASTER_KEYS", MASTER_KEY),
        ],
    );
    let told = |environment: &Environment| {
        let (good, text) = told(&run(&["audit", "export", "--installation"], environment));
        assert!(good && !text.contains(&*other.expose()) && !text.contains(MASTER_KEY), "{text}");
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>()
    };
    operate(&["secrets", "rotate", "--json"], &rotate);
    let entries = told(&rotate);
    assert_eq!(entries.len(), 1, "{entries:?}");
    let after = json!({"current": other.id().to_string(), "sealed_anew": 2, "forgotten": [vault().current().to_string()]});
    assert_eq!(
        (&entries[0]["action"], &entries[0]["tenant_id"], &entries[0]["actor"]["kind"], &entries[0]["after"]),
        (&json!("secrets.rotated"), &Value::Null, &json!("operator"), &after)
    );
    operate(&["secrets", "rotate", "--json"], &rotate);
    assert_eq!(told(&rotate), entries, "the second time nothing is done");
}
