//! One after the other, and when one gives way.

use std::collections::HashMap;

use futures_util::future::join_all;
use hookyard_domain::id::EventId;
use hookyard_messaging::Bus;
use hookyard_tests::receiver::Answer;
use serde_json::{Value, json};

use super::{Run, came, settled, shown};
use crate::pipeline::stage::{Stage, until};

pub(super) async fn the_steps_of_a_run_come_one_after_the_other_whatever_fails(bus: Bus) {
    let stage = Stage::open(bus).await;
    let run = Run::to(&stage, "steps").await;
    // The first step fails once; its next try is at least four seconds away.
    stage.receiver.script("steps", [Answer::status(500)]);
    let steps = run.report(&stage, &["started", "progress", "completed"]).await;
    let [first, second, third] = steps[..] else { panic!("{steps:?}") };
    let waiting = settled(&stage, run.delivery(first), "pending", 1).await;
    assert!(waiting["next_attempt_at"].is_string(), "{waiting}");
    let behind = shown(&stage, run.delivery(second)).await;
    assert_eq!(
        (&behind["state"], &behind["attempts"], &behind["next_attempt_at"], &behind["kind"]),
        (&json!("pending"), &json!(0), &Value::Null, &json!("task"))
    );
    // Nothing else is due now, nor a moment before.
    stage.advance(2_000);
    tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
    assert_eq!(came(&stage.receiver.at("steps")), [first]);
    stage.advance(4_100);
    settled(&stage, run.delivery(third), "delivered", 1).await;
    assert_eq!(came(&stage.receiver.at("steps")), [first, first, second, third]);
    // Another run does not wait for anybody, and what comes later goes at once.
    let later = run.report(&stage, &["cancelled"]).await;
    settled(&stage, run.delivery(later[0]), "delivered", 1).await;
    stage.close().await;
}

pub(super) async fn many_runs_at_once_keep_their_order_with_two_deliverers(bus: Bus) {
    const RUNS: usize = 30;
    const STEPS: [&str; 4] = ["started", "needs_input", "progress", "completed"];
    let stage = Stage::with(bus, |_, engine| engine.deliverers = 2).await;
    let stage = &stage;
    let mut runs = Vec::new();
    for number in 0..RUNS {
        // Three endpoints, shared by ten runs each.
        let run = Run::to(stage, &format!("many{}", number % 3)).await;
        runs.push(run);
    }
    for path in ["many0", "many1", "many2"] {
        let refusals = (0..40).map(|n| if n % 4 == 0 { Answer::status(500) } else { Answer::status(200) });
        stage.receiver.script(path, refusals);
    }
    let written: Vec<Vec<EventId>> = join_all(runs.iter().map(async |run| {
        let mut ids = Vec::new();
        for step in STEPS {
            // Each step in a transaction of its own, while the ones before are being delivered.
            ids.extend(run.report(stage, &[step]).await);
        }
        ids
    }))
    .await;
    until("everything has ended", async || {
        // The second retry comes after five minutes, and a round may take a while.
        stage.advance(5_000);
        let mut open = 0;
        for (run, ids) in runs.iter().zip(&written) {
            let last = shown(stage, run.delivery(ids[STEPS.len() - 1])).await;
            open += usize::from(last["state"] != "delivered");
        }
        if open == 0 { Ok(()) } else { Err(open) }
    })
    .await;
    let mut by_run: HashMap<String, Vec<EventId>> = HashMap::new();
    for path in ["many0", "many1", "many2"] {
        for one in stage.receiver.at(path) {
            let run = one.json()["run_id"].as_str().unwrap().to_owned();
            by_run.entry(run).or_default().push(one.header("x-event-id").parse().unwrap());
        }
    }
    for (run, ids) in runs.iter().zip(&written) {
        let got = &by_run[&run.id.to_string()];
        assert!(got.is_sorted(), "{got:?}");
        for (event, step) in ids.iter().zip(STEPS) {
            let delivery = shown(stage, run.delivery(*event)).await;
            match delivery["state"].as_str().unwrap() {
                "delivered" => assert!(got.contains(event), "{step} {delivery}"),
                "cancelled" => assert_eq!(delivery["last_reason"], "superseded", "{delivery}"),
                other => panic!("{other}: {delivery}"),
            }
        }
    }
}

