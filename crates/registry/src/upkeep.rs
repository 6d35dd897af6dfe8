//! What has to be looked after from time to time: hooks whose time is over, partitions, keys that no longer count.
//! Every registry does it; rows and locks keep them from doing it twice.

use std::{sync::Arc, time::Duration};

use chrono::TimeDelta;
use hookyard_domain::{
    Result,
    audit::{self, Action, Entry, ObjectKind, ObjectRef},
    db::partition,
    delivery, email, idempotency, rate_limit, recovery,
    subscription::{self, Ending, Kind, inbox::deleted},
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{context::Context, health, metrics::Rounds, settings::Settings};

/// Hooks ended in one transaction.
const HOOKS_AT_ONCE: i64 = 200;

/// Pieces of deleted inboxes that are emptied in one pass.
const PIECES: usize = 100;

/// Pieces of what is to be cancelled in one pass.
const CANCELLED_PIECES: usize = 100;

/// Endpoints of tasks removed, and forgotten, in one pass.
const ENDPOINTS_AT_ONCE: i64 = 5_000;

pub(crate) async fn run(context: Arc<Context>, rounds: Rounds, settings: Settings, stop: CancellationToken) {
    let mut tick = tokio::time::interval(Duration::from_secs(settings.upkeep_interval_s));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        if let Err(error) = pass(&context, &rounds, &settings).await {
            tracing::warn!(error = error.chain(), "upkeep was put off");
        }
    }
}

async fn pass(context: &Context, rounds: &Rounds, settings: &Settings) -> Result<()> {
    let now = context.clock.now();
    let groups = context
        .db
        .run(move |conn| {
            let (mut groups, mut told) = (Vec::new(), Vec::new());
            for (tenant, hook, url) in subscription::store::remove_expired(conn, now, HOOKS_AT_ONCE)? {
                let object = ObjectRef::new(ObjectKind::Hook, hook);
                let after = json!({"state": "deleted", "state_reason": "expired", "url": url});
                told.push(Entry::new(tenant, Action::HookRemoved, object).after(after));
                groups.push(subscription::end(
                    conn,
                    (Ending::Removed, Kind::Hook),
                    (tenant, hook, &url),
                    "expired",
                    now,
                )?);
            }
            audit::record_all(conn, &health::actor(), &told, now)?;
            Ok(groups)
        })
        .await?;
    health::announce(context, groups).await;

    let keep = settings.retention_days;
    let (made, dropped) = context
        .db
        .once(move |conn| Ok((partition::ensure(conn, now)?, partition::drop_older(conn, now, keep)?)))
        .await?;
    if made > 0 || !dropped.is_empty() {
        tracing::info!(made, dropped = ?dropped, "partitions");
    }
    context
        .db
        .once(move |conn| {
            subscription::endpoint::remove_unused(conn, now, ENDPOINTS_AT_ONCE)?;
            let before = now - TimeDelta::days(i64::from(keep));
            subscription::endpoint::forget_removed(conn, before, ENDPOINTS_AT_ONCE)?;
            email::store::forget_old(conn, before)?;
            delivery::pace::forget_old(conn, now)?;
            subscription::activity::forget_old(conn, now)?;
            subscription::breaker::forget_old(conn, now)?;
            recovery::store::forget_old(conn, before)?;
            idempotency::forget_old(conn, now)?;
            rate_limit::forget_old(conn, now)
        })
        .await?;
    go_on_cancelling(context).await?;
    empty_deleted_inboxes(context).await?;
    let (backlog, dead) = context
        .db
        .once(move |conn| Ok((delivery::store::backlog(conn, now)?, delivery::dead_letter::count(conn)?)))
        .await?;
    rounds.backlog(&backlog, dead, now);
    Ok(())
}

/// Cancels what is left under way to hooks and other endpoints that have ended, piece by piece.
async fn go_on_cancelling(context: &Context) -> Result<()> {
    for _piece in 0..CANCELLED_PIECES {
        let now = context.clock.now();
        if !context.db.run(move |conn| delivery::cancelling::go_on(conn, now)).await? {
            return Ok(());
        }
    }
    Ok(())
}

/// Cancels what is left in deleted inboxes, piece by piece.
async fn empty_deleted_inboxes(context: &Context) -> Result<()> {
    for _piece in 0..PIECES {
        let now = context.clock.now();
        let cancelled = context.db.run(move |conn| deleted::cancel_left(conn, now)).await?;
        if i64::try_from(cancelled).unwrap_or(i64::MAX) < deleted::AT_ONCE {
            return Ok(());
        }
    }
    Ok(())
}
