//! The same request twice does its work once, in whatever way the two meet.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use hookyard_domain::{
    credential::Scope,
    idempotency::{self, Earlier, Key},
};
use hookyard_tests::{
    http::{Client, Reply},
    system::{Options, RunningGateway, System, unlimited},
};
use serde_json::json;

use super::{EVENT, at_once, events_stored, number};

async fn post_keyed_event(client: Client) -> Reply {
    client.request("POST", "/events").header("idempotency-key", "race").json(EVENT).send().await
}

#[tokio::test]
async fn the_same_request_with_a_key_is_done_once() {
    let system = System::start().await;
    let client = system.client().await;
    let send = |path: &'static str, key: &str, body: String| {
        client.request("POST", path).header("idempotency-key", key).json(body).send()
    };
    for (path, body, other) in [
        ("/events", EVENT.to_owned(), EVENT.replace('1', "2")),
        ("/events/batch", format!(r#"{{"events":[{EVENT},{{}}]}}"#), format!(r#"{{"events":[{EVENT}]}}"#)),
        ("/events/batch", r#"{"events":[{}]}"#.to_owned(), r#"{"events":[5]}"#.to_owned()),
    ] {
        let key = format!("key {}", body.len());
        let first = send(path, &key, body.clone()).await;
        assert_eq!((first.status, first.header("idempotent-replayed")), (202, None), "{}", first.text());
        let stored = events_stored(&system).await;
        for _ in 0..2 {
            let again = send(path, &key, body.clone()).await;
            assert_eq!(again.header("idempotent-replayed"), Some("true"));
            assert_eq!((again.status, again.text()), (202, first.text()));
        }
        let mismatch = send(path, &key, other).await;
        assert_eq!(mismatch.error(), (422, "IDEMPOTENCY_MISMATCH".to_owned()));
        assert_eq!(events_stored(&system).await, stored);
    }
    let stored = events_stored(&system).await;
    let other_tenant = system.tenant("Other").await;
    let (_, key) = system.key_of(other_tenant, &[Scope::EventsWrite], unlimited()).await;
    let key_of_first = format!("key {}", EVENT.len());
    let theirs = system.anonymous().with_key(&key).request("POST", "/events");
    let theirs = theirs.header("idempotency-key", &key_of_first).json(EVENT).send().await;
    assert_eq!((theirs.status, theirs.header("idempotent-replayed")), (202, None));
    assert_eq!(events_stored(&system).await, stored + 1);
}

#[tokio::test]
async fn a_refused_request_leaves_its_key_free() {
    let system = System::start().await;
    let client = system.client().await;
    let send = |body: &'static str| {
        client.request("POST", "/events").header("idempotency-key", "k").json(body).send()
    };
    assert_eq!(send("{").await.status, 400);
    assert_eq!(send(r#"{"event_type":"a"}"#).await.status, 422);
    let first = send(EVENT).await;
    assert_eq!((first.status, first.header("idempotent-replayed")), (202, None));
}

#[tokio::test]
async fn a_key_has_1_to_255_characters() {
    let system = System::start().await;
    let client = system.client().await;
    for (key, expected) in
        [("k".repeat(255), 202), ("k".repeat(256), 400), (String::new(), 400), ("\u{e9}".to_owned(), 400)]
    {
        let reply =
            client.request("POST", "/events").header("idempotency-key", &key).json(EVENT).send().await;
        assert_eq!(reply.status, expected, "{}", reply.text());
        if expected == 400 {
            assert_eq!(reply.error().1, "INVALID_IDEMPOTENCY_KEY");
        }
    }
}

#[tokio::test]
async fn fifty_at_once_make_one_event() {
    let system = System::with(Options { gateways: 2, ..Options::default() }).await;
    let key = system.key(&[Scope::EventsWrite]).await;
    let clients: Vec<_> =
        system.gateways.iter().map(|gateway| Client::new(gateway.addr).with_key(&key)).collect();
    let replies = at_once(&clients, 50, post_keyed_event).await;
    let bodies: std::collections::HashSet<String> = replies.iter().map(Reply::text).collect();
    assert!(replies.iter().all(|reply| reply.status == 202), "{bodies:?}");
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    let first = replies.iter().filter(|reply| reply.header("idempotent-replayed").is_none()).count();
    assert_eq!((first, events_stored(&system).await), (1, 1));
}

#[tokio::test]
async fn a_key_that_is_held_too_long_is_told_and_stops_nobody_else() {
    let system = System::start().await;
    let client = system.client().await;
    assert_eq!(client.post("/events", EVENT).await.status, 202);
    let (tenant, now) = (system.tenant, system.clock.now());
    // Another gateway that came to a stop in the middle of its transaction.
    let (held, is_held) = tokio::sync::oneshot::channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let db = system.database.pool();
    let holder = tokio::spawn(async move {
        let key = Key::new(tenant, "POST /events", "held", b"").unwrap();
        db.run(move |conn| {
            idempotency::claim(conn, &[(key, 0, Vec::new())], now)?;
            held.send(()).unwrap();
            released.recv().unwrap();
            Ok(())
        })
        .await
    });
    is_held.await.unwrap();
    let send = |key: &'static str| {
        client.request("POST", "/events").header("idempotency-key", key).json(EVENT).send()
    };
    let started = Instant::now();
    let waiting = tokio::spawn(send("held"));
    for number in 0..20 {
        let plain = Instant::now();
        assert_eq!(client.post("/events", EVENT).await.status, 202, "{number}");
        assert!(plain.elapsed() < Duration::from_secs(3), "{number} took {:?}", plain.elapsed());
    }
    assert_eq!(send("another").await.status, 202);
    let reply = waiting.await.unwrap();
    assert_eq!(reply.error(), (409, "IDEMPOTENCY_IN_FLIGHT".to_owned()));
    assert!(started.elapsed() >= Duration::from_secs(10) && number(&reply, "retry-after") >= 1);
    release.send(()).unwrap();
    holder.await.unwrap().unwrap();
    assert_eq!(send("held").await.error().1, "IDEMPOTENCY_MISMATCH", "the other request has done it");
}

async fn create_keyed_type(client: Client) -> Reply {
    let body = r#"{"name":"race.won","description":"Somebody was first."}"#;
    client.request("POST", "/v1/event-types").header("idempotency-key", "race").json(body).send().await
}

/// Every route that creates goes the same way as this one, which refuses to create the same thing twice.
#[tokio::test]
async fn fifty_at_once_make_one_object() {
    let system = System::with(Options { gateways: 2, ..Options::default() }).await;
    let key = system.key(&[Scope::EventsWrite]).await;
    let clients: Vec<_> =
        system.gateways.iter().map(|gateway| Client::new(gateway.addr).with_key(&key)).collect();
    let replies = at_once(&clients, 50, create_keyed_type).await;
    let bodies: std::collections::HashSet<(u16, String)> =
        replies.iter().map(|reply| (reply.status, reply.text())).collect();
    assert!(bodies.len() == 1 && bodies.iter().all(|(status, _)| *status == 201), "{bodies:?}");
    let first = replies.iter().filter(|reply| reply.header("idempotent-replayed").is_none()).count();
    assert_eq!(first, 1);
    let again = clients[0].post("/v1/event-types", r#"{"name":"race.won"}"#).await;
    assert_eq!(again.status, 409, "without the key it is a request of its own: {}", again.text());
}

#[tokio::test]
async fn a_key_is_free_again_after_a_refusal_inside_the_transaction() {
    let system = System::start().await;
    let client = system.client().await;
    let create = |name: &str, key: &str| {
        let body = format!(r#"{{"name":"{name}","description":"x"}}"#);
        client.request("POST", "/v1/event-types").header("idempotency-key", key).json(body).send()
    };
    assert_eq!(create("taken", "a").await.status, 201);
    assert_eq!(create("taken", "b").await.status, 409);
    let free = create("free", "b").await;
    assert_eq!((free.status, free.header("idempotent-replayed")), (201, None), "{}", free.text());
    let mismatch = create("taken", "b").await;
    assert_eq!(mismatch.error(), (422, "IDEMPOTENCY_MISMATCH".to_owned()));
}

/// Once for each way that a request with a key goes: events, tasks, and everything else.
#[tokio::test]
async fn a_repetition_is_answered_as_the_first_was_for_48_hours_and_makes_something_new_after_that() {
    let system = System::start().await;
    let client = system.client().await;
    let url = json!({"url": "https://hooks.zapier.com/hooks/standard/1/two-days/"});
    let hook = client.post_json("/zapier/hook", &url).await.expect(200);
    let test = format!("/v1/hooks/{}/test", hook["id"].as_str().unwrap());
    let routes = [
        ("/events", EVENT, 202),
        ("/v1/automation/tasks", r#"{"title":"t","description":"d"}"#, 201),
        (test.as_str(), "", 202),
    ];
    let send = async |path: &str, body: &str| {
        client.request("POST", path).header("idempotency-key", "two days").json(body).send().await
    };
    let there = async || {
        let count = "SELECT (SELECT count(*) FROM events) + (SELECT count(*) FROM tasks) AS n";
        crate::retention::number(&system.db, count).await
    };
    let mut before = Vec::new();
    for (path, body, status) in routes {
        let first = send(path, body).await;
        assert_eq!((first.status, first.header("idempotent-replayed")), (status, None), "{}", first.text());
        before.push(first.text());
    }
    // The clock goes on while this runs; the very moment is looked at below.
    system.clock.advance(TimeDelta::hours(48) - TimeDelta::minutes(2));
    let made = there().await;
    for ((path, body, status), first) in routes.into_iter().zip(&before) {
        let again = send(path, body).await;
        assert_eq!((again.status, again.header("idempotent-replayed")), (status, Some("true")), "{path}");
        assert_eq!(again.text(), *first, "{path}");
    }
    assert_eq!(there().await, made);
    system.clock.advance(TimeDelta::minutes(2));
    for ((path, body, status), first) in routes.into_iter().zip(&before) {
        let made = there().await;
        let new = send(path, body).await;
        assert_eq!((new.status, new.header("idempotent-replayed")), (status, None), "{}", new.text());
        assert_ne!(new.text(), *first, "{path}");
        assert!(made < there().await, "{path}");
        // From here on the 48 hours are those of the new request.
        let again = send(path, body).await;
        assert_eq!((again.header("idempotent-replayed"), again.text()), (Some("true"), new.text()), "{path}");
    }
}

#[tokio::test]
async fn a_key_counts_until_the_moment_it_is_48_hours_old_and_is_not_removed_before() {
    // Without a gateway nobody else removes anything.
    let system = System::with(Options { gateways: 0, ..Options::default() }).await;
    let (tenant, made) = (system.tenant, system.clock.now());
    let two_days = TimeDelta::hours(48);
    let (second, moment) = (TimeDelta::seconds(1), TimeDelta::microseconds(1));
    let claim = async |name: &str, at: DateTime<Utc>| {
        let claims =
            [(Key::new(tenant, "POST /events", name, b"").unwrap(), 202, at.to_rfc3339().into_bytes())];
        let claimed = system.db.run(move |conn| idempotency::claim(conn, &claims, at)).await;
        claimed.unwrap().pop().flatten()
    };
    let forget = async |now: DateTime<Utc>| {
        system.db.once(move |conn| idempotency::forget_old(conn, now)).await.unwrap()
    };
    let answer = |at: DateTime<Utc>| Some(Earlier::Same { status: 202, body: at.to_rfc3339().into_bytes() });
    assert_eq!(claim("old", made).await, None);
    for age in [second, two_days - second, two_days - moment] {
        assert_eq!(forget(made + age).await, 0, "{age}");
        assert_eq!(claim("old", made + age).await, answer(made), "{age}");
    }
    assert_eq!(claim("old", made + two_days).await, None, "it is the key of a new request");
    let (made, younger) = (made + two_days, made + two_days + second);
    assert_eq!(claim("old", younger).await, answer(made));
    assert_eq!(claim("young", younger).await, None);
    assert_eq!(forget(made + two_days).await, 0, "the last moment is left");
    assert_eq!(forget(made + two_days + moment).await, 1);
    assert_eq!(claim("young", made + two_days + moment).await, answer(younger), "it still counts");
    assert_eq!(claim("old", made + two_days + moment).await, None);
}

#[tokio::test]
async fn a_gateway_removes_keys_that_no_longer_count_and_no_others() {
    let system = System::with(Options { gateways: 0, ..Options::default() }).await;
    let (tenant, now) = (system.tenant, system.clock.now());
    for (name, hours) in [("old", 49), ("young", 47)] {
        let claims = [(Key::new(tenant, "POST /events", name, b"").unwrap(), 202, Vec::new())];
        let at = now - TimeDelta::hours(hours);
        let claimed = system.db.run(move |conn| idempotency::claim(conn, &claims, at)).await;
        assert_eq!(claimed.unwrap(), [None::<Earlier>]);
    }
    // It does so when it starts, and every ten minutes.
    let pool = system.database.pool();
    let mut gateway = RunningGateway::start(&Options::default(), pool, &system.bus, &system.clock);
    let count = async |condition: &str| {
        let count = format!("SELECT count(*) AS n FROM idempotency_keys WHERE {condition}");
        crate::retention::number(&system.db, &count).await
    };
    crate::pipeline::stage::until("the old key is removed", async || {
        let left = count("key = 'old'").await;
        if left == 0 { Ok(()) } else { Err(left) }
    })
    .await;
    assert_eq!(count("true").await, 1);
    gateway.stop().await;
}
