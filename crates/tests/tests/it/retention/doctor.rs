//! `hookyard doctor` from outside: what it says of an installation that is well, and of each that is not.

use std::{collections::HashMap, os::unix::fs::PermissionsExt as _, process::Output};

use hookyard_domain::clock::Clock;
use hookyard_messaging::Bus;
use hookyard_tests::{
    database::Database,
    processes::{Environment, Process, environment, free_port, run, run_unread},
    secrets::MASTER_KEY,
    system::System,
};
use serde_json::{Value, json};

use super::execute;
use crate::pipeline::stage::Stage;

fn asked(settings: &[(&str, &str)]) -> Environment {
    environment("", settings)
}

/// What it says, by check: level and words; and its exit code.
fn told(output: &Output) -> (HashMap<String, (String, String)>, Option<i32>, Value) {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let report: Value = serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{error}: {text} {}", String::from_utf8_lossy(&output.stderr)));
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    let mut checks = HashMap::new();
    for check in report["checks"].as_array().unwrap() {
        let level = word(&check["level"]);
        assert_eq!(level == "good", check["advice"].is_null(), "{check}");
        checks.insert(word(&check["check"]), (level, word(&check["found"])));
    }
    (checks, output.status.code(), report)
}

fn doctor(environment: &Environment) -> (HashMap<String, (String, String)>, Option<i32>, Value) {
    told(&run(&["doctor", "--json"], environment))
}

