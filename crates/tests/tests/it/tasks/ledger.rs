//! What the ledger writes: runs, events, webhook deliveries, lines, questions, usage.

use diesel::{QueryableByName, RunQueryDsl, sql_query, sql_types::BigInt};
use hookyard_domain::{
    Error,
    id::{InputId, LeaseId, RunId, TenantId},
    task::{
        Failure, Question, Refused, RunState, Settings, Step, Usage, budget,
        input::{self, Answered},
        lease::{self, Beat},
        ledger::{By, Move},
        output, store,
    },
    wire::parse,
};
use serde_json::json;

use super::stage::{Shop, complete, used};

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

async fn count(shop: &Shop, from: &'static str) -> i64 {
    let rows: Vec<Count> = shop
        .run(move |conn| Ok(sql_query(format!("SELECT count(*) AS count FROM {from}")).load(conn)?))
        .await;
    rows[0].count
}

#[tokio::test]
async fn a_run_tells_its_steps_in_the_words_and_the_order_of_the_contract() {
    let mut shop = Shop::open().await;
    let task = shop.task(r#","webhook_url":"https://example.com/in","metadata":{"zap":"7"}"#).await;
    let held = shop.claim(1).await.remove(0);
    assert_eq!((held.run, held.attempt, held.description.as_str()), (task.run, 1, "What to do"));
    shop.pass(2);
    let done = Step::Complete { result: "café ☕".to_owned(), summary: None, usage: used(10, 5, 90) };
    let written = shop
        .apply(vec![
            Move { run: held.run, by: By::Holder(held.lease), step: Step::Started },
            Move { run: held.run, by: By::Holder(held.lease), step: done },
        ])
        .await;
    assert!(written.results.iter().all(Result::is_ok));
    assert!(written.group.is_some());
    assert_eq!(written.ordered.len(), 1);
    assert_eq!(written.ordered[0].1, task.run.uuid());
    let told = shop.told(task.run).await;
    let texts: Vec<String> = told.iter().map(|body| body["payload"].to_string()).collect();
    let at = |n: usize| told[n]["payload"]["timestamp"].as_str().unwrap().to_owned();
    let (run, id) = (task.run, task.id);
    assert_eq!(
        serde_json::to_value(&texts).unwrap(),
        json!([
            json!({"event":"task_started","run_id":run,"task_id":id,"status":"running","result":null,"error":null,"timestamp":at(0)}).to_string(),
            json!({"event":"task_completed","run_id":run,"task_id":id,"status":"completed","result":"café ☕","error":null,"timestamp":at(1)}).to_string(),
        ])
    );
    assert!(at(0) < at(1), "ids and times rise");
    assert_eq!(told[1]["metadata"]["task"]["metadata"], json!({"zap": "7"}));
    assert_eq!(told[1]["metadata"]["task"]["title"], "A title");
    assert_eq!(
        count(&shop, "deliveries WHERE profile = 3 AND ordering IS NOT NULL").await,
        2,
        "both stand in line"
    );
    let shown = shop.shown(&task).await;
    assert_eq!((shown.state, shown.result.as_deref()), (RunState::Completed, Some("café ☕")));
    assert_eq!((shown.usage(), shown.runtime_ms(shop.now)), (used(10, 5, 90), 2_000));
    let again = shop.report(&held, complete("x")).await;
    assert_eq!(again, Err(Refused::Ended(RunState::Completed)));
    assert_eq!(shop.words(task.run).await.len(), 2);
}

#[tokio::test]
async fn the_stored_payload_has_the_members_in_order() {
    let shop = Shop::open().await;
    let task = shop.task("").await;
    let held = shop.claim(1).await.remove(0);
    let question =
        Question { question: "Which?".to_owned(), choices: Some(vec!["a".to_owned()]), schema: None };
    let asked = InputId::new(shop.now);
    shop.report(&held, Step::Ask { input: asked, question, usage: Usage::default() }).await.unwrap();
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = diesel::sql_types::Binary)]
        body: Vec<u8>,
    }
    let row: Row = shop
        .run(|conn| {
            Ok(sql_query("SELECT body FROM events WHERE event_type = 'task.needs_input'").get_result(conn)?)
        })
        .await;
    let payload = String::from_utf8(hookyard_domain::event::payload(&row.body).unwrap().to_vec()).unwrap();
    let start = format!(
        r#"{{"event":"task_needs_input","run_id":"{}","task_id":"{}","status":"needs_input","result":null,"error":null,"timestamp":""#,
        task.run, task.id
    );
    assert!(payload.starts_with(&start), "{payload}");
    let rest = format!(
        r#","request_id":"{asked}","question":"Which?","choices":["a"],"schema":null,"expires_at":""#
    );
    assert!(payload.contains(&rest), "{payload}");
    assert!(payload.contains(r#"","respond_url":"https://h.example/respond/"#), "{payload}");
}

#[tokio::test]
async fn what_is_refused_changes_nothing_and_harms_no_other() {
    let shop = Shop::open().await;
    let (first, second) = (shop.task("").await, shop.task("").await);
    let held = shop.claim(2).await;
    let stranger = TenantId::new(shop.now);
    let by = |n: usize| By::Holder(held[n].lease);
    let stale = By::Holder(LeaseId::new(shop.now));
    let written = shop
        .apply(vec![
            Move { run: first.run, by: stale, step: complete("stale") },
            Move { run: RunId::new(shop.now), by: by(0), step: complete("nothing there") },
            Move { run: first.run, by: By::Owner(stranger), step: Step::Cancel { reason: None } },
            Move { run: first.run, by: by(1), step: complete("the other's lease") },
            Move { run: first.run, by: by(0), step: Step::Output { text: "x".repeat(70_000) } },
            Move { run: second.run, by: by(1), step: complete("good") },
            Move { run: first.run, by: by(0), step: Step::Progress { percent: Some(40), message: None } },
            Move { run: first.run, by: by(0), step: Step::Progress { percent: Some(30), message: None } },
        ])
        .await;
    let refused: Vec<bool> = written.results.iter().map(Result::is_err).collect();
    assert_eq!(refused, [true, true, true, true, true, false, false, true]);
    assert_eq!(written.results[0], Err(Refused::Stale));
    assert_eq!(written.results[1], Err(Refused::Unknown));
    assert_eq!(written.results[2], Err(Refused::Unknown));
    let shown = shop.shown(&first).await;
    assert_eq!((shown.state, shown.percent), (RunState::Running, Some(40)));
    assert_eq!(shop.shown(&second).await.result.as_deref(), Some("good"));
    assert_eq!(shop.words(first.run).await, ["task_started", "task_progress"]);
}

#[tokio::test]
async fn a_lost_lease_goes_round_and_the_one_who_overslept_changes_nothing() {
    let mut shop = Shop::open().await;
    let task = shop.task("").await;
    let first = shop.claim(1).await.remove(0);
    shop.report(&first, Step::Checkpoint { seq: 3, data: "half".to_owned() }).await.unwrap();
    shop.pass(119);
    assert!(shop.tick().await.results.is_empty());
    shop.pass(1);
    assert_eq!(shop.report(&first, complete("late")).await, Err(Refused::Expired));
    let ticked = shop.tick().await;
    assert_eq!(ticked.queued, [(shop.tenant, task.agent_type)]);
    let second = shop.claim(1).await.remove(0);
    assert_eq!((second.run, second.attempt), (task.run, 2));
    assert_eq!(second.checkpoint.as_ref().map(|c| (c.seq, c.data.as_str())), Some((3, "half")));
    assert_eq!(shop.report(&first, complete("late")).await, Err(Refused::Stale));
    shop.pass(120);
    shop.tick().await;
    let shown = shop.shown(&task).await;
    assert_eq!((shown.state, shown.error_code.as_deref()), (RunState::Failed, Some("lease_lost")));
    assert_eq!(shop.words(task.run).await, ["task_started", "task_failed"]);
    assert!(shop.claim(1).await.is_empty());
}

#[tokio::test]
async fn heartbeats_keep_leases_and_tell_what_has_ended() {
    let mut shop = Shop::open().await;
    let tasks = [shop.task("").await, shop.task("").await, shop.task(r#","task_timeout_seconds":60"#).await];
    let held = shop.claim(3).await;
    let cancel = Step::Cancel { reason: Some("no".to_owned()) };
    shop.say(tasks[1].run, By::Owner(shop.tenant), cancel).await.unwrap();
    shop.pass(59);
    let beat = |shop: &Shop| {
        let (settings, now) = (shop.ledger.settings.clone(), shop.now);
        let mut keys: Vec<_> = held.iter().map(|held| (held.run, held.lease)).collect();
        keys.push((tasks[0].run, LeaseId::new(now)));
        keys.push((RunId::new(now), held[0].lease));
        let db = shop.db.clone();
        async move { db.run(move |conn| lease::heartbeat(conn, &settings, &keys, now)).await.unwrap() }
    };
    let until = |shop: &Shop| Beat::Held { lease_until: shop.now + chrono::TimeDelta::seconds(120) };
    let beats = beat(&shop).await;
    let cancelled = Beat::Ended { state: RunState::Cancelled };
    assert_eq!(beats, [until(&shop), cancelled, until(&shop), Beat::Stale, Beat::Unknown]);
    shop.pass(1);
    // The attempt of the third is over, whatever its lease says.
    shop.tick().await;
    assert_eq!(shop.shown(&tasks[2]).await.error_code.as_deref(), Some("timed_out"));
    shop.pass(118);
    assert!(matches!(beat(&shop).await[0], Beat::Held { .. }));
    shop.pass(121);
    assert_eq!(beat(&shop).await[0], Beat::Stale, "a lease that is over is not brought back");
}

#[tokio::test]
async fn a_question_is_answered_once_and_the_run_goes_on() {
    let mut shop = Shop::open().await;
    let task = shop.task(r#","webhook_url":"https://example.com/in","notify_email":"ada@example.com""#).await;
    let held = shop.claim(1).await.remove(0);
    let asked = InputId::new(shop.now);
    let question = Question { question: "Which?".to_owned(), choices: None, schema: None };
    shop.report(&held, Step::Ask { input: asked, question, usage: Usage::default() }).await.unwrap();
    let token = shop.ledger.links.token(asked);
    assert_eq!(shop.ledger.links.read(&token), Some(asked));
    shop.pass(10);
    let answer = |shop: &Shop, tenant: TenantId, text: &'static str| {
        let (db, ledger, now) = (shop.db.clone(), shop.ledger.clone(), shop.now);
        async move {
            let work = move |conn: &mut hookyard_domain::db::Conn| {
                let json = parse(text.as_bytes()).unwrap();
                input::answer(conn, &ledger, tenant, asked, &json, "Ada", now)
            };
            db.run(work).await.unwrap()
        }
    };
    let stranger = TenantId::new(shop.now);
    assert!(matches!(answer(&shop, stranger, "1").await, Answered::Refused(Refused::Unknown)));
    let Answered::Taken(written) = answer(&shop, shop.tenant, r#"{ "b": 1.0 }"#).await else {
        panic!("not taken")
    };
    assert_eq!(written.queued, [(shop.tenant, task.agent_type)]);
    assert!(matches!(answer(&shop, shop.tenant, r#"{"b":1}"#).await, Answered::Repeated));
    assert!(matches!(answer(&shop, shop.tenant, "2").await, Answered::Refused(Refused::Conflict(_))));
    let again = shop.claim(1).await.remove(0);
    assert_eq!((again.run, again.attempt), (task.run, 1));
    let run = task.run;
    let talk = shop.run(move |conn| input::conversation(conn, run)).await;
    assert_eq!((talk.len(), talk[0].answer.as_deref()), (1, Some(r#"{"b":1}"#)));
    shop.report(&again, complete("done")).await.unwrap();
    assert!(
        matches!(answer(&shop, shop.tenant, r#"{"b":1}"#).await, Answered::Repeated),
        "also when it has ended"
    );
    assert_eq!(shop.words(task.run).await, ["task_started", "task_needs_input", "task_completed"]);
    let (tenant, id) = (shop.tenant, task.id);
    let inputs = shop.run(move |conn| input::of_task(conn, tenant, id)).await;
    assert_eq!(inputs[0].answered_by.as_deref(), Some("Ada"));
    assert_eq!(count(&shop, "emails WHERE recipient = 'ada@example.com'").await, 2, "it asked, and it ended");
}

#[tokio::test]
async fn a_callback_of_zapier_gets_one_delivery_the_end() {
    let shop = Shop::open().await;
    let task = shop.task(r#","webhook_url":"https://zapier.com/hooks/callback/1/2/3/""#).await;
    let held = shop.claim(1).await.remove(0);
    shop.report(&held, Step::Started).await.unwrap();
    assert_eq!(count(&shop, "deliveries").await, 0);
    shop.report(&held, complete("x")).await.unwrap();
    assert_eq!(count(&shop, "deliveries").await, 1);
    assert_eq!(shop.words(task.run).await, ["task_started", "task_completed"]);
}

#[tokio::test]
async fn what_was_used_is_added_up_and_a_spent_budget_refuses_and_ends() {
    let mut shop = Shop::open().await;
    let set = |shop: &Shop, tokens: Option<i64>| {
        let (tenant, now, db) = (shop.tenant, shop.now, shop.db.clone());
        let budget = budget::Budget { monthly_tokens: tokens, monthly_cost_micros: None };
        async move { db.run(move |conn| budget::set(conn, tenant, budget, now)).await.unwrap() }
    };
    set(&shop, Some(100)).await;
    let (first, second) = (shop.task("").await, shop.task("").await);
    let held = shop.claim(2).await;
    shop.report(&held[0], Step::Spent { usage: used(40, 20, 7) }).await.unwrap();
    shop.report(&held[0], Step::Spent { usage: used(40, 20, 7) }).await.unwrap();
    shop.report(&held[0], Step::Complete { result: "x".to_owned(), summary: None, usage: used(40, 40, 9) })
        .await
        .unwrap();
    assert_eq!(shop.shown(&first).await.state, RunState::Completed);
    let over = shop.report(&held[1], Step::Spent { usage: used(21, 0, 1) }).await.unwrap();
    assert_eq!(over.state, RunState::Failed);
    assert_eq!(shop.shown(&second).await.error_code.as_deref(), Some("budget_exceeded"));
    let (tenant, month) = (shop.tenant, budget::month(shop.now));
    let used = shop.run(move |conn| budget::used(conn, tenant, (month, month))).await;
    assert_eq!(used.len(), 1);
    assert_eq!(
        (used[0].runs, used[0].input_tokens, used[0].output_tokens, used[0].cost_micros),
        (2, 61, 40, 10)
    );
    let refused = shop.store(vec![shop.draft(shop.tenant, "")]).await.remove(0).unwrap();
    assert!(refused.starts_with("the tokens that may be used this month are used up"), "{refused}");
    set(&shop, Some(102)).await;
    shop.task("").await;
    set(&shop, Some(101)).await;
    let now = shop.now;
    let check = shop.db.run(move |conn| budget::check(conn, tenant, now)).await;
    assert!(matches!(check, Err(Error::BudgetExceeded { .. })));
    // Next month begins anew.
    shop.pass(32 * 86_400);
    let now = shop.now;
    shop.run(move |conn| budget::check(conn, tenant, now)).await;
}

#[tokio::test]
async fn an_ended_task_is_tried_again_in_a_new_run() {
    let mut shop = Shop::open().await;
    let task = shop.task(r#","webhook_url":"https://example.com/in""#).await;
    let retry = |shop: &Shop, tenant: TenantId| {
        let (settings, id, now, db) = (shop.ledger.settings.clone(), task.id, shop.now, shop.db.clone());
        async move { db.run(move |conn| store::retry(conn, &settings, tenant, id, now)).await }
    };
    assert!(matches!(retry(&shop, shop.tenant).await, Err(Error::Conflict { .. })));
    let held = shop.claim(1).await.remove(0);
    let failure = Failure {
        code: "bad_request".to_owned(),
        message: "no".to_owned(),
        retryable: false,
        retry_after: None,
    };
    shop.report(&held, Step::Fail { failure, usage: Usage::default() }).await.unwrap();
    assert!(matches!(retry(&shop, TenantId::new(shop.now)).await, Err(Error::NotFound { .. })));
    shop.pass(5);
    let retried = retry(&shop, shop.tenant).await.unwrap();
    assert_eq!(retried.number, 2);
    let held = shop.claim(1).await.remove(0);
    assert_eq!((held.run, held.number, held.task), (retried.run, 2, task.id));
    shop.report(&held, complete("good")).await.unwrap();
    assert_eq!(shop.shown(&task).await.result.as_deref(), Some("good"));
    assert_eq!(shop.words(task.run).await, ["task_started", "task_failed"]);
    assert_eq!(shop.words(retried.run).await, ["task_started", "task_completed"]);
}

#[tokio::test]
async fn listeners_see_lines_in_order_and_go_on_where_they_were() {
    let shop = Shop::open().await;
    let task = shop.task("").await;
    let held = shop.claim(1).await.remove(0);
    for text in ["one", "two"] {
        shop.report(&held, Step::Output { text: text.to_owned() }).await.unwrap();
    }
    shop.report(&held, complete("x")).await.unwrap();
    let run = task.run;
    let lines = shop.run(move |conn| output::after(conn, &[(run, 0)], 100)).await;
    let seen: Vec<(i64, &str)> = lines.iter().map(|line| (line.seq, line.kind.as_str())).collect();
    assert_eq!(seen, [(1, "status"), (2, "output"), (3, "output"), (4, "status")]);
    assert!(lines[1].data.contains(r#""text":"one""#) && lines[3].data.contains(r#""status":"completed""#));
    let rest = shop.run(move |conn| output::after(conn, &[(run, 2)], 1)).await;
    assert_eq!(rest.iter().map(|line| line.seq).collect::<Vec<_>>(), [3]);
}

#[tokio::test]
async fn old_tasks_that_have_ended_are_forgotten_with_all_that_belongs_to_them() {
    let mut shop = Shop::with(Settings { retention_days: 1, ..Settings::default() }).await;
    let (ended, waits) = (shop.task("").await, shop.task("").await);
    let held = shop.claim(2).await;
    shop.report(&held[0], complete("x")).await.unwrap();
    shop.report(&held[1], Step::Release).await.unwrap();
    let forget = |shop: &Shop| {
        let (settings, now, db) = (shop.ledger.settings.clone(), shop.now, shop.db.clone());
        async move { db.run(move |conn| store::forget(conn, &settings, 10, now)).await.unwrap() }
    };
    shop.pass(86_400);
    assert_eq!(forget(&shop).await, 0, "not yet older than a day");
    shop.pass(1);
    assert_eq!(forget(&shop).await, 1);
    assert_eq!(count(&shop, "task_runs").await, 1);
    assert_eq!(shop.shown(&waits).await.state, RunState::Queued);
    let (tenant, id) = (shop.tenant, ended.id);
    assert!(shop.run(move |conn| hookyard_domain::task::list::show(conn, tenant, id)).await.is_none());
}

#[tokio::test]
async fn a_hundred_runs_are_moved_with_a_few_statements_and_all_are_told() {
    let shop = Shop::with(Settings { concurrency: 200, ..Settings::default() }).await;
    let tasks: Vec<_> =
        (0..100).map(|_| shop.draft(shop.tenant, r#","webhook_url":"https://example.com/in""#)).collect();
    assert!(shop.store(tasks).await.iter().all(Option::is_none));
    let held = shop.claim(100).await;
    assert_eq!(held.len(), 100);
    let moves = held
        .iter()
        .map(|held| Move { run: held.run, by: By::Holder(held.lease), step: complete("x") })
        .collect();
    let written = shop.apply(moves).await;
    assert!(
        written
            .results
            .iter()
            .all(|result| result.as_ref().is_ok_and(|applied| applied.state == RunState::Completed))
    );
    assert_eq!(written.ordered.len(), 100);
    assert_eq!(count(&shop, "events").await, 200);
    assert_eq!(count(&shop, "event_groups").await, 1);
    assert_eq!(count(&shop, "deliveries").await, 200);
    assert_eq!(count(&shop, "subscriptions WHERE kind = 1").await, 1);
}
