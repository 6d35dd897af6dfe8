//! What waits for a slow receiver in the schedule: it costs little to wait, and what it is fetched by.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use diesel::{
    QueryableByName, RunQueryDsl, sql_query,
    sql_types::{BigInt, Integer, SmallInt, Text, Timestamptz, Uuid},
};
use hookyard_delivery::DestinationLimit;
use hookyard_domain::{
    db::Conn,
    delivery::parked::{self, Parked},
    id::{ClaimId, EventId, SubscriptionId, TenantId},
};
use hookyard_messaging::Bus;
use hookyard_tests::{receiver::Answer, system::System};
use serde_json::json;

use super::stage::{Stage, flood, until};
use crate::retention::number;

/// Far more than it takes in a second.
pub(super) async fn a_backlog_is_not_moved_again_and_again(bus: Bus) {
    let stage = Stage::with(bus, |_, engine| engine.delivery.endpoint_in_flight = 2).await;
    stage.receiver.answer("slow", Answer::status(200).after(Duration::from_millis(5)));
    let updates = updates_of(&stage, "slow", 1_500).await;
    // Put into the schedule, taken from it, and done; some of them twice.
    assert!(updates < 5 * 1_500, "{updates} updates");
    stage.close().await;
}

/// The places of those that wait lie up to a minute and a half away, by the pace that was known when they were given.
pub(super) async fn a_backlog_is_fetched_when_its_receiver_turns_out_to_be_fast(bus: Bus) {
    let stage = Stage::with(bus, |_, engine| engine.delivery.endpoint_in_flight = 2).await;
    stage.receiver.answer("slow", Answer::status(200).after(Duration::from_secs(1)));
    let hook = stage.hook("slow", json!({})).await;
    flood(&stage.client, "a.b", 2).await;
    stage.counted(&hook, 2, 0).await;
    flood(&stage.client, "a.b", 200).await;
    stage.received("slow", 4).await;
    let far =
        "SELECT count(*) AS n FROM deliveries WHERE state = 0 AND next_attempt_at > now() + interval '50 s'";
    until("they are put into the schedule", async || {
        let far = number(&stage.system.db, far).await;
        if far > 50 { Ok(()) } else { Err(far) }
    })
    .await;
    stage.receiver.answer("slow", Answer::status(200));
    stage.received("slow", 202).await;
    stage.counted(&hook, 202, 0).await;
    stage.close().await;
}

/// Whose places follow from the limits of their host, which are tighter than what their receiver takes.
pub(super) async fn nor_is_one_that_waits_for_its_host(bus: Bus) {
    let stage = Stage::with(bus, |_, engine| {
        engine.delivery.endpoint_in_flight = 1;
        engine.delivery.destination_limits = vec![DestinationLimit {
            hosts: vec!["127.0.0.1".to_owned()],
            per_second: 50,
            per_window: 10_000,
            window_s: 60,
        }];
    })
    .await;
    stage.receiver.answer("slow", Answer::status(200).after(Duration::from_millis(10)));
    let updates = updates_of(&stage, "slow", 300).await;
    assert!(updates < 8 * 300, "{updates} updates");
    stage.close().await;
}

/// Posts so many events to a hook, and says how many updates of deliveries it took until all were done.
async fn updates_of(stage: &Stage, path: &str, events: usize) -> i64 {
    let hook = stage.hook(path, json!({})).await;
    flood(&stage.client, "a.b", events).await;
    stage.received(path, events).await;
    stage.counted(&hook, u32::try_from(events).unwrap(), 0).await;
    // A server tells what it counted when a session has nothing to do for a while.
    let updates =
        "SELECT sum(n_tup_upd)::bigint AS n FROM pg_stat_user_tables WHERE relname LIKE 'deliveries%'";
    until("every outcome is counted", async || {
        let updates = number(&stage.system.db, updates).await;
        if updates >= events as i64 { Ok(updates) } else { Err(updates) }
    })
    .await
}

/// What is different about a delivery.
#[derive(Clone, Copy)]
struct Row {
    state: i16,
    attempts: i16,
    deferrals: i16,
    /// Seconds from now.
    due: i64,
    /// The same.
    next: Option<i64>,
    held: bool,
    other: bool,
}

const PARKED: Row =
    Row { state: 0, attempts: 0, deferrals: 0, due: -5, next: Some(20), held: false, other: false };

async fn insert(system: &System, to: SubscriptionId, row: Row) -> EventId {
    let (tenant, now) = (system.tenant, system.clock.now());
    let event = EventId::new(now);
    let to = if row.other { SubscriptionId::new(now) } else { to };
    let at = move |seconds| now + TimeDelta::seconds(seconds);
    let insert = move |conn: &mut Conn| {
        sql_query(
            "INSERT INTO deliveries (event_id, subscription_id, tenant_id, profile, state, tries, attempts, deferrals, due_at, \
                next_attempt_at, claim) \
             VALUES ($1, $2, $3, 0, $4, 0, $5, $6, $7, COALESCE($8, 'infinity'), CASE WHEN $9 = 1 THEN $1 ELSE \
                '00000000-0000-0000-0000-000000000000' END)",
        )
        .bind::<Uuid, _>(event)
        .bind::<Uuid, _>(to)
        .bind::<Uuid, _>(tenant)
        .bind::<SmallInt, _>(row.state)
        .bind::<SmallInt, _>(row.attempts)
        .bind::<SmallInt, _>(row.deferrals)
        .bind::<Timestamptz, _>(at(row.due))
        .bind::<diesel::sql_types::Nullable<Timestamptz>, _>(row.next.map(at))
        .bind::<Integer, _>(i32::from(row.held))
        .execute(conn)?;
        Ok(())
    };
    system.db.once(insert).await.unwrap();
    event
}

