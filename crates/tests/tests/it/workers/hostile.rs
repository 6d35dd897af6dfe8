//! Reports that must not be taken: stale, foreign, too late, too large, contradicting. Nothing is changed by them.

use chrono::TimeDelta;
use hookyard_domain::credential::Scope;
use hookyard_tests::system::unlimited;
use serde_json::{Value, json};

use super::{Fleet, Held, claim, token};

/// Every report with a body that would be taken.
fn reports() -> [(&'static str, Value); 8] {
    [
        ("heartbeat", json!({})),
        ("progress", json!({"percent": 99, "message": "hostile"})),
        ("output", json!({"text": "hostile"})),
        ("checkpoint", json!({"seq": 9, "data": "hostile"})),
        ("needs-input", json!({"question": "hostile?"})),
        ("complete", json!({"result": "hostile"})),
        ("fail", json!({"message": "hostile"})),
        ("release", json!({})),
    ]
}

async fn all_refused(fleet: &Fleet, held: &Held, lease: &str, expected: (u16, &str)) {
    let before = fleet.shown(held.id()).await;
    for (what, body) in reports() {
        let told = held.say_as(lease, what, body).await.error();
        assert_eq!((told.0, told.1.as_str()), expected, "{what}");
    }
    let mut after = fleet.shown(held.id()).await;
    after["runtime_seconds"] = before["runtime_seconds"].clone();
    assert_eq!(after, before);
}

#[tokio::test]
async fn a_token_that_is_not_the_runs_changes_nothing() {
    let fleet = Fleet::quiet().await;
    fleet.task("Mine").await;
    let held = fleet.claimed().await;
    for lease in ["550e8400-e29b-41d4-a716-446655440000", "x", ""] {
        all_refused(&fleet, &held, lease, (409, "STALE_LEASE")).await;
    }
    let path = format!("/v1/automation/worker/runs/{}/heartbeat", held.run());
    let missing = fleet.worker.post_json(&path, &json!({})).await;
    assert_eq!((missing.status, &missing.json()["details"]["field"]), (422, &json!("lease_token")));
    let lease = held.task["lease_token"].clone();
    fleet.worker.post_json(&path, &json!({"lease_token": lease})).await.expect(200);
    held.say("complete", json!({"result": "mine"})).await.expect(200);
}

#[tokio::test]
async fn a_run_of_another_tenant_is_not_there() {
    let fleet = Fleet::quiet().await;
    fleet.task("Ours").await;
    let mut held = fleet.claimed().await;
    let theirs = fleet.system.tenant("Other").await;
    let key = fleet.system.key_of(theirs, &[Scope::Admin], unlimited()).await.1;
    let other = fleet.system.anonymous().with_key(&key);
    let own = held.worker.clone();
    held.worker = fleet.system.anonymous().with_key(&token(&other, &json!({"name": "theirs"})).await);
    assert!(claim(&held.worker, "w", 10, 0).await.is_empty());
    let lease = held.task["lease_token"].as_str().unwrap().to_owned();
    all_refused(&fleet, &held, &lease, (404, "NOT_FOUND")).await;
    held.worker = own;
    held.task["run_id"] = json!("550e8400-e29b-41d4-a716-446655440000");
    assert_eq!(held.say("heartbeat", json!({})).await.error(), (404, "NOT_FOUND".to_owned()));
    held.task["run_id"] = json!("7");
    assert_eq!(held.say("heartbeat", json!({})).await.error(), (400, "INVALID_ID".to_owned()));
}

#[tokio::test]
async fn what_comes_too_late_is_gone() {
    let fleet = Fleet::quiet().await;
    fleet.task("Late").await;
    let held = fleet.claimed().await;
    let lease = held.task["lease_token"].as_str().unwrap().to_owned();
    fleet.system.clock.advance(TimeDelta::seconds(119));
    held.say("heartbeat", json!({})).await.expect(200);
    fleet.system.clock.advance(TimeDelta::seconds(120));
    all_refused(&fleet, &held, &lease, (410, "RUN_ENDED")).await;

    let task = fleet.task("Done").await;
    let held = fleet.claimed().await;
    let lease = held.task["lease_token"].as_str().unwrap().to_owned();
    held.say("complete", json!({"result": "first"})).await.expect(200);
    all_refused(&fleet, &held, &lease, (410, "RUN_ENDED")).await;
    assert_eq!(fleet.shown(&task).await["result"], "first");
    assert_eq!(fleet.events(&task).await, ["task.started", "task.completed"]);
}

#[tokio::test]
async fn whoever_is_cancelled_is_told_so_with_the_next_heartbeat() {
    let fleet = Fleet::quiet().await;
    let task = fleet.task("Cancel").await;
    let held = fleet.claimed().await;
    fleet.admin.delete(&format!("/v1/automation/tasks/{task}")).await.expect(200);
    let beaten = held.say("heartbeat", json!({})).await.expect(200);
    assert_eq!(beaten, json!({"lease_until": null, "lease_seconds": 0.0, "cancel_requested": true}));
    for (what, body) in reports().into_iter().skip(1) {
        assert_eq!(held.say(what, body).await.error(), (410, "RUN_ENDED".to_owned()), "{what}");
    }
    assert_eq!(fleet.events(&task).await, ["task.started", "task.cancelled"]);
}

#[tokio::test]
async fn whoever_overslept_changes_nothing_for_the_one_who_has_it_now() {
    let fleet = Fleet::lively().await;
    let task = fleet.task("Slow").await;
    let first = fleet.claimed().await;
    first.say("checkpoint", json!({"seq": 1, "data": "so far"})).await.expect(200);
    fleet.system.clock.advance(TimeDelta::seconds(121));
    let tasks = claim(&fleet.worker, "other", 1, 20).await;
    let second = Held { worker: fleet.worker.clone(), task: tasks[0].clone() };
    assert_eq!((second.run(), &second.task["attempt"]), (first.run(), &json!(2)));
    assert_eq!(second.task["checkpoint"]["data"], "so far");
    let lease = first.task["lease_token"].as_str().unwrap().to_owned();
    all_refused(&fleet, &first, &lease, (409, "STALE_LEASE")).await;
    second.say("complete", json!({"result": "second"})).await.expect(200);
    assert_eq!(fleet.shown(&task).await["result"], "second");
    assert_eq!(fleet.events(&task).await, ["task.started", "task.completed"]);
}

/// A schema of so many bytes.
fn schema_of(bytes: usize) -> Value {
    json!({"title": "x".repeat(bytes - json!({"title": ""}).to_string().len())})
}

/// One that is nested so deep.
fn nested(depth: usize) -> Value {
    (1..depth).fold(json!({}), |inner, _| json!({"items": inner}))
}

#[tokio::test]
async fn the_largest_questions_are_asked() {
    let fleet = Fleet::quiet().await;
    for question in [
        json!({"question": "q".repeat(4_000), "choices": vec!["c".repeat(200); 50]}),
        json!({"question": "?", "schema": schema_of(16_384)}),
        json!({"question": "?", "schema": nested(32)}),
    ] {
        let task = fleet.task("Ask").await;
        let held = fleet.claimed().await;
        assert_eq!(held.say("needs-input", question).await.expect(200)["status"], "needs_input");
        fleet.admin.delete(&format!("/v1/automation/tasks/{task}")).await.expect(200);
    }
    fleet.task("Fail").await;
    let failure = json!({"message": "m", "code": "c".repeat(64), "retryable": true, "retry_after": 86_400});
    assert_eq!(fleet.claimed().await.say("fail", failure).await.expect(200)["status"], "queued");
}

#[tokio::test]
async fn bounds_are_kept_to_the_byte() {
    let fleet = Fleet::quiet().await;
    let task = fleet.task("Bounds").await;
    let held = fleet.claimed().await;
    let of = |length: usize| "x".repeat(length);
    held.say("progress", json!({"percent": 50})).await.expect(200);
    held.say("progress", json!({"percent": 50})).await.expect(200);
    held.say("checkpoint", json!({"seq": 5, "data": 1})).await.expect(200);
    for (what, body, field) in [
        ("progress", json!({"percent": 49}), "percent"),
        ("progress", json!({"percent": 101}), "percent"),
        ("progress", json!({"percent": -1}), "percent"),
        ("progress", json!({"percent": 50.5}), "percent"),
        ("progress", json!({}), "percent"),
        ("progress", json!({"message": of(501)}), "message"),
        ("output", json!({"text": of(65_537)}), "text"),
        ("output", json!({"text": 5}), "text"),
        ("output", json!({}), "text"),
        ("checkpoint", json!({"seq": 5, "data": 2}), "seq"),
        ("checkpoint", json!({"seq": -1, "data": 2}), "seq"),
        ("checkpoint", json!({"seq": 2_147_483_648_u32, "data": 2}), "seq"),
        ("checkpoint", json!({"seq": 6, "data": of(262_143)}), "data"),
        ("needs-input", json!({"question": ""}), "question"),
        ("needs-input", json!({"question": of(4_001)}), "question"),
        ("needs-input", json!({"question": "?", "choices": []}), "choices"),
        ("needs-input", json!({"question": "?", "choices": vec!["c"; 51]}), "choices"),
        ("needs-input", json!({"question": "?", "choices": [of(201)]}), "choices"),
        ("needs-input", json!({"question": "?", "schema": "x"}), "schema"),
        ("needs-input", json!({"question": "?", "schema": {"type": "strin"}}), "schema"),
        ("needs-input", json!({"question": "?", "schema": {"$ref": "https://example.com/s"}}), "schema"),
        ("needs-input", json!({"question": "?", "schema": {"$ref": "#"}}), "schema"),
        ("needs-input", json!({"question": "?", "schema": schema_of(16_385)}), "schema"),
        ("needs-input", json!({"question": "?", "schema": nested(33)}), "schema"),
        ("needs-input", json!({"question": "?", "choices": ["a"], "schema": {"type": "integer"}}), "schema"),
        ("fail", json!({"message": ""}), "message"),
        ("fail", json!({"message": "m", "retryable": "yes"}), "retryable"),
        ("fail", json!({"message": "m", "retry_after": 86_401}), "retry_after"),
        ("fail", json!({"message": "m", "retry_after": -1}), "retry_after"),
        ("fail", json!({"message": "m", "code": "a b"}), "code"),
        ("heartbeat", json!({"usage": {"input_tokens": -1}}), "usage"),
        ("complete", json!({"result": of(262_145)}), "result"),
        ("complete", json!({}), "result"),
        ("complete", json!({"result": "x", "usage": {"cost_usd": "free"}}), "usage"),
    ] {
        let reply = held.say(what, body.clone()).await;
        assert_eq!(reply.error(), (422, "INVALID_FIELD".to_owned()), "{what}");
        assert_eq!(reply.json()["details"]["field"], field, "{what} {}", reply.text());
    }
    for (what, body) in [
        ("progress", json!({"percent": 51, "message": of(500)})),
        ("output", json!({"text": of(65_536)})),
        // With its quotation marks it has 256 KiB.
        ("checkpoint", json!({"seq": 6, "data": of(262_142)})),
        ("checkpoint", json!({"seq": i32::MAX, "data": 1})),
        ("progress", json!({"percent": 100})),
    ] {
        held.say(what, body).await.expect(200);
    }
    // Bodies, too: blanks around the object fill them up.
    for (what, limit) in [("output", 512 << 10), ("checkpoint", 2 << 20), ("progress", 64 << 10)] {
        let path = format!("/v1/automation/worker/runs/{}/{what}", held.run());
        for (bytes, status) in [(limit, 422), (limit + 1, 413)] {
            let body = format!("{{{}}}", " ".repeat(bytes - 2));
            let request = fleet.worker.request("POST", &path);
            let request = request.header("x-lease-token", held.task["lease_token"].as_str().unwrap());
            assert_eq!(request.json(body).send().await.status, status, "{what} of {bytes} bytes");
        }
    }
    for what in ["heartbeat", "progress", "output", "checkpoint", "complete", "fail"] {
        let large = json!({"text": of(10 << 20), "result": "x"});
        assert_eq!(held.say(what, large).await.error(), (413, "PAYLOAD_TOO_LARGE".to_owned()), "{what}");
    }
    assert_eq!(held.say("complete", json!([])).await.error(), (400, "INVALID_BODY".to_owned()));
    held.say("complete", json!({"result": of(262_144)})).await.expect(200);
    let shown = fleet.shown(&task).await;
    assert_eq!(shown["result"].as_str().unwrap().len(), 262_144);
}

#[tokio::test]
async fn the_output_of_a_run_ends_at_8_mib() {
    let fleet = Fleet::quiet().await;
    fleet.task("Much").await;
    let held = fleet.claimed().await;
    let piece = json!({"text": "x".repeat(65_536)});
    for _ in 0..128 {
        held.say("output", piece.clone()).await.expect(200);
    }
    assert_eq!(held.say("output", json!({"text": "x"})).await.error(), (422, "INVALID_FIELD".to_owned()));
    held.say("complete", json!({"result": "all the same"})).await.expect(200);
}

#[tokio::test]
async fn a_task_that_uses_more_than_it_may_ends_with_the_heartbeat_that_says_so() {
    let fleet = Fleet::quiet().await;
    let body = json!({"title": "t", "description": "d", "agent_type": "build", "max_tokens": 100});
    let task = fleet.task_with(&body).await;
    let held = fleet.claimed().await;
    let used = |tokens: u32| json!({"usage": {"input_tokens": 60, "output_tokens": tokens}});
    held.say("heartbeat", used(40)).await.expect(200);
    assert_eq!(held.say("heartbeat", used(41)).await.error(), (410, "RUN_ENDED".to_owned()));
    let shown = fleet.shown(&task).await;
    assert_eq!((&shown["status"], &shown["error_code"]), (&json!("failed"), &json!("budget_exceeded")));
    assert_eq!(fleet.events(&task).await, ["task.started", "task.failed"]);
}
