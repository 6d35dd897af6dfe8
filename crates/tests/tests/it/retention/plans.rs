//! Lists do not get slower with what is kept: on a database that has been in use, each list query goes by an index, and touches
//! about as many rows as its page has.
//!
//! What a query has touched is asked of Postgres itself, in the transaction of the query and with its real values: whole tables that
//! were read, and rows. That holds whatever the text of the query is, and for every table that it reads.

use chrono::{DateTime, NaiveTime, TimeDelta, Utc};
use diesel::{
    QueryableByName, RunQueryDsl, sql_query,
    sql_types::{BigInt, Uuid},
};
use hookyard_domain::{
    Result,
    action_run::{self, RunState as ActionRunState},
    audit::{self, Action},
    clock::Clock,
    connection, credential,
    db::{Conn, Db},
    delivery::{DeliveryState, dead_letter, inspect, inspect::DeliveryQuery, store},
    event::{
        self,
        list::{EventQuery, EventState, LOOKED_AT, StateFilter},
    },
    id::{EventId, SubscriptionId, TenantId},
    oauth,
    person::{invitation, membership},
    subscription::{self, consumer, store::HookQuery},
    task::{self, list::TaskQuery, schedule, worker},
};
use hookyard_tests::system::System;
use serde_json::json;

use super::{Filling, fill, hook};

/// Rows of a page.
pub(super) const PAGE: i64 = 51;

/// Rows that a page may touch in all its tables: its own, and for each a handful elsewhere.
pub(super) const FEW: i64 = 20 * PAGE;

#[derive(Clone, Copy, Debug, QueryableByName)]
struct Touched {
    /// Whole tables that were read.
    #[diesel(sql_type = BigInt)]
    scans: i64,
    /// Rows that were read.
    #[diesel(sql_type = BigInt)]
    rows: i64,
}

/// Tables that grow with what is kept, by how their names begin.
const GROWING: &str = "events_|deliveries_|attempts_|tasks|task_runs|action_runs|audit_log|subscriptions|consumers|credentials\
    |schedule_ticks|memberships|users|connections|emails";

/// What this session has touched of these tables, and was not yet added to the counters of all.
fn touched(conn: &mut Conn, tables: &str) -> Result<Touched> {
    Ok(sql_query(format!(
        "SELECT COALESCE(sum(seq_scan), 0)::bigint AS scans, \
            COALESCE(sum(seq_tup_read + COALESCE(idx_tup_fetch, 0)), 0)::bigint AS rows FROM pg_stat_xact_user_tables \
         WHERE relname ~ '^({tables})'"
    ))
    .get_result(conn)?)
}

/// How often this session has read all groups that wait.
fn looks_at_groups(conn: &mut Conn) -> Result<i64> {
    let touched: Touched = sql_query(
        "SELECT seq_scan AS scans, seq_tup_read AS rows FROM pg_stat_xact_user_tables WHERE relname = 'event_groups'",
    )
    .get_result(conn)?;
    Ok(touched.scans)
}

/// Asks a question and makes sure that it went by indexes, and touched no more than so many rows. Returns how many were found.
async fn costs(
    db: &Db,
    what: &str,
    most: i64,
    ask: impl FnOnce(&mut Conn) -> Result<usize> + Send + 'static,
) -> usize {
    costs_in(db, GROWING, what, most, ask).await
}

/// The same of other tables.
pub(super) async fn costs_in(
    db: &Db,
    tables: &'static str,
    what: &str,
    most: i64,
    ask: impl FnOnce(&mut Conn) -> Result<usize> + Send + 'static,
) -> usize {
    let (found, cost) = db
        .run(move |conn| {
            let before = touched(conn, tables)?;
            let found = ask(conn)?;
            let after = touched(conn, tables)?;
            Ok((found, Touched { scans: after.scans - before.scans, rows: after.rows - before.rows }))
        })
        .await
        .unwrap();
    println!("{what}: {found} found, {} rows touched", cost.rows);
    assert_eq!(cost.scans, 0, "{what} reads whole tables");
    assert!(cost.rows <= most, "{what} touches {} rows for {found}", cost.rows);
    found
}

/// Two tenants: one with much, and one with little among it.
struct Used {
    system: System,
    large: TenantId,
    small: TenantId,
    hook: SubscriptionId,
    since: DateTime<Utc>,
    until: DateTime<Utc>,
}

const EVENTS: i64 = 60_000;
const OTHERS: i64 = 20_000;

