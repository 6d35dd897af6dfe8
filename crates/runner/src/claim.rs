//! Taking runs that wait: when it is rung, when a slot has become free, and now and then by itself (invariant 1).

use std::{collections::HashMap, sync::Arc, time::Duration};

use hookyard_domain::{
    Result,
    id::{RunId, TenantId},
    task::{
        claim::{ClaimedRun, claim_built_in},
        input::{Exchange, conversation},
        keys,
        model::{ApiKey, Provider, ProviderKind, Resolved},
    },
};
use hookyard_messaging::{Consumer, Incoming, Message};
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    context::Context,
    work::{self, Access, Order},
};

/// Runs taken at once at the most: others want some, too.
const AT_ONCE: usize = 64;

/// Rings are answered at once: what they announce is asked of the database, and one look serves many.
pub(crate) async fn listen(mut consumer: Consumer, room: Arc<Notify>, stop: CancellationToken) {
    loop {
        let mut rings = Vec::new();
        let heard = tokio::select! {
            () = stop.cancelled() => return,
            heard = consumer.recv_many(&mut rings, 64) => heard,
        };
        if heard == 0 {
            return;
        }
        for ring in &rings {
            if !matches!(ring.message(), Message::TaskQueued {}) {
                tracing::error!(message = ?ring.message(), "a message stands in a queue that is not for it");
            }
        }
        Incoming::ack_all(rings);
        room.notify_one();
    }
}

/// Claims until `stop`; what was claimed is done in `working`.
pub(crate) async fn run(context: &Arc<Context>, working: &TaskTracker, stop: &CancellationToken) {
    let mut poll = tokio::time::interval(Duration::from_millis(context.settings.poll_interval_ms));
    poll.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = context.room.notified() => {}
            _ = poll.tick() => {}
        }
        while !stop.is_cancelled() {
            match take(context, working).await {
                // Less than wanted: nothing waits, or its tenants have no place.
                Ok(false) => break,
                Ok(true) => {}
                Err(error) => {
                    tracing::warn!(error = error.chain(), "runs cannot be claimed yet");
                    tokio::time::sleep(Duration::from_millis(500)).await;
                    break;
                }
            }
        }
    }
}

/// Takes what fits into the slots. Whether there may be more.
async fn take(context: &Arc<Context>, working: &TaskTracker) -> Result<bool> {
    let wanted = context.slots.available_permits().min(AT_ONCE);
    if wanted == 0 {
        return Ok(false);
    }
    let (settings, now) = (context.tasks.clone(), context.clock.now());
    let limit = u32::try_from(wanted).unwrap_or(u32::MAX);
    let claimed = context.engine_db.run(move |conn| claim_built_in(conn, &settings, limit, now)).await?;
    let full = claimed.len() == wanted;
    if !claimed.is_empty() {
        for order in orders(context, claimed).await? {
            // Only this task takes permits, so that there are as many as were counted.
            let Ok(slot) = Arc::clone(&context.slots).try_acquire_owned() else {
                tracing::error!("a run was claimed without a slot; its lease will end");
                continue;
            };
            context.metrics.began(now, order.run.queued_at);
            working.spawn(work::run(Arc::clone(context), order, slot));
        }
    }
    Ok(full)
}

/// How each run is done: by which provider, with whose key, and what was said before.
async fn orders(context: &Arc<Context>, claimed: Vec<ClaimedRun>) -> Result<Vec<Order>> {
    let mut providers = Vec::with_capacity(claimed.len());
    for run in &claimed {
        let resolved = Resolved::of_stored(&run.model, &run.resolved);
        providers.push((context.models.provider(&resolved.provider).cloned(), resolved));
    }
    let asks = |provider: &Option<Provider>| {
        provider
            .as_ref()
            .filter(|provider| provider.kind != ProviderKind::Offline)
            .map(|provider| provider.name.clone())
    };
    let mut wanted: Vec<(TenantId, String)> = claimed
        .iter()
        .zip(&providers)
        .filter_map(|(run, (provider, _))| asks(provider).map(|name| (run.tenant, name)))
        .collect();
    wanted.sort_unstable();
    wanted.dedup();
    let runs: Vec<RunId> = claimed
        .iter()
        .zip(&providers)
        .filter_map(|(run, (provider, _))| asks(provider).map(|_| run.run))
        .collect();
    let (keys, said) =
        if wanted.is_empty() { Default::default() } else { look_up(context, wanted, runs).await? };
    Ok(claimed
        .into_iter()
        .zip(providers)
        .map(|(run, (provider, resolved))| {
            let own = keys.get(&(run.tenant, resolved.provider.clone())).cloned();
            let access = access(provider, own);
            let said = said.get(&run.run).cloned().unwrap_or_default();
            Order { run, resolved, access, said }
        })
        .collect())
}

type Known = (HashMap<(TenantId, String), ApiKey>, HashMap<RunId, Vec<Exchange>>);

async fn look_up(context: &Arc<Context>, wanted: Vec<(TenantId, String)>, runs: Vec<RunId>) -> Result<Known> {
    let vault = context.vault.clone();
    context
        .engine_db
        .once(move |conn| {
            let mut known = Known::default();
            for (tenant, provider) in wanted {
                match keys::find(conn, &vault, tenant, &provider) {
                    Ok(Some(key)) => {
                        known.0.insert((tenant, provider), key);
                    }
                    Ok(None) => {}
                    // Another key must not take its place unseen: the run waits for its lease to end.
                    Err(error) => return Err(error),
                }
            }
            for run in runs {
                let said = conversation(conn, run)?;
                if !said.is_empty() {
                    known.1.insert(run, said);
                }
            }
            Ok(known)
        })
        .await
}

/// With the tenant's key, else the installation's, else without one where that is possible, else offline.
fn access(provider: Option<Provider>, own: Option<ApiKey>) -> Access {
    let Some(provider) = provider else { return Access::Gone };
    if provider.kind == ProviderKind::Offline {
        return Access::Offline { instead: false };
    }
    let key = own.or(provider.api_key.clone());
    if key.is_none() && !provider.keyless() {
        return Access::Offline { instead: true };
    }
    Access::Model { provider, key }
}
