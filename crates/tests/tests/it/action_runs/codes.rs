//! Whose fault it was: each code of a failed run is reached, and told by the callback. `system` is in `durable`.

use std::time::Duration;

use hookyard_tests::{engine::Engine, processes::free_port, receiver::Answer, system::Options};
use serde_json::{Value, json};

use super::Stage;

/// How a run ended: code and title, which the callback has told, too.
async fn told(stage: &Stage, path: &str, body: Value) -> (String, String) {
    let mut body = body;
    body["callback_url"] = json!(stage.receiver.url(path));
    let id = stage.run(&body).await;
    let run = stage.ended(&id).await;
    assert_eq!((&run["status"], &run["results"]), (&json!("error"), &json!([])), "{run}");
    let callback = stage.receiver.wait_for(path, 1, Duration::from_secs(20)).await.remove(0).json();
    assert_eq!(callback["data"]["errors"], run["errors"]);
    let error = &run["errors"][0];
    let members: Vec<&String> = error.as_object().unwrap().keys().collect();
    assert_eq!(members, ["code", "detail", "title"]);
    let text = |name: &str| error[name].as_str().unwrap().to_owned();
    assert!(!text("detail").is_empty() && text("detail").chars().count() < 250, "{error}");
    (text("code"), text("title"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_asked_decides_whose_fault_it_is() {
    let stage = Stage::new().await;
    let closed = format!("http://127.0.0.1:{}/", free_port());
    for (status, path) in [(404, "user"), (401, "authentication"), (429, "throttled"), (500, "partner")] {
        stage.receiver.answer(&format!("says-{path}"), Answer::status(status));
    }
    let ask = |url: String| {
        // Not idempotent: it is asked once.
        json!({"action": "http.request", "input": {"url": url, "method": "POST"}})
    };
    for code in ["user", "authentication", "throttled", "partner"] {
        let (told, title) = told(&stage, code, ask(stage.receiver.url(&format!("says-{code}")))).await;
        assert_eq!((told.as_str(), title.as_str()), (code, "Unexpected status"));
    }
    // Nobody is there, whenever it is tried.
    let unreached = stage.run(&ask(closed)).await;
    let end = std::time::Instant::now() + Duration::from_secs(30);
    while stage.shown(&unreached).await["status"] != "error" {
        assert!(std::time::Instant::now() < end);
        stage.system.clock.advance(chrono::TimeDelta::seconds(16));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let run = stage.shown(&unreached).await;
    assert_eq!(
        (&run["errors"][0]["code"], &run["errors"][0]["title"]),
        (&json!("partner"), &json!("Not reached"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_input_refers_to_and_is_gone_is_hydration() {
    // The gateway knows a model that the runner does not know any more.
    let mut options = Options::default();
    options.gateway.llm.aliases.push("retired=offline:text".to_owned());
    let stage = Stage::of(options, Engine { runners: 1, ..Engine::default() }).await;
    let input = json!({"title": "t", "description": "d", "model": "retired"});
    let (code, title) = told(&stage, "gone", json!({"action": "task.run", "input": input})).await;
    assert_eq!((code.as_str(), title.as_str()), ("hydration", "Input not available"));
}
