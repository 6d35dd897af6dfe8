//! What the actions do.

use std::time::Duration;

use hookyard_tests::{engine::Engine, receiver::Answer, runner::Runner};
use serde_json::{Value, json};

use super::{Stage, emit};

#[tokio::test(flavor = "multi_thread")]
async fn an_emitted_event_goes_to_the_hooks_and_so_does_the_end_of_the_run() {
    let stage = Stage::new().await;
    for (path, event_type) in [("/orders", "order.created"), ("/ends", "action_run.finished")] {
        let hook = json!({"url": stage.receiver.url(path), "event_type": event_type});
        stage.client.post_json("/zapier/hook", &hook).await.expect(200);
    }
    let id = stage.run(&json!({"action": "event.emit", "input": emit()})).await;
    let run = stage.ended(&id).await;
    assert_eq!(run["status"], "success", "{run}");
    let patience = Duration::from_secs(20);
    let order = stage.receiver.wait_for("/orders", 1, patience).await.remove(0).json();
    assert_eq!((&order["id"], &order["payload"]), (&run["results"][0]["event_id"], &emit()["payload"]));
    assert_eq!(order["metadata"]["correlation_id"], json!(id));
    let end = stage.receiver.wait_for("/ends", 1, patience).await.remove(0).json();
    assert_eq!(
        (&end["payload"]["data"]["id"], &end["payload"]["data"]["status"]),
        (&json!(id), &json!("success"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_made_and_its_reply_is_captured() {
    let stage = Stage::new().await;
    stage.receiver.answer("/api", Answer::status(201));
    stage.receiver.answer("/no", Answer::status(404));
    stage.receiver.answer("/auth", Answer::status(401));
    let ask = async |path: &str, more: Value| {
        let mut input = json!({"url": stage.receiver.url(path), "method": "POST"});
        input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let id = stage.run(&json!({"action": "http.request", "input": input})).await;
        stage.ended(&id).await
    };
    let good = ask(
        "/api",
        json!({"body": {"hello": "{{name}}"}, "data": {"name": "Ada"}, "headers": {"X-Shop": "7"}}),
    )
    .await;
    assert_eq!(good["results"][0]["status"], 201, "{good}");
    assert_eq!(good["results"][0]["body"], json!({"status": "success"}));
    assert_eq!(good["results"][0]["truncated"], false);
    let got = stage.receiver.at("/api").remove(0);
    assert_eq!((got.method.as_str(), got.header("x-shop")), ("POST", "7"));
    assert_eq!(
        (got.body.as_slice(), got.header("content-type")),
        (&br#"{"hello":"Ada"}"#[..], "application/json")
    );
    for (path, more, code) in [
        ("/no", json!({}), "user"),
        ("/auth", json!({}), "authentication"),
        ("/api", json!({"expected_status": [200, 204]}), "partner"),
    ] {
        let run = ask(path, more).await;
        assert_eq!((&run["status"], &run["errors"][0]["code"]), (&json!("error"), &json!(code)), "{run}");
        assert!(run["errors"][0]["detail"].as_str().unwrap().starts_with("the server answered"));
    }
    assert_eq!(ask("/no", json!({"expected_status": 404})).await["status"], "success");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_into_our_own_network_is_refused() {
    let mut engine = Engine { runners: 1, ..Engine::default() };
    engine.runner.egress = hookyard_egress::Settings::default();
    let stage = Stage::with(engine).await;
    let input = json!({"url": stage.receiver.url("/inside")});
    let run = stage.run(&json!({"action": "http.request", "input": input})).await;
    let run = stage.ended(&run).await;
    assert_eq!(
        (&run["errors"][0]["code"], &run["errors"][0]["title"]),
        (&json!("user"), &json!("Address not allowed")),
        "{run}"
    );
    assert_eq!(stage.receiver.count("/inside"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_run_to_its_end() {
    let stage = Stage::new().await;
    let input = json!({"title": "Analyze", "description": "Summarize: the support is great. The export is slow.", "model": "offline"});
    let id = stage
        .run(&json!({"action": "task.run", "input": input, "callback_url": stage.receiver.url("/task")}))
        .await;
    let run = stage.ended(&id).await;
    assert_eq!(run["status"], "success", "{run}");
    let task = stage
        .client
        .get(&format!("/v1/automation/tasks/{}", run["task_id"].as_str().unwrap()))
        .await
        .expect(200);
    assert_eq!((&run["results"][0]["result"], &task["status"]), (&task["result"], &json!("completed")));
    let told = stage.receiver.wait_for("/task", 1, Duration::from_secs(20)).await.remove(0).json();
    assert_eq!(told["data"]["results"], run["results"]);

    // A task that nobody does is cancelled: so the run fails, however long it has waited.
    let input = json!({"title": "Build", "description": "x", "agent_type": "build"});
    let id = stage
        .run(&json!({"action": "task.run", "input": input, "callback_url": stage.receiver.url("/late")}))
        .await;
    let waits = stage.wait(&id, |run| run["task_id"].is_string()).await;
    assert_eq!(waits["status"], "running");
    stage.system.clock.advance(chrono::TimeDelta::seconds(50));
    let task = waits["task_id"].as_str().unwrap();
    stage.client.delete(&format!("/v1/automation/tasks/{task}")).await.expect(200);
    let run = stage.ended(&id).await;
    assert_eq!((&run["status"], &run["errors"][0]["code"]), (&json!("error"), &json!("user")), "{run}");
    stage.receiver.wait_for("/late", 1, Duration::from_secs(20)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_is_put_into_the_outbox_once() {
    let mut engine = Engine { runners: 1, ..Engine::default() };
    // Nobody listens there: the mail waits.
    engine.runner = Runner { mail: mail_server(), ..Runner::default() };
    let receiver = hookyard_tests::receiver::Receiver::start().await;
    let mut options = hookyard_tests::system::Options::whole(
        hookyard_messaging::Bus::in_process(),
        vec![receiver.prefix()],
    );
    options.gateway.mail = mail_server();
    options.engine = Some(engine);
    let system = hookyard_tests::system::System::with(options).await;
    let client = system.client().await;
    let stage = Stage { system, client, receiver };
    let input = json!({"to": "Ada@example.com", "subject": "Hello", "text": "How are you?"});
    let id = stage.run(&json!({"action": "email.send", "input": input})).await;
    let run = stage.ended(&id).await;
    assert_eq!(
        (&run["results"][0]["to"], &run["results"][0]["status"]),
        (&json!("ada@example.com"), &json!("queued")),
        "{run}"
    );
    let mails: Vec<super::durable::Count> = stage
        .system
        .db
        .once(|conn| {
            use diesel::RunQueryDsl as _;
            Ok(diesel::sql_query("SELECT count(*) AS n FROM emails WHERE recipient = 'ada@example.com'")
                .load(conn)?)
        })
        .await
        .unwrap();
    assert_eq!(mails[0].n, 1);
}

fn mail_server() -> hookyard_domain::email::Settings {
    hookyard_domain::email::Settings {
        host: Some("127.0.0.1".to_owned()),
        port: hookyard_tests::processes::free_port(),
        from: Some("hookyard@example.com".to_owned()),
        tls: hookyard_domain::email::Tls::None,
        ..hookyard_domain::email::Settings::default()
    }
}
