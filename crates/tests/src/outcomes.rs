//! Ends of deliveries without a deliverer: what is due is taken and settled as a test wants it.

use chrono::TimeDelta;
use hookyard_domain::{
    delivery::{Attempt, DeliveryState, Fate, Settled, settlement, store},
    id::{ClaimId, DeliveryId, SettlementId},
};

use crate::system::System;

/// Ends everything that is due with this state, after one try with this status and reply. Returns what was due.
///
/// # Panics
/// When the database refuses.
pub async fn settle_due(system: &System, state: DeliveryState, status: u16, reply: &[u8]) -> Vec<DeliveryId> {
    let (now, reply) = (system.clock.now(), reply.to_vec());
    system
        .db
        .once(move |conn| {
            let lease = now + TimeDelta::seconds(60);
            let held = store::claim_due(conn, now, lease, ClaimId::new(now), 1_000)?;
            let ids = held.iter().map(|held| held.id).collect();
            let settled: Vec<Settled> = held
                .into_iter()
                .map(|held| Settled {
                    attempt: Attempt {
                        number: held.attempts + 1,
                        started_at: now,
                        latency_ms: 12,
                        status: Some(status),
                        reason: "test".to_owned(),
                        reply: reply.clone(),
                    },
                    fate: Fate::Ended(state),
                    held,
                })
                .collect();
            settlement::settle(conn, &settled, SettlementId::new(now), &[], now)?;
            Ok(ids)
        })
        .await
        .expect("deliveries can be settled")
}
