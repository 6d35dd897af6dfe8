//! Reading events: filters, pages, deliveries, and questions that make no sense.

use chrono::{DateTime, TimeDelta, Utc};
use diesel::{
    RunQueryDsl, sql_query,
    sql_types::{SmallInt, Uuid},
};
use hookyard_domain::{
    credential::Scope,
    id::{EventId, SubscriptionId},
};
use hookyard_tests::system::{System, unlimited};
use serde_json::{Value, json};

use super::{MIB, event, event_of, ids, post};

/// A delivery as the fan-out would have made it.
async fn deliver(system: &System, event: &str, state: i16) -> SubscriptionId {
    let (tenant, event): (_, EventId) = (system.tenant, event.parse().unwrap());
    let hook = SubscriptionId::new(system.clock.now());
    system
        .db
        .run(move |conn| {
            sql_query(
                "INSERT INTO subscriptions (id, tenant_id, kind, url, identity, state, signing_secret, created_at, updated_at) \
                 VALUES ($1, $2, 0, 'https://hooks.zapier.com/hooks/catch/1/a/', gen_random_uuid()::text::bytea, 1, '', now(), now())",
            )
            .bind::<Uuid, _>(hook)
            .bind::<Uuid, _>(tenant)
            .execute(conn)?;
            sql_query(
                "INSERT INTO deliveries (event_id, subscription_id, tenant_id, profile, state, tries, attempts, deferrals, \
                    due_at, next_attempt_at, claim, last_status, last_reason, settled_at) \
                 VALUES ($1, $2, $3, 0, $4, 2, 2, 0, now(), now(), gen_random_uuid(), 500, 'server_error', \
                    CASE WHEN $4 = 0 THEN NULL ELSE now() END)",
            )
            .bind::<Uuid, _>(event)
            .bind::<Uuid, _>(hook)
            .bind::<Uuid, _>(tenant)
            .bind::<SmallInt, _>(state)
            .execute(conn)?;
            sql_query("DELETE FROM event_groups").execute(conn)?;
            Ok(())
        })
        .await
        .unwrap();
    hook
}

#[tokio::test]
async fn events_are_found_by_what_they_are() {
    let system = System::start().await;
    let client = system.client().await;
    let tagged = |tag: &str| {
        json!({"event_type": "order.paid", "payload": {}, "metadata": {"order": tag, "correlation_id": format!("c{tag}")}}).to_string()
    };
    let mut posted = Vec::new();
    let mut times: Vec<DateTime<Utc>> = Vec::new();
    for body in [
        event("order.created", &json!({})),
        tagged("7"),
        tagged("8"),
        event("order.created", &json!({})),
        event("x", &json!({})),
    ] {
        times.push(system.clock.now());
        posted.push(post(&client, &body).await);
        system.clock.advance(TimeDelta::milliseconds(1500));
    }
    // Dead, pending, delivered, cancelled; the last goes nowhere.
    for (id, state) in posted.iter().zip([2, 0, 1, 3]) {
        deliver(&system, id, state).await;
    }
    let time = |at: DateTime<Utc>| at.to_rfc3339().replace('+', "%2B");
    for (query, expected) in [
        (String::new(), vec![4, 3, 2, 1, 0]),
        ("event_type=order.created".to_owned(), vec![3, 0]),
        ("event_type=order.created&state=dead".to_owned(), vec![0]),
        ("metadata.order=7".to_owned(), vec![1]),
        ("metadata.order=9".to_owned(), vec![]),
        ("correlation_id=c8".to_owned(), vec![2]),
        (format!("since={}", time(times[3])), vec![4, 3]),
        (format!("until={}", time(times[1])), vec![0]),
        (format!("since={}&until={}", time(times[1]), time(times[3])), vec![2, 1]),
        ("state=dead".to_owned(), vec![0]),
        ("state=pending".to_owned(), vec![1]),
        ("state=delivered".to_owned(), vec![2]),
        ("state=cancelled".to_owned(), vec![3]),
        ("state=unmatched".to_owned(), vec![4]),
        ("state=accepted".to_owned(), vec![]),
        ("state=undelivered".to_owned(), vec![1, 0]),
        (format!("state=undelivered&since={}", time(times[1])), vec![1]),
    ] {
        let page = client.get(&format!("/v1/events?{query}")).await.expect(200);
        let expected: Vec<String> = expected.into_iter().map(|at: usize| posted[at].clone()).collect();
        assert_eq!(ids(&page), expected, "{query}");
        assert_eq!((&page["has_more"], &page["next_cursor"]), (&json!(false), &Value::Null), "{query}");
    }
}

