//! Hooks that end with very many deliveries under way: the first piece is cancelled at once, the rest piece by piece.

use diesel::{
    RunQueryDsl, sql_query,
    sql_types::{BigInt, Timestamptz, Uuid},
};
use hookyard_domain::{
    db::Conn,
    delivery::cancelling::{self, AT_ONCE},
    id::SubscriptionId,
};
use hookyard_messaging::Bus;
use serde_json::json;

use super::stage::{Stage, until};
use crate::retention::number;

/// Puts so many deliveries on their way to a hook, which come up at no time.
async fn fill(stage: &Stage, hook: &str, deliveries: i64) {
    let (tenant, now) = (stage.system.tenant, stage.system.clock.now());
    let hook: SubscriptionId = hook.parse().unwrap();
    let day = now.date_naive().and_time(chrono::NaiveTime::MIN).and_utc().timestamp_millis();
    let fill = move |conn: &mut Conn| {
        Ok(sql_query(
            "INSERT INTO deliveries (event_id, subscription_id, tenant_id, profile, state, tries, attempts, deferrals, due_at, \
                next_attempt_at, claim) \
             SELECT (lpad(to_hex($4 + n), 12, '0') || '7000' || '8' || substr(md5(n::text), 1, 15))::uuid, $2, $1, 0, 0, 0, 0, 0, $5, \
                'infinity', '00000000-0000-0000-0000-000000000000' FROM generate_series(1, $3) n",
        )
        .bind::<Uuid, _>(tenant)
        .bind::<Uuid, _>(hook)
        .bind::<BigInt, _>(deliveries)
        .bind::<BigInt, _>(day)
        .bind::<Timestamptz, _>(now)
        .execute(conn)?)
    };
    stage.system.db.once(fill).await.unwrap();
}

/// How many deliveries to a hook satisfy a condition.
async fn counted(stage: &Stage, hook: &str, condition: &str) -> i64 {
    let hook = hook.parse::<SubscriptionId>().unwrap().uuid();
    let count =
        format!("SELECT count(*) AS n FROM deliveries WHERE subscription_id = '{hook}' AND {condition}");
    number(&stage.system.db, &count).await
}

/// How many hooks are still to be gone on with.
async fn unfinished(stage: &Stage) -> i64 {
    number(&stage.system.db, "SELECT count(*) AS n FROM cancellations").await
}

