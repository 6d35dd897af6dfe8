//! Deliveries that the fan-out has put into lines: the first of each line goes (`domain::delivery::ordered`).

use hookyard_domain::{
    Result,
    delivery::{
        NewDelivery,
        ordered::{self, Line},
    },
    id::ClaimId,
};
use hookyard_messaging::Lane;

use crate::context::Context;

/// Lets those go that may, behind the fan-out. What gets lost is found by the deliverers' walk through the lines.
pub(crate) fn let_go(context: &Context, waiting: &[NewDelivery]) {
    let mut lines: Vec<Line> =
        waiting.iter().filter_map(|new| Some((new.id.subscription, new.ordering?))).collect();
    if lines.is_empty() {
        return;
    }
    let context = context.clone();
    tokio::spawn(async move {
        for wait in ordered::LOOKS {
            match release(&context, lines).await {
                Ok(blocked) => lines = blocked,
                Err(error) => {
                    tracing::debug!(error = error.chain(), "lines could not be gone on with; the walk will");
                    return;
                }
            }
            if lines.is_empty() {
                return;
            }
            tokio::time::sleep(wait).await;
        }
    });
}

/// Returns the lines that are worth another look.
async fn release(context: &Context, lines: Vec<Line>) -> Result<Vec<Line>> {
    let now = context.clock.now();
    let (claim, until) = (ClaimId::new(now), now + context.lease());
    let released = context.db.once(move |conn| ordered::release_any(conn, &lines, claim, now, until)).await?;
    let unheard = context.bus.ring_due(Lane::First, claim, &released.ids).await;
    if !unheard.is_empty() {
        context.db.once(move |conn| ordered::give_back(conn, &unheard, claim, now)).await?;
    }
    Ok(released.blocked)
}
