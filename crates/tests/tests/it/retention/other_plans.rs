//! The other lists, beside those of `plans`: on a database that has been in use for long, by a tenant that has had much and by two
//! hundred others.

use chrono::TimeDelta;
use diesel::{
    RunQueryDsl, sql_query,
    sql_types::{BigInt, Uuid},
};
use hookyard_domain::{
    audit, catalogue,
    clock::Clock,
    credential::{self, Kind},
    db::{Conn, Db},
    delivery::{
        inspect::{self, RunOfWebhooks},
        log::{self, LogQuery, Status},
    },
    event::list::LOOKED_AT,
    id::{EventId, RunId, ScheduleId, SubscriptionId, TaskId, TenantId},
    oauth,
    recovery::{
        RecoveryState,
        store::{self as recoveries, RecoveryQuery},
    },
    subscription::{
        HookState, consumer,
        inbox::store::{self as inboxes, InboxQuery},
        store::{self as hooks, HookQuery},
    },
    task::{list, schedule::store as schedules, worker},
};
use hookyard_tests::system::System;

use super::{
    Filling, execute, fill, hook,
    plans::{FEW, PAGE, costs_in},
};

/// Tables that are asked for here, by how their names begin.
const TABLES: &str = "events_|deliveries_|subscriptions|consumers|inboxes|recoveries|event_types|credentials|oauth_|users|workers\
    |schedules|schedule_ticks|tasks|task_runs|audit_log";

/// Of tables with a row of the tenant for each number up to `$2`, and fewer of each other tenant.
const OF_TENANT: &str = "SELECT $1 AS tenant, n FROM generate_series(1, $2) n";
const OF_OTHERS: &str =
    "SELECT t.id AS tenant, n FROM tenants t, generate_series(1, GREATEST($2 / 200, 50)) n WHERE t.id <> $1";

/// Writes rows of the tenant and of all others; `{rows}` in the statement stands for whose they are, and their numbers.
fn write(conn: &mut Conn, tenant: TenantId, rows: i64, statement: &str) -> hookyard_domain::Result<()> {
    for whose in [OF_TENANT, OF_OTHERS] {
        sql_query(statement.replace("{rows}", &format!("({whose}) AS f")))
            .bind::<Uuid, _>(tenant)
            .bind::<BigInt, _>(rows)
            .execute(conn)?;
    }
    Ok(())
}

const OTHERS: &str = "INSERT INTO tenants (id, name, created_at) SELECT gen_random_uuid(), 'other', now() FROM generate_series(1, 200)";

/// Of a hundred hooks one is live, one is disabled, and the others are deleted.
const HOOKS: &str = "INSERT INTO subscriptions (id, tenant_id, kind, url, event_type, pattern, identity, state, signing_secret, created_at, updated_at) \
     SELECT gen_random_uuid(), tenant, 0, 'https://hooks.zapier.com/hooks/catch/1/' || n, 't' || n / 100 % 50, 't' || n / 100 % 50, \
        ('h' || n)::bytea, CASE n % 100 WHEN 0 THEN 1 WHEN 1 THEN 3 ELSE 4 END, '', now(), now() FROM {rows}";

/// Of a thousand consumers one is live.
const CONSUMERS: &str = "WITH made AS (INSERT INTO subscriptions (id, tenant_id, kind, url, identity, state, signing_secret, created_at, updated_at) \
        SELECT gen_random_uuid(), tenant, 3, 'https://receiver.example/', ('c' || n)::bytea, \
           CASE n % 1000 WHEN 0 THEN 1 ELSE 4 END, '', now(), now() FROM {rows} RETURNING id) \
     INSERT INTO consumers (id, description, event_types, patterns, tags, method, header_names, signing_key, public_key) \
     SELECT id, repeat('A consumer. ', 50), '{order.created}', '{order.created}', '{region:uk}', 'POST', '{}', '', 'whpk_' FROM made";

