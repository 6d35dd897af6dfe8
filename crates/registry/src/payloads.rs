//! Lets payloads go that are past their age, piece by piece, beside everything else: it takes no more than half of the time, and
//! leaves to the next look what cannot be had without keeping others waiting.

use std::{sync::Arc, time::Duration};

use hookyard_domain::{
    Result,
    retention::{
        payload::{self, Step},
        purge,
    },
};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use crate::{context::Context, settings::Settings};

/// Between two tries for a table that somebody else uses.
const AGAIN: Duration = Duration::from_millis(500);

/// Tries in one pass.
const TRIES: usize = 10;

pub(crate) async fn run(context: Arc<Context>, settings: Settings, stop: CancellationToken) {
    let mut tick = interval(Duration::from_secs(settings.upkeep_interval_s));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        if let Err(error) = pass(&context, &settings, &stop).await {
            tracing::warn!(error = error.chain(), "old payloads cannot be let go yet");
        }
    }
}

async fn pass(context: &Context, settings: &Settings, stop: &CancellationToken) -> Result<()> {
    let now = context.clock.now();
    context.db.once(move |conn| purge::look_after(conn, now)).await?;
    // Those that leave with their events leave with the partition.
    let Some(keep) = settings.payload_retention_days.filter(|days| *days < settings.retention_days) else {
        return Ok(());
    };
    let mut tries = TRIES;
    while !stop.is_cancelled() {
        let began = Instant::now();
        let now = context.clock.now();
        let wait = match context.db.once(move |conn| payload::step(conn, now, keep)).await? {
            Step::Idle => return Ok(()),
            Step::Worked => began.elapsed(),
            Step::Purged(day) => {
                tracing::info!(%day, "payloads purged");
                began.elapsed()
            }
            Step::Closed(day) => {
                tracing::debug!(%day, "the last payloads purged");
                Duration::ZERO
            }
            Step::Busy if tries == 0 => return Ok(()),
            Step::Busy => {
                tries -= 1;
                AGAIN.max(began.elapsed())
            }
        };
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = sleep(wait) => {}
        }
    }
    Ok(())
}
