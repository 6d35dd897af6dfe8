//! Endpoints: found or made, seen by nobody as hooks, and gone when they are not used.

use chrono::TimeDelta;
use futures_util::future::join_all;
use hookyard_domain::{
    db::Conn,
    id::SubscriptionId,
    subscription::{
        HookState, Kind,
        directory::Directory,
        endpoint::{self as domain_endpoint, Named},
    },
    wire::WebhookSecret,
};
use hookyard_messaging::Bus;
use hookyard_tests::{receiver::Answer, secrets::vault};
use serde_json::json;

use super::{Run, endpoint, settled};
use crate::pipeline::stage::{Stage, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_url_and_a_secret_are_one_endpoint_also_in_a_race() {
    let stage = Stage::still().await;
    let stage = &stage;
    let all = join_all((0..20).map(|_| endpoint(stage, "same", Some("s")))).await;
    assert!(all.iter().all(|id| *id == all[0]), "{all:?}");
    let others = [
        endpoint(stage, "same", None).await,
        endpoint(stage, "same", Some("t")).await,
        endpoint(stage, "other", Some("s")).await,
    ];
    let mut distinct = vec![all[0]];
    distinct.extend(others);
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), 4);
    // Another tenant's is another, and many at once come in the order in which they were asked for.
    let tenant = stage.system.tenant("Other").await;
    let (own, now) = (stage.system.tenant, stage.system.clock.now());
    let (same, new) = (stage.receiver.url("same"), stage.receiver.url("new"));
    let many = move |conn: &mut Conn| {
        let (same, new) = (same.parse().unwrap(), new.parse().unwrap());
        let secret = WebhookSecret::parse("s").unwrap();
        let named = |tenant, url, secret| Named { kind: Kind::Task, tenant, url, secret };
        domain_endpoint::of_tasks(
            conn,
            &vault(),
            &[
                named(own, &new, None),
                named(own, &same, Some(&secret)),
                named(tenant, &same, Some(&secret)),
                named(own, &new, None),
            ],
            now,
        )
    };
    let found = stage.system.db.run(many).await.unwrap();
    assert_eq!((found.len(), found[1], found[0]), (4, all[0], found[3]));
    assert!(!distinct.contains(&found[2]) && found[2] != found[0], "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_is_no_hook() {
    let stage = Stage::open(Bus::in_process()).await;
    let run = Run::to(&stage, "hidden").await;
    let (id, url) = (run.endpoint.to_string(), stage.receiver.url("hidden"));
    let client = &stage.client;
    let hooks = client.get("/v1/hooks").await.expect(200);
    assert_eq!(hooks["data"], json!([]));
    for path in [format!("/v1/hooks/{id}"), format!("/v1/hooks/{id}/secret")] {
        assert_eq!(client.get(&path).await.status, 404, "{path}");
    }
    for action in ["enable", "disable", "test", "replay"] {
        let reply = client
            .post_json(
                &format!("/v1/hooks/{id}/{action}"),
                &json!({"event_id": "evt_00000000000000000000000005"}),
            )
            .await;
        assert_eq!(reply.status, 404, "{action}: {}", reply.text());
    }
    assert_eq!(client.delete(&format!("/v1/hooks/{id}")).await.status, 404);
    for body in [json!({"url": url}), json!({"id": id})] {
        let reply = client.post_json("/zapier/hook/unsubscribe", &body).await.expect(200);
        assert_eq!(reply["message"], "Webhook already deleted or not found", "{reply}");
    }
    // Whoever looks at samples makes hooks active, and this is none.
    client.get("/zapier/hook/sample").await.expect(200);
    let find = move |conn: &mut Conn| domain_endpoint::find(conn, run.tenant, run.endpoint);
    assert_eq!(stage.system.db.once(find).await.unwrap().unwrap().state, HookState::Pending);
    // Events go to the hook of the same URL, and to it alone.
    let hook = stage.hook("hidden", json!({})).await;
    let event = stage.post("order.created", json!({})).await;
    assert_eq!(stage.goes_to(&event).await, [hook]);
    // And what the run reports goes to the endpoint as a webhook, and to whoever asked for such events as an event.
    let asks = stage.hook("asks", json!({"event_type": "task.*"})).await;
    let steps = run.report(&stage, &["completed"]).await;
    settled(&stage, run.delivery(steps[0]), "delivered", 1).await;
    stage.ended(&steps[0].to_string(), &asks, "delivered").await;
    let webhook = stage.receiver.at("hidden").pop().unwrap();
    let event = stage.receiver.at("asks").pop().unwrap().json();
    assert_eq!((&webhook.json(), &event["event_type"]), (&event["payload"], &json!("task.completed")));
    stage.close().await;
}

