//! Recoveries: works through the events that an endpoint did not get, at the pace that was asked for (`domain::recovery`).
//!
//! A step is three parts. Claiming takes a lease. Looking reads events and asks the endpoint's filter, without a transaction.
//! Writing moves the cursor and puts deliveries on their way in one transaction, if the claim is still ours. Whoever is killed in
//! between has done nothing; whoever overslept its lease writes nothing.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use hookyard_domain::{
    Error, Result,
    audit::{self, Action},
    db::Conn,
    delivery::replay::{self, Again},
    id::{ClaimId, EventId},
    recovery::{
        BODIES_AT_ONCE, RecoveryState, Wanted, budget, candidates, count, next_due, room_again,
        step::{self, Step},
        store::Recovery,
    },
    subscription::{Kind, single},
};
use tokio_util::sync::CancellationToken;

use crate::{context::Context, health, metrics::Rounds, settings::Settings};

/// Recoveries claimed at once: they are worked on one after the other, within a lease.
const AT_ONCE: i64 = 4;

/// Steps in a row; then the others are looked at.
const STEPS: usize = 50;

/// Events of the first page whose bodies are read, at the least; more of them are not sent in one step, and were read in vain.
const FIRST_PAGE: usize = 16;

/// Events of a page where nobody reads them.
const WITHOUT_BODIES: usize = 2_000;

/// A recovery whose step has failed is tried again after this.
const AFTER_FAILURE: TimeDelta = TimeDelta::seconds(10);

/// Why a recovery was stopped.
const ENDPOINT_GONE: &str = "the endpoint was disabled or deleted";

pub(crate) async fn run(context: Arc<Context>, rounds: Rounds, settings: Settings, stop: CancellationToken) {
    let mut tick = tokio::time::interval(Duration::from_millis(settings.relay_interval_ms));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let most = settings.recovery_under_way as usize;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        for _step in 0..STEPS {
            if stop.is_cancelled() {
                return;
            }
            match pass(&context, &rounds, most).await {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    tracing::warn!(error = error.chain(), "recoveries cannot go on yet");
                    break;
                }
            }
        }
    }
}

/// One step of each recovery that is due. Whether there was one.
async fn pass(context: &Context, rounds: &Rounds, most: usize) -> Result<bool> {
    let (now, claim) = (context.clock.now(), ClaimId::new(context.clock.now()));
    let claimed = context.db.once(move |conn| step::claim_due(conn, now, claim, AT_ONCE)).await?;
    let any = !claimed.is_empty();
    for recovery in claimed {
        match step(context, recovery.clone(), most).await {
            Ok(queued) => rounds.recovered(queued),
            Err(error) => {
                // The others go on, and are claimed before this one the next time.
                tracing::warn!(recovery = %recovery.id, error = error.chain(), "a recovery cannot go on yet");
                let now = context.clock.now();
                let later = move |conn: &mut Conn| step::postpone(conn, &recovery, now + AFTER_FAILURE, now);
                context.db.once(later).await?;
            }
        }
    }
    Ok(any)
}

/// Returns how many deliveries were put on their way.
async fn step(context: &Context, recovery: Recovery, most: usize) -> Result<usize> {
    let now = context.clock.now();
    let looked = {
        let recovery = recovery.clone();
        context.db.once(move |conn| look(conn, &recovery, most, now)).await?
    };
    let now = context.clock.now();
    if let Some(until) = looked.waits_until {
        context.db.once(move |conn| step::postpone(conn, &recovery, until, now)).await?;
        return Ok(0);
    }
    context.db.run(move |conn| write(conn, &recovery, &looked, now)).await
}

/// What a look has found.
#[derive(Debug)]
struct Looked {
    state: RecoveryState,
    reason: Option<&'static str>,
    cursor_at: Option<EventId>,
    counted: i64,
    examined: usize,
    again: Vec<Again>,
    /// Put on their way before, and not ended.
    under_way: Vec<EventId>,
    /// There is no room at the endpoint, and nothing to write.
    waits_until: Option<DateTime<Utc>>,
}