async fn used() -> Used {
    let system = System::start().await;
    // Whole days: of a day that has just begun it may be cheaper to read all than to look some up.
    let until = Clock::system().now().date_naive().and_time(NaiveTime::MIN).and_utc();
    let since = until - TimeDelta::days(6);
    let (large, small) = (system.tenant, system.tenant("Small").await);
    let of_large = hook(&system.db, large, since).await;
    let of_small = hook(&system.db, small, since).await;
    for (tenant, hook, events) in [(small, of_small, 40), (large, of_large, EVENTS)] {
        fill(&system.db, Filling { tenant, hook, events, since, until, payload: 64 }).await;
    }
    let tenant = large.uuid();
    system
        .db
        .once(move |conn| {
            for statement in [
                "INSERT INTO subscriptions (id, tenant_id, kind, url, event_type, pattern, identity, state, signing_secret, created_at, updated_at) \
                 SELECT gen_random_uuid(), $1, 0, 'https://hooks.zapier.com/hooks/catch/1/' || n, 't' || n % 50, 't' || n % 50, \
                    n::text::bytea, 1, '', now(), now() FROM generate_series(1, $2) n",
                "INSERT INTO audit_log (tenant_id, seq, at, actor_kind, actor_name, action, object_kind, object_id, hash) \
                 SELECT $1, 1000 + n, now(), 2, 'x', CASE WHEN n % 100 = 0 THEN 'key.created' ELSE 'hook.subscribed' END, 'hook', \
                    'h' || n, '' FROM generate_series(1, $2) n",
                "INSERT INTO credentials (id, tenant_id, kind, name, prefix, token_hash, scopes, created_at, revoked_at) \
                 SELECT gen_random_uuid(), $1, 0, 'k', 'ct_', sha256(n::text::bytea), '{}', now(), now() FROM generate_series(1, $2 / 4) n",
                "WITH new AS MATERIALIZED (SELECT gen_random_uuid() AS task, gen_random_uuid() AS run, n FROM generate_series(1, $2) n), \
                 made AS (INSERT INTO tasks (id, tenant_id, run_id, title, description, agent_type, model, resolved, \
                    priority, capabilities, webhook_events, timeout_s, trace, sampled, created_at) \
                    SELECT task, $1, run, 't', 'd', 0, 'm', 'offline:text', 0, '{}', 0, 600, task, false, now() FROM new) \
                 INSERT INTO task_runs (id, task_id, tenant_id, number, latest, state, agent_type, model, resolved, priority, \
                    capabilities, built_in, timeout_s, queued_at, due_at) \
                 SELECT run, task, $1, 1, true, CASE n % 100 WHEN 0 THEN 1 ELSE 0 END, 0, 'm', 'offline:text', 0, '{}', true, 600, now(), \
                    now() + interval '1 day' FROM new",
                "INSERT INTO action_runs (id, tenant_id, action, input, state, attempt, lease, trace, sampled, created_at, ended_at, results) \
                 SELECT gen_random_uuid(), $1, 'http.request', '{}', 2, 1, gen_random_uuid(), gen_random_uuid(), false, now(), now(), '[]' \
                    FROM generate_series(1, $2) n",
                "INSERT INTO connections (id, tenant_id, name, kind, origin, secret, created_at, updated_at, test_url) \
                 SELECT gen_random_uuid(), $1, 'c', 'bearer', 'https://a.b', '', now(), now(), 'https://a.b/' FROM generate_series(1, $2 / 4) n",
            ] {
                sql_query(statement).bind::<Uuid, _>(tenant).bind::<BigInt, _>(OTHERS).execute(conn)?;
            }
            sql_query("ANALYZE").execute(conn)?;
            Ok(())
        })
        .await
        .unwrap();
    Used { system, large, small, hook: of_large, since, until }
}

