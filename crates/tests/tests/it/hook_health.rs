//! Health that explains itself: warnings on the way to being disabled, by event and by mail, and `GET /v1/hooks/{id}/health`.

use std::{io, net::IpAddr, process::Command, sync::Arc, time::Duration};

use diesel::{
    QueryableByName, RunQueryDsl as _, sql_query,
    sql_types::{Binary, Text, Uuid},
};
use hookyard_domain::{credential::Scope, email, id::EmailId, person::Role, vault::columns::EMAIL_BODY};
use hookyard_egress::{Answer as Addresses, Resolver};
use hookyard_messaging::Bus;
use hookyard_tests::{
    processes::free_port,
    receiver::Answer,
    secrets::vault,
    system::{System, unlimited},
};
use serde_json::{Value, json};

use crate::pipeline::stage::{Stage, text, until};

/// Posts an event and waits until it has ended at the hook and the hook's health knows.
async fn tried(stage: &Stage, hook: &str, failures: i64) -> Value {
    let event = stage.post("order.created", json!({"name": "O'Hara"})).await;
    stage.ended(&event, hook, if failures == 0 { "delivered" } else { "dead" }).await;
    until("the failures are counted", async || {
        let health = health(stage, hook).await;
        if health["consecutive_failures"] == failures { Ok(health) } else { Err(health) }
    })
    .await
}

async fn health(stage: &Stage, hook: &str) -> Value {
    stage.client.get(&format!("/v1/hooks/{hook}/health")).await.expect(200)
}

/// The mail that waits: to whom, subject, text.
pub(crate) async fn mails(system: &System) -> Vec<(String, String, String)> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Uuid)]
        id: EmailId,
        #[diesel(sql_type = Text)]
        recipient: String,
        #[diesel(sql_type = Text)]
        subject: String,
        #[diesel(sql_type = Binary)]
        body: Vec<u8>,
    }
    let all = "SELECT id, recipient, subject, body FROM emails ORDER BY id";
    let rows: Vec<Row> = system.db.once(move |conn| Ok(sql_query(all).load(conn)?)).await.unwrap();
    let open = |row: Row| {
        let text = vault().open(&EMAIL_BODY.at(row.id.uuid()), &row.body).unwrap();
        (row.recipient, row.subject, String::from_utf8(text).unwrap())
    };
    rows.into_iter().map(open).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_is_warned_at_each_stage_once_and_again_in_the_next_run_of_failures() {
    let stage = Stage::with(Bus::in_process(), |_, engine| {
        engine.runner.mail = email::Settings {
            host: Some("127.0.0.1".to_owned()),
            from: Some("hookyard@example.com".to_owned()),
            ..email::Settings::default()
        };
    })
    .await;
    stage.system.person("ada@example.com", Role::Admin).await;
    stage.system.person("bea@example.com", Role::Admin).await;
    stage.system.person("cyd@example.com", Role::Viewer).await;
    let french = "UPDATE users SET locale = 'fr' WHERE email = 'bea@example.com'";
    stage.system.db.once(move |conn| Ok(sql_query(french).execute(conn)?)).await.unwrap();
    stage.hook("news", json!({"event_type": "hook.*"})).await;
    let hook = stage.hook("guarded", json!({"event_type": "order.created"})).await;
    let told = async |count: usize| -> Vec<(Value, Value)> {
        let news = stage.received("news", count).await;
        news.iter()
            .map(|one| (one.json()["event_type"].clone(), one.json()["payload"]["percent"].clone()))
            .collect()
    };
    let (warning, none) = (json!("hook.warning"), Value::Null);
    stage.answer("guarded", 401);
    for failures in 1..=2 {
        assert_eq!(tried(&stage, &hook, failures).await["disabling"]["warned"], 0);
    }
    let third = tried(&stage, &hook, 3).await;
    assert_eq!((&third["disabling"]["percent"], &third["disabling"]["warned"]), (&json!(60), &json!(50)));
    let warned = stage.received("news", 1).await.remove(0).json();
    let payload = &warned["payload"];
    assert_eq!(
        (text(&payload["hook_id"]), &payload["percent"], &payload["refusals_left"], &payload["last_status"]),
        (hook.as_str(), &json!(50), &json!(2), &json!(401))
    );
    assert_eq!((&payload["disables_at"], &payload["consecutive_failures"]), (&none, &json!(3)));
    assert_eq!(payload["failing_since"], third["first_failure_at"]);
    // The event is as the catalogue says.
    let described = stage.client.get("/v1/event-types/hook.warning").await.expect(200);
    let validator = jsonschema::validator_for(&described["schema"]).unwrap();
    assert!(validator.is_valid(payload), "{payload}");
    tried(&stage, &hook, 4).await;
    assert_eq!(told(2).await, [(warning.clone(), json!(50)), (warning.clone(), json!(70))]);
    // Something else in between is no new run: nothing has arrived. Refusals begin anew, and nobody is told of 50 again.
    stage.receiver.script("guarded", [Answer::status(404)]);
    tried(&stage, &hook, 5).await;
    for failures in 6..=8 {
        tried(&stage, &hook, failures).await;
    }
    // What arrives ends the run; the next is told from its beginning.
    stage.receiver.script("guarded", [Answer::status(200)]);
    let whole = tried(&stage, &hook, 0).await;
    assert_eq!((&whole["healthy"], &whole["disabling"]["percent"]), (&json!(true), &json!(0)));
    for failures in 1..=4 {
        tried(&stage, &hook, failures).await;
    }
    let event = stage.post("order.created", json!({})).await;
    stage.ended(&event, &hook, "dead").await;
    stage.in_state(&hook, "disabled").await;
    let news = told(5).await;
    assert_eq!(
        news[2..],
        [(warning.clone(), json!(50)), (warning, json!(70)), (json!("hook.disabled"), none)]
    );
    // Admins are told by mail, each in their language.
    let mails = mails(&stage.system).await;
    let to =
        |who: &str| mails.iter().filter(|mail| mail.0 == who).map(|mail| mail.1.as_str()).collect::<Vec<_>>();
    let percent = |percent: u8| format!("A webhook fails: {percent} % of the way to being disabled");
    assert_eq!(
        to("ada@example.com"),
        [&percent(50), &percent(70), &percent(50), &percent(70), "A webhook was disabled"]
    );
    assert_eq!(to("bea@example.com").last(), Some(&"Un webhook a été désactivé"));
    assert!(to("cyd@example.com").is_empty());
    let first = &mails.iter().find(|mail| mail.0 == "ada@example.com").unwrap().2;
    for part in
        [stage.receiver.url("guarded"), "wants a credential".to_owned(), format!("/v1/hooks/{hook}/health")]
    {
        assert!(first.contains(&part), "{part} in {first}");
    }
    stage.close().await;
}