fn look(conn: &mut Conn, recovery: &Recovery, most: usize, now: DateTime<Utc>) -> Result<Looked> {
    let mut looked = Looked {
        state: recovery.state,
        reason: None,
        cursor_at: recovery.cursor_at,
        counted: 0,
        examined: 0,
        again: Vec::new(),
        under_way: Vec::new(),
        waits_until: None,
    };
    let endpoint = single::find(conn, recovery.tenant_id, recovery.subscription_id, &[recovery.kind])?
        .ok_or(Error::NotFound { what: "endpoint" })?
        .subscription;
    if !endpoint.takes_events(now) {
        return Ok(Looked { state: RecoveryState::Stopped, reason: Some(ENDPOINT_GONE), ..looked });
    }
    let wanted = Wanted::new(&endpoint, recovery.patterns.as_deref());
    let range = recovery.range(wanted.exact_types());
    if recovery.state == RecoveryState::Counting {
        let (counted, up_to) = count(conn, &range, recovery.cursor_at)?;
        looked.counted = counted;
        // Counted to its end: from its beginning again, to be sent.
        let state = if up_to.is_some() { RecoveryState::Counting } else { RecoveryState::Running };
        (looked.state, looked.cursor_at) = (state, up_to);
        return Ok(looked);
    }
    // Nobody sends what is in an inbox: it is there at once, and remains until it is read.
    if recovery.kind != Kind::Inbox {
        looked.under_way = step::pending(conn, recovery.subscription_id, &recovery.under_way)?;
    }
    let per_second = u32::try_from(recovery.per_second).unwrap_or(1);
    let room = budget(per_second, most, looked.under_way.len());
    if room == 0 {
        looked.waits_until = Some(room_again(recovery.updated_at, now));
        return Ok(looked);
    }
    let bodies = wanted.reads_content();
    let mut size = if bodies { room.clamp(FIRST_PAGE, BODIES_AT_ONCE) } else { WITHOUT_BODIES };
    loop {
        let page = candidates(conn, &range, looked.cursor_at, bodies, size)?;
        for event in &page.events {
            if looked.again.len() == room {
                return Ok(looked);
            }
            looked.again.extend(wanted.of(event));
            looked.cursor_at = Some(event.id);
            looked.examined += 1;
        }
        looked.cursor_at = page.up_to;
        if page.is_last {
            looked.state = RecoveryState::Completed;
            return Ok(looked);
        }
        // A step is short, so that its lease is long enough, and a cancel is heard.
        if looked.examined >= WITHOUT_BODIES || page.events.len() < size {
            return Ok(looked);
        }
        if bodies {
            size = (size * 2).min(BODIES_AT_ONCE);
        }
    }
}

fn write(conn: &mut Conn, recovery: &Recovery, looked: &Looked, now: DateTime<Utc>) -> Result<usize> {
    let Some(takes_events) = step::begin_step(conn, recovery)? else { return Ok(0) };
    let (mut looked_state, mut reason) = (looked.state, looked.reason);
    let queued = if takes_events {
        let profile = recovery.kind.profile();
        replay::schedule(conn, recovery.tenant_id, recovery.subscription_id, profile, &looked.again, now)?
    } else {
        (looked_state, reason) = (RecoveryState::Stopped, Some(ENDPOINT_GONE));
        Vec::new()
    };
    let per_second = u32::try_from(recovery.per_second).unwrap_or(1);
    let due_at = next_due(recovery.due_at, queued.len(), per_second, now);
    let mut under_way = looked.under_way.clone();
    if recovery.kind != Kind::Inbox {
        under_way.extend_from_slice(&queued);
    }
    let step = Step {
        state: looked_state,
        reason,
        // What was looked at and not sent, because the endpoint is gone, was not looked at.
        cursor_at: if takes_events { looked.cursor_at } else { recovery.cursor_at },
        counted: looked.counted,
        examined: if takes_events { i64::try_from(looked.examined).unwrap_or(i64::MAX) } else { 0 },
        queued: i64::try_from(queued.len()).unwrap_or(i64::MAX),
        under_way: if looked_state.has_ended() { Vec::new() } else { under_way },
        due_at,
    };
    let after = step::finish_step(conn, recovery, &step, now)?;
    if let Some(after) = after.filter(|after| after.state.has_ended()) {
        let entry = after.entry(Action::RecoveryEnded);
        audit::record_all(conn, &health::actor(), &[entry], now)?;
    }
    Ok(queued.len())
}