async fn claim(system: &System, parked: Parked) -> (Vec<EventId>, Option<EventId>) {
    let now = system.clock.now();
    let (by, until) = (ClaimId::new(now), now + TimeDelta::seconds(30));
    let claimed = move |conn: &mut Conn| parked::claim(conn, parked, now, by, until);
    let (held, rest) = system.db.once(claimed).await.unwrap();
    assert!(held.iter().all(|held| (held.claim, held.lease_until) == (by, until)));
    (held.iter().map(|held| held.id.event).collect(), rest)
}

#[tokio::test]
async fn only_what_is_due_and_waits_for_its_place_is_fetched() {
    let system = System::start().await;
    let to = SubscriptionId::new(system.clock.now());
    let mut parked = Vec::new();
    for _ in 0..3 {
        parked.push(insert(&system, to, PARKED).await);
    }
    let retry = insert(&system, to, Row { attempts: 2, ..PARKED }).await;
    for (what, row) in [
        ("waits between two tries", Row { attempts: 1, due: 20, ..PARKED }),
        ("the receiver said so", Row { deferrals: 1, ..PARKED }),
        ("somebody has it", Row { held: true, ..PARKED }),
        ("stands in a line", Row { next: None, ..PARKED }),
        ("the sweep takes it", Row { next: Some(-1), ..PARKED }),
        ("delivered", Row { state: 1, ..PARKED }),
        ("dead", Row { state: 2, ..PARKED }),
        ("of another", Row { other: true, ..PARKED }),
    ] {
        let event = insert(&system, to, row).await;
        for tried in [false, true] {
            let look = Parked { tenant: system.tenant, subscription: to, tried, from: event, at_most: 10 };
            assert_eq!(claim(&system, look).await, (vec![], None), "{what}");
        }
    }
    let look =
        |from, at_most, tried| Parked { tenant: system.tenant, subscription: to, tried, from, at_most };
    let foreign = Parked { tenant: TenantId::new(system.clock.now()), ..look(parked[0], 10, false) };
    assert_eq!(claim(&system, foreign).await, (vec![], None));
    assert_eq!(claim(&system, look(parked[0], 2, false)).await, (parked[..2].to_vec(), Some(parked[1])));
    assert_eq!(claim(&system, look(parked[1], 2, false)).await, (parked[2..].to_vec(), None));
    assert_eq!(claim(&system, look(parked[0], 2, false)).await, (vec![], None), "they are held now");
    assert_eq!(claim(&system, look(parked[0], 1, true)).await, (vec![retry], Some(retry)));
}

#[derive(QueryableByName)]
struct Line {
    #[diesel(sql_type = Text, column_name = "QUERY PLAN")]
    line: String,
}

/// 60,000 deliveries, of which every third has arrived, goes to another and waits; of those every tenth was tried.
async fn fill(system: &System, to: SubscriptionId, now: DateTime<Utc>) {
    let (tenant, day) = (system.tenant, now.date_naive().and_time(chrono::NaiveTime::MIN).and_utc());
    let fill = move |conn: &mut Conn| {
        sql_query(
            "INSERT INTO deliveries (event_id, subscription_id, tenant_id, profile, state, tries, attempts, deferrals, due_at, \
                next_attempt_at, claim) \
             SELECT (lpad(to_hex($4 + n), 12, '0') || '70008' || substr(md5(n::text), 1, 15))::uuid, \
                CASE WHEN n % 3 = 1 THEN $1 ELSE $2 END, $1, 0, (n % 3 = 0)::int, 0, (n % 30 = 2)::int, 0, $3, \
                $3 + interval '1 minute', '00000000-0000-0000-0000-000000000000' FROM generate_series(1, 60000) n",
        )
        .bind::<Uuid, _>(tenant)
        .bind::<Uuid, _>(to)
        .bind::<Timestamptz, _>(now)
        .bind::<BigInt, _>(day.timestamp_millis())
        .execute(conn)?;
        Ok(())
    };
    system.db.run(fill).await.unwrap();
}

#[tokio::test]
async fn fetching_costs_what_it_fetches() {
    let system = System::start().await;
    let now = system.clock.now();
    let to = SubscriptionId::new(now);
    fill(&system, to, now).await;
    let from = "00000000-0000-7000-8000-000000000000";
    let values =
        format!("'{}', '{}', '{from}', '{}', 100", system.tenant.uuid(), to.uuid(), now.to_rfc3339());
    for (analyze, tried) in [(false, false), (false, true), (true, false), (true, true)] {
        let execute = format!("EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) EXECUTE planned ({values})");
        let lines = move |conn: &mut Conn| {
            if analyze {
                sql_query("ANALYZE deliveries").execute(conn)?;
            }
            sql_query("SET LOCAL plan_cache_mode = force_generic_plan").execute(conn)?;
            sql_query(format!(
                "PREPARE planned (uuid, uuid, uuid, timestamptz, bigint) AS {}",
                parked::look(tried)
            ))
            .execute(conn)?;
            let lines: Vec<Line> = sql_query(execute).load(conn)?;
            sql_query("DEALLOCATE planned").execute(conn)?;
            Ok(lines)
        };
        let lines = system.db.run(lines).await.unwrap();
        let plan: Vec<String> = lines.into_iter().map(|line| line.line).collect();
        let counts = plan.iter().filter_map(|line| {
            let rows = line.split("actual rows=").nth(1);
            let rows = rows.and_then(|rows| rows.split([' ', '.', ')']).next());
            rows.or_else(|| line.trim().strip_prefix("Rows Removed by Filter: "))?.parse::<u64>().ok()
        });
        let touched = counts.max().unwrap();
        assert!((100..=1_100).contains(&touched), "{analyze} {tried}: {}", plan.join("\n"));
    }
}
