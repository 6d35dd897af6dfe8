//! What each outcome makes of a delivery and its hook (contract §7, profile hook), over real connections.

use std::{io, net::IpAddr, sync::Arc, time::Duration};

use chrono::TimeDelta;
use hookyard_egress::{Answer as Addresses, Resolver};
use hookyard_messaging::Bus;
use hookyard_tests::{processes::free_port, receiver::Answer};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::stage::{PATIENCE, Stage, end_of, text, time};

/// Names that lead where a test wants.
struct Names;

impl Resolver for Names {
    fn resolve(&self, name: &str) -> Addresses {
        let addresses: io::Result<Vec<IpAddr>> = match name {
            "inside.test" => Ok(vec![IpAddr::from([10, 0, 0, 5])]),
            "metadata.test" => Ok(vec![IpAddr::from([169, 254, 169, 254])]),
            // One forbidden address spoils the name.
            "mixed.test" => Ok(vec![IpAddr::from([127, 0, 0, 1]), IpAddr::from([192, 168, 0, 1])]),
            "here.test" => Ok(vec![IpAddr::from([127, 0, 0, 1])]),
            _ => Err(io::Error::other("no such name")),
        };
        Box::pin(async { addresses })
    }
}

pub(super) async fn any_2xx_makes_a_hook_active(bus: Bus) {
    let stage = Stage::open(bus).await;
    let mut hooks = Vec::new();
    for status in [200, 201, 202, 204, 206, 299] {
        stage.answer(&format!("s{status}"), status);
        hooks.push((status, stage.hook(&format!("s{status}"), json!({})).await));
    }
    for (_, hook) in &hooks {
        assert_eq!(stage.shown(hook).await["state"], "pending");
    }
    let before = stage.system.clock.now() - TimeDelta::milliseconds(1);
    let event = stage.post("a.b", json!({})).await;
    for (status, hook) in &hooks {
        let delivery = stage.ended(&event, hook, "delivered").await;
        assert_eq!((&delivery["attempts"], &delivery["last_status"]), (&json!(1), &json!(status)));
        assert_eq!(
            (&delivery["last_reason"], &delivery["next_attempt_at"]),
            (&json!("delivered"), &json!(null))
        );
        let shown = stage.in_state(hook, "active").await;
        assert_eq!((&shown["delivery_count"], &shown["failure_count"]), (&json!(1), &json!(0)));
        assert!(
            before <= time(&shown["last_delivered_at"])
                && time(&delivery["settled_at"]) <= stage.system.clock.now()
        );
    }
    stage.close().await;
}

pub(super) async fn what_is_final_is_tried_once_and_again_with_the_next_event(bus: Bus) {
    let stage = Stage::open(bus).await;
    let statuses = [
        300, 301, 302, 303, 304, 307, 308, 400, 401, 402, 403, 404, 405, 406, 409, 413, 415, 418, 422, 451,
        499,
    ];
    let mut hooks = Vec::new();
    for status in statuses {
        let answer = Answer::status(status).with("Location", &stage.receiver.url("elsewhere"));
        stage.receiver.answer(&format!("s{status}"), answer);
        hooks.push((status, stage.hook(&format!("s{status}"), json!({"event_type": "final.*"})).await));
    }
    let first = stage.post("final.one", json!({})).await;
    for (status, hook) in &hooks {
        let delivery = stage.ended(&first, hook, "dead").await;
        assert_eq!(
            (&delivery["attempts"], &delivery["last_status"]),
            (&json!(1), &json!(status)),
            "{status}"
        );
        assert_eq!(delivery["last_reason"], format!("http_{status}"));
        let shown = stage.in_state(hook, "failing").await;
        assert_eq!(
            (
                &shown["failure_count"],
                &shown["consecutive_failures"],
                &shown["state_reason"],
                &shown["last_status"]
            ),
            (&json!(1), &json!(1), &json!(format!("http_{status}")), &json!(status))
        );
    }
    stage.let_everything_happen().await;
    for (status, _) in &hooks {
        assert_eq!(stage.receiver.count(&format!("s{status}")), 1, "{status} is final");
    }
    assert_eq!(stage.receiver.count("elsewhere"), 0, "nobody follows a redirect");
    // Failing hooks are tried with the next event, and the first 2xx makes them whole.
    for (status, _) in &hooks {
        stage.answer(&format!("s{status}"), 200);
    }
    let second = stage.post("final.two", json!({})).await;
    for (_, hook) in &hooks {
        stage.ended(&second, hook, "delivered").await;
        let shown = stage.in_state(hook, "active").await;
        assert_eq!((&shown["consecutive_failures"], &shown["state_reason"]), (&json!(0), &json!(null)));
        assert_eq!(stage.delivery(&first, hook).await["state"], "dead", "what is dead stays dead");
    }
    stage.close().await;
}