#[tokio::test(flavor = "multi_thread")]
async fn of_what_is_well_it_says_so_and_what_is_kept() {
    let stage = Stage::open(Bus::in_process()).await;
    let hook = stage.hook("in", json!({})).await;
    let event = stage.post("a.b", json!({"n": 1})).await;
    stage.ended(&event, &hook, "delivered").await;
    execute(&stage.system.db, "ANALYZE").await;
    let url = stage.system.database.url();
    let environment = asked(&[("DATABASE_URL", &url), ("HOOKYARD__REGISTRY__PAYLOAD_RETENTION_DAYS", "7")]);
    let (checks, code, report) = doctor(&environment);
    // How many connections there are is the business of all tests that run, and a server for tests need not clean up.
    let of_the_server = |check: &str| ["connections", "vacuum"].contains(&check);
    let bad: Vec<_> =
        checks.iter().filter(|(check, (level, _))| level != "good" && !of_the_server(check)).collect();
    assert!(bad.is_empty(), "{bad:?}");
    let worst = ["good", "warning", "broken"].into_iter().position(|level| report["level"] == level);
    assert_eq!(code.map(|code| usize::try_from(code).unwrap()), worst);
    for check in [
        "database",
        "schema",
        "clocks",
        "partitions ahead",
        "fan-out",
        "deliveries",
        "vacuum",
        "indexes",
        "master key",
        "broker",
    ] {
        assert!(checks.contains_key(check), "{check} in {checks:?}");
    }
    let kept = &report["kept"];
    let tables: Vec<&str> =
        kept["by_day"].as_array().unwrap().iter().map(|table| table["table"].as_str().unwrap()).collect();
    assert_eq!(tables, ["attempts", "deliveries", "delivery_bodies", "events"]);
    let events = &kept["by_day"][3];
    // An estimate, by pages.
    assert!((1..=10).contains(&events["rows"].as_i64().unwrap()), "{events}");
    assert!(
        events["bytes"].as_i64().unwrap() > 8_192 && events["payload_bytes"].as_i64().unwrap() > 50,
        "{events}"
    );
    assert!(events["partitions"].as_u64().unwrap() >= 8, "{events}");
    assert_eq!((&kept["retention_days"], &kept["payload_retention_days"]), (&json!(30), &json!(7)));
    let oldest = chrono::NaiveDate::parse_from_str(events["oldest"].as_str().unwrap(), "%Y-%m-%d").unwrap();
    let (dropped, purged) = (&kept["dropped_next"], &kept["payloads_purged_next"]);
    assert_eq!(dropped["day"], json!(oldest.to_string()));
    assert_eq!(dropped["on"], json!((oldest + chrono::Days::new(31)).to_string()));
    assert_eq!(purged["on"], json!((oldest + chrono::Days::new(8)).to_string()));
    assert!(kept["others"].as_array().unwrap().iter().any(|table| table["table"] == "subscriptions"));

    let text = run(&["doctor"], &environment);
    let text = String::from_utf8(text.stdout).unwrap();
    for part in [
        "kept by day",
        "Next day to lose its payloads",
        "Kept with these settings: events 30 days, payloads 7 days.",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(!text.contains(&url), "{text}");
    // A reader that has gone, such as `head`, is no error.
    let unread = run_unread(&["doctor"], &environment);
    assert!(unread.status.code() == code && unread.stderr.is_empty(), "{unread:?}");
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_trouble_of_a_database_is_found() {
    let system = System::start().await;
    let environment = asked(&[("DATABASE_URL", &system.database.url())]);
    let db = &system.db;
    let tenant = system.tenant.uuid();
    let tomorrow = Clock::system().now() + chrono::Days::new(1);
    let delivery = |state: i16, due: &str| {
        format!(
            "INSERT INTO deliveries (event_id, subscription_id, tenant_id, profile, state, tries, attempts, deferrals, due_at, \
                next_attempt_at, claim) SELECT e.id, gen_random_uuid(), '{tenant}', 0, {state}, 0, 0, 0, now(), {due}, \
                '00000000-0000-0000-0000-000000000000' FROM events e LIMIT 1"
        )
    };
    let client = system.client().await;
    client.post_json("/events", &json!({"event_type": "a.b", "payload": {}})).await.expect(202);
    execute(db, "DELETE FROM event_groups").await;
    let group = "INSERT INTO event_groups VALUES (gen_random_uuid(), '{}', '{}', now() - interval '5 min')";
    for (check, level, words, statements) in [
        ("fan-out", "warning", "5 min", vec![group.to_owned()]),
        (
            "fan-out",
            "broken",
            "20 min",
            vec!["UPDATE event_groups SET created_at = now() - interval '20 min'".to_owned()],
        ),
        (
            "scheduled events",
            "warning",
            "2 min",
            vec![
                "DELETE FROM event_groups".to_owned(),
                format!(
                    "INSERT INTO scheduled_events VALUES (gen_random_uuid(), '{tenant}', now() - interval '130 s')"
                ),
            ],
        ),
        (
            "outcomes",
            "broken",
            "16 min",
            vec![
                "DELETE FROM scheduled_events".to_owned(),
                "INSERT INTO settlements VALUES (gen_random_uuid(), '[]', now() - interval '16 min')"
                    .to_owned(),
            ],
        ),
        (
            "deliveries",
            "warning",
            "1 are under way",
            vec!["DELETE FROM settlements".to_owned(), delivery(0, "now() - interval '3 min'")],
        ),
        ("dead letters", "warning", "1", vec!["DELETE FROM deliveries".to_owned(), delivery(2, "now()")]),
        (
            "partitions ahead",
            "warning",
            "1 days",
            vec![
                "DELETE FROM deliveries".to_owned(),
                format!("DROP TABLE {}", super::partition_of("attempts", tomorrow)),
            ],
        ),
        (
            "partitions ahead",
            "broken",
            "0 days",
            vec![format!("DROP TABLE {}", super::partition_of("attempts", Clock::system().now()))],
        ),
        (
            "indexes",
            "broken",
            "tasks_age",
            vec![
                "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'tasks_age'::regclass".to_owned(),
            ],
        ),
    ] {
        for statement in statements {
            assert!(execute(db, &statement).await <= 2, "{statement}");
        }
        let (checks, code, report) = doctor(&environment);
        let (is, found) = &checks[check];
        assert_eq!(is, level, "{check}: {report}");
        assert!(found.contains(words), "{check}: {found}");
        let expected = if checks.values().any(|(level, _)| level == "broken") { 2 } else { 1 };
        assert_eq!((code, &report["level"] == "broken"), (Some(expected), expected == 2), "{check}");
        let text = String::from_utf8(run(&["doctor"], &environment).stdout).unwrap();
        assert!(text.contains("->"), "it says what to do: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_or_of_another_version_is_told() {
    let nowhere = format!("postgres://postgres@127.0.0.1:{}/x", free_port());
    let (checks, code, report) = doctor(&asked(&[("DATABASE_URL", &nowhere)]));
    assert_eq!((&checks["database"].0, code), (&"broken".to_owned(), Some(2)), "{report}");
    assert_eq!(report["kept"], Value::Null);

    let database = Database::create().await;
    let db = database.pool();
    execute(&db, "DELETE FROM __diesel_schema_migrations WHERE version = (SELECT max(version) FROM __diesel_schema_migrations)")
        .await;
    let (checks, code, report) = doctor(&asked(&[("DATABASE_URL", &database.url())]));
    assert_eq!((&checks["schema"].0, code), (&"broken".to_owned(), Some(2)), "{report}");
    assert_eq!(checks["database"].0, "good");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_master_key_is_told_and_none_is_a_warning() {
    let database = Database::create().await;
    let url = database.url();
    let other = "CAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAg=";
    assert_ne!(other, MASTER_KEY);
    let (checks, code, report) =
        doctor(&asked(&[("DATABASE_URL", &url), ("HOOKYARD__SECRETS__MASTER_KEY", other)]));
    assert_eq!((&checks["master key"].0, code), (&"broken".to_owned(), Some(2)), "{report}");
    let text = report.to_string();
    assert!(!text.contains(other) && !text.contains(MASTER_KEY), "{text}");
    let mut without = asked(&[("DATABASE_URL", &url), ("HOME", "/nowhere"), ("XDG_DATA_HOME", "/nowhere")]);
    without.remove("HOOKYARD__SECRETS__MASTER_KEY");
    without.insert("HOOKYARD__EMBEDDED__DATA_DIR".to_owned(), "/nowhere/at/all".to_owned());
    let (checks, _, report) = doctor(&without);
    assert_eq!(checks["master key"].0, "warning", "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_away_and_queues_that_nobody_reads_are_told() {
    let database = Database::create().await;
    let url = database.url();
    let nowhere = format!("amqp://guest:t0psecret@127.0.0.1:{}/%2f", free_port());
    let (checks, code, report) = doctor(&asked(&[("DATABASE_URL", &url), ("AMQP_URL", &nowhere)]));
    assert_eq!((&checks["broker"].0, code), (&"broken".to_owned(), Some(2)), "{report}");
    assert!(!report.to_string().contains("t0psecret"), "{report}");

    // Names that nothing was declared under.
    let unknown = format!("test.{:032x}.", rand::random::<u128>());
    let (checks, _, report) = doctor(&at_broker(&url, &unknown));
    let queues = &checks["queues"];
    assert_eq!((checks["broker"].0.as_str(), queues.0.as_str()), ("good", "warning"), "{report}");
    assert!(queues.1.contains("not there"), "{report}");

    hookyard_tests::amqp::with_names(async |_bus, namespace| {
        let (checks, code, report) = doctor(&at_broker(&url, &namespace));
        assert_eq!((checks["queues"].0.as_str(), code), ("broken", Some(2)), "{report}");
        assert!(checks["queues"].1.contains("nobody reads event.accepted"), "{report}");
        assert_eq!(report["queues"][0], json!({"queue": "event.accepted", "messages": 0, "readers": 0}));
    })
    .await;
}

fn at_broker(url: &str, namespace: &str) -> Environment {
    let broker = hookyard_tests::amqp::url();
    asked(&[("DATABASE_URL", url), ("AMQP_URL", &broker), ("HOOKYARD__AMQP__NAMESPACE", namespace)])
}

#[tokio::test(flavor = "multi_thread")]
async fn it_works_beside_hookyard_up() {
    let dir = tempfile::Builder::new().prefix("hookyard-doctor-").tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let data = dir.path().join("data");
    let listen = format!("127.0.0.1:{}", free_port());
    let environment: Environment = [
        ("HOOKYARD__EMBEDDED__DATA_DIR".to_owned(), data.to_str().unwrap().to_owned()),
        ("HOOKYARD__HTTP__LISTEN".to_owned(), listen),
    ]
    .into();
    let mut up = Process::start(&["up"], &environment);
    up.wait_until_ready(std::time::Duration::from_secs(60));
    let (checks, code, report) = doctor(&environment);
    for check in ["database", "schema", "master key", "broker", "partitions ahead"] {
        assert_eq!(checks[check].0, "good", "{report}");
    }
    assert!(checks.contains_key("disk") && code.is_some(), "{report}");
    up.stop(std::time::Duration::from_secs(60));
    let (checks, code, report) = doctor(&environment);
    assert_eq!((&checks["database"].0, code), (&"broken".to_owned(), Some(2)), "{report}");
}
