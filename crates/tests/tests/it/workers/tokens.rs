//! Worker tokens: who makes them, what they open, and how they end.

use hookyard_domain::credential::Scope;
use hookyard_tests::{
    processes::{environment, operate, run},
    system::System,
};
use serde_json::json;

use super::{Fleet, claim, text, token};

#[tokio::test]
async fn a_worker_token_takes_what_it_names_and_opens_nothing_else() {
    let fleet = Fleet::quiet().await;
    let (admin, system) = (&fleet.admin, &fleet.system);
    let body = json!({"name": "builders", "agent_types": ["build"], "models": ["claude-haiku"]});
    let reply = admin.post_json("/v1/automation/worker-tokens", &body).await;
    let made = reply.expect(201);
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    let (key, id) = (text(&made["token"]), text(&made["id"]));
    assert!(key.starts_with("wk_") && key.len() == 46, "{made}");
    assert_eq!((&made["agent_types"], &made["rate_limit"]), (&json!(["build"]), &json!(0)));
    let worker = system.anonymous().with_key(&key);
    for (agent, model) in [("build", "claude-sonnet"), ("explore", "claude-haiku"), ("build", "claude-haiku")]
    {
        let body = json!({"title": agent, "description": "d", "agent_type": agent, "model": model});
        fleet.task_with(&body).await;
    }
    let got = claim(&worker, "w", 10, 0).await;
    assert_eq!(got.len(), 1, "{got:?}");
    assert_eq!((&got[0]["agent_type"], &got[0]["model"]), (&json!("build"), &json!("claude-haiku")));
    for more in [json!({"agent_types": ["build", "explore"]}), json!({"models": ["claude-sonnet"]})] {
        let mut about = json!({"name": "w"});
        about.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let refused = worker.post_json("/v1/automation/worker/claim", &json!({"worker": about})).await;
        assert_eq!(refused.error(), (403, "WORK_NOT_ALLOWED".to_owned()), "{more}");
    }
    for path in ["/v1/automation", "/v1/automation/tasks", "/v1/automation/workers", "/v1/events", "/v1/keys"]
    {
        assert_eq!(worker.get(path).await.error(), (403, "INSUFFICIENT_PERMISSIONS".to_owned()), "{path}");
    }
    // And nothing else opens what it opens.
    for key in
        [system.key(&[Scope::Admin]).await, system.key(&[Scope::TasksWrite, Scope::AutomationWrite]).await]
    {
        let other = system.anonymous().with_key(&key);
        let refused = other.post_json("/v1/automation/worker/claim", &json!({"worker": {"name": "w"}})).await;
        assert_eq!(refused.error(), (403, "INSUFFICIENT_PERMISSIONS".to_owned()));
    }
    let listed = admin.get("/v1/automation/worker-tokens").await.expect(200);
    let names: Vec<String> =
        listed["data"].as_array().unwrap().iter().map(|one| text(&one["name"])).collect();
    assert_eq!(names, ["builders", "fleet"]);
    assert!(!listed.to_string().contains(&key));
    let path = format!("/v1/automation/worker-tokens/{id}");
    assert!(admin.delete(&path).await.expect(200)["revoked_at"].is_string());
    assert_eq!(
        worker.post_json("/v1/automation/worker/drain", &json!({})).await.status,
        401,
        "the very next"
    );
    admin.delete(&path).await.expect(200);
    // Neither door opens the other's keys.
    assert_eq!(admin.delete(&format!("/v1/keys/{id}")).await.status, 404);
    assert_eq!(admin.get("/v1/keys").await.expect(200).to_string().matches("builders").count(), 0);
    assert_eq!(
        system.audited(Some(system.tenant)).await,
        ["worker_token.created", "worker_token.created", "worker_token.revoked"]
    );
}

#[tokio::test]
async fn a_repetition_makes_no_second_token_and_tells_the_first_no_more() {
    let system = System::start().await;
    let admin = system.client().await;
    let send = async || {
        let request = admin.request("POST", "/v1/automation/worker-tokens").header("idempotency-key", "k");
        request.json(r#"{"name":"one"}"#).send().await.expect(201)
    };
    let (first, again) = (send().await, send().await);
    assert!(first["token"].is_string() && again["token"].is_null());
    assert_eq!(first["id"], again["id"]);
    for (body, field) in [
        (json!({}), "name"),
        (json!({"name": "x".repeat(51)}), "name"),
        (json!({"name": "x", "agent_types": ["cook"]}), "agent_types"),
        (json!({"name": "x", "models": []}), "models"),
        (json!({"name": "x", "rate_limit": -1}), "rate_limit"),
        (json!({"name": "x", "expires_at": "2020-01-01T00:00:00Z"}), "expires_at"),
    ] {
        let refused = admin.post_json("/v1/automation/worker-tokens", &body).await;
        assert_eq!((refused.status, &refused.json()["details"]["field"]), (422, &json!(field)), "{body}");
    }
    for n in 1..50 {
        token(&admin, &json!({"name": format!("n{n}")})).await;
    }
    let fifty_first = admin.post_json("/v1/automation/worker-tokens", &json!({"name": "51"})).await;
    assert_eq!(fifty_first.error(), (409, "CONFLICT".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_makes_lists_and_ends_worker_tokens() {
    let fleet = Fleet::quiet().await;
    let system = &fleet.system;
    let environment = environment("", &[("DATABASE_URL", &system.database.url())]);
    let tenant = system.tenant.to_string();
    let create = [
        "worker-tokens",
        "create",
        "--tenant",
        &tenant,
        "--name",
        "cli",
        "--agent-types",
        "build,plan",
        "--json",
    ];
    let made = operate(&create, &environment);
    assert_eq!(made["agent_types"], json!(["build", "plan"]));
    let worker = system.anonymous().with_key(&text(&made["token"]));
    fleet.task("From the command line").await;
    assert_eq!(claim(&worker, "w", 10, 0).await.len(), 1);
    let listed = run(&["worker-tokens", "list", "--tenant", &tenant], &environment);
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.contains("cli  [build, plan]") && listed.contains("fleet  [all tasks]"), "{listed}");
    assert!(run(&["worker-tokens", "revoke", &text(&made["key_id"])], &environment).status.success());
    assert_eq!(worker.post_json("/v1/automation/worker/drain", &json!({})).await.status, 401);
}