pub(super) async fn what_may_pass_is_tried_four_times_when_it_is_due(bus: Bus) {
    let (closed, rude, other) = (free_port(), listener().await, listener().await);
    let (rude_port, other_port) = (rude.local_addr().unwrap().port(), other.local_addr().unwrap().port());
    tokio::spawn(answer_raw(rude, b""));
    tokio::spawn(answer_raw(other, b"SSH-2.0-OpenSSH_9.6\r\n"));
    let machines = [
        (format!("http://127.0.0.1:{closed}/"), "connect"),
        (format!("http://127.0.0.1:{rude_port}/"), "reset"),
        (format!("http://127.0.0.1:{other_port}/"), "protocol"),
        ("http://nowhere.test/".to_owned(), "dns"),
        (format!("https://127.0.0.1:{other_port}/"), "tls"),
    ];
    let stage = Stage::with(bus, |options, engine| {
        options.extra_url_prefixes.extend(machines.iter().map(|(url, _)| url.clone()));
        engine.resolver = Some(Arc::new(Names));
    })
    .await;
    let mut hooks = Vec::new();
    for status in [408, 425, 500, 501, 502, 503, 504, 599] {
        stage.answer(&format!("s{status}"), status);
        let hook = stage.hook(&format!("s{status}"), json!({"event_type": "passing.one"})).await;
        hooks.push((hook, json!(status), format!("http_{status}")));
    }
    for (url, reason) in machines {
        let hook = stage.hook_at(&url, json!({"event_type": "passing.one"})).await;
        hooks.push((hook, json!(null), reason.to_owned()));
    }
    let event = stage.post("passing.one", json!({})).await;
    for (number, wait) in (1_i64..).zip([1, 4, 9]) {
        for (hook, _, reason) in &hooks {
            let delivery = stage.tried(&event, hook, number).await;
            // Unless we were so slow that the next try was made meanwhile.
            if delivery["attempts"] == number {
                assert_eq!(delivery["state"], "pending", "{reason}");
                let due = time(&delivery["next_attempt_at"])
                    - end_of(delivery["tries"].as_array().unwrap().last().unwrap());
                let late = due - TimeDelta::seconds(wait);
                assert!(
                    (-2..1_000).contains(&late.num_milliseconds()),
                    "{reason}: try {number} is followed after {due}"
                );
            }
        }
        stage.advance(wait * 1_000);
    }
    for (hook, status, reason) in &hooks {
        let delivery = stage.ended(&event, hook, "dead").await;
        let tries = delivery["tries"].as_array().unwrap();
        assert_eq!(tries.len(), 4, "{delivery}");
        for (number, attempt) in (1..).zip(tries) {
            assert_eq!(
                (&attempt["number"], &attempt["status"], text(&attempt["reason"])),
                (&json!(number), status, reason.as_str())
            );
        }
        for (pair, wait) in tries.windows(2).zip([1, 4, 9]) {
            let waited = time(&pair[1]["started_at"]) - end_of(&pair[0]);
            assert!(TimeDelta::milliseconds(wait * 1_000 - 2) <= waited, "{reason}: too early, {waited}");
            assert!(waited < TimeDelta::milliseconds(wait * 2_000 + 10_000), "{reason}: too late, {waited}");
        }
        stage.counted(hook, 0, 4).await;
        let shown = stage.in_state(hook, "failing").await;
        assert_eq!(&shown["last_reason"], reason);
    }
    stage.let_everything_happen().await;
    for status in [408, 500, 599] {
        assert_eq!(stage.receiver.count(&format!("s{status}")), 4, "four tries are all");
    }
    stage.close().await;
}

async fn listener() -> TcpListener {
    TcpListener::bind(("127.0.0.1", 0)).await.unwrap()
}

/// Reads a little, says these bytes, and hangs up.
async fn answer_raw(listener: TcpListener, bytes: &'static [u8]) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let _read = stream.read(&mut [0; 64]).await;
        let _said = stream.write_all(bytes).await;
    }
}

pub(super) async fn a_delivery_that_arrives_at_the_third_try_is_the_same_each_time(bus: Bus) {
    let stage = Stage::open(bus).await;
    stage.receiver.script("flaky", [500, 503].map(Answer::status));
    let hook = stage.hook("flaky", json!({"secret": "s"})).await;
    let event = stage.post("a.b", json!({"n": 1.50})).await;
    for (number, wait) in [(1, 1), (2, 4)] {
        stage.tried(&event, &hook, number).await;
        stage.advance(wait * 1_000);
    }
    stage.ended(&event, &hook, "delivered").await;
    stage.counted(&hook, 1, 2).await;
    assert_eq!(stage.in_state(&hook, "active").await["consecutive_failures"], 0);
    let got = stage.receiver.at("flaky");
    let attempts: Vec<&str> = got.iter().map(|one| one.header("x-attempt")).collect();
    assert_eq!(attempts, ["1", "2", "3"]);
    for one in &got[1..] {
        assert_eq!(one.body, got[0].body);
        for name in
            ["webhook-id", "x-event-id", "x-delivery-id", "x-correlation-id", "x-triggersapi-signature"]
        {
            assert_eq!(one.header(name), got[0].header(name), "{name}");
        }
        assert_ne!(one.header("traceparent"), got[0].header("traceparent"), "each try is a span");
        let signed = |one: &hookyard_tests::receiver::Received| {
            (one.header("webhook-timestamp").to_owned(), one.header("webhook-signature").to_owned())
        };
        assert_ne!(signed(one), signed(&got[0]), "each try is signed anew");
    }
    stage.close().await;
}

