//! What a gateway does by the clock: the snapshots of credentials and of the catalogue's rules, the last use of credentials, and
//! rows that no longer count.

use std::time::Duration;

use actix_web::web::Data;
use hookyard_domain::{
    credential, idempotency, oauth,
    person::{oidc, session, throttle},
    rate_limit,
};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use crate::context::Context;

/// How often the last use of credentials is written.
const USAGE_EVERY: Duration = Duration::from_secs(60);

/// How often rows that no longer count are removed. Several gateways may do it at once: they remove different rows, or
/// none.
const FORGET_EVERY: Duration = Duration::from_secs(600);

/// Starts the tasks; they end when `stop` is cancelled.
pub(crate) fn start(context: &Data<Context>, tasks: &mut JoinSet<()>, stop: &CancellationToken) {
    let refresh_every = Duration::from_millis(context.settings.gateway.credential_refresh_ms);
    tasks.spawn(refresh_credentials(context.clone(), refresh_every, stop.clone()));
    tasks.spawn(keep(context.clone(), stop.clone()));
}

async fn refresh_credentials(context: Data<Context>, every: Duration, stop: CancellationToken) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut away = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let refreshed = match context.authenticator.refresh().await {
            Ok(()) => context.rules.refresh_with(&context.db).await,
            Err(error) => Err(error),
        };
        match (refreshed, away) {
            (Ok(()), true) => tracing::info!("the credentials are being followed again"),
            (Err(error), false) => {
                tracing::warn!(
                    error = error.chain(),
                    "the credentials cannot be followed, requests are refused"
                );
                away = true;
                continue;
            }
            (Ok(()), false) | (Err(_), true) => continue,
        }
        away = false;
    }
}

async fn keep(context: Data<Context>, stop: CancellationToken) {
    let mut usage = interval(USAGE_EVERY);
    let mut forget = interval(FORGET_EVERY);
    usage.set_missed_tick_behavior(MissedTickBehavior::Delay);
    forget.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = usage.tick() => {
                context.usage.write(&context.db).await;
                context.authenticator.directory().forget_expired(context.clock.now());
            }
            _ = forget.tick() => forget_old(&context).await,
        }
    }
}

/// Some thousand rows in a statement, until there are none: short locks, and no long transaction.
async fn forget_old(context: &Context) {
    let now = context.clock.now();
    loop {
        match context.db.once(move |conn| idempotency::forget_old(conn, now)).await {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(error = error.chain(), "old idempotency keys are still there");
                break;
            }
        }
    }
    if let Err(error) = context.db.once(move |conn| rate_limit::forget_old(conn, now)).await {
        tracing::debug!(error = error.chain(), "old rate windows are still there");
    }
    if let Err(error) = context.db.once(move |conn| credential::store::forget_ended(conn, now)).await {
        tracing::debug!(error = error.chain(), "ended access tokens are still there");
    }
    if let Err(error) = context.db.run(move |conn| oauth::grant::forget_old(conn, now)).await {
        tracing::debug!(error = error.chain(), "ended codes and refresh tokens are still there");
    }
    if let Err(error) = context.db.once(move |conn| session::forget_ended(conn, now)).await {
        tracing::debug!(error = error.chain(), "ended sessions are still there");
    }
    if let Err(error) = context.db.once(move |conn| throttle::forget_old(conn, now)).await {
        tracing::debug!(error = error.chain(), "old failures of log-ins are still there");
    }
    if let Err(error) = context.db.once(move |conn| oidc::forget_old(conn, now)).await {
        tracing::debug!(error = error.chain(), "log-ins that were never finished are still there");
    }
}