/// Zapier's callback URLs are one per Zap run: memory must not grow with them.
#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_named_for_a_day_is_removed_unless_something_is_on_its_way() {
    let stage = Stage::open(Bus::in_process()).await;
    let used = Run::to(&stage, "used").await;
    let steps = used.report(&stage, &["completed"]).await;
    settled(&stage, used.delivery(steps[0]), "delivered", 1).await;
    let waits = Run::to(&stage, "waits").await;
    stage.answer("waits", 500);
    let waiting = waits.report(&stage, &["completed"]).await;
    settled(&stage, waits.delivery(waiting[0]), "pending", 1).await;
    // The state changes with the first success, which is a use.
    let find = async |id: SubscriptionId| {
        let find = move |conn: &mut Conn| domain_endpoint::find(conn, used.tenant, id);
        stage.system.db.once(find).await.unwrap().unwrap()
    };
    until("the success is counted", async || {
        let found = find(used.endpoint).await;
        if found.state == HookState::Active { Ok(()) } else { Err(found.state) }
    })
    .await;
    let directory = Directory::with_secrets(vault());
    let known = async || {
        let refreshed = directory.clone();
        stage.system.db.once(move |conn| refreshed.refresh(conn)).await.unwrap();
        (directory.get(used.endpoint).is_some(), directory.get(waits.endpoint).is_some())
    };
    assert_eq!(known().await, (true, true));
    let day = domain_endpoint::UNUSED.num_milliseconds();
    stage.advance(day - 60_000);
    tokio::time::sleep(std::time::Duration::from_millis(2_500)).await;
    assert_eq!(known().await, (true, true), "not yet a day");
    stage.advance(60_001);
    until("the unused endpoint is removed", async || {
        let known = known().await;
        if known == (false, true) { Ok(()) } else { Err(known) }
    })
    .await;
    assert_eq!(find(used.endpoint).await.state_reason.as_deref(), Some("unused"));
    // A task that runs again finds it again; one that names the URL anew after that, the same.
    let (tenant, id, now) = (used.tenant, used.endpoint, stage.system.clock.now());
    let again = move |conn: &mut Conn| domain_endpoint::again(conn, tenant, id, now);
    assert_eq!(stage.system.db.run(again).await.unwrap(), Some(used.endpoint));
    assert_eq!(endpoint(&stage, "used", None).await, used.endpoint);
    let more = used.report(&stage, &["cancelled"]).await;
    settled(&stage, used.delivery(more[0]), "delivered", 1).await;
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_endpoint_makes_way_for_another_and_is_forgotten_with_its_deliveries() {
    let stage = Stage::still().await;
    let old = endpoint(&stage, "old", None).await;
    let removed = async |ago: TimeDelta| {
        let now = stage.system.clock.now() + ago;
        stage.system.db.once(move |conn| domain_endpoint::remove_unused(conn, now, 100)).await.unwrap()
    };
    assert_eq!(removed(domain_endpoint::UNUSED - TimeDelta::seconds(60)).await, 0);
    assert_eq!(removed(domain_endpoint::UNUSED + TimeDelta::seconds(60)).await, 1);
    let new = endpoint(&stage, "old", None).await;
    assert_ne!(new, old);
    // Whoever asks for the removed one is given the live one.
    let (tenant, now) = (stage.system.tenant, stage.system.clock.now());
    let again = move |conn: &mut Conn| domain_endpoint::again(conn, tenant, old, now);
    assert_eq!(stage.system.db.run(again).await.unwrap(), Some(new));
    let forget = async |before| {
        stage.system.db.once(move |conn| domain_endpoint::forget_removed(conn, before, 100)).await.unwrap()
    };
    let at = stage.system.clock.now() + domain_endpoint::UNUSED;
    assert_eq!(forget(at).await, 0, "removed later than that");
    assert_eq!(forget(at + TimeDelta::hours(1)).await, 1);
    let again = move |conn: &mut Conn| domain_endpoint::again(conn, tenant, old, now);
    assert_eq!(stage.system.db.run(again).await.unwrap(), None);
    assert_eq!(endpoint(&stage, "old", None).await, new);
}

/// An endpoint that fails is an endpoint like others: two of its runs do not wait for each other.
#[tokio::test(flavor = "multi_thread")]
async fn runs_of_one_endpoint_do_not_wait_for_each_other() {
    let stage = Stage::open(Bus::in_process()).await;
    let first = Run::to(&stage, "shared").await;
    stage.receiver.script("shared", [Answer::status(500)]);
    let waiting = first.report(&stage, &["started", "completed"]).await;
    settled(&stage, first.delivery(waiting[0]), "pending", 1).await;
    let second = Run { id: uuid::Uuid::now_v7(), ..first };
    let steps = second.report(&stage, &["started", "completed"]).await;
    settled(&stage, second.delivery(steps[1]), "delivered", 1).await;
    assert_eq!(super::shown(&stage, first.delivery(waiting[1])).await["attempts"], 0);
    stage.close().await;
}