pub(super) async fn addresses_that_are_forbidden_are_not_spoken_to(bus: Bus) {
    let refused = ["http://inside.test/", "http://metadata.test/", "http://10.1.2.3/", "http://[::1]/"];
    let stage = Stage::with(bus, |options, engine| {
        let port = options.extra_url_prefixes[0].rsplit(':').next().unwrap().to_owned();
        options.extra_url_prefixes.extend(refused.map(str::to_owned));
        options.extra_url_prefixes.extend(["mixed", "here"].map(|name| format!("http://{name}.test:{port}")));
        // Only this one: the literals above are forbidden.
        engine.egress.allow = vec!["127.0.0.1/32".parse().unwrap()];
        engine.resolver = Some(Arc::new(Names));
    })
    .await;
    let port = stage.receiver.prefix().rsplit(':').next().unwrap().to_owned();
    let mut hooks = Vec::new();
    for url in refused {
        hooks.push(stage.hook_at(url, json!({})).await);
    }
    hooks.push(stage.hook_at(&format!("http://mixed.test:{port}mixed"), json!({})).await);
    let fine = stage.hook_at(&format!("http://here.test:{port}here"), json!({})).await;
    let event = stage.post("a.b", json!({})).await;
    for hook in &hooks {
        let delivery = stage.ended(&event, hook, "dead").await;
        assert_eq!((&delivery["attempts"], &delivery["last_status"]), (&json!(1), &json!(null)));
        assert_eq!(delivery["last_reason"], "forbidden_address");
        let reply = delivery["tries"][0]["reply"].as_str().unwrap_or_default();
        assert!(
            !reply.contains("10.0.0.5") && !reply.contains("169.254"),
            "a tenant maps our network: {reply}"
        );
        stage.in_state(hook, "failing").await;
    }
    stage.ended(&event, &fine, "delivered").await;
    assert_eq!(
        stage.received("here", 1).await[0].header("host"),
        format!("here.test:{}", port.trim_end_matches('/'))
    );
    assert_eq!(stage.receiver.count("mixed"), 0);
    stage.close().await;
}

/// This test and the next wait for real time-outs. The bus has no part in them.
#[tokio::test(flavor = "multi_thread")]
async fn a_try_takes_five_seconds_at_the_most() {
    let stage = Stage::open(Bus::in_process()).await;
    stage.receiver.hold("slow");
    let hook = stage.hook("slow", json!({})).await;
    let event = stage.post("a.b", json!({})).await;
    let delivery = stage.tried(&event, &hook, 1).await;
    let attempt = &delivery["tries"][0];
    assert_eq!((&attempt["reason"], &attempt["status"]), (&json!("timeout"), &json!(null)));
    let latency = attempt["latency_ms"].as_i64().unwrap();
    assert!((5_000..8_000).contains(&latency), "{latency}");
    assert_eq!(delivery["state"], "pending", "a time-out is tried again");
    stage.receiver.release("slow");
    stage.advance(1_000);
    stage.ended(&event, &hook, "delivered").await;
    assert_eq!(stage.receiver.wait_for("slow", 2, PATIENCE).await.len(), 2);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_try_at_a_consumer_takes_fifteen_seconds_at_the_most() {
    let stage = Stage::open(Bus::in_process()).await;
    let mut consumers = Vec::new();
    for (path, seconds) in [("in_time", 13), ("too_late", 16)] {
        stage.receiver.answer(path, Answer::status(200).after(Duration::from_secs(seconds)));
        let body = json!({"url": stage.receiver.url(path), "eventTypes": ["order.created"]});
        let made = stage.client.post_json("/webhooks", &body).await.expect(201);
        consumers.push(text(&made["id"]).to_owned());
    }
    // Both are tried at the same time.
    let event = stage.post("order.created", json!({})).await;
    for (consumer, state, reason, status, latencies) in [
        (&consumers[0], "delivered", "delivered", json!(200), 13_000..15_000),
        (&consumers[1], "pending", "timeout", json!(null), 15_000..18_000),
    ] {
        let delivery = stage.tried(&event, consumer, 1).await;
        let attempt = &delivery["tries"][0];
        assert_eq!(
            (text(&delivery["state"]), text(&attempt["reason"]), &attempt["status"]),
            (state, reason, &status),
            "{delivery}"
        );
        let latency = attempt["latency_ms"].as_i64().unwrap();
        assert!(latencies.contains(&latency), "{latency}");
    }
    stage.close().await;
}
