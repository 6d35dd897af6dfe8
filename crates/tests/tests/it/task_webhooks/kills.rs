//! Deliverers that are killed: nothing is lost, and nothing comes out of its order.

use std::{collections::HashMap, time::Duration};

use hookyard_domain::id::EventId;
use hookyard_messaging::Bus;
use hookyard_tests::{
    amqp,
    processes::{Process, environment},
    receiver::Answer,
};

use super::{Run, shown};
use crate::pipeline::stage::{Stage, until};

/// Longer than starting takes on a busy machine.
const START: Duration = Duration::from_secs(60);

const RUNS: usize = 24;
const STEPS: [&str; 5] = ["started", "progress", "needs_input", "progress", "completed"];

#[tokio::test(flavor = "multi_thread")]
async fn two_deliverers_are_killed_in_turn_and_every_run_keeps_its_order() {
    amqp::with_names(killed).await;
}

async fn killed(bus: Bus, namespace: String) {
    let stage = Stage::with(bus, |_, engine| engine.deliverers = 0).await;
    let environment = environment(
        &stage.receiver.prefix(),
        &[
            ("DATABASE_URL", &stage.system.database.url()),
            ("AMQP_URL", &amqp::url()),
            ("HOOKYARD__AMQP__NAMESPACE", &namespace),
        ],
    );
    let mut deliverers = [0, 1].map(|_| Process::start(&["delivery"], &environment));
    for deliverer in &mut deliverers {
        deliverer.wait_until_ready(START);
    }
    // Slow enough that there is always something under way, and at first now and then a failure: no delivery fails twice, for
    // the second try comes seconds later.
    let answers = (0..RUNS * STEPS.len() * 3).map(|n| {
        Answer::status(if n < 40 && n % 17 == 0 { 500 } else { 200 }).after(Duration::from_millis(40))
    });
    stage.receiver.script("killed", answers);
    let mut written: Vec<(Run, Vec<EventId>)> = Vec::new();
    for number in 0..RUNS {
        let run = Run::to(&stage, "killed").await;
        written.push((run, run.report(&stage, &STEPS).await));
        if number % 6 == 5 {
            tokio::time::sleep(Duration::from_millis(300)).await;
            deliverers[number / 6 % 2].kill_and_restart();
        }
    }
    for deliverer in &mut deliverers {
        deliverer.wait_until_ready(START);
    }
    for (run, ids) in &written {
        let last = ids[STEPS.len() - 1];
        until(&format!("the last step of {} has arrived", run.id), async || {
            let shown = shown(&stage, run.delivery(last)).await;
            if shown["state"] == "delivered" { Ok(()) } else { Err(shown) }
        })
        .await;
    }
    let mut came: HashMap<String, Vec<EventId>> = HashMap::new();
    for one in stage.receiver.at("killed") {
        let run = one.json()["run_id"].as_str().unwrap().to_owned();
        came.entry(run).or_default().push(one.header("x-event-id").parse().unwrap());
    }
    for (run, ids) in &written {
        let mut got = came.remove(&run.id.to_string()).unwrap();
        // What was sent and not written down is sent again, at its place.
        assert!(got.is_sorted(), "{got:?}");
        got.dedup();
        assert_eq!(&got, ids);
    }
    for deliverer in &mut deliverers {
        deliverer.stop(Duration::from_secs(30));
    }
    stage.close().await;
}
