//! Those who listen to runs: one query for all of them, four times a second.
//!
//! A listener first reads what was there before it came, then hears what comes. What it could not take in time it reads
//! again from the database, so that nothing is kept in memory for slow ones.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hookyard_domain::{
    db::Db,
    id::RunId,
    task::output::{self, Output},
};
use tokio::sync::{Notify, broadcast};
use tokio_util::sync::CancellationToken;

/// How often the database is asked while somebody listens.
const EVERY: Duration = Duration::from_millis(250);
/// Lines of a run that are read at a time.
pub(crate) const LINES: i64 = 100;
/// Lines that are kept for a listener that is slow.
const KEPT: usize = 32;

/// What a listener hears.
pub(crate) type Heard = Arc<Output>;

#[derive(Debug)]
struct Watch {
    /// The last line that everybody who listens has heard or read.
    after: i64,
    sender: broadcast::Sender<Heard>,
}

/// Those who listen.
#[derive(Debug)]
pub(crate) struct Listeners {
    runs: Mutex<HashMap<RunId, Watch>>,
    /// Somebody came.
    came: Notify,
    closing: CancellationToken,
}

impl Listeners {
    pub(crate) fn new() -> Self {
        Self { runs: Mutex::default(), came: Notify::new(), closing: CancellationToken::new() }
    }

    /// Hears of a run from after this line on; what comes before has to be read.
    pub(crate) fn listen(&self, run: RunId, after: i64) -> broadcast::Receiver<Heard> {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let watch = runs.entry(run).or_insert_with(|| Watch { after, sender: broadcast::channel(KEPT).0 });
        let receiver = watch.sender.subscribe();
        self.came.notify_one();
        receiver
    }

    /// Cancelled when streams have to end, because the gateway does.
    pub(crate) fn closing(&self) -> &CancellationToken {
        &self.closing
    }

    /// Ends all streams.
    pub(crate) fn close(&self) {
        self.closing.cancel();
    }

    /// How many runs somebody listens to.
    pub(crate) fn count(&self) -> usize {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// What is to be asked for; runs that nobody listens to any more are forgotten.
    fn watched(&self) -> Vec<(RunId, i64)> {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        runs.retain(|_, watch| watch.sender.receiver_count() > 0);
        runs.iter().map(|(run, watch)| (*run, watch.after)).collect()
    }

    fn tell(&self, lines: Vec<Output>) {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        for line in lines {
            if let Some(watch) = runs.get_mut(&line.run) {
                watch.after = watch.after.max(line.seq);
                let _nobody = watch.sender.send(Arc::new(line));
            }
        }
    }

    /// Asks for all listeners until `stop` is cancelled.
    pub(crate) async fn run(&self, db: &Db, stop: CancellationToken) {
        loop {
            let watched = self.watched();
            if watched.is_empty() {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = self.came.notified() => continue,
                }
            }
            match db.once(move |conn| output::after(conn, &watched, LINES)).await {
                Ok(lines) => self.tell(lines),
                Err(error) => {
                    tracing::debug!(error = error.chain(), "listeners of runs wait for the database")
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
        }
    }
}
