//! Who is taken next: tenants take turns, none has all the slots, and the queue is found by its index.

use std::collections::HashMap;

use chrono::TimeDelta;
use diesel::{
    QueryableByName, RunQueryDsl as _, sql_query,
    sql_types::{BigInt, Text, Uuid},
};
use hookyard_domain::{
    action_run::claim::{self, CHOICE, TAKE, Wants},
    credential::Scope,
    db::Conn,
    id::TenantId,
};
use hookyard_tests::{
    engine::Engine,
    http::Client,
    runner::Runner,
    system::{System, unlimited},
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{Stage, durable::Count, emit};

/// Puts runs of `event.emit` into the queue of a tenant.
async fn fill(system: &System, tenant: TenantId, runs: i64) {
    let fill = move |conn: &mut Conn| {
        sql_query(
            "INSERT INTO action_runs (id, tenant_id, action, input, state, attempt, due_at, lease, trace, sampled, created_at) \
             SELECT gen_random_uuid(), $1, 'event.emit', '{\"event_type\":\"order.created\",\"payload\":{}}', 0, 0, \
                now() - interval '1 hour' + n * interval '1 microsecond', '00000000-0000-0000-0000-000000000000', \
                gen_random_uuid(), false, now() FROM generate_series(1, $2) n",
        )
        .bind::<Uuid, _>(tenant)
        .bind::<BigInt, _>(runs)
        .execute(conn)?;
        Ok(())
    };
    system.db.run(fill).await.unwrap();
}

async fn queued(system: &System, tenant: TenantId) -> i64 {
    let count = move |conn: &mut Conn| {
        let count: Count =
            sql_query("SELECT count(*) AS n FROM action_runs WHERE tenant_id = $1 AND state < 2")
                .bind::<Uuid, _>(tenant)
                .get_result(conn)?;
        Ok(count.n)
    };
    system.db.once(count).await.unwrap()
}

/// What a claim takes, by tenant.
async fn claimed(system: &System, wants: Wants) -> HashMap<TenantId, usize> {
    let now = system.clock.now();
    let work = move |conn: &mut Conn| claim::claim(conn, &wants, now, now + TimeDelta::seconds(60));
    let mut taken = HashMap::new();
    for run in system.db.once(work).await.unwrap() {
        *taken.entry(run.tenant_id).or_default() += 1;
    }
    taken
}

fn wants(runs: i64) -> Wants {
    Wants { runs, of_tenant: 64, busy: HashMap::new() }
}

async fn other_tenant(system: &System) -> (TenantId, Client) {
    let tenant = system.tenant("Other").await;
    let key = system.key_of(tenant, &[Scope::Admin], unlimited()).await.1;
    (tenant, system.anonymous().with_key(&key))
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_runs_of_one_tenant_do_not_hold_up_the_one_of_another() {
    let stage = Stage::with(Engine::default()).await;
    let system = &stage.system;
    fill(system, system.tenant, 10_000).await;
    let (other, client) = other_tenant(system).await;
    let body = json!({"action": "event.emit", "input": emit()});
    let id = client.post_json("/v2/action-runs", &body).await.expect(200)["data"]["id"].clone();
    let stop = CancellationToken::new();
    let runner = Runner::default().start(&system.database, &system.bus, &system.clock, stop.clone());
    while queued(system, other).await > 0 {
        assert!(queued(system, system.tenant).await > 0, "all of the others went first");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let left = queued(system, system.tenant).await;
    assert!(9_000 < left, "only {left} of 10,000 waited when {id} had ended");
    stop.cancel();
    runner.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn shares_are_equal_and_what_one_leaves_the_others_get() {
    let stage = Stage::with(Engine::default()).await;
    let system = &stage.system;
    let (second, third) = (system.tenant("Second").await, system.tenant("Third").await);
    for (tenant, runs) in [(system.tenant, 500), (second, 500), (third, 3)] {
        fill(system, tenant, runs).await;
    }
    let by = |pairs: [(TenantId, usize); 3]| -> HashMap<TenantId, usize> {
        pairs.into_iter().filter(|(_, runs)| *runs > 0).collect()
    };
    assert_eq!(claimed(system, wants(30)).await, by([(system.tenant, 10), (second, 10), (third, 3)]));
    assert_eq!(claimed(system, wants(30)).await, by([(system.tenant, 15), (second, 15), (third, 0)]));
    // One more than its room is not taken, and whoever has least goes first.
    let busy = |runs: i64| Wants { busy: HashMap::from([(system.tenant, runs)]), ..wants(10) };
    assert_eq!(claimed(system, busy(63)).await, by([(system.tenant, 1), (second, 5), (third, 0)]));
    assert_eq!(claimed(system, busy(64)).await, by([(system.tenant, 0), (second, 10), (third, 0)]));
    assert_eq!(
        claimed(system, Wants { runs: 1, ..busy(5) }).await,
        by([(system.tenant, 0), (second, 1), (third, 0)])
    );
    assert_eq!(claimed(system, Wants { of_tenant: 0, ..wants(10) }).await, HashMap::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_requests_of_one_tenant_leave_slots_to_the_others() {
    let mut runner = Runner::default();
    (runner.settings.action_slots, runner.settings.action_tenant_slots) = (4, 2);
    let stage = Stage::with(Engine { runners: 1, runner, ..Engine::default() }).await;
    stage.receiver.hold("slow");
    for _ in 0..10 {
        let input = json!({"url": stage.receiver.url("slow"), "method": "POST"});
        stage.run(&json!({"action": "http.request", "input": input})).await;
    }
    let patience = std::time::Duration::from_secs(20);
    stage.receiver.wait_for("slow", 2, patience).await;
    let (other, client) = other_tenant(&stage.system).await;
    for _ in 0..10 {
        let body = json!({"action": "event.emit", "input": emit()});
        client.post_json("/v2/action-runs", &body).await.expect(200);
    }
    while queued(&stage.system, other).await > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(stage.receiver.count("slow"), 2, "as many as one tenant may have under way");
    stage.receiver.release("slow");
    stage.receiver.wait_for("slow", 10, patience).await;
    assert_eq!(stage.receiver.most_in_flight("slow"), 2);
}

#[derive(QueryableByName)]
struct Line {
    #[diesel(sql_type = Text, column_name = "QUERY PLAN")]
    line: String,
}

async fn explained(system: &System, query: String) -> Vec<String> {
    let lines: Vec<Line> = system.db.once(move |conn| Ok(sql_query(query).load(conn)?)).await.unwrap();
    lines.into_iter().map(|line| line.line).collect()
}

/// What is asked for a claim of 64, with its values in it.
fn choice() -> String {
    CHOICE
        .replace("$1", "now()")
        .replace("$2", "64::bigint")
        .replace("$3", "'{}'::uuid[]")
        .replace("$4", "'{}'::bigint[]")
        .replace("$5", "64::bigint")
        .replace("$6", "1000::bigint")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_waiting_runs_are_not_read_to_take_some() {
    let stage = Stage::with(Engine::default()).await;
    let system = &stage.system;
    for tenant in [system.tenant, system.tenant("Second").await, system.tenant("Third").await] {
        fill(system, tenant, 33_334).await;
    }
    let plan = explained(system, format!("EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) {}", choice())).await;
    let text = plan.join("\n");
    assert!(text.contains("action_runs_queue") && !text.contains("Seq Scan on action_runs"), "{text}");
    // No step touches more than a few hundred rows.
    let most = plan.iter().filter_map(|line| {
        let rows = line.split("actual rows=").nth(1)?;
        rows.split([' ', '.', ')']).next()?.parse::<u64>().ok()
    });
    assert!(most.max().unwrap() <= 300, "{text}");
    let literal = TAKE
        .replace("$1", &format!("ARRAY['{}']::uuid[]", uuid::Uuid::from_u128(1)))
        .replace("$2", "now()")
        .replace("$3", "'00000000-0000-0000-0000-000000000001'::uuid")
        .replace("$4", "now()");
    let text = explained(system, format!("EXPLAIN {literal}")).await.join("\n");
    assert!(text.contains("action_runs_pkey") && !text.contains("Seq Scan on action_runs"), "{text}");
    let began = std::time::Instant::now();
    for _ in 0..20 {
        assert_eq!(claimed(system, wants(64)).await.values().sum::<usize>(), 64);
    }
    println!("a claim of 64 with 100,000 waiting: {:?}", began.elapsed() / 20);
}

/// Runs that are under way, or wait for a task, stand behind what is due in the index: they must not be walked.
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_runs_that_are_not_due_are_not_read_either() {
    let stage = Stage::with(Engine::default()).await;
    let system = &stage.system;
    let (second, third) = (system.tenant("Second").await, system.tenant("Third").await);
    for tenant in [system.tenant, second, third] {
        fill(system, tenant, 33_334).await;
    }
    let wait = |conn: &mut Conn| {
        sql_query("UPDATE action_runs SET due_at = now() + interval '1 day'").execute(conn)?;
        Ok(())
    };
    system.db.run(wait).await.unwrap();
    system.db.once(|conn| Ok(sql_query("VACUUM ANALYZE action_runs").execute(conn)?)).await.unwrap();
    assert_eq!(claimed(system, wants(64)).await, HashMap::new());
    let explain = format!("EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF) {}", choice());
    let plan = explained(system, explain).await;
    // The first line of them is of the whole: pages of the index and the table, in memory or not.
    let pages: u64 = plan
        .iter()
        .find_map(|line| line.trim().strip_prefix("Buffers: shared "))
        .unwrap_or_default()
        .split(' ')
        .filter_map(|word| word.split_once('=')?.1.parse::<u64>().ok())
        .sum();
    assert!((1..=100).contains(&pages), "{pages} pages: {}", plan.join("\n"));
    // One of them is found among the others.
    fill(system, third, 2).await;
    assert_eq!(claimed(system, wants(64)).await, HashMap::from([(third, 2)]));
}