/// So are inboxes.
const INBOXES: &str = "WITH made AS (INSERT INTO subscriptions (id, tenant_id, kind, url, identity, state, created_at, updated_at) \
        SELECT gen_random_uuid(), tenant, 4, 'inbox:' || n, ('i' || n)::bytea, CASE n % 1000 WHEN 0 THEN 1 ELSE 4 END, now(), now() \
        FROM {rows} RETURNING id) \
     INSERT INTO inboxes (id, name, event_types, patterns, tags, max_leases) SELECT id, repeat('An inbox. ', 50), '{}', '{}', '{}', 5 FROM made";

const EVENT_TYPES: &str = "INSERT INTO event_types (tenant_id, name, description, aliases, deprecated, archived, created_at, updated_at) \
     SELECT tenant, 't.x' || n, '', '{}', false, false, now(), now() FROM {rows}";

/// Tokens of OAuth clients, and among a hundred a key, a source key and a worker token.
const CREDENTIALS: &str = "INSERT INTO credentials (id, tenant_id, kind, name, prefix, token_hash, scopes, created_at) \
     SELECT gen_random_uuid(), tenant, CASE n % 100 WHEN 0 THEN 0 WHEN 1 THEN 2 WHEN 2 THEN 4 ELSE 3 END, 'k', 'x_', \
        sha256((tenant::text || n)::bytea), '{}', now() FROM {rows}";

const CLIENTS: &str = "INSERT INTO oauth_clients (id, tenant_id, name, redirect_uris, scopes, created_at) \
     SELECT gen_random_uuid(), tenant, 'c', '{}', '{}', now() FROM {rows}";

const WORKERS: &str = "INSERT INTO workers (id, tenant_id, credential_id, name, agent_types, capabilities, last_seen_at, created_at) \
     SELECT gen_random_uuid(), tenant, (SELECT id FROM credentials LIMIT 1), 'w' || n, '{}', '{}', now(), now() FROM {rows}";

const USERS: &str = "INSERT INTO users (id, email, name, locale, created_at) \
     SELECT gen_random_uuid(), 'u' || n || '-' || tenant || '@example.com', 'u', 'en', now() FROM {rows}";

/// Every second grant has ended.
const GRANTS: &str = "INSERT INTO oauth_grants (id, client_id, tenant_id, user_id, scopes, created_at, revoked_at) \
     SELECT gen_random_uuid(), (SELECT id FROM oauth_clients LIMIT 1), tenant, (SELECT id FROM users LIMIT 1), '{}', now(), \
        CASE n % 2 WHEN 0 THEN now() END FROM {rows}";

const SCHEDULES: &str = "INSERT INTO schedules (id, tenant_id, name, cron, time_zone, enabled, missed, task, created_at, updated_at) \
     SELECT gen_random_uuid(), tenant, 's' || n, '0 0 * * *', 'UTC', true, 0, '{}', now(), now() FROM {rows}";

/// The audit log: of a thousand entries one is by somebody who is looked for.
const AUDIT: &str = "INSERT INTO audit_log (tenant_id, seq, at, actor_kind, actor_id, actor_name, action, object_kind, object_id, hash) \
     SELECT tenant, 1000000 + n, now(), 2, CASE n % 1000 WHEN 0 THEN '00000000-0000-7000-8000-000000000007'::uuid \
        ELSE gen_random_uuid() END, 'x', 'hook.subscribed', 'hook', 'h' || n, '' FROM {rows}";

/// One task with a hundred runs, and as many others with one.
const TASKS: &str = "WITH new AS MATERIALIZED (SELECT gen_random_uuid() AS task, gen_random_uuid() AS run, tenant, n FROM {rows}), \
     made AS (INSERT INTO tasks (id, tenant_id, run_id, title, description, agent_type, model, resolved, priority, capabilities, \
        webhook_events, timeout_s, trace, sampled, created_at) \
        SELECT task, tenant, run, 't', 'd', 0, 'm', 'offline:text', 0, '{}', 0, 600, task, false, now() FROM new) \
     INSERT INTO task_runs (id, task_id, tenant_id, number, latest, state, agent_type, model, resolved, priority, capabilities, \
        built_in, timeout_s, queued_at, due_at) \
     SELECT CASE r WHEN 1 THEN run ELSE gen_random_uuid() END, task, tenant, 101 - r, r = 1, 0, 0, 'm', 'offline:text', 0, '{}', true, \
        600, now(), now() FROM new, generate_series(1, CASE n WHEN 1 THEN 100 ELSE 1 END) r";

