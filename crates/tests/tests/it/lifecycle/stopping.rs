//! SIGTERM: draining is told, nothing is lost, and a second signal does not wait.

use std::time::Duration;

use hookyard_tests::receiver::Answer;
use serde_json::Value;

use super::{PATIENCE, Stage, post, until};

/// Longer than a look at `/readyz`, shorter than a hook's timeout.
const SLOW: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_is_told_and_loses_nothing() {
    let mut stage = Stage::ready().await;
    let client = stage.client().await;
    stage.receiver.answer("hook", Answer::status(200).after(SLOW));
    for number in 0..20 {
        post(&client, number).await;
    }
    stage.receiver.wait_for("hook", 20, PATIENCE).await;
    stage.delivery.signal("TERM");
    stage.delivery.wait_for("draining", SLOW, |process| {
        process.probe("/readyz").is_some_and(|(status, told)| {
            status == 503 && serde_json::from_str::<Value>(&told).unwrap()["status"] == "draining"
        })
    });
    assert!(stage.delivery.is_live(), "it lives while it drains");
    assert_eq!(stage.delivery.wait(Duration::from_secs(25)), Some(0), "{}", stage.delivery.last_words());

    // The outcomes are written down: all that follows comes once, and what came is not sent again.
    stage.receiver.answer("hook", Answer::status(200));
    stage.delivery.restart();
    post(&client, 20).await;
    stage.receiver.wait_for("hook", 21, PATIENCE).await;
    until("end of all deliveries", async || {
        let undelivered = client.get("/v1/events?state=undelivered").await.expect(200);
        undelivered["data"].as_array().unwrap().is_empty()
    })
    .await;
    assert_eq!(stage.receiver.at("hook").len(), 21);
    for process in stage.all() {
        process.stop(PATIENCE);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_does_not_wait() {
    let mut stage = Stage::ready().await;
    let client = stage.client().await;
    stage.receiver.answer("hook", Answer::status(200).after(SLOW));
    post(&client, 1).await;
    stage.receiver.wait_for("hook", 1, PATIENCE).await;
    stage.delivery.signal("INT");
    stage.delivery.wait_for("draining", SLOW, |process| {
        process.probe("/readyz").is_some_and(|(status, _)| status == 503)
    });
    stage.delivery.signal("TERM");
    assert_eq!(stage.delivery.wait(Duration::from_secs(1)), Some(130), "{}", stage.delivery.last_words());

    // Its try was made and not written down: the one duplicate that there can be.
    stage.receiver.answer("hook", Answer::status(200));
    stage.delivery.restart();
    stage.receiver.wait_for("hook", 2, PATIENCE).await;
}
