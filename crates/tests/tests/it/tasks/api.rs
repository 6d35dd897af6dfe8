//! `/v1/automation` from outside. No runner is there: what runs is moved by the test.

use hookyard_domain::{
    credential::Scope,
    task::{
        Ledger, Settings, Step, Usage,
        claim::{self, ClaimedRun},
        ledger::{By, Move},
        respond::RespondLinks,
    },
};
use hookyard_tests::{
    http::{Client, Reply},
    secrets::vault,
    system::{System, unlimited},
};
use serde_json::{Value, json};

/// Source 1's own request.
pub(crate) const SOURCE: &str = r#"{
"title": "Analyze customer feedback",
"description": "Analyze the following customer feedback and summarize key points: {{feedback_text}}",
"agent_type": "general",
"model": "claude-sonnet",
"webhook_url": "https://hooks.zapier.com/hooks/catch/123/abc/",
"priority": 0
}"#;

pub(crate) async fn post(client: &Client, body: &Value) -> Value {
    client.post_json("/v1/automation/tasks", body).await.expect(201)
}

/// A task, and its run held by nobody in particular.
pub(crate) async fn held(system: &System, client: &Client, body: &Value) -> ClaimedRun {
    let task = post(client, body).await;
    let now = system.clock.now();
    let claimed =
        system.db.run(move |conn| claim::claim_built_in(conn, &Settings::default(), 100, now)).await.unwrap();
    claimed.into_iter().find(|held| held.task.to_string() == task["task_id"]).unwrap()
}

pub(crate) async fn report(system: &System, held: &ClaimedRun, step: Step) {
    let ledger = Ledger {
        settings: Settings::default(),
        links: RespondLinks::new(&vault(), "http://h.example"),
        mail: None,
    };
    let (now, moved) = (system.clock.now(), Move { run: held.run, by: By::Holder(held.lease), step });
    let written = system.db.run(move |conn| ledger.apply(conn, &[moved], now)).await.unwrap();
    assert!(written.results[0].is_ok(), "{:?}", written.results);
}

pub(crate) fn complete(result: &str) -> Step {
    let usage = Usage { input_tokens: 412, output_tokens: 96, cost_micros: 2_676 };
    Step::Complete { result: result.to_owned(), summary: None, usage }
}

fn task() -> Value {
    json!({"title": "A title", "description": "What to do"})
}

#[tokio::test]
async fn the_request_of_source_1_is_answered_as_source_1_says() {
    let system = System::start().await;
    let client = system.client().await;
    let reply = client.request("POST", "/v1/automation/tasks").json(SOURCE).send().await;
    let made = reply.expect(201);
    let keys: Vec<&str> =
        ["task_id", "run_id", "status", "title", "description", "created_at", "model"].to_vec();
    let text = reply.text();
    let places: Vec<usize> = keys.iter().map(|key| text.find(&format!("\"{key}\":")).unwrap()).collect();
    assert!(places.is_sorted(), "{text}");
    assert_eq!(made.as_object().unwrap().len(), 7);
    assert_eq!((&made["status"], &made["model"]), (&json!("queued"), &json!("claude-sonnet")));
    assert!(made["description"].as_str().unwrap().ends_with(": {{feedback_text}}"));
    let shown =
        client.get(&format!("/v1/automation/tasks/{}", made["task_id"].as_str().unwrap())).await.expect(200);
    for key in keys {
        assert_eq!(shown[key], made[key], "{key}");
    }
    for key in ["started_at", "completed_at", "result", "result_summary", "error"] {
        assert_eq!(shown[key], Value::Null, "{key}");
    }
    assert_eq!(shown["webhook_url"], "https://hooks.zapier.com/hooks/catch/123/abc/");
    assert_eq!(shown["webhook_events"].as_array().unwrap().len(), 5);
}

