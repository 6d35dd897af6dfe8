//! When an endpoint takes nothing more, and what is left of its deliveries.

use hookyard_domain::{
    db::Conn,
    subscription::{HookState, endpoint as domain_endpoint},
};
use hookyard_messaging::Bus;
use serde_json::{Value, json};

use super::{Run, endpoint, settled};
use crate::pipeline::stage::{Stage, text, until};

async fn state(stage: &Stage, run: Run) -> (HookState, Option<String>) {
    let find = move |conn: &mut Conn| domain_endpoint::find(conn, run.tenant, run.endpoint);
    let found = stage.system.db.once(find).await.unwrap().unwrap();
    (found.state, found.state_reason)
}

async fn in_state(stage: &Stage, run: Run, wanted: HookState) -> Option<String> {
    until(&format!("the endpoint is {wanted:?}"), async || {
        let (state, reason) = state(stage, run).await;
        if state == wanted { Ok(reason) } else { Err(state) }
    })
    .await
}

/// The audit entries of an action, as `[object, after]`.
async fn told(stage: &Stage, action: &str) -> Vec<Value> {
    let page = stage.client.get(&format!("/v1/audit?action={action}")).await.expect(200);
    let entries = page["data"].as_array().unwrap().iter();
    entries
        .map(|entry| json!([entry["object"]["kind"], entry["object"]["id"], entry["after"]["state"]]))
        .collect()
}

pub(super) async fn gone_disables_the_endpoint_and_cancels_what_waits(bus: Bus) {
    let stage = Stage::open(bus).await;
    let watcher = stage.hook("watcher", json!({"event_type": "hook.*"})).await;
    let run = Run::to(&stage, "gone").await;
    let other = Run { id: uuid::Uuid::now_v7(), ..run };
    // Another run's webhook waits for its second try when the receiver says that it is gone.
    stage.answer("gone", 500);
    let waiting = other.report(&stage, &["started"]).await;
    settled(&stage, other.delivery(waiting[0]), "pending", 1).await;
    stage.answer("gone", 410);
    let steps = run.report(&stage, &["started", "completed"]).await;
    settled(&stage, run.delivery(steps[0]), "dead", 1).await;
    in_state(&stage, run, HookState::Disabled).await;
    settled(&stage, other.delivery(waiting[0]), "cancelled", 1).await;
    // The next step was let go when the first ended; it is cancelled, whoever was quicker.
    let last = until("the next step has ended", async || {
        let shown = super::shown(&stage, run.delivery(steps[1])).await;
        if shown["state"] == "pending" { Err(shown) } else { Ok(shown) }
    })
    .await;
    assert!(["cancelled", "dead"].contains(&text(&last["state"])), "{last}");
    // And so is what is reported from now on.
    let more = run.report(&stage, &["cancelled"]).await;
    let cancelled = settled(&stage, run.delivery(more[0]), "cancelled", 0).await;
    assert_eq!(cancelled["last_reason"], "the hook takes no events");
    let entry = json!(["task_endpoint", run.endpoint.to_string(), "disabled"]);
    assert_eq!(told(&stage, "task_endpoint.disabled").await, [entry]);
    // Nobody subscribed it: no good-bye is said, and no hook was disabled.
    stage.let_everything_happen().await;
    assert!(stage.receiver.at("gone").iter().all(|one| one.method == "POST"));
    assert_eq!(stage.receiver.count("watcher"), 0);
    assert_eq!(stage.shown(&watcher).await["delivery_count"], 0);

    // A dead letter of a disabled endpoint is not retried; a task that names it again enables it.
    let letter = format!("/v1/dead-letters/{}", run.delivery(steps[0]));
    let refused = stage.client.post_json(&format!("{letter}/retry"), &json!({})).await;
    assert_eq!(refused.error(), (409, "TASK_ENDPOINT_DISABLED".to_owned()));
    stage.answer("gone", 200);
    assert_eq!(endpoint(&stage, "gone", None).await, run.endpoint);
    assert_eq!(state(&stage, run).await, (HookState::Pending, None));
    let listed = stage.client.get("/v1/dead-letters").await.expect(200);
    assert_eq!(listed["data"][0]["kind"], "task", "{listed}");
    stage.client.post_json(&format!("{letter}/retry"), &json!({})).await.expect(202);
    settled(&stage, run.delivery(steps[0]), "delivered", 2).await;
    in_state(&stage, run, HookState::Active).await;
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forbidden_address_disables_the_endpoint_and_is_audited() {
    let stage = Stage::with(Bus::in_process(), |_, engine| engine.egress.allow.clear()).await;
    let run = Run::to(&stage, "inside").await;
    let steps = run.report(&stage, &["completed"]).await;
    let dead = settled(&stage, run.delivery(steps[0]), "dead", 1).await;
    assert_eq!(dead["last_reason"], "forbidden_address", "{dead}");
    in_state(&stage, run, HookState::Disabled).await;
    assert_eq!(told(&stage, "task_endpoint.address_forbidden").await.len(), 1);
    assert_eq!(told(&stage, "task_endpoint.disabled").await.len(), 1);
    assert_eq!(stage.receiver.count("inside"), 0);
    stage.close().await;
}

/// Refusals are failures like others here, and a spent delivery is no reason to stop: only days of failures are.
#[tokio::test(flavor = "multi_thread")]
async fn five_days_of_nothing_but_failures_disable_and_a_day_less_does_not() {
    let stage = Stage::open(Bus::in_process()).await;
    let run = Run::to(&stage, "hopeless").await;
    stage.answer("hopeless", 403);
    let fail = async |run: Run| {
        let steps = run.report(&stage, &["completed"]).await;
        settled(&stage, run.delivery(steps[0]), "pending", 1).await;
    };
    let counted = async |failures: i64| {
        until("the failures are counted", async || {
            let find = move |conn: &mut Conn| domain_endpoint::find(conn, run.tenant, run.endpoint);
            let count = stage.system.db.once(find).await.unwrap().unwrap().record.failure_count;
            if count >= failures { Ok(()) } else { Err(count) }
        })
        .await;
    };
    for failures in 1..=6 {
        fail(Run { id: uuid::Uuid::now_v7(), ..run }).await;
        counted(failures).await;
    }
    assert_eq!(state(&stage, run).await.0, HookState::Pending, "six refusals in a row are nothing special");
    stage.advance(5 * 86_400_000 - 60_000);
    fail(Run { id: uuid::Uuid::now_v7(), ..run }).await;
    counted(7).await;
    assert_ne!(state(&stage, run).await.0, HookState::Disabled, "not yet five days");
    stage.advance(60_001);
    let last = Run { id: uuid::Uuid::now_v7(), ..run };
    let steps = last.report(&stage, &["completed"]).await;
    let reason = in_state(&stage, run, HookState::Disabled).await;
    assert!(reason.as_deref().is_some_and(|why| why.contains("five days")), "{reason:?}");
    until("what waits is cancelled", async || {
        let shown = super::shown(&stage, last.delivery(steps[0])).await;
        if shown["state"] == "cancelled" { Ok(()) } else { Err(shown) }
    })
    .await;
    // Named again it begins anew: the next failure is the first.
    assert_eq!(endpoint(&stage, "hopeless", None).await, run.endpoint);
    fail(Run { id: uuid::Uuid::now_v7(), ..run }).await;
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert_eq!(state(&stage, run).await.0, HookState::Pending);
    stage.close().await;
}
