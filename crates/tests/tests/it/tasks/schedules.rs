//! Schedules fire each tick once, whoever fires.

use chrono::{DateTime, TimeDelta, Utc};
use hookyard_domain::{
    id::TenantId,
    subscription::UrlRules,
    task::{
        model::{self, Models},
        schedule::{
            ScheduleDraft,
            store::{self, Fired, Firing, ScheduleRow, TickOutcome},
        },
        webhook::WebhookUrls,
    },
    wire::parse,
};
use hookyard_tests::secrets::vault;

use super::stage::Shop;

fn firing(shop: &Shop) -> Firing {
    Firing {
        settings: shop.ledger.settings.clone(),
        models: Models::new(&model::Settings::default()).unwrap(),
        urls: WebhookUrls::new(UrlRules::default()),
        vault: vault(),
    }
}

fn draft(shop: &Shop, more: &str) -> ScheduleDraft {
    let body = format!(
        r#"{{"name":"Hourly","cron":"0 * * * *","task":{{"title":"Report","description":"Write it"}}{more}}}"#
    );
    let firing = firing(shop);
    ScheduleDraft::parse(parse(body.as_bytes()).unwrap(), &firing.models, &firing.urls, shop.now).unwrap()
}

async fn made(shop: &Shop, more: &str) -> ScheduleRow {
    let (draft, tenant, now) = (draft(shop, more), shop.tenant, shop.now);
    shop.run(move |conn| store::create(conn, tenant, &draft, None, now)).await
}

async fn fire(shop: &Shop) -> Fired {
    let (firing, now) = (firing(shop), shop.now);
    shop.db.run(move |conn| firing.fire_due(conn, now, 10)).await.unwrap()
}

async fn history(shop: &Shop, schedule: &ScheduleRow) -> Vec<(DateTime<Utc>, TickOutcome)> {
    let key = (schedule.tenant_id, schedule.id);
    let ticks = shop.run(move |conn| store::history(conn, key, 100)).await;
    ticks.into_iter().map(|tick| (tick.tick, tick.outcome)).collect()
}

#[tokio::test]
async fn a_tick_is_fired_once_by_however_many_runners() {
    let mut shop = Shop::open().await;
    let schedule = made(&shop, "").await;
    let next = schedule.next_at.unwrap();
    assert!(fire(&shop).await.tasks.is_empty());
    shop.now = next + TimeDelta::seconds(1);
    let (one, two, three) = tokio::join!(fire(&shop), fire(&shop), fire(&shop));
    let tasks: Vec<_> = [one, two, three].into_iter().flat_map(|fired| fired.tasks).collect();
    assert_eq!(tasks.len(), 1);
    assert!(fire(&shop).await.tasks.is_empty());
    assert_eq!(history(&shop, &schedule).await, [(next, TickOutcome::Fired)]);
    assert_eq!(shop.claim(10).await[0].title, "Report");
    let (tenant, id) = (shop.tenant, schedule.id);
    let after = shop.run(move |conn| store::find(conn, tenant, id)).await;
    assert_eq!(after.next_at, Some(next + TimeDelta::hours(1)));
}

#[tokio::test]
async fn missed_ticks_are_skipped_made_up_for_once_or_all() {
    for (policy, fired, outcomes) in [
        ("skip", 0, vec![TickOutcome::Missed]),
        ("once", 1, vec![TickOutcome::Fired]),
        ("all", 3, vec![TickOutcome::Fired; 3]),
    ] {
        let mut shop = Shop::open().await;
        let schedule = made(&shop, &format!(r#","missed":"{policy}""#)).await;
        shop.now = schedule.next_at.unwrap() + TimeDelta::minutes(150);
        assert_eq!(fire(&shop).await.tasks.len(), fired, "{policy}");
        let seen: Vec<TickOutcome> =
            history(&shop, &schedule).await.into_iter().map(|(_, outcome)| outcome).collect();
        assert_eq!(seen, outcomes, "{policy}");
        assert!(fire(&shop).await.tasks.is_empty(), "{policy}");
    }
}

#[tokio::test]
async fn a_clock_that_was_set_back_fires_nothing_twice() {
    let mut shop = Shop::open().await;
    let schedule = made(&shop, "").await;
    shop.now = schedule.next_at.unwrap();
    assert_eq!(fire(&shop).await.tasks.len(), 1);
    shop.now -= TimeDelta::minutes(5);
    // Changing it computes the next tick anew, from a clock that is behind.
    let (draft, key, now) = (draft(&shop, ""), (shop.tenant, schedule.id), shop.now);
    shop.run(move |conn| store::update(conn, key, &draft, now)).await;
    shop.now += TimeDelta::minutes(6);
    assert!(fire(&shop).await.tasks.is_empty());
    assert_eq!(history(&shop, &schedule).await.len(), 1);
}

#[tokio::test]
async fn a_schedule_that_is_not_enabled_does_not_tick_but_can_be_run_by_hand() {
    let mut shop = Shop::open().await;
    let schedule = made(&shop, r#","enabled":false"#).await;
    assert_eq!(schedule.next_at, None);
    shop.pass(7_200);
    assert!(fire(&shop).await.tasks.is_empty());
    let (firing, row, now) = (firing(&shop), schedule.clone(), shop.now);
    let task = shop.run(move |conn| firing.run_now(conn, &row, now)).await;
    assert_eq!(task.schedule, Some(schedule.id));
    assert_eq!(history(&shop, &schedule).await, [(shop.now, TickOutcome::ByHand)]);
    let key = (TenantId::new(shop.now), schedule.id);
    assert!(shop.db.run(move |conn| store::find(conn, key.0, key.1)).await.is_err());
}
