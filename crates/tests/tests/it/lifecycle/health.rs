//! Services that start before anything else is there, and what they say while something is away.

use hookyard_tests::{postgres::Stop, processes::run};
use serde_json::Value;

use super::{PATIENCE, Stage, post};

#[tokio::test(flavor = "multi_thread")]
async fn services_wait_for_what_they_need_and_say_what_is_away() {
    let mut stage = Stage::raw().await;
    // They were started before the migration.
    stage.wait_until_away("schema");
    let started = std::thread::scope(|scope| {
        let environment = &stage.environment;
        let runs: Vec<_> = (0..5).map(|_| scope.spawn(|| run(&["migrate"], environment))).collect();
        runs.into_iter().all(|run| run.join().unwrap().status.success())
    });
    assert!(started, "five migrations at once, beside services that wait");
    stage.wait_until_ready();
    let client = stage.client().await;
    post(&client, 1).await;
    stage.receiver.wait_for("hook", 1, PATIENCE).await;

    stage.broker.stop();
    stage.wait_until_away("broker");
    post(&client, 2).await;
    stage.receiver.wait_for("hook", 2, PATIENCE).await;
    stage.broker.start();
    stage.wait_until_ready();

    stage.postgres.stop(Stop::Fast);
    stage.wait_until_away("database");
    let event = r#"{"event_type":"order.created","payload":{}}"#;
    let refused = client.post("/events", event).await;
    assert_eq!(refused.error(), (503, "UNAVAILABLE".to_owned()));
    assert!(refused.header("retry-after").unwrap().parse::<u64>().unwrap() > 0);
    stage.postgres.start();
    stage.wait_until_ready();
    post(&client, 3).await;
    let received = stage.receiver.wait_for("hook", 3, PATIENCE).await;
    let numbers: Vec<Value> = received.iter().map(|one| one.json()["payload"]["number"].clone()).collect();
    assert_eq!(numbers, [1, 2, 3]);

    // A trace goes through RabbitMQ to the receiver.
    let caller = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    client.request("POST", "/events").header("traceparent", caller).json(event).send().await.expect(202);
    let received = stage.receiver.wait_for("hook", 4, PATIENCE).await;
    let told = received[3].header("traceparent");
    assert!(told.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-") && told != caller, "{told}");

    let passwords = [stage.postgres.password().to_owned(), "guest:guest".to_owned()];
    for process in stage.all() {
        process.stop(PATIENCE);
        let log = process.log();
        assert!(log.lines().count() > 10, "{log}");
        for line in log.lines() {
            let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            assert!(
                line["timestamp"].is_string() && line["level"].is_string() && line["message"].is_string(),
                "{line}"
            );
            assert_ne!(line["level"], "ERROR", "all of this passes by itself: {line}");
        }
        for password in &passwords {
            assert!(!log.contains(password), "{process} tells {password}");
        }
    }
}