#[tokio::test]
async fn the_deliveries_of_an_event_can_be_read() {
    let system = System::start().await;
    let client = system.client().await;
    let id = post(&client, &event("a", &json!({}))).await;
    let mut hooks = Vec::new();
    for state in [0, 1, 2] {
        hooks.push(deliver(&system, &id, state).await.to_string());
        system.clock.advance(TimeDelta::milliseconds(2));
    }
    hooks.reverse();
    let shown = client.get(&format!("/v1/events/{id}")).await.expect(200);
    assert_eq!(shown["deliveries"], json!({"pending": 1, "delivered": 1, "dead": 1, "cancelled": 0}));
    assert_eq!(shown["state"], "pending");
    let page = client.get(&format!("/v1/events/{id}/deliveries")).await.expect(200);
    let data = page["data"].as_array().unwrap();
    assert_eq!(data.iter().map(|delivery| delivery["hook_id"].as_str().unwrap()).collect::<Vec<_>>(), hooks);
    assert_eq!(
        data.iter().map(|delivery| delivery["state"].as_str().unwrap()).collect::<Vec<_>>(),
        ["dead", "delivered", "pending"]
    );
    let pending = &data[2];
    assert_eq!((&pending["attempts"], &pending["last_reason"]), (&json!(2), &json!("server_error")));
    assert!(pending["next_attempt_at"].is_string() && data[0]["next_attempt_at"].is_null(), "{page}");
    let first = client.get(&format!("/v1/events/{id}/deliveries?limit=2")).await.expect(200);
    let path =
        format!("/v1/events/{id}/deliveries?limit=2&cursor={}", first["next_cursor"].as_str().unwrap());
    let second = client.get(&path).await.expect(200);
    assert_eq!(
        (first["data"].as_array().unwrap().len(), &second["data"][0], &second["has_more"]),
        (2, pending, &json!(false))
    );
}

#[tokio::test]
async fn pages_neither_repeat_nor_hide_events_that_arrive_meanwhile() {
    let system = System::start().await;
    let client = system.client().await;
    let mut posted = Vec::new();
    for number in 0..25 {
        posted.push(post(&client, &event("a", &json!({"n": number}))).await);
        system.clock.advance(TimeDelta::milliseconds(1));
    }
    posted.reverse();
    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = client.get(&format!("/v1/events?limit=10{cursor}")).await.expect(200);
        seen.extend(ids(&page));
        post(&client, &event("late", &json!({}))).await;
        let Some(next) = page["next_cursor"].as_str() else {
            assert_eq!(page["has_more"], false);
            break;
        };
        assert_eq!(page["has_more"], true);
        cursor = format!("&cursor={next}");
    }
    assert_eq!(seen, posted);
}

#[tokio::test]
async fn a_page_of_large_events_ends_early_and_says_so() {
    let system = System::start().await;
    let client = system.client().await;
    let mut posted = Vec::new();
    for _ in 0..12 {
        posted.push(post(&client, &event_of(MIB)).await);
        system.clock.advance(TimeDelta::milliseconds(1));
    }
    posted.reverse();
    let mut seen = Vec::new();
    let mut path = "/v1/events?limit=100".to_owned();
    loop {
        let reply = client.get(&path).await;
        assert!(reply.body.len() < 6 * MIB, "{}", reply.body.len());
        let page = reply.expect(200);
        seen.extend(ids(&page));
        let Some(next) = page["next_cursor"].as_str() else { break };
        path = format!("/v1/events?limit=100&cursor={next}");
    }
    assert_eq!(seen, posted);
}

