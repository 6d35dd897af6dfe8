//! The leases of runs that take longer: they are kept, and a run that is not ours any more is let go of at once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use hookyard_domain::{
    id::{LeaseId, RunId},
    task::{
        claim::ClaimedRun,
        lease::{Beat, heartbeat, look},
    },
};
use tokio_util::sync::CancellationToken;

use crate::context::Context;

/// What is held.
#[derive(Default)]
pub(crate) struct Pulse {
    held: Mutex<HashMap<RunId, Held>>,
}

#[derive(Clone)]
struct Held {
    lease: LeaseId,
    lease_until: DateTime<Utc>,
    over: CancellationToken,
}

impl Pulse {
    fn held(&self) -> MutexGuard<'_, HashMap<RunId, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the lease of a run until it is [`let_go`](Self::let_go). The token is cancelled when the run is lost.
    pub(crate) fn hold(&self, run: &ClaimedRun) -> CancellationToken {
        let over = CancellationToken::new();
        let held = Held { lease: run.lease, lease_until: run.lease_until, over: over.clone() };
        self.held().insert(run.run, held);
        over
    }

    pub(crate) fn let_go(&self, run: &ClaimedRun) {
        let mut held = self.held();
        // The same run may have come back under another lease.
        if held.get(&run.run).is_some_and(|held| held.lease == run.lease) {
            held.remove(&run.run);
        }
    }
}

/// Beats until `stop`.
pub(crate) async fn run(context: Arc<Context>, stop: CancellationToken) {
    let mut tick = tokio::time::interval(Duration::from_millis(context.settings.look_interval_ms));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // Leases are kept while a quarter of them has passed, so that three beats may fail.
    let heartbeat = TimeDelta::milliseconds(i64::from(context.tasks.heartbeat_s) * 250);
    let mut kept = context.clock.now();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        let now = context.clock.now();
        let keeps = now - kept >= heartbeat;
        match beat(&context, keeps, now).await {
            Ok(()) if keeps => kept = now,
            Ok(()) => {}
            Err(error) => tracing::warn!(error = error.chain(), "the leases of runs cannot be kept yet"),
        }
    }
}

async fn beat(context: &Context, keeps: bool, now: DateTime<Utc>) -> hookyard_domain::Result<()> {
    let all: Vec<(RunId, Held)> =
        context.pulse.held().iter().map(|(run, held)| (*run, held.clone())).collect();
    // While the database is away nobody says that a lease is over.
    for (_, held) in all.iter().filter(|(_, held)| held.lease_until <= now) {
        held.over.cancel();
    }
    if all.is_empty() {
        return Ok(());
    }
    let leases: Vec<(RunId, LeaseId)> = all.iter().map(|(run, held)| (*run, held.lease)).collect();
    let settings = context.tasks.clone();
    let beats = context
        .engine_db
        .run(
            move |conn| {
                if keeps { heartbeat(conn, &settings, &leases, now) } else { look(conn, &leases, now) }
            },
        )
        .await?;
    for ((run, held), beat) in all.into_iter().zip(beats) {
        match beat {
            Beat::Held { lease_until } => {
                if let Some(held) = context.pulse.held().get_mut(&run) {
                    held.lease_until = lease_until;
                }
            }
            Beat::Ended { .. } | Beat::Stale | Beat::Unknown => held.over.cancel(),
        }
    }
    Ok(())
}