pub(super) async fn a_step_gives_way_after_two_failures_and_not_after_one(bus: Bus) {
    let stage = Stage::open(bus).await;
    let run = Run::to(&stage, "dislikes").await;
    stage.answer("dislikes", 500);
    let steps = run.report(&stage, &["started", "completed"]).await;
    let [first, last] = steps[..] else { panic!("{steps:?}") };
    settled(&stage, run.delivery(first), "pending", 1).await;
    // After one failure it is waited for: the walk has passed by more than once.
    tokio::time::sleep(std::time::Duration::from_millis(2_200)).await;
    assert_eq!(shown(&stage, run.delivery(last)).await["attempts"], 0);
    stage.advance(6_100);
    let gone = settled(&stage, run.delivery(first), "cancelled", 2).await;
    assert_eq!(gone["last_reason"], "superseded", "{gone}");
    // The last one gives way to nothing and has all its tries.
    settled(&stage, run.delivery(last), "pending", 1).await;
    stage.advance(6_100);
    settled(&stage, run.delivery(last), "pending", 2).await;
    tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
    assert_eq!(shown(&stage, run.delivery(last)).await["state"], "pending");
    stage.advance(361_000);
    settled(&stage, run.delivery(last), "pending", 3).await;
    // Until something comes behind it: then it gives way at once, for it waits for its fourth try.
    stage.answer("dislikes", 200);
    let more = run.report(&stage, &["cancelled"]).await;
    settled(&stage, run.delivery(more[0]), "delivered", 1).await;
    let gave_way = settled(&stage, run.delivery(last), "cancelled", 3).await;
    assert_eq!(gave_way["last_reason"], "superseded", "{gave_way}");
    assert_eq!(came(&stage.receiver.at("dislikes")), [first, first, last, last, last, more[0]]);
    // What gave way can be sent again by hand.
    stage
        .client
        .post_json(&format!("/v1/deliveries/{}/retry", run.delivery(last)), &json!({}))
        .await
        .expect(202);
    settled(&stage, run.delivery(last), "delivered", 4).await;
    stage.close().await;
}

/// A receiver that asks for later has spent no try: nothing overtakes.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_deferred_does_not_give_way() {
    let stage = Stage::open(Bus::in_process()).await;
    let run = Run::to(&stage, "later").await;
    stage.receiver.script("later", [429; 3].map(|code| Answer::status(code).with("retry-after", "5")));
    let steps = run.report(&stage, &["started", "completed"]).await;
    for wait in 1..=3 {
        settled(&stage, run.delivery(steps[0]), "pending", wait).await;
        stage.advance(5_100);
    }
    settled(&stage, run.delivery(steps[1]), "delivered", 1).await;
    assert_eq!(came(&stage.receiver.at("later")), [steps[0], steps[0], steps[0], steps[0], steps[1]]);
    stage.close().await;
}

pub(super) async fn what_a_crash_left_behind_goes_within_a_moment(bus: Bus) {
    let stage = Stage::open(bus).await;
    let run = Run::to(&stage, "crash").await;
    // Nobody lets go what was written; the walk does, and after the first the deliverer goes on by itself.
    let steps = run.write_and_crash(&stage, &["started", "progress", "completed"]).await;
    let began = std::time::Instant::now();
    let got = stage.received("crash", 3).await;
    assert!(began.elapsed() < std::time::Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(came(&got), steps);
    stage.close().await;
}

/// The walk looks at some thousand deliveries at a time and goes on where it stopped.
#[tokio::test(flavor = "multi_thread")]
async fn the_walk_gets_round_to_every_line() {
    let stage = Stage::still().await;
    let mut runs = Vec::new();
    for _ in 0..7 {
        let run = Run::to(&stage, "walk").await;
        run.write_and_crash(&stage, &["started", "progress", "completed"]).await;
        runs.push((run.endpoint, run.id));
    }
    runs.sort_unstable_by_key(|(_, run)| *run);
    let found = stage
        .system
        .db
        .once(|conn| {
            let (mut found, mut after) = (Vec::new(), None);
            for _ in 0..20 {
                // Five rows are not two whole lines: what is cut is seen the next time.
                let (lines, place) = hookyard_domain::delivery::ordered::left_behind(conn, after, 5)?;
                found.extend(lines);
                after = place;
                if after.is_none() {
                    break;
                }
            }
            Ok(found)
        })
        .await
        .unwrap();
    assert_eq!(found, runs);
}