/// One more piece. Whether there was one.
async fn go_on(stage: &Stage) -> bool {
    let now = stage.system.clock.now();
    stage.system.db.run(move |conn| cancelling::go_on(conn, now)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_hook_is_emptied_piece_by_piece() {
    let stage = Stage::still().await;
    let (hook, other) = (stage.hook("a", json!({})).await, stage.hook("b", json!({})).await);
    fill(&stage, &hook, 2 * AT_ONCE + 10).await;
    fill(&stage, &other, 10).await;
    stage.client.delete(&format!("/v1/hooks/{hook}")).await.expect(200);
    let cancelled = "state = 3 AND last_reason = 'hook deleted'";
    assert_eq!((counted(&stage, &hook, cancelled).await, unfinished(&stage).await), (AT_ONCE, 1));
    assert!(go_on(&stage).await);
    assert_eq!((counted(&stage, &hook, cancelled).await, unfinished(&stage).await), (2 * AT_ONCE, 1));
    assert!(go_on(&stage).await);
    assert_eq!((counted(&stage, &hook, cancelled).await, unfinished(&stage).await), (2 * AT_ONCE + 10, 0));
    assert!(!go_on(&stage).await, "that was all");
    // Another keeps its own, and is done at once when it ends.
    assert_eq!(counted(&stage, &other, "state = 0").await, 10);
    stage.client.delete(&format!("/zapier/hook/{other}")).await.expect(200);
    assert_eq!((counted(&stage, &other, "state = 3").await, unfinished(&stage).await), (10, 0));
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_registry_goes_on_with_what_is_left() {
    let stage = Stage::open(Bus::in_process()).await;
    let hook = stage.hook("a", json!({})).await;
    fill(&stage, &hook, 3 * AT_ONCE).await;
    stage.client.delete(&format!("/v1/hooks/{hook}")).await.expect(200);
    until("everything is cancelled", async || {
        let left = (counted(&stage, &hook, "state <> 3").await, unfinished(&stage).await);
        if left == (0, 0) { Ok(()) } else { Err(left) }
    })
    .await;
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_hook_tells_of_the_first_piece_and_keeps_its_good_bye() {
    let stage = Stage::still().await;
    let hook = stage.hook("a", json!({})).await;
    fill(&stage, &hook, AT_ONCE + 10).await;
    stage.client.post(&format!("/v1/hooks/{hook}/disable"), "").await.expect(200);
    let told = stage.client.get("/v1/events?event_type=hook.disabled").await.expect(200);
    assert_eq!(told["data"][0]["payload"]["cancelled_deliveries"], AT_ONCE);
    while go_on(&stage).await {}
    let farewells = async |state: &str| counted(&stage, &hook, &format!("profile = 4 AND {state}")).await;
    assert_eq!(counted(&stage, &hook, "state = 3 AND profile = 0").await, AT_ONCE + 10);
    assert_eq!(farewells("state = 0").await, 1);
    // Enabled before the receiver has heard of it, it is not told.
    stage.client.post(&format!("/v1/hooks/{hook}/enable"), "").await.expect(200);
    assert_eq!(farewells("state = 3 AND last_reason = 'hook enabled'").await, 1);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_hook_that_is_subscribed_again_says_no_good_bye() {
    let stage = Stage::still().await;
    let hook = stage.hook("a", json!({})).await;
    let disable = format!("/v1/hooks/{hook}/disable");
    let farewells = async |state: &str| counted(&stage, &hook, &format!("profile = 4 AND {state}")).await;
    stage.client.post(&disable, "").await.expect(200);
    assert_eq!(farewells("state = 0").await, 1);
    // Wanted again before the receiver has heard of it, by the same URL.
    assert_eq!(stage.hook("a", json!({})).await, hook);
    assert_eq!(stage.shown(&hook).await["state"], "pending");
    assert_eq!(farewells("state = 3 AND last_reason = 'hook enabled'").await, 1);
    assert_eq!(farewells("state = 0").await, 0);
    // Disabled once more it says good-bye once more, and only then.
    assert_eq!(stage.hook("a", json!({})).await, hook);
    stage.client.post(&disable, "").await.expect(200);
    assert_eq!((farewells("state = 0").await, farewells("state = 3").await), (1, 1));
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_cancelled_any_more_of_a_hook_that_is_enabled_again() {
    let stage = Stage::still().await;
    let hook = stage.hook("a", json!({})).await;
    fill(&stage, &hook, 2 * AT_ONCE + 10).await;
    for action in ["disable", "enable"] {
        stage.client.post(&format!("/v1/hooks/{hook}/{action}"), "").await.expect(200);
    }
    assert!(go_on(&stage).await);
    assert_eq!((counted(&stage, &hook, "state = 0").await, unfinished(&stage).await), (AT_ONCE + 10, 0));
    assert!(!go_on(&stage).await);
    // One that was put on its way again counts as the others when it ends for good, although its event is behind what was looked at.
    let again = format!(
        "UPDATE deliveries SET state = 0 WHERE profile = 0 AND event_id = (SELECT min(event_id::text)::uuid FROM deliveries \
         WHERE subscription_id = '{}')",
        hook.parse::<SubscriptionId>().unwrap().uuid()
    );
    assert_eq!(crate::retention::execute(&stage.system.db, &again).await, 1);
    // Disabled with more left than a piece, and deleted before it is gone on with.
    stage.client.post(&format!("/v1/hooks/{hook}/disable"), "").await.expect(200);
    assert_eq!(
        (counted(&stage, &hook, "state = 0 AND profile = 0").await, unfinished(&stage).await),
        (11, 1)
    );
    stage.client.delete(&format!("/v1/hooks/{hook}")).await.expect(200);
    assert_eq!(counted(&stage, &hook, "state = 0").await, 0, "the good-bye, too");
    while go_on(&stage).await {}
    assert_eq!(unfinished(&stage).await, 0);
    stage.close().await;
}

/// Whoever deletes a hook waits for no delivery that somebody has in hand.
#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_holds_is_passed_over() {
    let stage = Stage::still().await;
    let hook = stage.hook("a", json!({})).await;
    fill(&stage, &hook, 10).await;
    let (locked, is_locked) = tokio::sync::oneshot::channel::<()>();
    let (let_go, wait) = tokio::sync::oneshot::channel::<()>();
    let db = stage.system.db.clone();
    let holder = tokio::spawn(async move {
        db.run(move |conn| {
            sql_query("SELECT FROM deliveries ORDER BY event_id LIMIT 1 FOR UPDATE").execute(conn)?;
            locked.send(()).unwrap();
            let _let_go = wait.blocking_recv();
            Ok(())
        })
        .await
    });
    is_locked.await.unwrap();
    stage.client.delete(&format!("/v1/hooks/{hook}")).await.expect(200);
    assert_eq!((counted(&stage, &hook, "state = 3").await, unfinished(&stage).await), (9, 0));
    let_go.send(()).unwrap();
    holder.await.unwrap().unwrap();
    stage.close().await;
}