#[tokio::test]
async fn what_is_wrong_with_a_task_is_told_by_name() {
    let system = System::start().await;
    let client = system.client().await;
    for (body, status, code, field) in [
        (r#"{"description":"d"}"#, 422, "INVALID_FIELD", "title"),
        (r#"{"title":"t","description":"d","priority":101}"#, 422, "INVALID_FIELD", "priority"),
        (r#"{"title":"t","description":"d","model":"gpt-5"}"#, 422, "INVALID_FIELD", "model"),
        (
            r#"{"title":"t","description":"d","webhook_url":"http://x.example"}"#,
            422,
            "INVALID_WEBHOOK_URL",
            "webhook_url",
        ),
        ("[]", 422, "INVALID_FIELD", "task"),
    ] {
        let reply = client.post("/v1/automation/tasks", body).await;
        assert_eq!(reply.error(), (status, code.to_owned()), "{body}");
        let told = reply.json();
        assert_eq!(told["details"]["field"], field, "{body}");
        assert!(told["error"].as_str().unwrap().len() < 250);
    }
    let told = client
        .post("/v1/automation/tasks", r#"{"title":"t","description":"d","model":"gpt-5"}"#)
        .await
        .json();
    assert!(told["error"].as_str().unwrap().contains("claude-sonnet, gpt-4o"), "{told}");
    assert_eq!(client.post("/v1/automation/tasks", "{").await.error(), (400, "INVALID_JSON".to_owned()));
    assert_eq!(client.get("/v1/automation/tasks/x").await.error(), (400, "INVALID_ID".to_owned()));
    let unknown = "/v1/automation/tasks/550e8400-e29b-41d4-a716-446655440000";
    assert_eq!(client.get(unknown).await.error(), (404, "NOT_FOUND".to_owned()));
    assert_eq!(client.get(&format!("{unknown}/events")).await.error(), (404, "NOT_FOUND".to_owned()));
}

#[tokio::test]
async fn fifty_identical_requests_with_a_key_make_one_task() {
    let system = System::start().await;
    let client = system.client().await;
    let send = |body: &str| {
        client.request("POST", "/v1/automation/tasks").header("idempotency-key", "race").json(body).send()
    };
    let race = (0..50).map(|_| send(SOURCE));
    let replies: Vec<Reply> = futures_util::future::join_all(race).await;
    let first = replies[0].text();
    assert!(replies.iter().all(|reply| reply.status == 201 && reply.text() == first));
    let replayed = replies.iter().filter(|reply| reply.header("idempotent-replayed").is_some()).count();
    assert_eq!(replayed, 49);
    assert_eq!(client.get("/v1/automation/tasks").await.expect(200)["total"], 1);
    let other = SOURCE.replace("\"priority\": 0", "\"priority\": 1");
    assert_eq!(send(&other).await.error(), (422, "IDEMPOTENCY_MISMATCH".to_owned()));
}

#[tokio::test]
async fn lists_are_filtered_and_cut_into_pages() {
    let system = System::start().await;
    let client = system.client().await;
    let mut ids = Vec::new();
    for n in 0..5 {
        let agent = if n == 3 { "build" } else { "general" };
        let body = json!({"title": format!("Report {n}"), "description": "d", "agent_type": agent, "metadata": {"shop": n.to_string(), "even": n % 2 == 0}});
        ids.push(post(&client, &body).await["task_id"].as_str().unwrap().to_owned());
        system.clock.advance(chrono::TimeDelta::milliseconds(2));
    }
    client.delete(&format!("/v1/automation/tasks/{}", ids[1])).await.expect(200);
    let list = async |query: &str| {
        let page = client.get(&format!("/v1/automation/tasks?{query}")).await.expect(200);
        let tasks = page["tasks"].as_array().unwrap();
        let found: Vec<usize> =
            tasks.iter().map(|task| ids.iter().position(|id| task["task_id"] == **id).unwrap()).collect();
        (found, page["total"].as_i64().unwrap())
    };
    assert_eq!(list("").await, (vec![4, 3, 2, 1, 0], 5));
    assert_eq!(list("limit=2&offset=1").await, (vec![3, 2], 5));
    assert_eq!(list("status=queued").await, (vec![4, 3, 2, 0], 4));
    for alias in ["cancelled", "canceled"] {
        assert_eq!(list(&format!("status={alias}")).await, (vec![1], 1));
    }
    assert_eq!(list("status=pending&agent_type=general").await, (vec![4, 2, 0], 3));
    assert_eq!(list("status=in_progress").await, (vec![], 0));
    assert_eq!(list("q=rePORT%203").await, (vec![3], 1));
    assert_eq!(list("search=nothing").await, (vec![], 0));
    assert_eq!(list("metadata.shop=2").await, (vec![2], 1));
    assert_eq!(list("metadata.shop=2&metadata.more=x").await, (vec![], 0));
    let page = client.get("/v1/automation/tasks?limit=200&offset=4").await.expect(200);
    assert_eq!(
        (&page["limit"], &page["offset"], page["tasks"].as_array().unwrap().len()),
        (&json!(200), &json!(4), 1)
    );
    for bad in [
        "limit=201",
        "limit=0",
        "limit=x",
        "offset=-1",
        "offset=1000001",
        "status=eaten",
        "agent_type=x",
        "x=1",
    ] {
        let refused = client.get(&format!("/v1/automation/tasks?{bad}")).await;
        assert_eq!(refused.error(), (400, "INVALID_PARAMETER".to_owned()), "{bad}");
    }
    let (_, key) = system.key_of(system.tenant("Other").await, &[Scope::TasksRead], unlimited()).await;
    let theirs = system.anonymous().with_key(&key);
    assert_eq!(theirs.get("/v1/automation/tasks").await.expect(200)["total"], 0);
}

#[tokio::test]
async fn a_task_is_cancelled_once_and_never_after_its_end() {
    let system = System::start().await;
    let client = system.client().await;
    let held = held(&system, &client, &task()).await;
    let path = format!("/v1/automation/tasks/{}", held.task);
    let cancelled = client.post(&format!("{path}/cancel"), r#"{"reason":"not wanted"}"#).await.expect(200);
    assert_eq!((&cancelled["status"], &cancelled["error"]), (&json!("cancelled"), &json!("not wanted")));
    assert_eq!(client.delete(&path).await.expect(200)["status"], "cancelled");
    assert_eq!(client.post(&format!("{path}/cancel"), "").await.expect(200)["error"], "not wanted");
    let audit = client.get("/v1/audit?action=task.cancelled").await.expect(200);
    assert_eq!(audit["data"].as_array().unwrap().len(), 1, "{audit}");
    let done = self::held(&system, &client, &task()).await;
    report(&system, &done, complete("x")).await;
    let path = format!("/v1/automation/tasks/{}", done.task);
    assert_eq!(client.delete(&path).await.error(), (409, "CONFLICT".to_owned()));
    assert_eq!(client.get(&path).await.expect(200)["status"], "completed");
}

#[tokio::test]
async fn a_finished_task_shows_its_result_and_what_it_used_and_can_be_tried_again() {
    let system = System::start().await;
    let client = system.client().await;
    let held = held(&system, &client, &task()).await;
    system.clock.advance(chrono::TimeDelta::milliseconds(2_500));
    report(&system, &held, complete("The feedback praises support.")).await;
    let path = format!("/v1/automation/tasks/{}", held.task);
    let shown = client.get(&path).await.expect(200);
    assert_eq!(shown["result"], "The feedback praises support.");
    assert_eq!(shown["result_summary"], "The feedback praises support.");
    assert_eq!(
        shown["usage"],
        json!({"input_tokens": 412, "output_tokens": 96, "total_tokens": 508, "cost_usd": 0.002676})
    );
    assert!(shown["runtime_seconds"].as_f64().unwrap() >= 2.5);
    let sample = client.get("/zapier/hook/sample?event_type=task.completed").await.expect(200);
    assert_eq!(
        sample[0]["payload"]["task_id"],
        held.task.to_string(),
        "a real one is a better sample than the example"
    );
    let retried = client.post(&format!("{path}/retry"), "").await.expect(201);
    assert_eq!((&retried["run_number"], &retried["status"]), (&json!(2), &json!("queued")));
    assert_eq!(client.post(&format!("{path}/retry"), "").await.error(), (409, "CONFLICT".to_owned()));
    let runs = client.get(&format!("{path}/runs")).await.expect(200);
    let states: Vec<&Value> = runs["runs"].as_array().unwrap().iter().map(|run| &run["status"]).collect();
    assert_eq!(states, ["queued", "completed"]);
    let usage = client.get("/v1/automation/usage").await.expect(200);
    assert_eq!(usage["usage"][0]["total_tokens"], 508);
    assert_eq!((&usage["usage"][0]["runs"], &usage["total"]["cost_usd"]), (&json!(1), &json!(0.002676)));
    let stats = client.get("/v1/automation/stats").await.expect(200);
    assert_eq!(stats["hours"][0]["completed"], 1, "{stats}");
    let queued = &stats["statuses"].as_array().unwrap()[0];
    assert_eq!((&queued["status"], &queued["tasks"]), (&json!("queued"), &json!(1)));
}

#[tokio::test]
async fn a_spent_budget_is_402_and_leaves_the_key_free() {
    let system = System::start().await;
    let client = system.client().await;
    let put = async |body: &str| client.request("PUT", "/v1/automation/budget").json(body).send().await;
    assert_eq!(put(r#"{"monthly_tokens":-1}"#).await.status, 422);
    let set = put(r#"{"monthly_tokens":508,"monthly_cost":1.5}"#).await.expect(200);
    assert_eq!((&set["monthly_tokens"], &set["monthly_cost"]), (&json!(508), &json!(1.5)));
    let held = held(&system, &client, &task()).await;
    report(&system, &held, complete("x")).await;
    let send =
        || client.request("POST", "/v1/automation/tasks").header("idempotency-key", "k").json(SOURCE).send();
    let refused = send().await;
    assert_eq!(refused.error(), (402, "BUDGET_EXCEEDED".to_owned()));
    let retry = client.post(&format!("/v1/automation/tasks/{}/retry", held.task), "").await;
    assert_eq!(retry.error(), (402, "BUDGET_EXCEEDED".to_owned()));
    put(r#"{"monthly_tokens":509}"#).await.expect(200);
    let made = send().await;
    assert_eq!((made.status, made.header("idempotent-replayed")), (201, None));
    assert_eq!(client.get("/v1/automation/budget").await.expect(200)["used"]["total_tokens"], 508);
}

#[tokio::test]
async fn who_asks_is_told_and_what_can_be_asked_for() {
    let system = System::start().await;
    let client = system.client().await;
    let me = client.get("/v1/automation/me").await.expect(200);
    assert_eq!(me["label"], "Test (API key test)");
    assert_eq!(system.anonymous().with_key("ct_wrong").get("/v1/automation/me").await.status, 401);
    for path in ["/v1/automation", "/v1/automation/"] {
        let document = client.get(path).await.expect(200);
        assert_eq!(document["default_model"], "claude-sonnet");
        assert_eq!(document["agent_types"][2], json!({"name": "build", "built_in": false}));
    }
}

#[tokio::test]
async fn keys_for_language_models_are_sealed_and_never_shown() {
    let system = System::start().await;
    let client = system.client().await;
    let path = "/v1/automation/llm-keys/anthropic";
    let put = async |body: &str| client.request("PUT", path).json(body).send().await;
    let set = put(r#"{"api_key":"sk-ant-secret"}"#).await;
    assert_eq!(set.expect(200)["has_own_key"], true);
    assert!(!set.text().contains("secret"));
    put(r#"{"api_key":"sk-ant-second"}"#).await.expect(200);
    let listed = client.get("/v1/automation/llm-keys").await;
    assert_eq!(listed.expect(200)["keys"][0]["has_own_key"], true);
    assert!(!listed.text().contains("sk-ant"));
    let tenant = system.tenant;
    let opened = system
        .db
        .run(move |conn| hookyard_domain::task::keys::find(conn, &vault(), tenant, "anthropic"))
        .await
        .unwrap();
    assert_eq!(opened.unwrap().expose(), "sk-ant-second");
    let audit = client.get("/v1/audit?action=llm_key.set").await;
    assert_eq!(audit.expect(200)["data"].as_array().unwrap().len(), 2);
    assert!(!audit.text().contains("sk-ant"));
    assert_eq!(client.delete(path).await.expect(200)["has_own_key"], false);
    for bad in [r#"{"api_key":""}"#, r#"{"api_key":"a b"}"#, "{}", r#"{"api_key":1}"#] {
        assert_eq!(put(bad).await.error(), (422, "INVALID_FIELD".to_owned()), "{bad}");
    }
    let unknown =
        client.request("PUT", "/v1/automation/llm-keys/nobody").json(r#"{"api_key":"x"}"#).send().await;
    assert_eq!(unknown.status, 404);
    assert_eq!(
        client
            .request("PUT", "/v1/automation/llm-keys/offline")
            .json(r#"{"api_key":"x"}"#)
            .send()
            .await
            .status,
        404
    );
}

#[tokio::test]
async fn schedules_are_made_changed_run_and_deleted() {
    let system = System::start().await;
    let client = system.client().await;
    let body = json!({"name": "Morning", "cron": "0 9 * * MON-FRI", "time_zone": "Europe/Paris", "task": {"title": "Report", "description": "d"}});
    let made = client.post_json("/v1/automation/schedules", &body).await.expect(201);
    let path = format!("/v1/automation/schedules/{}", made["id"].as_str().unwrap());
    assert!(made["next_at"].as_str().is_some());
    let changed =
        client.request("PATCH", &path).json(r#"{"enabled":false,"missed":"all"}"#).send().await.expect(200);
    assert_eq!(
        (&changed["next_at"], &changed["missed"], &changed["name"]),
        (&Value::Null, &json!("all"), &json!("Morning"))
    );
    let run = client.post(&format!("{path}/run"), "").await.expect(201);
    assert_eq!(run["title"], "Report");
    let history = client.get(&format!("{path}/history")).await.expect(200);
    assert_eq!(history["ticks"][0]["task_id"], run["task_id"]);
    assert_eq!(history["ticks"][0]["outcome"], "run_by_hand");
    for (change, field) in [
        (r#"{"cron":"x"}"#, "cron"),
        (r#"{"cron":"0 0 30 2 *"}"#, "cron"),
        (r#"{"time_zone":"Mars"}"#, "time_zone"),
        (r#"{"task":{"title":"t"}}"#, "description"),
        (r#"{"task":{"title":"t","description":"d","deadline_at":"2099-01-01T00:00:00Z"}}"#, "deadline_at"),
        (r#"{"missed":"never"}"#, "missed"),
    ] {
        let refused = client.request("PATCH", &path).json(change).send().await;
        assert_eq!((refused.status, &refused.json()["details"]["field"]), (422, &json!(field)), "{change}");
    }
    assert_eq!(
        client.get("/v1/automation/schedules").await.expect(200)["schedules"].as_array().unwrap().len(),
        1
    );
    client.delete(&path).await.expect(200);
    assert_eq!(client.get(&path).await.status, 404);
    let audit = client.get("/v1/audit").await.expect(200);
    let words: Vec<&str> =
        audit["data"].as_array().unwrap().iter().map(|e| e["action"].as_str().unwrap()).collect();
    assert_eq!(words, ["schedule.deleted", "schedule.run", "schedule.updated", "schedule.created"]);
}

#[tokio::test]
async fn what_is_posted_at_once_is_stored_together_and_answered_for_itself() {
    let system = System::start().await;
    let client = system.client().await;
    let (poor, key) = (system.tenant("Poor").await, Scope::Admin);
    let poor = system.anonymous().with_key(&system.key_of(poor, &[key], unlimited()).await.1);
    poor.request("PUT", "/v1/automation/budget").json(r#"{"monthly_tokens":0}"#).send().await.expect(200);
    let began = std::time::Instant::now();
    let posts = (0..300).map(|n: usize| {
        let body = json!({"title": format!("Task {n}"), "description": "d"}).to_string();
        let request =
            if n.is_multiple_of(3) { &poor } else { &client }.request("POST", "/v1/automation/tasks");
        // Half of them with a key of their own.
        let request =
            if n.is_multiple_of(2) { request.header("idempotency-key", format!("k{n}")) } else { request };
        async move { (n, request.json(body).send().await) }
    });
    let replies = futures_util::future::join_all(posts).await;
    println!("300 tasks in {:?}", began.elapsed());
    let mut ids = std::collections::BTreeSet::new();
    for (n, reply) in replies {
        if n.is_multiple_of(3) {
            assert_eq!(reply.error(), (402, "BUDGET_EXCEEDED".to_owned()), "{n}");
        } else {
            let made = reply.expect(201);
            assert_eq!(made["title"], format!("Task {n}"));
            ids.insert(made["task_id"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(ids.len(), 200);
    assert_eq!(client.get("/v1/automation/tasks?status=queued").await.expect(200)["total"], 200);
    assert_eq!(poor.get("/v1/automation/tasks").await.expect(200)["total"], 0);
}