/// Recoveries that have ended: one of a thousand was stopped, one of a thousand went to the second endpoint.
fn recoveries_of(endpoints: [SubscriptionId; 2], theirs: SubscriptionId) -> String {
    let [busy, quiet] = endpoints.map(SubscriptionId::uuid);
    let theirs = theirs.uuid();
    format!(
        "INSERT INTO recoveries (id, tenant_id, subscription_id, which, state, since, until, per_second, actor_kind, actor_name, due_at, \
            claim, lease_until, created_at, updated_at, ended_at) \
         SELECT gen_random_uuid(), tenant, \
            CASE WHEN tenant <> $1 THEN '{theirs}'::uuid WHEN n % 1000 = 1 THEN '{quiet}'::uuid ELSE '{busy}'::uuid END, 0, \
            CASE n % 1000 WHEN 0 THEN 4 ELSE 2 END, now(), now(), 10, 0, 'x', now(), gen_random_uuid(), now(), now(), now(), now() \
         FROM {{rows}}"
    )
}

/// The id that a statement tells, which has the tenant as its parameter.
async fn one(db: &Db, tenant: TenantId, statement: &'static str) -> uuid::Uuid {
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = Uuid)]
        id: uuid::Uuid,
    }
    let row: Row = db
        .once(move |conn| Ok(sql_query(statement).bind::<Uuid, _>(tenant).get_result(conn)?))
        .await
        .unwrap();
    row.id
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_of_what_a_tenant_has_or_had_go_by_index() {
    let system = System::start().await;
    let (db, large) = (&system.db, system.tenant);
    let small = system.tenant("Small").await;
    let now = Clock::system().now();
    let endpoints = [hook(db, large, now).await, hook(db, large, now).await];
    let theirs = hook(db, small, now).await;
    let recovered = recoveries_of(endpoints, theirs);
    db.once(move |conn| {
        sql_query("SELECT set_config('statement_timeout', '0', false)").execute(conn)?;
        sql_query(OTHERS).execute(conn)?;
        for (rows, statement) in [
            (20_000, HOOKS),
            (20_000, CONSUMERS),
            (20_000, INBOXES),
            (500, EVENT_TYPES),
            (20_000, CREDENTIALS),
            (100, CLIENTS),
            (100, WORKERS),
            (1_000, USERS),
            (5_000, GRANTS),
            (100, SCHEDULES),
            (20_000, AUDIT),
            (5_000, TASKS),
            (20_000, recovered.as_str()),
        ] {
            write(conn, large, rows, statement)?;
        }
        sql_query(
            "INSERT INTO schedule_ticks (schedule_id, tick, outcome, fired_at) \
             SELECT s.id, now() - n * interval '1 minute', 0, now() \
             FROM schedules s, generate_series(1, CASE s.tenant_id WHEN $1 THEN 100 ELSE 2 END) n",
        )
        .bind::<Uuid, _>(large)
        .execute(conn)?;
        sql_query("ANALYZE").execute(conn)?;
        Ok(())
    })
    .await
    .unwrap();
    let page = usize::try_from(PAGE).unwrap();

    let hooks_of =
        async |what: &str, tenant: TenantId, state: Option<HookState>, event_type: Option<&str>| {
            let query =
                HookQuery { limit: PAGE, state, event_type: event_type.map(str::to_owned), before: None };
            costs_in(db, TABLES, &format!("hooks {what}"), FEW, move |conn| {
                Ok(hooks::list(conn, tenant, &query)?.len())
            })
            .await
        };
    assert_eq!(hooks_of("all", large, None, None).await, page);
    assert_eq!(hooks_of("of a small tenant", small, None, None).await, 3);
    assert_eq!(hooks_of("disabled", large, Some(HookState::Disabled), None).await, page);
    assert_eq!(hooks_of("failing", large, Some(HookState::Failing), None).await, 0);
    assert_eq!(hooks_of("deleted", large, Some(HookState::Deleted), None).await, page);
    assert_eq!(hooks_of("of a type", large, None, Some("t7")).await, 8);
    assert_eq!(hooks_of("of no type", large, None, Some("nothing")).await, 0);
    assert_eq!(hooks_of("deleted of no type", large, Some(HookState::Deleted), Some("nothing")).await, 0);

    for (what, state, event_type, tag, found) in [
        ("all", None, None, None, 20),
        ("active", Some(HookState::Active), None, None, 20),
        ("of a type", None, Some("order.created"), None, 20),
        ("of another type", None, Some("order.paid"), None, 0),
        ("with a tag", None, None, Some("region:uk"), 20),
        ("with another tag", None, None, Some("region:fr"), 0),
    ] {
        let query = consumer::store::ConsumerQuery {
            limit: PAGE,
            state,
            event_type: event_type.map(str::to_owned),
            tag: tag.map(str::to_owned),
            before: None,
        };
        let listed = costs_in(db, TABLES, &format!("consumers {what}"), FEW, move |conn| {
            Ok(consumer::store::list(conn, large, &query)?.len())
        })
        .await;
        assert_eq!(listed, found, "consumers {what}");
    }
    let listed = costs_in(db, TABLES, "inboxes", FEW, move |conn| {
        Ok(inboxes::list(conn, large, InboxQuery { before: None, limit: PAGE })?.len())
    })
    .await;
    assert_eq!(listed, 20);

    let [busy, quiet] = endpoints;
    let (completed, cancelled, stopped) =
        (RecoveryState::Completed, RecoveryState::Cancelled, RecoveryState::Stopped);
    for (what, tenant, endpoint, state, found) in [
        ("all", large, None, None, page),
        ("of a small tenant", small, None, None, page),
        ("to an endpoint", large, Some(busy), None, page),
        ("to a quiet endpoint", large, Some(quiet), None, 20),
        ("that were stopped", large, None, Some(stopped), 20),
        ("that were cancelled", large, None, Some(cancelled), 0),
        ("to an endpoint that were stopped", large, Some(busy), Some(stopped), 20),
        ("to an endpoint that were cancelled", large, Some(busy), Some(cancelled), 0),
        ("to a quiet endpoint that are complete", large, Some(quiet), Some(completed), 20),
    ] {
        let query = RecoveryQuery { endpoint, state, before: None, limit: PAGE };
        let listed = costs_in(db, TABLES, &format!("recoveries {what}"), FEW, move |conn| {
            Ok(recoveries::list(conn, tenant, &query)?.len())
        })
        .await;
        assert_eq!(listed, found, "recoveries {what}");
    }

    // A tenant has at most 1,000 types, and clients, workers and schedules by the dozen: they are read whole, but no others'.
    let listed =
        costs_in(db, TABLES, "event types", FEW, move |conn| Ok(catalogue::store::list(conn, large)?.len()))
            .await;
    assert_eq!(listed, 500);
    for kind in [Kind::ApiKey, Kind::Source, Kind::Worker, Kind::OAuthAccess] {
        let listed = costs_in(db, TABLES, &format!("{kind:?}"), FEW, move |conn| {
            Ok(credential::store::page(conn, large, kind, None, PAGE)?.len())
        })
        .await;
        assert_eq!(listed, page, "{kind:?}");
    }
    for (owner, found) in [(Some(large), 100), (Some(small), 50), (None, 0)] {
        let listed =
            costs_in(db, TABLES, "clients", FEW, move |conn| Ok(oauth::client::list(conn, owner)?.len()))
                .await;
        assert_eq!(listed, found, "clients of {owner:?}");
    }
    let listed = costs_in(db, TABLES, "grants", FEW, move |conn| {
        Ok(oauth::grant::list(conn, large, None, None, PAGE)?.len())
    })
    .await;
    assert_eq!(listed, page);
    let listed = costs_in(db, TABLES, "workers", FEW, move |conn| Ok(worker::list(conn, large)?.len())).await;
    assert_eq!(listed, 100);
    let listed =
        costs_in(db, TABLES, "schedules", FEW, move |conn| Ok(schedules::list(conn, large)?.len())).await;
    assert_eq!(listed, 100);

    let schedule =
        ScheduleId::from_uuid(one(db, large, "SELECT id FROM schedules WHERE tenant_id = $1 LIMIT 1").await);
    let ticks = costs_in(db, TABLES, "history of a schedule", FEW, move |conn| {
        Ok(schedules::history(conn, (large, schedule), PAGE)?.len())
    })
    .await;
    assert_eq!(ticks, page);
    let statement = "SELECT task_id AS id FROM task_runs WHERE tenant_id = $1 AND number = 1";
    let task = TaskId::from_uuid(one(db, large, statement).await);
    let runs =
        costs_in(db, TABLES, "runs of a task", FEW, move |conn| Ok(list::runs(conn, large, task)?.len()))
            .await;
    assert_eq!(runs, 100);
    let actor = Some(uuid::Uuid::from_u128(0x7000_8000_0000_0000_0007));
    let query = audit::store::Query { actor, limit: PAGE, ..audit::store::Query::default() };
    let entries = costs_in(db, TABLES, "audit by actor", FEW, move |conn| {
        Ok(audit::store::list(conn, Some(large).into(), &query)?.len())
    })
    .await;
    assert_eq!(entries, 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pattern_over_more_than_a_thousand_types_looks_at_a_bounded_number_of_events() {
    const EVENTS: i64 = 60_000;
    let system = System::start().await;
    let (db, tenant) = (&system.db, system.tenant);
    let until = Clock::system().now();
    let since = until - TimeDelta::days(6);
    let endpoint = hook(db, tenant, since).await;
    fill(db, Filling { tenant, hook: endpoint, events: EVENTS, since, until, payload: 64 }).await;
    // 1,500 types, and one event of a type of its own, the oldest.
    execute(
        db,
        "UPDATE events SET event_type = 'w' || ('x' || substr(md5(id::text), 1, 4))::bit(16)::int % 1500 || '.a'",
    )
    .await;
    let oldest =
        "UPDATE events SET event_type = 'rare.a' WHERE id = (SELECT id FROM events ORDER BY id LIMIT 1)";
    execute(db, oldest).await;
    execute(db, "ANALYZE events, deliveries").await;
    let (page, bound) = (usize::try_from(PAGE).unwrap(), 4 * LOOKED_AT);
    let asked = |pattern: &str| LogQuery {
        types: Some(pattern.parse().unwrap()),
        limit: PAGE,
        ..LogQuery::default()
    };
    for (pattern, status) in [("rare.*", None), ("rare.*", Some(Status::Failure)), ("nothing.*", None)] {
        let query = LogQuery { status, ..asked(pattern) };
        let found = costs_in(db, TABLES, &format!("messages by {pattern} {status:?}"), bound, move |conn| {
            Ok(log::list(conn, tenant, &query)?.messages.len())
        })
        .await;
        assert_eq!(found, 0, "{pattern}");
    }
    // What is rare is found page by page, and what is not fills a page at once.
    let (mut after, mut found, mut pages) = (None, 0, 0);
    loop {
        let query = LogQuery { after, ..asked("rare.*") };
        let listed = db.once(move |conn| log::list(conn, tenant, &query)).await.unwrap();
        found += listed.messages.len();
        pages += 1;
        after = listed.looked_up_to;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(found, 1);
    assert!((6..=7).contains(&pages), "{pages} pages of ten thousand events each");
    let query = asked("*.a");
    let full = db.once(move |conn| log::list(conn, tenant, &query)).await.unwrap();
    assert_eq!((full.messages.len(), full.looked_up_to), (page, None));

    // Webhooks of a run are found among those of its endpoint, by when the run began and ended.
    let began = since + TimeDelta::days(3);
    let run = RunOfWebhooks {
        id: RunId::new(began),
        endpoint_id: endpoint,
        last_event: EventId::new(began + TimeDelta::hours(1)),
    };
    db.once(move |conn| {
        sql_query("UPDATE deliveries SET ordering = $1 WHERE event_id > $1 AND event_id <= $2")
            .bind::<Uuid, _>(run.id)
            .bind::<Uuid, _>(run.last_event)
            .execute(conn)?;
        Ok(())
    })
    .await
    .unwrap();
    let sent = costs_in(db, TABLES, "webhooks of a run", 4 * FEW, move |conn| {
        Ok(inspect::of_run(conn, tenant, &run, 1_000)?.len())
    })
    .await;
    assert!((400..=430).contains(&sent));
}
