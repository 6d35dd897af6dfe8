//! Writing down what happened to runs: grouped, one transaction for what is at hand (invariant 5).
//!
//! While one group commits the next gathers; nothing waits for a timer. After the commit what was written is rung, behind the
//! writing: a lost ring costs time and nothing else.

use std::{sync::Arc, time::Duration};

use hookyard_domain::{
    clock::Clock,
    db::Db,
    delivery::ordered,
    task::{
        Ledger, Refused,
        ledger::{Applied, Move, Written},
    },
    trace::TraceContext,
};
use hookyard_messaging::{Bus, Lane, Message, Queue};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::task::TaskTracker;

/// What became of moves, one for each.
pub(crate) type Results = Vec<Result<Applied, Refused>>;

/// Moves that belong together, and who wants to know.
struct Report {
    moves: Vec<Move>,
    reply: oneshot::Sender<Results>,
}

/// Where reports go.
#[derive(Clone)]
pub(crate) struct Reports {
    sender: mpsc::Sender<Report>,
}

impl Reports {
    /// Hands moves on; the receiver gets what became of them once they are written, or an error when they could not be.
    pub(crate) async fn send(&self, moves: Vec<Move>) -> oneshot::Receiver<Results> {
        let (reply, results) = oneshot::channel();
        if self.sender.send(Report { moves, reply }).await.is_err() {
            tracing::error!("a report came after the writing had stopped; the lease of its run will end");
        }
        results
    }

    /// Writes moves; `None` when they could not be written: their leases will end.
    pub(crate) async fn write(&self, moves: Vec<Move>) -> Option<Results> {
        self.send(moves).await.await.ok()
    }
}

/// The writing end.
pub(crate) struct Writer {
    reports: mpsc::Receiver<Report>,
    ledger: Ledger,
    batch: usize,
    /// Rung after every group: slots and places of tenants have become free.
    room: Arc<Notify>,
    ringing: Ringing,
}

#[derive(Clone)]
struct Ringing {
    db: Db,
    bus: Bus,
    clock: Clock,
}

pub(crate) fn channel(
    (db, bus, clock): (Db, Bus, Clock),
    ledger: Ledger,
    room: Arc<Notify>,
    batch: usize,
) -> (Reports, Writer) {
    let (sender, reports) = mpsc::channel(batch * 4);
    (Reports { sender }, Writer { reports, ledger, batch, room, ringing: Ringing { db, bus, clock } })
}

impl Writer {
    /// Writes until every [`Reports`] is gone and everything is written and rung.
    pub(crate) async fn run(mut self) {
        let behind = TaskTracker::new();
        let mut reports = Vec::new();
        while self.reports.recv_many(&mut reports, self.batch).await > 0 {
            self.write(std::mem::take(&mut reports), &behind).await;
            self.room.notify_one();
        }
        behind.close();
        behind.wait().await;
    }

    async fn write(&self, reports: Vec<Report>, behind: &TaskTracker) {
        match self.apply(reports.iter().flat_map(|report| report.moves.iter().cloned()).collect()).await {
            Some(written) => self.answer(reports, written, behind),
            // One of them is a defect of ours: the others shall not suffer.
            None if reports.len() > 1 => {
                for report in reports {
                    if let Some(written) = self.apply(report.moves.clone()).await {
                        self.answer(vec![report], written, behind);
                    }
                }
            }
            None => {}
        }
    }

    fn answer(&self, reports: Vec<Report>, mut written: Written, behind: &TaskTracker) {
        let mut results = std::mem::take(&mut written.results).into_iter();
        for report in reports {
            // Whoever does not listen any more does not need to know.
            let _gone = report.reply.send(results.by_ref().take(report.moves.len()).collect());
        }
        behind.spawn(self.ringing.clone().ring(written));
    }

    /// Until it is written: whoever waits holds a slot, so that nothing new begins while the database is away. `None`: it
    /// cannot be written.
    async fn apply(&self, moves: Vec<Move>) -> Option<Written> {
        let moves = Arc::new(moves);
        let mut wait = Duration::from_millis(50);
        for failures in 0_u32.. {
            let (ledger, moves, now) = (self.ledger.clone(), Arc::clone(&moves), self.ringing.clock.now());
            match self.ringing.db.run(move |conn| ledger.apply(conn, &moves, now)).await {
                Ok(written) => return Some(written),
                Err(error) if error.is_passing() || failures < 3 => {
                    tracing::warn!(error = error.chain(), "reports of runs cannot be written yet");
                }
                Err(error) => {
                    tracing::error!(
                        error = error.chain(),
                        "reports of runs cannot be written; their leases will end"
                    );
                    return None;
                }
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(Duration::from_secs(2));
        }
        None
    }
}

impl Ringing {
    async fn ring(self, written: Written) {
        if let Some(group) = written.group {
            let message = Message::EventAccepted { group, accepted: None };
            let rung = self.bus.publish(Queue::EventAccepted, &message, &TraceContext::fresh()).await;
            if let Err(error) = rung {
                tracing::debug!(%error, "events of runs were not rung; the relay will");
            }
        }
        self.bus.ring_tasks(&written.queued).await;
        if written.ordered.is_empty() {
            return;
        }
        let (now, claim, lease_until) = (self.clock.now(), written.claim, written.lease_until);
        let lines = written.ordered;
        let released =
            self.db.once(move |conn| ordered::release(conn, &lines, claim, now, lease_until)).await;
        let released = match released {
            Ok(released) => released,
            Err(error) => {
                tracing::warn!(error = error.chain(), "webhooks of runs are not let go yet; the sweep will");
                return;
            }
        };
        let unheard = self.bus.ring_due(Lane::First, claim, &released).await;
        if !unheard.is_empty() {
            let given =
                self.db.once(move |conn| ordered::give_back(conn, &unheard, claim, now).map(drop)).await;
            if let Err(error) = given {
                tracing::debug!(error = error.chain(), "the leases of webhooks will end by themselves");
            }
        }
    }
}
