//! Within one process, what was just written is sent without being read, and is what would have been read.

use hookyard_chassis::metrics::Registry;
use hookyard_messaging::Bus;
use serde_json::json;

use super::stage::{self, Stage, text, until};

const COUNTER: &str = "hookyard_delivery_at_hand_total";

fn counted(metrics: &Registry) -> u64 {
    stage::counted(metrics, COUNTER)
}

async fn stage() -> (Stage, Registry) {
    let metrics = Registry::new("test").unwrap();
    let counting = metrics.clone();
    let stage =
        Stage::with(Bus::in_process(), move |_, engine| engine.delivery_metrics = Some(counting)).await;
    (stage, metrics)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_at_hand_is_sent_as_what_is_read() {
    let (stage, metrics) = stage().await;
    let hook = stage.hook("in", json!({})).await;
    // Not always: a slow machine takes longer than anything is at hand.
    let body = json!({"event_type": "order.created", "payload": {"total": 1e21, "text": "é\u{2028}"},
        "metadata": {"correlation_id": "wörd 1"}});
    let (mut posted, mut event) = (0, String::new());
    until("one is sent unread", async || {
        let before = counted(&metrics);
        event = text(&stage.client.post_json("/events", &body).await.expect(202)["event_id"]).to_owned();
        posted += 1;
        stage.ended(&event, &hook, "delivered").await;
        if counted(&metrics) == before + 1 { Ok(()) } else { Err(posted) }
    })
    .await;
    let unread = stage.received("in", posted).await.pop().unwrap();
    let before = counted(&metrics);
    let path = format!("/v1/hooks/{hook}/replay");
    stage.client.post_json(&path, &json!({"event_id": event})).await.expect(202);
    let read = stage.received("in", posted + 1).await.pop().unwrap();
    assert_eq!(counted(&metrics), before, "a replay is read");
    assert_eq!(unread.body, read.body);
    for name in ["content-type", "webhook-id", "x-event-id", "x-delivery-id", "x-correlation-id"] {
        assert_eq!(unread.header(name), read.header(name), "{name}");
    }
    let stored = stage.delivery(&event, &hook).await["sequence"].to_string();
    assert_eq!(unread.header("x-hookyard-sequence"), stored);
    for name in ["x-hookyard-sequence-signature", "webhook-signature"] {
        assert_ne!(unread.header(name), "", "{name}");
    }
    let trace = |traceparent: &str| traceparent.split('-').nth(1).unwrap().to_owned();
    let traces = [&unread, &read].map(|one| trace(one.header("traceparent")));
    assert_eq!(traces[0], traces[1]);
    stage.tried(&event, &hook, 2).await;
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_knows_less_than_the_registry_reads_once_and_knows_it_then() {
    let (stage, metrics) = stage().await;
    let mut hooks = Vec::new();
    for round in 1..=3 {
        hooks.push(stage.hook(&format!("in{round}"), json!({})).await);
        until("all are sent unread", async || {
            let before = counted(&metrics);
            let event = stage.post("order.created", json!({})).await;
            for hook in &hooks {
                stage.ended(&event, hook, "delivered").await;
            }
            if counted(&metrics) == before + round { Ok(()) } else { Err(round) }
        })
        .await;
    }
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_event_and_one_that_is_filtered_are_read() {
    let (stage, metrics) = stage().await;
    let large = stage.hook("large", json!({"event_type": "a.large"})).await;
    for _ in 0..5 {
        let event = stage.post("a.large", json!({"text": "x".repeat(8 << 10)})).await;
        stage.ended(&event, &large, "delivered").await;
    }
    assert_eq!(counted(&metrics), 0);
    let filter = json!({"event_type": "a.small", "filter": {"payload.n": 1}});
    let hook = stage.hook("small", filter).await;
    for n in [0, 1, 1, 0, 1] {
        let event = stage.post("a.small", json!({"n": n})).await;
        let goes_to = stage.goes_to(&event).await;
        assert_eq!(goes_to.len(), n);
        if n == 1 {
            stage.ended(&event, &hook, "delivered").await;
        }
    }
    assert_eq!((counted(&metrics), stage.receiver.count("small")), (0, 3));
    stage.close().await;
}
