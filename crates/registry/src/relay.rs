//! The relay: finds what should have moved on and moves it (invariant 1). A lost ring, a wiped broker, a registry that
//! was killed between a commit and a ring all end here, and events that were scheduled begin here.

use std::{sync::Arc, time::Duration};

use chrono::TimeDelta;
use hookyard_domain::{Result, delivery, event};
use tokio_util::sync::CancellationToken;

use crate::{context::Context, fan_out::FanOut, health, metrics::Rounds, settings::Settings};

/// Rows taken at once.
const AT_ONCE: i64 = 16;

pub(crate) async fn run(
    context: Arc<Context>,
    fan_out: Arc<FanOut>,
    rounds: Rounds,
    settings: Settings,
    stop: CancellationToken,
) {
    let mut tick = tokio::time::interval(Duration::from_millis(settings.relay_interval_ms));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        if let Err(error) = pass(&context, &fan_out, &rounds, &settings, &stop).await {
            tracing::warn!(error = error.chain(), "the relay cannot look for lost rings yet");
        }
    }
}

async fn pass(
    context: &Context,
    fan_out: &FanOut,
    rounds: &Rounds,
    settings: &Settings,
    stop: &CancellationToken,
) -> Result<()> {
    // While the broker is away nobody rings: what was accepted is fanned out as soon as it is seen.
    let patience = if context.bus.connected() { settings.relay_after_ms } else { 0 };
    let patience = TimeDelta::milliseconds(i64::try_from(patience).unwrap_or(2_000));
    while !stop.is_cancelled() {
        let before = context.clock.now() - patience;
        let groups = context.db.once(move |conn| event::store::overdue_groups(conn, before, AT_ONCE)).await?;
        if groups.is_empty() {
            break;
        }
        let events = fan_out.fan_out(groups).await?;
        rounds.relayed(events);
        // Others have them in hand.
        if events == 0 {
            break;
        }
    }
    while !stop.is_cancelled() {
        let now = context.clock.now();
        let due = context.db.once(move |conn| event::scheduled::bring_due(conn, now, AT_ONCE)).await?;
        let full = due.len() == AT_ONCE as usize;
        fan_out.fan_out(due).await?;
        if !full {
            break;
        }
    }
    while !stop.is_cancelled() {
        let before = context.clock.now() - patience;
        let settlements = context
            .db
            .once(move |conn| delivery::settlement::overdue_settlements(conn, before, AT_ONCE))
            .await?;
        if settlements.is_empty() {
            break;
        }
        let full = settlements.len() == AT_ONCE as usize;
        health::settle(context, settlements).await?;
        if !full {
            break;
        }
    }
    Ok(())
}
