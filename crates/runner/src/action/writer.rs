//! Writing down how action runs end: grouped, one transaction for what is at hand (invariant 5), and rung after the commit.

use std::{sync::Arc, time::Duration};

use hookyard_domain::{
    action_run::{self, End, Ended},
    clock::Clock,
    db::Db,
    delivery::ordered,
    trace::TraceContext,
    vault::Vault,
};
use hookyard_messaging::{Bus, Lane, Message, Queue};
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use crate::metrics::Metrics;

/// Ends in one transaction at the most.
const AT_ONCE: usize = 200;

/// Where ends go.
#[derive(Clone)]
pub(crate) struct Ends(mpsc::Sender<(End, oneshot::Sender<()>)>);

impl Ends {
    /// Hands an end on, and returns when it is written, or cannot be.
    pub(super) async fn write(&self, end: End) {
        let (written, wait) = oneshot::channel();
        if self.0.send((end, written)).await.is_err() {
            tracing::error!("an action run ended after the writing had stopped; its lease will end");
        }
        let _written = wait.await;
    }
}

/// The writing end.
pub(crate) struct Writer {
    ends: mpsc::Receiver<(End, oneshot::Sender<()>)>,
    db: Db,
    bus: Bus,
    clock: Clock,
    vault: Vault,
    metrics: Metrics,
}

pub(crate) fn channel((db, bus, clock): (Db, Bus, Clock), vault: Vault, metrics: Metrics) -> (Ends, Writer) {
    let (sender, ends) = mpsc::channel(AT_ONCE * 2);
    (Ends(sender), Writer { ends, db, bus, clock, vault, metrics })
}

impl Writer {
    /// Writes until every [`Ends`] is gone and everything is written and rung.
    pub(crate) async fn run(mut self) {
        let behind = TaskTracker::new();
        let mut batch = Vec::new();
        while self.ends.recv_many(&mut batch, AT_ONCE).await > 0 {
            let (ends, waiting): (Vec<End>, Vec<_>) = std::mem::take(&mut batch).into_iter().unzip();
            match self.apply(ends.clone()).await {
                Some(ended) => self.ring(ended, &behind),
                // One of them is a defect of ours: the others shall not suffer.
                None if ends.len() > 1 => {
                    for end in ends {
                        if let Some(ended) = self.apply(vec![end]).await {
                            self.ring(ended, &behind);
                        }
                    }
                }
                None => {}
            }
            drop(waiting);
        }
        behind.close();
        behind.wait().await;
    }

    /// Until it is written: whoever waits holds a slot, so that nothing new begins while the database is away.
    async fn apply(&self, ends: Vec<End>) -> Option<Ended> {
        let ends = Arc::new(ends);
        let mut wait = Duration::from_millis(50);
        for failures in 0_u32.. {
            let (ends, vault, now) = (Arc::clone(&ends), self.vault.clone(), self.clock.now());
            match self.db.run(move |conn| action_run::apply(conn, &vault, &ends, now)).await {
                Ok(ended) => return Some(ended),
                Err(error) if error.is_passing() || failures < 3 => {
                    tracing::warn!(error = error.chain(), "ends of action runs cannot be written yet");
                }
                Err(error) => {
                    tracing::error!(
                        error = error.chain(),
                        "ends of action runs cannot be written; their leases will end"
                    );
                    return None;
                }
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(Duration::from_secs(2));
        }
        None
    }

    fn ring(&self, ended: Ended, behind: &TaskTracker) {
        for (_, good) in &ended.runs {
            self.metrics.action(*good);
        }
        let (bus, db, now) = (self.bus.clone(), self.db.clone(), self.clock.now());
        behind.spawn(async move {
            if let Some(group) = ended.group {
                let message = Message::EventAccepted { group, accepted: None };
                if let Err(error) = bus.publish(Queue::EventAccepted, &message, &TraceContext::fresh()).await
                {
                    tracing::debug!(%error, "events of action runs were not rung; the relay will");
                }
            }
            let unheard = bus.ring_due(Lane::First, ended.claim, &ended.callbacks).await;
            if unheard.is_empty() {
                return;
            }
            let claim = ended.claim;
            let given = db.once(move |conn| ordered::give_back(conn, &unheard, claim, now).map(drop)).await;
            if let Err(error) = given {
                tracing::debug!(error = error.chain(), "the leases of callbacks will end by themselves");
            }
        });
    }
}
