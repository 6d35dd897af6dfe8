//! What follows a commit of the ledger: events are rung, webhook deliveries that may go are claimed and rung, and whoever
//! takes runs is rung. Each of them is found without a ring, a little later (invariant 1).

use actix_web::web::Data;
use hookyard_domain::{
    delivery::ordered,
    id::TenantId,
    task::{AgentType, ledger::Written},
};
use hookyard_messaging::Lane;

use crate::{context::Context, handlers::rings};

/// Rings for everything that was written, behind the answer.
pub(crate) fn follow(context: &Data<Context>, written: &Written) {
    if let Some(group) = written.group {
        rings::events_accepted(context, group);
    }
    queued(context, &written.queued);
    if written.ordered.is_empty() {
        return;
    }
    let (lines, claim, lease_until) = (written.ordered.clone(), written.claim, written.lease_until);
    let (db, bus, clock) = (context.db.clone(), context.bus.clone(), context.clock.clone());
    context.afterwards.spawn(async move {
        let now = clock.now();
        let released = db.once(move |conn| ordered::release(conn, &lines, claim, now, lease_until)).await;
        match released {
            Ok(ids) => {
                let unheard = bus.ring_due(Lane::First, claim, &ids).await;
                if !unheard.is_empty() {
                    let given = db.once(move |conn| ordered::give_back(conn, &unheard, claim, now)).await;
                    if let Err(error) = given {
                        tracing::debug!(
                            error = error.chain(),
                            "deliveries that nobody heard of wait for their lease"
                        );
                    }
                }
            }
            Err(error) => tracing::debug!(error = error.chain(), "webhooks of tasks wait for the sweep"),
        }
    });
}

/// Runs can be taken.
pub(crate) fn queued(context: &Data<Context>, queued: &[(TenantId, AgentType)]) {
    if queued.is_empty() {
        return;
    }
    context.work.ring(queued);
    let (bus, queued) = (context.bus.clone(), queued.to_vec());
    context.afterwards.spawn(async move { bus.ring_tasks(&queued).await });
}
