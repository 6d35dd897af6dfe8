//! An inbox that is drained: sixteen readers lease ten messages at a time and acknowledge them.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{
    case::label,
    listeners::{Api, text},
    system::System,
};
use crate::{
    cost::Watch,
    latency::Latency,
    load::Report,
    sink::{EndpointStats, Stats},
};

const READERS: usize = 16;
/// Messages in one lease.
const AT_ONCE: u64 = 10;
/// Events in one batch.
const BATCH: u64 = 100;
/// How long the fan-out may take until all of them are in the inbox.
const PATIENCE: Duration = Duration::from_secs(60);

/// Fills an inbox, drains it and measures the draining.
///
/// # Errors
/// When something is not answered as it should be, or a message is not acknowledged exactly once.
pub(crate) async fn measure(system: &System, quick: bool) -> Result<Report> {
    let messages: u64 = if quick { 2_000 } else { 20_000 };
    let key = system.make_key(false)?;
    let mut api = Api::connect(system.api, &key).await?;
    let inbox = text(&api.post("/v1/inboxes", &json!({"name": "bench"})).await?, "id")?;
    for at in 0..messages / BATCH {
        let event = |n| json!({"event_type": "bench.inbox", "payload": {"n": at * BATCH + n, "text": "x".repeat(500)}});
        let events: Vec<Value> = (0..BATCH).map(event).collect();
        api.post("/events/batch", &json!({"events": events})).await?;
    }
    let end = Instant::now() + PATIENCE;
    while api.get(&format!("/v1/inboxes/{inbox}")).await?["messages"]["last_sequence"] != messages {
        ensure!(Instant::now() < end, "the messages do not come into the inbox");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let watch = Watch::start(&system.charged()?)?;
    let began = Instant::now();
    let mut readers = JoinSet::new();
    for _ in 0..READERS {
        let reader = Api::connect(system.api, &key).await?;
        readers.spawn(drain(reader, inbox.clone()));
    }
    let (mut acknowledged, mut leases) = (0, Latency::default());
    while let Some(drained) = readers.join_next().await {
        let (count, of_reader) = drained.context("a reader broke down")??;
        acknowledged += count;
        leases.add(&of_reader);
    }
    let took = began.elapsed().as_secs_f64();
    let (usage, other_cpu_s) = watch.finish();
    ensure!(acknowledged == messages, "{acknowledged} of {messages} were acknowledged");
    let cpu_s: f64 = usage.values().map(|usage| usage.cpu_s).sum();
    Ok(Report {
        label: label::INBOX.into(),
        target: "hookyard".into(),
        n: messages,
        conns: READERS,
        accepted: messages,
        expected: messages,
        delivered: acknowledged,
        deliver_s: took,
        delivered_per_s: acknowledged as f64 / took,
        accept_ms: leases.summary(),
        // The readers are the sink: what they have acknowledged arrived, and a lease takes as long as they wait for it.
        sink: Stats {
            total: EndpointStats {
                done: acknowledged,
                success: leases.summary(),
                ..EndpointStats::default()
            },
            ..Stats::default()
        },
        cpu_s_per_1000: cpu_s / acknowledged as f64 * 1000.0,
        usage,
        other_cpu_s,
        watched_s: took,
        ..Report::default()
    })
}

/// Leases and acknowledges until there is nothing; returns how many messages, and how long leases took.
async fn drain(mut api: Api, inbox: String) -> Result<(u64, Latency)> {
    let (mut count, mut leases) = (0, Latency::default());
    let path = format!("/v1/inboxes/{inbox}/messages");
    loop {
        let asked = Instant::now();
        let wanted = json!({"lease_limit": AT_ONCE, "lease_seconds": 300});
        let answer = api.post(&format!("{path}/lease"), &wanted).await?;
        leases.record_ns(u64::try_from(asked.elapsed().as_nanos()).unwrap_or(u64::MAX));
        let messages = answer["messages"].as_array().context("a lease without messages")?;
        if messages.is_empty() {
            return Ok((count, leases));
        }
        let held: Vec<Value> = messages
            .iter()
            .map(|message| json!({"id": message["id"], "lease_token": message["lease_token"]}))
            .collect();
        let answer = api.post(&format!("{path}/ack"), &json!({"messages": held})).await?;
        count += answer["settled"].as_u64().context("an acknowledgement without a number")?;
    }
}
