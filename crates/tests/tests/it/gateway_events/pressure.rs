//! Too much at once, and the end of a gateway: every request is answered, every 202 is a row.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use diesel::{
    QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Bool, Text},
};
use hookyard_tests::{
    http::Reply,
    system::{Options, System},
};
use serde_json::json;
use tokio::task::JoinSet;

use super::{MIB, count_events, event, event_of, post};

#[tokio::test]
async fn overload_is_told_and_nothing_hangs() {
    let mut options = Options::default();
    options.gateway.gateway.queue_requests = 4;
    options.database.statement_timeout_ms = 20_000;
    let system = System::with(options).await;
    let client = system.client().await;
    post(&client, &event("a", &json!({}))).await;
    let (locked, is_locked) = tokio::sync::oneshot::channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let db = system.database.pool();
    let holder = tokio::spawn(async move {
        db.run(move |conn| {
            sql_query("LOCK TABLE event_groups IN EXCLUSIVE MODE").execute(conn)?;
            locked.send(()).unwrap();
            released.recv().unwrap();
            Ok(())
        })
        .await
    });
    is_locked.await.unwrap();
    let mut replies: JoinSet<Reply> = JoinSet::new();
    for _ in 0..60 {
        let client = client.clone();
        replies.spawn(async move { client.post("/events", event("a", &json!({}))).await });
    }
    let started = Instant::now();
    let mut refused = 0;
    // Two groups are under way and four requests wait; the others hear of it at once.
    while refused < 30 {
        let reply = replies.join_next().await.unwrap().unwrap();
        assert_eq!(reply.error(), (503, "OVERLOADED".to_owned()));
        assert_eq!(reply.header("retry-after"), Some("1"));
        refused += 1;
    }
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    release.send(()).unwrap();
    holder.await.unwrap().unwrap();
    let mut accepted = 1;
    for reply in replies.join_all().await {
        match reply.status {
            202 => accepted += 1,
            _ => assert_eq!(reply.error(), (503, "OVERLOADED".to_owned())),
        }
    }
    assert!(accepted > 4, "{accepted}");
    assert_eq!(system.db.once(count_events).await.unwrap(), accepted);
}

#[tokio::test]
async fn too_many_bytes_at_once_are_refused() {
    let mut options = Options::default();
    options.gateway.http.max_body_bytes_in_flight = 16 << 20;
    let system = System::with(options).await;
    let client = system.client().await;
    let mut replies: JoinSet<Reply> = JoinSet::new();
    let body = format!(r#"{{"events":[{}]}}"#, vec![event_of(MIB - 1024); 9].join(","));
    for _ in 0..8 {
        let (client, body) = (client.clone(), body.clone());
        replies.spawn(async move { client.post("/events/batch", body).await });
    }
    let replies = replies.join_all().await;
    for reply in &replies {
        if reply.status != 202 {
            assert_eq!(reply.error(), (503, "OVERLOADED".to_owned()));
        }
    }
    assert!(replies.iter().any(|reply| reply.status == 202));
    assert_eq!(client.post("/events/batch", &body).await.status, 202, "the bytes were given back");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_accepted_is_stored_when_the_gateway_stops() {
    let mut system = System::start().await;
    let client = system.client().await;
    let mut posting: JoinSet<i64> = JoinSet::new();
    for keyed in [false, false, false, true] {
        let addr = system.gateways[0].addr;
        let client = client.clone();
        posting.spawn(async move {
            let mut accepted = 0;
            for number in 0.. {
                let mut request = client.request("POST", "/events").json(event("a", &json!({})));
                if keyed {
                    request = request.header("idempotency-key", format!("k{number}"));
                }
                // Later connections are refused, or closed without an answer.
                let Ok(probe) = tokio::net::TcpStream::connect(addr).await else { break };
                drop(probe);
                let Some(reply) = answered(addr, request.bytes()).await else { break };
                match reply.status {
                    202 => accepted += 1,
                    503 => {}
                    other => panic!("{other}: {}", reply.text()),
                }
            }
            accepted
        });
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let stopping = Instant::now();
    system.stop().await;
    assert!(stopping.elapsed() < Duration::from_secs(10), "{:?}", stopping.elapsed());
    let accepted: i64 = posting.join_all().await.into_iter().sum();
    assert!(accepted > 20, "{accepted}");
    let stored = system.db.once(count_events).await.unwrap();
    assert!(stored >= accepted, "{accepted} were accepted, {stored} are stored");
    // One connection may have broken between the commit and the answer, for each of the four.
    assert!(stored <= accepted + 4, "{accepted} were accepted, {stored} are stored");
}

async fn answered(addr: std::net::SocketAddr, bytes: Vec<u8>) -> Option<Reply> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(addr).await.ok()?;
    stream.write_all(&bytes).await.ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.ok()?;
    (!answer.is_empty()).then(|| Reply::parse(&answer))
}

#[tokio::test]
async fn an_event_and_its_group_are_one_commit() {
    #[derive(QueryableByName)]
    struct Whole {
        #[diesel(sql_type = Bool)]
        whole: bool,
        #[diesel(sql_type = Text)]
        sizes: String,
    }
    let system = System::start().await;
    let client = system.client().await;
    let mut posting: JoinSet<Reply> = JoinSet::new();
    for number in 0..200 {
        let client = client.clone();
        posting.spawn(async move {
            let request = client.request("POST", "/events").json(event("a", &json!({"n": number})));
            let keyed = number % 4 == 0;
            if keyed {
                request.header("idempotency-key", format!("k{}", number % 40)).send().await
            } else {
                request.send().await
            }
        });
    }
    let replies = posting.join_all().await;
    let accepted: BTreeSet<String> = replies
        .iter()
        .filter(|reply| reply.status == 202)
        .map(|reply| reply.json()["event_id"].as_str().unwrap().to_owned())
        .collect();
    // Ten keys with five different requests each: one of each passes, the others are told apart.
    assert_eq!(accepted.len(), 160);
    assert_eq!(replies.iter().filter(|reply| reply.status == 422).count(), 40);
    let check: Whole = system
        .db
        .once(|conn| {
            Ok(sql_query(
                "SELECT (SELECT array_agg(id ORDER BY id) FROM events) = \
                    (SELECT array_agg(id ORDER BY id) FROM (SELECT unnest(event_ids) AS id FROM event_groups) g) AS whole, \
                    (SELECT string_agg(cardinality(event_ids)::text, ' ') FROM event_groups) AS sizes",
            )
            .get_result(conn)?)
        })
        .await
        .unwrap();
    assert!(check.whole, "groups of {}", check.sizes);
}
