//! Master keys of real processes: which they accept, where `hookyard up` keeps its own, and changing it.

use std::{os::unix::fs::PermissionsExt as _, path::Path};

use diesel::{RunQueryDsl as _, sql_query};
use hookyard_domain::vault::{KeyId, MasterKey};
use hookyard_tests::{
    database::Database,
    processes::{Environment, Process, environment, free_port, operate, run},
    secrets::{MASTER_KEY, vault},
};
use serde_json::Value;

use super::PATIENCE;

/// Services on a database of the machine's server; there is no broker.
fn on(database: &Database, settings: &[(&str, &str)]) -> Environment {
    let api = format!("127.0.0.1:{}", free_port());
    let url = database.url();
    let fixed = [
        ("DATABASE_URL", url.as_str()),
        ("AMQP_URL", "amqp://guest:guest@127.0.0.1:1/%2f"),
        ("HOOKYARD__HTTP__LISTEN", &api),
    ];
    environment("http://127.0.0.1:9/", &[&fixed[..], settings].concat())
}

fn key(byte: u8) -> MasterKey {
    MasterKey::from_bytes([byte; 32])
}

fn said(arguments: &[&str], environment: &Environment) -> (bool, String) {
    let output = run(arguments, environment);
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

/// The id of the current key, and how many values are sealed with which.
fn status(environment: &Environment) -> Value {
    operate(&["secrets", "status", "--json"], environment)
}

async fn execute(database: &Database, sql: &'static str) {
    database.pool().once(move |conn| Ok(sql_query(sql).execute(conn)?)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_with_another_key_refuses_to_start() {
    let database = Database::create().await;
    let other = key(9).expose();
    let wrong = on(&database, &[("HOOKYARD__SECRETS__MASTER_KEY", &other)]);
    for service in ["gateway", "registry", "delivery", "up"] {
        let mut process = Process::start(&[service], &wrong);
        assert_eq!(process.wait(PATIENCE), Some(1), "{service}: {}", process.last_words());
        let log = process.log();
        assert!(log.contains(&vault().current().to_string()), "{service} names the key it lacks: {log}");
        assert!(log.contains(&key(9).id().to_string()), "and the one it has: {log}");
        assert!(log.contains("secrets.previous_master_keys"), "{service}: {log}");
        assert!(!log.contains(&other), "{service}: {log}");
    }
    let right = on(
        &database,
        &[("HOOKYARD__SECRETS__MASTER_KEY", &other), ("HOOKYARD__SECRETS__PREVIOUS_MASTER_KEYS", MASTER_KEY)],
    );
    let mut process = Process::start(&["gateway"], &right);
    process.wait_for("start", PATIENCE, |process| process.log().contains("the gateway listens"));
    process.stop(PATIENCE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_checked_when_the_database_comes() {
    let database = Database::create().await;
    let environment = on(&database, &[("HOOKYARD__SECRETS__MASTER_KEY", &key(9).expose())]);
    database.set_away(true).await;
    let mut process = Process::start(&["delivery"], &environment);
    process.wait_for("wait", PATIENCE, |process| {
        process.log().contains("waiting for the database") && process.is_live()
    });
    database.set_away(false).await;
    assert_eq!(process.wait(PATIENCE), Some(1), "{}", process.last_words());
    assert!(process.log().contains(&vault().current().to_string()), "{}", process.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn up_keeps_a_key_and_changes_it() {
    let dir = tempfile::Builder::new().prefix("hookyard-up-").tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let data = dir.path().join("data");
    let file = data.join("master.key");
    let mut environment = Environment::from([
        ("HOOKYARD__EMBEDDED__DATA_DIR".to_owned(), data.to_str().unwrap().to_owned()),
        ("HOOKYARD__HTTP__LISTEN".to_owned(), format!("127.0.0.1:{}", free_port())),
    ]);
    let mut up = Process::start(&["up"], &environment);
    up.wait_until_ready(PATIENCE);
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let first = read(&file);
    // A command beside it finds the key as it finds the database.
    let create = ["tenants", "create", "--name", "Acme", "--webhook-secret", "hush", "--json"];
    operate(&create, &environment);
    let told = status(&environment);
    assert_eq!(told["keys"][0]["key"], first.to_string());
    assert_eq!(
        (&told["keys"][0]["current"], &told["values"][0]["values"]),
        (&true.into(), &1.into()),
        "{told}"
    );
    up.stop(PATIENCE);

    // Without the file it does not make another: the secrets would be lost for good.
    let kept = data.join("kept.key");
    std::fs::rename(&file, &kept).unwrap();
    let mut refused = Process::start(&["up"], &environment);
    assert_eq!(refused.wait(PATIENCE), Some(1), "{}", refused.last_words());
    let log = refused.log();
    assert!(
        log.contains(&first.to_string()) && log.contains("master.key") && log.contains("backup"),
        "{log}"
    );
    assert!(!file.exists());

    // Told of the old one it makes a new one; then everything is sealed anew.
    let previous = "HOOKYARD__SECRETS__PREVIOUS_MASTER_KEY_FILES".to_owned();
    environment.insert(previous.clone(), kept.to_str().unwrap().to_owned());
    let mut up = Process::start(&["up"], &environment);
    up.wait_until_ready(PATIENCE);
    let second = read(&file);
    assert_ne!(first, second);
    let rotated = operate(&["secrets", "rotate", "--json"], &environment);
    assert_eq!(rotated["current"], second.to_string());
    assert_eq!(rotated["forgotten"], serde_json::json!([first.to_string()]), "{rotated}");
    up.stop(PATIENCE);
    environment.remove(&previous);
    std::fs::remove_file(&kept).unwrap();
    let mut alone = Process::start(&["up"], &environment);
    alone.wait_until_ready(PATIENCE);
    let told = status(&environment);
    assert_eq!(told["keys"].as_array().unwrap().len(), 1, "{told}");
    assert_eq!(told["values"][0]["key"], second.to_string(), "{told}");
    alone.stop(PATIENCE);
}

fn read(file: &Path) -> KeyId {
    MasterKey::parse(&std::fs::read_to_string(file).unwrap()).unwrap().id()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_seals_only_with_a_key_it_was_told_or_the_database_knows() {
    let database = Database::create().await;
    execute(&database, "DELETE FROM master_keys").await;
    let dir = tempfile::tempdir().unwrap();
    let mut environment = on(&database, &[("HOOKYARD__EMBEDDED__DATA_DIR", dir.path().to_str().unwrap())]);
    let told = environment.remove("HOOKYARD__SECRETS__MASTER_KEY").unwrap();
    let create = ["tenants", "create", "--name", "Acme", "--webhook-secret", "hush"];

    let (succeeded, text) = said(&create, &environment);
    assert!(!succeeded && text.contains("HOOKYARD__SECRETS__MASTER_KEY"), "{text}");
    let (succeeded, text) = said(&create[..4], &environment);
    assert!(succeeded, "a tenant without a secret needs no key: {text}");

    // What lies around on this machine may belong to another database.
    let file = dir.path().join("master.key");
    std::fs::write(&file, key(9).expose()).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let (succeeded, text) = said(&create, &environment);
    assert!(!succeeded && text.contains("does not know the master key"), "{text}");
    environment.insert("HOOKYARD__SECRETS__MASTER_KEY".to_owned(), told);
    let (succeeded, text) = said(&create, &environment);
    assert!(succeeded, "{text}");
    environment.remove("HOOKYARD__SECRETS__MASTER_KEY");
    let (succeeded, text) = said(&create, &environment);
    assert!(!succeeded && text.contains(&vault().current().to_string()), "the wrong key is found: {text}");
    std::fs::write(&file, MASTER_KEY).unwrap();
    let (succeeded, text) = said(&create, &environment);
    assert!(succeeded, "the right key is found: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn migrate_and_every_start_seal_what_was_stored_before() {
    let database = Database::create().await;
    let environment = on(&database, &[]);
    let (succeeded, text) = said(&["tenants", "create", "--name", "Acme"], &environment);
    assert!(succeeded, "{text}");
    let plain = "UPDATE tenants SET webhook_secret = convert_to('hush', 'UTF8')";
    execute(&database, plain).await;
    let (succeeded, text) = said(&["migrate"], &environment);
    assert!(succeeded && text.contains("sealed 1 secrets"), "{text}");
    assert_eq!(status(&environment)["values"][0]["key"], vault().current().to_string());
    let (succeeded, text) = said(&["migrate"], &environment);
    assert!(succeeded && !text.contains("sealed"), "{text}");

    execute(&database, plain).await;
    assert!(status(&environment)["values"][0]["key"].is_null());
    let (_, text) = said(&["secrets", "status"], &environment);
    assert!(text.contains("tenants.webhook_secret: 1 NOT SEALED"), "{text}");
    let mut process = Process::start(&["gateway"], &environment);
    process.wait_for("start", PATIENCE, |process| process.log().contains("the gateway listens"));
    process.stop(PATIENCE);
    assert_eq!(status(&environment)["values"][0]["key"], vault().current().to_string());
}

#[test]
fn a_new_key_is_printed_and_another_one_each_time() {
    let keys: Vec<_> = (0..2)
        .map(|_| {
            // Also where nothing is set up yet.
            let (succeeded, text) = said(&["secrets", "generate-key"], &Environment::new());
            assert!(succeeded && text.lines().count() == 1, "{text}");
            MasterKey::parse(&text).unwrap().id()
        })
        .collect();
    assert_ne!(keys[0], keys[1]);
}
