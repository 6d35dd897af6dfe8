//! Who gets which run: priority, order, fairness, room.

use hookyard_domain::{
    id::{RunId, WorkerId},
    task::{
        AgentType, Settings, Step,
        claim::{self, WorkerWants},
    },
};

use super::stage::{Shop, complete};

pub(super) fn small(concurrency: u32) -> Settings {
    Settings { concurrency, ..Settings::default() }
}

#[tokio::test]
async fn priority_goes_first_and_then_whoever_came_first() {
    let shop = Shop::with(small(10)).await;
    let mut tasks = Vec::new();
    for priority in [0, 50, 100, 50, 0] {
        tasks.push(shop.draft(shop.tenant, &format!(r#","priority":{priority}"#)));
    }
    shop.store(tasks.clone()).await;
    let runs: Vec<RunId> = shop.claim(10).await.iter().map(|held| held.run).collect();
    assert_eq!(runs, [2, 1, 3, 0, 4].map(|at: usize| tasks[at].run));
}

#[tokio::test]
async fn a_tenant_has_room_for_so_many_and_no_more() {
    let shop = Shop::with(small(3)).await;
    let tasks: Vec<_> = (0..5).map(|_| shop.draft(shop.tenant, "")).collect();
    shop.store(tasks).await;
    let held = shop.claim(10).await;
    assert_eq!(held.len(), 3);
    assert!(shop.claim(10).await.is_empty());
    shop.report(&held[0], complete("x")).await.unwrap();
    assert_eq!(shop.claim(10).await.len(), 1);
    // Two at the same time never have more than the room, either.
    shop.report(&held[1], complete("x")).await.unwrap();
    let (one, two) = tokio::join!(shop.claim(10), shop.claim(10));
    assert_eq!(one.len() + two.len(), 1);
}

#[tokio::test]
async fn a_tenant_with_very_many_tasks_keeps_no_other_waiting() {
    let shop = Shop::with(small(1_000)).await;
    let (many, few) = (shop.tenant, shop.new_tenant().await);
    let mut tasks: Vec<_> = (0..300).map(|_| shop.draft(many, r#","priority":100"#)).collect();
    tasks.extend((0..5).map(|_| shop.draft(few, "")));
    shop.store(tasks).await;
    let held = shop.claim(10).await;
    assert_eq!(held.len(), 10);
    assert_eq!(held.iter().filter(|held| held.tenant == few).count(), 5);
}

#[tokio::test]
async fn the_built_in_executor_takes_only_what_it_can_do() {
    let shop = Shop::open().await;
    for more in [r#","agent_type":"build""#, r#","agent_type":"explore""#, r#","capabilities":["gpu"]"#] {
        shop.task(more).await;
    }
    assert!(shop.claim(10).await.is_empty());
    let plan = shop.task(r#","agent_type":"plan""#).await;
    assert_eq!(shop.claim(10).await[0].run, plan.run);
    // What is held back is not there.
    let held = shop.task("").await;
    let claimed = shop.claim(1).await.remove(0);
    let failure = hookyard_domain::task::Failure {
        code: "overloaded".to_owned(),
        message: "busy".to_owned(),
        retryable: true,
        retry_after: Some(chrono::TimeDelta::seconds(30)),
    };
    shop.report(&claimed, Step::Fail { failure, usage: Default::default() }).await.unwrap();
    assert_eq!(claimed.run, held.run);
    assert!(shop.claim(10).await.is_empty());
}

#[tokio::test]
async fn a_worker_takes_what_it_can_do_of_its_tenant() {
    let shop = Shop::open().await;
    let other = shop.new_tenant().await;
    let build = shop.task(r#","agent_type":"build""#).await;
    let gpu = shop.task(r#","agent_type":"build","capabilities":["gpu"],"priority":1"#).await;
    let general = shop.task(r#","model":"gpt-4o""#).await;
    shop.store(vec![shop.draft(other, r#","agent_type":"build""#)]).await;
    let wants = |types: &[AgentType], models: Option<&[&str]>, capabilities: &[&str]| WorkerWants {
        worker: WorkerId::new(shop.now),
        tenant: shop.tenant,
        agent_types: types.to_vec(),
        models: models.map(|models| models.iter().map(ToString::to_string).collect()),
        capabilities: capabilities.iter().map(ToString::to_string).collect(),
    };
    let claim = async |wants: WorkerWants, limit: u32| {
        let (settings, now) = (shop.ledger.settings.clone(), shop.now);
        let work = move |conn: &mut hookyard_domain::db::Conn| {
            claim::claim_for_worker(conn, &settings, &wants, limit, now)
        };
        shop.run(work).await.iter().map(|held| held.run).collect::<Vec<_>>()
    };
    let tenants = [shop.tenant];
    let waiting = shop.run(move |conn| claim::waiting(conn, &tenants)).await;
    let mut types: Vec<AgentType> = waiting.iter().map(|waiting| waiting.agent_type).collect();
    types.sort();
    assert_eq!(types, [AgentType::General, AgentType::Build]);
    assert_eq!(claim(wants(&[AgentType::Explore], None, &[]), 5).await, []);
    assert_eq!(claim(wants(&[AgentType::General], Some(&["claude-opus"]), &[]), 5).await, []);
    assert_eq!(claim(wants(&[AgentType::Build], None, &[]), 5).await, [build.run]);
    assert_eq!(
        claim(wants(&[AgentType::Build, AgentType::General], None, &["gpu", "x"]), 1).await,
        [gpu.run]
    );
    assert_eq!(claim(wants(&AgentType::ALL, Some(&["gpt-4o"]), &[]), 5).await, [general.run]);
    assert!(shop.claim(10).await.is_empty(), "the worker has it");
}