fn query() -> EventQuery {
    EventQuery { limit: PAGE, ..EventQuery::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_deliveries_and_dead_letters_are_listed_by_index() {
    let Used { system, large, small, hook, since, until } = used().await;
    let db = &system.db;
    let events = async |what: &str, tenant: TenantId, most: i64, query: EventQuery| {
        costs(db, &format!("events {what}"), most, move |conn| {
            Ok(event::list::list(conn, tenant, &query)?.events.len())
        })
        .await
    };
    let page = usize::try_from(PAGE).unwrap();
    let middle = since + (until - since) / 2;
    assert_eq!(events("all", large, FEW, query()).await, page);
    assert_eq!(events("of a small tenant", small, FEW, query()).await, 40);
    let by_type = EventQuery { event_type: Some("order.paid".to_owned()), ..query() };
    assert_eq!(events("by type", large, FEW, by_type.clone()).await, page);
    let unknown = EventQuery { event_type: Some("nothing.like.it".to_owned()), ..query() };
    assert_eq!(events("by a type that has none", large, FEW, unknown).await, 0);
    let by_time = EventQuery { since: Some(middle), until: Some(middle + TimeDelta::hours(2)), ..query() };
    assert_eq!(events("by time", large, FEW, by_time).await, page);
    let cursor = EventQuery { before: Some(EventId::new(middle)), ..by_type };
    assert_eq!(events("by type behind a cursor", large, FEW, cursor).await, page);
    let in_state = |state| EventQuery { state: Some(state), ..query() };
    for (state, found) in [
        (StateFilter::Undelivered, page),
        (StateFilter::Is(EventState::Dead), page),
        (StateFilter::Is(EventState::Pending), 0),
        (StateFilter::Is(EventState::Accepted), 0),
    ] {
        assert_eq!(events(&format!("{state:?}"), large, FEW, in_state(state)).await, found, "{state:?}");
    }
    assert_eq!(
        events("undelivered of a small tenant", small, FEW, in_state(StateFilter::Undelivered)).await,
        1
    );
    // What is everywhere is found at once, what is rare by a look that has a bound.
    assert_eq!(events("delivered", large, FEW, in_state(StateFilter::Is(EventState::Delivered))).await, page);
    let metadata = |key: &str, value: &str| EventQuery { metadata: Some(json!({key: value})), ..query() };
    assert_eq!(events("by common metadata", large, FEW, metadata("user_agent", "test")).await, page);
    let bound = 4 * LOOKED_AT;
    assert_eq!(events("by rare metadata", large, bound, metadata("correlation_id", "c17")).await, 0);
    for state in [EventState::Unmatched, EventState::Cancelled] {
        events(&format!("{state:?}"), large, bound, in_state(StateFilter::Is(state))).await;
    }
    // What waits, with what is left of groups that are gone, is read once and not for each event that is looked at.
    for state in [None, Some(EventState::Delivered), Some(EventState::Unmatched), Some(EventState::Accepted)]
    {
        let asked = EventQuery { state: state.map(StateFilter::Is), ..query() };
        let looks = db
            .run(move |conn| {
                let before = looks_at_groups(conn)?;
                event::list::list(conn, large, &asked)?;
                Ok(looks_at_groups(conn)? - before)
            })
            .await
            .unwrap();
        // Where no event satisfies the other conditions, nobody asks.
        let least = i64::from(matches!(state, None | Some(EventState::Accepted)));
        assert!((least..=2).contains(&looks), "{state:?}: {looks}");
    }

    let deliveries = async |what: &str, tenant: TenantId, most: i64, query: DeliveryQuery| {
        costs(db, &format!("deliveries {what}"), most, move |conn| {
            Ok(inspect::list(conn, tenant, &query)?.len())
        })
        .await
    };
    let all = DeliveryQuery { limit: PAGE, ..DeliveryQuery::default() };
    for (tenant, found) in [(large, page), (small, 40)] {
        assert_eq!(deliveries("all", tenant, FEW, all.clone()).await, found);
    }
    let of_hook = DeliveryQuery { subscription: Some(hook), ..all.clone() };
    assert_eq!(deliveries("of a hook", large, FEW, of_hook.clone()).await, page);
    for state in DeliveryState::ALL {
        let in_state = DeliveryQuery { state: Some(state), ..of_hook.clone() };
        // One of a hundred is cancelled: the hook's are looked at.
        let most = if state == DeliveryState::Discarded { 2 * EVENTS } else { 5 * FEW + 100 * PAGE };
        deliveries(&format!("of a hook {}", state.as_str()), large, most, in_state).await;
    }
    for state in [DeliveryState::Pending, DeliveryState::Dead] {
        for since in [None, Some(since)] {
            let in_state = DeliveryQuery { state: Some(state), since, ..all.clone() };
            deliveries(state.as_str(), large, FEW, in_state).await;
        }
    }
    // The page behind a cursor, and one that reaches further back than where it is looked first.
    let newest = DeliveryQuery { limit: 1, ..all.clone() };
    let middle_of = DeliveryQuery { until: Some(middle), ..newest };
    let found = db.once(move |conn| inspect::list(conn, large, &middle_of)).await.unwrap();
    let behind = DeliveryQuery { after: Some(found[0].id()), ..all.clone() };
    assert_eq!(deliveries("behind a cursor", large, FEW, behind).await, page);
    let between = DeliveryQuery { since: Some(middle), until: Some(middle + TimeDelta::hours(1)), ..all };
    assert_eq!(deliveries("by time", large, FEW, between).await, page);
    let one = db.once(move |conn| event::list::list(conn, large, &query())).await.unwrap().events[0].event.id;
    let found = costs(db, "deliveries of an event", FEW, move |conn| {
        Ok(inspect::of_event(conn, large, one, None, PAGE)?.len())
    });
    assert_eq!(found.await, 1);
    let found = costs(db, "tries of a delivery", FEW, move |conn| {
        let id = hookyard_domain::id::DeliveryId { event: one, subscription: hook };
        Ok(inspect::attempts(conn, id)?.len() + usize::from(inspect::find(conn, large, id)?.is_some()))
    });
    assert_eq!(found.await, 2);
    costs(db, "samples", FEW, move |conn| Ok(event::store::latest(conn, large, None, 3)?.len())).await;
    costs(db, "samples of a type", FEW, move |conn| {
        Ok(event::store::latest(conn, large, Some("order.paid"), 3)?.len())
    })
    .await;
    costs(db, "types that were posted", FEW, move |conn| Ok(event::types::posted(conn, large, 200)?.len()))
        .await;
    // What the registry asks every half minute.
    costs(db, "the backlog", FEW, move |conn| {
        Ok(usize::try_from(store::backlog(conn, until)?.pending).unwrap())
    })
    .await;
    let dead = usize::try_from(EVENTS / 100 + 1).unwrap();
    let counted = costs(db, "dead letters, counted", 2 * EVENTS / 100 + FEW, move |conn| {
        Ok(usize::try_from(dead_letter::count(conn)?).unwrap())
    });
    assert_eq!(counted.await, dead);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_else_is_listed_goes_by_index_too() {
    let Used { system, large, small, .. } = used().await;
    let db = &system.db;
    let page = usize::try_from(PAGE).unwrap();
    for (tenant, found) in [(large, page), (small, 1)] {
        let query = HookQuery { limit: PAGE, state: None, event_type: None, before: None };
        let listed =
            costs(db, "hooks", FEW, move |conn| Ok(subscription::store::list(conn, tenant, &query)?.len()));
        assert_eq!(listed.await, found);
    }
    let query = HookQuery { limit: PAGE, state: None, event_type: Some("t7".to_owned()), before: None };
    // One of fifty is for this type: the tenant's are looked at.
    costs(db, "hooks of a type", 50 * PAGE + FEW, move |conn| {
        Ok(subscription::store::list(conn, large, &query)?.len())
    })
    .await;
    costs(db, "consumers", FEW, move |conn| {
        let query = consumer::store::ConsumerQuery {
            limit: PAGE,
            state: None,
            event_type: None,
            tag: None,
            before: None,
        };
        Ok(consumer::store::list(conn, large, &query)?.len())
    })
    .await;
    for (what, query) in [
        ("audit", audit::store::Query { limit: PAGE, ..audit::store::Query::default() }),
        (
            "audit by action",
            audit::store::Query {
                action: Some(Action::KeyCreated),
                limit: PAGE,
                ..audit::store::Query::default()
            },
        ),
        (
            "audit of an object",
            audit::store::Query {
                object: Some("h7".to_owned()),
                limit: PAGE,
                ..audit::store::Query::default()
            },
        ),
    ] {
        let found =
            costs(db, what, FEW, move |conn| Ok(audit::store::list(conn, Some(large).into(), &query)?.len()));
        assert!(found.await > 0, "{what}");
    }
    costs(db, "keys", FEW, move |conn| {
        Ok(credential::store::page(conn, large, credential::Kind::ApiKey, None, PAGE)?.len())
    })
    .await;
    // The contract wants the number of all tasks beside the page: an index is counted through.
    let all = OTHERS + FEW;
    for (what, most, state) in
        [("tasks", 2 * all, None), ("tasks that run", FEW, Some(task::RunState::Running))]
    {
        let query = TaskQuery { state, agent_type: None, title: None, labels: None, limit: PAGE, offset: 0 };
        let found = costs(db, what, most, move |conn| Ok(task::list::list(conn, large, &query)?.0.len()));
        assert!(found.await > 0, "{what}");
    }
    for (what, state) in [("action runs", None), ("action runs that run", Some(ActionRunState::Running))] {
        costs(db, what, 2 * all, move |conn| {
            Ok(action_run::store::list(conn, large, state, PAGE, 0)?.0.len())
        })
        .await;
    }
    let listed =
        costs(db, "connections", FEW, move |conn| Ok(connection::store::list(conn, large, PAGE)?.len()));
    assert_eq!(listed.await, page);
    costs(db, "people", FEW, move |conn| Ok(membership::list(conn, large, None, PAGE)?.len())).await;
    costs(db, "invitations", FEW, move |conn| {
        Ok(invitation::list(conn, large, None, PAGE, Clock::system().now())?.len())
    })
    .await;
    costs(db, "schedules", FEW, move |conn| Ok(schedule::store::list(conn, large)?.len())).await;
    costs(db, "workers", FEW, move |conn| Ok(worker::list(conn, large)?.len())).await;
    costs(db, "grants", FEW, move |conn| Ok(oauth::grant::list(conn, large, None, None, PAGE)?.len())).await;
}
