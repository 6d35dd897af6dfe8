//! Endpoints that ask for later: 429, and 503 with `Retry-After` (contract §7).

use chrono::{DateTime, TimeDelta, Utc};
use hookyard_messaging::Bus;
use hookyard_tests::receiver::Answer;
use serde_json::json;

use super::stage::{Stage, end_of, time};

/// RFC 9110 §5.6.7.
fn http_date(at: DateTime<Utc>) -> String {
    at.format("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

pub(super) async fn an_endpoint_that_asks_for_later_is_left_alone_until_then(bus: Bus) {
    let stage = Stage::open(bus).await;
    let now = stage.system.clock.now();
    let date = |seconds| Some(http_date(now + TimeDelta::seconds(seconds)));
    let text = |text: &str| Some(text.to_owned());
    // Path, status, what it says, and how long it is left alone, in seconds; shortest first.
    let asked = [
        ("zero", 429, text("0"), 1),
        ("past", 429, date(-1_000), 1),
        ("seconds", 429, text("12"), 12),
        ("overloaded", 503, text("20"), 20),
        ("unnamed", 429, None, 60),
        ("nonsense", 429, text("soon"), 60),
        ("date", 429, date(120), 120),
        ("overloaded_date", 503, date(240), 240),
        ("too_long", 429, text("999999999999"), 3_600),
        ("far_date", 429, date(1_000_000), 3_600),
    ];
    let mut hooks = Vec::new();
    for (path, status, says, wait) in asked {
        let mut answer = Answer::status(status);
        if let Some(says) = says {
            answer = answer.with("Retry-After", &says);
        }
        stage.receiver.script(path, [answer]);
        hooks.push((path, wait, stage.hook(path, json!({"event_type": "later.*"})).await));
    }
    let first = stage.post("later.first", json!({})).await;
    let mut ends = Vec::new();
    for (path, wait, hook) in &hooks {
        let delivery = stage.tried(&first, hook, 1).await;
        let tried = &delivery["tries"][0];
        if *wait == 1 && delivery["attempts"] != 1 {
            // A second is over soon on a busy machine.
            ends.push(end_of(tried));
            continue;
        }
        assert_eq!((&delivery["state"], &delivery["deferrals"]), (&json!("pending"), &json!(1)), "{path}");
        let until = time(&delivery["next_attempt_at"]);
        let waits = (until - end_of(tried)).num_milliseconds();
        // A date has whole seconds, and was written before the try was made.
        let slack = if path.contains("date") && *wait != 3_600 { -10_000..1_500 } else { -2..1_500 };
        assert!(slack.contains(&(waits - wait * 1_000)), "{path}: waits for {waits} ms");
        ends.push(until);
    }
    // What comes meanwhile waits as well, and no longer.
    let second = stage.post("later.second", json!({})).await;
    for ((path, wait, hook), end) in hooks.iter().zip(&ends).filter(|((_, wait, _), _)| *wait > 1) {
        let waiting = stage
            .delivery_until(&second, hook, "it waits with the first", |delivery| {
                let next = delivery["next_attempt_at"].as_str().map(|_| time(&delivery["next_attempt_at"]));
                next.is_some_and(|next| (-5..3_000).contains(&(next - end).num_milliseconds()))
            })
            .await;
        assert_eq!((&waiting["attempts"], &waiting["deferrals"]), (&json!(0), &json!(0)), "{path} {wait}");
    }
    for (at, (path, wait, hook)) in hooks.iter().enumerate() {
        for (other, other_wait, _) in &hooks[at..] {
            if wait + 5 < *other_wait {
                assert_eq!(stage.receiver.count(other), 1, "{other} after {wait} s");
            }
        }
        stage.advance_beyond(ends[at] + TimeDelta::milliseconds(500));
        for event in [&first, &second] {
            let delivery = stage.ended(event, hook, "delivered").await;
            assert!(
                ends[at]
                    <= time(&delivery["tries"].as_array().unwrap().last().unwrap()["started_at"])
                        + TimeDelta::milliseconds(2),
                "{path}"
            );
        }
        assert_eq!(stage.receiver.count(path), 3, "{path}");
        stage.in_state(hook, "active").await;
    }
    stage.close().await;
}

pub(super) async fn a_wait_spends_no_try(bus: Bus) {
    let stage = Stage::open(bus).await;
    let statuses = [429, 500, 429, 429, 500, 503, 500, 429, 500];
    // A 500 is a 500, with the header or without.
    stage.receiver.script("both", statuses.map(|status| Answer::status(status).with("Retry-After", "2")));
    let hook = stage.hook("both", json!({})).await;
    let event = stage.post("a.b", json!({})).await;
    for number in 1..=statuses.len() {
        let delivery = stage.tried(&event, &hook, i64::try_from(number).unwrap()).await;
        assert_eq!(delivery["tries"][number - 1]["status"], statuses[number - 1], "{delivery}");
        stage.advance(10_000);
    }
    let delivery = stage.ended(&event, &hook, "dead").await;
    assert_eq!(delivery["attempts"], 9, "five waits and four tries");
    let numbers: Vec<_> =
        stage.receiver.at("both").iter().map(|one| one.header("x-attempt").to_owned()).collect();
    assert_eq!(numbers, (1..=9).map(|number| number.to_string()).collect::<Vec<_>>());
    stage.in_state(&hook, "failing").await;
    stage.close().await;
}

pub(super) async fn the_eleventh_wait_is_the_end(bus: Bus) {
    let stage = Stage::open(bus).await;
    stage.receiver.answer("never", Answer::status(429).with("Retry-After", "30"));
    let hook = stage.hook("never", json!({"event_type": "never.taken"})).await;
    let event = stage.post("never.taken", json!({})).await;
    for number in 1..=10 {
        let delivery = stage.tried(&event, &hook, number).await;
        assert_eq!(
            (&delivery["attempts"], &delivery["deferrals"], &delivery["state"]),
            (&json!(number), &json!(number), &json!("pending"))
        );
        stage.advance(30_100);
    }
    let delivery = stage.ended(&event, &hook, "dead").await;
    assert_eq!((&delivery["attempts"], &delivery["last_status"]), (&json!(11), &json!(429)));
    stage.counted(&hook, 0, 11).await;
    stage.in_state(&hook, "failing").await;
    stage.let_everything_happen().await;
    assert_eq!(stage.receiver.count("never"), 11);
    stage.close().await;
}
