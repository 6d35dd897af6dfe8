//! Whole tasks: which events go where, and answers in the reply to a question.

use chrono::TimeDelta;
use hookyard_domain::{
    delivery::inspect::{self, DeliveryView},
    id::InputId,
    subscription::{HookState, UrlRules, endpoint as domain_endpoint},
    task::{
        Draft, Ledger, NewTask, Question, RunState, Settings, Step, Usage,
        claim::{self, ClaimedRun},
        input::{self, InputRow},
        ledger::{By, Move, Written},
        list, model,
        respond::RespondLinks,
        store,
        webhook::WebhookUrls,
    },
    trace::TraceContext,
    wire::{SigningSecret, parse},
};
use hookyard_messaging::Bus;
use hookyard_tests::{receiver::Answer, secrets::vault};
use serde_json::json;

use super::Run;
use crate::pipeline::stage::{PATIENCE, Stage, until};

/// A task whose run is held.
struct Held {
    task: NewTask,
    run: ClaimedRun,
}

fn ledger(mail: bool) -> Ledger {
    let links = RespondLinks::new(&vault(), "https://h.example");
    Ledger::new(Settings::default(), links, mail.then(vault))
}

impl Held {
    /// Makes a task with these members and takes its run.
    async fn of(stage: &Stage, more: &str) -> Self {
        let models = model::Models::new(&model::Settings::default()).unwrap();
        let urls = WebhookUrls::new(UrlRules::new(&[stage.receiver.prefix()]).unwrap());
        let body = format!(r#"{{"title":"A title","description":"What to do",{more}}}"#);
        let (tenant, now) = (stage.system.tenant, stage.system.clock.now());
        let draft = Draft::parse(parse(body.as_bytes()).unwrap(), &models, &urls, now).unwrap();
        let task = draft.accept(tenant, None, TraceContext::fresh(), now);
        let tasks = vec![task.clone()];
        let work = move |conn: &mut hookyard_domain::db::Conn| {
            store::create(conn, &Settings::default(), &vault(), &tasks, now)?;
            claim::claim_built_in(conn, &Settings::default(), 1, now)
        };
        let run = stage.system.db.run(work).await.unwrap().pop().unwrap();
        assert_eq!(run.run, task.run);
        Self { task, run }
    }

    /// What its holder says, with what follows from it.
    async fn says(&self, stage: &Stage, step: Step, mail: bool) -> Written {
        stage.advance(1);
        let now = stage.system.clock.now();
        let moves = [Move { run: self.run.run, by: By::Holder(self.run.lease), step }];
        let apply = move |conn: &mut hookyard_domain::db::Conn| ledger(mail).apply(conn, &moves, now);
        let written = stage.system.db.run(apply).await.unwrap();
        assert!(written.results.iter().all(Result::is_ok), "{:?}", written.results);
        for (endpoint, id) in &written.ordered {
            let run = Run { tenant: stage.system.tenant, endpoint: *endpoint, id: *id };
            run.let_go(&stage.system.db, &stage.system.bus, now).await;
        }
        written
    }

    async fn asks(&self, stage: &Stage, choices: Option<&[&str]>) -> InputId {
        let input = InputId::new(stage.system.clock.now());
        let question = Question {
            question: "Which colour?".to_owned(),
            choices: choices.map(|all| all.iter().map(|one| (*one).to_owned()).collect()),
            schema: None,
        };
        self.says(stage, Step::Ask { input, question, usage: Usage::default() }, false).await;
        input
    }

    async fn question(&self, stage: &Stage, input: InputId) -> InputRow {
        let work = move |conn: &mut hookyard_domain::db::Conn| input::by_link(conn, input);
        stage.system.db.once(work).await.unwrap().unwrap()
    }

    async fn answered(&self, stage: &Stage, input: InputId) -> InputRow {
        until("the question is answered", async || {
            let row = self.question(stage, input).await;
            if row.answer.is_some() { Ok(row) } else { Err(row.state) }
        })
        .await
    }

    /// Its webhook deliveries, as whoever looks at the task sees them.
    async fn webhooks(&self, stage: &Stage) -> Vec<DeliveryView> {
        let (tenant, task) = (self.task.tenant, self.task.id);
        let work = move |conn: &mut hookyard_domain::db::Conn| {
            let Some(run) = inspect::latest_run(conn, tenant, task)? else { return Ok(Vec::new()) };
            inspect::of_run(conn, tenant, &run, 100)
        };
        stage.system.db.once(work).await.unwrap()
    }
}

fn complete() -> Step {
    Step::Complete { result: "café ☕".to_owned(), summary: None, usage: Usage::default() }
}

fn url(stage: &Stage, path: &str) -> String {
    format!(r#""webhook_url":"{}""#, stage.receiver.url(path))
}

pub(super) async fn a_reply_to_a_question_answers_it(bus: Bus) {
    let stage = Stage::open(bus).await;
    // Longer than what is kept of a reply, and with letters that are longer than a byte.
    let answer = format!("blue é{}", "x".repeat(20_000));
    let reply = json!({"answer": answer, "note": "from a Zap"}).to_string();
    stage.receiver.answer("asked", Answer { body: reply, ..Answer::status(200) });
    let held = Held::of(&stage, &url(&stage, "asked")).await;
    held.says(&stage, Step::Started, false).await;
    let input = held.asks(&stage, None).await;
    let row = held.answered(&stage, input).await;
    assert_eq!(row.answer, Some(json!(answer).to_string()));
    assert_eq!((row.answered_by.as_deref(), row.state), (Some("the reply of 127.0.0.1"), RunState::Queued));
    let asked = stage.receiver.wait_for("asked", 2, PATIENCE).await;
    let body = asked[1].json();
    assert_eq!(
        (&body["event"], &body["request_id"]),
        (&json!("task_needs_input"), &json!(input.to_string()))
    );
    // Whoever looks at the tries sees the beginning of the reply, and the audit log says who answered.
    let webhooks = until("the webhooks have arrived", async || {
        let webhooks = held.webhooks(&stage).await;
        let states: Vec<&str> = webhooks.iter().map(|one| one.delivery.state.as_str()).collect();
        if states == ["delivered", "delivered"] { Ok(webhooks) } else { Err(format!("{states:?}")) }
    })
    .await;
    let ids = webhooks.iter().map(DeliveryView::id).collect::<Vec<_>>();
    let tries = stage.system.db.once(move |conn| inspect::attempts_of(conn, &ids)).await.unwrap();
    let kept: Vec<usize> = tries.iter().map(|(_, one)| one.reply.as_ref().map_or(0, Vec::len)).collect();
    assert_eq!(kept, [1024, 1024]);
    let shown =
        stage.client.get(&format!("/v1/automation/tasks/{}/deliveries", held.task.id)).await.expect(200);
    let types: Vec<(&str, usize)> = shown["deliveries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["event_type"].as_str().unwrap(), one["tries"].as_array().unwrap().len()))
        .collect();
    assert_eq!(types, [("task.started", 1), ("task.needs_input", 1)], "{shown}");
    let told = stage.client.get("/v1/audit?action=task.answered").await.expect(200);
    let entries = told["data"].as_array().unwrap();
    assert_eq!(entries.len(), 1, "{told}");
    assert_eq!(entries[0]["object"], json!({"kind": "task", "id": held.task.id.to_string()}), "{told}");
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_answer_changes_nothing() {
    let stage = Stage::open(Bus::in_process()).await;
    let too_long = json!({"answer": "x".repeat(64 * 1024)}).to_string();
    let colours = ["red", "blue"];
    for (path, status, body) in [
        (
            "other",
            200,
            json!({"answer": "red", "request_id": "00000000-0000-0000-0000-000000000000"}).to_string(),
        ),
        ("choice", 200, json!({"answer": "green"}).to_string()),
        ("failed", 500, json!({"answer": "red"}).to_string()),
        ("success", 200, json!({"status": "success"}).to_string()),
        ("long", 200, too_long),
    ] {
        stage.receiver.answer(path, Answer { body, ..Answer::status(status) });
        let held =
            Held::of(&stage, &format!(r#"{},"webhook_events":["task_needs_input"]"#, url(&stage, path)))
                .await;
        let input = held.asks(&stage, Some(&colours)).await;
        until("the webhook was tried", async || {
            let webhooks = held.webhooks(&stage).await;
            if webhooks.first().is_some_and(|one| one.delivery.attempts == 1) {
                Ok(())
            } else {
                Err(webhooks.len())
            }
        })
        .await;
        let row = held.question(&stage, input).await;
        assert_eq!((row.answer, row.state), (None, RunState::NeedsInput), "{path}");
    }
    // The one that failed is tried again, and its answer counts then.
    stage.close().await;
}

/// Whoever verifies the Standard Webhooks signature has to be told its key.
#[tokio::test(flavor = "multi_thread")]
async fn the_key_of_the_signature_is_shown_and_audited() {
    let stage = Stage::open(Bus::in_process()).await;
    let held = Held::of(&stage, &url(&stage, "key")).await;
    held.says(&stage, complete(), false).await;
    let got = stage.receiver.wait_for("key", 2, PATIENCE).await.remove(1);
    let path = format!("/v1/automation/tasks/{}/webhook", held.task.id);
    let reply = stage.client.get(&path).await;
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    let shown = reply.expect(200);
    assert_eq!(shown["url"], stage.receiver.url("key"));
    let secret = SigningSecret::parse(shown["signing_secret"].as_str().unwrap()).unwrap();
    let (id, timestamp) = (got.header("webhook-id"), got.header("webhook-timestamp").parse().unwrap());
    assert_eq!(got.header("webhook-signature"), secret.standard_webhooks(id, timestamp, &got.body));
    let told = stage.client.get("/v1/audit?action=task_endpoint.secret_shown").await.expect(200);
    assert_eq!(told["data"].as_array().map(Vec::len), Some(1), "{told}");
    let silent = Held::of(&stage, r#""priority":1"#).await;
    let path = |what: &str| format!("/v1/automation/tasks/{}/{what}", silent.task.id);
    assert_eq!(stage.client.get(&path("webhook")).await.status, 404);
    assert_eq!(stage.client.get(&path("deliveries")).await.expect(200), json!({"deliveries": []}));
    stage.close().await;
}

/// The same webhook twice, as after a crash between the answer and the outcome, and an answer that comes second.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_counts_once() {
    let stage = Stage::open(Bus::in_process()).await;
    let reply = |colour: &str| Answer { body: json!({"answer": colour}).to_string(), ..Answer::status(200) };
    stage.receiver.script("twice", [reply("red"), reply("red"), reply("blue")]);
    let held =
        Held::of(&stage, &format!(r#"{},"webhook_events":["task_needs_input"]"#, url(&stage, "twice"))).await;
    let input = held.asks(&stage, None).await;
    let first = held.answered(&stage, input).await;
    let webhook = until("the webhook has arrived", async || {
        let webhooks = held.webhooks(&stage).await;
        let arrived = webhooks.first().filter(|one| one.delivery.settled_at.is_some()).map(DeliveryView::id);
        arrived.ok_or(webhooks.len())
    })
    .await;
    for attempts in 2..=3 {
        stage.client.post_json(&format!("/v1/deliveries/{webhook}/retry"), &json!({})).await.expect(202);
        super::settled(&stage, webhook, "delivered", attempts).await;
    }
    let row = held.question(&stage, input).await;
    assert_eq!((row.answer, row.answered_at), (Some("\"red\"".to_owned()), first.answered_at));
    let told = stage.client.get("/v1/audit?action=task.answered").await.expect(200);
    assert_eq!(told["data"].as_array().map(Vec::len), Some(1), "{told}");
    stage.close().await;
}

/// Zapier goes on with a Zap at the first request to its callback, whatever that says.
#[tokio::test(flavor = "multi_thread")]
async fn a_callback_gets_the_end_alone_and_others_what_was_chosen() {
    let stage = Stage::still().await;
    let progress = || Step::Progress { percent: Some(50), message: None };
    let plain = url(&stage, "plain");
    let callback = r#""webhook_url":"https://zapier.com/hooks/callback/1/2/3/""#;
    let all = r#""webhook_events":["task_started","task_progress","task_completed"]"#;
    for (more, expected) in [
        (plain.clone(), vec!["task.started", "task.completed"]),
        (format!("{plain},{all}"), vec!["task.started", "task.progress", "task.completed"]),
        (callback.to_owned(), vec!["task.completed"]),
        (format!("{callback},{all}"), vec!["task.completed"]),
        (r#""priority":1"#.to_owned(), vec![]),
    ] {
        let held = Held::of(&stage, &more).await;
        for step in [Step::Started, progress(), complete()] {
            held.says(&stage, step, false).await;
        }
        let webhooks = held.webhooks(&stage).await;
        let types: Vec<&str> = webhooks.iter().map(|one| one.event_type.as_str()).collect();
        assert_eq!(types, expected, "{more}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_stays_while_a_run_may_still_report() {
    let stage = Stage::still().await;
    let more = format!(
        r#"{},"webhook_events":["task_completed"],"task_timeout_seconds":604800"#,
        url(&stage, "stays")
    );
    let held = Held::of(&stage, &more).await;
    let (tenant, task, id) = (held.task.tenant, held.task.id, super::endpoint(&stage, "stays", None).await);
    let later = stage.system.clock.now() + domain_endpoint::UNUSED + TimeDelta::hours(2);
    let removed = move |conn: &mut hookyard_domain::db::Conn| domain_endpoint::remove_unused(conn, later, 10);
    assert_eq!(stage.system.db.once(removed).await.unwrap(), 0);
    let cancel = [Move { run: held.run.run, by: By::Owner(tenant), step: Step::Cancel { reason: None } }];
    let now = stage.system.clock.now();
    stage.system.db.run(move |conn| ledger(false).apply(conn, &cancel, now)).await.unwrap();
    assert_eq!(stage.system.db.once(removed).await.unwrap(), 1);
    // It is kept for as long as the task is, for somebody may run it again.
    let forget = move |conn: &mut hookyard_domain::db::Conn| {
        domain_endpoint::forget_removed(conn, later + TimeDelta::days(40), 10)
    };
    assert_eq!(stage.system.db.once(forget).await.unwrap(), 0);
    let retry = move |conn: &mut hookyard_domain::db::Conn| {
        store::retry(conn, &Settings::default(), tenant, task, later)?;
        domain_endpoint::find(conn, tenant, id)
    };
    let found = stage.system.db.run(retry).await.unwrap().unwrap();
    assert_eq!((found.id, found.state), (id, HookState::Pending));
    let shown = move |conn: &mut hookyard_domain::db::Conn| list::show(conn, tenant, task);
    stage.system.db.once(shown).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_wants_mail_gets_one_for_a_question_and_one_for_the_end() {
    let stage = Stage::still().await;
    let held = Held::of(&stage, r#""notify_email":"ada@example.com""#).await;
    held.says(&stage, Step::Started, true).await;
    held.says(&stage, Step::Progress { percent: Some(10), message: None }, true).await;
    held.says(&stage, complete(), true).await;
    let asking = Held::of(&stage, r#""notify_email":"ada@example.com""#).await;
    let input = InputId::new(stage.system.clock.now());
    let question = Question { question: "Which colour?".to_owned(), choices: None, schema: None };
    asking.says(&stage, Step::Ask { input, question, usage: Usage::default() }, true).await;
    let silent = Held::of(&stage, r#""notify_email":"ada@example.com""#).await;
    silent.says(&stage, complete(), false).await;
    let now = stage.system.clock.now();
    let take = move |conn: &mut hookyard_domain::db::Conn| {
        let claim = hookyard_domain::id::ClaimId::new(now);
        hookyard_domain::email::store::claim_due(conn, &vault(), claim, now, now, 10)
    };
    let mails = stage.system.db.run(take).await.unwrap();
    let got: Vec<(&str, &str)> =
        mails.iter().map(|mail| (mail.email.to.as_str(), mail.email.subject.as_str())).collect();
    let to = "ada@example.com";
    assert_eq!(got, [(to, "Task completed: A title"), (to, "A question: A title")]);
    let texts: Vec<&str> = mails.iter().map(|mail| mail.email.text.as_str()).collect();
    assert!(texts[0].contains("café ☕"), "{texts:?}");
    assert!(
        texts[1].contains("Which colour?") && texts[1].contains("https://h.example/respond/"),
        "{texts:?}"
    );
}