struct Names;

impl Resolver for Names {
    fn resolve(&self, name: &str) -> Addresses {
        let addresses: io::Result<Vec<IpAddr>> = match name {
            "inside.test" => Ok(vec![IpAddr::from([10, 0, 0, 5])]),
            _ => Err(io::Error::other("no such name")),
        };
        Box::pin(async { addresses })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_said_in_words_in_two_languages() {
    let closed = format!("http://127.0.0.1:{}/", free_port());
    let urls = [closed.clone(), "http://nowhere.test/".to_owned(), "http://inside.test/".to_owned()];
    let stage = Stage::with(Bus::in_process(), |options, engine| {
        options.extra_url_prefixes.extend(urls.clone());
        engine.resolver = Some(Arc::new(Names));
    })
    .await;
    let mut hooks = Vec::new();
    for (status, kind) in [
        (302, "redirect"),
        (401, "unauthorized"),
        (404, "not_found"),
        (422, "rejected"),
        (500, "server_error"),
    ] {
        stage.answer(&format!("s{status}"), status);
        hooks.push((stage.hook(&format!("s{status}"), json!({"event_type": "a.b"})).await, kind));
    }
    for (url, kind) in urls.iter().zip(["connection_refused", "dns", "forbidden_address"]) {
        hooks.push((stage.hook_at(url, json!({"event_type": "a.b"})).await, kind));
    }
    let fresh = health(&stage, &hooks[0].0).await;
    assert_eq!(
        (&fresh["summary"], &fresh["problem"], &fresh["last_failure"], &fresh["curl"]),
        (&json!("Nothing has been delivered yet."), &Value::Null, &Value::Null, &Value::Null)
    );
    stage.post("a.b", json!({})).await;
    for (hook, kind) in &hooks {
        let shown = until(kind, async || {
            let shown = health(&stage, hook).await;
            if shown["problem"]["kind"] == *kind { Ok(shown) } else { Err(shown) }
        })
        .await;
        let explanation = text(&shown["problem"]["explanation"]);
        assert!(
            text(&shown["summary"]).starts_with("The last try has failed. ")
                || shown["consecutive_failures"] != 1
        );
        assert!(text(&shown["summary"]).contains(explanation), "{shown}");
        let french = stage
            .client
            .request("GET", &format!("/v1/hooks/{hook}/health"))
            .header("accept-language", "de, fr-CA;q=0.9, en;q=0.5")
            .send()
            .await;
        assert_eq!(
            (french.header("content-language"), french.header("vary")),
            (Some("fr"), Some("Accept-Language"))
        );
        let french = french.expect(200);
        assert_eq!(french["problem"]["kind"], *kind);
        assert_ne!(french["problem"]["explanation"], shown["problem"]["explanation"]);
        assert_ne!(french["problem"]["advice"], shown["problem"]["advice"]);
    }
    stage.receiver.answer("gone", Answer::status(410));
    let gone = stage.hook("gone", json!({"event_type": "c.d"})).await;
    stage.post("c.d", json!({})).await;
    stage.in_state(&gone, "deleted").await;
    let shown = until("why it is gone is known", async || {
        let shown = health(&stage, &gone).await;
        if shown["problem"]["kind"] == "gone" { Ok(shown) } else { Err(shown) }
    })
    .await;
    assert!(text(&shown["summary"]).starts_with("It is deleted. "), "{shown}");
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_repeats_the_failed_try_without_its_secrets() {
    let stage = Stage::open(Bus::in_process()).await;
    let failing = Answer { body: "it is the database".to_owned(), ..Answer::status(422) };
    stage.receiver.answer("broken", failing);
    let hook = stage.hook("broken", json!({"event_type": "order.created", "secret": "between-us"})).await;
    let shown = tried(&stage, &hook, 1).await;
    let failure = &shown["last_failure"];
    assert_eq!(
        (&failure["status"], &failure["reason"], &failure["reply"], &failure["attempt"]),
        (&json!(422), &json!("http_422"), &json!("it is the database"), &json!(1))
    );
    let command = text(&shown["curl"]).to_owned();
    let sent = stage.received("broken", 1).await.remove(0);
    let secrets = [sent.header("webhook-signature"), sent.header("x-triggersapi-signature"), "between-us"];
    for secret in secrets {
        assert!(!command.contains(secret.trim_start_matches("v1,")), "{secret} in {command}");
    }
    let run = command.clone();
    let output = tokio::task::spawn_blocking(move || Command::new("sh").args(["-c", &run]).output().unwrap())
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("422") && said.ends_with("it is the database"), "{said} of {command}");
    let again = stage.received("broken", 2).await.remove(1);
    assert_eq!((&again.method, &again.body), (&sent.method, &sent.body));
    for name in
        ["webhook-id", "webhook-timestamp", "x-event-id", "x-delivery-id", "x-attempt", "content-type"]
    {
        assert_eq!(again.header(name), sent.header(name), "{name}");
    }
    assert_eq!(again.header("webhook-signature"), "v1,***");
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_only_just_answers_is_called_slow() {
    let stage = Stage::open(Bus::in_process()).await;
    stage.receiver.answer("slow", Answer::status(200).after(Duration::from_millis(2_600)));
    let hook = stage.hook("slow", json!({"event_type": "order.created"})).await;
    for _ in 0..5 {
        stage.post("order.created", json!({})).await;
    }
    stage.counted(&hook, 5, 0).await;
    let shown = health(&stage, &hook).await;
    assert_eq!((&shown["healthy"], &shown["problem"]["kind"]), (&json!(true), &json!("slow")));
    assert!(shown["median_latency_ms"].as_u64().unwrap() >= 2_600 && shown["timeout_ms"] == 5_000, "{shown}");
    stage.close().await;
}

#[tokio::test]
async fn the_health_of_another_tenants_hook_is_not_found() {
    let system = System::start().await;
    let client = system.client().await;
    let made =
        client.post_json("/zapier/hook", &json!({"url": "https://hooks.zapier.com/x"})).await.expect(200);
    let path = format!("/v1/hooks/{}/health", text(&made["id"]));
    client.get(&path).await.expect(200);
    let other = system.tenant("Other").await;
    let theirs = client.with_key(&system.key_of(other, &[Scope::Admin], unlimited()).await.1);
    assert_eq!(theirs.get(&path).await.error(), (404, "NOT_FOUND".to_owned()));
    assert_eq!(client.get(&format!("{path}?x=1")).await.error().0, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_told_to_who_listens_and_a_listener_that_fails_makes_none() {
    let stage = Stage::open(Bus::in_process()).await;
    let hook = stage.hook("broken", json!({"event_type": "order.created"})).await;
    stage.answer("broken", 422);
    // While nobody listens nothing is stored.
    tried(&stage, &hook, 1).await;
    let listener = stage.hook("news", json!({"event_type": "delivery.*"})).await;
    let event = stage.post("order.created", json!({})).await;
    let told = stage.received("news", 1).await.remove(0).json();
    let payload = &told["payload"];
    assert_eq!(
        (&told["event_type"], text(&payload["hook_id"]), &payload["count"], &payload["event_ids"]),
        (&json!("delivery.failed"), hook.as_str(), &json!(1), &json!([event]))
    );
    assert_eq!((&payload["last_reason"], &payload["last_status"]), (&json!("http_422"), &json!(422)));
    let described = stage.client.get("/v1/event-types/delivery.failed").await.expect(200);
    assert!(jsonschema::validator_for(&described["schema"]).unwrap().is_valid(payload), "{payload}");
    // The listener fails at what it is told; of that nobody is told.
    stage.answer("news", 404);
    stage.post("order.created", json!({})).await;
    stage.in_state(&listener, "failing").await;
    stage.let_everything_happen().await;
    let stored = stage.client.get("/v1/events?event_type=delivery.failed").await.expect(200);
    assert_eq!((stored["data"].as_array().unwrap().len(), stage.receiver.count("news")), (2, 2));
    stage.close().await;
}
