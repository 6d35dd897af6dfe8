//! Keys that are made, listed and revoked while a gateway runs.

use std::time::{Duration, Instant};

use hookyard_tests::{
    http::Client,
    processes::{new_key, operate, run},
};
use serde_json::Value;

use super::{Stage, until};

/// Beyond what the gateway needs to look again, on a busy machine.
const SOON: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn keys_take_effect_on_a_running_gateway() {
    let stage = Stage::ready().await;
    let made = operate(&["tenants", "create", "--name", "Acme", "--json"], &stage.environment);
    let tenant = made["tenant_id"].as_str().unwrap();
    let (_first, _) = new_key(tenant, &[], &stage.environment);
    let (id, key) = new_key(tenant, &["--rate-limit", "0"], &stage.environment);
    let client = Client::new(stage.api).with_key(&key);
    let took =
        until("acceptance of the new key", async || client.get("/v1/events").await.status == 200).await;
    assert!(took < SOON, "a new key was not known for {took:?}");

    let listed = run(&["keys", "list", "--tenant", tenant, "--json"], &stage.environment);
    let text = String::from_utf8(listed.stdout).unwrap();
    let keys: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(keys.len(), 2, "{text}");
    assert!(!text.contains(&key), "a list of keys does not hold them");
    let shown = keys.iter().find(|one| one["key_id"] == *id).unwrap();
    assert!(shown["revoked_at"].is_null() && key.starts_with(shown["prefix"].as_str().unwrap()), "{shown}");

    let revoked = Instant::now();
    let output = run(&["keys", "revoke", &id], &stage.environment);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    until("refusal of the revoked key", async || client.get("/v1/events").await.status == 401).await;
    println!("a revoked key was refused {:?} after the command was started", revoked.elapsed());
    assert!(revoked.elapsed() < 2 * SOON, "the command and the look together: {:?}", revoked.elapsed());
    let again = run(&["keys", "list", "--tenant", tenant], &stage.environment);
    assert!(String::from_utf8_lossy(&again.stdout).contains("revoked"));
    let output = run(&["keys", "revoke", "key_00000000000000000000000000"], &stage.environment);
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("not found"));
}