#[tokio::test]
async fn bad_questions_are_told_what_is_wrong() {
    let system = System::start().await;
    let client = system.client().await;
    let id = post(&client, &event("a", &json!({}))).await;
    let list = |query: &str| format!("/v1/events?{query}");
    for (path, code, field) in [
        (list("limit=0"), "INVALID_PARAMETER", "limit"),
        (list("limit=101"), "INVALID_PARAMETER", "limit"),
        (list("limit=-1"), "INVALID_PARAMETER", "limit"),
        (list("limit=ten"), "INVALID_PARAMETER", "limit"),
        (list("limit="), "INVALID_PARAMETER", "limit"),
        (list("limit=5&limit=6"), "INVALID_PARAMETER", "limit"),
        (list("cursor=x"), "INVALID_PARAMETER", "cursor"),
        (list("cursor=%00"), "INVALID_PARAMETER", "cursor"),
        (list("cursor=hook_00000000000000000000000000"), "INVALID_PARAMETER", "cursor"),
        (list("since=yesterday"), "INVALID_PARAMETER", "since"),
        (list("since=2026-11-21"), "INVALID_PARAMETER", "since"),
        (list("until=2026-13-01T00:00:00Z"), "INVALID_PARAMETER", "until"),
        (list("since=2026-11-21T00:00:00Z&until=2026-11-20T00:00:00Z"), "INVALID_PARAMETER", "until"),
        (list("since=99999-01-01T00:00:00Z"), "INVALID_PARAMETER", "since"),
        (list("state=lost"), "INVALID_PARAMETER", "state"),
        (list("event_type=%00"), "INVALID_PARAMETER", "event_type"),
        (list("event_type="), "INVALID_PARAMETER", "event_type"),
        (list("metadata.x=%00"), "INVALID_PARAMETER", "metadata"),
        (list("metadata.=1"), "INVALID_PARAMETER", "metadata."),
        (list("sort=asc"), "INVALID_PARAMETER", "sort"),
        (list("%ff=1"), "INVALID_PARAMETER", "\u{fffd}"),
        (format!("/v1/events/{id}?x=1"), "INVALID_PARAMETER", "x"),
        (format!("/v1/events/{id}/deliveries?state=dead"), "INVALID_PARAMETER", "state"),
        (format!("/v1/events/{id}/deliveries?limit=101"), "INVALID_PARAMETER", "limit"),
        ("/v1/events/x".to_owned(), "INVALID_ID", "id"),
        (format!("/v1/events/{id}0"), "INVALID_ID", "id"),
        ("/v1/events/evt_%00".to_owned(), "INVALID_ID", "id"),
        ("/v1/events/%ff%fe/deliveries".to_owned(), "INVALID_ID", "id"),
        (format!("/v1/events/hook_{}", &id[4..]), "INVALID_ID", "id"),
    ] {
        let reply = client.get(&path).await;
        assert_eq!(reply.error(), (400, code.to_owned()), "{path}: {}", reply.text());
        assert_eq!(reply.json()["details"]["field"], field, "{path}");
    }
    assert_eq!(client.get(&list("limit=100&state=undelivered")).await.status, 200);
}

#[tokio::test]
async fn another_tenants_events_are_not_there() {
    let system = System::start().await;
    let client = system.client().await;
    let id = post(&client, &event("a", &json!({}))).await;
    let other = system.tenant("Other").await;
    let (_, key) = system.key_of(other, &[Scope::Admin], unlimited()).await;
    let theirs = client.with_key(&key);
    assert_eq!(ids(&theirs.get("/v1/events").await.expect(200)), Vec::<String>::new());
    for path in [format!("/v1/events/{id}"), format!("/v1/events/{id}/deliveries")] {
        assert_eq!(client.get(&path).await.status, 200);
        assert_eq!(theirs.get(&path).await.error(), (404, "NOT_FOUND".to_owned()), "{path}");
    }
}
